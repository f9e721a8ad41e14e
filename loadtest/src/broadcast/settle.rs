//! The end of a broadcast: deliveries are awaited, members fenced, those that stalled read again,
//! and what is missing is counted.

use crate::{
    clock::Nanos,
    link::Settled,
    rooms::{WINDOW, ping},
    table::Table,
    tally::Tally,
};

use super::{BATCH, Broadcast, Member, Stage, State};

impl Broadcast {
    pub(super) fn settle_step(&mut self, table: &mut Table<Member>) -> Settled {
        match self.stage {
            Stage::Join | Stage::Ready | Stage::Publish(_) => self.end_early(table.now()),
            Stage::Await => self.await_deliveries(table.now()),
            Stage::Fence => self.fence(table),
            Stage::Resume => self.resume(table),
            Stage::Count => self.count(table),
            Stage::Done => Settled::Yes,
        }
    }

    /// The run is interrupted: no thread waits for another.
    fn end_early(&mut self, now: Nanos) -> Settled {
        if self.stage == Stage::Join {
            self.course.joined.arrive(now);
        }
        self.stop_publishing(now);
        Settled::More
    }

    fn await_deliveries(&mut self, now: Nanos) -> Settled {
        let Some(published) = self.course.published.opened() else { return Settled::Waiting };
        let quiet = now.saturating_sub(published.max(self.last_delivery));
        if self.got < self.wanted() && quiet <= self.course.task.timeout {
            return Settled::Waiting;
        }
        self.go_to(Stage::Fence)
    }

    /// Deliveries that the open members of this thread should have got. All have published their
    /// last.
    fn wanted(&mut self) -> u64 {
        if let Some(wanted) = self.wanted {
            return wanted;
        }
        if self.sent_by_room.is_empty() {
            self.sent_by_room = self.course.sent_by_room();
        }
        let pairs = self.sent_by_room.iter().zip(&self.population);
        let mut wanted: u64 = pairs.map(|(sent, members)| sent * u64::from(*members)).sum();
        if self.course.task.not_self {
            let lost = |index: u32| self.lost.iter().any(|(lost, _)| *lost == index);
            let own = self.publishers.iter().map(|publisher| publisher.index());
            wanted -= own.filter(|own| !lost(*own)).map(|own| self.course.sent(own)).sum::<u64>();
        }
        self.wanted = Some(wanted);
        wanted
    }

    /// Pings each member that reads.
    fn fence(&mut self, table: &mut Table<Member>) -> Settled {
        let to = (self.next + BATCH).min(self.keys.len());
        while self.next < to && self.waiting < WINDOW {
            let key = self.keys[self.next];
            self.next += 1;
            table.with(self, key, |driver, link| match link.client.state {
                State::Inside => {
                    link.client.state = State::Fencing;
                    driver.waiting += 1;
                    ping(link)
                }
                _ => Ok(()),
            });
        }
        self.after(self.keys.len(), Stage::Resume)
    }

    /// Lets those read again that stalled, and waits until they have read all that has piled up, or
    /// find that the server has closed them.
    fn resume(&mut self, table: &mut Table<Member>) -> Settled {
        let to = (self.next + BATCH).min(self.stalled.len());
        while self.next < to && self.waiting < WINDOW {
            let key = self.stalled[self.next];
            self.next += 1;
            table.with(self, key, |driver, link| match link.client.state {
                State::Stalled => {
                    link.client.state = State::Resumed;
                    driver.waiting += 1;
                    ping(link)
                }
                _ => Ok(()),
            });
            table.resume(key, self);
        }
        self.after(self.stalled.len(), Stage::Count)
    }

    fn go_to(&mut self, stage: Stage) -> Settled {
        (self.stage, self.next) = (stage, 0);
        Settled::More
    }

    /// Where a stage is that has `all` connections to work on; `then` comes behind it.
    fn after(&mut self, all: usize, then: Stage) -> Settled {
        match (self.next == all, self.waiting) {
            (true, 0) => self.go_to(then),
            (false, waiting) if waiting < WINDOW => Settled::More,
            _ => Settled::Waiting,
        }
    }

    fn count(&mut self, table: &mut Table<Member>) -> Settled {
        if self.next == 0 {
            self.count_lost(&mut table.tally);
        }
        let to = (self.next + BATCH).min(self.keys.len());
        for at in self.next..to {
            table.with(self, self.keys[at], |driver, link| {
                let got = link.client.received.count;
                match link.client.state {
                    State::Inside => driver.count_member(link.index, got, link.tally),
                    State::Drained => driver.count_drained(link.index, got, link.tally),
                    _ => {}
                }
                Ok(())
            });
        }
        self.next = to;
        if to < self.keys.len() { Settled::More } else { self.go_to(Stage::Done) }
    }

    fn count_lost(&mut self, tally: &mut Tally) {
        for (index, got) in std::mem::take(&mut self.lost) {
            self.count_member(index, got, tally);
        }
    }

    /// Counts what the server dropped for a member that stalled and was not closed.
    fn count_drained(&mut self, index: u32, got: u64, tally: &mut Tally) {
        let sent = self.sent_by_room[self.course.task.layout.room(index) as usize];
        let dropped = sent.saturating_sub(got);
        tally.stall.trimmed += u64::from(dropped > 0);
        tally.stall.dropped += dropped;
    }

    fn count_member(&mut self, index: u32, got: u64, tally: &mut Tally) {
        let layout = &self.course.task.layout;
        let mut expected = self.sent_by_room[layout.room(index) as usize];
        if self.course.task.not_self && layout.publishes(index) {
            expected -= self.course.sent(index);
        }
        tally.rooms.expected += expected;
        tally.rooms.missing += expected.saturating_sub(got);
    }
}
