//! The decoder: any split of any sequence means the same, and what it should.

#[path = "../fuzz/src/decoder.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with the fuzz targets, which use the rest")]
mod harness;
#[path = "protocol_decoder/lengths.rs"]
mod lengths;
#[path = "protocol_decoder/tcp.rs"]
mod tcp;

use harness::{Outcome, Said, agrees_with_tungstenite, limits_of, run, splits_agree};
use proptest::{collection::vec, prelude::*, sample::Index};
use tidegate::protocol::{
    Decoder, Event, Framing, MessageKind, Partial, Spare, Utf8Stream, Violation, apply_mask,
    rotated,
};

const WIDE: Decoder = Decoder {
    framing: Framing::WebSocket,
    max_frame_bytes: 1 << 20,
    max_message_bytes: 1 << 20,
    max_fragments: 1 << 20,
    deflate: false,
};

/// A client's frame, in the shortest form.
fn frame(first: u8, payload: &[u8], mask: [u8; 4]) -> Vec<u8> {
    let mut out = vec![first];
    match payload.len() {
        len @ 0..=125 => out.push(0x80 | len as u8),
        len @ 126..=0xffff => {
            out.push(0xfe);
            out.extend((len as u16).to_be_bytes());
        }
        len => {
            out.push(0xff);
            out.extend((len as u64).to_be_bytes());
        }
    }
    out.extend(mask);
    let start = out.len();
    out.extend(payload);
    apply_mask(&mut out[start..], mask);
    out
}

fn plain(first: u8, payload: &[u8]) -> Vec<u8> {
    frame(first, payload, [0; 4])
}

fn violation(frames: &[u8]) -> Option<Violation> {
    let outcome = splits_agree(&WIDE, frames, 1);
    agrees_with_tungstenite(frames);
    outcome.violation
}

/// What a client does next, with the bytes and what they mean.
#[derive(Clone, Debug)]
struct Step {
    bytes: Vec<u8>,
    said: Vec<Said>,
}

fn payload() -> impl Strategy<Value = (MessageKind, Vec<u8>)> {
    prop_oneof![
        "\\PC{0,40}".prop_map(|text| (MessageKind::Text, text.into_bytes())),
        "[a-zé€😀]{100,300}".prop_map(|text| (MessageKind::Text, text.into_bytes())),
        vec(any::<u8>(), 0..300).prop_map(|bytes| (MessageKind::Binary, bytes)),
    ]
}

fn control() -> impl Strategy<Value = Step> {
    (any::<bool>(), vec(any::<u8>(), 0..=125), any::<[u8; 4]>()).prop_map(|(ping, bytes, mask)| {
        let first = if ping { 0x89 } else { 0x8a };
        let said = if ping { Said::Ping(bytes.clone()) } else { Said::Pong(bytes.clone()) };
        Step { bytes: frame(first, &bytes, mask), said: vec![said] }
    })
}

/// A message in one to four frames, with control frames between them.
fn message() -> impl Strategy<Value = Step> {
    let between = vec(proptest::option::of(control()), 3);
    (payload(), vec(any::<Index>(), 0..4), between, any::<[u8; 4]>()).prop_map(
        |((kind, payload), cuts, between, mask)| {
            let mut cuts: Vec<usize> = cuts.iter().map(|i| i.index(payload.len() + 1)).collect();
            cuts.sort_unstable();
            let mut step = Step { bytes: Vec::new(), said: Vec::new() };
            let (mut start, mut first) = (0, if kind == MessageKind::Text { 1 } else { 2 });
            for (cut, control) in cuts.into_iter().zip(between) {
                step.bytes.extend(frame(first, &payload[start..cut], mask));
                if let Some(control) = control {
                    step.bytes.extend(control.bytes);
                    step.said.extend(control.said);
                }
                (start, first) = (cut, 0);
            }
            step.bytes.extend(frame(0x80 | first, &payload[start..], mask));
            step.said.push(Said::Message(kind, payload));
            step
        },
    )
}

fn steps() -> impl Strategy<Value = Step> {
    vec(prop_oneof![3 => message(), 1 => control()], 0..6).prop_map(|steps| Step {
        bytes: steps.iter().flat_map(|step| step.bytes.clone()).collect(),
        said: steps.into_iter().flat_map(|step| step.said).collect(),
    })
}

proptest! {
    #[test]
    fn valid_sequences_mean_what_was_meant(steps in steps(), seed: u32) {
        let outcome = splits_agree(&WIDE, &steps.bytes, seed);
        let expected = Outcome { said: steps.said, violation: None, begun: false };
        prop_assert_eq!(outcome, expected);
        agrees_with_tungstenite(&steps.bytes);
    }

    #[test]
    fn one_wrong_byte_or_end(steps in steps(), at: Index, byte: u8, end: Index, limits: u8, seed: u32) {
        let mut bytes = steps.bytes;
        bytes.extend(frame(0x88, b"\x03\xe8bye", [1, 2, 3, 4]));
        let at = at.index(bytes.len());
        bytes[at] = byte;
        bytes.truncate(end.index(bytes.len() * 2));
        splits_agree(&WIDE, &bytes, seed);
        splits_agree(&limits_of(limits), &bytes, seed);
        agrees_with_tungstenite(&bytes);
    }

    #[test]
    fn noise(bytes in vec(prop_oneof![any::<u8>(), Just(0x81), Just(0x80), Just(0)], 0..200),
             limits: u8, seed: u32) {
        splits_agree(&limits_of(limits), &bytes, seed);
        agrees_with_tungstenite(&bytes);
    }

    #[test]
    fn masks_at_all_alignments(bytes in vec(any::<u8>(), 0..200), mask: [u8; 4], start: Index, cut: Index) {
        let (start, cut) = (start.index(bytes.len() + 1), cut.index(bytes.len() + 1));
        let (start, cut) = (start.min(cut), start.max(cut));
        let mut ours = bytes.clone();
        apply_mask(&mut ours[start..cut], mask);
        apply_mask(&mut ours[cut..], rotated(mask, cut - start));
        for (i, byte) in bytes.iter().enumerate() {
            let key = if i < start { 0 } else { mask[(i - start) % 4] };
            prop_assert_eq!(ours[i], byte ^ key);
        }
    }

    #[test]
    fn utf8_in_pieces_is_utf8(
        parts in vec(prop_oneof![
            "\\PC{0,20}".prop_map(String::into_bytes),
            vec(prop_oneof![Just(0xf0u8), Just(0xe2), Just(0xed), Just(0x80), Just(0xbf), any::<u8>()], 0..4),
        ], 0..6),
    ) {
        let bytes = parts.concat();
        let expected = std::str::from_utf8(&bytes);
        for cut in 0..=bytes.len() {
            let mut stream = Utf8Stream::default();
            let fed = stream.push(&bytes[..cut]).and_then(|()| stream.push(&bytes[cut..]));
            prop_assert_eq!(fed.is_ok() && stream.is_complete(), expected.is_ok());
        }
        // Byte by byte it fails exactly where std finds that nothing can be mended.
        let mut stream = Utf8Stream::default();
        let fails_at = bytes.chunks(1).position(|byte| stream.push(byte).is_err());
        let hopeless = (1..=bytes.len()).find(|&end| {
            std::str::from_utf8(&bytes[..end]).is_err_and(|e| e.error_len().is_some())
        });
        prop_assert_eq!(fails_at.map(|at| at + 1), hopeless);
    }
}

#[test]
fn each_violation() {
    use Violation::*;
    let long = |len: [u8; 8]| [&[0x82, 0xff][..], &len, &[0; 4]].concat();
    for (bytes, expected) in [
        (plain(0xc1, b"x"), ReservedBits),
        (plain(0xa1, b"x"), ReservedBits),
        (plain(0x91, b"x"), ReservedBits),
        (plain(0x83, b"x"), ReservedOpcode),
        (plain(0x8b, b"x"), ReservedOpcode),
        (plain(0x8f, b"x"), ReservedOpcode),
        (vec![0x81, 1, b'x'], Unmasked),
        ([&[0x82, 0xfe, 0, 125, 0, 0, 0, 0][..], &[7; 125]].concat(), NonMinimalLength),
        (long(0xffffu64.to_be_bytes()), NonMinimalLength),
        (long((1u64 << 63).to_be_bytes()), LengthTopBit),
        (long([0xff; 8]), LengthTopBit),
        (plain(0x89, &[0; 126]), ControlTooLong),
        (plain(0x09, b""), ControlFragmented),
        (plain(0x08, b""), ControlFragmented),
        (plain(0x80, b"x"), UnexpectedContinuation),
        (plain(0x00, b"x"), UnexpectedContinuation),
        ([plain(0x01, b"x"), plain(0x81, b"y")].concat(), ExpectedContinuation),
        ([plain(0x02, b"x"), plain(0x02, b"y")].concat(), ExpectedContinuation),
        (plain(0x81, b"\xff"), InvalidUtf8),
        (plain(0x81, b"\xe2\x82"), InvalidUtf8),
        ([plain(0x01, b"\xe2\x82"), plain(0x80, b"")].concat(), InvalidUtf8),
        ([plain(0x01, b"\xe2\x82"), plain(0x00, b"x")].concat(), InvalidUtf8),
        (plain(0x88, b"\x03"), CloseLengthOne),
        (plain(0x88, b"\x03\xed"), CloseCode),
        (plain(0x88, b"\x03\xe8\xc0\x80"), CloseReasonUtf8),
        (long((1u64 << 62).to_be_bytes()), FrameTooBig),
    ] {
        assert_eq!(violation(&bytes), Some(expected), "{bytes:x?}");
    }
}

#[test]
fn each_form_of_length() {
    for len in [0, 1, 125, 126, 127, 65_535, 65_536, 70_001] {
        let payload = vec![b'x'; len];
        let bytes = frame(0x81, &payload, [9, 8, 7, 6]);
        let outcome = splits_agree(&WIDE, &bytes, 3);
        assert_eq!(outcome.said, [Said::Message(MessageKind::Text, payload)]);
        assert!(outcome.violation.is_none() && !outcome.begun, "{len}");
    }
}

#[test]
fn two_bytes_are_enough() {
    use Violation::*;
    for (bytes, expected) in [
        (&[0xc1][..], ReservedBits),
        (&[0x83], ReservedOpcode),
        (&[0x09], ControlFragmented),
        (&[0x80], UnexpectedContinuation),
        (&[0x81, 0x05], Unmasked),
        (&[0x89, 0xfe], ControlTooLong),
        (&[0x82, 0xff, 0, 0, 0, 0, 0, 0x10, 0, 1], FrameTooBig),
    ] {
        assert_eq!(violation(bytes), Some(expected), "{bytes:x?}");
    }
}

#[test]
fn text_fails_within_a_frame() {
    // Autobahn's 6.4: the frame announces more than has come, and what has come is hopeless.
    let mut bytes = plain(0x81, b"\xce\xba\xe1\xbd\xb9\xf4\x90\x80\x80edited");
    bytes.truncate(6 + 6);
    assert_eq!(violation(&bytes), None);
    bytes.push(0x90);
    assert_eq!(violation(&bytes), Some(Violation::InvalidUtf8));
}

#[test]
fn limits_are_checked_with_the_header() {
    let tight = Decoder { max_frame_bytes: 10, max_message_bytes: 15, max_fragments: 3, ..WIDE };
    let end = |frames: &[Vec<u8>]| splits_agree(&tight, &frames.concat(), 7).violation;
    assert_eq!(end(&[plain(0x82, &[0; 10])]), None);
    assert_eq!(end(&[plain(0x82, &[0; 11])[..6].to_vec()]), Some(Violation::FrameTooBig));
    assert_eq!(end(&[plain(0x02, &[0; 10]), plain(0x80, &[0; 5])]), None);
    let over = plain(0x80, &[0; 6])[..2].to_vec();
    assert_eq!(end(&[plain(0x02, &[0; 10]), over]), Some(Violation::MessageTooBig));
    let three = [plain(0x02, b""), plain(0x00, b""), plain(0x80, b"")];
    assert_eq!(end(&three), None);
    let four = [plain(0x02, b""), plain(0x00, b""), plain(0x00, b""), vec![0x80]];
    assert_eq!(end(&four), Some(Violation::TooManyFragments));
    // Control frames have a limit of their own.
    assert_eq!(end(&[plain(0x89, &[0; 125])]), None);
}

#[test]
fn a_whole_frame_leaves_nothing_behind() {
    let mut spare = Spare::new(4, 4, 4096);
    let mut state: Option<Box<Partial>> = None;
    let mut bytes = [plain(0x81, b"hello"), plain(0x89, b"p"), plain(0x82, &[9; 300])].concat();
    let at = bytes.as_ptr_range();
    let mut input = &mut bytes[..];
    for _ in 0..3 {
        match WIDE.next(&mut state, &mut spare, &mut input) {
            Ok(Some(Event::Message { payload, .. })) => assert!(at.contains(&payload.as_ptr())),
            other => assert!(matches!(other, Ok(Some(Event::Ping(_)))), "{other:?}"),
        }
        assert!(state.is_none());
    }
    assert_eq!(WIDE.next(&mut state, &mut spare, &mut input), Ok(None));
    assert!(state.is_none() && input.is_empty() && spare.heap_bytes() == 0);
}

#[test]
fn a_huge_announcement_and_empty_fragments_cost_nothing() {
    let huge = Decoder { max_frame_bytes: usize::MAX, max_message_bytes: usize::MAX, ..WIDE };
    let mut spare = Spare::new(1, 1, 4096);
    let mut state = None;
    let mut bytes = [&[0x82, 0xff][..], &(u64::MAX >> 1).to_be_bytes(), &[0; 4], b"abc"].concat();
    let mut input = &mut bytes[..];
    assert_eq!(huge.next(&mut state, &mut spare, &mut input), Ok(None));
    let partial = state.as_ref().unwrap();
    assert!(partial.in_message() && partial.message_bytes() == 3);
    assert!(partial.heap_bytes() < 1024);
    spare.reclaim(&mut state);

    let mut bytes = [plain(0x01, b""), plain(0x00, b"").repeat(200_000)].concat();
    let mut input = &mut bytes[..];
    assert_eq!(WIDE.next(&mut state, &mut spare, &mut input), Ok(None));
    assert!(state.is_some_and(|partial| partial.heap_bytes() <= size_of::<Partial>()));
}

#[test]
fn the_pool_is_bounded_and_serves_the_steady_state() {
    let mut spare = Spare::new(1, 1, 2048);
    let text = plain(0x81, &[b'a'; 1000]);
    let (front, back) = text.split_at(500);
    for round in 0..3 {
        assert_eq!(run(&WIDE, &[front, back], &mut spare).said.len(), 1);
        let kept = spare.heap_bytes();
        assert!(
            (1000 + size_of::<Partial>()..=2048 + size_of::<Partial>()).contains(&kept),
            "{round}"
        );
    }
    let kept = spare.heap_bytes();
    spare.recycle(vec![0; 2049]);
    spare.recycle(Vec::new());
    spare.recycle(vec![0; 10]);
    assert_eq!(spare.heap_bytes(), kept);
}
