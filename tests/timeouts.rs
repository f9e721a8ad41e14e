//! What time does to a connection.

mod support;

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::Value;
use tidegate::app::Running;
use tidegate::routing::{Endpoint, Gateway as Library, Liveness};

use support::Gateway;
use support::client::{
    BINARY, CONTINUATION, Client, Frame, PING, PONG, TEXT, close_frame, fragment, frame, request,
};

#[test]
fn a_request_that_does_not_come_is_answered_408() {
    let mut gateway = Gateway::start(&["--handshake-timeout", "200ms"]);
    for sent in [&b""[..], &request("/echo")[..50]] {
        let mut client = Client::dial(gateway.addr);
        client.send(sent);
        let answer = client.response();
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer:?}");
    }
    let stats = gateway.stats_until("both gone", |stats| stats["totals"]["connections"] == 0);
    assert_eq!(stats["refusals"]["handshake_timeout"], 2);
}

#[test]
fn an_idle_client_is_closed_and_a_busy_one_is_not() {
    let times = ["--idle-timeout", "1s", "--ping-interval", "1h", "--close-timeout", "200ms"];
    let mut gateway = Gateway::start(&times);
    let mut idle = Client::echo(gateway.addr);
    let mut busy = Client::echo(gateway.addr);
    while gateway.stats()["closes"]["idle_timeout"] == 0 && gateway.stats()["totals"]["open"] == 2 {
        busy.echoes(b"not idle");
    }
    idle.expect_close(1001);
    busy.echoes(b"still there");
}

#[test]
fn an_endpoint_has_times_of_its_own() {
    let ms = Duration::from_millis;
    let short = Liveness { idle_timeout: Some(Some(ms(300))), ..Liveness::default() };
    let pinged = Liveness { ping_interval: Some(Some(ms(100))), ..Liveness::default() };
    let running = Library::builder()
        .listen(([127, 0, 0, 1], 0))
        .configure(|config| config.ping_interval = None)
        .endpoint(Endpoint::echo("/short").liveness(short))
        .endpoint(Endpoint::echo("/pinged").liveness(pinged))
        .start()
        .unwrap();
    let open = |path| Client::open(running.addresses()[0], path);
    let (mut short, mut pinged, mut other) = (open("/short"), open("/pinged"), open("/echo"));
    short.expect_close(1001);
    let ping = pinged.frame().expect("a ping");
    assert_eq!(ping.opcode, PING);
    other.echoes(b"neither pinged nor closed");
}

#[test]
fn a_dripping_message_is_ended_whatever_comes_between() {
    let mut gateway = Gateway::start(&["--message-timeout", "500ms"]);
    let mut client = Client::echo(gateway.addr);
    client.send(&fragment(BINARY, b"begun"));
    let mut writer = client.writer();
    let dripping = thread::spawn(move || {
        let drop = [fragment(CONTINUATION, b"."), frame(PONG, b"")].concat();
        // Until the gateway has closed.
        while writer.write_all(&drop).is_ok() {
            thread::sleep(Duration::from_millis(20));
        }
    });
    client.expect_close(1008);
    client.send(&close_frame(1008));
    client.expect_end();
    drop(client);
    dripping.join().unwrap();
    assert_eq!(gateway.stats()["closes"]["message_timeout"], 1);
}

#[test]
fn a_ping_follows_silence_only() {
    let mut gateway = Gateway::start(&["--ping-interval", "1s", "--pong-timeout", "1m"]);
    let mut silent = Client::echo(gateway.addr);
    let mut busy = Client::echo(gateway.addr);
    while gateway.stats()["totals"]["pings_out"] == 0 {
        // A ping here would not be what is expected.
        busy.echoes(b"not silent");
    }
    silent.expect(PING, b"");
    silent.send(&frame(PONG, b""));
    silent.expect(PING, b"");
}

#[test]
fn a_peer_that_does_not_answer_pings_is_cut() {
    let args = ["--ping-interval", "200ms", "--pong-timeout", "500ms"];
    let mut gateway = Gateway::start(&args);
    let mut half_open = Client::echo(gateway.addr);
    let mut answering = Client::echo(gateway.addr);
    let mut pings = 0;
    while gateway.stats()["closes"]["pong_timeout"] == 0 {
        answering.expect(PING, b"");
        answering.send(&frame(PONG, b""));
        pings += 1;
    }
    assert!(pings >= 2, "cut after {pings} pings");
    assert!(half_open.rest().iter().all(|frame| frame.opcode == PING));
    answering.send(&frame(BINARY, b"still there"));
    assert_eq!(answer(&mut answering).unwrap().payload, b"still there");
    assert_eq!(gateway.stats()["totals"]["closed"], 1);
}

#[test]
fn a_peer_that_does_not_answer_the_close_is_left() {
    let mut gateway = Gateway::start(&["--idle-timeout", "200ms", "--close-timeout", "200ms"]);
    let mut client = Client::echo(gateway.addr);
    client.expect_close(1001);
    client.expect_end();
    let stats = gateway.stats_until("it gone", |stats| stats["totals"]["connections"] == 0);
    assert_eq!(stats["closes"]["idle_timeout"], 1);
}

#[test]
fn a_message_that_is_cut_short_does_not_hide_the_close() {
    let mut gateway = Gateway::start(&["--message-timeout", "200ms", "--close-timeout", "1m"]);
    let mut client = Client::echo(gateway.addr);
    // The second half would be no frame, if it were taken for one.
    let message = frame(BINARY, &[0xa5; 1_000]);
    let (first, second) = message.split_at(500);
    client.send(first);
    client.expect_close(1008);
    let before = bytes_in(&gateway.stats());
    client.send(second);
    let read = |stats: &Value| bytes_in(stats) == before + second.len() as u64;
    let stats = gateway.stats_until("the second half read", read);
    assert_eq!(stats["totals"]["open"], 1, "it waits for the peer's Close");
    client.send(&close_frame(1008));
    client.expect_end();
    let stats = gateway.stats_until("it gone", |stats| stats["totals"]["open"] == 0);
    assert_eq!(stats["closes"]["message_timeout"], 1);
}

const PONG_TIMEOUT: Duration = Duration::from_millis(300);
/// What each client says while the worker is blocked.
const MESSAGES: u32 = 50;

#[test]
fn a_blocked_worker_closes_nobody() {
    let mut blocked = Blocked::start(Some(PONG_TIMEOUT / 2));
    let clients: Vec<_> = (0..20).map(|_| Client::echo(blocked.addr)).collect();
    blocked.begin();
    let talks: Vec<_> =
        clients.into_iter().map(|client| thread::spawn(move || talk(client))).collect();
    blocked.stats_until("many paused", |stats| count(stats, "paused") > 10);
    // Not a wait for anything: for this long nobody may be closed.
    thread::sleep(PONG_TIMEOUT * 3);
    let stats = blocked.running.stats();
    assert_eq!(count(&stats, "closed"), 0, "{:#}", stats["closes"]);
    assert!(count(&stats, "paused") > 10, "the worker was not blocked");
    blocked.end();
    for talk in talks {
        talk.join().expect("all was answered");
    }
    assert_eq!(blocked.running.stats()["closes"]["pong_timeout"], 0);
}

#[test]
fn peers_that_die_beside_a_blocked_worker_are_seen() {
    let mut blocked = Blocked::start(None);
    let mut talking = Client::echo(blocked.addr);
    let silent = Client::echo(blocked.addr);
    let mut others: Vec<_> = (0..4).map(|_| Client::echo(blocked.addr)).collect();
    blocked.begin();
    // One after another, so that the lane is full whatever is read together.
    for i in 0..MESSAGES {
        others.iter_mut().for_each(|client| client.send(&message(i)));
        if count(&blocked.running.stats(), "paused") > 0 {
            break;
        }
    }
    blocked.stats_until("a pause", |stats| count(stats, "paused") > 0);
    talking.send(&message(0));
    let paused = count(&blocked.running.stats(), "paused");
    blocked.stats_until("the talker paused", |stats| count(stats, "paused") >= paused);
    talking.reset();
    silent.reset();
    let stats = blocked.stats_until("both gone", |stats| count(stats, "open") == 5);
    assert_eq!(stats["closes"]["socket_error"], 2);
    assert!(count(&stats, "paused") > 0, "the worker was not blocked");
    blocked.end();
}

/// A gateway of one loop and one worker, whose route `block` holds that worker up.
struct Blocked {
    running: Running,
    addr: SocketAddr,
    begun: Receiver<()>,
    release: Sender<()>,
    waiting: Option<JoinHandle<()>>,
}

impl Blocked {
    fn start(ping_interval: Option<Duration>) -> Self {
        let (begin, begun) = channel();
        let (release, released) = channel();
        let released = Mutex::new(released);
        let running = Library::builder()
            .configure(|config| {
                config.listen = vec![([127, 0, 0, 1], 0).into()];
                config.ping_interval = ping_interval;
                config.pong_timeout = PONG_TIMEOUT;
                config.idle_timeout = ping_interval.map(|interval| interval * 4);
                config.tuning.message_lane_capacity = 1;
            })
            .route("block", move |context, _| {
                begin.send(()).unwrap();
                released.lock().unwrap().recv().unwrap();
                context.reply_json(&"released");
            })
            .start()
            .unwrap();
        let addr = running.addresses()[0];
        Self { running, addr, begun, release, waiting: None }
    }

    /// Has the worker held up by a client that waits for its answer.
    fn begin(&mut self) {
        let mut client = Client::open(self.addr, "/ws");
        client.send(&frame(TEXT, br#"{"route":"block","id":1}"#));
        self.begun.recv().unwrap();
        self.waiting = Some(thread::spawn(move || {
            assert_eq!(answer(&mut client).unwrap().payload, br#"{"id":1,"body":"released"}"#);
        }));
    }

    /// Lets the worker go on, which the client that held it up is told.
    fn end(&mut self) {
        self.release.send(()).unwrap();
        self.waiting.take().unwrap().join().expect("released");
    }

    fn stats_until(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let stats = self.running.stats();
            if wanted(&stats) {
                return stats;
            }
            assert!(Instant::now() < deadline, "never saw {what}; last:\n{stats:#}");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Sends messages one by one, answers pings, and reads the echoes, which have to be in order.
fn talk(mut client: Client) {
    for i in 0..MESSAGES {
        client.send(&message(i));
        thread::yield_now();
    }
    for i in 0..MESSAGES {
        let answer = answer(&mut client).expect("an echo, not the end");
        assert_eq!(answer.payload, i.to_be_bytes());
    }
}

/// The next frame that is no ping; pings are answered.
fn answer(client: &mut Client) -> Option<Frame> {
    loop {
        let frame = client.frame()?;
        if frame.opcode != PING {
            return Some(frame);
        }
        client.send(&support::client::frame(PONG, &frame.payload));
    }
}

fn message(i: u32) -> Vec<u8> {
    frame(BINARY, &i.to_be_bytes())
}

fn count(stats: &Value, counter: &str) -> u64 {
    stats["totals"][counter].as_u64().unwrap()
}

fn bytes_in(stats: &Value) -> u64 {
    count(stats, "bytes_in")
}
