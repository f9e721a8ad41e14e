//! A WebSocket client for tests that does exactly what it is told, also what no real one would.
//!
//! It shares no code with the gateway: frames are put together and taken apart here, byte by byte.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

/// Longer than any answer takes on a machine under load: past it the gateway hangs.
const PATIENCE: Duration = Duration::from_secs(30);

/// Opcode of a continuation frame.
pub(crate) const CONTINUATION: u8 = 0;
/// Opcode of a text frame.
pub(crate) const TEXT: u8 = 1;
/// Opcode of a binary frame.
pub(crate) const BINARY: u8 = 2;
/// Opcode of a Close.
pub(crate) const CLOSE: u8 = 8;
/// Opcode of a ping.
pub(crate) const PING: u8 = 9;
/// Opcode of a pong.
pub(crate) const PONG: u8 = 10;

/// A frame that the gateway sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    /// The opcode.
    pub(crate) opcode: u8,
    /// The payload.
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// The code that a Close carries.
    pub(crate) fn close_code(&self) -> Option<u16> {
        assert_eq!(self.opcode, CLOSE, "{self:?} is no Close");
        Some(u16::from_be_bytes(self.payload.get(..2)?.try_into().unwrap()))
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

    /// An open WebSocket at `/echo`.
    pub(crate) fn echo(addr: SocketAddr) -> Self {
        Self::open(addr, "/echo")
    }

    /// A client on a stream that is connected.
    pub(crate) fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self { stream, inbox: Vec::new(), at: 0 }
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
    pub(crate) fn expect_upgrade(&mut self) {
        let head = self.head().expect("an answer");
        assert!(head.starts_with("HTTP/1.1 101 "), "not upgraded: {head}");
        assert!(head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "wrong key: {head}");
    }

    /// Sends bytes as they are.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the gateway takes it");
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

    /// Reads a Close with this code, and then the end of the stream.
    pub(crate) fn expect_close(&mut self, code: u16) {
        let frame = self.frame().expect("a Close, not the end");
        assert_eq!(frame.close_code(), Some(code), "{frame:?}");
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
            if let Some((frame, len)) = parse(&self.inbox[self.at..]) {
                self.at += len;
                return Ok(Some(frame));
            }
            if self.fill()? == 0 {
                assert_eq!(self.inbox.len(), self.at, "the stream ends inside a frame");
                return Ok(None);
            }
        }
    }

    /// Reads frames up to the end of the stream, however that comes.
    pub(crate) fn rest(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Ok(Some(frame)) = self.try_frame() {
            frames.push(frame);
        }
        frames
    }

    /// An HTTP head, up to its empty line; `None` if the stream ends before.
    pub(crate) fn head(&mut self) -> Option<String> {
        loop {
            let rest = &self.inbox[self.at..];
            if let Some(end) = rest.windows(4).position(|w| w == b"\r\n\r\n") {
                let head = String::from_utf8(rest[..end + 4].to_vec()).expect("ASCII");
                self.at += end + 4;
                return Some(head);
            }
            if self.fill().expect("the answer ends in order") == 0 {
                return None;
            }
        }
    }

    /// Reads a whole HTTP answer up to the end of the stream.
    pub(crate) fn response(&mut self) -> String {
        while self.fill().expect("the answer ends in order") > 0 {}
        let text = String::from_utf8(self.inbox[self.at..].to_vec()).expect("text");
        self.at = self.inbox.len();
        text
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
    format!(
        "GET {path} HTTP/1.1\r\nHost: gateway.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    .into_bytes()
}

/// A masked frame with FIN.
pub(crate) fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    frame_of(0x80 | opcode, payload)
}

/// A masked frame without FIN.
pub(crate) fn fragment(opcode: u8, payload: &[u8]) -> Vec<u8> {
    frame_of(opcode, payload)
}

/// A masked Close with this code.
pub(crate) fn close_frame(code: u16) -> Vec<u8> {
    frame(CLOSE, &code.to_be_bytes())
}

fn frame_of(first: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x5a, 0x11, 0xc7, 0x3e];
    let mut out = Vec::with_capacity(payload.len() + 14);
    out.push(first);
    match payload.len() {
        len @ 0..126 => out.push(0x80 | len as u8),
        len @ 126..0x1_0000 => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&MASK);
    out.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    out
}

/// The first frame in `bytes`, with its length, if it is whole. Fails on what no gateway may send.
fn parse(bytes: &[u8]) -> Option<(Frame, usize)> {
    let (first, second) = (*bytes.first()?, *bytes.get(1)?);
    assert_eq!(first & 0xf0, 0x80, "a frame of a gateway is whole, without reserved bits");
    assert_eq!(second & 0x80, 0, "a frame of a gateway is not masked");
    let (header, len) = match second {
        126 => (4, usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().unwrap()))),
        127 => (10, u64::from_be_bytes(bytes.get(2..10)?.try_into().unwrap()) as usize),
        short => (2, usize::from(short)),
    };
    let payload = bytes.get(header..header + len)?.to_vec();
    Some((Frame { opcode: first & 0x0f, payload }, header + len))
}
