//! What a client said, and what it is told, in a form that every dialect can carry.

use std::borrow::Cow;
use std::fmt;

use super::meta::Meta;

/// A decoded message of a client.
#[derive(Clone, Debug)]
pub struct Message<'a> {
    /// What it is to the conversation.
    pub kind: Kind,
    /// What the route table is asked for.
    pub key: Key<'a>,
    /// What the answer must carry to be matched with this message, in the dialect's own bytes;
    /// `None` where the sender expects no answer. Empty: answers are welcome, none is owed.
    pub correlation: Option<Cow<'a, [u8]>>,
    /// What it says.
    pub body: Body<'a>,
    /// What stands around it in this dialect, read when asked for.
    pub meta: Meta<'a>,
}

impl<'a> Message<'a> {
    /// A message that wants an answer, without more around it.
    #[inline]
    #[must_use]
    pub fn request(key: Key<'a>, correlation: Cow<'a, [u8]>, body: Body<'a>) -> Self {
        let correlation = Some(correlation);
        Self { kind: Kind::Request, key, correlation, body, meta: Meta::default() }
    }

    /// A message that wants no answer, without more around it.
    #[inline]
    #[must_use]
    pub fn push(key: Key<'a>, body: Body<'a>) -> Self {
        Self { kind: Kind::Push, key, correlation: None, body, meta: Meta::default() }
    }
}

/// What a message is to the conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It wants an answer.
    Request,
    /// It answers what the gateway asked.
    Response {
        /// Which ask. 0 where the answer names none that the gateway can have made.
        to: AskId,
        /// Whether the client says that it failed: the body says why.
        failed: bool,
    },
    /// It wants no answer.
    Push,
    /// The dialect's own ping, answered at once by an empty answer and not routed. Without a
    /// correlation it is not answered either.
    Heartbeat,
}

/// One question of the gateway to a client: odd, unique among those open on a connection, never 0.
pub type AskId = u32;

/// What the route table is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key<'a> {
    /// A name. Empty in dialects without routes.
    Name(Cow<'a, str>),
    /// A number, in dialects that number what they can do. In route tables it is written in
    /// decimal.
    Number(u32),
}

impl Key<'_> {
    /// No key: what goes to the default route.
    pub const NONE: Key<'static> = Key::Name(Cow::Borrowed(""));

    /// Whether it is a name of no letters.
    #[inline]
    #[must_use]
    pub fn is_none(&self) -> bool {
        matches!(self, Self::Name(name) if name.is_empty())
    }

    /// As text, in decimal where it is a number.
    #[must_use]
    pub fn as_text(&self) -> Cow<'_, str> {
        match self {
            Self::Name(name) => Cow::Borrowed(name),
            Self::Number(number) => Cow::Owned(number.to_string()),
        }
    }

    /// A copy that borrows nothing.
    #[must_use]
    pub fn into_owned(self) -> Key<'static> {
        match self {
            Self::Name(name) => Key::Name(Cow::Owned(name.into_owned())),
            Self::Number(number) => Key::Number(number),
        }
    }
}

impl<'a> From<&'a str> for Key<'a> {
    fn from(name: &'a str) -> Self {
        Self::Name(Cow::Borrowed(name))
    }
}

impl From<u32> for Key<'_> {
    fn from(number: u32) -> Self {
        Self::Number(number)
    }
}

impl PartialEq<str> for Key<'_> {
    fn eq(&self, other: &str) -> bool {
        self.as_text() == other
    }
}

impl PartialEq<&str> for Key<'_> {
    fn eq(&self, other: &&str) -> bool {
        self.as_text() == *other
    }
}

impl fmt::Display for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Number(number) => number.fmt(f),
        }
    }
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

/// What is sent without being asked for: a body, and what it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Content<'a> {
    /// What it is about, in the receivers' terms; `None` leaves it to each dialect.
    pub key: Option<&'a str>,
    /// What it says.
    pub body: Body<'a>,
}

impl<'a> Content<'a> {
    /// A body about something that clients know by name or, in dialects that number, by a decimal.
    #[must_use]
    pub fn named(key: &'a str, body: impl Into<Body<'a>>) -> Self {
        Self { key: Some(key), body: body.into() }
    }
}

impl<'a, B: Into<Body<'a>>> From<B> for Content<'a> {
    fn from(body: B) -> Self {
        Self { key: None, body: body.into() }
    }
}

/// An error answer: a code of the project's and a sentence for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorAnswer<'a> {
    /// One of a small set of stable codes, HTTP's where one fits: 400, 403, 404, 429, 500, 503, 504.
    pub code: u16,
    /// What went wrong.
    pub message: Cow<'a, str>,
}

impl<'a> ErrorAnswer<'a> {
    /// An error of a code and a sentence.
    #[must_use]
    pub fn new(code: u16, message: impl Into<Cow<'a, str>>) -> Self {
        Self { code, message: message.into() }
    }
}

/// What a payload is that could not be understood as a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotUnderstood<'a> {
    /// The sender is told so, in its dialect.
    Answer {
        /// What to match the error answer with, where that much was readable.
        correlation: Option<Cow<'a, [u8]>>,
        /// What the sender is told.
        answer: ErrorAnswer<'static>,
    },
    /// The connection ends with this code and reason, as the dialect wants it.
    Close {
        /// A code of RFC 6455, 7.4.
        code: u16,
        /// At most 123 bytes.
        reason: &'static str,
    },
}

impl<'a> NotUnderstood<'a> {
    /// Error 400 about a payload.
    #[must_use]
    pub fn bad_request(
        correlation: Option<Cow<'a, [u8]>>,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::Answer { correlation, answer: ErrorAnswer::new(400, message) }
    }
}

/// What a client gets without having asked.
#[derive(Clone, Copy, Debug)]
pub struct Push<'a> {
    /// The room it was published to; `None` where it was addressed to the connection.
    pub room: Option<&'a str>,
    /// The public id of the publisher, if it was a client.
    pub from: Option<&'a str>,
    /// What it is about, in the receiver's terms: a key as in route tables, in decimal where the
    /// dialect has numbers. `None`: the dialect's own word for a push.
    pub key: Option<&'a str>,
    /// What it says.
    pub body: Body<'a>,
}

/// What the gateway asks a client.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// What the answer has to carry.
    pub id: AskId,
    /// What is asked for: a key as in route tables, in decimal where the dialect has numbers.
    pub key: &'a str,
    /// What it says.
    pub body: Body<'a>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_compare_as_they_are_written() {
        assert_eq!(Key::Number(2), "2");
        assert_eq!(Key::from("chat.talk"), "chat.talk");
        assert_ne!(Key::from("chat.talk"), "chat");
        assert!(Key::NONE.is_none() && !Key::Number(0).is_none());
        assert_eq!(Key::Number(u32::MAX).to_string(), "4294967295");
    }
}
