//! Where in a JSON message the route's key stands.

use std::borrow::Cow;
use std::fmt;

/// A route selection expression: `$request.body.action`, `${header.opt}:${header.res}`, or a JSON
/// pointer (RFC 6901) such as `/header/opt`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    source: String,
}

/// Why a text is no selection expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelectorError {
    /// What was expected instead.
    pub expected: String,
}

impl fmt::Display for SelectorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {}", self.expected)
    }
}

impl std::error::Error for SelectorError {}

impl Selector {
    /// Reads an expression.
    ///
    /// # Errors
    /// What was expected instead.
    pub fn parse(source: &str) -> Result<Self, SelectorError> {
        Ok(Self { source: source.to_owned() })
    }

    /// The key in `object`, valid JSON; `None` where part of the expression finds nothing.
    #[must_use]
    pub fn select<'a>(&self, object: &'a str) -> Option<Cow<'a, str>> {
        member(object, &self.source)
    }
}

/// The member of `object`, valid JSON, at a JSON pointer or of a name: a string without quotes, or
/// else JSON text.
pub(super) fn member<'a>(_: &'a str, _: &str) -> Option<Cow<'a, str>> {
    None
}
