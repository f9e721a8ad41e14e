//! Loops with descriptor tables of their own: no descriptor is ever used in a table that it was
//! not made in.

mod support;

use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;

use nix::sys::signal::Signal;
use serde_json::Value;

use support::Gateway;
use support::client::{BINARY, Client, frame};
use support::process::{raise_descriptor_limit, sockets_in};

const PRIVATE: &[&str] = &["--fd-table", "private", "--loops", "4", "--workers", "2"];

/// How often the gateway is signalled.
const SIGNALS: u64 = 10_000;

#[test]
fn signals_wakes_and_log_lines_beside_echoes() {
    let mut gateway = Gateway::start(&[PRIVATE, &["-vv"]].concat());
    let stop = Arc::new(AtomicBool::new(false));
    let echoed = Arc::new(AtomicU64::new(0));
    let talking: Vec<_> = (0..8_u8)
        .map(|number| {
            let (mut clients, stop) = (connect(&gateway, 8), Arc::clone(&stop));
            let echoed = Arc::clone(&echoed);
            thread::spawn(move || {
                let mut round = 0_u32;
                while !stop.load(SeqCst) {
                    echo_round(&mut clients, number, round);
                    echoed.fetch_add(clients.len() as u64, SeqCst);
                    round += 1;
                }
            })
        })
        .collect();
    for _ in 0..SIGNALS {
        gateway.signal(Signal::SIGUSR1);
        // Connections come and go meanwhile, and with them numbers in the tables.
        Client::echo(gateway.addr).echoes(b"short");
    }
    let stats = gateway.stats();
    stop.store(true, SeqCst);
    // Whoever read a byte that was not its own has failed.
    talking.into_iter().for_each(|thread| thread.join().expect("every byte was right"));
    assert!(echoed.load(SeqCst) > 1_000, "too little was echoed beside the signals");
    for cause in ["socket_error", "protocol_error", "invalid_utf8"] {
        assert_eq!(stats["closes"][cause], 0, "{:#}", stats["closes"]);
    }
    assert!(gateway.stderr().lines().count() as u64 > SIGNALS, "too few log lines");
    let (status, stats) = gateway.stop_for_stats();
    assert!(status.success(), "left with {status}");
    assert_eq!(stats["totals"]["opened"], stats["totals"]["closed"]);
}

/// Each client sends a message of its own and reads it back.
fn echo_round(clients: &mut [Client], number: u8, round: u32) {
    let message = |index: usize| {
        let len = 1 + (round as usize * 37 + index * 411) % 3_000;
        let mut bytes = vec![number ^ index as u8 ^ round as u8; len];
        bytes[0] = number;
        bytes
    };
    for (index, client) in clients.iter_mut().enumerate() {
        client.send(&frame(BINARY, &message(index)));
    }
    for (index, client) in clients.iter_mut().enumerate() {
        client.expect(BINARY, &message(index));
    }
}

#[test]
fn client_sockets_are_in_the_tables_of_loops_only() {
    let gateway = Gateway::start(PRIVATE);
    let process = PathBuf::from(format!("/proc/{}", gateway.pid));
    let main_before: HashSet<_> = sockets_in(&process.join("fd")).into_iter().collect();
    let clients = connect(&gateway, 200);
    let main: HashSet<_> = sockets_in(&process.join("fd")).into_iter().collect();
    assert_eq!(main, main_before, "client sockets in the main table");
    let loops = loop_tables(&process);
    assert_eq!(loops.len(), 4);
    let own: Vec<HashSet<_>> = loops
        .iter()
        .map(|table| sockets_in(table).into_iter().filter(|name| !main.contains(name)).collect())
        .collect();
    // Each loop has its listener and its clients, and none is in two tables.
    let all: HashSet<_> = own.iter().flatten().collect();
    assert_eq!(all.len(), own.iter().map(HashSet::len).sum::<usize>());
    assert_eq!(all.len(), clients.len() + 4);
    assert!(own.iter().all(|sockets| sockets.len() > 1), "a loop has no clients");
}

/// The descriptor directories of the threads that are loops.
fn loop_tables(process: &std::path::Path) -> Vec<PathBuf> {
    let tasks = fs::read_dir(process.join("task")).expect("it runs");
    let is_loop = |task: &PathBuf| {
        fs::read_to_string(task.join("comm")).is_ok_and(|name| name.starts_with("tg-loop-"))
    };
    tasks.map(|entry| entry.unwrap().path()).filter(is_loop).map(|task| task.join("fd")).collect()
}

#[test]
fn loops_even_out_what_they_hold() {
    raise_descriptor_limit(5_000);
    for table in ["private", "shared"] {
        let args = ["--fd-table", table, "--loops", "4", "--workers", "2"];
        let mut gateway = Gateway::start(&args);
        let mut clients = connect(&gateway, 2_000);
        // All but every fourth leave; on the loops that have fewer then, others have to come.
        let mut index = 0;
        clients.retain(|_| {
            index += 1;
            index % 4 == 0
        });
        gateway.stats_until("most gone", |stats| stats["totals"]["open"] == 500);
        clients.extend(connect(&gateway, 2_000));
        clients.iter_mut().for_each(|client| client.echoes(b"wherever I am"));
        let stats = gateway.stats();
        let held = per_loop(&stats, "connections");
        let (most, least) = (*held.iter().max().unwrap(), *held.iter().min().unwrap());
        assert!(most * 10 <= least * 11, "{table}: {held:?}");
        assert_ne!(stats["totals"]["handed_over"], 0, "{table}: chance alone: {held:?}");
        assert_eq!(stats["totals"]["open"], 2_500);
    }
}

#[test]
fn one_full_loop_refuses_nobody() {
    // 128 descriptors a table, less what is kept back: a loop is full long before the gateway.
    let mut gateway =
        Gateway::start_limited(128, &[PRIVATE, &["--max-connections", "240"]].concat());
    let mut clients = connect(&gateway, 240);
    clients.iter_mut().for_each(|client| client.echoes(b"there was room"));
    let stats = gateway.stats();
    assert_eq!(stats["refusals"]["full"], 0);
    assert_eq!(per_loop(&stats, "connections").iter().sum::<u64>(), 240);
}

fn connect(gateway: &Gateway, count: usize) -> Vec<Client> {
    (0..count).map(|_| Client::echo(gateway.addr)).collect()
}

fn per_loop(stats: &Value, counter: &str) -> Vec<u64> {
    let loops = stats["loops"].as_array().unwrap();
    loops.iter().map(|each| each[counter].as_u64().unwrap()).collect()
}
