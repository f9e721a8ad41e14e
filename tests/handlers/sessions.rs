//! Who connects again, under each policy.

use std::thread;

use serde_json::json;
use tidegate::routing::IdentitySource;
use tidegate::{Context, Endpoint, Identity, Message, Route, RunOn, SessionPolicy};

use crate::client::{Client, request};
use crate::{PATH, PATIENCE, addr, both, endpoint, stats_until};

const ANN: &str = "/t?user=ann&device=1";

fn identified(policy: SessionPolicy) -> Endpoint {
    let id = ["query.user", "query.device"].map(|part| part.parse().unwrap()).into();
    let source = IdentitySource { id, ..IdentitySource::default() };
    endpoint().identified_by(source).session(policy).route("who", |ctx, _| {
        let who = ctx.identity().map(ToString::to_string);
        ctx.reply_json(&who);
    })
}

fn status(addr: std::net::SocketAddr, path: &str) -> u16 {
    let mut client = Client::dial(addr);
    client.send(&request(path));
    client.head().status
}

#[test]
fn an_identity_is_its_parts_and_all_of_them_have_to_be_there() {
    both(|setup| {
        let running = setup.serve(identified(SessionPolicy::Allow));
        let mut ann = Client::open(addr(&running), "/t?x=1&device=a%20b&user=ann");
        assert_eq!(ann.ask("who", 1, json!(null))["body"], "ann-a b");
        for (path, wanted) in [
            ("/t", 401),
            ("/t?user=ann", 401),
            ("/t?user=&device=1", 401),
            ("/t?user=%0a&device=1", 400),
            (&format!("/t?user={}&device=1", "x".repeat(256)), 400),
        ] {
            assert_eq!(status(addr(&running), path), wanted, "{path}");
        }
    });
}

#[test]
fn the_one_that_is_there_stays_where_others_are_rejected() {
    both(|setup| {
        let running = setup.serve(identified(SessionPolicy::Reject));
        let mut first = Client::open(addr(&running), ANN);
        assert_eq!(status(addr(&running), ANN), 409);
        let mut other = Client::open(addr(&running), "/t?user=ann&device=2");
        assert_eq!(other.ask("echo", 1, 1)["body"], 1, "another identity");
        assert_eq!(first.ask("echo", 1, 1)["body"], 1);
        first.close(1000);
        first.expect_close(1000);
        drop(other);
        stats_until(&running, "all gone", |s| s["worker_totals"]["logins"] == 0);
        let mut again = Client::open(addr(&running), ANN);
        assert_eq!(again.ask("echo", 1, 1)["body"], 1);
    });
}

#[test]
fn so_many_may_be_there() {
    both(|setup| {
        let running = setup.serve(identified(SessionPolicy::AllowUpTo(2)));
        let _both = [Client::open(addr(&running), ANN), Client::open(addr(&running), ANN)];
        assert_eq!(status(addr(&running), ANN), 409);
    });
}

#[test]
fn the_new_one_takes_the_place_of_the_old_one() {
    both(|setup| {
        let running = setup.serve(identified(SessionPolicy::Displace));
        let mut old = Client::open(addr(&running), ANN);
        let mut new = Client::open(addr(&running), ANN);
        assert_eq!(old.json()["event"], "displaced");
        old.expect_close(4001);
        // The late end of the old one takes nothing from the new one.
        stats_until(&running, "one", |s| s["worker_totals"]["logins"] == 1);
        running.gateway().push_to_user("ann", "for ann").unwrap();
        assert_eq!(new.json()["data"], "for ann");
    });
}

#[test]
fn of_two_that_come_at_once_one_is_left() {
    both(|setup| {
        for policy in [SessionPolicy::Reject, SessionPolicy::Displace] {
            let running = setup.serve(identified(policy));
            let clients: Vec<_> = thread::scope(|scope| {
                let came: Vec<_> = (0..8)
                    .map(|_| {
                        scope.spawn(|| {
                            let mut client = Client::dial(addr(&running));
                            client.send(&request(ANN));
                            (client.head().status, client)
                        })
                    })
                    .collect();
                came.into_iter().map(|client| client.join().unwrap()).collect()
            });
            let refusals = clients.iter().filter(|(status, _)| *status == 409).count();
            assert!(policy != SessionPolicy::Reject || refusals == 7, "{refusals} refused");
            // All of them are still there, but for what the gateway did.
            stats_until(&running, "one is left", |s| {
                s["worker_totals"]["logins"] == 1 && s["totals"]["open"] == 1
            });
            drop(clients);
        }
    });
}

#[test]
fn the_latest_so_many_stay() {
    both(|setup| {
        let running = setup.serve(identified(SessionPolicy::AllowLatest(2)));
        let mut clients = [(); 3].map(|()| Client::open(addr(&running), ANN));
        assert_eq!(clients[0].json()["event"], "displaced");
        clients[0].expect_close(4001);
        stats_until(&running, "two", |s| s["worker_totals"]["logins"] == 2);
        for client in &mut clients[1..] {
            assert_eq!(client.ask("echo", 1, 1)["body"], 1);
        }
    });
}

/// Logs in as the body says.
fn login(ctx: &mut Context<'_>, message: &Message<'_>) {
    let user: String = serde_json::from_slice(message.body.as_bytes()).unwrap();
    match Identity::new(&user).map_err(|e| e.to_string()).map(|identity| ctx.login(identity)) {
        Ok(Ok(())) => ctx.reply("welcome"),
        Ok(Err(error)) => ctx.reply_error(error.code, &error.message),
        Err(error) => ctx.reply_error(400, &error),
    }
}

fn with_login(policy: SessionPolicy) -> Endpoint {
    endpoint()
        .session(policy)
        .route("login", login)
        .route_with("login_away", Route::new(login).run_on(RunOn::Blocking))
        .route("logout", |ctx, _| ctx.logout())
        .route("who", |ctx, _| {
            let who = ctx.identity().map(ToString::to_string);
            ctx.reply_json(&who);
        })
}

#[test]
fn a_message_can_log_in_and_out() {
    both(|setup| {
        let running = setup.serve(with_login(SessionPolicy::Reject));
        for route in ["login", "login_away"] {
            let mut ann = Client::open(addr(&running), PATH);
            let mut other = Client::open(addr(&running), PATH);
            assert_eq!(ann.ask("who", 1, json!(null))["body"], json!(null));
            assert_eq!(ann.ask(route, 2, "ann")["body"], "welcome");
            assert_eq!(ann.ask("who", 3, json!(null))["body"], "ann");
            assert_eq!(ann.ask(route, 4, "bob")["error"]["code"], 409, "somebody already");
            assert_eq!(other.ask(route, 1, "ann")["error"]["code"], 409, "there already");
            assert_eq!(other.ask("who", 2, json!(null))["body"], json!(null));
            running.gateway().push_to_user("ann", "seven").unwrap();
            assert_eq!(ann.json()["data"], "seven");
            ann.ask("logout", 5, json!(null));
            assert_eq!(other.ask(route, 3, "ann")["body"], "welcome");
            assert_eq!(ann.ask("who", 6, json!(null))["body"], json!(null));
            assert_eq!(running.stats()["worker_totals"]["logins"], 1);
            drop((ann, other));
            stats_until(&running, "all gone", |s| s["worker_totals"]["logins"] == 0);
        }
    });
}

#[test]
fn of_two_that_log_in_at_once_by_messages_one_is_left() {
    both(|setup| {
        for policy in [SessionPolicy::Reject, SessionPolicy::Displace] {
            let running = setup.serve(with_login(policy));
            let mut clients: Vec<_> = (0..8).map(|_| Client::open(addr(&running), PATH)).collect();
            thread::scope(|scope| {
                for client in &mut clients {
                    scope.spawn(|| client.request("login", 1, json!("ann")));
                }
            });
            let answers: Vec<_> = clients.iter_mut().map(Client::json).collect();
            let welcome = answers.iter().filter(|a| a["body"] == "welcome").count();
            let expected = if policy == SessionPolicy::Reject { 1 } else { 8 };
            assert_eq!(welcome, expected, "{answers:?}");
            stats_until(&running, "one is left", |s| s["worker_totals"]["logins"] == 1);
            if policy == SessionPolicy::Displace {
                stats_until(&running, "one is open", |s| s["totals"]["open"] == 1);
            }
        }
    });
}

#[test]
fn a_user_is_looked_up_and_thrown_out() {
    both(|setup| {
        let running = setup.serve(
            identified(SessionPolicy::Allow).route("kick", |ctx, _| ctx.kick_user("bob", 4002, "")),
        );
        let gateway = running.gateway();
        let logins = |user| gateway.logins_of(user).unwrap().recv_timeout(PATIENCE).unwrap();
        let mut anns = ["1", "2"]
            .map(|device| Client::open(addr(&running), &format!("/t?user=ann&device={device}")));
        let mut bob = Client::open(addr(&running), "/t?user=bob&device=1");
        let found = logins("ann");
        let ids: Vec<_> = found.iter().map(|login| login.identity.id().to_owned()).collect();
        assert_eq!(ids, ["ann-1", "ann-2"]);
        assert_eq!(logins("nobody"), []);
        anns[0].request("kick", 1, json!(null));
        bob.expect_close(4002);
        assert_eq!(anns[0].json()["id"], 1);
        gateway.kick_user("ann", 4003, "out").unwrap();
        for ann in &mut anns {
            ann.expect_close(4003);
        }
        stats_until(&running, "nobody", |s| s["worker_totals"]["users"] == 0);
    });
}

#[test]
fn all_that_is_known_of_a_connection_is_told() {
    both(|setup| {
        let running = setup.serve(identified(SessionPolicy::Allow).route("grant", |ctx, _| {
            ctx.join("hall").unwrap();
            ctx.grant("speak");
        }));
        let gateway = running.gateway();
        let mut ann = Client::open(addr(&running), ANN);
        ann.ask("grant", 1, json!(null));
        let conn = gateway.logins_of("ann").unwrap().recv_timeout(PATIENCE).unwrap()[0].conn;
        let info = gateway.describe(conn).unwrap().recv_timeout(PATIENCE).unwrap();
        assert_eq!((info.conn, info.endpoint.as_str(), info.dialect), (conn, "/t", "json"));
        assert_eq!(info.peer, ann.stream.local_addr().unwrap());
        assert_eq!(info.identity.as_deref().map(Identity::user), Some("ann"));
        assert_eq!((info.rooms, info.permissions), (vec!["hall".into()], vec!["speak".into()]));
        assert_eq!(gateway.conn_of(&info.public_id), Some(conn));
        assert!(info.slot.is_open && !info.slot.is_paused && info.slot.in_flight == 0);
        drop(ann);
        stats_until(&running, "gone", |s| s["totals"]["connections"] == 0);
        assert!(gateway.describe(conn).unwrap().recv_timeout(PATIENCE).is_err());
    });
}
