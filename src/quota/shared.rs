//! Buckets that all threads take from.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::bucket::units;
use super::moment::{Moment, UNITS_PER_S};
use super::rate::{Over, Rate};

/// Parts of a unit that a shared level counts in: what is taken from it may be small.
const PARTS: u64 = 256;
/// Furthest that debts of messages go, seconds: who floods a route under `delay` stops the others
/// for so long at most.
const DEBT_MAX_S: u64 = 10;

/// A rate, in parts of units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedBucket {
    per_s: u64,
    depth: u64,
    /// What has to be left of it: the cost of one.
    one: u64,
    /// Nothing is taken on credit beyond so much of a debt.
    debt_max: u64,
}

impl SharedBucket {
    /// The bucket of messages: as deep as a burst of them.
    #[must_use]
    pub fn of_messages(rate: Rate) -> Self {
        let one = units(1, rate.get(), UNITS_PER_S * PARTS);
        let depth = rate.at_once().saturating_mul(one);
        Self { per_s: rate.get(), depth, one, debt_max: DEBT_MAX_S * UNITS_PER_S * PARTS }
    }

    /// A bucket of bytes that lasts a second. What is read at once is bounded where there are many
    /// to read from, and so are debts.
    #[must_use]
    pub fn of_a_second(per_s: u64) -> Self {
        let one = units(1, per_s, UNITS_PER_S * PARTS);
        Self { per_s, depth: UNITS_PER_S * PARTS, one, debt_max: u64::MAX }
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

    /// Takes `n`, on credit if it must. Says when that will be paid; `None` if too much is owed.
    #[must_use]
    pub fn take_on_credit(&self, bucket: SharedBucket, n: u64, now: Moment) -> Option<Moment> {
        let begin = now.0 * PARTS;
        let after = |at: u64| {
            let is_deep = at.saturating_sub(begin).saturating_sub(bucket.depth) > bucket.debt_max;
            (!is_deep).then(|| at.max(begin).saturating_add(bucket.cost(n)))
        };
        let at = after(self.0.fetch_update(Relaxed, Relaxed, after).ok()?)?;
        Some(Moment(at.saturating_sub(bucket.depth).div_ceil(PARTS).max(now.0)))
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
            return match self.level.take_on_credit(self.bucket, 1, now) {
                Some(paid) if paid > now => SharedRuling::PassThenStop(paid),
                Some(_) => SharedRuling::Pass,
                None => SharedRuling::Over(Over::Reject),
            };
        }
        match self.level.take(self.bucket, 1, now) {
            true => SharedRuling::Pass,
            false => SharedRuling::Over(self.over),
        }
    }
}
