//! System B's server: `cargo run --example b_ginserver`, then in a browser's console
//!
//! ```js
//! ws = new WebSocket('ws://127.0.0.1:8080/ws?token=secret', ['v1'])
//! ws.onmessage = ({ data }) => console.log(data)
//! ws.send('{"actioncode":"heart_beat"}')
//! ws.send('{"actioncode":"price","data":{"item":"tea","count":3}}')
//! ws.send('{"actioncode":"notice","data":"hello","is_broadcast":true}')
//! ```
//!
//! The original lets any client address any other. Here that takes a permission, which comes with the
//! operators' token. `tests/transcripts/b.txt` is a conversation with it, byte by byte.
#![expect(clippy::print_stdout, reason = "an example talks to its user")]

use std::error::Error;
use std::net::SocketAddr;

use clap::Parser;
use nix::sys::signal::{SigSet, Signal};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tidegate::{
    Accept, Admission, Body, ConnectRequest, Content, Context, Dialect, Endpoint, ErrorAnswer,
    Gateway, Message, Origins, OverflowPolicy, Route, Running, SelfDelivery, StartError,
};

/// What it takes to address a list of clients: the gateway refuses `client_ids` without it.
const MAY_ADDRESS: &str = "push";
/// What it takes to address them all: the gateway refuses `is_broadcast` without it.
const MAY_BROADCAST: &str = "broadcast";

/// System B's server.
#[derive(Parser)]
pub(crate) struct Args {
    /// Address to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Who connects to /ws?token=TOKEN may send notices to a list of clients and to all
    #[arg(long, value_name = "TOKEN", default_value = "secret")]
    operator_token: String,
    /// Who connects to /ws?token=TOKEN may send notices to a list of clients
    #[arg(long, value_name = "TOKEN", default_value = "clerk")]
    clerk_token: String,
}

fn main() -> Result<(), Box<dyn Error>> {
    // Blocked before any thread starts, so that Ctrl-C waits for us to ask for it below.
    let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM]);
    signals.thread_block()?;

    let running = start(&Args::parse())?;
    println!("system B on ws://{}/ws; Ctrl-C ends it", running.addresses()[0]);

    signals.wait()?;
    let (stopped, _statistics) = running.stop(|| false);
    println!("stopped: {stopped:?}");
    Ok(())
}

pub(crate) fn start(args: &Args) -> Result<Running, StartError> {
    let (operator, clerk) = (args.operator_token.clone(), args.clerk_token.clone());
    let endpoint = Endpoint::new("/ws", Dialect::Action)
        // Pages of any origin may connect, as in the original: nothing here is known by cookies, so
        // a foreign page can do no more than its own server could.
        .origins(Origins::any())
        // A client that does not keep up loses what is oldest, and holds back nobody else.
        .overflow(OverflowPolicy::DropOldest)
        .on_connect(move |request, admission| enter(request, admission, &operator, &clerk))
        .route("heart_beat", |ctx, _| ctx.reply(Body::Json("null")))
        .route_json("client_id", |ctx, _: serde_json::Value| {
            Ok(ctx.public_id().as_str().to_owned())
        })
        .route_json("price", |_, order| price(&order))
        .route_with("notice", Route::new(notice).permission(MAY_ADDRESS));
    Gateway::builder().without_default_endpoints().endpoint(endpoint).listen(args.listen).start()
}

/// Lets everybody in, with the permissions of their token and the subprotocol that they ask for.
fn enter(request: &ConnectRequest<'_>, admission: Admission, operator: &str, clerk: &str) {
    let token = request.query.and_then(|query| query.strip_prefix("token="));
    let permissions: &[&str] = match token {
        Some(token) if token == operator => &[MAY_ADDRESS, MAY_BROADCAST],
        Some(token) if token == clerk => &[MAY_ADDRESS],
        _ => &[],
    };
    admission.accept(Accept {
        // An endpoint that knows its subprotocols lists them instead; this one takes any.
        subprotocol: request.subprotocols().next().map(str::to_owned),
        permissions: permissions.iter().map(|name| (*name).to_owned()).collect(),
        ..Accept::default()
    });
}

#[derive(Deserialize)]
struct Order {
    item: String,
    count: u32,
}

#[derive(Serialize)]
struct Priced {
    item: String,
    cents: u64,
}

/// The business: values in, values out. What is no `Order` is answered with code 400 before it
/// comes here.
fn price(order: &Order) -> Result<Priced, ErrorAnswer<'static>> {
    match order.count {
        0 => Err(ErrorAnswer::new(422, format!("no {} at all?", order.item))),
        count => Ok(Priced { item: order.item.clone(), cents: 250 * u64::from(count) }),
    }
}

/// Sends `data` to those whom `client_ids` lists, by the ids that `client_id` told them; or, where
/// `is_broadcast` says so, to everyone.
fn notice(ctx: &mut Context<'_>, message: &Message<'_>) {
    let content = Content::named("notice", message.body);
    if message.meta.get("is_broadcast").as_deref() == Some("true") {
        ctx.push_to_all(content, SelfDelivery::Exclude);
        return ctx.reply_json(&json!({ "to": "everyone" }));
    }
    let listed = message.meta.get("client_ids");
    let ids: Vec<String> = match serde_json::from_str(listed.as_deref().unwrap_or("[]")) {
        Ok(ids) => ids,
        Err(e) => return ctx.reply_error(400, &format!("`client_ids`: {e}")),
    };
    // Ids are sealed by a key of this start: what nobody was told is nobody's.
    let conns: Vec<_> = ids.iter().filter_map(|id| ctx.gateway().conn_of(id)).collect();
    ctx.push_to(&conns, content);
    ctx.reply_json(&json!({ "to": conns.len() }));
}
