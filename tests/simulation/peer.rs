//! The simulated client: what it sends, and what must hold of all that it receives.

use std::collections::VecDeque;

use tidegate::protocol::Framing;

use super::frames::{BINARY, CLOSE, CONTINUATION, Frame, PING, PONG, TEXT, put_masked, take_frame};
use super::rng::Rng;

/// How the client's stream stopped having a meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    Close,
    Violation(u16),
}

/// A client, and both directions of its wire.
#[derive(Debug, Default)]
pub(crate) struct Peer {
    framing: Framing,
    /// Sent and not yet read by the server.
    pub(crate) wire: VecDeque<u8>,
    /// Bytes ever sent.
    sent: usize,
    /// Where each message or control frame that stands for itself begins.
    starts: Vec<usize>,
    /// Where each message ends, and what it says.
    pub(crate) messages: Vec<(usize, Vec<u8>)>,
    /// Where each ping ends, and what it says.
    pings: Vec<(usize, Vec<u8>)>,
    /// Where the stream stops having a meaning.
    pub(crate) stop: Option<(usize, Stop)>,
    pub(crate) eof: bool,
    /// Received and not yet a frame.
    partial: Vec<u8>,
    /// Serials of data frames received.
    pub(crate) serials: Vec<u32>,
    pongs: usize,
    pub(crate) closed: Option<Option<u16>>,
}

impl Peer {
    pub(crate) fn new(framing: Framing) -> Self {
        Self { framing, ..Self::default() }
    }

    /// Sends something; what ends the stream, or its meaning, only if it `may_end`.
    pub(crate) fn send_something(&mut self, rng: &mut Rng, may_end: bool) {
        if self.eof {
            return;
        }
        let ending = if may_end { 0 } else { 3 };
        match ending + rng.below(60 - ending) {
            0 => self.close(rng),
            1 => self.violate(rng),
            2 => self.eof = true,
            3..9 if self.framing.has_control_frames() => self.ping(rng),
            9..12 if self.framing.has_control_frames() => self.control(PONG, b"unasked"),
            12..18 if self.framing == Framing::WebSocket => self.fragments(rng),
            _ => self.message(rng),
        }
    }

    fn message(&mut self, rng: &mut Rng) {
        let payload = text(rng, 300);
        self.begin();
        self.put(true, rng.pick(&[TEXT, BINARY]), &payload);
        self.end_message(payload);
    }

    fn fragments(&mut self, rng: &mut Rng) {
        self.begin();
        let mut whole = text(rng, 40);
        let first = rng.pick(&[TEXT, BINARY]);
        self.put(false, first, &whole);
        for _ in 0..rng.below(4) {
            if rng.one_in(2) {
                let payload = text(rng, 50);
                self.put(true, PING, &payload);
                self.pings.push((self.sent, payload));
            }
            let more = text(rng, 40);
            self.put(false, CONTINUATION, &more);
            whole.extend_from_slice(&more);
        }
        self.put(true, CONTINUATION, b"");
        self.end_message(whole);
    }

    fn ping(&mut self, rng: &mut Rng) {
        let payload = text(rng, 125);
        self.control(PING, &payload);
        self.pings.push((self.sent, payload));
    }

    /// Closes: in a frame, or by ending the stream if there is none for it.
    pub(crate) fn close(&mut self, rng: &mut Rng) {
        if !self.framing.has_control_frames() {
            self.eof = true;
            return;
        }
        self.begin();
        let code: u16 = rng.pick(&[1000, 1001, 3000, 4999]);
        self.put(true, CLOSE, &code.to_be_bytes());
        self.stop_here(Stop::Close);
    }

    fn violate(&mut self, rng: &mut Rng) {
        self.begin();
        let code = match rng.below(4) {
            0 | 2 if !self.framing.has_control_frames() => (self.send(self.too_much()), 1009).1,
            1 if self.framing == Framing::U32Binary => (self.send(self.too_much()), 1009).1,
            0 => (self.put(true, 3, b""), 1002).1,
            1 => (self.put(true, TEXT, b"\xff"), 1007).1,
            2 => (self.put(true, CONTINUATION, b"x"), 1002).1,
            // A header alone that announces too much; nothing else of it ever comes.
            _ => (self.send(self.too_much()), 1009).1,
        };
        self.stop_here(Stop::Violation(code));
    }

    fn too_much(&self) -> &'static [u8] {
        match self.framing {
            Framing::WebSocket => &[0x82, 0xff, 0, 0, 0, 0, 0, 0x10, 0, 0],
            Framing::Tcp => &[2, 0, 0x10, 0, 0],
            Framing::U32Text | Framing::U32Binary => &[0, 0x10, 0, 0],
        }
    }

    fn control(&mut self, opcode: u8, payload: &[u8]) {
        self.begin();
        self.put(true, opcode, payload);
    }

    fn begin(&mut self) {
        self.starts.push(self.sent);
    }

    fn stop_here(&mut self, how: Stop) {
        self.stop.get_or_insert((self.sent, how));
    }

    fn end_message(&mut self, payload: Vec<u8>) {
        self.messages.push((self.sent, payload));
    }

    fn put(&mut self, fin: bool, opcode: u8, payload: &[u8]) {
        let mut bytes = Vec::new();
        match self.framing {
            Framing::WebSocket => put_masked(&mut bytes, fin, opcode, payload),
            Framing::Tcp => {
                bytes.push(opcode);
                bytes.extend((payload.len() as u32).to_be_bytes());
                bytes.extend(payload);
            }
            Framing::U32Text | Framing::U32Binary => {
                bytes.extend((payload.len() as u32).to_be_bytes());
                bytes.extend(payload);
            }
        }
        self.send(&bytes);
    }

    fn send(&mut self, bytes: &[u8]) {
        self.sent += bytes.len();
        self.wire.extend(bytes);
    }

    /// Bytes that the server has read.
    pub(crate) fn read(&self) -> usize {
        self.sent - self.wire.len()
    }

    /// Where the message or control frame begins in whose middle `at` is; none between two.
    pub(crate) fn inside(&self, at: usize) -> Option<usize> {
        let next = self.starts.partition_point(|start| *start < at);
        let ends = self.starts.get(next).copied().unwrap_or(self.sent);
        (at < ends).then(|| self.starts[next - 1])
    }

    /// Messages whose last byte is among the first `read`, before the stream stopped.
    pub(crate) fn messages_in(&self, read: usize) -> usize {
        let end = self.stop.map_or(read, |(at, _)| at.min(read));
        self.messages.partition_point(|(at, _)| *at <= end)
    }

    /// Takes bytes that the server wrote.
    pub(crate) fn receive(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.partial.extend_from_slice(bytes);
        while let Some((frame, len)) = self.next_frame() {
            self.partial.drain(..len);
            if self.closed.is_some() {
                return Err(format!("{frame:?} behind the Close"));
            }
            match frame.opcode {
                CLOSE => self.closed = Some(frame.close_code()),
                PONG => self.take_pong(&frame.payload)?,
                PING => {}
                _ => self.serials.push(serial_of(&frame.payload)?),
            }
        }
        if self.closed.is_some() && !self.partial.is_empty() {
            return Err(format!("{} bytes behind the Close", self.partial.len()));
        }
        Ok(())
    }

    /// The first frame among what was received, and how long it is.
    fn next_frame(&self) -> Option<(Frame, usize)> {
        let bytes = &self.partial;
        match self.framing {
            Framing::WebSocket => take_frame(bytes),
            Framing::Tcp => {
                let len = 5 + u32::from_be_bytes(*bytes.get(1..)?.first_chunk()?) as usize;
                Some((Frame::new(bytes[0], bytes.get(5..len)?), len))
            }
            Framing::U32Text | Framing::U32Binary => {
                let len = 4 + u32::from_be_bytes(*bytes.first_chunk()?) as usize;
                Some((Frame::new(BINARY, bytes.get(4..len)?), len))
            }
        }
    }

    fn take_pong(&mut self, payload: &[u8]) -> Result<(), String> {
        let (at, ping) = self.pings.get(self.pongs).ok_or("a pong to no ping")?;
        if ping != payload || *at > self.read() {
            return Err(format!("pong {} is not its ping's", self.pongs));
        }
        self.pongs += 1;
        Ok(())
    }
}

/// A payload of the server's: a serial and as many more bytes of it.
pub(crate) fn payload_of(serial: u32, more: usize) -> Vec<u8> {
    let mut payload = serial.to_be_bytes().to_vec();
    payload.resize(4 + more, serial as u8);
    payload
}

fn serial_of(payload: &[u8]) -> Result<u32, String> {
    let serial = payload.first_chunk().map(|bytes| u32::from_be_bytes(*bytes));
    serial
        .filter(|serial| payload[4..].iter().all(|byte| *byte == *serial as u8))
        .ok_or_else(|| format!("a frame in pieces: {payload:?}"))
}

fn text(rng: &mut Rng, most: usize) -> Vec<u8> {
    (0..rng.below(most + 1)).map(|_| b'a' + rng.below(26) as u8).collect()
}
