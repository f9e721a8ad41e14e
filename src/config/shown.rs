//! The configuration in force as tables of values, each with its source.

use std::path::PathBuf;
use std::time::Duration;

use log::LevelFilter;

use super::definitions::{Definition, TABLES, Table, definitions_of};
use super::endpoints::Words;
use super::sockets;
use super::{
    DialectName, EndpointConfig, FdTable, ListenAddr, LoginConfig, OutputFormat, Resolved,
    RoomConfig, RouteConfig, SecretSource, Sources, TcpListen, format_bytes, format_duration,
};
use crate::quota::Rate;
use crate::transport::proxy::{ListenerKind, ProxyProtocol};

/// One table.
#[derive(Debug)]
pub(super) struct Shown {
    pub(super) table: Table,
    pub(super) entries: Vec<Entry>,
    /// The tables in it.
    pub(super) tables: Vec<Self>,
}

/// One value.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) definition: &'static Definition,
    pub(super) value: Value,
    pub(super) source: String,
}

/// A value as a file has it.
#[derive(Debug)]
pub(super) enum Value {
    /// It has none, which a file says by leaving it out.
    Unset,
    Number(u64),
    Switch(bool),
    Text(String),
    Texts(Vec<String>),
}

/// All tables, in the order of a file.
pub(super) fn shown(resolved: &Resolved) -> Vec<Shown> {
    let settings = TABLES.into_iter().filter(|table| !table.is_repeated());
    let settings = settings.filter(|table| table.parent().is_none());
    let mut tables: Vec<_> = settings.map(|table| settings_of(table, resolved)).collect();
    tables.extend(listeners(resolved));
    let sources = &resolved.sources;
    let endpoints = resolved.config.endpoints.iter().enumerate();
    tables.extend(endpoints.map(|(index, endpoint)| endpoint_table(index, endpoint, sources)));
    let rooms = resolved.config.rooms.iter().enumerate();
    tables.extend(rooms.map(|(index, room)| room_table(index, room, sources)));
    tables
}

fn settings_of(table: Table, resolved: &Resolved) -> Shown {
    let entry = |definition: &'static Definition| Entry {
        definition,
        value: setting(definition.key, resolved),
        source: resolved.sources.of(&definition.flag()),
    };
    Shown { table, entries: definitions_of(table).map(entry).collect(), tables: Vec::new() }
}

/// The value in force of a setting with a flag.
fn setting(key: &str, resolved: &Resolved) -> Value {
    let Resolved { config, log, .. } = resolved;
    let file =
        |file: &Option<PathBuf>| file.as_ref().map_or(Value::Unset, |file| text(file.display()));
    match key {
        "max_connections" => number(config.max_connections),
        "loops" => number(config.loops),
        "fd_table" => text(match config.fd_table {
            FdTable::Shared => "shared",
            FdTable::Private => "private",
        }),
        "backlog" => Value::Number(config.backlog.into()),
        "memory_limit" => text(format_bytes(config.memory_limit_bytes)),
        "workers" => number(config.workers),
        "blocking_threads" => number(config.blocking_threads),
        "max_header" => size(config.max_header_bytes),
        "max_message" => size(config.max_message_bytes),
        "max_frame" => size(config.max_frame_bytes),
        "max_fragments" => Value::Number(config.max_fragments.into()),
        "outbound_limit" => size(config.outbound_limit_bytes),
        "bandwidth_bytes_per_s" => {
            text(config.bandwidth_bytes_per_s.map_or_else(|| "off".to_owned(), format_bytes))
        }
        "bandwidth_reserve_percent" => Value::Number(config.bandwidth_reserve_percent.into()),
        "bandwidth_over_limit" => text(config.bandwidth_over_limit.word()),
        "tcp_nodelay" => Value::Switch(config.tcp_nodelay),
        "handshake_timeout" => time(config.handshake_timeout),
        "idle_timeout" => time_or_never(config.idle_timeout),
        "message_timeout" => time_or_never(config.message_timeout),
        "ping_interval" => time_or_never(config.ping_interval),
        "pong_timeout" => time(config.pong_timeout),
        "write_timeout" => time(config.write_timeout),
        "close_timeout" => time(config.close_timeout),
        "drain_timeout" => time(config.drain_timeout),
        "stats_out" => file(&config.stats_out),
        "histogram_out" => file(&config.histogram_out),
        "histogram_interval" => time(config.histogram_interval),
        "tls_cert" => files(config.tls.certificates.iter().map(|files| &files.certificate)),
        "tls_key" => files(config.tls.certificates.iter().map(|files| &files.key)),
        "tls_client_ca" => file(&config.tls.client_auth.as_ref().map(|a| a.authorities.clone())),
        "tls_client_auth" => text(match &config.tls.client_auth {
            Some(auth) if auth.is_optional => "optional",
            _ => "required",
        }),
        "deflate" => text(config.deflate.mode.word()),
        "deflate_level" => Value::Number(config.deflate.level.into()),
        "deflate_threshold" => size(config.deflate.threshold_bytes),
        "deflate_server_window_bits" => Value::Number(config.deflate.server_window_bits.into()),
        "deflate_client_window_bits" => Value::Number(config.deflate.client_window_bits.into()),
        "proxy_protocol" => text(config.proxy.protocol.word()),
        "trusted_proxies" => {
            Value::Texts(config.proxy.trusted.iter().map(ToString::to_string).collect())
        }
        "untrusted_proxies" => text(config.proxy.untrusted.word()),
        "forwarded_headers" => text(config.proxy.forwarded.word()),
        "untrusted_forwarded" => text(config.proxy.untrusted_forwarded.word()),
        "log_format" => text(match log.format {
            OutputFormat::Text => "text",
            OutputFormat::Json => "json",
        }),
        "verbose" => Value::Number(match log.level {
            LevelFilter::Trace => 2,
            LevelFilter::Debug => 1,
            _ => 0,
        }),
        "quiet" => Value::Switch(log.level == LevelFilter::Warn),
        _ => sockets::shown(key, &config.sockets)
            .unwrap_or_else(|| unreachable!("a setting that nobody shows: {key}")),
    }
}

fn listeners(resolved: &Resolved) -> Vec<Shown> {
    let Resolved { config, sources, .. } = resolved;
    let mut tables = Vec::new();
    for (flag, tls, all) in
        [("--listen", false, &config.listen), ("--tls-listen", true, &config.tls_listen)]
    {
        for (index, address) in all.iter().enumerate() {
            let flag = format!("{flag}[{index}]");
            let proxy = config.proxy.protocol_at(ListenerKind::of(false, tls), index);
            let source = |key: &str| sources.of_listener(&flag, key);
            tables.push(listener_table(address, None, tls, proxy, source));
        }
    }
    for (flag, tls, all) in [
        ("--tcp-listen", false, &config.tcp_listen),
        ("--tls-tcp-listen", true, &config.tls_tcp_listen),
    ] {
        for (index, listen) in all.iter().enumerate() {
            let flag = format!("{flag}[{index}]");
            let source = |key: &str| sources.of_listener(&flag, key);
            let proxy = config.proxy.protocol_at(ListenerKind::of(true, tls), index);
            tables.push(listener_table(&listen.address, Some(listen), tls, proxy, source));
        }
    }
    tables
}

fn listener_table(
    address: &ListenAddr,
    tcp: Option<&TcpListen>,
    tls: bool,
    proxy: ProxyProtocol,
    source: impl Fn(&str) -> String,
) -> Shown {
    table_of(Table::Listener, |key| {
        let value = match key {
            "address" => text(address),
            "transport" => text(if tcp.is_some() { "tcp" } else { "websocket" }),
            "endpoint" => optional(tcp.map(|listen| listen.endpoint.as_str())),
            "framing" => tcp.and_then(|listen| listen.framing).map_or(Value::Unset, text),
            "tls" => Value::Switch(tls),
            "proxy_protocol" => text(proxy.word()),
            _ => unreachable!("a key of a listener that nobody shows: {key}"),
        };
        (value, source(key))
    })
}

fn endpoint_table(index: usize, endpoint: &EndpointConfig, sources: &Sources) -> Shown {
    let path = format!("endpoint[{index}]");
    let limits = &endpoint.limits;
    let dialects = |names: &[DialectName]| names.iter().map(ToString::to_string).collect();
    let mut shown = table_of(Table::Endpoint, |key| {
        let value = match key {
            "path" => text(&endpoint.path),
            "dialect" => text(endpoint.dialect),
            "also" => Value::Texts(dialects(&endpoint.also)),
            "subprotocols" => Value::Texts(endpoint.subprotocols.clone()),
            "origins" => Value::Texts(endpoint.origins.iter().map(ToString::to_string).collect()),
            "overflow" => text(endpoint.overflow.word()),
            "max_message" => endpoint.max_message_bytes.map_or(Value::Unset, size),
            "messages_per_s" => optional_number(limits.messages.map(Rate::get)),
            "messages_burst" => optional_number(limits.messages.map(Rate::at_once)),
            "bytes_per_s" => limits.bytes.map_or(Value::Unset, |r| text(format_bytes(r.get()))),
            "bytes_burst" => limits.bytes.map_or(Value::Unset, |r| text(format_bytes(r.at_once()))),
            "over_limit" if limits.messages.or(limits.bytes).is_none() => Value::Unset,
            "over_limit" => text(limits.over.word()),
            "max_connections" => endpoint.max_connections.map_or(Value::Unset, number),
            "full_status" if endpoint.max_connections.is_none() => Value::Unset,
            "full_status" => Value::Number(endpoint.full_status.into()),
            "ping_interval" => endpoint.liveness.ping_interval.map_or(Value::Unset, time_or_never),
            "pong_timeout" => endpoint.liveness.pong_timeout.map_or(Value::Unset, time),
            "idle_timeout" => endpoint.liveness.idle_timeout.map_or(Value::Unset, time_or_never),
            "outbound_limit" => endpoint.outbound_limit_bytes.map_or(Value::Unset, size),
            "join" => Value::Texts(endpoint.join.clone()),
            "identity" => {
                Value::Texts(endpoint.identity.id.iter().map(ToString::to_string).collect())
            }
            "version" => endpoint.identity.version.as_ref().map_or(Value::Unset, text),
            "charset" => endpoint.identity.charset.as_ref().map_or(Value::Unset, text),
            "session" => text(endpoint.session),
            "grants" => Value::Texts(endpoint.grants.clone()),
            "builtin" => Value::Switch(endpoint.builtin),
            _ => unreachable!("a key of an endpoint that nobody shows: {key}"),
        };
        (value, sources.of(&format!("{path}.{key}")))
    });
    if endpoint.speaks(DialectName::Json) {
        shown.tables.push(table_of(Table::Json, |key| {
            let mut fields = endpoint.json.by_key().into_iter();
            let name = fields.find(|(name, _)| *name == key).and_then(|(_, name)| name.as_deref());
            (optional(name), sources.of(&format!("{path}.json.{key}")))
        }));
    }
    if let Some(login) = &endpoint.login {
        shown.tables.push(login_table(&format!("{path}.login"), login, sources));
    }
    let routes = endpoint.routes.iter().enumerate();
    shown.tables.extend(routes.map(|(n, route)| {
        let path = format!("{path}.route[{n}]");
        route_table(&path, route, sources)
    }));
    shown
}

fn login_table(path: &str, login: &LoginConfig, sources: &Sources) -> Shown {
    table_of(Table::Login, |key| {
        let value = match (key, &login.secret) {
            ("wait", _) => time(login.wait),
            ("route", _) => optional(login.route.as_deref()),
            ("secret_file", Some(SecretSource::File(file))) => text(file.display()),
            ("secret_env", Some(SecretSource::Variable(name))) => text(name),
            ("secret_file" | "secret_env", _) => Value::Unset,
            ("issuer", _) => optional(login.issuer.as_deref()),
            ("leeway", _) => time(login.leeway),
            _ => unreachable!("a key of a login that nobody shows: {key}"),
        };
        (value, sources.of(&format!("{path}.{key}")))
    })
}

fn route_table(path: &str, route: &RouteConfig, sources: &Sources) -> Shown {
    table_of(Table::Route, |key| {
        let value = match key {
            "key" => text(&route.key),
            "handler" => text(&route.handler),
            "permission" => optional(route.permission.as_deref()),
            "timeout" => route.timeout.map_or(Value::Unset, time),
            "run" => optional(route.run.map(Words::word)),
            "overflow" => optional(route.outbound.policy.map(Words::word)),
            "outbound_budget" => route.outbound.budget_bytes.map_or(Value::Unset, size),
            "rate_per_s" => optional_number(route.rate.map(Rate::get)),
            "burst" => optional_number(route.rate.map(Rate::at_once)),
            "over_limit" => optional(route.rate.map(|_| route.over_limit.word())),
            _ => unreachable!("a key of a route that nobody shows: {key}"),
        };
        (value, sources.of(&format!("{path}.{key}")))
    })
}

fn room_table(index: usize, room: &RoomConfig, sources: &Sources) -> Shown {
    table_of(Table::Room, |key| {
        let value = match key {
            "pattern" => text(&room.pattern),
            "join" => optional(room.join.as_deref()),
            "publish" => optional(room.publish.as_deref()),
            "max_members" => room.max_members.map_or(Value::Unset, number),
            "events" => Value::Switch(room.events),
            "clock" => room.clock.map_or(Value::Unset, time),
            "overflow" => optional(room.outbound.policy.map(Words::word)),
            "outbound_budget" => room.outbound.budget_bytes.map_or(Value::Unset, size),
            _ => unreachable!("a key of a room that nobody shows: {key}"),
        };
        (value, sources.of(&format!("room[{index}].{key}")))
    })
}

fn table_of(table: Table, value_of: impl Fn(&str) -> (Value, String)) -> Shown {
    let entry = |definition: &'static Definition| {
        let (value, source) = value_of(definition.key);
        Entry { definition, value, source }
    };
    Shown { table, entries: definitions_of(table).map(entry).collect(), tables: Vec::new() }
}

fn text(text: impl ToString) -> Value {
    Value::Text(text.to_string())
}

fn optional(value: Option<&str>) -> Value {
    value.map_or(Value::Unset, text)
}

fn files<'a>(files: impl Iterator<Item = &'a PathBuf>) -> Value {
    Value::Texts(files.map(|file| file.display().to_string()).collect())
}

fn number(number: usize) -> Value {
    Value::Number(number as u64)
}

fn optional_number(number: Option<u64>) -> Value {
    number.map_or(Value::Unset, Value::Number)
}

fn size(bytes: usize) -> Value {
    text(format_bytes(bytes as u64))
}

fn time(time: Duration) -> Value {
    text(format_duration(time))
}

fn time_or_never(value: Option<Duration>) -> Value {
    value.map_or_else(|| text("off"), time)
}
