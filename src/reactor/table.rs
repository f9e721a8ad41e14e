//! A loop's connections: one slab of slots, and dense columns beside it.

use std::collections::{HashMap, VecDeque};
use std::marker::PhantomData;

use slab::Slab;
use socket2::Socket;

use super::deflate::Takeover;
use super::tls::Tls;
use crate::connection::{Connection, Phase, Tick};
use crate::id::{ConnId, GENERATION_BITS};
use crate::peer::Peer;
use crate::protocol::deflate::Agreed;
use crate::quota::Levels;
use crate::routing::{Door, EndpointId};
use crate::session::SlotInfo;

/// One connection: its socket, its state, and what the loop notes of it.
#[derive(Debug)]
pub struct Slot {
    /// Closed (`None`) as soon as the connection is dead; the slot may outlive it.
    pub socket: Option<Socket>,
    /// The client's state.
    pub conn: Connection,
    /// The other end.
    pub peer: Peer,
    /// Microseconds from the loop's start to accept, modulo 2^32.
    pub accepted_us: u32,
    /// The endpoint, once open.
    pub endpoint: EndpointId,
    /// What is known of the socket, and which queues the slot is in.
    pub marks: Marks,
    /// What was agreed on compression.
    pub deflate: Option<Agreed>,
}

// The budget of an idle connection: everything that it costs in this process.
#[cfg(target_pointer_width = "64")]
const _: () = {
    assert!(size_of::<Slot>() <= 160 && Table::SLOT_BYTES <= 160);
    assert!(Table::SLOT_BYTES + Table::COLUMN_BYTES <= 176);
    // With limits, too.
    assert!(Table::SLOT_BYTES + Table::COLUMN_BYTES + size_of::<Levels>() <= 176);
};

/// Bits of a slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks(u16);

impl Marks {
    /// There may be something to read.
    pub const READABLE: Self = Self(1);
    /// The event carried RDHUP, HUP or ERR: only 0 or `WouldBlock` ends reading.
    pub const HANGUP: Self = Self(1 << 1);
    /// The socket took no more; the next writable event says when it does.
    pub const WRITE_BLOCKED: Self = Self(1 << 2);
    /// In the run queue.
    pub const QUEUED: Self = Self(1 << 3);
    /// In the flush queue.
    pub const FLUSHING: Self = Self(1 << 4);
    /// In the paused list of its shard.
    pub const PAUSED: Self = Self(1 << 5);
    /// The shard has heard of it and must hear of its end.
    pub const KNOWN: Self = Self(1 << 6);
    /// It was upgraded, or needed no upgrade.
    pub const OPENED: Self = Self(1 << 7);
    /// It has ended; the slot waits until the shard has accepted its `Closed`.
    pub const BURIED: Self = Self(1 << 8);
    /// Accepted over the maximum, only to be told so.
    pub const SURPLUS: Self = Self(1 << 9);

    /// The shard has been told that it is ending.
    pub const CLOSING_TOLD: Self = Self(1 << 10);

    /// Its bytes come and go over TLS.
    pub const TLS: Self = Self(1 << 14);

    /// A message has come: which of its endpoint's dialects it speaks is settled.
    pub const SPOKEN: Self = Self(1 << 11);

    /// Over a limit: not read from before the tick of its levels.
    pub const DELAYED: Self = Self(1 << 12);

    /// It has one of its endpoint's places.
    pub const PLACED: Self = Self(1 << 13);

    const PAUSED_OR_DELAYED: Self = Self(Self::PAUSED.0 | Self::DELAYED.0);
    pub(super) const BLOCKED_OR_TLS: Self = Self(Self::WRITE_BLOCKED.0 | Self::TLS.0);
    const FLUSHING_OR_BLOCKED: Self = Self(Self::FLUSHING.0 | Self::WRITE_BLOCKED.0);

    /// Whether all bits of `mark` are set.
    #[inline]
    #[must_use]
    pub const fn has(self, mark: Self) -> bool {
        self.0 & mark.0 == mark.0
    }

    #[inline]
    pub(super) const fn has_any(self, marks: Self) -> bool {
        self.0 & marks.0 != 0
    }

    /// Whether the loop has something to do for the socket that it has not got to yet.
    #[inline]
    #[must_use]
    pub fn is_pending(self) -> bool {
        self.has(Self::QUEUED) || self.has(Self::FLUSHING)
    }

    /// Whether its socket has to wait to be read from.
    #[inline]
    #[must_use]
    pub fn is_held_back(self) -> bool {
        self.has_any(Self::PAUSED_OR_DELAYED)
    }

    /// Sets bits.
    #[inline]
    pub fn set(&mut self, mark: Self) {
        self.0 |= mark.0;
    }

    /// Clears bits.
    #[inline]
    pub fn clear(&mut self, mark: Self) {
        self.0 &= !mark.0;
    }
}

impl Slot {
    /// Queues the slot at `index` to be read from.
    #[inline]
    pub(super) fn queue_run(&mut self, index: usize, queue: &mut VecDeque<u32>) {
        if !self.marks.has(Marks::QUEUED) {
            self.marks.set(Marks::QUEUED);
            queue.push_back(index as u32);
        }
    }

    /// Queues the slot at `index` to be written to, unless its socket takes nothing.
    #[inline]
    pub(super) fn queue_flush(&mut self, index: usize, queue: &mut VecDeque<u32>) {
        if !self.marks.has_any(Marks::FLUSHING_OR_BLOCKED) {
            self.marks.set(Marks::FLUSHING);
            queue.push_back(index as u32);
        }
    }

    /// What its loop knows of its connection.
    pub(super) fn info(&self) -> SlotInfo {
        SlotInfo {
            owed_bytes: self.conn.owed_bytes(),
            inbound_bytes: self.conn.inbound_bytes(),
            in_flight: self.conn.in_flight(),
            is_paused: self.conn.is_paused(),
            is_open: self.conn.phase() == Phase::Open,
        }
    }

    /// Bytes of memory that its connection holds: (outbox, inbound).
    #[inline]
    pub(super) fn heap_bytes(&self) -> (usize, usize) {
        (self.conn.outbox_bytes(), self.conn.inbound_bytes())
    }
}

#[cold]
fn takeover_at(takeovers: &mut Vec<Option<Box<Takeover>>>, index: usize) -> &mut Takeover {
    if takeovers.len() <= index {
        takeovers.resize_with(index + 1, || None);
    }
    takeovers[index].get_or_insert_default()
}

/// The shape of `slab`'s private entry, for its size.
#[allow(dead_code, reason = "only its size is of use")]
enum SlabEntry {
    Vacant(usize),
    Occupied(Slot),
}

/// All connections of one loop. Not `Send`: its sockets mean nothing in another thread's table.
#[derive(Debug)]
pub struct Table {
    loop_index: usize,
    slots: Slab<Slot>,
    generations: Vec<u32>,
    /// When a slot has to be looked at, at the latest; `Tick::MAX` for vacant ones.
    deadlines: Vec<Tick>,
    /// Of connections over TLS; no longer than need be.
    tls: Vec<Option<Box<Tls>>>,
    /// Of connections with context takeover that have spoken or been answered; no longer than need be.
    takeovers: Vec<Option<Box<Takeover>>>,
    /// Of connections whose PROXY header has not come yet: what comes behind it.
    doors: HashMap<usize, Door>,
    /// What each has used of its limits. Empty where nobody has any.
    levels: Vec<Levels>,
    _on_one_thread: PhantomData<*const ()>,
}

impl Table {
    /// What a slot costs in the slab, its entry included.
    pub const SLOT_BYTES: usize = size_of::<SlabEntry>();
    /// What it costs in the columns.
    pub const COLUMN_BYTES: usize = size_of::<u32>() + size_of::<Tick>();

    /// A table with address space for `capacity` connections; memory comes with use.
    #[must_use]
    pub fn new(loop_index: usize, capacity: usize) -> Self {
        Self {
            loop_index,
            slots: Slab::with_capacity(capacity),
            generations: Vec::with_capacity(capacity),
            deadlines: Vec::with_capacity(capacity),
            tls: Vec::new(),
            takeovers: Vec::new(),
            doors: HashMap::new(),
            levels: Vec::new(),
            _on_one_thread: PhantomData,
        }
    }

    /// Connections in it, buried ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether it is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Puts a connection in; says where.
    pub fn insert(&mut self, slot: Slot) -> usize {
        let index = self.slots.insert(slot);
        if index == self.generations.len() {
            self.generations.push(0);
            self.deadlines.push(Tick::MAX);
        }
        index
    }

    /// Takes a slot out of use: its id names nobody from here on.
    pub fn free(&mut self, index: usize) -> Slot {
        self.generations[index] = (self.generations[index] + 1) & ((1 << GENERATION_BITS) - 1);
        self.deadlines[index] = Tick::MAX;
        self.take_door(index);
        if let Some(levels) = self.levels.get_mut(index) {
            *levels = Levels::default();
        }
        self.slots.remove(index)
    }

    /// The slot at an index that is in use.
    #[inline]
    pub fn get_mut(&mut self, index: usize) -> Option<&mut Slot> {
        self.slots.get_mut(index)
    }

    /// The slot at an index that is in use, and its TLS, if it has that.
    #[inline]
    pub(super) fn with_tls(&mut self, index: usize) -> Option<(&mut Slot, &mut Tls)> {
        let tls = self.tls.get_mut(index)?.as_deref_mut()?;
        Some((self.slots.get_mut(index)?, tls))
    }

    /// Gives a slot its TLS.
    pub(super) fn put_tls(&mut self, index: usize, tls: Box<Tls>) {
        if let Some(slot) = self.slots.get_mut(index) {
            slot.marks.set(Marks::TLS);
            if self.tls.len() <= index {
                self.tls.resize_with(index + 1, || None);
            }
            self.tls[index] = Some(tls);
        }
    }

    /// Takes a slot's TLS, if it has that.
    pub(super) fn take_tls(&mut self, index: usize) -> Option<Box<Tls>> {
        self.tls.get_mut(index)?.take()
    }

    /// The slot at an index that is in use, the id of its connection, and what it keeps for context
    /// takeover, which it has if that was agreed.
    #[inline]
    pub(super) fn with_takeover(
        &mut self,
        index: usize,
    ) -> Option<(&mut Slot, ConnId, Option<&mut Takeover>)> {
        let Self { slots, takeovers, generations, .. } = self;
        let slot = slots.get_mut(index)?;
        let id = ConnId::new(self.loop_index, generations[index], index);
        let has_takeover = slot.deflate.is_some_and(Takeover::is_for);
        Some((slot, id, has_takeover.then(|| takeover_at(takeovers, index))))
    }

    /// Takes what a slot keeps for context takeover, if it has that.
    pub(super) fn take_takeover(&mut self, index: usize) -> Option<Box<Takeover>> {
        self.takeovers.get_mut(index)?.take()
    }

    /// What comes in behind the PROXY header that a connection has to send first, if it has.
    #[inline]
    pub(super) fn door(&self, index: usize) -> Option<Door> {
        if self.doors.is_empty() { None } else { self.doors.get(&index).copied() }
    }

    /// Notes that a PROXY header comes first.
    pub(super) fn put_door(&mut self, index: usize, door: Door) {
        self.doors.insert(index, door);
    }

    /// The PROXY header has come, or won't.
    pub(super) fn take_door(&mut self, index: usize) {
        if !self.doors.is_empty() && self.doors.remove(&index).is_some() && self.doors.is_empty() {
            // No memory stays behind those who waited.
            self.doors = HashMap::new();
        }
    }

    /// The slot at an index that is in use, and the id of its connection.
    #[inline]
    pub fn get_with_id(&mut self, index: usize) -> Option<(&mut Slot, ConnId)> {
        let slot = self.slots.get_mut(index)?;
        Some((slot, ConnId::new(self.loop_index, self.generations[index], index)))
    }

    /// The id of the connection in a slot.
    #[inline]
    #[must_use]
    pub fn id(&self, index: usize) -> ConnId {
        ConnId::new(self.loop_index, self.generations[index], index)
    }

    /// The slot of a connection, unless it has ended.
    #[inline]
    pub fn find(&mut self, conn: ConnId) -> Option<(usize, &mut Slot)> {
        let index = conn.slot();
        if *self.generations.get(index)? != conn.generation() {
            return None;
        }
        let slot = self.slots.get_mut(index)?;
        (!slot.marks.has(Marks::BURIED)).then_some((index, slot))
    }

    /// What the connection in a slot has used of its limits.
    #[inline]
    #[must_use]
    pub fn levels(&self, index: usize) -> Levels {
        self.levels.get(index).copied().unwrap_or_default()
    }

    /// Notes what the connection in a slot has used of its limits.
    #[inline]
    pub fn set_levels(&mut self, index: usize, levels: Levels) {
        if index >= self.levels.len() {
            // Address space for all; memory comes with use, as that of the other columns does.
            self.levels.reserve_exact(self.deadlines.capacity() - self.levels.len());
            self.levels.resize(self.deadlines.len(), Levels::default());
        }
        self.levels[index] = levels;
    }

    /// Makes sure that the slot is looked at by `tick`.
    #[inline]
    pub fn arm(&mut self, index: usize, tick: Tick) {
        let deadline = &mut self.deadlines[index];
        *deadline = (*deadline).min(tick);
    }

    /// Says anew when the slot has to be looked at.
    #[inline]
    pub fn rearm(&mut self, index: usize, tick: Tick) {
        self.deadlines[index] = tick;
    }

    /// Has every slot in use looked at by `tick`.
    pub fn rearm_all(&mut self, tick: Tick) {
        for (index, _) in &self.slots {
            self.deadlines[index] = tick;
        }
    }

    /// Collects the slots that are due at `now`; answers the earliest deadline of the others.
    pub fn sweep(&self, now: Tick, due: &mut Vec<usize>) -> Tick {
        let mut earliest = Tick::MAX;
        // In chunks, so that the common chunk with nothing due is a few vector instructions.
        for (chunk_index, chunk) in self.deadlines.chunks(64).enumerate() {
            let chunk_min = chunk.iter().fold(Tick::MAX, |min, d| min.min(*d));
            if chunk_min > now {
                earliest = earliest.min(chunk_min);
                continue;
            }
            for (index, deadline) in chunk.iter().enumerate() {
                if *deadline <= now {
                    due.push(chunk_index * 64 + index);
                } else {
                    earliest = earliest.min(*deadline);
                }
            }
        }
        earliest
    }

    /// The indices in use.
    pub fn indices(&self) -> impl Iterator<Item = usize> + '_ {
        self.slots.iter().map(|(index, _)| index)
    }

    /// What a slot's connection holds beside it, bytes.
    fn beside_bytes(&self, index: usize) -> usize {
        let tls = self.tls.get(index).and_then(Option::as_ref);
        let takeover = self.takeovers.get(index).and_then(Option::as_ref);
        tls.map_or(0, |tls| tls.counted_bytes()) + takeover.map_or(0, |t| t.heap_bytes())
    }

    /// The slots whose connections hold at least `bytes` of memory, with how much they hold:
    /// shared frames that they owe included, since it may be they alone who keep them.
    #[must_use]
    pub fn heavier_than(&self, bytes: usize) -> Vec<(usize, usize)> {
        self.slots
            .iter()
            .filter(|(_, slot)| !slot.marks.has(Marks::BURIED))
            .map(|(index, slot)| (index, slot.conn.held_bytes() + self.beside_bytes(index)))
            .filter(|(_, held)| *held >= bytes)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn slot() -> Slot {
        let (socket, _) = Socket::pair(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
        Slot {
            socket: Some(socket),
            conn: Connection::new(0),
            peer: SocketAddr::from(([127, 0, 0, 1], 1)).into(),
            accepted_us: 0,
            endpoint: EndpointId(0),
            marks: Marks::default(),
            deflate: None,
        }
    }

    #[test]
    fn a_slot_and_its_columns_keep_to_the_budget() {
        let (slot, columns) = (Table::SLOT_BYTES, Table::COLUMN_BYTES);
        assert!(slot <= 160, "a slot takes {slot} B");
        assert!(slot + columns <= 176, "a connection takes {} B", slot + columns);
    }

    #[test]
    fn a_stale_id_names_nobody() {
        let mut table = Table::new(3, 4);
        let index = table.insert(slot());
        let first = table.id(index);
        assert!(table.find(first).is_some());
        table.free(index);
        assert!(table.find(first).is_none());
        assert_eq!(table.insert(slot()), index);
        assert!(table.find(first).is_none());
        assert_ne!(table.id(index), first);
    }

    #[test]
    fn a_sweep_finds_what_is_due_and_the_next() {
        let mut table = Table::new(0, 200);
        for _ in 0..200 {
            let index = table.insert(slot());
            table.rearm(index, 1000 + index as Tick);
        }
        table.arm(7, 5);
        table.arm(130, 9);
        let mut due = Vec::new();
        assert_eq!(table.sweep(6, &mut due), 9);
        assert_eq!(due, [7]);
        due.clear();
        assert_eq!(table.sweep(9, &mut due), 1000);
        assert_eq!(due, [7, 130]);
    }
}
