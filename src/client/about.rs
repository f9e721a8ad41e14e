//! What a message is about: its key, and what stands around its body.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use prost::encoding::{self, WireType};
use serde_json::value::RawValue;

use super::cause::SendError;
use super::speech::{json_of, quoted};
use crate::dialect::{Body, Dialect, JsonDialect, Key};

/// Fields of system D's header, and of a `Meta` in it.
const KIM_CHANNEL_ID: u32 = 2;
const KIM_DEST: u32 = 6;
const KIM_META: u32 = 7;
const META_KEY: u32 = 1;
const META_VALUE: u32 = 2;
const META_TYPE: u32 = 3;
/// The type of a `Meta` whose value is a string.
const META_STRING: u64 = 1;
/// Bytes of the magic of system D's packets, and of a length in them.
const KIM_WORD: usize = 4;

/// What a message is about: its key, and what stands around its body in the dialect. A key alone
/// converts into it.
///
/// ```
/// use tidegate::client::About;
/// use tidegate::Body;
///
/// let _talk = About::key("chat.user.talk").with("dest", "bob");
/// let _notice = About::key("notice").with("client_ids", Body::Json(r#"["a"]"#));
/// ```
#[derive(Clone, Debug)]
pub struct About<'a> {
    pub(super) key: Key<'a>,
    fields: Vec<(&'a str, Body<'a>)>,
}

impl<'a> About<'a> {
    /// With nothing around the body.
    #[must_use]
    pub fn key(key: impl Into<Key<'a>>) -> Self {
        Self { key: key.into(), fields: Vec::new() }
    }

    /// With this field, too:
    ///
    /// | dialect | field |
    /// |---|---|
    /// | `json`, `action` | a member of the object, other than those of key, number and body |
    /// | `mef` | `source`, `destination` or `group`: of router and route |
    /// | `kim` | `dest` or `channelId`; others as a `Meta` of type string |
    ///
    /// Elsewhere, and where the name is none, the message is refused ([`SendError::Unsupported`]).
    #[must_use]
    pub fn with(mut self, name: &'a str, value: impl Into<Body<'a>>) -> Self {
        self.fields.push((name, value.into()));
        self
    }

    /// Puts the fields into a message that was made without them.
    ///
    /// # Errors
    /// The dialect has no place for one of them.
    pub(super) fn put_fields(
        &self,
        dialect: &Dialect,
        payload: Vec<u8>,
    ) -> Result<Vec<u8>, SendError> {
        if self.fields.is_empty() {
            return Ok(payload);
        }
        let put = match dialect {
            Dialect::Json(names) => self.put_members(payload, &own_members(names)),
            Dialect::Action => self.put_members(payload, &["actioncode", "data"]),
            Dialect::Mef => self.put_way(&payload),
            Dialect::Kim => Some(self.put_header(&payload)),
            Dialect::Raw | Dialect::Event | Dialect::Hub | Dialect::Custom(_) => None,
        };
        put.ok_or(SendError::Unsupported)
    }

    /// Adds members to the end of an object.
    fn put_members(&self, mut payload: Vec<u8>, own: &[&str]) -> Option<Vec<u8>> {
        if payload.pop() != Some(b'}') {
            return None;
        }
        for (name, value) in &self.fields {
            if own.contains(name) {
                return None;
            }
            let comma = if payload.len() > 1 { "," } else { "" };
            let member = format!("{comma}{}:{}", quoted(name), json_of(*value));
            payload.extend_from_slice(member.as_bytes());
        }
        payload.push(b'}');
        Some(payload)
    }

    /// Sets from where to where, in both families of fields.
    fn put_way(&self, payload: &[u8]) -> Option<Vec<u8>> {
        let mut whole: BTreeMap<&str, &RawValue> = serde_json::from_slice(payload).ok()?;
        let mut ways = Vec::new();
        for part in ["router", "route"] {
            let mut way: BTreeMap<&str, Cow<'_, str>> =
                serde_json::from_str(whole.get(part)?.get()).ok()?;
            for (name, value) in &self.fields {
                let value = String::from_utf8_lossy(value.as_bytes());
                match (*name, part) {
                    ("source", _) | ("destination", "router") | ("group", "route") => {
                        way.insert(name, value);
                    }
                    ("destination" | "group", _) => {}
                    _ => return None,
                }
            }
            ways.push((part, serde_json::value::to_raw_value(&way).ok()?));
        }
        whole.extend(ways.iter().map(|(part, way)| (*part, &**way)));
        serde_json::to_vec(&whole).ok()
    }

    /// Adds fields to the end of system D's header.
    fn put_header(&self, payload: &[u8]) -> Vec<u8> {
        let length = payload[KIM_WORD..].first_chunk().copied().unwrap_or_default();
        let end = 2 * KIM_WORD + u32::from_be_bytes(length) as usize;
        let mut out = payload[..end].to_vec();
        for (name, value) in &self.fields {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            match *name {
                "dest" => encoding::string::encode(KIM_DEST, &value, &mut out),
                "channelId" => encoding::string::encode(KIM_CHANNEL_ID, &value, &mut out),
                name => put_meta(&mut out, name, &value),
            }
        }
        let length = (out.len() - 2 * KIM_WORD) as u32;
        out[KIM_WORD..2 * KIM_WORD].copy_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&payload[end..]);
        out
    }
}

/// The key alone.
impl fmt::Display for About<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.key.as_text())
    }
}

impl<'a> From<&'a str> for About<'a> {
    fn from(name: &'a str) -> Self {
        Self::key(name)
    }
}

impl From<u32> for About<'_> {
    fn from(number: u32) -> Self {
        Self::key(number)
    }
}

impl<'a> From<Key<'a>> for About<'a> {
    fn from(key: Key<'a>) -> Self {
        Self::key(key)
    }
}

fn own_members(names: &JsonDialect) -> [&str; 3] {
    [names.request.route.as_str(), names.request.id.as_str(), names.request.body.as_str()]
}

fn put_meta(out: &mut Vec<u8>, key: &str, value: &str) {
    let mut meta = Vec::new();
    encoding::string::encode(META_KEY, &key.to_owned(), &mut meta);
    encoding::string::encode(META_VALUE, &value.to_owned(), &mut meta);
    encoding::encode_key(META_TYPE, WireType::Varint, &mut meta);
    encoding::encode_varint(META_STRING, &mut meta);
    encoding::bytes::encode(KIM_META, &meta, out);
}
