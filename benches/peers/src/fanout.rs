//! The room that `fanout-gen` fills: its members, and who publishes to them.
//!
//! Invariants:
//! - a member's frames come in the order of the publishes, so its n-th frame is the n-th publish;
//! - no more publishes are in flight than [`Room::new`] was told, counted by what *all* members got.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use mio::{Events, Interest, Poll, Token, Waker, net::TcpStream};

use crate::{
    Fatal,
    dial::open_all,
    server::{Brought, read, write},
    wire::{SAMPLE, TEXT, client_frame, frame_length, request},
};

/// The token of the waker of the thread that publishes.
pub const WAKER: Token = Token(usize::MAX);
/// The token of the publisher's socket.
const PUBLISHER: Token = Token(usize::MAX - 1);
/// How long anything may take that must happen.
const PATIENCE: Duration = Duration::from_secs(60);
/// The longest sleep, after which a thread looks whether the run has ended.
const TICK: Duration = Duration::from_millis(50);

/// What the server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Protocol {
    /// JSON routes over WebSocket, on `/ws`.
    Tidegate,
    /// One byte for a member, one for a publish, and frames as answers.
    Bare,
}

impl Protocol {
    fn join(self) -> Vec<u8> {
        match self {
            Self::Tidegate => {
                client_frame(TEXT, br#"{"route":"join","id":1,"body":{"room":"fan"}}"#)
            }
            Self::Bare => b"M".to_vec(),
        }
    }

    fn publish(self, size: usize) -> Vec<u8> {
        let data = "x".repeat(size);
        let text =
            format!(r#"{{"route":"publish","id":2,"body":{{"room":"fan","data":"{data}"}}}}"#);
        match self {
            Self::Tidegate => client_frame(TEXT, text.as_bytes()),
            Self::Bare => b"P".to_vec(),
        }
    }

    /// Whether the answer to a join is whole.
    fn has_joined(self, answer: &[u8]) -> Result<bool, Fatal> {
        match self {
            Self::Bare => Ok(answer == b"M"),
            Self::Tidegate if frame_length(answer) != Some(answer.len()) => Ok(false),
            Self::Tidegate if answer[2..].starts_with(br#"{"id":1,"body":{"room":"fan""#) => {
                Ok(true)
            }
            Self::Tidegate => Err(format!("no join: {}", String::from_utf8_lossy(answer)).into()),
        }
    }
}

/// What the threads share.
#[derive(Debug)]
pub struct Room {
    target: SocketAddr,
    protocol: Protocol,
    members: usize,
    in_flight: usize,
    threads: Vec<Progress>,
    /// The frame of a delivery.
    frame: OnceLock<Vec<u8>>,
    stopped: AtomicBool,
    waker: Waker,
}

/// How far one thread's members are.
#[derive(Debug, Default)]
struct Progress {
    /// Publishes that all of them have got.
    complete: AtomicU64,
    /// Frames that they have got together.
    deliveries: AtomicU64,
    /// Frames among them whose bytes were compared.
    compared: AtomicU64,
}

impl Room {
    /// A room of `members` over `threads`, with so many publishes in flight; `waker` rouses the
    /// thread that publishes.
    #[must_use]
    pub fn new(
        target: SocketAddr,
        protocol: Protocol,
        members: usize,
        in_flight: usize,
        threads: usize,
        waker: Waker,
    ) -> Self {
        let threads = (0..threads).map(|_| Progress::default()).collect();
        let (frame, stopped) = (OnceLock::new(), AtomicBool::new(false));
        Self { target, protocol, members, in_flight, threads, frame, stopped, waker }
    }

    /// Ends the run.
    pub fn stop(&self) {
        self.stopped.store(true, SeqCst);
    }

    /// Whether the run has ended.
    #[must_use]
    pub fn stopped(&self) -> bool {
        self.stopped.load(SeqCst)
    }

    /// Frames that all members have got together.
    #[must_use]
    pub fn deliveries(&self) -> u64 {
        self.threads.iter().map(|thread| thread.deliveries.load(Relaxed)).sum()
    }

    /// Frames after the first of each member whose bytes were compared.
    #[must_use]
    pub fn compared(&self) -> u64 {
        self.threads.iter().map(|thread| thread.compared.load(Relaxed)).sum()
    }

    /// The length of a delivery's frame with its header.
    #[must_use]
    pub fn frame_bytes(&self) -> Option<usize> {
        self.frame.get().map(Vec::len)
    }

    /// Publishes that all members have got.
    fn complete(&self) -> u64 {
        self.threads.iter().map(|thread| thread.complete.load(SeqCst)).min().unwrap_or(0)
    }

    fn share(&self, thread: usize) -> std::ops::Range<usize> {
        let threads = self.threads.len();
        self.members * thread / threads..self.members * (thread + 1) / threads
    }
}

/// One thread's members.
#[derive(Debug)]
pub struct Members {
    room: Arc<Room>,
    thread: usize,
    poll: Poll,
    events: Events,
    members: Vec<Member>,
    buffer: Vec<u8>,
    /// By publish, modulo those in flight: members that have got it.
    got: Vec<usize>,
    complete: u64,
    deliveries: u64,
    /// The count of deliveries from which on the next read with a whole frame is compared.
    sample_at: u64,
    compared: u64,
    /// Whether the publisher's socket has something to read.
    publisher_ready: bool,
}

#[derive(Debug)]
struct Member {
    socket: TcpStream,
    /// Bytes of deliveries.
    bytes: u64,
    /// Whole frames among them.
    frames: u64,
    /// What came before the frame was known.
    first: Vec<u8>,
}

impl Members {
    /// Opens this thread's share of the members and joins them to the room.
    ///
    /// # Errors
    /// A connection or a join failed.
    pub fn open(poll: Poll, thread: usize, room: Arc<Room>) -> Result<Self, Fatal> {
        let asked = request(&room.target.to_string(), "/ws");
        let handshake = (room.protocol == Protocol::Tidegate).then_some(&asked[..]);
        let sockets = open_all(room.target, handshake, room.share(thread))?;
        let mut members = Vec::with_capacity(sockets.len());
        for (key, mut socket) in sockets.into_iter().enumerate() {
            poll.registry().register(&mut socket, Token(key), Interest::READABLE)?;
            members.push(Member { socket, bytes: 0, frames: 0, first: Vec::new() });
        }
        let (events, buffer) = (Events::with_capacity(1024), vec![0; 64 * 1024]);
        let got = vec![0; room.in_flight];
        let mut all = Self {
            room,
            thread,
            poll,
            events,
            members,
            buffer,
            got,
            complete: 0,
            deliveries: 0,
            sample_at: 0,
            compared: 0,
            publisher_ready: false,
        };
        all.join()?;
        Ok(all)
    }

    fn join(&mut self) -> Result<(), Fatal> {
        let join = self.room.protocol.join();
        for member in &mut self.members {
            if write(&mut member.socket, &join) != Some(join.len()) {
                return Err("the server took no join".into());
            }
        }
        let mut waiting = self.members.len();
        let until = Instant::now() + PATIENCE;
        while waiting > 0 {
            if Instant::now() > until {
                return Err(format!("{waiting} joins were not answered").into());
            }
            self.poll.poll(&mut self.events, Some(TICK))?;
            for event in self.events.iter().filter(|event| event.token() != WAKER) {
                let member = &mut self.members[event.token().0];
                member.first_bytes(&mut self.buffer)?;
                if self.room.protocol.has_joined(&member.first)? {
                    member.first.clear();
                    waiting -= 1;
                }
            }
        }
        Ok(())
    }

    /// Waits a tick at most, and counts what has come.
    ///
    /// # Errors
    /// The server ended a member, or sent it what it should not.
    pub fn turn(&mut self) -> Result<(), Fatal> {
        let mut events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        match self.poll.poll(&mut events, Some(TICK)) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            result => result?,
        }
        for event in &events {
            match event.token() {
                WAKER => {}
                PUBLISHER => self.publisher_ready = true,
                Token(key) => self.receive(key)?,
            }
        }
        self.events = events;
        self.report()
    }

    /// Whether every member has got every publish that was completed, and nothing else.
    ///
    /// # Errors
    /// It has not.
    pub fn check(&self) -> Result<(), Fatal> {
        let frame = self.room.frame_bytes().unwrap_or(0) as u64;
        let expected = self.room.complete() * frame;
        match self.members.iter().filter(|member| member.bytes != expected).count() {
            0 => Ok(()),
            wrong => Err(format!("{wrong} members did not get each publish once").into()),
        }
    }

    fn receive(&mut self, key: usize) -> Result<(), Fatal> {
        let member = &mut self.members[key];
        let Some(frame) = self.room.frame.get().filter(|_| member.frames > 0) else {
            member.first_bytes(&mut self.buffer)?;
            if frame_length(&member.first) == Some(member.first.len()) {
                return self.learn(key);
            }
            return Ok(());
        };
        let count = match read(&mut member.socket, &mut self.buffer) {
            Brought::Bytes(count) => count,
            Brought::Nothing => return Ok(()),
            Brought::End => return Err("the server ended a member".into()),
        };
        let length = frame.len() as u64;
        let (from, to) = (member.bytes, member.bytes + count as u64);
        if self.deliveries + to / length - from / length >= self.sample_at {
            let compared = compare(&self.buffer[..count], from, frame)?;
            self.compared += compared;
            if compared > 0 {
                self.sample_at = (self.deliveries / SAMPLE + 1) * SAMPLE;
            }
        }
        member.bytes = to;
        let frames = member.bytes / length;
        let before = std::mem::replace(&mut member.frames, frames);
        self.count(before, frames);
        Ok(())
    }

    /// A member's first delivery is whole: it must be the one that all others get.
    fn learn(&mut self, key: usize) -> Result<(), Fatal> {
        let member = &mut self.members[key];
        let first = std::mem::take(&mut member.first);
        member.bytes = first.len() as u64;
        member.frames = 1;
        if *self.room.frame.get_or_init(|| first.clone()) != first {
            return Err("two members got different frames of one publish".into());
        }
        self.count(0, 1);
        Ok(())
    }

    /// A member has got frames `before + 1` to `frames`.
    fn count(&mut self, before: u64, frames: u64) {
        self.deliveries += frames - before;
        for publish in before..frames {
            let got = &mut self.got[publish as usize % self.room.in_flight];
            *got += 1;
            if *got == self.members.len() {
                *got = 0;
                self.complete += 1;
            }
        }
    }

    /// Tells the others how far this thread is, and wakes the one that publishes for a new
    /// completion.
    fn report(&self) -> Result<(), Fatal> {
        let progress = &self.room.threads[self.thread];
        progress.deliveries.store(self.deliveries, Relaxed);
        progress.compared.store(self.compared, Relaxed);
        if progress.complete.swap(self.complete, SeqCst) != self.complete && self.thread != 0 {
            self.room.waker.wake()?;
        }
        Ok(())
    }
}

/// Compares every whole frame of a read that begins at byte `from` of its member's deliveries; how
/// many there were.
fn compare(bytes: &[u8], from: u64, frame: &[u8]) -> Result<u64, Fatal> {
    let begun = (from % frame.len() as u64) as usize;
    let rest = (frame.len() - begun) % frame.len();
    let whole = bytes.get(rest..).unwrap_or_default().chunks_exact(frame.len());
    let count = whole.len() as u64;
    if whole.into_iter().any(|bytes| bytes != frame) {
        return Err("a delivery is not the frame of the room".into());
    }
    Ok(count)
}

impl Member {
    fn first_bytes(&mut self, buffer: &mut [u8]) -> Result<(), Fatal> {
        match read(&mut self.socket, buffer) {
            Brought::Bytes(count) => self.first.extend_from_slice(&buffer[..count]),
            Brought::Nothing => {}
            Brought::End => return Err("the server ended a member".into()),
        }
        Ok(())
    }
}

/// Who publishes, on a connection that is no member.
#[derive(Debug)]
pub struct Publisher {
    room: Arc<Room>,
    socket: TcpStream,
    publish: Vec<u8>,
    sent: u64,
    buffer: Vec<u8>,
}

impl Publisher {
    /// Opens the publisher's connection beside the first thread's members.
    ///
    /// # Errors
    /// It failed.
    pub fn open(room: Arc<Room>, members: &mut Members, size: usize) -> Result<Self, Fatal> {
        let asked = request(&room.target.to_string(), "/ws");
        let handshake = (room.protocol == Protocol::Tidegate).then_some(&asked[..]);
        let mut sockets = open_all(room.target, handshake, room.members..room.members + 1)?;
        let mut socket = sockets.pop().ok_or("no publisher")?;
        members.poll.registry().register(&mut socket, PUBLISHER, Interest::READABLE)?;
        let publish = room.protocol.publish(size);
        Ok(Self { room, socket, publish, sent: 0, buffer: vec![0; 64 * 1024] })
    }

    /// Publishes that were sent.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// One publish on its own, which teaches the frame.
    ///
    /// # Errors
    /// It did not reach all members.
    pub fn alone(&mut self, members: &mut Members) -> Result<(), Fatal> {
        self.send(1)?;
        self.finish(members)
    }

    /// Keeps publishes in flight for so long.
    ///
    /// # Errors
    /// Something went wrong in any thread.
    pub fn run_for(&mut self, members: &mut Members, seconds: f64) -> Result<(), Fatal> {
        let until = Instant::now() + Duration::from_secs_f64(seconds);
        while Instant::now() < until {
            let room_for = self.room.complete() + self.room.in_flight as u64 - self.sent;
            self.send(room_for as usize)?;
            self.turn(members)?;
        }
        Ok(())
    }

    /// Waits until all members have got all publishes.
    ///
    /// # Errors
    /// They did not, in time.
    pub fn finish(&mut self, members: &mut Members) -> Result<(), Fatal> {
        let until = Instant::now() + PATIENCE;
        while self.room.complete() < self.sent {
            if Instant::now() > until {
                return Err("a publish did not reach all members".into());
            }
            self.turn(members)?;
        }
        Ok(())
    }

    fn turn(&mut self, members: &mut Members) -> Result<(), Fatal> {
        if self.room.stopped() {
            return Err("another thread failed".into());
        }
        members.turn()?;
        // Answers to publishes are read so that the server can go on; what they say is not needed,
        // as every delivery is counted.
        if std::mem::take(&mut members.publisher_ready) {
            while let Brought::Bytes(count) = read(&mut self.socket, &mut self.buffer)
                && count == self.buffer.len()
            {}
        }
        Ok(())
    }

    /// So many publishes in one write.
    fn send(&mut self, count: usize) -> Result<(), Fatal> {
        if count == 0 {
            return Ok(());
        }
        let bytes = self.publish.repeat(count);
        if write(&mut self.socket, &bytes) != Some(bytes.len()) {
            return Err("the server took no publish".into());
        }
        self.sent += count as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_whole_frame_of_a_read_is_compared() {
        let bytes = b"cabcabcab";
        assert_eq!(compare(bytes, 2, b"abc").unwrap(), 2);
        assert_eq!(compare(&bytes[1..], 0, b"abc").unwrap(), 2);
        assert_eq!(compare(b"a", 3, b"abc").unwrap(), 0);
        assert_eq!(compare(b"x", 4, b"abc").unwrap(), 0);
        assert!(compare(b"abcabx", 0, b"abc").is_err());
    }
}
