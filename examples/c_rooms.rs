//! System C's server: `cargo run --example c_rooms`, then in a browser's console
//!
//! ```js
//! ws = new WebSocket('ws://127.0.0.1:8080/room/tea')
//! ws.onmessage = ({ data }) => console.log(data)
//! ws.send('{"name":"publish","message":"hello"}')
//! ```
//!
//! Or send `helloworld` to `/c0`. Every room with somebody in it is told the time each 3 s.
//! `tests/transcripts/c.txt` is a conversation with it, byte by byte.
#![expect(clippy::print_stdout, reason = "an example talks to its user")]

use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use clap::Parser;
use nix::sys::signal::{SigSet, Signal};
use tidegate::channels::{Clock, RoomPolicy};
use tidegate::{
    Content, Context, Dialect, Endpoint, Gateway, Message, Running, SelfDelivery, StartError,
};

/// System C's server.
#[derive(Parser)]
pub(crate) struct Args {
    /// Address to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// How often rooms are told the time, milliseconds
    #[arg(long, value_name = "MS", default_value_t = 3000)]
    time_interval_ms: u64,
}

fn main() -> Result<(), Box<dyn Error>> {
    // Blocked before any thread starts, so that Ctrl-C waits for us to ask for it below.
    let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM]);
    signals.thread_block()?;

    let running = start(&Args::parse())?;
    println!("system C on ws://{}/room/NAME and /c0; Ctrl-C ends it", running.addresses()[0]);

    signals.wait()?;
    let (stopped, _statistics) = running.stop(|| false);
    println!("stopped: {stopped:?}");
    Ok(())
}

pub(crate) fn start(args: &Args) -> Result<Running, StartError> {
    let interval = Duration::from_millis(args.time_interval_ms);
    let policy =
        RoomPolicy { events: true, clock: Some(Clock::time(interval)), ..RoomPolicy::default() };
    Gateway::builder()
        .without_default_endpoints()
        .endpoint(commands())
        .endpoint(rooms())
        .room_policy("*", policy)
        .listen(args.listen)
        .start()
}

/// The first step of the tutorial: commands in plain text. What no route is for is answered
/// `unknown command`.
fn commands() -> Endpoint {
    Endpoint::new("/c0", Dialect::Event)
        .route("helloworld", |ctx, _| ctx.reply("Hello World"))
        .route("close", |ctx, _| ctx.close(1000, "bye"))
}

/// Rooms by URL. Who connects is in the room before the upgrade is answered, and the others are told
/// by the event `joined`, as they are of its end by `left`. A room is made by its first member and
/// goes 10 s after its last. What no route is for is answered by an error event.
///
/// `Endpoint::room("/room/{name}", "room/{name}")` has these routes built in; here they are spelt
/// out.
fn rooms() -> Endpoint {
    Endpoint::new("/room/{name}", Dialect::Event)
        .join("{name}")
        .expect("the path has this parameter")
        .route("publish", |ctx, message| say(ctx, message, SelfDelivery::Include))
        .route("publish_no_self", |ctx, message| say(ctx, message, SelfDelivery::Exclude))
        .route("message", |ctx, message| ctx.reply(message.body))
        .route("leave", leave)
        .route("close", close)
}

fn room_of(ctx: &Context<'_>) -> String {
    ctx.param("name").unwrap_or_default().to_owned()
}

/// Publishes to the room of the connection, as the event `message`.
fn say(ctx: &mut Context<'_>, message: &Message<'_>, own: SelfDelivery) {
    let room = room_of(ctx);
    if let Err(error) = ctx.publish(&room, Content::named("message", message.body), own) {
        ctx.reply_error(error.code, &error.message);
    }
}

/// Tells the others, and goes.
fn leave(ctx: &mut Context<'_>, message: &Message<'_>) {
    let room = room_of(ctx);
    let told = ctx.publish(&room, Content::named("leave", message.body), SelfDelivery::Exclude);
    if let Err(error) = told.and_then(|()| ctx.leave(&room)) {
        return ctx.reply_error(error.code, &error.message);
    }
    ctx.close(1000, "you left");
}

/// Tells all, and everyone goes: behind what was published so far.
fn close(ctx: &mut Context<'_>, message: &Message<'_>) {
    let room = room_of(ctx);
    let told = ctx.publish(&room, Content::named("close", message.body), SelfDelivery::Include);
    if let Err(error) = told.and_then(|()| ctx.close_room(&room, 1000, "the room is closed")) {
        ctx.reply_error(error.code, &error.message);
    }
}
