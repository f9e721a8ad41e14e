//! A WebSocket client for tests that does exactly what it is told, also what no real one would.
//!
//! It shares no code with the gateway: frames and heads are put together and taken apart here,
//! byte by byte.

// Each test binary compiles this module for itself and uses its own part of it.
#![allow(dead_code, unused_imports)]

#[path = "frames.rs"]
mod frames;

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::{Value, json};
use socket2::{Domain, SockRef, Socket, Type};

pub(crate) use frames::*;

/// Longer than any answer takes on a machine under load: past it the gateway hangs.
const PATIENCE: Duration = Duration::from_secs(30);

/// The key of RFC 6455, 1.3.
pub(crate) const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// What answers [`KEY`].
pub(crate) const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// The head of an HTTP answer.
#[derive(Debug)]
pub(crate) struct Head {
    /// The status.
    pub(crate) status: u16,
    /// Names as they came, and values.
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

    fn parse(text: &str) -> Self {
        let mut lines = text.trim_end().split("\r\n");
        let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")).expect(text);
        let headers = lines
            .map(|line| line.split_once(": ").expect("a header line"))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        Self { status: status[..3].parse().expect("a status"), headers }
    }
}

/// One connection. Reads and writes block, but not for ever.
#[derive(Debug)]
pub(crate) struct Client {
    /// The socket; what is written to it is raw.
    pub(crate) stream: TcpStream,
    inbox: Vec<u8>,
    at: usize,
}

impl Client {
    /// A TCP connection on which nothing was sent.
    pub(crate) fn dial(addr: SocketAddr) -> Self {
        Self::over(TcpStream::connect(addr).expect("the gateway's backlog has room"))
    }

    /// As [`dial`](Self::dial), with a receive buffer of about `bytes`: what fits between
    /// the gateway and a client that does not read.
    pub(crate) fn dial_buffered(addr: SocketAddr, bytes: usize) -> Self {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(bytes).unwrap();
        socket.connect(&addr.into()).expect("the gateway's backlog has room");
        Self::over(socket.into())
    }

    /// An open WebSocket at `path`.
    pub(crate) fn open(addr: SocketAddr, path: &str) -> Self {
        let mut client = Self::dial(addr);
        client.upgrade(path);
        client
    }

    /// As [`open`](Self::open), with further header lines; also the head of the answer.
    pub(crate) fn open_with(addr: SocketAddr, path: &str, headers: &str) -> (Self, Head) {
        let mut client = Self::dial(addr);
        client.send(&request_with(path, headers));
        let head = client.expect_upgrade();
        (client, head)
    }

    /// As [`open`](Self::open), with a small receive buffer, so that not reading is soon felt at
    /// the other end.
    pub(crate) fn open_narrow(addr: SocketAddr, path: &str) -> Self {
        let mut client = Self::dial_buffered(addr, 4096);
        client.upgrade(path);
        client
    }

    /// An open WebSocket at `/echo`.
    pub(crate) fn echo(addr: SocketAddr) -> Self {
        Self::open(addr, "/echo")
    }

    /// A client on a stream that is connected.
    pub(crate) fn over(stream: TcpStream) -> Self {
        // Unix-domain sockets know no such delay.
        let _ = stream.set_nodelay(true);
        let client = Self { stream, inbox: Vec::new(), at: 0 };
        client.be_patient(PATIENCE);
        client
    }

    /// As [`over`](Self::over), over a Unix-domain socket: reads and writes are the same calls.
    pub(crate) fn over_unix(stream: UnixStream) -> Self {
        Self::over(OwnedFd::from(stream).into())
    }

    /// Reads and writes may take so long from here on.
    pub(crate) fn be_patient(&self, patience: Duration) {
        self.stream.set_read_timeout(Some(patience)).unwrap();
        self.stream.set_write_timeout(Some(patience)).unwrap();
    }

    /// Another handle of the socket, to write while this one reads.
    pub(crate) fn writer(&self) -> TcpStream {
        self.stream.try_clone().unwrap()
    }

    /// Sends the request and reads the answer.
    pub(crate) fn upgrade(&mut self, path: &str) {
        self.send(&request(path));
        self.expect_upgrade();
    }

    /// Reads the answer to an upgrade.
    pub(crate) fn expect_upgrade(&mut self) -> Head {
        let head = self.head();
        assert_eq!(head.status, 101, "not upgraded: {head:?}");
        assert_eq!(head.header("Sec-WebSocket-Accept"), Some(ACCEPT), "wrong key: {head:?}");
        head
    }

    /// Sends bytes as they are.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the gateway takes it");
    }

    /// Sends a text message.
    pub(crate) fn text(&mut self, text: &str) {
        self.send(&frame(TEXT, text.as_bytes()));
    }

    /// Sends a binary message.
    pub(crate) fn binary(&mut self, bytes: &[u8]) {
        self.send(&frame(BINARY, bytes));
    }

    /// Sends a Close.
    pub(crate) fn close(&mut self, code: u16) {
        self.send(&close_frame(code));
    }

    /// Sends a request in the JSON dialect.
    pub(crate) fn request(&mut self, route: &str, id: u64, body: impl Into<Value>) {
        let body = body.into();
        self.text(&json!({ "route": route, "id": id, "body": body }).to_string());
    }

    /// Sends a request in the JSON dialect; the next message is its answer.
    pub(crate) fn ask(&mut self, route: &str, id: u64, body: impl Into<Value>) -> Value {
        self.request(route, id, body);
        let answer = self.json();
        assert_eq!(answer["id"], id, "{answer}");
        answer
    }

    /// Sends a whole message, and expects it back.
    pub(crate) fn echoes(&mut self, payload: &[u8]) {
        self.send(&frame(BINARY, payload));
        self.expect(BINARY, payload);
    }

    /// Reads a frame, which has to be this one.
    pub(crate) fn expect(&mut self, opcode: u8, payload: &[u8]) {
        let got = self.frame().expect("a frame, not the end");
        let same = got.opcode == opcode && got.payload == payload;
        let (len, head) = (got.payload.len(), &got.payload[..got.payload.len().min(80)]);
        assert!(same, "opcode {} with {len} bytes {head:?}", got.opcode);
    }

    /// The next message, which is a text.
    pub(crate) fn read_text(&mut self) -> String {
        let frame = self.frame().expect("a text, not the end");
        assert_eq!(frame.opcode, TEXT, "{frame:?} is no text");
        frame.text().to_owned()
    }

    /// The next message, which is JSON.
    pub(crate) fn json(&mut self) -> Value {
        serde_json::from_str(&self.read_text()).expect("JSON")
    }

    /// Reads a Close with this code.
    pub(crate) fn expect_close(&mut self, code: u16) {
        self.read_close(code);
    }

    /// Reads a Close with this code, answers it, and reads the end behind it; its reason.
    pub(crate) fn expect_close_and_end(&mut self, code: u16) -> String {
        let close = self.read_close(code);
        self.close(code);
        assert_eq!(self.rest_bytes(), b"", "after Close");
        close.close_reason().to_owned()
    }

    /// Reads the end of the stream.
    pub(crate) fn expect_end(&mut self) {
        let more = self.frame();
        assert_eq!(more, None, "more than was expected");
    }

    /// The next frame; `None` at the end of the stream.
    pub(crate) fn frame(&mut self) -> Option<Frame> {
        self.try_frame().expect("the stream ends in order")
    }

    /// The next frame; `None` at the end of the stream; an error where it is reset.
    pub(crate) fn try_frame(&mut self) -> io::Result<Option<Frame>> {
        loop {
            if let Some((frame, len)) = take_frame(&self.inbox[self.at..]) {
                self.at += len;
                return Ok(Some(frame));
            }
            if self.fill()? == 0 {
                assert_eq!(self.inbox.len(), self.at, "the stream ends inside a frame");
                return Ok(None);
            }
        }
    }

    /// Reads frames up to the end of the stream, which may be a reset between two of them.
    pub(crate) fn rest(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        loop {
            match self.try_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(e) if e.kind() == ErrorKind::ConnectionReset => break,
                Err(e) => panic!("no frame, no end: {e}"),
            }
        }
        assert_eq!(self.inbox.len(), self.at, "the stream ends inside a frame");
        frames
    }

    /// Fills `bytes` from what comes.
    pub(crate) fn read_exact(&mut self, bytes: &mut [u8]) {
        let here = bytes.len().min(self.inbox.len() - self.at);
        let (first, more) = bytes.split_at_mut(here);
        first.copy_from_slice(&self.inbox[self.at..self.at + here]);
        self.at += here;
        self.stream.read_exact(more).expect("the gateway sends");
    }

    /// The head of an HTTP answer.
    pub(crate) fn head(&mut self) -> Head {
        loop {
            let rest = &self.inbox[self.at..];
            if let Some(end) = rest.windows(4).position(|four| four == b"\r\n\r\n") {
                let head = String::from_utf8(rest[..end + 4].to_vec()).expect("ASCII");
                self.at += end + 4;
                return Head::parse(&head);
            }
            assert!(self.fill().expect("an answer") > 0, "no answer, but the end");
        }
    }

    /// Reads a whole HTTP answer up to the end of the stream.
    pub(crate) fn response(&mut self) -> String {
        String::from_utf8(self.rest_bytes()).expect("text")
    }

    /// All bytes up to the end of the stream. A reset is a failure.
    pub(crate) fn rest_bytes(&mut self) -> Vec<u8> {
        while self.fill().expect("the stream ends in order") > 0 {}
        std::mem::take(&mut self.inbox)
    }

    /// Ends the sending side.
    pub(crate) fn finish(&mut self) {
        self.stream.shutdown(Shutdown::Write).expect("still connected");
    }

    /// Has what is written wait, so that it leaves in one segment with what follows.
    pub(crate) fn cork(&mut self) {
        SockRef::from(&self.stream).set_tcp_cork(true).unwrap();
    }

    /// Ends the connection by a reset.
    pub(crate) fn reset(self) {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }

    fn read_close(&mut self, code: u16) -> Frame {
        let frame = self.frame().expect("a Close, not the end");
        assert_eq!(frame.close_code(), Some(code), "{frame:?}");
        frame
    }

    fn fill(&mut self) -> io::Result<usize> {
        self.inbox.drain(..self.at);
        self.at = 0;
        let mut chunk = [0; 64 * 1024];
        let n = loop {
            match self.stream.read(&mut chunk) {
                Ok(n) => break n,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => panic!("the gateway says nothing"),
                Err(e) => return Err(e),
            }
        };
        self.inbox.extend_from_slice(&chunk[..n]);
        Ok(n)
    }
}

/// An upgrade request for `path`.
pub(crate) fn request(path: &str) -> Vec<u8> {
    request_with(path, "")
}

/// An upgrade request for `path`, with further header lines, each ended by CRLF.
pub(crate) fn request_with(path: &str, headers: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nHost: gateway.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n{headers}\r\n"
    )
    .into_bytes()
}
