//! Some of the connections, chosen by the seed; and how many, as arguments say it.

use std::str::FromStr;

use crate::payload::token;

/// How many of the connections: a count, or a share in percent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Portion {
    /// So many.
    Count(u32),
    /// So many in a hundred, 0 to 100.
    Percent(f64),
}

/// Which of a number of things are chosen.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    /// In ascending order.
    chosen: Vec<u32>,
}

impl Portion {
    /// How many of `all`; a share is rounded up, so that it is nothing only if it is 0 %.
    pub(crate) fn of(self, all: u32) -> u32 {
        match self {
            Self::Count(count) => count,
            Self::Percent(percent) => (f64::from(all) * percent / 100.0).ceil() as u32,
        }
    }
}

impl FromStr for Portion {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |_| "is neither a count nor a share like 1%".to_owned();
        if let Some(percent) = text.strip_suffix('%') {
            let percent = percent.trim().parse().map_err(|_| wrong(()))?;
            return match (0.0..=100.0).contains(&percent) {
                true => Ok(Self::Percent(percent)),
                false => Err("is not between 0% and 100%".to_owned()),
            };
        }
        text.replace('_', "").parse().map(Self::Count).map_err(|_| wrong(()))
    }
}

impl Sample {
    /// `count` of the numbers from `first` to below `end` (all of them if there are fewer): the same
    /// for the same `seed`, each set as likely as any other.
    pub(crate) fn new(seed: u64, count: u32, first: u32, end: u32) -> Self {
        let mut numbers: Vec<u32> = (first..end).collect();
        let count = numbers.len().min(count as usize);
        // Fisher and Yates, as far as it is needed.
        for at in 0..count {
            let rest = numbers.len() - at;
            let random = token(seed, at as u32, 3);
            let step = (u128::from(random) * rest as u128) >> 64;
            numbers.swap(at, at + step as usize);
        }
        numbers.truncate(count);
        numbers.sort_unstable();
        numbers.shrink_to_fit();
        Self { chosen: numbers }
    }

    /// Whether a number is chosen.
    pub(crate) fn contains(&self, number: u32) -> bool {
        self.chosen.binary_search(&number).is_ok()
    }

    /// How many are chosen.
    pub(crate) fn len(&self) -> u32 {
        self.chosen.len() as u32
    }

    /// The lowest, if there is one.
    pub(crate) fn first(&self) -> Option<u32> {
        self.chosen.first().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn portions_are_counts_or_shares() {
        assert_eq!("1_000".parse(), Ok(Portion::Count(1000)));
        assert_eq!("1%".parse::<Portion>().unwrap().of(1000), 10);
        assert_eq!("0.5%".parse::<Portion>().unwrap().of(1000), 5);
        assert_eq!("1%".parse::<Portion>().unwrap().of(3), 1);
        assert_eq!("0%".parse::<Portion>().unwrap().of(3), 0);
        for bad in ["", "%", "x", "101%", "-1%", "-1", "1.5", "NaN%"] {
            assert!(bad.parse::<Portion>().is_err(), "{bad}");
        }
    }

    #[test]
    fn samples_have_their_size_and_stay_in_their_range() {
        let sample = Sample::new(1, 100, 50, 1000);
        let chosen: Vec<_> = (0..2000).filter(|number| sample.contains(*number)).collect();
        assert_eq!((chosen.len(), sample.len()), (100, 100));
        assert!(chosen.iter().all(|number| (50..1000).contains(number)));
        assert_eq!(sample.first(), chosen.first().copied());
        assert_eq!(Sample::new(1, 100, 0, 10).len(), 10);
        assert_eq!(Sample::new(1, 0, 0, 10).first(), None);
    }

    #[test]
    fn the_seed_chooses() {
        let chosen = |seed| Sample::new(seed, 20, 0, 1000).chosen;
        assert_eq!(chosen(1), chosen(1));
        assert_ne!(chosen(1), chosen(2));
    }
}
