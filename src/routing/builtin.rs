//! Handlers that come with the gateway, and the routes that endpoints have from the start.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::context::{Context, SelfDelivery};
use super::endpoint::{Endpoint, Liveness};
use super::login::{LoginRule, login, logout};
use super::route::{Handler, Route};
use crate::dialect::{Body, Content, Dialect, ErrorAnswer, JsonDialect, Message};

/// A handler that comes with the gateway, and the name that configuration knows it by.
type Named = (&'static str, fn(&mut Context<'_>, &Message<'_>));

/// The handlers that come with the gateway, by name. What each does: `docs/DIALECTS.md`.
const NAMED: &[Named] = &[
    ("echo", echo),
    ("whoami", whoami),
    ("time", time),
    ("join", join),
    ("leave", leave),
    ("members", members),
    ("rooms", rooms),
    ("publish", publish),
    ("discard", discard),
    ("heart_beat", heart_beat),
    ("helloworld", helloworld),
    ("close", close),
    ("login", login),
    ("logout", logout),
    ("push", push),
    ("broadcast", broadcast),
    ("room_message", room_message),
    ("room_publish", room_publish),
    ("room_publish_no_self", room_publish_no_self),
    ("room_leave", room_leave),
    ("room_close", room_close),
];

/// Routes that every endpoint of a dialect has from the start: key, handler.
const JSON: &[(&str, &str)] = &[
    ("echo", "echo"),
    ("whoami", "whoami"),
    ("time", "time"),
    ("join", "join"),
    ("leave", "leave"),
    ("members", "members"),
    ("publish", "publish"),
];
const MEF: &[(&str, &str)] = &[
    ("echo:echo", "echo"),
    ("join:room", "join"),
    ("leave:room", "leave"),
    ("members:room", "members"),
    ("publish:room", "publish"),
];
const HUB: &[(&str, &str)] =
    &[("2", "echo"), ("3", "join"), ("4", "publish"), ("5", "leave"), ("6", "members")];
const ACTION: &[(&str, &str)] = &[("heart_beat", "heart_beat")];
const EVENT: &[(&str, &str)] = &[("helloworld", "helloworld"), ("close", "close")];
/// What takes the permission of the same name.
const TARGETING: &[&str] = &["push", "broadcast"];
const LISTING: &[&str] = &["rooms"];
/// Routes of an endpoint whose connections are in the room of their path, as system C has it.
const ROOM: &[(&str, &str)] = &[
    ("message", "room_message"),
    ("publish", "room_publish"),
    ("publish_no_self", "room_publish_no_self"),
    ("leave", "room_leave"),
    ("close", "room_close"),
];

/// Rooms in one answer, where it is not said how many.
const ROOMS_LISTED: usize = 100;

/// The names of the handlers that come with the gateway.
pub fn handler_names() -> impl Iterator<Item = &'static str> {
    NAMED.iter().map(|(name, _)| *name)
}

/// The handler of that name, if one comes with the gateway.
#[must_use]
pub fn handler(name: &str) -> Option<Handler> {
    let (_, handler) = NAMED.iter().find(|(known, _)| *known == name)?;
    Some(Arc::new(handler))
}

/// Adds the routes that endpoints of its dialects have from the start.
pub(super) fn add_to(endpoint: Endpoint) -> Endpoint {
    let dialects: Vec<_> = [&endpoint.dialect].into_iter().chain(&endpoint.also).cloned().collect();
    dialects.iter().fold(endpoint, add_for)
}

fn add_for(endpoint: Endpoint, dialect: &Dialect) -> Endpoint {
    let sets: &[&[(&str, &str)]] = match dialect {
        Dialect::Raw | Dialect::Custom(_) => &[],
        Dialect::Json(_) | Dialect::Kim => &[JSON],
        Dialect::Mef => &[MEF],
        Dialect::Hub => &[HUB],
        Dialect::Action => &[JSON, ACTION],
        Dialect::Event => &[JSON, EVENT],
    };
    let guarded: &[&[&str]] = match dialect {
        Dialect::Action => &[LISTING, TARGETING],
        Dialect::Json(_) | Dialect::Kim | Dialect::Event => &[LISTING],
        _ => &[],
    };
    guarded.iter().copied().flatten().fold(add(endpoint, sets), |endpoint, name| {
        endpoint.route_with(name, named(name).permission(name))
    })
}

/// Adds the routes of an endpoint whose connections are in the room of their path.
pub(super) fn add_room_to(endpoint: Endpoint) -> Endpoint {
    add(endpoint, &[EVENT, ROOM])
}

/// Adds the routes by which a dialect's clients log in and out, unless it has them.
pub(super) fn add_login(endpoint: Endpoint, rule: &LoginRule, dialect: &Dialect) -> Endpoint {
    let routes = rule.routes(dialect).into_iter().flatten();
    routes.fold(endpoint, |endpoint, (key, name)| {
        if endpoint.has_route(key) { endpoint } else { endpoint.route_with(key, named(name)) }
    })
}

/// System D's clients send heartbeats of their own, each 55 s, and are gone after 3 minutes without.
const KIM_LIVENESS: Liveness = Liveness {
    ping_interval: Some(None),
    pong_timeout: None,
    idle_timeout: Some(Some(Duration::from_secs(180))),
};

/// What a gateway serves where nothing else is said.
pub(crate) fn default_endpoints() -> Vec<Endpoint> {
    let builtin = |path, dialect| Endpoint::new(path, dialect).builtin();
    let json = Dialect::Json(JsonDialect::default());
    let room = Endpoint::room("/room/{name}", "room/{name}").expect("the room is the path's");
    vec![
        Endpoint::echo("/echo"),
        Endpoint::new("/ws", json).also(Dialect::Kim).also(Dialect::Hub).builtin(),
        builtin("/mef", Dialect::Mef),
        builtin("/action", Dialect::Action),
        builtin("/event", Dialect::Event),
        room,
        builtin("/kim", Dialect::Kim).liveness(KIM_LIVENESS),
        builtin("/hub", Dialect::Hub),
    ]
}

fn add(endpoint: Endpoint, sets: &[&[(&str, &str)]]) -> Endpoint {
    let routes = sets.iter().copied().flatten();
    routes.fold(endpoint, |endpoint, (key, name)| endpoint.route_with(key, named(name)))
}

fn named(name: &str) -> Route {
    Route::of(handler(name).expect("the tables above name only what there is"))
}

fn echo(ctx: &mut Context<'_>, message: &Message<'_>) {
    ctx.reply(message.body);
}

fn discard(_: &mut Context<'_>, _: &Message<'_>) {}

fn heart_beat(ctx: &mut Context<'_>, _: &Message<'_>) {
    ctx.reply(Body::Json("null"));
}

fn helloworld(ctx: &mut Context<'_>, _: &Message<'_>) {
    ctx.reply("Hello World");
}

fn close(ctx: &mut Context<'_>, _: &Message<'_>) {
    ctx.close(1000, "");
}

/// Sends the body to the connections that the message lists as `client_ids`, by their public ids;
/// or to everyone if it says `is_broadcast`.
fn push(ctx: &mut Context<'_>, message: &Message<'_>) {
    if message.meta.get("is_broadcast").as_deref() == Some("true") {
        return broadcast(ctx, message);
    }
    if !ctx.may("push") {
        return ctx.reply_error(403, "to push takes the permission `push`");
    }
    let listed = message.meta.get("client_ids");
    let ids: Vec<String> = match listed.as_deref().map_or(Ok(Vec::new()), serde_json::from_str) {
        Ok(ids) => ids,
        Err(e) => return ctx.reply_error(400, &format!("`client_ids`: {e}")),
    };
    let conns: Vec<_> = ids.iter().filter_map(|id| ctx.gateway().conn_of(id)).collect();
    ctx.push_to(&conns, message.body);
    ctx.reply_json(&serde_json::json!({ "receivers": conns.len() }));
}

/// Sends the body to everyone.
fn broadcast(ctx: &mut Context<'_>, message: &Message<'_>) {
    if !ctx.may("broadcast") {
        return ctx.reply_error(403, "to broadcast takes the permission `broadcast`");
    }
    ctx.push_to_all(message.body, SelfDelivery::Include);
    ctx.reply(Body::Json("null"));
}

/// The room of the connection's path.
fn own_room(ctx: &Context<'_>) -> Result<String, ErrorAnswer<'static>> {
    let room = ctx.rooms().first().map(|room| (*room).to_owned());
    room.ok_or_else(|| ErrorAnswer::new(404, "this connection is in no room"))
}

fn in_own_room(
    ctx: &mut Context<'_>,
    work: impl FnOnce(&mut Context<'_>, &str) -> Result<(), ErrorAnswer<'static>>,
) {
    if let Err(error) = own_room(ctx).and_then(|room| work(ctx, &room)) {
        ctx.reply_error(error.code, &error.message);
    }
}

fn room_message(ctx: &mut Context<'_>, message: &Message<'_>) {
    ctx.push(ctx.conn(), Content::named("message", message.body));
}

fn room_publish(ctx: &mut Context<'_>, message: &Message<'_>) {
    in_own_room(ctx, |ctx, room| ctx.publish(room, message.body, SelfDelivery::Include));
}

fn room_publish_no_self(ctx: &mut Context<'_>, message: &Message<'_>) {
    in_own_room(ctx, |ctx, room| ctx.publish(room, message.body, SelfDelivery::Exclude));
}

/// Tells the others, and goes.
fn room_leave(ctx: &mut Context<'_>, message: &Message<'_>) {
    in_own_room(ctx, |ctx, room| {
        let content = Content::named("leave", message.body);
        ctx.publish(room, content, SelfDelivery::Exclude)?;
        ctx.leave(room)?;
        ctx.close(1000, "left the room");
        Ok(())
    });
}

/// Tells all, and everyone goes.
fn room_close(ctx: &mut Context<'_>, message: &Message<'_>) {
    in_own_room(ctx, |ctx, room| {
        let content = Content::named("close", message.body);
        ctx.publish(room, content, SelfDelivery::Include)?;
        ctx.close_room(room, 1000, "the room is closed")
    });
}

#[derive(Deserialize)]
struct RoomBody {
    room: String,
}

#[derive(Deserialize)]
struct PublishBody<'a> {
    room: String,
    #[serde(borrow)]
    data: &'a RawValue,
    /// Whether the publisher gets it too, if it is a member.
    #[serde(rename = "self", default)]
    own: bool,
}

fn whoami(ctx: &mut Context<'_>, _: &Message<'_>) {
    let (id, peer) = (ctx.public_id(), ctx.peer());
    let answer = serde_json::json!({
        "id": id.as_str(),
        "peer": peer.to_string(),
        "endpoint": ctx.endpoint.path.as_str(),
        "identity": ctx.identity(),
    });
    ctx.reply_json(&answer);
}

fn time(ctx: &mut Context<'_>, _: &Message<'_>) {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    ctx.reply_json(&serde_json::json!({ "unix_ms": since.as_millis() as u64 }));
}

fn join(ctx: &mut Context<'_>, message: &Message<'_>) {
    room_work(ctx, message, |ctx, room| ctx.join(room));
}

fn leave(ctx: &mut Context<'_>, message: &Message<'_>) {
    room_work(ctx, message, |ctx, room| ctx.leave(room));
}

fn members(ctx: &mut Context<'_>, message: &Message<'_>) {
    room_work(ctx, message, |ctx, room| ctx.members(room));
}

#[derive(Deserialize)]
struct RoomsBody {
    /// What their names begin with.
    #[serde(default)]
    prefix: String,
    /// The last name of the list before.
    #[serde(default)]
    after: String,
    #[serde(default = "listed")]
    limit: usize,
}

fn listed() -> usize {
    ROOMS_LISTED
}

/// Which rooms there are.
fn rooms(ctx: &mut Context<'_>, message: &Message<'_>) {
    if !ctx.may("rooms") {
        return ctx.reply_error(403, "to list rooms takes the permission `rooms`");
    }
    let expected = "{\"prefix\":…,\"after\":…,\"limit\":…}, or nothing";
    let none = RoomsBody { prefix: String::new(), after: String::new(), limit: ROOMS_LISTED };
    let body = match parse::<Option<RoomsBody>>(message.body, expected) {
        _ if message.body.as_bytes().is_empty() => Ok(none),
        body => body.map(|body| body.unwrap_or(none)),
    };
    match body {
        Ok(RoomsBody { prefix, after, limit }) => ctx.list_rooms(&prefix, &after, limit),
        Err(error) => ctx.reply_error(error.code, &error.message),
    }
}

fn room_work(
    ctx: &mut Context<'_>,
    message: &Message<'_>,
    work: impl FnOnce(&mut Context<'_>, &str) -> Result<(), ErrorAnswer<'static>>,
) {
    match parse::<RoomBody>(message.body, "{\"room\":…}").and_then(|body| work(ctx, &body.room)) {
        Ok(()) => ctx.report(),
        Err(error) => ctx.reply_error(error.code, &error.message),
    }
}

fn publish(ctx: &mut Context<'_>, message: &Message<'_>) {
    let done = parse::<PublishBody<'_>>(message.body, "{\"room\":…,\"data\":…,\"self\":bool}")
        .and_then(|body| {
            let own = if body.own { SelfDelivery::Include } else { SelfDelivery::Exclude };
            ctx.publish(&body.room, Body::Json(body.data.get()), own)
        });
    match done {
        Ok(()) => ctx.report(),
        Err(error) => ctx.reply_error(error.code, &error.message),
    }
}

fn parse<'a, T: Deserialize<'a>>(
    body: Body<'a>,
    expected: &str,
) -> Result<T, ErrorAnswer<'static>> {
    serde_json::from_slice(body.as_bytes()).map_err(|e| ErrorAnswer {
        code: 400,
        message: format!("`body`: expected {expected}: {e}").into(),
    })
}
