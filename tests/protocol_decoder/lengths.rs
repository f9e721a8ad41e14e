//! Frames that are a length and a payload, held against a plain reading of their layout.

use proptest::{collection::vec, prelude::*, sample::Index};
use tidegate::protocol::{Decoder, Event, Framing, MessageKind, Partial, Spare, Violation};

use super::WIDE;
use super::harness::{Outcome, Said, limits_of, run, splits_agree};

const TEXT: Decoder = Decoder { framing: Framing::U32Text, ..WIDE };
const BINARY: Decoder = Decoder { framing: Framing::U32Binary, ..WIDE };

fn frame(payload: &[u8]) -> Vec<u8> {
    [&(payload.len() as u32).to_be_bytes(), payload].concat()
}

/// What `bytes` mean: four bytes of length, the payload, and so on.
fn meaning(limits: &Decoder, mut bytes: &[u8]) -> Outcome {
    let mut said = Vec::new();
    let (violation, begun) = loop {
        if bytes.is_empty() {
            break (None, false);
        }
        match one(limits, bytes) {
            Err(violation) => break (Some(violation), false),
            Ok(None) => break (None, true),
            Ok(Some((what, len))) => {
                bytes = &bytes[len..];
                said.push(what);
            }
        }
    };
    Outcome { said, violation, begun }
}

/// The message at the front of `bytes`, if all of it is there, and how long its frame is.
fn one(limits: &Decoder, bytes: &[u8]) -> Result<Option<(Said, usize)>, Violation> {
    let Some(len) = bytes.first_chunk() else { return Ok(None) };
    let len = u32::from_be_bytes(*len) as usize;
    if len > limits.max_frame_bytes {
        return Err(Violation::FrameTooBig);
    }
    if len > limits.max_message_bytes {
        return Err(Violation::MessageTooBig);
    }
    let come = &bytes[4..bytes.len().min(4 + len)];
    let whole = come.len() == len;
    let text = limits.framing == Framing::U32Text;
    if text
        && let Err(error) = std::str::from_utf8(come)
        && (whole || error.error_len().is_some())
    {
        return Err(Violation::InvalidUtf8);
    }
    let kind = if text { MessageKind::Text } else { MessageKind::Binary };
    Ok(whole.then(|| (Said::Message(kind, come.to_vec()), 4 + len)))
}

/// Reads `bytes` in all the usual ways, and cut in two at every point.
fn reads_as(limits: &Decoder, bytes: &[u8], seed: u32) -> Outcome {
    let outcome = splits_agree(limits, bytes, seed);
    let mut spare = Spare::new(2, 2, 1 << 16);
    for cut in 0..=bytes.len() {
        let (a, b) = bytes.split_at(cut);
        assert_eq!(run(limits, &[a, b], &mut spare), outcome, "cut at {cut}");
    }
    outcome
}

fn texts() -> impl Strategy<Value = Vec<String>> {
    vec(prop_oneof!["\\PC{0,40}", "[a-zé€😀]{100,150}"], 0..5)
}

proptest! {
    #[test]
    fn messages_are_what_was_sent(texts in texts(), seed: u32) {
        let bytes: Vec<u8> = texts.iter().flat_map(|text| frame(text.as_bytes())).collect();
        for (limits, kind) in [(TEXT, MessageKind::Text), (BINARY, MessageKind::Binary)] {
            let outcome = reads_as(&limits, &bytes, seed);
            let sent = texts.iter().map(|text| Said::Message(kind, text.clone().into_bytes()));
            prop_assert_eq!(outcome.said, sent.collect::<Vec<_>>());
            prop_assert!(outcome.violation.is_none() && !outcome.begun);
        }
    }

    #[test]
    fn one_wrong_byte_or_end(texts in texts(), at: Index, byte: u8, end: Index, limits: u8, seed: u32) {
        let mut bytes: Vec<u8> = texts.iter().flat_map(|text| frame(text.as_bytes())).collect();
        bytes.extend(frame(b"and a last one"));
        let at = at.index(bytes.len());
        bytes[at] = byte;
        bytes.truncate(end.index(bytes.len() * 2));
        for framing in [Framing::U32Text, Framing::U32Binary] {
            for limits in [Decoder { framing, ..WIDE }, Decoder { framing, ..limits_of(limits) }] {
                prop_assert_eq!(reads_as(&limits, &bytes, seed), meaning(&limits, &bytes));
            }
        }
    }

    #[test]
    fn noise(bytes in vec(prop_oneof![Just(0), Just(0), 0..=20u8, any::<u8>()], 0..200),
             limits: u8, seed: u32) {
        for framing in [Framing::U32Text, Framing::U32Binary] {
            let limits = Decoder { framing, ..limits_of(limits) };
            prop_assert_eq!(reads_as(&limits, &bytes, seed), meaning(&limits, &bytes));
        }
    }
}

#[test]
fn each_violation() {
    use Violation::*;
    for (limits, bytes, expected) in [
        (TEXT, b"\xff\xff\xff\xff".to_vec(), FrameTooBig),
        (BINARY, b"\x00\x10\x00\x01".to_vec(), FrameTooBig),
        // What others begin with.
        (TEXT, b"GET / HTTP/1.1\r\n".to_vec(), FrameTooBig),
        (BINARY, b"\x16\x03\x01\x02\x00\x01".to_vec(), FrameTooBig),
        (TEXT, frame(b"\xff"), InvalidUtf8),
        (TEXT, frame(b"\xe2\x82"), InvalidUtf8),
        // Hopeless before all of it has come.
        (TEXT, frame(b"\xce\xba\xf4\x90\x80\x80edited")[..8].to_vec(), InvalidUtf8),
    ] {
        let outcome = reads_as(&limits, &bytes, 1);
        assert_eq!(outcome.violation, Some(expected), "{bytes:x?}");
        let behind = [frame(b"before"), bytes].concat();
        let outcome = reads_as(&limits, &behind, 2);
        assert_eq!((outcome.said.len(), outcome.violation), (1, Some(expected)), "{behind:x?}");
    }
}

#[test]
fn limits_are_checked_with_the_length() {
    let tight = Decoder { max_frame_bytes: 10, max_message_bytes: 8, max_fragments: 1, ..BINARY };
    let end = |bytes: &[u8]| reads_as(&tight, bytes, 7).violation;
    assert_eq!(end(&frame(&[0; 8]).repeat(3)), None);
    assert_eq!(end(&frame(&[0; 9])[..4]), Some(Violation::MessageTooBig));
    assert_eq!(end(&frame(&[0; 11])[..4]), Some(Violation::FrameTooBig));
}

#[test]
fn whole_frames_are_read_where_they_lie() {
    let mut spare = Spare::new(4, 4, 4096);
    let mut state: Option<Box<Partial>> = None;
    let mut bytes = [frame(b"hello"), frame(b""), frame(&[9; 70_000])].concat();
    let at = bytes.as_ptr_range();
    let mut input = &mut bytes[..];
    for len in [5, 0, 70_000] {
        match BINARY.next(&mut state, &mut spare, &mut input) {
            Ok(Some(Event::Message { payload, kind: MessageKind::Binary })) => {
                assert_eq!(payload.len(), len);
                assert!(len == 0 || at.contains(&payload.as_ptr()));
            }
            other => panic!("{other:?}"),
        }
        assert!(state.is_none());
    }
    assert_eq!(BINARY.next(&mut state, &mut spare, &mut input), Ok(None));
    assert!(state.is_none() && input.is_empty() && spare.heap_bytes() == 0);
}

#[test]
fn a_huge_announcement_costs_nothing() {
    let huge = Decoder { max_frame_bytes: usize::MAX, max_message_bytes: usize::MAX, ..BINARY };
    let mut spare = Spare::new(1, 1, 4096);
    let mut state = None;
    let mut bytes = *b"\xff\xff\xff\xffabc";
    let mut input = &mut bytes[..];
    assert_eq!(huge.next(&mut state, &mut spare, &mut input), Ok(None));
    let partial = state.as_ref().unwrap();
    assert!(partial.in_message() && partial.message_bytes() == 3);
    assert!(partial.heap_bytes() < 1024);
}
