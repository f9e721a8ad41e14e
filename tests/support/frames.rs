//! Frames made and taken apart by hand: it shares no code with the gateway.

// Each test binary compiles this module for itself and uses its own part of it.
#![allow(dead_code)]

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
    /// A frame to compare with.
    pub(crate) fn new(opcode: u8, payload: impl Into<Vec<u8>>) -> Self {
        Self { opcode, payload: payload.into() }
    }

    /// A Close to compare with: this code, and no reason.
    pub(crate) fn close(code: u16) -> Self {
        Self::new(CLOSE, code.to_be_bytes())
    }

    /// The payload, which has to be UTF-8.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.payload).expect("text is UTF-8")
    }

    /// The code that a Close carries.
    pub(crate) fn close_code(&self) -> Option<u16> {
        assert_eq!(self.opcode, CLOSE, "{self:?} is no Close");
        self.payload.first_chunk().map(|code| u16::from_be_bytes(*code))
    }

    /// The reason that a Close carries behind its code.
    pub(crate) fn close_reason(&self) -> &str {
        assert_eq!(self.opcode, CLOSE, "{self:?} is no Close");
        let reason = self.payload.get(2..).unwrap_or_default();
        std::str::from_utf8(reason).expect("reasons are UTF-8")
    }
}

/// A client's frame with FIN, masked.
pub(crate) fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    masked(true, opcode, payload)
}

/// A client's frame without FIN, masked.
pub(crate) fn fragment(opcode: u8, payload: &[u8]) -> Vec<u8> {
    masked(false, opcode, payload)
}

/// A client's Close with this code, masked.
pub(crate) fn close_frame(code: u16) -> Vec<u8> {
    frame(CLOSE, &code.to_be_bytes())
}

/// A frame with FIN as a server sends it.
pub(crate) fn server_frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() + 10);
    put_header(&mut out, 0x80 | opcode, 0, payload.len());
    out.extend_from_slice(payload);
    out
}

/// Appends a client's frame, masked.
pub(crate) fn put_masked(out: &mut Vec<u8>, fin: bool, opcode: u8, payload: &[u8]) {
    put_header(out, u8::from(fin) << 7 | opcode, 0x80, payload.len());
    let mask = [0x5a, payload.len() as u8, 0xc3, 0x17];
    out.extend_from_slice(&mask);
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
}

/// Appends a client's Close.
pub(crate) fn put_close(out: &mut Vec<u8>, code: u16) {
    put_masked(out, true, CLOSE, &code.to_be_bytes());
}

/// Cuts a frame off the front of `bytes`, if all of it is there: the frame, and its length.
/// Checks what a server must keep to: no mask, no reserved bits, whole messages, lengths in their
/// shortest form.
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

fn masked(fin: bool, opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() + 14);
    put_masked(&mut out, fin, opcode, payload);
    out
}

fn put_header(out: &mut Vec<u8>, first: u8, mask_bit: u8, len: usize) {
    out.push(first);
    match len {
        0..=125 => out.push(mask_bit | len as u8),
        126..=0xffff => {
            out.push(mask_bit | 126);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        _ => {
            out.push(mask_bit | 127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
}
