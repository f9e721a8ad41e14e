//! Identifiers: which connection, on which loop, in which life of its slot.

use std::fmt;

/// Bits of a [`ConnId`] that name the loop.
pub const LOOP_BITS: u32 = 10;
/// Bits of a [`ConnId`] that name the life of the slot.
pub const GENERATION_BITS: u32 = 30;
/// Bits of a [`ConnId`] that name the slot.
pub const SLOT_BITS: u32 = 24;

const _: () = assert!(LOOP_BITS + GENERATION_BITS + SLOT_BITS == 64);

/// A connection, for as long as the process lives: loop 10 bits | generation 30 | slot 24.
///
/// A slot's generation moves on with each connection that it held, so an id kept past its
/// connection's end names nobody: using it is a counted no-op, never another client's message.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId(u64);

impl ConnId {
    /// Puts an id together. `generation` is taken modulo 2^30.
    ///
    /// # Panics
    /// If `loop_index` or `slot` do not fit their bits.
    #[inline]
    #[must_use]
    pub fn new(loop_index: usize, generation: u32, slot: usize) -> Self {
        assert!(loop_index < 1 << LOOP_BITS && slot < 1 << SLOT_BITS);
        let generation = u64::from(generation) & ((1 << GENERATION_BITS) - 1);
        Self(
            (loop_index as u64) << (GENERATION_BITS + SLOT_BITS)
                | generation << SLOT_BITS
                | slot as u64,
        )
    }

    /// The loop that owns the socket.
    #[inline]
    #[must_use]
    pub const fn loop_index(self) -> usize {
        (self.0 >> (GENERATION_BITS + SLOT_BITS)) as usize
    }

    /// The life of the slot.
    #[inline]
    #[must_use]
    pub const fn generation(self) -> u32 {
        ((self.0 >> SLOT_BITS) & ((1 << GENERATION_BITS) - 1)) as u32
    }

    /// The slot in the loop's table.
    #[inline]
    #[must_use]
    pub const fn slot(self) -> usize {
        (self.0 & ((1 << SLOT_BITS) - 1)) as usize
    }

    /// All 64 bits.
    #[inline]
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        self.0
    }

    /// The id that [`to_bits`](Self::to_bits) was taken from.
    #[inline]
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// Which of `shards` shards serves this connection, for all its life, where there are `loops`
    /// loops.
    ///
    /// Each shard gets as many connections as any other, as far as the loops are even. A loop has
    /// no more shards than that takes: what its turn has read makes fewer and larger batches then,
    /// each of which costs a send and maybe a wake. The price: with no more shards than loops, a
    /// loop that has more connections than others makes its shard have more, too.
    #[inline]
    #[must_use]
    pub const fn shard(self, shards: usize, loops: usize) -> usize {
        let (slot, index) = (self.slot(), self.loop_index());
        if loops.is_multiple_of(shards) {
            index % shards
        } else if shards.is_multiple_of(loops) {
            // Slots are handed out from the bottom, so they spread evenly by themselves.
            index + slot % (shards / loops) * loops
        } else {
            // The loop is added so that slot 0 of every loop is not one shard's.
            (slot + index) % shards
        }
    }
}

impl fmt::Debug for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}#{}", self.loop_index(), self.slot(), self.generation())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_have_equal_parts() {
        for (loops, shards) in [(1, 1), (1, 4), (2, 1), (2, 2), (2, 4), (4, 2), (3, 2), (2, 3)] {
            let mut served = vec![0; shards];
            for n in 0..loops * shards * 12 {
                let conn = ConnId::new(n % loops, 0, n / loops);
                served[conn.shard(shards, loops)] += 1;
            }
            assert_eq!(served, vec![loops * 12; shards], "{loops} loops, {shards} shards");
        }
    }

    #[test]
    fn a_loop_has_no_more_shards_than_it_needs() {
        let shards_of = |index: usize, shards, loops| {
            let all = (0..100).map(|slot| ConnId::new(index, 0, slot).shard(shards, loops));
            all.collect::<std::collections::BTreeSet<_>>().len()
        };
        assert_eq!(shards_of(0, 2, 2), 1);
        assert_eq!(shards_of(3, 2, 4), 1);
        assert_eq!(shards_of(1, 4, 2), 2);
        assert_eq!(shards_of(0, 3, 2), 3);
    }

    #[test]
    fn parts_come_back() {
        for (l, g, s) in [(0, 0, 0), (1023, (1 << 30) - 1, (1 << 24) - 1), (7, 99, 12_345)] {
            let id = ConnId::new(l, g, s);
            assert_eq!((id.loop_index(), id.generation(), id.slot()), (l, g, s));
            assert_eq!(ConnId::from_bits(id.to_bits()), id);
        }
    }

    #[test]
    fn generation_wraps_without_touching_the_loop() {
        let id = ConnId::new(3, u32::MAX, 5);
        assert_eq!((id.loop_index(), id.slot()), (3, 5));
        assert_eq!(ConnId::new(3, 1 << 30, 5), ConnId::new(3, 0, 5));
    }
}
