//! What sockets do: bytes cut anywhere, ends and resets at any moment, bursts, floods, and peers
//! that do not read.

mod support;

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc::sync_channel;
use std::thread;

use nix::sys::signal::Signal;
use serde_json::Value;

use support::Gateway;
use support::client::{
    BINARY, CLOSE, CONTINUATION, Client, PING, PONG, TEXT, close_frame, fragment, frame, request,
};
use support::process::{raise_descriptor_limit, resident_kib};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

#[test]
fn data_and_fin_in_one_segment() {
    both(|gateway| {
        for round in 0..100_u32 {
            let mut client = Client::echo(gateway.addr);
            client.cork();
            let texts: Vec<_> = (0..3).map(|i| format!("{round}.{i}").into_bytes()).collect();
            client.send(&frames(&texts));
            client.finish();
            expect_all_and_1002(&mut client, &texts);
        }
        let stats = gateway.stats_until("all gone", |stats| connections(stats) == 0);
        assert_eq!(stats["closes"]["peer_eof"], 100);
    });
}

#[test]
fn request_data_and_fin_in_one_segment() {
    both(|gateway| {
        for round in 0..100_u32 {
            let mut client = Client::dial(gateway.addr);
            let texts: Vec<_> = (0..3).map(|i| format!("{round}.{i}").into_bytes()).collect();
            client.cork();
            client.send(&[request("/echo"), frames(&texts)].concat());
            client.finish();
            client.expect_upgrade();
            expect_all_and_1002(&mut client, &texts);
        }
        let stats = gateway.stats_until("all gone", |stats| connections(stats) == 0);
        assert_eq!(stats["totals"]["opened"], 100);
    });
}

#[test]
fn request_data_close_and_fin_in_one_segment() {
    both(|gateway| {
        let mut client = Client::dial(gateway.addr);
        let texts = vec![b"last words".to_vec()];
        client.cork();
        client.send(&[request("/echo"), frames(&texts), close_frame(1000)].concat());
        client.finish();
        client.expect_upgrade();
        client.expect(BINARY, &texts[0]);
        client.expect_close(1000);
        client.expect_end();
    });
}

#[test]
fn handshake_and_frames_byte_by_byte() {
    both(|gateway| {
        let mut client = Client::dial(gateway.addr);
        let text = "grüße, 世界".as_bytes();
        for byte in request("/echo") {
            client.send(&[byte]);
        }
        for byte in [fragment(TEXT, &text[..4]), frame(PING, b"?"), frame(CONTINUATION, &text[4..])]
            .concat()
        {
            client.send(&[byte]);
        }
        client.expect_upgrade();
        client.expect(PONG, b"?");
        client.expect(TEXT, text);
        gateway.stats_until("the head forgotten", |stats| is_left_with(stats, 1));
        client.send(&close_frame(1000));
        client.expect_close(1000);
        client.expect_end();
    });
}

#[test]
fn first_frames_behind_the_request() {
    both(|gateway| {
        let texts: Vec<_> = (0..40).map(|i| vec![b'a' + i; usize::from(i) * 40]).collect();
        let all = [request("/echo"), frames(&texts)].concat();
        let head = request("/echo").len();
        // Cut inside the head, at its end, inside a frame's header, and nowhere.
        for cut in [1, head - 1, head, head + 1, head + 3, head + 700, all.len()] {
            let mut client = Client::dial(gateway.addr);
            client.send(&all[..cut]);
            // Whatever came first has been read when another connection is served on each loop.
            for _ in 0..4 {
                Client::echo(gateway.addr).echoes(b"a turn");
            }
            client.send(&all[cut..]);
            client.expect_upgrade();
            for text in &texts {
                client.expect(BINARY, text);
            }
        }
    });
}

#[test]
fn a_burst_of_5000() {
    raise_descriptor_limit(5_100);
    let mut gateway = Gateway::start(&["--loops", "2", "--workers", "2", "--backlog", "4096"]);
    // Stopped, so that all of them stand in the backlog when it goes on.
    gateway.signal(Signal::SIGSTOP);
    let mut clients: Vec<_> = (0..5_000).map(|_| Client::dial(gateway.addr)).collect();
    for (i, client) in clients.iter_mut().enumerate() {
        client.send(&[request("/echo"), frame(BINARY, &i.to_be_bytes())].concat());
    }
    gateway.signal(Signal::SIGCONT);
    for (i, client) in clients.iter_mut().enumerate() {
        client.expect_upgrade();
        client.expect(BINARY, &i.to_be_bytes());
    }
    let stats = gateway.stats();
    assert_eq!(stats["totals"]["open"], 5_000);
    assert_eq!(stats["refusals"]["full"], 0);
    drop(clients);
    gateway.stats_until("all gone", |stats| connections(stats) == 0);
}

#[test]
fn a_firehose_beside_1000_quiet_clients() {
    both(|gateway| {
        let mut quiet: Vec<_> = (0..1_000).map(|_| Client::echo(gateway.addr)).collect();
        let firehose = Firehose::start(gateway.addr);
        let before = gateway.stats_until("the firehose", |stats| messages_in(stats) > 10_000);
        for round in 0..3_u32 {
            for client in &mut quiet {
                client.send(&frame(BINARY, &round.to_be_bytes()));
            }
            for client in &mut quiet {
                client.expect(BINARY, &round.to_be_bytes());
            }
        }
        let after = gateway.stats_until("the firehose go on", |stats| {
            messages_in(stats) > messages_in(&before) + 13_000
        });
        assert_eq!(after["totals"]["open"], 1_001);
        firehose.stop();
    });
}

#[test]
fn a_peer_that_does_not_read_is_closed_at_the_outbound_limit() {
    let args = ["--outbound-limit", "256KiB", "--close-timeout", "500ms", "--write-timeout", "1h"];
    let mut gateway = Gateway::start(&[&["--loops", "1"], &args[..]].concat());
    let mut other = Client::echo(gateway.addr);
    let deaf = Client::dial_buffered(gateway.addr, 16 * KIB);
    let pushing = flood_without_reading(deaf, &frame(BINARY, &[7; 16 * KIB]));
    while gateway.stats()["closes"]["outbound_limit"] != 1 {
        other.echoes(b"undisturbed");
    }
    pushing.stop();
    other.echoes(b"still there");
    let stats = gateway.stats_until("it gone", |stats| is_left_with(stats, 1));
    assert_eq!(stats["totals"]["closed"], 1);
}

#[test]
fn a_peer_over_the_outbound_limit_reads_whole_frames_and_the_close() {
    let mut gateway = Gateway::start(&["--outbound-limit", "256KiB", "--close-timeout", "1m"]);
    let mut client = Client::dial_buffered(gateway.addr, 16 * KIB);
    client.upgrade("/echo");
    let message = vec![3; 10_000];
    // More than the kernel takes for a peer that does not read, so that the limit is hit.
    for _ in 0..1_000 {
        client.send(&frame(BINARY, &message));
    }
    let stats = gateway.stats_until("the rest read", |stats| bytes_in(stats) > 10_000_000);
    assert_eq!(stats["totals"]["closed"], 0, "it waits for its Close to be read");
    let got = client.rest_after_close();
    assert!(!got.is_empty() && got.len() < 1_000, "{} frames", got.len());
    assert!(got.iter().all(|frame| frame.payload == message), "a frame was cut");
    let stats = gateway.stats_until("it gone", |stats| connections(stats) == 0);
    assert_eq!(stats["closes"]["outbound_limit"], 1);
    // What was read before has its answers dropped, what was read later is not routed at all.
    let drops = |cause: &str| stats["drops"][cause].as_u64().unwrap();
    let dropped = drops("after_close") + drops("inbound_after_close");
    assert!(dropped > 0 && dropped < 1_000 - got.len() as u64, "{dropped} dropped");
}

#[test]
fn a_burst_over_the_outbound_limit_that_the_kernel_takes_is_no_overflow() {
    for workers in ["0", "1"] {
        let args = ["--loops", "1", "--workers", workers, "--outbound-limit", "128KiB"];
        let mut gateway = Gateway::start(&args);
        // Room in the kernel for all of it, whenever the client reads.
        let mut client = Client::dial_buffered(gateway.addr, 4 * MIB);
        client.upgrade("/echo");
        for _ in 0..30 {
            client.send(&frame(BINARY, &[5; KIB]).repeat(512));
            for _ in 0..512 {
                client.expect(BINARY, &[5; KIB]);
            }
        }
        assert_eq!(gateway.stats()["closes"]["outbound_limit"], 0);
    }
}

#[test]
fn a_peer_that_does_not_read_is_closed_at_the_write_timeout() {
    let mut gateway = Gateway::start(&[
        "--loops",
        "1",
        "--outbound-limit",
        "256MiB",
        "--write-timeout",
        "500ms",
        "--ping-interval",
        "1h",
    ]);
    let mut other = Client::echo(gateway.addr);
    let mut deaf = Client::dial_buffered(gateway.addr, 16 * KIB);
    deaf.upgrade("/echo");
    // More than the kernel keeps between the two; the gateway takes all of it.
    let message = frame(BINARY, &[9; 64 * KIB]);
    for _ in 0..200 {
        deaf.send(&message);
    }
    while gateway.stats()["closes"]["write_timeout"] != 1 {
        other.echoes(b"undisturbed");
    }
    gateway.stats_until("it gone", |stats| is_left_with(stats, 1));
    other.echoes(b"still there");
}

#[test]
fn empty_fragments_cost_nothing() {
    for (limit, code) in [("4096", Some(1009)), ("1_000_000", None)] {
        let gateway = Gateway::start(&["--max-fragments", limit]);
        let mut client = Client::echo(gateway.addr);
        client.echoes(b"warm");
        let before = resident_kib(gateway.pid);
        let mut fragments = fragment(TEXT, b"");
        fragments.extend(fragment(CONTINUATION, b"").repeat(200_000));
        // Past the limit the gateway may have closed while the rest is still being written.
        let _ = client.stream.write_all(&fragments);
        let _ = client.stream.write_all(&frame(CONTINUATION, b"end"));
        match code {
            Some(code) => client.expect_close(code),
            None => client.expect(TEXT, b"end"),
        }
        let grown = resident_kib(gateway.pid).saturating_sub(before);
        assert!(grown < 4 * 1024, "{grown} KiB for empty fragments");
    }
}

#[test]
fn announced_lengths_cost_nothing() {
    let mut gateway = Gateway::start(&["--max-frame", "1GiB", "--max-message", "1GiB"]);
    let header = |len: u64| [&[0x82, 0xff][..], &len.to_be_bytes(), &[1, 2, 3, 4]].concat();
    Client::echo(gateway.addr).echoes(&[1; 100_000]);
    let before = resident_kib(gateway.pid);
    for (len, code) in [(1 << 63, 1002), (1 << 62, 1009), ((1 << 30) + 1, 1009)] {
        for _ in 0..50 {
            let mut client = Client::echo(gateway.addr);
            client.send(&header(len));
            client.expect_close(code);
        }
    }
    // Allowed, but it has yet to come.
    let mut waiting: Vec<_> = (0..50).map(|_| Client::echo(gateway.addr)).collect();
    let opened = gateway.stats();
    for client in &mut waiting {
        client.send(&header(1 << 30));
    }
    let sent = bytes_in(&opened) + 50 * header(1 << 30).len() as u64;
    gateway.stats_until("the headers read", |stats| bytes_in(stats) == sent);
    let grown = resident_kib(gateway.pid).saturating_sub(before);
    assert!(grown < 4 * 1024, "{grown} KiB for lengths");
}

#[test]
fn a_ping_flood_is_answered_in_order() {
    both(|gateway| {
        const PINGS: u32 = 200_000;
        let mut client = Client::echo(gateway.addr);
        let mut writer = client.writer();
        let (tokens, taken) = sync_channel(8);
        let flood = thread::spawn(move || {
            for first in (0..PINGS).step_by(1_000) {
                let pings: Vec<_> =
                    (first..first + 1_000).flat_map(|i| frame(PING, &i.to_be_bytes())).collect();
                writer.write_all(&pings).unwrap();
                tokens.send(()).unwrap();
            }
        });
        for i in 0..PINGS {
            if i % 1_000 == 0 {
                taken.recv().unwrap();
            }
            client.expect(PONG, &i.to_be_bytes());
        }
        flood.join().unwrap();
        assert_eq!(gateway.stats()["totals"]["pings_in"], PINGS);
    });
}

#[test]
fn a_ping_flood_without_reading_is_closed() {
    let args = ["--outbound-limit", "64KiB", "--close-timeout", "300ms"];
    let mut gateway = Gateway::start(&args);
    let deaf = Client::dial_buffered(gateway.addr, 16 * KIB);
    let pushing = flood_without_reading(deaf, &frame(PING, &[b'p'; 125]).repeat(100));
    gateway.stats_until("it closed", |stats| stats["closes"]["outbound_limit"] == 1);
    pushing.stop();
    Client::echo(gateway.addr).echoes(b"still there");
}

#[test]
fn resets_in_every_phase() {
    for workers in ["0", "2"] {
        let args = ["--loops", "2", "--workers", workers, "--outbound-limit", "64MiB"];
        let mut gateway = Gateway::start(&args);
        for _ in 0..30 {
            for phase in PHASES {
                let mut client = Client::dial_buffered(gateway.addr, 16 * KIB);
                phase(&mut client);
                client.reset();
            }
        }
        Client::echo(gateway.addr).echoes(b"still there");
        let stats = gateway.stats_until("all gone", |stats| is_left_with(stats, 0));
        let totals = &stats["totals"];
        assert_eq!(totals["opened"], totals["closed"]);
        assert!(gateway.stop().success());
    }
}

/// What a client has done when it resets the connection.
const PHASES: &[fn(&mut Client)] = &[
    |_| {},
    |client| client.send(&request("/echo")[..40]),
    |client| client.send(&request("/echo")),
    |client| client.send(&request("/nowhere")),
    |client| client.send(b"\r\n\r\nno request\r\n\r\n"),
    |client| client.upgrade("/echo"),
    |client| {
        client.upgrade("/echo");
        client.send(&frame(BINARY, b"answered while it leaves"));
    },
    |client| {
        client.upgrade("/echo");
        client.send(&frame(BINARY, &[1; 5_000])[..2_500]);
    },
    |client| {
        client.upgrade("/echo");
        client.send(&fragment(TEXT, b"unfinished"));
    },
    |client| {
        client.upgrade("/echo");
        client.send(&frame(BINARY, &[2; 64 * KIB]).repeat(8));
    },
    |client| {
        client.upgrade("/echo");
        client.send(&close_frame(1000));
    },
    |client| {
        client.upgrade("/echo");
        client.send(&close_frame(1000));
        client.expect_close(1000);
    },
    |client| {
        client.upgrade("/echo");
        client.send(&[0xff; 300]);
    },
    |client| {
        client.upgrade("/echo");
        client.send(&[0xff; 300]);
        client.expect_close(1002);
    },
    |client| {
        client.upgrade("/echo");
        client.finish();
    },
];

#[test]
fn a_slow_reader_gets_every_byte_in_order() {
    both(|gateway| {
        let mut client = Client::dial_buffered(gateway.addr, 16 * KIB);
        client.upgrade("/echo");
        let messages = messages_of(16 * MIB);
        for message in &messages {
            client.send(&frame(BINARY, message));
        }
        let all = messages.len() as u64;
        gateway.stats_until("all routed", |stats| {
            stats["totals"]["messages_out"].as_u64() == Some(all)
        });
        for message in &messages {
            client.expect(BINARY, message);
        }
        client.send(&close_frame(1000));
        client.expect_close(1000);
        gateway.stats_until("it gone", |stats| is_left_with(stats, 0));
    });
}

/// Messages of many sizes, no two alike, of so many bytes together.
fn messages_of(bytes: usize) -> Vec<Vec<u8>> {
    let (mut messages, mut total, mut seed) = (Vec::new(), 0, 1_u64);
    while total < bytes {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let len = (1 << (seed >> 60)) + (seed >> 40) as usize % 4_096;
        let message: Vec<_> = (0..len).map(|i| (i as u64 ^ seed >> 20) as u8).collect();
        total += len;
        messages.push(message);
    }
    messages
}

/// Runs a test with routing on the loop and on workers; one loop, so that all share it.
fn both(test: impl Fn(&mut Gateway)) {
    for workers in ["0", "2"] {
        let args = ["--loops", "1", "--workers", workers, "--outbound-limit", "64MiB"];
        let mut gateway = Gateway::start(&args);
        test(&mut gateway);
        assert!(gateway.stop().success(), "with {workers} workers");
    }
}

fn frames(messages: &[Vec<u8>]) -> Vec<u8> {
    messages.iter().flat_map(|message| frame(BINARY, message)).collect()
}

/// All messages back, then the Close of a stream that ended without one, then the end.
fn expect_all_and_1002(client: &mut Client, messages: &[Vec<u8>]) {
    for message in messages {
        client.expect(BINARY, message);
    }
    client.expect_close(1002);
    client.expect_end();
}

fn connections(stats: &Value) -> u64 {
    stats["totals"]["connections"].as_u64().unwrap()
}

/// So many connections, and nothing kept for any.
fn is_left_with(stats: &Value, left: u64) -> bool {
    let totals = &stats["totals"];
    connections(stats) == left && totals["outbox_bytes"] == 0 && totals["inbound_bytes"] == 0
}

fn bytes_in(stats: &Value) -> u64 {
    stats["totals"]["bytes_in"].as_u64().unwrap()
}

fn messages_in(stats: &Value) -> u64 {
    stats["totals"]["messages_in"].as_u64().unwrap()
}

/// A thread that works until it is told to stop.
struct Background {
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<()>,
}

impl Background {
    fn start(work: impl FnOnce(&AtomicBool) + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        Self { stop, thread: thread::spawn(move || work(&told)) }
    }

    fn stop(self) {
        self.stop.store(true, SeqCst);
        self.thread.join().unwrap();
    }
}

/// Opens a WebSocket and sends `bytes` again and again without reading, until the gateway resets
/// it or it is told to stop.
fn flood_without_reading(mut client: Client, bytes: &[u8]) -> Background {
    client.upgrade("/echo");
    let bytes = bytes.to_vec();
    Background::start(
        move |stop| {
            while !stop.load(SeqCst) && client.stream.write_all(&bytes).is_ok() {}
        },
    )
}

/// One client that sends as fast as it gets its echoes.
struct Firehose;

impl Firehose {
    fn start(addr: SocketAddr) -> Background {
        Background::start(move |stop| {
            let mut client = Client::echo(addr);
            let mut writer = client.writer();
            let chunk = frame(BINARY, &[1; 50]).repeat(1_000);
            let (tokens, taken) = sync_channel(32);
            thread::scope(|scope| {
                scope.spawn(move || {
                    while !stop.load(SeqCst) && tokens.send(()).is_ok() {
                        writer.write_all(&chunk).unwrap();
                    }
                });
                while taken.recv().is_ok() {
                    for _ in 0..1_000 {
                        client.expect(BINARY, &[1; 50]);
                    }
                }
            });
        })
    }
}

impl Client {
    /// Reads up to the Close with 1008, and ends; the frames before it.
    fn rest_after_close(&mut self) -> Vec<support::client::Frame> {
        let mut frames = Vec::new();
        loop {
            let frame = self.frame().expect("a Close, not the end");
            if frame.opcode == CLOSE {
                assert_eq!(frame.close_code(), Some(1008));
                self.send(&close_frame(1008));
                return frames;
            }
            frames.push(frame);
        }
    }
}
