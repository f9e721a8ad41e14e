//! What the gateway has asked clients and has no answer to yet.
//!
//! Invariants:
//! - an ask leaves the table exactly once: answered, due, or closed; whoever takes it holds the
//!   only way to its asker;
//! - ids of a connection are odd and so never 0; no two of its open asks have the same;
//! - deadlines are a dense column beside the slab: a sweep that finds nothing due reads only it.

use std::collections::HashMap;

use slab::Slab;

use crate::connection::Tick;
use crate::dialect::AskId;
use crate::id::ConnId;
use crate::limits::ASKS_PER_CONNECTION_MAX;

/// The first id of a connection: 1 is left out, as system E has it.
const FIRST_ID: AskId = 3;

/// The column is given back when the last ask leaves, if it had grown beyond this.
const KEPT_CAPACITY_MAX: usize = 4096;

/// The open asks of one shard, of all its connections; `C` is what is kept with each, to be told
/// the outcome.
///
/// An entry of a connection lives from its first ask until [`close`](Self::close). To open asks on
/// a connection that was closed already is to leak its entry: callers look first.
#[derive(Debug)]
pub(crate) struct Asks<C> {
    open: Slab<OpenAsk<C>>,
    /// By slot of `open`: the tick at which it is due; `Tick::MAX` for vacant ones.
    deadlines: Vec<Tick>,
    conns: HashMap<ConnId, OfConn>,
    /// No open ask is due before. May be too early, never too late.
    earliest: Tick,
    /// The number of the next ask of this shard: asks due at once leave in the order they came.
    next_number: u64,
}

#[derive(Debug)]
struct OpenAsk<C> {
    conn: ConnId,
    id: AskId,
    number: u64,
    make: C,
}

/// What is known of one connection.
#[derive(Debug)]
struct OfConn {
    next: AskId,
    /// Id and slot, in the order in which they were asked. Owns no memory while empty.
    open: Vec<(AskId, u32)>,
}

impl<C> Asks<C> {
    pub(crate) fn new() -> Self {
        Self {
            open: Slab::new(),
            deadlines: Vec::new(),
            conns: HashMap::new(),
            earliest: Tick::MAX,
            next_number: 0,
        }
    }

    /// Notes a question that fails unless it is answered before the tick `due`; `Tick::MAX` is taken
    /// for the tick before. Answers the id that the client has to send back.
    ///
    /// # Errors
    /// `make` comes back: [`ASKS_PER_CONNECTION_MAX`] are open on the connection.
    pub(crate) fn open(&mut self, conn: ConnId, due: Tick, make: C) -> Result<AskId, C> {
        let of_conn = self.conns.entry(conn).or_insert_with(OfConn::new);
        if of_conn.open.len() >= ASKS_PER_CONNECTION_MAX {
            return Err(make);
        }
        let id = of_conn.take_id();
        let number = self.next_number;
        self.next_number += 1;
        let slot = self.open.insert(OpenAsk { conn, id, number, make });
        of_conn.open.push((id, slot as u32));
        let due = due.min(Tick::MAX - 1);
        if slot == self.deadlines.len() {
            self.deadlines.push(due);
        } else {
            self.deadlines[slot] = due;
        }
        self.earliest = self.earliest.min(due);
        Ok(id)
    }

    /// What was kept with an ask that is answered now; it is open no more. `None` where the answer
    /// is late, a second one, or to what was never asked.
    pub(crate) fn take(&mut self, conn: ConnId, id: AskId) -> Option<C> {
        let slot = self.conns.get_mut(&conn)?.forget(id)?;
        Some(self.vacate(slot).make)
    }

    /// Hands out all that are due at `now`: the earliest deadline first and, of those that share
    /// one, in the order in which they were asked.
    pub(crate) fn sweep(&mut self, now: Tick, mut each: impl FnMut(ConnId, AskId, C)) {
        if now < self.earliest {
            return;
        }
        for (_, _, slot) in self.collect_due(now) {
            let ask = self.vacate(slot);
            if let Some(of_conn) = self.conns.get_mut(&ask.conn) {
                of_conn.forget(ask.id);
            }
            each(ask.conn, ask.id, ask.make);
        }
    }

    /// Forgets a connection that has ended: its open asks in the order in which they were asked.
    pub(crate) fn close(&mut self, conn: ConnId) -> Vec<(AskId, C)> {
        let Some(of_conn) = self.conns.remove(&conn) else { return Vec::new() };
        let open = of_conn.open.into_iter();
        open.map(|(id, slot)| (id, self.vacate(slot).make)).collect()
    }

    /// Whether nothing is open.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// How many are open.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }

    /// The tick before which none is due, if any is open. May be too early, never too late.
    #[inline]
    pub(crate) fn next_due(&self) -> Option<Tick> {
        (!self.is_empty()).then_some(self.earliest)
    }

    /// What is due at `now`, in order; says anew when the earliest of the others is.
    fn collect_due(&mut self, now: Tick) -> Vec<(Tick, u64, u32)> {
        let mut due = Vec::new();
        let mut earliest = Tick::MAX;
        // In chunks, so that the common chunk with nothing due is a few vector instructions.
        for (chunk_index, chunk) in self.deadlines.chunks(64).enumerate() {
            let chunk_min = chunk.iter().fold(Tick::MAX, |min, d| min.min(*d));
            if chunk_min > now {
                earliest = earliest.min(chunk_min);
                continue;
            }
            for (slot, deadline) in (chunk_index * 64..).zip(chunk.iter().copied()) {
                if deadline > now {
                    earliest = earliest.min(deadline);
                } else if let Some(ask) = self.open.get(slot) {
                    due.push((deadline, ask.number, slot as u32));
                }
            }
        }
        self.earliest = earliest;
        due.sort_unstable();
        due
    }

    fn vacate(&mut self, slot: u32) -> OpenAsk<C> {
        let ask = self.open.remove(slot as usize);
        self.deadlines[slot as usize] = Tick::MAX;
        if self.open.is_empty() {
            self.start_afresh();
        }
        ask
    }

    /// With nothing open the column is empty, so that its length follows what is in use.
    fn start_afresh(&mut self) {
        self.earliest = Tick::MAX;
        if self.deadlines.capacity() > KEPT_CAPACITY_MAX {
            (self.open, self.deadlines) = (Slab::new(), Vec::new());
        } else {
            self.open.clear();
            self.deadlines.clear();
        }
    }
}

impl OfConn {
    fn new() -> Self {
        Self { next: FIRST_ID, open: Vec::new() }
    }

    /// The next id that no open ask has. Wrapping keeps it odd.
    fn take_id(&mut self) -> AskId {
        let mut id = self.next;
        while self.open.iter().any(|(open, _)| *open == id) {
            id = id.wrapping_add(2);
        }
        self.next = id.wrapping_add(2);
        id
    }

    /// The slot of an ask that is open no more.
    fn forget(&mut self, id: AskId) -> Option<u32> {
        let at = self.open.iter().position(|(open, _)| *open == id)?;
        let (_, slot) = self.open.remove(at);
        if self.open.is_empty() {
            self.open = Vec::new();
        }
        Some(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conn(slot: usize) -> ConnId {
        ConnId::new(0, 0, slot)
    }

    fn swept(asks: &mut Asks<&'static str>, now: Tick) -> Vec<&'static str> {
        let mut due = Vec::new();
        asks.sweep(now, |_, _, make| due.push(make));
        due
    }

    #[test]
    fn ids_are_odd_and_of_each_connection_its_own() {
        let mut asks = Asks::new();
        assert_eq!(asks.open(conn(1), 9, ()), Ok(3));
        assert_eq!(asks.open(conn(1), 9, ()), Ok(5));
        assert_eq!(asks.open(conn(2), 9, ()), Ok(3));
        assert_eq!(asks.take(conn(1), 3), Some(()));
        assert_eq!(asks.take(conn(1), 5), Some(()));
        // Nothing is open, and the numbering goes on all the same.
        assert_eq!(asks.open(conn(1), 9, ()), Ok(7));
        asks.close(conn(1));
        assert_eq!(asks.open(conn(1), 9, ()), Ok(3));
    }

    #[test]
    fn ids_wrap_past_0_and_past_those_that_are_open() {
        let mut asks = Asks::new();
        let ids = |asks: &mut Asks<()>| asks.open(conn(0), 9, ()).unwrap();
        assert_eq!((ids(&mut asks), ids(&mut asks)), (3, 5));
        asks.conns.get_mut(&conn(0)).unwrap().next = u32::MAX - 2;
        let after: Vec<_> = (0..5).map(|_| ids(&mut asks)).collect();
        assert_eq!(after, [u32::MAX - 2, u32::MAX, 1, 7, 9]);
        assert_eq!(asks.len(), 7);
    }

    #[test]
    fn an_answer_counts_once() {
        let mut asks = Asks::new();
        let id = asks.open(conn(1), 9, "a").unwrap();
        assert_eq!(asks.take(conn(2), id), None, "another connection's");
        assert_eq!(asks.take(conn(1), 0), None);
        assert_eq!(asks.take(conn(1), id + 2), None, "never asked");
        assert_eq!(asks.take(conn(1), id), Some("a"));
        assert_eq!(asks.take(conn(1), id), None, "a second answer");
        let id = asks.open(conn(1), 9, "b").unwrap();
        assert_eq!(swept(&mut asks, 9), ["b"]);
        assert_eq!(asks.take(conn(1), id), None, "late");
        let id = asks.open(conn(1), 9, "c").unwrap();
        assert_eq!(asks.close(conn(1)), [(id, "c")]);
        assert_eq!(asks.take(conn(1), id), None, "of a connection that has ended");
        assert!(asks.is_empty() && asks.conns.is_empty());
    }

    #[test]
    fn so_many_and_no_more() {
        let mut asks = Asks::new();
        for n in 0..ASKS_PER_CONNECTION_MAX {
            assert!(asks.open(conn(1), 9, n).is_ok());
        }
        assert_eq!(asks.open(conn(1), 9, 777), Err(777));
        assert_eq!(asks.open(conn(2), 9, 0), Ok(3));
        assert_eq!(asks.take(conn(1), 3), Some(0));
        // The id that was refused was not used up.
        assert_eq!(asks.open(conn(1), 9, 1), Ok(3 + 2 * ASKS_PER_CONNECTION_MAX as u32));
        assert_eq!(asks.open(conn(1), 9, 778), Err(778));
        assert_eq!(asks.len(), ASKS_PER_CONNECTION_MAX + 1);
    }

    #[test]
    fn a_sweep_hands_out_by_deadline_then_by_age() {
        let mut asks = Asks::new();
        for (slot, due, name) in
            [(1, 30, "first"), (1, 10, "a"), (2, 20, "b"), (3, 10, "c"), (1, 11, "d")]
        {
            asks.open(conn(slot), due, name).unwrap();
        }
        // A slot that is used again stands before older ones; age counts all the same.
        assert_eq!(asks.take(conn(1), 3), Some("first"));
        asks.open(conn(4), 10, "e").unwrap();
        assert_eq!(asks.next_due(), Some(10));
        assert_eq!(swept(&mut asks, 9), [""; 0]);
        assert_eq!(swept(&mut asks, 12), ["a", "c", "e", "d"]);
        assert_eq!(asks.next_due(), Some(20));
        assert_eq!(swept(&mut asks, 19), [""; 0]);
        assert_eq!(swept(&mut asks, Tick::MAX), ["b"]);
        assert_eq!((asks.next_due(), asks.len()), (None, 0));
        assert_eq!(swept(&mut asks, Tick::MAX), [""; 0]);
    }

    #[test]
    fn what_was_answered_is_not_due() {
        let mut asks = Asks::new();
        let id = asks.open(conn(1), 5, "a").unwrap();
        asks.open(conn(1), 8, "b").unwrap();
        assert_eq!(asks.take(conn(1), id), Some("a"));
        // Known too early is allowed; a sweep then finds nothing and knows better.
        assert!(asks.next_due() <= Some(8));
        assert_eq!(swept(&mut asks, 7), [""; 0]);
        assert_eq!(asks.next_due(), Some(8));
    }

    #[test]
    fn an_ask_for_ever_is_due_at_the_end_of_time() {
        let mut asks = Asks::new();
        asks.open(conn(1), Tick::MAX, "a").unwrap();
        assert_eq!(swept(&mut asks, Tick::MAX - 2), [""; 0]);
        assert_eq!(swept(&mut asks, Tick::MAX - 1), ["a"]);
    }

    #[test]
    fn closing_hands_out_all_of_one_connection_in_order() {
        let mut asks = Asks::new();
        for (slot, name) in [(1, "a"), (2, "x"), (1, "b"), (1, "c")] {
            asks.open(conn(slot), 9, name).unwrap();
        }
        asks.take(conn(1), 3);
        asks.open(conn(1), 1, "d").unwrap();
        assert_eq!(asks.close(conn(1)), [(5, "b"), (7, "c"), (9, "d")]);
        assert!(asks.close(conn(1)).is_empty());
        assert_eq!(asks.len(), 1);
        assert_eq!(swept(&mut asks, 9), ["x"]);
    }

    #[test]
    fn a_burst_leaves_nothing_behind() {
        let mut asks = Asks::new();
        for n in 0..2 * KEPT_CAPACITY_MAX {
            asks.open(conn(n), 9, ()).unwrap();
        }
        let mut count = 0;
        asks.sweep(9, |_, _, ()| count += 1);
        assert_eq!(count, 2 * KEPT_CAPACITY_MAX);
        assert_eq!((asks.deadlines.capacity(), asks.open.capacity()), (0, 0));
        assert_eq!(asks.open(conn(0), 9, ()), Ok(5));
        assert!(asks.conns[&conn(1)].open.capacity() == 0);
    }
}
