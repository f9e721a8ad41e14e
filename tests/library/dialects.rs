//! Ways of speaking: custom dialects, subprotocols, paths.

use std::borrow::Cow;

use serde_json::json;
use tidegate::{
    Body, CustomDialect, Dialect, Endpoint, ErrorAnswer, Gateway, JsonDialect, Message,
    MessageKind, NotUnderstood, OverflowPolicy, Push, SelfDelivery,
};

use crate::client::{BINARY, Client, Frame, request};
use crate::{start, stats_until};

/// `verb id words` in, `id: words` out; binary in, binary out. It panics where it is told to.
struct Lines;

impl CustomDialect for Lines {
    fn decode<'a>(
        &self,
        kind: MessageKind,
        payload: &'a [u8],
    ) -> Result<Message<'a>, NotUnderstood<'a>> {
        assert!(payload != b"panic in decode");
        let words = std::str::from_utf8(payload).ok().filter(|_| kind == MessageKind::Text);
        let parts = words.and_then(|words| words.split_once(' ')?.1.split_once(' '));
        let Some((id, rest)) = parts else {
            return Err(NotUnderstood::bad_request(None, "verb id words"));
        };
        let verb = words.unwrap_or_default().split(' ').next().unwrap_or_default();
        let (key, body) = (verb.into(), Body::Text(rest));
        Ok(match id {
            "-" => Message::push(key, body),
            id => Message::request(key, Cow::Borrowed(id.as_bytes()), body),
        })
    }

    fn encode_answer(
        &self,
        out: &mut Vec<u8>,
        correlation: Option<&[u8]>,
        answer: Result<Body<'_>, &ErrorAnswer<'_>>,
    ) -> MessageKind {
        out.extend_from_slice(correlation.unwrap_or(b"?"));
        out.extend_from_slice(b": ");
        assert!(correlation != Some(b"mute"));
        match answer {
            Ok(body) => {
                out.extend_from_slice(body.as_bytes());
                assert!(body.as_bytes() != b"panic in encode");
            }
            Err(error) => {
                out.extend_from_slice(format!("error {}", error.code).as_bytes());
            }
        }
        MessageKind::Text
    }

    fn encode_push(&self, out: &mut Vec<u8>, push: &Push<'_>) -> MessageKind {
        out.extend_from_slice(push.room.unwrap_or("-").as_bytes());
        out.push(b'>');
        out.extend_from_slice(push.body.as_bytes());
        assert!(push.body.as_bytes() != b"panic in push");
        MessageKind::Binary
    }
}

fn lines() -> Endpoint {
    Endpoint::custom("/lines", Lines)
        .route("echo", |ctx, m| ctx.reply(m.body))
        .route("fail", |ctx, m| ctx.reply_error(m.body.as_str().unwrap().parse().unwrap(), ""))
        .route("join", |ctx, m| ctx.join(m.body.as_str().unwrap()).unwrap())
        .route("say", |ctx, m| ctx.publish("hall", m.body, SelfDelivery::Include).unwrap())
        .route("held", |ctx, m| {
            ctx.join("hall").unwrap();
            ctx.reply(m.body);
        })
        .route("later", |ctx, m| {
            let (answer, text) = (ctx.later(), m.body.as_str().unwrap().to_owned());
            std::thread::spawn(move || answer.reply(text.as_str()));
        })
}

#[test]
fn a_dialect_of_ones_own() {
    for workers in [0, 2] {
        let running = start(Gateway::builder().endpoint(lines()), workers);
        let addr = running.addresses()[0];
        let mut peer = Client::open(addr, "/lines");
        let mut ask = |text: &str| {
            peer.text(text);
            peer.read_text()
        };
        assert_eq!(ask("echo 1 a b c"), "1: a b c");
        assert_eq!(ask("later x words"), "x: words");
        assert_eq!(ask("fail 2 418"), "2: error 418");
        assert_eq!(ask("what 3 ?"), "3: error 404");
        assert_eq!(ask("nonsense"), ": error 400");
        assert_eq!(ask("join 4 hall"), "4: null");
        // Each member hears it in its own dialect.
        let mut json_peer = Client::open(addr, "/ws");
        json_peer.ask("join", 1, json!({"room": "hall"}));
        peer.text("say - hello");
        assert_eq!(peer.frame(), Some(Frame::new(BINARY, b"hall>hello")));
        assert_eq!(json_peer.json()["data"], "hello");
        // "-" wants no answer: what the handler gives all the same is counted.
        peer.text("echo - unasked");
        peer.text("echo 5 asked");
        assert_eq!(peer.read_text(), "5: asked");
        assert_eq!(running.stats()["late_answers"], 1);
    }
}

#[test]
fn a_dialect_that_panics_ends_nothing() {
    for workers in [0, 2] {
        for overflow in [OverflowPolicy::Close, OverflowPolicy::DropOldest] {
            let running = start(Gateway::builder().endpoint(lines().overflow(overflow)), workers);
            let addr = running.addresses()[0];
            let mut peer = Client::open(addr, "/lines");
            let mut json_peer = Client::open(addr, "/ws");
            json_peer.ask("join", 1, json!({"room": "hall"}));
            peer.text("panic in decode");
            assert_eq!(peer.read_text(), ": error 500");
            for route in ["echo", "later", "held"] {
                peer.text(&format!("{route} 1 panic in encode"));
                assert_eq!(peer.read_text(), "1: error 500", "{route}");
            }
            // Not even the error can be said: nothing is, and what comes next is whole.
            peer.text("echo mute 2");
            peer.text("say 3 panic in push");
            assert_eq!(json_peer.json()["data"], "panic in push");
            peer.text("echo 4 alive");
            let mut answers = [peer.read_text(), peer.read_text()];
            answers.sort();
            assert_eq!(answers, ["3: null", "4: alive"]);
            assert_eq!(json_peer.ask("echo", 9, json!(9))["body"], 9);
            let stats = stats_until(&running, "all counted", |s| s["drops"]["not_encoded"] == 2);
            assert_eq!(stats["totals"]["open"], 2);
            peer.close(1000);
            assert_eq!(peer.frame(), Some(Frame::close(1000)));
        }
    }
}

#[test]
fn subprotocols() {
    let endpoint = Endpoint::echo("/sub").subprotocol("v1").subprotocol("v2");
    let running = start(Gateway::builder().endpoint(endpoint), 1);
    for (asked, answered) in [
        ("Sec-WebSocket-Protocol: v2, v1\r\n", Some("v2")),
        ("Sec-WebSocket-Protocol: v3, v1, v2\r\n", Some("v1")),
        ("Sec-WebSocket-Protocol: v9\r\nSec-WebSocket-Protocol: v2\r\n", Some("v2")),
        ("Sec-WebSocket-Protocol: V1\r\n", None),
        ("Sec-WebSocket-Protocol: v3\r\n", None),
        ("", None),
    ] {
        let (_, head) = Client::open_with(running.addresses()[0], "/sub", asked);
        assert_eq!(head.header("Sec-WebSocket-Protocol"), answered, "{asked}");
    }
}

#[test]
fn paths() {
    let named = |path: &str, name: &'static str| {
        Endpoint::new(path, Dialect::Raw).fallback(move |ctx, _| ctx.reply(name))
    };
    let builder = Gateway::builder()
        .endpoint(named("/", "root"))
        .endpoint(named("/a/b", "deep"))
        .endpoint(named("/%20", "raw"))
        .endpoint(named("/echo", "first"))
        .endpoint(named("/echo", "second"));
    let running = start(builder, 1);
    let addr = running.addresses()[0];
    for (path, name) in [
        ("/", "root"),
        ("/?q", "root"),
        ("/a/b", "deep"),
        ("/a/b?c=/d", "deep"),
        ("/%20", "raw"),
        ("/echo", "second"),
    ] {
        let mut peer = Client::open(addr, path);
        peer.text("?");
        assert_eq!(peer.read_text(), name, "{path}");
    }
    for path in ["/a", "/a/b/", "/A/b", "//", "/ECHO"] {
        let mut peer = Client::dial(addr);
        peer.send(&request(path));
        assert_eq!(peer.head().status, 404, "{path}");
    }
    // A browser still gets its page.
    let mut peer = Client::dial(addr);
    peer.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(peer.head().status, 200);
}

#[test]
fn routes_go_to_the_endpoint_that_answers() {
    let ws = || {
        Endpoint::new("/ws", Dialect::Json(JsonDialect::default()))
            .route("mine", |ctx, _| ctx.reply("mine"))
    };
    let builders = [
        Gateway::builder().endpoint(ws()).route("x", |ctx, _| ctx.reply("x")),
        Gateway::builder().endpoint(ws().route("x", |ctx, _| ctx.reply("x"))),
    ];
    for builder in builders {
        let running = start(builder, 1);
        let mut peer = Client::open(running.addresses()[0], "/ws");
        assert_eq!(peer.ask("mine", 1, json!(null))["body"], "mine");
        assert_eq!(peer.ask("x", 2, json!(null))["body"], "x");
        assert_eq!(peer.ask("time", 3, json!(null))["error"]["code"], 404);
    }
}
