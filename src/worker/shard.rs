//! One shard: the connections that are its own, and the rooms whose home it is.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::Sender;

use super::batch::{Batch, Run, Taken};
use super::lane::LaneReceiver;
use super::outgoing::{Flush, Outgoing};
use super::post::{Post, PostItem};
use crate::app::Snapshot;
use crate::channels::{Countdown, Done, Home, RoomBatch, RoomWork, Settles, Surroundings, Then};
use crate::dialect::{Body, Message, NotUnderstood};
use crate::id::ConnId;
use crate::limits::{REQUEST_HEADERS_MAX, ROOMS_PER_CONNECTION_MAX};
use crate::protocol::MessageKind;
use crate::protocol::handshake::{HeadLimits, parse_request};
use crate::routing::{
    Accept, Admission, ConnectRequest, Context, Deferred, Effects, Gateway, Parts, Refuse,
    Sessions, is_room_name, take_deferred,
};
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
    parts: ShardParts,
    snapshot: Arc<Snapshot>,
    home: Home,
    sessions: Sessions,
    effects: Effects,
    /// The batch at work, and how far it is done: a run, and an item of it.
    current: Option<(Box<Batch>, usize, usize)>,
}

impl Shard {
    /// A shard without connections or rooms.
    #[must_use]
    pub fn new(parts: ShardParts) -> Self {
        let snapshot = parts.gateway.shared.snapshot();
        let home = Home::new(parts.index);
        let (sessions, effects) = (Sessions::new(), Effects::default());
        Self { parts, snapshot, home, sessions, effects, current: None }
    }

    /// Does what level 1 has to do now. `Blocked` if a post is kept: neither level may go on.
    pub fn room_turn(&mut self, now: Instant) -> Flush {
        if self.flush_posts(now) == Flush::Blocked {
            return Flush::Blocked;
        }
        self.refresh_snapshot();
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
        self.parts.memory.settle();
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
            Taken::Message { kind, payload } => self.route_message(run, kind, payload),
            Taken::Admit { head } => self.admit(run, head),
            Taken::JoinThenAccept(accept) => self.join_then_accept(run.conn, accept.clone()),
            Taken::Closed { .. } => self.closed(run.conn),
        }
        take_deferred(|deferred| match deferred {
            Deferred::Post(index, mut post) => {
                let (items, arena) = post.parts();
                self.parts.out.post(index).append(items, arena);
            }
            Deferred::Room(home, work) => self.parts.out.room_batch(home).work.push(work),
        });
        self.run_local_rooms();
    }

    fn route_message(&mut self, run: &Run, kind: MessageKind, payload: &[u8]) {
        let endpoint = self.snapshot.endpoint(run.endpoint);
        self.effects.clear();
        let decoded = endpoint.dialect.decode(kind, payload);
        let correlation = match &decoded {
            Ok(message) => message.correlation.as_deref(),
            Err(NotUnderstood::Answer { correlation, .. }) => {
                Some(correlation.as_deref().unwrap_or(b""))
            }
            Err(NotUnderstood::Close { .. }) => None,
        };
        let mut ctx = Context {
            conn: run.conn,
            peer: run.peer,
            endpoint_id: run.endpoint,
            endpoint,
            correlation,
            parts: Parts {
                out: &mut self.parts.out,
                sessions: &mut self.sessions,
                effects: &mut self.effects,
                gateway: &self.parts.gateway,
            },
        };
        let failed = match &decoded {
            Ok(message) => handle(&mut ctx, message, &self.parts.counters),
            Err(NotUnderstood::Answer { answer, .. }) => {
                ctx.answer(Err(answer));
                true
            }
            Err(NotUnderstood::Close { code, reason }) => {
                ctx.close(*code, reason);
                true
            }
        };
        self.parts.counters.errors.add(u64::from(failed));
        finish_message(ctx, &self.parts.gateway);
    }

    /// Room work of which this shard is the home needs no lane: it is done in place, in order.
    fn run_local_rooms(&mut self) {
        if let Some(batch) = self.parts.out.take_rooms_for(self.parts.index) {
            for work in batch.work {
                self.apply_room_work(work);
            }
        }
    }

    fn apply_room_work(&mut self, work: RoomWork) {
        let ShardParts { gateway, counters, memory, out, .. } = &mut self.parts;
        let mut around =
            Surroundings { snapshot: &self.snapshot, ids: &gateway.shared.ids, counters, memory };
        self.home.apply(work, &mut around, out);
    }

    fn admit(&mut self, run: &Run, head: &[u8]) {
        let snapshot = Arc::clone(&self.snapshot);
        let admission = Admission::new(run.conn, self.parts.gateway.clone());
        let limits =
            HeadLimits { max_header_bytes: head.len() + 1, max_headers: REQUEST_HEADERS_MAX };
        // The loop parsed it already; a head that does not parse here would be refused by the
        // admission's drop.
        let Ok(Some((request, _))) = parse_request(head, limits) else { return };
        let Some(hook) = &snapshot.endpoint(run.endpoint).on_connect else { return };
        let connect = ConnectRequest {
            path: request.path(),
            query: request.query(),
            peer: run.peer.addr(),
            conn: run.conn,
            request: &request,
        };
        if catch_unwind(AssertUnwindSafe(|| hook(&connect, admission))).is_err() {
            self.parts.counters.panics.add(1);
        }
    }

    fn join_then_accept(&mut self, conn: ConnId, mut accept: Accept) {
        let session = self.sessions.entry(conn).or_default();
        session.identity = accept.identity.take().map(Into::into);
        let mut rooms = std::mem::take(&mut accept.rooms);
        rooms.sort();
        rooms.dedup();
        if rooms.len() > ROOMS_PER_CONNECTION_MAX || !rooms.iter().all(|r| is_room_name(r)) {
            let refuse =
                Box::new(Refuse::new(500, "The hook named rooms that cannot be joined.\n"));
            self.parts.out.post(conn.loop_index()).push(PostItem::Refuse { conn, refuse });
            return;
        }
        session.rooms = rooms.iter().map(|room| room.as_str().into()).collect();
        let accept = Box::new(accept);
        if rooms.is_empty() {
            self.parts.out.post(conn.loop_index()).push(PostItem::Accept { conn, accept });
            return;
        }
        let countdown = Countdown::new(rooms.len(), Done::Accept(conn, accept));
        for room in rooms {
            let then = Then::Last(Arc::clone(&countdown));
            let home = self.parts.gateway.shared.home_of(&room);
            let work = RoomWork::Join { room: room.into(), conn, then };
            self.parts.out.room_batch(home).work.push(work);
        }
    }

    fn closed(&mut self, conn: ConnId) {
        let Some(session) = self.sessions.remove(&conn) else { return };
        for room in session.rooms {
            let home = self.parts.gateway.shared.home_of(&room);
            let work = RoomWork::Leave { room, conn, then: Then::Nothing };
            self.parts.out.room_batch(home).work.push(work);
        }
    }
}

/// Runs the handler; says whether the router had to answer with an error of its own.
fn handle(ctx: &mut Context<'_>, message: &Message<'_>, counters: &WorkerCounters) -> bool {
    let Some(handler) = ctx.endpoint.handler(&message.key) else {
        ctx.reply_error(404, &format!("no route `{}`", message.key));
        return true;
    };
    if catch_unwind(AssertUnwindSafe(|| handler(ctx, message))).is_err() {
        counters.panics.add(1);
        ctx.reply_error(500, "the handler of this route failed");
        return true;
    }
    false
}

/// Carries out what the handler left behind, and settles the message exactly once.
fn finish_message(mut ctx: Context<'_>, gateway: &Gateway) {
    let wants_answer = ctx.correlation.is_some_and(|c| !c.is_empty());
    if wants_answer && !ctx.parts.effects.replied && ctx.parts.effects.later.is_none() {
        ctx.answer(Ok(Body::Json("null")));
    }
    if ctx.parts.effects.is_plain() {
        return ctx.parts.out.post(ctx.conn.loop_index()).settle(ctx.conn, 1);
    }
    finish_effects(ctx, gateway);
}

/// Sends on the room work of a message, with the answer that waits for it.
#[inline(never)]
fn finish_effects(ctx: Context<'_>, gateway: &Gateway) {
    let held = ctx.parts.effects.held.take();
    let report = std::mem::take(&mut ctx.parts.effects.report);
    let mut rooms = std::mem::take(&mut ctx.parts.effects.rooms);
    let settled_by_home = !rooms.is_empty() && (held.is_some() || report);
    if settled_by_home {
        let to = ctx.reply_to(Settles::Yes);
        match (held, rooms.as_mut_slice()) {
            (Some(answer), [one]) => one.set_then(Then::Reply(to, answer)),
            (None, [.., last]) => last.set_then(Then::Report(to)),
            (answer, many) => {
                let answer = answer.unwrap_or(Ok(Body::Json("null").into()));
                let countdown = Countdown::new(many.len(), Done::Reply(to, answer));
                many.iter_mut().for_each(|w| w.set_then(Then::Last(Arc::clone(&countdown))));
            }
        }
    }
    let (out, conn) = (&mut *ctx.parts.out, ctx.conn);
    for work in rooms.drain(..) {
        out.room_batch(gateway.shared.home_of(work.room())).work.push(work);
    }
    ctx.parts.effects.rooms = rooms;
    if !settled_by_home {
        out.post(conn.loop_index()).settle(conn, 1);
    }
}
