//! What becomes of rooms in time, and what their members are told of each other.

use std::time::Duration;

use serde_json::{Value, json};
use tidegate::channels::{Clock, RoomPolicy};
use tidegate::{Accept, Body, Config, Content, Endpoint, Gateway, Identity, Running};

use crate::client::Client;
use crate::speakers::{Heard, Hub, Speaker, Tongue, everywhere};
use crate::{PATH, addr, both, only, open, stats_until};

fn told() -> RoomPolicy {
    RoomPolicy { events: true, ..RoomPolicy::default() }
}

fn ticking(interval: Duration) -> RoomPolicy {
    RoomPolicy { clock: Some(Clock::time(interval)), ..RoomPolicy::default() }
}

fn linger(linger: Duration) -> impl FnOnce(&mut Config) {
    move |config| config.tuning.room_linger = linger
}

/// Its clients may give themselves a name, by the query.
fn builtin() -> Endpoint {
    Endpoint::json(PATH).on_connect(|request, admission| {
        let identity = request.query.and_then(|name| Identity::new(name).ok());
        admission.accept(Accept { identity, ..Accept::default() });
    })
}

fn join(peer: &mut Client, room: &str) -> Value {
    peer.ask("join", 1, json!({ "room": room }))["body"]["members"].clone()
}

fn leave(peer: &mut Client, room: &str) {
    peer.ask("leave", 2, json!({ "room": room }));
}

fn serial(peer: &mut Client, room: &str) -> u64 {
    let answer = peer.ask("publish", 3, json!({ "room": room, "data": 0 }));
    answer["body"]["serial"].as_u64().expect("a number")
}

/// Those with members, those without, and those reaped so far.
fn rooms(stats: &Value) -> [u64; 3] {
    let count = |name| stats["worker_totals"][name].as_u64().expect("a number");
    ["rooms", "rooms_empty", "rooms_reaped"].map(count)
}

/// In system C the reaper stops at the first busy room.
#[test]
fn empty_rooms_are_reaped_beside_busy_ones() {
    both(|setup| {
        let builder = only(builtin()).room_policy("*", ticking(Duration::from_millis(50)));
        let running = setup.start_with(builder, linger(Duration::from_millis(200)));
        let mut busy = open(&running);
        let mut peer = open(&running);
        for n in 0..30 {
            assert_eq!(join(&mut peer, &format!("room {n}")), 1);
        }
        // Whichever comes first: one room of the first shard and one of the other stay busy.
        for n in [0, 1, 2, 3] {
            busy.request("join", 9, json!({ "room": format!("room {n}") }));
            while busy.json()["id"] != 9 {}
        }
        drop(peer);
        stats_until(&running, "the rooms reaped", |s| rooms(s) == [4, 0, 26]);
        drop(busy);
        let stats = stats_until(&running, "all rooms reaped", |s| rooms(s) == [0, 0, 30]);
        assert_eq!(stats["worker_totals"]["memberships"], 0);
        stats_until(&running, "their memory", |s| s["buffers"]["room_bytes"] == 0);
    });
}

#[test]
fn a_room_that_lingers_goes_on_counting() {
    both(|setup| {
        let running = setup.start_with(only(builtin()), linger(Duration::from_secs(3600)));
        let mut peer = open(&running);
        join(&mut peer, "tea");
        assert_eq!(serial(&mut peer, "tea"), 1);
        leave(&mut peer, "tea");
        assert_eq!(rooms(&running.stats()), [0, 1, 0]);
        // Nobody hears it, but whoever comes back can tell that something was said.
        assert_eq!(serial(&mut peer, "tea"), 2);
        assert_eq!(join(&mut peer, "tea"), 1);
        assert_eq!((serial(&mut peer, "tea"), rooms(&running.stats())), (3, [1, 0, 0]));
    });
}

#[test]
fn a_room_that_may_not_linger_begins_anew() {
    both(|setup| {
        let running = setup.start_with(only(builtin()), linger(Duration::ZERO));
        let mut peer = open(&running);
        for reaped in 0..3 {
            join(&mut peer, "tea");
            assert_eq!(serial(&mut peer, "tea"), 1);
            leave(&mut peer, "tea");
            assert_eq!(rooms(&running.stats()), [0, 0, reaped + 1]);
        }
        assert_eq!(serial(&mut peer, "tea"), 0);
    });
}

/// Room names without end take no more than the memory ceiling, and nobody is shed for them.
#[test]
fn names_without_end_are_bounded() {
    both(|setup| {
        let running = setup.start_with(only(builtin()), |config| {
            config.memory_limit_bytes = 2 * 1024 * 1024;
        });
        let mut peer = open(&running);
        for n in 0..200_u64 {
            for m in 0..50 {
                let room = json!({ "room": format!("{n}/{m}/{}", "x".repeat(200)) });
                peer.request("join", 1, room.clone());
                peer.request("leave", 2, room);
            }
            for _ in 0..100 {
                assert!(peer.json()["body"].is_object());
            }
        }
        let stats = running.stats();
        assert!(stats["buffers"]["total_bytes"].as_u64().unwrap() < 3 * 1024 * 1024, "{stats}");
        assert_eq!(stats["closes"]["memory_limit"], 0);
        assert_ne!(stats["worker_totals"]["rooms_reaped"], 0);
        assert_eq!(peer.ask("echo", 3, json!("still"))["body"], "still");
    });
}

#[test]
fn members_are_told_of_who_comes_and_goes() {
    both(|setup| {
        let running = setup.start(only(builtin()).room_policy("tea", told()));
        let [mut first, mut second] = [(); 2].map(|()| open(&running));
        let mut ann = Client::open(addr(&running), &format!("{PATH}?ann"));
        let [second_id, ann_id] = [&mut second, &mut ann]
            .map(|peer| peer.ask("whoami", 0, json!(null))["body"]["id"].clone());
        assert_eq!(join(&mut first, "tea"), 1);
        assert_eq!(join(&mut second, "tea"), 2);
        let event = |event: &str, id: &Value, identity: Value, members: u64| {
            let data = json!({ "id": id, "identity": identity, "members": members });
            json!({ "event": event, "room": "tea", "from": null, "data": data })
        };
        assert_eq!(first.json(), event("joined", &second_id, json!(null), 2));
        // The joiner itself is not told, and who is in already does not come again.
        assert_eq!(join(&mut second, "tea"), 2);
        assert_eq!(join(&mut ann, "tea"), 3);
        for peer in [&mut first, &mut second] {
            assert_eq!(peer.json(), event("joined", &ann_id, json!("ann"), 3));
        }
        leave(&mut second, "tea");
        for peer in [&mut first, &mut ann] {
            assert_eq!(peer.json(), event("left", &second_id, json!(null), 2));
        }
        // Events are numbered with the publishes.
        assert_eq!(serial(&mut first, "tea"), 4);
        assert_eq!(ann.json()["event"], "publish");
        // By its end, however that comes, and with its name.
        running.gateway().kick_user("ann", 4000, "go").unwrap();
        assert_eq!(ann.expect_close_and_end(4000), "go");
        assert_eq!(first.json(), event("left", &ann_id, json!("ann"), 1));
        // In a room that does not want it, nobody is told.
        for peer in [&mut first, &mut second] {
            join(peer, "coffee");
        }
        leave(&mut second, "coffee");
        assert_eq!(first.ask("echo", 7, json!(7))["body"], 7);
    });
}

/// Joins, publishes and leaves of many: whoever stays sees each member come and go, in one order
/// with what it says.
#[test]
fn events_are_in_order_with_publishes() {
    both(|setup| {
        let running = setup.start(only(builtin()).room_policy("tea", told()));
        let mut watcher = open(&running);
        join(&mut watcher, "tea");
        let mut peers = [(); 5].map(|()| open(&running));
        let body = json!({ "room": "tea" });
        for round in 0..20 {
            for peer in &mut peers {
                peer.request("join", round, body.clone());
                peer.request("publish", round, json!({ "room": "tea", "data": round }));
                peer.request("leave", round, body.clone());
            }
        }
        let mut inside = std::collections::HashMap::new();
        for _ in 0..5 * 20 * 3 {
            let heard = watcher.json();
            let data = &heard["data"];
            match heard["event"].as_str().unwrap() {
                "joined" => {
                    assert_eq!(inside.insert(data["id"].clone(), 0), None);
                    assert_eq!(data["members"], inside.len() + 1);
                }
                "publish" => *inside.get_mut(&heard["from"]).expect("it is in") += 1,
                "left" => {
                    assert_eq!(inside.remove(&data["id"]), Some(1));
                    assert_eq!(data["members"], inside.len() + 1);
                }
                other => panic!("{other}"),
            }
        }
        assert!(inside.is_empty());
    });
}

#[test]
fn members_of_all_dialects_are_told() {
    both(|setup| {
        let builder = everywhere(Gateway::builder(), |tongue, endpoint| {
            let endpoint = tongue.route(endpoint, "join", |ctx, _| ctx.join("hall").unwrap());
            tongue.route(endpoint, "go", |ctx, _| ctx.leave("hall").unwrap())
        });
        let running = setup.start(builder.room_policy("hall", told()));
        let mut members: Vec<Speaker> =
            Tongue::ALL.into_iter().map(|tongue| Speaker::open(&running, tongue)).collect();
        for (count, member) in members.iter_mut().enumerate() {
            member.request("join", 2, &json!(null));
            let wanted = count as u64 + 1;
            stats_until(&running, "a member", |s| s["worker_totals"]["memberships"] == wanted);
        }
        let mut last = members.pop().unwrap();
        last.request("go", 4, &json!(null));
        for (at, (tongue, member)) in Tongue::ALL.into_iter().zip(&mut members).enumerate() {
            let mut next = |event: &str, members: usize| loop {
                let Heard::Push { word, body } = member.hear() else { continue };
                let wanted = if tongue == Hub { "1" } else { event };
                assert_eq!((&*word, &body["members"]), (wanted, &json!(members)), "{tongue:?}");
                return assert_eq!(body["id"].as_str().map(str::len), Some(32));
            };
            for joined in at + 2..=6 {
                next("joined", joined);
            }
            next("left", 5);
        }
    });
}

/// What clients of system C hear: events by name.
#[test]
fn rooms_of_system_c() {
    both(|setup| {
        let endpoint = Endpoint::room("/room/{name}", "room/{name}").unwrap();
        let policy = RoomPolicy { clock: ticking(Duration::from_millis(50)).clock, ..told() };
        let builder = only(endpoint).room_policy("room/*", policy);
        let running = setup.start_with(builder, linger(Duration::from_millis(100)));
        let open = || Client::open(addr(&running), "/room/tea");
        let named = |peer: &mut Client, wanted: &str| loop {
            let event = peer.json();
            match event["name"].as_str() {
                Some(name) if name == wanted => return event["message"].clone(),
                Some("time") => {}
                other => panic!("{other:?} instead of {wanted}"),
            }
        };
        let (mut first, mut second) = (open(), open());
        assert_eq!(named(&mut first, "joined")["members"], 2);
        assert_eq!(named(&mut second, "time").as_str().map(str::len), Some(24));
        second.text(r#"{"name":"dance"}"#);
        assert_eq!(named(&mut second, "error"), "no route `dance`");
        second.text(r#"{"name":"leave","message":"bye"}"#);
        assert_eq!(named(&mut first, "leave"), "bye");
        assert_eq!(named(&mut first, "left")["members"], 1);
        let mut third = open();
        drop(second);
        assert_eq!(named(&mut first, "joined")["members"], 2);
        third.text(r#"{"name":"close","message":"closing time"}"#);
        for peer in [&mut first, &mut third] {
            assert_eq!(named(peer, "close"), "closing time");
            assert_eq!(peer.expect_close_and_end(1000), "the room is closed");
        }
        stats_until(&running, "the room's end", |s| rooms(s) == [0, 0, 1]);
    });
}

#[test]
fn the_clock_is_for_members_of_its_rooms() {
    both(|setup| {
        let builder = only(builtin()).room_policy("clock/*", ticking(Duration::from_millis(100)));
        let running = setup.start(builder);
        let [mut inside, mut outside] = [(); 2].map(|()| open(&running));
        for n in 0..3 {
            inside.request("join", 1, json!({ "room": format!("clock/{n}") }));
        }
        join(&mut outside, "other");
        let mut strikes = [0; 3];
        let mut last = [const { String::new() }; 3];
        while strikes.iter().any(|strikes| *strikes < 3) {
            let heard = inside.json();
            let Some(room) = heard["room"].as_str().filter(|_| heard["event"] == "time") else {
                continue;
            };
            let at: usize = room.strip_prefix("clock/").unwrap().parse().unwrap();
            let time = heard["data"].as_str().expect("text").to_owned();
            assert!(time > last[at] && time.ends_with('Z') && time.len() == 24, "{time}");
            (strikes[at], last[at]) = (strikes[at] + 1, time);
        }
        assert_eq!(outside.ask("echo", 7, json!(7))["body"], 7);
    });
}

/// A handler's own thread of the gateway may be used where a clock's push is made.
#[test]
fn a_clock_of_ones_own() {
    both(|setup| {
        let gateway = std::sync::Arc::new(std::sync::OnceLock::<Gateway>::new());
        let known = std::sync::Arc::clone(&gateway);
        let policy = RoomPolicy::default().every(Duration::from_millis(50), move |room| {
            if let Some(gateway) = known.get() {
                let _ = gateway.publish("log", Body::Text(room.name));
            }
            let body = json!({ "room": room.name, "members": room.members }).to_string();
            Some(Content::named("census", Body::Json(&body)).into())
        });
        let running: Running = setup.start(only(builtin()).room_policy("tea", policy));
        assert!(gateway.set(running.gateway().clone()).is_ok());
        let [mut reader, mut first, mut second] = [(); 3].map(|()| open(&running));
        join(&mut reader, "log");
        for peer in [&mut first, &mut second] {
            peer.request("join", 1, json!({ "room": "tea" }));
        }
        loop {
            let heard = first.json();
            if heard["event"] == "census" && heard["data"]["members"] == 2 {
                break assert_eq!(heard["data"]["room"], "tea");
            }
        }
        assert_eq!(reader.json()["data"], "tea");
    });
}

/// Members of a room that is closed are not told of each other.
#[test]
fn ends_of_all_at_once_are_quiet() {
    both(|setup| {
        let running = setup.start(only(builtin()).room_policy("*", told()));
        let mut peers: Vec<Client> = (0..10).map(|_| open(&running)).collect();
        for (at, peer) in peers.iter_mut().enumerate() {
            assert_eq!(join(peer, "hall"), at + 1);
        }
        running.gateway().publish("hall", "closing").unwrap();
        running.gateway().close_room("hall", 4001, "closed").unwrap();
        for (at, mut peer) in peers.into_iter().enumerate() {
            let mut events = Vec::new();
            while let Some(frame) = peer.frame().filter(|f| f.opcode == crate::client::TEXT) {
                let heard: Value = serde_json::from_str(frame.text()).unwrap();
                events.extend(heard["event"].as_str().map(str::to_owned));
            }
            assert_eq!(events.iter().filter(|event| *event == "joined").count(), 9 - at);
            assert_eq!(events.last().unwrap(), "publish", "{events:?}");
        }
        let stats = stats_until(&running, "their end", |s| s["worker_totals"]["memberships"] == 0);
        assert_eq!(stats["drops"]["after_close"], 0);
    });
}
