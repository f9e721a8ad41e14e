//! How messages stand in a connection's stream of bytes, once it is open.
//!
//! Invariants:
//! - Whoever reads goes on until there is no more, as [`Wire`] wants it.
//! - A ping is answered by itself; its pong, and the answer to a Close, leave with the next flush.
//! - Over either framing a message is a tungstenite [`Message`], so no command knows the difference.

mod deflate;
mod frames;
mod lengths;
mod outgoing;

use tungstenite::{
    Message,
    protocol::{CloseFrame, Role, WebSocketConfig, WebSocketContext},
};

use self::{deflate::Deflated, frames::Frames, lengths::Lengths};
use crate::{socket::Wire, trouble::Trouble};

/// What may wait to be written on a connection before its peer counts as not reading, beyond one
/// message of the largest size.
const MAX_UNWRITTEN: usize = 64 << 20;

/// How messages stand in a stream of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// RFC 6455, behind an upgrade.
    WebSocket,
    /// The same with permessage-deflate (RFC 7692).
    Deflate {
        /// Whether the server keeps its window from message to message.
        keeps: bool,
    },
    /// `[u8 opcode][u32 BE length][payload]` from the first byte on, with the opcodes of RFC 6455,
    /// section 5.2. Every frame is final, and none is masked.
    Tcp,
    /// `[u32 BE length][payload]` from the first byte on, and nothing else.
    Lengths {
        /// Whether messages are text; else they are binary.
        text: bool,
    },
}

/// Reads and writes the messages of one connection.
// Nearly all are the larger one, and a box would cost those an allocation.
#[allow(clippy::large_enum_variant)]
pub(crate) enum Transport {
    /// tungstenite's codec.
    WebSocket(WebSocketContext),
    /// The same with what RFC 7692 adds.
    Deflate(Deflated),
    /// Frames over plain TCP.
    Tcp(Frames),
    /// The same by lengths alone.
    Lengths(Lengths),
}

impl Transport {
    /// A client's codec with small buffers, that has read `tail` already.
    pub(crate) fn new(framing: Framing, tail: Vec<u8>, read_buffer: usize) -> Self {
        match framing {
            Framing::WebSocket => Self::WebSocket(context(tail, read_buffer)),
            Framing::Deflate { keeps } => Self::Deflate(Deflated::new(tail, keeps)),
            Framing::Tcp => Self::Tcp(Frames::new(tail)),
            Framing::Lengths { text } => Self::Lengths(Lengths::new(tail, text)),
        }
    }

    /// Queues a message.
    pub(crate) fn send(&mut self, wire: &mut Wire<'_>, message: Message) -> Result<(), Trouble> {
        match self {
            Self::WebSocket(context) => patient(context.write(wire, message)),
            Self::Deflate(frames) => frames.send(&message),
            Self::Tcp(frames) => frames.send(&message),
            Self::Lengths(frames) => frames.send(&message),
        }
    }

    /// Begins the closing handshake.
    pub(crate) fn close(&mut self, wire: &mut Wire<'_>) -> Result<(), Trouble> {
        let frame = CloseFrame { code: 1000.into(), reason: "".into() };
        match self {
            Self::WebSocket(context) => patient(context.close(wire, Some(frame))),
            Self::Deflate(frames) => {
                frames.close(Some(&frame));
                frames.flush(wire)
            }
            Self::Tcp(frames) => {
                frames.close(Some(&frame));
                frames.flush(wire)
            }
            Self::Lengths(frames) => {
                frames.close();
                frames.flush(wire)
            }
        }
    }

    /// Writes what is queued, as far as the socket takes it.
    pub(crate) fn flush(&mut self, wire: &mut Wire<'_>) -> Result<(), Trouble> {
        match self {
            Self::WebSocket(context) => patient(context.flush(wire)),
            Self::Deflate(frames) => frames.flush(wire),
            Self::Tcp(frames) => frames.flush(wire),
            Self::Lengths(frames) => frames.flush(wire),
        }
    }

    /// The next message, or `None` when all is read that has come.
    pub(crate) fn read(&mut self, wire: &mut Wire<'_>) -> Result<Option<Message>, Trouble> {
        match self {
            Self::WebSocket(context) => match context.read(wire) {
                Ok(message) => Ok(Some(message)),
                Err(error) if would_block(&error) => Ok(None),
                Err(error) => Err(error.into()),
            },
            Self::Deflate(frames) => frames.read(wire),
            Self::Tcp(frames) => frames.read(wire),
            Self::Lengths(frames) => frames.read(wire),
        }
    }
}

fn context(tail: Vec<u8>, read_buffer: usize) -> WebSocketContext {
    let config = WebSocketConfig::default()
        .read_buffer_size(read_buffer)
        .write_buffer_size(MAX_UNWRITTEN)
        .max_write_buffer_size(2 * MAX_UNWRITTEN)
        .max_message_size(None)
        .max_frame_size(None);
    WebSocketContext::from_partially_read(tail, Role::Client, Some(config))
}

/// What could not be done at once is done later.
fn patient(result: tungstenite::Result<()>) -> Result<(), Trouble> {
    match result {
        Err(error) if would_block(&error) => Ok(()),
        result => result.map_err(Trouble::from),
    }
}

fn would_block(error: &tungstenite::Error) -> bool {
    matches!(error, tungstenite::Error::Io(error) if error.kind() == std::io::ErrorKind::WouldBlock)
}
