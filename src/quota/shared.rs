//! Buckets that all threads take from.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::bucket::units;
use super::moment::{Moment, UNITS_PER_S};
use super::rate::{Over, Rate};

/// Parts of a unit that a shared level counts in: what is taken from it may be small.
const PARTS: u64 = 256;
/// Furthest that debts go, seconds: what is ahead of that is forgiven, so that one who floods a
/// bucket under `delay` stops the others for so long at most.
const DEBT_MAX_S: u64 = 10;

/// A rate, in parts of units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedBucket {
    per_s: u64,
    depth: u64,
    /// What has to be left of it: the cost of one.
    one: u64,
}

impl SharedBucket {
    /// The bucket of messages: as deep as a burst of them.
    #[must_use]
    pub fn of_messages(rate: Rate) -> Self {
        let one = units(1, rate.get(), UNITS_PER_S * PARTS);
        Self { per_s: rate.get(), depth: rate.at_once().saturating_mul(one), one }
    }

    /// A bucket of bytes that lasts a second.
    #[must_use]
    pub fn of_a_second(per_s: u64) -> Self {
        let one = units(1, per_s, UNITS_PER_S * PARTS);
        Self { per_s, depth: UNITS_PER_S * PARTS, one }
    }

    fn cost(self, n: u64) -> u64 {
        units(n, self.per_s, UNITS_PER_S * PARTS)
    }
}

/// When a shared bucket is whole again.
#[derive(Debug, Default)]
pub struct SharedLevel(AtomicU64);

impl SharedLevel {
    /// Takes `n`, unless not even one is left.
    #[must_use]
    pub fn take(&self, bucket: SharedBucket, n: u64, now: Moment) -> bool {
        let (now, cost) = (now.0 * PARTS, bucket.cost(n));
        let take = |at: u64| {
            let at = at.max(now);
            (at - now + bucket.one <= bucket.depth).then(|| at + cost)
        };
        self.0.fetch_update(Relaxed, Relaxed, take).is_ok()
    }

    /// Takes `n`, on credit if it must. When that will be paid, if it is not.
    #[must_use]
    pub fn take_on_credit(&self, bucket: SharedBucket, n: u64, now: Moment) -> Option<Moment> {
        let most = now.0 * PARTS + bucket.depth + DEBT_MAX_S * UNITS_PER_S * PARTS;
        let after = |at: u64| at.max(now.0 * PARTS).saturating_add(bucket.cost(n)).min(most);
        let before = self.0.fetch_update(Relaxed, Relaxed, |at| Some(after(at)));
        let at = after(before.unwrap_or_else(|at| at));
        let paid = at.saturating_sub(bucket.depth).div_ceil(PARTS);
        (paid > now.0).then_some(Moment(paid))
    }

    /// When `n` taken now would be paid.
    pub(super) fn would_be_paid(&self, bucket: SharedBucket, n: u64, now: Moment) -> Moment {
        let at = self.0.load(Relaxed).max(now.0 * PARTS).saturating_add(bucket.cost(n));
        Moment(at.saturating_sub(bucket.depth).div_ceil(PARTS).max(now.0))
    }
}

/// A limit on what all connections together send to one route.
#[derive(Clone, Debug)]
pub struct SharedLimit {
    bucket: SharedBucket,
    over: Over,
    /// One for all clones.
    level: Arc<SharedLevel>,
}

/// What becomes of a message under a [`SharedLimit`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SharedRuling {
    /// It is handled.
    Pass,
    /// It is handled, and its connection is not read from before then.
    PassThenStop(Moment),
    /// It is not handled.
    Over(Over),
}

impl SharedLimit {
    /// A bucket that is full.
    #[must_use]
    pub fn new(rate: Rate, over: Over) -> Self {
        Self { bucket: SharedBucket::of_messages(rate), over, level: Arc::default() }
    }

    /// Takes one message.
    #[must_use]
    pub fn message(&self, now: Moment) -> SharedRuling {
        if self.over == Over::Delay {
            let paid = self.level.take_on_credit(self.bucket, 1, now);
            return paid.map_or(SharedRuling::Pass, SharedRuling::PassThenStop);
        }
        match self.level.take(self.bucket, 1, now) {
            true => SharedRuling::Pass,
            false => SharedRuling::Over(self.over),
        }
    }
}
