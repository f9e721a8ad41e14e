//! The way from a loop to one shard: the batch that is being filled, and who waits for it.

use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::Receiver;

use crate::connection::Sink;
use crate::id::ConnId;
use crate::peer::Peer;
use crate::protocol::MessageKind;
use crate::quota::{Limit, Meter};
use crate::routing::{EndpointId, Notices, Twins};
use crate::telemetry::counters::{DropCause, LoopCounters};
use crate::worker::{Alarm, Batch, LaneSender, Refused};

/// Messages above this size keep the memory that they were assembled in instead of being copied.
const BIG_MESSAGE_BYTES: usize = 32 * 1024;

/// One shard, as a loop sees it.
#[derive(Debug)]
pub(super) struct Gate {
    batch: Option<Box<Batch>>,
    /// The shard did not take the last batch. Its connections are not read from.
    blocked: bool,
    /// Slots that have something to read and may not.
    pub paused: Vec<u32>,
    /// Slots that have ended while the shard was blocked.
    pub buried: Vec<u32>,
    /// Slots whose end is in `batch`.
    closing: Vec<u32>,
}

/// What became of a batch.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// There was none.
    Nothing,
    /// The shard has it: so many bytes of memory. Slots whose end was in it are free.
    Accepted {
        /// Slots whose end was in it.
        freed: Vec<u32>,
        /// Bytes of memory that are on their way with it.
        heap_bytes: usize,
    },
    /// It is kept.
    Refused,
}

impl Gate {
    /// An open gate.
    #[must_use]
    pub(super) fn new() -> Self {
        Self {
            batch: None,
            blocked: false,
            paused: Vec::new(),
            buried: Vec::new(),
            closing: Vec::new(),
        }
    }

    /// Whether the shard takes nothing now.
    #[inline]
    #[must_use]
    pub(super) fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// Sets whether the shard takes nothing now.
    pub(super) fn set_blocked(&mut self, blocked: bool) {
        self.blocked = blocked;
    }

    /// Whether nothing waits to be sent and nobody to be freed.
    #[must_use]
    pub(super) fn is_idle(&self) -> bool {
        !self.has_batch() && self.buried.is_empty()
    }

    /// Whether a batch waits.
    #[must_use]
    pub(super) fn has_batch(&self) -> bool {
        self.batch.as_ref().is_some_and(|batch| !batch.is_empty())
    }

    /// Whether the batch should leave before its turn ends.
    #[inline]
    #[must_use]
    pub(super) fn is_full(&self, max_bytes: usize, max_messages: usize) -> bool {
        self.batch.as_ref().is_some_and(|batch| {
            batch.bytes() >= max_bytes || batch.messages() as usize >= max_messages
        })
    }

    /// The batch to add to.
    #[inline]
    pub(super) fn batch(
        &mut self,
        from: usize,
        now: Instant,
        spare: &Receiver<Box<Batch>>,
    ) -> &mut Batch {
        let batch = self
            .batch
            .get_or_insert_with(|| spare.try_recv().unwrap_or_else(|_| Batch::new(from, now)));
        if batch.is_empty() {
            batch.read_at = now;
        }
        batch
    }

    /// Notes that the slot's end is in the batch.
    pub(super) fn note_closing(&mut self, slot: u32) {
        self.closing.push(slot);
    }

    /// Takes the batch, to be routed inline; the slots whose end is in it are free after that.
    pub(super) fn take_batch(&mut self) -> Option<(Box<Batch>, Vec<u32>)> {
        let batch = self.batch.take_if(|batch| !batch.is_empty())?;
        Some((batch, std::mem::take(&mut self.closing)))
    }

    /// Sends the batch to the shard's worker.
    pub(super) fn send(&mut self, lane: &LaneSender<Box<Batch>>, me: &Arc<Alarm>) -> Sent {
        let Some(batch) = self.batch.take_if(|batch| !batch.is_empty()) else {
            return Sent::Nothing;
        };
        let heap_bytes = batch.heap_bytes();
        match lane.offer(batch, me) {
            Ok(()) => {
                self.blocked = false;
                Sent::Accepted { freed: std::mem::take(&mut self.closing), heap_bytes }
            }
            // A worker that is gone takes no more messages; its connections end with the gateway.
            Err(Refused::Gone(_)) => {
                self.blocked = false;
                Sent::Accepted { freed: std::mem::take(&mut self.closing), heap_bytes: 0 }
            }
            Err(Refused::Full(batch)) => {
                self.batch = Some(batch);
                self.blocked = true;
                Sent::Refused
            }
        }
    }
}

/// Puts one connection's messages into its shard's batch.
#[derive(Debug)]
pub(super) struct BatchSink<'a> {
    pub(super) batch: &'a mut Batch,
    pub(super) conn: ConnId,
    pub(super) endpoint: EndpointId,
    pub(super) peer: Peer,
    pub(super) counters: &'a LoopCounters,
    pub(super) notices: Notices,
    pub(super) twins: Twins,
    /// Where its endpoint or the gateway has limits.
    pub(super) meter: Option<Meter<'a>>,
    /// The next message is over this limit.
    pub(super) refused: Option<Limit>,
}

impl Sink for BatchSink<'_> {
    #[inline]
    fn admits(&mut self, bytes: usize) -> bool {
        self.meter.is_none() || self.meter_message(bytes)
    }

    #[inline]
    fn message(&mut self, kind: MessageKind, payload: &[u8]) {
        self.counters.messages_in.add(1);
        self.find_dialect(kind, payload);
        self.begin_run();
        self.batch.push_message(kind, payload);
        self.mark_refused();
    }

    fn assembled(&mut self, kind: MessageKind, payload: Vec<u8>) -> Option<Vec<u8>> {
        self.counters.messages_in.add(1);
        self.find_dialect(kind, &payload);
        self.begin_run();
        if payload.len() <= BIG_MESSAGE_BYTES {
            self.batch.push_message(kind, &payload);
            self.mark_refused();
            return Some(payload);
        }
        self.batch.push_big(kind, payload);
        self.mark_refused();
        None
    }

    fn pinged(&mut self, payload: &[u8]) {
        self.counters.pings_in.add(1);
        if self.notices.has(Notices::PING) {
            self.begin_run();
            self.batch.push_control(false, payload);
        }
    }

    fn ponged(&mut self, payload: &[u8]) {
        if self.notices.has(Notices::PONG) {
            self.begin_run();
            self.batch.push_control(true, payload);
        }
    }

    fn discarded(&mut self) {
        self.counters.drops.at(DropCause::InboundAfterClose as usize).add(1);
    }
}

impl BatchSink<'_> {
    /// Finds out which of its endpoint's dialects a connection speaks, where that is not settled.
    #[inline]
    fn find_dialect(&mut self, kind: MessageKind, payload: &[u8]) {
        if self.twins.is_open() {
            self.endpoint = self.twins.spoken(kind, payload).unwrap_or(self.endpoint);
            self.twins = Twins::default();
        }
    }

    #[inline]
    fn mark_refused(&mut self) {
        if let Some(limit) = self.refused.take() {
            self.batch.mark_over(limit);
        }
    }

    #[inline]
    fn begin_run(&mut self) {
        self.batch.begin_run(self.conn, self.endpoint, self.peer);
    }
}
