//! permessage-deflate (RFC 7692): what is agreed in the handshake, and messages compressed and
//! inflated by it. Frames are the [decoder](super::Decoder)'s.
//!
//! Invariants, beside those of the room:
//! - A message is inflated when all of it is there. What comes out is bounded as it comes out: it
//!   takes the memory of a message that is just over the limit and no more, however much is in it.
//! - A message is inflated to its end: broken off or with bytes behind it, it is a violation.
//! - Nothing of one message can be read by another, unless both are of one connection and context
//!   takeover was agreed for them.
//! - [`Inflater`], [`Deflater`] and [`Deflaters`] are what a thread shares among connections, made
//!   when they are needed first. What a connection keeps is an [`Agreed`], of one byte; with context
//!   takeover a [`Window`] and a [`Deflater`] of its own.
//!
//! Deliberately absent: windows of 8 bits to compress in (zlib has none), preset dictionaries,
//! extensions beside this one.

mod agreed;
mod compress;
mod extensions;
mod inflate;
mod negotiate;
mod window;

pub use agreed::{Agreed, DeflateClass};
pub use compress::{Deflater, Deflaters};
pub use extensions::MalformedExtensions;
pub use inflate::Inflater;
pub use negotiate::{Answer, BadAnswer, DeflateMode, DeflateSettings, Offer};
pub use window::Window;

/// What ends every flush and is left out of every message (RFC 7692, 7.2.1).
const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];
/// The window that is always enough, as a power of two of bytes.
const WINDOW_BITS_MAX: u8 = *crate::limits::DEFLATE_WINDOW_BITS.end();
