//! How a family of clients speaks: frame payload ↔ [`Message`].
//!
//! Invariants:
//! - decoding borrows from the batch and copies no body;
//! - any bytes give a message, the dialect's own error, or its close; never a panic;
//! - built-in dialects are variants of an enum; `dyn` is for library users' own only;
//! - a panic of a custom dialect is caught here: it never reaches a loop or worker, and nothing of
//!   what it had encoded goes out.

mod action;
mod class;
mod custom;
mod displaced;
mod event;
mod hub;
mod json;
mod kim;
mod login;
mod mef;
mod message;
mod meta;
mod raw;
mod select;
mod sniff;

use std::fmt;
use std::sync::Arc;

use crate::protocol::{Framing, MessageKind, SERVER_HEADER_MAX, TcpFraming};

pub use class::Class;
pub use custom::CustomDialect;
pub use displaced::Displaced;
pub use json::{
    AnswerFields, AskFields, FieldName, JsonDialect, JsonError, PushFields, RequestFields,
};
pub(crate) use login::{LoginRequest, LoginResponse};
pub use message::{
    Ask, AskId, Body, Content, ErrorAnswer, Key, Kind, Message, NotUnderstood, Push,
};
pub use meta::{Meta, Target};
pub use select::{Selector, SelectorError};
pub use sniff::{Family, sniff};

/// A way of speaking, chosen per endpoint.
#[expect(clippy::large_enum_variant, reason = "an endpoint has one, and it stays where it is")]
#[derive(Clone)]
pub enum Dialect {
    /// Messages as they are: no key, no correlation; an answer is a message of the same kind.
    Raw,
    /// The gateway's own JSON; field names and what the route is are configuration.
    Json(JsonDialect),
    /// System A: JSON with header, router and content.
    Mef,
    /// System B: JSON with `actioncode`.
    Action,
    /// System C: JSON events with `name` and `message`, and plain-text commands.
    Event,
    /// System D: binary packets with a protobuf header.
    Kim,
    /// System E: binary packets with a protocol number and a serial number.
    Hub,
    /// A library user's own.
    Custom(Arc<dyn CustomDialect>),
}

impl fmt::Debug for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Dialect {
    /// System D's status of a packet whose command may not come now.
    pub(crate) const KIM_INVALID_COMMAND: u16 = 103;

    /// What it is called in configuration.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Json(_) => "json",
            Self::Mef => "mef",
            Self::Action => "action",
            Self::Event => "event",
            Self::Kim => "kim",
            Self::Hub => "hub",
            Self::Custom(_) => "custom",
        }
    }

    /// How messages stand in a stream over plain TCP: in the framing that is asked for, or else by
    /// lengths alone for `json` and `hub`, whose messages are all of one kind, and with opcodes for others.
    #[must_use]
    pub fn framing_over_tcp(&self, asked: Option<TcpFraming>) -> Framing {
        let own = match self {
            Self::Json(_) | Self::Hub => TcpFraming::U32,
            _ => TcpFraming::Opcode,
        };
        asked.unwrap_or(own).of(match self {
            Self::Json(_) | Self::Mef | Self::Action | Self::Event => MessageKind::Text,
            Self::Raw | Self::Kim | Self::Hub | Self::Custom(_) => MessageKind::Binary,
        })
    }

    /// Whether members of both get the same bytes.
    #[must_use]
    pub fn is_same_as(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Json(a), Self::Json(b)) => a == b,
            (Self::Custom(_), _) => false,
            (a, b) => a.name() == b.name(),
        }
    }

    /// Whether an answer to what the gateway asked is also routed by its key.
    #[inline]
    #[must_use]
    pub fn routes_responses(&self) -> bool {
        matches!(self, Self::Hub)
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
        // The floor that others are measured against: nothing but a look at the kind.
        if let Self::Raw = self {
            Ok(raw::decode(kind, payload))
        } else {
            self.parse(kind, payload)
        }
    }

    fn parse<'a>(
        &self,
        kind: MessageKind,
        payload: &'a [u8],
    ) -> Result<Message<'a>, NotUnderstood<'a>> {
        match self {
            Self::Raw => Ok(raw::decode(kind, payload)),
            Self::Json(dialect) => dialect.decode(kind, payload),
            Self::Mef => mef::decode(kind, payload),
            Self::Action => action::decode(kind, payload),
            Self::Event => event::decode(kind, payload),
            Self::Kim => kim::decode(kind, payload),
            Self::Hub => hub::decode(kind, payload),
            Self::Custom(dialect) => custom::decode_custom(&**dialect, kind, payload),
        }
    }

    /// Appends the frame of an answer; nothing if a custom dialect fails to encode it.
    #[inline]
    pub fn put_answer(
        &self,
        framing: Framing,
        out: &mut Vec<u8>,
        correlation: Option<&[u8]>,
        answer: Result<Body<'_>, &ErrorAnswer<'_>>,
    ) {
        let encode = match self {
            Self::Raw => return raw::put_answer(framing, out, answer),
            Self::Custom(dialect) => {
                return custom::put_custom_answer(&**dialect, framing, out, correlation, answer);
            }
            Self::Json(dialect) => {
                return put_encoded(framing, out, |payload| {
                    dialect.encode_answer(payload, correlation, answer)
                });
            }
            Self::Mef => mef::encode_answer,
            Self::Action => action::encode_answer,
            Self::Event => event::encode_answer,
            Self::Kim => kim::encode_answer,
            Self::Hub => hub::encode_answer,
        };
        put_encoded(framing, out, |payload| encode(payload, correlation, answer));
    }

    /// Appends the frame of what is sent without being asked for. `false`: a custom dialect failed
    /// to encode it, and nothing was appended.
    #[must_use]
    pub fn put_push(&self, framing: Framing, out: &mut Vec<u8>, push: &Push<'_>) -> bool {
        let encode = match self {
            Self::Raw => {
                raw::put(framing, out, push.body);
                return true;
            }
            Self::Custom(dialect) => {
                return custom::put_custom(framing, out, |payload| {
                    Some(dialect.encode_push(payload, push))
                });
            }
            Self::Json(dialect) => {
                put_encoded(framing, out, |payload| dialect.encode_push(payload, push));
                return true;
            }
            Self::Mef => mef::encode_push,
            Self::Action => action::encode_push,
            Self::Event => event::encode_push,
            Self::Kim => kim::encode_push,
            Self::Hub => hub::encode_push,
        };
        put_encoded(framing, out, |payload| encode(payload, push));
        true
    }

    /// Appends the frame of what the gateway asks a client. `false`: the dialect has no way to ask
    /// or a custom one failed, and nothing was appended.
    #[must_use]
    pub fn put_ask(&self, framing: Framing, out: &mut Vec<u8>, ask: &Ask<'_>) -> bool {
        let encode = match self {
            Self::Raw | Self::Action | Self::Event => return false,
            Self::Custom(dialect) => {
                return custom::put_custom(framing, out, |payload| {
                    dialect.encode_ask(payload, ask)
                });
            }
            Self::Json(dialect) => {
                put_encoded(framing, out, |payload| dialect.encode_ask(payload, ask));
                return true;
            }
            Self::Mef => mef::encode_ask,
            Self::Kim => kim::encode_ask,
            Self::Hub => hub::encode_ask,
        };
        put_encoded(framing, out, |payload| encode(payload, ask));
        true
    }
}

/// Appends a frame whose payload's length is known only once it is written: the payload goes
/// behind room for the longest header and moves down over what the header left.
#[inline]
fn put_encoded(
    framing: Framing,
    out: &mut Vec<u8>,
    encode: impl FnOnce(&mut Vec<u8>) -> MessageKind,
) {
    let at = out.len();
    out.extend_from_slice(&[0; SERVER_HEADER_MAX]);
    let kind = encode(out);
    let payload_len = out.len() - at - SERVER_HEADER_MAX;
    let mut header = [0; SERVER_HEADER_MAX];
    let header_len = framing.encode_header(&mut header, kind.opcode(), payload_len);
    out.copy_within(at + SERVER_HEADER_MAX.., at + header_len);
    out[at..at + header_len].copy_from_slice(&header[..header_len]);
    out.truncate(at + header_len + payload_len);
}
