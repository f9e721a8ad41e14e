//! `on_connect`: deciding on a connection before its upgrade is answered.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use serde_json::json;
use tidegate::{
    Accept, Admission, ConnectRequest, Endpoint, Gateway, GatewayBuilder, Identity, Refuse,
};

use crate::client::{Client, Frame, TEXT, frame, request};
use crate::{start, start_with, stats_until};

/// A gateway whose hook hands requests with the query `wait` out, and accepts all others.
fn hands_out() -> (GatewayBuilder, mpsc::Receiver<Admission>) {
    let (tx, rx) = mpsc::channel();
    let builder = Gateway::builder().on_connect(move |request, admission| match request.query {
        Some("wait") => tx.send(admission).expect("the test waits"),
        _ => admission.accept(Accept::default()),
    });
    (builder, rx)
}

/// A gateway whose hook is this.
fn with_hook(
    hook: impl Fn(&ConnectRequest<'_>, Admission) + Send + Sync + 'static,
) -> GatewayBuilder {
    Gateway::builder().on_connect(hook)
}

fn identified(rooms: &[&str]) -> Accept {
    Accept {
        identity: Identity::new("ann").ok(),
        rooms: rooms.iter().map(|&room| room.to_owned()).collect(),
        ..Accept::default()
    }
}

#[test]
fn a_hook_may_answer_after_two_seconds() {
    thread::scope(|scope| {
        for workers in [0, 2] {
            scope.spawn(move || answers_after_two_seconds(workers));
        }
    });
}

fn answers_after_two_seconds(workers: usize) {
    let (builder, admissions) = hands_out();
    let running = start(builder, workers);
    let addr = running.addresses()[0];
    let mut slow = Client::dial(addr);
    let mut request = request("/echo?wait");
    for n in 0..3 {
        request.extend(frame(TEXT, format!("pipelined {n}").as_bytes()));
    }
    slow.send(&request);
    let admission = admissions.recv().unwrap();
    let answered = Arc::new(AtomicBool::new(false));
    let answering = {
        let answered = Arc::clone(&answered);
        thread::spawn(move || {
            thread::sleep(Duration::from_secs(2));
            answered.store(true, SeqCst);
            admission.accept(Accept::default());
        })
    };
    let mut served = 0;
    while !answered.load(SeqCst) {
        let mut other = Client::open(addr, "/echo");
        other.text("meanwhile");
        assert_eq!(other.read_text(), "meanwhile");
        served += 1;
        thread::sleep(Duration::from_millis(20));
    }
    assert!(served > 1, "nobody was served meanwhile");
    assert_eq!(slow.head().status, 101);
    assert!(answered.load(SeqCst));
    slow.text("behind");
    for n in 0..3 {
        assert_eq!(slow.read_text(), format!("pipelined {n}"));
    }
    assert_eq!(slow.read_text(), "behind");
    answering.join().unwrap();
}

#[test]
fn more_may_be_pipelined_than_is_kept() {
    for workers in [0, 2] {
        let (builder, admissions) = hands_out();
        let running = start_with(builder, workers, |config| config.max_header_bytes = 512);
        let mut peer = Client::dial(running.addresses()[0]);
        let messages: Vec<String> =
            (0..2000).map(|n| format!("{n} {}", "x".repeat(n % 300))).collect();
        let mut bytes = request("/echo?wait");
        bytes.extend(messages.iter().flat_map(|message| frame(TEXT, message.as_bytes())));
        peer.send(&bytes);
        let admission = admissions.recv().unwrap();
        let waiting = stats_until(&running, "the head", |s| s["totals"]["bytes_in"] != 0);
        let kept = waiting["totals"]["inbound_bytes"].as_u64().unwrap();
        assert!((500..=1100).contains(&kept), "{kept} bytes are kept");
        admission.accept(identified(&["hall"]));
        assert_eq!(peer.head().status, 101);
        for message in messages {
            assert_eq!(peer.read_text(), message);
        }
    }
}

#[test]
fn the_handshake_deadline_runs_meanwhile() {
    for (workers, late) in [(0, Accept::default()), (2, Accept::default()), (1, identified(&["x"]))]
    {
        let (builder, admissions) = hands_out();
        let running = start_with(builder, workers, |config| {
            config.handshake_timeout = Duration::from_millis(150);
        });
        let mut peer = Client::dial(running.addresses()[0]);
        peer.send(&request("/echo?wait"));
        let admission = admissions.recv().unwrap();
        assert_eq!(peer.head().status, 408);
        peer.rest_bytes();
        drop(peer);
        let stats = stats_until(&running, "its end", |s| s["totals"]["connections"] == 0);
        assert_eq!(stats["refusals"]["handshake_timeout"], 1);
        // Their slots are free again: whoever has them now must not hear of the verdict.
        let mut others = [(); 4].map(|()| Client::dial(running.addresses()[0]));
        for other in &mut others {
            other.send(b"GET /echo HTTP/1.1\r\n");
        }
        stats_until(&running, "others", |s| s["totals"]["connections"] == 4);
        admission.accept(late);
        stats_until(&running, "the late verdict", |s| s["drops"]["stale_connection"] == 1);
        for other in &mut others {
            assert_eq!(other.head().status, 408);
        }
        assert_eq!(running.stats()["totals"]["opened"], 0);
    }
}

#[test]
fn what_a_hook_accepts_with() {
    for workers in [0, 1, 3] {
        let builder = with_hook(|request, admission| {
            assert_eq!((request.path, request.query), ("/ws", Some("a=b")));
            assert_eq!(request.header("x-token"), Some("t"));
            admission.accept(Accept {
                subprotocol: request.subprotocols().nth(1).map(str::to_owned),
                headers: vec![("X-Node".to_owned(), "seven".to_owned())],
                ..identified(&["hall", "tea", "hall"])
            });
        })
        .route("name", |ctx, _| {
            let name = ctx.identity().map(ToString::to_string);
            ctx.reply_json(&name);
        });
        let running = start(builder, workers);
        let headers = "X-Token: t\r\nSec-WebSocket-Protocol: one, two\r\n";
        let (mut peer, head) = Client::open_with(running.addresses()[0], "/ws?a=b", headers);
        assert_eq!(head.header("X-Node"), Some("seven"));
        assert_eq!(head.header("Sec-WebSocket-Protocol"), Some("two"));
        assert_eq!(peer.ask("name", 1, json!(null))["body"], "ann");
        assert_eq!(peer.ask("whoami", 2, json!(null))["body"]["identity"], "ann");
        for (id, room) in [(3, "hall"), (4, "tea")] {
            assert_eq!(peer.ask("members", id, json!({"room": room}))["body"]["members"], 1);
        }
        drop(peer);
        stats_until(&running, "no members", |s| s["worker_totals"]["memberships"] == 0);
    }
}

#[test]
fn rooms_are_joined_before_the_upgrade_is_answered() {
    for workers in [0, 3] {
        let running = start(with_hook(|_, a| a.accept(identified(&["a", "b", "c", "d"]))), workers);
        let (addr, gateway) = (running.addresses()[0], running.gateway().clone());
        for n in 0..100 {
            let mut peer = Client::open(addr, "/echo");
            let room = ["a", "b", "c", "d"][n % 4];
            gateway.publish(room, n.to_string().as_str()).unwrap();
            assert_eq!(peer.read_text(), n.to_string());
        }
    }
}

#[test]
fn what_a_hook_refuses_with() {
    let running = start(
        with_hook(|request, admission| {
            let status = request.query.and_then(|q| q.parse().ok()).expect("a status");
            admission.refuse(Refuse {
                status,
                headers: vec![("WWW-Authenticate".to_owned(), "Bearer".to_owned())],
                body: "not you\n".to_owned(),
            });
        }),
        2,
    );
    for (asked, answered) in [(401, 401), (403, 403), (429, 429), (599, 599), (99, 500), (600, 500)]
    {
        let mut peer = Client::dial(running.addresses()[0]);
        let mut request = request(&format!("/echo?{asked}"));
        // What was sent behind the request must not turn the answer's end into a reset.
        request.extend(frame(TEXT, &[b'x'; 5000]));
        peer.send(&request);
        let head = peer.head();
        assert_eq!(head.status, answered);
        assert_eq!(head.header("Connection"), Some("close"));
        assert_eq!(head.header("WWW-Authenticate"), Some("Bearer"));
        assert_eq!(peer.rest_bytes(), b"not you\n");
    }
    assert_eq!(running.stats()["refusals"]["hook"], 6);
}

#[test]
fn a_hook_that_fails_refuses_with_500() {
    for workers in [0, 2] {
        let builder = with_hook(|request, admission| match request.query {
            Some("drop") => drop(admission),
            Some("panic") => panic!("a hook's panic"),
            Some("elsewhere") => drop(thread::spawn(move || {
                let _held = admission;
                panic!("another thread's panic")
            })),
            _ => admission.accept(Accept::default()),
        });
        let running = start(builder, workers);
        let addr = running.addresses()[0];
        for how in ["drop", "panic", "elsewhere"] {
            let mut peer = Client::dial(addr);
            peer.send(&request(&format!("/echo?{how}")));
            assert_eq!(peer.head().status, 500, "{how}");
            peer.rest_bytes();
        }
        let mut peer = Client::open(addr, "/echo");
        peer.text("still there");
        assert_eq!(peer.read_text(), "still there");
        let stats = running.stats();
        assert_eq!(stats["worker_totals"]["panics"], 1);
        assert_eq!(stats["refusals"]["hook"], 3);
    }
}

#[test]
fn a_hook_can_not_inject_headers() {
    let bad: [(&str, &str); 6] = [
        ("X-Ok", "a\r\nInjected: yes"),
        ("X-Ok", "a\nInjected: yes"),
        ("X: y\r\nInjected", "yes"),
        ("Injected ", "yes"),
        ("Sec-WebSocket-Accept", "injected"),
        ("Transfer-Encoding", "chunked"),
    ];
    let running = start(
        with_hook(move |request, admission| {
            let (what, n) = request.query.unwrap().split_at(1);
            let (name, value) = bad[n.parse::<usize>().unwrap()];
            let headers = vec![(name.to_owned(), value.to_owned())];
            match what {
                "a" => admission.accept(Accept { headers, ..Accept::default() }),
                "i" => admission.accept(Accept { headers, ..identified(&["room"]) }),
                "s" => admission
                    .accept(Accept { subprotocol: Some(value.to_owned()), ..Accept::default() }),
                _ => admission.refuse(Refuse { headers, ..Refuse::new(403, "no\n") }),
            }
        }),
        2,
    );
    let cases = (0..bad.len()).flat_map(|n| ["a", "i", "r"].map(|what| (what, n)));
    for (what, n) in cases.chain([("s", 0), ("s", 1)]) {
        let mut peer = Client::dial(running.addresses()[0]);
        peer.send(&request(&format!("/echo?{what}{n}")));
        let head = peer.head();
        let body = String::from_utf8(peer.rest_bytes()).unwrap();
        assert_eq!(head.status, 500, "{what}{n}");
        let all = format!("{head:?}{body}").to_ascii_lowercase();
        assert!(!all.contains("injected") && !all.contains("chunked"), "{what}{n}: {all}");
    }
    stats_until(&running, "nobody", |s| {
        s["totals"]["connections"] == 0 && s["worker_totals"]["memberships"] == 0
    });
}

#[test]
fn an_endpoints_own_hook_goes_before_the_gateways() {
    let own = Endpoint::echo("/own").on_connect(|_, a| a.refuse(Refuse::new(403, "own\n")));
    let builder = with_hook(|_, a| a.refuse(Refuse::new(401, "all\n"))).endpoint(own);
    let running = start(builder, 1);
    for (path, body) in [("/own", "own\n"), ("/echo", "all\n"), ("/ws", "all\n")] {
        let mut peer = Client::dial(running.addresses()[0]);
        peer.send(&request(path));
        peer.head();
        assert_eq!(peer.rest_bytes(), body.as_bytes(), "{path}");
    }
}

#[test]
fn a_client_that_leaves_meanwhile_leaves_nothing() {
    for workers in [0, 2] {
        let (builder, admissions) = hands_out();
        let running = start(builder, workers);
        let mut peer = Client::dial(running.addresses()[0]);
        peer.send(&request("/ws?wait"));
        let admission = admissions.recv().unwrap();
        drop(peer);
        admission.accept(identified(&["hall"]));
        stats_until(&running, "its end", |s| {
            s["totals"]["connections"] == 0 && s["worker_totals"]["memberships"] == 0
        });
        let mut next = Client::open(running.addresses()[0], "/ws");
        let who = next.ask("whoami", 1, json!(null));
        assert_eq!(who["body"]["identity"], json!(null), "not its predecessor's");
        next.close(1000);
        assert_eq!(next.frame(), Some(Frame::close(1000)));
    }
}
