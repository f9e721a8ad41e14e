//! Owed bytes → sockets: one `writev` per connection and turn.

use std::io::{self, IoSlice, Write as _};
use std::net::Shutdown;

use socket2::Socket;

use super::event_loop::EventLoop;
use super::table::Marks;
use crate::connection::{Connection, Phase};
use crate::telemetry::counters::CloseCause;

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
        let Some(slot) = self.table.get_mut(index) else { return };
        if !slot.marks.has(Marks::FLUSHING) {
            return;
        }
        slot.marks.clear(Marks::FLUSHING);
        let before = (slot.conn.outbox_bytes(), slot.conn.inbound_bytes());
        let written = self.write_all(index);
        let Some(slot) = self.table.get_mut(index) else { return };
        match written {
            Ok(true) => {
                if slot.conn.flushed(self.kit.tick)
                    && let Some(socket) = &slot.socket
                {
                    // Fails only where the peer is gone already, which reading will tell.
                    let _ = socket.shutdown(Shutdown::Write);
                }
            }
            Ok(false) => {
                slot.marks.set(Marks::WRITE_BLOCKED);
                slot.conn.write_blocked(self.kit.tick);
            }
            Err(_) => slot.conn.failed(CloseCause::SocketError),
        }
        self.note_memory(index, before);
        self.after_change(index);
        self.read_on(index);
    }

    /// Writes until nothing is owed (`true`) or the socket takes no more (`false`).
    fn write_all(&mut self, index: usize) -> io::Result<bool> {
        let Some(slot) = self.table.get_mut(index) else { return Ok(true) };
        while slot.conn.owes() {
            let Some(socket) = &mut slot.socket else { return Ok(true) };
            let (wrote, wanted) = match slot.conn.only_slice() {
                Some(bytes) => (socket.write(bytes), bytes.len()),
                None => write_vectored(socket, &slot.conn),
            };
            match wrote {
                Ok(n) => {
                    self.counters.bytes_out.add(n as u64);
                    let mut env = self.kit.env(slot.endpoint);
                    slot.conn.wrote(n, &mut env);
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
