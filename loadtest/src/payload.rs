//! What is sent: made from seed, connection and sequence number, so that an answer can be checked
//! byte by byte without keeping what was sent.
//!
//! A payload is a token of eight bytes (fewer if the payload is shorter) and a slice of a fixed
//! random pattern, at an offset that the token chooses.

use tungstenite::{Bytes, Message, Utf8Bytes};

use crate::dialect::OTHER_TYPE;

/// Length of the part that differs in every message.
const TOKEN_LEN: usize = 8;
/// How many different offsets into the pattern there are.
const OFFSETS: usize = 1024;

/// What payloads of words are made of. As JSON and logs do, they compress to about a third.
const WORDS: [&str; 32] = [
    "connection ",
    "user ",
    "room ",
    "message ",
    "the ",
    "a ",
    "of ",
    "and ",
    "to ",
    "was ",
    "joined ",
    "left ",
    "timestamp: ",
    "sequence: ",
    "state: ",
    "open ",
    "closed ",
    "online ",
    "offline ",
    "in ",
    "temperature: ",
    "pressure: ",
    "device-",
    "sensor-",
    "true, ",
    "false, ",
    "null, ",
    "0, ",
    "17, ",
    "42.5, ",
    "1000, ",
    "2026-11-21T12:00:00Z ",
];

/// Makes payloads and compares answers.
#[derive(Debug)]
pub(crate) struct Payloads {
    seed: u64,
    size: usize,
    text: bool,
    pattern: Vec<u8>,
}

impl Payloads {
    /// Payloads of `size` bytes; of ASCII letters and sent as text if `text`.
    pub(crate) fn new(seed: u64, size: usize, text: bool) -> Self {
        let mut state = seed;
        let mut pattern = Vec::with_capacity(size + OFFSETS + TOKEN_LEN);
        while pattern.len() < size + OFFSETS {
            state = state.wrapping_add(1);
            pattern.extend_from_slice(&dress(mix(state), text));
        }
        Self { seed, size, text, pattern }
    }

    /// The same as words; a payload of text it has to be.
    pub(crate) fn of_words(mut self) -> Self {
        let (length, mut state) = (self.pattern.len(), self.seed);
        self.pattern.clear();
        while self.pattern.len() < length {
            state = state.wrapping_add(1);
            let word = WORDS[mix(state) as usize % WORDS.len()];
            self.pattern.extend_from_slice(word.as_bytes());
        }
        self
    }

    /// Appends the bytes of message number `sequence` of a connection.
    pub(crate) fn write(&self, connection: u32, sequence: u32, out: &mut Vec<u8>) {
        let (token, rest) = self.parts(connection, sequence);
        out.extend_from_slice(&token[..self.size.min(TOKEN_LEN)]);
        out.extend_from_slice(rest);
    }

    /// Message number `sequence` of a connection.
    pub(crate) fn message(&self, connection: u32, sequence: u32) -> Message {
        let mut bytes = Vec::with_capacity(self.size);
        self.write(connection, sequence, &mut bytes);
        if self.text {
            let text = Utf8Bytes::try_from(Bytes::from(bytes));
            Message::Text(text.expect("payloads of text are ASCII"))
        } else {
            Message::Binary(Bytes::from(bytes))
        }
    }

    /// Whether `answer` has exactly the bytes of message number `sequence`.
    pub(crate) fn matches(&self, connection: u32, sequence: u32, answer: &[u8]) -> bool {
        let (token, rest) = self.parts(connection, sequence);
        let token = &token[..self.size.min(TOKEN_LEN)];
        answer.len() == self.size && answer.starts_with(token) && &answer[token.len()..] == rest
    }

    /// Says how an answer differs from message number `expected`, of which `in_flight` more follow;
    /// `None` if it does not.
    pub(crate) fn difference(
        &self,
        connection: u32,
        expected: u32,
        in_flight: u32,
        answer: &Message,
    ) -> Option<&'static str> {
        let bytes = match (answer, self.text) {
            (Message::Text(text), true) => text.as_bytes(),
            (Message::Binary(bytes), false) => bytes,
            _ => return Some(OTHER_TYPE),
        };
        self.unlike(connection, expected, in_flight, bytes)
    }

    /// The same of the bytes of an answer.
    pub(crate) fn unlike(
        &self,
        connection: u32,
        expected: u32,
        in_flight: u32,
        bytes: &[u8],
    ) -> Option<&'static str> {
        if self.matches(connection, expected, bytes) {
            return None;
        }
        let any = |mut range: std::ops::Range<u32>| {
            range.any(|sequence| self.matches(connection, sequence, bytes))
        };
        Some(if any(expected + 1..expected.saturating_add(in_flight)) {
            "out of order or one missing before it"
        } else if any(expected.saturating_sub(64)..expected) {
            "a second time"
        } else if bytes.len() != self.size {
            "of another length"
        } else {
            "with other bytes"
        })
    }

    fn parts(&self, connection: u32, sequence: u32) -> ([u8; TOKEN_LEN], &[u8]) {
        let value = token(self.seed, connection, sequence);
        let offset = value as usize % OFFSETS;
        let rest = &self.pattern[offset..offset + self.size.saturating_sub(TOKEN_LEN)];
        (dress(value, self.text), rest)
    }
}

/// A number that differs for every seed, connection and sequence number.
pub(crate) fn token(seed: u64, connection: u32, sequence: u32) -> u64 {
    mix(mix(seed) ^ (u64::from(connection) << 32 | u64::from(sequence)))
}

/// The finalizer of SplitMix64, a bijection.
fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Eight bytes of a number: as they are, or as ASCII characters of six bits each, none of which needs
/// an escape in JSON.
fn dress(value: u64, text: bool) -> [u8; TOKEN_LEN] {
    if !text {
        return value.to_le_bytes();
    }
    std::array::from_fn(|i| match b'0' + (value >> (8 * i)) as u8 % 64 {
        b'\\' => b'p',
        other => other,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(message: &Message) -> Vec<u8> {
        message.clone().into_data().to_vec()
    }

    #[test]
    fn every_size_matches_itself_only() {
        for text in [false, true] {
            for size in [0, 1, 7, 8, 9, 20, 1024, 70_000] {
                let payloads = Payloads::new(7, size, text);
                let message = payloads.message(3, 9);
                assert_eq!(bytes(&message).len(), size);
                assert_eq!(message.is_text(), text);
                assert_eq!(payloads.difference(3, 9, 1, &message), None);
                if size >= TOKEN_LEN {
                    assert!(payloads.difference(4, 9, 1, &message).is_some());
                    assert!(Payloads::new(8, size, text).difference(3, 9, 1, &message).is_some());
                }
            }
        }
    }

    #[test]
    fn text_needs_no_escape() {
        let sent = bytes(&Payloads::new(2, 10_000, true).message(0, 0));
        assert!(sent.iter().all(|byte| (b'0'..=b'p').contains(byte) && *byte != b'\\'));
    }

    #[test]
    fn words_need_no_escape_either() {
        let payloads = Payloads::new(2, 10_000, true).of_words();
        let message = payloads.message(0, 0);
        assert_eq!(payloads.difference(0, 0, 1, &message), None);
        let sent = bytes(&message);
        assert!(sent.len() == 10_000 && sent.iter().all(|byte| (b' '..=b'z').contains(byte)));
        assert!(!sent.contains(&b'"') && !sent.contains(&b'\\'));
    }

    #[test]
    fn one_changed_bit_is_seen_anywhere() {
        let payloads = Payloads::new(1, 40, false);
        let sent = bytes(&payloads.message(0, 0));
        for at in 0..sent.len() {
            let mut answer = sent.clone();
            answer[at] ^= 1;
            let seen = payloads.difference(0, 0, 1, &Message::Binary(answer.into()));
            assert_eq!(seen, Some("with other bytes"), "byte {at}");
        }
    }

    #[test]
    fn differences_are_told_apart() {
        let payloads = Payloads::new(1, 20, false);
        let say = |answer: &Message| payloads.difference(5, 10, 4, answer).unwrap();
        assert!(say(&payloads.message(5, 12)).contains("order"));
        assert!(say(&payloads.message(5, 9)).contains("second"));
        assert!(say(&Message::binary(vec![0; 19])).contains("length"));
        assert!(say(&Message::text("x".repeat(20))).contains("type"));
    }
}
