//! What all event loops of a storm do the same.

use crate::{clock::Nanos, payload::token, plan::share, table::Abort};

/// Set apart from the numbers that payloads are made of.
const TWINS: u64 = 0x7477_696e_7300;

/// How connections vanish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Vanish {
    /// Dropped, without a Close.
    Abort(Abort),
    /// By the closing handshake; each comes back when its stream has ended.
    Close,
    /// It ends its sending side and leaves the rest to the server.
    Half,
    /// Not at all: it comes back beside itself, and the server has to end the one that was there.
    Stay,
}

/// What all event loops do the same.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Of payloads and jitter.
    pub(crate) seed: u64,
    /// Connections with numbers below this vanish.
    pub(crate) vanishing: u32,
    /// Connections with numbers from this on stay and are pinged.
    pub(crate) stayers_from: u32,
    /// So many of those.
    pub(crate) stayers: u32,
    /// Storms.
    pub(crate) times: u32,
    /// Before, between and after storms.
    pub(crate) pause: Nanos,
    /// Pings a second to those who stay, in all.
    pub(crate) rate: u64,
    /// How the others vanish: they take these in turn, another one in each storm.
    pub(crate) vanish: Vec<Vanish>,
    /// How many in a million come back twice at once.
    pub(crate) twins_ppm: u32,
    /// Whether each number is an identity, of which the server leaves one connection.
    pub(crate) sessions: bool,
    /// How long the server may take to choose.
    pub(crate) patience: Nanos,
    /// Each comes back after a time below this, which the seed chooses.
    pub(crate) backoff: Nanos,
    /// Event loops.
    pub(crate) threads: u32,
    /// The most handshakes under way, on all loops.
    pub(crate) connecting_max: u32,
}

impl Settings {
    /// How connection `index` vanishes in storm number `round`, from 1.
    pub(super) fn vanish(&self, index: u32, round: u32) -> Vanish {
        self.vanish[(index as usize + round as usize) % self.vanish.len()]
    }

    /// How many vanish in this way, in all storms together.
    pub(crate) fn vanishing_by(&self, is: impl Fn(Vanish) -> bool) -> u64 {
        let kinds = u32::try_from(self.vanish.len()).expect("a handful");
        let turns = (1..=self.times).flat_map(|round| (0..kinds).map(move |first| (round, first)));
        let in_turn = turns.filter(|(round, first)| is(self.vanish(*first, *round)));
        in_turn.map(|(_, first)| u64::from(share(self.vanishing, kinds, first))).sum()
    }

    /// Whether connection `index` comes back twice at once in storm number `round`.
    pub(super) fn has_twin(&self, index: u32, round: u32) -> bool {
        token(self.seed ^ TWINS, index, round) % 1_000_000 < u64::from(self.twins_ppm)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_ways_are_taken_in_turn() {
        let settings = Settings {
            seed: 1,
            vanishing: 7,
            stayers_from: 7,
            stayers: 0,
            times: 2,
            pause: 0,
            rate: 1,
            vanish: vec![Vanish::Abort(Abort::Reset), Vanish::Close, Vanish::Stay],
            twins_ppm: 0,
            sessions: true,
            patience: 0,
            backoff: 0,
            threads: 1,
            connecting_max: 1,
        };
        for kind in settings.vanish.clone() {
            let each = (1..=2).flat_map(|round| (0..7).map(move |index| (index, round)));
            let counted = each.filter(|(index, round)| settings.vanish(*index, *round) == kind);
            assert_eq!(settings.vanishing_by(|how| how == kind), counted.count() as u64);
        }
        assert!(!settings.has_twin(1, 1));
        assert!(Settings { twins_ppm: 1_000_000, ..settings }.has_twin(1, 1));
    }
}
