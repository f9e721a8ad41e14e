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
    /// A protobuf header of the `kim` dialect, valid.
    Kim(&'a [u8]),
}

impl<'a> Meta<'a> {
    /// Members of `object`, a valid JSON object.
    #[inline]
    pub(super) fn of_json(object: &'a str) -> Self {
        Self(Source::Json(object))
    }

    /// Fields of a valid header.
    #[inline]
    pub(super) fn of_kim(header: &'a [u8]) -> Self {
        Self(Source::Kim(header))
    }

    /// The field of that name: in JSON dialects a member of the message by JSON pointer (RFC 6901,
    /// `/header/id`) or by its name alone, as a string without its quotes or else as JSON text; in
    /// `kim`, `channelId`, `dest`, `sequence`, `status` or the key of a `Meta`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Cow<'a, str>> {
        match self.0 {
            Source::None => None,
            Source::Json(object) => super::select::member(object, name),
            Source::Kim(header) => kim::field(header, name),
        }
    }
}
