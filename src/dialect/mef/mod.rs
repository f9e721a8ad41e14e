//! System A: JSON messages with a header, a router and a content, and the same for its twin
//! KubeEdge.
//!
//! ```json
//! {"header":{"id":"…","parentId":"","isSync":true,"timestamp":0,"version":"1.0","nodeId":"",
//!            "peerInfo":{"ip":"","serialNumber":""},
//!            "msg_id":"…","parent_msg_id":"","sync":true,"resourceversion":""},
//!  "router":{"source":"…","destination":"…","option":"…","resource":"…"},
//!  "route":{"source":"…","group":"…","operation":"…","resource":"…"},
//!  "content":…}
//! ```
//!
//! | message | how it is told |
//! |---|---|
//! | a client's answer to an ask | `parentId` is not empty: it is the ask's `id` |
//! | request | else, `isSync`: `id` must be there |
//! | asynchronous message | else |
//!
//! What the twins say counts where the first fields are empty: `msg_id` for `id`, `parent_msg_id` for
//! `parentId`, `sync` for `isSync`, `route` for `router` (`operation` for `option`). Any of them may be
//! absent or `null`. A member that is read here and stands twice is error 400; others are passed over.
//!
//! The key is `option:resource`, none if both are empty; the body is the raw `content`, `null` if
//! there is none. An asynchronous message is owed no answer, but may be answered like a request.
//!
//! All that is sent has both families of fields, a new random `id` and the time. An answer has the
//! request's `id` as `parentId`, its option and resource, and its source and destination swapped. An
//! error's content is `{"error":{"code":…,"message":…}}`; a client's answer of one member `error` is a
//! failure likewise. What was not understood is answered by the option `error` and an empty `parentId`.
//!
//! A push is asynchronous, from its publisher's public id or else `tidegate`; option and resource are
//! `publish` and the room, or a key's parts. Members on different loops see one publish under different
//! ids. An ask is synchronous; its `id` carries its number (see [`id`]).

mod id;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::io::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Deserialize;
use serde_json::value::RawValue;

use self::id::MessageId;
use super::json::text::{Object, Text, put_body, put_error, put_string, read};
use super::message::{Ask, Body, ErrorAnswer, Key, Kind, Message, NotUnderstood, Push};
use super::meta::Meta;
use crate::protocol::MessageKind;

/// Who sends what has no other sender.
const GATEWAY: &str = "tidegate";
/// At least what a way takes beside what it says.
const WAY_BYTES: usize = 160;

#[derive(Deserialize)]
struct Whole<'a> {
    #[serde(borrow)]
    header: Option<Object<Header<'a>>>,
    #[serde(borrow)]
    router: Option<Object<Router<'a>>>,
    #[serde(borrow)]
    route: Option<Object<Route<'a>>>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Header<'a> {
    #[serde(borrow)]
    id: Option<Text<'a>>,
    #[serde(borrow)]
    parent_id: Option<Text<'a>>,
    is_sync: Option<bool>,
    #[serde(borrow, rename = "msg_id")]
    msg_id: Option<Text<'a>>,
    #[serde(borrow, rename = "parent_msg_id")]
    parent_msg_id: Option<Text<'a>>,
    sync: Option<bool>,
}

#[derive(Default, Deserialize)]
struct Router<'a> {
    #[serde(borrow)]
    source: Option<Text<'a>>,
    #[serde(borrow)]
    destination: Option<Text<'a>>,
    #[serde(borrow)]
    option: Option<Text<'a>>,
    #[serde(borrow)]
    resource: Option<Text<'a>>,
}

#[derive(Default, Deserialize)]
struct Route<'a> {
    #[serde(borrow)]
    source: Option<Text<'a>>,
    #[serde(borrow)]
    group: Option<Text<'a>>,
    #[serde(borrow)]
    operation: Option<Text<'a>>,
    #[serde(borrow)]
    resource: Option<Text<'a>>,
}

/// What a client says whose answer is a failure.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Failure<'a> {
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

/// From where to where a message goes, and about what.
#[derive(Debug, Default)]
struct Way<'a> {
    source: Cow<'a, str>,
    destination: Cow<'a, str>,
    group: Cow<'a, str>,
    option: Cow<'a, str>,
    resource: Cow<'a, str>,
}

impl<'a> Way<'a> {
    /// What `router` says, or `route` where that is empty.
    fn of(router: Router<'a>, route: Route<'a>) -> Self {
        let text = |text: Option<Text<'a>>| text.unwrap_or_default().0;
        let (option, resource) = (text(router.option), text(router.resource));
        let (option, resource) = if option.is_empty() && resource.is_empty() {
            (text(route.operation), text(route.resource))
        } else {
            (option, resource)
        };
        let source = either(router.source, route.source);
        let (destination, group) = (text(router.destination), text(route.group));
        Self { source, destination, group, option, resource }
    }

    fn key(&self) -> Key<'static> {
        if self.option.is_empty() && self.resource.is_empty() {
            return Key::NONE;
        }
        Key::Name(Cow::Owned(format!("{}:{}", self.option, self.resource)))
    }

    /// Of what the gateway says by itself: a key, or else words for it.
    fn from_gateway(source: &'a str, key: Option<&'a str>, or: (&'a str, &'a str)) -> Self {
        let (option, resource) = key.map_or(or, |key| key.split_once(':').unwrap_or((key, or.1)));
        let (option, resource) = (option.into(), resource.into());
        Self { source: source.into(), option, resource, ..Self::default() }
    }

    fn back(self) -> Self {
        Self { source: self.destination, destination: self.source, ..self }
    }

    /// `"router":{…},"route":{…}`
    fn put(&self, out: &mut Vec<u8>) {
        let mut member = |before: &str, text: &str| {
            out.extend_from_slice(before.as_bytes());
            put_string(out, text);
        };
        member(r#""router":{"source":"#, &self.source);
        member(r#","destination":"#, &self.destination);
        member(r#","option":"#, &self.option);
        member(r#","resource":"#, &self.resource);
        member(r#"},"route":{"source":"#, &self.source);
        member(r#","group":"#, &self.group);
        member(r#","operation":"#, &self.option);
        member(r#","resource":"#, &self.resource);
        out.push(b'}');
    }
}

/// The first that says anything.
fn either<'a>(one: Option<Text<'a>>, other: Option<Text<'a>>) -> Cow<'a, str> {
    let one = one.unwrap_or_default().0;
    if one.is_empty() { other.unwrap_or_default().0 } else { one }
}

pub(super) fn decode<'a>(
    kind: MessageKind,
    payload: &'a [u8],
) -> Result<Message<'a>, NotUnderstood<'a>> {
    let refused = |why: String| NotUnderstood::bad_request(None, why);
    if kind == MessageKind::Binary {
        return Err(refused("expected a text message, got a binary one".to_owned()));
    }
    let text = simdutf8::basic::from_utf8(payload)
        .map_err(|_| refused("expected text in UTF-8".to_owned()))?;
    let whole: Whole<'a> = read(text).map_err(|e| {
        refused(format!("expected {{\"header\":{{…}},\"router\":{{…}},\"content\":…}}: {e}"))
    })?;
    let header = whole.header.unwrap_or_default().0;
    let content = whole.content.map_or("null", RawValue::get);
    let way = Way::of(whole.router.unwrap_or_default().0, whole.route.unwrap_or_default().0);
    let is_sync = header.is_sync == Some(true) || header.sync == Some(true);
    let id = either(header.id, header.msg_id);
    let parent = either(header.parent_id, header.parent_msg_id);
    let meta = Meta::of_json(text);
    if !parent.is_empty() {
        return Ok(Message { meta, ..response(&parent, way.key(), content) });
    }
    if is_sync && id.is_empty() {
        return Err(refused("missing field `header.id`: what the answer is about".to_owned()));
    }
    let kind = if is_sync { Kind::Request } else { Kind::Push };
    let key = way.key();
    let correlation = Some(Cow::Owned(correlation(&id, way)));
    Ok(Message { kind, key, correlation, body: Body::Json(content), meta })
}

fn response<'a>(parent: &str, key: Key<'a>, content: &'a str) -> Message<'a> {
    let to = MessageId::ask_in(parent);
    let error = read::<Failure<'_>>(content).ok().and_then(|failure| failure.error);
    let kind = Kind::Response { to, failed: error.is_some() };
    Message { kind, ..Message::push(key, Body::Json(error.map_or(content, RawValue::get))) }
}

/// What an answer repeats, as it is written there: the request's id, a line's end (which no JSON
/// string holds), the way back.
fn correlation(id: &str, way: Way<'_>) -> Vec<u8> {
    let text_bytes = id.len() + way.source.len() + way.destination.len() + way.group.len();
    let twice = way.source.len() + way.option.len() + way.resource.len();
    let mut correlation = Vec::with_capacity(text_bytes + 2 * twice + WAY_BYTES);
    put_string(&mut correlation, id);
    correlation.push(b'\n');
    way.back().put(&mut correlation);
    correlation
}

/// The parts of a correlation; those of an answer to what was not understood if there is none.
fn split(correlation: Option<&[u8]>) -> (Cow<'_, [u8]>, Cow<'_, [u8]>) {
    let correlation = correlation.unwrap_or_default();
    match correlation.iter().position(|byte| *byte == b'\n') {
        Some(at) => (Cow::Borrowed(&correlation[..at]), Cow::Borrowed(&correlation[at + 1..])),
        None => {
            let mut way = Vec::new();
            Way::from_gateway(GATEWAY, Some("error"), ("", "")).put(&mut way);
            (Cow::Borrowed(b"\"\""), Cow::Owned(way))
        }
    }
}

pub(super) fn encode_answer(
    out: &mut Vec<u8>,
    correlation: Option<&[u8]>,
    answer: Result<Body<'_>, &ErrorAnswer<'_>>,
) -> MessageKind {
    let (parent, way) = split(correlation);
    put_header(out, MessageId::random(), &parent, false);
    out.extend_from_slice(&way);
    put_content(out, answer);
    MessageKind::Text
}

pub(super) fn encode_push(out: &mut Vec<u8>, push: &Push<'_>) -> MessageKind {
    let source = push.from.unwrap_or(GATEWAY);
    let publish = ("publish", push.room.unwrap_or_default());
    put_header(out, MessageId::random(), b"\"\"", false);
    Way::from_gateway(source, push.key, publish).put(out);
    put_content(out, Ok(push.body));
    MessageKind::Text
}

pub(super) fn encode_ask(out: &mut Vec<u8>, ask: &Ask<'_>) -> MessageKind {
    put_header(out, MessageId::of_ask(ask.id), b"\"\"", true);
    Way::from_gateway(GATEWAY, Some(ask.key), ("", "")).put(out);
    put_content(out, Ok(ask.body));
    MessageKind::Text
}

/// All that stands before the way. `parent` is JSON text.
fn put_header(out: &mut Vec<u8>, id: MessageId, parent: &[u8], is_sync: bool) {
    let (id, now_ms) = (id.text(), now_ms());
    let is_sync: &[u8] = if is_sync { b"true" } else { b"false" };
    out.extend_from_slice(br#"{"header":{"id":""#);
    out.extend_from_slice(&id);
    out.extend_from_slice(br#"","parentId":"#);
    out.extend_from_slice(parent);
    out.extend_from_slice(br#","isSync":"#);
    out.extend_from_slice(is_sync);
    let _ = write!(out, ",\"timestamp\":{now_ms}");
    out.extend_from_slice(br#","version":"1.0","nodeId":"","peerInfo":{"ip":"","#);
    out.extend_from_slice(br#""serialNumber":""},"msg_id":""#);
    out.extend_from_slice(&id);
    out.extend_from_slice(br#"","parent_msg_id":"#);
    out.extend_from_slice(parent);
    out.extend_from_slice(br#","sync":"#);
    out.extend_from_slice(is_sync);
    out.extend_from_slice(br#","resourceversion":""},"#);
}

/// All that stands behind the way.
fn put_content(out: &mut Vec<u8>, content: Result<Body<'_>, &ErrorAnswer<'_>>) {
    out.extend_from_slice(b",\"content\":");
    match content {
        Ok(body) => put_body(out, body),
        Err(error) => {
            out.extend_from_slice(b"{\"error\":");
            put_error(out, error);
            out.push(b'}');
        }
    }
    out.push(b'}');
}

/// Milliseconds since 1970.
fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}
