//! Ids of messages: random UUIDs (RFC 9562, 5.4), of which an ask's carry its number.

use std::cell::RefCell;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::dialect::json::text::ask_id;
use crate::dialect::message::AskId;

const ID_BYTES: usize = 16;
/// Bytes drawn at once: a system call for 64 ids, not for each.
const POOL_BYTES: usize = 64 * ID_BYTES;

/// Length of an id as text.
const TEXT_BYTES: usize = 36;
const HEX: &[u8; 16] = b"0123456789abcdef";

/// A version 4 UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MessageId([u8; ID_BYTES]);

impl MessageId {
    /// A new one.
    pub(super) fn random() -> Self {
        Self::with(POOL.with_borrow_mut(Pool::take))
    }

    /// A new one that carries `ask` in its first 32 bits.
    pub(super) fn of_ask(ask: AskId) -> Self {
        let Self(mut bytes) = Self::random();
        bytes[..4].copy_from_slice(&ask.to_be_bytes());
        Self(bytes)
    }

    /// What `text` carries; 0 if it is no id that [`of_ask`](Self::of_ask) can have made.
    pub(super) fn ask_in(text: &str) -> AskId {
        let right = |(at, byte): (usize, u8)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            14 => byte == b'4',
            19 => matches!(byte.to_ascii_lowercase(), b'8' | b'9' | b'a' | b'b'),
            _ => byte.is_ascii_hexdigit(),
        };
        if text.len() != TEXT_BYTES || !text.bytes().enumerate().all(right) {
            return 0;
        }
        u32::from_str_radix(&text[..8], 16).map_or(0, ask_id)
    }

    /// As the RFC writes it, in lower case.
    pub(super) fn text(self) -> [u8; TEXT_BYTES] {
        let mut text = [b'-'; TEXT_BYTES];
        let mut at = 0;
        for (number, byte) in self.0.iter().enumerate() {
            at += usize::from(matches!(number, 4 | 6 | 8 | 10));
            text[at] = HEX[usize::from(byte >> 4)];
            text[at + 1] = HEX[usize::from(byte & 0xf)];
            at += 2;
        }
        text
    }

    /// Random bytes with version and variant put in.
    fn with(mut bytes: [u8; ID_BYTES]) -> Self {
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        Self(bytes)
    }
}

thread_local! {
    static POOL: RefCell<Pool> = const { RefCell::new(Pool { bytes: [0; POOL_BYTES], left: 0 }) };
}

/// Random bytes of this thread, each given out once.
struct Pool {
    bytes: [u8; POOL_BYTES],
    left: usize,
}

impl Pool {
    fn take(&mut self) -> [u8; ID_BYTES] {
        if self.left == 0 {
            self.refill();
        }
        self.left -= ID_BYTES;
        let mut id = [0; ID_BYTES];
        id.copy_from_slice(&self.bytes[self.left..self.left + ID_BYTES]);
        id
    }

    fn refill(&mut self) {
        self.left = POOL_BYTES;
        if getrandom::fill(&mut self.bytes).is_ok() {
            return;
        }
        // The source worked at start and can't be asked again now: time keeps ids apart.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        for (number, id) in self.bytes.chunks_exact_mut(ID_BYTES).enumerate() {
            let stirred = since.as_nanos().wrapping_mul(0x9e37_79b9_7f4a_7c15) + number as u128;
            id.iter_mut().zip(stirred.to_be_bytes()).for_each(|(byte, by)| *byte ^= by);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn written(id: MessageId) -> String {
        String::from_utf8(id.text().to_vec()).unwrap()
    }

    #[test]
    fn ids_are_version_4_and_all_different() {
        let ids: HashSet<_> = (0..1000).map(|_| written(MessageId::random())).collect();
        assert_eq!(ids.len(), 1000);
        for id in ids {
            let groups: Vec<_> = id.split('-').map(str::len).collect();
            assert_eq!(groups, [8, 4, 4, 4, 12], "{id}");
            assert_eq!(id.as_bytes()[14], b'4', "{id}");
            assert!(matches!(id.as_bytes()[19], b'8' | b'9' | b'a' | b'b'), "{id}");
        }
    }

    #[test]
    fn ids_are_written_as_the_rfc_has_them() {
        let bytes = std::array::from_fn(|n| (n as u8) << 4 | n as u8);
        let id = MessageId::with(bytes);
        assert_eq!(written(id), "00112233-4455-4677-8899-aabbccddeeff");
    }

    #[test]
    fn what_is_no_id_of_an_ask_carries_none() {
        let ask = "00000103-4455-4677-8899-aabbccddeeff";
        assert_eq!(MessageId::ask_in(ask), 0x103);
        assert_eq!(MessageId::ask_in(&ask.to_ascii_uppercase()), 0x103);
        for text in [
            "",
            "00000102-4455-4677-8899-aabbccddeeff",
            "00000103-4455-1677-8899-aabbccddeeff",
            "00000103-4455-4677-c899-aabbccddeeff",
            "00000103-4455-4677-8899-aabbccddeef",
            "00000103-4455-4677-8899-aabbccddeefff",
            "00000103-4455-4677-8899_aabbccddeeff",
            "+0000103-4455-4677-8899-aabbccddeeff",
            "0000010\u{e9}-4455-4677-8899-aabbccddeef",
        ] {
            assert_eq!(MessageId::ask_in(text), 0, "{text}");
        }
    }

    proptest! {
        #[test]
        fn asks_come_back(number: u32) {
            let ask = number | 1;
            let id = written(MessageId::of_ask(ask));
            prop_assert_eq!(MessageId::ask_in(&id), ask);
            prop_assert_eq!(id.as_bytes()[14], b'4');
        }
    }
}
