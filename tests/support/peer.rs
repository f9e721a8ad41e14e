//! A WebSocket client that does what it is told, byte by byte.
//!
//! It shares no code with the gateway: frames and heads are taken apart here once more.

// Each test binary compiles this module for itself and uses its own part of it.
#![allow(dead_code)]

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// Longer than anything here takes on a machine under load: past it the gateway hangs.
const PATIENCE: Duration = Duration::from_secs(30);

/// The key of RFC 6455, 1.3, and what answers it.
pub(crate) const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub(crate) const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// One end of a TCP connection to a gateway.
pub(crate) struct Peer {
    stream: TcpStream,
    /// Read and not yet taken.
    buffer: Vec<u8>,
}

/// The head of an HTTP answer.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
}

impl Head {
    /// The value of the one header of this name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
        let value = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "{name} twice in {self:?}");
        value
    }
}

/// A frame of the gateway's.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    Text(String),
    Binary(Vec<u8>),
    Close(Option<u16>, String),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
}

/// An upgrade request for `path`, with further header lines, each ended by CRLF.
pub(crate) fn upgrade_request(path: &str, headers: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n{headers}\r\n"
    )
    .into_bytes()
}

/// A whole masked frame of a client's: 1 is text, 2 binary, 8 close.
pub(crate) fn client_frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x12, 0x34, 0x56, 0x78];
    let mut frame = vec![0x80 | opcode];
    match payload.len() {
        len @ 0..=125 => frame.push(0x80 | len as u8),
        len @ 126..=0xffff => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

impl Peer {
    /// A TCP connection on which nothing was said.
    pub(crate) fn dial(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).expect("the gateway listens");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: Vec::new() }
    }

    /// An open WebSocket at `path`.
    pub(crate) fn open(addr: SocketAddr, path: &str) -> Self {
        Self::open_with(addr, path, "").0
    }

    /// An open WebSocket, asked for with further header lines, and the head of the answer.
    pub(crate) fn open_with(addr: SocketAddr, path: &str, headers: &str) -> (Self, Head) {
        let mut peer = Self::dial(addr);
        peer.write(&upgrade_request(path, headers));
        let head = peer.head();
        assert_eq!(head.status, 101, "{head:?}");
        assert_eq!(head.header("Sec-WebSocket-Accept"), Some(ACCEPT));
        (peer, head)
    }

    /// The socket itself.
    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Sends bytes as they are.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the gateway takes bytes");
    }

    /// Sends a text message.
    pub(crate) fn text(&mut self, text: &str) {
        self.write(&client_frame(1, text.as_bytes()));
    }

    /// Sends a binary message.
    pub(crate) fn binary(&mut self, bytes: &[u8]) {
        self.write(&client_frame(2, bytes));
    }

    /// Sends Close.
    pub(crate) fn close(&mut self, code: u16) {
        self.write(&client_frame(8, &code.to_be_bytes()));
    }

    /// The head of the gateway's HTTP answer.
    pub(crate) fn head(&mut self) -> Head {
        let end = loop {
            if let Some(at) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            assert!(self.fill().expect("an answer") > 0, "no answer, but the end");
        };
        let head = String::from_utf8(self.buffer.drain(..end).collect()).expect("ASCII");
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")).expect(&head);
        let headers = lines
            .map(|line| line.split_once(": ").expect("a header line"))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        Head { status: status[..3].parse().expect("a status"), headers }
    }

    /// The gateway's next frame; `None` at the end of the stream.
    pub(crate) fn next(&mut self) -> Option<Frame> {
        let short = self.take(2)?;
        assert_eq!(short[0] & 0xf0, 0x80, "not one whole frame: {short:?}");
        let len = match short[1] {
            126 => u16::from_be_bytes(self.take(2)?.try_into().unwrap()).into(),
            127 => u64::from_be_bytes(self.take(8)?.try_into().unwrap()),
            len => u64::from(len),
        };
        let payload = self.take(len as usize)?;
        Some(match short[0] & 0xf {
            1 => Frame::Text(String::from_utf8(payload).expect("text is UTF-8")),
            2 => Frame::Binary(payload),
            8 => match payload.split_first_chunk() {
                Some((code, reason)) => {
                    let reason = String::from_utf8(reason.to_vec()).expect("reasons are UTF-8");
                    Frame::Close(Some(u16::from_be_bytes(*code)), reason)
                }
                None => Frame::Close(None, String::new()),
            },
            9 => Frame::Ping(payload),
            10 => Frame::Pong(payload),
            other => panic!("opcode {other}"),
        })
    }

    /// The gateway's next message, which is a text.
    pub(crate) fn read_text(&mut self) -> String {
        match self.next() {
            Some(Frame::Text(text)) => text,
            other => panic!("expected a text, got {other:?}"),
        }
    }

    /// The gateway's next message, which is JSON.
    pub(crate) fn json(&mut self) -> Value {
        serde_json::from_str(&self.read_text()).expect("JSON")
    }

    /// Sends a request in the JSON dialect.
    pub(crate) fn request(&mut self, route: &str, id: u64, body: impl Into<Value>) {
        let body = body.into();
        self.text(&serde_json::json!({ "route": route, "id": id, "body": body }).to_string());
    }

    /// Sends a request in the JSON dialect; the next message is its answer.
    pub(crate) fn ask(&mut self, route: &str, id: u64, body: impl Into<Value>) -> Value {
        self.request(route, id, body);
        let answer = self.json();
        assert_eq!(answer["id"], id, "{answer}");
        answer
    }

    /// The gateway's Close, which is next, answered, and the end behind it.
    pub(crate) fn expect_close(&mut self, code: u16) -> String {
        let reason = match self.next() {
            Some(Frame::Close(got, reason)) if got == Some(code) => reason,
            other => panic!("expected Close {code}, got {other:?}"),
        };
        self.close(code);
        assert_eq!(self.rest(), b"", "after Close");
        reason
    }

    /// All bytes up to the end of the stream. A reset is a failure.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        while self.fill().expect("the stream ends in order") > 0 {}
        std::mem::take(&mut self.buffer)
    }

    fn take(&mut self, n: usize) -> Option<Vec<u8>> {
        while self.buffer.len() < n {
            if self.fill().expect("a frame, or the end in order") == 0 {
                assert!(self.buffer.is_empty(), "the stream ends within a frame");
                return None;
            }
        }
        Some(self.buffer.drain(..n).collect())
    }

    fn fill(&mut self) -> io::Result<usize> {
        let mut chunk = [0; 16 * 1024];
        let n = self.stream.read(&mut chunk)?;
        self.buffer.extend_from_slice(&chunk[..n]);
        Ok(n)
    }
}
