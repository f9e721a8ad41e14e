//! A client over plain TCP framing, for tests: `[u8 opcode][u32 BE length][payload]`.
//!
//! It shares no code with the gateway.

// Each test binary compiles this module for itself and uses its own part of it.
#![allow(dead_code)]

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Longer than any answer takes on a machine under load: past it the gateway hangs.
const PATIENCE: Duration = Duration::from_secs(30);

/// Opcode of a Close.
const CLOSE: u8 = 8;

/// One connection. Reads and writes block, but not for ever.
#[derive(Debug)]
pub(crate) struct TcpClient {
    /// The socket; what is written to it is raw.
    pub(crate) stream: TcpStream,
    inbox: Vec<u8>,
}

impl TcpClient {
    /// A connection on which nothing was sent.
    pub(crate) fn dial(addr: SocketAddr) -> Self {
        Self::over(TcpStream::connect(addr).expect("the gateway's backlog has room"))
    }

    /// A client on a stream that is connected; over a Unix-domain socket, too.
    pub(crate) fn over(stream: TcpStream) -> Self {
        // Unix-domain sockets know no such delay.
        let _ = stream.set_nodelay(true);
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self { stream, inbox: Vec::new() }
    }

    /// Sends bytes as they are.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the gateway takes it");
    }

    /// Sends a frame.
    pub(crate) fn frame(&mut self, opcode: u8, payload: &[u8]) {
        self.send(&tcp_frame(opcode, payload));
    }

    /// Sends a Close with this code.
    pub(crate) fn close(&mut self, code: u16) {
        self.frame(CLOSE, &code.to_be_bytes());
    }

    /// Sends a message, and expects it back.
    pub(crate) fn echoes(&mut self, opcode: u8, payload: &[u8]) {
        self.frame(opcode, payload);
        self.expect(opcode, payload);
    }

    /// The next frame; `None` at the end of the stream.
    pub(crate) fn next(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            if let Some((opcode, payload)) = take(&self.inbox) {
                let taken = (opcode, payload.to_vec());
                self.inbox.drain(..5 + taken.1.len());
                return Some(taken);
            }
            if self.fill() == 0 {
                assert!(self.inbox.is_empty(), "the stream ends inside a frame");
                return None;
            }
        }
    }

    /// What one read brings.
    pub(crate) fn read(&mut self) -> Vec<u8> {
        assert!(self.inbox.is_empty(), "there is more from before");
        self.fill();
        std::mem::take(&mut self.inbox)
    }

    /// Reads a frame, which has to be this one.
    pub(crate) fn expect(&mut self, opcode: u8, payload: &[u8]) {
        let (got, bytes) = self.next().expect("a frame, not the end");
        let head = &bytes[..bytes.len().min(80)];
        let same = got == opcode && bytes == payload;
        assert!(same, "opcode {got} with {} bytes {head:?}", bytes.len());
    }

    /// The next message, which is JSON in text.
    pub(crate) fn json(&mut self) -> serde_json::Value {
        let (opcode, payload) = self.next().expect("a message, not the end");
        assert_eq!(opcode, 1, "{payload:?} is no text");
        serde_json::from_slice(&payload).expect("JSON")
    }

    /// Reads a Close with this code; its reason.
    pub(crate) fn expect_close(&mut self, code: u16) -> String {
        let (opcode, payload) = self.next().expect("a Close, not the end");
        assert_eq!(opcode, CLOSE, "{payload:?}");
        let (got, reason) = payload.split_first_chunk().expect("a code");
        assert_eq!(u16::from_be_bytes(*got), code, "{payload:?}");
        String::from_utf8(reason.to_vec()).expect("reasons are UTF-8")
    }

    /// Reads a Close with this code, answers it, and reads the end behind it; its reason.
    pub(crate) fn expect_close_and_end(&mut self, code: u16) -> String {
        let reason = self.expect_close(code);
        self.close(code);
        self.expect_end();
        reason
    }

    /// Reads the end of the stream.
    pub(crate) fn expect_end(&mut self) {
        assert_eq!(self.next(), None, "more than was expected");
    }

    fn fill(&mut self) -> usize {
        let mut chunk = [0; 64 * 1024];
        let n = match self.stream.read(&mut chunk) {
            Ok(n) => n,
            Err(e) if e.kind() == ErrorKind::WouldBlock => panic!("the gateway says nothing"),
            Err(e) => panic!("the stream ends in order: {e}"),
        };
        self.inbox.extend_from_slice(&chunk[..n]);
        n
    }
}

/// A frame, as both sides send it.
pub(crate) fn tcp_frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).expect("a length that has a form");
    [&[opcode][..], &len.to_be_bytes(), payload].concat()
}

/// The frame at the front of `bytes`, if all of it is there.
fn take(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let len = u32::from_be_bytes(*bytes.get(1..5)?.first_chunk()?);
    assert!(matches!(bytes[0], 1 | 2 | 8..=10), "a frame begins with {:#x}", bytes[0]);
    Some((bytes[0], bytes.get(5..5 + len as usize)?))
}
