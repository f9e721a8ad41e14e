//! Bytes owed to one peer, in order, and what happens when they are too many.
//!
//! Two bounds hold: the connection's limit for all that it is owed, and a publish's budget for what
//! is owed of the same account. Over one of them, publishes that may be dropped and of which no byte
//! is written are dropped, oldest first, down to three quarters of it, so that what is slow is not
//! trimmed at every publish. The newest publish goes only where the limit cannot be held otherwise.
//! Where what may not be dropped is over a bound, the connection has to be closed.

use std::collections::VecDeque;
use std::sync::Arc;

use super::outbound::{NO_BUDGET, NO_KEY, OverflowPolicy, SharedFrame, SharedKey};
use crate::protocol::Framing;

/// Limit and policy that an outbox is filled under.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Most bytes owed, entries' overhead included.
    pub limit_bytes: usize,
    /// What happens above it to publishes that have no policy of their own.
    pub policy: OverflowPolicy,
}

/// An outbox is over a bound and dropping could not help: the connection has to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overflow;

/// What an entry costs beside its bytes, for the limit.
pub(super) const ENTRY_OVERHEAD: usize = size_of::<Entry>();

/// Own bytes of consecutive replies are one entry up to this size: one slice in a `writev`. An
/// entry's bytes are freed when all of it is written, so it must not grow for ever.
const COALESCE_BYTES: usize = 32 * 1024;

/// Shared frames up to this size are copied under `close`: cheaper than the count and the slice.
const COPY_BYTES: usize = 512;

/// What became of publishes in an outbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Dropped for a bound.
    pub oldest: u32,
    /// Replaced by a later one of their key.
    pub replaced: u32,
    /// Times the connection began to be trimmed: it is being so until it owes less than half of the
    /// bound that it was over.
    pub trims: u32,
}

#[derive(Debug)]
enum Entry {
    /// The next `len` bytes of `own`. `framed`: whole frames, so boundaries can be found.
    Own { len: usize, framed: bool },
    /// A publish. `key`: what a later one that replaces it has. `may_drop`: its policy is not to
    /// close.
    Shared { frame: Arc<SharedFrame>, key: SharedKey, may_drop: bool },
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
    accounts: Accounts,
    /// While the connection is being trimmed, what it has to get below to be so no more; else 0.
    calm_bytes: usize,
    dropped: Dropped,
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

    /// What became of publishes since this was last asked, if anything has.
    #[inline]
    pub fn take_dropped(&mut self) -> Option<Dropped> {
        // Nobody is trimmed without anything being dropped.
        if self.dropped.oldest | self.dropped.replaced == 0 {
            return None;
        }
        Some(std::mem::take(&mut self.dropped))
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
    ///
    /// # Errors
    /// [`Overflow`] where it is over its budget and its policy is to close, or where what of the same
    /// account may not be dropped is over it.
    #[inline]
    pub fn push_shared(&mut self, frame: &Arc<SharedFrame>, room: Room) -> Result<(), Overflow> {
        let is_small = frame.bytes().len() <= COPY_BYTES;
        // As most are.
        if frame.is_plain() && room.policy == OverflowPolicy::Close {
            if is_small {
                self.push_own(frame.bytes(), true);
            } else {
                self.push_reference(frame, NO_KEY, false);
            }
            return Ok(());
        }
        let policy = frame.terms().outbound.policy.unwrap_or(room.policy);
        let has_budget = frame.budget_bytes() != NO_BUDGET;
        if policy == OverflowPolicy::Close && is_small && !has_budget {
            self.push_own(frame.bytes(), true);
            return Ok(());
        }
        let mut key = NO_KEY;
        if policy == OverflowPolicy::KeepLatest && frame.terms().key != NO_KEY {
            key = frame.terms().key;
            self.replace(key);
        }
        self.push_reference(frame, key, policy != OverflowPolicy::Close);
        if has_budget { self.hold_to_budget(frame, policy) } else { Ok(()) }
    }

    #[inline]
    fn push_reference(&mut self, frame: &Arc<SharedFrame>, key: SharedKey, may_drop: bool) {
        self.owed += cost(frame);
        self.entries.push_back(Entry::Shared { frame: Arc::clone(frame), key, may_drop });
    }

    /// Holds the outbox against its limit, after something was queued.
    ///
    /// # Errors
    /// [`Overflow`] where replies, control frames and publishes under `close` alone exceed the limit.
    #[inline]
    pub fn enforce(&mut self, room: Room) -> Result<(), Overflow> {
        if self.owed <= room.limit_bytes {
            return Ok(());
        }
        self.make_room(room.limit_bytes)
    }

    #[cold]
    fn make_room(&mut self, limit: usize) -> Result<(), Overflow> {
        let low = low_mark(limit);
        self.trim(limit, |owed, _, is_newest| owed > if is_newest { limit } else { low });
        if self.owed <= limit { Ok(()) } else { Err(Overflow) }
    }

    /// Charges the publish that was queued last to its account, and holds that to its budget.
    fn hold_to_budget(
        &mut self,
        frame: &SharedFrame,
        policy: OverflowPolicy,
    ) -> Result<(), Overflow> {
        let (of, budget) = (frame.terms().account, frame.budget_bytes());
        let (charged, alone) = (self.accounts.charge(frame), cost(frame));
        if charged <= budget || charged == alone {
            return Ok(());
        }
        if policy == OverflowPolicy::Close {
            return Err(Overflow);
        }
        let (mut left, low) = (charged, low_mark(budget));
        self.trim(budget, |_, frame, is_newest| {
            let drops = left > low && !is_newest && is_charged_to(frame, of);
            left -= if drops { cost(frame) } else { 0 };
            drops
        });
        // The newest may stay in any case, and what is begun has to.
        if left <= budget || left <= alone + self.begun_of(of) { Ok(()) } else { Err(Overflow) }
    }

    /// What a publish of which bytes are written is charged to an account, if there is one.
    fn begun_of(&self, account: u64) -> usize {
        match self.entries.front() {
            Some(Entry::Shared { frame, .. })
                if self.written > 0 && is_charged_to(frame, account) =>
            {
                cost(frame)
            }
            _ => 0,
        }
    }

    /// Drops publishes for being over a bound, oldest first: those that may be dropped, of which no
    /// byte is written, and for which `wanted` says so, which hears what is owed, the publish, and
    /// whether it is the newest.
    fn trim(&mut self, bound: usize, mut wanted: impl FnMut(usize, &SharedFrame, bool) -> bool) {
        let Self { entries, owed, accounts, .. } = self;
        let newest = entries.iter().rposition(|entry| matches!(entry, Entry::Shared { .. }));
        let (begun, before) = (usize::from(self.written > 0), entries.len());
        let mut index = 0;
        entries.retain(|entry| {
            index += 1;
            let Entry::Shared { frame, may_drop: true, .. } = entry else { return true };
            if index <= begun || !wanted(*owed, frame, Some(index - 1) == newest) {
                return true;
            }
            *owed -= cost(frame);
            accounts.discharge(frame);
            false
        });
        let dropped = before - entries.len();
        if dropped > 0 {
            self.dropped.oldest += dropped as u32;
            self.dropped.trims += u32::from(self.calm_bytes == 0);
            let calm = (bound / 2).max(1);
            self.calm_bytes = if self.calm_bytes == 0 { calm } else { calm.min(self.calm_bytes) };
        }
    }

    /// Drops the publish of a key, unless a byte of it is written. There is one at most.
    fn replace(&mut self, key: SharedKey) {
        let begun = usize::from(self.written > 0);
        let of_key = |entry: &Entry| matches!(entry, Entry::Shared { key: k, .. } if *k == key);
        let Some(at) = self.entries.iter().skip(begun).position(of_key) else { return };
        if let Some(Entry::Shared { frame, .. }) = self.entries.remove(begun + at) {
            self.owed -= cost(&frame);
            self.accounts.discharge(&frame);
            self.dropped.replaced += 1;
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
        self.accounts.clear();
        let mut owed = 0;
        if let Some(front) = self.entries.front_mut() {
            owed = keep - self.written + ENTRY_OVERHEAD;
            match front {
                Entry::Own { len, .. } => {
                    *len = keep;
                    self.own.truncate(self.own_start + keep);
                }
                Entry::Shared { frame, .. } => {
                    self.accounts.charge(frame);
                    self.own.clear();
                    self.own_start = 0;
                }
            }
        } else {
            self.own.clear();
            (self.own_start, self.written) = (0, 0);
        }
        (self.owed, self.calm_bytes) = (owed, 0);
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
                if self.owed < self.calm_bytes {
                    self.calm_bytes = 0;
                }
                return;
            }
            self.written -= len;
            self.owed -= ENTRY_OVERHEAD;
            match front {
                Entry::Own { .. } => self.own_start += len,
                Entry::Shared { frame, .. } => self.accounts.discharge(frame),
            }
            self.entries.pop_front();
        }
        debug_assert_eq!((self.written, self.owed), (0, 0));
        self.own.clear();
        (self.own_start, self.calm_bytes) = (0, 0);
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
        size_of::<Self>()
            + self.own.capacity()
            + self.entries.capacity() * size_of::<Entry>()
            + self.accounts.heap_bytes()
    }

    /// Forgets all that is owed.
    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.own.clear();
        self.accounts.clear();
        (self.own_start, self.written, self.owed, self.calm_bytes) = (0, 0, 0, 0);
        self.dropped = Dropped::default();
    }
}

/// What is owed of publishes that have a budget, by account. Those that are owed nothing have none.
#[derive(Debug, Default)]
struct Accounts(Vec<(u64, usize)>);

impl Accounts {
    /// Adds a publish to its account; answers what is on that then. One without a budget has none.
    fn charge(&mut self, frame: &SharedFrame) -> usize {
        if frame.budget_bytes() == NO_BUDGET {
            return 0;
        }
        let account = frame.terms().account;
        match self.0.iter_mut().find(|(of, _)| *of == account) {
            Some((_, bytes)) => {
                *bytes += cost(frame);
                *bytes
            }
            None => {
                self.0.push((account, cost(frame)));
                cost(frame)
            }
        }
    }

    /// Takes a publish off its account.
    #[inline]
    fn discharge(&mut self, frame: &SharedFrame) {
        if frame.budget_bytes() != NO_BUDGET {
            self.take_off(frame);
        }
    }

    fn take_off(&mut self, frame: &SharedFrame) {
        let at = self.0.iter().position(|(of, _)| *of == frame.terms().account);
        let Some(at) = at else { return debug_assert!(false, "what is queued is charged") };
        self.0[at].1 -= cost(frame);
        if self.0[at].1 == 0 {
            self.0.swap_remove(at);
        }
    }

    fn clear(&mut self) {
        self.0.clear();
    }

    fn heap_bytes(&self) -> usize {
        self.0.capacity() * size_of::<(u64, usize)>()
    }
}

/// What a publish counts for.
#[inline]
fn cost(frame: &SharedFrame) -> usize {
    frame.bytes().len() + ENTRY_OVERHEAD
}

fn is_charged_to(frame: &SharedFrame, of: u64) -> bool {
    frame.terms().account == of && frame.budget_bytes() != NO_BUDGET
}

/// Where trimming ends that begins above `bound`.
fn low_mark(bound: usize) -> usize {
    bound - bound / 4
}

/// Where the frame ends of which the byte before `written` is part; `frames` begins at a boundary.
fn frame_end(framing: Framing, frames: &[u8], written: usize) -> usize {
    let mut at = 0;
    while at < written {
        at += framing.frame_len(&frames[at..]);
    }
    at
}

#[cfg(test)]
#[path = "outbox_tests.rs"]
mod tests;
