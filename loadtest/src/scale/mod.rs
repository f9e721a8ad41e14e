//! `scale`: a course over very many connections. All are held; each answers a ping; messages are
//! echoed over some of them; some join a room, one of them publishes, and each gets that once.
//!
//! Invariants:
//! - A stage begins when all threads have ended the one before it.
//! - What is awaited has a deadline, and each thread has only so many questions out at once.
//! - A connection costs this command [`Client`], and nothing beside it.

mod counts;
mod stages;

use std::sync::Arc;

use tungstenite::Message;

pub(crate) use self::counts::{Counts, Measured};
use crate::{
    clock::{MILLI, Nanos},
    link::{Driver, Link, Settled},
    rooms::{Answer, Found, Gate, Mark, Marks, Sample, Words, bytes, is_our_pong},
    table::Table,
    tally::Tally,
    trouble::{Trouble, Waiting},
};

/// Connections worked on in one turn, before answers are read again.
const BATCH: usize = 256;
/// How often a thread looks whether the others have ended their stage.
const LOOK: Nanos = 10 * MILLI;
/// The room.
const ROOM: u32 = 0;
/// What stands for a room in data to be echoed.
const NO_ROOM: u32 = 1;

/// What is to be done.
#[derive(Debug)]
pub(crate) struct Course {
    /// How the server is spoken to.
    pub(crate) words: Words,
    /// Connections that echo.
    pub(crate) echoing: Sample,
    /// Messages over each of these, one after the other.
    pub(crate) echoes: u32,
    /// Connections that join the room; the first publishes.
    pub(crate) members: Sample,
    /// Whether the publisher does not get what it published.
    pub(crate) not_self: bool,
    /// Questions that a thread has out at once.
    pub(crate) window: u32,
    /// How long to wait for deliveries after the last that came.
    pub(crate) timeout: Nanos,
    /// One behind each stage.
    pub(crate) gates: [Gate; STAGES],
}

/// Stages before the last, which is the end.
pub(crate) const STAGES: usize = 6;

/// The command, on one event loop.
#[derive(Debug)]
pub(crate) struct Scale {
    course: Arc<Course>,
    marks: Marks,
    stage: Stage,
    /// When the stage began here.
    since: Nanos,
    /// Whether it has ended here, and the others are waited for.
    ended: bool,
    /// Keys below this have been worked on in this stage.
    next: usize,
    /// Questions without an answer.
    waiting: u32,
    /// Members on this thread that have not got the publish.
    undelivered: u64,
    last_delivery: Nanos,
    /// The publisher's connection, if it is on this thread and has joined.
    publisher: Option<usize>,
    until: Nanos,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Hold,
    Ping,
    Echo,
    Join,
    Publish,
    /// A ping to each member behind its delivery, so that a second one is seen.
    Fence,
    Done,
}

/// One connection.
#[derive(Debug, Default)]
pub(crate) struct Client {
    /// When it asked what it waits for.
    since: Nanos,
    /// Echoes that came.
    echoed: u32,
    awaits: Awaits,
    member: bool,
    delivered: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Awaits {
    #[default]
    Nothing,
    Pong,
    Echo,
    Join,
}

impl Scale {
    /// Follows the course on one thread.
    pub(crate) fn new(course: Arc<Course>, marks: Marks) -> Self {
        Self {
            course,
            marks,
            stage: Stage::Hold,
            since: 0,
            ended: false,
            next: 0,
            waiting: 0,
            undelivered: 0,
            last_delivery: 0,
            publisher: None,
            until: 0,
        }
    }

    /// Asks something; what is awaited has come once `answered` is called.
    fn ask(&mut self, link: &mut Link<'_, Client>, awaits: Awaits) {
        link.client.since = link.now();
        link.client.awaits = awaits;
        self.waiting += 1;
    }

    fn answered(&mut self, link: &mut Link<'_, Client>) -> Nanos {
        link.client.awaits = Awaits::Nothing;
        link.rest();
        self.waiting -= 1;
        link.now().saturating_sub(link.client.since)
    }

    fn pong(&mut self, link: &mut Link<'_, Client>, pong: &[u8]) -> Result<(), Trouble> {
        if !is_our_pong(link.index, pong)? {
            return Ok(());
        }
        match link.client.awaits {
            Awaits::Join => self.joined(link),
            Awaits::Pong => {
                let latency = self.answered(link);
                if self.stage == Stage::Ping {
                    link.tally.verified += 1;
                    link.tally.scale.ponged += 1;
                    link.tally.scale.ping.record(latency);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn joined(&mut self, link: &mut Link<'_, Client>) {
        let latency = self.answered(link);
        // Who does not get its own publish counts as having it.
        link.client.member = true;
        link.client.delivered = self.gets_nothing(link.index);
        self.undelivered += u64::from(!link.client.delivered);
        link.tally.scale.joined += 1;
        link.tally.scale.excluded += u64::from(link.client.delivered);
        link.tally.scale.join.record(latency);
    }

    fn gets_nothing(&self, index: u32) -> bool {
        self.course.not_self && self.course.members.first() == Some(index)
    }

    fn hear(&mut self, link: &mut Link<'_, Client>, message: &Message) -> Result<(), Trouble> {
        let Some(data) = bytes(message) else { return Ok(()) };
        let mut from = 0;
        while let Some((found, end)) = self.marks.find(data, from) {
            match found {
                Found::Right(mark) if mark.room != ROOM => self.echo(link, &mark)?,
                Found::Right(mark) if self.course.words.delivers(link.index, ROOM, message) => {
                    self.deliver(link, &mark);
                }
                _ => link.tally.scale.corrupt += 1,
            }
            from = end;
        }
        if from > 0 {
            return Ok(());
        }
        let joining = link.client.awaits == Awaits::Join;
        match self.course.words.hear(link.index, message, joining) {
            Answer::Joined => self.joined(link),
            Answer::Refused => return Err(Trouble::Refused),
            Answer::Other => {}
        }
        Ok(())
    }

    fn echo(&mut self, link: &mut Link<'_, Client>, mark: &Mark) -> Result<(), Trouble> {
        let right = link.client.awaits == Awaits::Echo
            && mark.publisher == link.index
            && mark.serial == link.client.echoed;
        if !right {
            link.tally.scale.misechoed += 1;
            return Ok(());
        }
        link.client.echoed += 1;
        let latency = self.answered(link);
        link.tally.scale.echoed += 1;
        link.tally.scale.echo.record(latency);
        if link.client.echoed < self.course.echoes {
            return self.ask_echo(link);
        }
        Ok(())
    }

    fn ask_echo(&mut self, link: &mut Link<'_, Client>) -> Result<(), Trouble> {
        self.ask(link, Awaits::Echo);
        link.await_for(Waiting::Answer);
        let (serial, due) = (link.client.echoed, link.now());
        let data = self.marks.data(&Mark { room: NO_ROOM, publisher: link.index, serial, due });
        link.tally.sent += 1;
        link.tally.scale.echoes += 1;
        link.send(self.course.words.echo(link.index, serial, &data))
    }

    fn deliver(&mut self, link: &mut Link<'_, Client>, mark: &Mark) {
        match (link.client.member, link.client.delivered) {
            (true, false) => {
                link.client.delivered = true;
                self.undelivered -= 1;
                self.last_delivery = link.now();
                link.tally.scale.delivered += 1;
                link.tally.scale.delivery.record(link.now().saturating_sub(mark.due));
            }
            (true, true) => link.tally.scale.duplicate += 1,
            (false, _) => link.tally.scale.corrupt += 1,
        }
    }
}

impl Driver for Scale {
    type Client = Client;

    fn begin(&mut self, _: &mut Table<Client>, from: Nanos, until: Nanos) {
        (self.since, self.until) = (from, until);
    }

    fn turn(&mut self, table: &mut Table<Client>, now: Nanos) -> Option<Nanos> {
        self.follow(table, now)
    }

    fn goes_on(&self) -> bool {
        !self.done()
    }

    fn done(&self) -> bool {
        self.stage == Stage::Done
    }

    fn settle(&mut self, table: &mut Table<Client>) -> Settled {
        // Interrupted: what is not through is not judged.
        if self.stage == Stage::Done {
            let counts = &mut table.tally.scale;
            counts.missing = counts.joined - counts.delivered - counts.excluded;
        }
        Settled::Yes
    }

    fn message(&mut self, link: &mut Link<'_, Client>, message: Message) -> Result<(), Trouble> {
        match &message {
            Message::Pong(payload) => self.pong(link, payload),
            other => self.hear(link, other),
        }
    }

    fn lost(&mut self, client: &Client, _: &mut Tally) {
        self.waiting -= u32::from(client.awaits != Awaits::Nothing);
        self.undelivered -= u64::from(client.member && !client.delivered);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_costs_little() {
        assert!(size_of::<Client>() <= 32, "{}", size_of::<Client>());
    }
}
