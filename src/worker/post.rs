//! What a shard posts to a loop's mailbox: frames ready for the wire, and what changes membership.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use super::batch::empty_arena;
use crate::channels::{Publish, RoomId};
use crate::connection::Tick;
use crate::id::ConnId;
use crate::peer::Peer;
use crate::routing::{Accept, Door, Refuse, Work};

/// Work of level 0: a loop takes it, whatever else it waits for, and posts nothing in turn.
#[derive(Debug)]
pub struct Post {
    /// The shard whose memory it is, if any.
    pub from_shard: Option<usize>,
    /// When the oldest message that it answers was read.
    pub read_at: Option<Instant>,
    /// When it left the shard.
    pub routed_at: Option<Instant>,
    /// Messages that it answers or settles.
    pub answers: u32,
    items: Vec<PostItem>,
    arena: Vec<u8>,
}

/// One thing for the loop to do.
#[expect(missing_docs, reason = "the fields say what they are by their names")]
#[derive(Debug)]
pub enum PostItem {
    /// Frames for one connection, and messages of its that are settled now.
    Reply { conn: ConnId, start: u32, len: u32, frames: u32, settled: u32 },
    /// A message for one connection, in whatever dialect it speaks.
    Push { conn: ConnId, publish: Arc<Publish> },
    /// Close the connection: nothing is delivered after it.
    Close { conn: ConnId, code: u16, start: u32, len: u32 },
    /// Over a route's limit: the connection is not to be read from before then or, without a tick,
    /// is to be closed with 1008 once what it sent is settled.
    OverRoute { conn: ConnId, until: Option<Tick> },
    /// The connection's identity has connected anew, from this peer: it is told, and closed.
    Displace { conn: ConnId, peer: Peer },
    /// `on_connect` said yes.
    Accept { conn: ConnId, accept: Box<Accept> },
    /// Accepted, and in all rooms that it is to be in from the start.
    Open { conn: ConnId, accept: Box<Accept> },
    /// `on_connect` said no.
    Refuse { conn: ConnId, refuse: Box<Refuse> },
    /// The connection is a member from here on.
    Subscribe { room: RoomId, conn: ConnId },
    /// The connection is no member from here on.
    Unsubscribe { room: RoomId, conn: ConnId },
    /// One publish for all members that the loop has, but one.
    Publish { room: RoomId, publish: Arc<Publish>, except: Option<ConnId> },
    /// One message for all open connections that the loop has, but one.
    Everyone { publish: Arc<Publish>, except: Option<ConnId> },
    /// Close the connections of all members of a room that the loop has.
    CloseRoom { room: RoomId, code: u16, reason: Box<str> },
    /// Something that the connection's shard is to do, in the connection's order.
    Work { conn: ConnId, work: Box<Work> },
    /// A socket accepted by a loop that has more connections than this one (shared tables only).
    Socket { socket: socket2::Socket, door: Door },
}

impl Post {
    /// An empty post.
    #[must_use]
    pub fn new(from_shard: Option<usize>) -> Box<Self> {
        Box::new(Self {
            from_shard,
            read_at: None,
            routed_at: None,
            answers: 0,
            items: Vec::new(),
            arena: Vec::new(),
        })
    }

    /// An empty post that will go round, with room for what a turn usually brings.
    #[must_use]
    pub fn roomy(from_shard: usize) -> Box<Self> {
        let mut post = Self::new(Some(from_shard));
        post.items.reserve_exact(64);
        post.arena.reserve_exact(4096);
        post
    }

    /// A post of one item that needs no bytes.
    #[must_use]
    pub fn of(item: PostItem) -> Box<Self> {
        let mut post = Self::new(None);
        post.items.push(item);
        post
    }

    /// Empties it, keeping memory up to `keep_bytes`.
    pub fn reset(&mut self, keep_bytes: usize) {
        self.read_at = None;
        self.routed_at = None;
        self.answers = 0;
        self.items.clear();
        empty_arena(&mut self.arena, keep_bytes);
    }

    /// Whether nothing is in it.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Whether one of its items is a publish, and no more than one.
    #[must_use]
    pub fn has_one_publish(&self) -> bool {
        let publishes = self.items.iter().filter(|i| matches!(i, PostItem::Publish { .. }));
        publishes.take(2).count() == 1
    }

    /// Bytes in its arena.
    #[inline]
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.arena.len()
    }

    /// Number of its items.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Bytes of memory it holds, for the ceiling's count.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.arena.capacity() + self.items.capacity() * size_of::<PostItem>()
    }

    /// Adds an item that needs no bytes.
    #[inline]
    pub fn push(&mut self, item: PostItem) {
        self.items.push(item);
    }

    /// Adds wire bytes for `conn`, written by `encode`, behind what it has last. If `encode` writes
    /// nothing, the loop counts the frames as not encoded.
    #[inline]
    pub fn reply(&mut self, conn: ConnId, frames: u32, encode: impl FnOnce(&mut Vec<u8>)) {
        let at = self.arena.len() as u32;
        encode(&mut self.arena);
        let added = self.arena.len() as u32 - at;
        if let Some(PostItem::Reply { conn: last, start, len, frames: n, .. }) =
            self.items.last_mut()
            && *last == conn
            && *start + *len == at
            && added > 0
            && (*len > 0 || *n == 0)
        {
            *len += added;
            *n += frames;
            return;
        }
        self.items.push(PostItem::Reply { conn, start: at, len: added, frames, settled: 0 });
    }

    /// Says that `n` messages of `conn` are settled.
    #[inline]
    pub fn settle(&mut self, conn: ConnId, n: u32) {
        self.answers += n;
        if let Some(PostItem::Reply { conn: last, settled, .. }) = self.items.last_mut()
            && *last == conn
        {
            *settled += n;
            return;
        }
        let start = self.arena.len() as u32;
        self.items.push(PostItem::Reply { conn, start, len: 0, frames: 0, settled: n });
    }

    /// Adds a close of `conn`.
    pub fn close(&mut self, conn: ConnId, code: u16, reason: &str) {
        let start = self.arena.len() as u32;
        self.arena.extend_from_slice(reason.as_bytes());
        self.items.push(PostItem::Close { conn, code, start, len: reason.len() as u32 });
    }

    /// Adds the items of another post.
    pub fn append(&mut self, items: std::vec::Drain<'_, PostItem>, bytes: &[u8]) {
        let base = self.arena.len() as u32;
        self.arena.extend_from_slice(bytes);
        self.items.extend(items.map(|mut item| {
            if let PostItem::Reply { start, .. } | PostItem::Close { start, .. } = &mut item {
                *start += base;
            }
            item
        }));
    }

    /// The items, to be taken, and the bytes that they point into.
    pub fn parts(&mut self) -> (std::vec::Drain<'_, PostItem>, &[u8]) {
        (self.items.drain(..), &self.arena)
    }
}

/// The bytes of an item.
#[inline]
#[must_use]
pub fn bytes_at(arena: &[u8], start: u32, len: u32) -> &[u8] {
    let range: Range<usize> = start as usize..start as usize + len as usize;
    &arena[range]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_one_connection_join_into_one_range() {
        let (a, b) = (ConnId::new(0, 0, 1), ConnId::new(0, 0, 2));
        let mut post = Post::new(None);
        post.reply(a, 1, |out| out.extend_from_slice(b"one"));
        post.settle(a, 1);
        post.reply(a, 1, |out| out.extend_from_slice(b"two"));
        post.settle(a, 1);
        post.reply(b, 1, |out| out.extend_from_slice(b"three"));
        let (items, arena) = post.parts();
        let got: Vec<_> = items
            .map(|item| match item {
                PostItem::Reply { conn, start, len, frames, settled } => {
                    (conn, bytes_at(arena, start, len).to_vec(), frames, settled)
                }
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(got, [(a, b"onetwo".to_vec(), 2, 2), (b, b"three".to_vec(), 1, 0)]);
    }
}
