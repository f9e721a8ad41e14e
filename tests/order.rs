//! Answers leave in order, and the Close behind all of them, whatever handlers take their time.

#[path = "support/client.rs"]
mod client;
#[path = "support/rng.rs"]
mod rng;

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use client::{CLOSE, Client, TEXT, put_close, put_masked};
use rng::Rng;
use serde_json::{Value, json};
use tidegate::app::{Running, Stopped};
use tidegate::routing::Gateway;

const MESSAGES: u64 = 1000;
const WORKERS: [usize; 3] = [0, 1, 4];
/// Longer than anything here takes on a machine under load: past it the gateway hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// How the client's stream ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Close,
    Violation,
    Eof,
}

impl End {
    const ALL: [Self; 3] = [Self::Close, Self::Violation, Self::Eof];

    fn code(self) -> u16 {
        if self == Self::Close { 1000 } else { 1002 }
    }

    fn put(self, out: &mut Vec<u8>) {
        match self {
            Self::Close => put_close(out, 1000),
            // A reserved opcode.
            Self::Violation => put_masked(out, true, 3, b""),
            Self::Eof => {}
        }
    }
}

fn start(loops: usize, workers: usize) -> (Running, SocketAddr) {
    let running = Gateway::builder()
        .configure(|config| {
            config.listen = vec![([127, 0, 0, 1], 0).into()];
            (config.loops, config.workers) = (loops, workers);
            // Handlers of these tests take their time together; the Close is to wait for them.
            config.close_timeout = Duration::from_secs(60);
        })
        .route("slow", |ctx, message| {
            let n: u64 = message.body.as_str().unwrap_or_default().parse().unwrap_or_default();
            // One in sixteen sleeps: a handler that takes long, among many that do not.
            let pause_us = Rng::new(n).next() % 16 * 100;
            if pause_us > 1400 {
                thread::sleep(Duration::from_micros(pause_us));
            }
            ctx.reply(message.body);
        })
        .route("panic", |_, _| panic!("a handler that is meant to"))
        .start()
        .expect("the gateway starts");
    let addr = running.addresses()[0];
    (running, addr)
}

fn connect(addr: SocketAddr, path: &str) -> Client {
    let client = Client::open(addr, path);
    client.be_patient(PATIENCE);
    client
}

fn stop(running: Running) -> Value {
    let (stopped, stats) = running.stop(|| false);
    assert_eq!(stopped, Stopped::Clean);
    assert_eq!(stats["totals"]["open"], 0, "{stats:#}");
    stats
}

fn put_request(out: &mut Vec<u8>, route: &str, id: u64, body: &Value) {
    let text = json!({ "route": route, "id": id, "body": body }).to_string();
    put_masked(out, true, TEXT, text.as_bytes());
}

fn next_json(client: &mut Client) -> Value {
    let frame = client.frame().expect("an answer");
    assert_eq!(frame.opcode, TEXT, "{frame:?}");
    serde_json::from_slice(&frame.payload).expect("JSON")
}

/// All in one write; at EOF, the end in the segment of the last bytes.
fn send_and_end(client: &mut Client, bytes: &[u8], end: End) {
    let socket = socket2::SockRef::from(&client.stream);
    socket.set_tcp_cork(end == End::Eof).unwrap();
    client.send(bytes);
    if end == End::Eof {
        client.finish();
    }
}

/// Lets go of the socket too: a connection that failed lingers for as long as its peer does.
fn expect_end(mut client: Client, end: End) {
    let frame = client.frame().expect("a Close");
    assert_eq!((frame.opcode, frame.close_code()), (CLOSE, Some(end.code())), "{end:?}");
    assert_eq!(client.frame(), None, "nothing follows the Close");
}

fn in_order(loops: usize, workers: usize, end: End, messages: u64) {
    let (running, addr) = start(loops, workers);
    let mut client = connect(addr, "/ws");
    let mut bytes = Vec::new();
    (0..messages).for_each(|id| put_request(&mut bytes, "slow", id, &json!(id)));
    end.put(&mut bytes);
    send_and_end(&mut client, &bytes, end);
    for id in 0..messages {
        assert_eq!(next_json(&mut client), json!({ "id": id, "body": id }), "{workers} workers");
    }
    expect_end(client, end);
    let stats = stop(running);
    assert_eq!(stats["totals"]["messages_out"], messages);
}

#[test]
fn a_thousand_answers_in_order_then_the_close() {
    WORKERS.into_iter().for_each(|workers| in_order(1, workers, End::Close, MESSAGES));
}

#[test]
fn a_thousand_answers_in_order_then_1002_for_a_violation() {
    WORKERS.into_iter().for_each(|workers| in_order(1, workers, End::Violation, MESSAGES));
}

#[test]
fn a_thousand_answers_in_order_then_the_end_after_eof() {
    WORKERS.into_iter().for_each(|workers| in_order(2, workers, End::Eof, MESSAGES));
}

#[test]
fn few_bytes_and_the_end_in_one_segment() {
    for workers in WORKERS {
        let (running, addr) = start(2, workers);
        for round in 0..50 {
            let mut client = connect(addr, "/echo");
            let mut bytes = Vec::new();
            let messages = 1 + round % 3;
            (0..messages).for_each(|n| put_masked(&mut bytes, true, TEXT, &[b'a' + n]));
            send_and_end(&mut client, &bytes, End::Eof);
            for n in 0..messages {
                assert_eq!(client.frame().expect("an echo").payload, [b'a' + n]);
            }
            expect_end(client, End::Eof);
        }
        let stats = stop(running);
        assert_eq!(stats["closes"]["peer_eof"], 50);
    }
}

/// What the answers to a mix with room work have shown so far.
#[derive(Default)]
struct Seen {
    answers: Vec<bool>,
    /// The last answer to `slow`.
    slow: Option<u64>,
    /// Per room, the last publish that came.
    published: [Option<u64>; ROOMS],
    publishes: u64,
}

const ROOMS: usize = 5;

impl Seen {
    fn note(&mut self, message: &Value) {
        if let Some(n) = message["data"].as_u64() {
            let room: usize = message["room"].as_str().unwrap()[1..].parse().unwrap();
            assert!(self.published[room] < Some(n), "room {room}: {n} behind a later one");
            self.published[room] = Some(n);
            self.publishes += 1;
            return;
        }
        let id = message["id"].as_u64().expect("an answer");
        assert!(message.get("error").is_none(), "{message}");
        assert!(!std::mem::replace(&mut self.answers[id as usize], true), "answered twice: {id}");
        if message["body"].is_u64() {
            assert!(self.slow < Some(id), "{id} behind a later answer");
            self.slow = Some(id);
        }
    }
}

fn with_rooms(workers: usize, end: End) {
    let (running, addr) = start(2, workers);
    let mut client = connect(addr, "/ws");
    let mut bytes = Vec::new();
    for id in 0..MESSAGES {
        let room = format!("r{}", id as usize / 4 % ROOMS);
        match id % 4 {
            0 => put_request(&mut bytes, "join", id, &json!({ "room": room })),
            1 => put_request(&mut bytes, "slow", id, &json!(id)),
            2 => {
                let body = json!({ "room": room, "data": id, "self": true });
                put_request(&mut bytes, "publish", id, &body);
            }
            _ => put_request(&mut bytes, "members", id, &json!({ "room": room })),
        }
    }
    end.put(&mut bytes);
    send_and_end(&mut client, &bytes, end);
    let mut seen = Seen { answers: vec![false; MESSAGES as usize], ..Seen::default() };
    // Everything that was asked for has its answer before the Close: counted, not waited for.
    for _ in 0..MESSAGES + MESSAGES / 4 {
        seen.note(&next_json(&mut client));
    }
    assert_eq!(seen.publishes, MESSAGES / 4, "every publish came back to its sender");
    assert!(seen.answers.iter().all(|answered| *answered));
    expect_end(client, end);
    stop(running);
}

#[test]
fn room_work_is_settled_before_the_close() {
    for workers in WORKERS {
        End::ALL.into_iter().for_each(|end| with_rooms(workers, end));
    }
}

#[test]
fn a_panic_is_answered_and_the_connection_lives() {
    for workers in WORKERS {
        let (running, addr) = start(1, workers);
        let mut client = connect(addr, "/ws");
        let mut bytes = Vec::new();
        for id in 0..30 {
            put_request(&mut bytes, if id % 3 == 1 { "panic" } else { "echo" }, id, &json!(id));
        }
        put_close(&mut bytes, 1000);
        client.send(&bytes);
        for id in 0..30 {
            let answer = next_json(&mut client);
            assert_eq!(answer["id"], id);
            if id % 3 == 1 {
                assert_eq!(answer["error"]["code"], 500, "{answer}");
            } else {
                assert_eq!(answer["body"], id);
            }
        }
        expect_end(client, End::Close);
        let stats = stop(running);
        assert_eq!(stats["worker_totals"]["panics"], 10);
    }
}
