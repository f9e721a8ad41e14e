//! Bytes per second that all connections share, of which each is sure of a part.

use super::bucket::Bucket;
use super::levels::Level;
use super::moment::Moment;
use super::rate::Over;
use super::shared::{SharedBucket, SharedLevel};

/// Bytes per second that may be read from all connections together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BandwidthLimit {
    /// Bytes per second, 1 to 2^40.
    pub bytes_per_s: u64,
    /// Per cent of them that are split evenly among the connections, 0 to 100: each is sure of its
    /// part, and what is not reserved is for whoever comes first.
    pub reserve_percent: u8,
    /// What happens to a connection that has used its part while the rest is used up.
    pub over: Over,
}

/// Fewest bytes that are read at once, however little there is for each.
const READ_MIN: u64 = 256;

impl BandwidthLimit {
    /// Most bytes to read at once from one of so many connections: a twentieth of a second of all,
    /// and half a minute of what there is for each, so that what has been read is paid for in time.
    #[must_use]
    pub fn read_max(self, connections: usize) -> usize {
        if self.over == Over::Reject {
            return usize::MAX;
        }
        let each = (self.bytes_per_s / connections.max(1) as u64).saturating_mul(30);
        let most = (self.bytes_per_s / 20).min(each).max(READ_MIN);
        usize::try_from(most).unwrap_or(usize::MAX)
    }

    /// What one of so many connections has of it.
    #[must_use]
    pub fn share(self, connections: usize, pool: &SharedLevel) -> Share<'_> {
        let reserved = self.bytes_per_s / 100 * u64::from(self.reserve_percent)
            + self.bytes_per_s % 100 * u64::from(self.reserve_percent) / 100;
        let each = (reserved / connections.max(1) as u64).max(1);
        let rest = self.bytes_per_s.saturating_sub(reserved);
        Share {
            over: self.over,
            guarantee: (reserved > 0).then(|| Bucket::of_a_second(each)),
            rest: (rest > 0).then(|| SharedBucket::of_a_second(rest)),
            pool,
        }
    }
}

/// What one connection has of the bandwidth now.
#[derive(Clone, Copy, Debug)]
pub struct Share<'a> {
    pub(super) over: Over,
    guarantee: Option<Bucket>,
    rest: Option<SharedBucket>,
    pool: &'a SharedLevel,
}

impl Share<'_> {
    /// Takes `n` bytes, of the own part first, unless there is nothing left of either.
    pub(super) fn take(&self, own: &mut Level, n: u64, now: Moment) -> bool {
        let mine = self.of_own(*own, n, now);
        let is_taken = mine == n
            || self.rest.is_some_and(|bucket| self.pool.take(bucket, n - mine, now))
            // The last of the own part may be less than what comes.
            || self.rest.is_none() && mine > 0;
        if is_taken {
            let charged = if self.rest.is_none() { n } else { mine };
            self.charge_own(own, charged, now);
        }
        is_taken
    }

    /// Takes `n` bytes, on credit if it must: of the own part or of the rest, whichever is paid
    /// sooner. When that will be, if it is not paid.
    pub(super) fn take_on_credit(&self, own: &mut Level, n: u64, now: Moment) -> Option<Moment> {
        if self.take(own, n, now) {
            let debt = self.guarantee.map_or(0, |bucket| own.debt(now, bucket));
            return (debt > 0).then(|| now.plus(debt.into()));
        }
        let mine = self.of_own(*own, n, now);
        let by_rest = self.rest.map(|b| (b, self.pool.would_be_paid(b, n - mine, now)));
        let by_own = self.guarantee.map(|bucket| {
            let mut level = *own;
            level.charge(now, bucket.cost(n));
            now.plus(level.debt(now, bucket).into())
        });
        match (by_rest, by_own) {
            (Some((bucket, at)), by_own) if by_own.is_none_or(|own| at < own) => {
                self.charge_own(own, mine, now);
                self.pool.take_on_credit(bucket, n - mine, now).filter(|paid| *paid > now)
            }
            (_, paid) => {
                self.charge_own(own, n, now);
                paid
            }
        }
    }

    /// How many of `n` bytes the own part has.
    fn of_own(&self, own: Level, n: u64, now: Moment) -> u64 {
        self.guarantee.map_or(0, |bucket| bucket.left(own.ahead(now)).min(n))
    }

    fn charge_own(&self, own: &mut Level, n: u64, now: Moment) {
        if let Some(bucket) = self.guarantee {
            own.charge(now, bucket.cost(n));
        }
    }
}
