//! In the steady state the gateway's threads allocate next to nothing: at most one allocation per
//! thousand echoed messages, however they come.
//!
//! To see where allocations are made, run a test with `TIDEGATE_SHOW_ALLOCATIONS=1`.

#[path = "support/client.rs"]
mod client;
#[path = "support/counting.rs"]
mod counting;

use std::sync::Mutex;

use client::{BINARY, Client, frame, server_frame};
use tidegate::routing::Gateway;

#[global_allocator]
static COUNTING: counting::Counting = counting::Counting;

/// Counts are of the whole process: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// Messages of the measured time.
const MESSAGES: usize = 20_000;
/// Messages before it: every pool and queue has reached its size by then.
const WARM_UP: usize = 8_000;
const CONNECTIONS: usize = 8;

/// How clients send.
struct Load {
    /// Payload of a message.
    size: usize,
    /// Messages that a connection has under way at once.
    pipeline: usize,
    /// Writes that those messages come in, with turns of the other connections in between.
    pieces: usize,
}

#[test]
fn short_messages_inline() {
    keeps_to_the_budget(0, &Load { size: 20, pipeline: 1, pieces: 1 });
}

#[test]
fn short_messages_pooled() {
    keeps_to_the_budget(2, &Load { size: 20, pipeline: 1, pieces: 1 });
}

#[test]
fn pipelined_messages_inline() {
    keeps_to_the_budget(0, &Load { size: 20, pipeline: 16, pieces: 1 });
}

#[test]
fn pipelined_messages_pooled() {
    keeps_to_the_budget(2, &Load { size: 20, pipeline: 16, pieces: 1 });
}

#[test]
fn messages_in_pieces_inline() {
    keeps_to_the_budget(0, &Load { size: 16 * 1024, pipeline: 1, pieces: 3 });
}

#[test]
fn messages_in_pieces_pooled() {
    keeps_to_the_budget(2, &Load { size: 16 * 1024, pipeline: 1, pieces: 3 });
}

fn keeps_to_the_budget(workers: usize, load: &Load) {
    let _alone = ALONE.lock();
    let running = Gateway::builder()
        .configure(|config| {
            config.listen = vec![([127, 0, 0, 1], 0).into()];
            (config.loops, config.workers) = (1, workers);
        })
        .start()
        .expect("it starts");
    let addr = running.addresses()[0];
    let mut clients: Vec<_> = (0..CONNECTIONS).map(|_| Client::open(addr, "/echo")).collect();
    echo(&mut clients, WARM_UP, load);
    let before = counting::allocations();
    counting::show(true);
    echo(&mut clients, MESSAGES, load);
    counting::show(false);
    let allocations = counting::allocations() - before;
    assert!(
        allocations * 1000 <= MESSAGES as u64,
        "{allocations} allocations for {MESSAGES} messages"
    );
}

/// Sends `messages` over all connections and compares every answer.
fn echo(clients: &mut [Client], messages: usize, load: &Load) {
    let payload: Vec<u8> = (0..load.size).map(|i| i as u8).collect();
    let burst = frame(BINARY, &payload).repeat(load.pipeline);
    let answer = server_frame(BINARY, &payload).repeat(load.pipeline);
    let mut got = vec![0; answer.len()];
    for _ in 0..messages / (clients.len() * load.pipeline) {
        for piece in burst.chunks(burst.len().div_ceil(load.pieces)) {
            clients.iter_mut().for_each(|client| client.send(piece));
        }
        for client in clients.iter_mut() {
            client.read_exact(&mut got);
            assert!(got == answer, "an answer differs from its message");
        }
    }
}
