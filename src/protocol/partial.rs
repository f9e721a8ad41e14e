//! What is kept of a connection's frames between reads, and the pool it comes from.

use super::decoder::{Event, FrameRules, Progress, control_event, grown};
use super::frame::{ControlPayload, FrameHeader, MessageKind, OpCode};
use super::mask::{apply_mask, rotated};
use super::utf8::Utf8Stream;
use super::violation::Violation;
use crate::limits::FRAME_HEADER_MAX;
use std::mem;

/// Least memory to take for a message that is being assembled, bytes.
const BUFFER_STEP: usize = 512;

/// A frame or message that has begun and not ended. A connection without one keeps nothing.
#[derive(Debug)]
pub struct Partial {
    /// Where in a frame the input broke off.
    stage: Stage,
    /// A header that broke off; only `header[..header_len]` counts.
    header: [u8; FRAME_HEADER_MAX],
    /// 0 unless `stage` is `Header`.
    header_len: u8,
    /// A control frame's payload so far, unmasked.
    control: ControlPayload,
    /// The message begun, between its first frame's header and its last frame's end.
    message: Option<Message>,
    /// The message's payload so far, unmasked. Empty without a message.
    payload: Vec<u8>,
}

/// Where in a frame the input broke off.
#[derive(Clone, Copy, Debug)]
enum Stage {
    /// In the header, or before it.
    Header,
    /// In the payload of a control frame.
    Control { op: OpCode, rest: Rest },
    /// In the payload of a data frame.
    Data { fin: bool, rest: Rest },
}

/// What is still to come of a frame's payload.
#[derive(Clone, Copy, Debug)]
struct Rest {
    /// Bytes.
    len: usize,
    /// The mask, turned to meet the next byte; zeros where there is none.
    mask: [u8; 4],
}

impl Rest {
    /// Takes what there is of the payload from the front of `input`, unmasked.
    fn take<'a>(&mut self, input: &mut &'a mut [u8]) -> &'a [u8] {
        let end = self.len.min(input.len());
        let (piece, rest) = mem::take(input).split_at_mut(end);
        *input = rest;
        if self.mask != [0; 4] {
            apply_mask(piece, self.mask);
            self.mask = rotated(self.mask, piece.len());
        }
        self.len -= piece.len();
        piece
    }
}

#[derive(Clone, Copy, Debug)]
struct Message {
    kind: MessageKind,
    /// RSV1 was set on its first frame.
    compressed: bool,
    /// Frames begun, from 1.
    fragments: u32,
    /// Of the text so far.
    utf8: Utf8Stream,
}

impl Message {
    fn begun(kind: MessageKind, compressed: bool) -> Self {
        Self { kind, compressed, fragments: 1, utf8: Utf8Stream::default() }
    }

    /// Whether its bytes are judged as they come: what is compressed has no meaning yet.
    fn is_plain_text(&self) -> bool {
        self.kind == MessageKind::Text && !self.compressed
    }
}

impl Partial {
    fn new() -> Self {
        Self {
            stage: Stage::Header,
            header: [0; FRAME_HEADER_MAX],
            header_len: 0,
            control: ControlPayload::EMPTY,
            message: None,
            payload: Vec::new(),
        }
    }

    /// What this takes of the heap, bytes: itself and the message's buffer.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        size_of::<Self>() + self.payload.capacity()
    }

    /// Whether a data message has begun, not only a header or a control frame.
    #[must_use]
    pub fn in_message(&self) -> bool {
        self.message.is_some()
    }

    /// Payload of the unfinished message so far, bytes.
    #[must_use]
    pub fn message_bytes(&self) -> usize {
        self.payload.len()
    }

    /// Whether nothing at all is begun.
    pub(super) fn is_idle(&self) -> bool {
        matches!(self.stage, Stage::Header) && self.header_len == 0 && self.message.is_none()
    }

    /// Goes on where the last input broke off; see [`Decoder::next`](super::Decoder::next).
    pub(super) fn feed(
        &mut self,
        limits: &impl FrameRules,
        spare: &mut Spare,
        input: &mut &mut [u8],
    ) -> Result<Option<Event<'static>>, Violation> {
        loop {
            let event = match self.stage {
                Stage::Header => match self.read_header(limits, input)? {
                    Some(header) => {
                        self.begin(&header)?;
                        None
                    }
                    None => return Ok(None),
                },
                Stage::Control { op, rest } => self.read_control(op, rest, input)?,
                Stage::Data { fin, rest } => self.read_data(limits, spare, fin, rest, input)?,
            };
            if event.is_some() || (input.is_empty() && !self.ends_without_bytes()) {
                return Ok(event);
            }
        }
    }

    /// Whether the frame in progress has no more payload to wait for.
    fn ends_without_bytes(&self) -> bool {
        match self.stage {
            Stage::Header => false,
            Stage::Control { rest, .. } | Stage::Data { rest, .. } => rest.len == 0,
        }
    }

    fn progress(&self) -> Progress {
        let (fragments, compressed) =
            self.message.map_or((0, false), |message| (message.fragments, message.compressed));
        Progress { fragments, bytes: self.payload.len(), compressed }
    }

    /// Takes a header off the front of `input`, together with what was kept of it.
    fn read_header(
        &mut self,
        limits: &impl FrameRules,
        input: &mut &mut [u8],
    ) -> Result<Option<FrameHeader>, Violation> {
        let progress = self.progress();
        if self.header_len == 0
            && let Some(header) = limits.header(input, progress)?
        {
            skip(input, header.size);
            return Ok(Some(header));
        }
        while let Some(&byte) = input.first() {
            let at = usize::from(self.header_len);
            // The longest header has as many bytes as there are slots, so `at` is always one.
            let Some(slot) = self.header.get_mut(at) else { break };
            *slot = byte;
            skip(input, 1);
            self.header_len += 1;
            if let Some(header) = limits.header(&self.header[..=at], progress)? {
                self.header_len = 0;
                return Ok(Some(header));
            }
        }
        Ok(None)
    }

    /// Goes into the payload that `header` announces. Takes no memory for it.
    fn begin(&mut self, header: &FrameHeader) -> Result<(), Violation> {
        let len = usize::try_from(header.len).map_err(|_| Violation::FrameTooBig)?;
        let rest = Rest { len, mask: header.mask };
        self.stage = Stage::Data { fin: header.fin, rest };
        match header.op {
            OpCode::Text => {
                self.message = Some(Message::begun(MessageKind::Text, header.compressed));
            }
            OpCode::Binary => {
                self.message = Some(Message::begun(MessageKind::Binary, header.compressed));
            }
            OpCode::Continuation => {
                let message = self.message.as_mut().ok_or(Violation::UnexpectedContinuation)?;
                message.fragments += 1;
            }
            op @ (OpCode::Close | OpCode::Ping | OpCode::Pong) => {
                self.control = ControlPayload::EMPTY;
                self.stage = Stage::Control { op, rest };
            }
        }
        Ok(())
    }

    fn read_control(
        &mut self,
        op: OpCode,
        mut rest: Rest,
        input: &mut &mut [u8],
    ) -> Result<Option<Event<'static>>, Violation> {
        self.control.extend(rest.take(input));
        if rest.len > 0 {
            self.stage = Stage::Control { op, rest };
            return Ok(None);
        }
        self.stage = Stage::Header;
        control_event(op, self.control.as_slice())
    }

    fn read_data(
        &mut self,
        limits: &impl FrameRules,
        spare: &mut Spare,
        fin: bool,
        mut rest: Rest,
        input: &mut &mut [u8],
    ) -> Result<Option<Event<'static>>, Violation> {
        let piece = rest.take(input);
        if let Some(message) = &mut self.message
            && message.is_plain_text()
            && message.utf8.push(piece).is_err()
        {
            return Err(Violation::InvalidUtf8);
        }
        // A message that ends here needs no more than it has; another may come up to its limit.
        let whole = self.payload.len() + piece.len() + rest.len;
        let most = match self.message {
            Some(Message { compressed: true, .. }) => grown(limits.max_message_bytes()),
            _ => limits.max_message_bytes(),
        };
        self.append(piece, if fin { whole } else { most }, spare);
        if rest.len > 0 {
            self.stage = Stage::Data { fin, rest };
            return Ok(None);
        }
        self.stage = Stage::Header;
        if fin { self.finish() } else { Ok(None) }
    }

    /// Adds to the message, whose length can't go over `bound`.
    ///
    /// Memory is taken for what has arrived and at most as much again, never for what a header
    /// announces, and never past `bound`.
    fn append(&mut self, piece: &[u8], bound: usize, spare: &mut Spare) {
        if piece.is_empty() {
            return;
        }
        if self.payload.capacity() == 0 {
            self.payload = spare.buffer();
        }
        let need = self.payload.len() + piece.len();
        if need > self.payload.capacity() {
            let wanted = need.max(self.payload.capacity() * 2).max(BUFFER_STEP);
            let wanted = wanted.min(bound.max(need));
            self.payload.reserve_exact(wanted - self.payload.len());
        }
        self.payload.extend_from_slice(piece);
    }

    fn finish(&mut self) -> Result<Option<Event<'static>>, Violation> {
        let payload = mem::take(&mut self.payload);
        match self.message.take() {
            Some(Message { kind, compressed: true, .. }) => {
                Ok(Some(Event::CompressedAssembled { kind, payload }))
            }
            Some(message) if message.utf8.is_complete() => {
                Ok(Some(Event::Assembled { kind: message.kind, payload }))
            }
            _ => Err(Violation::InvalidUtf8),
        }
    }
}

/// A bounded pool of what messages are assembled in, one per event loop: with it the steady
/// state allocates nothing.
#[derive(Debug)]
pub struct Spare {
    /// At most `max_partials`, all idle and without a buffer.
    #[expect(
        clippy::vec_box,
        reason = "connections own the box itself; it moves, not its content"
    )]
    partials: Vec<Box<Partial>>,
    max_partials: usize,
    /// At most `max_buffers`, all empty, with a capacity of 1 to `max_buffer_capacity`.
    buffers: Vec<Vec<u8>>,
    max_buffers: usize,
    max_buffer_capacity: usize,
    /// Memory of `buffers`, at most `max_total_bytes`.
    total_bytes: usize,
    max_total_bytes: usize,
}

impl Spare {
    /// An empty pool that keeps at most `max_partials` states and `max_buffers` buffers, and no
    /// buffer of more than `max_buffer_capacity` bytes.
    #[must_use]
    pub fn new(max_partials: usize, max_buffers: usize, max_buffer_capacity: usize) -> Self {
        Self {
            partials: Vec::new(),
            max_partials,
            buffers: Vec::new(),
            max_buffers,
            max_buffer_capacity,
            total_bytes: 0,
            max_total_bytes: max_buffers.saturating_mul(max_buffer_capacity),
        }
    }

    /// Keeps no more than `bytes` of memory in all buffers together.
    #[must_use]
    pub fn within(mut self, bytes: usize) -> Self {
        self.max_total_bytes = bytes;
        self
    }

    /// Takes a message's buffer back; what is too big or one too many is freed.
    pub fn recycle(&mut self, mut buffer: Vec<u8>) {
        let fits = (1..=self.max_buffer_capacity).contains(&buffer.capacity());
        let total = self.total_bytes + buffer.capacity();
        if fits && self.buffers.len() < self.max_buffers && total <= self.max_total_bytes {
            self.total_bytes = total;
            buffer.clear();
            self.buffers.push(buffer);
        }
    }

    /// Takes a connection's state back, whatever it was in the middle of.
    pub fn reclaim(&mut self, state: &mut Option<Box<Partial>>) {
        let Some(mut partial) = state.take() else { return };
        self.recycle(mem::take(&mut partial.payload));
        if self.partials.len() < self.max_partials {
            *partial = Partial::new();
            self.partials.push(partial);
        }
    }

    /// What the pool holds of the heap, bytes, without its two lists.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.partials.len() * size_of::<Partial>()
            + self.buffers.iter().map(Vec::capacity).sum::<usize>()
    }

    pub(super) fn partial(&mut self) -> Box<Partial> {
        self.partials.pop().unwrap_or_else(|| Box::new(Partial::new()))
    }

    /// An empty buffer, with memory if there is some to spare.
    pub(crate) fn buffer(&mut self) -> Vec<u8> {
        let Some(buffer) = self.buffers.pop() else { return Vec::new() };
        self.total_bytes -= buffer.capacity();
        buffer
    }
}

/// Drops `n` bytes, or all there are, from the front of `input`.
fn skip(input: &mut &mut [u8], n: usize) {
    let n = n.min(input.len());
    *input = &mut mem::take(input)[n..];
}
