//! Sockets → connections: one read into the loop's shared buffer, parsed in place.

use std::io::{self, Read as _};

use super::event_loop::EventLoop;
use super::gate::BatchSink;
use super::table::{Marks, Slot};
use crate::connection::{Phase, Received};
use crate::quota::{Meter, Tally};
use crate::routing::Twins;
use crate::telemetry::counters::{CloseCause, LoopCounters};

/// What a read brought.
pub(super) enum Brought {
    /// So many bytes.
    Bytes(usize),
    /// Nothing for now.
    Drained,
    /// The end of the stream.
    Eof,
    /// An error.
    Failed,
}

impl EventLoop {
    /// Reads from the connections that were queued when the turn began.
    pub(super) fn read_queued(&mut self) {
        for _ in 0..self.run_queue.len() {
            let Some(index) = self.run_queue.pop_front() else { return };
            self.read_slot(index as usize);
        }
    }

    fn read_slot(&mut self, index: usize) {
        let Some(slot) = self.table.get_mut(index) else { return };
        if !slot.marks.has(Marks::QUEUED) {
            return;
        }
        slot.marks.clear(Marks::QUEUED);
        if slot.marks.has(Marks::BURIED)
            || slot.marks.has(Marks::DELAYED)
            || !slot.conn.wants_read()
        {
            return;
        }
        let gate = self.gate_of(index);
        if self.gates[gate].is_blocked() && self.pause(index, gate) {
            return;
        }
        let tuning = &self.kit.snapshot.config.tuning;
        let (reads, bytes_max) = (tuning.reads_per_turn, tuning.bytes_per_turn);
        self.begin_inflating();
        let mut bytes = 0;
        for _ in 0..reads {
            match self.read_once(index, gate) {
                Some(n) => bytes += n,
                None => break,
            }
            if bytes >= bytes_max || self.gates[gate].is_blocked() {
                break;
            }
        }
        self.after_change(index);
        // What stopped for a budget goes on next turn.
        if let Some(slot) = self.table.get_mut(index)
            && (slot.marks.has(Marks::READABLE) || slot.conn.has_unread())
            && !slot.marks.has(Marks::BURIED)
            && !slot.marks.has(Marks::DELAYED)
            && slot.conn.wants_read()
        {
            self.queue_run(index);
        }
    }

    /// One read and what follows from it. `None`: there is nothing more to read for now.
    fn read_once(&mut self, index: usize, gate: usize) -> Option<usize> {
        let slot = self.table.get_mut(index)?;
        if slot.conn.phase() == Phase::Handshake {
            return self.read_head(index);
        }
        if slot.conn.has_unread() {
            return self.receive_kept(index, gate);
        }
        let most = self.kit.read_max(slot.endpoint, &self.shared).min(self.read_buffer.len());
        let n = match self.read_some(index, 0..most) {
            Brought::Bytes(n) => n,
            Brought::Drained => return None,
            Brought::Eof => {
                self.receive_eof(index);
                return None;
            }
            Brought::Failed => {
                self.change(index, |conn, _| conn.failed(CloseCause::SocketError));
                return None;
            }
        };
        let go_on = self.receive(index, gate, 0, n) == Received::Continue;
        self.reads_on(index, gate, go_on).then_some(n)
    }

    /// Goes on with what a connection keeps because its turn was over. `None`: it is not to be read
    /// from now.
    #[cold]
    fn receive_kept(&mut self, index: usize, gate: usize) -> Option<usize> {
        let go_on = self.receive(index, gate, 0, 0) == Received::Continue;
        self.reads_on(index, gate, go_on).then_some(0)
    }

    /// Sends the gate's batch if it is full. Whether there is more to read now.
    #[inline]
    fn reads_on(&mut self, index: usize, gate: usize, go_on: bool) -> bool {
        let tuning = &self.kit.snapshot.config.tuning;
        if self.gates[gate].is_full(tuning.batch_bytes, tuning.batch_messages) {
            self.send_batch(gate);
        }
        let Some(slot) = self.table.get_mut(index) else { return false };
        go_on && slot.marks.has(Marks::READABLE) && !slot.marks.has(Marks::DELAYED)
    }

    /// Hands `read_buffer[from..to]` to the connection; its messages go into the gate's batch.
    pub(super) fn receive(
        &mut self,
        index: usize,
        gate: usize,
        from: usize,
        to: usize,
    ) -> Received {
        let levels = self.kit.has_limits().then(|| self.table.levels(index));
        let Some((slot, conn, takeover)) = self.table.with_takeover(index) else {
            return Received::Stop;
        };
        let meter = levels.and_then(|levels| {
            let (terms, share) = self.kit.limits(slot.endpoint, &self.shared)?;
            Some(Meter::new(terms, share, levels, self.kit.moment))
        });
        let before = slot.heap_bytes();
        let batch = self.gates[gate].batch(self.index, self.now, &self.spare_batches);
        let messages = batch.messages();
        let (notices, mut twins) = self.kit.wanted(slot.endpoint);
        if slot.marks.has(Marks::SPOKEN) {
            twins = Twins::default();
        }
        let mut sink = BatchSink {
            batch,
            conn,
            endpoint: slot.endpoint,
            peer: slot.peer,
            counters: &self.counters,
            notices,
            twins,
            meter,
            refused: None,
        };
        let agreed = slot.deflate;
        let mut env = match agreed {
            None => self.kit.env(slot.endpoint),
            Some(agreed) => self.kit.env_inflating(slot.endpoint, agreed, takeover),
        };
        let received = slot.conn.receive(&mut self.read_buffer[from..to], &mut env, &mut sink);
        let inflated = env.inflate.map(|inflate| (inflate.messages, inflate.budget_bytes));
        if sink.batch.messages() != messages {
            slot.marks.set(Marks::KNOWN);
            slot.marks.set(Marks::SPOKEN);
            slot.endpoint = sink.endpoint;
        }
        let tally: Option<Tally> = sink.meter.map(|meter| meter.finish(to - from));
        let after = slot.heap_bytes();
        self.note_memory(before, after);
        if let Some((messages, left_bytes)) = inflated {
            self.has_inflated(index, messages, left_bytes);
        }
        match tally {
            Some(tally) if self.settle_tally(index, tally) == Received::Stop => Received::Stop,
            _ => received,
        }
    }

    fn receive_eof(&mut self, index: usize) {
        let Some(slot) = self.table.get_mut(index) else { return };
        slot.marks.clear(Marks::READABLE);
        self.change(index, |conn, env| conn.receive_eof(env));
    }

    /// Does not read from a connection whose shard is full. `false`: it need not wait for it.
    fn pause(&mut self, index: usize, gate: usize) -> bool {
        let Some(slot) = self.table.get_mut(index) else { return false };
        if !slot.conn.may_pause() {
            return false;
        }
        if slot.marks.has(Marks::PAUSED) {
            return true;
        }
        if slot.marks.has(Marks::HANGUP)
            && slot.socket.as_ref().is_some_and(|s| !matches!(s.take_error(), Ok(None)))
        {
            // The event that told of it is spent, and nobody would read the error before resume.
            self.socket_failed(index);
            return true;
        }
        slot.conn.set_paused(true, self.kit.tick);
        slot.marks.set(Marks::PAUSED);
        self.gates[gate].paused.push(index as u32);
        self.counters.pauses.add(1);
        self.counters.paused.add(1);
        true
    }

    /// Reads on from a paused connection.
    pub(super) fn resume(&mut self, index: usize) {
        let Some(slot) = self.table.get_mut(index) else { return };
        if !slot.marks.has(Marks::PAUSED) {
            return;
        }
        slot.marks.clear(Marks::PAUSED);
        self.counters.paused.sub(1);
        if !slot.marks.has(Marks::DELAYED) {
            slot.conn.set_paused(false, self.kit.tick);
            self.rearm(index);
            self.queue_run(index);
        }
    }
}

/// Reads into `buffer` once. Clears the slot's readiness where the socket is drained.
#[inline]
pub(super) fn read_socket(slot: &mut Slot, buffer: &mut [u8], counters: &LoopCounters) -> Brought {
    let Some(socket) = &mut slot.socket else { return Brought::Drained };
    loop {
        match socket.read(buffer) {
            Ok(0) => return Brought::Eof,
            Ok(n) => {
                // A short read has drained the socket, unless the event said that an end or
                // an error is behind the data: that is seen only by reading on.
                if n < buffer.len() && !slot.marks.has(Marks::HANGUP) {
                    slot.marks.clear(Marks::READABLE);
                }
                counters.bytes_in.add(n as u64);
                return Brought::Bytes(n);
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                slot.marks.clear(Marks::READABLE);
                slot.marks.clear(Marks::HANGUP);
                return Brought::Drained;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Brought::Failed,
        }
    }
}
