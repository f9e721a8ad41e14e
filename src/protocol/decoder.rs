//! Bytes of a client → events, in place where the bytes allow it (RFC 6455, 5 and 6.2; over plain
//! TCP the same in other headers, see [`Framing`]).

use super::close::{CloseReason, parse_close};
use super::frame::{ControlPayload, FrameHeader, Lead, MessageKind, OpCode};
use super::framing::{Framing, tcp_header, u32_header};
use super::mask::apply_mask;
use super::partial::{Partial, Spare};
use super::violation::Violation;
use std::mem;

/// What a client said.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A message that lay whole in the input: unmasked in place.
    Message {
        /// Text or binary.
        kind: MessageKind,
        /// The message; valid UTF-8 if it is text.
        payload: &'a [u8],
    },
    /// A message put together over several reads or frames.
    Assembled {
        /// Text or binary.
        kind: MessageKind,
        /// The message; valid UTF-8 if it is text. To be given back by [`Spare::recycle`].
        payload: Vec<u8>,
    },
    /// A compressed message that lay whole in the input, as RFC 7692 has it: unmasked in place, and to
    /// be [inflated](super::deflate::Inflater). It comes only where [`Decoder::deflate`] is set.
    Compressed {
        /// What it is once it is inflated, text of which nothing is checked, or binary.
        kind: MessageKind,
        /// The compressed bytes.
        payload: &'a [u8],
    },
    /// The same of a message put together over several reads or frames.
    CompressedAssembled {
        /// What it is once it is inflated, text of which nothing is checked, or binary.
        kind: MessageKind,
        /// The compressed bytes. To be given back by [`Spare::recycle`].
        payload: Vec<u8>,
    },
    /// To be answered with a Pong of the same payload (RFC 6455, 5.5.2).
    Ping(ControlPayload),
    /// An answer to a Ping, or unasked (RFC 6455, 5.5.3).
    Pong(ControlPayload),
    /// The client ends the connection: nothing after this is to be decoded (RFC 6455, 5.5.1).
    Close {
        /// Why, as a code that may be sent; `None` for an empty Close.
        code: Option<u16>,
        /// Why, in words; often empty.
        reason: CloseReason,
    },
}

/// How a connection's frames are decoded, and under which limits; what a connection keeps between
/// reads lies in an `Option<Box<Partial>>` beside its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decoder {
    /// How frames stand in the stream. It must not change while one is begun.
    pub framing: Framing,
    /// Most payload of one data frame, bytes.
    pub max_frame_bytes: usize,
    /// Most payload of one message, bytes.
    pub max_message_bytes: usize,
    /// Most frames of a fragmented message. A message in one frame, as all are over plain TCP, is
    /// never refused for it.
    pub max_fragments: u32,
    /// Whether messages may be compressed: permessage-deflate was agreed (RFC 7692). The limits hold
    /// for the compressed bytes, with a sixteenth and 64 bytes more: what does not compress grows. It
    /// has no meaning over plain TCP.
    pub deflate: bool,
}

impl Decoder {
    /// Takes bytes from the front of `input` up to the end of the next event.
    ///
    /// `Ok(None)` means that all of `input` is used up; what is unfinished lies in `state`, which
    /// is `None` exactly when nothing is begun. Call until then: one input may hold many events.
    ///
    /// Match the result where it stands. An event has room for a control frame's payload, and
    /// moving it through `?` or `while let` costs more than decoding a short message.
    ///
    /// # Errors
    /// The first [`Violation`], as early as the bytes show it, and the same one wherever the
    /// stream was split. After it, as after [`Event::Close`], the rest of `input` means nothing:
    /// drop it, hand `state` to [`Spare::reclaim`], and call no more.
    #[inline]
    pub fn next<'a>(
        &self,
        state: &mut Option<Box<Partial>>,
        spare: &mut Spare,
        input: &mut &'a mut [u8],
    ) -> Result<Option<Event<'a>>, Violation> {
        // One branch for both.
        if self.framing as u8 | u8::from(self.deflate) != Framing::WebSocket as u8 {
            return self.next_other(state, spare, input);
        }
        if state.is_none() {
            if input.is_empty() {
                return Ok(None);
            }
            if let Some(header) = self.web_socket_header(input, Progress::IDLE, false)?
                && header.fin
                && let Some(payload) = take_frame(input, &header)
            {
                apply_mask(payload, header.mask);
                return whole_frame(header.op, payload);
            }
        }
        self.resume(state, spare, input)
    }

    /// The same over plain TCP, and where messages may be compressed; apart, so that it costs other
    /// WebSockets one branch and no code.
    #[inline(never)]
    fn next_other<'a>(
        &self,
        state: &mut Option<Box<Partial>>,
        spare: &mut Spare,
        input: &mut &'a mut [u8],
    ) -> Result<Option<Event<'a>>, Violation> {
        if self.framing != Framing::WebSocket {
            return self.next_tcp(state, spare, input);
        }
        if state.is_none() {
            if input.is_empty() {
                return Ok(None);
            }
            if let Some(header) = self.web_socket_header(input, Progress::IDLE, true)?
                && header.fin
                && let Some(payload) = take_frame(input, &header)
            {
                apply_mask(payload, header.mask);
                if header.compressed {
                    return compressed_frame(header.op, payload);
                }
                return whole_frame(header.op, payload);
            }
        }
        self.resume(state, spare, input)
    }

    /// What these use is `inline(always)`: left to itself, the compiler shares it between them, which
    /// costs a short message a quarter more instructions.
    #[inline]
    fn next_tcp<'a>(
        &self,
        state: &mut Option<Box<Partial>>,
        spare: &mut Spare,
        input: &mut &'a mut [u8],
    ) -> Result<Option<Event<'a>>, Violation> {
        if state.is_none() {
            if input.is_empty() {
                return Ok(None);
            }
            if let Some(header) = self.tcp_header(input)?
                && let Some(payload) = take_frame(input, &header)
            {
                return whole_frame(header.op, payload);
            }
        }
        self.resume(state, spare, input)
    }

    /// The way of everything that does not lie whole in one input.
    #[inline(never)]
    fn resume<'a>(
        &self,
        state: &mut Option<Box<Partial>>,
        spare: &mut Spare,
        input: &mut &'a mut [u8],
    ) -> Result<Option<Event<'a>>, Violation> {
        let partial = state.get_or_insert_with(|| spare.partial());
        let event = partial.feed(self, spare, input)?;
        if partial.is_idle() {
            spare.reclaim(state);
        }
        Ok(event)
    }

    #[inline]
    fn tcp_header(&self, bytes: &[u8]) -> Result<Option<FrameHeader>, Violation> {
        let header = match self.framing {
            Framing::U32Text => u32_header(bytes, OpCode::Text),
            Framing::U32Binary => u32_header(bytes, OpCode::Binary),
            Framing::Tcp | Framing::WebSocket => tcp_header(bytes)?,
        };
        let Some(header) = header else { return Ok(None) };
        if !header.op.is_control() {
            self.check_length(header.len, Progress::IDLE, false)?;
        }
        Ok(Some(header))
    }

    #[inline(always)]
    fn web_socket_header(
        &self,
        bytes: &[u8],
        progress: Progress,
        deflate: bool,
    ) -> Result<Option<FrameHeader>, Violation> {
        let Some(&first) = bytes.first() else { return Ok(None) };
        let lead = Lead::parse(first, deflate)?;
        self.check_sequence(lead.op, progress)?;
        let Some((len, mask_at)) = lead.length(bytes)? else { return Ok(None) };
        if !lead.op.is_control() {
            self.check_length(len, progress, lead.compressed)?;
        }
        Ok(lead.header(bytes, len, mask_at))
    }

    #[inline]
    pub(super) fn check_sequence(&self, op: OpCode, progress: Progress) -> Result<(), Violation> {
        match (op, progress.fragments) {
            (OpCode::Continuation, 0) => Err(Violation::UnexpectedContinuation),
            (OpCode::Continuation, n) if n >= self.max_fragments => {
                Err(Violation::TooManyFragments)
            }
            (OpCode::Text | OpCode::Binary, 1..) => Err(Violation::ExpectedContinuation),
            _ => Ok(()),
        }
    }

    #[inline]
    pub(super) fn check_length(
        &self,
        len: u64,
        progress: Progress,
        compressed: bool,
    ) -> Result<(), Violation> {
        let compressed = compressed || progress.compressed;
        let limit = |bytes| if compressed { grown(bytes) } else { bytes } as u64;
        if len > limit(self.max_frame_bytes) {
            return Err(Violation::FrameTooBig);
        }
        if len.saturating_add(progress.bytes as u64) > limit(self.max_message_bytes) {
            return Err(Violation::MessageTooBig);
        }
        Ok(())
    }
}

impl FrameRules for Decoder {
    fn header(&self, bytes: &[u8], progress: Progress) -> Result<Option<FrameHeader>, Violation> {
        match self.framing {
            Framing::WebSocket => self.web_socket_header(bytes, progress, self.deflate),
            Framing::Tcp | Framing::U32Text | Framing::U32Binary => self.tcp_header(bytes),
        }
    }

    fn max_message_bytes(&self) -> usize {
        self.max_message_bytes
    }
}

/// What a [`Partial`] has to know of the role it is read in: server's or client's. Each has its own
/// code made of it, so that neither pays for the other.
pub(super) trait FrameRules {
    /// Reads a frame's header from the front of `bytes`, as far as it is there. Every rule is
    /// checked as soon as the bytes that it is about have come, in one fixed order.
    fn header(&self, bytes: &[u8], progress: Progress) -> Result<Option<FrameHeader>, Violation>;

    /// Most payload of one message, bytes.
    fn max_message_bytes(&self) -> usize;
}

/// How far the unfinished message is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Progress {
    /// Frames begun; 0 where there is no message.
    pub(super) fragments: u32,
    /// Payload so far.
    pub(super) bytes: usize,
    /// Whether it is compressed.
    pub(super) compressed: bool,
}

impl Progress {
    pub(super) const IDLE: Self = Self { fragments: 0, bytes: 0, compressed: false };
}

/// The most that a message of so many bytes takes once it is compressed, by whatever compresses it.
pub(super) const fn grown(bytes: usize) -> usize {
    bytes.saturating_add(bytes / 16 + 64)
}

/// Cuts a frame off the front of `input`, if all of it is there, and returns its payload.
#[inline(always)]
pub(super) fn take_frame<'a>(
    input: &mut &'a mut [u8],
    header: &FrameHeader,
) -> Option<&'a mut [u8]> {
    let len = usize::try_from(header.len).ok()?;
    if input.len() - header.size < len {
        return None;
    }
    let (frame, rest) = mem::take(input).split_at_mut(header.size + len);
    *input = rest;
    frame.get_mut(header.size..)
}

/// The event of a final frame, its payload without mask. It is made as what `next` returns: an event
/// has room for a control frame's payload, and moving that about would cost more than decoding.
#[inline(always)]
pub(super) fn whole_frame(op: OpCode, payload: &[u8]) -> Result<Option<Event<'_>>, Violation> {
    let kind = match op {
        OpCode::Binary => MessageKind::Binary,
        OpCode::Text if simdutf8::basic::from_utf8(payload).is_ok() => MessageKind::Text,
        OpCode::Text => return Err(Violation::InvalidUtf8),
        _ => return control_event(op, payload),
    };
    Ok(Some(Event::Message { kind, payload }))
}

/// The event of a final frame that is a compressed message, its payload without mask.
pub(super) fn compressed_frame(op: OpCode, payload: &[u8]) -> Result<Option<Event<'_>>, Violation> {
    let kind = if op == OpCode::Text { MessageKind::Text } else { MessageKind::Binary };
    Ok(Some(Event::Compressed { kind, payload }))
}

/// The event of a control frame, its payload unmasked.
#[inline(never)]
pub(super) fn control_event(
    op: OpCode,
    payload: &[u8],
) -> Result<Option<Event<'static>>, Violation> {
    let taken = || ControlPayload::new(payload).ok_or(Violation::ControlTooLong);
    match op {
        OpCode::Ping => Ok(Some(Event::Ping(taken()?))),
        OpCode::Pong => Ok(Some(Event::Pong(taken()?))),
        OpCode::Close => parse_close(payload).map(Some),
        // Data frames have their own ways, and a continuation was refused with its header.
        _ => Err(Violation::UnexpectedContinuation),
    }
}
