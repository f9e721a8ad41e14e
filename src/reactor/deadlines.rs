//! What every change of a connection ends with, and what time does to it.

use std::time::Instant;

use super::event_loop::{EVENTS, EventLoop};
use super::table::Marks;
use crate::connection::{Due, Phase, Tick};
use crate::routing::Notices;
use crate::telemetry::counters::{CloseCause, RefusalCause};
use crate::worker::Notice;

/// Turns on end that deadlines may wait for events that were not seen: enough for every socket
/// that one descriptor table holds.
const UNSWEPT_TURNS_MAX: u32 = 32_768 / EVENTS as u32;

impl EventLoop {
    /// To be called after anything was done to a connection: queues what it owes, keeps its
    /// deadline, and buries it if it is dead.
    #[inline]
    pub(super) fn after_change(&mut self, index: usize) {
        let Some(slot) = self.table.get_mut(index) else { return };
        if slot.conn.goes_on() {
            // Nothing but that it may owe bytes: what nearly every change comes to.
            if slot.conn.owes() {
                slot.queue_flush(index, &mut self.flush_queue);
            }
            return;
        }
        self.after_turning_point(index);
    }

    #[inline(never)]
    fn after_turning_point(&mut self, index: usize) {
        let Some(slot) = self.table.get_mut(index) else { return };
        if slot.marks.has(Marks::BURIED) {
            return;
        }
        if slot.marks.has(Marks::OPENED) && slot.conn.phase() != Phase::Open {
            self.tell_closing(index);
        }
        let Some(slot) = self.table.get_mut(index) else { return };
        if slot.conn.phase() == Phase::Dead {
            return self.bury(index);
        }
        let flush = slot.conn.owes() || slot.conn.is_to_be_shut();
        let unpause = slot.marks.has(Marks::PAUSED) && !slot.conn.may_pause();
        let undelay = slot.marks.has(Marks::DELAYED) && slot.conn.phase() != Phase::Open;
        if slot.conn.take_timers_changed() {
            self.rearm(index);
        }
        if flush {
            self.queue_flush(index);
        }
        if unpause {
            self.resume(index);
        }
        if undelay {
            self.undelay(index);
        }
    }

    /// Lets the endpoint's hook know, once, that a connection is ending.
    fn tell_closing(&mut self, index: usize) {
        let Some(slot) = self.table.get_mut(index) else { return };
        let (notices, _) = self.kit.wanted(slot.endpoint);
        if slot.marks.has(Marks::CLOSING_TOLD) || !notices.has(Notices::CLOSING) {
            return;
        }
        slot.marks.set(Marks::CLOSING_TOLD);
        let cause = slot.conn.cause().unwrap_or(CloseCause::SocketError);
        self.notify(index, Notice::Closing(cause));
    }

    /// Says anew when a connection has to be looked at.
    pub(super) fn rearm(&mut self, index: usize) {
        let seed = self.table.id(index).to_bits();
        let now = self.kit.tick;
        let Some(slot) = self.table.get_mut(index) else { return };
        let next = match slot.conn.due(self.kit.timeouts(slot.endpoint), seed, now) {
            Due::Nothing(next) => next,
            _ => now,
        };
        let is_delayed = slot.marks.has(Marks::DELAYED);
        let next = if is_delayed { next.min(self.table.levels(index).until) } else { next };
        self.table.arm(index, next);
        self.next_sweep = self.next_sweep.min(next);
    }

    /// Acts on what is due. Deadlines are moved lazily: one that comes up may have moved on.
    ///
    /// Not while there are events that were not `seen`, but for so many turns on end at most that
    /// a loop under full load keeps its deadlines too.
    pub(super) fn sweep_deadlines(&mut self, seen: bool) {
        let now = self.kit.tick;
        self.unswept = if seen { 0 } else { self.unswept + 1 };
        if now < self.next_sweep || !seen && !self.unswept.is_multiple_of(UNSWEPT_TURNS_MAX) {
            return;
        }
        let mut due = std::mem::take(&mut self.due);
        self.next_sweep = self.table.sweep(now, &mut due);
        for index in due.drain(..) {
            self.act_on_due(index, now);
        }
        self.due = due;
    }

    fn act_on_due(&mut self, index: usize, now: Tick) {
        let seed = self.table.id(index).to_bits();
        self.table.rearm(index, Tick::MAX);
        let Some(slot) = self.table.get_mut(index) else { return };
        if slot.marks.has(Marks::BURIED) {
            return;
        }
        if slot.marks.has(Marks::DELAYED) && self.table.levels(index).until <= now {
            self.undelay(index);
        }
        let Some(slot) = self.table.get_mut(index) else { return };
        match slot.conn.due(self.kit.timeouts(slot.endpoint), seed, now) {
            Due::Nothing(_) => {}
            // Its bytes are here, or its socket takes some again, and only this loop is behind.
            due if due != Due::Close && slot.marks.is_pending() => {
                self.table.arm(index, now + 1);
                self.next_sweep = self.next_sweep.min(now + 1);
                return;
            }
            Due::Handshake => return self.refuse(index, RefusalCause::HandshakeTimeout),
            due => {
                self.counters.pings_out.add(u64::from(due == Due::Ping));
                self.change(index, |conn, env| conn.act_on(due, env));
            }
        }
        self.rearm(index);
    }

    /// The socket failed while nobody was going to read from it.
    pub(super) fn socket_failed(&mut self, index: usize) {
        let Some(slot) = self.table.get_mut(index) else { return };
        if matches!(slot.conn.phase(), Phase::Handshake | Phase::Admitting) {
            return self.give_up(index, RefusalCause::PeerGone);
        }
        self.change(index, |conn, _| conn.failed(CloseCause::SocketError));
    }

    /// The connection is over: closes its socket at once. The slot is freed now, or when its
    /// shard has accepted its end.
    pub(super) fn bury(&mut self, index: usize) {
        let gate = self.gate_of(index);
        let Some(slot) = self.table.get_mut(index) else { return };
        let before = slot.heap_bytes();
        let mut env = self.kit.env(slot.endpoint);
        slot.conn.release(&mut env);
        let after = slot.heap_bytes();
        slot.marks.set(Marks::BURIED);
        slot.socket = None;
        let marks = slot.marks;
        if marks.has(Marks::OPENED) {
            let cause = slot.conn.cause().unwrap_or(CloseCause::SocketError);
            self.counters.closed.add(1);
            self.counters.open.sub(1);
            self.counters.closes.at(cause as usize).add(1);
        }
        if marks.has(Marks::PAUSED) {
            slot.marks.clear(Marks::PAUSED);
            self.counters.paused.sub(1);
        }
        if marks.has(Marks::DELAYED) {
            slot.marks.clear(Marks::DELAYED);
            self.counters.delayed.sub(1);
        }
        self.leave_place(index);
        self.note_memory(before, after);
        if marks.has(Marks::TLS) {
            self.end_tls(index);
        }
        self.end_deflate(index);
        self.table.rearm(index, Tick::MAX);
        self.acceptor.released(&self.shared, self.index, marks.has(Marks::SURPLUS));
        if !marks.has(Marks::KNOWN) {
            self.free(index);
        } else if self.gates[gate].is_blocked() {
            self.gates[gate].buried.push(index as u32);
        } else {
            self.tell_closed(index, gate);
        }
    }

    /// Puts a connection's end into its shard's batch.
    pub(super) fn tell_closed(&mut self, index: usize, gate: usize) {
        let conn = self.table.id(index);
        let Some(slot) = self.table.get_mut(index) else { return };
        let was_open = slot.marks.has(Marks::OPENED);
        let cause = slot.conn.cause().filter(|_| was_open);
        let (endpoint, peer) = (slot.endpoint, slot.peer);
        let batch = self.gates[gate].batch(self.index, self.now, &self.spare_batches);
        batch.begin_run(conn, endpoint, peer);
        batch.push_closed(cause);
        self.gates[gate].note_closing(index as u32);
    }

    /// Takes a slot out of use.
    pub(super) fn free(&mut self, index: usize) {
        let slot = self.table.free(index);
        debug_assert!(slot.marks.has(Marks::BURIED) && slot.socket.is_none());
    }

    /// Microseconds since the gateway's start, modulo 2^32.
    pub(super) fn micros(&self) -> u32 {
        let now = Instant::now();
        now.saturating_duration_since(self.shared.started_at).as_micros() as u32
    }
}
