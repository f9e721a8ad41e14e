//! System B: messages that name an action, answered in a form with code and words.
//!
//! | message | layout |
//! |---|---|
//! | request | `{"company":…,"actioncode":…,"data":…,"token":…,"is_broadcast":…,"client_ids":[…]}` |
//! | its answer | `{"code":0,"msg":"","data":…,"actioncode":…}` |
//! | an error | `{"code":404,"msg":…,"data":null,"actioncode":…}` |
//! | push | `{"code":0,"msg":"","data":…,"actioncode":…}` |
//!
//! Only `actioncode`, a string, has to be there: it is the key, and what the answer repeats. The
//! answer to what is not understood has an empty one. `data` is the body, as raw text, `null` where
//! it is absent; the other members are read through [`Meta`]. A message with `is_broadcast`, or with
//! anybody in `client_ids`, is meant for others as well, and takes a permission ([`Target`]). What
//! stands twice of these four is error 400. A push's `actioncode` is its key, or else `publish`. This dialect has no way to ask.

use std::borrow::Cow;
use std::io::Write as _;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::json::text::{put_body, put_string, read, unquote};
use super::message::{Body, ErrorAnswer, Key, Message, NotUnderstood, Push};
use super::meta::{Meta, Target};
use crate::protocol::MessageKind;

#[derive(Deserialize)]
struct Request<'a> {
    #[serde(borrow)]
    actioncode: Option<&'a RawValue>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    is_broadcast: Option<&'a RawValue>,
    #[serde(borrow)]
    client_ids: Option<&'a RawValue>,
}

impl Request<'_> {
    /// Whom else it is meant for. What is neither a boolean nor a list counts as one that says so.
    fn target(&self) -> Option<Target> {
        let is_said = |value: Option<&RawValue>, nothing: &[&str]| {
            value.is_some_and(|value| {
                let text = value.get();
                let dense = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).take(6);
                !nothing.iter().any(|nothing| dense.clone().eq(nothing.bytes()))
            })
        };
        if is_said(self.is_broadcast, &["false", "null"]) {
            return Some(Target::Everyone);
        }
        is_said(self.client_ids, &["[]", "null"]).then_some(Target::Listed)
    }
}

pub(super) fn decode<'a>(
    kind: MessageKind,
    payload: &'a [u8],
) -> Result<Message<'a>, NotUnderstood<'a>> {
    let refused = |why: String| NotUnderstood::bad_request(None, why);
    if kind == MessageKind::Binary {
        return Err(refused("expected a text message, got a binary one".to_owned()));
    }
    let text = simdutf8::basic::from_utf8(payload)
        .map_err(|_| refused("expected text in UTF-8".to_owned()))?;
    let request: Request<'a> = read(text)
        .map_err(|e| refused(format!("expected {{\"actioncode\":…,\"data\":…}}: {e}")))?;
    let action = request.actioncode.map_or("null", RawValue::get);
    let key = unquote(action)
        .ok_or_else(|| refused("expected a string in the field `actioncode`".to_owned()))?;
    let body = Body::Json(request.data.map_or("null", RawValue::get));
    let message = Message::request(Key::Name(key), Cow::Borrowed(action.as_bytes()), body);
    let meta = match request.target() {
        None => Meta::of_json(text),
        Some(target) => Meta::of_targeted(text, target),
    };
    Ok(Message { meta, ..message })
}

pub(super) fn encode_answer(
    out: &mut Vec<u8>,
    correlation: Option<&[u8]>,
    answer: Result<Body<'_>, &ErrorAnswer<'_>>,
) -> MessageKind {
    match answer {
        Ok(body) => put_data(out, body),
        Err(error) => {
            let _ = write!(out, "{{\"code\":{},\"msg\":", error.code);
            put_string(out, &error.message);
            out.extend_from_slice(b",\"data\":null");
        }
    }
    out.extend_from_slice(b",\"actioncode\":");
    out.extend_from_slice(correlation.filter(|action| !action.is_empty()).unwrap_or(b"\"\""));
    out.push(b'}');
    MessageKind::Text
}

pub(super) fn encode_push(out: &mut Vec<u8>, push: &Push<'_>) -> MessageKind {
    put_data(out, push.body);
    out.extend_from_slice(b",\"actioncode\":");
    put_string(out, push.key.unwrap_or("publish"));
    out.push(b'}');
    MessageKind::Text
}

fn put_data(out: &mut Vec<u8>, body: Body<'_>) {
    out.extend_from_slice(b"{\"code\":0,\"msg\":\"\",\"data\":");
    put_body(out, body);
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

    const REQUEST: &[u8] = br#"{"company":"c1","actioncode":"heart_beat","data":{"n":[1, 2]},"token":"t\u0031","is_broadcast":false,"client_ids":["a","b"]}"#;

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
    fn a_request_of_the_reference() {
        let message = text(REQUEST).unwrap();
        assert_eq!((message.kind, &message.key), (Kind::Request, &Key::from("heart_beat")));
        assert_eq!(message.body, Body::Json(r#"{"n":[1, 2]}"#));
        assert_eq!(message.correlation.as_deref(), Some(&br#""heart_beat""#[..]));
        for (name, value) in [
            ("company", "c1"),
            ("token", "t1"),
            ("is_broadcast", "false"),
            ("client_ids", r#"["a","b"]"#),
            ("/client_ids/1", "b"),
        ] {
            assert_eq!(message.meta.get(name).as_deref(), Some(value), "{name}");
        }
    }

    #[test]
    fn whom_a_request_is_meant_for() {
        for (members, target) in [
            ("", None),
            (r#","is_broadcast":false,"client_ids":[]"#, None),
            (r#","is_broadcast":null,"client_ids":null"#, None),
            (r#","client_ids":[ ]"#, None),
            (r#","client_ids":["a"]"#, Some(Target::Listed)),
            (r#","client_ids":[ "" ]"#, Some(Target::Listed)),
            (r#","client_ids":"a""#, Some(Target::Listed)),
            (r#","is_broadcast":true"#, Some(Target::Everyone)),
            (r#","is_broadcast":true,"client_ids":["a"]"#, Some(Target::Everyone)),
            (r#","is_broadcast":false,"client_ids":["a"]"#, Some(Target::Listed)),
            (r#","is_broadcast":"true""#, Some(Target::Everyone)),
            (r#","is_broadcast":1"#, Some(Target::Everyone)),
        ] {
            let request = format!(r#"{{"actioncode":"x"{members}}}"#);
            let message = text(request.as_bytes()).unwrap();
            assert_eq!(message.meta.target(), target, "{request}");
            assert_eq!(message.meta.get("actioncode").as_deref(), Some("x"));
        }
    }

    #[test]
    fn answers_of_the_reference() {
        assert_eq!(
            answer(br#""heart_beat""#, Ok(Body::Json(r#"{"n":[1, 2]}"#))),
            r#"{"code":0,"msg":"","data":{"n":[1, 2]},"actioncode":"heart_beat"}"#
        );
        assert_eq!(
            answer(br#""x\n""#, Err(&ErrorAnswer::new(404, "no route `x\n`"))),
            r#"{"code":404,"msg":"no route `x\n`","data":null,"actioncode":"x\n"}"#
        );
        assert_eq!(
            answer(b"", Err(&ErrorAnswer::new(400, "why"))),
            r#"{"code":400,"msg":"why","data":null,"actioncode":""}"#
        );
    }

    #[test]
    fn pushes() {
        assert_eq!(
            push(None, Body::Text("a\"")),
            r#"{"code":0,"msg":"","data":"a\"","actioncode":"publish"}"#
        );
        assert_eq!(
            push(Some("news"), Body::Binary(b"\0\xff")),
            r#"{"code":0,"msg":"","data":"AP8=","actioncode":"news"}"#
        );
    }

    #[test]
    fn what_is_not_understood_says_why() {
        for (payload, want) in [
            (&b"hello"[..], "expected {\"actioncode\":"),
            (br#"["heart_beat",{}]"#, "expected an object"),
            (b"{}", "expected a string in the field `actioncode`"),
            (br#"{"actioncode":null}"#, "expected a string"),
            (br#"{"actioncode":7}"#, "expected a string"),
            (br#"{"actioncode":"\ud800"}"#, "expected a string"),
            (br#"{"actioncode":"a","actioncode":"b"}"#, "duplicate field `actioncode`"),
            (br#"{"actioncode":"a","data":1,"data":2}"#, "duplicate field `data`"),
            (br#"{"actioncode":"a","client_ids":[],"client_ids":["b"]}"#, "duplicate field"),
            (br#"{"actioncode":"a"} x"#, "trailing characters"),
            (b"{\"actioncode\":\"\xff\"}", "UTF-8"),
        ] {
            let (code, message, correlation) = refused(text(payload));
            assert_eq!((code, correlation), (400, None));
            assert!(message.contains(want), "{message}");
        }
        assert!(refused(decode(MessageKind::Binary, REQUEST)).1.contains("binary"));
        // What this dialect does not know may be there, and twice.
        assert!(text(br#"{"actioncode":"a","x":1,"x":2}"#).is_ok());
    }

    proptest! {
        #[test]
        fn requests_come_back_as_answers(action in any_text(), data in any_json()) {
            let request = json!({"actioncode": action, "data": data}).to_string();
            let message = text(request.as_bytes()).unwrap();
            prop_assert_eq!(&message.key, &Key::from(&*action));
            let answer = answer(message.correlation.as_deref().unwrap(), Ok(message.body));
            let want = json!({"code": 0, "msg": "", "data": data, "actioncode": action});
            prop_assert_eq!(parsed(&answer), want);
        }

        #[test]
        fn pushes_come_back_as_they_were(key in any_text(), data in any_json()) {
            let data = data.to_string();
            let payload = push(Some(&key), Body::Json(&data));
            let message = text(payload.as_bytes()).unwrap();
            prop_assert_eq!((message.key, message.body), (Key::from(&*key), Body::Json(&data)));
        }

        #[test]
        fn bodies_of_any_form_are_json(words in any_text(), bytes: Vec<u8>) {
            prop_assert_eq!(&parsed(&push(None, Body::Text(&words)))["data"], &json!(words));
            let base64 = data_encoding::BASE64.encode(&bytes);
            prop_assert_eq!(&parsed(&push(None, Body::Binary(&bytes)))["data"], &json!(base64));
        }

        #[test]
        fn nothing_panics(kind in any_kind(), bytes: Vec<u8>, broken in broken(REQUEST)) {
            let _ = decode(kind, &bytes);
            let _ = decode(kind, &broken);
        }
    }
}
