//! Outboxes of connections that owe nothing.

use super::outbox::{Dropped, Outbox};

/// Outboxes of connections that owe nothing, kept by their loop for those that will.
#[derive(Debug)]
pub struct OutboxPool {
    // Boxed, because it is the box that goes into a slot: 8 bytes there.
    #[expect(clippy::vec_box)]
    spare: Vec<Box<Outbox>>,
    max: usize,
    max_capacity_bytes: usize,
    /// What became of publishes in outboxes given back.
    dropped: Dropped,
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
            dropped: Dropped::default(),
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
        if let Some(Dropped { oldest, replaced, trims }) = outbox.take_dropped() {
            self.dropped.oldest += oldest;
            self.dropped.replaced += replaced;
            self.dropped.trims += trims;
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

    /// What became of publishes in outboxes that were given back since this was last asked.
    pub fn take_dropped(&mut self) -> Dropped {
        std::mem::take(&mut self.dropped)
    }
}
