//! From stage to stage, in step with the other threads.

use crate::{
    clock::Nanos,
    link::Link,
    rooms::{Mark, ask_to_join, ping},
    table::Table,
    trouble::Trouble,
};

use super::{Awaits, BATCH, Client, LOOK, Measured, ROOM, Scale, Stage};

impl Scale {
    /// Does a step of the stage; returns when to be called again.
    pub(super) fn follow(&mut self, table: &mut Table<Client>, now: Nanos) -> Option<Nanos> {
        if self.ended {
            if self.course.gates[self.stage as usize].opened().is_none() {
                return Some(now + LOOK);
            }
            self.enter(now);
        }
        let at = match self.stage {
            Stage::Hold => Some(self.until),
            Stage::Ping => self.walk(table, now, Self::ping_all),
            Stage::Echo => self.walk(table, now, Self::echo_some),
            Stage::Join => self.join(table, now),
            Stage::Publish => self.publish(table, now),
            Stage::Fence => self.walk(table, now, Self::ping_members),
            Stage::Done => return None,
        };
        let ended = at.is_none_or(|at| self.stage == Stage::Hold && at <= now);
        if !ended {
            return at;
        }
        if let Some(stage) = self.stage.measured() {
            table.tally.scale.note_span(stage, self.since, now);
        }
        self.course.gates[self.stage as usize].arrive(now);
        self.ended = true;
        Some(now)
    }

    fn enter(&mut self, now: Nanos) {
        (self.stage, self.since, self.next, self.ended) = (self.stage.next(), now, 0, false);
    }

    /// Calls `ask` for each connection, as long as not too many wait for an answer. Returns when to
    /// be called again, or `None` when all have answered.
    fn walk(
        &mut self,
        table: &mut Table<Client>,
        now: Nanos,
        ask: fn(&mut Self, &mut Link<'_, Client>) -> Result<(), Trouble>,
    ) -> Option<Nanos> {
        let end = table.keys_end();
        let to = (self.next + BATCH).min(end);
        while self.next < to && self.waiting < self.course.window {
            table.with(self, self.next, ask);
            self.next += 1;
        }
        match (self.next == end, self.waiting) {
            (true, 0) => None,
            (false, waiting) if waiting < self.course.window => Some(now),
            _ => Some(now + LOOK),
        }
    }

    fn ping_all(&mut self, link: &mut Link<'_, Client>) -> Result<(), Trouble> {
        self.ask(link, Awaits::Pong);
        link.tally.scale.pinged += 1;
        ping(link)
    }

    fn ping_members(&mut self, link: &mut Link<'_, Client>) -> Result<(), Trouble> {
        if !link.client.member {
            return Ok(());
        }
        self.ask(link, Awaits::Pong);
        ping(link)
    }

    fn echo_some(&mut self, link: &mut Link<'_, Client>) -> Result<(), Trouble> {
        match self.course.echoing.contains(link.index) && self.course.echoes > 0 {
            true => self.ask_echo(link),
            false => Ok(()),
        }
    }

    /// As `walk`, and finds the publisher.
    fn join(&mut self, table: &mut Table<Client>, now: Nanos) -> Option<Nanos> {
        let from = self.next;
        let at = self.walk(table, now, Self::join_some);
        for key in from..self.next {
            table.with(self, key, |scale, link| {
                if scale.course.members.first() == Some(link.index) {
                    scale.publisher = Some(key);
                }
                Ok(())
            });
        }
        at
    }

    fn join_some(&mut self, link: &mut Link<'_, Client>) -> Result<(), Trouble> {
        if !self.course.members.contains(link.index) {
            return Ok(());
        }
        self.ask(link, Awaits::Join);
        link.tally.scale.joining += 1;
        if !ask_to_join(&self.course.words, link, ROOM)? {
            self.joined(link);
        }
        Ok(())
    }

    /// Publishes once, and waits until every member has got it.
    fn publish(&mut self, table: &mut Table<Client>, now: Nanos) -> Option<Nanos> {
        if let Some(key) = self.publisher.take() {
            table.with(self, key, Self::publish_one);
        }
        let deadline = self.since.max(self.last_delivery) + self.course.timeout;
        (self.undelivered > 0 && now < deadline).then_some(now + LOOK)
    }

    fn publish_one(&mut self, link: &mut Link<'_, Client>) -> Result<(), Trouble> {
        let mark = Mark { room: ROOM, publisher: link.index, serial: 0, due: link.now() };
        let data = self.marks.data(&mark);
        link.tally.sent += 1;
        link.tally.scale.published += 1;
        link.send(self.course.words.publish(link.index, ROOM, 0, &data))
    }
}

impl Stage {
    fn next(self) -> Self {
        match self {
            Self::Hold => Self::Ping,
            Self::Ping => Self::Echo,
            Self::Echo => Self::Join,
            Self::Join => Self::Publish,
            Self::Publish => Self::Fence,
            Self::Fence | Self::Done => Self::Done,
        }
    }

    fn measured(self) -> Option<Measured> {
        match self {
            Self::Ping => Some(Measured::Ping),
            Self::Echo => Some(Measured::Echo),
            Self::Join => Some(Measured::Join),
            Self::Publish => Some(Measured::Publish),
            Self::Hold | Self::Fence | Self::Done => None,
        }
    }
}
