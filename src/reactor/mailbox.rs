//! Level 0: what shards post reaches outboxes and topics. Always drained; posts nothing in turn.

use std::sync::Arc;

use super::event_loop::EventLoop;
use super::table::Marks;
use crate::channels::{Publish, RoomId};
use crate::connection::{NO_KEY, Phase, SharedFrame};
use crate::id::ConnId;
use crate::routing::{Accept, EndpointId, Refuse};
use crate::telemetry::counters::{CloseCause, DropCause, RefusalCause};
use crate::telemetry::memory::Component;
use crate::worker::{Post, PostItem, bytes_at};

/// Members that a publish is written to at once, at most, before the loop sees to others: some 25 ms.
const DIRECT_WRITES: usize = 4096;
/// More than the outbox counts for an entry beside its bytes.
const ENTRY_BYTES: usize = 64;

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
                PostItem::Accept { conn, accept } => self.accepted(conn, accept),
                PostItem::Refuse { conn, refuse } => self.refused(conn, &refuse),
                PostItem::Subscribe { room, conn } => self.subscribe(room, conn),
                PostItem::Unsubscribe { room, conn } => self.topics.unsubscribe(room, conn),
                PostItem::Publish { room, publish, except } => {
                    self.publish(room, &publish, except, &mut direct);
                }
                PostItem::Socket { socket, tcp } => self.adopt_passed(socket, tcp),
            }
        }
    }

    /// Writes what is owed if `more` bytes would take it over the limit: only what a peer does not
    /// take counts against it, not what one turn has gathered.
    #[inline]
    fn make_way(&mut self, index: usize, more: usize) {
        let limit = self.kit.snapshot.config.outbound_limit_bytes;
        let Some(slot) = self.table.get_mut(index) else { return };
        if slot.conn.owes() && slot.conn.owed_bytes() + more + ENTRY_BYTES > limit {
            self.flush(index);
        }
    }

    #[inline]
    fn reply(&mut self, conn: ConnId, frames: &[u8], count: u32, settled: u32) {
        let Some((index, _)) = self.table.find(conn) else {
            return self.count_drop(DropCause::StaleConnection, count);
        };
        self.make_way(index, frames.len());
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
        self.deliver_shared(index, frame.as_ref(), None);
    }

    /// Delivers to the room's members here, to up to `direct` of them at once.
    fn publish(
        &mut self,
        room: RoomId,
        publish: &Publish,
        except: Option<ConnId>,
        direct: &mut usize,
    ) {
        let limit = self.kit.snapshot.config.outbound_limit_bytes;
        // Taken out for the while, so that deliveries can borrow the loop; nothing subscribes
        // in between.
        let members = self.topics.take_members(room);
        // Members of one endpoint mostly come together; classes are shared anyway, and frames of
        // custom dialects are at least shared along such a run.
        let mut frame: Option<(EndpointId, Option<Arc<SharedFrame>>)> = None;
        for conn in members.iter().filter(|conn| Some(**conn) != except) {
            let Some((index, slot)) = self.table.find(*conn) else {
                self.count_drop(DropCause::StaleConnection, 1);
                continue;
            };
            let endpoint = slot.endpoint;
            if frame.as_ref().is_none_or(|(of, _)| *of != endpoint) {
                let of = self.kit.snapshot.endpoint(endpoint);
                frame = Some((endpoint, publish.frame(of)));
            }
            let frame = frame.as_ref().and_then(|(_, frame)| frame.as_ref());
            if let Some(frame) = frame
                && *direct > 0
                // Alone in an outbox it fits, so it can't be dropped with bytes of it written.
                && frame.bytes().len() + ENTRY_BYTES <= limit
                && self.write_through(index, frame, room.to_bits())
            {
                *direct -= 1;
                self.counters.messages_out.add(1);
                self.counters.deliveries.add(1);
                continue;
            }
            self.deliver_shared(index, frame, Some(room));
        }
        self.topics.put_members(room, members);
    }

    /// Queues a shared frame; `None` where the dialect made none of it.
    fn deliver_shared(
        &mut self,
        index: usize,
        frame: Option<&Arc<SharedFrame>>,
        room: Option<RoomId>,
    ) {
        let Some(frame) = frame else { return self.count_drop(DropCause::NotEncoded, 1) };
        let key = room.map_or(NO_KEY, RoomId::to_bits);
        self.make_way(index, frame.bytes().len());
        if self.change(index, |conn, env| conn.deliver_shared(frame, key, env)) == Some(true) {
            self.counters.messages_out.add(1);
            self.counters.deliveries.add(u64::from(room.is_some()));
        } else {
            self.count_drop(DropCause::AfterClose, 1);
        }
    }

    fn close(&mut self, conn: ConnId, code: u16, reason: &str) {
        let Some((index, _)) = self.table.find(conn) else {
            return self.count_drop(DropCause::StaleConnection, 1);
        };
        self.change(index, |conn, env| conn.close(code, reason, CloseCause::Handler, env));
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
        if accept.needs_shard() {
            let (endpoint, peer) = (slot.endpoint, slot.peer);
            let gate = self.gate_of(index);
            let batch = self.gates[gate].batch(self.index, self.now, &self.spare_batches);
            batch.begin_run(conn, endpoint, peer);
            batch.push_accept(*accept);
            return;
        }
        self.open_admitted(index, &accept);
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
