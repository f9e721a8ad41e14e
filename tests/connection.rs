//! Single cases of a connection's life, without sockets. Its life at large: `simulation.rs`.

use std::num::NonZeroU32;
use std::sync::Arc;

use tidegate::connection::{
    Connection, Dropped, Due, Env, OutboxPool, OverflowPolicy, Phase, PublishTerms, Received, Room,
    SharedFrame, Sink, Tick, Timeouts,
};
use tidegate::protocol::{Decoder, Framing, MessageKind, OpCode, Spare, put_frame};
use tidegate::telemetry::counters::CloseCause;
use tidegate::telemetry::memory::MemoryGauge;

fn frame(payload_bytes: usize) -> Vec<u8> {
    let mut out = Vec::new();
    put_frame(&mut out, OpCode::Binary, &vec![b'p'; payload_bytes]);
    out
}

#[test]
fn publishes_that_an_answer_pushes_out_are_counted() {
    let memory = MemoryGauge::new(1 << 20);
    let (mut spare, mut outboxes) = (Spare::new(1, 1, 4096), OutboxPool::new(1, 8192));
    let mut env = Env {
        now: 1,
        decoder: Decoder {
            framing: Framing::WebSocket,
            max_frame_bytes: 1,
            max_message_bytes: 1,
            max_fragments: 1,
            deflate: false,
        },
        room: Room { limit_bytes: 4096, policy: OverflowPolicy::DropOldest },
        spare: &mut spare,
        outboxes: &mut outboxes,
        inflate: None,
    };
    let mut conn = Connection::new(1);
    conn.open(b"HTTP/1.1 101\r\n\r\n", &mut env);
    conn.wrote(16, &mut env);
    let bytes = frame(1500).into_boxed_slice();
    let publish = Arc::new(SharedFrame::new(bytes, PublishTerms::default(), &memory));
    assert!(conn.deliver_shared(&publish, &mut env));
    assert!(conn.deliver_shared(&publish, &mut env));
    let answer = frame(3500);
    assert!(conn.deliver(&answer, &mut env));
    let mut slices = [&[][..]; 4];
    assert_eq!(conn.slices(&mut slices), 1, "only the answer is owed");
    assert_eq!(slices[0], answer);
    // Nobody asks for the counts before all is written and the outbox is given back.
    conn.wrote(answer.len(), &mut env);
    assert!(!conn.owes());
    assert_eq!(outboxes.take_dropped(), Dropped { oldest: 2, replaced: 0, trims: 1 });
}

struct NoSink;

impl Sink for NoSink {
    fn message(&mut self, _: MessageKind, _: &[u8]) {}
    fn assembled(&mut self, _: MessageKind, payload: Vec<u8>) -> Option<Vec<u8>> {
        Some(payload)
    }
    fn pinged(&mut self, _: &[u8]) {}
    fn ponged(&mut self, _: &[u8]) {}
    fn discarded(&mut self) {}
}

/// Takes two messages, and no more.
#[derive(Default)]
struct TakesTwo {
    asked: usize,
    taken: Vec<Vec<u8>>,
}

impl Sink for TakesTwo {
    fn admits(&mut self, bytes: usize) -> bool {
        assert_eq!(bytes, 1);
        self.asked += 1;
        self.asked <= 2
    }
    fn message(&mut self, _: MessageKind, payload: &[u8]) {
        self.taken.push(payload.to_vec());
    }
    fn assembled(&mut self, _: MessageKind, payload: Vec<u8>) -> Option<Vec<u8>> {
        self.taken.push(payload.clone());
        Some(payload)
    }
    fn pinged(&mut self, _: &[u8]) {}
    fn ponged(&mut self, _: &[u8]) {}
    fn discarded(&mut self) {}
}

#[test]
fn what_is_not_admitted_ends_the_connection_behind_what_was() {
    let one = |byte| [0x81, 0x81, 0, 0, 0, 0, byte];
    // In two pieces.
    let pieces = [[0x01, 0x80, 0, 0, 0, 0].as_slice(), &[0x80, 0x81, 0, 0, 0, 0, b'c']].concat();
    for third in [one(b'c').to_vec(), pieces] {
        let (mut spare, mut outboxes) = (Spare::new(1, 1, 4096), OutboxPool::new(1, 8192));
        let mut env = Env {
            now: 1,
            decoder: Decoder {
                framing: Framing::WebSocket,
                max_frame_bytes: 9,
                max_message_bytes: 9,
                max_fragments: 9,
                deflate: false,
            },
            room: Room { limit_bytes: 1 << 20, policy: OverflowPolicy::Close },
            spare: &mut spare,
            outboxes: &mut outboxes,
            inflate: None,
        };
        let mut conn = Connection::new(1);
        conn.open(b"HTTP/1.1 101\r\n\r\n", &mut env);
        conn.wrote(16, &mut env);
        let mut input = [&one(b'a')[..], &one(b'b'), &third, &one(b'd')].concat();
        let mut sink = TakesTwo::default();
        assert_eq!(conn.receive(&mut input, &mut env, &mut sink), Received::Stop);
        assert_eq!((sink.asked, sink.taken), (3, vec![b"a".to_vec(), b"b".to_vec()]));
        assert_eq!((conn.phase(), conn.in_flight()), (Phase::Draining, 2));
        assert!(conn.deliver(b"\x81\x01a", &mut env));
        conn.settled(1, &mut env);
        assert_eq!(conn.phase(), Phase::Draining);
        conn.settled(1, &mut env);
        assert_eq!((conn.phase(), conn.cause()), (Phase::Closing, Some(CloseCause::RateLimit)));
        let mut slices = [&[][..]; 4];
        let n = conn.slices(&mut slices);
        let owed = slices[..n].concat();
        assert_eq!(&owed[..3], b"\x81\x01a");
        assert_eq!(&owed[5..7], 1008_u16.to_be_bytes());
    }
}

/// None that comes up of itself.
const TIMEOUTS: Timeouts = Timeouts {
    handshake: 10,
    idle: None,
    login: None,
    message: None,
    ping: None,
    pong: 10,
    write: u32::MAX,
    close: 10,
};

fn pools() -> (Spare, OutboxPool) {
    (Spare::new(1, 1, 4096), OutboxPool::new(1, 8192))
}

fn env<'a>(now: Tick, spare: &'a mut Spare, outboxes: &'a mut OutboxPool) -> Env<'a> {
    let decoder = Decoder {
        framing: Framing::WebSocket,
        max_frame_bytes: 9,
        max_message_bytes: 9,
        max_fragments: 1,
        deflate: false,
    };
    let room = Room { limit_bytes: 1 << 20, policy: OverflowPolicy::Close };
    Env { now, decoder, room, spare, outboxes, inflate: None }
}

#[test]
fn pings_that_break_off_are_no_message_that_never_ends() {
    let (mut spare, mut outboxes) = pools();
    let mut conn = Connection::new(1);
    let timeouts = Timeouts { message: NonZeroU32::new(10), ..TIMEOUTS };
    for now in 1..100 {
        let mut env = env(now, &mut spare, &mut outboxes);
        if now == 1 {
            conn.open(b"HTTP/1.1 101\r\n\r\n", &mut env);
        }
        // The end of one ping and the beginning of the next: masked, empty, 6 bytes each.
        let (end, begin) = ([0, 0, 0], [0x89, 0x80, 0]);
        let mut bytes = [end, begin].concat();
        let from = if now == 1 { 3 } else { 0 };
        let received = conn.receive(&mut bytes[from..], &mut env, &mut NoSink);
        assert_eq!(received, Received::Continue);
        assert!(matches!(conn.due(&timeouts, 0, now), Due::Nothing(_)), "at {now}");
    }
}

#[test]
fn a_login_is_due_from_when_it_is_open_and_once() {
    let timeouts = Timeouts { login: NonZeroU32::new(20), ..TIMEOUTS };
    let (mut spare, mut outboxes) = pools();
    for logs_in in [false, true] {
        let mut conn = Connection::new(1);
        conn.open(b"HTTP/1.1 101\r\n\r\n", &mut env(5, &mut spare, &mut outboxes));
        // What it sends moves nothing.
        let mut ping = [0x89, 0x80, 0, 0, 0, 0];
        let _ = conn.receive(&mut ping, &mut env(20, &mut spare, &mut outboxes), &mut NoSink);
        assert_eq!(conn.due(&timeouts, 0, 24), Due::Nothing(25));
        if logs_in {
            conn.set_logged_in();
            assert_eq!(conn.due(&timeouts, 0, 25), Due::Nothing(Tick::MAX));
            continue;
        }
        assert_eq!(conn.due(&timeouts, 0, 25), Due::Login);
        conn.act_on(Due::Login, &mut env(25, &mut spare, &mut outboxes));
        assert_eq!((conn.phase(), conn.cause()), (Phase::Closing, Some(CloseCause::LoginTimeout)));
        let mut slices = [&[][..]; 4];
        let count = conn.slices(&mut slices);
        let written = slices[..count].concat();
        assert!(written.ends_with(b"\x88\x12\x03\xf0no login in time"), "{written:?}");
        assert_eq!(conn.due(&timeouts, 0, 26), Due::Nothing(35), "the close deadline");
    }
}

#[test]
fn a_login_is_not_due_while_the_worker_is_full() {
    let timeouts = Timeouts { login: NonZeroU32::new(20), ..TIMEOUTS };
    let (mut spare, mut outboxes) = pools();
    let mut conn = Connection::new_open(5);
    conn.set_paused(true, 10);
    assert_eq!(conn.due(&timeouts, 0, 100), Due::Nothing(Tick::MAX));
    conn.set_paused(false, 100);
    assert_eq!(conn.due(&timeouts, 0, 100), Due::Nothing(120));
    // A pause leaves deadlines of other phases alone.
    conn.act_on(Due::Login, &mut env(120, &mut spare, &mut outboxes));
    conn.set_paused(true, 121);
    conn.set_paused(false, 125);
    assert_eq!(conn.due(&timeouts, 0, 129), Due::Nothing(130));
}
