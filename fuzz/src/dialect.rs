//! The dialects: whatever bytes come, each has an answer, a refusal or a close for them; and what is
//! sent for what was understood is a whole frame, in the dialect's own form, that says what was meant.

use std::io::Cursor;

use serde::de::IgnoredAny;
use tidegate::protocol::{CLOSE_REASON_MAX, Framing, is_sendable_code};
use tidegate::{
    Ask, Body, Dialect, ErrorAnswer, JsonDialect, Kind, Message, MessageKind, NotUnderstood, Push,
};
use tungstenite::protocol::frame::FrameHeader;

/// One fuzz input to the messages as they are.
pub fn raw(payload: &[u8]) {
    check(&Dialect::Raw, payload, |case, sent| {
        let back = case.decode(sent).expect("there is nothing that it refuses");
        assert_eq!(back.body.as_bytes(), case.said);
    });
}

/// One fuzz input to the gateway's own JSON.
pub fn json(payload: &[u8]) {
    check(&Dialect::Json(JsonDialect::default()), payload, |_, sent| assert_object(sent));
}

/// One fuzz input to system A.
pub fn mef(payload: &[u8]) {
    check(&Dialect::Mef, payload, |case, sent| {
        assert_object(sent);
        let back = case.decode(sent).expect("both sides speak the same");
        match case.way {
            Way::Answer | Way::Error if case.asked.kind != Kind::Request => {}
            Way::Answer | Way::Error => assert!(matches!(back.kind, Kind::Response { .. })),
            Way::Push => assert_eq!(back.kind, Kind::Push),
            Way::Ask => assert_eq!(back.kind, Kind::Request),
        }
    });
}

/// One fuzz input to system B.
pub fn action(payload: &[u8]) {
    check(&Dialect::Action, payload, |case, sent| {
        assert_object(sent);
        let back = case.decode(sent).expect("an answer has an action as well");
        if let Way::Answer | Way::Error = case.way {
            assert_eq!(back.key, case.asked.key);
        }
    });
}

/// One fuzz input to system C.
pub fn event(payload: &[u8]) {
    let is_event = std::str::from_utf8(payload).is_ok_and(|text| text.trim().starts_with('{'));
    check(&Dialect::Event, payload, |case, sent| match case.way {
        Way::Answer | Way::Error if !is_event => {}
        Way::Answer => {
            assert_object(sent);
            assert_eq!(case.decode(sent).expect("an event").key, case.asked.key);
        }
        Way::Error => assert_eq!(case.decode(sent).expect("an event").key, "error"),
        Way::Push | Way::Ask => assert_object(sent),
    });
}

/// One fuzz input to system D.
pub fn kim(payload: &[u8]) {
    check(&Dialect::Kim, payload, |case, sent| {
        let back = case.decode(sent).expect("both sides speak the same");
        let is_ping = case.asked.kind == Kind::Heartbeat;
        let failed = matches!(case.way, Way::Error);
        match case.way {
            // The answer to a ping is a pong, which nobody answers.
            Way::Answer | Way::Error if is_ping => {
                assert_eq!((back.kind, &back.correlation), (Kind::Heartbeat, &None));
            }
            Way::Answer | Way::Error => {
                let sequence = case.asked.meta.get("sequence").and_then(|text| text.parse().ok());
                let to = sequence.expect("every header has one");
                assert_eq!(back.kind, Kind::Response { to, failed });
                assert_eq!(back.key, case.asked.key);
                for field in ["channelId", "dest", "app"] {
                    assert_eq!(back.meta.get(field), case.asked.meta.get(field));
                }
            }
            Way::Push => assert_eq!((back.kind, back.key.as_text()), (Kind::Push, KEY.into())),
            Way::Ask => assert_eq!((back.kind, back.key.as_text()), (Kind::Request, KEY.into())),
        }
        if !is_ping && !failed && case.said != b"null" {
            assert_eq!(back.body, Body::Binary(case.said));
        }
    });
}

/// One fuzz input to system E.
pub fn hub(payload: &[u8]) {
    check(&Dialect::Hub, payload, |case, sent| {
        let Ok(back) = case.decode(sent) else {
            // More than a client may send: the limit is not the sender's.
            return assert!(case.said.len() > HUB_BODY_MAX);
        };
        match case.way {
            Way::Answer => assert_eq!((back.kind, &back.key), (case.asked.kind, &case.asked.key)),
            Way::Error => {
                assert_eq!(back.kind, Kind::Request);
                assert_eq!(back.key, HUB_ERROR);
            }
            Way::Push => assert_eq!((back.kind, back.key.as_text()), (Kind::Push, KEY.into())),
            Way::Ask => {
                let kind = Kind::Response { to: ASK_ID, failed: false };
                assert_eq!((back.kind, back.key.as_text()), (kind, KEY.into()));
            }
        }
        if !matches!(case.way, Way::Error) && case.said != b"null" {
            assert_eq!(back.body, Body::Binary(case.said));
        }
    });
}

/// Longest body in system E: 512 KiB but for protocol and serial number.
const HUB_BODY_MAX: usize = 512 * 1024 - 8;
/// System E's protocol of error answers, as this gateway has it.
const HUB_ERROR: &str = "2147483646";
const ASK_ID: u32 = 3;
/// A key that dialects with names and with numbers can say.
const KEY: &str = "7";

/// How something came to be sent.
#[derive(Clone, Copy, Debug)]
enum Way {
    Answer,
    Error,
    Push,
    Ask,
}

/// Something sent, and what it was sent for.
struct Case<'a> {
    dialect: &'a Dialect,
    asked: &'a Message<'a>,
    way: Way,
    /// Bytes of the body, or of the error's words.
    said: &'a [u8],
}

impl Case<'_> {
    fn decode<'s>(&self, sent: &'s Sent) -> Result<Message<'s>, NotUnderstood<'s>> {
        self.dialect.decode(sent.kind, &sent.payload)
    }
}

/// A message of the gateway's.
struct Sent {
    kind: MessageKind,
    payload: Vec<u8>,
}

/// Reads `payload` as a binary message and, if it can be one, as a text; `holds` says what must hold
/// for each thing that is sent for what was understood.
fn check(dialect: &Dialect, payload: &[u8], holds: impl Fn(&Case<'_>, &Sent)) {
    check_as(dialect, MessageKind::Binary, payload, &holds);
    if std::str::from_utf8(payload).is_ok() {
        check_as(dialect, MessageKind::Text, payload, &holds);
    }
}

fn check_as(
    dialect: &Dialect,
    kind: MessageKind,
    payload: &[u8],
    holds: &impl Fn(&Case<'_>, &Sent),
) {
    match dialect.decode(kind, payload) {
        Ok(message) => {
            understood(&message);
            check_answers(dialect, &message, holds);
            check_push_and_ask(dialect, &message, holds);
        }
        Err(NotUnderstood::Answer { correlation, answer }) => {
            assert!((400..600).contains(&answer.code), "{answer:?}");
            let correlation = correlation.as_deref().unwrap_or_default();
            sent(|framing, out| {
                dialect.put_answer(framing, out, Some(correlation), Err(&answer));
                true
            })
            .expect("errors can be said");
        }
        Err(NotUnderstood::Close { code, reason }) => {
            assert!(is_sendable_code(code) && reason.len() <= CLOSE_REASON_MAX);
        }
    }
}

/// What is said of a message is what it claims to be.
fn understood(message: &Message<'_>) {
    if let Body::Json(text) = message.body {
        serde_json::from_str::<IgnoredAny>(text).expect("a body of JSON is JSON");
    }
    for name in ["", "/", "/header/id", "id", "app", "channelId", "dest", "sequence", "status"] {
        let _ = message.meta.get(name);
    }
}

fn check_answers<'a>(dialect: &Dialect, asked: &Message<'a>, holds: &impl Fn(&Case<'_>, &Sent)) {
    let Some(correlation) = asked.correlation.as_deref() else { return };
    for body in bodies(asked) {
        let case = Case { dialect, asked, way: Way::Answer, said: body.as_bytes() };
        holds(&case, &answer(dialect, correlation, Ok(body)));
    }
    for (code, words) in [(404, "no route `\"ä\\\n`"), (500, "")] {
        let case = Case { dialect, asked, way: Way::Error, said: words.as_bytes() };
        holds(&case, &answer(dialect, correlation, Err(&ErrorAnswer::new(code, words))));
    }
}

fn answer(
    dialect: &Dialect,
    correlation: &[u8],
    answer: Result<Body<'_>, &ErrorAnswer<'_>>,
) -> Sent {
    sent(|framing, out| {
        dialect.put_answer(framing, out, Some(correlation), answer);
        true
    })
    .expect("whatever is asked can be answered")
}

fn check_push_and_ask(dialect: &Dialect, asked: &Message<'_>, holds: &impl Fn(&Case<'_>, &Sent)) {
    for body in bodies(asked) {
        let push = Push { room: Some("tea \"ä"), from: Some("a1b2"), key: Some(KEY), body };
        let case = Case { dialect, asked, way: Way::Push, said: body.as_bytes() };
        holds(&case, &sent(|f, out| dialect.put_push(f, out, &push)).expect("all can push"));
        let bare = Push { room: None, from: None, key: None, body };
        sent(|f, out| dialect.put_push(f, out, &bare)).expect("all can push");

        let ask = Ask { id: ASK_ID, key: KEY, body };
        if let Some(sent) = sent(|f, out| dialect.put_ask(f, out, &ask)) {
            holds(&Case { way: Way::Ask, ..case }, &sent);
        }
    }
}

/// Bodies of every form, the message's own among them.
fn bodies<'a>(message: &Message<'a>) -> [Body<'a>; 5] {
    let own = message.body;
    [
        own,
        Body::Json("{\"a\":[1]}"),
        Body::Json("null"),
        Body::Text("\"ä\\\n"),
        Body::Binary(b"\0\xff"),
    ]
}

/// What `put` appends, in all framings: whole frames, behind what was there. `None` if it says that
/// it has nothing to append.
fn sent(put: impl Fn(Framing, &mut Vec<u8>) -> bool) -> Option<Sent> {
    let frame = |framing| {
        let mut out = b"before".to_vec();
        let is_put = put(framing, &mut out);
        let frame = out.strip_prefix(b"before").expect("what was there stays").to_vec();
        assert_eq!(is_put, !frame.is_empty(), "nothing, or a frame");
        is_put.then_some(frame)
    };
    let (tcp, websocket) = (frame(Framing::Tcp), frame(Framing::WebSocket));
    assert_eq!(tcp.is_some(), websocket.is_some());
    let lengths = [frame(Framing::U32Text), frame(Framing::U32Binary)];
    let (sent, other) = (read_tcp(&tcp?), read_websocket(&websocket?));
    for frame in lengths {
        let frame = frame.expect("as in the other framings");
        let (len, payload) = frame.split_first_chunk().expect("a whole header");
        assert_eq!(u32::from_be_bytes(*len) as usize, payload.len());
        assert_eq!(payload.len(), sent.payload.len());
    }
    assert_eq!((sent.kind, sent.payload.len()), (other.kind, other.payload.len()));
    for Sent { kind, payload } in [&sent, &other] {
        if matches!(kind, MessageKind::Text) {
            assert!(std::str::from_utf8(payload).is_ok(), "text is UTF-8");
        }
    }
    Some(sent)
}

fn read_tcp(frame: &[u8]) -> Sent {
    let ([op, len @ ..], payload) = frame.split_first_chunk::<5>().expect("a whole header");
    assert_eq!(u32::from_be_bytes(*len) as usize, payload.len());
    Sent { kind: kind_of(*op), payload: payload.to_vec() }
}

fn read_websocket(frame: &[u8]) -> Sent {
    let mut cursor = Cursor::new(frame);
    let (header, len) = FrameHeader::parse(&mut cursor).expect("a header").expect("a whole one");
    let payload = &frame[cursor.position() as usize..];
    assert_eq!(len as usize, payload.len());
    assert!(header.is_final && header.mask.is_none());
    assert!(!header.rsv1 && !header.rsv2 && !header.rsv3);
    Sent { kind: kind_of(header.opcode.into()), payload: payload.to_vec() }
}

fn kind_of(op: u8) -> MessageKind {
    let kinds = [MessageKind::Text, MessageKind::Binary];
    kinds.into_iter().find(|kind| kind.opcode() as u8 == op).expect("the opcode of a message")
}

fn assert_object(sent: &Sent) {
    assert!(matches!(sent.kind, MessageKind::Text));
    assert!(sent.payload.starts_with(b"{"));
    serde_json::from_slice::<IgnoredAny>(&sent.payload).expect("JSON");
}
