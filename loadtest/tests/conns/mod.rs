//! What the tests of commands that end connections share: the real gateway in this process, a small
//! server that misbehaves, and the program itself.

// Each test binary uses its own part.
#![allow(dead_code)]

#[path = "../program/mod.rs"]
mod program;

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    thread,
    time::Duration,
};

use serde_json::Value;
use tidegate::{Gateway, Running};

pub(crate) use program::{Run, help, loadtest, refused};

/// Runs the program against a URL.
pub(crate) fn program(arguments: &str, url: &str) -> Run {
    program::run(arguments, url, &[])
}

/// A gateway on a port of its own, that gives a handshake so long.
pub(crate) fn gateway(handshake_timeout: Duration) -> Running {
    Gateway::builder()
        .listen((Ipv4Addr::LOCALHOST, 0))
        .configure(|config| {
            config.loops = 1;
            config.workers = 0;
            config.handshake_timeout = handshake_timeout;
        })
        .start()
        .unwrap()
}

/// Ends a gateway; its statistics, in which nobody is left.
pub(crate) fn stopped(gateway: Running) -> Value {
    let (_, stats) = gateway.stop(|| false);
    let totals = &stats["totals"];
    assert_eq!(totals["connections"], 0, "{stats}");
    assert_eq!(totals["opened"], totals["closed"], "{stats}");
    stats
}

/// The sum of the counts of an object.
pub(crate) fn sum(counts: &Value) -> u64 {
    counts.as_object().unwrap().values().filter_map(Value::as_u64).sum()
}

/// How a server treats its clients, counted from 0.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Mood {
    /// Refuses every third with 503, from number so much on.
    Refusing(usize),
    /// Answers the ping of every third wrongly, from number so much on.
    Mispinging(usize),
    /// Never answers a ping, from number so much on.
    Mute(usize),
    /// Never answers a handshake, from number so much on.
    Silent(usize),
    /// Answers a request with 101 as soon as its first line is there.
    Hasty,
}

/// Starts a server that lives as long as the test process.
pub(crate) fn serve(mood: Mood) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let accepted = AtomicUsize::new(0);
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            stream.set_nodelay(true).unwrap();
            let number = accepted.fetch_add(1, Relaxed);
            // What a client does to its stream at the end is not this server's matter.
            thread::spawn(move || drop(client(stream, mood, number)));
        }
    });
    address
}

fn client(mut stream: TcpStream, mood: Mood, number: usize) -> tungstenite::Result<()> {
    let third = |from: usize| number >= from && (number - from) % 3 == 2;
    match mood {
        Mood::Refusing(from) if third(from) => {
            read_until(&mut stream, b"\r\n\r\n")?;
            stream.write_all(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")?;
            return Ok(());
        }
        Mood::Silent(from) if number >= from => {
            stream.read_to_end(&mut Vec::new())?;
            return Ok(());
        }
        Mood::Hasty => {
            let head = read_until(&mut stream, b"\r\n")?;
            if number > 0 && !head.is_empty() {
                stream.write_all(
                    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: \
                      Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
                )?;
            }
            stream.read_to_end(&mut Vec::new())?;
            return Ok(());
        }
        _ => {}
    }
    let Ok(mut socket) = tungstenite::accept(stream) else { return Ok(()) };
    match mood {
        Mood::Mispinging(from) if third(from) => {
            // A codec of its own, as tungstenite's answers pings by itself.
            let mut stream = socket.get_ref().try_clone()?;
            stream.read_exact(&mut [0; 14])?;
            stream.write_all(b"\x8a\x08otherone")?;
            stream.read_to_end(&mut Vec::new())?;
            Ok(())
        }
        Mood::Mute(from) if number >= from => {
            socket.get_ref().try_clone()?.read_to_end(&mut Vec::new())?;
            Ok(())
        }
        _ => loop {
            socket.read()?;
        },
    }
}

fn read_until(stream: &mut TcpStream, end: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut head = Vec::new();
    while !head.ends_with(end) {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    Ok(head)
}
