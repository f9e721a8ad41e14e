//! E: a goroutine per message loses the order of messages of one connection.

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::json;
use tidegate::{Route, RunOn};

use crate::both;
use crate::speakers::{Heard, Hub, Speaker, hub};

/// Messages of one connection, all under way at once.
const MESSAGES: u32 = 600;
/// What the route is called by in this dialect.
const PROTOCOL: u32 = 10;

/// Takes its time for one message in seven: the next would pass it, were it not made to wait.
fn dawdle(n: u32) {
    if n.is_multiple_of(7) {
        thread::sleep(Duration::from_micros(u64::from(n % 5) * 150));
    }
}

#[test]
fn messages_of_one_connection_are_handled_and_answered_in_order() {
    both(|setup| {
        for run_on in [RunOn::Inline, RunOn::Pooled, RunOn::Blocking] {
            let handled: Arc<Mutex<Vec<u32>>> = Arc::default();
            let handling = Arc::clone(&handled);
            let route = Route::new(move |ctx, message| {
                let n = message.body.parse().expect("a number");
                dawdle(n);
                handling.lock().unwrap().push(n);
                ctx.reply(message.body);
            });
            let endpoint = Hub.endpoint().route_with(&Hub.key("echo"), route.run_on(run_on));
            let running = setup.serve(endpoint);
            let mut client = Speaker::open(&running, Hub);
            for n in 0..MESSAGES {
                // Every third wants no answer.
                let sn = if n.is_multiple_of(3) { 0 } else { 2 * n };
                client.send(&hub(PROTOCOL, sn, n.to_string().as_bytes()));
            }
            for n in (0..MESSAGES).filter(|n| !n.is_multiple_of(3)) {
                let answer = Heard::Answer { id: u64::from(2 * n), body: json!(n) };
                assert_eq!(client.hear(), answer, "{run_on:?}");
            }
            let in_order: Vec<_> = (0..MESSAGES).collect();
            assert_eq!(*handled.lock().unwrap(), in_order, "{run_on:?}");
        }
    });
}
