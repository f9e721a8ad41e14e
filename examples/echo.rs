//! Two endpoints of one's own: `cargo run --example echo`, then a WebSocket client on
//! ws://127.0.0.1:8080/shout or /count. The built-in `/echo` and `/ws` are there as well.
#![expect(clippy::print_stdout, reason = "an example talks to its user")]

use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use nix::sys::signal::{SigSet, Signal};
use tidegate::{Body, Context, Dialect, Endpoint, Gateway, GatewayBuilder, Message};

fn main() -> Result<(), Box<dyn Error>> {
    // Blocked before any thread starts, so that Ctrl-C waits for us to ask for it below.
    let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM]);
    signals.thread_block()?;

    let running = gateway().listen(([127, 0, 0, 1], 8080)).start()?;
    println!("ws://{}/shout shouts back; Ctrl-C ends it", running.addresses()[0]);

    signals.wait()?;
    // Close 1001 to everyone, what is owed is sent, and at most `drain_timeout` later it is over.
    let (stopped, _statistics) = running.stop(|| false);
    println!("stopped: {stopped:?}");
    Ok(())
}

/// What this gateway does. `Dialect::Raw` has no routes: all messages go to the fallback.
pub(crate) fn gateway() -> GatewayBuilder {
    let count = AtomicU64::new(0);
    Gateway::builder()
        .endpoint(Endpoint::new("/shout", Dialect::Raw).fallback(shout))
        // Handlers are closures too, and what they share is theirs to guard: several threads run
        // them at once, but one connection's messages one after the other.
        .endpoint(Endpoint::new("/count", Dialect::Raw).fallback(move |ctx, _| {
            let n = count.fetch_add(1, Relaxed) + 1;
            ctx.reply(n.to_string().as_str());
        }))
}

fn shout(ctx: &mut Context<'_>, message: &Message<'_>) {
    match message.body {
        Body::Text(text) => ctx.reply(text.to_uppercase().as_str()),
        // Bytes have no upper case.
        body => ctx.reply(body),
    }
}
