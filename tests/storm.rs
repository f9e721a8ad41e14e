//! Storms of joins, leaves, publishes and ends over lanes that hold one piece each: everything is
//! answered, the order of rooms holds, and nothing is left behind.
//!
//! `TIDEGATE_STORM_SEED=n` runs one seed. A run depends on its seed but for how threads meet.

#[path = "support/client.rs"]
mod client;
#[path = "support/rng.rs"]
mod rng;
#[path = "storm/rules.rs"]
mod rules;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use client::{CLOSE, Client, Frame, TEXT, put_close, put_masked};
use rng::{Rng, seeds};
use rules::{Event, History, Log, Publish};
use serde_json::{Value, json};
use tidegate::app::{Running, Stopped};
use tidegate::routing::{Accept, Gateway};

const ROOMS: usize = 4;
/// The room that every connection is in from the start, where `on_connect` is asked.
const LOBBY: usize = 0;
/// A run that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a run is made of.
#[derive(Clone, Copy, Debug)]
struct Plan {
    seed: u64,
    loops: usize,
    workers: usize,
    clients: usize,
    lobby: bool,
}

/// What the threads of a run share.
struct Storm {
    plan: Plan,
    addr: SocketAddr,
    /// Stamps: a larger one was taken later.
    clock: AtomicU64,
    names: AtomicU64,
    history: Mutex<History>,
    /// All clients have their answers, so all publishes are in the homes' order.
    calm: Barrier,
}

impl Storm {
    fn stamp(&self) -> u64 {
        self.clock.fetch_add(1, SeqCst)
    }
}

/// What was asked for and is not answered yet.
#[derive(Clone, Copy, Debug)]
enum Asked {
    Join { room: usize, begun: u64 },
    Leave { room: usize, begun: u64 },
    Publish { index: usize },
    Members,
    Echo,
}

/// One connection of a client.
struct Member<'a> {
    storm: &'a Storm,
    client: Client,
    log: Log,
    asked: Vec<Option<Asked>>,
    open: usize,
}

impl<'a> Member<'a> {
    fn connect(storm: &'a Storm) -> Self {
        let name = storm.names.fetch_add(1, SeqCst);
        let begun = storm.stamp();
        let client = Client::open(storm.addr, "/ws");
        client.be_patient(PATIENCE);
        let mut log = Log::new(name);
        if storm.plan.lobby {
            log.events.push(Event::Joined { room: LOBBY, begun, answered: storm.stamp() });
        }
        Self { storm, client, log, asked: Vec::new(), open: 0 }
    }

    /// Puts a random request into `out`.
    fn ask(&mut self, rng: &mut Rng, out: &mut Vec<u8>) {
        let room = rng.below(ROOMS);
        let begun = self.storm.stamp();
        match rng.below(10) {
            0..3 => {
                self.put(out, "join", &json!({ "room": name(room) }), Asked::Join { room, begun })
            }
            3..5 => {
                self.put(
                    out,
                    "leave",
                    &json!({ "room": name(room) }),
                    Asked::Leave { room, begun },
                );
            }
            5..8 => self.publish(out, room, rng.one_in(2), begun),
            8 => self.put(out, "members", &json!({ "room": name(room) }), Asked::Members),
            _ => self.put(out, "echo", &json!(begun), Asked::Echo),
        }
    }

    fn publish(&mut self, out: &mut Vec<u8>, room: usize, own: bool, begun: u64) {
        let publish = Publish { room, by: Some(self.log.name), own, begun, answer: None };
        let index = self.storm.history.lock().unwrap().add(publish);
        let body = json!({ "room": name(room), "data": index, "self": own });
        self.put(out, "publish", &body, Asked::Publish { index });
    }

    fn put(&mut self, out: &mut Vec<u8>, route: &str, body: &Value, asked: Asked) {
        let text = json!({ "route": route, "id": self.asked.len(), "body": body }).to_string();
        put_masked(out, true, TEXT, text.as_bytes());
        self.asked.push(Some(asked));
        self.open += 1;
    }

    /// Reads until all that was asked for is answered.
    fn settle(&mut self) {
        while self.open > 0 {
            let frame = self.client.frame().expect("not closed while answers are owed");
            self.take(&frame);
        }
    }

    fn take(&mut self, frame: &Frame) {
        assert_eq!(frame.opcode, TEXT, "{frame:?}");
        let message: Value = serde_json::from_slice(&frame.payload).expect("JSON");
        if message["event"] == "publish" {
            let index = message["data"].as_u64().expect("its index") as usize;
            let room = message["room"].as_str().expect("a room")[1..].parse().expect("a number");
            return self.log.events.push(Event::Got { room, index });
        }
        let id = message["id"].as_u64().expect("an answer") as usize;
        let asked = self.asked[id].take().unwrap_or_else(|| panic!("answered twice: {message}"));
        self.open -= 1;
        let body = &message["body"];
        let answered = self.storm.stamp();
        match asked {
            Asked::Join { room, begun } => {
                assert!(body["members"].as_u64() > Some(0), "{message}");
                self.log.events.push(Event::Joined { room, begun, answered });
            }
            Asked::Leave { room, begun } => {
                assert_eq!(body["room"], name(room), "{message}");
                self.log.events.push(Event::Left { room, begun });
            }
            Asked::Publish { index } => {
                let number = |field| body[field].as_u64().expect("a number");
                let answer = (answered, number("serial"), number("receivers"));
                self.storm.history.lock().unwrap().answer(index, answer);
            }
            Asked::Members => assert!(body["members"].is_u64(), "{message}"),
            Asked::Echo => assert!(body.is_u64(), "{message}"),
        }
    }

    /// Ends the connection behind `out` in one of three ways.
    fn end(mut self, rng: &mut Rng, mut out: Vec<u8>) {
        let code = match rng.below(3) {
            0 => {
                self.client.send(&out);
                // Gone without a word: what was asked for may be answered or not.
                return self.finish();
            }
            1 => {
                put_close(&mut out, 1000);
                self.client.send(&out);
                1000
            }
            _ => {
                self.client.send(&out);
                self.client.finish();
                1002
            }
        };
        self.settle();
        loop {
            let frame = self.client.frame().expect("a Close");
            if frame.opcode == CLOSE {
                assert_eq!(frame.close_code(), Some(code));
                break;
            }
            self.take(&frame);
        }
        assert_eq!(self.client.frame(), None);
        self.finish();
    }

    /// A question to each room's home comes back behind all that the home sent before.
    fn hear_out(&mut self) {
        let mut out = Vec::new();
        for room in 0..ROOMS {
            self.put(&mut out, "members", &json!({ "room": name(room) }), Asked::Members);
        }
        self.client.send(&out);
        self.settle();
        self.log.heard_out = true;
    }

    fn finish(self) {
        self.storm.history.lock().unwrap().logs.push(self.log);
    }
}

fn name(room: usize) -> String {
    format!("r{room}")
}

fn run_client(storm: &Storm, seed: u64) {
    let mut rng = Rng::new(seed);
    let mut member = Member::connect(storm);
    for _ in 0..3 + rng.below(4) {
        let mut out = Vec::new();
        (0..1 + rng.below(16)).for_each(|_| member.ask(&mut rng, &mut out));
        if rng.one_in(4) {
            member.end(&mut rng, out);
            member = Member::connect(storm);
        } else {
            member.client.send(&out);
            member.settle();
        }
    }
    storm.calm.wait();
    member.hear_out();
    member.finish();
}

/// Publishes from a thread that is no client's and no worker's.
fn run_outsider(storm: &Storm, gateway: &Gateway) {
    for n in 0..12 {
        let (room, begun) = (n % ROOMS, storm.stamp());
        let publish = Publish { room, by: None, own: true, begun, answer: None };
        let index = storm.history.lock().unwrap().add(publish);
        let body = index.to_string();
        gateway.publish(&name(room), tidegate::dialect::Body::Json(&body)).expect("it runs");
    }
    storm.calm.wait();
}

fn start(plan: Plan) -> Running {
    let mut rng = Rng::new(plan.seed);
    let mut builder = Gateway::builder().configure(|config| {
        config.listen = vec![([127, 0, 0, 1], 0).into()];
        (config.loops, config.workers) = (plan.loops, plan.workers);
        let tuning = &mut config.tuning;
        tuning.mailbox_capacity = 1;
        tuning.room_lane_capacity = 1;
        tuning.message_lane_capacity = 1;
        tuning.batch_messages = rng.pick(&[1, 3, 1024]);
        tuning.room_linger = Duration::from_millis(rng.pick(&[0, 100]));
        tuning.reads_per_turn = rng.pick(&[1, 4]);
        tuning.flushes_per_turn = rng.pick(&[1, 1024]);
    });
    if plan.lobby {
        builder = builder.on_connect(|_, admission| {
            admission.accept(Accept { rooms: vec![name(LOBBY)], ..Accept::default() });
        });
    }
    builder.start().expect("the gateway starts")
}

/// Waits until no connection, room, membership or buffered byte is left, and takes it down.
fn stop(plan: Plan, running: Running) {
    const BUFFERS: [&str; 5] =
        ["outbox_bytes", "inbound_bytes", "arena_bytes", "frame_bytes", "total_bytes"];
    let begun = Instant::now();
    loop {
        let stats = running.stats();
        let left = ["open", "connections"].map(|name| &stats["totals"][name]);
        let rooms = ["rooms", "memberships"].map(|name| &stats["worker_totals"][name]);
        let buffers = BUFFERS.map(|name| &stats["buffers"][name]);
        if left.iter().chain(&rooms).chain(&buffers).all(|n| **n == 0) {
            break;
        }
        assert!(begun.elapsed() < PATIENCE / 2, "{plan:?}: left behind: {stats:#}");
        thread::sleep(Duration::from_millis(1));
    }
    let (stopped, stats) = running.stop(|| false);
    assert_eq!(stopped, Stopped::Clean, "{plan:?}: {stats:#}");
}

fn storm(plan: Plan, running: &Running) {
    let storm = Storm {
        plan,
        addr: running.addresses()[0],
        clock: AtomicU64::new(1),
        names: AtomicU64::new(0),
        history: Mutex::default(),
        calm: Barrier::new(plan.clients + 1),
    };
    thread::scope(|scope| {
        let storm = &storm;
        for client in 0..plan.clients as u64 {
            scope.spawn(move || run_client(storm, plan.seed << 8 | client));
        }
        scope.spawn(move || run_outsider(storm, running.gateway()));
    });
    let history = storm.history.into_inner().unwrap();
    if let Err(broken) = history.check() {
        panic!("{plan:?}: {broken}");
    }
}

/// Runs a plan under a watchdog.
fn run(plan: Plan) {
    let running = Arc::new(start(plan));
    let (done, finished) = mpsc::channel();
    let its = Arc::clone(&running);
    let thread = thread::spawn(move || {
        storm(plan, &its);
        drop(its);
        let _ = done.send(());
    });
    if finished.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout) {
        panic!("{plan:?} hangs: {:#}", running.stats());
    }
    if thread.join().is_err() {
        panic!("{plan:?} failed: {:#}", running.stats());
    }
    stop(plan, Arc::into_inner(running).expect("no one else has it"));
}

fn storms(loops: usize) {
    for seed in seeds("TIDEGATE_STORM_SEED", 0..120) {
        let workers = (seed % 5) as usize;
        let clients = 2 + (seed % 4) as usize;
        run(Plan { seed, loops, workers, clients, lobby: seed % 3 == 0 });
    }
}

#[test]
fn with_one_loop() {
    storms(1);
}

#[test]
fn with_two_loops() {
    storms(2);
}

#[test]
fn with_three_loops() {
    storms(3);
}

#[test]
fn with_four_loops() {
    storms(4);
}
