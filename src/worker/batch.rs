//! What a loop hands to a shard: one arena of message bytes, and who sent which range of it.

use std::ops::Range;
use std::time::Instant;

use crate::id::ConnId;
use crate::peer::Peer;
use crate::protocol::MessageKind;
use crate::quota::Limit;
use crate::routing::{Accept, EndpointId, Work, WorkCell};
use crate::telemetry::counters::CloseCause;

/// Runs and items that a batch has room for from the start. Batches go round: each would grow by
/// itself otherwise, long after the load is steady.
const FIRST_ITEMS: usize = 64;
/// Bytes that a batch has room for from the start.
const FIRST_BYTES: usize = 4096;

/// A loop turn's decoded messages for one shard, in order.
#[derive(Debug)]
pub struct Batch {
    /// The loop that made it, to which its memory goes back.
    pub from_loop: usize,
    /// When the first of its bytes were read.
    pub read_at: Instant,
    runs: Vec<Run>,
    items: Vec<Item>,
    arena: Vec<u8>,
    big: Vec<Vec<u8>>,
    accepts: Vec<Accept>,
    works: Vec<(WorkCell, bool)>,
    messages: u32,
    big_bytes: usize,
}

/// Consecutive items of one connection.
#[derive(Clone, Debug)]
pub struct Run {
    /// Whose items they are.
    pub conn: ConnId,
    /// The endpoint that it is connected to.
    pub endpoint: EndpointId,
    /// The other end of its socket.
    pub peer: Peer,
    first: u32,
    count: u32,
}

/// One thing that a connection did.
#[derive(Clone, Debug)]
enum Item {
    Message { kind: MessageKind, over: Option<Limit>, start: u32, len: u32 },
    Big { kind: MessageKind, over: Option<Limit>, index: u32 },
    Admit { start: u32, len: u32 },
    JoinThenAccept { index: u32 },
    Work { index: u32 },
    Notice(Notice),
    Control { pong: bool, start: u32, len: u32 },
    Closed { cause: Option<CloseCause> },
}

/// What an endpoint's hooks are told of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// It is open.
    Opened,
    /// It has begun to end, for this cause.
    Closing(CloseCause),
}

/// An item as the shard sees it, borrowing from the batch.
#[expect(missing_docs, reason = "the fields say what they are by their names")]
#[derive(Debug)]
pub enum Taken<'a> {
    /// A message: valid UTF-8 if text. Over a limit, it is answered with an error.
    Message { kind: MessageKind, over: Option<Limit>, payload: &'a [u8] },
    /// A request head that the endpoint's `on_connect` has to decide on.
    Admit { head: &'a [u8] },
    /// Accepted by `on_connect`, into rooms that have to be joined before the upgrade is answered.
    JoinThenAccept(&'a Accept),
    /// Something to be done for other threads; `None` once it is taken. The connection may be gone.
    Work { work: &'a WorkCell, is_gone: bool },
    /// The endpoint's hooks are to be told.
    Notice(Notice),
    /// A ping or pong came in, and the endpoint has a hook for it.
    Control { pong: bool, payload: &'a [u8] },
    /// The connection has ended; `None` where it was never open.
    Closed { cause: Option<CloseCause> },
}

impl Batch {
    /// An empty batch of a loop.
    #[must_use]
    pub fn new(from_loop: usize, now: Instant) -> Box<Self> {
        Box::new(Self {
            from_loop,
            read_at: now,
            runs: Vec::with_capacity(FIRST_ITEMS),
            items: Vec::with_capacity(FIRST_ITEMS),
            arena: Vec::with_capacity(FIRST_BYTES),
            big: Vec::new(),
            accepts: Vec::new(),
            works: Vec::new(),
            messages: 0,
            big_bytes: 0,
        })
    }

    /// Empties it for another turn, keeping memory up to `keep_bytes`.
    pub fn reset(&mut self, keep_bytes: usize) {
        self.runs.clear();
        self.items.clear();
        self.big.clear();
        self.accepts.clear();
        self.works.clear();
        self.messages = 0;
        self.big_bytes = 0;
        empty_arena(&mut self.arena, keep_bytes);
    }

    /// Whether nothing is in it.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Messages in it.
    #[inline]
    #[must_use]
    pub fn messages(&self) -> u32 {
        self.messages
    }

    /// Bytes of messages in it.
    #[inline]
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.arena.len() + self.big_bytes
    }

    /// Bytes of memory it holds, for the ceiling's count.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.arena.capacity()
            + self.big_bytes
            + self.items.capacity() * size_of::<Item>()
            + self.runs.capacity() * size_of::<Run>()
    }

    /// Begins a run of `conn`, unless the last one is its own already, at the same endpoint: which of
    /// an endpoint's dialects a connection speaks, its first message says.
    #[inline]
    pub fn begin_run(&mut self, conn: ConnId, endpoint: EndpointId, peer: Peer) {
        if self.runs.last().is_some_and(|run| run.conn == conn && run.endpoint == endpoint) {
            return;
        }
        self.runs.push(Run { conn, endpoint, peer, first: self.items.len() as u32, count: 0 });
    }

    /// Begins a run of `conn`, which is gone, whatever the last one is.
    pub fn begin_run_apart(&mut self, conn: ConnId) {
        // An endpoint that nobody has, so that the connection's own end begins a run of its own.
        let (endpoint, peer) = (EndpointId(u16::MAX), Peer::default());
        self.runs.push(Run { conn, endpoint, peer, first: self.items.len() as u32, count: 0 });
    }

    /// Adds a message of the run's connection: the one copy on the data's way.
    #[inline]
    pub fn push_message(&mut self, kind: MessageKind, payload: &[u8]) {
        let start = self.arena.len() as u32;
        self.arena.extend_from_slice(payload);
        self.messages += 1;
        self.push(Item::Message { kind, over: None, start, len: payload.len() as u32 });
    }

    /// Adds a message that has memory of its own, without a copy.
    pub fn push_big(&mut self, kind: MessageKind, payload: Vec<u8>) {
        self.big_bytes += payload.capacity();
        self.messages += 1;
        let index = self.big.len() as u32;
        self.big.push(payload);
        self.push(Item::Big { kind, over: None, index });
    }

    /// Says that the message that was added last is over a limit.
    #[cold]
    pub fn mark_over(&mut self, limit: Limit) {
        if let Some(Item::Message { over, .. } | Item::Big { over, .. }) = self.items.last_mut() {
            *over = Some(limit);
        }
    }

    /// Adds a request head that a hook has to decide on.
    pub fn push_admit(&mut self, head: &[u8]) {
        let start = self.arena.len() as u32;
        self.arena.extend_from_slice(head);
        self.push(Item::Admit { start, len: head.len() as u32 });
    }

    /// Adds rooms to be joined before the upgrade is answered.
    pub fn push_accept(&mut self, accept: Accept) {
        let index = self.accepts.len() as u32;
        self.accepts.push(accept);
        self.push(Item::JoinThenAccept { index });
    }

    /// Adds something to be done for other threads, in this place of the connection's order.
    pub fn push_work(&mut self, work: Box<Work>, is_gone: bool) {
        let index = self.works.len() as u32;
        self.works.push((WorkCell::new(work), is_gone));
        self.push(Item::Work { index });
    }

    /// Adds something for the endpoint's hooks.
    pub fn push_notice(&mut self, notice: Notice) {
        self.push(Item::Notice(notice));
    }

    /// Adds a ping or pong for the endpoint's hooks.
    pub fn push_control(&mut self, pong: bool, payload: &[u8]) {
        let start = self.arena.len() as u32;
        self.arena.extend_from_slice(payload);
        self.push(Item::Control { pong, start, len: payload.len() as u32 });
    }

    /// Adds the end of the run's connection.
    pub fn push_closed(&mut self, cause: Option<CloseCause>) {
        self.push(Item::Closed { cause });
    }

    /// The runs, in order.
    #[inline]
    #[must_use]
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// The indices of a run's items.
    #[inline]
    #[must_use]
    pub fn items_of(&self, run: &Run) -> Range<usize> {
        run.first as usize..(run.first + run.count) as usize
    }

    /// The item at `index`.
    #[inline]
    #[must_use]
    pub fn item(&self, index: usize) -> Taken<'_> {
        let range = |start: u32, len: u32| &self.arena[start as usize..(start + len) as usize];
        match &self.items[index] {
            Item::Message { kind, over, start, len } => {
                Taken::Message { kind: *kind, over: *over, payload: range(*start, *len) }
            }
            Item::Big { kind, over, index } => {
                Taken::Message { kind: *kind, over: *over, payload: &self.big[*index as usize] }
            }
            Item::Admit { start, len } => Taken::Admit { head: range(*start, *len) },
            Item::JoinThenAccept { index } => Taken::JoinThenAccept(&self.accepts[*index as usize]),
            Item::Work { index } => {
                let (work, is_gone) = &self.works[*index as usize];
                Taken::Work { work, is_gone: *is_gone }
            }
            Item::Notice(notice) => Taken::Notice(*notice),
            Item::Control { pong, start, len } => {
                Taken::Control { pong: *pong, payload: range(*start, *len) }
            }
            Item::Closed { cause } => Taken::Closed { cause: *cause },
        }
    }

    /// Connections whose end is in this batch.
    pub fn closed(&self) -> impl Iterator<Item = ConnId> + '_ {
        self.runs.iter().filter_map(|run| {
            let last = self.items_of(run).end.checked_sub(1)?;
            matches!(self.items[last], Item::Closed { .. }).then_some(run.conn)
        })
    }

    #[inline]
    fn push(&mut self, item: Item) {
        self.items.push(item);
        self.runs.last_mut().expect("begin_run comes first").count += 1;
    }
}

/// Empties an arena for reuse; one that has grown beyond `keep_bytes` is made anew.
pub(super) fn empty_arena(arena: &mut Vec<u8>, keep_bytes: usize) {
    arena.clear();
    if arena.capacity() > keep_bytes {
        *arena = Vec::with_capacity(keep_bytes);
    }
}
