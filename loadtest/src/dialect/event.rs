//! `event`: `{"name":…,"message":…}` both ways; the name `error` refuses. An answer has the name of
//! what it answers, so that it is told from a push by that alone.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    Body, Given, Heard, Key, Kind,
    text::{Text, body, parse, put_body, put_string},
};

#[derive(Deserialize)]
struct Said<'a> {
    #[serde(borrow)]
    name: Text<'a>,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
}

pub(super) fn put_request(out: &mut Vec<u8>, name: &str, body: Body<'_>) {
    out.extend_from_slice(b"{\"name\":");
    put_string(out, name);
    out.extend_from_slice(b",\"message\":");
    put_body(out, body);
    out.push(b'}');
}

pub(super) fn hear(text: &str) -> Result<Heard<'_>, &'static str> {
    let Said { name: Text(name), message } = parse(text)?;
    let kind = if name == "error" { Kind::Refusal } else { Kind::Either };
    Ok(Heard { kind, ticket: Given::None, key: Key::Name(name), room: None, body: body(message)? })
}
