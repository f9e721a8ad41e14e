//! Limits on what clients send: each of them with each of the three things that can happen, and
//! never a message that nobody hears of.

use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidegate::{Accept, Dialect, Endpoint, Liveness, Over, Rate, Route, RunOn, Running};

use crate::client::{CLOSE, Client, TEXT, frame, request, request_with};
use crate::tcp_client::TcpClient;
use crate::{PATH, Setup, addr, all_gone, both, endpoint, only, open, stats_until, with_opcodes};

fn hits(stats: &Value, name: &str) -> u64 {
    stats["limits"][name].as_u64().unwrap_or_else(|| panic!("no {name} in {:#}", stats["limits"]))
}

/// The one kind of hit that there was, and how often.
fn only_hits(running: &Running, name: &str) -> u64 {
    let stats = running.stats();
    let n = hits(&stats, name);
    let all: u64 = stats["limits"].as_object().unwrap().values().filter_map(Value::as_u64).sum();
    assert_eq!(all, n, "{:#}", stats["limits"]);
    n
}

fn requests(route: &str, ids: std::ops::Range<u64>, body: &str) -> Vec<u8> {
    let one = |id| json!({ "route": route, "id": id, "body": body }).to_string();
    ids.flat_map(|id| frame(TEXT, one(id).as_bytes())).collect()
}

/// Reads the answers to these, which come in order; how many were refused with 429.
fn answers(client: &mut Client, ids: std::ops::Range<u64>) -> u64 {
    let mut refused = 0;
    for id in ids {
        let answer = client.json();
        assert_eq!(answer["id"], id, "{answer}");
        match answer["error"]["code"].as_u64() {
            None => assert!(answer["body"].is_string(), "{answer}"),
            Some(429) => refused += 1,
            Some(_) => panic!("{answer}"),
        }
    }
    refused
}

/// Reads up to a Close: how many answers that are no errors came before it, and its code.
fn up_to_close(client: &mut Client) -> (u64, u64) {
    let mut messages = 0;
    loop {
        let frame = client.frame().expect("a Close first");
        if frame.opcode == CLOSE {
            return (messages, frame.close_code().expect("a code").into());
        }
        messages += u64::from(!frame.text().contains("429"));
    }
}

#[test]
fn delayed_messages_and_bytes_are_all_answered_in_order_and_at_the_rate() {
    both(|setup| {
        for (limited, name) in [
            (endpoint().message_rate(Rate::per_s(50).burst(5)), "messages_delay"),
            // 72 bytes each with their frame.
            (endpoint().byte_rate(Rate::per_s(50 * 72).burst(5 * 72)), "bytes_delay"),
        ] {
            let running = setup.serve(limited);
            let mut client = open(&running);
            let began = Instant::now();
            let body = "x".repeat(30);
            for ids in [0..60, 60..70, 70..80] {
                client.send(&requests("echo", ids.clone(), &body));
                assert_eq!(answers(&mut client, ids), 0);
            }
            // What came last waited for all before it but the burst.
            assert!(began.elapsed() >= Duration::from_millis(60 * 20), "{:?}", began.elapsed());
            assert!(only_hits(&running, name) >= 2);
            let stats = stats_until(&running, "its end", |stats| stats["totals"]["delayed"] == 0);
            assert_eq!(stats["totals"]["messages_in"], 80);
            client.close(1000);
            client.expect_close(1000);
        }
    });
}

#[test]
fn refused_messages_are_answered_one_and_all() {
    both(|setup| {
        for (limited, name) in [
            (endpoint().message_rate(Rate::per_s(1).burst(3)), "messages_reject"),
            (endpoint().byte_rate(Rate::per_s(64).burst(128)), "bytes_reject"),
        ] {
            let running = setup.serve(limited.over_limit(Over::Reject));
            let mut client = open(&running);
            client.send(&requests("echo", 0..40, "some thirty bytes of this or that"));
            let refused = answers(&mut client, 0..40);
            assert!((1..40).contains(&refused), "{refused}");
            assert_eq!(only_hits(&running, name), refused);
            let stats = running.stats();
            assert_eq!(stats["worker_totals"]["errors"], refused);
            assert_eq!(stats["worker_totals"]["messages"], 40);
            // Big ones too, which go another way.
            client.send(&requests("echo", 40..44, &"x".repeat(100_000)));
            let more = answers(&mut client, 40..44);
            assert!(more >= 3, "{more}");
            assert_eq!(only_hits(&running, name), refused + more);
        }
    });
}

#[test]
fn what_takes_no_answer_is_answered_all_the_same() {
    both(|setup| {
        let rate = Rate::per_s(1).burst(1);
        let running = setup.serve(endpoint().message_rate(rate).over_limit(Over::Reject));
        let mut client = open(&running);
        let push = frame(TEXT, br#"{"route":"echo"}"#);
        client.send(&push.repeat(20));
        let nonsense = frame(TEXT, b"no JSON");
        client.send(&nonsense.repeat(20));
        stats_until(&running, "all messages", |stats| stats["worker_totals"]["messages"] == 40);
        let refused = only_hits(&running, "messages_reject");
        assert!(refused >= 30, "{refused}");
        for _ in 0..refused {
            loop {
                let told = client.json();
                assert_eq!(told["id"], json!(null), "{told}");
                // What was let through is no JSON, at times.
                if told["error"]["code"] == 429 {
                    break;
                }
            }
        }
        let raw = Endpoint::echo("/raw").message_rate(rate).over_limit(Over::Reject);
        let running = setup.serve(raw);
        let mut client = Client::open(addr(&running), "/raw");
        client.send(&frame(TEXT, b"?").repeat(10));
        let told: Vec<_> = (0..10).map(|_| client.read_text()).collect();
        let refused = told.iter().filter(|told| told.contains("more messages than")).count();
        assert_eq!(only_hits(&running, "messages_reject"), refused as u64);
        assert!(refused >= 5, "{told:?}");
    });
}

#[test]
fn over_a_limit_that_closes_the_close_comes_behind_all_answers() {
    both(|setup| {
        let (release, released) = mpsc::channel::<()>();
        let released = std::sync::Mutex::new(released);
        let slow = Route::new(move |ctx, _| {
            released.lock().unwrap().recv().expect("released");
            ctx.reply("slow");
        });
        let rate = Rate::per_s(1).burst(5);
        let limited = endpoint().message_rate(rate).over_limit(Over::Close);
        let running = setup.serve(limited.route_with("slow", slow.run_on(RunOn::Blocking)));
        let mut client = open(&running);
        client.send(&requests("slow", 0..1, ""));
        client.send(&requests("echo", 1..40, ""));
        let stats = stats_until(&running, "the limit, and all before it routed", |s| {
            let routed = &s["worker_totals"]["messages"];
            hits(s, "messages_close") == 1 && *routed == s["totals"]["messages_in"]
        });
        let passed = stats["worker_totals"]["messages"].as_u64().unwrap();
        assert!((5..40).contains(&passed), "{passed}");
        release.send(()).unwrap();
        let mut ids: Vec<_> = (0..passed).map(|_| client.json()["id"].as_u64().unwrap()).collect();
        ids.sort_unstable();
        assert!(ids.into_iter().eq(0..passed));
        assert_eq!(client.expect_close_and_end(1008), "more than the limit allows");
        all_gone(&running);
        assert_eq!(running.stats()["closes"]["rate_limit"], 1);
        assert_eq!(only_hits(&running, "messages_close"), 1);
    });
}

#[test]
fn over_bytes_that_close_what_was_read_is_answered_first() {
    both(|setup| {
        let rate = Rate::per_s(64).burst(300);
        let running = setup.serve(endpoint().byte_rate(rate).over_limit(Over::Close));
        let mut client = open(&running);
        assert!(client.ask("echo", 0, "x".repeat(500))["body"].is_string());
        client.request("echo", 1, "more");
        assert_eq!(client.json()["body"], "more");
        assert_eq!(client.expect_close_and_end(1008), "more than the limit allows");
        all_gone(&running);
        assert_eq!(only_hits(&running, "bytes_close"), 1);
        assert_eq!(running.stats()["closes"]["rate_limit"], 1);
    });
}

/// A gateway whose clients share so many bytes a second.
fn sharing(setup: Setup, bytes_per_s: u64, over: Over) -> Running {
    setup.start_with(only(endpoint()), |config| {
        config.bandwidth_bytes_per_s = Some(bytes_per_s);
        config.bandwidth_over_limit = over;
    })
}

#[test]
fn who_keeps_to_its_part_is_served_beside_a_hog() {
    both(|setup| {
        for over in [Over::Reject, Over::Close] {
            // A quarter for each of two, and half for the quicker.
            let running = sharing(setup, 200_000, over);
            let (mut modest, mut hog) = (open(&running), open(&running));
            let mut writer = hog.writer();
            let filling = thread::spawn(move || {
                let body = "x".repeat(10_000);
                // Closed, it takes no more.
                (0..200).all(|id| {
                    std::io::Write::write_all(&mut writer, &requests("echo", id..id + 1, &body))
                        .is_ok()
                })
            });
            let hog = thread::spawn(move || match over {
                Over::Close => {
                    let (_, code) = up_to_close(&mut hog);
                    hog.close(1008);
                    let _ = hog.rest();
                    code
                }
                _ => answers(&mut hog, 0..200),
            });
            // All of it is far less than 50,000 bytes.
            for id in 0..100 {
                let answer = modest.ask("echo", id, "no more than this");
                assert_eq!(answer["body"], "no more than this", "{answer}");
            }
            let told = hog.join().expect("the hog");
            let _ = filling.join().expect("its writer");
            if over == Over::Close {
                assert_eq!(told, 1008);
                assert_eq!(only_hits(&running, "bandwidth_close"), 1);
            } else {
                assert!((1..200).contains(&told), "{told}");
                assert_eq!(only_hits(&running, "bandwidth_reject"), told);
            }
            assert_eq!(modest.ask("echo", 100, "and on")["body"], "and on");
        }
    });
}

#[test]
fn hogs_that_are_delayed_lose_nothing() {
    both(|setup| {
        let running = sharing(setup, 1_000_000, Over::Delay);
        let hogs: Vec<_> = (0..3)
            .map(|_| {
                let mut hog = open(&running);
                let mut writer = hog.writer();
                thread::spawn(move || {
                    let filling = thread::spawn(move || {
                        let all = requests("echo", 0..100, &"x".repeat(10_000));
                        std::io::Write::write_all(&mut writer, &all).expect("it takes it");
                    });
                    assert_eq!(answers(&mut hog, 0..100), 0);
                    filling.join().expect("its writer");
                    hog
                })
            })
            .collect();
        let began = Instant::now();
        let mut modest = open(&running);
        for id in 0..50 {
            assert_eq!(modest.ask("echo", id, "a word")["body"], "a word");
        }
        let hogs: Vec<_> = hogs.into_iter().map(|hog| hog.join().expect("a hog")).collect();
        // 3 MB, of which two are not the burst's.
        assert!(began.elapsed() >= Duration::from_millis(900), "{:?}", began.elapsed());
        assert!(only_hits(&running, "bandwidth_delay") >= 3);
        drop(hogs);
    });
}

#[test]
fn a_route_has_one_limit_for_all_its_clients() {
    both(|setup| {
        for over in [Over::Reject, Over::Close, Over::Delay] {
            let echo = || Route::new(|ctx, m| ctx.reply(m.body));
            let (rate, name) = match over {
                Over::Reject => (Rate::per_s(1).burst(4), "route_reject"),
                Over::Close => (Rate::per_s(1).burst(4), "route_close"),
                Over::Delay => (Rate::per_s(20).burst(4), "route_delay"),
            };
            let limited = endpoint().route_with("rare", echo().rate(rate, over));
            let running = setup.serve(limited);
            let mut clients = [open(&running), open(&running)];
            let began = Instant::now();
            match over {
                Over::Reject => {
                    let mut refused = 0;
                    for client in &mut clients {
                        client.send(&requests("rare", 0..10, "?"));
                        refused += answers(client, 0..10);
                        assert_eq!(client.ask("echo", 10, "free")["body"], "free");
                    }
                    assert!(refused >= 10, "{refused}");
                    assert_eq!(only_hits(&running, name), refused);
                }
                Over::Close => {
                    let [first, second] = &mut clients;
                    assert_eq!(second.ask("rare", 0, "one")["body"], "one");
                    first.send(&requests("rare", 0..20, "?"));
                    let (answered, code) = up_to_close(first);
                    assert_eq!(code, 1008);
                    assert!((3..20).contains(&answered), "{answered}");
                    assert_eq!(second.ask("echo", 1, "free")["body"], "free");
                    assert_eq!(only_hits(&running, name), 1);
                    first.close(1008);
                    stats_until(&running, "its end", |s| s["closes"]["rate_limit"] == 1);
                }
                Over::Delay => {
                    for client in &mut clients {
                        client.send(&requests("rare", 0..12, "?"));
                    }
                    for client in &mut clients {
                        assert_eq!(answers(client, 0..12), 0);
                        client.send(&requests("rare", 12..13, "?"));
                        assert_eq!(answers(client, 12..13), 0);
                    }
                    // 26 in all, the last of which waits for those before it.
                    let least = Duration::from_millis(50 * (25 - 4 - 2));
                    assert!(began.elapsed() >= least, "{:?}", began.elapsed());
                    assert!(only_hits(&running, name) >= 2);
                }
            }
        }
    });
}

/// Dials from many threads at once; those that are let in, and what the others are told.
fn race(addr: SocketAddr, n: usize, head: &[u8]) -> (Vec<Client>, Vec<u16>) {
    let dial = || {
        let mut client = Client::dial(addr);
        client.send(head);
        let head = client.head();
        if head.status != 101 {
            assert_eq!(head.header("Retry-After"), Some("5"));
        }
        (client, head.status)
    };
    let all: Vec<_> = thread::scope(|scope| {
        let dials: Vec<_> = (0..n).map(|_| scope.spawn(dial)).collect();
        dials.into_iter().map(|dial| dial.join().expect("an answer")).collect()
    });
    let (held, told): (Vec<_>, Vec<_>) = all.into_iter().partition(|(_, status)| *status == 101);
    (held.into_iter().map(|(client, _)| client).collect(), told.into_iter().map(|t| t.1).collect())
}

#[test]
fn an_endpoint_has_so_many_connections_and_no_more() {
    both(|setup| {
        for asks in [false, true] {
            let mut limited = endpoint().max_connections(7);
            if asks {
                limited = limited.on_connect(|_, admission| admission.accept(Accept::default()));
            }
            let others = Endpoint::echo("/other");
            let running = setup.start(only(limited).endpoint(others));
            let (mut held, told) = race(addr(&running), 50, &request(PATH));
            assert_eq!((held.len(), told), (7, vec![503; 43]));
            held.iter_mut().for_each(|client| {
                assert_eq!(client.ask("echo", 1, "in")["body"], "in");
            });
            let stats = running.stats();
            assert_eq!(stats["refusals"]["endpoint_full"], 43);
            assert_eq!(only_hits(&running, "connections_reject"), 43);
            // Others have room, and so has it once one has left.
            let _other = Client::open(addr(&running), "/other");
            let left = stats["totals"]["open"].as_u64().unwrap();
            assert_eq!(left, 7);
            let mut gone = held.pop().unwrap();
            gone.close(1000);
            gone.expect_close(1000);
            stats_until(&running, "room", |stats| stats["totals"]["open"] == 7);
            let (more, told) = race(addr(&running), 5, &request(PATH));
            assert_eq!((more.len(), told.len()), (1, 4));
        }
    });
}

#[test]
fn an_endpoints_dialects_and_framings_count_together() {
    both(|setup| {
        let limited = endpoint().also(Dialect::Kim).max_connections(3).full_status(400);
        let builder = only(limited).tcp_listen(([127, 0, 0, 1], 0), PATH);
        let running = setup.start_with(builder, with_opcodes);
        let over_tcp = running.tcp_addresses()[0];
        let json = open(&running);
        let kim = request_with(PATH, "Sec-WebSocket-Protocol: kim\r\n");
        let (held, told) = race(addr(&running), 1, &kim);
        assert_eq!((held.len(), told.len()), (1, 0));
        let tcp = TcpClient::dial(over_tcp);
        stats_until(&running, "three", |stats| stats["totals"]["open"] == 3);
        assert_eq!(race(addr(&running), 3, &request(PATH)).1, [400; 3]);
        let mut late = TcpClient::dial(over_tcp);
        late.expect_close(1013);
        assert_eq!(only_hits(&running, "connections_reject"), 4);
        drop((json, tcp, held));
        stats_until(&running, "room", |stats| stats["totals"]["open"] == 0);
        assert_eq!(race(addr(&running), 3, &request(PATH)).0.len(), 3);
    });
}

/// A client that is stopped for half a minute, by what comes in one read.
fn stopped(running: &Running) -> Client {
    let mut client = open(running);
    client.send(&frame(TEXT, b"?").repeat(32));
    (0..32).for_each(|_| client.expect(TEXT, b"?"));
    client
}

#[test]
fn who_is_stopped_can_be_closed_and_can_die() {
    both(|setup| {
        let limited = Endpoint::echo(PATH).message_rate(Rate::per_s(1).burst(1));
        let running = setup.serve(limited);
        let (dying, mut closed) = (stopped(&running), stopped(&running));
        stats_until(&running, "both stopped", |stats| stats["totals"]["delayed"] == 2);
        dying.reset();
        stats_until(&running, "its end", |stats| stats["totals"]["open"] == 1);
        assert_eq!(running.stats()["totals"]["delayed"], 1);
        let stopping = thread::spawn(move || running.stop(|| false).0);
        closed.expect_close_and_end(1001);
        assert_eq!(stopping.join().expect("an end"), tidegate::Stopped::Clean);
    });
}

#[test]
fn no_time_passes_for_who_is_stopped() {
    both(|setup| {
        let liveness = Liveness {
            idle_timeout: Some(Some(Duration::from_millis(200))),
            ..Liveness::default()
        };
        let limited = endpoint().message_rate(Rate::per_s(20).burst(1)).liveness(liveness);
        let running = setup.serve(limited);
        let mut client = open(&running);
        let began = Instant::now();
        client.send(&requests("echo", 0..30, ""));
        assert_eq!(answers(&mut client, 0..30), 0);
        client.send(&requests("echo", 30..31, ""));
        assert_eq!(answers(&mut client, 30..31), 0);
        assert!(began.elapsed() >= Duration::from_millis(1000), "{:?}", began.elapsed());
        // And once it is not, it does.
        assert_eq!(client.expect_close_and_end(1001), "idle for too long");
    });
}

/// Shards that are full and limits that stop connections at the same time, each of which holds up
/// reading by itself.
#[test]
fn stopped_and_paused_at_once_nothing_is_lost() {
    both(|setup| {
        let echo = Route::new(|ctx, m| ctx.reply(m.body));
        let limited = endpoint()
            .message_rate(Rate::per_s(1000).burst(20))
            .route_with("rare", echo.rate(Rate::per_s(1500).burst(20), Over::Delay));
        let running = setup.start_with(only(limited), |config| {
            config.bandwidth_bytes_per_s = Some(1 << 20);
            config.tuning.mailbox_capacity = 1;
            config.tuning.message_lane_capacity = 1;
            config.tuning.batch_messages = 2;
        });
        let clients = (0..6).map(|n| {
            let mut client = open(&running);
            thread::spawn(move || {
                let mut read = 0;
                for round in 0..10 {
                    let ids = |at: u64| round * 60 + at * 20..round * 60 + at * 20 + 20;
                    client.send(&requests("echo", ids(0), "a word"));
                    client.send(&requests(if n % 2 == 0 { "rare" } else { "echo" }, ids(1), "or"));
                    client.send(&requests("echo", ids(2), "two"));
                    if round % 3 == n % 3 {
                        continue;
                    }
                    assert_eq!(answers(&mut client, read..ids(3).start), 0);
                    read = ids(3).start;
                }
                assert_eq!(answers(&mut client, read..600), 0);
                client
            })
        });
        let clients: Vec<_> = clients.collect();
        let clients: Vec<_> = clients.into_iter().map(|c| c.join().expect("a client")).collect();
        let calm = |s: &Value| s["totals"]["paused"] == 0 && s["totals"]["delayed"] == 0;
        let stats = stats_until(&running, "calm", calm);
        assert_eq!(stats["totals"]["messages_in"], 6 * 600);
        assert!(hits(&stats, "messages_delay") > 0 && hits(&stats, "route_delay") > 0);
        drop(clients);
        all_gone(&running);
    });
}
