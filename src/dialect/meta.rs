//! What stands around a message's body in its dialect, read only when a handler asks for it.

use std::borrow::Cow;

use super::kim;

/// Fields around a message's body, by name.
#[derive(Clone, Copy, Debug, Default)]
pub struct Meta<'a>(Source<'a>);

/// Where the fields are.
#[derive(Clone, Copy, Debug, Default)]
enum Source<'a> {
    /// There are none.
    #[default]
    None,
    /// Members of a JSON object: the whole message, valid JSON.
    Json(&'a str),
    /// The same, of a message that is meant for other clients as well.
    Targeted(&'a str, Target),
    /// A protobuf header of the `kim` dialect, valid.
    Kim(&'a [u8]),
}

/// Whom else a message is meant for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Connections that it lists.
    Listed,
    /// Every connection.
    Everyone,
}

impl Target {
    /// What it takes to send such a message.
    #[must_use]
    pub fn permission(self) -> &'static str {
        match self {
            Self::Listed => "push",
            Self::Everyone => "broadcast",
        }
    }
}

impl<'a> Meta<'a> {
    /// Members of `object`, a valid JSON object.
    #[inline]
    pub(super) fn of_json(object: &'a str) -> Self {
        Self(Source::Json(object))
    }

    /// Members of `object`, which says whom else it is meant for.
    pub(super) fn of_targeted(object: &'a str, target: Target) -> Self {
        Self(Source::Targeted(object, target))
    }

    /// Fields of a valid header.
    #[inline]
    pub(super) fn of_kim(header: &'a [u8]) -> Self {
        Self(Source::Kim(header))
    }

    /// Whom else the message is meant for, in dialects that have a place for that: `action`.
    #[inline]
    #[must_use]
    pub fn target(&self) -> Option<Target> {
        match self.0 {
            Source::Targeted(_, target) => Some(target),
            _ => None,
        }
    }

    /// The field of that name: in JSON dialects a member of the message by JSON pointer (RFC 6901,
    /// `/header/id`) or by its name alone, as a string without its quotes or else as JSON text; in
    /// `kim`, `channelId`, `dest`, `sequence`, `status` or the key of a `Meta`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Cow<'a, str>> {
        match self.0 {
            Source::None => None,
            Source::Json(object) | Source::Targeted(object, _) => {
                super::select::member(object, name)
            }
            Source::Kim(header) => kim::field(header, name),
        }
    }
}
