//! A client over plain TCP whose frames are a length and a payload, for tests: `[u32 BE length][payload]`.
//!
//! It shares no code with the gateway.

// Each test binary compiles this module for itself and uses its own part of it.
#![allow(dead_code)]

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// Longer than any answer takes on a machine under load: past it the gateway hangs.
const PATIENCE: Duration = Duration::from_secs(30);

/// One connection. Reads and writes block, but not for ever.
#[derive(Debug)]
pub(crate) struct U32Client {
    /// The socket; what is written to it is raw.
    pub(crate) stream: TcpStream,
    inbox: Vec<u8>,
}

impl U32Client {
    /// A connection on which nothing was sent.
    pub(crate) fn dial(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).expect("the gateway's backlog has room");
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self { stream, inbox: Vec::new() }
    }

    /// Sends bytes as they are.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the gateway takes it");
    }

    /// Sends a message.
    pub(crate) fn message(&mut self, payload: &[u8]) {
        self.send(&u32_frame(payload));
    }

    /// Ends this side's stream: the Close of this framing.
    pub(crate) fn close(&mut self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// Sends a message, and expects it back.
    pub(crate) fn echoes(&mut self, payload: &[u8]) {
        self.message(payload);
        self.expect(payload);
    }

    /// The next message; `None` at the end of the stream.
    pub(crate) fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(payload) = take(&self.inbox) {
                let payload = payload.to_vec();
                self.inbox.drain(..4 + payload.len());
                return Some(payload);
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

    /// Reads a message, which has to be this one.
    pub(crate) fn expect(&mut self, payload: &[u8]) {
        let bytes = self.next().expect("a message, not the end");
        let head = &bytes[..bytes.len().min(80)];
        assert!(bytes == payload, "{} bytes {head:?}", bytes.len());
    }

    /// The next message, which is JSON.
    pub(crate) fn json(&mut self) -> Value {
        serde_json::from_slice(&self.next().expect("a message, not the end")).expect("JSON")
    }

    /// Asks in the gateway's own JSON; the answer.
    pub(crate) fn ask(&mut self, route: &str, id: u64, body: &Value) -> Value {
        let request = serde_json::json!({"route": route, "id": id, "body": body});
        self.message(request.to_string().as_bytes());
        let answer = self.json();
        assert_eq!(answer["id"], id, "{answer}");
        answer
    }

    /// Reads the end of the stream, which is no reset, and answers it by this side's.
    pub(crate) fn expect_end(&mut self) {
        assert_eq!(self.next(), None, "more than was expected");
        // Fails where this side had ended before, and the gateway is gone.
        let _ = self.stream.shutdown(Shutdown::Write);
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
pub(crate) fn u32_frame(payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).expect("a length that has a form");
    [&len.to_be_bytes(), payload].concat()
}

/// The payload of the frame at the front of `bytes`, if all of it is there.
fn take(bytes: &[u8]) -> Option<&[u8]> {
    let len = u32::from_be_bytes(*bytes.first_chunk()?);
    bytes.get(4..4 + len as usize)
}
