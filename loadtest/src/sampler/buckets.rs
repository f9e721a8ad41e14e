//! The latencies of one interval, small enough to keep thousands of: only buckets that were hit,
//! each as wide as 1/64 of its octave.

use crate::{clock::Nanos, tally::Latency};

/// Buckets of an octave, as a power of two.
const STEPS_LOG2: u32 = 6;

/// Counts per bucket, rising, none empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Buckets {
    counts: Vec<(u16, u32)>,
    max: Nanos,
}

impl Buckets {
    /// All that `latency` counted.
    pub(crate) fn of(latency: &Latency) -> Self {
        let mut buckets = Self::default();
        for (value, count) in latency.recorded() {
            buckets.add(index(value), u32::try_from(count).unwrap_or(u32::MAX));
            buckets.max = value;
        }
        buckets.counts.shrink_to_fit();
        buckets
    }

    /// How many were counted.
    pub(crate) fn count(&self) -> u64 {
        self.counts.iter().map(|(_, count)| u64::from(*count)).sum()
    }

    /// The latency that a share of `quantile` (0 to 1) does not exceed, in microseconds and within
    /// 1.6 %; none if nothing was counted.
    pub(crate) fn micros(&self, quantile: f64) -> Option<f64> {
        let wanted = (self.count() as f64 * quantile).ceil().max(1.0) as u64;
        let mut seen = 0;
        let (index, _) = self.counts.iter().find(|(_, count)| {
            seen += u64::from(*count);
            seen >= wanted
        })?;
        Some(highest(*index).min(self.max) as f64 / 1000.0)
    }

    /// The highest, in microseconds.
    pub(crate) fn max_micros(&self) -> Option<f64> {
        (!self.counts.is_empty()).then_some(self.max as f64 / 1000.0)
    }

    /// Those of both.
    pub(crate) fn merged(&self, other: &Self) -> Self {
        let mut all: Vec<_> = self.counts.iter().chain(&other.counts).copied().collect();
        all.sort_unstable();
        let mut sum = Self { counts: Vec::new(), max: self.max.max(other.max) };
        all.into_iter().for_each(|(index, count)| sum.add(index, count));
        sum.counts.shrink_to_fit();
        sum
    }

    /// Adds to a bucket that is the last or comes after it.
    fn add(&mut self, index: u16, count: u32) {
        match self.counts.last_mut() {
            Some((last, counted)) if *last == index => *counted = counted.saturating_add(count),
            _ => self.counts.push((index, count)),
        }
    }
}

/// The bucket of a value: its octave, and the six bits below its highest one.
fn index(value: Nanos) -> u16 {
    let octave = value.max(1).ilog2().saturating_sub(STEPS_LOG2);
    ((u64::from(octave) << STEPS_LOG2) + (value >> octave)) as u16
}

/// The highest value of a bucket.
fn highest(index: u16) -> Nanos {
    let index = u64::from(index);
    let octave = (index >> STEPS_LOG2).saturating_sub(1);
    let step = index - (octave << STEPS_LOG2);
    (u128::from(step + 1) << octave).saturating_sub(1).min(u128::from(u64::MAX)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_narrow_and_holds_its_values() {
        let values =
            (0..500).chain((9..64).flat_map(|bits| [(1 << bits) - 1, 1 << bits, 3 << (bits - 1)]));
        let mut last = 0;
        for value in values.chain([u64::MAX]) {
            let top = highest(index(value));
            assert!(top >= value, "{value}");
            assert!((top - value) as f64 <= value as f64 / 64.0, "{value}");
            last = last.max(index(value));
        }
        assert!(last < 4096);
    }

    #[test]
    fn percentiles_are_those_of_both() {
        let of = |values: &[Nanos]| {
            let mut latency = Latency::default();
            values.iter().for_each(|value| latency.record(*value));
            Buckets::of(&latency)
        };
        let both = of(&[1_000, 2_000]).merged(&of(&[1_000, 9_000_000]));
        assert_eq!(both.count(), 4);
        assert!((both.micros(0.5).unwrap() - 1.0).abs() < 0.02);
        assert!((both.micros(0.75).unwrap() - 2.0).abs() < 0.04);
        assert!((both.max_micros().unwrap() - 9_000.0).abs() < 9.0);
        assert_eq!(both.micros(1.0), both.max_micros());
        assert_eq!(Buckets::default().micros(0.5), None);
        assert_eq!(Buckets::default().max_micros(), None);
    }
}
