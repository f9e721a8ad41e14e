//! Bytes owed to one peer, in order, and what happens when they are too many.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::protocol::Framing;
use crate::telemetry::memory::{Charge, Component, MemoryGauge};

/// A frame encoded once and owed to many. Counted once, from encode to last drop.
#[derive(Debug)]
pub struct SharedFrame {
    bytes: Box<[u8]>,
    _charge: Charge,
}

impl SharedFrame {
    /// Takes the bytes of one whole message (one frame) and counts them.
    #[must_use]
    pub fn new(bytes: Box<[u8]>, memory: &Arc<MemoryGauge>) -> Self {
        let charge = Charge::new(memory, Component::Frames, bytes.len());
        Self { bytes, _charge: charge }
    }

    /// The wire bytes.
    #[inline]
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// What to do with publishes that a slow connection has no room for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OverflowPolicy {
    /// Close it; nothing but the Close follows.
    #[default]
    Close,
    /// Drop its oldest publishes of which no byte was written.
    DropOldest,
    /// Keep of each room's publishes only the latest, and drop the oldest if that is not enough.
    KeepLatest,
}

/// Publishes of one key replace each other under [`OverflowPolicy::KeepLatest`], but for [`NO_KEY`].
pub type SharedKey = u64;

/// The key of publishes that nothing replaces.
pub const NO_KEY: SharedKey = 0;

/// Limit and policy that an outbox is filled under.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Most bytes owed, entries' overhead included.
    pub limit_bytes: usize,
    /// What happens above it.
    pub policy: OverflowPolicy,
}

/// An outbox is over its limit and its policy could not help: the connection has to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overflow;

/// What an entry costs beside its bytes, for the limit.
pub(super) const ENTRY_OVERHEAD: usize = size_of::<Entry>();

/// Own bytes of consecutive replies are one entry up to this size: one slice in a `writev`. An
/// entry's bytes are freed when all of it is written, so it must not grow for ever.
const COALESCE_BYTES: usize = 32 * 1024;

/// Shared frames up to this size are copied under `close`: cheaper than the count and the slice.
const COPY_BYTES: usize = 512;

#[derive(Debug)]
enum Entry {
    /// The next `len` bytes of `own`. `framed`: whole frames, so boundaries can be found.
    Own { len: usize, framed: bool },
    /// A publish.
    Shared { frame: Arc<SharedFrame>, key: SharedKey },
}

/// Bytes owed to one peer.
#[derive(Debug, Default)]
pub struct Outbox {
    entries: VecDeque<Entry>,
    /// Bytes of `Own` entries, in their order, from `own_start` on.
    own: Vec<u8>,
    own_start: usize,
    /// Bytes of the front entry that are written.
    written: usize,
    /// Bytes owed plus overhead of entries.
    owed: usize,
    dropped_oldest: u32,
    replaced: u32,
}

impl Outbox {
    /// Whether nothing is owed.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes owed plus the overhead of entries: what the limit is held against.
    #[inline]
    #[must_use]
    pub fn owed_bytes(&self) -> usize {
        self.owed
    }

    /// Publishes dropped by (`drop-oldest`, `keep-latest`) since this was last asked, if any.
    #[inline]
    pub fn take_dropped(&mut self) -> Option<(u32, u32)> {
        let dropped = (self.dropped_oldest, self.replaced);
        if dropped == (0, 0) {
            return None;
        }
        (self.dropped_oldest, self.replaced) = (0, 0);
        Some(dropped)
    }

    /// Queues bytes of one's own: whole frames, or (`framed` false) an HTTP response.
    #[inline]
    pub fn push_own(&mut self, bytes: &[u8], framed: bool) {
        if bytes.is_empty() {
            return;
        }
        self.own.extend_from_slice(bytes);
        self.owed += bytes.len();
        if let Some(Entry::Own { len, framed: true }) = self.entries.back_mut()
            && framed
            && *len + bytes.len() <= COALESCE_BYTES
        {
            *len += bytes.len();
            return;
        }
        self.owed += ENTRY_OVERHEAD;
        self.entries.push_back(Entry::Own { len: bytes.len(), framed });
    }

    /// Queues a publish, by reference or, if small and never to be dropped alone, by copy.
    #[inline]
    pub fn push_shared(&mut self, frame: &Arc<SharedFrame>, key: SharedKey, room: Room) {
        if room.policy == OverflowPolicy::Close && frame.bytes().len() <= COPY_BYTES {
            return self.push_own(frame.bytes(), true);
        }
        if room.policy == OverflowPolicy::KeepLatest && key != NO_KEY {
            self.drop_publishes(Some(key), |outbox| {
                outbox.replaced += 1;
                true
            });
        }
        self.owed += frame.bytes().len() + ENTRY_OVERHEAD;
        self.entries.push_back(Entry::Shared { frame: Arc::clone(frame), key });
    }

    /// Holds the outbox against its limit, after something was queued.
    ///
    /// # Errors
    /// [`Overflow`] where the policy is to close, or where replies and control frames alone exceed
    /// the limit.
    #[inline]
    pub fn enforce(&mut self, room: Room) -> Result<(), Overflow> {
        if self.owed <= room.limit_bytes {
            return Ok(());
        }
        self.make_room(room)
    }

    #[cold]
    fn make_room(&mut self, room: Room) -> Result<(), Overflow> {
        if room.policy == OverflowPolicy::Close {
            return Err(Overflow);
        }
        self.drop_publishes(None, |outbox| {
            let over = outbox.owed > room.limit_bytes;
            outbox.dropped_oldest += u32::from(over);
            over
        });
        if self.owed <= room.limit_bytes { Ok(()) } else { Err(Overflow) }
    }

    /// Drops, oldest first, publishes (of `key`, if given) of which no byte was written and for
    /// which `wanted` says so.
    fn drop_publishes(
        &mut self,
        key: Option<SharedKey>,
        mut wanted: impl FnMut(&mut Self) -> bool,
    ) {
        let begun = self.written > 0;
        let mut index = usize::from(begun);
        while index < self.entries.len() {
            let freed = match &self.entries[index] {
                Entry::Shared { frame, key: k } if key.is_none_or(|key| key == *k) => {
                    frame.bytes().len() + ENTRY_OVERHEAD
                }
                _ => {
                    index += 1;
                    continue;
                }
            };
            if !wanted(self) {
                return;
            }
            self.entries.remove(index);
            self.owed -= freed;
        }
    }

    /// Drops all but what is left of a frame of which bytes are written, and of the answer to the
    /// upgrade: the peer must be able to read the Close behind it.
    pub fn keep_begun_frame_only(&mut self, framing: Framing) {
        let keep = match self.entries.front() {
            Some(Entry::Own { len, framed: false }) => *len,
            _ if self.written == 0 => 0,
            None => 0,
            Some(Entry::Shared { frame, .. }) => frame.bytes().len(),
            Some(Entry::Own { len, .. }) => {
                frame_end(framing, &self.own[self.own_start..self.own_start + len], self.written)
            }
        };
        // Between two frames nothing is begun.
        let keep = if keep == self.written { 0 } else { keep };
        self.entries.truncate(usize::from(keep > 0));
        let mut owed = 0;
        if let Some(front) = self.entries.front_mut() {
            owed = keep - self.written + ENTRY_OVERHEAD;
            if let Entry::Own { len, .. } = front {
                *len = keep;
                self.own.truncate(self.own_start + keep);
            } else {
                self.own.clear();
                self.own_start = 0;
            }
        } else {
            self.own.clear();
            (self.own_start, self.written) = (0, 0);
        }
        self.owed = owed;
        // This is done where memory is short, or held by one that is too slow for it.
        self.own.shrink_to_fit();
        self.entries.shrink_to_fit();
    }

    /// The next bytes to write, as up to `slices.len()` slices; says how many were filled.
    #[inline]
    pub fn slices<'a>(&'a self, slices: &mut [&'a [u8]]) -> usize {
        let mut own_at = self.own_start;
        let mut filled = 0;
        for (slot, entry) in slices.iter_mut().zip(&self.entries) {
            let bytes = match entry {
                Entry::Own { len, .. } => {
                    let bytes = &self.own[own_at..own_at + len];
                    own_at += len;
                    bytes
                }
                Entry::Shared { frame, .. } => frame.bytes(),
            };
            *slot = if filled == 0 { &bytes[self.written..] } else { bytes };
            filled += 1;
        }
        filled
    }

    /// All that is owed, where it lies in one piece: what one read's answers mostly do.
    #[inline]
    #[must_use]
    pub fn only_slice(&self) -> Option<&[u8]> {
        match self.entries.front()? {
            _ if self.entries.len() > 1 => None,
            Entry::Own { len, .. } => {
                self.own.get(self.own_start + self.written..self.own_start + len)
            }
            Entry::Shared { frame, .. } => frame.bytes().get(self.written..),
        }
    }

    /// Takes note that the next `n` bytes were written.
    #[inline]
    pub fn wrote(&mut self, n: usize) {
        self.written += n;
        self.owed -= n;
        while let Some(front) = self.entries.front() {
            let len = match front {
                Entry::Own { len, .. } => *len,
                Entry::Shared { frame, .. } => frame.bytes().len(),
            };
            if self.written < len {
                return;
            }
            self.written -= len;
            self.owed -= ENTRY_OVERHEAD;
            if matches!(front, Entry::Own { .. }) {
                self.own_start += len;
            }
            self.entries.pop_front();
        }
        debug_assert_eq!((self.written, self.owed), (0, 0));
        self.own.clear();
        self.own_start = 0;
    }

    /// Gives back memory in front of what is owed, so that a connection that never drains
    /// completely holds no more than it owes.
    pub fn compact(&mut self) {
        if self.own_start > COALESCE_BYTES && self.own_start * 2 > self.own.len() {
            self.own.drain(..self.own_start);
            self.own_start = 0;
        }
    }

    /// Bytes of memory that it holds, shared frames not included.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        size_of::<Self>() + self.own.capacity() + self.entries.capacity() * size_of::<Entry>()
    }

    fn clear(&mut self) {
        self.entries.clear();
        self.own.clear();
        (self.own_start, self.written, self.owed) = (0, 0, 0);
        (self.dropped_oldest, self.replaced) = (0, 0);
    }
}

/// Where the frame ends of which the byte before `written` is part; `frames` begins at a boundary.
fn frame_end(framing: Framing, frames: &[u8], written: usize) -> usize {
    let mut at = 0;
    while at < written {
        at += framing.frame_len(&frames[at..]);
    }
    at
}

/// Outboxes of connections that owe nothing, kept by their loop for those that will.
#[derive(Debug)]
pub struct OutboxPool {
    // Boxed, because it is the box that goes into a slot: 8 bytes there.
    #[expect(clippy::vec_box)]
    spare: Vec<Box<Outbox>>,
    max: usize,
    max_capacity_bytes: usize,
    /// Publishes that outboxes given back had dropped: (`drop-oldest`, `keep-latest`).
    dropped: (u32, u32),
    /// Memory of `spare`, at most `max_total_bytes`.
    total_bytes: usize,
    max_total_bytes: usize,
}

impl OutboxPool {
    /// Keeps up to `max` outboxes, none with more than `max_capacity_bytes` of memory.
    #[must_use]
    pub fn new(max: usize, max_capacity_bytes: usize) -> Self {
        let max_total_bytes = max.saturating_mul(max_capacity_bytes);
        Self {
            spare: Vec::new(),
            max,
            max_capacity_bytes,
            total_bytes: 0,
            max_total_bytes,
            dropped: (0, 0),
        }
    }

    /// Keeps no more than `bytes` of memory in all of them together.
    #[must_use]
    pub fn within(mut self, bytes: usize) -> Self {
        self.max_total_bytes = bytes;
        self
    }

    /// An empty outbox.
    #[inline]
    #[must_use]
    pub fn take(&mut self) -> Box<Outbox> {
        let Some(outbox) = self.spare.pop() else { return Box::default() };
        self.total_bytes -= outbox.heap_bytes();
        outbox
    }

    /// Takes an outbox back, whatever is in it.
    #[inline]
    pub fn give(&mut self, mut outbox: Box<Outbox>) {
        if let Some((oldest, replaced)) = outbox.take_dropped() {
            self.dropped.0 += oldest;
            self.dropped.1 += replaced;
        }
        if !outbox.is_empty() {
            outbox.clear();
        }
        let bytes = outbox.heap_bytes();
        if self.spare.len() < self.max
            && bytes <= self.max_capacity_bytes
            && self.total_bytes + bytes <= self.max_total_bytes
        {
            self.total_bytes += bytes;
            self.spare.push(outbox);
        }
    }

    /// Publishes that outboxes given back had dropped since this was last asked:
    /// (`drop-oldest`, `keep-latest`).
    pub fn take_dropped(&mut self) -> (u32, u32) {
        std::mem::take(&mut self.dropped)
    }
}

#[cfg(test)]
#[path = "outbox_tests.rs"]
mod tests;
