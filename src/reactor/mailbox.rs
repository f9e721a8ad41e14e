//! Level 0: what shards post reaches outboxes and topics. Always drained; posts nothing in turn.

use std::sync::Arc;

use super::event_loop::EventLoop;
use super::table::Marks;
use crate::channels::{Publish, RoomId};
use crate::connection::Phase;
use crate::id::ConnId;
use crate::routing::{Accept, Refuse};
use crate::telemetry::counters::{CloseCause, DropCause, RefusalCause};
use crate::telemetry::memory::Component;
use crate::worker::{Post, PostItem, bytes_at};

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
                    self.publish(room, &publish, except);
                }
                PostItem::Socket { socket } => self.adopt_passed(socket),
            }
        }
    }

    /// Writes what is owed if `more` bytes would take it over the limit: only what a peer does not
    /// take counts against it, not what one turn has gathered.
    #[inline]
    fn make_way(&mut self, conn: ConnId, more: usize) {
        let limit = self.kit.snapshot.config.outbound_limit_bytes;
        let Some((index, slot)) = self.table.find(conn) else { return };
        if slot.conn.owes() && slot.conn.owed_bytes() + more + ENTRY_BYTES > limit {
            self.flush(index);
        }
    }

    #[inline]
    fn reply(&mut self, conn: ConnId, frames: &[u8], count: u32, settled: u32) {
        self.make_way(conn, frames.len());
        let Some((index, slot)) = self.table.find(conn) else {
            return self.count_drop(DropCause::StaleConnection, count);
        };
        let before = (slot.conn.outbox_bytes(), slot.conn.inbound_bytes());
        let mut env = self.kit.env(slot.endpoint);
        let delivered = frames.is_empty() || slot.conn.deliver(frames, &mut env);
        slot.conn.settled(settled, &mut env);
        if delivered {
            self.counters.messages_out.add(u64::from(count));
        } else {
            self.count_drop(DropCause::AfterClose, count);
        }
        self.note_memory(index, before);
        self.after_change(index);
    }

    fn push(&mut self, conn: ConnId, publish: &Publish) {
        self.deliver_publish(conn, publish, 0);
    }

    fn publish(&mut self, room: RoomId, publish: &Arc<Publish>, except: Option<ConnId>) {
        // Taken out for the while, so that deliveries can borrow the loop; nothing subscribes
        // in between.
        let members = self.topics.take_members(room);
        for conn in &members {
            if Some(*conn) != except {
                self.deliver_publish(*conn, publish, room.to_bits());
            }
        }
        self.topics.put_members(room, members);
    }

    fn deliver_publish(&mut self, conn: ConnId, publish: &Publish, key: u64) {
        let Some((_, slot)) = self.table.find(conn) else {
            return self.count_drop(DropCause::StaleConnection, 1);
        };
        let frame = publish.frame(&self.kit.snapshot.endpoint(slot.endpoint).dialect);
        self.make_way(conn, frame.bytes().len());
        let Some((index, slot)) = self.table.find(conn) else {
            return self.count_drop(DropCause::StaleConnection, 1);
        };
        let before = (slot.conn.outbox_bytes(), slot.conn.inbound_bytes());
        let mut env = self.kit.env(slot.endpoint);
        let delivered = slot.conn.deliver_shared(&frame, key, &mut env);
        let (oldest, replaced) = slot.conn.take_dropped();
        if delivered {
            self.counters.messages_out.add(1);
            self.counters.deliveries.add(1);
        } else {
            self.count_drop(DropCause::AfterClose, 1);
        }
        self.count_drop(DropCause::DropOldest, oldest);
        self.count_drop(DropCause::KeepLatest, replaced);
        self.note_memory(index, before);
        self.after_change(index);
    }

    fn close(&mut self, conn: ConnId, code: u16, reason: &str) {
        let Some((index, slot)) = self.table.find(conn) else {
            return self.count_drop(DropCause::StaleConnection, 1);
        };
        let before = (slot.conn.outbox_bytes(), slot.conn.inbound_bytes());
        let mut env = self.kit.env(slot.endpoint);
        slot.conn.close(code, reason, CloseCause::Handler, &mut env);
        self.note_memory(index, before);
        self.after_change(index);
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
            batch.begin_run(conn, endpoint, || peer.addr());
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
