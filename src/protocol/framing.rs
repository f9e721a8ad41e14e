//! How messages stand in a connection's stream of bytes.

use super::frame::{OpCode, SERVER_HEADER_MAX, encode_header};

/// How messages stand in a connection's stream of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Framing {
    /// RFC 6455, behind an upgrade. What the server sends is unmasked.
    #[default]
    WebSocket,
    /// Plain TCP, from the first byte on: `[u8 opcode][u32 BE length][payload]`, with the opcodes of
    /// RFC 6455, 5.2; every frame is final, and no payload is masked.
    Tcp,
}

impl Framing {
    /// Writes the header of a final frame to the server's client; returns how long it is.
    #[inline]
    pub fn encode_header(self, out: &mut [u8; SERVER_HEADER_MAX], op: OpCode, len: usize) -> usize {
        match self {
            Self::WebSocket => encode_header(out, true, op, len as u64),
            Self::Tcp => {
                debug_assert!(u32::try_from(len).is_ok(), "messages are bounded by 1 GiB");
                out[0] = op as u8;
                out[1..5].copy_from_slice(&(len as u32).to_be_bytes());
                5
            }
        }
    }

    /// Appends a final frame to the server's client.
    #[inline]
    pub fn put_frame(self, out: &mut Vec<u8>, op: OpCode, payload: &[u8]) {
        let mut header = [0; SERVER_HEADER_MAX];
        let len = self.encode_header(&mut header, op, payload.len());
        out.reserve(len + payload.len());
        out.extend_from_slice(&header[..len]);
        out.extend_from_slice(payload);
    }
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
    }
}
