//! How the gateway leaves: what clients see of it, its exit code, and the statistics it leaves.

mod support;

use std::net::TcpStream;
use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::Value;

use support::Gateway;
use support::client::{BINARY, Client, close_frame, fragment, frame, request};

#[test]
fn all_are_closed_with_1001_and_the_counters_add_up() {
    for workers in ["0", "2"] {
        let mut gateway = Gateway::start(&["--loops", "2", "--workers", workers]);
        let mut clients: Vec<_> = (0..100).map(|_| Client::echo(gateway.addr)).collect();
        clients.iter_mut().for_each(|client| client.echoes(b"before"));
        let left = clients.split_off(90);
        drop(left);
        let addr = gateway.addr;
        let mut asking = Client::dial(addr);
        asking.send(&request("/echo")[..30]);
        gateway.stats_until("the half request", |stats| stats["totals"]["inbound_bytes"] != 0);
        gateway.signal(Signal::SIGTERM);
        for client in &mut clients {
            client.expect_close(1001);
            client.send(&close_frame(1001));
            client.expect_end();
        }
        assert!(asking.response().starts_with("HTTP/1.1 503 "), "one that had not asked yet");
        drop(asking);
        let (status, stats) = gateway.left_with_stats();
        assert_eq!(status.code(), Some(0));
        assert!(TcpStream::connect(addr).is_err(), "still listening");
        check_totals(&stats, 101, 100, 100);
        assert_eq!(stats["closes"]["shutdown"].as_u64(), Some(90));
        assert_eq!(stats["closes"]["peer_eof"].as_u64(), Some(10));
        assert_eq!(stats["refusals"]["shutdown"], 1);
    }
}

#[test]
fn what_is_owed_is_sent_before_the_close() {
    for workers in ["0", "2"] {
        let args = ["--workers", workers, "--outbound-limit", "64MiB", "--drain-timeout", "1m"];
        let mut gateway = Gateway::start(&[&args[..], &["--close-timeout", "1m"]].concat());
        let mut slow = Client::dial_buffered(gateway.addr, 16 * 1024);
        slow.upgrade("/echo");
        let message = vec![8; 100_000];
        for _ in 0..150 {
            slow.send(&frame(BINARY, &message));
        }
        gateway.stats_until("all read", |stats| stats["totals"]["messages_in"] == 150);
        gateway.signal(Signal::SIGTERM);
        gateway.stderr_until("closing all connections");
        for _ in 0..150 {
            slow.expect(BINARY, &message);
        }
        slow.expect_close(1001);
        slow.send(&close_frame(1001));
        slow.expect_end();
        let (status, stats) = gateway.left_with_stats();
        assert_eq!(status.code(), Some(0));
        check_totals(&stats, 1, 1, 150);
        assert_eq!(stats["totals"]["messages_out"], 150);
    }
}

#[test]
fn a_client_inside_a_message_is_closed_in_order() {
    let mut gateway = Gateway::start(&["--close-timeout", "1m"]);
    let mut client = Client::echo(gateway.addr);
    let message = fragment(BINARY, &[0xa5; 1_000]);
    client.send(&message[..500]);
    gateway.stats_until("half a frame", |stats| stats["totals"]["inbound_bytes"] != 0);
    gateway.signal(Signal::SIGTERM);
    client.expect_close(1001);
    // The rest of the frame, which is no frame by itself, and the answer.
    client.send(&[&message[500..], &close_frame(1001)].concat());
    client.expect_end();
    let (status, stats) = gateway.left_with_stats();
    assert_eq!(status.code(), Some(0));
    check_totals(&stats, 1, 1, 0);
}

#[test]
fn clients_that_ignore_the_close_are_left_after_the_close_timeout() {
    let mut gateway = Gateway::start(&["--close-timeout", "300ms", "--drain-timeout", "1m"]);
    let mut clients: Vec<_> = (0..20).map(|_| Client::echo(gateway.addr)).collect();
    gateway.signal(Signal::SIGTERM);
    for client in &mut clients {
        client.expect_close(1001);
        client.expect_end();
    }
    let (status, stats) = gateway.left_with_stats();
    assert_eq!(status.code(), Some(0));
    check_totals(&stats, 20, 20, 0);
}

#[test]
fn the_drain_timeout_cuts_who_is_left() {
    let args = ["--close-timeout", "1m", "--drain-timeout", "300ms"];
    let mut gateway = Gateway::start(&args);
    let clients: Vec<_> = (0..20).map(|_| Client::echo(gateway.addr)).collect();
    gateway.signal(Signal::SIGTERM);
    let (status, stats) = gateway.left_with_stats();
    assert_eq!(status.code(), Some(4));
    assert!(gateway.stderr().contains("20 connections were cut"), "{}", gateway.stderr());
    check_totals(&stats, 20, 20, 0);
    drop(clients);
}

#[test]
fn a_second_signal_leaves_at_once() {
    for second in [Signal::SIGTERM, Signal::SIGINT] {
        let args = ["--close-timeout", "1h", "--drain-timeout", "1h"];
        let mut gateway = Gateway::start(&args);
        let mut client = Client::echo(gateway.addr);
        gateway.signal(Signal::SIGINT);
        client.expect_close(1001);
        gateway.signal(second);
        let (status, stats) = gateway.left_with_stats();
        assert_eq!(status.code(), Some(3));
        check_totals(&stats, 1, 1, 0);
    }
}

#[test]
fn an_address_that_is_taken_is_exit_code_1() {
    let gateway = Gateway::start(&[]);
    let addr = gateway.addr.to_string();
    let output = support::command().args(["--listen", &addr]).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains(&addr), "{stderr}");
    Client::echo(gateway.addr).echoes(b"undisturbed");
}

#[test]
fn mistakes_in_flags_are_exit_code_2() {
    let run = |args: &[&str]| -> (Option<i32>, String) {
        let mut command: Command = support::command();
        let output = command.args(args).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for args in [
        &["--no-such-flag"][..],
        &["--loops", "0"],
        &["--listen", "nowhere"],
        &["--pong-timeout", "soon"],
    ] {
        let (code, stderr) = run(args);
        assert_eq!(code, Some(2), "{args:?}: {stderr}");
        assert!(stderr.contains(args[0]), "{args:?}: {stderr}");
    }
}

#[test]
fn sigusr1_writes_the_statistics_of_now() {
    let mut gateway = Gateway::start(&["--loops", "2"]);
    let mut clients: Vec<_> = (0..10).map(|_| Client::echo(gateway.addr)).collect();
    for round in 1..=5_u64 {
        clients.iter_mut().for_each(|client| client.echoes(b"counted"));
        let stats = gateway.stats();
        assert_eq!(stats["totals"]["messages_in"], 10 * round);
        assert_eq!(stats["totals"]["open"], 10);
        assert_eq!(stats["pid"], gateway.pid);
        let per_loop = stats["loops"].as_array().unwrap().iter();
        assert_eq!(per_loop.map(|each| each["open"].as_u64().unwrap()).sum::<u64>(), 10);
    }
}

/// So many connections were accepted, so many upgraded and closed again, so many messages came,
/// and nothing is left; loops, causes and totals say the same.
fn check_totals(stats: &Value, accepted: u64, opened: u64, messages: u64) {
    let totals = &stats["totals"];
    let total = |name: &str| totals[name].as_u64().unwrap();
    let sum = |map: &Value| map.as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum();
    let (closes, refusals): (u64, u64) = (sum(&stats["closes"]), sum(&stats["refusals"]));
    assert_eq!(total("accepted"), accepted, "{stats:#}");
    assert_eq!((total("opened"), total("closed"), closes), (opened, opened, opened), "{stats:#}");
    assert_eq!(refusals, accepted - opened, "{stats:#}");
    assert_eq!(total("messages_in"), messages, "{stats:#}");
    assert_eq!(stats["worker_totals"]["messages"], messages, "{stats:#}");
    for gauge in ["open", "connections", "paused", "outbox_bytes", "inbound_bytes"] {
        assert_eq!(total(gauge), 0, "{gauge}: {stats:#}");
    }
    assert_eq!(stats["buffers"]["total_bytes"], 0, "{stats:#}");
    for name in ["accepted", "opened", "closed", "messages_in", "bytes_in", "bytes_out"] {
        let loops = stats["loops"].as_array().unwrap().iter();
        let by_loop: u64 = loops.map(|each| each[name].as_u64().unwrap()).sum();
        assert_eq!(by_loop, total(name), "{name}: {stats:#}");
    }
}
