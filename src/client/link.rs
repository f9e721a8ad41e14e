//! One connection: its socket, what is to be written, and what is begun of the server's messages.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::mem;

use super::deflate::Deflate;
use super::handle::Sent;
use super::options::Options;
use super::stream::Stream;
use crate::protocol::deflate::Agreed;
use crate::protocol::{
    ClientDecoder, Decoder, Framing, MessageKind, OpCode, Partial, Spare, Violation,
    put_client_close, put_client_frame, put_compressed_client_frame,
};

/// Masks drawn at once: a system call for so many frames, not for each.
const MASKS: usize = 256;
/// Most memory kept for what is assembled, bytes.
const SPARE_BYTES: usize = 256 * 1024;

/// What came of the opening handshake.
#[derive(Default)]
pub(super) struct Opened {
    /// What came behind it.
    pub(super) early: Vec<u8>,
    /// What was agreed on compression.
    pub(super) agreed: Option<Agreed>,
}

/// An open connection.
pub(super) struct Link {
    stream: Stream,
    framing: Framing,
    masks: Masks,
    pub(super) decoder: ClientDecoder,
    pub(super) partial: Option<Box<Partial>>,
    pub(super) spare: Spare,
    /// Frames, of which `written` bytes are gone.
    out: Vec<u8>,
    written: usize,
    /// Whether the stream is to be ended behind them, for want of a Close.
    ends: bool,
    /// Bytes written so far, of all frames.
    gone: u64,
    /// The same, when the stream last owed nothing to the socket.
    settled: u64,
    /// Whom to tell once so many are, in order.
    marks: VecDeque<(u64, Sent)>,
    /// What came behind the opening handshake.
    pub(super) early: Vec<u8>,
    deflate: Option<Box<Deflate>>,
}

impl Link {
    pub(super) fn new(
        stream: Stream,
        framing: Framing,
        options: &Options,
        Opened { early, agreed }: Opened,
    ) -> Self {
        let decoder = ClientDecoder(Decoder {
            framing,
            max_frame_bytes: options.max_message_bytes,
            max_message_bytes: options.max_message_bytes,
            max_fragments: *crate::limits::FRAGMENTS.end(),
            deflate: agreed.is_some(),
        });
        let deflate = options.deflate.as_ref().zip(agreed);
        let deflate = deflate.map(|(settings, agreed)| Box::new(Deflate::new(settings, agreed)));
        Self {
            stream,
            framing,
            masks: Masks::default(),
            decoder,
            partial: None,
            spare: Spare::new(1, 1, SPARE_BYTES),
            out: Vec::new(),
            written: 0,
            ends: false,
            gone: 0,
            settled: 0,
            marks: VecDeque::new(),
            early,
            deflate,
        }
    }

    /// Bytes that are still to be written.
    pub(super) fn owed(&self) -> usize {
        self.out.len() - self.written + usize::from(self.stream.owes())
    }

    /// Adds a frame to what is to be written.
    ///
    /// # Errors
    /// There is no source of randomness for its mask.
    pub(super) fn put(&mut self, op: OpCode, payload: &[u8]) -> io::Result<()> {
        let mask = self.masks.take()?;
        let kind = match op {
            OpCode::Text => Some(MessageKind::Text),
            OpCode::Binary => Some(MessageKind::Binary),
            _ => None,
        };
        if let (Some(deflate), Some(kind)) = (&mut self.deflate, kind)
            && let Some(compressed) = deflate.compressed(payload)
        {
            put_compressed_client_frame(&mut self.out, kind, compressed, mask);
            return Ok(());
        }
        put_client_frame(self.framing, &mut self.out, op, payload, mask);
        Ok(())
    }

    /// The message in a payload that came compressed.
    ///
    /// # Errors
    /// It is none.
    pub(super) fn inflated(
        &mut self,
        kind: MessageKind,
        payload: &[u8],
    ) -> Result<Vec<u8>, Violation> {
        let max_bytes = self.decoder.0.max_message_bytes;
        // The decoder lets none through where none were agreed.
        let deflate = self.deflate.as_mut().ok_or(Violation::ReservedBits)?;
        deflate.inflated(kind, payload, max_bytes)
    }

    /// Whether there are pings and Closes.
    pub(super) fn has_control_frames(&self) -> bool {
        self.framing.has_control_frames()
    }

    /// Whether an end of the stream, here and now, is a Close.
    pub(super) fn is_closed_by_end(&self) -> bool {
        !self.has_control_frames() && self.partial.is_none()
    }

    /// Adds a Close: a frame, or else the end of this side's stream.
    ///
    /// # Errors
    /// There is no source of randomness for its mask.
    pub(super) fn put_close(&mut self, code: Option<u16>, reason: &str) -> io::Result<()> {
        self.ends = !self.has_control_frames();
        let mask = self.masks.take()?;
        put_client_close(self.framing, &mut self.out, code, reason, mask);
        Ok(())
    }

    /// `sent` is to be told when all that was put so far is written.
    pub(super) fn mark(&mut self, sent: Sent) {
        let unwritten = self.out.len() - self.written;
        self.marks.push_back((self.gone + unwritten as u64, sent));
    }

    /// Who is to be told that it is written.
    pub(super) fn take_written(&mut self) -> Option<Sent> {
        let settled = self.settled;
        self.take_mark(|at| at <= settled)
    }

    /// Who is still to be told anything.
    pub(super) fn take_unwritten(&mut self) -> Option<Sent> {
        self.take_mark(|_| true)
    }

    fn take_mark(&mut self, is_due: impl FnOnce(u64) -> bool) -> Option<Sent> {
        let (at, _) = self.marks.front()?;
        if !is_due(*at) {
            return None;
        }
        self.marks.pop_front().map(|(_, sent)| sent)
    }

    /// Writes what the socket takes; whether it took all.
    ///
    /// # Errors
    /// The socket's.
    pub(super) fn flush(&mut self) -> io::Result<bool> {
        while self.written < self.out.len() {
            match self.stream.write(&self.out[self.written..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(n) => {
                    self.written += n;
                    self.gone += n as u64;
                    self.settled = if self.stream.owes() { self.settled } else { self.gone };
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        self.out.clear();
        self.written = 0;
        if self.ends {
            self.stream.end();
        }
        let all = self.stream.flush()?;
        if all {
            self.settled = self.gone;
        }
        if all && mem::take(&mut self.ends) {
            // Fails only where the server is gone already, which reading will tell.
            let _ = self.stream.end_sending();
        }
        Ok(all)
    }

    /// Reads what there is: `None` if that is nothing now, 0 at the end of the stream.
    ///
    /// # Errors
    /// The socket's.
    pub(super) fn read(&mut self, buf: &mut [u8]) -> io::Result<Option<usize>> {
        self.stream.read(buf)
    }
}

/// Random masks, each given out once.
struct Masks {
    drawn: [[u8; 4]; MASKS],
    left: usize,
}

impl Default for Masks {
    fn default() -> Self {
        Self { drawn: [[0; 4]; MASKS], left: 0 }
    }
}

impl Masks {
    fn take(&mut self) -> io::Result<[u8; 4]> {
        if self.left == 0 {
            let bytes = self.drawn.as_flattened_mut();
            getrandom::fill(bytes).map_err(io::Error::other)?;
            self.left = MASKS;
        }
        self.left -= 1;
        Ok(self.drawn[self.left])
    }
}
