//! permessage-deflate: whatever is offered or answered is read to its end; whatever is compressed is
//! inflated to the same; whatever is inflated takes no more memory than its limit, leaves nothing for
//! the next message to read, and means what miniz_oxide takes it for.
//!
//! Where the two differ on purpose:
//! - miniz_oxide ends with the first block that is marked as the last one; here others may follow it
//!   (RFC 7692, 7.2.1).
//! - An empty payload is an empty message here.

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};
use tidegate::protocol::deflate::{DeflateMode, DeflateSettings, Deflater, Inflater, Window};
use tidegate::protocol::{MessageKind, Violation};

/// "Hello" (RFC 7692, 7.2.3.1).
const HELLO: &[u8] = &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
/// "Hello" by reference to one before it (RFC 7692, 7.2.3.2).
const HELLO_AGAIN: &[u8] = &[0xf2, 0x00, 0x11, 0x00, 0x00];
/// What is appended to a payload, and a last block with nothing in it.
const BEHIND: [u8; 9] = [0x00, 0x00, 0xff, 0xff, 0x01, 0x00, 0x00, 0xff, 0xff];

/// One fuzz input: a byte that chooses the settings, two of the limit, one that cuts, then the bytes.
pub fn check(data: &[u8]) {
    let Some((&[choice, high, low, cut], bytes)) = data.split_first_chunk() else { return };
    negotiates(settings_of(choice), bytes);
    let limit = usize::from(u16::from_be_bytes([high, low]));
    let mut inflater = Inflater::new();
    inflates(&mut inflater, bytes, limit);
    inflates_in_two(&mut inflater, bytes, cut, limit);
    comes_back(settings_of(choice), cut, bytes);
}

/// Modes and windows of all sizes.
pub fn settings_of(choice: u8) -> DeflateSettings {
    DeflateSettings {
        mode: if choice & 1 == 0 { DeflateMode::Shared } else { DeflateMode::Dedicated },
        level: 1 + choice % 9,
        threshold_bytes: 0,
        server_window_bits: 9 + (choice >> 1 & 7).min(6),
        client_window_bits: 9 + (choice >> 4 & 7).min(6),
    }
}

/// Takes `bytes`, cut at zeros, for the headers of a request and of a response. What a server answers
/// is an answer to the widest offer there is.
fn negotiates(settings: DeflateSettings, bytes: &[u8]) {
    let headers = || bytes.split(|byte| *byte == 0);
    let widest = DeflateSettings { mode: DeflateMode::Dedicated, ..DeflateSettings::default() };
    let offer = widest.offer().expect("an offer");
    let _ = offer.check(headers());
    let Ok(Some(answer)) = settings.answer(headers()) else { return };
    let text = answer.to_string();
    let agreed = offer.check([text.as_bytes()]).expect("an answer").expect("permessage-deflate");
    let own = answer.agreed();
    assert_eq!(agreed.server_window_bits(), own.server_window_bits(), "{text}");
    assert_eq!(agreed.server_takeover(), own.server_takeover(), "{text}");
    assert_eq!(agreed.client_takeover(), own.client_takeover(), "{text}");
    assert!(agreed.client_window_bits() >= own.client_window_bits(), "{text}");
}

/// Inflates `payload`, and compares with the other opinion.
pub fn inflates(inflater: &mut Inflater, payload: &[u8], limit: usize) {
    let mut out = Vec::new();
    let ours = inflater.inflate(MessageKind::Binary, payload, None, limit, &mut out);
    assert!(out.capacity() <= limit + 1, "{} bytes under {limit}", out.capacity());
    assert!(ours.is_err() || out.len() <= limit);
    if !payload.is_empty() {
        compare(ours, &out, payload, limit);
    }
    nothing_is_left(inflater);
}

fn compare(ours: Result<(), Violation>, out: &[u8], payload: &[u8], limit: usize) {
    let input = [payload, &BEHIND].concat();
    let mut theirs = vec![0; limit + 1];
    let mut state = Box::new(DecompressorOxide::new());
    let flags = TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
    let (status, read, written) = decompress(&mut state, &input, &mut theirs, 0, flags);
    theirs.truncate(written);
    match status {
        TINFLStatus::Done if theirs.len() > limit => assert!(ours.is_err()),
        TINFLStatus::Done => {
            let ends = [payload.len(), payload.len() + 4, input.len()];
            if ends.contains(&read) {
                assert_eq!((ours, out), (Ok(()), &theirs[..]));
            } else if ours.is_ok() {
                assert!(out.starts_with(&theirs));
            }
        }
        TINFLStatus::HasMoreOutput => assert!(ours.is_err()),
        _ => assert!(ours.is_err(), "they: {status:?}, {out:?}"),
    }
}

/// The next message reads nothing of what came before it.
fn nothing_is_left(inflater: &mut Inflater) {
    let mut out = Vec::new();
    let again = inflater.inflate(MessageKind::Binary, HELLO_AGAIN, None, 100, &mut out);
    assert_eq!(again, Err(Violation::InvalidDeflate), "{out:?}");
    assert_eq!(inflater.inflate(MessageKind::Text, HELLO, None, 5, &mut out), Ok(()));
    assert_eq!(out, b"Hello");
}

/// Takes the bytes for two messages, the second of which may refer to the first.
fn inflates_in_two(inflater: &mut Inflater, bytes: &[u8], cut: u8, limit: usize) {
    let (first, second) = bytes.split_at(usize::from(cut).min(bytes.len()));
    let mut window = Window::new(9 + cut % 7);
    let mut out = Vec::new();
    for payload in [first, second] {
        let kind = MessageKind::Text;
        let ours = inflater.inflate(kind, payload, Some(&mut window), limit, &mut out);
        assert!(out.capacity() <= limit + 1);
        assert!(window.heap_bytes() <= 1 << (9 + cut % 7));
        if ours.is_err() {
            return;
        }
        assert!(std::str::from_utf8(&out).is_ok(), "text is UTF-8");
    }
}

/// Compresses the bytes as up to three messages, with and without context takeover.
fn comes_back(settings: DeflateSettings, cut: u8, bytes: &[u8]) {
    let (first, rest) = bytes.split_at(usize::from(cut).min(bytes.len()));
    let (second, third) = rest.split_at(rest.len() / 2);
    for takeover in [false, true] {
        let bits = settings.server_window_bits;
        let mut deflater = Deflater::new(settings.level, bits, takeover);
        let mut window = takeover.then(|| Window::new(bits));
        let mut inflater = Inflater::new();
        let (mut payload, mut out) = (Vec::new(), Vec::new());
        for message in [first, second, third, first] {
            payload.clear();
            if !deflater.compress(message, &mut payload) {
                assert!(!takeover && payload.is_empty());
                continue;
            }
            assert!(takeover || message.is_empty() || payload.len() < message.len());
            let kind = MessageKind::Binary;
            let ours = inflater.inflate(kind, &payload, window.as_mut(), message.len(), &mut out);
            assert_eq!((ours, &out[..]), (Ok(()), message));
        }
    }
}
