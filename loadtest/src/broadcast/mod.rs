//! `broadcast`: members in rooms, publishes to them, and every delivery checked: that it comes, once,
//! in order, in the same order to all, and how long it takes.
//!
//! The publishers are members of the room they publish in. An open loop publishes at a fixed rate and
//! counts latency from when a publish was *due*. A closed loop keeps a number of publishes of each
//! publisher in flight, and sends the next one when all members have the oldest.
//!
//! Invariants:
//! - No publish before every join of every thread is answered or has failed.
//! - Each delivery to a member that reads adds to exactly one of: first one, duplicate, corrupt
//!   beyond recognition, foreign; a first one may also be reordered, differing or corrupt.
//! - Nothing is counted as missing before all threads have published their last, and before nothing
//!   has come for the run's timeout.
//! - Each member answers a ping after its last delivery, so that a duplicate of that one is seen too.
//!
//! `stall` is the same, with members that stop reading once they have joined.

mod counts;
mod course;
mod publish;
mod settle;

use std::sync::Arc;

use tungstenite::Message;

use self::publish::Publisher;
pub(crate) use self::{
    counts::Counts,
    course::{Course, Task},
};
use crate::{
    clock::{MILLI, Nanos},
    link::{Driver, Ended, Link, Settled},
    rooms::{
        Answer, Found, Mark, Marks, PublishId, Received, Serial, WINDOW, ask_to_join, bytes,
        is_our_pong,
    },
    table::{Phase, Table},
    tally::Tally,
    trouble::Trouble,
};

/// Connections worked on in one turn, before deliveries are read again.
const BATCH: usize = 64;
/// From the last answered join to the first publish: enough for every thread to notice.
const HEAD_START: Nanos = 100 * MILLI;

/// The command, on one event loop.
#[derive(Debug)]
pub(crate) struct Broadcast {
    course: Arc<Course>,
    marks: Marks,
    threads: u32,
    stage: Stage,
    /// The connections that were open at the begin.
    keys: Vec<usize>,
    /// Those before this have been worked on in this stage.
    next: usize,
    /// Joins not answered yet, or pings.
    waiting: u32,
    publishers: Vec<Publisher>,
    /// Publishes of the open loop that were due.
    due: u64,
    /// The members of this thread that read and are open, by room.
    population: Vec<u32>,
    /// Deliveries to these.
    got: u64,
    /// What was published in each room, once all have published their last.
    sent_by_room: Vec<u64>,
    /// Deliveries that the members counted above should get; forgotten when they change.
    wanted: Option<u64>,
    /// The members lost, and what they got.
    lost: Vec<(u32, u64)>,
    last_delivery: Nanos,
    /// The members that stall.
    stalled: Vec<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Members join.
    Join,
    /// Waiting for the other threads' members.
    Ready,
    /// Publishing from then on.
    Publish(Nanos),
    /// Waiting for deliveries.
    Await,
    /// A ping to each member that reads.
    Fence,
    /// Those that stalled read again.
    Resume,
    /// What is missing is counted.
    Count,
    Done,
}

/// One connection.
#[derive(Debug, Default)]
pub(crate) struct Member {
    state: State,
    index: u32,
    /// When it asked to join.
    since: Nanos,
    received: Received,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// It has not asked to join.
    #[default]
    Outside,
    Joining,
    Inside,
    /// It was pinged behind its last delivery.
    Fencing,
    /// It does not read.
    Stalled,
    /// It reads again what has piled up.
    Resumed,
    /// It has read all that had piled up.
    Drained,
}

impl Broadcast {
    /// For thread number `thread` of `threads`.
    pub(crate) fn new(course: Arc<Course>, marks: Marks, thread: u32, threads: u32) -> Self {
        let layout = &course.task.layout;
        let publishers = crate::plan::share(layout.publishers, threads, thread);
        Self {
            marks,
            threads,
            stage: Stage::Join,
            keys: Vec::new(),
            next: 0,
            waiting: 0,
            publishers: (0..publishers).map(|at| Publisher::new(thread + at * threads)).collect(),
            due: 0,
            population: vec![0; layout.rooms as usize],
            got: 0,
            sent_by_room: Vec::new(),
            wanted: None,
            lost: Vec::new(),
            last_delivery: 0,
            stalled: Vec::new(),
            course,
        }
    }

    /// Begins joins, so many at once.
    fn join(&mut self, table: &mut Table<Member>, now: Nanos) -> Option<Nanos> {
        let to = (self.next + BATCH).min(self.keys.len());
        while self.next < to && self.waiting < WINDOW {
            let key = self.keys[self.next];
            self.next += 1;
            table.with(self, key, |driver, link| driver.ask(link, key));
        }
        if self.next == self.keys.len() && self.waiting == 0 {
            self.course.joined.arrive(now);
            self.stage = Stage::Ready;
            return Some(now);
        }
        (self.next == to && self.waiting < WINDOW).then_some(now)
    }

    fn ask(&mut self, link: &mut Link<'_, Member>, key: usize) -> Result<(), Trouble> {
        let layout = &self.course.task.layout;
        let room = layout.room(link.index);
        *link.client = Member {
            state: State::Joining,
            index: link.index,
            since: link.now(),
            received: Received::new(layout.publishers_of(room)),
        };
        if layout.publishes(link.index) {
            self.publishers[(link.index / self.threads) as usize].key = Some(key);
        }
        if self.course.stalls(link.index) {
            self.stalled.push(key);
        }
        self.waiting += 1;
        let course = Arc::clone(&self.course);
        if !ask_to_join(&course.task.words, link, room)? {
            self.joined(link);
        }
        Ok(())
    }

    /// A join was answered.
    fn joined(&mut self, link: &mut Link<'_, Member>) {
        link.rest();
        self.waiting -= 1;
        link.tally.rooms.joined += 1;
        link.tally.rooms.join.record(link.now().saturating_sub(link.client.since));
        if self.course.stalls(link.index) {
            link.client.state = State::Stalled;
            link.stop_reading();
            link.tally.stall.stalled += 1;
            return;
        }
        link.client.state = State::Inside;
        let room = self.course.task.layout.room(link.index);
        self.population[room as usize] += 1;
        self.wanted = None;
        self.course.enter(room);
    }

    /// When publishing begins, once all members have joined.
    fn begins(&self) -> Option<Nanos> {
        self.course.joined.opened().map(|opened| opened + HEAD_START)
    }

    /// Whether what happens at `now` happens in the time in which publishes are due.
    fn in_time(&self, now: Nanos) -> bool {
        let until = self.begins().map(|from| from.saturating_add(self.course.task.duration));
        !self.done() && until.is_some_and(|until| now <= until)
    }

    /// Goes on once the other threads' members have joined.
    fn ready(&mut self, now: Nanos) -> Option<Nanos> {
        let from = self.begins()?;
        if now >= from {
            self.stage = Stage::Publish(from);
        }
        Some(from)
    }

    /// Deals with a data message.
    fn hear(&mut self, link: &mut Link<'_, Member>, message: &Message) -> Result<(), Trouble> {
        let Some(data) = bytes(message) else { return Ok(()) };
        if matches!(link.client.state, State::Resumed | State::Drained) {
            self.catch_up(link, data);
            return Ok(());
        }
        let (mut from, mut enveloped) = (0, true);
        while let Some((found, end)) = self.marks.find(data, from) {
            if from == 0 {
                let Task { layout, words, .. } = &self.course.task;
                enveloped = words.delivers(link.index, layout.room(link.index), message);
            }
            self.deliver(link, found, enveloped);
            from = end;
        }
        if from > 0 {
            return Ok(());
        }
        let joining = link.client.state == State::Joining;
        match self.course.task.words.hear(link.index, message, joining) {
            Answer::Joined => self.joined(link),
            Answer::Refused if joining => return Err(Trouble::Refused),
            Answer::Refused => link.tally.rooms.refused += 1,
            Answer::Other => {}
        }
        Ok(())
    }

    /// Takes in what has piled up for a member that stalled: whole publishes in their order, though
    /// some may have been dropped.
    fn catch_up(&mut self, link: &mut Link<'_, Member>, message: &[u8]) {
        let layout = &self.course.task.layout;
        let room = layout.room(link.index);
        let (mut from, stall) = (0, &mut link.tally.stall);
        stall.piled_up += 1;
        while let Some((found, end)) = self.marks.find(message, from) {
            let Member { received, .. } = &mut *link.client;
            let right = matches!(found, Found::Right(mark) if mark.room == room && {
                let id = PublishId { rank: layout.rank(mark.publisher), serial: mark.serial };
                received.knows(id.rank) && received.take(id) == Serial::Newer
            });
            stall.wrong += u64::from(!right);
            from = end;
        }
    }

    /// Takes in data; what came in a wrong envelope is as corrupt as what has wrong characters.
    fn deliver(&mut self, link: &mut Link<'_, Member>, found: Found, enveloped: bool) {
        match found {
            Found::Right(mark) if enveloped => self.take(link, mark, true),
            Found::Right(mark) | Found::Padding(mark) => {
                link.tally.rooms.corrupt += 1;
                self.take(link, mark, false);
            }
            Found::Broken => link.tally.rooms.corrupt += 1,
            Found::Foreign => link.tally.rooms.foreign += 1,
        }
    }

    /// Takes in a delivery of which it is known which publish it is.
    fn take(&mut self, link: &mut Link<'_, Member>, mark: Mark, right: bool) {
        let layout = &self.course.task.layout;
        let rank = layout.rank(mark.publisher);
        let room = layout.room(link.index);
        let inside = matches!(link.client.state, State::Inside | State::Fencing);
        let own = self.course.task.not_self && mark.publisher == link.index;
        if own || !inside || mark.room != room || !link.client.received.knows(rank) {
            link.tally.rooms.foreign += 1;
            return;
        }
        let (now, counts) = (link.now(), &mut link.tally.rooms);
        let id = PublishId { rank, serial: mark.serial };
        let serial = link.client.received.take(id);
        counts.note_serial(serial);
        if serial == Serial::Again {
            return;
        }
        // Whose own publishes are left out cannot know the order of all.
        if !(self.course.task.not_self && layout.publishes(link.index)) {
            counts.note_order(link.client.received.compare(self.course.log(room), id));
        }
        counts.right += u64::from(right);
        counts.in_time += u64::from(right && self.in_time(now));
        if right {
            counts.delivery.record(now.saturating_sub(mark.due));
        }
        self.got += 1;
        self.last_delivery = now;
        self.course.note_seen(mark.publisher, mark.serial);
    }

    fn pong(&mut self, link: &mut Link<'_, Member>, pong: &[u8]) -> Result<(), Trouble> {
        if !is_our_pong(link.index, pong)? {
            return Ok(());
        }
        match link.client.state {
            State::Joining => self.joined(link),
            State::Fencing => {
                link.client.state = State::Inside;
                link.rest();
                self.waiting -= 1;
            }
            State::Resumed => {
                link.client.state = State::Drained;
                link.tally.stall.drained += 1;
                link.rest();
                self.waiting -= 1;
            }
            _ => {}
        }
        Ok(())
    }
}

impl Driver for Broadcast {
    type Client = Member;

    fn begin(&mut self, table: &mut Table<Member>, _: Nanos, _: Nanos) {
        self.keys = table.open_keys();
    }

    fn turn(&mut self, table: &mut Table<Member>, now: Nanos) -> Option<Nanos> {
        match self.stage {
            Stage::Join => self.join(table, now),
            Stage::Ready => self.ready(now),
            Stage::Publish(from) => self.publish(table, from, now),
            _ => None,
        }
    }

    fn goes_on(&self) -> bool {
        !self.done()
    }

    fn done(&self) -> bool {
        !matches!(self.stage, Stage::Join | Stage::Ready | Stage::Publish(_))
    }

    fn work_from(&self) -> Option<Nanos> {
        // The gate opens for interrupted joins, too, but then nothing is published.
        self.begins().filter(|_| matches!(self.stage, Stage::Ready | Stage::Publish(_)))
    }

    fn settle(&mut self, table: &mut Table<Member>) -> Settled {
        self.settle_step(table)
    }

    fn message(&mut self, link: &mut Link<'_, Member>, message: Message) -> Result<(), Trouble> {
        match &message {
            Message::Pong(payload) => self.pong(link, payload),
            other => self.hear(link, other),
        }
    }

    fn receive_buffer(&self, index: u32) -> Option<usize> {
        self.course.stalls(index).then_some(self.course.task.receive_buffer)
    }

    fn foreseen(&self, member: &Member, trouble: &Trouble) -> bool {
        let stalled = matches!(member.state, State::Stalled | State::Resumed | State::Drained);
        // The server may close who does not read; that it says nothing at all is another matter.
        stalled && matches!(trouble, Trouble::Closed(_) | Trouble::Eof | Trouble::Io(_))
    }

    fn ended(&mut self, ended: &Ended<'_, Member>, tally: &mut Tally) {
        let foreseen = ended.trouble.is_some_and(|trouble| self.foreseen(ended.client, trouble));
        if ended.phase == Phase::Open && foreseen {
            self.waiting -= u32::from(ended.client.state == State::Resumed);
            tally.stall.closed += 1;
        }
    }

    fn lost(&mut self, member: &Member, _: &mut Tally) {
        match member.state {
            State::Outside | State::Stalled | State::Drained => {}
            State::Joining | State::Resumed => self.waiting -= 1,
            State::Inside | State::Fencing => {
                self.waiting -= u32::from(member.state == State::Fencing);
                let room = self.course.task.layout.room(member.index);
                self.population[room as usize] -= 1;
                self.course.leave(room);
                self.got -= member.received.count;
                self.wanted = None;
                self.lost.push((member.index, member.received.count));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::SECOND,
        echo::Pace,
        rooms::{Given, Layout, Sample, Words},
    };

    fn task(layout: Layout) -> Task {
        Task {
            layout,
            pace: Pace::Open(10),
            duration: SECOND,
            timeout: SECOND,
            not_self: false,
            words: Words::new(&Given::default(), layout.rooms).unwrap(),
            stalled: None,
            receive_buffer: 0,
        }
    }

    #[test]
    fn what_comes_behind_the_end_is_not_in_time() {
        let layout = Layout { members: 2, rooms: 1, publishers: 1 };
        let course = Arc::new(Course::new(task(layout), 1));
        let mut broadcast = Broadcast::new(Arc::clone(&course), Marks::new(1, 64), 0, 1);
        assert_eq!((broadcast.begins(), broadcast.in_time(0)), (None, false));
        course.joined.arrive(SECOND);
        let from = SECOND + HEAD_START;
        for stage in [Stage::Ready, Stage::Publish(from)] {
            broadcast.stage = stage;
            assert_eq!(broadcast.work_from(), Some(from));
            assert!(broadcast.in_time(from + SECOND) && !broadcast.in_time(from + SECOND + 1));
        }
        // Interrupted.
        broadcast.stage = Stage::Await;
        assert!(!broadcast.in_time(from + 1) && broadcast.work_from().is_none());
    }

    #[test]
    fn receivers_are_those_that_read_in_the_rooms_of_the_publishers() {
        // Rooms of 4, 3 and 3; the publishers are in those of 4, 3, 3 and 4.
        let mut task = task(Layout { members: 10, rooms: 3, publishers: 4 });
        assert_eq!(task.mean_receivers(), 3.5);
        task.not_self = true;
        assert_eq!(task.mean_receivers(), 2.5);
        // Number 9 is in the first room, which two publish in.
        task.stalled = Some(Sample::new(1, 1, 9, 10));
        assert_eq!(task.mean_receivers(), 2.0);
    }
}
