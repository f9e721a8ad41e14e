//! Connection ids as clients see them: unguessable, and without a table.
//!
//! A public id is one AES block under a key that is drawn at start and never leaves the process:
//! connection 64 bits | node 16 | start 48. Its owner can tell nothing from it, and only ids that
//! this start of this node gave out decrypt to this node and this start: of 2^64 strings one does
//! by chance.

use std::fmt;
use std::io;

use aes::Aes128;
use aes::cipher::{Array, BlockCipherDecrypt, BlockCipherEncrypt, KeyInit};
use serde::{Serialize, Serializer};

use crate::id::ConnId;

/// Bytes of an id before it is written out: one block.
const BLOCK: usize = 16;
/// Bits of the number of this start.
const EPOCH_BITS: u32 = 48;
const HEX: &[u8; 16] = b"0123456789abcdef";

/// Turns connection ids to public ids and back, for one node and one start.
pub struct PublicIds {
    cipher: Aes128,
    /// Node and start, as they stand in the low half of each block.
    suffix: u64,
}

impl PublicIds {
    /// Draws the key and number of this start, for the node of this number.
    ///
    /// # Errors
    /// If the system has no random bytes to give.
    pub fn new(node: u16) -> io::Result<Self> {
        let mut key = [0; 16];
        let mut epoch = [0; 8];
        for bytes in [&mut key[..], &mut epoch[..]] {
            getrandom::fill(bytes)
                .map_err(|e| io::Error::other(format!("no random bytes for ids: {e}")))?;
        }
        Ok(Self::with(key, node, u64::from_be_bytes(epoch)))
    }

    fn with(key: [u8; 16], node: u16, epoch: u64) -> Self {
        let epoch = epoch & ((1 << EPOCH_BITS) - 1);
        Self {
            cipher: Aes128::new(&Array::from(key)),
            suffix: u64::from(node) << EPOCH_BITS | epoch,
        }
    }

    /// The public id of a connection. No allocation.
    #[must_use]
    pub fn encode(&self, id: ConnId) -> PublicId {
        let plain = u128::from(id.to_bits()) << 64 | u128::from(self.suffix);
        let mut block = Array::from(plain.to_be_bytes());
        self.cipher.encrypt_block(&mut block);
        PublicId::from_block(block.into())
    }

    /// The connection that [`encode`](Self::encode) gave this public id to.
    ///
    /// `None` for whatever this node did not give out since it started: other nodes' and earlier
    /// starts' ids, other lengths, digits in upper case. That there is a connection of this id still
    /// is for its loop to say.
    #[must_use]
    pub fn decode(&self, text: &str) -> Option<ConnId> {
        let mut block = Array::from(block_of(text)?);
        self.cipher.decrypt_block(&mut block);
        let plain = u128::from_be_bytes(block.into());
        (plain as u64 == self.suffix).then(|| ConnId::from_bits((plain >> 64) as u64))
    }
}

impl fmt::Debug for PublicIds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublicIds")
            .field("node", &(self.suffix >> EPOCH_BITS))
            .finish_non_exhaustive()
    }
}

/// A connection id as clients see it: 32 hexadecimal digits in lower case.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PublicId {
    /// Only bytes of `HEX`.
    digits: [u8; PublicId::LEN],
}

impl PublicId {
    /// Length of a public id, bytes.
    pub const LEN: usize = 2 * BLOCK;

    fn from_block(block: [u8; BLOCK]) -> Self {
        let digit = |i: usize| HEX[usize::from(block[i / 2] >> (4 * (1 - i % 2)) & 0xf)];
        Self { digits: std::array::from_fn(digit) }
    }

    /// The digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.digits).expect("hexadecimal digits are ASCII")
    }
}

impl AsRef<str> for PublicId {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for PublicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for PublicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for PublicId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// The block that these digits stand for, if they are in the one form that is given out.
fn block_of(text: &str) -> Option<[u8; BLOCK]> {
    let digits: &[u8; PublicId::LEN] = text.as_bytes().try_into().ok()?;
    let mut block = [0; BLOCK];
    for (byte, pair) in block.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Some(block)
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ids() -> PublicIds {
        PublicIds::with(*b"a key of sixteen", 7, 0x1234_5678_9abc)
    }

    #[test]
    fn the_block_is_aes_of_connection_node_and_start() {
        // FIPS 197, appendix C.1: the vector's plaintext read as our three fields.
        let key = std::array::from_fn(|i| i as u8);
        let ids = PublicIds::with(key, 0x8899, 0xaabb_ccdd_eeff);
        let id = ConnId::from_bits(0x0011_2233_4455_6677);
        assert_eq!(ids.encode(id).as_str(), "69c4e0d86a7b0430d8cdb78070b4c55a");
        assert_eq!(ids.decode("69c4e0d86a7b0430d8cdb78070b4c55a"), Some(id));
    }

    #[test]
    fn any_changed_character_is_refused() {
        let ids = ids();
        let good = ids.encode(ConnId::new(3, 9, 12)).to_string();
        for at in 0..good.len() {
            for other in (0..=127u8).filter(|c| *c != good.as_bytes()[at]) {
                let mut bytes = good.clone().into_bytes();
                bytes[at] = other;
                let bad = String::from_utf8(bytes).unwrap();
                assert_eq!(ids.decode(&bad), None, "{bad:?}");
            }
        }
    }

    #[test]
    fn only_the_canonical_form_is_taken() {
        let ids = ids();
        let good = ids.encode(ConnId::new(3, 9, 12)).to_string();
        let wide = good.replacen(&good[..2], "é", 1);
        for bad in [
            String::new(),
            good.to_uppercase(),
            format!("{good} "),
            format!("{good}0"),
            format!("0{good}"),
            good[1..].to_owned(),
            format!("+{}", &good[1..]),
            wide,
        ] {
            assert_eq!(ids.decode(&bad), None, "{bad:?}");
        }
    }

    #[test]
    fn ids_of_another_start_node_or_key_are_refused() {
        let id = ConnId::new(1, 2, 3);
        let text = ids().encode(id).to_string();
        let key = *b"a key of sixteen";
        assert_eq!(PublicIds::with(key, 7, 0x1234_5678_9abc).decode(&text), Some(id));
        assert_eq!(PublicIds::with(key, 8, 0x1234_5678_9abc).decode(&text), None);
        assert_eq!(PublicIds::with(key, 7, 0x1234_5678_9abd).decode(&text), None);
        assert_eq!(PublicIds::with(*b"a key of sixteem", 7, 0x1234_5678_9abc).decode(&text), None);
        let (one, two) = (PublicIds::new(7).unwrap(), PublicIds::new(7).unwrap());
        assert_eq!(two.decode(one.encode(id).as_str()), None);
    }

    #[test]
    fn consecutive_ids_do_not_look_alike() {
        let ids = ids();
        let at = |slot| ids.encode(ConnId::new(0, 0, slot)).digits;
        for slot in 0..1000 {
            let (a, b) = (at(slot), at(slot + 1));
            let same = a.iter().zip(&b).filter(|(a, b)| a == b).count();
            // By chance 2 of 32; 16 are one pair in more than 10^9.
            assert!(same < 16, "{same} digits in common");
        }
    }

    #[test]
    fn debug_shows_no_key() {
        assert_eq!(format!("{:?}", ids()), "PublicIds { node: 7, .. }");
    }

    proptest! {
        #[test]
        fn round_trip(bits: u64, node: u16, epoch: u64, key: [u8; 16]) {
            let ids = PublicIds::with(key, node, epoch);
            let public = ids.encode(ConnId::from_bits(bits));
            prop_assert_eq!(public.to_string(), public.as_str());
            prop_assert_eq!(serde_json::to_string(&public).unwrap(), format!("\"{public}\""));
            prop_assert_eq!(ids.decode(public.as_str()), Some(ConnId::from_bits(bits)));
        }

        #[test]
        fn any_text_is_refused(text in ".*|[0-9a-f]{32}") {
            prop_assert_eq!(ids().decode(&text), None);
        }
    }
}
