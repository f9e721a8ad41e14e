//! A new snapshot under live connections.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Running;
use super::snapshot::Snapshot;
use crate::config::Config;
use crate::dialect::Dialect;
use crate::routing::{Endpoint, Gateway};
use client::{Client, Frame, TEXT, request};

#[path = "../../tests/support/client.rs"]
mod client;

fn start(workers: usize) -> Running {
    Gateway::builder()
        .listen(([127, 0, 0, 1], 0))
        .configure(|config| {
            config.loops = 2;
            config.workers = workers;
        })
        .start()
        .expect("it starts")
}

fn replace(running: &Running, change: impl FnOnce(&mut Config), added: Option<Endpoint>) {
    let shared = &running.gateway().shared;
    let current = shared.snapshot();
    let mut config = current.config.clone();
    change(&mut config);
    let mut endpoints = current.endpoints().to_vec();
    endpoints.extend(added.map(Arc::new));
    shared.replace_snapshot(Snapshot::new(config, endpoints));
}

fn text(text: &str) -> Option<Frame> {
    Some(Frame::new(TEXT, text))
}

#[test]
fn limits_change_for_live_connections() {
    for workers in [0, 2] {
        let running = start(workers);
        let addr = running.addresses()[0];
        let mut peers = [(); 4].map(|()| Client::open(addr, "/echo"));
        for peer in &mut peers {
            peer.text("twelve bytes");
            assert_eq!(peer.frame(), text("twelve bytes"));
        }
        replace(&running, |config| config.max_frame_bytes = 11, None);
        for peer in &mut peers {
            peer.text("eleven byte");
            assert_eq!(peer.frame(), text("eleven byte"));
            peer.text("twelve bytes");
            peer.expect_close_and_end(1009);
        }
        replace(&running, |config| config.idle_timeout = Some(Duration::from_millis(50)), None);
        let mut idle = Client::open(addr, "/echo");
        assert_eq!(idle.expect_close_and_end(1001), "idle for too long");
    }
}

#[test]
fn a_timeout_that_is_added_ends_connections_that_were_open_before() {
    let running = start(1);
    let mut idle = Client::open(running.addresses()[0], "/echo");
    replace(&running, |config| config.idle_timeout = Some(Duration::from_millis(50)), None);
    assert_eq!(idle.expect_close_and_end(1001), "idle for too long");
}

#[test]
fn endpoints_appear_and_old_ids_stay_good() {
    for workers in [0, 2] {
        let running = start(workers);
        let addr = running.addresses()[0];
        let mut before = [(); 4].map(|()| Client::open(addr, "/echo"));
        let mut refused = Client::dial(addr);
        refused.send(&request("/new"));
        assert_eq!(refused.head().status, 404);

        let new = Endpoint::new("/new", Dialect::Raw).fallback(|ctx, _| ctx.reply("new"));
        replace(&running, |_| {}, Some(new));
        for _ in 0..4 {
            let mut after = Client::open(addr, "/new");
            after.text("?");
            assert_eq!(after.frame(), text("new"));
        }
        // The last one at a path answers there; whoever is connected stays with the one before.
        let louder = Endpoint::new("/echo", Dialect::Raw).fallback(|ctx, _| ctx.reply("LOUD"));
        replace(&running, |_| {}, Some(louder));
        let mut after = Client::open(addr, "/echo");
        after.text("quiet");
        assert_eq!(after.frame(), text("LOUD"));
        for peer in &mut before {
            peer.text("quiet");
            assert_eq!(peer.frame(), text("quiet"));
        }
    }
}

#[test]
fn connections_of_a_path_are_counted_across_configurations() {
    for workers in [0, 2] {
        let running = start(workers);
        let addr = running.addresses()[0];
        let limited = |max| Endpoint::echo("/few").max_connections(max);
        replace(&running, |_| {}, Some(limited(2)));
        let before = [(); 2].map(|()| Client::open(addr, "/few"));
        let status = |path| {
            let mut client = Client::dial(addr);
            client.send(&request(path));
            let status = client.head().status;
            (client, status)
        };
        assert_eq!(status("/few").1, 503);
        replace(&running, |_| {}, Some(limited(3)));
        let (_third, let_in) = status("/few");
        assert_eq!((let_in, status("/few").1), (101, 503));
        drop(before);
        let deadline = Instant::now() + Duration::from_secs(30);
        while running.stats()["totals"]["open"] != 1 {
            assert!(Instant::now() < deadline, "they never left");
            std::thread::sleep(Duration::from_millis(2));
        }
        let held = [(); 2].map(|()| Client::open(addr, "/few"));
        assert_eq!(status("/few").1, 503);
        drop(held);
    }
}

#[test]
fn homes_answer_for_endpoints_that_are_new_to_them() {
    for workers in [0, 4] {
        let running = start(workers);
        replace(&running, |_| {}, Some(Endpoint::json("/new")));
        // One connection, so one shard has heard of it; its rooms are at home on all of them.
        let mut peer = Client::open(running.addresses()[0], "/new");
        for n in 0..16 {
            let room = serde_json::json!({ "room": format!("room {n}") });
            assert_eq!(peer.ask("join", n, room)["body"]["members"], 1);
        }
    }
}

#[test]
fn a_head_that_is_longer_than_the_new_limit_is_refused() {
    let running = start(0);
    let mut peer = Client::dial(running.addresses()[0]);
    let half = format!("GET /echo HTTP/1.1\r\nHost: test\r\nCookie: {}", "c".repeat(4000));
    peer.send(half.as_bytes());
    let deadline = Instant::now() + Duration::from_secs(30);
    while running.stats()["totals"]["bytes_in"] != half.len() {
        assert!(Instant::now() < deadline, "never read");
        std::thread::sleep(Duration::from_millis(2));
    }
    replace(&running, |config| config.max_header_bytes = 512, None);
    peer.send(b"c\r\n\r\n");
    assert_eq!(peer.head().status, 431);
}

#[test]
#[should_panic(expected = "endpoints may only be added")]
fn endpoints_do_not_move() {
    let running = start(0);
    let shared = &running.gateway().shared;
    let config = shared.snapshot().config.clone();
    shared.replace_snapshot(Snapshot::new(config, vec![Arc::new(Endpoint::echo("/echo"))]));
}
