//! The gateway's own JSON, with names of members to choose.
//!
//! | message | layout |
//! |---|---|
//! | request | `{"route":…,"id":…,"body":…}` |
//! | its answer | `{"id":…,"body":…}` or `{"id":…,"error":{"code":…,"message":…}}` |
//! | publish in a room | `{"event":"publish","room":…,"from":…,"data":…}` |
//! | push to a connection | `{"event":"push","data":…}` |
//! | ask | `{"event":"ask","ask":…,"route":…,"data":…}` |
//! | a client's answer to it | `{"answer":…,"body":…}` or `{"answer":…,"error":…}` |
//!
//! Ids and bodies pass as raw text: they are checked to be JSON and otherwise left as they came.
//! A message without an id is answered with `"id":null`. A push with a key has it in place of the
//! word in `event`.
//!
//! The key says that a message is a request; one without a key, but with `answer`, is an answer.
//! A member that has a name here may stand once, and others are passed over; arrays are no objects.
//! What is none of this gets error 400.
//!
//! With a [`Selector`], that finds the key, wherever it is, and a member `route` means nothing.
//! Objects without a key, other text and binary messages are then no errors: they go to the default
//! route, as their own bodies; an answer is welcome (its id is `null`), but none is owed.

mod fields;
mod parse;
#[cfg(test)]
mod tests;
pub(super) mod text;

use std::borrow::Cow;
use std::fmt;
use std::io::Write as _;

use serde_json::value::RawValue;

use self::parse::{Members, MembersOf};
use self::text::{Text, Writer, ask_id, is_json, put_error, put_string, read_seed};
use super::message::{Ask, Body, ErrorAnswer, Key, Kind, Message, NotUnderstood, Push};
use super::meta::Meta;
use super::select::Selector;
use crate::protocol::MessageKind;

pub use self::fields::{AnswerFields, AskFields, FieldName, PushFields, RequestFields};

/// The gateway's own JSON, with its field names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JsonDialect {
    /// Where the key stands, if not in `request.route`.
    pub selector: Option<Selector>,
    /// Names in requests.
    pub request: RequestFields,
    /// Names in answers.
    pub answer: AnswerFields,
    /// Names in what is sent without being asked for.
    pub push: PushFields,
    /// Names in what the gateway asks, and in clients' answers.
    pub ask: AskFields,
}

impl JsonDialect {
    pub(super) fn decode<'a>(
        &self,
        kind: MessageKind,
        payload: &'a [u8],
    ) -> Result<Message<'a>, NotUnderstood<'a>> {
        if self.selector.is_some() {
            return self.decode_selected(kind, payload);
        }
        if kind == MessageKind::Binary {
            return Err(bad_request(None, &JsonError::Binary));
        }
        let text = simdutf8::basic::from_utf8(payload)
            .map_err(|_| bad_request(None, &JsonError::NotUtf8))?;
        if !begins_object(text) {
            return Err(bad_request(None, &JsonError::NoObject { form: self.form() }));
        }
        let mut members = read_seed(text, MembersOf(self))
            .map_err(|error| bad_request(None, &self.malformed(error)))?;
        match (members.route.take(), members.answer) {
            (Some(Text(key)), _) => Ok(self.request(Key::Name(key), &members, text)),
            (None, Some(to)) => Ok(self.response(to, &members, text)),
            (None, None) => {
                let field = self.request.route.to_string();
                Err(bad_request(Some(id_of(&members)), &JsonError::NoRoute { field }))
            }
        }
    }

    fn decode_selected<'a>(
        &self,
        kind: MessageKind,
        payload: &'a [u8],
    ) -> Result<Message<'a>, NotUnderstood<'a>> {
        let text = match kind {
            MessageKind::Text => simdutf8::basic::from_utf8(payload).ok(),
            MessageKind::Binary => None,
        };
        let Some(text) = text else { return Ok(unmatched(Body::Binary(payload))) };
        let members = match read_seed(text, MembersOf(self)) {
            Ok(members) => members,
            // Only here is it an object, though none that this dialect takes.
            Err(error) if begins_object(text) && error.is_data() && is_json(text) => {
                return Err(bad_request(None, &self.malformed(error)));
            }
            Err(_) if is_json(text) => return Ok(unmatched(Body::Json(text))),
            Err(_) => return Ok(unmatched(Body::Text(text))),
        };
        let key = self.selector.as_ref().and_then(|selector| selector.select(text));
        Ok(match (key, members.answer) {
            (Some(key), _) => self.request(Key::Name(key), &members, text),
            (None, Some(to)) => self.response(to, &members, text),
            (None, None) => Message { meta: Meta::of_json(text), ..unmatched(Body::Json(text)) },
        })
    }

    #[inline]
    fn request<'a>(&self, key: Key<'a>, members: &Members<'a>, text: &'a str) -> Message<'a> {
        let correlation = Cow::Borrowed(id_of(members));
        let message = Message::request(key, correlation, self.body(members, text));
        Message { meta: Meta::of_json(text), ..message }
    }

    fn response<'a>(&self, to: &RawValue, members: &Members<'a>, text: &'a str) -> Message<'a> {
        let to = ask_id(to.get().parse().unwrap_or(0));
        let (failed, body) = match members.error {
            Some(error) => (true, Body::Json(error.get())),
            None => (false, self.body(members, text)),
        };
        let kind = Kind::Response { to, failed };
        Message { kind, meta: Meta::of_json(text), ..Message::push(Key::NONE, body) }
    }

    #[inline]
    fn body<'a>(&self, members: &Members<'a>, text: &'a str) -> Body<'a> {
        if self.request.body.as_str().is_empty() {
            return Body::Json(text);
        }
        Body::Json(members.body.map_or("null", RawValue::get))
    }

    fn malformed(&self, error: serde_json::Error) -> JsonError {
        JsonError::Malformed { form: self.form(), error }
    }

    /// A request, for people.
    fn form(&self) -> String {
        let mut form = Vec::new();
        let mut writer = Writer::new(&mut form);
        let RequestFields { route, id, body } = &self.request;
        let route = if self.selector.is_none() { route } else { &FieldName::fixed("", "\"\":") };
        [route, id, body].iter().for_each(|name| writer.json(name, "…".as_bytes()));
        writer.end();
        String::from_utf8(form).expect("names and JSON are UTF-8")
    }

    #[inline]
    pub(super) fn encode_answer(
        &self,
        out: &mut Vec<u8>,
        correlation: Option<&[u8]>,
        answer: Result<Body<'_>, &ErrorAnswer<'_>>,
    ) -> MessageKind {
        let mut writer = Writer::new(out);
        let id = correlation.filter(|id| !id.is_empty()).unwrap_or(b"null");
        writer.json(&self.answer.id, id);
        match answer {
            Ok(body) => writer.body(&self.answer.body, body),
            Err(error) => {
                if let Some(out) = writer.member(&self.answer.error) {
                    put_error(out, error);
                }
            }
        }
        writer.end();
        MessageKind::Text
    }

    #[inline]
    pub(super) fn encode_push(&self, out: &mut Vec<u8>, push: &Push<'_>) -> MessageKind {
        let mut writer = Writer::new(out);
        let word = if push.room.is_some() { "publish" } else { "push" };
        writer.string(&self.push.event, push.key.unwrap_or(word));
        if let Some(room) = push.room {
            writer.string(&self.push.room, room);
            match push.from {
                Some(id) => writer.string(&self.push.from, id),
                None => writer.json(&self.push.from, b"null"),
            }
        }
        writer.body(&self.push.data, push.body);
        writer.end();
        MessageKind::Text
    }

    pub(super) fn encode_ask(&self, out: &mut Vec<u8>, ask: &Ask<'_>) -> MessageKind {
        let mut writer = Writer::new(out);
        writer.string(&self.push.event, "ask");
        if let Some(out) = writer.member(&self.ask.ask) {
            let _ = write!(out, "{}", ask.id);
        }
        if let Some(out) = writer.member(&self.ask.route) {
            put_string(out, ask.key);
        }
        writer.body(&self.push.data, ask.body);
        writer.end();
        MessageKind::Text
    }
}

/// Why a payload is no request of this dialect.
#[derive(Debug)]
pub enum JsonError {
    /// A binary message.
    Binary,
    /// Text that is no UTF-8.
    NotUtf8,
    /// Not an object.
    NoObject {
        /// What was expected.
        form: String,
    },
    /// Not JSON, or not an object of this form.
    Malformed {
        /// What was expected.
        form: String,
        /// What there is instead, and where.
        error: serde_json::Error,
    },
    /// No route.
    NoRoute {
        /// What the member is called.
        field: String,
    },
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Binary => f.write_str("expected a text message, got a binary one"),
            Self::NotUtf8 => f.write_str("expected text in UTF-8"),
            Self::NoObject { form } => write!(f, "expected an object {form}"),
            Self::Malformed { form, error } => write!(f, "expected {form}: {error}"),
            Self::NoRoute { field } => {
                write!(f, "missing field `{field}`: the name of what is asked for")
            }
        }
    }
}

#[inline]
fn begins_object(text: &str) -> bool {
    text.trim_ascii_start().starts_with('{')
}

#[inline]
fn id_of<'a>(members: &Members<'a>) -> &'a [u8] {
    members.id.map_or("null", RawValue::get).as_bytes()
}

/// What goes to the default route as its own body.
fn unmatched(body: Body<'_>) -> Message<'_> {
    Message { correlation: Some(Cow::Borrowed(b"")), ..Message::push(Key::NONE, body) }
}

fn bad_request<'a>(correlation: Option<&'a [u8]>, error: &JsonError) -> NotUnderstood<'a> {
    NotUnderstood::bad_request(correlation.map(Cow::Borrowed), error.to_string())
}
