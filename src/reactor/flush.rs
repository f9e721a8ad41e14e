//! Owed bytes → sockets: one `writev` per connection and turn.

use std::io::{self, IoSlice, Write as _};
use std::net::Shutdown;
use std::sync::Arc;

use socket2::Socket;

use super::event_loop::{EventLoop, Kit};
use super::table::{Marks, Slot};
use crate::connection::{Connection, Phase, SharedFrame};
use crate::telemetry::counters::{CloseCause, LoopCounters};

/// Slices of one `writev`.
const SLICES: usize = 32;

impl EventLoop {
    /// Writes to sockets that are owed something, up to the turn's budget.
    pub(super) fn flush_queued(&mut self) {
        let budget = self.kit.snapshot.config.tuning.flushes_per_turn;
        for _ in 0..budget.min(self.flush_queue.len()) {
            let Some(index) = self.flush_queue.pop_front() else { return };
            self.flush(index as usize);
        }
    }

    /// Writes what one slot owes, if it waits for that.
    pub(super) fn flush(&mut self, index: usize) {
        let Self { table, kit, counters, .. } = self;
        let Some(slot) = table.get_mut(index) else { return };
        if !slot.marks.has(Marks::FLUSHING) {
            return;
        }
        slot.marks.clear(Marks::FLUSHING);
        if slot.marks.has(Marks::TLS) {
            return self.flush_tls(index);
        }
        let written = write_owed(slot, &mut Plain, kit, counters);
        self.after_write(index, written);
    }

    /// As [`flush`](Self::flush), by way of the slot's TLS.
    #[inline(never)]
    fn flush_tls(&mut self, index: usize) {
        let Self { table, kit, counters, .. } = self;
        let Some((slot, tls)) = table.with_tls(index) else { return };
        let written = write_owed(slot, tls, kit, counters);
        self.count_tls(index);
        self.after_write(index, written);
    }

    #[inline]
    fn after_write(&mut self, index: usize, written: Written) {
        self.note_memory(written.before, written.after);
        if !written.goes_on {
            self.after_change(index);
            self.read_on(index);
        }
    }

    /// Writes a frame past the outbox of a connection that owes nothing; only what the socket does
    /// not take is queued. `false`: nothing was written, and the frame goes by the outbox.
    #[inline]
    pub(super) fn write_through(&mut self, index: usize, frame: &Arc<SharedFrame>) -> bool {
        let Self { table, counters, .. } = self;
        let Some(slot) = table.get_mut(index) else { return false };
        if slot.conn.owes() || !slot.conn.goes_on() || slot.marks.has_any(Marks::BLOCKED_OR_TLS) {
            return false;
        }
        let Some(socket) = &mut slot.socket else { return false };
        let Ok(n) = socket.write(frame.bytes()) else { return false };
        counters.bytes_out.add(n as u64);
        if n < frame.bytes().len() {
            // It is the only one there, so it is this frame of which bytes are written.
            self.change(index, |conn, env| {
                conn.deliver_shared(frame, env);
                conn.wrote(n, env);
            });
        }
        true
    }

    /// Queues a slot to be read from if its phase reads again and there may be something.
    fn read_on(&mut self, index: usize) {
        let Some(slot) = self.table.get_mut(index) else { return };
        if slot.marks.has(Marks::READABLE)
            && !slot.marks.has(Marks::BURIED)
            && matches!(slot.conn.phase(), Phase::Closing | Phase::Lingering)
        {
            self.queue_run(index);
        }
    }
}

/// How what a connection owes gets to its socket.
pub(super) trait Writer {
    /// Writes until nothing is owed (`true`) or the socket takes no more (`false`).
    fn write_all(
        &mut self,
        slot: &mut Slot,
        kit: &mut Kit,
        counters: &LoopCounters,
    ) -> io::Result<bool>;

    /// Tells the peer that nothing more comes, if its socket takes that.
    fn close(&mut self, slot: &mut Slot, kit: &mut Kit, counters: &LoopCounters);
}

/// Bytes as they are.
struct Plain;

impl Writer for Plain {
    #[inline]
    fn write_all(
        &mut self,
        slot: &mut Slot,
        kit: &mut Kit,
        counters: &LoopCounters,
    ) -> io::Result<bool> {
        while slot.conn.owes() {
            let Some(socket) = &mut slot.socket else { return Ok(true) };
            let (wrote, wanted) = match slot.conn.only_slice() {
                Some(bytes) => (socket.write(bytes), bytes.len()),
                None => write_vectored(socket, &slot.conn),
            };
            match wrote {
                Ok(n) => {
                    counters.bytes_out.add(n as u64);
                    slot.conn.wrote(n, &mut kit.env(slot.endpoint));
                    if n < wanted {
                        // The send buffer is full, and the kernel has noted that we wait for it.
                        return Ok(false);
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(true)
    }

    #[inline]
    fn close(&mut self, _: &mut Slot, _: &mut Kit, _: &LoopCounters) {}
}

/// What a write has left of a slot.
struct Written {
    /// Its heap before and after.
    before: (usize, usize),
    after: (usize, usize),
    goes_on: bool,
}

/// Writes what a slot owes, and tells its connection what came of it.
#[inline]
fn write_owed(
    slot: &mut Slot,
    writer: &mut impl Writer,
    kit: &mut Kit,
    counters: &LoopCounters,
) -> Written {
    let before = slot.heap_bytes();
    match writer.write_all(slot, kit, counters) {
        Ok(true) => {
            let shuts = slot.conn.flushed(kit.tick);
            if shuts || slot.conn.phase() == Phase::Dead {
                writer.close(slot, kit, counters);
            }
            if shuts && let Some(socket) = &slot.socket {
                // Fails only where the peer is gone already, which reading will tell.
                let _ = socket.shutdown(Shutdown::Write);
            }
        }
        Ok(false) => {
            slot.marks.set(Marks::WRITE_BLOCKED);
            slot.conn.write_blocked(kit.tick);
        }
        Err(_) => slot.conn.failed(CloseCause::SocketError),
    }
    Written { before, after: slot.heap_bytes(), goes_on: slot.conn.goes_on() }
}

/// One `writev` of what is owed; answers also how much that would be.
fn write_vectored(socket: &mut Socket, conn: &Connection) -> (io::Result<usize>, usize) {
    let mut bytes = [&[][..]; SLICES];
    let filled = conn.slices(&mut bytes);
    let wanted = bytes[..filled].iter().map(|b| b.len()).sum();
    let mut slices = [IoSlice::new(&[]); SLICES];
    for (slice, bytes) in slices.iter_mut().zip(&bytes[..filled]) {
        *slice = IoSlice::new(bytes);
    }
    (socket.write_vectored(&slices[..filled]), wanted)
}
