//! Handlers that block, on the pool apart.

use std::collections::HashMap;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;

use serde_json::{Value, json};
use tidegate::{
    Accept, Body, Context, CustomDialect, Endpoint, ErrorAnswer, Identity, Message, MessageKind,
    NotUnderstood, Push, Route, RunOn, SelfDelivery,
};

use crate::client::Client;
use crate::{
    PATH, addr, both, endpoint, got, json_at, late, nothing, only, open, stats_until, telling_ids,
};

fn blocking(handler: impl Fn(&mut Context<'_>, &Message<'_>) + Send + Sync + 'static) -> Route {
    Route::new(handler).run_on(RunOn::Blocking)
}

/// With the route `slow`: it says that it began, waits until it is let go, and answers.
fn slow(endpoint: Endpoint) -> (Endpoint, Receiver<Value>, Sender<()>) {
    let ((began_tx, began), (go, go_rx)) = (mpsc::channel(), mpsc::channel());
    let go_rx = Mutex::new(go_rx);
    let route = blocking(move |ctx, m| {
        // The test may have ended.
        let _ = began_tx.send(m.body.parse().unwrap());
        let _ = go_rx.lock().unwrap().recv();
        ctx.reply(m.body);
    });
    (endpoint.route_with("slow", route), began, go)
}

#[test]
fn a_connections_messages_block_one_at_a_time_and_hold_back_nothing_else() {
    both(|setup| {
        let (endpoint, began, go) = slow(endpoint());
        let running = setup.serve(endpoint);
        let mut peer = open(&running);
        for id in 1..=3 {
            peer.request("slow", id, json!(id));
        }
        for id in 1..=3 {
            assert_eq!(got(&began), id);
            // Its answer is the next message: none of those that block was answered.
            assert_eq!(peer.ask("echo", 10 + id, json!("quick"))["body"], "quick");
            nothing(&began);
            go.send(()).unwrap();
            assert_eq!(peer.json(), json!({"id": id, "body": id}));
        }
        assert_eq!(running.stats()["worker_totals"]["blocking"], 3);
    });
}

#[test]
fn connections_block_in_parallel() {
    both(|setup| {
        let meeting = Barrier::new(4);
        let meet = blocking(move |ctx, _| {
            meeting.wait();
            ctx.reply("met");
        });
        let running = setup.serve(endpoint().route_with("meet", meet));
        let mut peers = [(); 4].map(|()| open(&running));
        for peer in &mut peers {
            peer.request("meet", 1, json!(null));
        }
        for peer in &mut peers {
            assert_eq!(peer.json()["body"], "met");
        }
    });
}

#[test]
fn a_panic_is_answered_and_the_next_message_is_handled() {
    both(|setup| {
        let panics = blocking(|ctx, m| {
            ctx.join("hall").unwrap();
            assert!(m.body.as_bytes() != b"1", "a handler's panic");
            ctx.reply(m.body);
        });
        let running = setup.serve(endpoint().route_with("panic", panics));
        let mut peer = open(&running);
        assert_eq!(peer.ask("panic", 1, json!(1))["error"]["code"], 500);
        assert_eq!(running.stats()["worker_totals"]["memberships"], 0, "it has not returned");
        assert_eq!(peer.ask("panic", 2, json!(2))["body"], 2);
        let stats = running.stats();
        assert_eq!(stats["worker_totals"]["panics"], 1);
        assert_eq!(stats["worker_totals"]["errors"], 1);
        peer.close(1000);
        peer.expect_close(1000);
    });
}

#[test]
fn a_full_pool_refuses() {
    both(|setup| {
        let (endpoint, began, go) = slow(endpoint());
        let running = setup.start_with(only(endpoint), |config| {
            (config.blocking_threads, config.tuning.blocking_jobs_max) = (1, 2);
        });
        let (mut first, mut second) = (open(&running), open(&running));
        first.request("slow", 1, json!(1));
        assert_eq!(got(&began), 1);
        first.request("slow", 2, json!(2));
        assert_eq!(first.ask("echo", 3, json!(3))["body"], 3);
        assert_eq!(second.ask("slow", 4, json!(4))["error"]["code"], 503);
        assert_eq!(second.ask("slow", 5, json!(5))["error"]["code"], 503);
        assert_eq!(running.stats()["worker_totals"]["blocking_refused"], 2);
        assert_eq!(second.ask("echo", 6, json!(6))["body"], 6);
        for id in 1..=2 {
            go.send(()).unwrap();
            assert_eq!(first.json(), json!({"id": id, "body": id}));
        }
        go.send(()).unwrap();
        assert_eq!(second.ask("slow", 7, json!(7))["body"], 7);
    });
}

/// What a handler does to rooms takes effect in its order, and its answer comes behind.
#[test]
fn the_order_of_what_a_handler_does() {
    both(|setup| {
        let act = |ctx: &mut Context<'_>, _: &Message<'_>| {
            ctx.publish("hall", "not yet a member", SelfDelivery::Include).unwrap();
            ctx.join("hall").unwrap();
            ctx.publish("hall", "a member", SelfDelivery::Include).unwrap();
            ctx.publish("hall", "not to itself", SelfDelivery::Exclude).unwrap();
            ctx.reply("done");
            ctx.leave("hall").unwrap();
            ctx.publish("hall", "no member any more", SelfDelivery::Include).unwrap();
        };
        let endpoint = endpoint()
            .route("inline", act)
            .route_with("blocking", blocking(act))
            .route_with("pooled", Route::new(act).run_on(RunOn::Pooled));
        let running = setup.serve(endpoint);
        let mut peer = open(&running);
        for route in ["inline", "blocking", "pooled"] {
            peer.request(route, 1, json!(null));
            assert_eq!(peer.json()["data"], "a member", "{route}");
            assert_eq!(peer.json(), json!({"id": 1, "body": "done"}), "{route}");
            assert_eq!(peer.ask("echo", 2, json!(2))["body"], 2, "{route}: nothing else came");
        }
    });
}

#[test]
fn a_join_is_in_force_when_it_is_answered() {
    both(|setup| {
        let endpoint = endpoint().route_with(
            "join",
            blocking(|ctx, m| {
                ctx.join(m.body.parse().unwrap()).unwrap();
                ctx.reply("joined");
            }),
        );
        let running = setup.serve(endpoint);
        let mut peer = open(&running);
        for n in 0..50 {
            let room = format!("room {n}");
            assert_eq!(peer.ask("join", n, json!(room))["body"], "joined");
            running.gateway().publish(&room, "heard").unwrap();
            assert_eq!(peer.json()["room"], json!(room));
        }
    });
}

#[test]
fn a_join_that_fails_is_the_answer() {
    both(|setup| {
        let policy = tidegate::channels::RoomPolicy { max_members: Some(0), ..Default::default() };
        let endpoint = endpoint().route_with(
            "join",
            blocking(|ctx, _| {
                ctx.join("full").unwrap();
                ctx.reply("joined");
            }),
        );
        let running = setup.start(only(endpoint).room_policy("full", policy));
        assert_eq!(open(&running).ask("join", 1, json!(null))["error"]["code"], 429);
    });
}

#[test]
fn what_a_handler_that_blocks_can_see() {
    both(|setup| {
        let seen = |ctx: &mut Context<'_>, m: &Message<'_>| {
            let store = ctx.store();
            let count = store.incr("count", 1).unwrap();
            let seen = json!({
                "name": ctx.param("name"),
                "who": ctx.identity(),
                "may": [ctx.may("a"), ctx.may("b"), ctx.may("c")],
                "count": count,
                "key": m.key.to_string(),
                "owed": ctx.wants_answer(),
            });
            ctx.reply_json(&seen);
        };
        let endpoint = json_at("/u/{name}")
            .grant("a")
            .route("inline", seen)
            .route_with("blocking", blocking(seen))
            .on_connect(|_, admission| {
                let (identity, permissions) = (Identity::new("ann").ok(), vec!["b".to_owned()]);
                admission.accept(Accept { identity, permissions, ..Accept::default() });
            });
        let running = setup.serve(endpoint);
        let mut peer = Client::open(addr(&running), "/u/sea%20side");
        for (route, count) in [("blocking", 1), ("inline", 2), ("blocking", 3)] {
            let seen = json!({
                "name": "sea side", "who": "ann", "may": [true, true, false], "count": count,
                "key": route, "owed": true,
            });
            assert_eq!(peer.ask(route, 1, json!(null))["body"], seen);
        }
    });
}

#[test]
fn where_handlers_run() {
    both(|setup| {
        let name = |ctx: &mut Context<'_>, _: &Message<'_>| {
            ctx.reply(thread::current().name().unwrap_or("unnamed"));
        };
        let endpoint = [RunOn::Inline, RunOn::Pooled, RunOn::Blocking]
            .into_iter()
            .fold(endpoint(), |endpoint, on| {
                endpoint.route_with(&format!("{on:?}"), Route::new(name).run_on(on))
            });
        let running = setup.serve(endpoint);
        let mut peer = open(&running);
        let inline = if setup.workers == 0 { "tg-loop-" } else { "tg-worker-" };
        let pooled = if setup.workers == 0 { "tg-blocking-" } else { "tg-worker-" };
        let places = [("Inline", inline), ("Pooled", pooled), ("Blocking", "tg-blocking-")];
        for (route, place) in places {
            let answer = peer.ask(route, 1, json!(null));
            let ran_on = answer["body"].as_str().unwrap().to_owned();
            assert!(ran_on.starts_with(place), "{route} on {ran_on}");
        }
    });
}

#[test]
fn one_answer_whoever_gives_it() {
    both(|setup| {
        let endpoint = endpoint()
            .route_with(
                "twice",
                blocking(|ctx, _| {
                    ctx.reply("first");
                    ctx.reply("second");
                }),
            )
            .route_with(
                "later",
                blocking(|ctx, _| {
                    let later = ctx.later();
                    thread::spawn(move || later.reply("later").unwrap());
                }),
            )
            .route_with("nothing", blocking(|_, _| {}));
        let running = setup.serve(endpoint);
        let mut peer = open(&running);
        assert_eq!(peer.ask("twice", 1, json!(null))["body"], "first");
        assert_eq!(late(&running), 1);
        assert_eq!(peer.ask("later", 2, json!(null))["body"], "later");
        assert_eq!(peer.ask("nothing", 3, json!(null))["body"], json!(null));
        assert_eq!(peer.ask("echo", 4, json!(4))["body"], 4);
        assert_eq!(late(&running), 1);
    });
}

#[test]
fn a_client_that_leaves_meanwhile_leaves_nothing() {
    both(|setup| {
        let (endpoint, began, go) = slow(endpoint());
        let running = setup.serve(endpoint);
        let mut peer = open(&running);
        peer.request("slow", 1, json!(1));
        got(&began);
        peer.reset();
        crate::all_gone(&running);
        go.send(()).unwrap();
        stats_until(&running, "what it left counted", |s| s["late_answers"] == 1);
        assert_eq!(open(&running).ask("echo", 1, json!(1))["body"], 1);
    });
}

#[test]
fn a_close_waits_for_a_handler_that_blocks() {
    both(|setup| {
        let (endpoint, began, go) = slow(endpoint());
        let running = setup.serve(endpoint);
        let mut peer = open(&running);
        peer.request("slow", 1, json!("answered first"));
        peer.close(1000);
        got(&began);
        go.send(()).unwrap();
        assert_eq!(peer.json()["body"], "answered first");
        peer.expect_close(1000);
    });
}

#[test]
fn pushes_of_a_handler_that_blocks() {
    both(|setup| {
        let (endpoint, told) = telling_ids(endpoint());
        let known: Arc<Mutex<HashMap<String, tidegate::ConnId>>> = Arc::default();
        let others = Arc::clone(&known);
        let endpoint = endpoint.route_with(
            "tell",
            blocking(move |ctx, m| {
                let other = others.lock().unwrap()["other"];
                ctx.push(other, m.body);
                ctx.push_to(&[other, ctx.conn()], m.body);
                ctx.push_to_all(m.body, SelfDelivery::Exclude);
                ctx.close(4000, "told");
            }),
        );
        let running = setup.serve(endpoint);
        let (mut other, id) = crate::open_known(&running, &told);
        known.lock().unwrap().insert("other".to_owned(), id);
        let mut peer = Client::open(addr(&running), PATH);
        peer.request("tell", 1, json!("news"));
        for _ in 0..3 {
            assert_eq!(other.json()["data"], "news");
        }
        assert_eq!(other.ask("echo", 2, json!(2))["body"], 2);
        // Its own comes by its own post, and so ahead of the Close.
        assert_eq!(peer.json()["data"], "news");
        assert_eq!(peer.expect_close_and_end(4000), "told");
    });
}

/// Clients say how much waits for handlers that block: it is counted against the memory ceiling.
#[test]
fn what_waits_is_counted() {
    both(|setup| {
        let (endpoint, began, go) = slow(endpoint());
        let running = setup.serve(endpoint);
        let mut peer = open(&running);
        let big = "x".repeat(200_000);
        for id in 0..5 {
            peer.request("slow", id, json!(big));
        }
        got(&began);
        let bytes = |stats: &Value| stats["buffers"]["arena_bytes"].as_u64().unwrap();
        stats_until(&running, "five of them", |s| bytes(s) > 1_000_000);
        (0..5).for_each(|_| go.send(()).unwrap());
        for id in 0..5 {
            assert_eq!(peer.json()["id"], id);
        }
        stats_until(&running, "none of them", |s| bytes(s) < 200_000);
    });
}

/// A dialect that understands a message only once.
#[derive(Default)]
struct Fickle(std::sync::atomic::AtomicBool);

impl CustomDialect for Fickle {
    fn decode<'a>(
        &self,
        _: MessageKind,
        payload: &'a [u8],
    ) -> Result<Message<'a>, NotUnderstood<'a>> {
        let seen = self.0.swap(true, std::sync::atomic::Ordering::SeqCst);
        if seen && payload == b"once" {
            return Err(NotUnderstood::bad_request(None, "again?"));
        }
        Ok(Message::request("slow".into(), payload.into(), Body::Binary(payload)))
    }

    fn encode_answer(
        &self,
        out: &mut Vec<u8>,
        _: Option<&[u8]>,
        answer: Result<Body<'_>, &ErrorAnswer<'_>>,
    ) -> MessageKind {
        match answer {
            Ok(body) => out.extend(body.as_bytes()),
            Err(error) => out.extend(error.code.to_string().bytes()),
        }
        MessageKind::Text
    }

    fn encode_push(&self, _: &mut Vec<u8>, _: &Push<'_>) -> MessageKind {
        MessageKind::Text
    }
}

#[test]
fn a_message_that_is_not_understood_a_second_time_is_settled_all_the_same() {
    both(|setup| {
        let endpoint = Endpoint::custom(PATH, Fickle::default())
            .route_with("slow", blocking(|ctx, m| ctx.reply(m.body)));
        let running = setup.start_with(only(endpoint), |config| {
            config.close_timeout = std::time::Duration::from_secs(600);
        });
        let mut peer = open(&running);
        peer.text("once");
        assert_eq!(peer.read_text(), "500");
        peer.text("again");
        assert_eq!(peer.read_text(), "again");
        peer.close(1000);
        peer.expect_close(1000);
    });
}
