//! What a connection keeps of what came in, and how that ended.

use crate::protocol::{Partial, Violation};

/// Bytes that a connection keeps between reads.
#[derive(Debug, Default)]
pub enum Inbound {
    /// None.
    #[default]
    Nothing,
    /// A request head, and what came behind it.
    Head(Box<Vec<u8>>),
    /// A partial frame or an unfinished message.
    Partial(Box<Partial>),
    /// Frames that wait for another turn: see [`Received::Later`](super::Received::Later).
    Unread(Box<Vec<u8>>),
}

impl Inbound {
    /// What this takes of the heap, bytes.
    #[inline]
    pub(super) fn heap_bytes(&self) -> usize {
        match self {
            Self::Nothing => 0,
            Self::Head(bytes) | Self::Unread(bytes) => bytes.capacity() + size_of::<Vec<u8>>(),
            Self::Partial(partial) => partial.heap_bytes(),
        }
    }
}

/// How the peer's side ended, if it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It has not.
    No,
    /// It sent Close.
    Close {
        /// What to answer with.
        code: Option<u16>,
        /// Whether bytes came behind it.
        bytes_behind: bool,
    },
    /// It ended the TCP stream.
    Eof,
    /// It broke the protocol.
    Violation(Violation),
}
