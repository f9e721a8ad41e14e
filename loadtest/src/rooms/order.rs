//! What one member got, and in which order, against what the others of its room got.
//!
//! A room keeps one [`Log`]: its publishes in the order in which they were first seen by anybody.
//! Each member walks along it. What it meets there out of turn it has skipped: a skipped publish that
//! comes later came in another order than to the member that was first; one that never comes to it
//! is missing there, and disturbs nothing behind it.
//!
//! The log's order is that of whoever was first at a place. If a member that misses a publish is, the
//! log has the next one there; to those who get both this one then comes behind what they take for
//! later, and each of them counts one difference, although they agree with each other. So a publish
//! that is missing somewhere may be counted as differences elsewhere; where nothing is missing, every
//! difference is one.

use std::{
    collections::BTreeSet,
    ops::Range,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering::*},
    },
};

/// Places of the log's first block; each further one has twice as many.
const FIRST_BLOCK: usize = 64;
/// Blocks, and so 134,217,664 places.
const BLOCKS: usize = 21;
/// The most that a member keeps of what it skipped, and of the gaps in serial numbers. A late
/// publish that was forgotten counts as a duplicate; its order is not compared.
const MAX_KEPT: usize = 4096;

/// One publish within its room: the publisher's rank in the room, and its serial number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PublishId {
    /// Counts the publishers of the room from 0.
    pub(crate) rank: u32,
    /// Counts the publisher's publishes from 0.
    pub(crate) serial: u32,
}

/// The order of a room's publishes; threads add to it without a lock.
#[derive(Debug, Default)]
pub(crate) struct Log {
    blocks: [OnceLock<Box<[AtomicU64]>>; BLOCKS],
}

/// How a delivery fits what came before it from the same publisher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Serial {
    /// It is newer than all before it.
    Newer,
    /// A newer one came before it.
    Late,
    /// It has come before.
    Again,
}

/// How a delivery fits the order of the room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// As in the log.
    Same,
    /// The log has it before something that this member got before it.
    Differs,
    /// The log is full.
    Unknown,
}

/// What one member got.
#[derive(Debug, Default)]
pub(crate) struct Received {
    /// For each publisher of the room, the serial number above all that came.
    next: Box<[u32]>,
    /// Where this member is in the log.
    place: usize,
    /// Different publishes that came.
    pub(crate) count: u64,
    /// Kept from the first irregularity on.
    kept: Option<Box<Kept>>,
}

#[derive(Debug, Default)]
struct Kept {
    gaps: Vec<(u32, Range<u32>)>,
    skipped: BTreeSet<PublishId>,
}

impl PublishId {
    /// Never 0, which stands for an empty place.
    fn pack(self) -> u64 {
        (u64::from(self.rank) << 32 | u64::from(self.serial)) + 1
    }

    fn unpack(packed: u64) -> Self {
        let packed = packed - 1;
        Self { rank: (packed >> 32) as u32, serial: packed as u32 }
    }
}

impl Log {
    /// What stands at `place`, after putting `id` there if it was empty; `None` beyond the end.
    fn put(&self, place: usize, id: PublishId) -> Option<PublishId> {
        let block = (place / FIRST_BLOCK + 1).ilog2() as usize;
        let size = FIRST_BLOCK << block;
        let places =
            self.blocks.get(block)?.get_or_init(|| (0..size).map(|_| AtomicU64::new(0)).collect());
        let slot = &places[place + FIRST_BLOCK - size];
        let stands = match slot.load(Acquire) {
            0 => slot.compare_exchange(0, id.pack(), AcqRel, Acquire).err(),
            stands => Some(stands),
        };
        Some(stands.map_or(id, PublishId::unpack))
    }
}

impl Received {
    /// Nothing yet, in a room with so many publishers.
    pub(crate) fn new(publishers: u32) -> Self {
        Self { next: vec![0; publishers as usize].into(), ..Self::default() }
    }

    /// Whether the room has such a publisher.
    pub(crate) fn knows(&self, rank: u32) -> bool {
        (rank as usize) < self.next.len()
    }

    /// Takes in a delivery from a publisher that the room has.
    pub(crate) fn take(&mut self, id: PublishId) -> Serial {
        let next = &mut self.next[id.rank as usize];
        if id.serial < *next {
            let late = self.kept.as_mut().is_some_and(|kept| kept.fill(id));
            self.count += u64::from(late);
            return if late { Serial::Late } else { Serial::Again };
        }
        let gap = *next..id.serial;
        *next = id.serial + 1;
        self.count += 1;
        if !gap.is_empty() {
            self.kept.get_or_insert_default().open(id.rank, gap);
        }
        Serial::Newer
    }

    /// Compares a delivery that did not come before with the order of the room.
    ///
    /// Only members that are to get every publish of the room may be compared: what one is not to get
    /// has a place in the order that it cannot know.
    pub(crate) fn compare(&mut self, log: &Log, id: PublishId) -> Order {
        if self.kept.as_mut().is_some_and(|kept| kept.skipped.remove(&id)) {
            return Order::Differs;
        }
        loop {
            let Some(stands) = log.put(self.place, id) else { return Order::Unknown };
            self.place += 1;
            if stands == id {
                return Order::Same;
            }
            self.kept.get_or_insert_default().skip(stands);
        }
    }
}

impl Kept {
    fn open(&mut self, rank: u32, gap: Range<u32>) {
        if self.gaps.len() == MAX_KEPT {
            self.gaps.remove(0);
        }
        self.gaps.push((rank, gap));
    }

    /// Takes a serial number out of the gaps; whether it was in one.
    fn fill(&mut self, id: PublishId) -> bool {
        let in_gap = |(rank, gap): &(u32, Range<u32>)| *rank == id.rank && gap.contains(&id.serial);
        let Some(at) = self.gaps.iter().position(in_gap) else { return false };
        let (rank, gap) = self.gaps.swap_remove(at);
        for rest in [gap.start..id.serial, id.serial + 1..gap.end] {
            if !rest.is_empty() {
                self.gaps.push((rank, rest));
            }
        }
        true
    }

    fn skip(&mut self, id: PublishId) {
        if self.skipped.len() == MAX_KEPT {
            self.skipped.pop_first();
        }
        self.skipped.insert(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(rank: u32, serial: u32) -> PublishId {
        PublishId { rank, serial }
    }

    /// What a member makes of deliveries of two publishers.
    fn walk(log: &Log, deliveries: &[(u32, u32)]) -> Vec<(Serial, Option<Order>)> {
        let mut member = Received::new(2);
        let take = |(rank, serial): &(u32, u32)| {
            let taken = member.take(id(*rank, *serial));
            let order = (taken != Serial::Again).then(|| member.compare(log, id(*rank, *serial)));
            (taken, order)
        };
        deliveries.iter().map(take).collect()
    }

    fn count(walked: &[(Serial, Option<Order>)], order: Order) -> usize {
        walked.iter().filter(|(_, seen)| *seen == Some(order)).count()
    }

    #[test]
    fn the_log_has_a_place_for_each() {
        let log = Log::default();
        for place in 0..10_000 {
            assert_eq!(log.put(place, id(0, place as u32)), Some(id(0, place as u32)));
        }
        for place in 0..10_000 {
            assert_eq!(log.put(place, id(1, 1)), Some(id(0, place as u32)));
        }
        assert_eq!(log.put(FIRST_BLOCK * ((1 << BLOCKS) - 1), id(0, 0)), None);
    }

    #[test]
    fn the_same_order_is_the_same_for_all() {
        let log = Log::default();
        let all = [(0, 0), (1, 0), (0, 1), (1, 1)];
        for _ in 0..3 {
            assert_eq!(walk(&log, &all), [(Serial::Newer, Some(Order::Same)); 4]);
        }
    }

    #[test]
    fn another_order_differs_once() {
        let log = Log::default();
        walk(&log, &[(0, 0), (1, 0), (0, 1), (1, 1)]);
        let other = walk(&log, &[(1, 0), (0, 0), (0, 1), (1, 1)]);
        assert!(other.iter().all(|(serial, _)| *serial == Serial::Newer));
        assert_eq!(count(&other, Order::Differs), 1);
        assert_eq!(other[3].1, Some(Order::Same));
    }

    #[test]
    fn what_is_missing_disturbs_nothing_behind_it() {
        let log = Log::default();
        // The first member misses one, so that the log learns of it late.
        walk(&log, &[(0, 0), (0, 2), (0, 3)]);
        let second = walk(&log, &[(0, 0), (0, 3)]);
        assert_eq!(count(&second, Order::Same), 2);
        let third = walk(&log, &[(0, 0), (0, 2), (0, 3), (1, 0)]);
        assert_eq!(count(&third, Order::Same), 4);
    }

    #[test]
    fn what_the_first_member_misses_may_differ_for_others() {
        let log = Log::default();
        walk(&log, &[(0, 0), (1, 0)]);
        let all = [(0, 0), (0, 1), (1, 0)];
        for _ in 0..2 {
            assert_eq!(count(&walk(&log, &all), Order::Differs), 1);
        }
    }

    #[test]
    fn late_ones_and_duplicates_are_told_apart() {
        let log = Log::default();
        let seen = walk(&log, &[(0, 0), (0, 2), (0, 1), (0, 1), (0, 2), (0, 5), (0, 4), (0, 3)]);
        let serials: Vec<_> = seen.iter().map(|(serial, _)| *serial).collect();
        use Serial::*;
        assert_eq!(serials, [Newer, Newer, Late, Again, Again, Newer, Late, Late]);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let log = Log::default();
        let mut member = Received::new(1);
        for serial in 0..3 * MAX_KEPT as u32 {
            assert_eq!(member.take(id(0, 2 * serial + 1)), Serial::Newer);
            assert_eq!(member.compare(&log, id(0, 2 * serial + 1)), Order::Same);
        }
        assert!(member.kept.as_ref().unwrap().gaps.len() <= MAX_KEPT);
        assert_eq!(member.take(id(0, 0)), Serial::Again);
        assert_eq!(member.take(id(0, 6 * MAX_KEPT as u32 - 2)), Serial::Late);
    }
}
