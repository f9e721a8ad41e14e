//! Compressed payloads → messages (RFC 7692, 7.2.2).

use std::fmt;

use flate2::{Decompress, FlushDecompress, Status};

use super::window::Window;
use super::{TAIL, WINDOW_BITS_MAX};
use crate::limits::DEFLATE_FINAL_BLOCKS_MAX;
use crate::protocol::{MessageKind, Violation};

/// A last block with nothing in it: behind a whole message it makes the stream end.
const END: [u8; 5] = [0x01, 0x00, 0x00, 0xff, 0xff];
/// Least memory to take for a message that is being inflated, bytes. Short of what one reference can
/// stand for, zlib goes byte by byte.
const STEP_MIN: usize = 1024;
/// Most memory to take at first, bytes.
const STEP_FIRST_MAX: usize = 64 * 1024;

/// Inflates the messages of any number of connections, one after the other.
///
/// It is made at the first message; made, it takes about 47 KiB.
#[derive(Default)]
pub struct Inflater {
    stream: Option<Decompress>,
    /// Bytes in and out since last asked.
    worked_bytes: u64,
}

impl Inflater {
    /// One that has not been used yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { stream: None, worked_bytes: 0 }
    }

    /// What it takes of the heap, bytes.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        // The window of the largest size with its margin, and the tables of codes.
        if self.stream.is_some() { (1 << WINDOW_BITS_MAX) + 15 * 1024 } else { 0 }
    }

    /// How many bytes went in and came out since this was last asked: what inflating took of a turn.
    #[must_use]
    pub fn take_worked_bytes(&mut self) -> u64 {
        std::mem::take(&mut self.worked_bytes)
    }

    /// Inflates the whole `payload` of a message into `out`, whose content goes. With context takeover
    /// `window` is that of the other end.
    ///
    /// Memory is taken in steps for what has come out and at most as much again, up to one byte past
    /// `max_bytes`. An empty payload, which RFC 7692 has another form for, is an empty message.
    ///
    /// # Errors
    /// [`Violation::MessageTooBig`] as soon as there are more than `max_bytes`;
    /// [`Violation::InvalidDeflate`] for what is no whole message, or ends in more blocks than
    /// [`DEFLATE_FINAL_BLOCKS_MAX`]; [`Violation::InvalidUtf8`] for a text that is none. What is in
    /// `out` and `window` means nothing then.
    pub fn inflate(
        &mut self,
        kind: MessageKind,
        payload: &[u8],
        window: Option<&mut Window>,
        max_bytes: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), Violation> {
        out.clear();
        let stream = self.stream.get_or_insert_with(|| Decompress::new(false));
        let mut message = Inflation { stream, window, max_bytes, out, kept: 0, final_blocks: 0 };
        let inflated = message.whole(payload);
        self.worked_bytes += (payload.len() + out.len()) as u64;
        inflated?;
        match kind {
            MessageKind::Text if simdutf8::basic::from_utf8(out).is_err() => {
                Err(Violation::InvalidUtf8)
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Inflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inflater").field("made", &self.stream.is_some()).finish_non_exhaustive()
    }
}

/// One message being inflated.
struct Inflation<'a> {
    stream: &'a mut Decompress,
    window: Option<&'a mut Window>,
    max_bytes: usize,
    out: &'a mut Vec<u8>,
    /// How much of `out` is in the window.
    kept: usize,
    /// Blocks so far that were marked as the last one.
    final_blocks: u32,
}

impl Inflation<'_> {
    fn whole(&mut self, payload: &[u8]) -> Result<(), Violation> {
        if payload.is_empty() {
            return Ok(());
        }
        self.reserve_first(payload.len());
        self.restart()?;
        // Where the last block ends with the payload itself, that is all there is to it.
        if self.pieces(payload)? != End::Block && self.pieces(&TAIL)? == End::Open {
            self.ends_here()?;
        }
        self.keep();
        Ok(())
    }

    /// Inflates `input`, in which any number of streams may end and others follow them (RFC 7692,
    /// 7.2.1).
    fn pieces(&mut self, mut input: &[u8]) -> Result<End, Violation> {
        while self.inflate(&mut input)? == End::Block {
            if input.is_empty() {
                return Ok(End::Block);
            }
            self.final_blocks += 1;
            if self.final_blocks > DEFLATE_FINAL_BLOCKS_MAX {
                return Err(Violation::InvalidDeflate);
            }
            self.restart()?;
        }
        Ok(End::Open)
    }

    /// Begins a stream, which may refer to all that came before it.
    fn restart(&mut self) -> Result<(), Violation> {
        self.keep();
        self.stream.reset(false);
        let before = match &self.window {
            Some(window) => window.as_slice(),
            None => &self.out[self.out.len().saturating_sub(1 << WINDOW_BITS_MAX)..],
        };
        if before.is_empty() {
            return Ok(());
        }
        self.stream.set_dictionary(before).map(drop).map_err(|_| Violation::InvalidDeflate)
    }

    /// Takes `input` up to its end, or the end of a stream within it.
    fn inflate(&mut self, input: &mut &[u8]) -> Result<End, Violation> {
        loop {
            self.reserve();
            let (read, written) = (self.stream.total_in(), self.stream.total_out());
            let status = self
                .stream
                .decompress_vec(input, self.out, FlushDecompress::None)
                .map_err(|_| Violation::InvalidDeflate)?;
            let read = (self.stream.total_in() - read) as usize;
            *input = input.get(read..).unwrap_or_default();
            if self.out.len() > self.max_bytes {
                return Err(Violation::MessageTooBig);
            }
            if status == Status::StreamEnd {
                return Ok(End::Block);
            }
            if input.is_empty() && self.out.len() < self.out.capacity() {
                return Ok(End::Open);
            }
            if read == 0 && self.stream.total_out() == written {
                return Err(Violation::InvalidDeflate);
            }
        }
    }

    /// Whether the message is whole: not within a block, and nothing of it left to come.
    fn ends_here(&mut self) -> Result<(), Violation> {
        let len = self.out.len();
        let mut end = &END[..];
        let ended = self.inflate(&mut end)? == End::Block;
        if ended && end.is_empty() && self.out.len() == len {
            Ok(())
        } else {
            Err(Violation::InvalidDeflate)
        }
    }

    /// Takes what came out into the window, as far as it is not there.
    fn keep(&mut self) {
        if let Some(window) = &mut self.window {
            window.push(&self.out[self.kept..]);
            self.kept = self.out.len();
        }
    }

    fn reserve_first(&mut self, payload_bytes: usize) {
        let guess = payload_bytes.saturating_mul(4).clamp(STEP_MIN, STEP_FIRST_MAX);
        let wanted = guess.min(self.max_bytes.saturating_add(1));
        if self.out.capacity() < wanted {
            self.out.reserve_exact(wanted);
        }
    }

    fn reserve(&mut self) {
        if self.out.len() < self.out.capacity() {
            return;
        }
        // One byte past the limit tells that there is more.
        let room = self.max_bytes.saturating_add(1).saturating_sub(self.out.len());
        self.out.reserve_exact(self.out.len().max(STEP_MIN).min(room).max(1));
    }
}

/// Where an input came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// In a stream that goes on.
    Open,
    /// With a block that is marked as the last one.
    Block,
}
