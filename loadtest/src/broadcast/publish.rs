//! Publishing: at a fixed rate, or as fast as deliveries come.

use crate::{
    clock::{MILLI, Nanos, due},
    echo::Pace,
    rooms::Mark,
    table::Table,
};

use super::{BATCH, Broadcast, Member, Stage};

/// How often a closed loop looks whether the members of other threads have a publish.
const LOOK: Nanos = MILLI / 5;

/// A member that publishes.
#[derive(Debug)]
pub(super) struct Publisher {
    index: u32,
    /// Its connection, once it has asked to join.
    pub(super) key: Option<usize>,
    /// Publishes sent.
    sent: u32,
    /// Of these, in a closed loop, how many all members have, or were given up.
    through: u32,
    /// When the oldest one in flight became the oldest.
    oldest_since: Nanos,
}

impl Publisher {
    /// Nothing sent yet.
    pub(super) fn new(index: u32) -> Self {
        Self { index, key: None, sent: 0, through: 0, oldest_since: 0 }
    }

    /// Its number.
    pub(super) fn index(&self) -> u32 {
        self.index
    }
}

impl Broadcast {
    /// Publishes what is due; `from` is when publishing began.
    pub(super) fn publish(
        &mut self,
        table: &mut Table<Member>,
        from: Nanos,
        now: Nanos,
    ) -> Option<Nanos> {
        let until = from + self.course.task.duration;
        let next = match self.course.task.pace {
            Pace::Open(rate) => self.keep_pace(table, rate, from, now),
            Pace::Closed(in_flight) => self.keep_full(table, in_flight, now),
        };
        // An open loop sends all that was due before the end, however late it is.
        let behind =
            matches!(self.course.task.pace, Pace::Open(_)) && next.is_some_and(|at| at < until);
        if now >= until && !behind {
            self.stop_publishing(now);
            return Some(now);
        }
        Some(next.unwrap_or(until).min(until))
    }

    /// Says that this thread publishes no more.
    pub(super) fn stop_publishing(&mut self, now: Nanos) {
        self.course.published.arrive(now);
        self.stage = Stage::Await;
    }

    /// Publishes what is due by now: publish number `n` of the run is of publisher `n % publishers`.
    fn keep_pace(
        &mut self,
        table: &mut Table<Member>,
        rate: u64,
        from: Nanos,
        now: Nanos,
    ) -> Option<Nanos> {
        let until = from + self.course.task.duration;
        let all = u64::from(self.course.task.layout.publishers);
        let own = self.publishers.len() as u64;
        for _ in 0..BATCH {
            if own == 0 {
                return None;
            }
            let (lap, at) = (self.due / own, (self.due % own) as usize);
            let stamp = from + due(lap * all + u64::from(self.publishers[at].index), rate);
            if stamp >= until {
                return None;
            }
            if stamp > now {
                return Some(stamp);
            }
            self.due += 1;
            self.publish_one(table, at, Some(stamp));
        }
        Some(0)
    }

    /// Fills up what is in flight of each publisher.
    fn keep_full(
        &mut self,
        table: &mut Table<Member>,
        in_flight: u32,
        now: Nanos,
    ) -> Option<Nanos> {
        for at in 0..self.publishers.len() {
            self.pass(at, now);
            while self.publishers[at].sent - self.publishers[at].through < in_flight
                && self.publish_one(table, at, None)
            {}
        }
        // Deliveries of this thread wake it by themselves.
        (self.threads > 1).then_some(now + LOOK)
    }

    /// Lets go of the oldest publishes in flight that all members have, or that have waited so long
    /// that some will never come.
    fn pass(&mut self, at: usize, now: Nanos) {
        let publisher = &mut self.publishers[at];
        while publisher.through < publisher.sent {
            let late = now.saturating_sub(publisher.oldest_since) > self.course.task.timeout;
            if !late && !self.course.all_have(publisher.index, publisher.through) {
                break;
            }
            self.course.pass(publisher.index, publisher.through);
            publisher.through += 1;
            publisher.oldest_since = now;
        }
    }

    /// Sends one publish that counts from `stamp`, or from when it is sent. Returns whether the
    /// publisher's connection is well.
    fn publish_one(&mut self, table: &mut Table<Member>, at: usize, stamp: Option<Nanos>) -> bool {
        let Publisher { index, key, sent: serial, .. } = self.publishers[at];
        let well = key.is_some_and(|key| {
            table.with(self, key, |driver, link| {
                let now = link.now();
                let due = stamp.unwrap_or(now);
                let room = driver.course.task.layout.room(index);
                let data = driver.marks.data(&Mark { room, publisher: index, serial, due });
                driver.note_sent(at, now);
                link.tally.sent += 1;
                link.tally.rooms.publishes += 1;
                link.tally.rooms.sent_in_time += u64::from(driver.in_time(now));
                link.tally.rooms.lag.record(now.saturating_sub(due));
                link.send(driver.course.task.words.publish(index, room, serial, &data))
            })
        });
        let unsent = self.publishers[at].sent == serial && stamp.is_some();
        table.tally.rooms.unsent += u64::from(unsent);
        well
    }

    fn note_sent(&mut self, at: usize, now: Nanos) {
        let publisher = &mut self.publishers[at];
        if publisher.sent == publisher.through {
            publisher.oldest_since = now;
        }
        publisher.sent += 1;
        self.course.note_sent(publisher.index, publisher.sent);
    }
}
