//! Compression between connections and what a loop's connections share for it.
//!
//! Invariants:
//! - Bytes are compressed when they enter an outbox, not when they leave it. What may be dropped from
//!   one, which are publishes and pushes, is compressed apart from all else; what is compressed with
//!   context takeover, which are answers, is never dropped: nothing refers to what was not sent.
//! - A connection without context takeover keeps nothing here.

use std::sync::Arc;

use super::event_loop::{EventLoop, Kit};
use super::table::Table;
use crate::connection::{Env, Inflate, SharedFrame};
use crate::protocol::deflate::{Agreed, DeflateSettings, Deflater, Deflaters, Inflater, Window};
use crate::protocol::first_frame;
use crate::routing::EndpointId;
use crate::telemetry::memory::{Component, LocalMemory};

/// Most memory to keep for answers on their way to an outbox, bytes.
const PACKED_MAX: usize = 64 * 1024;

/// What all of a loop's connections share.
#[derive(Debug)]
pub(super) struct DeflateKit {
    inflater: Inflater,
    deflaters: Deflaters,
    /// Empty; memory for answers that are being compressed.
    packed: Vec<u8>,
    /// What of it is in the ceiling's count.
    counted_bytes: usize,
    /// Bytes in and out that may still be inflated for the connection whose turn it is.
    left_bytes: u64,
}

impl DeflateKit {
    pub(super) fn new(settings: &DeflateSettings) -> Self {
        Self {
            inflater: Inflater::new(),
            deflaters: Deflaters::new(settings),
            packed: Vec::new(),
            counted_bytes: 0,
            left_bytes: 0,
        }
    }

    /// Compresses by other settings from here on.
    pub(super) fn adopt(&mut self, settings: &DeflateSettings) {
        self.deflaters = Deflaters::new(settings);
    }

    /// Carries what it holds into the ceiling's count.
    pub(super) fn count(&mut self, memory: &mut LocalMemory) {
        let now = self.inflater.heap_bytes() + self.deflaters.heap_bytes() + self.packed.capacity();
        memory.recount(Component::Deflate, &mut self.counted_bytes, now);
    }
}

/// What one connection with context takeover keeps: what later messages of it may refer to.
#[derive(Debug, Default)]
pub(super) struct Takeover {
    /// What the client has said.
    window: Option<Window>,
    /// Has taken in what the client was sent.
    deflater: Option<Box<Deflater>>,
    /// What of it is in the ceiling's count.
    counted_bytes: usize,
}

impl Takeover {
    /// Whether a connection has any.
    #[inline]
    pub(super) fn is_for(agreed: Agreed) -> bool {
        agreed.client_takeover() || agreed.server_takeover()
    }

    /// What it takes of the heap, bytes.
    pub(super) fn heap_bytes(&self) -> usize {
        let window = self.window.as_ref().map_or(0, Window::heap_bytes);
        let deflater = self.deflater.as_ref();
        let deflater = deflater.map_or(0, |d| size_of::<Deflater>() + d.heap_bytes());
        size_of::<Self>() + window + deflater
    }

    fn window(&mut self, agreed: Agreed) -> Option<&mut Window> {
        let bits = agreed.client_takeover().then(|| agreed.client_window_bits())?;
        Some(self.window.get_or_insert_with(|| Window::new(bits)))
    }

    fn count(&mut self, memory: &mut LocalMemory) {
        let now = self.heap_bytes();
        memory.recount(Component::Deflate, &mut self.counted_bytes, now);
    }
}

impl Kit {
    /// What a connection with compression reads with.
    pub(super) fn env_inflating<'a>(
        &'a mut self,
        endpoint: EndpointId,
        agreed: Agreed,
        takeover: Option<&'a mut Takeover>,
    ) -> Env<'a> {
        let window = takeover.and_then(|takeover| takeover.window(agreed));
        let (mut env, deflate) = self.env_and_deflate(endpoint);
        env.decoder.deflate = true;
        env.inflate = Some(Inflate {
            inflater: &mut deflate.inflater,
            window,
            budget_bytes: deflate.left_bytes,
            messages: 0,
        });
        env
    }
}

impl EventLoop {
    /// A connection may inflate anew.
    #[inline]
    pub(super) fn begin_inflating(&mut self) {
        self.kit.deflate.left_bytes = self.kit.snapshot.config.tuning.inflate_bytes_per_turn;
    }

    /// Notes that a connection has inflated so many messages: what is left of its budget is
    /// `left_bytes`.
    pub(super) fn has_inflated(&mut self, index: usize, messages: u32, left_bytes: u64) {
        self.kit.deflate.left_bytes = left_bytes;
        self.counters.messages_inflated.add(messages.into());
        self.count_takeover(index);
    }

    /// Answers of a connection with compression, as it gets them. The memory is to be given back by
    /// [`unpacked`](Self::unpacked).
    pub(super) fn pack(&mut self, index: usize, agreed: Agreed, frames: &[u8]) -> Vec<u8> {
        let Self { table, kit, counters, .. } = self;
        let DeflateKit { deflaters, packed, .. } = &mut kit.deflate;
        let mut packed = std::mem::take(packed);
        let mut rest = frames;
        while !rest.is_empty() {
            let first = first_frame(rest);
            rest = first.rest;
            let Some((kind, message)) = first.message.filter(|(_, m)| !deflaters.is_short(m.len()))
            else {
                packed.extend_from_slice(first.frame);
                continue;
            };
            let is_compressed = match dedicated(table, index, agreed, deflaters) {
                Some(own) => deflaters.put_dedicated_frame(own, kind, message, &mut packed),
                None => deflaters.put_frame(agreed.class(), kind, message, &mut packed),
            };
            counters.messages_deflated.add(u64::from(is_compressed));
        }
        self.count_takeover(index);
        packed
    }

    /// Gives back the memory of answers that were compressed.
    pub(super) fn unpacked(&mut self, mut packed: Vec<u8>) {
        if packed.capacity() <= PACKED_MAX {
            packed.clear();
            self.kit.deflate.packed = packed;
        }
    }

    /// A shared frame as a connection with compression gets it.
    pub(super) fn packed_frame<'a>(
        &mut self,
        index: usize,
        agreed: Agreed,
        frame: &'a Arc<SharedFrame>,
    ) -> &'a Arc<SharedFrame> {
        let deflaters = &mut self.kit.deflate.deflaters;
        let Some(compressed) = frame.compressed(agreed.class(), deflaters) else { return frame };
        self.counters.messages_deflated.add(1);
        if agreed.server_takeover()
            && let Some((_, _, Some(takeover))) = self.table.with_takeover(index)
            && let Some(deflater) = &mut takeover.deflater
        {
            // The client will take later references to be to this, of which it knows nothing.
            deflater.forget();
        }
        compressed
    }

    /// Lets go of what a connection keeps for context takeover.
    pub(super) fn end_deflate(&mut self, index: usize) {
        if let Some(takeover) = self.table.take_takeover(index) {
            self.memory.sub(Component::Deflate, takeover.counted_bytes);
        }
    }

    fn count_takeover(&mut self, index: usize) {
        if let Some((_, _, Some(takeover))) = self.table.with_takeover(index) {
            takeover.count(&mut self.memory);
        }
    }
}

/// A connection's own compressor, if it has to have one.
fn dedicated<'a>(
    table: &'a mut Table,
    index: usize,
    agreed: Agreed,
    deflaters: &Deflaters,
) -> Option<&'a mut Deflater> {
    if !agreed.server_takeover() {
        return None;
    }
    let (_, _, takeover) = table.with_takeover(index)?;
    Some(takeover?.deflater.get_or_insert_with(|| Box::new(deflaters.dedicated(agreed))))
}
