//! The client's side of the dialects: what is said to a server, and what a server says.
//!
//! Three of them look the same from both sides, and so their own functions serve here; of the others
//! only what differs stands here.

use std::borrow::Cow;
use std::collections::BTreeMap;

use prost::encoding::{self, DecodeContext};
use serde_json::value::RawValue;

use super::cause::SendError;
use crate::dialect::{
    Ask, Body, Dialect, ErrorAnswer, JsonDialect, Key, Kind, Message, NotUnderstood, Push,
};
use crate::protocol::{Framing, MessageKind};

/// A message ready to be framed.
pub(super) type Said = (MessageKind, Vec<u8>);

/// Which call is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum To<'a> {
    /// The one of this number.
    Id(u32),
    /// The oldest of this key, in dialects whose answers have no number. If there is none, it is a
    /// push.
    Key(Cow<'a, str>),
    /// The oldest of all, if there is one.
    Oldest,
}

/// A failure that the server answered with: its code, and what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure<'a> {
    pub(super) code: u16,
    pub(super) words: Cow<'a, str>,
}

/// What a server said.
#[derive(Debug)]
pub(super) enum Heard<'a> {
    /// An answer to a call; what it is as a push stands beside it.
    Answer { to: To<'a>, failed: Option<Failure<'a>>, message: Told<'a> },
    /// Anything that is routed. With a correlation it may be answered, and is owed an answer if
    /// `owed`.
    Told { message: Told<'a>, correlation: Option<Vec<u8>>, owed: bool },
    /// The dialect's own ping, with what to answer; or its pong.
    Heartbeat(Option<Said>),
    /// Another client of the same identity has come; what says so is routed as well.
    Displaced(Told<'a>),
    /// Nothing for routes.
    Unrouted,
}

/// What is routed.
#[derive(Debug, Default)]
pub(super) struct Told<'a> {
    pub(super) key: Cow<'a, str>,
    pub(super) room: Option<Cow<'a, str>>,
    pub(super) from: Option<Cow<'a, str>>,
    pub(super) body: Option<Body<'a>>,
}

impl<'a> Told<'a> {
    fn about(key: Cow<'a, str>, body: Body<'a>) -> Self {
        Self { key, body: Some(body), ..Self::default() }
    }
}

/// The protocol by which system E tells a client that it is displaced.
const HUB_DISPLACED: u32 = 2_147_483_647;
/// The command of the push by which system D does: a `KickoutNotify`.
const KIM_DISPLACED: &str = "login.signin";
/// The protocol of an error answer of `hub`.
const HUB_ERROR: u32 = 2_147_483_646;

/// The number of the first call: of the parity that the dialect has for clients' calls. Numbers go
/// in steps of two.
pub(super) fn first_call(dialect: &Dialect) -> u32 {
    // An answer's number is read there as the gateway reads it, which asks under odd ones.
    if matches!(dialect, Dialect::Mef) { 3 } else { 2 }
}

/// A call: what the server is to answer.
pub(super) fn call(
    dialect: &Dialect,
    id: u32,
    key: &Key<'_>,
    body: Body<'_>,
) -> Result<Said, SendError> {
    match dialect {
        Dialect::Raw | Dialect::Custom(_) => Err(SendError::Unsupported),
        Dialect::Json(names) => Ok(json_call(names, id, key, body)),
        Dialect::Action | Dialect::Event => push(dialect, key, body),
        Dialect::Mef | Dialect::Kim | Dialect::Hub => {
            check_key(dialect, key)?;
            let key = &*key.as_text();
            taken(|out| dialect.put_ask(Framing::Tcp, out, &Ask { id, key, body }))
        }
    }
}

/// What the server need not answer.
pub(super) fn push(dialect: &Dialect, key: &Key<'_>, body: Body<'_>) -> Result<Said, SendError> {
    match dialect {
        Dialect::Raw | Dialect::Custom(_) => Err(SendError::Unsupported),
        // Whatever has a key is a request there; the answer is then to none that waits.
        Dialect::Json(names) => Ok(json_call(names, 0, key, body)),
        Dialect::Action => Ok(action_call(key, body)),
        Dialect::Event if body == Body::Text("") => {
            Ok((MessageKind::Text, key.as_text().as_bytes().to_vec()))
        }
        Dialect::Mef | Dialect::Event | Dialect::Kim | Dialect::Hub => {
            check_key(dialect, key)?;
            let key = Some(&*key.as_text());
            let push = Push { room: None, from: None, key, body };
            taken(|out| dialect.put_push(Framing::Tcp, out, &push))
        }
    }
}

/// The answer to what the server asked.
pub(super) fn answer(
    dialect: &Dialect,
    correlation: &[u8],
    answer: Result<Body<'_>, &ErrorAnswer<'_>>,
) -> Result<Said, SendError> {
    if let Dialect::Json(names) = dialect {
        return Ok(json_answer(names, correlation, answer));
    }
    taken(|out| {
        dialect.put_answer(Framing::Tcp, out, Some(correlation), answer);
        true
    })
}

fn check_key(dialect: &Dialect, key: &Key<'_>) -> Result<(), SendError> {
    let number = || key.as_text().parse::<u32>().is_ok();
    if matches!(dialect, Dialect::Hub) && !number() {
        return Err(SendError::Unsupported);
    }
    Ok(())
}

/// What a dialect puts, without the frame around it. Over TCP that begins with opcode and length.
fn taken(put: impl FnOnce(&mut Vec<u8>) -> bool) -> Result<Said, SendError> {
    const HEADER_BYTES: usize = 5;
    let mut out = Vec::new();
    if !put(&mut out) || out.len() < HEADER_BYTES {
        return Err(SendError::Unsupported);
    }
    let kind = if out[0] == 1 { MessageKind::Text } else { MessageKind::Binary };
    out.drain(..HEADER_BYTES);
    Ok((kind, out))
}

/// What a server's message is.
///
/// # Errors
/// Why the connection cannot go on.
pub(super) fn hear<'a>(
    dialect: &Dialect,
    kind: MessageKind,
    payload: &'a [u8],
) -> Result<Heard<'a>, &'static str> {
    if let Dialect::Json(names) = dialect {
        return Ok(hear_json(names, payload).unwrap_or(Heard::Unrouted));
    }
    if matches!(dialect, Dialect::Raw | Dialect::Custom(_)) {
        return Ok(Heard::Unrouted);
    }
    let message = match dialect.decode(kind, payload) {
        Ok(message) => message,
        Err(NotUnderstood::Answer { .. }) => return Ok(Heard::Unrouted),
        Err(NotUnderstood::Close { reason, .. }) => return Err(reason),
    };
    Ok(match dialect {
        Dialect::Action => hear_action(message),
        Dialect::Event => hear_event(message),
        Dialect::Hub => hear_hub(message),
        _ => hear_same(dialect, message),
    })
}

/// Where both sides speak alike: `mef` and `kim`.
fn hear_same<'a>(dialect: &Dialect, message: Message<'a>) -> Heard<'a> {
    let key = text_of(message.key);
    let told = Told {
        room: message.meta.get("dest"),
        from: message.meta.get("channelId").or_else(|| message.meta.get("/router/source")),
        ..Told::about(key, message.body)
    };
    let correlation = message.correlation.map(Cow::into_owned);
    match message.kind {
        Kind::Response { to, failed } => {
            let code = message.meta.get("status").and_then(|status| status.parse().ok());
            let failed = failed.then(|| failure(code.unwrap_or(0), message.body));
            Heard::Answer { to: To::Id(to), failed, message: told }
        }
        Kind::Heartbeat => Heard::Heartbeat(
            correlation.and_then(|of| answer(dialect, &of, Ok(Body::Binary(b""))).ok()),
        ),
        Kind::Request => Heard::Told { message: told, correlation, owed: true },
        Kind::Push if matches!(dialect, Dialect::Kim) && told.key == KIM_DISPLACED => {
            Heard::Displaced(told)
        }
        Kind::Push => Heard::Told { message: told, correlation, owed: false },
    }
}

/// The server asks with odd numbers, and answers to even ones.
fn hear_hub(message: Message<'_>) -> Heard<'_> {
    let Key::Number(protocol) = message.key else { return Heard::Unrouted };
    let told = Told::about(protocol.to_string().into(), message.body);
    match (message.kind, message.correlation) {
        (Kind::Push, _) if protocol == HUB_DISPLACED => Heard::Displaced(told),
        (Kind::Request, Some(ids)) => {
            let sn = ids.get(4..).and_then(|sn| sn.first_chunk());
            let to = To::Id(sn.map_or(0, |sn| u32::from_le_bytes(*sn)));
            let failed = (protocol == HUB_ERROR).then(|| hub_failure(message.body.as_bytes()));
            Heard::Answer { to, failed, message: told }
        }
        (Kind::Response { to, .. }, _) => {
            let correlation = [protocol, to].map(u32::to_le_bytes).concat();
            Heard::Told { message: told, correlation: Some(correlation), owed: true }
        }
        _ => Heard::Told { message: told, correlation: None, owed: false },
    }
}

fn hear_action(message: Message<'_>) -> Heard<'_> {
    let key = text_of(message.key);
    let code = message.meta.get("code").and_then(|code| code.parse().ok()).unwrap_or(0);
    let words = message.meta.get("msg").unwrap_or_default();
    let failed = (code != 0).then_some(Failure { code, words });
    // An answer to what was not understood has no name.
    let to = if key.is_empty() { To::Oldest } else { To::Key(key.clone()) };
    Heard::Answer { to, failed, message: Told::about(key, message.body) }
}

fn hear_event(message: Message<'_>) -> Heard<'_> {
    let key = text_of(message.key);
    // Commands, and so their answers, are matched with an empty correlation.
    if message.correlation.as_deref() == Some(b"") {
        let unknown = key == "unknown command";
        let failed = unknown.then(|| Failure { code: 404, words: key.clone() });
        let body = match &key {
            Cow::Borrowed(text) => Body::Text(text),
            Cow::Owned(_) => message.body,
        };
        return Heard::Answer { to: To::Oldest, failed, message: Told::about("".into(), body) };
    }
    let failed = (key == "error").then(|| failure(0, message.body));
    let to = if failed.is_some() { To::Oldest } else { To::Key(key.clone()) };
    Heard::Answer { to, failed, message: Told::about(key, message.body) }
}

fn hear_json<'a>(names: &JsonDialect, payload: &'a [u8]) -> Option<Heard<'a>> {
    let text = std::str::from_utf8(payload).ok()?;
    let members: BTreeMap<Cow<'a, str>, &'a RawValue> = serde_json::from_str(text).ok()?;
    let raw = |name: &str| members.get(name).map(|value| value.get());
    let string = |name: &str| raw(name).and_then(unquoted);
    let body_of = |name: &str| Body::Json(raw(name).unwrap_or("null"));
    let told = |key| Told {
        room: string(names.push.room.as_str()),
        from: string(names.push.from.as_str()),
        ..Told::about(key, body_of(names.push.data.as_str()))
    };
    if let Some(event) = string(names.push.event.as_str()) {
        let ask = raw(names.ask.ask.as_str()).filter(|_| event == "ask");
        let Some(number) = ask else {
            return Some(Heard::Told { message: told(event), correlation: None, owed: false });
        };
        let key = string(names.ask.route.as_str()).unwrap_or_default();
        let correlation = Some(number.as_bytes().to_vec());
        return Some(Heard::Told { message: told(key), correlation, owed: true });
    }
    let id = raw(names.answer.id.as_str())?.parse().unwrap_or(0);
    let error = raw(names.answer.error.as_str());
    let failed = error.map(|error| failure(0, Body::Json(error)));
    let message = Told::about("".into(), body_of(names.answer.body.as_str()));
    Some(Heard::Answer { to: To::Id(id), failed, message })
}

fn json_call(names: &JsonDialect, id: u32, key: &Key<'_>, body: Body<'_>) -> Said {
    let mut object = Object::default();
    object.member(names.request.route.as_str(), &quoted(&key.as_text()));
    if id != 0 {
        object.member(names.request.id.as_str(), &id.to_string());
    }
    object.member(names.request.body.as_str(), &json_of(body));
    object.end()
}

fn json_answer(
    names: &JsonDialect,
    correlation: &[u8],
    answer: Result<Body<'_>, &ErrorAnswer<'_>>,
) -> Said {
    let mut object = Object::default();
    object.member(names.ask.answer.as_str(), &String::from_utf8_lossy(correlation));
    match answer {
        Ok(body) => object.member(names.request.body.as_str(), &json_of(body)),
        Err(error) => {
            let words = quoted(&error.message);
            let error_json = format!("{{\"code\":{},\"message\":{words}}}", error.code);
            object.member(names.answer.error.as_str(), &error_json);
        }
    }
    object.end()
}

fn action_call(key: &Key<'_>, body: Body<'_>) -> Said {
    let mut object = Object::default();
    object.member("actioncode", &quoted(&key.as_text()));
    object.member("data", &json_of(body));
    object.end()
}

/// A JSON object, member by member.
#[derive(Default)]
struct Object(String);

impl Object {
    /// A member, unless it has no name. `value` is JSON.
    fn member(&mut self, name: &str, value: &str) {
        if !name.is_empty() {
            self.0.push(if self.0.is_empty() { '{' } else { ',' });
            self.0.extend([&*quoted(name), ":", value]);
        }
    }

    fn end(mut self) -> Said {
        self.0.push_str(if self.0.is_empty() { "{}" } else { "}" });
        (MessageKind::Text, self.0.into_bytes())
    }
}

pub(super) fn json_of(body: Body<'_>) -> Cow<'_, str> {
    match body {
        Body::Json(json) => Cow::Borrowed(json),
        Body::Text(text) => Cow::Owned(quoted(text)),
        Body::Binary(bytes) => Cow::Owned(quoted(&data_encoding::BASE64.encode(bytes))),
    }
}

pub(super) fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a string is JSON")
}

fn unquoted(json: &str) -> Option<Cow<'_, str>> {
    json.starts_with('"').then(|| serde_json::from_str::<String>(json).ok().map(Cow::Owned))?
}

fn text_of(key: Key<'_>) -> Cow<'_, str> {
    match key {
        Key::Name(name) => name,
        Key::Number(number) => number.to_string().into(),
    }
}

/// What a failed answer's body says: `{"code":…,"message":…}`, or protobuf's field 1, or words.
fn failure(code: u16, body: Body<'_>) -> Failure<'_> {
    #[derive(serde::Deserialize)]
    struct Said {
        code: u16,
        message: String,
    }
    if let Ok(Said { code, message }) = body.parse() {
        return Failure { code, words: message.into() };
    }
    if let Ok(words) = body.parse::<String>() {
        return Failure { code, words: words.into() };
    }
    let words = match body {
        Body::Binary(bytes) => kim_words(bytes).into(),
        Body::Json(text) | Body::Text(text) => Cow::Borrowed(text),
    };
    Failure { code, words }
}

/// System D's `ErrorResp`: protobuf `{1: message}`, which is how a single string is written.
fn kim_words(bytes: &[u8]) -> String {
    <String as prost::Message>::decode(bytes).unwrap_or_default()
}

/// Protobuf `{1: code, 2: message}`.
fn hub_failure(bytes: &[u8]) -> Failure<'static> {
    let (mut code, mut words) = (0, String::new());
    // What is malformed leaves what was read before it.
    let _ = read_hub_failure(bytes, &mut code, &mut words);
    Failure { code: u16::try_from(code).unwrap_or(u16::MAX), words: words.into() }
}

fn read_hub_failure(
    mut bytes: &[u8],
    code: &mut u32,
    words: &mut String,
) -> Result<(), prost::DecodeError> {
    while !bytes.is_empty() {
        let (field, wire_type) = encoding::decode_key(&mut bytes)?;
        let context = DecodeContext::default();
        match field {
            1 => encoding::uint32::merge(wire_type, code, &mut bytes, context)?,
            2 => encoding::string::merge(wire_type, words, &mut bytes, context)?,
            _ => encoding::skip_field(wire_type, field, &mut bytes, context)?,
        }
    }
    Ok(())
}
