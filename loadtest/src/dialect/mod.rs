//! How a family of servers is spoken to: the envelope around what a command says, and around what
//! comes back.
//!
//! Invariants:
//! - No line of it is the gateway's: the layouts were written down from descriptions of the systems
//!   whose clients this program plays, so that a bug cannot cancel itself out between the two ends.
//! - Any message is heard as something, or refused by a reason; nothing panics.
//! - A question carries a [`Ticket`] where the dialect has a place for one, and so must its answer.
//!   Where there is none (`action`, `event`), answers are told by their body alone.
//! - The same question is always the same bytes.

mod action;
mod event;
mod hub;
mod json;
pub(crate) mod kim;
mod mef;
pub(crate) mod protobuf;
mod text;

use std::borrow::Cow;

use clap::ValueEnum;
use tungstenite::{Bytes, Message, Utf8Bytes};

use crate::payload::token;

/// What is said where another type of message is due.
pub(crate) const OTHER_TYPE: &str = "of the other type (text or binary)";

/// How a server is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Dialect {
    /// Messages as they are, without any envelope
    Raw,
    /// {"route":"…","id":1,"body":…}, answered by {"id":1,"body":…}
    Json,
    /// JSON with header, router and content; an answer has the request's id as parentId
    Mef,
    /// {"actioncode":"…","data":…}, answered by {"code":0,"msg":"","data":…,"actioncode":"…"}
    Action,
    /// {"name":"…","message":…} both ways
    Event,
    /// Binary packets with a protobuf header; an answer has the request's sequence
    Kim,
    /// Binary packets with a protocol number; an answer has the request's serial number
    Hub,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// The body, back.
    Echo,
    /// To become a member of the room that the body names.
    Join,
    /// To tell all members of a room what is in the body.
    Publish,
}

/// What is said.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Body<'a> {
    /// Any bytes; in dialects of JSON a string, and then they must be UTF-8.
    Data(&'a [u8]),
    /// JSON: part of the envelope where that is JSON too, else the bytes of its text.
    Json(&'a str),
}

/// What tells the answer to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ticket {
    /// Nothing: the dialect has no place for it.
    None,
    /// A number.
    Number(u32),
    /// A UUID of version 4, as text.
    Uuid([u8; 36]),
}

/// A message of the server, out of its envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Heard<'a> {
    /// What it is to the conversation.
    pub(crate) kind: Kind,
    /// What tells the question that it answers.
    pub(crate) ticket: Given<'a>,
    /// What it says it is about.
    pub(crate) key: Key<'a>,
    /// The room it says it comes from, where the dialect has a place for that.
    pub(crate) room: Option<Cow<'a, str>>,
    /// What it says; of a JSON string its characters, of any other JSON its text.
    pub(crate) body: Cow<'a, [u8]>,
}

/// What a message is to the conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It answers a question.
    Answer,
    /// It says that what was asked could not be done.
    Refusal,
    /// It comes without having been asked for.
    Push,
    /// An answer or a push: this dialect does not tell them apart.
    Either,
    /// The server asks something itself.
    Question,
}

/// The ticket that a message came with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Given<'a> {
    /// None.
    None,
    /// A number.
    Number(u64),
    /// A text.
    Text(Cow<'a, str>),
}

/// What a message says it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Key<'a> {
    /// It does not say.
    None,
    /// A name.
    Name(Cow<'a, str>),
    /// A number.
    Number(u32),
}

impl Dialect {
    /// What it is called.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Json => "json",
            Self::Mef => "mef",
            Self::Action => "action",
            Self::Event => "event",
            Self::Kim => "kim",
            Self::Hub => "hub",
        }
    }

    /// Where the gateway speaks it, if it is told nothing else.
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Raw => "echo",
            Self::Json => "ws",
            other => other.name(),
        }
    }

    /// Whether its messages are JSON, so that bodies must be text.
    pub(crate) fn is_json(self) -> bool {
        matches!(self, Self::Json | Self::Mef | Self::Action | Self::Event)
    }

    /// The ticket of question number `number` of a connection.
    pub(crate) fn ticket(self, connection: u32, number: u32) -> Ticket {
        match self {
            Self::Raw | Self::Action | Self::Event => Ticket::None,
            Self::Json | Self::Kim => Ticket::Number(number.wrapping_add(1)),
            Self::Hub => Ticket::Number(hub::serial(number)),
            Self::Mef => Ticket::Uuid(uuid(connection, number)),
        }
    }

    /// A question.
    pub(crate) fn ask(self, route: Route, ticket: &Ticket, body: Body<'_>) -> Message {
        let mut out = Vec::with_capacity(body.len() + text::ENVELOPE);
        match self {
            Self::Raw => out.extend_from_slice(body.bytes()),
            Self::Json => json::put_request(&mut out, route.name(), ticket, body),
            Self::Mef => mef::put_request(&mut out, mef::key(route), ticket, body),
            Self::Action => action::put_request(&mut out, route.name(), body),
            Self::Event => event::put_request(&mut out, route.name(), body),
            Self::Kim => kim::put_request(&mut out, route.name(), ticket, body.bytes()),
            Self::Hub => hub::put_request(&mut out, hub::protocol(route), ticket, body.bytes()),
        }
        match self.is_json() {
            true => Message::Text(utf8(out)),
            false => Message::Binary(Bytes::from(out)),
        }
    }

    /// What a data message of the server says, or what is wrong with it.
    pub(crate) fn hear<'a>(self, message: &'a Message) -> Result<Heard<'a>, &'static str> {
        match (self, message) {
            (Self::Json, Message::Text(text)) => json::hear(text),
            (Self::Mef, Message::Text(text)) => mef::hear(text),
            (Self::Action, Message::Text(text)) => action::hear(text),
            (Self::Event, Message::Text(text)) => event::hear(text),
            (Self::Kim, Message::Binary(bytes)) => kim::hear(bytes),
            (Self::Hub, Message::Binary(bytes)) => hub::hear(bytes),
            (Self::Raw, Message::Text(text)) => Ok(Heard::raw(text.as_bytes())),
            (Self::Raw, Message::Binary(bytes)) => Ok(Heard::raw(bytes)),
            _ => Err(OTHER_TYPE),
        }
    }

    /// What is wrong with a message as the answer to a question for `route`, the ticket and the body
    /// aside.
    pub(crate) fn misanswers(self, route: Route, heard: &Heard<'_>) -> Option<&'static str> {
        // An answer of `mef` has the router of its request: the option is the name, as it happens.
        let named = match (self, &heard.key) {
            (Self::Raw | Self::Json, _) => true,
            (Self::Hub, key) => *key == Key::Number(hub::protocol(route)),
            (_, Key::Name(name)) => name == route.name(),
            _ => false,
        };
        match heard.kind {
            Kind::Refusal => Some("that refuses"),
            Kind::Push => Some("that is a push"),
            Kind::Question => Some("that is a question"),
            Kind::Answer | Kind::Either if !named => Some("to another route"),
            Kind::Answer | Kind::Either => None,
        }
    }

    /// Whether a message is enveloped as a delivery from `room` must be.
    pub(crate) fn delivers(self, heard: &Heard<'_>, room: &str) -> bool {
        let room = match self {
            Self::Json | Self::Mef => heard.room.as_deref() == Some(room),
            _ => true,
        };
        let key = match (self, &heard.key) {
            (Self::Hub, key) => *key == Key::Number(hub::PUSH),
            (Self::Json | Self::Mef | Self::Action, Key::Name(name)) => name == "publish",
            (Self::Event, Key::Name(name)) => name == "message",
            (Self::Kim, Key::Name(name)) => name == "chat.room.push",
            _ => false,
        };
        room && key && matches!(heard.kind, Kind::Push | Kind::Either)
    }
}

impl Route {
    /// What it is called where routes have names.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Join => "join",
            Self::Publish => "publish",
        }
    }
}

impl<'a> Body<'a> {
    fn bytes(&self) -> &'a [u8] {
        match self {
            Self::Data(bytes) => bytes,
            Self::Json(text) => text.as_bytes(),
        }
    }

    fn len(&self) -> usize {
        self.bytes().len()
    }
}

impl Ticket {
    /// Whether this is the one that a message came with.
    pub(crate) fn is(&self, given: &Given<'_>) -> bool {
        match (self, given) {
            (Self::None, Given::None) => true,
            (Self::Number(number), Given::Number(given)) => u64::from(*number) == *given,
            (Self::Uuid(uuid), Given::Text(given)) => uuid == given.as_bytes(),
            _ => false,
        }
    }

    /// The number; 0 where it is none.
    fn number(&self) -> u32 {
        match self {
            Self::Number(number) => *number,
            _ => 0,
        }
    }
}

impl<'a> Heard<'a> {
    fn raw(bytes: &'a [u8]) -> Self {
        let body = Cow::Borrowed(bytes);
        Self { kind: Kind::Either, ticket: Given::None, key: Key::None, room: None, body }
    }
}

fn utf8(text: Vec<u8>) -> Utf8Bytes {
    Utf8Bytes::try_from(Bytes::from(text)).expect("JSON of text is UTF-8")
}

/// A UUID that differs for every connection and number.
fn uuid(connection: u32, number: u32) -> [u8; 36] {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let halves = [token(5, connection, number), token(6, connection, number)];
    let mut digits = halves.into_iter().flat_map(|half| (0..16).map(move |at| half >> (4 * at)));
    std::array::from_fn(|at| match at {
        8 | 13 | 18 | 23 => b'-',
        _ => {
            let digit = digits.next().map_or(0, |bits| bits as usize & 0xf);
            match at {
                14 => b'4',
                19 => HEX[8 | digit & 3],
                _ => HEX[digit],
            }
        }
    })
}

#[cfg(test)]
mod tests;
