//! Who vanished and is to come back: a place for each number, and the connections that are at it.
//!
//! Mostly that is one. There are more where the one that vanished is left to the server to end, or
//! where two come back at once; then all but one of them must be ended by the server.

/// The connections of one number.
#[derive(Debug, Default)]
pub(crate) struct Place {
    /// Open, in the order in which they opened.
    live: Vec<Live>,
    /// Called back, and neither open nor gone.
    coming: u32,
    /// It vanished in this storm, and nobody has said how that ended.
    missing: bool,
}

/// An open connection.
#[derive(Clone, Copy, Debug)]
struct Live {
    /// Where it stands in its table.
    key: usize,
    /// No two connections of a loop have the same.
    serial: u64,
    /// The storm that it came back from; 0: it was opened in the ramp.
    round: u32,
    verified: bool,
}

/// How it stands with a place in a storm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is not known yet.
    Open,
    /// More than one is there, all are open, and the server has to choose.
    Contested,
    /// One is back, verified, and alone.
    Back,
    /// Nobody has come back.
    Failed,
}

impl Place {
    /// The connection that is there alone.
    pub(crate) fn only(&self) -> Option<usize> {
        match self.live[..] {
            [live] => Some(live.key),
            _ => None,
        }
    }

    /// The one that was there first.
    pub(crate) fn first(&self) -> Option<usize> {
        self.live.first().map(|live| live.key)
    }

    /// How many are there.
    pub(crate) fn count(&self) -> usize {
        self.live.len()
    }

    /// How many are there, or on their way.
    pub(crate) fn all(&self) -> usize {
        self.live.len() + self.coming as usize
    }

    /// How many have come back in this storm, or are on their way.
    pub(crate) fn newcomers(&self, round: u32) -> usize {
        let back = self.live.iter().filter(|live| live.round == round).count();
        back + self.coming as usize
    }

    /// Its connection vanishes.
    pub(crate) fn vanish(&mut self) {
        self.missing = true;
    }

    /// The connection that was there leaves, and is none of it any more.
    pub(crate) fn leave(&mut self) {
        self.live.clear();
    }

    /// A connection of it is to be begun.
    pub(crate) fn call_back(&mut self) {
        self.coming += 1;
    }

    /// A connection is open, of those that were called back if `round` is not 0.
    pub(crate) fn opened(&mut self, key: usize, serial: u64, round: u32) {
        self.coming -= u32::from(round > 0);
        self.live.push(Live { key, serial, round, verified: false });
    }

    /// One that was called back has not opened.
    pub(crate) fn unopened(&mut self) {
        self.coming = self.coming.saturating_sub(1);
    }

    /// A connection has answered its first ping.
    pub(crate) fn verified(&mut self, serial: u64) {
        if let Some(live) = self.live.iter_mut().find(|live| live.serial == serial) {
            live.verified = true;
        }
    }

    /// A connection is gone.
    pub(crate) fn ended(&mut self, serial: u64) {
        self.live.retain(|live| live.serial != serial);
    }

    /// How it stands in storm number `round`.
    pub(crate) fn verdict(&self, round: u32) -> Verdict {
        if !self.missing || self.coming > 0 {
            return Verdict::Open;
        }
        match self.live[..] {
            _ if self.newcomers(round) == 0 => Verdict::Failed,
            [live] if live.verified => Verdict::Back,
            [_] => Verdict::Open,
            _ => Verdict::Contested,
        }
    }

    /// That is settled.
    pub(crate) fn settle(&mut self) {
        self.missing = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A place whose connection, number 1, was opened in the ramp, and vanished.
    fn vanished() -> Place {
        let mut place = Place::default();
        place.opened(10, 1, 0);
        place.verified(1);
        place.vanish();
        place
    }

    #[test]
    fn one_comes_back() {
        let mut place = vanished();
        place.ended(1);
        place.call_back();
        assert_eq!(place.verdict(1), Verdict::Open);
        place.opened(20, 2, 1);
        assert_eq!((place.verdict(1), place.only()), (Verdict::Open, Some(20)));
        place.verified(2);
        assert_eq!(place.verdict(1), Verdict::Back);
        place.settle();
        assert_eq!(place.verdict(1), Verdict::Open, "it is said once");
    }

    #[test]
    fn the_one_before_has_to_be_gone() {
        let mut place = vanished();
        place.call_back();
        assert_eq!((place.all(), place.newcomers(1), place.verdict(1)), (2, 1, Verdict::Open));
        place.opened(20, 2, 1);
        place.verified(2);
        assert_eq!((place.verdict(1), place.only()), (Verdict::Contested, None));
        place.ended(1);
        assert_eq!((place.verdict(1), place.only()), (Verdict::Back, Some(20)));
    }

    #[test]
    fn of_two_that_come_back_one_stays() {
        let mut place = vanished();
        place.ended(1);
        place.call_back();
        place.call_back();
        place.opened(20, 2, 1);
        place.verified(2);
        assert_eq!(place.verdict(1), Verdict::Open, "the other is on its way");
        place.opened(30, 3, 1);
        assert_eq!((place.verdict(1), place.newcomers(1)), (Verdict::Contested, 2));
        place.ended(2);
        assert_eq!(place.verdict(1), Verdict::Open, "the one that is left has not answered");
        place.verified(3);
        assert_eq!(place.verdict(1), Verdict::Back);
    }

    #[test]
    fn nobody_comes_back() {
        for others in [false, true] {
            let mut place = vanished();
            place.call_back();
            place.unopened();
            if !others {
                place.ended(1);
            }
            // That the one before is still there is no comfort: the new one was refused.
            assert_eq!(place.verdict(1), Verdict::Failed);
        }
        let mut place = vanished();
        place.leave();
        place.call_back();
        place.opened(20, 2, 1);
        place.ended(2);
        assert_eq!(place.verdict(1), Verdict::Failed);
    }
}
