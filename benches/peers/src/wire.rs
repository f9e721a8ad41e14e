//! The bytes on the wire, built once: requests, answers, frames (RFC 6455, sections 1.3 and 5.2).

use tungstenite::handshake::derive_accept_key;

/// One answer in so many is compared in full.
pub const SAMPLE: u64 = 1024;

/// The key of every opening handshake: RFC 6455's own example. A server can't tell that it is always
/// the same, and a canned answer to it is a right one.
pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// The mask of every frame of a generator: neither zero nor the same in two places.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// The opcode of text, with FIN.
pub const TEXT: u8 = 0x81;
/// The opcode of binary, with FIN.
pub const BINARY: u8 = 0x82;

/// A request for an upgrade.
#[must_use]
pub fn request(host: &str, path: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    .into_bytes()
}

/// The answer to [`request`].
#[must_use]
pub fn response() -> Vec<u8> {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\n\r\n",
        accept_key()
    )
    .into_bytes()
}

/// What [`KEY`] must be answered by.
#[must_use]
pub fn accept_key() -> String {
    derive_accept_key(KEY.as_bytes())
}

/// Whether a head is whole: it ends with a blank line.
#[must_use]
pub fn is_whole_head(bytes: &[u8]) -> bool {
    bytes.ends_with(b"\r\n\r\n")
}

/// Whether a whole head accepts [`KEY`].
#[must_use]
pub fn is_accepted(head: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(head) else { return false };
    text.starts_with("HTTP/1.1 101 ") && text.contains(&accept_key())
}

/// A frame as a client sends it: masked.
#[must_use]
pub fn client_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = header(first, payload.len(), 0x80);
    frame.extend_from_slice(&MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// A frame as a server sends it.
#[must_use]
pub fn server_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = header(first, payload.len(), 0);
    frame.extend_from_slice(payload);
    frame
}

/// A server's frame that is `length` bytes long with its header.
///
/// # Panics
/// Where no frame is: below 2, at 128 and 129, and above 64 KiB.
#[must_use]
pub fn server_frame_of_length(length: usize) -> Vec<u8> {
    let payload = if length <= 127 { length - 2 } else { length - 4 };
    let frame = server_frame(TEXT, &vec![b'x'; payload]);
    assert_eq!(frame.len(), length, "no frame has this length");
    frame
}

/// The length of the server's frame that `bytes` begin with, header and all, if its header is there.
#[must_use]
pub fn frame_length(bytes: &[u8]) -> Option<usize> {
    match bytes.get(1)? {
        126 => Some(4 + usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]))),
        127 => {
            let length = u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?);
            Some(10 + usize::try_from(length).ok()?)
        }
        short => Some(2 + usize::from(*short)),
    }
}

/// `size` bytes that look like nothing in particular and differ with `seed`.
#[must_use]
pub fn payload(size: usize, seed: usize) -> Vec<u8> {
    (0..size).map(|at| (at * 31 + seed * 17 + 7) as u8).collect()
}

fn header(first: u8, length: usize, masked: u8) -> Vec<u8> {
    let mut header = vec![first];
    match length {
        0..=125 => header.push(masked | length as u8),
        126..=0xffff => {
            header.push(masked | 126);
            header.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            header.push(masked | 127);
            header.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_answered_as_the_rfc_has_it() {
        assert_eq!(accept_key(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert!(is_whole_head(&response()) && is_accepted(&response()));
        assert!(!is_accepted(b"HTTP/1.1 404 Not Found\r\n\r\n"));
    }

    #[test]
    fn frames_are_as_long_as_they_say() {
        for size in [0, 20, 125, 126, 1024, 65_535, 65_536] {
            let sent = client_frame(BINARY, &payload(size, 1));
            let answered = server_frame(BINARY, &payload(size, 1));
            assert_eq!(sent.len(), answered.len() + 4);
            assert_eq!(frame_length(&answered), Some(answered.len()));
        }
        assert_eq!(server_frame_of_length(127).len(), 127);
        assert_eq!(server_frame_of_length(130).len(), 130);
    }

    #[test]
    fn clients_mask_by_the_rfc_example() {
        // RFC 6455, section 5.7: a masked "Hello".
        let hello = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
        assert_eq!(client_frame(TEXT, b"Hello"), hello);
    }
}
