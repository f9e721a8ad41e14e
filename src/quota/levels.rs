//! What one connection has used of its buckets.

use super::bucket::{AHEAD_MAX, Bucket};
use super::moment::Moment;
use crate::connection::Tick;

/// Coarse steps after which every debt is paid.
const STALE: u32 = (AHEAD_MAX >> 24) + 1;

// What was used before the last look and what is ahead of now are less than half the circle apart.
const _: () = assert!((STALE as u64 + 1) << 24 < 1 << 31 && (AHEAD_MAX as u64) < 1 << 31);

/// The low bits of the moment at which a bucket is whole again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Level(u32);

impl Level {
    /// Units that it is ahead of now: what is used.
    #[inline]
    pub(super) fn ahead(self, now: Moment) -> u32 {
        self.0.wrapping_sub(now.fine())
    }

    /// Uses so many units more.
    #[inline]
    pub(super) fn charge(&mut self, now: Moment, units: u32) {
        let ahead = self.ahead(now).saturating_add(units).min(AHEAD_MAX);
        self.0 = now.fine().wrapping_add(ahead);
    }

    /// Whether not even one is left.
    #[inline]
    pub(super) fn is_spent(self, now: Moment, bucket: Bucket) -> bool {
        bucket.is_spent(self.ahead(now))
    }

    /// Units until nothing is owed.
    #[inline]
    pub(super) fn debt(self, now: Moment, bucket: Bucket) -> u32 {
        bucket.debt(self.ahead(now))
    }
}

/// What one connection has used of its buckets, and until when it is not read from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Levels {
    pub(super) messages: Level,
    pub(super) bytes: Level,
    pub(super) guarantee: Level,
    /// When they were last looked at, coarsely.
    seen: u32,
    /// The tick before which a connection that is stopped is not read from.
    pub until: Tick,
}

impl Levels {
    /// As they stand at `now`: none is behind it from here on.
    #[inline]
    pub(super) fn refresh(&mut self, now: Moment) {
        let seen = std::mem::replace(&mut self.seen, now.coarse());
        let is_stale = now.coarse().wrapping_sub(seen) > STALE;
        for level in [&mut self.messages, &mut self.bytes, &mut self.guarantee] {
            if is_stale || level.ahead(now).cast_signed() < 0 {
                *level = Level(now.fine());
            }
        }
    }
}
