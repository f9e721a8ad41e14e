//! `[[endpoint]]` with its routes and names of members.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::super::definitions::Table;
use super::super::endpoints::Words;
use super::super::parse::parse_optional_duration;
use super::super::paths::{check_path, check_template, shape};
use super::super::suggest::nearest;
use super::super::{
    DialectName, EndpointConfig, JsonFields, RouteConfig, format_bytes, format_duration,
    parse_bytes, parse_duration,
};
use super::login;
use super::reader::{Item, Reader, Section, Seen};
use super::syntax::{check_name, check_pattern, check_token};
use crate::connection::{Outbound, OverflowPolicy};
use crate::dialect::Selector;
use crate::limits;
use crate::routing::{IdentityPart, IdentitySource, Liveness, OriginError, OriginRule, RunOn};
use crate::session::SessionPolicy;

/// Reads an endpoint. Where its path or its dialect is not known, which is noted, another stands in,
/// so that the rest can be found fault with and each keeps its index.
pub(super) fn read(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    known_handlers: &[&str],
    seen: &mut Seen,
) -> EndpointConfig {
    let path = read_path(reader, section, seen);
    let dialect = reader.required(section, "dialect");
    let dialect =
        dialect.and_then(|item| reader.one_of(section, "dialect", &item, DialectName::ALL));
    let mut endpoint =
        EndpointConfig::new(path.as_deref().unwrap_or("/"), dialect.unwrap_or(DialectName::Raw));
    read_dialects(reader, section, &mut endpoint, dialect);
    read_session(reader, section, &mut endpoint, path.is_some());
    read_limits(reader, section, &mut endpoint);
    super::limits::read(reader, section, &mut endpoint);
    read_liveness(reader, section, &mut endpoint);
    read_json(reader, section, &mut endpoint, dialect.is_some());
    read_routes(reader, section, &mut endpoint, known_handlers);
    endpoint.login = login::read(reader, section, &endpoint, dialect.is_some());
    endpoint
}

fn read_path(reader: &mut Reader<'_>, section: &Section<'_>, seen: &mut Seen) -> Option<String> {
    let path = reader.required(section, "path")?;
    reader.accept(&path, check_path)?;
    seen.refuse_second(reader, &path, shape(&path.text), "another endpoint has this path");
    Some(path.text)
}

fn read_dialects(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    endpoint: &mut EndpointConfig,
    dialect: Option<DialectName>,
) {
    for item in reader.items(section, "also").unwrap_or_default() {
        let Some(also) = reader.one_of(section, "dialect", &item, DialectName::ALL) else {
            continue;
        };
        if dialect == Some(also) || endpoint.also.contains(&also) {
            reader.fail(item.place, "the endpoint has this dialect already", "leave one out");
            continue;
        }
        endpoint.also.push(also);
    }
    let mut seen = Seen::default();
    for item in reader.items(section, "subprotocols").unwrap_or_default() {
        if let Some(token) = reader.accept(&item, check_token) {
            seen.refuse_second(reader, &item, token.clone(), "given twice");
            endpoint.subprotocols.push(token);
        }
    }
}

/// Who may connect, and what they have from the start.
fn read_session(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    endpoint: &mut EndpointConfig,
    knows_path: bool,
) {
    if let Some(items) = reader.items(section, "origins") {
        endpoint.origins = read_origins(reader, &items);
    }
    for item in reader.items(section, "join").unwrap_or_default() {
        let path = &endpoint.path;
        let check = |template: &str| {
            if knows_path { check_template(template, path) } else { Ok(()) }
        };
        if reader.accept(&item, check).is_some() {
            endpoint.join.push(item.text);
        }
    }
    endpoint.identity = read_identity(reader, section);
    let session = reader.read(section, "session", str::parse::<SessionPolicy>);
    endpoint.session = session.unwrap_or_default();
    for item in reader.items(section, "grants").unwrap_or_default() {
        endpoint.grants.extend(reader.accept(&item, check_name));
    }
    endpoint.builtin = reader.item(section, "builtin").is_none_or(|item| item.text == "true");
}

fn read_identity(reader: &mut Reader<'_>, section: &Section<'_>) -> IdentitySource {
    let mut source = IdentitySource::default();
    for (index, item) in reader.items(section, "identity").unwrap_or_default().iter().enumerate() {
        if index == IdentitySource::PARTS_MAX {
            let what = "an identity has a user, a type, a device and a source";
            reader.fail(item.place.clone(), what, "leave out what is behind the fourth");
        }
        source.id.extend(reader.accept(item, str::parse::<IdentityPart>));
    }
    source.version = reader.read(section, "version", str::parse::<IdentityPart>);
    source.charset = reader.read(section, "charset", str::parse::<IdentityPart>);
    source
}

fn read_origins(reader: &mut Reader<'_>, items: &[Item]) -> Vec<OriginRule> {
    let mut rules = Vec::new();
    for item in items {
        rules.extend(reader.accept(item, parse_origin));
    }
    let any = items.iter().find(|item| item.text == "*").filter(|_| items.len() > 1);
    if let Some(item) = any {
        let what = "lets in all origins, and so the others say nothing";
        reader.fail(item.place.clone(), what, "leave it out, or leave the others out");
    }
    rules
}

fn parse_origin(text: &str) -> Result<OriginRule, String> {
    let expected = |e: OriginError| format!("same-host, * or {}", e.expected);
    text.parse().map_err(expected)
}

fn read_limits(reader: &mut Reader<'_>, section: &Section<'_>, endpoint: &mut EndpointConfig) {
    let overflow = reader.word(section, "overflow", OverflowPolicy::ALL);
    endpoint.overflow = overflow.unwrap_or_default();
    endpoint.max_message_bytes =
        reader.read(section, "max_message", |text| size_within(text, &limits::MESSAGE_BYTES));
    endpoint.outbound_limit_bytes =
        reader.read(section, "outbound_limit", |text| size_within(text, &limits::OUTBOUND_BYTES));
}

/// What a route or a room says of publishes that somebody is too slow for.
pub(super) fn read_outbound(reader: &mut Reader<'_>, section: &Section<'_>) -> Outbound {
    let policy = reader.word(section, "overflow", OverflowPolicy::ALL);
    let budget_bytes =
        reader.read(section, "outbound_budget", |text| size_within(text, &limits::BUDGET_BYTES));
    Outbound { policy, budget_bytes }
}

fn read_liveness(reader: &mut Reader<'_>, section: &Section<'_>, endpoint: &mut EndpointConfig) {
    let within = |time: Duration| {
        if limits::TIMEOUT.contains(&time) { Ok(time) } else { Err("1ms to 365d".to_owned()) }
    };
    let or_never = |text: &str| parse_optional_duration(text)?.map(within).transpose();
    endpoint.liveness = Liveness {
        ping_interval: reader.read(section, "ping_interval", or_never),
        pong_timeout: reader
            .read(section, "pong_timeout", |text| parse_duration(text).and_then(within)),
        idle_timeout: reader.read(section, "idle_timeout", or_never),
    };
}

fn size_within(text: &str, range: &RangeInclusive<usize>) -> Result<usize, String> {
    let bytes = parse_bytes(text)?;
    let fitting = usize::try_from(bytes).ok().filter(|bytes| range.contains(bytes));
    fitting.ok_or_else(|| {
        let text = |bytes: &usize| format_bytes(*bytes as u64);
        format!("{} to {}", text(range.start()), text(range.end()))
    })
}

fn read_json(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    endpoint: &mut EndpointConfig,
    knows_dialect: bool,
) {
    let Some(value) = section.entries.get(Table::Json.name()) else { return };
    let speaks_json = endpoint.speaks(DialectName::Json);
    for json in reader.sections(Table::Json, &section.path, value) {
        if knows_dialect && !speaks_json {
            let place = reader.place_of_section(&json);
            let fix = "leave it out, or set `dialect = \"json\"`";
            reader.fail(place, "the endpoint does not speak json", fix);
        }
        for (key, name) in endpoint.json.by_key_mut() {
            *name = reader.read(&json, key, |text| match key {
                "selector" => check_selector(text),
                // Without a member for the body, the whole message is the body.
                _ if text.is_empty() && key != "request_body" => {
                    Err("the name of a member".to_owned())
                }
                _ => Ok(text.to_owned()),
            });
        }
        refuse_same_members(reader, &json, &endpoint.json);
    }
}

fn check_selector(text: &str) -> Result<String, String> {
    match Selector::parse(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(error.expected),
    }
}

/// Refuses two members of one message that have one name.
fn refuse_same_members(reader: &mut Reader<'_>, json: &Section<'_>, fields: &JsonFields) {
    for message in ["request_", "answer_", "push_"] {
        let named = fields.by_key().into_iter().filter(|(key, _)| key.starts_with(message));
        let named: Vec<_> = named
            .map(|(key, name)| (key, name.as_deref().unwrap_or(json.default_of(key))))
            .collect();
        let is_double = |index: usize| {
            let earlier = named[..index].iter().find(|(_, name)| *name == named[index].1);
            earlier.map(|(key, _)| *key)
        };
        for (index, (key, _)) in named.iter().enumerate() {
            let Some(other) = is_double(index) else { continue };
            // The one of the two that the file has is the one to change.
            let given = if json.has(key) { *key } else { other };
            let Some(item) = reader.item(json, given) else { continue };
            let other = if given == *key { other } else { *key };
            let what = format!("also the name of `{other}`");
            reader.fail(item.place, what, "give each member a name of its own");
        }
    }
}

fn read_routes(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    endpoint: &mut EndpointConfig,
    known_handlers: &[&str],
) {
    let Some(value) = section.entries.get(Table::Route.name()) else { return };
    let mut seen = Seen::default();
    for route in reader.sections(Table::Route, &section.path, value) {
        endpoint.routes.extend(read_route(reader, &route, known_handlers, &mut seen));
    }
}

fn read_route(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    known_handlers: &[&str],
    seen: &mut Seen,
) -> Option<RouteConfig> {
    let key = reader.required(section, "key").and_then(|item| {
        let key = reader.accept(&item, check_pattern)?;
        seen.refuse_second(reader, &item, key.clone(), "another route has this key");
        Some(key)
    });
    let handler = reader.required(section, "handler");
    let handler = handler.and_then(|item| read_handler(reader, item, known_handlers));
    let permission = reader.read(section, "permission", check_name);
    let timeout = reader.read(section, "timeout", |text| {
        let timeout = parse_duration(text)?;
        let (least, most) = limits::TIMEOUT.into_inner();
        let range = || format!("{} to {}", format_duration(least), format_duration(most));
        limits::TIMEOUT.contains(&timeout).then_some(timeout).ok_or_else(range)
    });
    let run = reader.word(section, "run", RunOn::ALL);
    let outbound = read_outbound(reader, section);
    let (rate, over_limit) = super::limits::read_route(reader, section);
    Some(RouteConfig {
        key: key?,
        handler: handler?,
        permission,
        timeout,
        run,
        outbound,
        rate,
        over_limit,
    })
}

fn read_handler(reader: &mut Reader<'_>, item: Item, known_handlers: &[&str]) -> Option<String> {
    if known_handlers.contains(&item.text.as_str()) {
        return Some(item.text);
    }
    let fix = match nearest(&item.text, known_handlers.iter().copied()) {
        Some(handler) => format!("did you mean `{handler}`?"),
        None => format!("there are {}", known_handlers.join(", ")),
    };
    reader.fail(item.place, "no handler is called so", fix);
    None
}
