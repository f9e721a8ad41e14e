//! Points in time, as buckets have them.

use std::time::Duration;

use crate::connection::Tick;
use crate::limits::TICK_MS;

/// Units of a second: a unit is 1/16 µs.
pub(super) const UNITS_PER_S: u64 = 16_000_000;
const UNITS_PER_TICK: u64 = UNITS_PER_S / 1000 * TICK_MS;

/// A point in time, in units of 1/16 µs since the gateway's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub(super) u64);

impl Moment {
    /// So long after the gateway's start.
    #[inline]
    #[must_use]
    pub fn since_start(time: Duration) -> Self {
        Self(time.as_secs() * UNITS_PER_S + u64::from(time.subsec_nanos()) * 2 / 125)
    }

    /// So many units later.
    #[must_use]
    pub(super) fn plus(self, units: u64) -> Self {
        Self(self.0 + units)
    }

    /// The tick at whose beginning it is over.
    #[must_use]
    pub fn tick(self) -> Tick {
        Tick::try_from(self.0.div_ceil(UNITS_PER_TICK)).unwrap_or(Tick::MAX - 1) + 1
    }

    /// The low bits: what a connection's levels are compared with.
    #[inline]
    pub(super) fn fine(self) -> u32 {
        self.0 as u32
    }

    /// In steps of 2^24 units, about 1.05 s: a `u32` of them does not wrap.
    #[inline]
    pub(super) fn coarse(self) -> u32 {
        (self.0 >> 24) as u32
    }
}
