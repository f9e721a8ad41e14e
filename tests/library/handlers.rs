//! What handlers and other threads can do.

use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tidegate::{Body, ConnId, Gateway, GatewayBuilder, Responder, SelfDelivery};

use crate::client::{CLOSE, Client, Frame};
use crate::{squeeze, start, start_with, stats_until};

/// A gateway with the route `hold`, which hands out the right to answer.
fn holds() -> (GatewayBuilder, mpsc::Receiver<Responder>) {
    let (tx, rx) = mpsc::channel();
    let builder = Gateway::builder()
        .route("hold", move |ctx, _| tx.send(ctx.later()).expect("the test waits"));
    (builder, rx)
}

/// A gateway with the route `id`, which hands out the connection's id.
fn tells_ids() -> (GatewayBuilder, mpsc::Receiver<ConnId>) {
    let (tx, rx) = mpsc::channel();
    let builder =
        Gateway::builder().route("id", move |ctx, _| tx.send(ctx.conn()).expect("the test waits"));
    (builder, rx)
}

fn id_of(peer: &mut Client, ids: &mpsc::Receiver<ConnId>) -> ConnId {
    assert_eq!(peer.ask("id", 0, json!(null))["body"], json!(null));
    ids.recv().unwrap()
}

fn late(stats: &Value) -> u64 {
    stats["late_answers"].as_u64().unwrap()
}

#[test]
fn answers() {
    let builder = || {
        Gateway::builder()
            .route("text", |ctx, _| ctx.reply("a \"text\""))
            .route("bytes", |ctx, _| ctx.reply(&b"\0\xff"[..]))
            .route("json", |ctx, _| ctx.reply_json(&json!({"a": [1, null]})))
            .route("no json", |ctx, _| ctx.reply_json(&std::collections::HashMap::from([((), 1)])))
            .route("error", |ctx, _| ctx.reply_error(418, "a teapot"))
            .route("nothing", |_, _| {})
            .route("parse", |ctx, m| match m.body.parse::<Vec<u32>>() {
                Ok(numbers) => ctx.reply_json(&numbers.iter().sum::<u32>()),
                Err(e) => ctx.reply_error(400, &e.to_string()),
            })
    };
    for workers in [0, 2] {
        let running = start(builder(), workers);
        let mut peer = Client::open(running.addresses()[0], "/ws");
        let mut ask = |route: &str, body: Value| peer.ask(route, 7, body);
        assert_eq!(ask("text", json!(null)), json!({"id": 7, "body": "a \"text\""}));
        assert_eq!(ask("bytes", json!(null)), json!({"id": 7, "body": "AP8="}));
        assert_eq!(ask("json", json!(null)), json!({"id": 7, "body": {"a": [1, null]}}));
        assert_eq!(ask("no json", json!(null))["error"]["code"], 500);
        let error = json!({"id": 7, "error": {"code": 418, "message": "a teapot"}});
        assert_eq!(ask("error", json!(null)), error);
        assert_eq!(ask("nothing", json!(null)), json!({"id": 7, "body": null}));
        assert_eq!(ask("parse", json!([1, 2, 3])), json!({"id": 7, "body": 6}));
        assert_eq!(ask("parse", json!("x"))["error"]["code"], 400);
        assert_eq!(ask("unknown", json!(null))["error"]["code"], 404);
        assert_eq!(late(&running.stats()), 0);
    }
}

#[test]
fn answers_that_come_later() {
    for workers in [0, 2] {
        let (builder, held) = holds();
        let running = start(builder, workers);
        let mut peer = Client::open(running.addresses()[0], "/ws");
        for id in 1..=3 {
            peer.request("hold", id, json!(null));
        }
        let first = held.recv().unwrap();
        let (second, third) = (held.recv().unwrap(), held.recv().unwrap());
        // What comes behind is not held up, and the order of answers is the answerers'.
        assert_eq!(peer.ask("echo", 4, json!("quick"))["body"], "quick");
        let answering = thread::spawn(move || {
            third.reply(Body::Json("[3]")).unwrap();
            first.reply_error(503, "no luck").unwrap();
            drop(second);
        });
        assert_eq!(peer.json(), json!({"id": 3, "body": [3]}));
        let error = json!({"id": 1, "error": {"code": 503, "message": "no luck"}});
        assert_eq!(peer.json(), error);
        answering.join().unwrap();
        assert_eq!(peer.ask("echo", 5, json!(1))["body"], 1, "one dropped is not answered");
    }
}

#[test]
fn a_later_answer_to_a_closed_connection_goes_nowhere() {
    for workers in [0, 2] {
        let (builder, held) = holds();
        let running = start_with(builder, workers, |config| config.loops = 1);
        let mut peer = Client::open(running.addresses()[0], "/ws");
        peer.request("hold", 1, json!(null));
        let responder = held.recv().unwrap();
        peer.close(1000);
        // A handler that has returned holds no Close up.
        assert_eq!(peer.frame(), Some(Frame::close(1000)));
        assert_eq!(peer.frame(), None);
        stats_until(&running, "its end", |s| s["totals"]["connections"] == 0);
        let mut heir = Client::open(running.addresses()[0], "/ws");
        responder.reply("too late").expect("the gateway is there");
        stats_until(&running, "it counted", |s| s["drops"]["stale_connection"] == 1);
        assert_eq!(heir.ask("echo", 2, json!(2))["body"], 2, "nothing came before it");
    }
}

#[test]
fn a_message_is_answered_once() {
    let builder = || {
        Gateway::builder()
            .route("twice", |ctx, _| {
                ctx.reply("first");
                ctx.reply("second");
                ctx.reply_error(500, "third");
            })
            .route("later then now", |ctx, _| {
                let later = ctx.later();
                ctx.reply("now");
                later.reply("later").unwrap();
            })
            .route("now then later", |ctx, _| {
                ctx.reply("now");
                ctx.later().reply("later").unwrap();
            })
            .route("later twice", |ctx, _| {
                let (one, two) = (ctx.later(), ctx.later());
                one.reply("one").unwrap();
                two.reply("two").unwrap();
            })
            .route("later and panic", |ctx, _| {
                let later = ctx.later();
                later.reply("later").unwrap();
                panic!("a handler's panic");
            })
    };
    for workers in [0, 2] {
        let running = start(builder(), workers);
        let mut peer = Client::open(running.addresses()[0], "/ws");
        for (n, (route, answer, surplus)) in [
            ("twice", "first", 2),
            ("later then now", "now", 1),
            ("now then later", "now", 1),
            ("later twice", "one", 1),
            ("later and panic", "later", 1),
        ]
        .into_iter()
        .enumerate()
        {
            let before = late(&running.stats());
            assert_eq!(peer.ask(route, n as u64, json!(null))["body"], answer, "{route}");
            assert_eq!(peer.ask("echo", 99, json!(null))["id"], 99, "{route}: a second answer");
            assert_eq!(late(&running.stats()) - before, surplus, "{route}");
        }
    }
}

#[test]
fn pushes() {
    for workers in [0, 2] {
        let (builder, ids) = tells_ids();
        let builder = builder.route("poke", |ctx, m| {
            match ctx.gateway().conn_of(&m.body.parse::<String>().unwrap()) {
                Some(conn) => ctx.push(conn, "by public id"),
                None => ctx.reply_error(404, "nobody has that id"),
            }
        });
        let running = start(builder, workers);
        let addr = running.addresses()[0];
        let (mut one, mut two) = (Client::open(addr, "/ws"), Client::open(addr, "/ws"));
        let conn = id_of(&mut two, &ids);
        running.gateway().push(conn, Body::Json("{\"n\":1}")).unwrap();
        assert_eq!(two.json(), json!({"event": "push", "data": {"n": 1}}));
        let public = two.ask("whoami", 1, json!(null))["body"]["id"].clone();
        assert_eq!(running.gateway().public_id(conn).as_str(), public);
        assert_eq!(one.ask("poke", 2, public)["body"], json!(null));
        assert_eq!(two.json(), json!({"event": "push", "data": "by public id"}));
        for none in ["", "0123456789abcdef0123456789abcdef", "x"] {
            assert_eq!(one.ask("poke", 3, json!(none))["error"]["code"], 404);
        }
    }
}

#[test]
fn a_stale_id_reaches_nobody() {
    for workers in [0, 2] {
        let (builder, ids) = tells_ids();
        let builder = builder.route("push", |ctx, m| {
            ctx.push(ConnId::from_bits(m.body.parse().unwrap()), "stray");
        });
        let running = start_with(builder, workers, |config| config.loops = 1);
        let addr = running.addresses()[0];
        let mut gone = Client::open(addr, "/ws");
        let stale = id_of(&mut gone, &ids);
        let public = running.gateway().public_id(stale);
        drop(gone);
        stats_until(&running, "its end", |s| s["totals"]["connections"] == 0);
        let mut heir = Client::open(addr, "/ws");
        let new = id_of(&mut heir, &ids);
        assert_eq!((new.loop_index(), new.slot()), (stale.loop_index(), stale.slot()));
        assert_ne!(new, stale);
        let gateway = running.gateway();
        gateway.push(stale, "stray").unwrap();
        gateway.push(gateway.conn_of(public.as_str()).unwrap(), "stray").unwrap();
        gateway.close(stale, 1008, "stray").unwrap();
        assert_eq!(heir.ask("push", 1, json!(stale.to_bits()))["body"], json!(null));
        stats_until(&running, "all counted", |s| s["drops"]["stale_connection"] == 4);
        assert_eq!(heir.ask("echo", 2, json!(2)), json!({"id": 2, "body": 2}));
    }
}

#[test]
fn publishes() {
    let builder = || {
        Gateway::builder()
            .route("say", |ctx, m| ctx.publish("hall", m.body, SelfDelivery::Include).unwrap())
            .route("tell", |ctx, m| ctx.publish("hall", m.body, SelfDelivery::Exclude).unwrap())
            .route("bad", |ctx, _| {
                let error = ctx.publish("", "x", SelfDelivery::Include).unwrap_err();
                ctx.reply_error(error.code, &error.message);
            })
    };
    for workers in [0, 3] {
        let running = start(builder(), workers);
        let addr = running.addresses()[0];
        let mut peers = [(); 4].map(|()| Client::open(addr, "/ws"));
        for (n, peer) in peers.iter_mut().enumerate() {
            let joined = peer.ask("join", 1, json!({"room": "hall"}));
            assert_eq!(joined["body"]["members"], n + 1);
        }
        let from = peers[0].ask("whoami", 2, json!(null))["body"]["id"].clone();
        peers[0].request("say", 3, json!("all"));
        peers[0].request("tell", 4, json!("others"));
        let event =
            |data: &str| json!({"event": "publish", "room": "hall", "from": from, "data": data});
        let mut own = [peers[0].json(), peers[0].json(), peers[0].json()];
        own.sort_by_key(|message| message["id"].as_u64());
        assert_eq!(own[0], event("all"));
        assert_eq!((&own[1]["id"], &own[2]["id"]), (&json!(3), &json!(4)));
        for peer in &mut peers[1..] {
            assert_eq!((peer.json(), peer.json()), (event("all"), event("others")));
        }
        assert_eq!(peers[0].ask("bad", 5, json!(null))["error"]["code"], 400);
        running.gateway().publish("hall", "from outside").unwrap();
        for peer in &mut peers {
            let want = json!(
                {"event": "publish", "room": "hall", "from": null, "data": "from outside"}
            );
            assert_eq!(peer.json(), want);
        }
    }
}

#[test]
fn closes() {
    let long = "é".repeat(100);
    let builder = || {
        Gateway::builder().route("close", |ctx, m| {
            ctx.reply("bye");
            ctx.close(m.body.parse().unwrap(), &"é".repeat(100));
            ctx.push(ctx.conn(), "nothing comes behind a Close");
        })
    };
    for workers in [0, 2] {
        let running = start(builder(), workers);
        for code in [1000, 4999] {
            let mut peer = Client::open(running.addresses()[0], "/ws");
            assert_eq!(peer.ask("close", 1, json!(code))["body"], "bye");
            assert_eq!(peer.expect_close_and_end(code), long[..122]);
        }
        // A code that must not be sent is left out.
        let mut peer = Client::open(running.addresses()[0], "/ws");
        assert_eq!(peer.ask("close", 1, json!(1005))["body"], "bye");
        assert_eq!(peer.frame(), Some(Frame::new(CLOSE, b"")));
        drop(peer);
        let stats = stats_until(&running, "3 closed", |s| s["closes"]["handler"] == 3);
        assert_eq!(stats["drops"]["after_close"], 3);
    }
}

#[test]
fn a_panic_is_answered_and_ends_nothing() {
    let builder = || {
        Gateway::builder().route("panic", |_, _| panic!("a handler's panic")).route(
            "join and panic",
            |ctx, _| {
                ctx.join("hall").unwrap();
                panic!("a handler's panic")
            },
        )
    };
    for workers in [0, 1] {
        let running = start(builder(), workers);
        let mut peer = Client::open(running.addresses()[0], "/ws");
        for route in ["panic", "join and panic"] {
            assert_eq!(peer.ask(route, 1, json!(null))["error"]["code"], 500, "{route}");
            assert_eq!(peer.ask("echo", 2, json!(2))["body"], 2, "{route}");
        }
        let stats = running.stats();
        assert_eq!(stats["worker_totals"]["panics"], 2);
        assert_eq!(stats["worker_totals"]["errors"], 2);
        peer.close(1000);
        assert_eq!(peer.frame(), Some(Frame::close(1000)));
    }
}

#[test]
fn the_handle_works_everywhere_with_the_shortest_lanes() {
    const EACH: u64 = 300;
    for workers in [0, 1, 3] {
        let (builder, ids) = tells_ids();
        let builder = builder.route("burst", |ctx, _| {
            let (gateway, conn) = (ctx.gateway().clone(), ctx.conn());
            for n in 0..EACH {
                gateway.publish("hall", Body::Json(&format!("[\"handler\",{n}]"))).unwrap();
                gateway.push(conn, Body::Json(&format!("[\"push\",{n}]"))).unwrap();
            }
        });
        let running = start_with(builder, workers, squeeze);
        let mut peer = Client::open(running.addresses()[0], "/ws");
        let conn = id_of(&mut peer, &ids);
        peer.ask("join", 1, json!({"room": "hall"}));
        peer.request("burst", 2, json!(null));
        let senders = ["a", "b", "c"].map(|name| {
            let gateway = running.gateway().clone();
            thread::spawn(move || {
                for n in 0..EACH {
                    let body = format!("[\"{name}\",{n}]");
                    match n % 2 {
                        0 => gateway.publish("hall", Body::Json(&body)).unwrap(),
                        _ => gateway.push(conn, Body::Json(&body)).unwrap(),
                    }
                }
            })
        });
        let mut seen = std::collections::HashMap::<(String, Value), Vec<u64>>::new();
        for _ in 0..EACH * 5 + 1 {
            let message = peer.json();
            if message["event"].is_string() {
                let (name, n) = (message["data"][0].as_str().unwrap(), &message["data"][1]);
                let way = (name.to_owned(), message["event"].clone());
                seen.entry(way).or_default().push(n.as_u64().unwrap());
            }
        }
        // Either way keeps its order; between the two ways there is none.
        assert!(seen.values().all(|numbers| numbers.is_sorted()), "{seen:?}");
        assert_eq!(seen.values().map(|n| n.len() as u64).sum::<u64>(), EACH * 5);
        senders.into_iter().for_each(|sender| sender.join().unwrap());
    }
}

#[test]
fn a_connections_messages_are_handled_in_order() {
    for workers in [0, 1, 4] {
        let handled = std::sync::Arc::new(Mutex::new(Vec::new()));
        let seen = std::sync::Arc::clone(&handled);
        let builder = Gateway::builder().route("note", move |ctx, m| {
            let n: u64 = m.body.parse().unwrap();
            if n.is_multiple_of(37) {
                thread::sleep(Duration::from_micros(n * 7919 % 1500));
            }
            seen.lock().unwrap().push((ctx.conn(), n));
            ctx.reply(m.body);
        });
        let running = start_with(builder, workers, squeeze);
        let mut peers = [(); 4].map(|()| Client::open(running.addresses()[0], "/ws"));
        for n in 0..500 {
            for peer in &mut peers {
                peer.request("note", n, json!(n));
            }
        }
        for peer in &mut peers {
            for n in 0..500 {
                assert_eq!(peer.json(), json!({"id": n, "body": n}));
            }
        }
        let handled = handled.lock().unwrap();
        let mut last = std::collections::HashMap::new();
        for (conn, n) in handled.iter() {
            assert_eq!(*n, last.insert(*conn, *n).map_or(0, |last| last + 1));
        }
        assert_eq!(last.len(), 4);
    }
}

#[test]
fn the_handle_outlives_the_gateway() {
    let (builder, held) = holds();
    let running = start(builder, 2);
    let mut peer = Client::open(running.addresses()[0], "/ws");
    peer.request("hold", 1, json!(null));
    let responder = held.recv().unwrap();
    let (gateway, stopping) = (running.gateway().clone(), running);
    let stopping = thread::spawn(move || stopping.stop(|| false));
    assert_eq!(peer.expect_close_and_end(1001), "the gateway is going away");
    let (stopped, stats) = stopping.join().unwrap();
    assert_eq!(stopped, tidegate::Stopped::Clean);
    assert_eq!(stats["closes"]["shutdown"], 1);
    assert_eq!(responder.reply("too late"), Err(tidegate::Gone));
    assert_eq!(gateway.publish("hall", "anyone?"), Err(tidegate::Gone));
    assert_eq!(gateway.push(ConnId::from_bits(0), "anyone?"), Err(tidegate::Gone));
}
