//! Frames over plain TCP, from the first byte on, beside WebSockets to the same endpoints.

#[path = "support/client.rs"]
mod client;
#[path = "tcp_framing/lengths.rs"]
mod lengths;
#[path = "support/tcp_client.rs"]
mod tcp_client;
#[path = "support/u32_client.rs"]
mod u32_client;
#[path = "support/wait.rs"]
mod wait;

use std::thread;
use std::time::Duration;

use client::Client;
use serde_json::{Value, json};
use tcp_client::{TcpClient, tcp_frame};
use tidegate::{
    Accept, Config, Context, Dialect, Endpoint, FdTable, Gateway, GatewayBuilder, Message,
    OverflowPolicy, Running, Stopped, TcpFraming,
};
use wait::wait_until;

const TEXT: u8 = 1;
const BINARY: u8 = 2;
const PING: u8 = 9;
const PONG: u8 = 10;
const LOCALHOST: ([u8; 4], u16) = ([127, 0, 0, 1], 0);

/// A gateway of two loops, with `/echo` and `/ws` over plain TCP too.
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
        .tcp_listen(LOCALHOST, "/echo")
        .tcp_listen(LOCALHOST, "/ws")
        .configure(|config| {
            (config.loops, config.workers) = (2, workers);
            // Whatever the endpoint's dialect.
            for listen in &mut config.tcp_listen {
                listen.framing = Some(TcpFraming::Opcode);
            }
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

fn echo(running: &Running) -> TcpClient {
    TcpClient::dial(running.tcp_addresses()[0])
}

fn stats_until(running: &Running, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    wait_until(what, || wanted(&running.stats()));
    running.stats()
}

#[test]
fn messages_come_back_as_they_were() {
    both(
        |_| {},
        |running| {
            let mut peer = echo(running);
            peer.echoes(TEXT, "hello, tide".as_bytes());
            for len in [0, 1, 125, 126, 65_535, 65_536, 300_000] {
                peer.echoes(BINARY, &vec![len as u8; len]);
                peer.echoes(TEXT, &vec![b'a'; len]);
            }
            let stats = running.stats();
            assert_eq!(stats["totals"]["opened"], 1);
            assert_eq!(stats["totals"]["open"], 1);
            assert_eq!(stats["totals"]["messages_in"], 15);
            // There was no request, and so no answer to one, nor a time that it took.
            assert_eq!(stats["totals"]["http_responses"], 0);
            assert_eq!(stats["latency"]["accept_upgraded"]["count"], 0);
            drop(peer);
            let stats = stats_until(running, "the end", |s| s["totals"]["closed"] == 1);
            assert_eq!(stats["closes"]["peer_eof"], 1);
        },
    );
}

#[test]
fn frames_of_one_write_are_answered_in_one() {
    both(
        |_| {},
        |running| {
            let mut peer = echo(running);
            peer.echoes(TEXT, b"all is warm");
            let frames: Vec<u8> = (0..16_u8).flat_map(|n| tcp_frame(BINARY, &[n; 20])).collect();
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
            for (opcode, payload) in
                [(TEXT, &b"d\xc3\xa9j\xc3\xa0"[..]), (BINARY, &[0, 255, 7]), (TEXT, b"")]
            {
                for byte in tcp_frame(opcode, payload) {
                    peer.send(&[byte]);
                }
                for byte in tcp_frame(PING, b"beside") {
                    peer.send(&[byte]);
                }
                let mut got = [peer.next().unwrap(), peer.next().unwrap()];
                // The pong is the loop's own, and need not wait for the worker.
                got.sort();
                assert_eq!(got, [(opcode, payload.to_vec()), (PONG, b"beside".to_vec())]);
            }
        },
    );
}

#[test]
fn the_closing_handshake() {
    both(
        |_| {},
        |running| {
            let mut peer = echo(running);
            peer.send(&[tcp_frame(TEXT, b"before"), tcp_frame(8, b"\x03\xe8bye")].concat());
            peer.expect(TEXT, b"before");
            assert_eq!(peer.expect_close(1000), "");
            peer.expect_end();
            let mut terse = echo(running);
            terse.frame(8, b"");
            terse.expect(8, b"");
            terse.expect_end();
            let stats = stats_until(running, "both closed", |s| s["totals"]["closed"] == 2);
            assert_eq!(stats["closes"]["peer_close"], 2);
        },
    );
}

#[test]
fn a_handler_closes() {
    let conns = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = std::sync::Arc::clone(&conns);
    let builder = Gateway::builder().endpoint(Endpoint::echo("/echo").fallback(move |ctx, m| {
        seen.lock().unwrap().push(ctx.conn());
        ctx.reply(m.body);
    }));
    let running = start_from(builder, 1, |_| {});
    let mut peer = echo(&running);
    peer.echoes(BINARY, b"who am I");
    let conn = conns.lock().unwrap()[0];
    running.gateway().close(conn, 4001, "that will do").unwrap();
    assert_eq!(peer.expect_close_and_end(4001), "that will do");
}

#[test]
fn pings_both_ways() {
    both(
        |config| {
            config.ping_interval = Some(Duration::from_millis(50));
            config.pong_timeout = Duration::from_secs(2);
        },
        |running| {
            let (mut peer, mut deaf) = (echo(running), echo(running));
            for _ in 0..3 {
                peer.expect(PING, b"");
                peer.frame(PONG, b"");
            }
            peer.frame(PING, b"and you");
            let pong = loop {
                match peer.next().expect("an answer") {
                    (PING, _) => peer.frame(PONG, b""),
                    other => break other,
                }
            };
            assert_eq!(pong, (PONG, b"and you".to_vec()));
            drop(peer);
            // Whoever does not answer is gone after a while.
            deaf.expect(PING, b"");
            deaf.expect_end();
            let stats = stats_until(running, "both gone", |s| s["totals"]["closed"] == 2);
            assert_eq!(stats["closes"]["pong_timeout"], 1);
        },
    );
}

#[test]
fn a_ping_is_answered_with_what_it_said() {
    both(
        |_| {},
        |running| {
            let mut peer = echo(running);
            for payload in [&b""[..], b"are you there", &[0xff; 125]] {
                peer.frame(PING, payload);
                peer.expect(PONG, payload);
            }
            assert_eq!(running.stats()["totals"]["pings_in"], 3);
        },
    );
}

#[test]
fn violations_close_behind_the_answers() {
    let limits = |config: &mut Config| {
        config.max_frame_bytes = 1000;
        config.max_message_bytes = 1000;
    };
    both(limits, |running| {
        for (bytes, code, reason) in [
            (tcp_frame(BINARY, &[0; 1001])[..5].to_vec(), 1009, "frame too big"),
            (b"\x02\xff\xff\xff\xff".to_vec(), 1009, "frame too big"),
            (tcp_frame(3, b"?"), 1002, "reserved opcode"),
            (b"GET /echo HTTP/1.1\r\n\r\n".to_vec(), 1002, "reserved opcode"),
            (client::frame(client::TEXT, b"of a WebSocket"), 1002, "reserved opcode"),
            (tcp_frame(0, b"more"), 1002, "nothing to continue"),
            (tcp_frame(PING, &[0; 126]), 1002, "control frame over 125 bytes"),
            (tcp_frame(TEXT, b"\xff"), 1007, "text is not UTF-8"),
            (tcp_frame(8, b"\x03"), 1002, "close frame of one byte"),
        ] {
            let mut peer = echo(running);
            peer.send(&[tcp_frame(BINARY, &[5; 1000]), bytes].concat());
            peer.expect(BINARY, &[5; 1000]);
            assert_eq!(peer.expect_close(code), reason);
            peer.expect_end();
        }
        let stats = stats_until(running, "all closed", |s| s["totals"]["closed"] == 9);
        assert_eq!(stats["closes"]["too_big"], 2);
        assert_eq!(stats["closes"]["invalid_utf8"], 1);
        assert_eq!(stats["closes"]["protocol_error"], 6);
    });
}

#[test]
fn deadlines_hold_but_the_handshakes() {
    let times = |config: &mut Config| {
        config.handshake_timeout = Duration::from_millis(100);
        config.message_timeout = Some(Duration::from_millis(100));
    };
    both(times, |running| {
        let (mut quiet, mut slow) = (echo(running), echo(running));
        slow.send(&tcp_frame(BINARY, b"never whole")[..9]);
        let mut asking = Client::dial(running.addresses()[0]);
        assert_eq!(asking.head().status, 408);
        quiet.echoes(TEXT, b"nobody asked me for a handshake");
        assert_eq!(slow.expect_close(1008), "a message took too long");
        // The rest of the frame, and the answer.
        slow.send(&tcp_frame(BINARY, b"never whole")[9..]);
        slow.close(1008);
        slow.expect_end();
    });
    let idle = |config: &mut Config| config.idle_timeout = Some(Duration::from_millis(100));
    both(idle, |running| {
        assert_eq!(echo(running).expect_close_and_end(1001), "idle for too long");
    });
}

#[test]
fn a_room_reaches_members_of_both_framings() {
    for overflow in [OverflowPolicy::Close, OverflowPolicy::DropOldest] {
        for workers in [0, 2] {
            let builder = Gateway::builder().endpoint(Endpoint::json("/ws").overflow(overflow));
            let running = start_from(builder, workers, |_| {});
            let mut tcp: Vec<_> =
                (0..4).map(|_| TcpClient::dial(running.tcp_addresses()[1])).collect();
            let mut web: Vec<_> =
                (0..4).map(|_| Client::open(running.addresses()[0], "/ws")).collect();
            let join = json!({"route": "join", "id": 1, "body": {"room": "hall"}}).to_string();
            for peer in &mut tcp {
                peer.frame(TEXT, join.as_bytes());
                assert_eq!(peer.json()["id"], 1);
            }
            for peer in &mut web {
                peer.ask("join", 1, json!({"room": "hall"}));
            }
            // Small ones are copied, big ones are shared.
            let data: Vec<_> = [5, 2_000, 70_000].iter().map(|len| "x".repeat(*len)).collect();
            let mut speaker = TcpClient::dial(running.tcp_addresses()[1]);
            for data in &data {
                let body = json!({"room": "hall", "data": data});
                let publish = json!({"route": "publish", "body": body});
                speaker.frame(TEXT, publish.to_string().as_bytes());
            }
            for data in &data {
                let of_tcp: Vec<_> = tcp.iter_mut().map(TcpClient::json).collect();
                let of_web: Vec<_> = web.iter_mut().map(Client::json).collect();
                // All alike; too long to be shown.
                assert!(of_tcp == of_web, "{} bytes", data.len());
                assert!(of_tcp.iter().all(|got| got["data"] == **data && got["room"] == "hall"));
            }
        }
    }
}

#[test]
fn sockets_that_pass_between_loops_stay_what_they_are() {
    for table in [FdTable::Private, FdTable::Shared] {
        let place = |ctx: &mut Context<'_>, _: &Message<'_>| {
            ctx.reply(if ctx.conn().loop_index() == 0 { "first" } else { "other" });
        };
        let place = Endpoint::new("/echo", Dialect::Raw).fallback(place);
        let running = start_from(Gateway::builder().endpoint(place), 1, |config| {
            (config.loops, config.fd_table) = (4, table);
        });
        let place = |peer: &mut TcpClient| {
            peer.frame(TEXT, b"where am I?");
            peer.next().expect("an answer").1
        };
        // One loop is left with what it has, the others with nothing: what the kernel gives it from
        // now on, a quarter, it passes on.
        let mut tcp: Vec<_> = (0..400).map(|_| echo(&running)).collect();
        tcp.retain_mut(|peer| place(peer) == b"first");
        let left = stats_until(&running, "the others empty", |s| s["totals"]["open"] == tcp.len());
        let handed_over = |stats: &Value| stats["totals"]["handed_over"].as_u64().unwrap();
        for peer in &mut tcp {
            assert_eq!(place(peer), b"first");
        }
        let mut more: Vec<_> = (0..100).map(|_| echo(&running)).collect();
        for peer in &mut more {
            assert_eq!(place(peer), b"other", "{table:?}");
        }
        let then = running.stats();
        assert!(handed_over(&then) > handed_over(&left), "{table:?}");
        let mut web: Vec<_> = (0..60).map(|_| Client::echo(running.addresses()[0])).collect();
        for peer in &mut web {
            peer.text("where am I?");
            assert_eq!(peer.read_text(), "other", "{table:?}");
        }
        tcp.extend(more);
        for peer in &mut tcp {
            place(peer);
        }
        let stats = running.stats();
        assert!(handed_over(&stats) > handed_over(&then), "{table:?}");
        assert_eq!(stats["totals"]["open"], tcp.len() + web.len());
        assert_eq!(stats["refusals"]["bad_request"], 0);
    }
}

#[test]
fn a_drain_closes_them_in_order() {
    for workers in [0, 2] {
        let running = start(workers, |_| {});
        let (mut tcp, mut web) = (echo(&running), Client::echo(running.addresses()[0]));
        tcp.echoes(TEXT, b"before");
        web.echoes(b"before");
        let stopping = thread::spawn(move || running.stop(|| false));
        assert_eq!(tcp.expect_close_and_end(1001), "the gateway is going away");
        web.expect_close_and_end(1001);
        let (stopped, stats) = stopping.join().unwrap();
        assert_eq!(stopped, Stopped::Clean);
        assert_eq!(stats["closes"]["shutdown"], 2);
        assert_eq!(stats["totals"]["opened"], stats["totals"]["closed"]);
    }
}

#[test]
fn one_too_many_is_told_so_in_a_close() {
    let running = start(1, |config| config.max_connections = 2);
    let mut held = [echo(&running), echo(&running)];
    for peer in &mut held {
        peer.echoes(TEXT, b"there is room");
    }
    let mut over = echo(&running);
    assert_eq!(over.expect_close_and_end(1013), "there is no room; come again later");
    let stats = running.stats();
    assert_eq!(stats["refusals"]["full"], 1);
    assert_eq!(stats["totals"]["opened"], 2);
    drop(held);
    stats_until(&running, "room again", |s| s["totals"]["connections"] == 0);
    echo(&running).echoes(TEXT, b"there is room again");
}

#[test]
fn listeners_have_to_name_an_endpoint_that_lets_in_unasked() {
    let asks =
        || Endpoint::echo("/asks").on_connect(|_, admission| admission.accept(Accept::default()));
    let problem = |builder: GatewayBuilder| {
        let builder = builder.listen(LOCALHOST).tcp_listen(LOCALHOST, "/ws");
        builder.start().expect_err("it does not start").to_string()
    };
    let unknown = problem(Gateway::builder().tcp_listen(LOCALHOST, "/none"));
    assert!(unknown.contains("--tcp-listen") && unknown.contains("/none"), "{unknown}");
    let asked = problem(Gateway::builder().endpoint(asks()).tcp_listen(LOCALHOST, "/asks"));
    assert!(asked.contains("--tcp-listen") && asked.contains("/asks needs a request"), "{asked}");
    let all = problem(Gateway::builder().on_connect(|_, admission| {
        admission.accept(Accept::default());
    }));
    assert!(all.contains("--tcp-listen") && all.contains("/ws needs a request"), "{all}");
}

#[test]
fn the_same_address_twice_is_told() {
    let address = ([127, 0, 0, 1], 9);
    let builder = Gateway::builder().listen(address).tcp_listen(address, "/ws");
    let problem = builder.start().expect_err("it does not start").to_string();
    assert!(problem.contains("--tcp-listen 127.0.0.1:9: given twice"), "{problem}");
}
