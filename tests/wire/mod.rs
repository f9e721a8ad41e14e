//! A client's end of the wire for tests: frames made by hand, answers read back, and a small
//! generator of random numbers whose seed is all that a run depends on.

// Each test binary compiles this module for itself and uses its own part of it.
#![allow(dead_code)]

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

/// Longer than anything here takes on a machine under load: past it the gateway hangs.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) const CONTINUATION: u8 = 0;
pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;

/// SplitMix64.
#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// 0 to `n` - 1.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// Once in `n`.
    pub(crate) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}

/// The seeds to run: the one in the environment variable `name`, or `all`.
pub(crate) fn seeds(name: &str, all: std::ops::Range<u64>) -> Vec<u64> {
    match std::env::var(name) {
        Ok(seed) => vec![seed.parse().expect("a seed is a number")],
        Err(_) => all.collect(),
    }
}

/// Appends a client's frame, masked.
pub(crate) fn put_masked(out: &mut Vec<u8>, fin: bool, opcode: u8, payload: &[u8]) {
    out.push(u8::from(fin) << 7 | opcode);
    match payload.len() {
        len @ 0..=125 => out.push(0x80 | len as u8),
        len @ 126..=0xffff => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    let mask = [0x5a, payload.len() as u8, 0xc3, 0x17];
    out.extend_from_slice(&mask);
    out.extend(payload.iter().enumerate().map(|(i, byte)| byte ^ mask[i % 4]));
}

/// Appends a client's Close.
pub(crate) fn put_close(out: &mut Vec<u8>, code: u16) {
    put_masked(out, true, CLOSE, &code.to_be_bytes());
}

/// A frame of the server's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) opcode: u8,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// The code of a Close.
    pub(crate) fn close_code(&self) -> Option<u16> {
        assert_eq!(self.opcode, CLOSE, "{self:?}");
        Some(u16::from_be_bytes(*self.payload.first_chunk()?))
    }
}

/// Cuts a frame off the front of `bytes`, if all of it is there. Checks what a server must keep
/// to: no mask, no reserved bits, whole messages, lengths in their shortest form.
pub(crate) fn take_frame(bytes: &[u8]) -> Option<(Frame, usize)> {
    let (first, second) = (*bytes.first()?, *bytes.get(1)?);
    assert_eq!(first & 0xf0, 0x80, "a frame begins with {first:#x}");
    assert_eq!(second & 0x80, 0, "a server's frame is masked");
    let (header, len) = match second {
        126 => (4, usize::from(u16::from_be_bytes(*bytes.get(2..4)?.first_chunk()?))),
        127 => (10, u64::from_be_bytes(*bytes.get(2..10)?.first_chunk()?) as usize),
        short => (2, usize::from(short)),
    };
    let least = [0, 0, 0, 0, 126, 0, 0, 0, 0, 0, 0x1_0000][header];
    assert!(len >= least, "{len} bytes in a header of {header}");
    let payload = bytes.get(header..header + len)?.to_vec();
    let frame = Frame { opcode: first & 0x0f, payload };
    assert!(matches!(frame.opcode, TEXT | BINARY | CLOSE | PING | PONG), "{frame:?}");
    Some((frame, header + len))
}

/// A client on a blocking socket.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    received: Vec<u8>,
}

impl Client {
    /// Connects and upgrades at `path`.
    pub(crate) fn connect(addr: SocketAddr, path: &str) -> Self {
        let stream = TcpStream::connect(addr).expect("the gateway listens");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut client = Self { stream, received: Vec::new() };
        client.send(
            format!(
                "GET {path} HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
            )
            .as_bytes(),
        );
        client.read_upgrade();
        client
    }

    fn read_upgrade(&mut self) {
        loop {
            if let Some(end) = self.received.windows(4).position(|four| four == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&self.received[..end]).into_owned();
                assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
                self.received.drain(..end + 4);
                return;
            }
            assert!(self.fill().expect("an answer to the upgrade") > 0, "closed at the upgrade");
        }
    }

    /// Writes all of it.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the gateway reads");
    }

    /// Ends the client's side of the stream.
    pub(crate) fn end(&self) {
        self.stream.shutdown(Shutdown::Write).expect("connected");
    }

    /// The next frame; `None` at the end of the stream.
    pub(crate) fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some((frame, len)) = take_frame(&self.received) {
                self.received.drain(..len);
                return Some(frame);
            }
            match self.fill() {
                Ok(0) => {
                    assert_eq!(self.received, b"", "the stream ends inside a frame");
                    return None;
                }
                Ok(_) => {}
                Err(e) => panic!("no frame: {e}"),
            }
        }
    }

    fn fill(&mut self) -> io::Result<usize> {
        let mut buffer = [0; 16 * 1024];
        let n = self.stream.read(&mut buffer)?;
        self.received.extend_from_slice(&buffer[..n]);
        Ok(n)
    }
}
