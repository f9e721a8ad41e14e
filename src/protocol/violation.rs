//! What a peer can do wrong, and the close code that answers it.

use std::fmt;

/// A fault in what the other end sent. After one the stream of frames has no meaning: nothing more is
/// to be decoded, and the connection fails with [`close_code`](Self::close_code) (RFC 6455, 7.1.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Violation {
    /// A reserved bit is set where no extension gives it a meaning (RFC 6455, 5.2): with
    /// permessage-deflate RSV1 has one on the first frame of a message (RFC 7692, 6).
    ReservedBits,
    /// An opcode of 3–7 or 11–15 (RFC 6455, 5.2), over plain TCP of 3–7 or 11–255.
    ReservedOpcode,
    /// A client's frame without a mask (RFC 6455, 5.1).
    Unmasked,
    /// A server's frame with a mask (RFC 6455, 5.1).
    Masked,
    /// A length in more bytes than it needs (RFC 6455, 5.2).
    NonMinimalLength,
    /// A 64-bit length with its top bit set (RFC 6455, 5.2).
    LengthTopBit,
    /// A control frame of more than 125 bytes (RFC 6455, 5.5).
    ControlTooLong,
    /// A control frame without FIN (RFC 6455, 5.5).
    ControlFragmented,
    /// A continuation frame where no message was begun (RFC 6455, 5.4): any over plain TCP, where
    /// every frame is final.
    UnexpectedContinuation,
    /// A new data frame inside an unfinished message (RFC 6455, 5.4).
    ExpectedContinuation,
    /// A text message that is not UTF-8 (RFC 6455, 8.1).
    InvalidUtf8,
    /// A compressed message that can't be inflated (RFC 7692, 7.2.2).
    InvalidDeflate,
    /// A Close of one byte: half a code (RFC 6455, 5.5.1).
    CloseLengthOne,
    /// A close code that must not be sent (RFC 6455, 7.4).
    CloseCode,
    /// A close reason that is not UTF-8 (RFC 6455, 5.5.1 and 8.1).
    CloseReasonUtf8,
    /// A frame over `max_frame_bytes`.
    FrameTooBig,
    /// A message over `max_message_bytes`.
    MessageTooBig,
    /// A message in more than `max_fragments` frames.
    TooManyFragments,
}

impl Violation {
    /// Every kind of fault, in the order of declaration.
    pub const ALL: [Self; 18] = [
        Self::ReservedBits,
        Self::ReservedOpcode,
        Self::Unmasked,
        Self::Masked,
        Self::NonMinimalLength,
        Self::LengthTopBit,
        Self::ControlTooLong,
        Self::ControlFragmented,
        Self::UnexpectedContinuation,
        Self::ExpectedContinuation,
        Self::InvalidUtf8,
        Self::InvalidDeflate,
        Self::CloseLengthOne,
        Self::CloseCode,
        Self::CloseReasonUtf8,
        Self::FrameTooBig,
        Self::MessageTooBig,
        Self::TooManyFragments,
    ];

    /// The code that the answering Close carries: 1002 protocol error, 1007 invalid data or
    /// 1009 too big (RFC 6455, 7.4.1).
    #[must_use]
    pub const fn close_code(self) -> u16 {
        match self {
            Self::InvalidUtf8 | Self::InvalidDeflate | Self::CloseReasonUtf8 => 1007,
            Self::FrameTooBig | Self::MessageTooBig | Self::TooManyFragments => 1009,
            _ => 1002,
        }
    }

    /// The fault in a few words of ASCII, short enough for a Close.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::ReservedBits => "reserved bit set",
            Self::ReservedOpcode => "reserved opcode",
            Self::Unmasked => "frame not masked",
            Self::Masked => "frame masked",
            Self::NonMinimalLength => "length not minimal",
            Self::LengthTopBit => "length over 2^63",
            Self::ControlTooLong => "control frame over 125 bytes",
            Self::ControlFragmented => "control frame fragmented",
            Self::UnexpectedContinuation => "nothing to continue",
            Self::ExpectedContinuation => "message not finished",
            Self::InvalidUtf8 => "text is not UTF-8",
            Self::InvalidDeflate => "compressed data is broken",
            Self::CloseLengthOne => "close frame of one byte",
            Self::CloseCode => "invalid close code",
            Self::CloseReasonUtf8 => "close reason is not UTF-8",
            Self::FrameTooBig => "frame too big",
            Self::MessageTooBig => "message too big",
            Self::TooManyFragments => "too many fragments",
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for Violation {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn each_has_its_own_reason_that_fits_a_close() {
        let reasons: HashSet<_> = Violation::ALL.iter().map(|v| v.reason()).collect();
        assert_eq!(reasons.len(), Violation::ALL.len());
        for v in Violation::ALL {
            assert!(v.reason().is_ascii() && v.reason().len() <= 123, "{v:?}");
            assert!(matches!(v.close_code(), 1002 | 1007 | 1009), "{v:?}");
        }
    }
}
