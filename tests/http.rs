//! What the gateway answers to HTTP that opens no WebSocket, read off the socket.
//!
//! Every answer here ends its connection: by `Connection: close`, with a length that is right,
//! and by the end of the stream, never by a reset that could overtake it.

mod support;

use std::io::{ErrorKind, Write as _};
use std::net::Shutdown;
use std::thread;
use std::time::{Duration, Instant};

use support::Gateway;
use support::client::{Client, Head, KEY, request};

/// An answer, whole.
struct Answer {
    head: Head,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.header(name)
    }
}

/// Sends `request` and reads the answer to the end of the stream.
fn ask(gateway: &Gateway, request: &[u8]) -> Answer {
    let mut peer = Client::dial(gateway.addr);
    peer.send(request);
    read_answer(&mut peer, request.starts_with(b"HEAD "))
}

fn read_answer(peer: &mut Client, is_head: bool) -> Answer {
    let head = peer.head();
    let body = peer.response();
    let options = head.header("Connection").expect("Connection").to_ascii_lowercase();
    assert!(options.split(", ").any(|option| option == "close"), "{head:?}");
    let length: usize = head.header("Content-Length").expect("a length").parse().unwrap();
    assert_eq!(body.len(), if is_head { 0 } else { length }, "{head:?}");
    assert!(length > 0, "{head:?}");
    Answer { head, body }
}

fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n").into_bytes()
}

/// An upgrade request, with one of its lines replaced.
fn upgrade_but(from: &str, to: &str) -> Vec<u8> {
    let request = String::from_utf8(request("/echo")).unwrap();
    assert!(request.contains(from), "{from}");
    request.replacen(from, to, 1).into_bytes()
}

#[test]
fn pages() {
    let mut gateway = Gateway::start(&[]);
    let browser = b"GET /?x=1 HTTP/1.1\r\nHost: test\r\nAccept: text/html,*/*;q=0.8\r\n\
        Connection: keep-alive\r\nUpgrade-Insecure-Requests: 1\r\n\r\n";
    let page = ask(&gateway, browser);
    assert_eq!(page.head.status, 200);
    assert_eq!(page.header("Content-Type"), Some("text/html; charset=utf-8"));
    assert!(page.body.starts_with("<!doctype html>") && page.body.contains("tidegate"));

    let health = ask(&gateway, &get("/healthz"));
    assert_eq!((health.head.status, health.body.as_str()), (200, "ok\n"));
    let old = ask(&gateway, b"GET /healthz HTTP/1.0\r\n\r\n");
    assert_eq!(old.head.status, 200);

    for path in ["/", "/healthz", "/nowhere"] {
        let full = ask(&gateway, &get(path));
        let request = format!("HEAD {path} HTTP/1.1\r\nHost: test\r\n\r\n");
        let short = ask(&gateway, request.as_bytes());
        assert_eq!(short.head.status, full.head.status, "{path}");
        assert_eq!(short.head.headers, full.head.headers, "{path}");
    }
    let stats = gateway.stats_until("9 answers", |s| s["totals"]["http_responses"] == 9);
    assert_eq!(stats["refusals"]["not_found"], 2);
    assert_eq!(stats["totals"]["opened"], 0);
}

#[test]
fn refusals() {
    let mut gateway = Gateway::start(&["--max-header", "1KiB"]);
    let long = "x".repeat(2000);
    let fields: String = (0..100).map(|n| format!("a{n}: \r\n")).collect();
    let host = "Host: test\r\n";
    let cases: Vec<(u16, Vec<u8>)> = vec![
        (404, get("/nowhere")),
        (404, request("/nowhere")),
        (405, format!("POST / HTTP/1.1\r\n{host}\r\n").into()),
        (405, format!("BREW /echo HTTP/1.1\r\n{host}\r\n").into()),
        (405, upgrade_but("GET ", "HEAD ")),
        (414, get(&format!("/{long}"))),
        (431, format!("GET / HTTP/1.1\r\n{host}Cookie: {long}\r\n\r\n").into()),
        (431, format!("GET / HTTP/1.1\r\n{host}{fields}\r\n").into()),
        (505, format!("GET / HTTP/2.0\r\n{host}\r\n").into()),
        (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec()),
        (400, b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        (400, format!("GET / HTTP/1.1\r\n{host}{host}\r\n").into()),
        (400, format!("GET / HTTP/1.1\n{host}\r\n").into()),
        (400, format!("GET / HTTP/1.1\r\n{host}Content-Length: 5\r\n\r\n").into()),
        (400, format!("GET / HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\n\r\n").into()),
        (400, upgrade_but("Connection: Upgrade", "Connection: close")),
        (400, upgrade_but(KEY, "dGhlIHNhbXBsZQ==")),
        (400, upgrade_but(KEY, "not base64 at all, no?")),
        (426, get("/echo")),
        (426, upgrade_but("Version: 13", "Version: 8")),
    ];
    let refused = cases.len();
    for (status, request) in cases {
        let shown = String::from_utf8_lossy(&request[..request.len().min(200)]).into_owned();
        let answer = ask(&gateway, &request);
        assert_eq!(answer.head.status, status, "{shown}: {}", answer.body);
        match status {
            405 => assert!(answer.header("Allow").unwrap().contains("GET"), "{shown}"),
            426 => {
                assert_eq!(answer.header("Sec-WebSocket-Version"), Some("13"), "{shown}");
                assert_eq!(answer.header("Upgrade"), Some("websocket"), "{shown}");
            }
            _ => {}
        }
    }
    let sum = |s: &serde_json::Value| {
        let causes = ["bad_request", "not_found", "upgrade_required"];
        causes.map(|c| s["refusals"][c].as_u64().unwrap()).iter().sum::<u64>() as usize
    };
    let done = |s: &serde_json::Value| sum(s) == refused && s["totals"]["connections"] == 0;
    let stats = gateway.stats_until("all refused and nobody left", done);
    assert_eq!(stats["refusals"]["upgrade_required"], 2);
}

#[test]
fn requests_may_drip_in() {
    let gateway = Gateway::start(&[]);
    for request in [get("/healthz"), get("/nowhere")] {
        let mut peer = Client::dial(gateway.addr);
        for byte in request {
            peer.send(&[byte]);
        }
        let answer = read_answer(&mut peer, false);
        assert!(matches!(answer.head.status, 200 | 404));
    }
}

#[test]
fn heads_may_be_as_long_as_allowed() {
    // Longer than the loop's read buffer is by itself.
    let gateway = Gateway::start(&["--max-header", "256KiB"]);
    let cookie = "c".repeat(200_000);
    let request =
        format!("GET /healthz HTTP/1.1\r\nHost: test\r\nCookie: {cookie}\r\n\r\n").into_bytes();
    assert_eq!(ask(&gateway, &request).head.status, 200);
    let cookie = "c".repeat(300_000);
    let request =
        format!("GET /healthz HTTP/1.1\r\nHost: test\r\nCookie: {cookie}\r\n\r\n").into_bytes();
    assert_eq!(ask(&gateway, &request).head.status, 431);
}

#[test]
fn no_reset_while_the_client_still_sends() {
    let gateway = Gateway::start(&["--close-timeout", "60s"]);
    for request in [
        b"POST /upload HTTP/1.1\r\nHost: test\r\nContent-Length: 8000000\r\n\r\n".as_slice(),
        b"GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n",
    ] {
        let mut peer = Client::dial(gateway.addr);
        peer.send(request);
        let mut sending = peer.writer();
        let sender = thread::spawn(move || {
            // Until well after the answer: only the gateway's end of the stream ends it.
            for _ in 0..500 {
                sending.write_all(&[b'x'; 16 * 1024]).expect("no reset");
            }
            sending.shutdown(Shutdown::Write).expect("no reset");
        });
        let answer = read_answer(&mut peer, false);
        assert!(matches!(answer.head.status, 405 | 200), "{:?}", answer.head);
        sender.join().expect("all was sent");
    }
}

#[test]
fn a_client_that_never_stops_sending_is_left_in_time() {
    let mut gateway = Gateway::start(&["--close-timeout", "200ms"]);
    let mut peer = Client::dial(gateway.addr);
    peer.send(b"POST / HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(read_answer(&mut peer, false).head.status, 405);
    let began = Instant::now();
    let error = loop {
        match peer.stream.write_all(&[b'x'; 1024]) {
            Ok(()) => assert!(began.elapsed() < Duration::from_secs(30), "never left"),
            Err(e) => break e,
        }
    };
    assert!(matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{error}");
    gateway.stats_until("nobody", |s| s["totals"]["connections"] == 0);
}

#[test]
fn over_the_maximum_is_503() {
    let mut gateway = Gateway::start(&["--loops", "2", "--max-connections", "2"]);
    let held = [(); 2].map(|()| Client::open(gateway.addr, "/echo"));
    for request in [request("/echo"), get("/healthz")] {
        let answer = ask(&gateway, &request);
        assert_eq!(answer.head.status, 503);
        let seconds: u32 = answer.header("Retry-After").expect("a time").parse().unwrap();
        assert!(seconds > 0);
    }
    gateway.stats_until("2 refused", |s| s["refusals"]["full"] == 2);
    drop(held);
    gateway.stats_until("room again", |s| s["totals"]["connections"] == 0);
    let _third = Client::open(gateway.addr, "/echo");
}

#[test]
fn a_head_that_does_not_end_is_408() {
    let mut gateway = Gateway::start(&["--handshake-timeout", "200ms"]);
    let mut peer = Client::dial(gateway.addr);
    peer.send(b"GET /echo HTTP/1.1\r\nHost: te");
    assert_eq!(read_answer(&mut peer, false).head.status, 408);
    gateway.stats_until("it counted", |s| s["refusals"]["handshake_timeout"] == 1);
}
