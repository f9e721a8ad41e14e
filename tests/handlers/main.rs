//! What handlers, hooks and the gateway's handle can do, over real sockets, with messages routed on
//! the loops and on workers.

mod also;
mod asks;
mod asks_at_the_end;
mod blocking;
#[path = "../support/client.rs"]
mod client;
mod cross_dialect;
mod handle;
mod hooks;
mod limits;
mod login;
mod login_kim;
mod middleware;
mod origins;
mod outbound;
mod places;
mod pulls;
mod pushes;
mod rooms;
mod rooms_listed;
mod rooms_told;
mod routes;
mod sessions;
mod speakers;
mod squeezed;
mod store;
mod targets;
#[path = "../support/tcp_client.rs"]
mod tcp_client;
mod timeouts;

use std::net::SocketAddr;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidegate::{
    Config, ConnId, Context, Dialect, Endpoint, Gateway, GatewayBuilder, JsonDialect, Message,
    Running, TcpFraming,
};

use crate::client::Client;

/// Longer than anything here takes on a machine under load: past it the gateway hangs.
const PATIENCE: Duration = Duration::from_secs(60);
/// The path of the endpoint that most tests have.
const PATH: &str = "/t";

/// Where messages are routed.
#[derive(Clone, Copy, Debug)]
struct Setup {
    workers: usize,
}

impl Setup {
    fn start(self, builder: GatewayBuilder) -> Running {
        self.start_with(builder, |_| {})
    }

    fn start_with(self, builder: GatewayBuilder, change: impl FnOnce(&mut Config)) -> Running {
        builder
            .listen(([127, 0, 0, 1], 0))
            .configure(|config| {
                (config.loops, config.workers) = (2, self.workers);
                change(config);
            })
            .start()
            .expect("it starts")
    }

    /// A gateway with one endpoint.
    fn serve(self, endpoint: Endpoint) -> Running {
        self.start(only(endpoint))
    }
}

/// The test, with messages routed on two loops and on two workers.
fn both(test: impl Fn(Setup)) {
    for workers in [0, 2] {
        test(Setup { workers });
    }
}

/// Frames over plain TCP have opcodes, whatever the endpoint's dialect.
fn with_opcodes(config: &mut Config) {
    for listen in &mut config.tcp_listen {
        listen.framing = Some(TcpFraming::Opcode);
    }
}

fn only(endpoint: Endpoint) -> GatewayBuilder {
    Gateway::builder().without_default_endpoints().endpoint(endpoint)
}

/// The endpoint that most tests have: JSON, with the route `echo`, and `id`, which hands out who asks.
fn endpoint() -> Endpoint {
    json_at(PATH)
}

fn json_at(path: &str) -> Endpoint {
    let dialect = Dialect::Json(JsonDialect::default());
    Endpoint::new(path, dialect).route("echo", |ctx, m| ctx.reply(m.body))
}

/// With the route `id`, which hands out the asker's id.
fn telling_ids(endpoint: Endpoint) -> (Endpoint, Receiver<ConnId>) {
    let (ids, told) = mpsc::channel();
    (endpoint.route("id", tell(&ids)), told)
}

fn tell(ids: &Sender<ConnId>) -> impl Fn(&mut Context<'_>, &Message<'_>) + Send + Sync + 'static {
    let ids = ids.clone();
    move |ctx, _| {
        // The test may have ended.
        let _ = ids.send(ctx.conn());
    }
}

fn addr(running: &Running) -> SocketAddr {
    running.addresses()[0]
}

fn open(running: &Running) -> Client {
    Client::open(addr(running), PATH)
}

/// A client that is open, and its id.
fn open_known(running: &Running, told: &Receiver<ConnId>) -> (Client, ConnId) {
    let mut client = open(running);
    assert_eq!(client.ask("id", 0, json!(null))["body"], json!(null));
    (client, got(told))
}

/// Two clients whose connections are on different loops.
fn open_apart(running: &Running, told: &Receiver<ConnId>) -> [(Client, ConnId); 2] {
    let first = open_known(running, told);
    let mut others = Vec::new();
    for _ in 0..64 {
        let other = open_known(running, told);
        if other.1.loop_index() != first.1.loop_index() {
            return [first, other];
        }
        others.push(other);
    }
    panic!("{} connections, all on one loop", others.len());
}

/// What comes next through a channel.
fn got<T>(channel: &Receiver<T>) -> T {
    channel.recv_timeout(PATIENCE).expect("it comes")
}

/// Nothing has come through a channel.
fn nothing<T: std::fmt::Debug>(channel: &Receiver<T>) {
    let more: Vec<T> = channel.try_iter().collect();
    assert!(more.is_empty(), "{more:?}");
}

fn late(running: &Running) -> u64 {
    running.stats()["late_answers"].as_u64().expect("a number")
}

/// Polls the statistics until `wanted` holds for them.
fn stats_until(running: &Running, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let stats = running.stats();
        if wanted(&stats) {
            return stats;
        }
        assert!(Instant::now() < deadline, "never saw {what}; last:\n{stats:#}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until no connection is left.
fn all_gone(running: &Running) {
    stats_until(running, "its end", |s| s["totals"]["connections"] == 0);
}
