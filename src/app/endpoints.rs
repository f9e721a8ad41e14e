//! Endpoints as a configuration declares them → endpoints to serve.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::{env, fs};

use crate::channels::{Clock, RoomPolicies, RoomPolicy};
use crate::config::{
    Config, DialectName, EndpointConfig, JsonFields, LoginConfig, Problem, RouteConfig,
    SecretSource,
};
use crate::dialect::{Dialect, FieldName, JsonDialect, Selector};
use crate::routing::{Endpoint, LoginRule, Origins, Route, handler};
use crate::session::Tokens;

/// The endpoints of a configuration; none where it leaves that to the defaults.
///
/// # Errors
/// What cannot be served, by its place in the file. A file that was read was checked before: this
/// is for configurations made by hand.
pub(super) fn endpoints(config: &Config) -> Result<Vec<Endpoint>, Vec<Problem>> {
    let made = config.endpoints.iter().enumerate().map(|(index, endpoint)| {
        make(endpoint).map_err(|(field, value, what)| {
            let field = format!("endpoint[{index}].{field}");
            Problem::new("", value, format!("{field}: {what}"), "put it right")
        })
    });
    let (made, wrong): (Vec<_>, Vec<_>) = made.partition(Result::is_ok);
    let wrong: Vec<Problem> = wrong.into_iter().filter_map(Result::err).collect();
    if wrong.is_empty() { Ok(made.into_iter().flatten().collect()) } else { Err(wrong) }
}

/// Adds the rules of rooms of a configuration.
pub(super) fn add_rooms(config: &Config, policies: &mut RoomPolicies) {
    for room in &config.rooms {
        let boxed = |name: &Option<String>| name.as_deref().map(Into::into);
        let policy = RoomPolicy {
            join: boxed(&room.join),
            publish: boxed(&room.publish),
            max_members: room.max_members,
            events: room.events,
            clock: room.clock.map(Clock::time),
            outbound: room.outbound,
        };
        policies.set(&room.pattern, policy);
    }
}

/// As many as the hash has (RFC 7518, 3.2).
const SECRET_BYTES_ADVISED: usize = 32;

/// What is wrong: field, value and why.
type Wrong = (&'static str, String, String);

fn make(config: &EndpointConfig) -> Result<Endpoint, Wrong> {
    let wrong = |field, value: &str| {
        let value = value.to_owned();
        move |e: &dyn std::fmt::Display| (field, value, e.to_string())
    };
    let dialect = |name| dialect(name, &config.json);
    let mut endpoint = Endpoint::try_new(&config.path, dialect(config.dialect)?)
        .map_err(|e| wrong("path", &config.path)(&e))?;
    for also in &config.also {
        endpoint = endpoint.also(dialect(*also)?);
    }
    if config.builtin {
        endpoint = endpoint.builtin();
    }
    if let Some(login) = &config.login {
        endpoint = endpoint.login(login_rule(&config.path, login)?);
    }
    for room in &config.join {
        endpoint = endpoint.join(room).map_err(|e| wrong("join", room)(&e))?;
    }
    for route in &config.routes {
        endpoint = endpoint.route_with(&route.key, make_route(route)?);
    }
    for name in &config.subprotocols {
        endpoint = endpoint.subprotocol(name);
    }
    for permission in &config.grants {
        endpoint = endpoint.grant(permission);
    }
    if !config.identity.id.is_empty() {
        endpoint = endpoint.identified_by(config.identity.clone());
    }
    endpoint = endpoint.session(config.session);
    endpoint.max_message_bytes = config.max_message_bytes;
    endpoint.outbound_limit_bytes = config.outbound_limit_bytes;
    endpoint.limits = config.limits;
    endpoint.max_connections = config.max_connections;
    endpoint.full_status = config.full_status;
    endpoint.liveness = config.liveness;
    let origins = Origins::new(config.origins.clone());
    Ok(endpoint.overflow(config.overflow).origins(origins))
}

fn login_rule(path: &str, config: &LoginConfig) -> Result<LoginRule, Wrong> {
    let mut rule = LoginRule::by_handler();
    if let Some(source) = &config.secret {
        let secret = read_secret(source)?;
        if secret.len() < SECRET_BYTES_ADVISED {
            log::warn!(
                "{path}: tokens are signed under a secret of {} bytes; they can be guessed with \
                 less work than one of {SECRET_BYTES_ADVISED} (RFC 7518, 3.2)",
                secret.len()
            );
        }
        let mut tokens = Tokens::new(&secret).leeway(config.leeway);
        if let Some(issuer) = &config.issuer {
            tokens = tokens.issuer(issuer);
        }
        rule = LoginRule::by_token(tokens);
    }
    if let Some(key) = &config.route {
        rule = rule.route(key);
    }
    Ok(rule.wait(config.wait))
}

/// The secret, without the line's end that editors put behind it.
fn read_secret(source: &SecretSource) -> Result<Vec<u8>, Wrong> {
    let (field, value, read) = match source {
        SecretSource::File(path) => {
            let read = fs::read(path).map_err(|e| format!("cannot be read: {e}"));
            ("login.secret_file", path.display().to_string(), read)
        }
        SecretSource::Variable(name) => {
            let value = env::var_os(name).ok_or_else(|| "there is no such variable".to_owned());
            ("login.secret_env", name.clone(), value.map(OsString::into_vec))
        }
    };
    let mut secret = read.map_err(|what| (field, value.clone(), what))?;
    for end in [b'\n', b'\r'] {
        secret.pop_if(|last| *last == end);
    }
    match secret.is_empty() {
        true => Err((field, value, "there is no secret in it".to_owned())),
        false => Ok(secret),
    }
}

fn make_route(config: &RouteConfig) -> Result<Route, Wrong> {
    let Some(handler) = handler(&config.handler) else {
        let what = "no handler is called so".to_owned();
        return Err(("route", config.handler.clone(), what));
    };
    let mut route = Route::of(handler);
    if let Some(permission) = &config.permission {
        route = route.permission(permission);
    }
    if let Some(timeout) = config.timeout {
        route = route.timeout(timeout);
    }
    if let Some(run_on) = config.run {
        route = route.run_on(run_on);
    }
    if let Some(rate) = config.rate {
        route = route.rate(rate, config.over_limit);
    }
    Ok(route.outbound(config.outbound))
}

fn dialect(name: DialectName, json: &JsonFields) -> Result<Dialect, Wrong> {
    Ok(match name {
        DialectName::Raw => Dialect::Raw,
        DialectName::Json => Dialect::Json(json_dialect(json)?),
        DialectName::Mef => Dialect::Mef,
        DialectName::Action => Dialect::Action,
        DialectName::Event => Dialect::Event,
        DialectName::Kim => Dialect::Kim,
        DialectName::Hub => Dialect::Hub,
    })
}

fn json_dialect(names: &JsonFields) -> Result<JsonDialect, Wrong> {
    let mut dialect = JsonDialect::default();
    if let Some(text) = &names.selector {
        let selector = Selector::parse(text);
        dialect.selector = Some(selector.map_err(|e| ("json", text.clone(), e.to_string()))?);
    }
    let (request, answer, push) = (&mut dialect.request, &mut dialect.answer, &mut dialect.push);
    for (name, given) in [
        (&mut request.route, &names.request_route),
        (&mut request.id, &names.request_id),
        (&mut request.body, &names.request_body),
        (&mut answer.id, &names.answer_id),
        (&mut answer.body, &names.answer_body),
        (&mut answer.error, &names.answer_error),
        (&mut push.event, &names.push_event),
        (&mut push.room, &names.push_room),
        (&mut push.from, &names.push_from),
        (&mut push.data, &names.push_data),
    ] {
        if let Some(given) = given {
            *name = FieldName::from(given.as_str());
        }
    }
    Ok(dialect)
}
