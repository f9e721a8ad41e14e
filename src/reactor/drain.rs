//! The loop's end: closing what it has, and leaving.

use super::event_loop::{EventLoop, Routing};
use super::table::Marks;
use crate::connection::Phase;
use crate::telemetry::counters::{CloseCause, RefusalCause};

impl EventLoop {
    pub(super) fn begin_drain(&mut self) {
        self.draining = true;
        self.acceptor.close();
        // What was sent before the gateway was told to stop is ahead of the Close.
        self.drain_mailbox();
        let indices: Vec<_> = self.table.indices().collect();
        for index in indices {
            self.drain_one(index);
        }
    }

    fn drain_one(&mut self, index: usize) {
        let Some(slot) = self.table.get_mut(index) else { return };
        match slot.conn.phase() {
            Phase::Handshake | Phase::Admitting => {
                self.refuse(index, RefusalCause::Shutdown);
            }
            Phase::Open => {
                self.change(index, |conn, env| conn.close_in_order(CloseCause::Shutdown, env));
            }
            _ => {}
        }
    }

    /// The last thing a loop does: counts what it had to leave behind.
    pub(super) fn leave(mut self) {
        if !self.shared.is_forced() {
            // Sockets that another loop had passed before it stopped accepting are told so.
            self.drain_mailbox();
            self.take_passed();
            self.flush_queued();
        }
        let indices: Vec<_> = self.table.indices().collect();
        for index in indices {
            if let Some(slot) = self.table.get_mut(index)
                && !slot.marks.has(Marks::BURIED)
            {
                slot.conn.failed(CloseCause::Shutdown);
                self.bury(index);
            }
        }
        self.counters.connections.set(0);
        self.memory.settle();
        if let Routing::Inline(shard) = &mut self.routing {
            shard.settle_memory();
        }
    }
}
