//! A WebSocket client that writes and reads bytes: what it sends and when is the test's to say.

// Each test binary compiles this module for itself and uses its own part of it.
#![allow(dead_code)]

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, SockRef, Socket, Type};

/// Longer than anything here takes on a machine under load.
const PATIENCE: Duration = Duration::from_secs(60);

/// One upgraded connection.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
}

/// A frame as a server sends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) op: u8,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// The payload, where it is text.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.payload).expect("text")
    }

    /// The code of a Close.
    pub(crate) fn close_code(&self) -> Option<u16> {
        assert_eq!(self.op, 8, "{self:?} is no Close");
        self.payload.first_chunk().map(|code| u16::from_be_bytes(*code))
    }
}

impl Client {
    /// Connects to `path` and upgrades.
    pub(crate) fn connect(addr: SocketAddr, path: &str) -> Self {
        Self::over(TcpStream::connect(addr).expect("it listens"), path)
    }

    /// The same with a small receive buffer, so that not reading is soon felt at the other end.
    pub(crate) fn connect_narrow(addr: SocketAddr, path: &str) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        socket.connect(&addr.into()).expect("it listens");
        Self::over(socket.into(), path)
    }

    fn over(stream: TcpStream, path: &str) -> Self {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        let mut client = Self { stream };
        client.send(request(path).as_bytes());
        let head = client.read_head();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        client
    }

    fn read_head(&mut self) -> String {
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") {
            self.stream.read_exact(&mut byte).expect("an answer");
            head.push(byte[0]);
        }
        String::from_utf8(head).expect("text")
    }

    /// Sends bytes as they are.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("it reads");
    }

    /// Sends a text message.
    pub(crate) fn send_text(&mut self, text: &str) {
        self.send(&masked(1, text.as_bytes()));
    }

    /// Fills `bytes` from what comes.
    pub(crate) fn fill(&mut self, bytes: &mut [u8]) {
        self.stream.read_exact(bytes).expect("it sends");
    }

    /// The next frame; `None` at the end of the stream, between frames.
    pub(crate) fn frame(&mut self) -> Option<Frame> {
        let mut lead = [0; 2];
        match self.stream.read_exact(&mut lead) {
            Ok(()) => {}
            Err(e) if is_end(&e) => return None,
            Err(e) => panic!("{e}"),
        }
        assert_eq!(lead[0] & 0xf0, 0x80, "one whole, plain frame");
        let len = match lead[1] {
            126 => self.number::<2>(),
            127 => self.number::<8>(),
            short => usize::from(short),
        };
        let mut payload = vec![0; len];
        self.fill(&mut payload);
        Some(Frame { op: lead[0] & 15, payload })
    }

    /// All frames up to the end of the stream.
    pub(crate) fn frames(&mut self) -> Vec<Frame> {
        std::iter::from_fn(|| self.frame()).collect()
    }

    fn number<const N: usize>(&mut self) -> usize {
        let mut bytes = [0; N];
        self.fill(&mut bytes);
        bytes.iter().fold(0, |n, byte| n << 8 | usize::from(*byte))
    }

    /// Bytes that wait to be read.
    pub(crate) fn waiting(&self) -> usize {
        let mut bytes = vec![std::mem::MaybeUninit::uninit(); 1 << 16];
        self.stream.set_nonblocking(true).unwrap();
        let got = SockRef::from(&self.stream).peek(&mut bytes).unwrap_or(0);
        self.stream.set_nonblocking(false).unwrap();
        got
    }
}

fn is_end(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset)
}

fn request(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
}

/// A message in one frame, as a client sends it.
pub(crate) fn masked(op: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    let mut frame = header(op, payload.len(), 0x80);
    frame.extend_from_slice(&mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// A message in one frame, as a server sends it.
pub(crate) fn plain(op: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = header(op, payload.len(), 0);
    frame.extend_from_slice(payload);
    frame
}

fn header(op: u8, len: usize, mask_bit: u8) -> Vec<u8> {
    let mut header = vec![0x80 | op];
    match len {
        0..=125 => header.push(mask_bit | len as u8),
        126..=0xffff => {
            header.push(mask_bit | 126);
            header.extend_from_slice(&(len as u16).to_be_bytes());
        }
        _ => {
            header.push(mask_bit | 127);
            header.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    header
}

/// Waits until `holds`; says `what` if it never does.
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "never saw {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
