//! How a family of clients speaks: frame payload ↔ [`Message`].
//!
//! Invariants:
//! - decoding borrows from the batch and copies no body;
//! - any bytes give a message or the dialect's own error, never a panic;
//! - built-in dialects are variants of an enum; `dyn` is for library users' own only;
//! - a panic of a custom dialect is caught here: it never reaches a loop or worker, and nothing of
//!   what it had encoded goes out.

mod json;

use std::borrow::Cow;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::protocol::{MessageKind, OpCode, put_frame};

pub use json::JsonError;

/// A decoded message of a client.
#[derive(Clone, Debug)]
pub struct Message<'a> {
    /// What the route table is asked for. Empty in dialects without routes.
    pub key: Cow<'a, str>,
    /// What the answer must carry to be matched with this message, in the dialect's own bytes;
    /// `None` where the sender expects no answer.
    pub correlation: Option<&'a [u8]>,
    /// What it says.
    pub body: Body<'a>,
}

/// What a message says, in a form that every dialect can carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body<'a> {
    /// Valid JSON text.
    Json(&'a str),
    /// Any text.
    Text(&'a str),
    /// Any bytes.
    Binary(&'a [u8]),
}

impl<'a> Body<'a> {
    /// The bytes, whatever their form.
    #[inline]
    #[must_use]
    pub fn as_bytes(&self) -> &'a [u8] {
        match self {
            Self::Json(text) | Self::Text(text) => text.as_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }

    /// The text, unless it is binary.
    #[must_use]
    pub fn as_str(&self) -> Option<&'a str> {
        match self {
            Self::Json(text) | Self::Text(text) => Some(text),
            Self::Binary(_) => None,
        }
    }

    /// Reads it as JSON, whatever its form.
    ///
    /// # Errors
    /// Why it is no JSON, or none of this shape.
    pub fn parse<T: serde::Deserialize<'a>>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(self.as_bytes())
    }
}

impl<'a> From<&'a str> for Body<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text)
    }
}

impl<'a> From<&'a [u8]> for Body<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::Binary(bytes)
    }
}

/// An error answer: a code of the project's and a sentence for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorAnswer<'a> {
    /// One of a small set of stable codes, HTTP's where one fits: 400, 403, 404, 500, 503.
    pub code: u16,
    /// What went wrong.
    pub message: Cow<'a, str>,
}

/// A way of speaking, chosen per endpoint.
pub enum Dialect {
    /// Messages as they are: no key, no correlation; an answer is a message of the same kind.
    Raw,
    /// JSON text `{"route":…,"id":…,"body":…}`.
    Json,
    /// A library user's own.
    Custom(Box<dyn CustomDialect>),
}

impl fmt::Debug for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Raw => "Raw",
            Self::Json => "Json",
            Self::Custom(_) => "Custom",
        })
    }
}

/// What a message could not be understood as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotUnderstood<'a> {
    /// What to match the error answer with, where that much was readable.
    pub correlation: Option<&'a [u8]>,
    /// What the sender is told.
    pub answer: ErrorAnswer<'static>,
}

/// A dialect of a library user's own.
///
/// A panic in it is caught. A message that it fails on in `decode`, or an answer in
/// `encode_answer`, becomes error 500; what cannot be encoded even so is not sent and counted as
/// `not_encoded`.
pub trait CustomDialect: Send + Sync {
    /// Payload → message.
    ///
    /// # Errors
    /// What the sender is told, in this dialect.
    fn decode<'a>(
        &self,
        kind: MessageKind,
        payload: &'a [u8],
    ) -> Result<Message<'a>, NotUnderstood<'a>>;

    /// Appends the payload of an answer and says which kind of message it goes out as.
    fn encode_answer(
        &self,
        out: &mut Vec<u8>,
        correlation: Option<&[u8]>,
        answer: Result<Body<'_>, &ErrorAnswer<'_>>,
    ) -> MessageKind;

    /// Appends the payload of what is sent without being asked for.
    fn encode_push(&self, out: &mut Vec<u8>, push: &Push<'_>) -> MessageKind;
}

/// What a client gets without having asked.
#[derive(Clone, Copy, Debug)]
pub struct Push<'a> {
    /// The room it was published to; `None` where it was addressed to the connection.
    pub room: Option<&'a str>,
    /// The public id of the publisher, if it was a client.
    pub from: Option<&'a str>,
    /// What it says.
    pub body: Body<'a>,
}

/// Everyone whose bytes for one publish are the same: dialect × framing × compression.
///
/// So far the framing is WebSocket's and nothing is compressed, which leaves the dialect. Custom
/// dialects may each differ, so each publish is encoded for them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// [`Dialect::Raw`].
    Raw = 0,
    /// [`Dialect::Json`].
    Json = 1,
}

impl Class {
    /// How many there are.
    pub const COUNT: usize = 2;
}

impl Dialect {
    /// The class of its members' frames; `None` for dialects that share with nobody.
    #[inline]
    #[must_use]
    pub fn class(&self) -> Option<Class> {
        match self {
            Self::Raw => Some(Class::Raw),
            Self::Json => Some(Class::Json),
            Self::Custom(_) => None,
        }
    }

    /// Payload → message.
    ///
    /// # Errors
    /// What the sender is told.
    #[inline]
    pub fn decode<'a>(
        &self,
        kind: MessageKind,
        payload: &'a [u8],
    ) -> Result<Message<'a>, NotUnderstood<'a>> {
        match self {
            Self::Raw => Ok(decode_raw(kind, payload)),
            Self::Json => json::decode(kind, payload),
            Self::Custom(dialect) => decode_custom(&**dialect, kind, payload),
        }
    }

    /// Appends the frame of an answer; nothing if a custom dialect fails to encode it.
    #[inline]
    pub fn put_answer(
        &self,
        out: &mut Vec<u8>,
        correlation: Option<&[u8]>,
        answer: Result<Body<'_>, &ErrorAnswer<'_>>,
    ) {
        match self {
            Self::Raw => match answer {
                Ok(body) => put_raw(out, body),
                Err(error) => put_frame(out, OpCode::Text, error.message.as_bytes()),
            },
            Self::Json => put_encoded(out, |payload| {
                json::encode_answer(payload, correlation, answer);
                MessageKind::Text
            }),
            Self::Custom(dialect) => put_custom_answer(&**dialect, out, correlation, answer),
        }
    }

    /// Appends the frame of what is sent without being asked for. `false`: a custom dialect failed
    /// to encode it, and nothing was appended.
    #[must_use]
    pub fn put_push(&self, out: &mut Vec<u8>, push: &Push<'_>) -> bool {
        match self {
            Self::Raw => put_raw(out, push.body),
            Self::Json => put_encoded(out, |payload| {
                json::encode_push(payload, push);
                MessageKind::Text
            }),
            Self::Custom(dialect) => {
                return put_custom(out, |payload| dialect.encode_push(payload, push));
            }
        }
        true
    }
}

#[inline]
fn decode_raw(kind: MessageKind, payload: &[u8]) -> Message<'_> {
    let body = match kind {
        MessageKind::Binary => Body::Binary(payload),
        // The decoder let only valid UTF-8 through; checking again costs 23 ns per 512 B and
        // spares an unsafe promise across rooms.
        MessageKind::Text => match simdutf8::basic::from_utf8(payload) {
            Ok(text) => Body::Text(text),
            Err(_) => Body::Binary(payload),
        },
    };
    Message { key: Cow::Borrowed(""), correlation: Some(b""), body }
}

#[inline]
fn put_raw(out: &mut Vec<u8>, body: Body<'_>) {
    let op = match body {
        Body::Json(_) | Body::Text(_) => OpCode::Text,
        Body::Binary(_) => OpCode::Binary,
    };
    put_frame(out, op, body.as_bytes());
}

/// Appends a frame whose payload's length is known only once it is written: the payload goes
/// behind room for the longest header and moves down over what the header left.
fn put_encoded(out: &mut Vec<u8>, encode: impl FnOnce(&mut Vec<u8>) -> MessageKind) {
    use crate::protocol::{SERVER_HEADER_MAX, encode_header};
    let at = out.len();
    out.extend_from_slice(&[0; SERVER_HEADER_MAX]);
    let kind = encode(out);
    let payload_len = out.len() - at - SERVER_HEADER_MAX;
    let mut header = [0; SERVER_HEADER_MAX];
    let header_len = encode_header(&mut header, true, kind.opcode(), payload_len as u64);
    out.copy_within(at + SERVER_HEADER_MAX.., at + header_len);
    out[at..at + header_len].copy_from_slice(&header[..header_len]);
    out.truncate(at + header_len + payload_len);
}

fn decode_custom<'a>(
    dialect: &dyn CustomDialect,
    kind: MessageKind,
    payload: &'a [u8],
) -> Result<Message<'a>, NotUnderstood<'a>> {
    catch_unwind(AssertUnwindSafe(|| dialect.decode(kind, payload))).unwrap_or_else(|_| {
        Err(NotUnderstood { correlation: None, answer: failed("the dialect failed on this") })
    })
}

fn put_custom_answer(
    dialect: &dyn CustomDialect,
    out: &mut Vec<u8>,
    correlation: Option<&[u8]>,
    answer: Result<Body<'_>, &ErrorAnswer<'_>>,
) {
    if !put_custom(out, |payload| dialect.encode_answer(payload, correlation, answer)) {
        let failed = failed("the answer could not be encoded");
        put_custom(out, |payload| dialect.encode_answer(payload, correlation, Err(&failed)));
    }
}

/// Appends a frame, or nothing if `encode` panics. The payload is apart from `out`, where other
/// clients' frames are: a dialect can't touch those.
fn put_custom(out: &mut Vec<u8>, encode: impl FnOnce(&mut Vec<u8>) -> MessageKind) -> bool {
    let mut payload = Vec::new();
    match catch_unwind(AssertUnwindSafe(|| encode(&mut payload))) {
        Ok(kind) => {
            put_frame(out, kind.opcode(), &payload);
            true
        }
        Err(_) => false,
    }
}

fn failed(message: &'static str) -> ErrorAnswer<'static> {
    ErrorAnswer { code: 500, message: message.into() }
}
