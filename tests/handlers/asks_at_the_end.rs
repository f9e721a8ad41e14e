//! Asks that come to nothing: too late, too many, or nobody is there.

use std::sync::mpsc;
use std::time::Duration;

use serde_json::json;
use tidegate::{AskError, ConnId, Stopped};

use crate::asks::{LONG, ask, telling};
use crate::{all_gone, both, endpoint, got, late, nothing, open_known, stats_until, telling_ids};

const SHORT: Duration = Duration::from_millis(50);
const ASKS_MAX: usize = tidegate::limits::ASKS_PER_CONNECTION_MAX;

#[test]
fn no_answer_in_time() {
    both(|setup| {
        let (endpoint, told) = telling_ids(endpoint());
        let running = setup.serve(endpoint);
        let (mut peer, id) = open_known(&running, &told);
        let (outcomes, outcome) = mpsc::channel();
        ask(&running, id, SHORT, &outcomes);
        ask(&running, id, LONG, &outcomes);
        let (first, second) = (peer.json()["ask"].clone(), peer.json()["ask"].clone());
        assert_eq!(got(&outcome), Err(AskError::TimedOut));
        peer.text(&json!({"answer": first, "body": "late"}).to_string());
        stats_until(&running, "it counted", |s| s["late_answers"] == 1);
        peer.text(&json!({"answer": second, "body": "in time"}).to_string());
        assert_eq!(got(&outcome), Ok(json!("in time")));
        nothing(&outcome);
    });
}

#[test]
fn deadlines_come_in_their_order() {
    both(|setup| {
        let (endpoint, told) = telling_ids(endpoint());
        let running = setup.serve(endpoint);
        let (mut peer, id) = open_known(&running, &told);
        let (outcomes, outcome) = mpsc::channel();
        for time in [300, 100, 200, 1] {
            let outcomes = outcomes.clone();
            let timeout = Duration::from_millis(time);
            let tell = move |answer: Result<tidegate::Body<'_>, AskError>| {
                outcomes.send((time, answer.map(|_| ()))).expect("the test waits");
            };
            running.gateway().ask(id, "q", "", timeout, tell).unwrap();
            peer.json();
        }
        for time in [1, 100, 200, 300] {
            assert_eq!(got(&outcome), (time, Err(AskError::TimedOut)));
        }
    });
}

#[test]
fn all_that_are_open_fail_when_the_connection_ends() {
    both(|setup| {
        let (endpoint, told) = telling_ids(endpoint());
        let running = setup.serve(endpoint);
        for in_order in [true, false] {
            let (mut peer, id) = open_known(&running, &told);
            let (mut other, other_id) = open_known(&running, &told);
            let (outcomes, outcome) = mpsc::channel();
            let (others, of_other) = mpsc::channel();
            ask(&running, other_id, LONG, &others);
            for _ in 0..10 {
                ask(&running, id, LONG, &outcomes);
                peer.json();
            }
            if in_order {
                peer.close(1000);
                peer.expect_close(1000);
            } else {
                peer.reset();
            }
            for _ in 0..10 {
                assert_eq!(got(&outcome), Err(AskError::Closed));
            }
            nothing(&outcome);
            nothing(&of_other);
            let number = other.json()["ask"].clone();
            other.text(&json!({"answer": number, "body": 1}).to_string());
            assert_eq!(got(&of_other), Ok(json!(1)));
        }
    });
}

#[test]
fn no_more_than_a_hundred() {
    both(|setup| {
        let (endpoint, told) = telling_ids(endpoint());
        let running = setup.serve(endpoint);
        let (mut peer, id) = open_known(&running, &told);
        let (outcomes, outcome) = mpsc::channel();
        for _ in 0..ASKS_MAX {
            ask(&running, id, LONG, &outcomes);
        }
        for n in 0..ASKS_MAX {
            assert_eq!(peer.json()["ask"], json!(2 * n + 3));
        }
        nothing(&outcome);
        ask(&running, id, LONG, &outcomes);
        assert_eq!(got(&outcome), Err(AskError::TooMany));
        assert_eq!(peer.ask("echo", 1, json!(1))["body"], 1, "it was not sent");
        // Another connection has its own hundred, and one answer makes room for one more.
        let (mut other, other_id) = open_known(&running, &told);
        ask(&running, other_id, LONG, &outcomes);
        assert_eq!(other.json()["ask"], 3);
        peer.text(r#"{"answer":3,"body":"one"}"#);
        assert_eq!(got(&outcome), Ok(json!("one")));
        ask(&running, id, LONG, &outcomes);
        let next = peer.json()["ask"].as_u64().unwrap();
        assert!(next % 2 == 1 && next > 2 * ASKS_MAX as u64, "{next}");
        assert_eq!(late(&running), 0);
    });
}

#[test]
fn nobody_is_there() {
    both(|setup| {
        let (endpoint, told) = telling_ids(endpoint());
        let (outcomes, outcome) = mpsc::channel();
        let from_handlers = outcomes.clone();
        let endpoint = endpoint.route("ask", move |ctx, m| {
            let conn = ConnId::from_bits(m.body.parse().unwrap());
            ctx.ask(conn, "q", "", LONG, telling(&from_handlers));
        });
        let running = setup.serve(endpoint);
        let (gone, stale) = open_known(&running, &told);
        drop(gone);
        all_gone(&running);
        // Its slot has an heir, which must not hear of it.
        let (mut heir, _) = open_known(&running, &told);
        let never = ConnId::new(1000, 1, 7);
        for (n, conn) in [stale, never].into_iter().enumerate() {
            ask(&running, conn, LONG, &outcomes);
            assert_eq!(got(&outcome), Err(AskError::Closed), "{conn:?}");
            assert_eq!(heir.ask("ask", 1, json!(conn.to_bits()))["body"], json!(null));
            assert_eq!(got(&outcome), Err(AskError::Closed), "{conn:?}");
            stats_until(&running, "both counted", |s| s["late_answers"] == 2 * (n + 1));
        }
        nothing(&outcome);
    });
}

#[test]
fn the_gateway_stops() {
    both(|setup| {
        let (endpoint, told) = telling_ids(endpoint());
        let running = setup.serve(endpoint);
        let (mut peer, id) = open_known(&running, &told);
        let (outcomes, outcome) = mpsc::channel();
        ask(&running, id, LONG, &outcomes);
        peer.json();
        let gateway = running.gateway().clone();
        let reading = std::thread::spawn(move || peer.expect_close_and_end(1001));
        assert_eq!(running.stop(|| false).0, Stopped::Clean);
        reading.join().unwrap();
        assert_eq!(got(&outcome), Err(AskError::Closed));
        // From here on there is nobody left to call back.
        let after = gateway.ask(id, "q", "", LONG, telling(&outcomes));
        drop((gateway, outcomes));
        let told: Vec<_> = outcome.iter().collect();
        assert!(after.is_err() && told.iter().all(|t| *t == Err(AskError::Closed)), "{told:?}");
    });
}
