//! The Close frame: codes and reasons (RFC 6455, 5.5.1 and 7.4).

use super::frame::{ControlPayload, OpCode};
use super::{Event, Framing, Violation};
use crate::limits::CONTROL_PAYLOAD_MAX;
use std::fmt;

/// Longest reason of a Close, bytes.
pub const CLOSE_REASON_MAX: usize = CONTROL_PAYLOAD_MAX - 2;

/// Why the peer closes: valid UTF-8 of up to 123 bytes, inline.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CloseReason(ControlPayload);

impl CloseReason {
    /// No reason given.
    pub const EMPTY: Self = Self(ControlPayload::EMPTY);

    /// The reason.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Checked when it was taken; checking again on this cold path spares an `unsafe`.
        std::str::from_utf8(self.0.as_slice()).unwrap_or_default()
    }
}

impl fmt::Debug for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// Whether a Close may carry `code`: 1000–1003, 1007–1014 (1012–1014 are IANA's) and 3000–4999
/// (RFC 6455, 7.4).
#[must_use]
pub const fn is_sendable_code(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// Appends a Close frame. `reason` is cut at a character's boundary to the 123 bytes there are.
///
/// Without a code, or with one that must not be sent (1005, 1006 and their like), the frame is
/// empty, which the peer reports as 1005 (RFC 6455, 7.1.5).
pub fn put_close(framing: Framing, out: &mut Vec<u8>, code: Option<u16>, reason: &str) {
    framing.put_frame(out, OpCode::Close, close_payload(code, reason).as_slice());
}

/// The payload of that frame.
pub(super) fn close_payload(code: Option<u16>, reason: &str) -> ControlPayload {
    let mut payload = ControlPayload::EMPTY;
    if let Some(code) = code.filter(|&code| is_sendable_code(code)) {
        payload.extend(&code.to_be_bytes());
        payload.extend(cut(reason, CLOSE_REASON_MAX).as_bytes());
    }
    payload
}

/// The longest front of `text` that has at most `max` bytes and whole characters.
fn cut(text: &str, max: usize) -> &str {
    let end = (0..=max.min(text.len())).rev().find(|&end| text.is_char_boundary(end));
    &text[..end.unwrap_or(0)]
}

/// Reads an unmasked Close payload of up to 125 bytes.
pub(super) fn parse_close(payload: &[u8]) -> Result<Event<'static>, Violation> {
    let Some((code, reason)) = payload.split_first_chunk() else {
        return match payload {
            [] => Ok(Event::Close { code: None, reason: CloseReason::EMPTY }),
            _ => Err(Violation::CloseLengthOne),
        };
    };
    let code = u16::from_be_bytes(*code);
    if !is_sendable_code(code) {
        return Err(Violation::CloseCode);
    }
    if std::str::from_utf8(reason).is_err() {
        return Err(Violation::CloseReasonUtf8);
    }
    let reason = ControlPayload::new(reason).ok_or(Violation::ControlTooLong)?;
    Ok(Event::Close { code: Some(code), reason: CloseReason(reason) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_as_the_test_suites_have_them() {
        let valid = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014];
        assert!(valid.into_iter().chain([3000, 3999, 4000, 4999]).all(is_sendable_code));
        let invalid = [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535];
        assert!(!invalid.into_iter().any(is_sendable_code));
    }

    #[test]
    fn long_reasons_are_cut_between_characters() {
        let mut out = Vec::new();
        put_close(Framing::WebSocket, &mut out, Some(1001), &"é".repeat(80));
        assert_eq!(out.len(), 2 + 2 + 122);
        assert_eq!(out[..4], [0x88, 124, 0x03, 0xe9]);
        assert_eq!(std::str::from_utf8(&out[4..]), Ok("é".repeat(61).as_str()));
        out.clear();
        put_close(Framing::WebSocket, &mut out, Some(4000), &"a".repeat(200));
        assert_eq!(out.len(), 2 + 125);
    }

    #[test]
    fn what_must_not_be_sent_is_left_out() {
        let mut out = Vec::new();
        put_close(Framing::WebSocket, &mut out, Some(1006), "gone");
        put_close(Framing::WebSocket, &mut out, None, "ignored");
        put_close(Framing::Tcp, &mut out, None, "ignored");
        assert_eq!(out, [0x88, 0, 0x88, 0, 8, 0, 0, 0, 0]);
    }

    #[test]
    fn payloads() {
        let reason = CloseReason(ControlPayload::new(b"bye").unwrap());
        assert_eq!(parse_close(b"\x03\xe8bye"), Ok(Event::Close { code: Some(1000), reason }));
        assert_eq!(parse_close(b""), Ok(Event::Close { code: None, reason: CloseReason::EMPTY }));
        assert_eq!(parse_close(b"\x03"), Err(Violation::CloseLengthOne));
        assert_eq!(parse_close(b"\x03\xed"), Err(Violation::CloseCode));
        assert_eq!(parse_close(b"\x03\xe8\xff"), Err(Violation::CloseReasonUtf8));
    }
}
