//! What the ceiling counts for rooms is what they take, be they large or small; and a membership
//! takes little.

#[path = "support/client.rs"]
mod client;
#[path = "support/counting.rs"]
mod counting;
#[path = "support/wait.rs"]
mod wait;

use std::sync::Mutex;

use client::Client;
use serde_json::json;
use tidegate::Running;
use tidegate::routing::Gateway;
use wait::wait_until;

#[global_allocator]
static COUNTING: counting::Counting = counting::Counting;

/// Counts are of the whole process: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

const CLIENTS: usize = 100;
const ROOMS_EACH: usize = 200;
/// What a membership of a room of a hundred may add to the heap, its share of the room's records
/// included.
const MEMBERSHIP_BYTES: i64 = 20;

#[test]
fn rooms_of_a_hundred_are_counted_as_they_are() {
    let grown = rooms_are_counted_as_they_are(0, |_, n| n);
    let each = grown / (CLIENTS * ROOMS_EACH) as i64;
    assert!(each <= MEMBERSHIP_BYTES, "{each} B");
}

#[test]
fn rooms_of_a_hundred_are_counted_as_they_are_pooled() {
    rooms_are_counted_as_they_are(2, |_, n| n);
}

#[test]
fn rooms_of_one_are_counted_as_they_are() {
    rooms_are_counted_as_they_are(0, |client, n| client * ROOMS_EACH + n);
}

/// Joins the `n`-th room of each client; says by how many bytes the heap has grown.
fn rooms_are_counted_as_they_are(workers: usize, room: fn(usize, usize) -> usize) -> i64 {
    let _alone = ALONE.lock();
    let running = Gateway::builder()
        .configure(|config| {
            config.listen = vec![([127, 0, 0, 1], 0).into()];
            (config.loops, config.workers) = (2, workers);
        })
        .start()
        .expect("it starts");
    let addr = running.addresses()[0];
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| Client::open(addr, "/ws")).collect();
    // What the first joins make and later ones share.
    for client in &mut clients {
        client.ask("join", 1, json!({"room": "hall"}));
        client.ask("leave", 2, json!({"room": "hall"}));
    }
    let (before, counted_before) = settled(&running);
    for (index, client) in clients.iter_mut().enumerate() {
        for n in 0..ROOMS_EACH {
            client.ask("join", 1, json!({"room": format!("room-{}", room(index, n))}));
        }
    }
    let (after, counted_after) = settled(&running);
    let (grown, counted) = (after - before, counted_after - counted_before);
    // The heap is without what an allocator adds, and tables are fuller or emptier than on average.
    assert!(counted * 10 >= grown * 8 && counted <= grown * 2, "{grown} B, counted as {counted} B");
    drop(clients);
    wait_until("nothing is counted", || running.stats()["buffers"]["room_bytes"] == 0);
    grown
}

/// The gateway's bytes, and those that are counted for rooms, once its threads have done what the
/// last answer left them to do.
fn settled(running: &Running) -> (i64, i64) {
    let now = || (counting::live_bytes(), running.stats()["buffers"]["room_bytes"].as_i64());
    let (mut last, mut same) = (now(), 0);
    wait_until("memory at rest", || {
        let now = now();
        same = if now == last { same + 1 } else { 0 };
        last = now;
        same == 10
    });
    (last.0, last.1.expect("a number"))
}
