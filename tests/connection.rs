//! Single cases of a connection's life, without sockets. Its life at large: `simulation.rs`.

use std::sync::Arc;

use tidegate::connection::{
    Connection, Due, Env, NO_KEY, OutboxPool, OverflowPolicy, Received, Room, SharedFrame, Sink,
    Timeouts,
};
use tidegate::protocol::{Decoder, Framing, MessageKind, OpCode, Spare, put_frame};
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
    let publish = Arc::new(SharedFrame::new(frame(1500).into_boxed_slice(), &memory));
    assert!(conn.deliver_shared(&publish, NO_KEY, &mut env));
    assert!(conn.deliver_shared(&publish, NO_KEY, &mut env));
    let answer = frame(3500);
    assert!(conn.deliver(&answer, &mut env));
    let mut slices = [&[][..]; 4];
    assert_eq!(conn.slices(&mut slices), 1, "only the answer is owed");
    assert_eq!(slices[0], answer);
    // Nobody asks for the counts before all is written and the outbox is given back.
    conn.wrote(answer.len(), &mut env);
    assert!(!conn.owes());
    assert_eq!(outboxes.take_dropped(), (2, 0));
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

#[test]
fn pings_that_break_off_are_no_message_that_never_ends() {
    let (mut spare, mut outboxes) = (Spare::new(1, 1, 4096), OutboxPool::new(1, 8192));
    let mut conn = Connection::new(1);
    let timeouts = Timeouts {
        handshake: 10,
        idle: None,
        message: std::num::NonZeroU32::new(10),
        ping: None,
        pong: 10,
        write: u32::MAX,
        close: 10,
    };
    for now in 1..100 {
        let mut env = Env {
            now,
            decoder: Decoder {
                framing: Framing::WebSocket,
                max_frame_bytes: 9,
                max_message_bytes: 9,
                max_fragments: 1,
                deflate: false,
            },
            room: Room { limit_bytes: 1 << 20, policy: OverflowPolicy::Close },
            spare: &mut spare,
            outboxes: &mut outboxes,
            inflate: None,
        };
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
