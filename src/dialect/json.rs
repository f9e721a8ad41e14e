//! The gateway's own JSON: `{"route":…,"id":…,"body":…}` → `{"id":…,"body":…}` or
//! `{"id":…,"error":{"code":…,"message":…}}`; unasked, `{"event":"publish"|"push",…}`.
//!
//! Ids and bodies pass as raw text: they are checked to be JSON and otherwise left as they came.
//! A message without an id is answered with `"id":null`.

use std::borrow::Cow;
use std::fmt;
use std::io::Write as _;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::message::{Ask, Body, ErrorAnswer, Key, Message, NotUnderstood, Push};
use crate::protocol::MessageKind;

/// The gateway's own JSON, with its field names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JsonDialect {}

impl JsonDialect {
    pub(super) fn decode<'a>(
        &self,
        kind: MessageKind,
        payload: &'a [u8],
    ) -> Result<Message<'a>, NotUnderstood<'a>> {
        decode(kind, payload)
    }

    pub(super) fn encode_answer(
        &self,
        out: &mut Vec<u8>,
        correlation: Option<&[u8]>,
        answer: Result<Body<'_>, &ErrorAnswer<'_>>,
    ) -> MessageKind {
        encode_answer(out, correlation, answer);
        MessageKind::Text
    }

    pub(super) fn encode_push(&self, out: &mut Vec<u8>, push: &Push<'_>) -> MessageKind {
        encode_push(out, push);
        MessageKind::Text
    }

    pub(super) fn encode_ask(&self, _: &mut Vec<u8>, _: &Ask<'_>) -> MessageKind {
        MessageKind::Text
    }
}

#[derive(Deserialize)]
struct Request<'a> {
    #[serde(borrow)]
    route: Option<Cow<'a, str>>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    body: Option<&'a RawValue>,
}

/// Why a payload is no request of this dialect.
#[derive(Debug)]
pub enum JsonError {
    /// A binary message.
    Binary,
    /// Not an object.
    NoObject,
    /// Not JSON, or not an object of this form.
    Malformed(serde_json::Error),
    /// No `route`.
    NoRoute,
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Binary => f.write_str("expected a text message, got a binary one"),
            Self::NoObject => f.write_str(r#"expected an object {"route":…,"id":…,"body":…}"#),
            Self::Malformed(e) => write!(f, "expected {{\"route\":…,\"id\":…,\"body\":…}}: {e}"),
            Self::NoRoute => f.write_str("missing field `route`: the name of what is asked for"),
        }
    }
}

fn decode(kind: MessageKind, payload: &[u8]) -> Result<Message<'_>, NotUnderstood<'_>> {
    if matches!(kind, MessageKind::Binary) {
        return Err(bad_request(None, &JsonError::Binary));
    }
    // A derived struct would also be read from an array, by position.
    if payload.trim_ascii_start().first() != Some(&b'{') {
        return Err(bad_request(None, &JsonError::NoObject));
    }
    let request: Request<'_> =
        serde_json::from_slice(payload).map_err(|e| bad_request(None, &JsonError::Malformed(e)))?;
    let correlation = Some(request.id.map_or(&b"null"[..], |id| id.get().as_bytes()));
    let Some(key) = request.route else {
        return Err(bad_request(correlation, &JsonError::NoRoute));
    };
    let body = Body::Json(request.body.map_or("null", RawValue::get));
    let correlation = Cow::Borrowed(correlation.unwrap_or(b"null"));
    Ok(Message::request(Key::Name(key), correlation, body))
}

fn bad_request<'a>(correlation: Option<&'a [u8]>, error: &JsonError) -> NotUnderstood<'a> {
    NotUnderstood::bad_request(correlation.map(Cow::Borrowed), error.to_string())
}

fn encode_answer(
    out: &mut Vec<u8>,
    correlation: Option<&[u8]>,
    answer: Result<Body<'_>, &ErrorAnswer<'_>>,
) {
    out.extend_from_slice(b"{\"id\":");
    out.extend_from_slice(correlation.filter(|id| !id.is_empty()).unwrap_or(b"null"));
    match answer {
        Ok(body) => {
            out.extend_from_slice(b",\"body\":");
            put_body(out, body);
        }
        Err(error) => {
            let _ = write!(out, ",\"error\":{{\"code\":{},\"message\":", error.code);
            put_string(out, &error.message);
            out.push(b'}');
        }
    }
    out.push(b'}');
}

fn encode_push(out: &mut Vec<u8>, push: &Push<'_>) {
    match push.room {
        Some(room) => {
            out.extend_from_slice(b"{\"event\":\"publish\",\"room\":");
            put_string(out, room);
            out.extend_from_slice(b",\"from\":");
            match push.from {
                Some(id) => put_string(out, id),
                None => out.extend_from_slice(b"null"),
            }
        }
        None => out.extend_from_slice(b"{\"event\":\"push\""),
    }
    out.extend_from_slice(b",\"data\":");
    put_body(out, push.body);
    out.push(b'}');
}

/// JSON as it is, text as a string, bytes as a string in base64.
fn put_body(out: &mut Vec<u8>, body: Body<'_>) {
    match body {
        Body::Json(text) => out.extend_from_slice(text.as_bytes()),
        Body::Text(text) => put_string(out, text),
        Body::Binary(bytes) => {
            out.push(b'"');
            out.extend_from_slice(data_encoding::BASE64.encode(bytes).as_bytes());
            out.push(b'"');
        }
    }
}

fn put_string(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(&mut *out, text).expect("a string is JSON, and a Vec takes every write");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(id: Option<&[u8]>, answer: Result<Body<'_>, &ErrorAnswer<'_>>) -> String {
        let mut out = Vec::new();
        encode_answer(&mut out, id, answer);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn ids_and_bodies_pass_as_they_came() {
        let text = br#"{"id": 18446744073709551616.10, "body":{"b" : 1e2,"a":[ ]}, "route":"x"}"#;
        let message = decode(MessageKind::Text, text).unwrap();
        assert_eq!(message.key, "x");
        assert_eq!(message.correlation.as_deref(), Some(&b"18446744073709551616.10"[..]));
        assert_eq!(message.body, Body::Json(r#"{"b" : 1e2,"a":[ ]}"#));
        assert_eq!(
            answer(message.correlation.as_deref(), Ok(message.body)),
            r#"{"id":18446744073709551616.10,"body":{"b" : 1e2,"a":[ ]}}"#
        );
    }

    #[test]
    fn escaped_routes_are_understood() {
        let message = decode(MessageKind::Text, br#"{"route":"e\u0063ho"}"#).unwrap();
        assert_eq!(message.key, "echo");
        assert_eq!(message.correlation.as_deref(), Some(&b"null"[..]));
        assert_eq!(message.body, Body::Json("null"));
    }

    #[test]
    fn what_is_not_understood_says_why() {
        for (payload, id, want) in [
            (&b"hello"[..], None, "expected an object {"),
            (b"[\"echo\",1,{}]", None, "expected an object {"),
            (br#"{"id":7}"#, Some(&b"7"[..]), "missing field `route`"),
            (br#"{"id":7,"route":"a""#, None, "EOF"),
        ] {
            let error = decode(MessageKind::Text, payload).unwrap_err();
            let NotUnderstood::Answer { correlation, answer } = error else { panic!("{error:?}") };
            assert_eq!((correlation.as_deref(), answer.code), (id, 400));
            assert!(answer.message.contains(want), "{}", answer.message);
        }
        assert!(decode(MessageKind::Binary, b"{}").is_err());
    }

    #[test]
    fn strings_are_escaped_and_bytes_are_base64() {
        assert_eq!(answer(None, Ok(Body::Text("a\"\n"))), r#"{"id":null,"body":"a\"\n"}"#);
        assert_eq!(answer(Some(b"1"), Ok(Body::Binary(b"\0\xff"))), r#"{"id":1,"body":"AP8="}"#);
        let error = ErrorAnswer { code: 404, message: "no route `x\"`".into() };
        assert_eq!(
            answer(Some(b"\"q\""), Err(&error)),
            r#"{"id":"q","error":{"code":404,"message":"no route `x\"`"}}"#
        );
    }
}
