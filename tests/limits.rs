//! Room that is limited: connections over the maximum, and want of descriptors.

mod support;

use std::io::ErrorKind;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use support::Gateway;
use support::client::{Client, close_frame, request};
use support::process::{cpu_ms, raise_descriptor_limit};

#[test]
fn over_the_maximum_is_answered_503_until_there_is_room() {
    for workers in ["0", "2"] {
        let args = ["--loops", "2", "--workers", workers, "--max-connections", "50"];
        let mut gateway = Gateway::start(&args);
        let mut held: Vec<_> = (0..50).map(|_| Client::echo(gateway.addr)).collect();
        for _ in 0..30 {
            expect_503(&mut Client::dial(gateway.addr));
        }
        held.iter_mut().for_each(|client| client.echoes(b"undisturbed"));
        // Room for each that leaves.
        for left in 1..=10 {
            held.pop();
            gateway.stats_until("room", |stats| open(stats) == 49);
            held.insert(0, Client::echo(gateway.addr));
            expect_503(&mut Client::dial(gateway.addr));
            assert_eq!(open(&gateway.stats()), 50, "round {left}");
        }
        let stats = gateway.stats();
        assert_eq!(stats["refusals"]["full"], 40);
        assert_eq!(stats["totals"]["opened"], 60);
        assert_eq!(stats["totals"]["accepted"], 100);
    }
}

#[test]
fn a_crowd_over_the_maximum_is_told_so_one_and_all() {
    raise_descriptor_limit(3_100);
    let mut gateway = Gateway::start(&["--loops", "2", "--max-connections", "500"]);
    let mut crowd: Vec<_> = (0..3_000).map(|_| Client::dial(gateway.addr)).collect();
    crowd.iter_mut().for_each(|client| {
        // Refused, it may be gone before it has asked.
        let _ = std::io::Write::write_all(&mut client.stream, &request("/echo"));
    });
    let mut held = Vec::new();
    for mut client in crowd {
        let head = client.head();
        match head.status {
            101 => held.push(client),
            503 => {
                let told = head.headers.iter().any(|(name, _)| name == "Retry-After");
                assert!(told, "{head:?}");
            }
            _ => panic!("{head:?}"),
        }
    }
    assert_eq!(held.len(), 500);
    held.iter_mut().for_each(|client| client.echoes(b"room"));
    let stats = gateway.stats();
    assert_eq!(stats["refusals"]["full"], 2_500);
    // More were waiting than are told at a time.
    assert!(stats["totals"]["accept_pauses"].as_u64() > Some(0));
}

#[test]
fn full_of_people_who_do_not_leave_costs_nothing_and_passes() {
    let args = ["--loops", "1", "--max-connections", "20", "--close-timeout", "1h"];
    let mut gateway = Gateway::start(&args);
    let mut held: Vec<_> = (0..20).map(|_| Client::echo(gateway.addr)).collect();
    // They neither read nor leave: some are told, the others wait in the backlog.
    let mut deaf: Vec<_> = (0..40).map(|_| Client::dial(gateway.addr)).collect();
    let full = |stats: &Value| stats["totals"]["accept_pauses"].as_u64() > Some(0);
    let stats = gateway.stats_until("a pause", full);
    let told = stats["refusals"]["full"].as_u64().unwrap();
    assert!(told > 0 && told < 40, "{told} were told at once");
    assert_rests(&gateway);
    held.iter_mut().for_each(|client| client.echoes(b"undisturbed"));
    // As they leave, the others are told, each in its turn.
    for mut client in deaf.drain(..) {
        expect_503(&mut client);
    }
    drop(held);
    gateway.stats_until("all gone", |stats| stats["totals"]["connections"] == 0);
    Client::echo(gateway.addr).echoes(b"room again");
}

#[test]
fn a_low_hard_limit_sets_the_maximum() {
    let mut gateway = Gateway::start_limited(128, &["--loops", "2"]);
    let max = gateway.stats()["config"]["max_connections"].as_u64().unwrap();
    assert!(max > 40 && max < 128, "{max}");
    let mut held: Vec<_> = (0..max).map(|_| Client::echo(gateway.addr)).collect();
    for _ in 0..20 {
        expect_503(&mut Client::dial(gateway.addr));
    }
    assert_rests(&gateway);
    held.iter_mut().for_each(|client| client.echoes(b"undisturbed"));
    held.truncate(10);
    gateway.stats_until("room", |stats| open(stats) == 10);
    held.extend((0..20).map(|_| Client::echo(gateway.addr)));
    assert_eq!(gateway.stats()["totals"]["accept_pauses"], 0);
}

#[test]
fn out_of_descriptors_accepting_rests_and_resumes() {
    for table in ["shared", "private"] {
        let args = ["--loops", "2", "--fd-table", table, "--max-connections", "500"];
        let mut gateway = Gateway::start_limited(1_000, &args);
        let mut held: Vec<_> = (0..20).map(|_| Client::echo(gateway.addr)).collect();
        // Pulled away from under it, as by an administrator: what it has planned with is gone.
        limit_descriptors(gateway.pid, 60);
        let mut waiting: Vec<_> = (0..200).map(|_| Client::dial(gateway.addr)).collect();
        waiting.iter_mut().for_each(|client| client.send(&request("/echo")));
        gateway.stderr_until("accepting rests");
        assert_rests(&gateway);
        held.iter_mut().for_each(|client| client.echoes(b"undisturbed"));
        // As some leave, others come in without being asked for, until all have been served. Only
        // what was on its way to a loop that can't take it in is lost, and counted.
        held.truncate(10);
        let mut lost = 0;
        let begun = Instant::now();
        while !waiting.is_empty() {
            assert!(begun.elapsed() < Duration::from_secs(60), "{} wait for ever", waiting.len());
            waiting.retain_mut(|client| {
                let answered = is_answered(client);
                lost += u64::from(answered && !leaves_served(client));
                !answered
            });
            thread::yield_now();
        }
        limit_descriptors(gateway.pid, 1_000);
        let stats = gateway.stats_until("all gone", |stats| open(stats) == 10);
        assert_eq!(stats["refusals"]["full"], lost, "with {table} tables");
        assert_eq!(stats["totals"]["opened"], 220 - lost, "with {table} tables");
        assert!(table == "private" || lost == 0, "{lost} lost");
        assert!(stats["totals"]["accept_pauses"].as_u64() > Some(0));
        held.iter_mut().for_each(|client| client.echoes(b"undisturbed"));
    }
}

/// Whether there is something to read.
fn is_answered(client: &Client) -> bool {
    client.stream.set_nonblocking(true).unwrap();
    let peeked = client.stream.peek(&mut [0]);
    client.stream.set_nonblocking(false).unwrap();
    !peeked.is_err_and(|e| e.kind() == ErrorKind::WouldBlock)
}

/// A client that waited is served and leaves; `false` if its connection was cut instead.
fn leaves_served(client: &mut Client) -> bool {
    if !matches!(client.stream.peek(&mut [0]), Ok(1)) {
        return false;
    }
    client.expect_upgrade();
    client.echoes(b"in at last");
    client.send(&close_frame(1000));
    client.expect_close(1000);
    true
}

/// Sets the soft limit of another process, which its threads are held to from here on.
fn limit_descriptors(pid: u32, soft: u32) {
    let status = Command::new("prlimit")
        .args(["--pid", &pid.to_string(), &format!("--nofile={soft}:")])
        .status()
        .expect("prlimit of util-linux is installed");
    assert!(status.success(), "prlimit: {status}");
}

/// It does not spin: over a second it uses a fraction of a core.
fn assert_rests(gateway: &Gateway) {
    let before = cpu_ms(gateway.pid);
    // Not a wait for anything: it is this second that is looked at.
    thread::sleep(Duration::from_secs(1));
    let used = cpu_ms(gateway.pid) - before;
    assert!(used <= 250, "{used} ms of processor time in a second of rest");
}

/// A refusal for want of room, and the end.
fn expect_503(client: &mut Client) {
    let answer = client.response();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer:?}");
    assert!(answer.contains("\r\nRetry-After: "), "{answer:?}");
}

fn open(stats: &Value) -> u64 {
    stats["totals"]["open"].as_u64().unwrap()
}
