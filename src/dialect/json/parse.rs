//! A client's message, member by member, under whatever names the members have.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::JsonDialect;
use super::text::Text;

/// The members of a message that this dialect knows. `null` is as good as absent.
#[derive(Debug, Default)]
pub(super) struct Members<'a> {
    pub(super) route: Option<Text<'a>>,
    pub(super) id: Option<&'a RawValue>,
    pub(super) body: Option<&'a RawValue>,
    pub(super) answer: Option<&'a RawValue>,
    pub(super) error: Option<&'a RawValue>,
}

/// Reads [`Members`] under a dialect's names.
pub(super) struct MembersOf<'d>(pub(super) &'d JsonDialect);

impl<'de> DeserializeSeed<'de> for MembersOf<'_> {
    type Value = Members<'de>;

    #[inline]
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for MembersOf<'_> {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    #[inline]
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
        let mut members = Members::default();
        let mut seen = 0;
        while let Some(field) = map.next_key_seed(FieldOf(self.0))? {
            if field != Field::Other {
                once(&mut seen, field, self.0)?;
            }
            match field {
                Field::Route => members.route = map.next_value()?,
                Field::Id => members.id = map.next_value()?,
                Field::Body => members.body = map.next_value()?,
                Field::Answer => members.answer = map.next_value()?,
                Field::Error => members.error = map.next_value()?,
                Field::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(members)
    }
}

/// Which member a name means.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Field {
    Route,
    Id,
    Body,
    Answer,
    Error,
    Other,
}

/// An error if `field` was in `seen` already; else it is now.
#[inline]
fn once<E: Error>(seen: &mut u8, field: Field, dialect: &JsonDialect) -> Result<(), E> {
    let bit = 1 << field as u8;
    if *seen & bit != 0 {
        let name = match field {
            Field::Route => &dialect.request.route,
            Field::Id => &dialect.request.id,
            Field::Body => &dialect.request.body,
            Field::Answer => &dialect.ask.answer,
            Field::Error | Field::Other => &dialect.answer.error,
        };
        return Err(E::custom(format_args!("duplicate field `{name}`")));
    }
    *seen |= bit;
    Ok(())
}

struct FieldOf<'d>(&'d JsonDialect);

impl<'de> DeserializeSeed<'de> for FieldOf<'_> {
    type Value = Field;

    #[inline]
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Field, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for FieldOf<'_> {
    type Value = Field;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    #[inline]
    fn visit_str<E: Error>(self, name: &str) -> Result<Field, E> {
        let JsonDialect { selector, request, answer, ask, .. } = self.0;
        Ok(match name {
            _ if request.route.is(name) && selector.is_none() => Field::Route,
            _ if request.id.is(name) => Field::Id,
            _ if request.body.is(name) => Field::Body,
            _ if ask.answer.is(name) => Field::Answer,
            _ if answer.error.is(name) => Field::Error,
            _ => Field::Other,
        })
    }
}
