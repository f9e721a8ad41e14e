//! A set of connections, from one to a million, that takes little more than a byte for each.

use std::fmt;
use std::iter::FusedIterator;
use std::mem;
use std::slice;

use super::member_codec::{Key, Keys, Splice, halves};
use crate::id::ConnId;

/// Bytes of a set that needs no memory beside its own.
const FEW_BYTES: usize = 21;
/// A set that shrinks to this goes back into its own memory; not at once, lest one that changes all
/// the time does nothing but move.
const FEW_AGAIN_BYTES: usize = FEW_BYTES - 6;
/// Most bytes of a chunk, beyond which it is cut in halves. A change reads half of one on average:
/// a microsecond at worst.
const CHUNK_BYTES: usize = 512;
/// A chunk with fewer is joined with a neighbour, if the two fill no more than three quarters of
/// one.
const CHUNK_BYTES_MIN: usize = CHUNK_BYTES / 4;

/// Connections, sorted as they lie in their loops' tables: a publish meets slots and sockets mostly
/// in the order in which they lie in memory.
///
/// Ids are kept whole: a stale one never stands for the slot's next connection.
pub struct Members(Store);

enum Store {
    /// In place.
    Few { count: u8, used: u8, bytes: [u8; FEW_BYTES] },
    /// In one piece of memory, exactly as long as it has to be.
    One { count: u32, bytes: Box<[u8]> },
    /// In several such pieces. No key of one is above those of the next, and none is empty.
    Many(Box<Chunks>),
}

struct Chunks {
    count: usize,
    chunks: Vec<Box<[u8]>>,
}

impl Members {
    /// Nobody.
    #[must_use]
    pub const fn new() -> Self {
        Self(Store::Few { count: 0, used: 0, bytes: [0; FEW_BYTES] })
    }

    /// Takes `conn` in; `false` if it is in already.
    pub fn insert(&mut self, conn: ConnId) -> bool {
        let key = conn.into();
        let inserted = match &mut self.0 {
            Store::Few { count, used, bytes } => {
                let Some(splice) = Splice::inserting(&bytes[..usize::from(*used)], key) else {
                    return false;
                };
                *count += 1;
                let after = splice.len_after((*used).into());
                if after <= FEW_BYTES {
                    splice.apply(bytes, (*used).into());
                    *used = after as u8;
                } else {
                    let (count, mut bytes) =
                        (u32::from(*count), bytes[..usize::from(*used)].into());
                    change(&mut bytes, &splice);
                    self.0 = Store::One { count, bytes };
                }
                true
            }
            Store::One { count, bytes } => {
                let Some(splice) = Splice::inserting(bytes, key) else { return false };
                change(bytes, &splice);
                *count += 1;
                true
            }
            Store::Many(chunks) => chunks.insert(key),
        };
        if let Store::One { count, bytes } = &mut self.0
            && bytes.len() > CHUNK_BYTES
        {
            let (count, chunks) = (*count as usize, cut(mem::take(bytes)));
            self.0 = Store::Many(Box::new(Chunks { count, chunks: chunks.into() }));
        }
        inserted
    }

    /// Lets go of `conn`; `false` if it is not in.
    pub fn remove(&mut self, conn: ConnId) -> bool {
        let key = conn.into();
        match &mut self.0 {
            Store::Few { count, used, bytes } => {
                let len = usize::from(*used);
                let Some(splice) = Splice::removing(&bytes[..len], key) else { return false };
                splice.apply(bytes, len);
                (*count, *used) = (*count - 1, splice.len_after(len) as u8);
                true
            }
            Store::One { count, bytes } => {
                let Some(splice) = Splice::removing(bytes, key) else { return false };
                change(bytes, &splice);
                *count -= 1;
                self.put_in_place();
                true
            }
            Store::Many(chunks) => {
                let removed = chunks.remove(key);
                if let [_] = &chunks.chunks[..] {
                    let (count, bytes) = (chunks.count as u32, chunks.chunks.pop());
                    self.0 = Store::One { count, bytes: bytes.unwrap_or_default() };
                }
                removed
            }
        }
    }

    /// Whether `conn` is in.
    #[must_use]
    pub fn contains(&self, conn: ConnId) -> bool {
        let key = conn.into();
        self.first_from(key) == Some(key)
    }

    /// Whether any connection of a loop is in.
    #[must_use]
    pub fn has_any_of_loop(&self, index: usize) -> bool {
        let first = self.first_from(Key::first_of_loop(index));
        first.is_some_and(|key| ConnId::from(key).loop_index() == index)
    }

    /// How many are in.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.0 {
            Store::Few { count, .. } => (*count).into(),
            Store::One { count, .. } => *count as usize,
            Store::Many(chunks) => chunks.count,
        }
    }

    /// Whether nobody is in.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All that are in, sorted by loop, slot and generation.
    #[must_use]
    pub fn iter(&self) -> Iter<'_> {
        let (now, rest) = match &self.0 {
            Store::Few { used, bytes, .. } => (&bytes[..usize::from(*used)], &[][..]),
            Store::One { bytes, .. } => (&**bytes, &[][..]),
            Store::Many(chunks) => (&[][..], &chunks.chunks[..]),
        };
        Iter { now: Keys::new(now), rest: rest.iter() }
    }

    /// Memory beside the set's own, bytes, without what an allocator adds.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        match &self.0 {
            Store::Few { .. } => 0,
            Store::One { bytes, .. } => bytes.len(),
            Store::Many(many) => {
                let chunks: usize = many.chunks.iter().map(|chunk| chunk.len()).sum();
                size_of::<Chunks>() + many.chunks.capacity() * size_of::<Box<[u8]>>() + chunks
            }
        }
    }

    /// The first key that is not less.
    fn first_from(&self, key: Key) -> Option<Key> {
        let find = |bytes| Keys::new(bytes).find(|found| *found >= key);
        match &self.0 {
            Store::Few { used, bytes, .. } => find(&bytes[..usize::from(*used)]),
            Store::One { bytes, .. } => find(bytes),
            Store::Many(chunks) => {
                let mut from = chunks.chunks[chunks.index_for(key)..].iter();
                from.find_map(|chunk| find(chunk))
            }
        }
    }

    fn put_in_place(&mut self) {
        if let Store::One { count, bytes: old } = &self.0
            && old.len() <= FEW_AGAIN_BYTES
        {
            let mut bytes = [0; FEW_BYTES];
            bytes[..old.len()].copy_from_slice(old);
            // An id takes a byte at least, so that there are no more of them than bytes.
            self.0 = Store::Few { count: *count as u8, used: old.len() as u8, bytes };
        }
    }
}

impl Default for Members {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Members {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self).finish()
    }
}

impl<'a> IntoIterator for &'a Members {
    type Item = ConnId;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl Chunks {
    fn insert(&mut self, key: Key) -> bool {
        let index = self.index_for(key);
        let chunk = &mut self.chunks[index];
        let Some(splice) = Splice::inserting(chunk, key) else { return false };
        change(chunk, &splice);
        self.count += 1;
        if chunk.len() > CHUNK_BYTES {
            let [first, second] = cut(mem::take(chunk));
            self.chunks[index] = first;
            self.chunks.insert(index + 1, second);
        }
        true
    }

    fn remove(&mut self, key: Key) -> bool {
        let index = self.index_for(key);
        let chunk = &mut self.chunks[index];
        let Some(splice) = Splice::removing(chunk, key) else { return false };
        change(chunk, &splice);
        self.count -= 1;
        if chunk.is_empty() {
            self.chunks.remove(index);
        } else if chunk.len() < CHUNK_BYTES_MIN {
            let _ = index > 0 && self.join(index - 1) || self.join(index);
        }
        true
    }

    /// Joins a chunk with the next one, if both are small.
    fn join(&mut self, index: usize) -> bool {
        let [first, second, ..] = &self.chunks[index..] else { return false };
        if first.len() + second.len() > CHUNK_BYTES / 4 * 3 {
            return false;
        }
        let (splice, rest) = Splice::joining(first, second);
        let joined = [first, splice.bytes(), &second[rest..]].concat();
        self.chunks[index] = joined.into_boxed_slice();
        self.chunks.remove(index + 1);
        if self.chunks.capacity() > 4 * self.chunks.len() {
            self.chunks.shrink_to(2 * self.chunks.len());
        }
        true
    }

    /// The chunk in which a key is, if it is in any: the last that does not begin above it.
    fn index_for(&self, key: Key) -> usize {
        let first = |chunk: &[u8]| Keys::new(chunk).next();
        self.chunks.partition_point(|chunk| first(chunk) <= Some(key)).saturating_sub(1)
    }
}

/// Goes through a set.
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    now: Keys<'a>,
    rest: slice::Iter<'a, Box<[u8]>>,
}

impl Iterator for Iter<'_> {
    type Item = ConnId;

    #[inline]
    fn next(&mut self) -> Option<ConnId> {
        loop {
            if let Some(key) = self.now.next() {
                return Some(key.into());
            }
            self.now = Keys::new(self.rest.next()?);
        }
    }
}

impl FusedIterator for Iter<'_> {}

/// Puts what a splice says into memory that is as long as it has to be, before and afterwards.
fn change(bytes: &mut Box<[u8]>, splice: &Splice) {
    let mut vec = mem::take(bytes).into_vec();
    let (len, after) = (vec.len(), splice.len_after(vec.len()));
    if after > len {
        vec.reserve_exact(after - len);
        vec.resize(after, 0);
    }
    splice.apply(&mut vec, len);
    vec.truncate(after);
    *bytes = vec.into_boxed_slice();
}

/// Cuts a chunk in halves. The first keeps its memory.
fn cut(bytes: Box<[u8]>) -> [Box<[u8]>; 2] {
    let (first, second) = halves(&bytes);
    let len = first.len();
    let mut first = bytes.into_vec();
    first.truncate(len);
    [first.into_boxed_slice(), second]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_set_is_small() {
        assert_eq!(size_of::<Members>(), 24);
    }

    /// Ids by (loop, slot, generation), the order of a set.
    fn sorted(members: &BTreeSet<(usize, usize, u32)>) -> Vec<ConnId> {
        members.iter().map(|(index, slot, life)| ConnId::new(*index, *life, *slot)).collect()
    }

    /// Sparse and dense, of few loops and many, of one life and many.
    fn ids() -> impl Strategy<Value = (usize, usize, u32)> {
        let dense = (0..2_usize, 0..300_usize, 0..3_u32);
        let any = (0..1024_usize, 0..1_usize << 24, 0..1_u32 << 30);
        prop_oneof![4 => dense, 1 => any]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn it_is_a_sorted_set(changes in proptest::collection::vec((ids(), 0..5_u8), 0..1500)) {
            let (mut members, mut model) = (Members::new(), BTreeSet::new());
            for ((index, slot, life), what) in changes {
                let conn = ConnId::new(index, life, slot);
                if what > 0 {
                    prop_assert_eq!(members.insert(conn), model.insert((index, slot, life)));
                } else {
                    prop_assert_eq!(members.remove(conn), model.remove(&(index, slot, life)));
                }
                prop_assert_eq!(members.len(), model.len());
                prop_assert_eq!(members.contains(conn), what > 0);
            }
            prop_assert_eq!(members.iter().collect::<Vec<_>>(), sorted(&model));
            for index in 0..4 {
                let any = model.iter().any(|member| member.0 == index);
                prop_assert_eq!(members.has_any_of_loop(index), any);
            }
            // And empty again, from the middle outwards.
            let mut left = sorted(&model);
            while !left.is_empty() {
                prop_assert!(members.remove(left.remove(left.len() / 2)));
                if left.len().is_multiple_of(64) {
                    prop_assert_eq!(members.iter().collect::<Vec<_>>(), left.clone());
                }
            }
            prop_assert_eq!((members.is_empty(), members.heap_bytes()), (true, 0));
        }
    }

    #[test]
    fn the_next_life_of_a_slot_is_another_member() {
        let (old, new) = (ConnId::new(1, 6, 7), ConnId::new(1, 7, 7));
        let mut members = Members::new();
        assert!(members.insert(old) && !members.insert(old));
        assert!(!members.contains(new) && !members.remove(new));
        assert!(members.insert(new) && members.remove(old));
        assert_eq!(members.iter().collect::<Vec<_>>(), [new]);
    }

    #[test]
    fn a_million_members_take_little_more_than_a_byte_each() {
        let mut members = Members::new();
        for slot in 0..500_000 {
            assert!(members.insert(ConnId::new(0, 1, slot)));
        }
        for slot in (0..500_000).rev() {
            assert!(members.insert(ConnId::new(1, 1, slot)));
        }
        assert_eq!(members.len(), 1_000_000);
        // What comes in order leaves each chunk half full behind it, at 16 bytes for a chunk.
        assert!(members.heap_bytes() < 1_250_000, "{}", members.heap_bytes());
        assert_eq!(members.iter().count(), 1_000_000);
    }

    #[test]
    fn few_members_take_no_memory_of_their_own() {
        let mut members = Members::new();
        for slot in 0..16 {
            members.insert(ConnId::new(52, 3, slot * 50));
        }
        assert_eq!(members.heap_bytes(), 0);
    }

    /// Members of a loop that has run for long: slots far apart, none in the same life as the next.
    #[test]
    fn scattered_members_take_less_than_their_ids() {
        let mut members = Members::new();
        for n in 0..10_000_u32 {
            let life = n.wrapping_mul(2_654_435_761) >> 12;
            members.insert(ConnId::new(0, life, n as usize * 1000));
        }
        assert!(members.heap_bytes() < 7 * 10_000, "{}", members.heap_bytes());
    }
}
