//! Failing tests of the core's review.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use tidegate::app::Running;
use tidegate::dialect::{Body, CustomDialect, Dialect, ErrorAnswer, Message, NotUnderstood, Push};
use tidegate::protocol::MessageKind;
use tidegate::routing::{Endpoint, Gateway};

fn start(workers: usize, change: impl FnOnce(&mut tidegate::config::Config)) -> Running {
    Gateway::builder()
        .configure(|c| {
            c.listen = vec![([127, 0, 0, 1], 0).into()];
            c.loops = 1;
            c.workers = workers;
            c.max_connections = 64;
            change(c);
        })
        .endpoint(
            Endpoint::new("/custom", Dialect::Custom(std::sync::Arc::new(Bomb)))
                .fallback(|ctx, m| ctx.push(ctx.conn(), m.body)),
        )
        .start()
        .unwrap()
}

struct Bomb;

impl CustomDialect for Bomb {
    fn decode<'a>(&self, _: MessageKind, p: &'a [u8]) -> Result<Message<'a>, NotUnderstood<'a>> {
        Ok(Message::push("".into(), Body::Binary(p)))
    }
    fn encode_answer(
        &self,
        _: &mut Vec<u8>,
        _: Option<&[u8]>,
        _: Result<Body<'_>, &ErrorAnswer<'_>>,
    ) -> MessageKind {
        panic!("encode_answer")
    }
    fn encode_push(&self, _: &mut Vec<u8>, _: &Push<'_>) -> MessageKind {
        panic!("encode_push")
    }
}

fn request(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

fn head(s: &mut TcpStream) {
    let mut got = Vec::new();
    let mut byte = [0];
    while !got.ends_with(b"\r\n\r\n") {
        s.read_exact(&mut byte).unwrap();
        got.push(byte[0]);
    }
    assert!(got.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&got));
}

fn connect(addr: SocketAddr, path: &str) -> TcpStream {
    let mut s = TcpStream::connect(addr).unwrap();
    s.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    s.set_nodelay(true).unwrap();
    s.write_all(request(path).as_bytes()).unwrap();
    head(&mut s);
    s
}

/// A masked binary frame under a mask of zeros.
fn frame(op: u8, len: usize, sent: usize) -> Vec<u8> {
    let mut out = vec![op];
    if len < 126 {
        out.push(0x80 | len as u8);
    } else if len < 65536 {
        out.push(0x80 | 126);
        out.extend_from_slice(&(len as u16).to_be_bytes());
    } else {
        out.push(0x80 | 127);
        out.extend_from_slice(&(len as u64).to_be_bytes());
    }
    out.extend_from_slice(&[0; 4]);
    out.resize(out.len() + sent, b'x');
    out
}

fn wait(what: &str, mut until: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(5);
    while !until() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_head_that_drips_in_leaves_no_inbound_bytes_behind() {
    let running = start(1, |_| {});
    for _ in 0..4 {
        let mut s = TcpStream::connect(running.addresses()[0]).unwrap();
        s.set_nodelay(true).unwrap();
        let text =
            request("/echo").replace("Host: x", &format!("Host: x\r\nX-Pad: {}", "p".repeat(6000)));
        for piece in text.as_bytes().chunks(200) {
            s.write_all(piece).unwrap();
            std::thread::sleep(Duration::from_millis(2));
        }
        head(&mut s);
    }
    wait("all closed", || running.stats()["totals"]["closed"].as_u64() != Some(0));
    std::thread::sleep(Duration::from_millis(200));
    let stats = running.stats();
    println!("{}", serde_json::to_string_pretty(&stats["buffers"]).unwrap());
    let text = stats.to_string();
    let at = text.find("\"inbound_bytes\":").unwrap();
    println!("{}", &text[at..at + 40]);
    assert_eq!(stats["buffers"]["inbound_bytes"].as_u64(), Some(0));
}

#[test]
fn the_total_is_no_less_than_what_is_held_after_traffic() {
    let running = start(1, |_| {});
    let mut s = connect(running.addresses()[0], "/echo");
    let one = frame(0x82, 60_000, 60_000);
    let mut back = vec![0; 60_004];
    for _ in 0..200 {
        s.write_all(&one).unwrap();
        s.read_exact(&mut back).unwrap();
    }
    // 900 KB of an unfinished message.
    s.write_all(&frame(0x82, 1_000_000, 900_000)).unwrap();
    let inbound = |r: &Running| r.stats()["buffers"]["inbound_bytes"].as_u64().unwrap();
    wait("inbound held", || inbound(&running) > 500_000);
    let stats = running.stats();
    println!("{}", stats["buffers"]);
    assert!(stats["buffers"]["total_bytes"].as_u64().unwrap() >= 500_000);
}

#[test]
fn a_custom_dialect_that_panics_kills_no_loop() {
    let running = start(1, |_| {});
    let mut s = connect(running.addresses()[0], "/custom");
    s.write_all(&frame(0x82, 3, 3)).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let mut e = connect(running.addresses()[0], "/echo");
    e.write_all(&frame(0x82, 3, 3)).unwrap();
    let mut back = [0; 5];
    e.read_exact(&mut back).unwrap();
}

#[test]
fn shedding_counts_the_shared_frames_that_a_slow_client_pins() {
    let running = start(1, |c| {
        c.memory_limit_bytes = 4 << 20;
        c.outbound_limit_bytes = 256 << 20;
    });
    let mut slow = connect(running.addresses()[0], "/ws");
    let mut join = frame(0x81, 0, 0);
    let text = br#"{"route":"join","id":1,"body":{"room":"r"}}"#;
    join.clear();
    join.extend_from_slice(&[0x81, 0x80 | text.len() as u8, 0, 0, 0, 0]);
    join.extend_from_slice(text);
    slow.write_all(&join).unwrap();
    let mut byte = [0; 2];
    slow.read_exact(&mut byte).unwrap();
    let body = "y".repeat(500_000);
    for _ in 0..60 {
        running.gateway().publish("r", body.as_str()).unwrap();
    }
    std::thread::sleep(Duration::from_millis(600));
    let stats = running.stats();
    println!("{}", stats["buffers"]);
    let (total, limit) = (&stats["buffers"]["total_bytes"], &stats["buffers"]["limit_bytes"]);
    assert!(total.as_u64() <= limit.as_u64(), "{total} held under a ceiling of {limit}");
}
