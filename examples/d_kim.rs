//! System D's server: `cargo run --example d_kim`, then clients in the dialect `kim` on
//! ws://127.0.0.1:8080/kim or, with the same packets in TCP frames, on 127.0.0.1:8081.
//!
//! Who connects signs in first, by a token that is a JWT (HS256) with `acc` and `exp`; then accounts
//! talk to each other and to groups. Bodies are protobuf, declared below as their `.proto` has them.
//! `tests/transcripts/d.txt` is a conversation with it, byte by byte.
#![expect(clippy::print_stdout, reason = "an example talks to its user")]

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Parser;
use nix::sys::signal::{SigSet, Signal};
use prost::Message as _;
use tidegate::{
    Content, Context, Dialect, Endpoint, ErrorAnswer, Gateway, Identity, LoginRule, Message, Route,
    RunOn, Running, SelfDelivery, SessionPolicy, StartError, Tokens,
};

const USER_TALK: &str = "chat.user.talk";
const GROUP_TALK: &str = "chat.group.talk";

/// Statuses of system D. Codes of errors below 400 reach its clients as they are.
const NO_DESTINATION: u16 = 100;
const INVALID_PACKET_BODY: u16 = 101;

/// System D's server.
#[derive(Parser)]
pub(crate) struct Args {
    /// Address to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Address to listen on for frames over plain TCP; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8081")]
    tcp_listen: SocketAddr,
    /// How long the first packet, which signs in, may take to come, milliseconds
    #[arg(long, value_name = "MS", default_value_t = 10_000)]
    login_wait_ms: u64,
    /// What tokens are signed with
    #[arg(long, default_value = "secret")]
    secret: String,
}

fn main() -> Result<(), Box<dyn Error>> {
    // Blocked before any thread starts, so that Ctrl-C waits for us to ask for it below.
    let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM]);
    signals.thread_block()?;

    let running = start(&Args::parse())?;
    let (ws, tcp) = (running.addresses()[0], running.tcp_addresses()[0]);
    println!("system D on ws://{ws}/kim and, over plain TCP, on {tcp}; Ctrl-C ends it");

    signals.wait()?;
    let (stopped, _statistics) = running.stop(|| false);
    println!("stopped: {stopped:?}");
    Ok(())
}

pub(crate) fn start(args: &Args) -> Result<Running, StartError> {
    Gateway::builder()
        .without_default_endpoints()
        .endpoint(endpoint(&args.secret, Duration::from_millis(args.login_wait_ms)))
        .listen(args.listen)
        // The endpoint's connections over TCP have the same hooks, routes and rooms.
        .tcp_listen(args.tcp_listen, "/kim")
        .configure(|config| {
            // Clients send a ping each 55 s, which is answered without us.
            config.handshake_timeout = Duration::from_secs(10);
            config.idle_timeout = Some(Duration::from_secs(180));
            config.ping_interval = None;
            config.write_timeout = Duration::from_secs(10);
        })
        .start()
}

fn endpoint(secret: &str, login_wait: Duration) -> Endpoint {
    let chat = Arc::new(Chat::default());
    let [user, group] = [Arc::clone(&chat), chat];
    Endpoint::new("/kim", Dialect::Kim)
        // With it come the first packet's rule and the commands `login.signin` and `login.signout`.
        .login(LoginRule::by_token(Tokens::new(secret.as_bytes())).wait(login_wait))
        // Whoever signs in elsewhere kicks out the old place.
        .session(SessionPolicy::Displace)
        .route_proto("chat.group.join", |ctx, GroupReq { group_id, .. }| ctx.join(&group_id))
        .route_proto("chat.group.quit", |ctx, GroupReq { group_id, .. }| ctx.leave(&group_id))
        // It waits until the account's home has said where that is.
        .route_with(
            USER_TALK,
            Route::new(move |ctx, message| user.talk(ctx, message, to_user))
                .run_on(RunOn::Blocking),
        )
        .route(GROUP_TALK, move |ctx, message| group.talk(ctx, message, to_group))
        // What a handler does not answer itself is answered by an empty body.
        .route("chat.talk.ack", |_, _| {})
}

#[derive(Default)]
struct Chat {
    messages: AtomicI64,
}

impl Chat {
    /// What all talk has in common; `send` passes it on to where it is meant to go.
    fn talk(
        &self,
        ctx: &mut Context<'_>,
        message: &Message<'_>,
        send: fn(&mut Context<'_>, &str, &[u8]) -> Result<(), ErrorAnswer<'static>>,
    ) {
        let Ok(said) = MessageReq::decode(message.body.as_bytes()) else {
            return ctx.reply_error(INVALID_PACKET_BODY, "the body is no MessageReq");
        };
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let push = MessagePush {
            message_id: self.messages.fetch_add(1, Relaxed) + 1,
            r#type: said.r#type,
            body: said.body,
            extra: said.extra,
            sender: ctx.identity().map_or("", Identity::user).to_owned(),
            send_time: since.as_nanos() as i64,
        };
        let receipt = MessageResp { message_id: push.message_id, send_time: push.send_time };
        let dest = message.meta.get("dest").unwrap_or_default();
        match send(ctx, &dest, &push.encode_to_vec()) {
            Ok(()) => ctx.reply(&*receipt.encode_to_vec()),
            Err(error) => ctx.reply_error(error.code, &error.message),
        }
    }
}

/// To where an account has signed in.
fn to_user(ctx: &mut Context<'_>, dest: &str, push: &[u8]) -> Result<(), ErrorAnswer<'static>> {
    // Neither fails but where the gateway stops.
    let asked = ctx.gateway().logins_of(dest);
    let logins = asked.ok().and_then(|answer| answer.recv().ok()).unwrap_or_default();
    let Some(login) = logins.last() else {
        return Err(ErrorAnswer::new(NO_DESTINATION, format!("`{dest}` is not signed in")));
    };
    ctx.push(login.conn, Content::named(USER_TALK, push));
    Ok(())
}

/// A group is a room: its members may be clients of any dialect, and each hears it in its own.
fn to_group(ctx: &mut Context<'_>, dest: &str, push: &[u8]) -> Result<(), ErrorAnswer<'static>> {
    if !ctx.rooms().contains(&dest) {
        return Err(ErrorAnswer::new(NO_DESTINATION, format!("not in the group `{dest}`")));
    }
    ctx.publish(dest, Content::named(GROUP_TALK, push), SelfDelivery::Exclude)
}

/// To join a group or to quit it.
#[derive(Clone, PartialEq, prost::Message)]
struct GroupReq {
    #[prost(string, tag = "1")]
    account: String,
    #[prost(string, tag = "2")]
    group_id: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct MessageReq {
    #[prost(int32, tag = "1")]
    r#type: i32,
    #[prost(string, tag = "2")]
    body: String,
    #[prost(string, tag = "3")]
    extra: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct MessageResp {
    #[prost(int64, tag = "1")]
    message_id: i64,
    /// Nanoseconds since 1970.
    #[prost(int64, tag = "2")]
    send_time: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct MessagePush {
    #[prost(int64, tag = "1")]
    message_id: i64,
    #[prost(int32, tag = "2")]
    r#type: i32,
    #[prost(string, tag = "3")]
    body: String,
    #[prost(string, tag = "4")]
    extra: String,
    #[prost(string, tag = "5")]
    sender: String,
    /// Nanoseconds since 1970.
    #[prost(int64, tag = "6")]
    send_time: i64,
}
