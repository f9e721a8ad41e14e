//! What an endpoint's owner hears of its connections: each turn once, in order, with its cause.

use std::io::Write as _;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use serde_json::json;
use tidegate::telemetry::counters::CloseCause;
use tidegate::{Accept, Config, ConnId, Endpoint, Identity, Refuse, Running, Stopped};

use crate::client::{Client, PING, PONG, TEXT, frame, request};
use crate::tcp_client::TcpClient;
use crate::{
    PATH, Setup, addr, both, endpoint, got, nothing, only, open, stats_until, with_opcodes,
};

/// What a hook was told.
#[derive(Clone, Debug, PartialEq)]
enum Told {
    Established,
    Message,
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Closing(CloseCause),
    Closed(Option<CloseCause>, Option<String>),
}

use Told::{Closed, Closing, Established, Message, Ping, Pong};

type Hooked = Receiver<(ConnId, Told)>;

/// With hooks that say what they were told, and the routes `noted` and `bye`.
fn hooked(endpoint: Endpoint) -> (Endpoint, Hooked) {
    let (tx, rx) = mpsc::channel();
    let tell = move |conn: ConnId, told: Told| {
        // The test may have ended.
        let _ = tx.send((conn, told));
    };
    let (a, b, c, d, e, f) =
        (tell.clone(), tell.clone(), tell.clone(), tell.clone(), tell.clone(), tell);
    let endpoint = endpoint
        .on_established(move |ctx| a(ctx.conn(), Established))
        .on_closing(move |ctx, cause| b(ctx.conn(), Closing(cause)))
        .on_closed(move |ended| {
            c(ended.conn, Closed(ended.cause, ended.identity.map(ToString::to_string)));
        })
        .on_ping(move |ctx, payload| d(ctx.conn(), Ping(payload.to_vec())))
        .on_pong(move |ctx, payload| e(ctx.conn(), Pong(payload.to_vec())))
        .route("noted", move |ctx, _| f(ctx.conn(), Message))
        .route("bye", |ctx, _| ctx.close(4000, "bye"));
    (endpoint, rx)
}

fn start(setup: Setup, change: impl FnOnce(&mut Config)) -> (Running, Hooked) {
    let (endpoint, told) = hooked(endpoint());
    (setup.start_with(only(endpoint), change), told)
}

/// The life of one connection, up to its end.
fn life(told: &Hooked) -> Vec<Told> {
    let (first, event) = got(told);
    let mut life = vec![event];
    while !matches!(life.last(), Some(Closed(..))) {
        let (conn, event) = got(told);
        assert_eq!(conn, first, "another connection's");
        life.push(event);
    }
    life
}

fn ended(cause: CloseCause) -> [Told; 2] {
    [Closing(cause), Closed(Some(cause), None)]
}

#[test]
fn every_way_to_end() {
    use CloseCause as By;
    type Way = (By, fn(Client));
    let ways: [Way; 6] = [
        (By::PeerClose, |mut peer| {
            peer.close(1000);
            peer.expect_close(1000);
        }),
        (By::PeerEof, |mut peer| {
            peer.finish();
            peer.expect_close(1002);
        }),
        (By::SocketError, Client::reset),
        (By::ProtocolError, |mut peer| {
            peer.send(&[0xff, 0x80, 0, 0, 0, 0]);
            peer.expect_close(1002);
        }),
        (By::InvalidUtf8, |mut peer| {
            peer.send(&frame(TEXT, b"\xff"));
            peer.expect_close(1007);
        }),
        (By::Handler, |mut peer| {
            peer.request("bye", 1, json!(null));
            peer.expect_close(4000);
        }),
    ];
    both(|setup| {
        let (running, told) = start(setup, |_| {});
        for (cause, end) in ways {
            let mut peer = open(&running);
            peer.ask("noted", 1, json!(null));
            end(peer);
            let [closing, closed] = ended(cause);
            assert_eq!(life(&told), [Established, Message, closing, closed]);
        }
        assert_eq!(running.stop(|| false).0, Stopped::Clean);
        assert_eq!(told.try_iter().count(), 0, "each once");
    });
}

#[test]
fn a_message_and_a_close_in_one_segment() {
    both(|setup| {
        let (running, told) = start(setup, |_| {});
        for _ in 0..20 {
            let mut peer = Client::dial(addr(&running));
            let noted = frame(TEXT, br#"{"route":"noted","id":1,"body":null}"#);
            let all = [request(PATH), frame(PING, b"hi"), noted.clone(), noted];
            peer.send(&[all.concat(), crate::client::close_frame(1000)].concat());
            peer.expect_upgrade();
            assert_eq!(peer.frame().unwrap().opcode, PONG);
            assert_eq!(
                (peer.json()["id"].clone(), peer.json()["id"].clone()),
                (json!(1), json!(1))
            );
            peer.expect_close(1000);
            let [closing, closed] = ended(CloseCause::PeerClose);
            let ping = Ping(b"hi".to_vec());
            let all = [Established, ping, Message, Message, closing, closed];
            assert_eq!(life(&told), all);
        }
        nothing(&told);
    });
}

#[test]
fn an_idle_connection() {
    both(|setup| {
        let idle = |config: &mut Config| config.idle_timeout = Some(Duration::from_millis(100));
        let (running, told) = start(setup, idle);
        let mut peer = open(&running);
        peer.expect_close_and_end(1001);
        let [closing, closed] = ended(CloseCause::IdleTimeout);
        assert_eq!(life(&told), [Established, closing, closed]);
        drop(running);
        nothing(&told);
    });
}

#[test]
fn the_gateway_stops() {
    both(|setup| {
        let (running, told) = start(setup, |_| {});
        let peers: Vec<Client> = (0..10).map(|_| open(&running)).collect();
        let reading: Vec<_> = peers
            .into_iter()
            .map(|mut peer| thread::spawn(move || peer.expect_close_and_end(1001)))
            .collect();
        assert_eq!(running.stop(|| false).0, Stopped::Clean);
        reading.into_iter().for_each(|reader| drop(reader.join().unwrap()));
        let mut all: Vec<_> = told.try_iter().collect();
        // By connection, each in its order.
        all.sort_by_key(|(conn, _)| conn.to_bits());
        let [closing, closed] = ended(CloseCause::Shutdown);
        assert_eq!(all.len(), 30);
        for life in all.chunks(3) {
            let life: Vec<_> = life.iter().map(|(_, told)| told.clone()).collect();
            assert_eq!(life, [Established, closing.clone(), closed.clone()]);
        }
    });
}

/// Over plain TCP there is no request, and a connection is open from its first byte on.
#[test]
fn over_tcp() {
    both(|setup| {
        let (endpoint, told) = hooked(endpoint());
        let builder = only(endpoint).tcp_listen(([127, 0, 0, 1], 0), PATH);
        let running = setup.start_with(builder, with_opcodes);
        let mut peer = TcpClient::dial(running.tcp_addresses()[0]);
        peer.frame(PING, b"tcp");
        peer.expect(PONG, b"tcp");
        peer.frame(TEXT, br#"{"route":"noted","id":1,"body":null}"#);
        assert_eq!(peer.json()["id"], 1);
        peer.close(1000);
        peer.expect_close(1000);
        let [closing, closed] = ended(CloseCause::PeerClose);
        let ping = Ping(b"tcp".to_vec());
        assert_eq!(life(&told), [Established, ping, Message, closing, closed]);
        nothing(&told);
    });
}

#[test]
fn established_comes_first_and_may_send() {
    both(|setup| {
        let endpoint = endpoint().on_established(|ctx| {
            ctx.push(ctx.conn(), "welcome");
            ctx.join("hall").unwrap();
            ctx.store().set("greeted", 1).unwrap();
        });
        let endpoint = endpoint.route("greeted", |ctx, _| {
            let greeted = ctx.store().get("greeted").is_some();
            let rooms: Vec<_> = ctx.rooms().into_iter().map(str::to_owned).collect();
            ctx.reply_json(&(greeted, rooms));
        });
        let running = setup.serve(endpoint);
        for _ in 0..20 {
            let mut peer = Client::dial(addr(&running));
            let first = frame(TEXT, br#"{"route":"greeted","id":1,"body":null}"#);
            peer.send(&[request(PATH), first].concat());
            peer.expect_upgrade();
            assert_eq!(peer.json()["data"], "welcome");
            assert_eq!(peer.json()["body"], json!([true, ["hall"]]));
        }
    });
}

#[test]
fn pings_and_pongs() {
    both(|setup| {
        let (running, told) = start(setup, |_| {});
        let mut peer = open(&running);
        let long = [7; 125];
        for payload in [&b""[..], b"a", &long] {
            peer.send(&frame(PING, payload));
            peer.expect(PONG, payload);
            peer.send(&frame(PONG, payload));
        }
        peer.ask("noted", 1, json!(null));
        assert_eq!(got(&told).1, Established);
        for payload in [&b""[..], b"a", &long] {
            assert_eq!(got(&told).1, Ping(payload.to_vec()));
            assert_eq!(got(&told).1, Pong(payload.to_vec()));
        }
        assert_eq!(got(&told).1, Message);
        nothing(&told);
    });
}

#[test]
fn who_it_was() {
    both(|setup| {
        let (endpoint, told) = hooked(endpoint());
        let endpoint = endpoint.on_connect(|_, admission| {
            let identity = Identity::new("ann").ok();
            admission.accept(Accept { identity, ..Accept::default() });
        });
        let running = setup.serve(endpoint);
        open(&running).close(1000);
        let by = CloseCause::PeerClose;
        let ann = Some("ann".to_owned());
        assert_eq!(life(&told), [Established, Closing(by), Closed(Some(by), ann)]);
    });
}

#[test]
fn a_connection_that_was_refused_was_never_open() {
    both(|setup| {
        let (endpoint, told) = hooked(endpoint());
        let endpoint = endpoint.on_connect(|_, admission| admission.refuse(Refuse::new(401, "no")));
        let running = setup.serve(endpoint);
        let mut peer = Client::dial(addr(&running));
        peer.send(&request(PATH));
        assert_eq!(peer.head().status, 401);
        drop(peer);
        assert_eq!(life(&told), [Closed(None, None)]);
    });
}

#[test]
fn a_connection_that_is_reset_before_its_verdict_was_never_open() {
    both(|setup| {
        let (endpoint, told) = hooked(endpoint());
        let (tx, admissions) = mpsc::channel();
        let endpoint =
            endpoint.on_connect(move |_, admission| tx.send(admission).expect("the test waits"));
        let running = setup.serve(endpoint);
        let mut peer = Client::dial(addr(&running));
        peer.send(&request(PATH));
        let admission = got(&admissions);
        peer.reset();
        assert_eq!(life(&told), [Closed(None, None)]);
        admission.accept(Accept::default());
    });
}

/// Nobody hears of connections of other endpoints, or of what was no request for this one.
#[test]
fn others_are_not_heard_of() {
    both(|setup| {
        let (endpoint, told) = hooked(endpoint());
        let running = setup.start(only(endpoint).endpoint(crate::json_at("/other")));
        let mut other = Client::open(addr(&running), "/other");
        other.send(&frame(PING, b""));
        other.expect(PONG, b"");
        other.close(1000);
        other.expect_close(1000);
        let mut page = Client::dial(addr(&running));
        page.stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        assert_eq!(page.head().status, 200);
        drop((other, page));
        crate::all_gone(&running);
        drop(running);
        nothing(&told);
    });
}

#[test]
fn hooks_that_panic_end_nothing() {
    both(|setup| {
        let endpoint = endpoint()
            .on_established(|ctx| {
                ctx.push(ctx.conn(), "said before");
                panic!("a hook's panic");
            })
            .on_ping(|_, _| panic!("a hook's panic"))
            .on_pong(|_, _| panic!("a hook's panic"))
            .on_closing(|_, _| panic!("a hook's panic"))
            .on_closed(|_| panic!("a hook's panic"));
        let running = setup.serve(endpoint);
        let mut peer = open(&running);
        assert_eq!(peer.json()["data"], "said before");
        peer.send(&frame(PING, b"x"));
        peer.expect(PONG, b"x");
        peer.send(&frame(PONG, b"x"));
        assert_eq!(peer.ask("echo", 1, json!(1))["body"], 1);
        peer.close(1000);
        peer.expect_close(1000);
        stats_until(&running, "all counted", |s| s["worker_totals"]["panics"] == 5);
        crate::all_gone(&running);
        assert!(!running.has_failed());
        assert_eq!(running.stop(|| false).0, Stopped::Clean);
    });
}

/// Hooks may say something to others, when one has ended too.
#[test]
fn the_others_are_told() {
    both(|setup| {
        let endpoint = endpoint()
            .on_established(|ctx| ctx.join("hall").unwrap())
            .on_closing(|ctx, _| {
                ctx.leave("hall").unwrap();
                ctx.publish("hall", "goes", tidegate::SelfDelivery::Exclude).unwrap();
            })
            .on_closed(|ended| ended.gateway.publish("hall", "has gone").unwrap());
        let running = setup.serve(endpoint);
        let mut stays = open(&running);
        assert_eq!(stays.ask("echo", 1, json!(1))["body"], 1);
        let mut goes = open(&running);
        goes.close(1000);
        goes.expect_close(1000);
        assert_eq!(stays.json()["data"], "goes");
        assert_eq!(stays.json()["data"], "has gone");
    });
}
