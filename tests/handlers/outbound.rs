//! Members that stop reading, under policies and budgets of rooms, of routes and of single publishes,
//! while a healthy member gets everything.

use std::net::Shutdown;

use serde_json::{Value, json};
use tidegate::channels::RoomPolicy;
use tidegate::config::{DialectName, EndpointConfig, RoomConfig, RouteConfig};
use tidegate::{
    Content, Context, Endpoint, Flow, Gateway, GatewayBuilder, Message, Outbound, OverflowPolicy,
    Route, RunOn, Running, SelfDelivery,
};

use crate::client::{CLOSE, Client, Frame, TEXT};
use crate::{PATH, Setup, addr, both, endpoint, only, stats_until};

use OverflowPolicy::{Close, DropOldest, KeepLatest};

/// Publishes that fill what lies between the gateway and a client that does not read, and more.
const PUBLISHES: usize = 400;
const PUBLISH_BYTES: usize = 32 * 1024;
/// What a connection may be owed, where nothing else is said.
const LIMIT: usize = 256 * 1024;
/// Room for two publishes and not for three.
const BUDGET: usize = 80 * 1024;

/// Publishes what a message says, to the room that it names, and answers nothing.
fn say(ctx: &mut Context<'_>, message: &Message<'_>) {
    let [room, text]: [String; 2] = message.body.parse().expect("a room and a text");
    ctx.publish(&room, text.as_str(), SelfDelivery::Include).expect("it may");
    ctx.reply("said");
}

/// With the route `join`, and `say` with what a route may have of its own.
fn speaking(outbound: Outbound) -> Endpoint {
    endpoint()
        .route("join", |ctx, m| {
            ctx.join(m.body.parse().expect("a name")).expect("it may");
            ctx.reply("joined");
        })
        .route_with("say", Route::new(say).outbound(outbound))
        .route_with("say_away", Route::new(say).outbound(outbound).run_on(RunOn::Blocking))
        .route("say_own", |ctx, m| {
            ctx.set_outbound(Outbound::new(DropOldest));
            say(ctx, m);
        })
        .before(|ctx, m| {
            if m.key == "say_before" {
                ctx.set_outbound(Outbound::new(DropOldest));
            }
            Flow::Continue
        })
        .route_with("say_before", Route::new(say).outbound(outbound).run_on(RunOn::Blocking))
}

/// A healthy member and one that reads only when it is told to, both in all rooms.
struct Stage {
    running: Running,
    healthy: Client,
    stalled: Client,
}

impl Stage {
    fn new(setup: Setup, builder: GatewayBuilder, rooms: &[&str]) -> Self {
        let running = setup.start_with(builder, |config| config.outbound_limit_bytes = LIMIT);
        let healthy = Client::open(addr(&running), PATH);
        let stalled = Client::open_narrow(addr(&running), PATH);
        let mut stage = Self { running, healthy, stalled };
        for room in rooms {
            assert_eq!(stage.healthy.ask("join", 1, json!(room))["body"], "joined");
            assert_eq!(stage.stalled.ask("join", 1, json!(room))["body"], "joined");
        }
        stage
    }

    fn with(setup: Setup, outbound: Outbound, rooms: &[(&str, Outbound)]) -> Self {
        let mut builder = only(speaking(outbound));
        for (room, outbound) in rooms {
            let policy = RoomPolicy { outbound: *outbound, ..RoomPolicy::default() };
            builder = builder.room_policy(room, policy);
        }
        let rooms: Vec<_> = rooms.iter().map(|(room, _)| *room).collect();
        Self::new(setup, builder, &rooms)
    }

    /// Publishes so much to a room with this handle, each as soon as the healthy member has the one
    /// before.
    fn publish(&mut self, gateway: &Gateway, room: &str, numbers: std::ops::Range<usize>) {
        for n in numbers {
            gateway.publish(room, long(n).as_str()).expect("it runs");
            assert_eq!(self.healthy.json()["data"], long(n), "the healthy member is served");
        }
    }

    /// Has the healthy member publish so much by a route.
    fn say(&mut self, route: &str, room: &str, numbers: std::ops::Range<usize>) {
        for n in numbers {
            self.healthy.request(route, n as u64, json!([room, long(n)]));
            // An answer that waits for room work leaves behind what it publishes.
            assert_eq!(self.healthy.json()["data"], long(n), "the healthy member is served");
            assert_eq!(self.healthy.json()["id"], n);
        }
    }

    /// Reads what the stalled member is owed, up to the publish of this number in any room.
    fn catch_up(&mut self, last: usize) -> Vec<(String, usize)> {
        let mut got = Vec::new();
        while got.last().is_none_or(|(_, n)| *n != last) {
            let frame = self.stalled.frame().expect("it is not closed");
            got.push(number(&frame));
        }
        got
    }

    /// The stalled member is closed as too slow, behind publishes without a gap; how many.
    fn expect_closed(&mut self) -> usize {
        let mut numbers = Vec::new();
        let close = loop {
            let frame = self.stalled.frame().expect("a Close comes before the end");
            if frame.opcode == CLOSE {
                break frame;
            }
            numbers.push(number(&frame).1);
        };
        assert_eq!(close.close_code(), Some(1008));
        assert_eq!(numbers, (0..numbers.len()).collect::<Vec<_>>());
        self.stalled.stream.shutdown(Shutdown::Write).expect("it is open");
        assert_eq!(self.stalled.rest(), [], "nothing follows a Close");
        stats_until(&self.running, "its close", |s| s["closes"]["outbound_limit"] == 1);
        numbers.len()
    }

    fn gateway(&self) -> Gateway {
        self.running.gateway().clone()
    }

    fn stats(&self) -> Value {
        self.running.stats()
    }

    /// Publishes dropped for a bound, and replaced.
    fn drops(&self) -> [u64; 2] {
        let stats = self.stats();
        ["drop_oldest", "keep_latest"].map(|cause| stats["drops"][cause].as_u64().expect("a count"))
    }

    fn expect_open(&self) {
        assert_eq!(self.stats()["closes"]["outbound_limit"], 0);
    }
}

fn long(n: usize) -> String {
    format!("{n:06} {}", "x".repeat(PUBLISH_BYTES))
}

/// The room and the number of a publish, which is whole.
fn number(frame: &Frame) -> (String, usize) {
    assert_eq!(frame.opcode, TEXT, "a whole text message");
    let push: Value = serde_json::from_str(frame.text()).expect("JSON");
    let text = push["data"].as_str().expect("a publish");
    let n = text.split(' ').next().and_then(|n| n.parse().ok()).expect("a number");
    assert!(text.len() < 10 || text == long(n), "publish {n} is not whole");
    (push["room"].as_str().expect("of a room").to_owned(), n)
}

fn numbers(got: &[(String, usize)]) -> Vec<usize> {
    got.iter().map(|(_, n)| *n).collect()
}

/// How many at the end follow each other without a gap.
fn newest(got: &[usize]) -> usize {
    1 + got.windows(2).rev().take_while(|pair| pair[0] + 1 == pair[1]).count()
}

#[test]
fn a_rooms_policy_goes_before_its_endpoints() {
    both(|setup| {
        let dropping = Outbound::new(DropOldest);
        let rooms = [("ticks", dropping), ("orders", Outbound::default())];
        let mut stage = Stage::with(setup, Outbound::default(), &rooms);
        let gateway = stage.gateway();
        stage.publish(&gateway, "ticks", 0..PUBLISHES);
        let got = numbers(&stage.catch_up(PUBLISHES - 1));
        assert!(got.is_sorted() && newest(&got) >= 4, "a good part of the limit: {got:?}");
        let missing = (PUBLISHES - got.len()) as u64;
        stats_until(&stage.running, "the drops", |s| s["drops"]["drop_oldest"] == missing);
        assert_eq!((stage.stats()["totals"]["trims"].as_u64(), stage.drops()[1]), (Some(1), 0));
        stage.expect_open();
        // The other room is under the endpoint's, which closes.
        stage.publish(&gateway, "orders", 0..PUBLISHES);
        stage.expect_closed();
    });
}

#[test]
fn an_endpoints_policy_gives_way_to_close() {
    both(|setup| {
        let builder = only(speaking(Outbound::default()).overflow(DropOldest));
        let closing = RoomPolicy { outbound: Outbound::new(Close), ..RoomPolicy::default() };
        let mut stage = Stage::new(setup, builder.room_policy("orders", closing), &["orders"]);
        let gateway = stage.gateway();
        stage.publish(&gateway, "orders", 0..PUBLISHES);
        assert!(stage.expect_closed() < PUBLISHES);
        assert_eq!(stage.drops(), [0, 0]);
    });
}

#[test]
fn a_routes_policy_goes_before_the_rooms() {
    both(|setup| {
        for route in ["say", "say_away"] {
            let rooms = [("orders", Outbound::new(Close))];
            let mut stage = Stage::with(setup, Outbound::new(DropOldest), &rooms);
            stage.say(route, "orders", 0..PUBLISHES);
            let got = numbers(&stage.catch_up(PUBLISHES - 1));
            assert!(got.len() < PUBLISHES && newest(&got) >= 4, "{route}: {got:?}");
            stage.expect_open();
        }
        let mut stage =
            Stage::with(setup, Outbound::new(Close), &[("ticks", Outbound::new(DropOldest))]);
        stage.say("say", "ticks", 0..PUBLISHES);
        stage.expect_closed();
    });
}

#[test]
fn a_publishs_own_policy_goes_before_all() {
    both(|setup| {
        let rooms = [("orders", Outbound::new(Close))];
        let mut stage = Stage::with(setup, Outbound::new(Close), &rooms);
        for route in ["say_own", "say_before"] {
            stage.say(route, "orders", 0..PUBLISHES);
            assert!(stage.catch_up(PUBLISHES - 1).len() < PUBLISHES, "{route}");
        }
        let gateway = stage.gateway().with_outbound(Outbound::new(DropOldest).budget(BUDGET));
        stage.publish(&gateway, "orders", 0..PUBLISHES);
        let got = numbers(&stage.catch_up(PUBLISHES - 1));
        assert!(got.len() < PUBLISHES && newest(&got) <= 3, "{got:?}");
        stage.expect_open();
        // Without that, the room's.
        let gateway = stage.gateway();
        stage.publish(&gateway, "orders", 0..PUBLISHES);
        stage.expect_closed();
    });
}

#[test]
fn the_latest_of_each_key_is_kept() {
    both(|setup| {
        let rooms = [("ticks", Outbound::new(KeepLatest)), ("log", Outbound::new(DropOldest))];
        let mut stage = Stage::with(setup, Outbound::default(), &rooms);
        let gateway = stage.gateway();
        // Without a key they are the room's alone.
        stage.publish(&gateway, "ticks", 0..PUBLISHES);
        stage.publish(&gateway, "log", 0..1);
        for n in 0..50 {
            for (key, number) in [("AAPL", n), ("MSFT", 100 + n), ("GOOG", 200 + n)] {
                let text = format!("{number} tick");
                gateway.publish("ticks", Content::named(key, text.as_str())).expect("it runs");
                assert_eq!(stage.healthy.json()["data"], text);
            }
        }
        let got = stage.catch_up(249);
        let [before @ .., last, log, a, m, g] = &numbers(&got)[..] else { panic!("{got:?}") };
        assert_eq!([*last, *log, *a, *m, *g], [PUBLISHES - 1, 0, 49, 149, 249]);
        assert!(before.is_sorted(), "what was written before it stalled: {before:?}");
        let missing = (PUBLISHES + 150 - (got.len() - 1)) as u64;
        stats_until(&stage.running, "the drops", |s| s["drops"]["keep_latest"] == missing);
        assert_eq!((stage.drops()[0], stage.stats()["totals"]["trims"].as_u64()), (0, Some(0)));
        stage.expect_open();
    });
}

#[test]
fn pushes_with_a_key_replace_each_other_and_those_without_do_not() {
    both(|setup| {
        let (speaking, told) = crate::telling_ids(speaking(Outbound::default()));
        let mut stage = Stage::new(setup, only(speaking), &["ticks"]);
        assert_eq!(stage.stalled.ask("id", 0, json!(null))["body"], json!(null));
        let conn = crate::got(&told);
        let gateway = stage.gateway().with_outbound(Outbound::new(KeepLatest));
        stage.publish(&gateway, "ticks", 0..PUBLISHES);
        for n in 0..3 {
            gateway.push(conn, format!("{n} mail").as_str()).expect("it runs");
            let state = format!("{n} state");
            gateway.push(conn, Content::named("state", state.as_str())).expect("it runs");
        }
        gateway.push(conn, "end").expect("it runs");
        let mut got = Vec::new();
        while got.last().is_none_or(|last| *last != "end") {
            let push = stage.stalled.json();
            let text = push["data"].as_str().expect("a push").to_owned();
            got.extend((push["room"] == json!(null)).then_some(text));
        }
        assert_eq!(got, ["0 mail", "1 mail", "2 mail", "2 state", "end"]);
    });
}

#[test]
fn a_budget_holds_for_each_room() {
    both(|setup| {
        let rooms = [
            ("ticks", Outbound::new(DropOldest).budget(BUDGET)),
            ("log", Outbound::new(DropOldest)),
        ];
        let mut stage = Stage::with(setup, Outbound::default(), &rooms);
        let gateway = stage.gateway();
        stage.publish(&gateway, "ticks", 0..PUBLISHES);
        // They fit beside what the budget lets wait.
        stage.publish(&gateway, "log", 1000..1003);
        stage.publish(&gateway, "ticks", PUBLISHES..PUBLISHES + 9);
        let got = stage.catch_up(PUBLISHES + 8);
        let of = |room: &str| -> Vec<usize> {
            numbers(&got.iter().filter(|(r, _)| r == room).cloned().collect::<Vec<_>>())
        };
        assert_eq!(of("log"), [1000, 1001, 1002], "another room is no matter");
        let waited: Vec<_> = got.iter().rev().take_while(|(room, _)| room == "ticks").collect();
        assert!(waited.len() <= 2, "as much as the budget lets wait: {waited:?}");
        assert!(of("ticks").is_sorted());
        stage.expect_open();
        assert_eq!(stage.stats()["totals"]["trims"], 1, "it never caught up in between");
        // Having caught up, it falls behind anew.
        stage.publish(&gateway, "ticks", 0..PUBLISHES);
        stage.catch_up(PUBLISHES - 1);
        assert_eq!(stage.stats()["totals"]["trims"], 2);
    });
}

#[test]
fn over_a_budget_under_close_it_is_closed() {
    both(|setup| {
        let rooms = [("orders", Outbound::default().budget(BUDGET))];
        let mut stage = Stage::with(setup, Outbound::default(), &rooms);
        let gateway = stage.gateway();
        stage.publish(&gateway, "orders", 0..PUBLISHES);
        assert!(stage.expect_closed() < PUBLISHES);
    });
}

#[test]
fn a_member_that_reads_is_never_trimmed_for_what_one_turn_brings() {
    both(|setup| {
        let rooms = [("ticks", Outbound::new(DropOldest).budget(4096))];
        let mut stage = Stage::with(setup, Outbound::default(), &rooms);
        // All of a round may leave in one turn, far more than the budget.
        for round in 0..20 {
            let mut batch = Vec::new();
            for n in 0..40 {
                let text = json!(["ticks", format!("{} {}", 40 * round + n, "y".repeat(1000))]);
                let request = json!({ "route": "say", "id": n, "body": text });
                batch.extend(crate::client::frame(TEXT, request.to_string().as_bytes()));
            }
            stage.healthy.send(&batch);
            let mut next = 40 * round;
            while next < 40 * (round + 1) {
                let message = stage.healthy.json();
                if let Some(text) = message["data"].as_str() {
                    assert!(text.starts_with(&format!("{next} ")), "{text}");
                    next += 1;
                }
            }
        }
    });
}

#[test]
fn a_file_declares_them() {
    both(|setup| {
        let mut served = EndpointConfig::new("/file", DialectName::Json);
        served.routes.push(RouteConfig {
            key: "order".to_owned(),
            handler: "publish".to_owned(),
            permission: None,
            timeout: None,
            run: None,
            outbound: Outbound::new(Close),
            rate: None,
            over_limit: tidegate::quota::Over::Delay,
        });
        let room = RoomConfig {
            pattern: "ticks".to_owned(),
            join: None,
            publish: None,
            max_members: None,
            events: false,
            clock: None,
            outbound: Outbound::new(DropOldest).budget(BUDGET),
        };
        let running = setup.start_with(Gateway::builder().without_default_endpoints(), |config| {
            config.outbound_limit_bytes = LIMIT;
            (config.endpoints, config.rooms) = (vec![served.clone()], vec![room.clone()]);
        });
        let healthy = Client::open(addr(&running), "/file");
        let stalled = Client::open_narrow(addr(&running), "/file");
        let mut stage = Stage { running, healthy, stalled };
        for member in [&mut stage.healthy, &mut stage.stalled] {
            assert_eq!(member.ask("join", 1, json!({ "room": "ticks" }))["id"], 1);
        }
        let gateway = stage.gateway();
        stage.publish(&gateway, "ticks", 0..PUBLISHES);
        let got = numbers(&stage.catch_up(PUBLISHES - 1));
        assert!(got.len() < PUBLISHES && newest(&got) <= 3, "{got:?}");
        stage.expect_open();
        for n in 0..PUBLISHES {
            let body = json!({ "room": "ticks", "data": long(n), "self": true });
            stage.healthy.request("order", n as u64, body);
            assert_eq!(stage.healthy.json()["data"], long(n));
            assert_eq!(stage.healthy.json()["id"], n);
        }
        assert!(stage.expect_closed() < PUBLISHES);
    });
}
