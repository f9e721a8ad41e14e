//! Logging in by a message: the wait, what may come before, tokens, and one place for each identity.

use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use data_encoding::BASE64URL_NOPAD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use tidegate::config::{DialectName, EndpointConfig, LoginConfig, SecretSource};
use tidegate::routing::IdentitySource;
use tidegate::{Dialect, Endpoint, Identity, LoginRule, Route, RunOn, SessionPolicy, Tokens};

use crate::client::{BINARY, Client};
use crate::login_kim::field;
use crate::speakers::hub;
use crate::{PATH, PATIENCE, Setup, addr, both, endpoint, got, nothing, only, stats_until, tell};

const SECRET: &[u8] = b"a secret of thirty-two bytes, at least";
pub(crate) fn rule() -> LoginRule {
    LoginRule::by_token(Tokens::new(SECRET))
}

fn sign(header: &Value, claims: &Value, secret: &[u8]) -> String {
    let parts = [header, claims].map(|part| BASE64URL_NOPAD.encode(part.to_string().as_bytes()));
    let signed = parts.join(".");
    let mac = Hmac::<Sha256>::new_from_slice(secret).unwrap().chain_update(&signed);
    format!("{signed}.{}", BASE64URL_NOPAD.encode(&mac.finalize().into_bytes()))
}

fn in_an_hour() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 3600
}

fn token_with(mut claims: Value) -> String {
    claims["exp"] = json!(in_an_hour());
    sign(&json!({"alg": "HS256"}), &claims, SECRET)
}

pub(crate) fn token(user: &str) -> String {
    token_with(json!({"acc": user, "app": "test"}))
}

/// Tokens that are not good, and why.
pub(crate) fn bad_tokens() -> Vec<(String, &'static str)> {
    let good = json!({"acc": "ann", "exp": in_an_hour()});
    let header = |alg: &str| json!({ "alg": alg });
    let unsigned = sign(&header("none"), &good, SECRET);
    let unsigned = format!("{}.", unsigned.rsplit_once('.').unwrap().0);
    vec![
        (sign(&header("HS256"), &json!({"acc": "ann", "exp": 1}), SECRET), "the token has expired"),
        (sign(&header("HS256"), &good, b"another secret"), "the token's signature is wrong"),
        (sign(&header("HS384"), &good, SECRET), "the token's algorithm is not HS256"),
        (unsigned, "the token's algorithm is not HS256"),
        (sign(&header("HS256"), &json!({"acc": "ann"}), SECRET), "the token lacks claims"),
        ("x".to_owned(), "the token is no JWT"),
    ]
}

pub(crate) fn json_endpoint(policy: SessionPolicy) -> Endpoint {
    endpoint().login(rule()).session(policy).route("who", |ctx, _| {
        let who = ctx.identity().map(ToString::to_string);
        ctx.reply_json(&who);
    })
}

pub(crate) fn login_json(client: &mut Client, token: &str) -> Value {
    client.ask("login", 1, json!({ "token": token }))
}

#[test]
fn only_a_login_is_routed_before_a_login() {
    both(|setup| {
        let running = setup.serve(json_endpoint(SessionPolicy::Allow));
        let mut ann = Client::open(addr(&running), PATH);
        for route in ["echo", "who", "logout", "nowhere"] {
            let answer = ann.ask(route, 1, json!(null));
            assert_eq!(answer["error"]["code"], 401, "{route}: {answer}");
        }
        let welcome = login_json(&mut ann, &token("ann"));
        assert_eq!(welcome["body"]["user"], "ann", "{welcome}");
        let id = welcome["body"]["id"].as_str().expect("an id");
        assert!(running.gateway().conn_of(id).is_some());
        assert_eq!(ann.ask("who", 2, json!(null))["body"], "ann-test");
        assert_eq!(ann.ask("nowhere", 2, json!(null))["error"]["code"], 404);
        assert_eq!(login_json(&mut ann, &token("bob"))["error"]["code"], 409, "somebody already");
        assert_eq!(ann.ask("logout", 3, json!(null))["body"], json!(null));
        assert_eq!(ann.ask("echo", 4, 1)["error"]["code"], 401, "nobody any more");
        assert_eq!(login_json(&mut ann, &token("bob"))["body"]["user"], "bob");
        assert_eq!(ann.ask("who", 5, json!(null))["body"], "bob-test");
        assert_eq!(running.stats()["worker_totals"]["logins"], 1);
    });
}

#[test]
fn pushes_of_strangers_are_not_routed_either() {
    both(|setup| {
        let (told, heard) = std::sync::mpsc::channel();
        let running = setup.serve(json_endpoint(SessionPolicy::Allow).route("id", tell(&told)));
        let mut ann = Client::open(addr(&running), PATH);
        ann.text(r#"{"route":"id","body":1}"#);
        // Nobody waits for an answer; an error is told all the same.
        assert_eq!(ann.json()["error"]["code"], 401);
        assert!(login_json(&mut ann, &token("ann"))["body"].is_object());
        nothing(&heard);
        ann.text(r#"{"route":"id","body":1}"#);
        got(&heard);
    });
}

#[test]
fn a_bad_token_is_refused_and_elsewhere_than_in_kim_another_may_follow() {
    both(|setup| {
        let running = setup.serve(json_endpoint(SessionPolicy::Allow));
        let mut ann = Client::open(addr(&running), PATH);
        for (bad, why) in bad_tokens() {
            let answer = login_json(&mut ann, &bad);
            assert_eq!(answer["error"]["code"], 401, "{answer}");
            assert_eq!(answer["error"]["message"], why);
        }
        for body in [json!(null), json!({"token": 7}), json!("x"), json!({})] {
            assert_eq!(ann.ask("login", 1, body)["error"]["code"], 400);
        }
        assert_eq!(login_json(&mut ann, &token("ann"))["body"]["user"], "ann");
    });
}

#[test]
fn the_wait_holds_while_the_workers_are_busy() {
    let wait = Duration::from_millis(200);
    let (told, busy) = std::sync::mpsc::channel();
    let (go, gone) = std::sync::mpsc::channel::<()>();
    let gone = std::sync::Mutex::new(gone);
    let blocking = move |ctx: &mut tidegate::Context<'_>, _: &tidegate::Message<'_>| {
        told.send(()).unwrap();
        let _ = gone.lock().unwrap().recv_timeout(PATIENCE);
        ctx.reply("done");
    };
    let block = Endpoint::new("/block", Dialect::Raw).fallback(blocking);
    let running = Setup { workers: 1 }
        .start(only(json_endpoint(SessionPolicy::Allow).login(rule().wait(wait))).endpoint(block));
    let mut blocker = Client::open(addr(&running), "/block");
    blocker.text("work");
    got(&busy);
    let mut bob = Client::open(addr(&running), PATH);
    assert_eq!(bob.expect_close_and_end(1008), "no login in time");
    go.send(()).unwrap();
    assert_eq!(blocker.read_text(), "done");
}

#[test]
fn who_is_known_by_its_request_needs_no_login() {
    both(|setup| {
        let source =
            IdentitySource { id: vec!["query.user".parse().unwrap()], ..IdentitySource::default() };
        let wait = Duration::from_millis(50);
        let endpoint = json_endpoint(SessionPolicy::Allow).login(rule().wait(wait));
        let running = setup.serve(endpoint.identified_by(source));
        let mut ann = Client::open(addr(&running), "/t?user=ann");
        assert_eq!(ann.ask("who", 1, json!(null))["body"], "ann");
        // Longer than the wait, by a connection that is held to it.
        thread::sleep(4 * wait);
        assert_eq!(ann.ask("who", 2, json!(null))["body"], "ann");
    });
}

#[test]
fn a_handler_of_the_endpoints_own_can_log_in() {
    both(|setup| {
        for run_on in [RunOn::Inline, RunOn::Blocking] {
            let login = |ctx: &mut tidegate::Context<'_>, m: &tidegate::Message<'_>| {
                let user: String = m.body.parse().unwrap();
                ctx.login(Identity::new(&user).unwrap()).unwrap();
                ctx.reply("welcome");
            };
            let rule = LoginRule::by_handler().route("enter").wait(Duration::from_secs(60));
            let endpoint = endpoint().login(rule);
            let endpoint = endpoint.route_with("enter", Route::new(login).run_on(run_on));
            let running = setup.serve(endpoint);
            let mut ann = Client::open(addr(&running), PATH);
            assert_eq!(ann.ask("echo", 1, 1)["error"]["code"], 401);
            assert_eq!(ann.ask("login", 1, 1)["error"]["code"], 401, "not the login here");
            assert_eq!(ann.ask("enter", 2, "ann")["body"], "welcome");
            assert_eq!(ann.ask("echo", 3, 1)["body"], 1);
        }
    });
}

#[test]
fn a_token_gives_permissions_for_as_long_as_the_login() {
    both(|setup| {
        let running = setup.serve(
            json_endpoint(SessionPolicy::Reject)
                .route_with("speak", Route::new(|ctx, m| ctx.reply(m.body)).permission("speak")),
        );
        let speaker = |user: &str| token_with(json!({"acc": user, "permissions": ["speak"]}));
        let mut ann = Client::open(addr(&running), PATH);
        login_json(&mut ann, &speaker("ann"));
        assert_eq!(ann.ask("speak", 2, 1)["body"], 1);
        let mut bob = Client::open(addr(&running), PATH);
        // What a refused login would have given is not there for the next.
        assert_eq!(login_json(&mut bob, &speaker("ann"))["error"]["code"], 409);
        assert_eq!(login_json(&mut bob, &token("bob"))["body"]["user"], "bob");
        assert_eq!(bob.ask("speak", 2, 1)["error"]["code"], 403);
        ann.ask("logout", 3, json!(null));
        login_json(&mut ann, &token("ann"));
        assert_eq!(ann.ask("speak", 4, 1)["error"]["code"], 403);
    });
}

#[test]
fn device_and_source_are_part_of_who_it_is() {
    both(|setup| {
        let running = setup.serve(json_endpoint(SessionPolicy::Reject));
        let on = |device: &str| {
            token_with(json!({"acc": "ann", "app": "a", "device": device, "source": "s"}))
        };
        let mut clients = [(); 2].map(|()| Client::open(addr(&running), PATH));
        login_json(&mut clients[0], &on("one"));
        assert_eq!(login_json(&mut clients[1], &on("one"))["error"]["code"], 409);
        assert_eq!(login_json(&mut clients[1], &on("two"))["body"]["user"], "ann");
        assert_eq!(clients[1].ask("who", 2, json!(null))["body"], "ann-a-two-s");
    });
}

/// System E's identity is its URL's, and its displacement comes behind all that is owed.
#[test]
fn hub_tells_the_old_one_behind_what_it_is_owed() {
    both(|setup| {
        let id = ["user", "type", "device", "source"];
        let source = IdentitySource {
            id: id.map(|part| format!("query.{part}").parse().unwrap()).into(),
            version: Some("query.version".parse().unwrap()),
            charset: Some("query.charset".parse().unwrap()),
        };
        let endpoint = Endpoint::new("/hub", Dialect::Hub).identified_by(source);
        let running = setup.serve(endpoint.session(SessionPolicy::Displace));
        let path = "/hub?user=ann&type=1&device=d&source=s&version=2.1&charset=0";
        // It does not read, and so the gateway owes it more than sockets hold.
        let mut old = Client::open_narrow(addr(&running), path);
        let big = vec![b'x'; 64 * 1024];
        for _ in 0..32 {
            running.gateway().push_to_user("ann", &*big).unwrap();
        }
        let before = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
        let _new = Client::open(addr(&running), path);
        stats_until(&running, "one", |s| s["totals"]["opened"] == 2);
        for _ in 0..32 {
            old.expect(BINARY, &hub(1, 0, &big));
        }
        let told = old.frame().expect("P_DISPLACE").payload;
        let ip = "127.0.0.1";
        let head = [
            &[0xfe, 0xef, 8 + 32, 0, 0, 0, 0xff, 0xff, 0xff, 0x7f, 0, 0, 0, 0][..],
            &field(1, ip),
            &field(2, ip),
            &[0x18],
        ]
        .concat();
        assert_eq!(told[..head.len()], head);
        let at_ns =
            told[head.len()..].iter().rev().fold(0, |n, byte| n << 7 | u64::from(byte & 0x7f));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
        assert!((before..=now).contains(&at_ns), "{before} {at_ns} {now}");
        assert_eq!(told.len(), head.len() + 9);
        assert_eq!(old.expect_close_and_end(4001), "connected elsewhere");
    });
}

#[test]
fn two_that_come_to_hub_at_once_leave_one() {
    both(|setup| {
        let source =
            IdentitySource { id: vec!["query.user".parse().unwrap()], ..IdentitySource::default() };
        let endpoint = Endpoint::new("/hub", Dialect::Hub).identified_by(source);
        let builder = only(endpoint.session(SessionPolicy::Displace));
        // They do not answer the Close that they get.
        let running = setup.start_with(builder, |config| {
            config.close_timeout = Duration::from_millis(100);
        });
        let clients: Vec<_> = thread::scope(|scope| {
            let open = || Client::open(addr(&running), "/hub?user=ann");
            let opening: Vec<_> = (0..8).map(|_| scope.spawn(open)).collect();
            opening.into_iter().map(|client| client.join().unwrap()).collect()
        });
        stats_until(&running, "one is left", |s| {
            s["worker_totals"]["logins"] == 1 && s["totals"]["open"] == 1
        });
        drop(clients);
    });
}

#[test]
fn the_secret_of_a_file_is_what_stands_in_it() {
    both(|setup| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        let login = LoginConfig {
            wait: Duration::from_secs(60),
            route: Some("enter".to_owned()),
            secret: Some(SecretSource::File(path.clone())),
            issuer: Some("joe".to_owned()),
            leeway: Duration::ZERO,
        };
        let config =
            EndpointConfig { login: Some(login), ..EndpointConfig::new(PATH, DialectName::Json) };
        let start = || {
            let builder = tidegate::Gateway::builder().listen(([127, 0, 0, 1], 0));
            builder
                .configure(|c| {
                    (c.loops, c.workers, c.endpoints) = (2, setup.workers, vec![config.clone()])
                })
                .start()
        };
        assert!(start().unwrap_err().to_string().contains("login.secret_file"));
        std::fs::write(&path, "\n").unwrap();
        assert!(start().unwrap_err().to_string().contains("no secret"));
        std::fs::write(&path, [SECRET, b"\n"].concat()).unwrap();
        let running = start().unwrap();
        let mut ann = Client::open(addr(&running), PATH);
        let enter = |ann: &mut Client, token: &str| ann.ask("enter", 1, json!({ "token": token }));
        assert_eq!(enter(&mut ann, &token("ann"))["error"]["code"], 401, "from nobody");
        let issued = token_with(json!({"acc": "ann", "iss": "joe"}));
        assert_eq!(enter(&mut ann, &issued)["body"]["user"], "ann");
        assert_eq!(ann.ask("echo", 2, 1)["body"], 1);
    });
}
