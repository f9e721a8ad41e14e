//! The routes that every JSON endpoint has from the start.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::context::{Context, SelfDelivery};
use super::endpoint::Endpoint;
use crate::dialect::{Body, ErrorAnswer, Message};

pub(super) fn add_to(endpoint: Endpoint) -> Endpoint {
    endpoint
        .route("echo", |ctx, message| ctx.reply(message.body))
        .route("whoami", whoami)
        .route("time", time)
        .route("join", |ctx, message| room_work(ctx, message, |ctx, room| ctx.join(room)))
        .route("leave", |ctx, message| room_work(ctx, message, |ctx, room| ctx.leave(room)))
        .route("members", |ctx, message| room_work(ctx, message, |ctx, room| ctx.members(room)))
        .route("publish", publish)
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
        "endpoint": ctx.endpoint.path,
        "identity": ctx.identity(),
    });
    ctx.reply_json(&answer);
}

fn time(ctx: &mut Context<'_>, _: &Message<'_>) {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    ctx.reply_json(&serde_json::json!({ "unix_ms": since.as_millis() as u64 }));
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
