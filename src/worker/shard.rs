//! One shard: the connections that are its own, and the rooms whose home it is.

use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::Sender;

use super::batch::{Batch, Run, Taken};
use super::lane::LaneReceiver;
use super::outgoing::{Flush, Outgoing};
use super::post::Post;
use super::state::State;
use crate::app::Snapshot;
use crate::channels::{Home, RoomBatch, RoomWork, Surroundings};
use crate::connection::Tick;
use crate::limits::TICK_MS;
use crate::routing::{Deferred, Gateway, take_deferred};
use crate::telemetry::counters::WorkerCounters;
use crate::telemetry::memory::{Component, LocalMemory};
use crate::telemetry::stages::{Stage, StageCell, StageRecorder};

/// What a shard is made from.
#[derive(Debug)]
pub struct ShardParts {
    /// Which one it is.
    pub index: usize,
    /// Where its posts and room work leave.
    pub out: Outgoing,
    /// Where room work arrives.
    pub rooms: LaneReceiver<Box<RoomBatch>>,
    /// The gateway, for handlers.
    pub gateway: Gateway,
    /// What it counts.
    pub counters: Arc<WorkerCounters>,
    /// What it times.
    pub stages: StageRecorder,
    /// Where batches go back to the loops that made them.
    pub recycle: Vec<Sender<Box<Batch>>>,
    /// The ceiling's count.
    pub memory: LocalMemory,
}

/// How far a message turn came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// All of the batch is routed and sent.
    Done,
    /// A send was refused: the rest waits.
    Blocked,
    /// With inline routing: the post for the own loop is to be applied before more is made.
    LocalFull,
}

/// Routes what its connections send, and orders what is said in its rooms.
#[derive(Debug)]
pub struct Shard {
    pub(super) parts: ShardParts,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) home: Home,
    pub(super) state: State,
    /// The batch at work, and how far it is done: a run, and an item of it.
    current: Option<(Box<Batch>, usize, usize)>,
}

impl Shard {
    /// A shard without connections or rooms.
    #[must_use]
    pub fn new(parts: ShardParts) -> Self {
        let snapshot = parts.gateway.shared.snapshot();
        let home = Home::new(parts.index, parts.gateway.shared.lanes().rooms.len());
        Self { parts, snapshot, home, state: State::new(), current: None }
    }

    /// Does what level 1 has to do now. `Blocked` if a post is kept: neither level may go on.
    pub fn room_turn(&mut self, now: Instant) -> Flush {
        if self.flush_posts(now) == Flush::Blocked {
            return Flush::Blocked;
        }
        self.refresh_snapshot();
        self.state.tick = self.parts.gateway.shared.tick_at(now);
        // What comes meanwhile is for the next turn: a busy room must not starve the rest.
        for _ in 0..self.parts.rooms.depth() {
            let Some(batch) = self.parts.rooms.take() else { break };
            self.parts.out.answering(None);
            // It may be about an endpoint that is newer than what this shard has seen.
            self.refresh_snapshot();
            for work in batch.work {
                self.apply_room_work(work);
            }
            if self.flush_posts(now) == Flush::Blocked {
                return Flush::Blocked;
            }
        }
        Flush::Done
    }

    /// Whether a new batch can be begun: nothing of an earlier one is left over.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.current.is_none() && self.parts.out.is_sent()
    }

    /// Begins a batch. To be called when [`is_ready`](Self::is_ready) only.
    pub fn begin(&mut self, batch: Box<Batch>, now: Instant) {
        debug_assert!(self.current.is_none());
        self.refresh_snapshot();
        let waited = now.saturating_duration_since(batch.read_at);
        self.parts.stages.record(Stage::ReadToRouted, waited, u64::from(batch.messages()));
        self.parts.counters.batches.add(1);
        self.parts.counters.messages.add(u64::from(batch.messages()));
        self.current = Some((batch, 0, 0));
    }

    /// Does what level 2 has to do, as far as sends allow. Level 1 is to be done first.
    pub fn message_turn(&mut self, now: Instant) -> Turn {
        self.state.tick = self.parts.gateway.shared.tick_at(now);
        self.state.moment = self.parts.gateway.shared.moment_at(now);
        loop {
            if self.flush_all(now) == Flush::Blocked {
                return Turn::Blocked;
            }
            if self.current.is_some() && self.parts.out.local_is_full() {
                return Turn::LocalFull;
            }
            let Some((batch, run, item)) = self.current.take() else { return Turn::Done };
            match self.route(&batch, run, item) {
                Some((run, item)) => self.current = Some((batch, run, item)),
                None => self.recycle(batch),
            }
        }
    }

    /// The last look before sleep: tries refused sends once more (which registers for the ring),
    /// and says whether there is anything to do.
    #[must_use]
    pub fn last_look(&mut self, now: Instant) -> bool {
        let before = self.parts.out.pending();
        let _ = self.flush_all(now);
        let out = &self.parts.out;
        out.pending() < before
            || out.posts_are_empty() && !self.parts.rooms.is_empty()
            || out.is_sent() && self.current.is_some()
    }

    /// The tick before which nothing here has a deadline, if anything has one.
    #[must_use]
    pub fn next_due(&self) -> Option<Tick> {
        let (asks, timeouts) = (self.state.asks.next_due(), self.state.timeouts.next_due());
        let unserved = (!self.state.unserved.is_empty()).then_some(self.state.tick + 1);
        let rooms = self.home.next_due().into_iter().chain(self.squeezed_rooms());
        asks.into_iter().chain(timeouts).chain(unserved).chain(rooms).min()
    }

    /// Rooms that are empty make way at once for what needs their memory, and at the end.
    fn squeezed_rooms(&self) -> Option<Tick> {
        let shared = &self.parts.gateway.shared;
        let have_to_go =
            self.home.has_empty_rooms() && (shared.is_draining() || shared.memory.over_limit());
        have_to_go.then_some(self.state.tick + 1)
    }

    /// Whether it runs on a loop.
    pub(super) fn is_inline(&self) -> bool {
        self.parts.out.is_local()
    }

    /// Takes the post for the loop that this shard runs on.
    pub fn take_local(&mut self) -> Option<Box<Post>> {
        self.parts.out.take_local()
    }

    /// What it times.
    pub fn stages(&mut self) -> &mut StageRecorder {
        &mut self.parts.stages
    }

    /// What it counts.
    #[must_use]
    pub fn counters(&self) -> &WorkerCounters {
        &self.parts.counters
    }

    /// What it counts, for those who read it.
    #[must_use]
    pub fn counters_handle(&self) -> Arc<WorkerCounters> {
        Arc::clone(&self.parts.counters)
    }

    /// Where what it times is collected from.
    #[must_use]
    pub fn stage_cell(&self) -> Arc<StageCell> {
        self.parts.stages.cell()
    }

    /// Settles what it holds back of the ceiling's count.
    pub fn settle_memory(&mut self) {
        self.count_names();
        self.parts.memory.settle();
    }

    fn count_names(&mut self) {
        let taken = self.state.sessions.bytes_taken();
        self.parts.memory.change(Component::Rooms, taken);
    }

    fn flush_posts(&mut self, now: Instant) -> Flush {
        let ShardParts { out, counters, memory, .. } = &mut self.parts;
        out.flush_posts(now, counters, memory)
    }

    fn flush_all(&mut self, now: Instant) -> Flush {
        let posts = self.flush_posts(now);
        let rooms = self.parts.out.flush_rooms(&self.parts.counters);
        if posts == Flush::Done && rooms == Flush::Done { Flush::Done } else { Flush::Blocked }
    }

    fn refresh_snapshot(&mut self) {
        if let Some(newer) = self.parts.gateway.shared.newer_snapshot(&self.snapshot) {
            self.snapshot = newer;
        }
    }

    fn recycle(&mut self, mut batch: Box<Batch>) {
        let from = batch.from_loop;
        self.parts.memory.sub(Component::Arenas, batch.heap_bytes());
        self.count_names();
        batch.reset(2 * self.snapshot.config.tuning.batch_bytes);
        // A full recycle lane only means that the loop has spare ones enough.
        let _ = self.parts.recycle[from].try_send(batch);
    }

    /// Routes items from `(run, item)` on; returns where it stopped to send first.
    fn route(&mut self, batch: &Batch, run: usize, item: usize) -> Option<(usize, usize)> {
        self.parts.out.answering(Some(batch.read_at));
        let mut skip = item;
        for (index, run) in batch.runs().iter().enumerate().skip(run) {
            for item in batch.items_of(run).skip(skip) {
                if self.parts.out.must_send() {
                    return Some((index, item - batch.items_of(run).start));
                }
                self.route_item(run, batch.item(item));
            }
            skip = 0;
        }
        None
    }

    #[inline]
    fn route_item(&mut self, run: &Run, item: Taken<'_>) {
        match item {
            Taken::Message { kind, over: None, payload } => self.route_message(run, kind, payload),
            Taken::Message { kind, over: Some(limit), payload } => {
                self.refuse_message(run, kind, payload, limit);
            }
            Taken::Admit { head } => self.admit(run, head),
            Taken::JoinThenAccept(accept) => self.join_then_accept(run, accept.clone()),
            Taken::Work { work, is_gone } => self.work(run, work.take(), is_gone),
            Taken::Notice(notice) => self.notice(run, notice),
            Taken::Control { pong, payload } => self.control(run, pong, payload),
            Taken::Closed { cause } => self.closed(run, cause),
        }
        self.send_deferred();
    }

    /// Sends on what handlers left behind for lanes, and does the room work that is its own.
    #[inline(always)]
    pub(super) fn send_deferred(&mut self) {
        let out = &mut self.parts.out;
        take_deferred(|deferred| match deferred {
            Deferred::Post(index, mut post) => {
                let (items, arena) = post.parts();
                out.post(index).append(items, arena);
            }
            Deferred::Room(home, work) => out.room_batch(home).work.push(work),
        });
        self.run_local_rooms();
    }

    /// Room work of which this shard is the home needs no lane: it is done in place, in order.
    #[inline]
    fn run_local_rooms(&mut self) {
        if self.parts.out.has_rooms() {
            self.apply_own_rooms();
        }
    }

    #[inline(never)]
    fn apply_own_rooms(&mut self) {
        if let Some(batch) = self.parts.out.take_rooms_for(self.parts.index) {
            for work in batch.work {
                self.apply_room_work(work);
            }
        }
    }

    fn apply_room_work(&mut self, work: RoomWork) {
        self.at_home(|home, around, out| home.apply(work, around, out));
    }

    pub(super) fn at_home(
        &mut self,
        act: impl FnOnce(&mut Home, &mut Surroundings<'_>, &mut Outgoing),
    ) {
        let ShardParts { gateway, counters, memory, out, .. } = &mut self.parts;
        let mut around = Surroundings {
            snapshot: &self.snapshot,
            ids: &gateway.shared.ids,
            counters,
            memory,
            now_ms: u64::from(self.state.tick.saturating_sub(1)) * TICK_MS,
            is_draining: gateway.shared.is_draining(),
        };
        act(&mut self.home, &mut around, out);
    }
}
