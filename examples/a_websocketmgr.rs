//! System A's server: `cargo run --example a_websocketmgr`, then clients in the dialect `mef` on
//! ws://127.0.0.1:8080/ that name themselves in the header `clientName`.
//!
//! Modules are routes: a message's `option:resource` finds the handler, and what that answers goes
//! back by itself. Clients are pushed to by their names, and can be asked as they can ask.
//! `tests/transcripts/a.txt` is a conversation with it, byte by byte.
#![expect(clippy::print_stdout, reason = "an example talks to its user")]

use std::collections::HashMap;
use std::error::Error;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use clap::Parser;
use nix::sys::signal::{SigSet, Signal};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tidegate::{
    Accept, Admission, AskError, Body, ConnId, ConnectRequest, Content, Context, Dialect, Ended,
    Endpoint, ErrorAnswer, Gateway, Identity, Message, Refuse, Running, StartError,
};

/// How long a client may take to answer what it is asked.
const ASK_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest name of a client, bytes.
const NAME_MAX: usize = 64;

/// System A's server.
#[derive(Parser)]
pub(crate) struct Args {
    /// Address to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
}

fn main() -> Result<(), Box<dyn Error>> {
    // Blocked before any thread starts, so that Ctrl-C waits for us to ask for it below.
    let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM]);
    signals.thread_block()?;

    let running = start(&Args::parse())?;
    println!("system A on ws://{}/; Ctrl-C ends it", running.addresses()[0]);

    signals.wait()?;
    let (stopped, _statistics) = running.stop(|| false);
    println!("stopped: {stopped:?}");
    Ok(())
}

pub(crate) fn start(args: &Args) -> Result<Running, StartError> {
    Gateway::builder()
        .without_default_endpoints()
        .endpoint(endpoint())
        .listen(args.listen)
        .configure(|config| {
            // System A's limits and times.
            config.max_header_bytes = 1024;
            config.max_message_bytes = 1536 * 1024;
            config.max_frame_bytes = 1536 * 1024;
            config.handshake_timeout = Duration::from_secs(10);
            config.ping_interval = Some(Duration::from_secs(5));
            config.pong_timeout = Duration::from_secs(55);
        })
        .start()
}

fn endpoint() -> Endpoint {
    let clients = Arc::new(Clients::default());
    // Each hook and handler that needs the clients has a handle of its own.
    let [enter, left, list, send, query] = std::array::from_fn(|_| Arc::clone(&clients));
    Endpoint::new("/", Dialect::Mef)
        // One more is told so as the original does.
        .max_connections(1024)
        .full_status(400)
        .on_connect(move |request, admission| enter.enter(request, admission))
        .on_closed(move |ended| left.left(ended))
        .route_json("get:clients", move |_, ()| Ok(list.names()))
        .route("report:alarm", report_alarm)
        .route_json("count:alarms", count_alarms)
        .route_json("send:notice", move |ctx, notice| send.send(ctx, notice))
        .route("query:status", move |ctx, message| query.query(ctx, message))
}

/// Who is here, by name.
///
/// A handler that panics ends no thread, so a lock may be found poisoned; every change here is one
/// step, and what is behind the lock is whole.
#[derive(Default)]
struct Clients(Mutex<HashMap<String, ConnId>>);

impl Clients {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, ConnId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets in who has a good name that nobody else has. Until it decides, the client waits; a
    /// refusal is an HTTP answer, for there is no WebSocket yet.
    fn enter(&self, request: &ConnectRequest<'_>, admission: Admission) {
        let Some(name) = request.header("clientName").filter(|name| is_client_name(name)) else {
            return admission.refuse(Refuse::new(400, "clientName is missing or none\n"));
        };
        let mut clients = self.lock();
        if clients.contains_key(name) {
            return admission.refuse(Refuse::new(409, "clientName is in use\n"));
        }
        clients.insert(name.to_owned(), request.conn);
        admission.accept(Accept { identity: Identity::new(name).ok(), ..Accept::default() });
    }

    /// Frees the name, and tells the others.
    ///
    /// By connection, not by name: those whose name was in use end as well, and those that went
    /// before they were let in have no identity yet.
    fn left(&self, ended: &Ended<'_>) {
        let mut clients = self.lock();
        let Some((name, _)) = clients.extract_if(|_, conn| *conn == ended.conn).next() else {
            return;
        };
        drop(clients);
        let name = json!({ "name": name }).to_string();
        // `Gone` only where the gateway has stopped, and all clients with it.
        let _ = ended.gateway.push_to_all(Content::named("leave:client", Body::Json(&name)));
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = self.lock().keys().cloned().collect();
        names.sort_unstable();
        names
    }

    fn find(&self, name: &str) -> Result<ConnId, ErrorAnswer<'static>> {
        let conn = self.lock().get(name).copied();
        conn.ok_or_else(|| ErrorAnswer::new(404, format!("no client `{name}`")))
    }

    /// Pushes to one client. That it leaves meanwhile is no error: the push goes nowhere.
    fn send(&self, ctx: &mut Context<'_>, notice: Notice) -> Result<Value, ErrorAnswer<'static>> {
        let conn = self.find(&notice.to)?;
        let text = json!({ "from": ctx.identity(), "text": notice.text }).to_string();
        ctx.push(conn, Content::named("notice:text", Body::Json(&text)));
        Ok(json!("sent"))
    }

    /// Asks another client how it is, and answers when that has answered: nothing waits meanwhile.
    fn query(&self, ctx: &mut Context<'_>, message: &Message<'_>) {
        let conn = match message.body.parse::<Query>() {
            Ok(query) => self.find(&query.of),
            Err(e) => Err(ErrorAnswer::new(400, e.to_string())),
        };
        let conn = match conn {
            Ok(conn) => conn,
            Err(error) => return ctx.reply_error(error.code, &error.message),
        };
        let answer = ctx.later();
        ctx.ask(conn, "get:status", Body::Json("null"), ASK_TIMEOUT, move |status| {
            let _ = match status {
                Ok(status) => answer.reply(status),
                Err(e @ AskError::TimedOut) => answer.reply_error(504, &e.to_string()),
                Err(e) => answer.reply_error(502, &e.to_string()),
            };
        });
    }
}

/// Whether it matches `^[a-zA-Z0-9]([-_a-zA-Z0-9]{0,62}[a-zA-Z0-9])?$`.
pub(crate) fn is_client_name(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let [first, .., last] = name.as_bytes() else {
        // One letter is its own first and last.
        return matches!(name.as_bytes(), [only] if only.is_ascii_alphanumeric());
    };
    name.len() <= NAME_MAX
        && first.is_ascii_alphanumeric()
        && last.is_ascii_alphanumeric()
        && name.bytes().all(inner)
}

#[derive(Deserialize)]
struct Notice {
    to: String,
    text: Box<RawValue>,
}

#[derive(Deserialize)]
struct Query {
    of: String,
}

#[derive(Serialize)]
struct Alarms {
    alarms: i64,
}

/// Takes what wants no answer (`isSync` is false), and gives none. The store is the connection's
/// own, and ends with it.
fn report_alarm(ctx: &mut Context<'_>, _: &Message<'_>) {
    if let Err(e) = ctx.store().incr("alarms", 1) {
        ctx.reply_error(500, &e.to_string());
    }
}

fn count_alarms(ctx: &mut Context<'_>, (): ()) -> Result<Alarms, ErrorAnswer<'static>> {
    let alarms = ctx.store().get("alarms").and_then(|count| count.as_int());
    Ok(Alarms { alarms: alarms.unwrap_or_default() })
}
