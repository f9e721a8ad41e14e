//! permessage-deflate (RFC 7692): frames of compressed messages, and what is in them.

#[path = "../fuzz/src/deflate.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with the fuzz target, which uses the rest")]
mod harness;

use flate2::{Compress, Compression, FlushCompress};
use proptest::{collection::vec, prelude::*, sample::Index};
use tidegate::limits::DEFLATE_FINAL_BLOCKS_MAX;
use tidegate::protocol::deflate::{
    Agreed, DeflateClass, DeflateMode, DeflateSettings, Deflater, Deflaters, Inflater, Window,
};
use tidegate::protocol::{
    Decoder, Event, Framing, MessageKind, OpCode, Spare, Violation, apply_mask, put_client_frame,
    put_compressed_client_frame, put_compressed_frame,
};

const HELLO: &[u8] = &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];
const DECODER: Decoder = Decoder {
    framing: Framing::WebSocket,
    max_frame_bytes: 1000,
    max_message_bytes: 1000,
    max_fragments: 10,
    deflate: true,
};

const SETTINGS: DeflateSettings = DeflateSettings {
    mode: DeflateMode::Dedicated,
    level: 1,
    threshold_bytes: 0,
    server_window_bits: 15,
    client_window_bits: 15,
};

/// The message in a payload, without context takeover.
fn inflate(kind: MessageKind, payload: &[u8], max_bytes: usize) -> Result<Vec<u8>, Violation> {
    let mut out = Vec::new();
    Inflater::new().inflate(kind, payload, None, max_bytes, &mut out).map(|()| out)
}

fn text(payload: &[u8]) -> Result<String, Violation> {
    inflate(MessageKind::Text, payload, 1000).map(|out| String::from_utf8(out).unwrap())
}

#[test]
fn the_examples_of_the_standard() {
    // RFC 7692, 7.2.3.1, 7.2.3.3, 7.2.3.4 and 7.2.3.5.
    for payload in [
        HELLO,
        &[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00],
        &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00],
        &[0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00],
    ] {
        assert_eq!(text(payload).as_deref(), Ok("Hello"), "{payload:x?}");
    }
    // 7.2.3.6.
    assert_eq!(text(&[0x00]).as_deref(), Ok(""));
    let mut out = Vec::new();
    assert!(Deflater::new(1, 15, false).compress(b"", &mut out));
    assert_eq!(out, [0x00]);
}

#[test]
fn what_is_compressed_looks_like_the_examples() {
    for level in 1..=9 {
        let mut deflater = Deflater::new(level, 15, true);
        let mut payload = |message: &[u8]| {
            let mut out = Vec::new();
            assert!(deflater.compress(message, &mut out));
            out
        };
        assert_eq!(payload(b"Hello"), HELLO, "level {level}");
        // 7.2.3.2: by reference to the first, of which there is more than one form.
        let again = payload(b"Hello");
        assert!(again.len() < HELLO.len(), "level {level}: {again:x?}");
        assert_eq!(payload(b""), [0x00]);
        let (mut inflater, mut window, mut out) = (Inflater::new(), Window::new(15), Vec::new());
        for payload in [HELLO, &again, &payload(b"Hello")] {
            let kind = MessageKind::Text;
            assert_eq!(inflater.inflate(kind, payload, Some(&mut window), 5, &mut out), Ok(()));
            assert_eq!(out, b"Hello");
        }
    }
}

/// It would leave longer than it is, and later ones have nothing to refer to it for.
#[test]
fn much_of_what_does_not_compress_goes_as_it_is() {
    let mut seed = 1_u32;
    let noise: Vec<u8> = (0..1 << 20)
        .map(|_| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 24) as u8
        })
        .collect();
    for level in 1..=9 {
        for takeover in [false, true] {
            let mut deflater = Deflater::new(level, 15, takeover);
            let mut payload = Vec::new();
            let compressed = deflater.compress(&noise, &mut payload);
            let most = noise.len() + noise.len() / 64 + 64;
            assert!(payload.len() < most, "level {level}: {} bytes", payload.len());
            assert_eq!(compressed, !payload.is_empty());
            deflater.forget();
            payload.clear();
            assert!(deflater.compress(b"Hello, Hello, Hello", &mut payload));
            assert_eq!(text(&payload).as_deref(), Ok("Hello, Hello, Hello"));
        }
    }
}

#[test]
fn later_messages_refer_to_earlier_ones_only_with_takeover() {
    let again = [0xf2, 0x00, 0x11, 0x00, 0x00];
    let mut inflater = Inflater::new();
    let (mut window, mut other) = (Window::new(9), Window::new(9));
    let mut out = Vec::new();
    let mut next = |payload: &[u8], window: Option<&mut Window>| {
        let read = inflater.inflate(MessageKind::Text, payload, window, 5, &mut out);
        read.map(|()| String::from_utf8(out.clone()).unwrap())
    };
    assert_eq!(next(HELLO, Some(&mut window)).as_deref(), Ok("Hello"));
    assert_eq!(next(&again, Some(&mut other)), Err(Violation::InvalidDeflate));
    assert_eq!(next(&again, None), Err(Violation::InvalidDeflate));
    assert_eq!(next(&again, Some(&mut window)).as_deref(), Ok("Hello"));
    // What was said before stays known behind a block that is marked as the last one.
    assert_eq!(next(&[0xf3, 0x00, 0x11, 0x00, 0x00], Some(&mut window)).as_deref(), Ok("Hello"));
    assert_eq!(next(&again, Some(&mut window)).as_deref(), Ok("Hello"));
}

#[test]
fn payloads_that_break_off_or_go_on_are_violations() {
    for end in 1..HELLO.len() {
        assert_eq!(text(&HELLO[..end]), Err(Violation::InvalidDeflate), "{end}");
    }
    let more = |behind: &[u8]| text(&[HELLO, behind].concat());
    assert_eq!(more(&[0xff]), Err(Violation::InvalidDeflate));
    assert_eq!(more(&TAIL), Err(Violation::InvalidDeflate));
    // A second flush is no fault.
    assert_eq!(more(&[0x00, 0x00, 0xff, 0xff, 0x00]).as_deref(), Ok("Hello"));
    // Behind a last block there may be others, or nothing at all.
    let last = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    assert_eq!(text(&last).as_deref(), Ok("Hello"));
    assert_eq!(text(&[&last[..], HELLO].concat()).as_deref(), Ok("HelloHello"));
    assert_eq!(text(&[&last[..], &last, &[0x01]].concat()).as_deref(), Ok("HelloHello"));
    assert_eq!(text(&[&last[..], &[0xff]].concat()), Err(Violation::InvalidDeflate));
    assert_eq!(text(b"\x07"), Err(Violation::InvalidDeflate));
    assert_eq!(text(b"").as_deref(), Ok(""));
}

#[test]
fn text_is_judged_once_it_is_inflated() {
    let mut payload = Vec::new();
    assert!(Deflater::new(1, 15, true).compress(b"\xc3\x28", &mut payload));
    assert_eq!(text(&payload), Err(Violation::InvalidUtf8));
    assert_eq!(inflate(MessageKind::Binary, &payload, 2).as_deref(), Ok(&b"\xc3\x28"[..]));
}

#[test]
fn a_bomb_takes_no_more_memory_than_the_limit() {
    // 1 MiB of zeros to the last byte, and nothing of it refers to what is before it.
    let mut stream = Compress::new(Compression::best(), false);
    let mut block = Vec::with_capacity(1 << 16);
    stream.compress_vec(&vec![0; 1 << 20], &mut block, FlushCompress::Full).unwrap();
    assert_eq!(stream.total_in(), 1 << 20);
    let mut bomb = block.repeat(1024);
    bomb.truncate(bomb.len() - TAIL.len());
    assert!(bomb.len() < 3 << 19, "{} bytes", bomb.len());
    let mut inflater = Inflater::new();
    for limit in [1, 1000, 1 << 20, 3_000_001] {
        let mut out = Vec::new();
        let read = inflater.inflate(MessageKind::Binary, &bomb, None, limit, &mut out);
        assert_eq!(read, Err(Violation::MessageTooBig));
        assert!(out.capacity() <= limit + 1, "{limit}: {} bytes", out.capacity());
        assert!(inflater.take_worked_bytes() <= (bomb.len() + limit + 1) as u64);
    }
    // It is a message after all, where there is room for it.
    let mut out = Vec::new();
    let part = &block[..block.len() - TAIL.len()];
    assert_eq!(inflater.inflate(MessageKind::Binary, part, None, 1 << 20, &mut out), Ok(()));
    assert_eq!(out, vec![0; 1 << 20]);
    let short = (1 << 20) - 1;
    let read = inflater.inflate(MessageKind::Binary, part, None, short, &mut out);
    assert_eq!(read, Err(Violation::MessageTooBig));
}

#[test]
fn blocks_marked_as_the_last_one_are_bounded() {
    let most = DEFLATE_FINAL_BLOCKS_MAX as usize;
    let blocks = |n: usize| [&b"\x03\x00".repeat(n)[..], HELLO].concat();
    assert_eq!(text(&blocks(most)).as_deref(), Ok("Hello"));
    assert_eq!(text(&blocks(most + 1)), Err(Violation::InvalidDeflate));
}

#[test]
fn frames_for_all_may_come_between_those_for_one() {
    let agreed = Agreed::new(12, 15, true, false);
    let mut deflaters = Deflaters::new(&DeflateSettings { threshold_bytes: 20, ..SETTINGS });
    let mut own = deflaters.dedicated(agreed);
    let (mut inflater, mut window) = (Inflater::new(), Window::new(12));
    let (a, b) = (b"tides come and go ".repeat(9), b"and come again, tides ".repeat(9));
    for (message, for_all) in
        [(&a, false), (&b, true), (&a, false), (&a, false), (&a, true), (&b, false)]
    {
        let mut payload = Vec::new();
        if for_all {
            assert!(deflaters.compress(agreed.class(), message, &mut payload));
            own.forget();
        } else {
            assert!(own.compress(message, &mut payload));
        }
        let (kind, mut out) = (MessageKind::Text, Vec::new());
        let read = inflater.inflate(kind, &payload, Some(&mut window), 1000, &mut out);
        assert_eq!((read, &out), (Ok(()), message));
    }
    let mut out = Vec::new();
    deflaters.put_frame(agreed.class(), MessageKind::Text, b"short", &mut out);
    assert_eq!(out, b"\x81\x05short");
    out.clear();
    deflaters.put_frame(agreed.class(), MessageKind::Text, &a, &mut out);
    assert_eq!((out[0], usize::from(out[1])), (0xc1, out.len() - 2));
    assert_eq!(text(&out[2..]).map(String::into_bytes), Ok(a));
}

#[test]
fn compressors_are_made_when_they_are_needed() {
    let settings = DeflateSettings { threshold_bytes: 20, ..DeflateSettings::default() };
    let mut deflaters = Deflaters::new(&settings);
    let class = |bits| Agreed::new(bits, 15, false, false).class();
    let mut out = b"before".to_vec();
    assert!(!deflaters.compress(class(9), &[7; 19], &mut out), "below the threshold");
    assert_eq!(deflaters.heap_bytes(), 0);
    assert!(deflaters.compress(class(9), &[7; 20], &mut out));
    assert!(out.starts_with(b"before") && out.len() < 26);
    assert_eq!(inflate(MessageKind::Binary, &out[6..], 20).as_deref(), Ok(&[7; 20][..]));
    let one = deflaters.heap_bytes();
    assert!(one > 200_000);
    assert!(deflaters.compress(class(9), &[8; 20], &mut out));
    assert_eq!(deflaters.heap_bytes(), one);
    assert!(deflaters.compress(class(15), &[8; 20], &mut out));
    assert!(deflaters.heap_bytes() > 2 * one);
    // What would be no shorter is sent as it is.
    let noise: Vec<u8> = (0..=255).collect();
    let len = out.len();
    assert!(!deflaters.compress(class(9), &noise, &mut out));
    assert_eq!(out.len(), len);
    assert_eq!(DeflateClass::COUNT, 7);
}

// ---- frames

/// What one connection says in these pieces: events as text.
fn events(decoder: Decoder, pieces: &[&[u8]]) -> Vec<String> {
    let (mut state, mut spare, mut seen) = (None, Spare::new(1, 1, 4096), Vec::new());
    for piece in pieces {
        let mut piece = piece.to_vec();
        let mut input = &mut piece[..];
        loop {
            match decoder.next(&mut state, &mut spare, &mut input) {
                Ok(None) => break,
                Ok(Some(Event::Compressed { kind, payload })) => {
                    seen.push(format!("compressed {kind:?} {payload:x?}"));
                }
                Ok(Some(Event::CompressedAssembled { kind, payload })) => {
                    seen.push(format!("compressed {kind:?} {payload:x?}"));
                    spare.recycle(payload);
                }
                Ok(Some(Event::Message { kind, payload })) => {
                    seen.push(format!("{kind:?} {payload:x?}"));
                }
                Ok(Some(Event::Assembled { kind, payload })) => {
                    seen.push(format!("{kind:?} {payload:x?}"));
                }
                Ok(Some(event)) => seen.push(format!("{event:?}")),
                Err(violation) => {
                    seen.push(format!("{violation:?}"));
                    return seen;
                }
            }
        }
    }
    seen
}

/// A client's frame under the mask of zeros.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    assert!(payload.len() < 126);
    let header = [first, 0x80 | payload.len() as u8, 0, 0, 0, 0];
    [&header[..], payload].concat()
}

#[test]
fn the_frames_of_the_standard() {
    // RFC 7692, 7.2.3.1: whole, and in two fragments.
    let mut out = Vec::new();
    put_compressed_frame(&mut out, MessageKind::Text, HELLO);
    assert_eq!(out, [&[0xc1, 0x07], HELLO].concat());
    let said = format!("compressed Text {HELLO:x?}");
    assert_eq!(events(DECODER, &[&frame(0xc1, HELLO)]), [&said[..]]);
    let fragments = [frame(0x41, &HELLO[..3]), frame(0x80, &HELLO[3..])].concat();
    assert_eq!(events(DECODER, &[&fragments]), [&said[..]]);
    let (mut masked, mask) = (Vec::new(), [1, 2, 3, 4]);
    put_compressed_client_frame(&mut masked, MessageKind::Binary, HELLO, mask);
    assert_eq!(events(DECODER, &[&masked]), [format!("compressed Binary {HELLO:x?}")]);
    apply_mask(&mut masked[6..], mask);
    assert_eq!(masked[..6], [0xc2, 0x87, 1, 2, 3, 4]);
    assert_eq!(masked[6..], *HELLO);
}

#[test]
fn the_bit_stands_on_the_first_frame_of_a_message_only() {
    let end = |pieces: &[&[u8]]| events(DECODER, pieces).pop().unwrap();
    // Continuations, control frames, opcodes that are none, and the other two bits.
    let begun = [frame(0x41, HELLO), frame(0xc0, b"")].concat();
    assert_eq!(end(&[&begun]), "ReservedBits");
    for first in [0xc0, 0xc8, 0xc9, 0xca, 0xc3, 0x91, 0xa1, 0xd1, 0xe2, 0xf1] {
        assert_eq!(end(&[&[first]]), "ReservedBits", "{first:x}");
    }
    // A message that is not compressed stays one, beside others that are.
    let plain = [frame(0x01, b"Hel"), frame(0x80, b"lo"), frame(0xc2, HELLO), frame(0x81, b"!")];
    let said = events(DECODER, &[&plain.concat()]);
    let hello = format!("Text {:x?}", b"Hello");
    let binary = format!("compressed Binary {HELLO:x?}");
    assert_eq!(said, [&hello, &binary, "Text [21]"]);
    assert_eq!(end(&[&[frame(0x01, b"a"), frame(0xc1, b"")].concat()]), "ExpectedContinuation");
    // Nothing is compressed where that was not agreed, nor over plain TCP.
    let off = Decoder { deflate: false, ..DECODER };
    assert_eq!(events(off, &[&frame(0xc1, HELLO)]), ["ReservedBits"]);
    let tcp = Decoder { framing: Framing::Tcp, ..DECODER };
    assert_eq!(events(tcp, &[b"\xc1\0\0\0\x01a"]), ["ReservedOpcode"]);
}

#[test]
fn compressed_bytes_are_bounded_as_others_are() {
    let tight = Decoder { max_frame_bytes: 32, max_message_bytes: 48, max_fragments: 2, ..DECODER };
    // But for what they may grow by: a sixteenth, and 64.
    assert_eq!(events(tight, &[&frame(0xc1, &[0; 98])[..2]]), [""; 0]);
    assert_eq!(events(tight, &[&frame(0xc1, &[0; 99])[..2]]), ["FrameTooBig"]);
    assert_eq!(events(tight, &[&frame(0x81, &[0; 33])[..2]]), ["FrameTooBig"]);
    let two = |second: usize| [frame(0x41, &[0; 98]), frame(0x80, &vec![0; second])].concat();
    assert_eq!(events(tight, &[&two(18)[..]]), ["MessageTooBig"]);
    assert_ne!(events(tight, &[&two(17)[..]]), ["MessageTooBig"]);
    let three = [frame(0x41, b"a"), frame(0x00, b"b"), frame(0x80, b"c")].concat();
    assert_eq!(events(tight, &[&three]), ["TooManyFragments"]);
}

// ---- round trips

/// Text and noise, up to several windows of it.
fn message() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        3 => "\\PC{0,40}".prop_map(String::into_bytes),
        2 => vec(any::<u8>(), 0..400),
        2 => (vec(any::<u8>(), 1..600), 1..200_usize).prop_map(|(bytes, n)| bytes.repeat(n)),
        1 => ("[a-f]{1,700}", 1..100_usize).prop_map(|(text, n)| text.repeat(n).into_bytes()),
    ]
}

proptest! {
    #[test]
    fn messages_come_back(
        messages in vec(message(), 1..6),
        bits in 9..=15_u8,
        level in 1..=9_u8,
        takeover: bool,
    ) {
        let mut deflater = Deflater::new(level, bits, takeover);
        let mut window = takeover.then(|| Window::new(bits));
        let mut inflater = Inflater::new();
        let mut out = Vec::new();
        for message in &messages {
            let mut payload = Vec::new();
            if !deflater.compress(message, &mut payload) {
                deflater.forget();
                continue;
            }
            let kind = MessageKind::Binary;
            let len = message.len();
            let read = inflater.inflate(kind, &payload, window.as_mut(), len, &mut out);
            prop_assert_eq!(read, Ok(()));
            prop_assert_eq!(&out, message);
            if len > 0 {
                let read = inflate(kind, &payload, len - 1);
                prop_assert!(read.is_err());
            }
            if !takeover {
                harness::inflates(&mut inflater, &payload, len);
            }
        }
    }

    #[test]
    fn compressed_messages_may_be_split_anywhere(
        messages in vec((message(), any::<bool>()), 1..4),
        cuts in vec(any::<Index>(), 0..6),
        reads in vec(any::<Index>(), 0..6),
        mask: [u8; 4],
    ) {
        let decoder = Decoder {
            max_frame_bytes: 1 << 20, max_message_bytes: 1 << 20, ..DECODER
        };
        let mut deflater = Deflater::new(1, 15, true);
        let (mut bytes, mut expected) = (Vec::new(), Vec::new());
        for (message, compressed) in &messages {
            let mut payload = Vec::new();
            let compressed = *compressed && deflater.compress(message, &mut payload);
            let said = if compressed {
                "compressed Binary"
            } else {
                deflater.forget();
                payload.clone_from(message);
                "Binary"
            };
            expected.push(format!("{said} {payload:x?}"));
            put_fragments(&mut bytes, compressed, &payload, &cuts, mask);
        }
        let mut ends: Vec<_> = reads.iter().map(|read| read.index(bytes.len() + 1)).collect();
        ends.push(bytes.len());
        ends.sort_unstable();
        let mut from = 0;
        let pieces: Vec<_> =
            ends.into_iter().map(|end| &bytes[std::mem::replace(&mut from, end)..end]).collect();
        prop_assert_eq!(events(decoder, &pieces), expected);
    }

    #[test]
    fn garbage_is_read_as_others_read_it(data in vec(any::<u8>(), 0..200)) {
        harness::check(&data);
    }

    /// Payloads that were good, with one byte changed.
    #[test]
    fn one_wrong_byte(message in message(), bits in 9..=15_u8, level in 1..=9_u8, at: Index, byte: u8) {
        let mut payload = Vec::new();
        let mut deflater = Deflater::new(level, bits, true);
        // Much of what does not compress is sent as it is.
        prop_assume!(deflater.compress(&message, &mut payload));
        let at = at.index(payload.len());
        payload[at] = byte;
        harness::inflates(&mut Inflater::new(), &payload, 1 << 16);
    }

    /// What another implementation compresses, in any form it has.
    #[test]
    fn others_messages_are_inflated(message in message(), level in 0..=10_u8, mark_last: bool) {
        use miniz_oxide::deflate::core::{
            CompressorOxide, TDEFLFlush, compress, create_comp_flags_from_zip_params,
        };
        let flags = create_comp_flags_from_zip_params(level.into(), 0, 0);
        let mut stream = CompressorOxide::new(flags);
        let mut payload = vec![0; 2 * message.len() + 1000];
        let flush = if mark_last { TDEFLFlush::Finish } else { TDEFLFlush::Sync };
        let (_, read, written) = compress(&mut stream, &message, &mut payload, flush);
        assert_eq!(read, message.len());
        payload.truncate(written);
        if mark_last {
            // RFC 7692, 7.2.3.4.
            payload.push(0);
        } else {
            assert!(payload.ends_with(&TAIL) || message.is_empty());
            payload.truncate(payload.len().saturating_sub(TAIL.len()));
        }
        let read = inflate(MessageKind::Binary, &payload, message.len());
        prop_assert_eq!(read, Ok(message));
    }
}

/// Appends a message in fragments that end at `cuts` of it.
fn put_fragments(
    out: &mut Vec<u8>,
    compressed: bool,
    payload: &[u8],
    cuts: &[Index],
    mask: [u8; 4],
) {
    let mut ends: Vec<_> = cuts.iter().map(|cut| cut.index(payload.len() + 1)).collect();
    ends.push(payload.len());
    ends.sort_unstable();
    let last = ends.len() - 1;
    let mut from = 0;
    for (at, end) in ends.into_iter().enumerate() {
        let fin = if at == last { 0x80 } else { 0 };
        let first = if at == 0 { 2 | if compressed { 0x40 } else { 0 } } else { 0 };
        let piece = &payload[std::mem::replace(&mut from, end)..end];
        let start = out.len();
        put_client_frame(Framing::WebSocket, out, OpCode::Binary, piece, mask);
        out[start] = fin | first;
    }
}

#[test]
fn off_is_off() {
    let off = DeflateSettings { mode: DeflateMode::Off, ..DeflateSettings::default() };
    assert_eq!(off.answer([&b"permessage-deflate"[..]]), Ok(None));
    assert_eq!(off.offer(), None);
}
