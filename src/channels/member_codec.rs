//! Sorted ids of connections as differences: one byte for a member whose slot is near that of the
//! one before.
//!
//! An id is known here by its key: loop 10 bits | slot 24 | generation 30, so that ids are sorted
//! as the slots lie in memory. Each is written relative to the one before, the first of a sequence
//! relative to 0: the difference of the places (loop and slot), and a bit that says whether the
//! generations differ; if so, their difference behind it. No bit of an id is left out.

use crate::id::{ConnId, GENERATION_BITS, SLOT_BITS};

/// Most bytes of one id: 35 bits of place and flag, 31 of generation, seven in a byte.
const ENTRY_MAX: usize = 10;

const GENERATION_MASK: u64 = (1 << GENERATION_BITS) - 1;

/// An id, put together so that it sorts by place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key(u64);

impl Key {
    /// Not above the key of any id of the loop, and above those of all loops before.
    pub(super) fn first_of_loop(index: usize) -> Self {
        Self((index as u64) << (SLOT_BITS + GENERATION_BITS))
    }

    fn new(place: u64, generation: u64) -> Self {
        Self(place << GENERATION_BITS | generation)
    }

    fn place(self) -> u64 {
        self.0 >> GENERATION_BITS
    }

    fn generation(self) -> u64 {
        self.0 & GENERATION_MASK
    }
}

impl From<ConnId> for Key {
    fn from(conn: ConnId) -> Self {
        let place = (conn.loop_index() as u64) << SLOT_BITS | conn.slot() as u64;
        Self::new(place, conn.generation().into())
    }
}

impl From<Key> for ConnId {
    fn from(key: Key) -> Self {
        let (place, slots) = (key.place(), 1_u64 << SLOT_BITS);
        Self::new((place / slots) as usize, key.generation() as u32, (place % slots) as usize)
    }
}

/// Reads a sequence from its beginning.
#[derive(Clone, Debug, Default)]
pub(super) struct Keys<'a> {
    bytes: &'a [u8],
    at: usize,
    last: Key,
}

impl<'a> Keys<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, last: Key::default() }
    }

    #[inline]
    fn number(&mut self) -> u64 {
        let (mut number, mut shift) = (0, 0);
        while let Some(&byte) = self.bytes.get(self.at) {
            self.at += 1;
            number |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                break;
            }
            shift += 7;
        }
        number
    }
}

impl Iterator for Keys<'_> {
    type Item = Key;

    #[inline]
    fn next(&mut self) -> Option<Key> {
        if self.at == self.bytes.len() {
            return None;
        }
        let head = self.number();
        let mut generation = self.last.generation();
        if head & 1 == 1 {
            let zigzag = self.number();
            generation = generation.wrapping_add(zigzag >> 1 ^ (zigzag & 1).wrapping_neg());
        }
        self.last = Key::new(self.last.place() + (head >> 1), generation);
        Some(self.last)
    }
}

/// Bytes to be put in the place of others.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Splice {
    /// Where the others begin.
    pub(super) from: usize,
    /// Where they end.
    pub(super) to: usize,
    bytes: [u8; 2 * ENTRY_MAX],
    len: usize,
}

impl Splice {
    /// What makes `key` one of the sequence; `None` if it is.
    pub(super) fn inserting(bytes: &[u8], key: Key) -> Option<Self> {
        let spot = Spot::find(bytes, key);
        if spot.next == Some(key) {
            return None;
        }
        let mut splice = Self::empty(spot.from, spot.to);
        splice.put(spot.before, key);
        if let Some(next) = spot.next {
            splice.put(key, next);
        }
        Some(splice)
    }

    /// What takes `key` out of the sequence; `None` if it is not in it.
    pub(super) fn removing(bytes: &[u8], key: Key) -> Option<Self> {
        let spot = Spot::find(bytes, key);
        if spot.next != Some(key) {
            return None;
        }
        let mut behind = Keys { bytes, at: spot.to, last: key };
        let next = behind.next();
        let mut splice = Self::empty(spot.from, behind.at);
        if let Some(next) = next {
            splice.put(spot.before, next);
        }
        Some(splice)
    }

    /// What appends the sequence `second` to `first`, up to the bytes of its first key; what is
    /// behind that can be taken as it is. Returns where that begins.
    pub(super) fn joining(first: &[u8], second: &[u8]) -> (Self, usize) {
        let mut behind = Keys::new(second);
        let last = Keys::new(first).last().unwrap_or_default();
        let mut splice = Self::empty(first.len(), first.len());
        if let Some(next) = behind.next() {
            splice.put(last, next);
        }
        (splice, behind.at)
    }

    /// What is put there.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// How long a sequence of `len` bytes is afterwards.
    pub(super) fn len_after(&self, len: usize) -> usize {
        len - (self.to - self.from) + self.len
    }

    /// Puts the bytes into a sequence of `len` bytes, which has room for more if it grows.
    pub(super) fn apply(&self, bytes: &mut [u8], len: usize) {
        bytes.copy_within(self.to..len, self.from + self.len);
        bytes[self.from..self.from + self.len].copy_from_slice(self.bytes());
    }

    fn empty(from: usize, to: usize) -> Self {
        Self { from, to, bytes: [0; 2 * ENTRY_MAX], len: 0 }
    }

    fn put(&mut self, before: Key, key: Key) {
        let places = (key.place() - before.place()) << 1;
        if key.generation() == before.generation() {
            return self.put_number(places);
        }
        let difference = key.generation() as i64 - before.generation() as i64;
        self.put_number(places | 1);
        self.put_number((difference << 1 ^ difference >> 63) as u64);
    }

    fn put_number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.put_byte(number as u8 | 0x80);
            number >>= 7;
        }
        self.put_byte(number as u8);
    }

    fn put_byte(&mut self, byte: u8) {
        self.bytes[self.len] = byte;
        self.len += 1;
    }
}

/// Cuts a sequence of at least two keys near its middle: the first part, and the second as a
/// sequence of its own.
pub(super) fn halves(bytes: &[u8]) -> (&[u8], Box<[u8]>) {
    let mut keys = Keys::new(bytes);
    keys.next();
    while keys.at < bytes.len() / 2 {
        keys.next();
    }
    let cut = keys.at;
    let (splice, from) = (keys.next(), &mut Splice::empty(0, 0));
    if let Some(first) = splice {
        from.put(Key::default(), first);
    }
    let mut second = Vec::with_capacity(from.len + bytes.len() - keys.at);
    second.extend_from_slice(from.bytes());
    second.extend_from_slice(&bytes[keys.at..]);
    (&bytes[..cut], second.into_boxed_slice())
}

/// Where a key is in a sequence, or would be.
struct Spot {
    /// The key before.
    before: Key,
    /// The first that is not less.
    next: Option<Key>,
    /// Where that begins.
    from: usize,
    /// Where it ends.
    to: usize,
}

impl Spot {
    fn find(bytes: &[u8], key: Key) -> Self {
        let mut keys = Keys::new(bytes);
        loop {
            let (before, from) = (keys.last, keys.at);
            let next = keys.next();
            if next.is_none_or(|next| next >= key) {
                return Self { before, next, from, to: keys.at };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(keys: &[Key]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for key in keys {
            let splice = Splice::inserting(&bytes, *key).unwrap();
            let len = bytes.len();
            bytes.resize(splice.len_after(len).max(len), 0);
            splice.apply(&mut bytes, len);
            bytes.truncate(splice.len_after(len));
        }
        bytes
    }

    #[test]
    fn ids_come_back_with_all_their_bits() {
        let top = (1 << GENERATION_BITS) - 1;
        for id in [(0, 0, 0), (1023, top, (1 << SLOT_BITS) - 1), (7, 99, 12_345), (0, top, 0)] {
            let conn = ConnId::new(id.0, id.1, id.2);
            assert_eq!(ConnId::from(Key::from(conn)), conn);
            let bytes = written(&[conn.into()]);
            assert_eq!(Keys::new(&bytes).collect::<Vec<_>>(), [conn.into()]);
            assert!(bytes.len() <= ENTRY_MAX);
        }
    }

    #[test]
    fn the_longest_entry_fits() {
        let far = ConnId::new(1023, (1 << GENERATION_BITS) - 1, (1 << SLOT_BITS) - 1);
        let bytes = written(&[ConnId::new(0, 0, 0).into(), far.into()]);
        assert_eq!(bytes.len(), 1 + ENTRY_MAX);
        assert_eq!(Keys::new(&bytes).last(), Some(far.into()));
    }

    #[test]
    fn neighbours_take_one_byte() {
        let keys: Vec<Key> = (0..50).map(|slot| ConnId::new(3, 1, slot * 20).into()).collect();
        assert_eq!(written(&keys).len(), 49 + written(&keys[..1]).len());
    }

    #[test]
    fn lives_of_one_slot_are_told_apart() {
        let keys = [5, 1, 9].map(|generation| Key::from(ConnId::new(0, generation, 4)));
        let bytes = written(&keys);
        let mut sorted = keys;
        sorted.sort();
        assert_eq!(Keys::new(&bytes).collect::<Vec<_>>(), sorted);
        assert_eq!(Splice::removing(&bytes, ConnId::new(0, 2, 4).into()), None);
    }

    #[test]
    fn halves_are_joined_again() {
        let keys: Vec<Key> =
            (0..99).map(|n| ConnId::new(n % 3, n as u32 % 5, n * n).into()).collect();
        let bytes = written(&keys);
        let (first, second) = halves(&bytes);
        assert!(first.len().abs_diff(second.len()) <= 3 * ENTRY_MAX);
        let (splice, rest) = Splice::joining(first, &second);
        assert_eq!([first, splice.bytes(), &second[rest..]].concat(), bytes);
    }
}
