//! System C: events of a name and a message, and commands in plain text.
//!
//! | message | layout |
//! |---|---|
//! | event, its answer, push | `{"name":…,"message":…}` |
//! | an error | `{"name":"error","message":…}` |
//! | command, its answer | plain text |
//! | an unknown command | the text `unknown command` |
//!
//! Text that begins with `{` is an event; its `name`, a string, is the key, and `message` the body,
//! `null` where it is absent. Either of them twice, or no name, is an error event. All other text is
//! a command: the whole of it, without the space around it, is the key, and its body is empty text.
//!
//! Neither kind is owed an answer. An answer to an event has the event's name; one to a command is
//! plain text, where JSON that is a string stands without quotes, and bytes are a binary message. An
//! error's code stays behind: its words are all that is sent. A push's name is its key, or else
//! `message`; who sent it to which room is not said. This dialect has no way to ask.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::json::text::{put_body, put_string, read, unquote};
use super::message::{Body, ErrorAnswer, Key, Message, NotUnderstood, Push};
use super::meta::Meta;
use crate::protocol::MessageKind;

/// What an answer to a command is matched with; to an event it is the name, as JSON text.
const COMMAND: &[u8] = b"";
/// What an error is matched with that is about no event in particular.
const NO_EVENT: &[u8] = b"null";

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow)]
    name: Option<&'a RawValue>,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
}

pub(super) fn decode<'a>(
    kind: MessageKind,
    payload: &'a [u8],
) -> Result<Message<'a>, NotUnderstood<'a>> {
    if kind == MessageKind::Binary {
        return Err(refused("expected a text message, got a binary one"));
    }
    let text =
        simdutf8::basic::from_utf8(payload).map_err(|_| refused("expected text in UTF-8"))?;
    let command = text.trim();
    if !command.starts_with('{') {
        return Ok(unowed(Key::from(command), COMMAND, Body::Text("")));
    }
    let event: Event<'a> =
        read(text).map_err(|e| refused(format!("expected {{\"name\":…,\"message\":…}}: {e}")))?;
    let name = event.name.map_or("null", RawValue::get);
    let key = unquote(name).ok_or_else(|| refused("expected a string in the field `name`"))?;
    let body = Body::Json(event.message.map_or("null", RawValue::get));
    let message = unowed(Key::Name(key), name.as_bytes(), body);
    Ok(Message { meta: Meta::of_json(text), ..message })
}

/// A message that may be answered, but need not be.
fn unowed<'a>(key: Key<'a>, correlation: &'a [u8], body: Body<'a>) -> Message<'a> {
    Message { correlation: Some(Cow::Borrowed(correlation)), ..Message::push(key, body) }
}

fn refused<'a>(why: impl Into<Cow<'static, str>>) -> NotUnderstood<'a> {
    NotUnderstood::bad_request(Some(Cow::Borrowed(NO_EVENT)), why)
}

pub(super) fn encode_answer(
    out: &mut Vec<u8>,
    correlation: Option<&[u8]>,
    answer: Result<Body<'_>, &ErrorAnswer<'_>>,
) -> MessageKind {
    let correlation = correlation.unwrap_or(NO_EVENT);
    match answer {
        Ok(body) if correlation == COMMAND => return put_plain(out, body),
        Ok(body) => put_event(out, correlation, body),
        Err(error) if correlation == COMMAND => {
            let unknown = error.code == 404;
            let words = if unknown { "unknown command" } else { &*error.message };
            out.extend_from_slice(words.as_bytes());
        }
        Err(error) => put_event(out, b"\"error\"", Body::Text(&error.message)),
    }
    MessageKind::Text
}

fn put_plain(out: &mut Vec<u8>, body: Body<'_>) -> MessageKind {
    match body {
        Body::Json(json) => {
            let text = unquote(json).unwrap_or(Cow::Borrowed(json));
            out.extend_from_slice(text.as_bytes());
        }
        Body::Text(text) => out.extend_from_slice(text.as_bytes()),
        Body::Binary(bytes) => {
            out.extend_from_slice(bytes);
            return MessageKind::Binary;
        }
    }
    MessageKind::Text
}

/// `name` is JSON text.
fn put_event(out: &mut Vec<u8>, name: &[u8], body: Body<'_>) {
    out.extend_from_slice(b"{\"name\":");
    out.extend_from_slice(name);
    put_message(out, body);
}

pub(super) fn encode_push(out: &mut Vec<u8>, push: &Push<'_>) -> MessageKind {
    out.extend_from_slice(b"{\"name\":");
    put_string(out, push.key.unwrap_or("message"));
    put_message(out, push.body);
    MessageKind::Text
}

fn put_message(out: &mut Vec<u8>, body: Body<'_>) {
    out.extend_from_slice(b",\"message\":");
    put_body(out, body);
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::json::text::testing::{
        any_json, any_kind, any_text, broken, encoded, parsed, refused,
    };
    use super::super::message::Kind;
    use super::*;

    const EVENT: &[u8] = br#"{"name":"publish","message":"hello \u00e4"}"#;

    fn text(payload: &[u8]) -> Result<Message<'_>, NotUnderstood<'_>> {
        decode(MessageKind::Text, payload)
    }

    fn answer(correlation: &[u8], answer: Result<Body<'_>, &ErrorAnswer<'_>>) -> String {
        encoded(|out| {
            assert_eq!(encode_answer(out, Some(correlation), answer), MessageKind::Text);
        })
    }

    fn push(key: Option<&str>, body: Body<'_>) -> String {
        let push = Push { room: Some("r"), from: Some("f"), key, body };
        encoded(|out| assert_eq!(encode_push(out, &push), MessageKind::Text))
    }

    #[test]
    fn an_event_of_the_reference() {
        let message = text(EVENT).unwrap();
        assert_eq!((message.kind, &message.key), (Kind::Push, &Key::from("publish")));
        assert_eq!(message.body, Body::Json(r#""hello \u00e4""#));
        assert_eq!(
            answer(message.correlation.as_deref().unwrap(), Ok(message.body)),
            r#"{"name":"publish","message":"hello \u00e4"}"#
        );
        assert_eq!(message.meta.get("name").as_deref(), Some("publish"));
    }

    #[test]
    fn commands_of_the_reference() {
        for (payload, key) in [
            (&b"helloworld"[..], "helloworld"),
            (b" close\r\n", "close"),
            (b"[\"publish\",1]", "[\"publish\",1]"),
            (b"", ""),
        ] {
            let message = text(payload).unwrap();
            assert_eq!((message.kind, &message.key), (Kind::Push, &Key::from(key)));
            assert_eq!(
                (message.body, message.correlation.as_deref()),
                (Body::Text(""), Some(COMMAND))
            );
        }
        assert_eq!(answer(COMMAND, Ok(Body::Text("Hello World"))), "Hello World");
        assert_eq!(answer(COMMAND, Ok(Body::Json(r#""Hello\tWorld""#))), "Hello\tWorld");
        assert_eq!(answer(COMMAND, Ok(Body::Json("[1, 2]"))), "[1, 2]");
        let unknown = ErrorAnswer::new(404, "no route `x`");
        assert_eq!(answer(COMMAND, Err(&unknown)), "unknown command");
        assert_eq!(answer(COMMAND, Err(&ErrorAnswer::new(500, "broken"))), "broken");
        let mut out = Vec::new();
        let kind = encode_answer(&mut out, Some(COMMAND), Ok(Body::Binary(b"\0\xff")));
        assert_eq!((kind, &out[..]), (MessageKind::Binary, &b"\0\xff"[..]));
    }

    #[test]
    fn errors_are_events() {
        assert_eq!(
            answer(b"\"what\"", Err(&ErrorAnswer::new(404, "no route `what`"))),
            r#"{"name":"error","message":"no route `what`"}"#
        );
        for (payload, want) in [
            (&br#"{"message":"x"}"#[..], "expected a string in the field `name`"),
            (br#"{"name":7}"#, "expected a string in the field `name`"),
            (br#"{"name":"a","name":"b"}"#, "duplicate field `name`"),
            (br#"{"name":"a","message":1,"message":2}"#, "duplicate field `message`"),
            (br#" {"name":"a""#, "EOF"),
            (b"\xff", "UTF-8"),
        ] {
            let (code, message, correlation) = refused(text(payload));
            assert_eq!(code, 400);
            assert!(message.contains(want), "{message}");
            let error = ErrorAnswer::new(code, message);
            let told = parsed(&answer(&correlation.unwrap(), Err(&error)));
            assert_eq!(told, json!({"name": "error", "message": error.message}));
        }
        assert!(refused(decode(MessageKind::Binary, EVENT)).1.contains("binary"));
    }

    #[test]
    fn pushes() {
        assert_eq!(push(None, Body::Text("a\"")), r#"{"name":"message","message":"a\""}"#);
        assert_eq!(push(Some("leave"), Body::Json("null")), r#"{"name":"leave","message":null}"#);
        assert_eq!(push(None, Body::Binary(b"\0\xff")), r#"{"name":"message","message":"AP8="}"#);
    }

    #[test]
    fn an_event_without_a_message_says_null() {
        assert_eq!(text(br#"{"name":"leave"}"#).unwrap().body, Body::Json("null"));
    }

    proptest! {
        #[test]
        fn events_come_back_as_answers(name in any_text(), message in any_json()) {
            let event = json!({"name": name, "message": message});
            let payload = event.to_string();
            let decoded = text(payload.as_bytes()).unwrap();
            prop_assert_eq!(&decoded.key, &Key::from(&*name));
            let answer = answer(decoded.correlation.as_deref().unwrap(), Ok(decoded.body));
            prop_assert_eq!(parsed(&answer), event);
        }

        #[test]
        fn pushes_come_back_as_they_were(key in any_text(), message in any_json()) {
            let message = message.to_string();
            let payload = push(Some(&key), Body::Json(&message));
            let decoded = text(payload.as_bytes()).unwrap();
            prop_assert_eq!((decoded.key, decoded.body), (Key::from(&*key), Body::Json(&message)));
        }

        #[test]
        fn commands_are_keys(command in "[^{\\s](.*\\S)?") {
            let message = text(command.as_bytes()).unwrap();
            prop_assert_eq!(message.key, Key::from(&*command));
            prop_assert_eq!(answer(COMMAND, Ok(Body::Text(&command))), command);
        }

        #[test]
        fn nothing_panics(kind in any_kind(), bytes: Vec<u8>, broken in broken(EVENT)) {
            let _ = decode(kind, &bytes);
            let _ = decode(kind, &broken);
        }
    }
}
