//! What a rate is in time: how long its bucket lasts, and what each thing costs.

use super::moment::UNITS_PER_S;
use super::rate::{Over, Rate};
use crate::limits::TICK_MS;

/// Furthest that a connection's level is ahead of now, units: 120 s. What would be further is
/// forgiven.
pub(super) const AHEAD_MAX: u32 = (120 * UNITS_PER_S) as u32;
/// Least depth under `delay`: deadlines are looked at once a tick, and what a bucket gains until
/// then must not run over.
const DELAY_DEPTH_MIN: u64 = 2 * TICK_MS * UNITS_PER_S / 1000;

// A burst, and as much debt on top of it, stay under the furthest.
const _: () = assert!(Rate::BURST_MAX_S * 2 * UNITS_PER_S <= AHEAD_MAX as u64);

/// A rate, in units of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    per_s: u64,
    depth: u32,
    /// What has to be left of it: the cost of one.
    one: u32,
}

impl Bucket {
    /// The bucket of messages: as deep as a burst of them, each of which costs whole units. Under
    /// `delay` it is two ticks deep at least.
    #[must_use]
    pub fn of_messages(rate: Rate, over: Over) -> Self {
        let one = units(1, rate.get(), UNITS_PER_S);
        Self::new(rate.get(), rate.at_once().saturating_mul(one), over)
    }

    /// The bucket of bytes, of which many come at once. Under `delay` it is two ticks deep at least.
    #[must_use]
    pub fn of_bytes(rate: Rate, over: Over) -> Self {
        Self::new(rate.get(), units(rate.at_once(), rate.get(), UNITS_PER_S), over)
    }

    /// A bucket of bytes that lasts a second.
    pub(super) fn of_a_second(per_s: u64) -> Self {
        Self::new(per_s, UNITS_PER_S, Over::Reject)
    }

    fn new(per_s: u64, burst: u64, over: Over) -> Self {
        let least = if over == Over::Delay { DELAY_DEPTH_MIN } else { 1 };
        let depth = burst.clamp(least, AHEAD_MAX.into()) as u32;
        Self { per_s, depth, one: units(1, per_s, UNITS_PER_S) as u32 }
    }

    /// What `n` cost, units.
    #[inline]
    pub(super) fn cost(self, n: u64) -> u32 {
        units(n, self.per_s, UNITS_PER_S).min(AHEAD_MAX.into()) as u32
    }

    /// How much is left of it where so much of it is used.
    #[inline]
    pub(super) fn left(self, ahead: u32) -> u64 {
        u64::from(self.depth.saturating_sub(ahead)) * self.per_s / UNITS_PER_S
    }

    /// Whether not even one is left of it where so much of it is used.
    #[inline]
    pub(super) fn is_spent(self, ahead: u32) -> bool {
        u64::from(ahead) + u64::from(self.one) > self.depth.into()
    }

    /// Units that are used beyond its depth.
    #[inline]
    pub(super) fn debt(self, ahead: u32) -> u32 {
        ahead.saturating_sub(self.depth)
    }

    /// The most that may be read at once so that it is paid for in half a minute, where a thing
    /// takes `bytes_each` on the wire.
    pub(super) fn read_max(self, bytes_each: u64) -> u64 {
        let burst = self.left(0);
        (self.per_s * 30).saturating_add(burst).saturating_mul(bytes_each)
    }
}

/// What `n` cost at a rate where a second has so many units, rounded up.
#[inline]
pub(super) fn units(n: u64, per_s: u64, units_per_s: u64) -> u64 {
    n.saturating_mul(units_per_s).div_ceil(per_s)
}
