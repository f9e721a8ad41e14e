//! The decoder: one input read at once, in pieces and byte by byte means the same, takes no more
//! memory than has arrived, and means what tungstenite takes it for.
//!
//! Where the two differ on purpose:
//! - tungstenite takes lengths that are not minimal; here they are a violation, and a control
//!   frame with an extended length is too long whatever it says.
//! - tungstenite looks at a frame when all of it is there; here the header and each piece of text
//!   are judged as they come, so a frame that breaks off can be a violation already.
//! - tungstenite has no limit on fragments; the comparison sets none here either.
//! - tungstenite holds 1014 for a bad close code, though IANA has registered it (Bad Gateway).
//! - tungstenite answers a bad close code inside a Close event; here it is a violation.
//! - The order of checks within one frame is another, so which error it is may differ.

use std::io::{self, Read, Write};
use tidegate::protocol::{Decoder, Event, Framing, MessageKind, Partial, Spare, Violation};
use tungstenite::protocol::frame::{FrameHeader, coding::CloseCode};
use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};
use tungstenite::{Error, Message};

/// Least memory that an assembled message takes, bytes; as the decoder has it.
const BUFFER_STEP: usize = 512;

/// The reason, of code 1002, that tungstenite puts in the place of a code that is not allowed.
const REPLACED: &str = "Protocol violation";

/// An event that owns what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// A message, however it was put together.
    Message(MessageKind, Vec<u8>),
    /// A compressed message, as it came.
    Compressed(MessageKind, Vec<u8>),
    /// A Ping.
    Ping(Vec<u8>),
    /// A Pong.
    Pong(Vec<u8>),
    /// A Close.
    Close(Option<u16>, String),
}

/// What became of an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// All that was said before the end.
    pub said: Vec<Said>,
    /// What ended it, if not the input's end or a Close.
    pub violation: Option<Violation>,
    /// Whether something is begun and not ended; false after a violation or Close.
    pub begun: bool,
}

/// One fuzz input: a byte that chooses the limits, four that seed the pieces, then the frames.
pub fn check(data: &[u8]) {
    let Some((&[limits, a, b, c, d], frames)) = data.split_first_chunk() else { return };
    let seed = u32::from_le_bytes([a, b, c, d]);
    let decoder = limits_of(limits);
    splits_agree(&decoder, frames, seed);
    for framing in [Framing::Tcp, Framing::U32Text, Framing::U32Binary] {
        splits_agree(&Decoder { framing, ..decoder }, frames, seed);
    }
    agrees_with_tungstenite(frames);
}

/// A few sets of limits, tight and wide, with and without compression.
pub fn limits_of(choice: u8) -> Decoder {
    let max_frame_bytes = [1 << 20, 0, 125, 1000][usize::from(choice & 3)];
    let max_message_bytes = [1 << 20, 0, 200, 3000][usize::from(choice >> 2 & 3)];
    let max_fragments = [1 << 20, 0, 1, 3][usize::from(choice >> 4 & 3)];
    let framing = Framing::WebSocket;
    let deflate = choice & 0x40 != 0;
    Decoder { framing, max_frame_bytes, max_message_bytes, max_fragments, deflate }
}

/// Reads `frames` at once, byte by byte and in pieces by `seed`: all the same.
pub fn splits_agree(decoder: &Decoder, frames: &[u8], seed: u32) -> Outcome {
    let whole = run_bare(decoder, &[frames]);
    let bytes: Vec<&[u8]> = frames.chunks(1).collect();
    assert_eq!(run_bare(decoder, &bytes), whole, "byte by byte");
    let pieces = pieces(frames, seed);
    let mut spare = Spare::new(2, 2, 1 << 16);
    assert_eq!(run(decoder, &pieces, &mut spare), whole, "in pieces by {seed}");
    // Once more out of a pool that has been used: nothing of the last life shows.
    assert_eq!(run(decoder, &pieces, &mut spare), whole, "in pieces by {seed}, again");
    whole
}

/// Cuts `bytes` where a small generator says, mostly into short pieces, some of them empty.
fn pieces(mut bytes: &[u8], seed: u32) -> Vec<&[u8]> {
    let mut state = u64::from(seed) << 1 | 1;
    let mut pieces = Vec::new();
    while !bytes.is_empty() {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let most = [3, 9, 40, 400][(state >> 40) as usize & 3];
        let len = ((state >> 45) as usize % most).min(bytes.len());
        let (piece, rest) = bytes.split_at(len);
        pieces.push(piece);
        bytes = rest;
    }
    pieces
}

/// Decodes `pieces` one after the other, as reads of one connection, without a pool: what is
/// kept between them is in proportion to what has arrived.
fn run_bare(decoder: &Decoder, pieces: &[&[u8]]) -> Outcome {
    let mut spare = Spare::new(0, 0, 0);
    let outcome = run_watched(decoder, pieces, &mut spare, |partial| modest(decoder, partial));
    assert_eq!(spare.heap_bytes(), 0);
    outcome
}

/// Decodes `pieces` one after the other, as reads of one connection.
pub fn run(decoder: &Decoder, pieces: &[&[u8]], spare: &mut Spare) -> Outcome {
    run_watched(decoder, pieces, spare, |_| {})
}

fn run_watched(
    decoder: &Decoder,
    pieces: &[&[u8]],
    spare: &mut Spare,
    watch: impl Fn(&Partial),
) -> Outcome {
    let mut state = None;
    let mut said = Vec::new();
    let mut violation = None;
    'reads: for piece in pieces {
        let mut bytes = piece.to_vec();
        let mut input = &mut bytes[..];
        loop {
            match decoder.next(&mut state, spare, &mut input) {
                Ok(Some(event)) => said.push(own(event, spare)),
                Ok(None) => break,
                Err(fault) => {
                    violation = Some(fault);
                    break 'reads;
                }
            }
            if let Some(Said::Close(..)) = said.last() {
                break 'reads;
            }
        }
        assert!(input.is_empty(), "all of it is used up");
        if let Some(partial) = &state {
            watch(partial);
        }
    }
    let ended = violation.is_some() || matches!(said.last(), Some(Said::Close(..)));
    let begun = state.is_some() && !ended;
    spare.reclaim(&mut state);
    Outcome { said, violation, begun }
}

/// Memory is taken for what has arrived, not for what was announced.
fn modest(decoder: &Decoder, partial: &Partial) {
    let arrived = partial.message_bytes();
    // What is compressed may be a sixteenth and 64 bytes longer.
    let grown = decoder.max_message_bytes + decoder.max_message_bytes / 16 + 64;
    let limit = if decoder.deflate { grown } else { decoder.max_message_bytes };
    assert!(arrived <= limit);
    let most = if arrived == 0 { 0 } else { (2 * arrived).max(BUFFER_STEP) };
    let most = most.min(limit);
    assert!(partial.heap_bytes() <= size_of::<Partial>() + most, "{arrived} arrived");
}

fn own(event: Event<'_>, spare: &mut Spare) -> Said {
    let said = match event {
        Event::Message { kind, payload } => Said::Message(kind, payload.to_vec()),
        Event::Assembled { kind, payload } => {
            let said = Said::Message(kind, payload.clone());
            spare.recycle(payload);
            said
        }
        Event::Compressed { kind, payload } => Said::Compressed(kind, payload.to_vec()),
        Event::CompressedAssembled { kind, payload } => {
            let said = Said::Compressed(kind, payload.clone());
            spare.recycle(payload);
            said
        }
        Event::Ping(payload) => Said::Ping(payload.as_slice().to_vec()),
        Event::Pong(payload) => Said::Pong(payload.as_slice().to_vec()),
        Event::Close { code, reason } => Said::Close(code, reason.as_str().to_owned()),
    };
    if let Said::Message(MessageKind::Text, payload) = &said {
        assert!(std::str::from_utf8(payload).is_ok(), "text is UTF-8");
    }
    said
}

/// Reads `frames` with both and compares, up to the first thing they differ on purpose in.
pub fn agrees_with_tungstenite(frames: &[u8]) {
    const MAX: usize = 4096;
    let decoder = Decoder {
        framing: Framing::WebSocket,
        max_frame_bytes: MAX,
        max_message_bytes: MAX,
        max_fragments: u32::MAX,
        deflate: false,
    };
    let ours = run_bare(&decoder, &[frames]);
    let (theirs, end) = tungstenite_says(frames, MAX);
    let common = ours.said.len().min(theirs.len());
    match ours.violation {
        Some(Violation::NonMinimalLength | Violation::ControlTooLong) => {}
        Some(Violation::CloseCode) if matches!(end, End::BadCloseCode | End::Error) => {
            assert_eq!(theirs, ours.said);
        }
        Some(fault) => {
            assert_eq!(theirs, ours.said, "before {fault:?} and {end:?}");
            let broken_off = matches!(end, End::Input) && breaks_off(frames);
            assert!(matches!(end, End::Error) || broken_off, "{fault:?}, they: {end:?}");
        }
        None => match ours.said.last() {
            // A Close of the peer's in the very words that tungstenite puts in for a bad code.
            Some(Said::Close(Some(1002), reason)) if reason == REPLACED => {}
            Some(Said::Close(Some(1014), _)) => assert_eq!(end, End::BadCloseCode),
            Some(Said::Close(..)) => assert_eq!((theirs.len(), end), (ours.said.len(), End::Close)),
            _ => assert_eq!((theirs.len(), end), (ours.said.len(), End::Input)),
        },
    }
    assert_eq!(theirs[..common], ours.said[..common]);
}

/// How tungstenite's reading ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Input,
    Close,
    BadCloseCode,
    Error,
}

fn tungstenite_says(frames: &[u8], max: usize) -> (Vec<Said>, End) {
    let config = WebSocketConfig::default()
        .read_buffer_size(512)
        .write_buffer_size(0)
        .max_message_size(Some(max))
        .max_frame_size(Some(max));
    let mut context = WebSocketContext::new(Role::Server, Some(config));
    let mut stream = OneWay(frames);
    let mut said = Vec::new();
    loop {
        said.push(match context.read(&mut stream) {
            Ok(Message::Text(text)) => {
                Said::Message(MessageKind::Text, text.as_str().as_bytes().to_vec())
            }
            Ok(Message::Binary(bytes)) => Said::Message(MessageKind::Binary, bytes.to_vec()),
            Ok(Message::Ping(bytes)) => Said::Ping(bytes.to_vec()),
            Ok(Message::Pong(bytes)) => Said::Pong(bytes.to_vec()),
            Ok(Message::Close(None)) => {
                said.push(Said::Close(None, String::new()));
                return (said, End::Close);
            }
            Ok(Message::Close(Some(frame))) => {
                if frame.code == CloseCode::Protocol && frame.reason == REPLACED {
                    return (said, End::BadCloseCode);
                }
                said.push(Said::Close(Some(frame.code.into()), frame.reason.to_string()));
                return (said, End::Close);
            }
            Ok(Message::Frame(_)) => unreachable!("never read"),
            Err(Error::Protocol(
                tungstenite::error::ProtocolError::ResetWithoutClosingHandshake,
            )) => return (said, End::Input),
            Err(_) => return (said, End::Error),
        });
    }
}

/// Whether the last frame of `frames` is not all there.
fn breaks_off(mut frames: &[u8]) -> bool {
    while !frames.is_empty() {
        let mut cursor = io::Cursor::new(frames);
        let Ok(Some((_, len))) = FrameHeader::parse(&mut cursor) else { return true };
        let rest = &frames[cursor.position() as usize..];
        match usize::try_from(len).ok().and_then(|len| rest.get(len..)) {
            Some(rest) => frames = rest,
            None => return true,
        }
    }
    false
}

/// Gives its bytes, then the end; swallows what is written.
struct OneWay<'a>(&'a [u8]);

impl Read for OneWay<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf)
    }
}

impl Write for OneWay<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
