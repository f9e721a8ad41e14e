//! One time line for all threads: nanoseconds since the run began.

use std::time::{Duration, Instant};

/// Nanoseconds since the run began. Fits 584 years.
pub(crate) type Nanos = u64;

/// One second.
pub(crate) const SECOND: Nanos = 1_000_000_000;
/// One millisecond.
pub(crate) const MILLI: Nanos = 1_000_000;

/// The start of the run; copied to every thread.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock that reads zero now.
    pub(crate) fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// Time since the start.
    pub(crate) fn now(&self) -> Nanos {
        nanos(self.start.elapsed())
    }
}

/// A duration in nanoseconds, saturating.
pub(crate) fn nanos(duration: Duration) -> Nanos {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// When the `n`th of things that come at `per_second` is due, counted from zero. A rate of zero
/// means that all are due at once.
pub(crate) fn due(n: u64, per_second: u64) -> Nanos {
    if per_second == 0 {
        return 0;
    }
    let nanos = u128::from(n) * u128::from(SECOND) / u128::from(per_second);
    u64::try_from(nanos).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_are_due_at_their_rate() {
        assert_eq!(due(0, 10), 0);
        assert_eq!(due(10, 10), SECOND);
        assert_eq!(due(1, 3), 333_333_333);
        assert_eq!(due(3_000_000, 3), 1_000_000 * SECOND);
    }

    #[test]
    fn no_rate_means_at_once() {
        assert_eq!(due(1_000_000, 0), 0);
    }
}
