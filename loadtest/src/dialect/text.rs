//! What the dialects of JSON have in common.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::Body;

/// What an envelope adds to a body, roughly.
pub(super) const ENVELOPE: usize = 384;
/// What is said of what is no object of the dialect.
pub(super) const MALFORMED: &str = "that is not of the dialect";

/// A string that is borrowed unless it has escapes.
#[derive(Debug, Deserialize)]
pub(super) struct Text<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

/// Reads an object of the dialect. Arrays, which could be read as structures too, are none.
pub(super) fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, &'static str> {
    match text.trim_start().starts_with('{') {
        true => serde_json::from_str(text).map_err(|_| MALFORMED),
        false => Err(MALFORMED),
    }
}

/// Appends a string with quotes and escapes.
pub(super) fn put_string(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(&mut *out, text).expect("a string is JSON, and a Vec takes every write");
}

/// Appends a body as JSON.
pub(super) fn put_body(out: &mut Vec<u8>, body: Body<'_>) {
    match body {
        Body::Json(text) => out.extend_from_slice(text.as_bytes()),
        Body::Data(bytes) => put_string(out, &String::from_utf8_lossy(bytes)),
    }
}

/// What a body says: the characters of a string, or JSON as it stands; `null` where there is none.
pub(super) fn body(raw: Option<&RawValue>) -> Result<Cow<'_, [u8]>, &'static str> {
    let text = raw.map_or("null", RawValue::get);
    if !text.starts_with('"') {
        return Ok(Cow::Borrowed(text.as_bytes()));
    }
    let Text(text) = serde_json::from_str(text).map_err(|_| MALFORMED)?;
    Ok(match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    })
}
