//! What a shard has to send: posts to mailboxes (level 0) and room work to homes (level 1).

use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::Receiver;

use super::alarm::Alarm;
use super::lane::{LaneSender, Refused};
use super::post::Post;
use crate::channels::RoomBatch;
use crate::telemetry::counters::WorkerCounters;
use crate::telemetry::memory::{Component, LocalMemory};

/// The sending ends that every shard has.
#[derive(Clone, Debug)]
pub struct Lanes {
    /// Into each loop.
    pub mailboxes: Vec<LaneSender<Box<Post>>>,
    /// Into each shard's rooms.
    pub rooms: Vec<LaneSender<Box<RoomBatch>>>,
}

/// Work of a shard that has not left it yet, one piece per destination.
#[derive(Debug)]
pub struct Outgoing {
    shard: usize,
    /// Rung when a lane that refused has room again.
    me: Arc<Alarm>,
    lanes: Lanes,
    posts: Vec<Option<Box<Post>>>,
    posts_pending: Vec<usize>,
    rooms: Vec<Option<Box<RoomBatch>>>,
    rooms_pending: Vec<usize>,
    spare_posts: Receiver<Box<Post>>,
    /// With inline routing, the loop whose posts are taken by hand instead of sent.
    local_loop: Option<usize>,
    /// When the batch at work was read, for posts that answer it.
    read_at: Option<Instant>,
    bytes: usize,
    items: usize,
}

/// How far a flush came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flush {
    /// All of it left.
    Done,
    /// Something was refused and is kept; nothing of this level or above may be begun.
    Blocked,
}

/// Bytes of answers after which a shard sends before it goes on.
const POST_BYTES: usize = 256 * 1024;
/// Pieces of work after which a shard sends before it goes on.
const POST_ITEMS: usize = 4096;

impl Outgoing {
    /// Nothing to send yet.
    #[must_use]
    pub fn new(
        shard: usize,
        me: Arc<Alarm>,
        lanes: Lanes,
        spare_posts: Receiver<Box<Post>>,
        local_loop: Option<usize>,
    ) -> Self {
        let posts = lanes.mailboxes.iter().map(|_| None).collect();
        let rooms = lanes.rooms.iter().map(|_| None).collect();
        Self {
            shard,
            me,
            lanes,
            posts,
            posts_pending: Vec::new(),
            rooms,
            rooms_pending: Vec::new(),
            spare_posts,
            local_loop,
            read_at: None,
            bytes: 0,
            items: 0,
        }
    }

    /// The shard that sends.
    #[must_use]
    pub fn shard(&self) -> usize {
        self.shard
    }

    /// Whether the shard runs on a loop.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.local_loop.is_some()
    }

    /// Says which batch is at work, for the stamps of its answers.
    #[inline]
    pub fn answering(&mut self, read_at: Option<Instant>) {
        self.read_at = read_at;
    }

    /// The post for a loop, to add to.
    #[inline]
    pub fn post(&mut self, loop_index: usize) -> &mut Post {
        self.items += 1;
        let slot = &mut self.posts[loop_index];
        if slot.is_none() {
            self.posts_pending.push(loop_index);
            let mut post = self.spare_posts.try_recv().unwrap_or_else(|_| Post::roomy(self.shard));
            post.from_shard = Some(self.shard);
            *slot = Some(post);
        }
        let post = slot.as_mut().expect("filled above");
        if post.read_at.is_none() {
            post.read_at = self.read_at;
        }
        post
    }

    /// The batch of room work for a home, to add to.
    #[inline]
    pub fn room_batch(&mut self, shard: usize) -> &mut RoomBatch {
        self.items += 1;
        let slot = &mut self.rooms[shard];
        if slot.is_none() {
            self.rooms_pending.push(shard);
        }
        slot.get_or_insert_default()
    }

    /// Notes bytes written into a post, towards [`must_send`](Self::must_send).
    #[inline]
    pub fn wrote(&mut self, bytes: usize) {
        self.bytes += bytes;
    }

    /// Whether enough has gathered that it should leave before more is made.
    #[inline]
    #[must_use]
    pub fn must_send(&self) -> bool {
        self.bytes >= POST_BYTES || self.items >= POST_ITEMS
    }

    /// Whether the post for the own loop has grown so far that it should be applied.
    #[must_use]
    pub fn local_is_full(&self) -> bool {
        let post = self.local_loop.and_then(|index| self.posts[index].as_ref());
        post.is_some_and(|post| post.bytes() >= POST_BYTES || post.len() >= POST_ITEMS)
    }

    /// Takes the post for the own loop, with inline routing.
    pub fn take_local(&mut self) -> Option<Box<Post>> {
        let local = self.local_loop?;
        let post = self.posts[local].take()?;
        self.posts_pending.retain(|index| *index != local);
        Some(post)
    }

    /// Sends posts. What is refused stays, in order.
    pub fn flush_posts(
        &mut self,
        now: Instant,
        counters: &WorkerCounters,
        memory: &mut LocalMemory,
    ) -> Flush {
        (self.bytes, self.items) = (0, 0);
        let mut pending = std::mem::take(&mut self.posts_pending);
        pending.retain(|&index| {
            if self.local_loop == Some(index) {
                return true;
            }
            let Some(mut post) = self.posts[index].take() else { return false };
            post.routed_at.get_or_insert(now);
            let bytes = post.heap_bytes();
            match self.lanes.mailboxes[index].offer(post, &self.me) {
                Ok(()) => {
                    memory.add(Component::Arenas, bytes);
                    false
                }
                Err(Refused::Full(post)) => {
                    counters.refused_sends.add(1);
                    self.posts[index] = Some(post);
                    true
                }
                // The loop is gone, and its connections with it.
                Err(Refused::Gone(_)) => false,
            }
        });
        let blocked = pending.iter().any(|index| self.local_loop != Some(*index));
        self.posts_pending = pending;
        if blocked { Flush::Blocked } else { Flush::Done }
    }

    /// Sends room work. What is refused stays, in order.
    pub fn flush_rooms(&mut self, counters: &WorkerCounters) -> Flush {
        let mut pending = std::mem::take(&mut self.rooms_pending);
        pending.retain(|&shard| {
            let Some(batch) = self.rooms[shard].take() else { return false };
            match self.lanes.rooms[shard].offer(batch, &self.me) {
                Ok(()) | Err(Refused::Gone(_)) => false,
                Err(Refused::Full(batch)) => {
                    counters.refused_sends.add(1);
                    self.rooms[shard] = Some(batch);
                    true
                }
            }
        });
        let blocked = !pending.is_empty();
        self.rooms_pending = pending;
        if blocked { Flush::Blocked } else { Flush::Done }
    }

    /// Pieces that are kept.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.posts_pending.len() + self.rooms_pending.len()
    }

    /// Whether there is room work for any shard.
    #[inline]
    #[must_use]
    pub fn has_rooms(&self) -> bool {
        !self.rooms_pending.is_empty()
    }

    /// Takes the room work for `shard`, to be done in place.
    #[inline]
    pub fn take_rooms_for(&mut self, shard: usize) -> Option<Box<RoomBatch>> {
        let batch = self.rooms[shard].take()?;
        self.rooms_pending.retain(|index| *index != shard);
        Some(batch)
    }

    /// Whether no post is kept but, with inline routing, for the own loop.
    #[must_use]
    pub fn posts_are_empty(&self) -> bool {
        self.posts_pending.iter().all(|index| self.local_loop == Some(*index))
    }

    /// Whether nothing waits for a lane.
    #[must_use]
    pub fn is_sent(&self) -> bool {
        self.posts_are_empty() && self.rooms_pending.is_empty()
    }
}
