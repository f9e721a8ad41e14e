//! Frames that are a length and a payload: what json and hub speak over plain TCP.

use std::time::Duration;

use serde_json::{Value, json};
use tidegate::telemetry::counters::CloseCause;
use tidegate::{
    Config, Dialect, Endpoint, Gateway, GatewayBuilder, LoginRule, Over, OverflowPolicy, Rate,
    Running, Stopped, TcpFraming, Tokens,
};

use crate::client::Client;
use crate::tcp_client::TcpClient;
use crate::u32_client::{U32Client, u32_frame};
use crate::{LOCALHOST, TEXT, stats_until};

/// A gateway of two loops, with `/ws` and `/hub` over plain TCP, and `/echo` without opcodes.
fn start(workers: usize, change: impl FnOnce(&mut Config)) -> Running {
    start_from(Gateway::builder(), workers, change)
}

fn start_from(
    builder: GatewayBuilder,
    workers: usize,
    change: impl FnOnce(&mut Config),
) -> Running {
    builder
        .listen(LOCALHOST)
        .tcp_listen(LOCALHOST, "/ws")
        .tcp_listen(LOCALHOST, "/hub")
        .tcp_listen(LOCALHOST, "/echo")
        .configure(|config| {
            (config.loops, config.workers) = (2, workers);
            config.tcp_listen[2].framing = Some(TcpFraming::U32);
            change(config);
        })
        .start()
        .expect("it starts")
}

/// The test, with messages routed on the loops and on workers.
fn both(change: impl Fn(&mut Config), test: impl Fn(&Running)) {
    for workers in [0, 2] {
        test(&start(workers, &change));
    }
}

fn json_client(running: &Running) -> U32Client {
    U32Client::dial(running.tcp_addresses()[0])
}

fn hub_client(running: &Running) -> U32Client {
    U32Client::dial(running.tcp_addresses()[1])
}

/// A client of an endpoint that sends back what it gets.
fn echo(running: &Running) -> U32Client {
    U32Client::dial(running.tcp_addresses()[2])
}

fn ended(running: &Running, cause: CloseCause, count: u64) -> Value {
    stats_until(running, cause.name(), |s| s["closes"][cause.name()] == count)
}

#[test]
fn json_is_text_and_hub_is_binary() {
    both(
        |_| {},
        |running| {
            let mut json = json_client(running);
            let body = json!({"déjà": [1, null]});
            assert_eq!(json.ask("echo", 7, &body), json!({"id": 7, "body": body}));
            // Text is held to be UTF-8.
            json.message(b"\xff");
            json.expect_end();
            assert_eq!(ended(running, CloseCause::InvalidUtf8, 1)["totals"]["open"], 0);
            let mut hub = hub_client(running);
            // What is not understood is answered, or closes: in binary it is no violation.
            hub.message(b"\xff");
            hub.close();
            while hub.next().is_some() {}
            let stats = stats_until(running, "both gone", |s| s["totals"]["closed"] == 2);
            assert_eq!(stats["closes"]["invalid_utf8"], 1);
            assert_eq!(stats["totals"]["http_responses"], 0);
        },
    );
}

#[test]
fn messages_come_back_as_they_were() {
    both(
        |_| {},
        |running| {
            let mut peer = echo(running);
            for len in [0, 1, 125, 126, 65_535, 65_536, 300_000] {
                peer.echoes(&vec![len as u8; len]);
            }
            assert_eq!(running.stats()["totals"]["messages_in"], 7);
            peer.close();
            peer.expect_end();
            // An end between two messages is a Close.
            ended(running, CloseCause::PeerClose, 1);
        },
    );
}

#[test]
fn frames_of_one_write_are_answered_in_one() {
    both(
        |_| {},
        |running| {
            let mut peer = echo(running);
            peer.echoes(b"all is warm");
            let frames: Vec<u8> = (0..16_u8).flat_map(|n| u32_frame(&[n; 20])).collect();
            peer.send(&frames);
            assert_eq!(peer.read(), frames);
        },
    );
}

#[test]
fn frames_byte_by_byte() {
    both(
        |_| {},
        |running| {
            let mut peer = echo(running);
            for payload in [&b"d\xc3\xa9j\xc3\xa0"[..], &[0, 255, 7], b""] {
                for byte in u32_frame(payload) {
                    peer.send(&[byte]);
                }
                peer.expect(payload);
            }
            let mut json = json_client(running);
            let request = json!({"route": "echo", "id": 1, "body": "é"}).to_string();
            for byte in u32_frame(request.as_bytes()) {
                json.send(&[byte]);
            }
            assert_eq!(json.json(), json!({"id": 1, "body": "é"}));
        },
    );
}

#[test]
fn what_came_before_the_end_is_answered_before_it() {
    both(
        |_| {},
        |running| {
            let mut peer = echo(running);
            peer.send(&[u32_frame(b"one"), u32_frame(b"two")].concat());
            peer.close();
            peer.expect(b"one");
            peer.expect(b"two");
            peer.expect_end();
            ended(running, CloseCause::PeerClose, 1);
            // Inside a message it is no Close.
            let mut cut = echo(running);
            cut.send(&[u32_frame(b"whole"), u32_frame(b"not whole")[..7].to_vec()].concat());
            cut.close();
            cut.expect(b"whole");
            cut.expect_end();
            ended(running, CloseCause::PeerEof, 1);
        },
    );
}

#[test]
fn too_much_is_refused_by_its_length_alone() {
    let limits = |config: &mut Config| {
        config.max_frame_bytes = 1000;
        config.max_message_bytes = 1000;
    };
    both(limits, |running| {
        for (count, bytes) in [
            u32_frame(&[0; 1001])[..4].to_vec(),
            b"\xff\xff\xff\xff".to_vec(),
            // What others begin with.
            b"GET /echo HTTP/1.1\r\n\r\n".to_vec(),
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        ]
        .into_iter()
        .enumerate()
        {
            let mut peer = echo(running);
            peer.send(&[u32_frame(&[5; 1000]), bytes].concat());
            peer.expect(&[5; 1000]);
            peer.expect_end();
            let stats = ended(running, CloseCause::TooBig, 1 + count as u64);
            assert_eq!(stats["totals"]["inbound_bytes"], 0);
        }
    });
}

#[test]
fn nobody_is_pinged_and_deadlines_hold() {
    let times = |config: &mut Config| {
        config.handshake_timeout = Duration::from_millis(50);
        config.ping_interval = Some(Duration::from_millis(20));
        config.pong_timeout = Duration::from_millis(20);
        config.message_timeout = Some(Duration::from_millis(200));
    };
    both(times, |running| {
        let (mut quiet, mut slow) = (echo(running), echo(running));
        quiet.echoes(b"here");
        slow.send(&u32_frame(b"never whole")[..9]);
        // By its end, many pings would have gone to the other.
        slow.expect_end();
        ended(running, CloseCause::MessageTimeout, 1);
        quiet.echoes(b"and still here");
        let stats = running.stats();
        assert_eq!(
            (&stats["totals"]["pings_out"], &stats["totals"]["open"]),
            (&json!(0), &json!(1))
        );
    });
    let idle = |config: &mut Config| config.idle_timeout = Some(Duration::from_millis(100));
    both(idle, |running| {
        echo(running).expect_end();
        ended(running, CloseCause::IdleTimeout, 1);
    });
}

#[test]
fn a_handlers_close_is_the_end_behind_its_answers() {
    for workers in [0, 2] {
        let bye = |ctx: &mut tidegate::Context<'_>, m: &tidegate::Message<'_>| {
            ctx.reply(m.body);
            ctx.close(4001, "that will do");
        };
        let endpoint = Endpoint::json("/ws").route("bye", bye);
        let running = start_from(Gateway::builder().endpoint(endpoint), workers, |_| {});
        let mut peer = json_client(&running);
        assert_eq!(peer.ask("bye", 1, &json!("a".repeat(100_000)))["id"], 1);
        peer.expect_end();
        // What still comes is thrown away, and no reset overtakes what was owed.
        let mut late = json_client(&running);
        let request = json!({"route": "bye", "id": 2, "body": "a".repeat(200_000)}).to_string();
        late.send(&u32_frame(request.as_bytes()));
        late.send(&u32_frame(b"{}").repeat(1000));
        assert_eq!(late.json()["id"], 2);
        late.expect_end();
        drop((peer, late));
        let stats = stats_until(&running, "gone", |s| s["totals"]["connections"] == 0);
        assert_eq!(stats["closes"]["handler"], 2);
    }
}

#[test]
fn a_room_reaches_members_of_all_framings() {
    for overflow in [OverflowPolicy::Close, OverflowPolicy::DropOldest] {
        for workers in [0, 2] {
            let builder = Gateway::builder().endpoint(Endpoint::json("/ws").overflow(overflow));
            // The same endpoint in both framings at once.
            let builder = builder.tcp_listen(LOCALHOST, "/ws");
            let running = start_from(builder, workers, |config| {
                // The builder's own comes first.
                config.tcp_listen.rotate_left(1);
                config.tcp_listen[2].framing = Some(TcpFraming::U32);
                config.tcp_listen[3].framing = Some(TcpFraming::Opcode);
            });
            let mut lengths: Vec<_> = (0..4).map(|_| json_client(&running)).collect();
            let mut opcodes: Vec<_> =
                (0..4).map(|_| TcpClient::dial(running.tcp_addresses()[3])).collect();
            let mut web: Vec<_> =
                (0..4).map(|_| Client::open(running.addresses()[0], "/ws")).collect();
            let join = json!({"route": "join", "id": 1, "body": {"room": "hall"}}).to_string();
            for peer in &mut lengths {
                peer.ask("join", 1, &json!({"room": "hall"}));
            }
            for peer in &mut opcodes {
                peer.frame(TEXT, join.as_bytes());
                assert_eq!(peer.json()["id"], 1);
            }
            for peer in &mut web {
                peer.ask("join", 1, json!({"room": "hall"}));
            }
            // Small ones are copied, big ones are shared.
            let data: Vec<_> = [5, 2_000, 70_000].iter().map(|len| "x".repeat(*len)).collect();
            let mut speaker = json_client(&running);
            for data in &data {
                let body = json!({"room": "hall", "data": data});
                let publish = json!({"route": "publish", "body": body});
                speaker.message(publish.to_string().as_bytes());
            }
            for data in &data {
                let of_lengths: Vec<_> = lengths.iter_mut().map(U32Client::json).collect();
                let of_opcodes: Vec<_> = opcodes.iter_mut().map(TcpClient::json).collect();
                let of_web: Vec<_> = web.iter_mut().map(Client::json).collect();
                // All alike; too long to be shown.
                assert!(of_lengths == of_web && of_opcodes == of_web, "{} bytes", data.len());
                assert!(of_web.iter().all(|got| got["data"] == **data && got["room"] == "hall"));
            }
        }
    }
}

#[test]
fn a_slow_one_is_closed_behind_what_was_begun() {
    for workers in [0, 2] {
        let running = start(workers, |config| config.outbound_limit_bytes = 256 * 1024);
        let mut slow = json_client(&running);
        slow.ask("join", 1, &json!({"room": "hall"}));
        let mut speaker = Client::open(running.addresses()[0], "/ws");
        let body = json!({"room": "hall", "data": "x".repeat(100_000)});
        let publish = json!({"route": "publish", "body": body}).to_string();
        // More than both sockets hold.
        (0..300).for_each(|_| speaker.text(&publish));
        (0..300).for_each(|_| assert_eq!(speaker.json()["body"]["room"], "hall"));
        // Whole messages, and the end: a cut one would be told.
        let mut heard = 0;
        while let Some(message) = slow.next() {
            assert!(serde_json::from_slice::<Value>(&message).unwrap()["data"].is_string());
            heard += 1;
        }
        assert!((1..300).contains(&heard), "{heard}");
        slow.close();
        ended(&running, CloseCause::OutboundLimit, 1);
    }
}

#[test]
fn a_login_comes_first_and_in_time() {
    let rule = || LoginRule::by_token(Tokens::new(b"a secret of thirty-two bytes, at least"));
    for workers in [0, 2] {
        let endpoint = Endpoint::json("/ws").login(rule().wait(Duration::from_millis(200)));
        let running = start_from(Gateway::builder().endpoint(endpoint), workers, |_| {});
        let mut peer = json_client(&running);
        assert_eq!(peer.ask("echo", 1, &json!(1))["error"]["code"], 401);
        let refused = peer.ask("login", 2, &json!({"token": "x"}));
        assert_eq!(refused["error"]["code"], 401, "{refused}");
        peer.expect_end();
        ended(&running, CloseCause::LoginTimeout, 1);
    }
}

#[test]
fn limits_of_the_endpoint_hold() {
    for workers in [0, 2] {
        let limited = Endpoint::json("/ws").message_rate(Rate::per_s(1).burst(3));
        let limited = limited.over_limit(Over::Close);
        let running = start_from(Gateway::builder().endpoint(limited), workers, |_| {});
        let mut peer = json_client(&running);
        let request = json!({"route": "echo", "id": 1, "body": null}).to_string();
        peer.send(&u32_frame(request.as_bytes()).repeat(10));
        for _ in 0..3 {
            assert_eq!(peer.json()["id"], 1);
        }
        peer.expect_end();
        ended(&running, CloseCause::RateLimit, 1);
    }
}

#[test]
fn one_too_many_meets_the_end() {
    let running = start(1, |config| config.max_connections = 2);
    let mut held = [echo(&running), echo(&running)];
    for peer in &mut held {
        peer.echoes(b"there is room");
    }
    let mut over = echo(&running);
    over.expect_end();
    assert_eq!(running.stats()["refusals"]["full"], 1);
    drop((held, over));
    stats_until(&running, "room again", |s| s["totals"]["connections"] == 0);
    echo(&running).echoes(b"there is room again");
}

#[test]
fn a_drain_ends_them_behind_their_answers() {
    for workers in [0, 2] {
        let running = start(workers, |_| {});
        let mut peer = echo(&running);
        peer.echoes(b"before");
        let stopping = std::thread::spawn(move || running.stop(|| false));
        peer.expect_end();
        drop(peer);
        let (stopped, stats) = stopping.join().unwrap();
        assert_eq!(stopped, Stopped::Clean);
        assert_eq!(stats["closes"]["shutdown"], 1);
        assert_eq!(stats["totals"]["opened"], stats["totals"]["closed"]);
    }
}

#[test]
fn the_framing_is_the_dialects_unless_it_is_said() {
    let framing = |dialect: Dialect, asked| dialect.framing_over_tcp(asked);
    use tidegate::protocol::Framing;
    let json = || Dialect::Json(tidegate::JsonDialect::default());
    for (dialect, own, by_length) in [
        (json(), Framing::U32Text, Framing::U32Text),
        (Dialect::Hub, Framing::U32Binary, Framing::U32Binary),
        (Dialect::Kim, Framing::Tcp, Framing::U32Binary),
        (Dialect::Mef, Framing::Tcp, Framing::U32Text),
        (Dialect::Action, Framing::Tcp, Framing::U32Text),
        (Dialect::Event, Framing::Tcp, Framing::U32Text),
        (Dialect::Raw, Framing::Tcp, Framing::U32Binary),
    ] {
        assert_eq!(framing(dialect.clone(), None), own, "{dialect:?}");
        assert_eq!(framing(dialect.clone(), Some(TcpFraming::U32)), by_length, "{dialect:?}");
        assert_eq!(framing(dialect, Some(TcpFraming::Opcode)), Framing::Tcp);
    }
}
