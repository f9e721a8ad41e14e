//! Servers with rooms for the tests: the gateway itself, and one that does one thing wrong.

// Each test binary compiles this module for itself and uses its own part of it.
#![allow(dead_code)]

#[path = "../program/mod.rs"]
mod program;

use std::{
    collections::HashMap,
    io::{BufRead as _, BufReader, Write as _},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    process::{Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use tungstenite::Message;

/// What a server does wrong. "The sixth" is the sixth publish in a room, and "one member" is one
/// that does not publish it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Mood {
    /// Nothing.
    Good,
    /// One member does not get the sixth.
    Dropping,
    /// Nobody gets the sixth.
    DroppingForAll,
    /// One member gets every publish twice.
    Duplicating,
    /// One member gets the sixth after the seventh.
    Reordering,
    /// All get the sixth after the seventh.
    ReorderingForAll,
    /// One member gets two publishes of two publishers in the other order.
    TwoOrders,
    /// One member gets the sixth with another last character.
    Corrupting,
    /// Another room gets the sixth too.
    Leaking,
    /// One member's stream ends before the sixth.
    Ending,
    /// The first join is not answered.
    Deaf,
    /// The first join is refused.
    Refusing,
    /// Echoes are answered with the text before.
    Misechoing,
}

/// The gateway, for as long as the test's process lives.
pub(crate) fn gateway(change: impl FnOnce(&mut tidegate::config::Config)) -> SocketAddr {
    let builder = tidegate::Gateway::builder().configure(change);
    let running = builder.listen((Ipv4Addr::LOCALHOST, 0)).start().unwrap();
    let address = running.addresses()[0];
    std::mem::forget(running);
    address
}

/// A server in a mood, for as long as the test's process lives. It takes `JOIN room`, which it
/// answers with `JOINED`, `PUB room data`, which all members of the room get as `DATA data`, and
/// `ECHO data`.
pub(crate) fn serve(mood: Mood) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let hub = Arc::new(Mutex::new(Hub { mood, joins: 0, rooms: HashMap::new() }));
    thread::spawn(move || {
        let accepted = AtomicUsize::new(0);
        for stream in listener.incoming() {
            let (hub, number) = (Arc::clone(&hub), accepted.fetch_add(1, Relaxed));
            thread::spawn(move || client(stream.unwrap(), number, &hub));
        }
    });
    address
}

fn client(stream: TcpStream, number: usize, hub: &Mutex<Hub>) {
    stream.set_nodelay(true).unwrap();
    let writer = stream.try_clone().unwrap();
    let mut socket = tungstenite::accept(stream).unwrap();
    let mut before = "ECHOED nothing".to_owned();
    // Pings and closes are tungstenite's matter. What it writes and what the hub writes does not
    // mingle: each is one small write.
    while let Ok(message) = socket.read() {
        let Message::Text(text) = message else { continue };
        let words: Vec<_> = text.splitn(3, ' ').collect();
        match words[..] {
            ["JOIN", room] => hub.lock().unwrap().join(room, number, &writer),
            ["PUB", room, data] => hub.lock().unwrap().publish(room, number, data),
            ["ECHO", data] => {
                let echo = format!("ECHOED {data}");
                let wrong = hub.lock().unwrap().mood == Mood::Misechoing;
                send(&writer, if wrong { &before } else { &echo });
                before = echo;
            }
            _ => panic!("not understood: {text}"),
        }
    }
    // The hub has the stream too, so that it would not end by itself. It may have ended before.
    let _ = writer.shutdown(Shutdown::Both);
}

struct Hub {
    mood: Mood,
    joins: usize,
    rooms: HashMap<String, Room>,
}

#[derive(Default)]
struct Room {
    members: Vec<(usize, TcpStream)>,
    published: usize,
    held: Option<(usize, String)>,
    done: bool,
}

impl Hub {
    fn join(&mut self, room: &str, number: usize, stream: &TcpStream) {
        self.joins += 1;
        let answer = match (self.mood, self.joins) {
            (Mood::Deaf, 1) => return,
            (Mood::Refusing, 1) => "NO",
            _ => "JOINED",
        };
        send(stream, answer);
        let room = self.rooms.entry(room.to_owned()).or_default();
        room.members.push((number, stream.try_clone().unwrap()));
    }

    fn publish(&mut self, name: &str, publisher: usize, data: &str) {
        let text = format!("DATA {data}");
        let room = self.rooms.get_mut(name).unwrap();
        room.published += 1;
        let sixth = room.published == 6;
        match self.mood {
            Mood::DroppingForAll if sixth => return,
            Mood::ReorderingForAll if sixth => return room.held = Some((publisher, text)),
            _ => {}
        }
        let victim = room.victim(self.mood, publisher);
        for at in 0..room.members.len() {
            match victim == at {
                true => room.mistreat(at, self.mood, publisher, &text),
                false => room.send(at, &text),
            }
        }
        if self.mood == Mood::ReorderingForAll
            && let Some((_, held)) = room.held.take()
        {
            (0..room.members.len()).for_each(|at| room.send(at, &held));
        }
        if self.mood == Mood::Leaking && sixth {
            let other = self.rooms.iter().find(|(other, _)| *other != name).unwrap().1;
            other.send(0, &text);
        }
    }
}

impl Room {
    fn victim(&self, mood: Mood, publisher: usize) -> usize {
        match mood {
            Mood::TwoOrders => 0,
            _ => self.members.iter().position(|(member, _)| *member != publisher).unwrap_or(0),
        }
    }

    fn send(&self, at: usize, text: &str) {
        send(&self.members[at].1, text);
    }

    fn mistreat(&mut self, at: usize, mood: Mood, publisher: usize, text: &str) {
        let sixth = self.published == 6;
        match mood {
            Mood::Dropping if sixth => {}
            Mood::Ending if sixth => drop(self.members[at].1.shutdown(Shutdown::Both)),
            Mood::Ending if self.published > 6 => {}
            Mood::Corrupting if sixth => {
                let changed = if text.ends_with('x') { 'y' } else { 'x' };
                self.send(at, &format!("{}{changed}", &text[..text.len() - 1]));
            }
            Mood::Duplicating => {
                self.send(at, text);
                self.send(at, text);
            }
            Mood::Reordering if sixth => self.held = Some((publisher, text.to_owned())),
            Mood::Reordering => {
                self.send(at, text);
                self.release(at);
            }
            Mood::TwoOrders if self.published >= 6 && !self.done => {
                self.swap(at, publisher, text);
            }
            _ => self.send(at, text),
        }
    }

    fn release(&mut self, at: usize) {
        if let Some((_, held)) = self.held.take() {
            self.send(at, &held);
        }
    }

    /// Holds a publish back until one of another publisher has gone by.
    fn swap(&mut self, at: usize, publisher: usize, text: &str) {
        match &self.held {
            Some((holder, _)) if *holder != publisher => {
                self.send(at, text);
                self.release(at);
                self.done = true;
            }
            _ => {
                self.release(at);
                self.held = Some((publisher, text.to_owned()));
            }
        }
    }
}

/// Writes one text frame. A client that has gone is no matter of the server's.
fn send(mut stream: &TcpStream, text: &str) {
    let mut frame = vec![0x81];
    match text.len() {
        short @ 0..126 => frame.push(short as u8),
        long => {
            frame.push(126);
            frame.extend_from_slice(&u16::try_from(long).unwrap().to_be_bytes());
        }
    }
    frame.extend_from_slice(text.as_bytes());
    let _ = stream.write_all(&frame);
}

/// How [`serve`]'s servers are spoken to.
pub(crate) const WORDS: [&str; 8] = [
    "--join",
    "JOIN {room}",
    "--joined",
    "JOINED",
    "--publish",
    "PUB {room} {data}",
    "--refused",
    "NO",
];

/// Runs the program; returns its exit code, what it said, and its JSON.
pub(crate) fn loadtest(
    arguments: &str,
    words: &[&str],
    address: SocketAddr,
) -> (i32, String, Value) {
    let run = program::run(arguments, &format!("ws://{address}/ws"), words);
    assert!(!run.json.is_null(), "{}", run.text);
    (run.code.unwrap(), run.text, run.json)
}

/// Runs the program with arguments that it should refuse; returns its exit code and what it said.
pub(crate) fn refused(arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_loadtest"))
        .args(arguments)
        .args(["--url", "ws://127.0.0.1:1/"])
        .output()
        .unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

/// Runs the program until its progress shows `sign`, and then interrupts it; returns its exit code
/// and its summary.
pub(crate) fn interrupted(arguments: &str, sign: &str, address: SocketAddr) -> (i32, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_loadtest"))
        .args(arguments.split_whitespace())
        .args(["--url", &format!("ws://{address}/ws")])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut progress = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(progress.any(|line| line.unwrap().contains(sign)));
    kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    let output = child.wait_with_output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
}
