//! What runs before and after handlers.

use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::json;
use tidegate::{Endpoint, Flow, Route, RunOn, SelfDelivery};

use crate::{both, endpoint, late, open, stats_until};

/// What ran, and on which thread.
#[derive(Clone, Default)]
struct Trace(Arc<Mutex<Vec<(String, String)>>>);

impl Trace {
    fn note(&self, what: &str) {
        let thread = thread::current().name().unwrap_or_default().to_owned();
        self.0.lock().unwrap().push((what.to_owned(), thread));
    }

    /// What ran since this was last asked; each on a thread whose name begins so.
    fn take(&self) -> Vec<(String, String)> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }

    fn names(&self) -> Vec<String> {
        self.take().into_iter().map(|(name, _)| name).collect()
    }
}

/// Two before, two after, and handlers everywhere.
fn traced(trace: &Trace) -> Endpoint {
    let noting = |name: &'static str| {
        let trace = trace.clone();
        move || trace.note(name)
    };
    let (first, second) = (noting("before 1"), noting("before 2"));
    let (third, fourth) = (noting("after 1"), noting("after 2"));
    let handler = || {
        let ran = noting("handler");
        Route::new(move |ctx, m| {
            ran();
            ctx.reply(m.body);
        })
    };
    endpoint()
        .route_with("inline", handler())
        .route_with("blocking", handler().run_on(RunOn::Blocking))
        .before(move |ctx, m| {
            first();
            match m.body.as_bytes() {
                b"\"stop and answer\"" => {
                    ctx.reply_error(418, "stopped");
                    Flow::Stop
                }
                b"\"stop\"" => Flow::Stop,
                b"\"panic\"" => panic!("a panic before"),
                _ => Flow::Continue,
            }
        })
        .before(move |_, _| {
            second();
            Flow::Continue
        })
        .after(move |_, _| third())
        .after(move |_, _| fourth())
}

#[test]
fn all_run_in_their_order_and_each_in_its_place() {
    both(|setup| {
        let trace = Trace::default();
        let running = setup.serve(traced(&trace));
        let mut peer = open(&running);
        let shard = if setup.workers == 0 { "tg-loop-" } else { "tg-worker-" };
        for (route, place) in [("inline", shard), ("blocking", "tg-blocking-")] {
            assert_eq!(peer.ask(route, 1, json!("go"))["body"], "go");
            // An answer may leave ahead of what runs after the handler, but not of its return.
            peer.ask("blocking", 2, json!("behind"));
            peer.ask("inline", 3, json!("behind"));
            let ran = trace.take();
            let order = ["before 1", "before 2", "handler", "after 1", "after 2"];
            for (n, ((name, thread), wanted)) in ran.iter().zip(order).enumerate() {
                assert_eq!(name, wanted);
                let place = if n < 2 { shard } else { place };
                assert!(thread.starts_with(place), "{route}: {name} on {thread}");
            }
        }
    });
}

#[test]
fn what_runs_before_may_stop_a_message() {
    both(|setup| {
        let trace = Trace::default();
        let running = setup.serve(traced(&trace));
        let mut peer = open(&running);
        for route in ["inline", "blocking"] {
            let stopped = peer.ask(route, 1, json!("stop and answer"));
            assert_eq!(stopped["error"]["code"], 418);
            assert_eq!(peer.ask(route, 2, json!("stop")), json!({"id": 2, "body": null}));
            assert_eq!(trace.names(), ["before 1", "before 1"]);
            assert_eq!(peer.ask(route, 3, json!("panic"))["error"]["code"], 500);
            assert_eq!(trace.names(), ["before 1"]);
        }
        assert_eq!(running.stats()["worker_totals"]["blocking"], 0);
        assert_eq!(late(&running), 0);
    });
}

/// Also where the handler runs elsewhere.
#[test]
fn what_runs_before_a_handler_takes_effect() {
    both(|setup| {
        let handler = || Route::new(|ctx, m| ctx.reply(m.body));
        let endpoint = endpoint()
            .route_with("inline", handler())
            .route_with("blocking", handler().run_on(RunOn::Blocking))
            .before(|ctx, m| {
                if m.key != "echo" {
                    ctx.join(&format!("seen {}", m.key)).unwrap();
                    ctx.publish("log", "a request", SelfDelivery::Include).unwrap();
                    ctx.push(ctx.conn(), "pushed");
                    ctx.store().set("seen", 1).unwrap();
                }
                Flow::Continue
            });
        let running = setup.serve(endpoint);
        for (n, route) in ["inline", "blocking"].into_iter().enumerate() {
            let mut peer = open(&running);
            peer.request(route, 1, json!("x"));
            assert_eq!(peer.json()["data"], "pushed");
            assert_eq!(peer.json(), json!({"id": 1, "body": "x"}));
            running.gateway().publish(&format!("seen {route}"), "a member").unwrap();
            assert_eq!(peer.json()["data"], "a member", "{route}");
            assert_eq!(running.stats()["worker_totals"]["memberships"], 1);
            peer.close(1000);
            peer.expect_close(1000);
            stats_until(&running, "its end", |s| s["worker_totals"]["memberships"] == 0);
            assert_eq!(late(&running), 0, "{n}");
        }
    });
}

#[test]
fn an_answer_from_before_is_the_only_one() {
    both(|setup| {
        let handler = || Route::new(|ctx, m| ctx.reply(m.body));
        let endpoint = endpoint()
            .route_with("inline", handler())
            .route_with("blocking", handler().run_on(RunOn::Blocking))
            .route_with("mute", Route::new(|_, _| {}).run_on(RunOn::Blocking))
            .before(|ctx, m| {
                match m.body.as_bytes() {
                    b"\"now\"" => ctx.reply("before"),
                    b"\"later\"" => ctx.later().reply("before").unwrap(),
                    b"\"held\"" => {
                        ctx.join("hall").unwrap();
                        ctx.reply("before");
                    }
                    _ => {}
                }
                Flow::Continue
            });
        let running = setup.serve(endpoint);
        let mut peer = open(&running);
        let mut counted = 0;
        for route in ["inline", "blocking", "mute"] {
            for how in ["now", "later", "held"] {
                assert_eq!(peer.ask(route, 1, json!(how))["body"], "before", "{route} {how}");
                counted += u64::from(route != "mute");
                stats_until(&running, "the other", |s| s["late_answers"] == counted);
                let next = peer.ask("echo", 2, json!("next"));
                assert_eq!(next["body"], "next", "{route} {how}: a second answer");
            }
        }
    });
}

#[test]
fn a_panic_after_the_handler_ends_nothing() {
    both(|setup| {
        let endpoint = endpoint().after(|_, m| {
            assert!(m.body.as_bytes() != b"1", "a panic after");
        });
        let running = setup.serve(endpoint);
        let mut peer = open(&running);
        assert_eq!(peer.ask("echo", 1, json!(1))["body"], 1);
        assert_eq!(peer.ask("echo", 2, json!(2))["body"], 2);
        assert_eq!(running.stats()["worker_totals"]["panics"], 1);
    });
}
