//! The memory ceiling: what connections hold is counted, and the heaviest go first.

use super::event_loop::EventLoop;
use crate::connection::{Connection, Dropped, Env};
use crate::telemetry::counters::{DropCause, RefusalCause};
use crate::telemetry::memory::Component;

/// Connections that hold less than this are left alone: closing them costs as much.
const SHED_BYTES: usize = 256;

impl EventLoop {
    /// Sheds connections at the memory ceiling: the heaviest first, until the total is below it.
    pub(super) fn shed_if_over_memory(&mut self) {
        if !self.shared.memory.over_limit() || self.last_shed == self.kit.tick {
            return;
        }
        self.memory.settle();
        let mut heavy = self.table.heavier_than(SHED_BYTES);
        heavy.sort_unstable_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
        for (index, _) in heavy {
            if !self.shared.memory.over_limit() {
                return;
            }
            self.count_refused(index, RefusalCause::Full);
            self.change(index, |conn, env| conn.shed(env));
            self.memory.settle();
        }
        // What fills the memory is not on this loop: the others may be asleep over it, and shards over
        // rooms that nobody is in. Look again at the next tick, not every turn.
        self.last_shed = self.kit.tick;
        self.shared.ring_all();
    }

    /// Does something to a connection and follows up on it: what it holds is counted, what it owes
    /// is queued, its deadline is kept, and it is buried if it is dead. All changes but those of
    /// the reading path go through here.
    #[inline]
    pub(super) fn change<R>(
        &mut self,
        index: usize,
        act: impl FnOnce(&mut Connection, &mut Env<'_>) -> R,
    ) -> Option<R> {
        let slot = self.table.get_mut(index)?;
        let before = slot.heap_bytes();
        let mut env = self.kit.env(slot.endpoint);
        let result = act(&mut slot.conn, &mut env);
        let dropped = slot.conn.take_dropped();
        let after = slot.heap_bytes();
        self.note_memory(before, after);
        if let Some(dropped) = dropped {
            self.count_dropped(dropped);
        }
        self.after_change(index);
        Some(result)
    }

    /// Counts what became of publishes in an outbox.
    pub(super) fn count_dropped(&self, dropped: Dropped) {
        self.count_drop(DropCause::DropOldest, dropped.oldest);
        self.count_drop(DropCause::KeepLatest, dropped.replaced);
        self.counters.trims.add(u64::from(dropped.trims));
    }

    /// Carries a change of one connection's memory into the count.
    #[inline]
    pub(super) fn note_memory(&mut self, before: (usize, usize), after: (usize, usize)) {
        self.note_memory_of(Component::Outbox, before.0, after.0);
        self.note_memory_of(Component::Inbound, before.1, after.1);
    }

    #[inline]
    fn note_memory_of(&mut self, component: Component, before: usize, after: usize) {
        if before != after {
            self.memory.change(component, after as i64 - before as i64);
            let counter = match component {
                Component::Outbox => &self.counters.outbox_bytes,
                _ => &self.counters.inbound_bytes,
            };
            counter.set(counter.get().wrapping_add(after as u64).wrapping_sub(before as u64));
        }
    }
}
