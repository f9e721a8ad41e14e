//! How messages stand in a connection's stream of bytes.

use std::fmt;

use super::frame::{FrameHeader, MessageKind, OpCode, SERVER_HEADER_MAX, encode_header};
use super::violation::Violation;
use crate::limits::CONTROL_PAYLOAD_MAX;

/// The header of a frame with an opcode over plain TCP, bytes.
const TCP_HEADER_BYTES: usize = 5;
/// The header of a frame that is a length and a payload, bytes.
const U32_HEADER_BYTES: usize = 4;

/// What frames over plain TCP look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TcpFraming {
    /// An opcode, the length and the payload: text and binary, pings and the closing handshake are as
    /// over WebSockets.
    Opcode,
    /// The length and the payload, and nothing else: all are messages of one kind.
    U32,
}

impl TcpFraming {
    /// All of them, by the word for each in configuration.
    pub(crate) const ALL: [(&'static str, Self); 2] =
        [("opcode", Self::Opcode), ("u32", Self::U32)];

    /// The same as the framing of a connection whose messages are of `kind`.
    #[must_use]
    pub fn of(self, kind: MessageKind) -> Framing {
        match (self, kind) {
            (Self::Opcode, _) => Framing::Tcp,
            (Self::U32, MessageKind::Text) => Framing::U32Text,
            (Self::U32, MessageKind::Binary) => Framing::U32Binary,
        }
    }
}

impl fmt::Display for TcpFraming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Opcode => "opcode",
            Self::U32 => "u32",
        })
    }
}

/// How messages stand in a connection's stream of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Framing {
    /// RFC 6455, behind an upgrade. What the server sends is unmasked.
    #[default]
    WebSocket,
    /// Plain TCP, from the first byte on: `[u8 opcode][u32 BE length][payload]`, with the opcodes of
    /// RFC 6455, 5.2; every frame is final, and no payload is masked.
    Tcp,
    /// Plain TCP, from the first byte on: `[u32 BE length][payload]`. Every frame is a message of
    /// text. There are no control frames: the end of the stream is the Close.
    U32Text,
    /// The same with binary messages.
    U32Binary,
}

impl Framing {
    /// Whether there are pings, pongs and Closes. Where there are none, nobody is pinged, and a
    /// connection is closed by the end of its stream alone, behind what is owed.
    #[inline]
    #[must_use]
    pub fn has_control_frames(self) -> bool {
        matches!(self, Self::WebSocket | Self::Tcp)
    }

    /// Writes the header of a final frame to the server's client; returns how long it is. The
    /// framing has to have frames of that kind.
    #[inline]
    pub fn encode_header(self, out: &mut [u8; SERVER_HEADER_MAX], op: OpCode, len: usize) -> usize {
        match self {
            Self::WebSocket => encode_header(out, true, op, len as u64),
            Self::Tcp => {
                debug_assert!(u32::try_from(len).is_ok(), "messages are bounded by 1 GiB");
                out[0] = op as u8;
                out[1..TCP_HEADER_BYTES].copy_from_slice(&(len as u32).to_be_bytes());
                TCP_HEADER_BYTES
            }
            Self::U32Text | Self::U32Binary => {
                debug_assert!(u32::try_from(len).is_ok(), "messages are bounded by 1 GiB");
                debug_assert!(!op.is_control(), "a control frame has no form here");
                out[..U32_HEADER_BYTES].copy_from_slice(&(len as u32).to_be_bytes());
                U32_HEADER_BYTES
            }
        }
    }

    /// Appends a final frame to the server's client: nothing, if it is a control frame and the framing
    /// has none.
    #[inline]
    pub fn put_frame(self, out: &mut Vec<u8>, op: OpCode, payload: &[u8]) {
        if op.is_control() && !self.has_control_frames() {
            return;
        }
        let mut header = [0; SERVER_HEADER_MAX];
        let len = self.encode_header(&mut header, op, payload.len());
        out.reserve(len + payload.len());
        out.extend_from_slice(&header[..len]);
        out.extend_from_slice(payload);
    }

    /// How long the frame at the front of `frames` is, header and payload. They have to be what
    /// the server itself put together, and whole.
    pub(crate) fn frame_len(self, frames: &[u8]) -> usize {
        let at = |from: usize| &frames[from..];
        let (header, payload) = match (self, frames[1]) {
            (Self::Tcp, _) => (TCP_HEADER_BYTES, be_len::<4>(at(1))),
            (Self::U32Text | Self::U32Binary, _) => (U32_HEADER_BYTES, be_len::<4>(at(0))),
            (Self::WebSocket, 126) => (4, be_len::<2>(at(2))),
            (Self::WebSocket, 127) => (10, be_len::<8>(at(2))),
            (Self::WebSocket, short) => (2, usize::from(short)),
        };
        header + payload
    }
}

/// A length of `N` bytes, the highest first.
fn be_len<const N: usize>(bytes: &[u8]) -> usize {
    bytes[..N].iter().fold(0, |len, byte| len << 8 | usize::from(*byte))
}

/// Reads the header of a client's frame over plain TCP from the front of `bytes`, as far as it is
/// there. The opcode is judged as soon as it has come.
#[inline]
pub(super) fn tcp_header(bytes: &[u8]) -> Result<Option<FrameHeader>, Violation> {
    let Some((&first, rest)) = bytes.split_first() else { return Ok(None) };
    // The byte is all opcode: with what is FIN and reserved bits in RFC 6455 it is none of those.
    let op = OpCode::from_bits(first).filter(|op| *op as u8 == first);
    let op = op.ok_or(Violation::ReservedOpcode)?;
    if op == OpCode::Continuation {
        return Err(Violation::UnexpectedContinuation);
    }
    let Some(len) = rest.first_chunk() else { return Ok(None) };
    let len = u32::from_be_bytes(*len);
    if op.is_control() && len as usize > CONTROL_PAYLOAD_MAX {
        return Err(Violation::ControlTooLong);
    }
    let len = len.into();
    Ok(Some(FrameHeader {
        fin: true,
        compressed: false,
        op,
        len,
        mask: [0; 4],
        size: TCP_HEADER_BYTES,
    }))
}

/// Reads the header of a frame that is a length and a payload, as far as it is there. All bytes are
/// one; what is no message at all shows in its length.
#[inline]
pub(super) fn u32_header(bytes: &[u8], op: OpCode) -> Option<FrameHeader> {
    let len = u32::from_be_bytes(*bytes.first_chunk()?).into();
    Some(FrameHeader {
        fin: true,
        compressed: false,
        op,
        len,
        mask: [0; 4],
        size: U32_HEADER_BYTES,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_have_the_layout_of_their_framing() {
        let put = |framing: Framing| {
            let mut out = Vec::new();
            framing.put_frame(&mut out, OpCode::Binary, b"abc");
            out
        };
        assert_eq!(put(Framing::WebSocket), b"\x82\x03abc");
        assert_eq!(put(Framing::Tcp), b"\x02\x00\x00\x00\x03abc");
        assert_eq!(put(Framing::U32Binary), b"\x00\x00\x00\x03abc");
        assert_eq!(put(Framing::U32Text), b"\x00\x00\x00\x03abc");
    }

    #[test]
    fn without_opcodes_there_are_no_control_frames() {
        for op in [OpCode::Close, OpCode::Ping, OpCode::Pong] {
            let mut out = b"owed".to_vec();
            Framing::U32Text.put_frame(&mut out, op, b"abc");
            Framing::U32Binary.put_frame(&mut out, op, b"");
            assert_eq!(out, b"owed");
        }
    }

    #[test]
    fn the_words_of_configuration() {
        for (word, framing) in TcpFraming::ALL {
            assert_eq!(framing.to_string(), word);
        }
    }

    #[test]
    fn frames_are_as_long_as_they_were_made() {
        for framing in [Framing::WebSocket, Framing::Tcp, Framing::U32Text, Framing::U32Binary] {
            for len in [0, 1, 125, 126, 127, 255, 256, 0xffff, 0x1_0000, 0x1_0203] {
                let mut out = Vec::new();
                framing.put_frame(&mut out, OpCode::Binary, &vec![7; len]);
                let whole = out.len();
                out.extend_from_slice(b"behind it");
                assert_eq!(framing.frame_len(&out), whole, "{framing:?} {len}");
            }
        }
    }

    #[test]
    fn tcp_headers_of_clients() {
        let header = |bytes: &[u8]| {
            tcp_header(bytes).map(|header| header.map(|h| (h.fin, h.op, h.len, h.mask, h.size)))
        };
        assert_eq!(header(b""), Ok(None));
        assert_eq!(header(b"\x01\0\0\x01"), Ok(None));
        let long = Some((true, OpCode::Text, 0x0102_0304, [0; 4], 5));
        assert_eq!(header(b"\x01\x01\x02\x03\x04rest"), Ok(long));
        assert_eq!(header(b"\x09\0\0\0\x7d").map(|h| h.is_some()), Ok(true));
        for op in [8, 9, 10] {
            assert_eq!(header(&[op, 0, 0, 0, 126]), Err(Violation::ControlTooLong));
        }
        assert_eq!(header(b"\0"), Err(Violation::UnexpectedContinuation));
        for first in (3..=7).chain(11..=255) {
            assert_eq!(header(&[first]), Err(Violation::ReservedOpcode), "{first:#x}");
        }
    }

    #[test]
    fn headers_that_are_lengths() {
        let header = |bytes: &[u8]| {
            u32_header(bytes, OpCode::Text).map(|h| (h.fin, h.op, h.len, h.mask, h.size))
        };
        assert_eq!(header(b""), None);
        assert_eq!(header(b"\0\0\x01"), None);
        let long = Some((true, OpCode::Text, 0xfedc_0304, [0; 4], 4));
        assert_eq!(header(b"\xfe\xdc\x03\x04rest"), long);
    }
}
