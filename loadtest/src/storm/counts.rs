//! What a storm is counted in, and the course of storms that all event loops keep to.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::*};

use crate::{
    clock::{MILLI, Nanos},
    tally::Latency,
};

/// From the end of a storm to the start of the next, at least: enough for every loop to notice.
const NOTICE: Nanos = 200 * MILLI;

/// What the command counts beside the tally.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    /// Pings sent to those who stay.
    pub(crate) pings: u64,
    /// From the start of the work to the end of the last pause.
    pub(crate) worked: Nanos,
    /// All answered pings to those who stay.
    pub(crate) stayed: Latency,
    /// Of connections that log in.
    pub(crate) sessions: Sessions,
    calms: Vec<Latency>,
    blows: Vec<Blow>,
}

/// How many connections the identities have in the end.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sessions {
    /// Identities with one connection, which answers.
    pub(crate) one: u64,
    /// Identities with none.
    pub(crate) none: u64,
    /// Identities with several.
    pub(crate) several: u64,
    /// Connections that the server ended in favour of another before they were open.
    pub(crate) unopened: u64,
}

/// One storm.
#[derive(Clone, Debug, Default)]
pub(crate) struct Blow {
    /// Connections that vanished, or were gone already.
    pub(crate) vanished: u64,
    /// Of these, how many came back and answered a ping.
    pub(crate) back: u64,
    /// And how many did not.
    pub(crate) failed: u64,
    /// From the start until the last was back.
    pub(crate) back_after: Nanos,
    /// Handshakes of those who came back.
    pub(crate) handshake: Latency,
    /// Pings to those who stay that were due until all were back.
    pub(crate) during: Latency,
}

impl Counts {
    /// Storm number `at`, from 0.
    pub(crate) fn blow(&mut self, at: usize) -> &mut Blow {
        grown(&mut self.blows, at)
    }

    /// All storms.
    pub(crate) fn blows(&self) -> &[Blow] {
        &self.blows
    }

    /// Pings to those who stay that were due before storm number `at`, and after the one before it.
    pub(crate) fn calm(&mut self, at: usize) -> &mut Latency {
        grown(&mut self.calms, at)
    }

    /// The same, to be read.
    pub(crate) fn calms(&self) -> &[Latency] {
        &self.calms
    }

    /// Adds what another thread counted.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.pings += other.pings;
        self.worked = self.worked.max(other.worked);
        self.stayed.merge(&other.stayed);
        self.sessions.merge(other.sessions);
        for (at, calm) in other.calms.iter().enumerate() {
            self.calm(at).merge(calm);
        }
        for (at, blow) in other.blows.iter().enumerate() {
            self.blow(at).merge(blow);
        }
    }
}

impl Sessions {
    fn merge(&mut self, other: Self) {
        self.one += other.one;
        self.none += other.none;
        self.several += other.several;
        self.unopened += other.unopened;
    }
}

impl Blow {
    fn merge(&mut self, other: &Self) {
        self.vanished += other.vanished;
        self.back += other.back;
        self.failed += other.failed;
        self.back_after = self.back_after.max(other.back_after);
        self.handshake.merge(&other.handshake);
        self.during.merge(&other.during);
    }
}

fn grown<T: Clone + Default>(items: &mut Vec<T>, at: usize) -> &mut T {
    if items.len() <= at {
        items.resize(at + 1, T::default());
    }
    &mut items[at]
}

/// When each storm begins and ends, known to all event loops as soon as it is known at all.
#[derive(Debug)]
pub(crate) struct Course {
    pause: Nanos,
    /// One more than there are storms: the start of the last is the end of all.
    storms: Vec<Storm>,
}

/// `Nanos::MAX` where a time is not known.
#[derive(Debug)]
struct Storm {
    start: AtomicU64,
    last_back: AtomicU64,
    /// Loops that are not back.
    out: AtomicU32,
    over: AtomicU64,
}

impl Course {
    /// Of `times` storms on `threads` loops, with a pause before each and behind the last.
    pub(crate) fn new(times: u32, pause: Nanos, threads: u32) -> Self {
        let storm = |_| Storm {
            start: AtomicU64::new(Nanos::MAX),
            last_back: AtomicU64::new(0),
            out: AtomicU32::new(threads),
            over: AtomicU64::new(Nanos::MAX),
        };
        Self { pause, storms: (0..=times).map(storm).collect() }
    }

    /// The work starts then; every loop says the same.
    pub(crate) fn begin(&self, from: Nanos) {
        self.storms[0].start.store(from + self.pause, Release);
    }

    /// When storm number `at` begins, from 0; behind the last, when all is over.
    pub(crate) fn start(&self, at: u32) -> Option<Nanos> {
        known(&self.storms[at as usize].start)
    }

    /// A loop has its share of storm number `at` back since `last_back`. The last to say so settles
    /// when the next begins.
    pub(crate) fn back(&self, at: u32, last_back: Nanos) {
        let storm = &self.storms[at as usize];
        storm.last_back.fetch_max(last_back, AcqRel);
        if storm.out.fetch_sub(1, AcqRel) == 1 {
            let over = storm.last_back.load(Acquire);
            storm.over.store(over, Release);
            let next = &self.storms[at as usize + 1];
            next.start.store(over + self.pause.max(NOTICE), Release);
        }
    }

    /// How many loops have not all back in storm number `at`, at least one.
    pub(crate) fn out(&self, at: u32) -> u32 {
        self.storms[at as usize].out.load(Relaxed).max(1)
    }

    /// What a ping that was due at `stamp` belongs to: storm number so much (true), or the calm
    /// before it (false).
    pub(crate) fn stretch(&self, stamp: Nanos) -> (usize, bool) {
        let begun = |storm: &Storm| known(&storm.start).is_some_and(|start| start <= stamp);
        let Some(at) = self.storms.iter().rposition(begun) else { return (0, false) };
        let last = at + 1 == self.storms.len();
        match known(&self.storms[at].over) {
            Some(over) if stamp >= over => (at + 1, false),
            _ => (at, !last),
        }
    }
}

fn known(time: &AtomicU64) -> Option<Nanos> {
    Some(time.load(Acquire)).filter(|time| *time != Nanos::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SECOND;

    #[test]
    fn the_last_loop_back_starts_the_pause() {
        let course = Course::new(2, SECOND, 2);
        assert_eq!(course.start(0), None);
        course.begin(SECOND);
        assert_eq!(course.start(0), Some(2 * SECOND));
        course.back(0, 5 * SECOND);
        assert_eq!(course.start(1), None);
        course.back(0, 3 * SECOND);
        assert_eq!(course.start(1), Some(6 * SECOND));
        course.back(1, 7 * SECOND);
        course.back(1, 8 * SECOND);
        assert_eq!(course.start(2), Some(9 * SECOND));
        let stretches = [0, 2, 4, 5, 6, 7, 8, 9].map(|at| course.stretch(at * SECOND));
        let (calm, storm) = (false, true);
        assert_eq!(
            stretches,
            [
                (0, calm),
                (0, storm),
                (0, storm),
                (1, calm),
                (1, storm),
                (1, storm),
                (2, calm),
                (2, calm)
            ]
        );
    }

    #[test]
    fn counts_of_threads_add_up() {
        let (mut one, mut other) = (Counts::default(), Counts::default());
        one.blow(0).back = 2;
        one.blow(0).back_after = 7;
        other.blow(1).failed = 1;
        other.blow(0).back_after = 9;
        other.blow(0).back = 1;
        other.calm(2).record(5);
        other.stayed.record(5);
        one.merge(&other);
        assert_eq!((one.blow(0).back, one.blow(0).back_after, one.blow(1).failed), (3, 9, 1));
        assert_eq!((one.calms().len(), one.stayed.count()), (3, 1));
        assert_eq!(one.calm(2).count(), 1);
    }
}
