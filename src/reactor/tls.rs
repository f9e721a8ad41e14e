//! TLS between sockets and connections: buffers that the loop's connections share, and what one keeps
//! beside its slot.

use std::collections::VecDeque;
use std::io::{self, Write as _};
use std::ops::Range;

use socket2::Socket;

use super::event_loop::{EventLoop, Kit};
use super::flush::Writer;
use super::read::{Brought, read_socket};
use super::table::{Marks, Slot};
use crate::connection::Received;
use crate::routing::{Door, EndpointId};
use crate::telemetry::counters::{LoopCounters, RefusalCause, TlsFailure};
use crate::telemetry::memory::{Component, LocalMemory};
use crate::transport::tls::{Progress, TlsSession};

/// Plaintext that is encrypted at once: as much as goes into four records.
const GATHER_BYTES: usize = 64 * 1024;
/// Room for a begun record in front of what is read.
const BEGUN_BYTES: usize = 20 * 1024;
/// Reads on end that bring no plaintext, before others get their turn.
const FRUITLESS_READS: usize = 4;
/// What a connection's TLS takes while it is silent, with what the allocator adds; the certificates
/// of a client come on top.
const SESSION_BYTES: usize = 3520;

/// What it takes before a whole ClientHello has come.
const WAITING_BYTES: usize = 160;

/// One connection's TLS, beside its slot.
#[derive(Debug)]
pub(super) struct Tls {
    session: TlsSession,
    /// Ciphertext that the socket did not take, and how much of it it has taken since.
    pending: Vec<u8>,
    pending_at: usize,
    /// The endpoint of a connection that sends no request.
    without_request: Option<EndpointId>,
    /// The peer has said that it sends no more.
    has_ended: bool,
    /// It can't go on, and that is counted.
    has_failed: bool,
    /// What of it is in the ceiling's count.
    counted_bytes: usize,
}

/// Buffers for TLS of all of a loop's connections, taken with the first of them.
#[derive(Debug, Default)]
pub(super) struct TlsKit {
    cipher: Vec<u8>,
    out: Vec<u8>,
    plain: Vec<u8>,
    /// Turns of handshakes that may still be taken in this turn of the loop.
    pub(super) handshakes_left: usize,
    /// Slots whose handshakes wait for a turn in which they may be taken, the first come first. They
    /// are marked as queued.
    pub(super) waiting: VecDeque<u32>,
}

impl EventLoop {
    /// Begins TLS on a connection that was just accepted. `false`: it can't be had.
    pub(super) fn begin_tls(&mut self, index: usize, door: Door) -> bool {
        let Some(host) = &self.kit.snapshot.tls else { return false };
        let tls = Tls {
            session: TlsSession::new(host.config()),
            pending: Vec::new(),
            pending_at: 0,
            without_request: door.tcp,
            has_ended: false,
            has_failed: false,
            counted_bytes: 0,
        };
        let cipher_bytes = BEGUN_BYTES + self.read_buffer.len();
        self.kit.tls.cipher.resize(cipher_bytes, 0);
        self.table.put_tls(index, Box::new(tls));
        self.count_tls(index);
        true
    }

    /// Reads into a part of the loop's buffer: from the socket, or what comes out of its TLS.
    #[inline]
    pub(super) fn read_some(&mut self, index: usize, range: Range<usize>) -> Brought {
        let Self { table, read_buffer, counters, .. } = self;
        let Some(slot) = table.get_mut(index) else { return Brought::Drained };
        if slot.marks.has(Marks::TLS) {
            return self.read_tls(index, range);
        }
        read_socket(slot, &mut read_buffer[range], counters)
    }

    #[inline(never)]
    fn read_tls(&mut self, index: usize, range: Range<usize>) -> Brought {
        let brought = self.read_plain(index, range);
        self.count_tls(index);
        brought
    }

    fn read_plain(&mut self, index: usize, range: Range<usize>) -> Brought {
        let Self { table, read_buffer, counters, kit, .. } = self;
        let Some((slot, tls)) = table.with_tls(index) else { return Brought::Failed };
        let plain = &mut read_buffer[range];
        if tls.session.has_left_over() {
            slot.marks.set(Marks::READABLE);
            return Brought::Bytes(tls.session.take_left_over(plain));
        }
        for _ in 0..FRUITLESS_READS {
            if tls.has_ended {
                return Brought::Eof;
            }
            if !tls.session.is_established() {
                // Still readable: it gets its turn in the loop's next one.
                if kit.tls.handshakes_left == 0 {
                    return Brought::Drained;
                }
                kit.tls.handshakes_left -= 1;
            }
            let begun = tls.session.begin(&mut kit.tls.cipher);
            let n = match read_socket(slot, &mut kit.tls.cipher[begun..], counters) {
                Brought::Bytes(n) => n,
                nothing => return nothing,
            };
            let progress = match tls.take(slot, begun + n, plain, &mut kit.tls, counters) {
                Ok(progress) => progress,
                Err(failure) => {
                    if let Some(failure) = failure {
                        counters.tls_failures.at(failure as usize).add(1);
                        tls.has_failed = true;
                    }
                    return Brought::Failed;
                }
            };
            if tls.session.has_left_over() || tls.has_ended {
                slot.marks.set(Marks::READABLE);
            }
            if progress.plain_bytes > 0 {
                return Brought::Bytes(progress.plain_bytes);
            }
            if !slot.marks.has(Marks::READABLE) {
                break;
            }
        }
        Brought::Drained
    }

    /// Sets a connection aside whose TLS handshake can't be gone on with in this turn; says whether
    /// that is so. However many there are, a turn looks at those only that it goes on with.
    pub(super) fn waits_for_tls(&mut self, index: usize) -> bool {
        let Self { table, kit, .. } = self;
        if kit.tls.handshakes_left > 0 {
            return false;
        }
        let Some((slot, tls)) = table.with_tls(index) else { return false };
        if tls.session.is_established() {
            return false;
        }
        if !slot.marks.has(Marks::QUEUED) {
            slot.marks.set(Marks::QUEUED);
            kit.tls.waiting.push_back(index as u32);
        }
        true
    }

    /// Queues as many of those to be read from as this turn goes on with, before all that is new.
    pub(super) fn resume_handshakes(&mut self) {
        let TlsKit { waiting, handshakes_left, .. } = &mut self.kit.tls;
        let resumed = waiting.len().min(*handshakes_left);
        for index in waiting.drain(..resumed).rev() {
            self.run_queue.push_front(index);
        }
    }

    /// Whether a connection is over TLS and sends no request; it is open once its TLS is.
    pub(super) fn opens_by_tls(&mut self, index: usize) -> bool {
        let tls = self.table.with_tls(index);
        tls.is_some_and(|(_, tls)| tls.without_request.is_some())
    }

    /// Reads on in the handshake of a connection that opens with it. `None`: there is nothing more to
    /// read for now.
    pub(super) fn read_opening(&mut self, index: usize) -> Option<usize> {
        let brought = self.read_some(index, 0..self.read_buffer.len());
        if matches!(brought, Brought::Eof | Brought::Failed) {
            self.give_up_reading(index);
            return None;
        }
        let (slot, tls) = self.table.with_tls(index)?;
        let endpoint = tls.without_request.filter(|_| tls.session.is_established())?;
        let readable = slot.marks.has(Marks::READABLE);
        self.change(index, |conn, env| conn.open_bare(env.now));
        if !self.take_place(index, endpoint) {
            self.refuse_by_close(index, RefusalCause::EndpointFull);
            return None;
        }
        self.note_opened(index, endpoint);
        let Brought::Bytes(n) = brought else { return None };
        let gate = self.gate_of(index);
        let go_on = self.receive(index, gate, 0, n) == Received::Continue;
        (go_on && readable).then_some(n)
    }

    /// Ends a connection that was never upgraded, as nothing more is to be read from it.
    pub(super) fn give_up_reading(&mut self, index: usize) {
        let tls_failed = self.table.with_tls(index).is_some_and(|(_, tls)| tls.has_failed);
        let cause = if tls_failed { RefusalCause::Tls } else { RefusalCause::PeerGone };
        self.give_up(index, cause);
    }

    /// Carries what a connection's TLS holds into the ceiling's count.
    pub(super) fn count_tls(&mut self, index: usize) {
        if let Some((_, tls)) = self.table.with_tls(index) {
            tls.count(&mut self.memory);
        }
    }

    /// Lets go of a connection's TLS.
    pub(super) fn end_tls(&mut self, index: usize) {
        if let Some(tls) = self.table.take_tls(index) {
            self.memory.sub(Component::Tls, tls.counted_bytes);
        }
    }
}

impl Tls {
    /// Takes the first `len` bytes of the shared ciphertext: plaintext goes into `plain`, and what is
    /// to be said goes out. An error is TLS' own, or else (`None`) the socket's.
    fn take(
        &mut self,
        slot: &mut Slot,
        len: usize,
        plain: &mut [u8],
        kit: &mut TlsKit,
        counters: &LoopCounters,
    ) -> Result<Progress, Option<TlsFailure>> {
        kit.out.clear();
        let result = self.session.receive(&mut kit.cipher[..len], plain, &mut kit.out);
        let sent = match &mut slot.socket {
            Some(socket) if !kit.out.is_empty() => self.write(socket, &kit.out, counters),
            _ => Ok(true),
        };
        let progress = result?;
        match sent {
            Ok(true) => {}
            Ok(false) => slot.marks.set(Marks::WRITE_BLOCKED),
            Err(_) => return Err(None),
        }
        if progress.established {
            counters.tls_handshakes.add(1);
            counters.tls_resumed.add(u64::from(self.session.is_resumed()));
        }
        self.has_ended |= progress.ended;
        Ok(progress)
    }

    /// Moves owed bytes of a connection into ciphertext in the shared buffer.
    fn encrypt_some(&mut self, slot: &mut Slot, kit: &mut Kit) -> io::Result<()> {
        let TlsKit { plain, out, .. } = &mut kit.tls;
        plain.clear();
        out.clear();
        slot.conn.copy_owed(plain, GATHER_BYTES);
        let failed = |failure: TlsFailure| io::Error::other(failure.name());
        self.session.send(plain, out).map_err(failed)?;
        let n = plain.len();
        slot.conn.wrote(n, &mut kit.env(slot.endpoint));
        Ok(())
    }

    /// Writes ciphertext behind what is pending; keeps what the socket does not take.
    fn write(
        &mut self,
        socket: &mut Socket,
        cipher: &[u8],
        counters: &LoopCounters,
    ) -> io::Result<bool> {
        if !self.write_pending(socket, counters)? {
            self.pending.extend_from_slice(cipher);
            return Ok(false);
        }
        let n = write_some(socket, cipher, counters)?;
        if n < cipher.len() {
            self.pending = cipher[n..].to_vec();
        }
        Ok(n == cipher.len())
    }

    fn write_pending(&mut self, socket: &mut Socket, counters: &LoopCounters) -> io::Result<bool> {
        if self.pending.is_empty() {
            return Ok(true);
        }
        self.pending_at += write_some(socket, &self.pending[self.pending_at..], counters)?;
        if self.pending_at < self.pending.len() {
            return Ok(false);
        }
        (self.pending, self.pending_at) = (Vec::new(), 0);
        Ok(true)
    }

    /// What of it is in the ceiling's count, bytes.
    pub(super) fn counted_bytes(&self) -> usize {
        self.counted_bytes
    }

    fn count(&mut self, memory: &mut LocalMemory) {
        let state = if self.session.has_begun() { SESSION_BYTES } else { WAITING_BYTES };
        let now = state + self.session.heap_bytes() + self.pending.capacity();
        memory.recount(Component::Tls, &mut self.counted_bytes, now);
    }
}

impl Writer for Tls {
    fn write_all(
        &mut self,
        slot: &mut Slot,
        kit: &mut Kit,
        counters: &LoopCounters,
    ) -> io::Result<bool> {
        let Some(mut socket) = slot.socket.take() else { return Ok(true) };
        let result = loop {
            match self.write_pending(&mut socket, counters) {
                Ok(true) => {}
                blocked => break blocked,
            }
            slot.conn.moved(kit.tick, true);
            if !slot.conn.owes() {
                break Ok(true);
            }
            if let Err(e) = self.encrypt_some(slot, kit) {
                break Err(e);
            }
            match self.write(&mut socket, &kit.tls.out, counters) {
                Ok(true) => {}
                blocked => break blocked,
            }
        };
        slot.socket = Some(socket);
        result
    }

    fn close(&mut self, slot: &mut Slot, kit: &mut Kit, counters: &LoopCounters) {
        if let (Some(socket), true) = (&mut slot.socket, self.session.is_established()) {
            kit.tls.out.clear();
            self.session.close(&mut kit.tls.out);
            let _ = self.write(socket, &kit.tls.out, counters);
        }
    }
}

/// Writes once; 0 where the socket takes nothing now.
fn write_some(socket: &mut Socket, bytes: &[u8], counters: &LoopCounters) -> io::Result<usize> {
    loop {
        match socket.write(bytes) {
            Ok(n) => {
                counters.bytes_out.add(n as u64);
                return Ok(n);
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(0),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}
