//! Pull channels: one runner each, once for all signals that came before it began.

use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use serde_json::json;
use tidegate::{ConnId, Endpoint};

use crate::{
    all_gone, both, endpoint, got, late, nothing, only, open_apart, open_known, stats_until,
    telling_ids,
};

/// With a pull channel whose runner says that it began, and waits until it is let go.
fn pulling(endpoint: Endpoint, channel: &str) -> (Endpoint, Receiver<ConnId>, Sender<()>) {
    let ((began_tx, began), (go, go_rx)) = (mpsc::channel(), mpsc::channel());
    let go_rx = Mutex::new(go_rx);
    let name = channel.to_owned();
    let endpoint = endpoint.pull(channel, move |ctx| {
        // The test may have ended.
        let _ = began_tx.send(ctx.conn());
        let _ = go_rx.lock().unwrap().recv();
        ctx.push(ctx.conn(), name.as_str());
    });
    (endpoint, began, go)
}

#[test]
fn signals_that_come_meanwhile_are_one() {
    both(|setup| {
        let (endpoint, told) = telling_ids(endpoint());
        let (endpoint, began, go) = pulling(endpoint, "mail");
        let running = setup.serve(endpoint);
        let (mut peer, id) = open_known(&running, &told);
        let gateway = running.gateway();
        for _ in 0..3 {
            gateway.signal(id, "mail").unwrap();
            assert_eq!(got(&began), id);
            thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| (0..50).for_each(|_| gateway.signal(id, "mail").unwrap()));
                }
            });
            // All have come: what comes behind them has been done.
            let (tx, done) = mpsc::channel();
            gateway.run_on(id, move |_| tx.send(()).unwrap()).unwrap();
            got(&done);
            nothing(&began);
            go.send(()).unwrap();
            assert_eq!(peer.json()["data"], "mail");
            assert_eq!(got(&began), id, "exactly once more");
            go.send(()).unwrap();
            assert_eq!(peer.json()["data"], "mail");
            // Its end is known to the shard before what comes behind it.
            assert_eq!(peer.ask("echo", 1, json!(1))["body"], 1);
            nothing(&began);
        }
        assert_eq!(late(&running), 0);
    });
}

#[test]
fn channels_and_connections_run_in_parallel() {
    both(|setup| {
        let (endpoint, told) = telling_ids(endpoint());
        let (endpoint, mail_began, mail_go) = pulling(endpoint, "mail");
        let (endpoint, news_began, news_go) = pulling(endpoint, "news");
        let running = setup.serve(endpoint);
        let [(mut one, one_id), (mut two, two_id)] = open_apart(&running, &told);
        running.gateway().signal(one_id, "mail").unwrap();
        assert_eq!(got(&mail_began), one_id);
        running.gateway().signal(one_id, "news").unwrap();
        assert_eq!(got(&news_began), one_id);
        news_go.send(()).unwrap();
        assert_eq!(one.json()["data"], "news", "while the other runner is blocked");
        running.gateway().signal(two_id, "news").unwrap();
        assert_eq!(got(&news_began), two_id);
        news_go.send(()).unwrap();
        assert_eq!(two.json()["data"], "news");
        mail_go.send(()).unwrap();
        assert_eq!(one.json()["data"], "mail");
    });
}

#[test]
fn handlers_signal_too() {
    both(|setup| {
        let (endpoint, told) = telling_ids(endpoint());
        let endpoint = endpoint
            .pull("mail", |ctx| {
                let fetched = ctx.store().incr("fetched", 1).unwrap();
                ctx.push(ctx.conn(), fetched.to_string().as_str());
            })
            .route("signal", |ctx, m| {
                let conn = ConnId::from_bits(m.body.parse().unwrap());
                ctx.signal(conn, "mail");
            });
        let running = setup.serve(endpoint);
        let [(mut one, one_id), (mut two, two_id)] = open_apart(&running, &told);
        for n in 1..=3 {
            for id in [one_id, two_id] {
                assert_eq!(two.ask("signal", 1, json!(id.to_bits()))["id"], 1);
                if id == two_id {
                    assert_eq!(two.json()["data"], n.to_string());
                } else {
                    assert_eq!(one.json()["data"], n.to_string());
                }
            }
        }
    });
}

#[test]
fn signals_to_nobody_are_counted() {
    both(|setup| {
        let (endpoint, told) = telling_ids(endpoint());
        let (endpoint, began, _go) = pulling(endpoint, "mail");
        let running = setup.start_with(only(endpoint), |config| config.loops = 1);
        let (gone, stale) = open_known(&running, &told);
        drop(gone);
        all_gone(&running);
        let (_heir, id) = open_known(&running, &told);
        let gateway = running.gateway();
        gateway.signal(stale, "mail").unwrap();
        stats_until(&running, "a gone connection's", |s| s["late_answers"] == 1);
        gateway.signal(id, "male").unwrap();
        stats_until(&running, "an unknown channel's", |s| s["late_answers"] == 2);
        gateway.signal(ConnId::new(1000, 1, 7), "mail").unwrap();
        stats_until(&running, "an id's of nobody", |s| s["late_answers"] == 3);
        nothing(&began);
    });
}

#[test]
fn a_runner_that_panics_is_run_again() {
    both(|setup| {
        let (endpoint, told) = telling_ids(endpoint());
        let endpoint = endpoint.pull("mail", |ctx| {
            let runs = ctx.store().incr("runs", 1).unwrap();
            assert!(runs > 2, "a runner's panic");
            ctx.push(ctx.conn(), "at last");
        });
        let running = setup.serve(endpoint);
        let (mut peer, id) = open_known(&running, &told);
        for panics in 1..=2 {
            running.gateway().signal(id, "mail").unwrap();
            stats_until(&running, "it counted", |s| s["worker_totals"]["panics"] == panics);
        }
        running.gateway().signal(id, "mail").unwrap();
        assert_eq!(peer.json()["data"], "at last");
    });
}

#[test]
fn a_full_pool_leaves_the_channel_usable() {
    both(|setup| {
        let (endpoint, told) = telling_ids(endpoint());
        let (endpoint, began, go) = pulling(endpoint, "mail");
        let running = setup.start_with(only(endpoint), |config| {
            (config.blocking_threads, config.tuning.blocking_jobs_max) = (1, 1);
        });
        let (mut one, one_id) = open_known(&running, &told);
        let (mut two, two_id) = open_known(&running, &told);
        running.gateway().signal(one_id, "mail").unwrap();
        got(&began);
        running.gateway().signal(two_id, "mail").unwrap();
        stats_until(&running, "it refused", |s| s["worker_totals"]["blocking_refused"] == 1);
        go.send(()).unwrap();
        assert_eq!(one.json()["data"], "mail");
        // The job may end a moment after what it sent has arrived.
        for refused in 1.. {
            running.gateway().signal(two_id, "mail").unwrap();
            if let Ok(id) = began.recv_timeout(std::time::Duration::from_millis(200)) {
                assert_eq!(id, two_id);
                break;
            }
            assert!(refused < 100, "it never runs again");
        }
        go.send(()).unwrap();
        assert_eq!(two.json()["data"], "mail");
    });
}

#[test]
fn a_connection_that_ends_meanwhile() {
    both(|setup| {
        let (endpoint, told) = telling_ids(endpoint());
        let (endpoint, began, go) = pulling(endpoint, "mail");
        let running = setup.start_with(only(endpoint), |config| config.loops = 1);
        let (peer, id) = open_known(&running, &told);
        running.gateway().signal(id, "mail").unwrap();
        got(&began);
        peer.reset();
        all_gone(&running);
        let (mut heir, heir_id) = open_known(&running, &told);
        go.send(()).unwrap();
        stats_until(&running, "what it left counted", |s| s["late_answers"] == 1);
        running.gateway().signal(heir_id, "mail").unwrap();
        assert_eq!(got(&began), heir_id);
        go.send(()).unwrap();
        assert_eq!(heir.json()["data"], "mail");
    });
}
