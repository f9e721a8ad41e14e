//! The same over plain TCP, held against a plain reading of its layout.

use proptest::{collection::vec, prelude::*, sample::Index};
use tidegate::protocol::{
    Decoder, Event, Framing, MessageKind, Partial, Spare, Violation, is_sendable_code,
};

use super::WIDE;
use super::harness::{Outcome, Said, limits_of, run, splits_agree};

const TCP: Decoder = Decoder { framing: Framing::Tcp, ..WIDE };

fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let len = payload.len() as u32;
    [&[opcode][..], &len.to_be_bytes(), payload].concat()
}

/// What `bytes` mean: an opcode, four bytes of length, the payload, and so on.
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
        if let Some(Said::Close(..)) = said.last() {
            break (None, false);
        }
    };
    Outcome { said, violation, begun }
}

/// What the frame at the front of `bytes` says, if all of it is there, and how long it is.
fn one(limits: &Decoder, bytes: &[u8]) -> Result<Option<(Said, usize)>, Violation> {
    let opcode = bytes[0];
    match opcode {
        0 => return Err(Violation::UnexpectedContinuation),
        1 | 2 | 8 | 9 | 10 => {}
        _ => return Err(Violation::ReservedOpcode),
    }
    let Some(len) = bytes[1..].first_chunk() else { return Ok(None) };
    let len = u32::from_be_bytes(*len) as usize;
    match opcode {
        8.. if len > 125 => return Err(Violation::ControlTooLong),
        8.. => {}
        _ if len > limits.max_frame_bytes => return Err(Violation::FrameTooBig),
        _ if len > limits.max_message_bytes => return Err(Violation::MessageTooBig),
        _ => {}
    }
    let come = &bytes[5..bytes.len().min(5 + len)];
    let whole = come.len() == len;
    if opcode == 1
        && let Err(error) = std::str::from_utf8(come)
        && (whole || error.error_len().is_some())
    {
        return Err(Violation::InvalidUtf8);
    }
    let payload = come.to_vec();
    let said = match opcode {
        _ if !whole => return Ok(None),
        1 => Said::Message(MessageKind::Text, payload),
        2 => Said::Message(MessageKind::Binary, payload),
        9 => Said::Ping(payload),
        10 => Said::Pong(payload),
        _ => close(&payload)?,
    };
    Ok(Some((said, 5 + len)))
}

fn close(payload: &[u8]) -> Result<Said, Violation> {
    match payload {
        [] => Ok(Said::Close(None, String::new())),
        [_] => Err(Violation::CloseLengthOne),
        [a, b, reason @ ..] => {
            let code = u16::from_be_bytes([*a, *b]);
            if !is_sendable_code(code) {
                return Err(Violation::CloseCode);
            }
            let reason = String::from_utf8(reason.to_vec());
            Ok(Said::Close(Some(code), reason.map_err(|_| Violation::CloseReasonUtf8)?))
        }
    }
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

fn frames() -> impl Strategy<Value = Vec<u8>> {
    let one = prop_oneof![
        "\\PC{0,40}".prop_map(|text| frame(1, text.as_bytes())),
        "[a-zé€😀]{100,150}".prop_map(|text| frame(1, text.as_bytes())),
        vec(any::<u8>(), 0..150).prop_map(|bytes| frame(2, &bytes)),
        (9..=10u8, vec(any::<u8>(), 0..=125)).prop_map(|(opcode, bytes)| frame(opcode, &bytes)),
    ];
    vec(one, 0..5).prop_map(|frames| frames.concat())
}

proptest! {
    #[test]
    fn valid_sequences_mean_what_was_meant(bytes in frames(), seed: u32) {
        let outcome = reads_as(&TCP, &bytes, seed);
        prop_assert!(outcome.violation.is_none() && !outcome.begun);
        prop_assert_eq!(outcome, meaning(&TCP, &bytes));
    }

    #[test]
    fn one_wrong_byte_or_end(bytes in frames(), at: Index, byte: u8, end: Index, limits: u8, seed: u32) {
        let mut bytes = bytes;
        bytes.extend(frame(8, b"\x03\xe8bye"));
        let at = at.index(bytes.len());
        bytes[at] = byte;
        bytes.truncate(end.index(bytes.len() * 2));
        for limits in [TCP, Decoder { framing: Framing::Tcp, ..limits_of(limits) }] {
            prop_assert_eq!(reads_as(&limits, &bytes, seed), meaning(&limits, &bytes));
        }
    }

    #[test]
    fn noise(bytes in vec(prop_oneof![0..=10u8, Just(0), Just(0), any::<u8>()], 0..200),
             limits: u8, seed: u32) {
        let limits = Decoder { framing: Framing::Tcp, ..limits_of(limits) };
        prop_assert_eq!(reads_as(&limits, &bytes, seed), meaning(&limits, &bytes));
    }
}

#[test]
fn each_violation() {
    use Violation::*;
    for (bytes, expected) in [
        (frame(0, b""), UnexpectedContinuation),
        (b"\0".to_vec(), UnexpectedContinuation),
        (frame(3, b""), ReservedOpcode),
        (b"\x0b".to_vec(), ReservedOpcode),
        // What a WebSocket begins with, and a request.
        (b"\x81".to_vec(), ReservedOpcode),
        (b"GET / HTTP/1.1\r\n".to_vec(), ReservedOpcode),
        (frame(8, &[b'x'; 126])[..5].to_vec(), ControlTooLong),
        (frame(9, &[b'x'; 126])[..5].to_vec(), ControlTooLong),
        (frame(10, &[b'x'; 126])[..5].to_vec(), ControlTooLong),
        (b"\x01\xff\xff\xff\xff".to_vec(), FrameTooBig),
        (b"\x02\x00\x10\x00\x01".to_vec(), FrameTooBig),
        (frame(1, b"\xff"), InvalidUtf8),
        (frame(1, b"\xe2\x82"), InvalidUtf8),
        // Hopeless before all of it has come.
        (frame(1, b"\xce\xba\xf4\x90\x80\x80edited")[..9].to_vec(), InvalidUtf8),
        (frame(8, b"\x03"), CloseLengthOne),
        (frame(8, b"\x03\xed"), CloseCode),
        (frame(8, b"\x03\xe8\xc0\x80"), CloseReasonUtf8),
    ] {
        let outcome = reads_as(&TCP, &bytes, 1);
        assert_eq!(outcome.violation, Some(expected), "{bytes:x?}");
        let behind = [frame(2, b"before"), bytes].concat();
        let outcome = reads_as(&TCP, &behind, 2);
        assert_eq!((outcome.said.len(), outcome.violation), (1, Some(expected)), "{behind:x?}");
    }
}

#[test]
fn limits_are_checked_with_the_header() {
    let tight = Decoder { max_frame_bytes: 10, max_message_bytes: 8, max_fragments: 1, ..TCP };
    let end = |bytes: &[u8]| reads_as(&tight, bytes, 7).violation;
    assert_eq!(end(&frame(2, &[0; 8]).repeat(3)), None);
    assert_eq!(end(&frame(2, &[0; 9])[..5]), Some(Violation::MessageTooBig));
    assert_eq!(end(&frame(2, &[0; 11])[..5]), Some(Violation::FrameTooBig));
    // Control frames have a limit of their own.
    assert_eq!(end(&frame(9, &[0; 125])), None);
}

#[test]
fn a_whole_frame_leaves_nothing_behind() {
    let mut spare = Spare::new(4, 4, 4096);
    let mut state: Option<Box<Partial>> = None;
    let mut bytes = [frame(1, b"hello"), frame(9, b"p"), frame(2, &[9; 70_000])].concat();
    let at = bytes.as_ptr_range();
    let mut input = &mut bytes[..];
    for _ in 0..3 {
        match TCP.next(&mut state, &mut spare, &mut input) {
            Ok(Some(Event::Message { payload, .. })) => assert!(at.contains(&payload.as_ptr())),
            other => assert!(matches!(other, Ok(Some(Event::Ping(_)))), "{other:?}"),
        }
        assert!(state.is_none());
    }
    assert_eq!(TCP.next(&mut state, &mut spare, &mut input), Ok(None));
    assert!(state.is_none() && input.is_empty() && spare.heap_bytes() == 0);
}

#[test]
fn a_huge_announcement_costs_nothing() {
    let huge = Decoder { max_frame_bytes: usize::MAX, max_message_bytes: usize::MAX, ..TCP };
    let mut spare = Spare::new(1, 1, 4096);
    let mut state = None;
    let mut bytes = *b"\x02\xff\xff\xff\xffabc";
    let mut input = &mut bytes[..];
    assert_eq!(huge.next(&mut state, &mut spare, &mut input), Ok(None));
    let partial = state.as_ref().unwrap();
    assert!(partial.in_message() && partial.message_bytes() == 3);
    assert!(partial.heap_bytes() < 1024);
}
