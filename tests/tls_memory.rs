//! What TLS takes of the gateway's memory: allocations for a record, and bytes for a connection that
//! is silent.
//!
//! To see where allocations are made, run a test with `TIDEGATE_SHOW_ALLOCATIONS=1`.

#[path = "support/counting.rs"]
mod counting;
#[path = "tls/served.rs"]
mod served;

use std::cell::Cell;
use std::sync::Mutex;

use served::{Served, WebSocket, stats_until};
use tungstenite::Message;

#[global_allocator]
static COUNTING: counting::Counting = counting::Counting;

/// Counts are of the whole process: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

const ECHOES: usize = 2000;
const WARM_UP: usize = 1000;
/// Most plaintext of a record.
const RECORD_BYTES: usize = 16 * 1024;
/// What one connection may take, its slot and all. Nearly all of it is rustls' own: its state, two
/// ciphers of 560 bytes each, and 640 for spans of handshake messages that it never gives back.
const IDLE_MAX: i64 = 3584;

fn start(workers: usize) -> Served {
    Served::start(|builder| {
        builder.configure(|config| (config.loops, config.workers) = (1, workers))
    })
}

fn echo(socket: &mut WebSocket, size: usize, times: usize) {
    let message = Message::binary(vec![7; size]);
    for _ in 0..times {
        socket.send(message.clone()).unwrap();
        assert_eq!(socket.read().unwrap(), message);
    }
}

#[test]
fn a_record_takes_two_allocations_each_way() {
    let _alone = ALONE.lock();
    for workers in [0, 2] {
        let served = start(workers);
        let mut socket = served.open("/echo");
        for size in [20, 1024, 15_000, 100_000] {
            echo(&mut socket, size, WARM_UP);
            let before = counting::allocations();
            counting::show(true);
            echo(&mut socket, size, ECHOES);
            counting::show(false);
            let allocations = counting::allocations() - before;
            let records = (2 * ECHOES * size.div_ceil(RECORD_BYTES)) as u64;
            eprintln!("{size}: {allocations} for {records} records");
            assert!(
                allocations <= 2 * records + records / 1000,
                "{allocations} allocations for {records} records of messages of {size} bytes"
            );
        }
    }
}

#[test]
fn a_silent_connection_holds_no_buffer() {
    let _alone = ALONE.lock();
    const CONNECTIONS: usize = 256;
    let served = start(0);
    let open = |count: usize| -> Vec<_> { (0..count).map(|_| served.open("/echo")).collect() };
    // What is there once for all, tables with room for all of them too.
    let mut first = open(CONNECTIONS);
    first.iter_mut().for_each(|socket| echo(socket, 40_000, 1));
    drop(first);
    stats_until(&served.running, "gone", |stats| stats["totals"]["connections"] == 0);
    let settled = || {
        let before = Cell::new(i64::MIN);
        // The report has been taken, and all is let go of that was on its way.
        stats_until(&served.running, "at rest", |_| {
            before.replace(counting::live_bytes()) == counting::live_bytes()
        });
        counting::live_bytes()
    };
    let before = settled();
    let mut sockets = open(CONNECTIONS);
    sockets.iter_mut().for_each(|socket| echo(socket, 40_000, 1));
    let each = (settled() - before) / CONNECTIONS as i64;
    let counted = served.running.stats()["buffers"]["tls_bytes"].as_i64().unwrap();
    eprintln!("{each} bytes each; counted {}", counted / CONNECTIONS as i64);
    assert!(each <= IDLE_MAX, "{each} bytes for a silent connection");
    // What the ceiling counts is not far from what it is.
    let counted = counted / CONNECTIONS as i64;
    assert!((each - counted).abs() <= 512, "{counted} bytes counted of {each}");
}
