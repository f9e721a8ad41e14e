//! How long to wait before another try: exponential, with full jitter unless told otherwise.

use std::time::Duration;

/// When to try again after a connection was lost or not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reconnect {
    /// The most that the first wait can be.
    pub base: Duration,
    /// The most that any wait can be.
    pub cap: Duration,
    /// Whether a wait is drawn evenly between nothing and its bound. Else it is the bound, and clients
    /// who lost their connections at once come back at once.
    pub jitter: bool,
    /// What the waits are drawn from, for tests; `None`: from the system's source of randomness.
    pub seed: Option<u64>,
}

impl Reconnect {
    /// After the same pause each time.
    #[must_use]
    pub fn every(pause: Duration) -> Self {
        Self { base: pause, cap: pause, jitter: false, seed: None }
    }
}

impl Default for Reconnect {
    fn default() -> Self {
        Self {
            base: Duration::from_secs(1),
            cap: Duration::from_secs(128),
            jitter: true,
            seed: None,
        }
    }
}

/// The waits between tries: with jitter each is drawn evenly between nothing and a bound that doubles,
/// so that clients who lost their connections at once do not come back at once.
#[derive(Debug)]
pub(super) struct Backoff {
    rules: Reconnect,
    /// Tries since the last success.
    failed: u32,
    /// State of a SplitMix64 generator.
    state: u64,
}

impl Backoff {
    pub(super) fn new(rules: Reconnect) -> Self {
        // Without a source of randomness every client draws the same waits, but still waits.
        let state = rules.seed.or_else(|| getrandom::u64().ok()).unwrap_or_default();
        Self { rules, failed: 0, state }
    }

    /// How long to wait now; the next wait may be twice as long.
    pub(super) fn next(&mut self) -> Duration {
        let doubled = 1_u32.checked_shl(self.failed).unwrap_or(u32::MAX);
        let bound = self.rules.base.saturating_mul(doubled).min(self.rules.cap);
        self.failed = self.failed.saturating_add(1);
        if !self.rules.jitter {
            return bound;
        }
        let nanos = u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX);
        let drawn = (u128::from(self.draw()) * u128::from(nanos)) >> 64;
        Duration::from_nanos(drawn as u64)
    }

    /// All is well: the next wait is short again.
    pub(super) fn reset(&mut self) {
        self.failed = 0;
    }

    fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(seed: u64, count: usize) -> Vec<Duration> {
        let rules = Reconnect {
            base: Duration::from_millis(100),
            cap: Duration::from_secs(3),
            jitter: true,
            seed: Some(seed),
        };
        let mut backoff = Backoff::new(rules);
        (0..count).map(|_| backoff.next()).collect()
    }

    #[test]
    fn bounds_double_up_to_the_cap() {
        for (at, bound_ms) in [100, 200, 400, 800, 1600, 3000, 3000].into_iter().enumerate() {
            let drawn: Vec<_> = (0..500).map(|seed| waits(seed, at + 1)[at]).collect();
            let bound = Duration::from_millis(bound_ms);
            assert!(drawn.iter().all(|wait| *wait < bound), "{at}");
            // Drawn from all of it: full jitter.
            assert!(drawn.iter().any(|wait| *wait > bound * 9 / 10), "{at}");
            assert!(drawn.iter().any(|wait| *wait < bound / 10), "{at}");
        }
        assert!(waits(1, 200).iter().all(|wait| *wait < Duration::from_secs(3)));
    }

    #[test]
    fn a_seed_says_all_and_success_begins_anew() {
        assert_eq!(waits(7, 9), waits(7, 9));
        assert_ne!(waits(7, 9), waits(8, 9));
        let mut backoff = Backoff::new(Reconnect { seed: Some(1), ..Reconnect::default() });
        for _ in 0..20 {
            backoff.next();
        }
        backoff.reset();
        assert!(backoff.next() < Duration::from_secs(1));
    }

    #[test]
    fn without_jitter_a_wait_is_its_bound() {
        let pause = Duration::from_secs(3);
        let mut backoff = Backoff::new(Reconnect::every(pause));
        assert_eq!([(); 3].map(|()| backoff.next()), [pause; 3]);
        let mut backoff = Backoff::new(Reconnect { jitter: false, ..Reconnect::default() });
        let seconds = [(); 9].map(|()| backoff.next().as_secs());
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 64, 128, 128]);
    }
}
