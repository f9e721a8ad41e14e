//! The memory ceiling: whoever holds the most is shed first, the others are served on, the count
//! stays near the limit and comes back to zero.

mod support;
#[path = "support/wait.rs"]
mod wait;

use std::fs;
use std::io::Write as _;

use serde_json::Value;
use support::Gateway;
use support::client::{BINARY, Client, frame, server_frame};
use wait::wait_until;

const MIB: u64 = 1024 * 1024;
const LIMIT: u64 = 8 * MIB;
/// What the count may be past the limit: what one turn of the loop takes in before it sheds (64
/// connections at 256 KiB are far more than come at once here), and 64 KiB unsettled per thread
/// and component.
const SLACK: u64 = 4 * MIB;
/// What the process may take beyond the limit and its slack: code, stacks, histograms, pools (an
/// eighth of the limit) and what the allocator keeps.
const BASE: u64 = 48 * MIB;

fn start(workers: &str, limit: u64) -> Gateway {
    let limit = limit.to_string();
    let args = ["--workers", workers, "--memory-limit", &limit];
    let common = ["--loops", "1", "--outbound-limit", "2MiB"];
    let times = ["--write-timeout", "1h", "--message-timeout", "1h", "--close-timeout", "200ms"];
    Gateway::start(&[&common[..], &times[..], &args[..]].concat())
}

#[test]
fn slow_readers_of_echoes_are_shed_inline() {
    slow_readers_of_echoes_are_shed("0");
}

#[test]
fn slow_readers_of_echoes_are_shed_pooled() {
    slow_readers_of_echoes_are_shed("2");
}

fn slow_readers_of_echoes_are_shed(workers: &str) {
    let mut gateway = start(workers, LIMIT);
    let mut healthy: Vec<_> = (0..8).map(|_| Client::open(gateway.addr, "/echo")).collect();
    let mut slow: Vec<_> = (0..12).map(|_| Client::open_narrow(gateway.addr, "/echo")).collect();
    let message = frame(BINARY, &[1; 64 * 1024]);
    let mut sent = vec![0; slow.len()];
    for client in &slow {
        client.stream.set_nonblocking(true).unwrap();
    }
    wait_until("three shed", || {
        for (client, sent) in slow.iter_mut().zip(&mut sent) {
            // Nobody reads the answers; from some point on it is shed, and takes nothing.
            *sent += client.stream.write(&message[*sent % message.len()..]).unwrap_or(0);
        }
        healthy.iter_mut().for_each(echo_once);
        check_bounds(&mut gateway);
        shed(&gateway.stats()) >= 3
    });
    healthy.iter_mut().for_each(echo_once);
    drop((slow, healthy));
    all_is_given_back(gateway);
}

#[test]
fn unfinished_messages_count() {
    let mut gateway = start("0", LIMIT);
    let mut healthy = Client::open(gateway.addr, "/echo");
    let mut half: Vec<_> = (0..40).map(|_| Client::open(gateway.addr, "/echo")).collect();
    let message = frame(BINARY, &vec![1; 1024 * 1024]);
    for client in &mut half {
        // Some are shed while they send.
        let _ = client.stream.write_all(&message[..message.len() / 2]);
        echo_once(&mut healthy);
        check_bounds(&mut gateway);
    }
    let stats = gateway.stats_until("20 of 40 half messages shed", |stats| shed(stats) >= 20);
    assert!(stats["buffers"]["inbound_bytes"].as_u64() > Some(2 * MIB), "{:#}", stats["buffers"]);
    drop((half, healthy));
    all_is_given_back(gateway);
}

/// Many small ones fill the memory as well as a few big ones do.
#[test]
fn many_little_pieces_count() {
    let mut gateway = start("0", MIB);
    let message = frame(BINARY, &[1; 4096]);
    let half: Vec<_> = (0..600)
        .map(|_| {
            let mut client = Client::open(gateway.addr, "/echo");
            client.send(&message[..3000]);
            client
        })
        .collect();
    let stats = gateway.stats_until("shedding", |stats| shed(stats) >= 100);
    assert!(total_bytes(&stats) <= MIB + MIB / 4, "{:#}", stats["buffers"]);
    drop(half);
    all_is_given_back(gateway);
}

#[test]
fn a_request_in_drops_is_counted_once() {
    let mut gateway = start("0", LIMIT);
    let addr = gateway.addr;
    let mut stream = std::net::TcpStream::connect(addr).unwrap();
    stream.set_nodelay(true).unwrap();
    let head = format!("GET /echo HTTP/1.1\r\nX: {}", "x".repeat(200));
    for (sent, byte) in head.bytes().enumerate() {
        stream.write_all(&[byte]).unwrap();
        if sent % 40 == 0 {
            let read = sent as u64 + 1;
            gateway.stats_until("the byte", |s| s["totals"]["bytes_in"].as_u64() >= Some(read));
        }
    }
    let sent = head.len() as u64;
    let stats =
        gateway.stats_until("all bytes", |s| s["totals"]["bytes_in"].as_u64() >= Some(sent));
    let counted = stats["buffers"]["inbound_bytes"].as_u64().unwrap();
    assert!((sent..2 * sent + 64).contains(&counted), "{counted} B for {sent} B");
    drop(stream);
    all_is_given_back(gateway);
}

#[test]
fn half_requests_that_are_shed_are_counted_as_refused() {
    let mut gateway = start("0", MIB / 4);
    let half = format!("GET /echo HTTP/1.1\r\nX: {}", "x".repeat(4_000));
    let mut peers: Vec<_> =
        (0..200).map(|_| std::net::TcpStream::connect(gateway.addr).unwrap()).collect();
    for peer in &mut peers {
        // Whoever comes after the ceiling was reached may be cut while it writes.
        let _ = peer.write_all(half.as_bytes());
    }
    let stats = gateway.stats_until("shedding", |s| s["refusals"]["full"].as_u64() > Some(0));
    assert_eq!(shed(&stats), 0, "none of them was a WebSocket");
    let left = |s: &Value| s["totals"]["connections"].as_u64().unwrap();
    let full = |s: &Value| s["refusals"]["full"].as_u64().unwrap();
    gateway.stats_until("all accounted for", |s| left(s) + full(s) == 200);
    drop(peers);
    all_is_given_back(gateway);
}

#[test]
fn a_shared_frame_is_counted_once() {
    let mut gateway = start("2", LIMIT);
    let mut members: Vec<_> = (0..1000).map(|_| Client::open_narrow(gateway.addr, "/ws")).collect();
    for member in &mut members {
        member.text(r#"{"route":"join","id":1,"body":{"room":"hall"}}"#);
    }
    for member in &mut members {
        assert!(member.frame().unwrap().text().starts_with(r#"{"id":1,"body""#));
    }
    let mut speaker = Client::open(gateway.addr, "/ws");
    // Far more than the sockets' buffers take.
    let body = "x".repeat(900 * 1024);
    let rounds = 6;
    for _ in 0..rounds {
        let ask =
            format!(r#"{{"route":"publish","id":2,"body":{{"room":"hall","data":"{body}"}}}}"#);
        speaker.text(&ask);
        let answer = speaker.frame().unwrap();
        let all_heard = answer.text().contains(r#""receivers":1000"#);
        let stats = gateway.stats();
        if shed(&stats) + closed(&stats, "outbound_limit") > 0 {
            break;
        }
        assert!(all_heard, "{}", answer.text());
        check_bounds(&mut gateway);
        let buffers = &stats["buffers"];
        let frames = buffers["frame_bytes"].as_u64().unwrap();
        assert!(frames <= 3 * MIB, "1000 members owe one frame each: {buffers:#}");
    }
    drop((members, speaker));
    all_is_given_back(gateway);
}

fn echo_once(client: &mut Client) {
    let mut answer = [0; 22];
    client.send(&frame(BINARY, &[7; 20]));
    client.read_exact(&mut answer);
    assert_eq!(answer[..], server_frame(BINARY, &[7; 20]));
}

fn shed(stats: &Value) -> u64 {
    closed(stats, "memory_limit")
}

fn closed(stats: &Value, cause: &str) -> u64 {
    stats["closes"][cause].as_u64().expect("a cause")
}

fn total_bytes(stats: &Value) -> u64 {
    stats["buffers"]["total_bytes"].as_u64().expect("a number")
}

fn check_bounds(gateway: &mut Gateway) {
    let stats = gateway.stats();
    assert!(total_bytes(&stats) <= LIMIT + SLACK, "{:#}", stats["buffers"]);
    let resident = resident_bytes(gateway.pid);
    assert!(resident <= LIMIT + SLACK + BASE, "{resident} B resident, {:#}", stats["buffers"]);
}

fn resident_bytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a line");
    let kib: u64 = line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number");
    kib * 1024
}

/// With nobody there, nothing is counted any more.
fn all_is_given_back(mut gateway: Gateway) {
    let stats = gateway.stats_until("no connection and no byte", |stats| {
        stats["totals"]["connections"] == 0 && total_bytes(stats) == 0
    });
    for component in ["outbox_bytes", "inbound_bytes", "arena_bytes", "frame_bytes"] {
        assert_eq!(stats["buffers"][component], 0, "{:#}", stats["buffers"]);
    }
    for component in ["outbox_bytes", "inbound_bytes"] {
        assert_eq!(stats["totals"][component], 0, "{component}");
    }
    assert!(gateway.stop().success());
}
