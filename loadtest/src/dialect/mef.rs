//! `mef`: `{"header":{…},"router":{…},"route":{…},"content":…}`. An answer's `parentId` is the
//! request's `id`; a push has none.

use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;

use super::{
    Body, Given, Heard, Key, Kind, Route, Ticket,
    text::{Text, body, parse, put_body, put_string},
};

/// Every request was made at this time, in ms since 1970: the same seed sends the same bytes.
const TIMESTAMP_MS: &str = "1700000000000";
/// What the router says of what was not even understood.
const ERROR: &str = "error";

#[derive(Deserialize)]
struct Said<'a> {
    #[serde(borrow)]
    header: Header<'a>,
    #[serde(borrow)]
    router: Option<Router<'a>>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Header<'a> {
    #[serde(borrow, rename = "parentId")]
    parent: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct Router<'a> {
    #[serde(borrow)]
    option: Option<Text<'a>>,
    #[serde(borrow)]
    resource: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct Failure {
    error: Option<IgnoredAny>,
}

/// Option and resource, of which the key of a route is made.
pub(super) fn key(route: Route) -> (&'static str, &'static str) {
    match route {
        Route::Echo => ("echo", "echo"),
        Route::Join => ("join", "room"),
        Route::Publish => ("publish", "room"),
    }
}

pub(super) fn put_request(
    out: &mut Vec<u8>,
    (option, resource): (&str, &str),
    ticket: &Ticket,
    body: Body<'_>,
) {
    out.extend_from_slice(b"{\"header\":{\"id\":\"");
    if let Ticket::Uuid(uuid) = ticket {
        out.extend_from_slice(uuid);
    }
    out.extend_from_slice(b"\",\"parentId\":\"\",\"isSync\":true,\"timestamp\":");
    out.extend_from_slice(TIMESTAMP_MS.as_bytes());
    out.extend_from_slice(
        b",\"version\":\"1.0\",\"nodeId\":\"\",\"peerInfo\":{\"ip\":\"\",\"serialNumber\":\"\"}},\
          \"router\":{\"source\":\"loadtest\",\"destination\":\"\",\"option\":",
    );
    put_string(out, option);
    out.extend_from_slice(b",\"resource\":");
    put_string(out, resource);
    out.extend_from_slice(
        b"},\"route\":{\"source\":\"\",\"group\":\"\",\"operation\":\"\",\"resource\":\"\"},\
          \"content\":",
    );
    put_body(out, body);
    out.push(b'}');
}

pub(super) fn hear(text: &str) -> Result<Heard<'_>, &'static str> {
    let Said { header, router, content } = parse(text)?;
    let router = router.unwrap_or(Router { option: None, resource: None });
    let ticket = match header.parent {
        Some(Text(parent)) if !parent.is_empty() => Given::Text(parent),
        _ => Given::None,
    };
    let unknown = router.option.as_ref().is_some_and(|Text(option)| option == ERROR);
    let kind = match &ticket {
        _ if unknown || is_failure(content) => Kind::Refusal,
        Given::None => Kind::Push,
        _ => Kind::Answer,
    };
    let key = router.option.map_or(Key::None, |Text(option)| Key::Name(option));
    let room = router.resource.map(|Text(resource)| resource);
    Ok(Heard { kind, ticket, key, room, body: body(content)? })
}

/// Whether a content says what failed: `{"error":{"code":…,"message":…}}`.
fn is_failure(content: Option<&RawValue>) -> bool {
    let object = content.map(RawValue::get).filter(|text| text.starts_with('{'));
    let failure = object.and_then(|text| serde_json::from_str::<Failure>(text).ok());
    failure.is_some_and(|failure| failure.error.is_some())
}
