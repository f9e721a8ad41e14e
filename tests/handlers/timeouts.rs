//! Requests whose answer has a deadline.
//!
//! No test sleeps until a deadline: a later one of another request is waited for instead.

use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use serde_json::{Value, json};
use tidegate::{Endpoint, Responder, Route, RunOn};

use crate::client::Client;
use crate::{addr, both, endpoint, got, late, only, open, stats_until};

const SHORT: Duration = Duration::from_millis(50);
/// Due behind all that is due in `SHORT` and was asked before.
const LONGER: Duration = Duration::from_millis(250);

/// With the route `hold`, which hands out the right to answer.
fn holding(endpoint: Endpoint, key: &str, timeout: Duration) -> (Endpoint, Receiver<Responder>) {
    let (tx, rx) = mpsc::channel();
    let route = Route::new(move |ctx, _| tx.send(ctx.later()).expect("the test waits"));
    (endpoint.route_with(key, route.timeout(timeout)), rx)
}

/// With the route `slow`, which blocks until it is let go, and answers with its body.
fn blocking(endpoint: Endpoint, timeout: Duration) -> (Endpoint, Receiver<()>, Sender<()>) {
    let ((began_tx, began), (go, go_rx)) = (mpsc::channel(), mpsc::channel());
    let go_rx = Mutex::new(go_rx);
    let route = Route::new(move |ctx, m| {
        began_tx.send(()).expect("the test waits");
        got(&go_rx.lock().unwrap());
        ctx.reply(m.body);
    });
    (endpoint.route_with("slow", route.timeout(timeout).run_on(RunOn::Blocking)), began, go)
}

fn timed_out(answer: &Value, id: u64) {
    assert_eq!((&answer["id"], &answer["error"]["code"]), (&json!(id), &json!(504)), "{answer}");
}

#[test]
fn a_responder_kept_too_long_is_answered_for() {
    both(|setup| {
        let (endpoint, held) = holding(endpoint(), "hold", SHORT);
        let running = setup.serve(endpoint);
        let mut peer = open(&running);
        peer.request("hold", 1, json!(null));
        timed_out(&peer.json(), 1);
        assert_eq!(late(&running), 0);
        got(&held).reply("late").expect("the gateway is there");
        assert_eq!(peer.ask("echo", 2, json!(2))["body"], 2, "nothing comes before it");
        assert_eq!(late(&running), 1);
        assert_eq!(running.stats()["worker_totals"]["errors"], 1);
    });
}

#[test]
fn an_answer_in_time_is_not_followed_by_a_timeout() {
    both(|setup| {
        let (endpoint, held) = holding(endpoint(), "hold", SHORT);
        let (endpoint, _longer) = holding(endpoint, "longer", LONGER);
        let running = setup.serve(endpoint);
        let mut peer = open(&running);
        peer.request("hold", 1, json!(null));
        peer.request("hold", 2, json!(null));
        peer.request("longer", 3, json!(null));
        got(&held).reply("in time").unwrap();
        got(&held).reply_error(418, "in time").unwrap();
        assert_eq!(peer.json()["body"], "in time");
        assert_eq!(peer.json()["error"]["code"], 418);
        timed_out(&peer.json(), 3);
        assert_eq!(late(&running), 0);
    });
}

#[test]
fn handlers_that_answer_before_they_return_are_not_timed() {
    both(|setup| {
        let now = Route::new(|ctx, m| ctx.reply(m.body)).timeout(SHORT);
        let nothing = Route::new(|_, _| {}).timeout(SHORT);
        let endpoint = endpoint().route_with("now", now).route_with("nothing", nothing);
        let (endpoint, _longer) = holding(endpoint, "longer", LONGER);
        let running = setup.serve(endpoint);
        let mut peer = open(&running);
        assert_eq!(peer.ask("now", 1, json!(1))["body"], 1);
        assert_eq!(peer.ask("nothing", 2, json!(2))["body"], json!(null));
        peer.request("longer", 3, json!(null));
        timed_out(&peer.json(), 3);
        assert_eq!(late(&running), 0);
    });
}

#[test]
fn a_handler_that_blocks_too_long_is_answered_for() {
    both(|setup| {
        let (endpoint, began, go) = blocking(endpoint(), SHORT);
        let running = setup.serve(endpoint);
        let mut peer = open(&running);
        peer.request("slow", 1, json!("late"));
        got(&began);
        timed_out(&peer.json(), 1);
        go.send(()).unwrap();
        stats_until(&running, "its answer counted", |s| s["late_answers"] == 1);
        assert_eq!(peer.ask("echo", 2, json!(2))["body"], 2);
        peer.close(1000);
        peer.expect_close(1000);
    });
}

#[test]
fn a_handler_that_blocks_and_answers_in_time_is_not_followed_by_a_timeout() {
    both(|setup| {
        let (endpoint, began, go) = blocking(endpoint(), SHORT);
        let (endpoint, _longer) = holding(endpoint, "longer", LONGER);
        let running = setup.serve(endpoint);
        let mut peer = open(&running);
        go.send(()).unwrap();
        peer.request("slow", 1, json!("in time"));
        got(&began);
        let first = peer.json();
        // On a machine under load it may have been late all the same: then that is what was said.
        if first["error"]["code"] != 504 {
            assert_eq!(first, json!({"id": 1, "body": "in time"}));
        }
        peer.request("longer", 2, json!(null));
        timed_out(&peer.json(), 2);
    });
}

#[test]
fn what_blocks_behind_another_is_timed_from_when_it_came() {
    both(|setup| {
        let (endpoint, began, go) = blocking(endpoint(), SHORT);
        let running = setup.serve(endpoint);
        let mut peer = open(&running);
        peer.request("slow", 1, json!(null));
        peer.request("slow", 2, json!(null));
        got(&began);
        let mut both = [peer.json(), peer.json()];
        both.sort_by_key(|answer| answer["id"].as_u64());
        timed_out(&both[0], 1);
        timed_out(&both[1], 2);
        go.send(()).unwrap();
        got(&began);
        go.send(()).unwrap();
        stats_until(&running, "both counted", |s| s["late_answers"] == 2);
    });
}

#[test]
fn what_the_full_pool_refuses_is_answered_once() {
    both(|setup| {
        let (endpoint, began, go) = blocking(endpoint(), SHORT);
        let (endpoint, _longer) = holding(endpoint, "longer", LONGER);
        let running = setup.start_with(only(endpoint), |config| {
            (config.blocking_threads, config.tuning.blocking_jobs_max) = (1, 1);
        });
        let (mut first, mut second) = (open(&running), Client::open(addr(&running), crate::PATH));
        first.request("slow", 1, json!(null));
        got(&began);
        let refused = second.ask("slow", 2, json!(null));
        assert_eq!(refused["error"]["code"], 503, "{refused}");
        second.request("longer", 3, json!(null));
        timed_out(&second.json(), 3);
        go.send(()).unwrap();
    });
}

#[test]
fn a_handler_that_says_nothing_after_its_deadline_leaves_nothing_to_count() {
    both(|setup| {
        let ((began_tx, began), (go, go_rx)) = (mpsc::channel(), mpsc::channel());
        let go_rx = Mutex::new(go_rx);
        let mute = Route::new(move |_, _| {
            began_tx.send(()).expect("the test waits");
            got::<()>(&go_rx.lock().unwrap());
        });
        let mute = mute.timeout(SHORT).run_on(RunOn::Blocking);
        let running = setup.serve(endpoint().route_with("mute", mute));
        let mut peer = open(&running);
        peer.request("mute", 1, json!(null));
        got(&began);
        timed_out(&peer.json(), 1);
        go.send(()).unwrap();
        // Its Close goes out when the handler has returned.
        peer.close(1000);
        peer.expect_close(1000);
        assert_eq!(late(&running), 0);
    });
}

#[test]
fn a_timeout_of_a_closed_connection_reaches_nobody() {
    both(|setup| {
        let (endpoint, held) = holding(endpoint(), "hold", SHORT);
        let running = setup.start_with(only(endpoint), |config| config.loops = 1);
        let mut peer = open(&running);
        peer.request("hold", 1, json!(null));
        let responder = got(&held);
        drop(peer);
        crate::all_gone(&running);
        let mut heir = open(&running);
        stats_until(&running, "it counted", |s| s["drops"]["stale_connection"] == 1);
        responder.reply("later still").unwrap();
        assert_eq!(heir.ask("echo", 1, json!(1))["body"], 1);
        assert_eq!(late(&running), 1);
    });
}
