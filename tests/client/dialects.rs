//! Every dialect against the gateway: calls in both directions, pushes, rooms.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use tidegate::client::{
    About, CallError, Cause, Client, DialError, Incoming, Options, OwnedBody, SendError,
};
use tidegate::{Body, Content, Dialect, Endpoint, Gateway, JsonDialect, Running, SelfDelivery};

use crate::{PATIENCE, Seen, next, next_but_dials, watched};

/// What is asked for, in the words of a dialect.
fn key(dialect: &Dialect, word: &str) -> String {
    const NUMBERED: [&str; 7] = ["echo", "fail", "poke", "quiz", "sum", "news", "say"];
    match dialect {
        Dialect::Hub => {
            let at = NUMBERED.iter().position(|known| *known == word);
            at.map_or("999".to_owned(), |at| (at + 100).to_string())
        }
        Dialect::Mef => format!("do:{word}"),
        _ => word.to_owned(),
    }
}

fn all() -> [Dialect; 6] {
    let json = Dialect::Json(JsonDialect::default());
    [json, Dialect::Mef, Dialect::Action, Dialect::Event, Dialect::Kim, Dialect::Hub]
}

fn can_ask(dialect: &Dialect) -> bool {
    !matches!(dialect, Dialect::Action | Dialect::Event)
}

fn endpoint(dialect: &Dialect) -> Endpoint {
    let (news, sum) = (key(dialect, "news"), key(dialect, "sum"));
    Endpoint::new(&format!("/of/{}", dialect.name()), dialect.clone())
        .builtin()
        .route(&key(dialect, "echo"), |ctx, m| ctx.reply(m.body))
        .route(&key(dialect, "fail"), |ctx, _| ctx.reply_error(403, "not you"))
        .route(&key(dialect, "poke"), move |ctx, m| {
            ctx.push(ctx.conn(), Content::named(&news, m.body));
            ctx.reply(m.body);
        })
        .route(&key(dialect, "say"), |ctx, m| {
            ctx.publish("tea", m.body, SelfDelivery::Include).unwrap();
            ctx.reply(m.body);
        })
        .route(&key(dialect, "quiz"), move |ctx, m| {
            let (conn, later) = (ctx.conn(), ctx.later());
            ctx.ask(conn, &sum, m.body, PATIENCE, move |answer| {
                let _ = match answer {
                    Ok(body) => later.reply(body),
                    Err(e) => later.reply(e.to_string().as_str()),
                };
            });
        })
}

fn gateway() -> Running {
    let builder = Gateway::builder().listen(([127, 0, 0, 1], 0));
    let builder =
        all().iter().fold(builder, |builder, dialect| builder.endpoint(endpoint(dialect)));
    let builder = ["/of/kim", "/of/json", "/of/hub"]
        .iter()
        .fold(builder, |builder, path| builder.tcp_listen(([127, 0, 0, 1], 0), path));
    builder.configure(|config| (config.loops, config.workers) = (1, 1)).start().unwrap()
}

fn url(running: &Running, dialect: &Dialect) -> String {
    format!("ws://{}/of/{}", running.addresses()[0], dialect.name())
}

/// Options whose route under `word` tells what comes, and answers asks by doubling the text.
fn routed(dialect: &Dialect, word: &str, tell: Sender<(String, Vec<u8>)>) -> Options {
    Options::new(dialect.clone()).route(&key(dialect, word), move |_, incoming: &Incoming<'_>| {
        let body = incoming.body.as_bytes().to_vec();
        if incoming.is_ask() {
            let twice = [&*body, &body].concat().replace_quotes();
            incoming.reply(Body::Text(&twice)).unwrap();
            // The second is a no-op.
            incoming.reply(Body::Text("again")).unwrap();
        }
        tell.send((incoming.key.to_string(), body)).unwrap();
    })
}

trait ReplaceQuotes {
    fn replace_quotes(&self) -> String;
}

impl ReplaceQuotes for Vec<u8> {
    fn replace_quotes(&self) -> String {
        String::from_utf8(self.clone()).unwrap().replace('"', "")
    }
}

/// The text of an answer, in JSON or not.
fn text(answer: Result<OwnedBody, CallError>) -> String {
    let body = answer.expect("an answer");
    String::from_utf8_lossy(body.as_body().as_bytes()).trim_matches('"').to_owned()
}

fn received(told: &Receiver<(String, Vec<u8>)>) -> (String, String) {
    let (key, body) = told.recv_timeout(PATIENCE).expect("a push");
    (key, body.replace_quotes())
}

fn talk(dialect: &Dialect, url: &str) {
    let (tell, told) = mpsc::channel();
    let client = Client::connect(url, routed(dialect, "news", tell)).unwrap();
    let ask =
        |word: &str, body: &str| client.request(&*key(dialect, word), Body::Text(body), PATIENCE);
    for words in ["hello", "grüße", "a b c"] {
        assert_eq!(text(ask("echo", words)), words, "{dialect:?}");
    }
    assert_eq!(text(ask("poke", "now")), "now", "{dialect:?}");
    assert_eq!(received(&told), (key(dialect, "news"), "now".to_owned()), "{dialect:?}");
    let Err(CallError::Failed { code, message }) = ask("fail", "x") else {
        panic!("{dialect:?}: no failure")
    };
    let want_code = match dialect {
        Dialect::Kim => 105,
        Dialect::Event => 0,
        _ => 403,
    };
    assert_eq!((code, &*message), (want_code, "not you"), "{dialect:?}");
    let Err(CallError::Failed { code, .. }) = ask("nonsense", "x") else {
        panic!("{dialect:?}: a route that is none")
    };
    assert!(matches!(code, 404 | 301 | 0), "{dialect:?} {code}");
    // Many at once, each its own answer.
    let (tell, answers) = mpsc::channel();
    for n in 0..100 {
        let (tell, body) = (tell.clone(), n.to_string());
        let done = move |_: &_, answer| tell.send((n, text(answer))).unwrap();
        client.request_then(&*key(dialect, "echo"), &*body, PATIENCE, done).unwrap();
    }
    for _ in 0..100 {
        let (n, answer) = answers.recv_timeout(PATIENCE).unwrap();
        assert_eq!(answer, n.to_string(), "{dialect:?}");
    }
    client.stop();
}

fn is_asked(dialect: &Dialect, url: &str) {
    let (tell, told) = mpsc::channel();
    let client = Client::connect(url, routed(dialect, "sum", tell)).unwrap();
    let quiz = |client: &Client| client.request(&*key(dialect, "quiz"), Body::Text("ab"), PATIENCE);
    assert_eq!(text(quiz(&client)), "abab", "{dialect:?}");
    assert_eq!(received(&told).1, "ab");
    client.stop();
    let without = Client::connect(url, Options::new(dialect.clone())).unwrap();
    let answer = text(quiz(&without));
    assert!(answer.contains("no such route"), "{dialect:?}: {answer}");
    without.stop();
}

#[test]
fn calls_and_pushes_of_every_dialect() {
    let running = gateway();
    for dialect in all() {
        talk(&dialect, &url(&running, &dialect));
        if can_ask(&dialect) {
            is_asked(&dialect, &url(&running, &dialect));
        }
    }
    running.stop(|| false);
}

#[test]
fn many_threads_share_one_client() {
    let running = gateway();
    let dialect = Dialect::Json(JsonDialect::default());
    let client = Client::connect(&url(&running, &dialect), Options::new(dialect)).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let handle = client.handle();
            scope.spawn(move || {
                for n in 0..200 {
                    let words = format!("{thread}-{n}");
                    assert_eq!(text(handle.request("echo", &*words, PATIENCE)), words);
                }
            });
        }
    });
    client.stop();
    running.stop(|| false);
}

#[test]
fn kim_over_tcp() {
    let running = gateway();
    let url = format!("tcp://{}", running.tcp_addresses()[0]);
    talk(&Dialect::Kim, &url);
    is_asked(&Dialect::Kim, &url);
    running.stop(|| false);
}

#[test]
fn json_and_hub_over_tcp() {
    for (at, dialect) in [(1, Dialect::Json(JsonDialect::default())), (2, Dialect::Hub)] {
        let running = gateway();
        let url = format!("tcp://{}", running.tcp_addresses()[at]);
        talk(&dialect, &url);
        is_asked(&dialect, &url);
        // Where there is no Close, the end is one, and nobody is pinged for want of a ping.
        let (tell, ended) = mpsc::channel();
        let mut options = Options::new(dialect).on_closed(move |_, cause| {
            tell.send(cause.clone()).unwrap();
        });
        options.reconnect = None;
        (options.ping_interval, options.pong_timeout) =
            (Some(Duration::from_millis(10)), Duration::from_millis(10));
        let client = Client::connect(&url, options).unwrap();
        assert_eq!(ended.recv_timeout(Duration::from_millis(100)), Err(RecvTimeoutError::Timeout));
        let (_, stats) = running.stop(|| false);
        let closes = &stats["closes"];
        assert_eq!((&closes["peer_eof"], &closes["shutdown"]), (&0.into(), &1.into()), "{closes}");
        let closed = Cause::Closed { code: None, reason: String::new() };
        assert_eq!(ended.recv_timeout(PATIENCE), Ok(closed));
        client.stop();
    }
}

#[test]
fn rooms_are_joined_again_after_a_reconnect() {
    for dialect in all() {
        let running = gateway();
        let (tell, told) = mpsc::channel();
        let options = Options::new(dialect.clone()).route("*", move |_, incoming| {
            let _ = tell.send(incoming.body.as_bytes().to_vec());
        });
        let (options, seen) = watched(options);
        let client = Client::connect(&url(&running, &dialect), options).unwrap();
        assert_eq!(next_established(&seen), 1);
        client.join("tea", PATIENCE).unwrap();
        let say = |words: &str| {
            let said = client.request(&*key(&dialect, "say"), Body::Text(words), PATIENCE);
            assert_eq!(text(said), words, "{dialect:?}");
        };
        say("one");
        assert_eq!(told.recv_timeout(PATIENCE).unwrap().replace_quotes(), "one", "{dialect:?}");
        // Whoever is in the room is thrown off the gateway.
        running.gateway().close_room("tea", 4000, "out").unwrap();
        while !matches!(next(&seen), Seen::Closed(_)) {}
        assert_eq!(next_established(&seen), 1);
        say("two");
        assert_eq!(told.recv_timeout(PATIENCE).unwrap().replace_quotes(), "two", "{dialect:?}");
        client.leave("tea", PATIENCE).unwrap();
        say("three");
        assert!(told.try_recv().is_err(), "{dialect:?}: it has left");
        client.stop();
        running.stop(|| false);
    }
}

fn next_established(seen: &Receiver<Seen>) -> usize {
    loop {
        match next_but_dials(seen) {
            Seen::Established => return 1,
            Seen::Message(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_call_without_a_connection_waits_for_one_or_is_never_sent() {
    let running = gateway();
    let dialect = Dialect::Hub;
    let client = Client::connect(&url(&running, &dialect), Options::new(dialect.clone())).unwrap();
    assert_eq!(client.request("words", "x", PATIENCE), Err(SendError::Unsupported.into()));
    assert_eq!(text(client.request(100, "x", PATIENCE)), "x");
    assert_eq!(client.push(100, "x"), Ok(()));
    client.stop();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = format!("ws://{}", listener.local_addr().unwrap());
    let client = Client::start(&nobody, Options::new(dialect)).unwrap();
    let error = client.request(100, "x", Duration::from_millis(20)).unwrap_err();
    assert_eq!(error, CallError::TimedOut);
    let (tell, told) = mpsc::channel();
    let done = move |_: &_, answer| tell.send(answer).unwrap();
    client.request_then(100, "x", PATIENCE, done).unwrap();
    client.stop();
    let answer = told.recv_timeout(PATIENCE).unwrap();
    assert_eq!(answer, Err(CallError::Send(SendError::Stopped)));
    running.stop(|| false);
}

#[test]
fn nothing_is_sent_before_the_login_is_answered() {
    let (tell, told) = mpsc::channel();
    let (signed, tell) = (tell.clone(), std::sync::Mutex::new(tell));
    let signed = std::sync::Mutex::new(signed);
    let endpoint = Endpoint::new("/kim", Dialect::Kim)
        .builtin()
        .route("login.signin", move |ctx, m| {
            signed.lock().unwrap().send(m.body.as_bytes().to_vec()).unwrap();
            let later = ctx.later();
            let good = m.body.as_bytes() == b"good";
            std::thread::spawn(move || match good {
                true => later.reply("welcome"),
                false => later.reply_error(401, "who are you?"),
            });
        })
        .route("note", move |_, m| {
            tell.lock().unwrap().send(m.body.as_bytes().to_vec()).unwrap();
        });
    let builder = Gateway::builder().without_default_endpoints().endpoint(endpoint);
    let running = builder.listen(([127, 0, 0, 1], 0)).start().unwrap();
    let url = format!("ws://{}/kim", running.addresses()[0]);
    let said = || String::from_utf8(told.recv_timeout(PATIENCE).unwrap()).unwrap();

    let login = |token: &'static str| move || OwnedBody::Text(token.to_owned());
    let options = Options::new(Dialect::Kim).login("login.signin", login("bad"));
    let error = Client::connect(&url, options).unwrap_err();
    let cause = Cause::LoginRefused { code: 105, message: "who are you?".to_owned() };
    assert!(matches!(&error, DialError::Login(seen) if *seen == cause), "{error:?}");
    assert_eq!(said(), "bad");

    let options = Options::new(Dialect::Kim).login("login.signin", login("good"));
    let (options, seen) = watched(options);
    let client = Client::start(&url, options).unwrap();
    client.push("note", "early").unwrap();
    assert_eq!((said(), said()), ("good".to_owned(), "early".to_owned()));
    client.join("tea", PATIENCE).unwrap();
    running.gateway().close_room("tea", 4000, "out").unwrap();
    while !matches!(next(&seen), Seen::Closed(_)) {}
    client.push("note", "late").unwrap();
    assert_eq!((said(), said()), ("good".to_owned(), "late".to_owned()));
    client.stop();
    running.stop(|| false);
}

#[test]
fn a_login_that_is_not_answered_is_given_up() {
    let server = crate::servers::Server::one(|mut socket| {
        assert!(socket.read().unwrap().is_text());
        assert!(socket.read().unwrap().is_close());
    });
    let login = || OwnedBody::Json("{}".to_owned());
    let mut options = Options::new(all()[0].clone()).login("login", login);
    options.connect_timeout = Duration::from_millis(200);
    let error = Client::connect(&server.url, options).unwrap_err();
    assert!(matches!(error, DialError::Login(Cause::LoginTimedOut)), "{error:?}");
    server.done();
}

/// What stands around a message's body reaches a handler as it reads it.
#[test]
fn fields_around_the_body_arrive() {
    const READ: [&str; 7] = [
        "token",
        "client_ids",
        "dest",
        "channelId",
        "shard",
        "/router/source",
        "/router/destination",
    ];
    let read = |ctx: &mut tidegate::Context<'_>, m: &tidegate::Message<'_>| {
        let found = READ.iter().filter_map(|name| Some(format!("{name}={}", m.meta.get(name)?)));
        let said = String::from_utf8_lossy(m.body.as_bytes()).into_owned();
        ctx.reply(&*found.chain([said]).collect::<Vec<_>>().join(" "));
    };
    let endpoint = |dialect: &Dialect| {
        let path = format!("/of/{}", dialect.name());
        // Naming others in `client_ids` takes a permission.
        Endpoint::new(&path, dialect.clone()).grant("push").route(&key(dialect, "read"), read)
    };
    let builder = Gateway::builder().without_default_endpoints().listen(([127, 0, 0, 1], 0));
    let running = all().iter().fold(builder, |b, dialect| b.endpoint(endpoint(dialect)));
    let running = running.start().unwrap();
    let ids = || Body::Json(r#"["a","b"]"#);
    for (dialect, about, want) in [
        (
            0,
            About::key("read").with("token", "x").with("client_ids", ids()),
            "token=x client_ids=[\"a\",\"b\"] 1.50",
        ),
        (
            2,
            About::key("read").with("token", "x").with("client_ids", ids()),
            "token=x client_ids=[\"a\",\"b\"] 1.50",
        ),
        (
            4,
            About::key("read").with("dest", "bob").with("channelId", "ann").with("shard", "7"),
            "dest=bob channelId=ann shard=7 1.50",
        ),
        (
            1,
            About::key("do:read").with("source", "edge-1").with("destination", "cloud"),
            "/router/source=edge-1 /router/destination=cloud 1.50",
        ),
    ] {
        let dialect = all()[dialect].clone();
        let client = Client::connect(&url(&running, &dialect), Options::new(dialect)).unwrap();
        let answer = client.request(about.clone(), Body::Json("1.50"), PATIENCE).unwrap();
        let answer = match answer {
            OwnedBody::Json(json) => serde_json::from_str::<String>(&json).unwrap(),
            OwnedBody::Text(text) => text,
            OwnedBody::Binary(bytes) => String::from_utf8(bytes).unwrap(),
        };
        assert_eq!(answer, want);
        client.push(about, "x").unwrap();
        client.stop();
    }
    for (dialect, about) in [
        (0, About::key("read").with("route", "other")),
        (1, About::key("do:read").with("dest", "x")),
        (2, About::key("read").with("actioncode", "other")),
        (3, About::key("read").with("dest", "x")),
        (5, About::key("7").with("dest", "x")),
    ] {
        let dialect = all()[dialect].clone();
        let client = Client::connect(&url(&running, &dialect), Options::new(dialect)).unwrap();
        assert_eq!(client.push(about.clone(), "x"), Err(SendError::Unsupported), "{about:?}");
        let error = client.request(about, "x", PATIENCE).unwrap_err();
        assert_eq!(error, CallError::Send(SendError::Unsupported));
        client.stop();
    }
    running.stop(|| false);
}
