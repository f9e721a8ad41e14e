//! What the dialects of JSON text share: how they are read without copies, and written.
//!
//! All are strict in the same way: where an object is expected, an array is none; a member that a
//! dialect knows may stand once; what it does not know is passed over.

use std::borrow::Cow;
use std::fmt;
use std::io::Write as _;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, Visitor};
use serde::{Deserialize, de};

use super::fields::FieldName;
use crate::dialect::message::{AskId, Body, ErrorAnswer};

/// A string, borrowed unless it has escapes. (Serde's own `Option<Cow<str>>` always copies.)
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::dialect) struct Text<'a>(pub(in crate::dialect) Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    #[inline]
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(TextVisitor)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    #[inline]
    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Text<'de>, E> {
        Ok(Text(Cow::Borrowed(text)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Text<'de>, E> {
        Ok(Text(Cow::Owned(text.to_owned())))
    }
}

/// An object. (A derived struct would also be read from an array, by position.)
#[derive(Debug, Default)]
pub(in crate::dialect) struct Object<T>(pub(in crate::dialect) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = Object<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Object)
    }
}

/// Reads an object, and nothing behind it.
pub(in crate::dialect) fn read<'a, T: Deserialize<'a>>(text: &'a str) -> serde_json::Result<T> {
    serde_json::from_str::<Object<T>>(text).map(|object| object.0)
}

/// Reads what a seed is for, and nothing behind it.
#[inline]
pub(in crate::dialect) fn read_seed<'a, S: DeserializeSeed<'a>>(
    text: &'a str,
    seed: S,
) -> serde_json::Result<S::Value> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = seed.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

/// Whether it is JSON of any form.
pub(in crate::dialect) fn is_json(text: &str) -> bool {
    serde_json::from_str::<de::IgnoredAny>(text).is_ok()
}

/// The string that JSON text is; `None` if it is something else.
pub(in crate::dialect) fn unquote(json: &str) -> Option<Cow<'_, str>> {
    if !json.starts_with('"') {
        return None;
    }
    serde_json::from_str::<Text<'_>>(json).ok().map(|text| text.0)
}

/// The number as an id of an ask; 0 if no ask has such a one.
pub(in crate::dialect) fn ask_id(number: u32) -> AskId {
    if number % 2 == 1 { number } else { 0 }
}

/// An object being written, member by member.
pub(in crate::dialect) struct Writer<'o> {
    out: &'o mut Vec<u8>,
    /// What stands before the next member.
    before: u8,
}

impl<'o> Writer<'o> {
    #[inline]
    pub(in crate::dialect) fn new(out: &'o mut Vec<u8>) -> Self {
        Self { out, before: b'{' }
    }

    /// Begins a member: the value is to follow. `None` if it has no name and is to be left out.
    #[inline]
    pub(in crate::dialect) fn member(&mut self, name: &FieldName) -> Option<&mut Vec<u8>> {
        if name.as_str().is_empty() {
            return None;
        }
        self.out.push(self.before);
        self.before = b',';
        self.out.extend_from_slice(name.as_json().as_bytes());
        Some(self.out)
    }

    #[inline]
    pub(in crate::dialect) fn body(&mut self, name: &FieldName, body: Body<'_>) {
        if let Some(out) = self.member(name) {
            put_body(out, body);
        }
    }

    #[inline]
    pub(in crate::dialect) fn string(&mut self, name: &FieldName, text: &str) {
        if let Some(out) = self.member(name) {
            put_string(out, text);
        }
    }

    /// A member that is JSON text already.
    #[inline]
    pub(in crate::dialect) fn json(&mut self, name: &FieldName, json: &[u8]) {
        if let Some(out) = self.member(name) {
            out.extend_from_slice(json);
        }
    }

    #[inline]
    pub(in crate::dialect) fn end(self) {
        if self.before == b'{' {
            self.out.push(b'{');
        }
        self.out.push(b'}');
    }
}

/// JSON as it is, text as a string, bytes as a string in base64.
#[inline]
pub(in crate::dialect) fn put_body(out: &mut Vec<u8>, body: Body<'_>) {
    match body {
        Body::Json(text) => out.extend_from_slice(text.as_bytes()),
        Body::Text(text) => put_string(out, text),
        Body::Binary(bytes) => put_base64(out, bytes),
    }
}

fn put_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    use data_encoding::BASE64;

    out.push(b'"');
    let at = out.len();
    out.resize(at + BASE64.encode_len(bytes.len()), 0);
    BASE64.encode_mut(bytes, &mut out[at..]);
    out.push(b'"');
}

/// A string with its quotes and escapes.
pub(in crate::dialect) fn put_string(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(&mut *out, text).expect("a string is JSON, and a Vec takes every write");
}

/// `{"code":…,"message":…}`
pub(in crate::dialect) fn put_error(out: &mut Vec<u8>, error: &ErrorAnswer<'_>) {
    let _ = write!(out, "{{\"code\":{},\"message\":", error.code);
    put_string(out, &error.message);
    out.push(b'}');
}

#[cfg(test)]
pub(in crate::dialect) mod testing {
    //! What the tests of these dialects share.

    use proptest::prelude::*;
    use serde_json::Value;

    use crate::dialect::message::{Message, NotUnderstood};
    use crate::protocol::MessageKind;

    /// Any text, control characters too.
    pub(in crate::dialect) fn any_text() -> impl Strategy<Value = String> {
        "(?s).{0,12}"
    }

    /// Any JSON value, some levels deep, of numbers that survive a round trip.
    pub(in crate::dialect) fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any_text().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map(any_text(), inner, 0..6)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    /// Any JSON value that is neither object nor array.
    pub(in crate::dialect) fn any_scalar() -> impl Strategy<Value = Value> {
        any_json().prop_filter("scalars", |value| !value.is_object() && !value.is_array())
    }

    /// A message, whole or with bytes cut off and changed.
    pub(in crate::dialect) fn broken(whole: &'static [u8]) -> impl Strategy<Value = Vec<u8>> {
        let change = (0..whole.len(), any::<u8>());
        (prop::collection::vec(change, 0..3), 0..=whole.len()).prop_map(|(changes, length)| {
            let mut bytes = whole.to_vec();
            changes.iter().for_each(|(at, byte)| bytes[*at] = *byte);
            bytes.truncate(length);
            bytes
        })
    }

    pub(in crate::dialect) fn any_kind() -> impl Strategy<Value = MessageKind> {
        prop_oneof![Just(MessageKind::Text), Just(MessageKind::Binary)]
    }

    /// Code and words of an error answer, and what it is matched with.
    pub(in crate::dialect) fn refused(
        decoded: Result<Message<'_>, NotUnderstood<'_>>,
    ) -> (u16, String, Option<Vec<u8>>) {
        match decoded {
            Err(NotUnderstood::Answer { correlation, answer }) => {
                let correlation = correlation.map(|bytes| bytes.into_owned());
                (answer.code, answer.message.into_owned(), correlation)
            }
            other => panic!("expected an error answer, got {other:?}"),
        }
    }

    /// What an encoder appends, as text; what stood before is as it was.
    pub(in crate::dialect) fn encoded(encode: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = b"before".to_vec();
        encode(&mut out);
        let out = String::from_utf8(out).expect("JSON is UTF-8");
        out.strip_prefix("before").expect("what stood before is untouched").to_owned()
    }

    pub(in crate::dialect) fn parsed(text: &str) -> Value {
        serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
    }
}
