//! System E's server: `cargo run --example e_hub`, then clients in the dialect `hub` on
//! ws://127.0.0.1:8080/hub?user=ann&type=1&device=phone&source=app. Who connects again with the same
//! four displaces who was there.
//!
//! | protocol | what it does |
//! |---|---|
//! | 2 | comes back as it came: a request is answered, a one-way message returned by another |
//! | 3 | one way: adds news, of which every client gets to know |
//! | 4 | one way, to clients: news |
//! | 5 | has the client asked by protocol 6, and answers what it answers |
//! | 6 | takes what clients answer |
//! | 7 | answers how often it did |
//!
//! `tests/transcripts/e.txt` is a conversation with it, byte by byte.
#![expect(clippy::print_stdout, reason = "an example talks to its user")]

use std::collections::HashSet;
use std::error::Error;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use clap::Parser;
use nix::sys::signal::{SigSet, Signal};
use tidegate::{
    AskError, Body, ConnId, Content, Context, Dialect, Endpoint, Gateway, IdentityPart,
    IdentitySource, Message, Running, SessionPolicy, StartError,
};

/// How long a client may take to answer what it is asked.
const ASK_TIMEOUT: Duration = Duration::from_secs(6);
/// The pull channel.
const NEWS: &str = "news";
/// Under which key of its store a connection has how many news it got.
const SEEN: &str = "seen";
/// Under which key it has how often it answered.
const ANSWERS: &str = "answers";

/// System E's server.
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
    println!("system E on ws://{}/hub; Ctrl-C ends it", running.addresses()[0]);

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
            // System E's limit and times.
            config.max_message_bytes = 512 * 1024;
            config.max_frame_bytes = 512 * 1024;
            config.ping_interval = Some(Duration::from_secs(24));
            config.pong_timeout = Duration::from_secs(36);
            config.write_timeout = Duration::from_secs(60);
        })
        .start()
}

fn endpoint() -> Endpoint {
    let news = Arc::new(News::default());
    let [opened, closed, add, fetch] = std::array::from_fn(|_| Arc::clone(&news));
    Endpoint::new("/hub", Dialect::Hub)
        .identified_by(identity())
        .session(SessionPolicy::Displace)
        .on_established(move |ctx| opened.open(ctx))
        .on_closed(move |ended| closed.close(ended.conn))
        .pull(NEWS, move |ctx| fetch.send_new(ctx))
        .route("2", echo)
        .route("3", move |ctx, message| add.add(ctx, message))
        .route("5", ask_back)
        .route("6", count_answer)
        .route("7", answers)
}

/// Requests are answered with their own serial number. A one-way message has none, and so it is
/// returned by a message that has none.
fn echo(ctx: &mut Context<'_>, message: &Message<'_>) {
    if ctx.wants_answer() {
        ctx.reply(message.body);
    } else {
        ctx.push(ctx.conn(), Content::named("2", message.body));
    }
}

/// Asks who asked, under an odd number, and answers what comes back. Nothing waits meanwhile: the
/// callback runs when the answer is there, or when it is too late for one.
fn ask_back(ctx: &mut Context<'_>, message: &Message<'_>) {
    let answer = ctx.later();
    ctx.ask(ctx.conn(), "6", message.body, ASK_TIMEOUT, move |said| {
        let _ = match said {
            Ok(said) => answer.reply(said),
            Err(e @ AskError::TimedOut) => answer.reply_error(504, &e.to_string()),
            Err(e) => answer.reply_error(502, &e.to_string()),
        };
    });
}

/// What a client answers goes to the handler of its protocol as well, as system E has it.
fn count_answer(ctx: &mut Context<'_>, _: &Message<'_>) {
    // It fails where the number is too high, and then it stays as it is.
    let _ = ctx.store().incr(ANSWERS, 1);
}

fn answers(ctx: &mut Context<'_>, _: &Message<'_>) {
    let count = ctx.store().get(ANSWERS).and_then(|count| count.as_int()).unwrap_or_default();
    ctx.reply(count.to_string().as_str());
}

/// User, type, device and source, which tell clients apart.
fn identity() -> IdentitySource {
    let parts = ["user", "type", "device", "source"];
    let id = parts.map(|part| IdentityPart::Query(part.into())).into();
    let version = Some(IdentityPart::Query("version".into()));
    IdentitySource { id, version, charset: Some(IdentityPart::Query("charset".into())) }
}

/// All news, and all who want them.
#[derive(Default)]
struct News(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    items: Vec<Box<[u8]>>,
    readers: HashSet<ConnId>,
}

impl News {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives what is new from now on.
    fn open(&self, ctx: &mut Context<'_>) {
        let mut inner = self.lock();
        inner.readers.insert(ctx.conn());
        // A small number under a short key is always taken.
        let _ = ctx.store().set(SEEN, inner.items.len() as i64);
    }

    fn close(&self, conn: ConnId) {
        self.lock().readers.remove(&conn);
    }

    /// Adds an item, and says to all that there is something new: not what, so that however much
    /// comes, a client that is slow to fetch is owed one signal.
    fn add(&self, ctx: &mut Context<'_>, message: &Message<'_>) {
        let mut inner = self.lock();
        inner.items.push(message.body.as_bytes().into());
        for reader in &inner.readers {
            ctx.signal(*reader, NEWS);
        }
    }

    /// The channel's runner: on a pool apart, where it might read a database, one at a time for
    /// each connection.
    fn send_new(&self, ctx: &mut Context<'_>) {
        let store = ctx.store();
        let seen = store.get(SEEN).and_then(|seen| seen.as_int()).unwrap_or_default();
        let inner = self.lock();
        for item in inner.items.iter().skip(seen as usize) {
            ctx.push(ctx.conn(), Content::named("4", Body::Binary(item)));
        }
        let _ = store.set(SEEN, inner.items.len() as i64);
    }
}
