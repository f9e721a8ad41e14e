//! What the members of the `json` dialect's messages are called.

use std::borrow::Cow;
use std::fmt;

/// The name of a member. Empty: there is no such member.
#[derive(Clone, PartialEq, Eq)]
pub struct FieldName {
    name: Cow<'static, str>,
    /// As it stands in a message: in quotes, escaped, with the colon.
    json: Cow<'static, str>,
}

impl FieldName {
    /// A name without letters that JSON escapes, beside the same in quotes and with the colon.
    pub(super) const fn fixed(name: &'static str, json: &'static str) -> Self {
        debug_assert!(json.len() == name.len() + 3);
        Self { name: Cow::Borrowed(name), json: Cow::Borrowed(json) }
    }

    /// The name.
    #[inline]
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// Whether a member of this name is meant. Never, if there is none.
    #[inline]
    pub(super) fn is(&self, name: &str) -> bool {
        *self.name == *name && !name.is_empty()
    }

    #[inline]
    pub(super) fn as_json(&self) -> &str {
        &self.json
    }
}

impl From<&str> for FieldName {
    fn from(name: &str) -> Self {
        let quoted = serde_json::to_string(name).expect("a string is JSON");
        Self { name: Cow::Owned(name.to_owned()), json: Cow::Owned(quoted + ":") }
    }
}

impl fmt::Display for FieldName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl fmt::Debug for FieldName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name.fmt(f)
    }
}

/// A fixed name.
macro_rules! name {
    ($name:literal) => {
        FieldName::fixed($name, concat!("\"", $name, "\":"))
    };
}

/// Of a client's request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestFields {
    /// What the route table is asked for, a string. Not looked at where a selector says it.
    pub route: FieldName,
    /// What comes back with the answer, any JSON. Without such a member it is `null`.
    pub id: FieldName,
    /// What it says, any JSON; also in a client's answer to an ask. Empty: the whole message is its
    /// own body.
    pub body: FieldName,
}

impl Default for RequestFields {
    fn default() -> Self {
        Self { route: name!("route"), id: name!("id"), body: name!("body") }
    }
}

/// Of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnswerFields {
    /// The request's id. Empty: it is left out.
    pub id: FieldName,
    /// What the handler said.
    pub body: FieldName,
    /// In its place `{"code":…,"message":…}`; in a client's answer to an ask, why it failed.
    pub error: FieldName,
}

impl Default for AnswerFields {
    fn default() -> Self {
        Self { id: name!("id"), body: name!("body"), error: name!("error") }
    }
}

/// Of what is sent without being asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushFields {
    /// Its key, or else `publish` in a room, `push` to one connection; `ask` in an ask. Empty: it is
    /// left out.
    pub event: FieldName,
    /// The room it was published to. Empty: it is left out.
    pub room: FieldName,
    /// The public id of who published it, or `null`; stands beside `room` only. Empty: it is left
    /// out.
    pub from: FieldName,
    /// What it says; also in an ask.
    pub data: FieldName,
}

impl Default for PushFields {
    fn default() -> Self {
        Self {
            event: name!("event"),
            room: name!("room"),
            from: name!("from"),
            data: name!("data"),
        }
    }
}

/// Of what the gateway asks a client, and of the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AskFields {
    /// The ask's number, in the ask.
    pub ask: FieldName,
    /// What is asked for, in the ask.
    pub route: FieldName,
    /// The ask's number, in the client's answer.
    pub answer: FieldName,
}

impl Default for AskFields {
    fn default() -> Self {
        Self { ask: name!("ask"), route: name!("route"), answer: name!("answer") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped_once() {
        let name = FieldName::from("a\"b");
        assert_eq!((name.as_str(), name.as_json()), ("a\"b", r#""a\"b":"#));
        assert!(name.is("a\"b") && !name.is("a"));
        assert!(!FieldName::from("").is(""));
    }

    #[test]
    fn a_name_is_the_same_however_it_was_made() {
        assert_eq!(FieldName::from("route"), name!("route"));
        assert_eq!(AskFields::default().ask, "ask".into());
    }
}
