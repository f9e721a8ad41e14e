//! Level 0: what shards post reaches outboxes and topics. Always drained; posts nothing in turn.

use std::sync::Arc;
use std::time::SystemTime;

use super::event_loop::EventLoop;
use super::table::Marks;
use crate::channels::{Publish, RoomId};
use crate::connection::{NO_BUDGET, Phase, SharedFrame};
use crate::dialect::Displaced;
use crate::id::ConnId;
use crate::peer::Peer;
use crate::routing::{Accept, EndpointId, Refuse, Work};
use crate::telemetry::counters::{CloseCause, DropCause, RefusalCause};
use crate::telemetry::memory::Component;
use crate::worker::{Post, PostItem, bytes_at};

/// Close code of a connection whose identity has connected anew.
const DISPLACED: u16 = 4001;
/// Members that a publish is written to at once, at most, before the loop sees to others: some 25 ms.
const DIRECT_WRITES: usize = 4096;
/// More than the outbox counts for an entry beside its bytes.
const ENTRY_BYTES: usize = 64;

/// The frames of one publish, by endpoint: classes are shared anyway, and frames of dialects that
/// have none are at least shared among the members of a loop.
#[derive(Default)]
struct Frames {
    made: Vec<(EndpointId, Option<Arc<SharedFrame>>)>,
    last: usize,
}

impl Frames {
    /// The frame for members of an endpoint. Mostly it is that of the member before.
    #[inline]
    fn of(
        &mut self,
        endpoint: EndpointId,
        make: impl FnOnce() -> Option<Arc<SharedFrame>>,
    ) -> Option<&Arc<SharedFrame>> {
        if self.made.get(self.last).is_none_or(|(of, _)| *of != endpoint) {
            let known = self.made.iter().position(|(of, _)| *of == endpoint);
            self.last = known.unwrap_or_else(|| {
                self.made.push((endpoint, make()));
                self.made.len() - 1
            });
        }
        self.made[self.last].1.as_ref()
    }
}

impl EventLoop {
    /// Applies what is in the mailbox now; what comes meanwhile is for the next turn.
    pub(super) fn drain_mailbox(&mut self) {
        for _ in 0..self.kit.snapshot.config.tuning.mailbox_capacity {
            let Some(mut post) = self.mailbox.take() else { return };
            self.apply(&mut post);
            if post.from_shard.is_some() {
                self.memory.sub(Component::Arenas, post.heap_bytes());
            }
            self.give_back(post);
        }
    }

    /// Gives a post's memory back to the shard that it came from.
    pub(super) fn give_back(&mut self, mut post: Box<Post>) {
        if let Some(shard) = post.from_shard {
            post.reset(2 * self.kit.snapshot.config.tuning.batch_bytes);
            // A full recycle lane only means that the shard has spare ones enough.
            let _ = self.recycle_posts[shard].try_send(post);
        }
    }

    /// Applies one post.
    pub(super) fn apply(&mut self, post: &mut Post) {
        if let (Some(read_at), Some(routed_at)) = (post.read_at, post.routed_at) {
            self.answered.push((read_at, routed_at, post.answers));
        }
        // What a turn has for one member leaves in one write; a publish that comes alone can be
        // that write itself.
        let alone = self.mailbox.is_empty() && post.has_one_publish();
        let mut direct = if alone { DIRECT_WRITES } else { 0 };
        let (items, arena) = post.parts();
        for item in items {
            match item {
                PostItem::Reply { conn, start, len, frames, settled } => {
                    self.reply(conn, bytes_at(arena, start, len), frames, settled);
                }
                PostItem::Push { conn, publish } => self.push(conn, &publish),
                PostItem::Close { conn, code, start, len } => {
                    let reason = std::str::from_utf8(bytes_at(arena, start, len)).unwrap_or("");
                    self.close(conn, code, reason);
                }
                PostItem::OverRoute { conn, until } => self.over_route(conn, until),
                PostItem::Displace { conn, peer } => self.displace(conn, peer),
                PostItem::Accept { conn, accept } => self.accepted(conn, accept),
                PostItem::Open { conn, accept } => self.ready_to_open(conn, &accept),
                PostItem::Refuse { conn, refuse } => self.refused(conn, &refuse),
                PostItem::Subscribe { room, conn } => self.subscribe(room, conn),
                PostItem::Unsubscribe { room, conn } => self.topics.unsubscribe(room, conn),
                PostItem::Publish { room, publish, except } => {
                    self.publish(room, &publish, except, &mut direct);
                }
                PostItem::Everyone { publish, except } => self.push_to_all(&publish, except),
                PostItem::CloseRoom { room, code, reason } => self.close_room(room, code, &reason),
                PostItem::Work { conn, work } => self.pass_on(conn, work),
                PostItem::Socket { socket, door } => self.adopt_passed(socket, door),
            }
        }
    }

    /// Writes what is owed if `more` bytes would take it over the limit or a budget: only what a peer
    /// does not take counts against them, not what one turn has gathered.
    #[inline]
    fn make_way(&mut self, index: usize, more: usize, budget: usize) {
        let Some(slot) = self.table.get_mut(index) else { return };
        let limit = self.kit.outbound_limit(slot.endpoint).min(budget);
        if slot.conn.owes() && slot.conn.owed_bytes() + more + ENTRY_BYTES > limit {
            self.flush(index);
        }
    }

    #[inline]
    fn reply(&mut self, conn: ConnId, frames: &[u8], count: u32, settled: u32) {
        let Some((index, slot)) = self.table.find(conn) else {
            return self.count_drop(DropCause::StaleConnection, count);
        };
        if let Some(agreed) = slot.deflate {
            let packed = self.pack(index, agreed, frames);
            self.deliver_reply(index, &packed, count, settled);
            return self.unpacked(packed);
        }
        self.deliver_reply(index, frames, count, settled);
    }

    #[inline]
    fn deliver_reply(&mut self, index: usize, frames: &[u8], count: u32, settled: u32) {
        self.make_way(index, frames.len(), NO_BUDGET);
        let delivered = self.change(index, |conn, env| {
            let delivered = !frames.is_empty() && conn.deliver(frames, env);
            conn.settled(settled, env);
            delivered
        });
        if frames.is_empty() {
            self.count_drop(DropCause::NotEncoded, count);
        } else if delivered == Some(true) {
            self.counters.messages_out.add(u64::from(count));
        } else {
            self.count_drop(DropCause::AfterClose, count);
        }
    }

    fn push(&mut self, conn: ConnId, publish: &Publish) {
        let Some((index, slot)) = self.table.find(conn) else {
            return self.count_drop(DropCause::StaleConnection, 1);
        };
        let frame = publish.frame(self.kit.snapshot.endpoint(slot.endpoint));
        self.deliver_shared(index, frame.as_ref(), false);
    }

    fn push_to_all(&mut self, publish: &Publish, except: Option<ConnId>) {
        let mut frames = Frames::default();
        let all: Vec<usize> = self.table.indices().collect();
        for index in all {
            let Some((slot, conn)) = self.table.get_with_id(index) else { continue };
            if Some(conn) == except || slot.conn.phase() != Phase::Open {
                continue;
            }
            let endpoint = slot.endpoint;
            let frame = frames.of(endpoint, || publish.frame(self.kit.snapshot.endpoint(endpoint)));
            let frame = frame.cloned();
            self.deliver_shared(index, frame.as_ref(), false);
        }
    }

    fn close_room(&mut self, room: RoomId, code: u16, reason: &str) {
        let members = self.topics.take_members(room);
        for conn in &members {
            self.close(conn, code, reason);
        }
        self.topics.put_members(room, members);
    }

    /// Passes on to a connection's shard what another thread wants done there, in the connection's
    /// order; or that the connection is gone, so that who waits is told.
    fn pass_on(&mut self, conn: ConnId, mut work: Box<Work>) {
        let found = self.table.find(conn).map(|(index, slot)| {
            let is_gone = slot.marks.has(Marks::BURIED) || slot.conn.phase() == Phase::Dead;
            if !is_gone {
                slot.marks.set(Marks::KNOWN);
                work.add_slot_info(|| slot.info());
                if work.is_login() {
                    slot.conn.set_logged_in();
                }
            }
            (index, slot.endpoint, slot.peer, is_gone)
        });
        let gate = self.gate_of_id(conn);
        let batch = self.gates[gate].batch(self.index, self.now, &self.spare_batches);
        match found {
            Some((_, endpoint, peer, false)) => {
                batch.begin_run(conn, endpoint, peer);
                batch.push_work(work, false);
            }
            _ => {
                // Behind its end there is no run of the connection's own any more.
                batch.begin_run_apart(conn);
                batch.push_work(work, true);
            }
        }
    }

    /// Delivers to the room's members here, to up to `direct` of them at once.
    fn publish(
        &mut self,
        room: RoomId,
        publish: &Publish,
        except: Option<ConnId>,
        direct: &mut usize,
    ) {
        // Taken out for the while, so that deliveries can borrow the loop; nothing subscribes
        // in between.
        let members = self.topics.take_members(room);
        let mut frames = Frames::default();
        for conn in members.iter().filter(|conn| Some(*conn) != except) {
            let Some((index, slot)) = self.table.find(conn) else {
                self.count_drop(DropCause::StaleConnection, 1);
                continue;
            };
            let (endpoint, deflate) = (slot.endpoint, slot.deflate);
            let frame = frames.of(endpoint, || publish.frame(self.kit.snapshot.endpoint(endpoint)));
            if let Some(frame) = frame
                && *direct > 0
                && deflate.is_none()
                // Alone in an outbox it fits, so it can't be dropped with bytes of it written.
                && frame.bytes().len() + ENTRY_BYTES <= self.kit.outbound_limit(endpoint)
                && self.write_through(index, frame)
            {
                *direct -= 1;
                self.count_shared(true);
                continue;
            }
            self.deliver_shared(index, frame, true);
        }
        self.topics.put_members(room, members);
    }

    /// Queues a shared frame; `None` where the dialect made none of it.
    fn deliver_shared(&mut self, index: usize, frame: Option<&Arc<SharedFrame>>, is_publish: bool) {
        let Some(mut frame) = frame else { return self.count_drop(DropCause::NotEncoded, 1) };
        if let Some(slot) = self.table.get_mut(index)
            && let Some(agreed) = slot.deflate
            && matches!(slot.conn.phase(), Phase::Open | Phase::Draining)
        {
            frame = self.packed_frame(index, agreed, frame);
        }
        self.make_way(index, frame.bytes().len(), frame.budget_bytes());
        if self.change(index, |conn, env| conn.deliver_shared(frame, env)) == Some(true) {
            self.count_shared(is_publish);
        } else {
            self.count_drop(DropCause::AfterClose, 1);
        }
    }

    #[inline]
    fn count_shared(&self, is_publish: bool) {
        self.counters.messages_out.add(1);
        self.counters.deliveries.add(u64::from(is_publish));
    }

    fn close(&mut self, conn: ConnId, code: u16, reason: &str) {
        self.close_for(conn, code, reason, CloseCause::Handler);
    }

    fn close_for(&mut self, conn: ConnId, code: u16, reason: &str, cause: CloseCause) {
        let Some((index, slot)) = self.table.find(conn) else {
            return self.count_drop(DropCause::StaleConnection, 1);
        };
        if slot.conn.phase() == Phase::Admitting {
            // Not open yet, and not to be.
            let refuse = Refuse::new(409, &format!("{reason}\n"));
            return self.respond_refusal(index, RefusalCause::Hook, &refuse);
        }
        self.change(index, |conn, env| conn.close(code, reason, cause, env));
    }

    /// Tells a connection, behind what it is owed, that its identity has connected anew, and closes
    /// it.
    fn displace(&mut self, conn: ConnId, peer: Peer) {
        if let Some((index, slot)) = self.table.find(conn) {
            let endpoint = self.kit.snapshot.endpoint(slot.endpoint);
            let displaced = Displaced {
                id: self.shared.ids.encode(conn),
                old_peer: slot.peer.addr(),
                new_peer: peer.addr(),
                at: SystemTime::now(),
            };
            let mut frame = Vec::new();
            endpoint.dialect.put_displaced(endpoint.framing, &mut frame, &displaced);
            if !frame.is_empty() {
                self.change(index, |conn, env| conn.deliver(&frame, env));
            }
        }
        self.close_for(conn, DISPLACED, "connected elsewhere", CloseCause::Displaced);
    }

    fn subscribe(&mut self, room: RoomId, conn: ConnId) {
        // A member that has ended is not taken in: its home hears of the end by its shard.
        if self.table.find(conn).is_some() {
            self.topics.subscribe(room, conn);
        }
    }

    fn accepted(&mut self, conn: ConnId, accept: Box<Accept>) {
        let Some((index, slot)) = self.table.find(conn) else {
            return self.count_drop(DropCause::StaleConnection, 1);
        };
        if slot.conn.phase() != Phase::Admitting {
            return self.count_drop(DropCause::AfterClose, 1);
        }
        let (endpoint, peer) = (slot.endpoint, slot.peer);
        let joins = self.kit.snapshot.endpoint(endpoint).joins_or_params();
        if accept.needs_shard() || joins {
            let gate = self.gate_of(index);
            let batch = self.gates[gate].batch(self.index, self.now, &self.spare_batches);
            batch.begin_run(conn, endpoint, peer);
            batch.push_accept(*accept);
            return;
        }
        self.open_admitted(index, &accept);
    }

    fn ready_to_open(&mut self, conn: ConnId, accept: &Accept) {
        match self.table.find(conn) {
            None => self.count_drop(DropCause::StaleConnection, 1),
            Some((index, slot)) if slot.conn.phase() == Phase::Admitting => {
                self.open_admitted(index, accept);
            }
            Some(_) => self.count_drop(DropCause::AfterClose, 1),
        }
    }

    fn refused(&mut self, conn: ConnId, refuse: &Refuse) {
        let Some((index, slot)) = self.table.find(conn) else {
            return self.count_drop(DropCause::StaleConnection, 1);
        };
        if slot.conn.phase() != Phase::Admitting {
            return self.count_drop(DropCause::AfterClose, 1);
        }
        debug_assert!(slot.marks.has(Marks::KNOWN));
        self.respond_refusal(index, RefusalCause::Hook, refuse);
    }

    #[inline]
    pub(super) fn count_drop(&self, cause: DropCause, n: u32) {
        if n > 0 {
            self.counters.drops.at(cause as usize).add(u64::from(n));
        }
    }
}
