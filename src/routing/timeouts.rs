//! Messages whose answer has a deadline.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::channels::ReplyTo;
use crate::connection::Tick;

/// Messages of one shard whose answer has a deadline.
///
/// Most are answered in time, by whoever; the table learns of that only when it looks. So it looks
/// whenever it has doubled since it last did, which keeps it within twice of what is open.
#[derive(Debug)]
pub(crate) struct Timeouts {
    open: Vec<Timeout>,
    /// None is due before. May be too early, never too late.
    earliest: Tick,
    /// The length at which answered ones are thrown out.
    look_at: usize,
}

#[derive(Debug)]
struct Timeout {
    due: Tick,
    to: ReplyTo,
    answered: Arc<AtomicBool>,
}

/// Below this the table is not looked through but when something is due.
const LOOK_AT_MIN: usize = 64;

impl Timeouts {
    pub(crate) fn new() -> Self {
        Self { open: Vec::new(), earliest: Tick::MAX, look_at: LOOK_AT_MIN }
    }

    /// Notes a message that is answered with a timeout at `due` unless `answered` is set by then.
    pub(crate) fn add(&mut self, due: Tick, to: ReplyTo, answered: Arc<AtomicBool>) {
        if self.open.len() >= self.look_at {
            self.open.retain(|timeout| !timeout.answered.load(Relaxed));
            self.look_at = (2 * self.open.len()).max(LOOK_AT_MIN);
        }
        self.earliest = self.earliest.min(due);
        self.open.push(Timeout { due, to, answered });
    }

    /// Hands out those that are due at `now` and not answered: they are answered by this.
    pub(crate) fn sweep(&mut self, now: Tick, mut each: impl FnMut(&ReplyTo)) {
        if now < self.earliest {
            return;
        }
        let mut earliest = Tick::MAX;
        self.open.retain(|timeout| {
            if timeout.due > now {
                earliest = earliest.min(timeout.due);
                return !timeout.answered.load(Relaxed);
            }
            if !timeout.answered.swap(true, Relaxed) {
                each(&timeout.to);
            }
            false
        });
        self.earliest = earliest;
    }

    /// The tick before which none is due, if there is any.
    #[inline]
    pub(crate) fn next_due(&self) -> Option<Tick> {
        (!self.open.is_empty()).then_some(self.earliest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channels::Settles;
    use crate::id::ConnId;
    use crate::routing::EndpointId;

    fn to(slot: usize) -> ReplyTo {
        let (conn, endpoint) = (ConnId::new(0, 0, slot), EndpointId(0));
        ReplyTo { conn, endpoint, correlation: None, settles: Settles::No }
    }

    fn due(table: &mut Timeouts, now: Tick) -> Vec<ConnId> {
        let mut due = Vec::new();
        table.sweep(now, |to| due.push(to.conn));
        due
    }

    #[test]
    fn only_what_is_due_and_open_is_handed_out_and_once() {
        let mut table = Timeouts::new();
        let flags: Vec<_> = (0..3).map(|_| Arc::new(AtomicBool::new(false))).collect();
        table.add(10, to(0), Arc::clone(&flags[0]));
        table.add(10, to(1), Arc::clone(&flags[1]));
        table.add(20, to(2), Arc::clone(&flags[2]));
        flags[1].store(true, Relaxed);
        assert_eq!(table.next_due(), Some(10));
        assert_eq!(due(&mut table, 9), []);
        assert_eq!(due(&mut table, 10), [to(0).conn]);
        assert!(flags[0].load(Relaxed), "whoever answers now is late");
        assert_eq!(table.next_due(), Some(20));
        assert_eq!(due(&mut table, 30), [to(2).conn]);
        assert_eq!(table.next_due(), None);
    }

    #[test]
    fn answered_ones_do_not_pile_up() {
        let mut table = Timeouts::new();
        for slot in 0..100_000 {
            table.add(1000, to(slot), Arc::new(AtomicBool::new(true)));
        }
        assert!(table.open.len() <= 2 * LOOK_AT_MIN);
    }
}
