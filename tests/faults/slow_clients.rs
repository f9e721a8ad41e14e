//! B and D: one slow client blocks the queue of all (a channel that is full at 1024, a push that is
//! five deep).

use std::sync::{Arc, Mutex, mpsc};

use serde_json::{Value, json};
use tidegate::{ConnId, Dialect, Endpoint, Running};

use crate::client::{CLOSE, Client};
use crate::speakers::{Action, Heard, Kim, Speaker};
use crate::{Setup, addr, both, got, only, stats_until};

/// More than B's channel holds.
const BROADCASTS: usize = 1_500;
/// Of each: all of them are far more than the sockets' buffers and the limit hold.
const BROADCAST_BYTES: usize = 8 * 1024;
const LIMIT: usize = 256 * 1024;

/// More than D's push holds, and less than the limit of what a connection may be owed.
const PUSHES: u32 = 200;
const PUSH_BYTES: usize = 8 * 1024;

fn broadcast(n: usize) -> Value {
    json!(format!("{n} {}", "x".repeat(BROADCAST_BYTES)))
}

#[test]
fn a_client_that_does_not_read_holds_up_no_broadcast() {
    both(|setup| {
        let endpoint = Action.endpoint().builtin().grant("broadcast");
        let running = setup.start(only(endpoint), |config| config.outbound_limit_bytes = LIMIT);
        let mut slow = Client::open_narrow(addr(&running), &Action.path());
        let mut told: Vec<_> = (0..3).map(|_| Speaker::open(&running, Action)).collect();
        for n in 0..BROADCASTS {
            told[0].request("broadcast", 2, &broadcast(n));
            let pushed = Heard::Push { word: "publish".to_owned(), body: broadcast(n) };
            let answered = told[0].answer_to(2, json!(null));
            let own = [told[0].hear(), told[0].hear()];
            assert!(own.contains(&pushed) && own.contains(&answered), "broadcast {n}");
            for client in &mut told[1..] {
                assert!(client.hear() == pushed, "broadcast {n}");
            }
        }
        // It got the oldest of them without a gap, and then was told that it is too slow.
        let mut next = 0;
        let code = loop {
            let frame = slow.frame().expect("a Close comes before the end");
            if frame.opcode == CLOSE {
                break frame.close_code();
            }
            let message: Value = serde_json::from_slice(&frame.payload).expect("JSON");
            assert!(message["data"] == broadcast(next), "broadcast {next} is missing");
            next += 1;
        };
        assert_eq!((code, next < BROADCASTS), (Some(1008), true), "after {next}");
        drop(slow);
        stats_until(&running, "its count", |s| s["closes"]["outbound_limit"] == 1);
    });
}

/// Speaks to all who have asked for `id`.
fn pushing_to_all(setup: Setup) -> (Running, mpsc::Receiver<ConnId>) {
    let (tell, told) = mpsc::channel();
    let conns: Arc<Mutex<Vec<ConnId>>> = Arc::default();
    let known = Arc::clone(&conns);
    let endpoint = Endpoint::new("/kim", Dialect::Kim)
        .route("id", move |ctx, _| {
            conns.lock().unwrap().push(ctx.conn());
            // The test may have ended.
            let _ = tell.send(ctx.conn());
        })
        .route("say", move |ctx, message| {
            let all = known.lock().unwrap().clone();
            ctx.push_to(&all, message.body);
        });
    (setup.serve(endpoint), told)
}

fn introduced(mut speaker: Speaker, told: &mpsc::Receiver<ConnId>) -> (Speaker, ConnId) {
    speaker.request("id", 2, &json!(""));
    assert!(matches!(speaker.hear(), Heard::Answer { id: 2, .. }));
    (speaker, got(told))
}

#[test]
fn more_than_five_pushes_wait_for_a_slow_client_and_nobody_waits_with_them() {
    both(|setup| {
        let (running, told) = pushing_to_all(setup);
        let slow = Client::open_narrow(addr(&running), &Kim.path());
        let (mut slow, slow_id) = introduced(Speaker::over(slow, Kim), &told);
        let (mut quick, _) = introduced(Speaker::open(&running, Kim), &told);
        let mut pusher = Speaker::open(&running, Kim);
        let text = |n: u32| format!("{n} {}", "x".repeat(PUSH_BYTES));
        let push = |n| Heard::Push { word: "chat.room.push".to_owned(), body: json!(text(n)) };
        for n in 0..PUSHES {
            pusher.request("say", 2 + 2 * n, &json!(text(n)));
            assert!(matches!(pusher.hear(), Heard::Answer { .. }));
            assert!(quick.hear() == push(n), "push {n}");
        }
        // A thread of the gateway's user is not held up either.
        for n in PUSHES..2 * PUSHES {
            running.gateway().push(slow_id, text(n).as_str()).unwrap();
        }
        // And nothing is lost: it was slow, but less than the limit behind.
        for n in 0..2 * PUSHES {
            assert!(slow.hear() == push(n), "push {n}");
        }
    });
}
