//! Every publish that a slow connection loses is counted, whatever pushed it out.

use std::sync::Arc;

use tidegate::connection::{
    Connection, Env, NO_KEY, OutboxPool, OverflowPolicy, Room, SharedFrame,
};
use tidegate::protocol::{Decoder, OpCode, Spare, put_frame};
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
        decoder: Decoder { max_frame_bytes: 1, max_message_bytes: 1, max_fragments: 1 },
        room: Room { limit_bytes: 4096, policy: OverflowPolicy::DropOldest },
        spare: &mut spare,
        outboxes: &mut outboxes,
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
