//! A client that compresses what it is told to.

use std::net::SocketAddr;

use miniz_oxide::deflate::core::{
    CompressorOxide, TDEFLFlush, TDEFLStatus, compress, create_comp_flags_from_zip_params,
};
use miniz_oxide::inflate::stream::{InflateState, inflate};
use miniz_oxide::{DataFormat, MZFlush};

use crate::client::{Client, put_masked};

const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// A message that the gateway sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) opcode: u8,
    pub(crate) is_compressed: bool,
    /// As it came.
    pub(crate) wire: Vec<u8>,
    /// What it says.
    pub(crate) message: Vec<u8>,
}

/// A client with permessage-deflate, if it was agreed.
pub(crate) struct Peer {
    pub(crate) client: Client,
    /// The gateway's answer to the offer.
    pub(crate) answer: Option<String>,
    /// What inflates and compresses, where messages refer to earlier ones.
    inflater: Box<InflateState>,
    deflater: Box<CompressorOxide>,
}

impl Peer {
    pub(crate) fn open(addr: SocketAddr, path: &str, offer: &str) -> Self {
        let header = format!("Sec-WebSocket-Extensions: {offer}\r\n");
        let (client, head) = Client::open_with(addr, path, &header);
        let answer = head.header("Sec-WebSocket-Extensions").map(str::to_owned);
        let (inflater, deflater) = (InflateState::new_boxed(DataFormat::Raw), new_deflater());
        Self { client, answer, inflater, deflater }
    }

    fn has(&self, parameter: &str) -> bool {
        let answer = self.answer.as_deref().expect("an agreement");
        answer.split("; ").any(|said| said == parameter)
    }

    /// Compresses a message, by itself or with what came before, as was agreed.
    pub(crate) fn compressed(&mut self, message: &[u8]) -> Vec<u8> {
        if self.has("client_no_context_takeover") {
            self.deflater = new_deflater();
        }
        let mut out = vec![0; message.len() * 2 + 1024];
        let (status, read, len) = compress(&mut self.deflater, message, &mut out, TDEFLFlush::Sync);
        assert_eq!((status, read), (TDEFLStatus::Okay, message.len()));
        out.truncate(len);
        assert_eq!(out.split_off(len - 4), TAIL);
        out
    }

    /// A frame of a compressed message.
    pub(crate) fn put(&mut self, out: &mut Vec<u8>, opcode: u8, message: &[u8]) {
        let payload = self.compressed(message);
        put_compressed(out, opcode, &payload);
    }

    /// Sends a compressed message.
    pub(crate) fn send(&mut self, opcode: u8, message: &[u8]) {
        let mut out = Vec::new();
        self.put(&mut out, opcode, message);
        self.client.send(&out);
    }

    /// Reads a message, and inflates it.
    pub(crate) fn receive(&mut self) -> Received {
        let mut head = [0; 2];
        self.client.read_exact(&mut head);
        assert_eq!(head[0] & 0xb0, 0x80, "a whole message");
        assert_eq!(head[1] & 0x80, 0, "no mask");
        let mut extended = [0; 8];
        let len = match head[1] {
            126 => {
                self.client.read_exact(&mut extended[6..]);
                u64::from_be_bytes(extended) as usize
            }
            127 => {
                self.client.read_exact(&mut extended);
                u64::from_be_bytes(extended) as usize
            }
            short => short.into(),
        };
        let mut wire = vec![0; len];
        self.client.read_exact(&mut wire);
        let is_compressed = head[0] & 0x40 != 0;
        let message = if is_compressed { self.inflated(&wire) } else { wire.clone() };
        Received { opcode: head[0] & 0x0f, is_compressed, wire, message }
    }

    fn inflated(&mut self, payload: &[u8]) -> Vec<u8> {
        if self.has("server_no_context_takeover") {
            self.inflater = InflateState::new_boxed(DataFormat::Raw);
        }
        let payload = [payload, &TAIL].concat();
        let (mut rest, mut message) = (&payload[..], Vec::new());
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let step = inflate(&mut self.inflater, rest, &mut buffer, MZFlush::None);
            message.extend_from_slice(&buffer[..step.bytes_written]);
            rest = &rest[step.bytes_consumed..];
            if step.bytes_written < buffer.len() && rest.is_empty() {
                return message;
            }
            step.status.expect("what the gateway compressed can be inflated");
        }
    }

    /// Sends a message compressed; it has to come back, compressed.
    pub(crate) fn echoes(&mut self, opcode: u8, message: &[u8]) -> Received {
        self.send(opcode, message);
        let received = self.receive();
        assert_eq!(received.opcode, opcode);
        assert!(received.message == message, "{} bytes", received.message.len());
        received
    }
}

/// A client's frame of a compressed message.
pub(crate) fn put_compressed(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    let at = out.len();
    put_masked(out, true, opcode, payload);
    out[at] |= 0x40;
}

fn new_deflater() -> Box<CompressorOxide> {
    let flags = create_comp_flags_from_zip_params(6, -15, 0);
    Box::new(CompressorOxide::new(flags))
}
