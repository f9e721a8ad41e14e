//! Bytes ↔ meaning: frames, messages and the opening handshake of RFC 6455, in the server's role and
//! in the client's; and the same frames over plain TCP, under a header of their own ([`Framing`]).
//!
//! Invariants:
//! - No io, no clock, no log, no thread: input and limits go in, events and bytes come out.
//! - No panic on any input, and no `unsafe`.
//! - A frame that lies whole in the input is unmasked there and allocates nothing; a connection
//!   keeps a [`Partial`] exactly while a frame or message is begun and not ended.
//! - Limits hold before memory is taken: for what has arrived and at most as much again, never
//!   for what a header announces.
//! - The same bytes mean the same events and the same [`Violation`], however reads split them.
//! - Nothing that a caller puts into a response or request can begin a new header line.
//! - The server's decoder has no branch for the client's role, which has a decoder of its own; masks
//!   of what a client sends are handed in.
//!
//! Deliberately absent: extensions beside permessage-deflate (a reserved bit is a violation), request
//! bodies.

mod client;
mod close;
mod decoder;
pub mod deflate;
mod frame;
mod framing;
pub mod handshake;
mod mask;
mod partial;
mod utf8;
mod violation;

pub use client::{ClientDecoder, put_client_close, put_client_frame, put_compressed_client_frame};
pub use close::{CLOSE_REASON_MAX, CloseReason, is_sendable_code, put_close};
pub use decoder::{Decoder, Event};
pub use frame::{
    ControlPayload, FirstFrame, MessageKind, OpCode, SERVER_HEADER_MAX, encode_header, first_frame,
    put_compressed_frame, put_frame,
};
pub use framing::{Framing, TcpFraming};
pub use mask::{apply_mask, rotated};
pub use partial::{Partial, Spare};
pub use utf8::{InvalidUtf8, Utf8Stream};
pub use violation::Violation;
