//! An idle open connection owns no heap: it costs its slot and its columns, for which room is
//! reserved when the loop starts.

#[path = "support/client.rs"]
mod client;
#[path = "support/counting.rs"]
mod counting;
#[path = "support/wait.rs"]
mod wait;

use std::sync::Mutex;

use client::{BINARY, Client, frame, server_frame};
use tidegate::reactor::{Slot, Table};
use tidegate::routing::Gateway;
use wait::wait_until;

#[global_allocator]
static COUNTING: counting::Counting = counting::Counting;

/// Counts are of the whole process: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

const CONNECTIONS: usize = 2000;
/// What a connection may add to the heap once it is quiet: pools and queues that have grown with
/// the work, spread over all.
const BYTES_PER_CONNECTION: i64 = 16;

#[test]
fn a_slot_and_its_columns_keep_to_the_budget() {
    let (slot, entry, columns) = (size_of::<Slot>(), Table::SLOT_BYTES, Table::COLUMN_BYTES);
    assert!(slot <= entry && entry <= 160, "a slot takes {slot} B, with its entry {entry} B");
    assert!(entry + columns <= 176, "with its columns {} B", entry + columns);
}

#[test]
fn idle_connections_own_no_heap_inline() {
    idle_connections_own_no_heap(0);
}

#[test]
fn idle_connections_own_no_heap_pooled() {
    idle_connections_own_no_heap(2);
}

fn idle_connections_own_no_heap(workers: usize) {
    let _alone = ALONE.lock();
    let running = Gateway::builder()
        .configure(|config| {
            config.listen = vec![([127, 0, 0, 1], 0).into()];
            (config.loops, config.workers) = (1, workers);
            config.max_connections = 2 * CONNECTIONS;
        })
        .start()
        .expect("it starts");
    let addr = running.addresses()[0];
    // What the first connections make and later ones share.
    let mut clients: Vec<_> = (0..100).map(|_| Client::open(addr, "/echo")).collect();
    clients.iter_mut().for_each(echo_once);
    let before = settled_bytes();
    clients.extend((0..CONNECTIONS).map(|_| {
        let mut client = Client::open(addr, "/echo");
        echo_once(&mut client);
        client
    }));
    let grown = settled_bytes() - before;
    assert_eq!(running.stats()["totals"]["open"], clients.len());
    assert!(
        grown <= BYTES_PER_CONNECTION * CONNECTIONS as i64,
        "{CONNECTIONS} idle connections took {grown} B"
    );
}

fn echo_once(client: &mut Client) {
    let mut answer = [0; 22];
    client.send(&frame(BINARY, &[7; 20]));
    client.read_exact(&mut answer);
    assert_eq!(answer[..], server_frame(BINARY, &[7; 20]));
}

/// The gateway's bytes, once its threads have done what the last answer left them to do.
fn settled_bytes() -> i64 {
    let (mut last, mut same) = (counting::live_bytes(), 0);
    wait_until("the heap at rest", || {
        let now = counting::live_bytes();
        same = if now == last { same + 1 } else { 0 };
        last = now;
        same == 10
    });
    last
}
