//! A chat: `cargo run --example chat`, then in a browser's console
//!
//! ```js
//! ws = new WebSocket('ws://127.0.0.1:8080/ws?name=ann')
//! ws.onmessage = ({ data }) => console.log(data)
//! ws.send('{"route":"say","id":1,"body":"hello"}')
//! ws.send('{"route":"roll","id":2,"body":20}')
//! ws.send('{"route":"whisper","id":3,"body":{"to":"ID of a `from`","text":"psst"}}')
//! ```
#![expect(clippy::print_stdout, reason = "an example talks to its user")]

use std::error::Error;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::sys::signal::{SigSet, Signal};
use serde::Deserialize;
use serde_json::json;
use tidegate::{
    Accept, Admission, Body, ConnectRequest, Context, Gateway, GatewayBuilder, Identity, Message,
    Refuse, SelfDelivery,
};

const LOBBY: &str = "lobby";

fn main() -> Result<(), Box<dyn Error>> {
    // Blocked before any thread starts, so that Ctrl-C waits for us to ask for it below.
    let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM]);
    signals.thread_block()?;

    let running = gateway().listen(([127, 0, 0, 1], 8080)).start()?;
    println!("chat on ws://{}/ws?name=YOU; Ctrl-C ends it", running.addresses()[0]);

    signals.wait()?;
    // The handle works from any thread, also from this one.
    running.gateway().publish(LOBBY, "closing time")?;
    let (stopped, _statistics) = running.stop(|| false);
    println!("stopped: {stopped:?}");
    Ok(())
}

/// What this gateway does. The built-in routes `join`, `publish`, `members`, … are there as well.
pub(crate) fn gateway() -> GatewayBuilder {
    Gateway::builder()
        .on_connect(enter)
        .route("say", say)
        .route("whisper", whisper)
        .route("roll", roll)
}

/// Nobody comes in without a name; who has one is in the lobby before the upgrade is answered.
///
/// A hook that has to ask a database would move `admission` to another thread and answer there.
fn enter(request: &ConnectRequest<'_>, admission: Admission) {
    match request.query.and_then(|query| query.strip_prefix("name=")) {
        Some(name) if !name.is_empty() => admission.accept(Accept {
            identity: Identity::new(name).ok(),
            rooms: vec![LOBBY.to_owned()],
            ..Accept::default()
        }),
        _ => admission.refuse(Refuse::new(401, "Who are you? Connect to /ws?name=YOU\n")),
    }
}

/// Publishes to a room. A message that is not answered by its handler is answered with `null`.
fn say(ctx: &mut Context<'_>, message: &Message<'_>) {
    let Ok(text) = message.body.parse::<String>() else {
        return ctx.reply_error(400, "`body`: what to say");
    };
    let line = json!({ "name": ctx.identity(), "text": text }).to_string();
    if let Err(error) = ctx.publish(LOBBY, Body::Json(&line), SelfDelivery::Include) {
        ctx.reply_error(error.code, &error.message);
    }
}

#[derive(Deserialize)]
struct Whisper {
    to: String,
    text: String,
}

/// Pushes to one connection, named by the id that clients see: `from` in what is published.
fn whisper(ctx: &mut Context<'_>, message: &Message<'_>) {
    let whisper: Whisper = match message.body.parse() {
        Ok(whisper) => whisper,
        Err(e) => return ctx.reply_error(400, &e.to_string()),
    };
    let Some(to) = ctx.gateway().conn_of(&whisper.to) else {
        return ctx.reply_error(404, "nobody has that id");
    };
    let line = json!({ "name": ctx.identity(), "text": whisper.text }).to_string();
    // That they left meanwhile is no error: the push goes nowhere and is counted.
    ctx.push(to, Body::Json(&line));
}

/// Answers later, from another thread: handlers must not block, for they share their worker.
fn roll(ctx: &mut Context<'_>, message: &Message<'_>) {
    let Ok(sides @ 2..) = message.body.parse::<u32>() else {
        return ctx.reply_error(400, "`body`: a number of sides, 2 or more");
    };
    let answer = ctx.later();
    thread::spawn(move || {
        thread::sleep(Duration::from_millis(500)); // the dice roll
        let luck = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().subsec_nanos();
        // `Gone` only where the gateway has stopped.
        let _ = answer.reply(Body::Json(&(luck % sides + 1).to_string()));
    });
}
