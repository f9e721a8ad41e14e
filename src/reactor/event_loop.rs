//! One event loop, on one screen.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use mio::{Events, Poll, Token};

use super::accept::Acceptor;
use super::deflate::DeflateKit;
use super::gate::Gate;
use super::table::{Marks, Table};
use super::tls::TlsKit;
use super::topics::Topics;
use crate::app::{Load, Shared, Snapshot};
use crate::config::Config;
use crate::connection::{Env, OutboxPool, Room, Tick, Timeouts};
use crate::id::ConnId;
use crate::protocol::{Decoder, Spare};
use crate::quota;
use crate::routing::{Endpoint, EndpointId, Notices, Twins, adopt_executor};
use crate::telemetry::counters::LoopCounters;
use crate::telemetry::memory::LocalMemory;
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

/// Events taken from the kernel per turn. What is read in a turn is written at its end: with many
/// more, the sockets' state has left the cache by then (1,024 cost 5 % more at 5,000 connections).
pub(super) const EVENTS: usize = 128;
/// Most memory of one thing in a loop's pools: what a message assembled from pieces, or the answers
/// to one read, may take.
const POOLED_BYTES: usize = 72 * 1024;
/// Outboxes kept for connections that will owe something: as many as one publish may fill.
const OUTBOXES: usize = 4096;
/// Most memory of one of a loop's pools.
const POOL_BYTES: u64 = 4 * 1024 * 1024;

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
    /// Of each of the snapshot's endpoints: what every message needs, at hand.
    terms: Vec<Terms>,
    /// Of each of them: how many connections it may have.
    places: Vec<Option<Places>>,
    /// Whether any has limits on what comes in.
    has_limits: bool,
    pub(super) tick: Tick,
    pub(super) tls: TlsKit,
    pub(super) deflate: DeflateKit,
    /// When the turn began, if anything has limits.
    pub(super) moment: quota::Moment,
}

/// How many connections an endpoint may have, on all loops together, and has.
#[derive(Debug)]
pub(super) struct Places {
    pub(super) max: usize,
    pub(super) held: Arc<Load>,
}

/// What the connections of one endpoint are held to.
#[derive(Clone, Copy, Debug)]
struct Terms {
    room: Room,
    decoder: Decoder,
    timeouts: Timeouts,
    /// What its shards are to be told.
    notices: Notices,
    /// Which other endpoints' dialects its connections may turn out to speak.
    twins: Twins,
    /// What they may send.
    limits: Option<quota::Terms>,
}

/// The terms of each endpoint.
fn terms(snapshot: &Snapshot) -> Vec<Terms> {
    let Config { outbound_limit_bytes, max_message_bytes, max_frame_bytes, .. } = snapshot.config;
    let least = |own: Option<usize>, limit: usize| own.unwrap_or(limit).min(limit);
    let of = |endpoint: &Arc<Endpoint>| Terms {
        room: Room {
            limit_bytes: least(endpoint.outbound_limit_bytes, outbound_limit_bytes),
            policy: endpoint.overflow,
        },
        decoder: Decoder {
            framing: endpoint.framing,
            max_message_bytes: least(endpoint.max_message_bytes, max_message_bytes),
            max_frame_bytes: least(endpoint.max_message_bytes, max_frame_bytes),
            ..snapshot.decoder
        },
        timeouts: snapshot.timeouts_of(endpoint),
        notices: endpoint.hooks.notices,
        twins: endpoint.twins.by_magic,
        limits: quota::Terms::new(&endpoint.limits, snapshot.config.bandwidth()),
    };
    snapshot.endpoints().iter().map(of).collect()
}

/// The places of each endpoint.
fn places(snapshot: &Snapshot, shared: &Shared) -> Vec<Option<Places>> {
    let of = |endpoint: &Arc<Endpoint>| {
        let max = endpoint.max_connections?;
        Some(Places { max, held: shared.places_at(endpoint.path.as_str()) })
    };
    snapshot.endpoints().iter().map(of).collect()
}

impl Kit {
    fn new(snapshot: Arc<Snapshot>, shared: &Shared) -> Self {
        let pool_bytes = pool_bytes(&snapshot.config);
        let mut kit = Self {
            spare: Spare::new(256, 256, POOLED_BYTES).within(pool_bytes),
            outboxes: OutboxPool::new(OUTBOXES, POOLED_BYTES).within(pool_bytes),
            terms: Vec::new(),
            places: Vec::new(),
            has_limits: false,
            snapshot: Arc::clone(&snapshot),
            tick: 0,
            tls: TlsKit::default(),
            deflate: DeflateKit::new(&snapshot.config.deflate),
            moment: quota::Moment::default(),
        };
        kit.adopt(snapshot, shared);
        kit
    }

    fn adopt(&mut self, snapshot: Arc<Snapshot>, shared: &Shared) {
        if snapshot.config.deflate != self.snapshot.config.deflate {
            self.deflate.adopt(&snapshot.config.deflate);
        }
        self.terms = terms(&snapshot);
        self.places = places(&snapshot, shared);
        self.has_limits = self.terms.iter().any(|terms| terms.limits.is_some());
        self.snapshot = snapshot;
    }

    /// Whether anybody is limited in what comes in.
    #[inline]
    pub(super) fn has_limits(&self) -> bool {
        self.has_limits
    }

    /// What connections of an endpoint may send, and what one of them has of the bandwidth now.
    pub(super) fn limits<'a>(
        &self,
        endpoint: EndpointId,
        shared: &'a Shared,
    ) -> Option<(&quota::Terms, Option<quota::Share<'a>>)> {
        let terms = self.terms[usize::from(endpoint.0)].limits.as_ref()?;
        let bandwidth = self.snapshot.config.bandwidth();
        let share = bandwidth.map(|limit| limit.share(shared.total.get(), &shared.bandwidth));
        Some((terms, share))
    }

    /// Most bytes to read at once from a connection of an endpoint.
    #[inline]
    pub(super) fn read_max(&self, endpoint: EndpointId, shared: &Shared) -> usize {
        let Some(terms) = &self.terms[usize::from(endpoint.0)].limits else { return usize::MAX };
        let bandwidth = self.snapshot.config.bandwidth();
        let shared = bandwidth.map(|limit| limit.read_max(shared.total.get()));
        terms.read_max.min(shared.unwrap_or(usize::MAX))
    }

    /// How many connections an endpoint may have and has; `None` if it may have any number.
    pub(super) fn places(&self, endpoint: EndpointId) -> Option<&Places> {
        self.places[usize::from(endpoint.0)].as_ref()
    }

    /// Bytes that may be owed to one connection of an endpoint.
    #[inline]
    pub(super) fn outbound_limit(&self, endpoint: EndpointId) -> usize {
        self.terms[usize::from(endpoint.0)].room.limit_bytes
    }

    /// The times that hold for connections of an endpoint.
    #[inline]
    pub(super) fn timeouts(&self, endpoint: EndpointId) -> &Timeouts {
        &self.terms[usize::from(endpoint.0)].timeouts
    }

    /// What shards are to be told of an endpoint's connections, and what these may turn out to speak.
    #[inline]
    pub(super) fn wanted(&self, endpoint: EndpointId) -> (Notices, Twins) {
        let Terms { notices, twins, .. } = self.terms[usize::from(endpoint.0)];
        (notices, twins)
    }

    #[inline]
    pub(super) fn env(&mut self, endpoint: EndpointId) -> Env<'_> {
        self.env_and_deflate(endpoint).0
    }

    #[inline]
    pub(super) fn env_and_deflate(&mut self, endpoint: EndpointId) -> (Env<'_>, &mut DeflateKit) {
        let Terms { room, decoder, .. } = self.terms[usize::from(endpoint.0)];
        let (spare, outboxes) = (&mut self.spare, &mut self.outboxes);
        let env = Env { now: self.tick, decoder, room, spare, outboxes, inflate: None };
        (env, &mut self.deflate)
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
    /// Turns on end in which not all events were seen.
    pub(super) unswept: u32,
    /// When the turn began.
    pub(super) now: Instant,
    /// Request heads that may still be decided on in this turn.
    pub(super) handshakes_left: usize,
    /// The tick at which shedding last had nothing left to shed.
    pub(super) last_shed: Tick,
    pub(super) draining: bool,
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
        let read_buffer = vec![0; read_buffer_bytes(&snapshot)];
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
            kit: Kit::new(snapshot, &shared),
            read_buffer,
            run_queue: VecDeque::new(),
            flush_queue: VecDeque::new(),
            answered: Vec::new(),
            due: Vec::new(),
            next_sweep: Tick::MAX,
            unswept: 0,
            now: shared.started_at,
            handshakes_left: 0,
            last_shed: 0,
            draining: false,
            done: false,
            shared,
        })
    }

    /// Runs until the gateway has drained, or is told to leave at once.
    pub fn run(mut self) {
        adopt_executor();
        let mut events = Events::with_capacity(EVENTS);
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
            self.shed_if_over_memory();
            self.flush_queued();
            // A full batch of events means that more wait unseen: peers that have spoken must not
            // be taken for silent ones, however long this loop was held up.
            let seen_all = events.iter().count() < EVENTS;
            self.sweep_deadlines(seen_all);
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
            || self.shared.loops_may_leave()
            || self.shared.newer_snapshot(&self.kit.snapshot).is_some()
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
        self.kit.tick = self.shared.tick_at(self.now);
        self.counters.turns.add(1);
        self.begin_inflating();
        let tuning = &self.kit.snapshot.config.tuning;
        self.handshakes_left = tuning.handshakes_per_turn;
        self.kit.tls.handshakes_left = tuning.tls_handshakes_per_turn;
        if let Some(newer) = self.shared.newer_snapshot(&self.kit.snapshot) {
            self.kit.adopt(newer, &self.shared);
            // Never less: heads that were kept under the old limits have to fit.
            let wanted = read_buffer_bytes(&self.kit.snapshot);
            self.read_buffer.resize(wanted.max(self.read_buffer.len()), 0);
            // Times may have become shorter: look at everyone once.
            self.table.rearm_all(self.kit.tick);
            self.next_sweep = self.kit.tick;
        }
        if self.kit.has_limits {
            self.kit.moment = self.shared.moment_at(self.now);
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
        let dropped = self.kit.outboxes.take_dropped();
        self.count_dropped(dropped);
        self.counters.connections.set(self.table.len() as u64);
        self.hand_over_figures();
        if self.draining && !self.done && self.table.is_empty() && self.gates_are_idle() {
            self.done = true;
            self.shared.loop_is_done();
        }
    }

    /// Lets the reporter have what was timed and counted: what it asked for, and all before sleep.
    fn hand_over_figures(&mut self) {
        let sleeps = !self.has_queued();
        if sleeps {
            self.kit.deflate.count(&mut self.memory);
            self.memory.settle();
        }
        let mut inline = None;
        if let Routing::Inline(shard) = &mut self.routing {
            if sleeps {
                shard.settle_memory();
            }
            inline = Some(shard.stages());
        }
        for stages in [&mut self.stages].into_iter().chain(inline) {
            stages.publish_if_wanted();
            if sleeps {
                stages.publish_before_sleep();
            }
        }
    }

    /// Whether anything that stopped for a budget goes on next turn.
    #[inline]
    fn has_queued(&self) -> bool {
        !self.run_queue.is_empty()
            || !self.flush_queue.is_empty()
            || !self.kit.tls.waiting.is_empty()
    }

    fn gates_are_idle(&self) -> bool {
        self.gates.iter().all(Gate::is_idle)
    }

    fn has_to_leave(&self) -> bool {
        self.shared.is_forced() || self.done && self.shared.loops_may_leave()
    }

    fn timeout(&self) -> Option<Duration> {
        if self.has_queued() || self.acceptor.is_eager() {
            return Some(Duration::ZERO);
        }
        let mut next = self.next_sweep.min(self.acceptor.retry_at());
        if self.shared.memory.over_limit() {
            next = next.min(self.kit.tick + 1);
        }
        if let Routing::Inline(shard) = &self.routing {
            next = next.min(shard.next_due().unwrap_or(Tick::MAX));
        }
        (next != Tick::MAX).then(|| self.shared.time_until(next))
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
        let Self { table, run_queue, flush_queue, .. } = self;
        let Some(slot) = table.get_mut(index) else { return };
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
            slot.queue_flush(index, flush_queue);
        }
        let reads = slot.conn.wants_read() && !slot.marks.is_held_back();
        if reads {
            if slot.marks.has(Marks::READABLE) {
                slot.queue_run(index, run_queue);
            }
        } else if broken {
            // Nobody would read the error out of the socket: take it from the event.
            self.socket_failed(index);
        }
    }

    /// Queues a slot to be read from.
    #[inline]
    pub(super) fn queue_run(&mut self, index: usize) {
        if let Some(slot) = self.table.get_mut(index) {
            slot.queue_run(index, &mut self.run_queue);
        }
    }

    /// Queues a slot to be written to, unless its socket takes nothing.
    #[inline]
    pub(super) fn queue_flush(&mut self, index: usize) {
        if let Some(slot) = self.table.get_mut(index) {
            slot.queue_flush(index, &mut self.flush_queue);
        }
    }

    /// The gate of a slot's shard.
    #[inline]
    pub(super) fn gate_of(&self, index: usize) -> usize {
        self.gate_of_id(self.table.id(index))
    }

    /// The gate of a connection's shard, whether it still is there or not.
    #[inline]
    pub(super) fn gate_of_id(&self, conn: ConnId) -> usize {
        match &self.routing {
            Routing::Pool(lanes) => conn.shard(lanes.len(), self.shared.loads.len()),
            Routing::Inline(_) => 0,
        }
    }
}

/// A request head is parsed in the read buffer, together with what came behind it: both fit.
fn read_buffer_bytes(snapshot: &Snapshot) -> usize {
    snapshot.config.tuning.read_buffer_bytes.max(2 * snapshot.head_limits.max_header_bytes)
}
