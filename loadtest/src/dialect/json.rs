//! `json`: `{"route":…,"id":…,"body":…}` → `{"id":…,"body":…}` or `{"id":…,"error":{…}}`; unasked,
//! `{"event":"publish","room":…,"from":…,"data":…}`.

use std::io::Write as _;

use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;

use super::{
    Body, Given, Heard, Key, Kind, Ticket,
    text::{MALFORMED, Text, body, parse, put_body, put_string},
};

#[derive(Deserialize)]
struct Said<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    body: Option<&'a RawValue>,
    error: Option<IgnoredAny>,
    #[serde(borrow)]
    event: Option<Text<'a>>,
    #[serde(borrow)]
    room: Option<Text<'a>>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

pub(super) fn put_request(out: &mut Vec<u8>, route: &str, ticket: &Ticket, body: Body<'_>) {
    out.extend_from_slice(b"{\"route\":");
    put_string(out, route);
    write!(out, ",\"id\":{},\"body\":", ticket.number()).expect("a Vec takes every write");
    put_body(out, body);
    out.push(b'}');
}

pub(super) fn hear(text: &str) -> Result<Heard<'_>, &'static str> {
    let said: Said<'_> = parse(text)?;
    if let Some(Text(event)) = said.event {
        let room = said.room.map(|Text(room)| room);
        let (key, body) = (Key::Name(event), body(said.data)?);
        return Ok(Heard { kind: Kind::Push, ticket: Given::None, key, room, body });
    }
    let ticket = match said.id.map(|id| id.get().parse()) {
        None => Given::None,
        Some(number) => Given::Number(number.map_err(|_| MALFORMED)?),
    };
    let kind = if said.error.is_some() { Kind::Refusal } else { Kind::Answer };
    Ok(Heard { kind, ticket, key: Key::None, room: None, body: body(said.body)? })
}
