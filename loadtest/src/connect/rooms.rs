//! What `connect` does before it holds, where connections are to be in rooms: each joins its own.

use std::sync::Arc;

use tungstenite::Message;

use super::{Client, Connect};
use crate::{
    clock::{MILLI, Nanos},
    link::Link,
    payload::token,
    rooms::{Answer, Gate, Words},
    table::Table,
    trouble::{Trouble, Waiting},
};

/// Joins in flight on one connection.
const PIPELINE: u32 = 16;
/// Connections of a thread that join at once.
const JOINING: u32 = 64;
/// How often a thread looks whether the others have joined.
const LOOK: Nanos = 10 * MILLI;

/// Who is in which rooms: connections take places in turn, `per_connection` each, and a place is
/// one of a round over all rooms, which each round begins elsewhere. So all rooms are of one size,
/// and their members are spread over the connections as by chance.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Places {
    /// Rooms in all.
    pub(crate) rooms: u32,
    /// Rooms of each connection, no more than there are.
    pub(crate) per_connection: u32,
    /// Which places.
    pub(crate) seed: u64,
}

/// What is to be joined, and when.
#[derive(Debug)]
pub(crate) struct Joining {
    /// How the server is spoken to.
    pub(crate) words: Words,
    /// Who is in which rooms.
    pub(crate) places: Places,
    /// From the end of the ramp to the first join.
    pub(crate) after: Nanos,
    /// From the last join to the end.
    pub(crate) hold: Nanos,
    /// Opens when all threads have joined.
    pub(crate) joined: Gate,
}

/// The joins of one thread.
#[derive(Debug)]
pub(super) struct Joins {
    plan: Arc<Joining>,
    from: Nanos,
    /// Keys below this have begun.
    next: usize,
    /// Connections that have begun and not ended.
    joining: u32,
    arrived: bool,
    pub(super) over: bool,
}

/// How far a connection is with its joins.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Joined {
    /// Joins sent.
    asked: u32,
    /// Joins answered.
    answered: u32,
}

impl Places {
    /// The room of a connection's `n`-th place.
    pub(crate) fn room(&self, connection: u32, n: u32) -> u32 {
        let (rooms, each) = (u64::from(self.rooms), u64::from(self.per_connection));
        let place = u64::from(connection) * each + u64::from(n);
        // Where a round does not end with a connection, one that begins elsewhere could lead it
        // into the same room twice.
        let begin = match rooms.is_multiple_of(each) {
            true => token(self.seed, (place / rooms) as u32, 0) % rooms,
            false => 0,
        };
        ((place + begin) % rooms) as u32
    }
}

impl Joined {
    /// Whether answers are awaited.
    pub(super) fn waits(self) -> bool {
        self.answered < self.asked
    }
}

impl Joins {
    pub(super) fn new(plan: Arc<Joining>) -> Self {
        Self { plan, from: 0, next: 0, joining: 0, arrived: false, over: false }
    }

    pub(super) fn begin(&mut self, from: Nanos) {
        self.from = from + self.plan.after;
    }

    /// When all threads had joined.
    pub(super) fn joined_at(&self) -> Option<Nanos> {
        self.plan.joined.opened()
    }

    /// A connection is gone that waited for answers.
    pub(super) fn lost(&mut self) {
        self.joining -= 1;
    }

    /// Sends joins, as many as may be in flight; returns whether all are answered.
    fn ask(&self, link: &mut Link<'_, Client>) -> Result<bool, Trouble> {
        let Joining { words, places, .. } = &*self.plan;
        let end = places.per_connection.min(link.client.joined.answered + PIPELINE);
        while link.client.joined.asked < end {
            let room = places.room(link.index, link.client.joined.asked);
            link.client.joined.asked += 1;
            // Dialects have a word for it.
            if let Some(join) = words.join(link.index, room) {
                link.tally.sent += 1;
                link.send(join)?;
            }
        }
        Ok(!link.client.joined.waits())
    }

    fn hear(&mut self, link: &mut Link<'_, Client>, message: &Message) -> Result<(), Trouble> {
        let waits = link.client.joined.waits();
        match self.plan.words.hear(link.index, message, waits) {
            Answer::Joined => {}
            Answer::Refused => return Err(Trouble::Refused),
            Answer::Other => return Ok(()),
        }
        link.client.joined.answered += 1;
        link.tally.joined += 1;
        if self.ask(link)? {
            link.rest();
            self.joining -= 1;
        } else {
            link.await_for(Waiting::Joined);
        }
        Ok(())
    }
}

impl Connect {
    /// Lets connections join, as long as not too many wait for answers. Returns when to be called
    /// again.
    pub(super) fn join(&mut self, table: &mut Table<Client>, now: Nanos) -> Option<Nanos> {
        let end = table.keys_end();
        let joins = self.joins.as_ref()?;
        if now < joins.from {
            return Some(joins.from);
        }
        while let Some(joins) = self.joins.as_mut()
            && joins.next < end
            && joins.joining < JOINING
        {
            let key = joins.next;
            joins.next += 1;
            table.with(self, key, Self::begin_joining);
        }
        let joins = self.joins.as_mut()?;
        if joins.next == end && joins.joining == 0 && !joins.arrived {
            joins.plan.joined.arrive(now);
            joins.arrived = true;
        }
        let until = joins.joined_at().map(|at| at + joins.plan.hold);
        joins.over = until.is_some_and(|until| until <= now);
        until.or(Some(now + LOOK))
    }

    fn begin_joining(&mut self, link: &mut Link<'_, Client>) -> Result<(), Trouble> {
        let Some(joins) = self.joins.as_mut() else { return Ok(()) };
        joins.joining += 1;
        link.await_for(Waiting::Joined);
        joins.ask(link).map(drop)
    }

    /// A data message has come.
    pub(super) fn hear(
        &mut self,
        link: &mut Link<'_, Client>,
        message: &Message,
    ) -> Result<(), Trouble> {
        match &mut self.joins {
            Some(joins) => joins.hear(link, message),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn sizes(places: Places, connections: u32) -> BTreeSet<u32> {
        let mut sizes = vec![0; places.rooms as usize];
        for connection in 0..connections {
            let rooms: BTreeSet<_> =
                (0..places.per_connection).map(|n| places.room(connection, n)).collect();
            assert_eq!(rooms.len(), places.per_connection as usize, "twice in a room");
            rooms.iter().for_each(|room| sizes[*room as usize] += 1);
        }
        sizes.into_iter().collect()
    }

    #[test]
    fn rooms_are_of_one_size() {
        let places = |rooms, per_connection| Places { rooms, per_connection, seed: 7 };
        assert_eq!(sizes(places(100, 10), 1000), BTreeSet::from([100]));
        assert_eq!(sizes(places(100, 1), 1000), BTreeSet::from([10]));
        assert_eq!(sizes(places(10, 10), 33), BTreeSet::from([33]));
        assert_eq!(sizes(places(10, 3), 10), BTreeSet::from([3]));
        assert_eq!(sizes(places(10, 4), 11), BTreeSet::from([4, 5]));
    }

    #[test]
    fn the_seed_says_who_is_where() {
        let members = |seed| -> Vec<u32> {
            let places = Places { rooms: 100, per_connection: 10, seed };
            let is_in = |connection: &u32| (0..10).any(|n| places.room(*connection, n) == 5);
            (0..1000).filter(is_in).collect()
        };
        assert_eq!(members(1), members(1));
        assert_ne!(members(1), members(2));
        // One in each round of ten connections, not always the same.
        let ones: BTreeSet<_> = members(1).iter().map(|connection| connection % 10).collect();
        assert!(ones.len() > 3, "{ones:?}");
    }
}
