//! Messages → compressed payloads (RFC 7692, 7.2.1).

use std::fmt;

use flate2::{Compress, Compression, FlushCompress};

use super::{Agreed, DeflateClass, DeflateSettings, TAIL};
use crate::limits::{DEFLATE_LEVEL, DEFLATE_WINDOW_BITS};
use crate::protocol::{MessageKind, put_compressed_frame, put_frame};

/// An empty message: a block with nothing in it, less its last bytes (RFC 7692, 7.2.3.6).
const EMPTY: u8 = 0x00;
/// How much longer a message may get in any case, where others can refer to it, bytes.
const GRACE: usize = 64;
/// Most memory to keep for payloads that are to become frames, bytes.
const SCRATCH_MAX: usize = 64 * 1024;

/// Compresses messages in windows of one size: with context takeover those of one connection, without
/// it those of any number.
pub struct Deflater {
    stream: Compress,
    window_bits: u8,
    takeover: bool,
    /// It has taken in something since it began or forgot.
    is_used: bool,
}

impl Deflater {
    /// One of this level, 1 to 9, and this window, 9 to 15. It takes its memory now.
    #[must_use]
    pub fn new(level: u8, window_bits: u8, takeover: bool) -> Self {
        let level = level.clamp(*DEFLATE_LEVEL.start(), *DEFLATE_LEVEL.end());
        let window_bits =
            window_bits.clamp(*DEFLATE_WINDOW_BITS.start(), *DEFLATE_WINDOW_BITS.end());
        let level = Compression::new(level.into());
        let stream = Compress::new_with_window_bits(level, false, window_bits);
        Self { stream, window_bits, takeover, is_used: false }
    }

    /// What one of this window takes of the heap, bytes.
    #[must_use]
    pub const fn heap_bytes_of(window_bits: u8) -> usize {
        // Two windows and the chain of one; the heads of the chains, what is pending, and the trees.
        (4 << window_bits) + 243 * 1024
    }

    /// What it takes of the heap, bytes.
    #[must_use]
    pub const fn heap_bytes(&self) -> usize {
        Self::heap_bytes_of(self.window_bits)
    }

    /// Appends the payload of a compressed message that says `message`.
    ///
    /// `false`: nothing was added, and the message is to be sent as it is; because it would be no
    /// shorter (with context takeover: or not much longer, where later messages can refer to it), or
    /// because memory failed. With context takeover each message has to be sent once it is compressed,
    /// and in the same order; after `false` it refers to nothing before.
    #[must_use]
    pub fn compress(&mut self, message: &[u8], out: &mut Vec<u8>) -> bool {
        let from = out.len();
        if message.is_empty() {
            out.push(EMPTY);
            return true;
        }
        if !self.takeover {
            self.stream.reset();
        }
        self.is_used = true;
        let whole = self.flush(message, out).is_some() && out.ends_with(&TAIL);
        if whole {
            out.truncate(out.len() - TAIL.len());
        }
        // What does not compress grows by a twentieth on the lowest level, and may, if later messages
        // can refer to all of it.
        let is_referred_to = self.takeover && message.len() <= 1 << self.window_bits;
        let grace = if is_referred_to { message.len() / 16 + GRACE } else { 0 };
        let pays = out.len() - from < message.len() + grace;
        if whole && pays {
            return true;
        }
        out.truncate(from);
        if self.takeover {
            // The other end never sees what was taken in of the message.
            self.forget();
        }
        false
    }

    /// Refers to nothing before from here on: with context takeover, because the connection is sent a
    /// message that was compressed elsewhere, which moves what it takes references to be to.
    pub fn forget(&mut self) {
        if std::mem::take(&mut self.is_used) {
            self.stream.reset();
        }
    }

    /// Appends all of `message`, compressed and flushed.
    fn flush(&mut self, message: &[u8], out: &mut Vec<u8>) -> Option<()> {
        // Stored blocks of what can't be compressed need a little more than the message itself.
        out.reserve(message.len() / 2 + 64);
        let mut rest = message;
        loop {
            let (read, written) = (self.stream.total_in(), out.len());
            self.stream.compress_vec(rest, out, FlushCompress::Sync).ok()?;
            let read = (self.stream.total_in() - read) as usize;
            rest = rest.get(read..)?;
            // It is flushed when there was room for more than there was.
            if rest.is_empty() && out.len() < out.capacity() {
                return Some(());
            }
            if read == 0 && out.len() == written && out.len() < out.capacity() {
                return None;
            }
            out.reserve(message.len() / 2 + 64);
        }
    }
}

impl fmt::Debug for Deflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deflater")
            .field("window_bits", &self.window_bits)
            .field("takeover", &self.takeover)
            .finish_non_exhaustive()
    }
}

/// What a thread compresses with for all connections without context takeover: a [`Deflater`] for
/// each size of window, made when it is needed first.
#[derive(Debug)]
pub struct Deflaters {
    level: u8,
    threshold_bytes: usize,
    of_class: [Option<Box<Deflater>>; DeflateClass::COUNT],
    /// Empty; its memory is at most [`SCRATCH_MAX`].
    scratch: Vec<u8>,
}

impl Deflaters {
    /// None made yet; level and threshold are those of `settings`.
    #[must_use]
    pub fn new(settings: &DeflateSettings) -> Self {
        Self {
            level: settings.level,
            threshold_bytes: settings.threshold_bytes,
            of_class: [const { None }; DeflateClass::COUNT],
            scratch: Vec::new(),
        }
    }

    /// What they take of the heap, bytes.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        let made = self.of_class.iter().flatten();
        let bytes = made.map(|deflater| size_of::<Deflater>() + deflater.heap_bytes());
        bytes.sum::<usize>() + self.scratch.capacity()
    }

    /// Appends the payload of a compressed message that says `message`, for all connections of
    /// `class`.
    ///
    /// `false`: nothing was added, and the message is to be sent as it is, because it is below the
    /// threshold or would be no shorter.
    #[must_use]
    pub fn compress(&mut self, class: DeflateClass, message: &[u8], out: &mut Vec<u8>) -> bool {
        if self.is_short(message.len()) {
            return false;
        }
        let level = self.level;
        let deflater = self.of_class[class.index()]
            .get_or_insert_with(|| Box::new(Deflater::new(level, class.window_bits(), false)));
        deflater.compress(message, out)
    }

    /// Appends the server's frame of a message, compressed as [`compress`](Self::compress) has it, or
    /// as it is; whether it is compressed.
    pub fn put_frame(
        &mut self,
        class: DeflateClass,
        kind: MessageKind,
        message: &[u8],
        out: &mut Vec<u8>,
    ) -> bool {
        let mut payload = std::mem::take(&mut self.scratch);
        let pays = self.compress(class, message, &mut payload);
        self.put(pays, payload, (kind, message), out)
    }

    /// The same for one connection with context takeover, whose own compressor is `dedicated`, and
    /// whatever the threshold.
    pub fn put_dedicated_frame(
        &mut self,
        dedicated: &mut Deflater,
        kind: MessageKind,
        message: &[u8],
        out: &mut Vec<u8>,
    ) -> bool {
        let mut payload = std::mem::take(&mut self.scratch);
        let pays = dedicated.compress(message, &mut payload);
        self.put(pays, payload, (kind, message), out)
    }

    /// Appends a frame of the compressed `payload`, if that `pays`, or else of the message; keeps the
    /// payload's memory.
    fn put(
        &mut self,
        pays: bool,
        mut payload: Vec<u8>,
        (kind, message): (MessageKind, &[u8]),
        out: &mut Vec<u8>,
    ) -> bool {
        if pays {
            put_compressed_frame(out, kind, &payload);
        } else {
            put_frame(out, kind.opcode(), message);
        }
        if payload.capacity() <= SCRATCH_MAX {
            payload.clear();
            self.scratch = payload;
        }
        pays
    }

    /// Whether a message of so many bytes is to be sent as it is.
    #[inline]
    #[must_use]
    pub const fn is_short(&self, message_bytes: usize) -> bool {
        message_bytes < self.threshold_bytes
    }

    /// A compressor for what a server sends to one connection with context takeover.
    #[must_use]
    pub fn dedicated(&self, agreed: Agreed) -> Deflater {
        Deflater::new(self.level, agreed.server_window_bits(), true)
    }
}
