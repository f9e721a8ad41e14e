//! One event loop, on one screen.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use mio::{Events, Poll, Token};

use super::accept::Acceptor;
use super::gate::{Gate, Sent};
use super::table::{Marks, Table};
use super::topics::Topics;
use crate::app::{Shared, Snapshot};
use crate::config::Config;
use crate::connection::{Env, OutboxPool, Phase, Room, Tick};
use crate::limits::TICK_MS;
use crate::protocol::Spare;
use crate::routing::{EndpointId, adopt_executor};
use crate::telemetry::counters::{LoopCounters, RefusalCause};
use crate::telemetry::memory::{Component, LocalMemory};
use crate::telemetry::stages::{Stage, StageRecorder};
use crate::worker::{Alarm, Batch, LaneReceiver, LaneSender, Post, Shard};

/// The token of the loop's waker.
pub const WAKER: Token = Token(0);
/// The token of sockets passed by other loops.
pub(super) const HAND_OVER: Token = Token(1);
/// The token of the first listener.
pub(super) const LISTENERS: usize = 2;
/// The token of slot 0.
pub(super) const SLOTS: usize = 1024;

/// Most memory of one thing in a loop's pools: what a message assembled from pieces, or the answers
/// to one read, may take.
const POOLED_BYTES: usize = 72 * 1024;
/// Most memory of one of a loop's pools.
const POOL_BYTES: u64 = 4 * 1024 * 1024;

/// A connection that holds as much is shed at the ceiling, if none on its loop holds more.
const SHED_BYTES: u64 = 4096;

/// What a loop is made from.
#[derive(Debug)]
pub struct LoopParts {
    /// Which one it is.
    pub index: usize,
    /// Made by the main thread, with the waker in it.
    pub poll: Poll,
    /// Wakes this loop.
    pub alarm: Arc<Alarm>,
    /// What all threads see.
    pub shared: Arc<Shared>,
    /// Where posts arrive.
    pub mailbox: LaneReceiver<Box<Post>>,
    /// Where its batches come back.
    pub spare_batches: Receiver<Box<Batch>>,
    /// Where posts go back to the shards that made them.
    pub recycle_posts: Vec<Sender<Box<Post>>>,
    /// Where messages go.
    pub routing: Routing,
    /// Where connections come from.
    pub acceptor: Acceptor,
    /// What it counts.
    pub counters: Arc<LoopCounters>,
    /// What it times.
    pub stages: StageRecorder,
}

/// Where a loop's messages are routed.
#[derive(Debug)]
pub enum Routing {
    /// On worker threads, one lane each.
    Pool(Vec<LaneSender<Box<Batch>>>),
    /// On the loop itself, by the very same shard.
    Inline(Box<Shard>),
}

/// What each of a loop's two pools may keep. Pools are not in the ceiling's count: they are kept to
/// an eighth of it, all loops together.
fn pool_bytes(config: &Config) -> usize {
    (config.memory_limit_bytes / (16 * config.loops as u64)).min(POOL_BYTES) as usize
}

/// Memory and limits that connections work with.
#[derive(Debug)]
pub(super) struct Kit {
    pub(super) spare: Spare,
    pub(super) outboxes: OutboxPool,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) tick: Tick,
}

impl Kit {
    #[inline]
    pub(super) fn env(&mut self, endpoint: EndpointId) -> Env<'_> {
        let room = Room {
            limit_bytes: self.snapshot.config.outbound_limit_bytes,
            policy: self.snapshot.endpoint(endpoint).overflow,
        };
        Env {
            now: self.tick,
            decoder: self.snapshot.decoder,
            room,
            spare: &mut self.spare,
            outboxes: &mut self.outboxes,
        }
    }
}

/// An event loop: one poll, one table of connections, one thread.
#[derive(Debug)]
pub struct EventLoop {
    pub(super) index: usize,
    pub(super) poll: Poll,
    pub(super) alarm: Arc<Alarm>,
    pub(super) shared: Arc<Shared>,
    pub(super) mailbox: LaneReceiver<Box<Post>>,
    pub(super) spare_batches: Receiver<Box<Batch>>,
    pub(super) recycle_posts: Vec<Sender<Box<Post>>>,
    pub(super) routing: Routing,
    pub(super) acceptor: Acceptor,
    pub(super) counters: Arc<LoopCounters>,
    pub(super) stages: StageRecorder,
    pub(super) memory: LocalMemory,
    pub(super) table: Table,
    pub(super) topics: Topics,
    pub(super) gates: Vec<Gate>,
    pub(super) kit: Kit,
    pub(super) read_buffer: Vec<u8>,
    pub(super) run_queue: VecDeque<u32>,
    pub(super) flush_queue: VecDeque<u32>,
    /// Posts applied this turn, for the stages that end with its flush: read, routed, answers.
    pub(super) answered: Vec<(Instant, Instant, u32)>,
    pub(super) due: Vec<usize>,
    pub(super) next_sweep: Tick,
    /// When the turn began.
    pub(super) now: Instant,
    draining: bool,
    done: bool,
}

impl EventLoop {
    /// A loop without connections.
    ///
    /// # Errors
    /// When the acceptor's sockets cannot be polled.
    pub fn new(parts: LoopParts) -> io::Result<Self> {
        let LoopParts { index, poll, alarm, shared, mailbox, .. } = parts;
        let mut acceptor = parts.acceptor;
        acceptor.register(poll.registry())?;
        let shards = match &parts.routing {
            Routing::Pool(lanes) => lanes.len(),
            Routing::Inline(_) => 1,
        };
        let snapshot = shared.snapshot();
        let memory = LocalMemory::new(Arc::clone(&shared.memory));
        let table = Table::new(index, acceptor.slots());
        let pool_bytes = pool_bytes(&snapshot.config);
        let read_buffer = vec![0; snapshot.config.tuning.read_buffer_bytes];
        Ok(Self {
            index,
            poll,
            alarm,
            mailbox,
            spare_batches: parts.spare_batches,
            recycle_posts: parts.recycle_posts,
            routing: parts.routing,
            acceptor,
            counters: parts.counters,
            stages: parts.stages,
            memory,
            table,
            topics: Topics::default(),
            gates: (0..shards).map(|_| Gate::new()).collect(),
            kit: Kit {
                spare: Spare::new(256, 256, POOLED_BYTES).within(pool_bytes),
                outboxes: OutboxPool::new(1024, POOLED_BYTES).within(pool_bytes),
                snapshot,
                tick: 0,
            },
            read_buffer,
            run_queue: VecDeque::new(),
            flush_queue: VecDeque::new(),
            answered: Vec::new(),
            due: Vec::new(),
            next_sweep: Tick::MAX,
            now: shared.started_at,
            draining: false,
            done: false,
            shared,
        })
    }

    /// Runs until the gateway has drained, or is told to leave at once.
    pub fn run(mut self) {
        adopt_executor();
        let mut events = Events::with_capacity(1024);
        while !self.has_to_leave() {
            let timeout = self.timeout();
            self.wait(&mut events, timeout);
            let began = self.begin_turn();
            for event in &events {
                self.note_event(event);
            }
            self.drain_mailbox();
            self.serve_rooms();
            self.reopen_gates();
            self.accept();
            self.read_queued();
            self.send_batches();
            self.sweep_deadlines();
            self.shed_if_over_memory();
            self.flush_queued();
            self.end_turn(began, events.is_empty());
        }
        self.leave();
    }

    fn wait(&mut self, events: &mut Events, timeout: Option<Duration>) {
        let timeout = if timeout == Some(Duration::ZERO) {
            timeout
        } else {
            self.alarm.flag().announce_sleep();
            if self.last_look() { Some(Duration::ZERO) } else { timeout }
        };
        // Interrupted, or an impossible failure: either way the turn goes on without events.
        if self.poll.poll(events, timeout).is_err() {
            events.clear();
        }
        self.alarm.flag().awake();
    }

    /// Whether work has come, or room for work that was refused, since the turn's lanes were
    /// looked at. Refused sends are tried again, which registers for the ring.
    fn last_look(&mut self) -> bool {
        if !self.mailbox.is_empty()
            || self.shared.is_draining() != self.draining
            || self.shared.is_forced()
            || self.shared.loops_are_done()
        {
            return true;
        }
        match &mut self.routing {
            Routing::Inline(shard) => {
                let has_batch = self.gates[0].has_batch();
                shard.last_look(self.now) || has_batch && shard.is_ready()
            }
            Routing::Pool(_) => self.send_batches(),
        }
    }

    fn begin_turn(&mut self) -> Instant {
        self.now = Instant::now();
        let since = self.now.saturating_duration_since(self.shared.started_at);
        // Tick 0 is "not running" in a connection's stamps.
        self.kit.tick = (since.as_millis() as u64 / TICK_MS) as Tick + 1;
        self.counters.turns.add(1);
        if let Some(newer) = self.shared.newer_snapshot(&self.kit.snapshot) {
            self.kit.snapshot = newer;
            // Times may have become shorter: look at everyone once.
            self.table.rearm_all(self.kit.tick);
            self.next_sweep = self.kit.tick;
        }
        if self.shared.is_draining() && !self.draining {
            self.begin_drain();
        }
        self.now
    }

    fn end_turn(&mut self, began: Instant, idle: bool) {
        if !self.answered.is_empty() || !idle {
            let end = Instant::now();
            self.stages.record(Stage::LoopTurn, end - began, 1);
            for (read_at, routed_at, answers) in self.answered.drain(..) {
                let n = u64::from(answers);
                self.stages.record(Stage::RoutedToWritten, end - routed_at, n);
                self.stages.record(Stage::ReadToWritten, end - read_at, n);
            }
        }
        self.counters.connections.set(self.table.len() as u64);
        self.hand_over_figures();
        if self.draining && !self.done && self.table.is_empty() && self.gates_are_idle() {
            self.done = true;
            self.shared.loop_is_done();
        }
    }

    /// Lets the reporter have what was timed and counted: what it asked for, and all before sleep.
    fn hand_over_figures(&mut self) {
        let sleeps = self.run_queue.is_empty() && self.flush_queue.is_empty();
        if sleeps {
            self.settle_memory();
        }
        let inline = match &mut self.routing {
            Routing::Inline(shard) => Some(shard.stages()),
            Routing::Pool(_) => None,
        };
        for stages in [&mut self.stages].into_iter().chain(inline) {
            stages.publish_if_wanted();
            if sleeps {
                stages.publish_before_sleep();
            }
        }
    }

    fn gates_are_idle(&self) -> bool {
        self.gates.iter().all(Gate::is_idle)
    }

    fn has_to_leave(&self) -> bool {
        self.shared.is_forced() || self.done && self.shared.loops_are_done()
    }

    fn timeout(&self) -> Option<Duration> {
        if !self.run_queue.is_empty() || !self.flush_queue.is_empty() || self.acceptor.is_eager() {
            return Some(Duration::ZERO);
        }
        let next = self.next_sweep.min(self.acceptor.retry_at());
        (next != Tick::MAX).then(|| {
            let at = Duration::from_millis(u64::from(next.saturating_sub(1)) * TICK_MS);
            at.saturating_sub(self.shared.started_at.elapsed()) + Duration::from_millis(1)
        })
    }

    #[inline]
    fn note_event(&mut self, event: &mio::event::Event) {
        let token = event.token().0;
        if token < SLOTS {
            match event.token() {
                WAKER => {}
                HAND_OVER => self.acceptor.note_hand_over(),
                Token(listener) => self.acceptor.note_ready(listener - LISTENERS),
            }
            return;
        }
        let index = token - SLOTS;
        let Some(slot) = self.table.get_mut(index) else { return };
        if slot.marks.has(Marks::BURIED) {
            return;
        }
        let broken = event.is_error() || event.is_write_closed();
        if event.is_readable() || event.is_read_closed() || broken {
            slot.marks.set(Marks::READABLE);
        }
        if event.is_read_closed() || broken {
            slot.marks.set(Marks::HANGUP);
        }
        if event.is_writable() && slot.marks.has(Marks::WRITE_BLOCKED) {
            slot.marks.clear(Marks::WRITE_BLOCKED);
            self.queue_flush(index);
        }
        let Some(slot) = self.table.get_mut(index) else { return };
        let reads = slot.conn.wants_read() && !slot.marks.has(Marks::PAUSED);
        if reads {
            if slot.marks.has(Marks::READABLE) {
                self.queue_run(index);
            }
        } else if broken {
            // Nobody would read the error out of the socket: take it from the event.
            self.socket_failed(index);
        }
    }

    /// Queues a slot to be read from.
    #[inline]
    pub(super) fn queue_run(&mut self, index: usize) {
        let Some(slot) = self.table.get_mut(index) else { return };
        if !slot.marks.has(Marks::QUEUED) {
            slot.marks.set(Marks::QUEUED);
            self.run_queue.push_back(index as u32);
        }
    }

    /// Queues a slot to be written to, unless its socket takes nothing.
    #[inline]
    pub(super) fn queue_flush(&mut self, index: usize) {
        let Some(slot) = self.table.get_mut(index) else { return };
        if !slot.marks.has(Marks::FLUSHING) && !slot.marks.has(Marks::WRITE_BLOCKED) {
            slot.marks.set(Marks::FLUSHING);
            self.flush_queue.push_back(index as u32);
        }
    }

    /// Does what rooms whose home is this loop have to do (inline routing only).
    fn serve_rooms(&mut self) {
        let Routing::Inline(shard) = &mut self.routing else { return };
        let _ = shard.room_turn(self.now);
        self.apply_local();
    }

    /// Applies what the inline shard posts to its own loop.
    fn apply_local(&mut self) {
        loop {
            let Routing::Inline(shard) = &mut self.routing else { return };
            let Some(mut post) = shard.take_local() else { return };
            post.routed_at = Some(self.now);
            self.apply(&mut post);
            self.give_back(post);
        }
    }

    /// Sends what is gathered for the shards. Says whether any took something.
    pub(super) fn send_batches(&mut self) -> bool {
        let mut any = false;
        for shard in 0..self.gates.len() {
            any |= self.send_batch(shard);
        }
        any
    }

    /// Sends what is gathered for one shard, or routes it here.
    pub(super) fn send_batch(&mut self, shard: usize) -> bool {
        let freed = match &mut self.routing {
            Routing::Pool(lanes) => {
                let gate = &mut self.gates[shard];
                let bytes = gate.batch_heap_bytes();
                let sent = gate.send(&lanes[shard], &self.alarm);
                if matches!(sent, Sent::Accepted(_)) {
                    // The shard takes it off when it gives the batch back.
                    self.memory.add(Component::Arenas, bytes);
                }
                match sent {
                    Sent::Accepted(freed) => freed,
                    Sent::Nothing | Sent::Refused => return false,
                }
            }
            Routing::Inline(_) => match self.route_inline() {
                Some(freed) => freed,
                None => return false,
            },
        };
        for index in freed {
            self.free(index as usize);
        }
        true
    }

    fn route_inline(&mut self) -> Option<Vec<u32>> {
        let gate = &mut self.gates[0];
        let Routing::Inline(shard) = &mut self.routing else { return None };
        let mut progress = None;
        if !shard.is_ready() {
            let _ = shard.message_turn(self.now);
        }
        if shard.is_ready()
            && let Some((batch, closing)) = gate.take_batch()
        {
            self.memory.add(Component::Arenas, batch.heap_bytes());
            shard.begin(batch, self.now);
            let _ = shard.message_turn(self.now);
            progress = Some(closing);
        }
        let blocked = !shard.is_ready();
        gate.set_blocked(blocked);
        self.apply_local();
        progress
    }

    /// Reads on from connections whose shard takes messages again.
    fn reopen_gates(&mut self) {
        for shard in 0..self.gates.len() {
            if self.gates[shard].is_blocked() {
                self.send_batch(shard);
            }
            if self.gates[shard].is_blocked() {
                continue;
            }
            for index in std::mem::take(&mut self.gates[shard].paused) {
                self.resume(index as usize);
            }
            for index in std::mem::take(&mut self.gates[shard].buried) {
                self.tell_closed(index as usize, shard);
            }
        }
    }

    fn begin_drain(&mut self) {
        self.draining = true;
        self.acceptor.close();
        let indices: Vec<_> = self.table.indices().collect();
        for index in indices {
            self.drain_one(index);
        }
    }

    fn drain_one(&mut self, index: usize) {
        use crate::telemetry::counters::CloseCause;
        let Some(slot) = self.table.get_mut(index) else { return };
        match slot.conn.phase() {
            Phase::Handshake | Phase::Admitting => {
                self.refuse(index, RefusalCause::Shutdown);
            }
            Phase::Open => {
                let before = (slot.conn.outbox_bytes(), slot.conn.inbound_bytes());
                let mut env = self.kit.env(slot.endpoint);
                slot.conn.close_in_order(CloseCause::Shutdown, &mut env);
                self.note_memory(index, before);
                self.after_change(index);
            }
            _ => {}
        }
    }

    /// The last thing a loop does: counts what it had to leave behind.
    fn leave(mut self) {
        let indices: Vec<_> = self.table.indices().collect();
        for index in indices {
            use crate::telemetry::counters::CloseCause;
            if let Some(slot) = self.table.get_mut(index)
                && !slot.marks.has(Marks::BURIED)
            {
                slot.conn.failed(CloseCause::Shutdown);
                self.bury(index);
            }
        }
        self.settle_memory();
    }

    fn settle_memory(&mut self) {
        self.memory.settle();
        if let Routing::Inline(shard) = &mut self.routing {
            shard.settle_memory();
        }
    }

    /// The gate of a slot's shard.
    #[inline]
    pub(super) fn gate_of(&self, index: usize) -> usize {
        match &self.routing {
            Routing::Pool(lanes) => self.table.id(index).shard(lanes.len()),
            Routing::Inline(_) => 0,
        }
    }

    /// Frees slots at the memory ceiling: the heaviest first, until the total is below it again.
    fn shed_if_over_memory(&mut self) {
        if !self.shared.memory.over_limit() {
            return;
        }
        self.settle_memory();
        while self.shared.memory.over_limit() {
            let Some((index, bytes)) = self.table.heaviest() else { return };
            // Somewhere there is one that holds the mean of all, if it is connections that fill the
            // memory. Who holds much less is not the cause.
            let mean = self.shared.memory.total() / self.shared.total.get().max(1) as u64;
            if (bytes as u64) < SHED_BYTES.min(mean / 2) {
                return;
            }
            let Some(slot) = self.table.get_mut(index) else { return };
            let before = (slot.conn.outbox_bytes(), slot.conn.inbound_bytes());
            let mut env = self.kit.env(slot.endpoint);
            slot.conn.shed(&mut env);
            self.note_memory(index, before);
            self.after_change(index);
            self.memory.settle();
        }
    }

    /// Carries a change of one connection's memory into the count.
    #[inline]
    pub(super) fn note_memory(&mut self, index: usize, before: (usize, usize)) {
        let Some(slot) = self.table.get_mut(index) else { return };
        let (outbox, inbound) = (slot.conn.outbox_bytes(), slot.conn.inbound_bytes());
        self.note_memory_of(Component::Outbox, before.0, outbox);
        self.note_memory_of(Component::Inbound, before.1, inbound);
    }

    #[inline]
    fn note_memory_of(&mut self, component: Component, before: usize, after: usize) {
        if before != after {
            self.memory.change(component, after as i64 - before as i64);
            let counter = match component {
                Component::Outbox => &self.counters.outbox_bytes,
                _ => &self.counters.inbound_bytes,
            };
            counter.set(counter.get().wrapping_add(after as u64).wrapping_sub(before as u64));
        }
    }
}
