//! System D's server: `cargo run --example d_kim`, then clients in the dialect `kim` on
//! ws://127.0.0.1:8080/kim or, with the same packets in TCP frames, on 127.0.0.1:8081.
//!
//! Who connects signs in first, by a token that is a JWT (HS256) with `acc` and `exp`; then accounts
//! talk to each other and to groups. Bodies are protobuf, declared below as their `.proto` has them.
//! `tests/transcripts/d.txt` is a conversation with it, byte by byte.
#![expect(clippy::print_stdout, reason = "an example talks to its user")]

use std::collections::HashMap;
use std::error::Error;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Parser;
use data_encoding::BASE64URL_NOPAD;
use hmac::{Hmac, KeyInit, Mac};
use nix::sys::signal::{SigSet, Signal};
use prost::Message as _;
use serde::Deserialize;
use sha2::Sha256;
use tidegate::{
    Body, ConnId, Content, Context, Dialect, Ended, Endpoint, ErrorAnswer, Flow, Gateway, Message,
    Running, SelfDelivery, StartError,
};

const SIGN_IN: &str = "login.signin";
const USER_TALK: &str = "chat.user.talk";
const GROUP_TALK: &str = "chat.group.talk";

/// Statuses of system D. Codes of errors below 400 reach its clients as they are.
const NO_DESTINATION: u16 = 100;
const INVALID_PACKET_BODY: u16 = 101;
const INVALID_COMMAND: u16 = 103;
const UNAUTHORIZED: u16 = 105;

/// Under which key of its store a connection has its account.
const ACCOUNT: &str = "account";

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
    let (opened, waiting) = mpsc::channel();
    thread::spawn(move || close_late(&waiting, login_wait));
    let chat = Arc::new(Chat { secret: secret.to_owned(), ..Chat::default() });
    let [sign_in, sign_out, left, user, group] = std::array::from_fn(|_| Arc::clone(&chat));
    Endpoint::new("/kim", Dialect::Kim)
        // The thread is there for as long as the endpoint, so it takes them all.
        .on_established(move |ctx| {
            drop(opened.send((ctx.gateway().clone(), ctx.conn(), Instant::now())))
        })
        .before(signed_in)
        .on_closed(move |ended| left.left(ended))
        .route(SIGN_IN, move |ctx, message| sign_in.sign_in(ctx, message))
        .route("login.signout", move |ctx, _| sign_out.sign_out(ctx))
        .route_proto("chat.group.join", |ctx, GroupReq { group_id, .. }| ctx.join(&group_id))
        .route_proto("chat.group.quit", |ctx, GroupReq { group_id, .. }| ctx.leave(&group_id))
        .route(USER_TALK, move |ctx, message| user.talk(ctx, message, Chat::to_user))
        .route(GROUP_TALK, move |ctx, message| group.talk(ctx, message, Chat::to_group))
        // What a handler does not answer itself is answered by an empty body.
        .route("chat.talk.ack", |_, _| {})
}

/// Closes those who have not signed in in time. They come in the order in which they are due.
fn close_late(waiting: &Receiver<(Gateway, ConnId, Instant)>, login_wait: Duration) {
    for (gateway, conn, since) in waiting {
        thread::sleep((since + login_wait).saturating_duration_since(Instant::now()));
        // Behind all that has come from the connection, and not if that has ended. `Gone` only where
        // the gateway has stopped.
        let _ = gateway.run_on(conn, |ctx| {
            if account_of(ctx).is_none() {
                ctx.close(1008, "not signed in in time");
            }
        });
    }
}

/// Runs ahead of every handler: the first packet has to be a sign-in.
fn signed_in(ctx: &mut Context<'_>, message: &Message<'_>) -> Flow {
    if message.key == SIGN_IN || account_of(ctx).is_some() {
        return Flow::Continue;
    }
    ctx.reply_error(INVALID_COMMAND, "sign in first");
    // Behind the answer.
    ctx.close(1008, "not signed in");
    Flow::Stop
}

fn account_of(ctx: &mut Context<'_>) -> Option<String> {
    Some(ctx.store().get(ACCOUNT)?.as_str()?.to_owned())
}

/// Where an account is signed in.
struct Place {
    conn: ConnId,
    channel_id: String,
}

#[derive(Default)]
struct Chat {
    secret: String,
    accounts: Mutex<HashMap<String, Place>>,
    sign_ins: AtomicI64,
    messages: AtomicI64,
}

impl Chat {
    fn accounts(&self) -> MutexGuard<'_, HashMap<String, Place>> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sign_in(&self, ctx: &mut Context<'_>, message: &Message<'_>) {
        let account = LoginReq::decode(message.body.as_bytes())
            .map_err(|_| ErrorAnswer::new(INVALID_PACKET_BODY, "the body is no LoginReq"))
            .and_then(|login| {
                account_in(&login.token, self.secret.as_bytes())
                    .map_err(|why| ErrorAnswer::new(UNAUTHORIZED, why))
            });
        match account {
            Ok(account) => self.enter(ctx, account),
            Err(error) => {
                ctx.reply_error(error.code, &error.message);
                ctx.close(1008, "not signed in");
            }
        }
    }

    fn enter(&self, ctx: &mut Context<'_>, account: String) {
        match ctx.store().set(ACCOUNT, account.as_str()) {
            Ok(None) => {}
            Ok(Some(_)) => return ctx.reply_error(INVALID_COMMAND, "signed in already"),
            Err(e) => return ctx.reply_error(UNAUTHORIZED, &e.to_string()),
        }
        let number = self.sign_ins.fetch_add(1, Relaxed) + 1;
        let channel_id = format!("tidegate_{account}_{number}");
        let place = Place { conn: ctx.conn(), channel_id: channel_id.clone() };
        let old = self.accounts().insert(account.clone(), place);
        if let Some(Place { conn, channel_id }) = old {
            let notify = KickoutNotify { channel_id }.encode_to_vec();
            let notify = Content::named(SIGN_IN, Body::Binary(&notify));
            // One by one through the handle, so that the Close stays behind the notice. `Gone` only
            // where the gateway has stopped.
            let _ = ctx.gateway().push(conn, notify);
            let _ = ctx.gateway().close(conn, 1000, "signed in elsewhere");
        }
        ctx.reply(&*LoginResp { channel_id, account }.encode_to_vec());
    }

    fn sign_out(&self, ctx: &mut Context<'_>) {
        self.forget(ctx.conn());
        ctx.reply(&b""[..]);
        ctx.close(1000, "signed out");
    }

    fn left(&self, ended: &Ended<'_>) {
        self.forget(ended.conn);
    }

    /// By connection: one that was displaced leaves the account to the one that has it now.
    fn forget(&self, conn: ConnId) {
        self.accounts().retain(|_, place| place.conn != conn);
    }

    /// What all talk has in common; `send` passes it on to where it is meant to go.
    fn talk(
        &self,
        ctx: &mut Context<'_>,
        message: &Message<'_>,
        send: fn(&Self, &mut Context<'_>, &str, &[u8]) -> Result<(), ErrorAnswer<'static>>,
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
            sender: account_of(ctx).unwrap_or_default(),
            send_time: since.as_nanos() as i64,
        };
        let receipt = MessageResp { message_id: push.message_id, send_time: push.send_time };
        let dest = message.meta.get("dest").unwrap_or_default();
        match send(self, ctx, &dest, &push.encode_to_vec()) {
            Ok(()) => ctx.reply(&*receipt.encode_to_vec()),
            Err(error) => ctx.reply_error(error.code, &error.message),
        }
    }

    fn to_user(
        &self,
        ctx: &mut Context<'_>,
        dest: &str,
        push: &[u8],
    ) -> Result<(), ErrorAnswer<'static>> {
        let place = self.accounts().get(dest).map(|place| place.conn);
        let conn = place.ok_or_else(|| {
            ErrorAnswer::new(NO_DESTINATION, format!("`{dest}` is not signed in"))
        })?;
        ctx.push(conn, Content::named(USER_TALK, push));
        Ok(())
    }

    /// A group is a room: its members may be clients of any dialect, and each hears it in its own.
    fn to_group(
        &self,
        ctx: &mut Context<'_>,
        dest: &str,
        push: &[u8],
    ) -> Result<(), ErrorAnswer<'static>> {
        if !ctx.rooms().contains(&dest) {
            return Err(ErrorAnswer::new(NO_DESTINATION, format!("not in the group `{dest}`")));
        }
        ctx.publish(dest, Content::named(GROUP_TALK, push), SelfDelivery::Exclude)
    }
}

/// What a token says.
#[derive(Deserialize)]
struct Claims {
    /// The account.
    acc: String,
    /// When it expires, seconds since 1970.
    exp: u64,
}

/// The account that a token (RFC 7519, signed as RFC 7518, 3.2 has it) is for.
fn account_in(token: &str, secret: &[u8]) -> Result<String, &'static str> {
    let (signed, signature) = token.rsplit_once('.').ok_or("the token is no JWT")?;
    let (header, claims) = signed.split_once('.').ok_or("the token is no JWT")?;
    let signature = BASE64URL_NOPAD.decode(signature.as_bytes()).unwrap_or_default();
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).map_err(|_| "there is no secret")?;
    mac.update(signed.as_bytes());
    // Takes as long for every wrong signature.
    mac.verify_slice(&signature).map_err(|_| "the token's signature is wrong")?;
    // What is signed was made by one who has the secret; that the algorithm is the one that was
    // checked is asked all the same (RFC 8725, 3.1).
    let header = BASE64URL_NOPAD.decode(header.as_bytes()).unwrap_or_default();
    let header: serde_json::Value = serde_json::from_slice(&header).unwrap_or_default();
    if header["alg"] != "HS256" {
        return Err("the token's algorithm is not HS256");
    }
    let claims = BASE64URL_NOPAD.decode(claims.as_bytes()).unwrap_or_default();
    let claims: Claims = serde_json::from_slice(&claims).map_err(|_| "the token lacks claims")?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    if claims.exp <= now.as_secs() {
        return Err("the token has expired");
    }
    Ok(claims.acc)
}

#[derive(Clone, PartialEq, prost::Message)]
struct LoginReq {
    #[prost(string, tag = "1")]
    token: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct LoginResp {
    #[prost(string, tag = "1")]
    channel_id: String,
    #[prost(string, tag = "2")]
    account: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct KickoutNotify {
    #[prost(string, tag = "1")]
    channel_id: String,
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
