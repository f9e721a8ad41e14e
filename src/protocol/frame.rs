//! Frames: opcodes, the header of a server's frame, and the header of a client's (RFC 6455, 5.2).

use super::Violation;
use crate::limits::CONTROL_PAYLOAD_MAX;
use std::fmt;

/// Longest header of an unmasked frame, bytes: 2 and 8 of extended length.
pub const SERVER_HEADER_MAX: usize = 10;

/// The bit of a frame's first byte that says that it begins a compressed message (RFC 7692, 6).
pub(super) const RSV1: u8 = 0x40;

/// What a frame is (RFC 6455, 5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum OpCode {
    /// A further frame of the message begun before.
    Continuation = 0,
    /// The first frame of a text message.
    Text = 1,
    /// The first frame of a binary message.
    Binary = 2,
    /// The peer ends the connection.
    Close = 8,
    /// To be answered with a Pong of the same payload.
    Ping = 9,
    /// An answer to a Ping, or unasked.
    Pong = 10,
}

impl OpCode {
    /// The opcode in the low four bits of a frame's first byte, if it is not a reserved one.
    #[inline]
    #[must_use]
    pub const fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits & 0x0f {
            0 => Self::Continuation,
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            _ => return None,
        })
    }

    /// Close, Ping or Pong: at most 125 bytes, never fragmented, allowed between fragments.
    #[inline]
    #[must_use]
    pub const fn is_control(self) -> bool {
        self as u8 & 0x08 != 0
    }
}

/// What a message carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MessageKind {
    /// Valid UTF-8.
    Text,
    /// Any bytes.
    Binary,
}

impl MessageKind {
    /// The opcode of the message's first frame.
    #[inline]
    #[must_use]
    pub const fn opcode(self) -> OpCode {
        match self {
            Self::Text => OpCode::Text,
            Self::Binary => OpCode::Binary,
        }
    }
}

/// The payload of a Ping or Pong: up to 125 bytes, inline.
#[derive(Clone, Copy)]
pub struct ControlPayload {
    bytes: [u8; CONTROL_PAYLOAD_MAX],
    /// At most 125.
    len: u8,
}

impl ControlPayload {
    /// No bytes at all.
    pub const EMPTY: Self = Self { bytes: [0; CONTROL_PAYLOAD_MAX], len: 0 };

    /// Takes `payload`, if it is at most 125 bytes long.
    #[inline]
    #[must_use]
    pub fn new(payload: &[u8]) -> Option<Self> {
        let mut taken = Self::EMPTY;
        taken.bytes.get_mut(..payload.len())?.copy_from_slice(payload);
        taken.len = payload.len() as u8;
        Some(taken)
    }

    /// The payload.
    #[inline]
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len).min(CONTROL_PAYLOAD_MAX)]
    }

    /// Adds as much of `more` as there is room for.
    pub(super) fn extend(&mut self, more: &[u8]) {
        let at = usize::from(self.len);
        let len = more.len().min(CONTROL_PAYLOAD_MAX.saturating_sub(at));
        self.bytes[at..at + len].copy_from_slice(&more[..len]);
        self.len += len as u8;
    }
}

impl fmt::Debug for ControlPayload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ControlPayload").field(&self.as_slice()).finish()
    }
}

impl PartialEq for ControlPayload {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for ControlPayload {}

/// Writes the header of an unmasked frame with a payload of `len` bytes to the front of `out`, in
/// the shortest form, and returns the header's length: 2, 4 or 10 (RFC 6455, 5.2).
///
/// The top bit of `len` has no form on the wire and is not written.
#[inline]
pub fn encode_header(out: &mut [u8; SERVER_HEADER_MAX], fin: bool, op: OpCode, len: u64) -> usize {
    out[0] = u8::from(fin) << 7 | op as u8;
    match len {
        0..=125 => {
            out[1] = len as u8;
            2
        }
        126..=0xffff => {
            out[1] = 126;
            out[2..4].copy_from_slice(&(len as u16).to_be_bytes());
            4
        }
        _ => {
            out[1] = 127;
            out[2..].copy_from_slice(&(len & !(1 << 63)).to_be_bytes());
            10
        }
    }
}

/// Appends a whole unmasked frame, FIN set.
///
/// The caller keeps to the rules: a control frame's `payload` is at most 125 bytes.
#[inline]
pub fn put_frame(out: &mut Vec<u8>, op: OpCode, payload: &[u8]) {
    debug_assert!(!op.is_control() || payload.len() <= CONTROL_PAYLOAD_MAX);
    let mut header = [0; SERVER_HEADER_MAX];
    let len = encode_header(&mut header, true, op, payload.len() as u64);
    out.reserve(len + payload.len());
    out.extend_from_slice(&header[..len]);
    out.extend_from_slice(payload);
}

/// Appends a whole unmasked frame, FIN set, of a compressed message (RFC 7692, 6.1): `payload` is
/// what [`Deflater`](super::deflate::Deflater) made of it.
#[inline]
pub fn put_compressed_frame(out: &mut Vec<u8>, kind: MessageKind, payload: &[u8]) {
    let at = out.len();
    put_frame(out, kind.opcode(), payload);
    out[at] |= RSV1;
}

/// The first of a server's frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FirstFrame<'a> {
    /// What the frame says where it is a whole message, not compressed.
    pub message: Option<(MessageKind, &'a [u8])>,
    /// All of its bytes.
    pub frame: &'a [u8],
    /// What is behind it.
    pub rest: &'a [u8],
}

/// Takes the first frame off whole unmasked frames, as [`put_frame`] makes them. What is none is taken
/// for one frame that is no message.
#[must_use]
pub fn first_frame(frames: &[u8]) -> FirstFrame<'_> {
    let header = Lead::parse(frames.first().copied().unwrap_or_default(), true).and_then(|lead| {
        let length = lead.server_length(frames)?;
        Ok(length.map(|(len, size)| (lead, size, len)))
    });
    let Ok(Some((lead, size, len))) = header else {
        return FirstFrame { message: None, frame: frames, rest: &[] };
    };
    let end = usize::try_from(len).unwrap_or(usize::MAX).saturating_add(size).min(frames.len());
    let (frame, rest) = frames.split_at(end);
    let kind = match lead.op {
        OpCode::Text => Some(MessageKind::Text),
        OpCode::Binary => Some(MessageKind::Binary),
        _ => None,
    };
    let message = kind.filter(|_| lead.fin && !lead.compressed).map(|kind| (kind, &frame[size..]));
    FirstFrame { message, frame, rest }
}

/// The header of a client's frame, checked for all that does not hang on limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHeader {
    pub(super) fin: bool,
    /// RSV1: this begins a compressed message (RFC 7692, 6).
    pub(super) compressed: bool,
    pub(super) op: OpCode,
    /// Payload, bytes; under 2^63.
    pub(super) len: u64,
    /// Zeros where there is none.
    pub(super) mask: [u8; 4],
    /// The header itself, bytes: 6, 8 or 14; over plain TCP 5.
    pub(super) size: usize,
}

/// The first bytes of a client's frame: what two of them, and then the length, already tell.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lead {
    pub(super) fin: bool,
    pub(super) compressed: bool,
    pub(super) op: OpCode,
}

impl Lead {
    /// Reads the first byte: reserved bits, opcode, FIN of control frames. With `deflate` messages may
    /// be compressed.
    #[inline(always)]
    pub(super) fn parse(first: u8, deflate: bool) -> Result<Self, Violation> {
        let reserved = first & 0x70;
        let compressed = reserved != 0;
        // Only the first frame of a message, text or binary, can say that it is compressed.
        if compressed && !(deflate && reserved == RSV1 && matches!(first & 0x0f, 1 | 2)) {
            return Err(Violation::ReservedBits);
        }
        let op = OpCode::from_bits(first).ok_or(Violation::ReservedOpcode)?;
        let fin = first & 0x80 != 0;
        if op.is_control() && !fin {
            return Err(Violation::ControlFragmented);
        }
        Ok(Self { fin, compressed, op })
    }

    /// Reads what follows the first byte, as far as it has come: the payload's length and the
    /// offset of the mask, or `None` where bytes are missing.
    #[inline]
    pub(super) fn length(self, bytes: &[u8]) -> Result<Option<(u64, usize)>, Violation> {
        let Some(&second) = bytes.get(1) else { return Ok(None) };
        if second & 0x80 == 0 {
            return Err(Violation::Unmasked);
        }
        self.payload_length(second & 0x7f, bytes)
    }

    /// The same of a server's frame, which has no mask: the header ends with the length.
    pub(super) fn server_length(self, bytes: &[u8]) -> Result<Option<(u64, usize)>, Violation> {
        let Some(&second) = bytes.get(1) else { return Ok(None) };
        if second & 0x80 != 0 {
            return Err(Violation::Masked);
        }
        self.payload_length(second, bytes)
    }

    #[inline(always)]
    fn payload_length(self, short: u8, bytes: &[u8]) -> Result<Option<(u64, usize)>, Violation> {
        if self.op.is_control() && usize::from(short) > CONTROL_PAYLOAD_MAX {
            return Err(Violation::ControlTooLong);
        }
        match short {
            126 => extended_16(bytes),
            127 => extended_64(bytes),
            _ => Ok(Some((u64::from(short), 2))),
        }
    }

    /// The whole header, once the mask is there too.
    #[inline]
    pub(super) fn header(self, bytes: &[u8], len: u64, mask_at: usize) -> Option<FrameHeader> {
        let mask = *bytes.get(mask_at..)?.first_chunk()?;
        let Self { fin, compressed, op } = self;
        Some(FrameHeader { fin, compressed, op, len, mask, size: mask_at + 4 })
    }
}

#[inline]
fn extended_16(bytes: &[u8]) -> Result<Option<(u64, usize)>, Violation> {
    let Some(len) = bytes[2..].first_chunk() else { return Ok(None) };
    let len = u64::from(u16::from_be_bytes(*len));
    if len < 126 { Err(Violation::NonMinimalLength) } else { Ok(Some((len, 4))) }
}

fn extended_64(bytes: &[u8]) -> Result<Option<(u64, usize)>, Violation> {
    let Some(len) = bytes[2..].first_chunk() else { return Ok(None) };
    let len = u64::from_be_bytes(*len);
    if len >> 63 != 0 {
        return Err(Violation::LengthTopBit);
    }
    if len <= 0xffff { Err(Violation::NonMinimalLength) } else { Ok(Some((len, 10))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_headers_are_minimal() {
        let mut out = [0; SERVER_HEADER_MAX];
        let mut encode = |fin, op, len| {
            let n = encode_header(&mut out, fin, op, len);
            out[..n].to_vec()
        };
        assert_eq!(encode(true, OpCode::Text, 0), [0x81, 0]);
        assert_eq!(encode(true, OpCode::Binary, 125), [0x82, 125]);
        assert_eq!(encode(false, OpCode::Text, 126), [0x01, 126, 0, 126]);
        assert_eq!(encode(true, OpCode::Continuation, 0xffff), [0x80, 126, 0xff, 0xff]);
        assert_eq!(encode(true, OpCode::Text, 0x1_0000), [0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
        assert_eq!(encode(true, OpCode::Text, u64::MAX)[2], 0x7f);
    }

    #[test]
    fn a_whole_frame() {
        let mut out = vec![7];
        put_frame(&mut out, OpCode::Pong, b"hi");
        assert_eq!(out, [7, 0x8a, 2, b'h', b'i']);
    }

    #[test]
    fn control_payload_holds_125_bytes_and_no_more() {
        assert_eq!(ControlPayload::new(&[1; 125]).unwrap().as_slice(), [1; 125]);
        assert!(ControlPayload::new(&[1; 126]).is_none());
        let mut grown = ControlPayload::EMPTY;
        grown.extend(&[2; 100]);
        grown.extend(&[2; 100]);
        assert_eq!(grown.as_slice(), [2; 125]);
    }
}
