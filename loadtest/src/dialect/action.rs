//! `action`: `{"company":"","actioncode":…,"data":…,"token":"","is_broadcast":false,"client_ids":[]}`
//! → `{"code":0,"msg":"","data":…,"actioncode":…}`. Whether an answer or a push, the form is the same.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    Body, Given, Heard, Key, Kind,
    text::{Text, body, parse, put_body, put_string},
};

#[derive(Deserialize)]
struct Said<'a> {
    code: i64,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    actioncode: Text<'a>,
}

pub(super) fn put_request(out: &mut Vec<u8>, action: &str, body: Body<'_>) {
    out.extend_from_slice(b"{\"company\":\"\",\"actioncode\":");
    put_string(out, action);
    out.extend_from_slice(b",\"data\":");
    put_body(out, body);
    out.extend_from_slice(b",\"token\":\"\",\"is_broadcast\":false,\"client_ids\":[]}");
}

pub(super) fn hear(text: &str) -> Result<Heard<'_>, &'static str> {
    let Said { code, data, actioncode: Text(action) } = parse(text)?;
    let kind = if code == 0 { Kind::Either } else { Kind::Refusal };
    Ok(Heard { kind, ticket: Given::None, key: Key::Name(action), room: None, body: body(data)? })
}
