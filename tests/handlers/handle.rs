//! The gateway as seen from other threads: work on a connection's shard, late answers.

use std::sync::mpsc;
use std::thread;

use serde_json::json;
use tidegate::{Accept, ConnId, Identity, SelfDelivery, Stopped};

use crate::client::Client;
use crate::{
    PATH, addr, all_gone, both, endpoint, got, late, nothing, only, open, open_known, stats_until,
    telling_ids,
};

#[test]
fn run_on_a_connections_shard() {
    both(|setup| {
        let (endpoint, told) = telling_ids(endpoint());
        let endpoint = endpoint.route("rooms", |ctx, _| {
            let rooms: Vec<_> = ctx.rooms().into_iter().map(str::to_owned).collect();
            ctx.reply_json(&rooms);
        });
        let running = setup.serve(endpoint);
        let (mut peer, id) = open_known(&running, &told);
        let (tx, rx) = mpsc::channel();
        let log_in = move |ctx: &mut tidegate::Context<'_>| {
            assert!(ctx.conn() == id && !ctx.wants_answer());
            ctx.store().set("user", "ann").unwrap();
            ctx.join("members").unwrap();
            ctx.publish("members", "hello", SelfDelivery::Include).unwrap();
            ctx.push(id, "welcome");
            ctx.reply("to nothing");
            tx.send(thread::current().name().map(str::to_owned)).unwrap();
        };
        running.gateway().run_on(id, log_in).unwrap();
        let place = got(&rx).expect("a name");
        assert!(place.starts_with(if setup.workers == 0 { "tg-loop" } else { "tg-worker" }));
        let mut heard = [peer.json()["data"].clone(), peer.json()["data"].clone()];
        heard.sort_by_key(|data| data.to_string());
        assert_eq!(heard, [json!("hello"), json!("welcome")]);
        assert_eq!(peer.ask("rooms", 1, json!(null))["body"], json!(["members"]));
        assert_eq!(late(&running), 1, "there was nothing to reply to");
        peer.close(1000);
        peer.expect_close(1000);
        stats_until(&running, "its end", |s| s["worker_totals"]["memberships"] == 0);
    });
}

#[test]
fn work_for_a_connection_that_is_gone() {
    both(|setup| {
        let (endpoint, told) = telling_ids(endpoint());
        let running = setup.start_with(only(endpoint), |config| config.loops = 1);
        let (gone, stale) = open_known(&running, &told);
        drop(gone);
        all_gone(&running);
        let (mut heir, _) = open_known(&running, &told);
        let (tx, rx) = mpsc::channel();
        for conn in [stale, ConnId::new(1000, 1, 7)] {
            let tx = tx.clone();
            running.gateway().run_on(conn, move |_| tx.send(()).unwrap()).unwrap();
        }
        stats_until(&running, "both counted", |s| s["late_answers"] == 2);
        assert_eq!(heir.ask("echo", 1, json!(1))["body"], 1);
        drop(tx);
        assert!(rx.recv().is_err(), "it ran, or it is kept");
    });
}

#[test]
fn work_that_panics_ends_nothing() {
    both(|setup| {
        let (endpoint, told) = telling_ids(endpoint());
        let running = setup.serve(endpoint);
        let (mut peer, id) = open_known(&running, &told);
        running.gateway().run_on(id, |_| panic!("a panic of another's")).unwrap();
        stats_until(&running, "it counted", |s| s["worker_totals"]["panics"] == 1);
        assert_eq!(peer.ask("echo", 1, json!(1))["body"], 1);
    });
}

#[test]
fn work_of_one_thread_is_done_in_its_order() {
    both(|setup| {
        let (endpoint, told) = telling_ids(endpoint());
        let running = setup.serve(endpoint);
        let (_peer, id) = open_known(&running, &told);
        let (tx, rx) = mpsc::channel();
        for n in 0..1000 {
            let tx = tx.clone();
            running.gateway().run_on(id, move |_| tx.send(n).unwrap()).unwrap();
        }
        (0..1000).for_each(|n| assert_eq!(got(&rx), n));
        nothing(&rx);
    });
}

/// The hook knows the connection's id before it is open.
#[test]
fn rooms_joined_ahead_of_the_verdict_are_left_at_the_end() {
    both(|setup| {
        let (tx, admissions) = mpsc::channel();
        let endpoint = endpoint().on_connect(move |request, admission| {
            tx.send((request.conn, admission)).expect("the test waits");
        });
        let running = setup.serve(endpoint);
        let mut peer = Client::dial(addr(&running));
        peer.send(&crate::client::request(PATH));
        let (conn, admission) = got(&admissions);
        let (joined_tx, joined) = mpsc::channel();
        let join = move |ctx: &mut tidegate::Context<'_>| {
            ctx.join("early").unwrap();
            joined_tx.send(()).unwrap();
        };
        running.gateway().run_on(conn, join).unwrap();
        got(&joined);
        let rooms = vec!["hall".to_owned()];
        let identity = Identity::new("ann").ok();
        admission.accept(Accept { rooms, identity, ..Accept::default() });
        peer.expect_upgrade();
        stats_until(&running, "two and one", |s| {
            s["worker_totals"]["memberships"] == 2 && s["worker_totals"]["logins"] == 1
        });
        drop(peer);
        stats_until(&running, "its end", |s| s["worker_totals"]["memberships"] == 0);
        assert_eq!(running.stats()["worker_totals"]["rooms"], 0);
        stats_until(&running, "logged out", |s| s["worker_totals"]["logins"] == 0);
    });
}

#[test]
fn answers_after_the_handler_has_returned() {
    both(|setup| {
        let endpoint = endpoint().route("later", |ctx, m| {
            let (answer, n) = (ctx.later(), m.body.parse::<u64>().unwrap());
            thread::spawn(move || answer.reply(n.to_string().as_str()).unwrap());
        });
        let running = setup.serve(endpoint);
        let mut peer = open(&running);
        for id in 0..100 {
            peer.request("later", id, json!(id));
        }
        let mut ids: Vec<u64> = (0..100)
            .map(|_| {
                let answer = peer.json();
                assert_eq!(answer["body"], answer["id"].to_string());
                answer["id"].as_u64().unwrap()
            })
            .collect();
        ids.sort_unstable();
        assert!(ids.into_iter().eq(0..100));
        assert_eq!(late(&running), 0);
    });
}

#[test]
fn answers_to_a_closed_connection_are_counted() {
    both(|setup| {
        let (tx, held) = mpsc::channel();
        let endpoint =
            endpoint().route("hold", move |ctx, _| tx.send(ctx.later()).expect("the test waits"));
        let running = setup.serve(endpoint);
        let mut peer = open(&running);
        for id in 0..10 {
            peer.request("hold", id, json!(null));
        }
        let responders: Vec<_> = (0..10).map(|_| got(&held)).collect();
        peer.reset();
        all_gone(&running);
        for responder in responders {
            responder.reply("too late").unwrap();
        }
        stats_until(&running, "all counted", |s| s["drops"]["stale_connection"] == 10);
        assert_eq!(open(&running).ask("echo", 1, json!(1))["body"], 1);
    });
}

#[test]
fn a_stop_does_not_wait_for_ever_for_a_handler_that_blocks() {
    both(|setup| {
        let ((began_tx, began), (go, go_rx)) = (mpsc::channel(), mpsc::channel::<()>());
        let go_rx = std::sync::Mutex::new(go_rx);
        let stuck = tidegate::Route::new(move |_, _| {
            began_tx.send(()).expect("the test waits");
            let _ = go_rx.lock().unwrap().recv();
        });
        let endpoint = endpoint().route_with("stuck", stuck.run_on(tidegate::RunOn::Blocking));
        let running = setup.start_with(only(endpoint), |config| {
            config.close_timeout = std::time::Duration::from_millis(100);
            config.drain_timeout = std::time::Duration::from_secs(20);
        });
        let mut peer = open(&running);
        peer.request("stuck", 1, json!(null));
        got(&began);
        let reading = thread::spawn(move || peer.expect_close_and_end(1001));
        let stopping = thread::spawn(move || running.stop(|| false).0);
        reading.join().unwrap();
        drop(go);
        assert_eq!(stopping.join().unwrap(), Stopped::Clean);
    });
}
