//! The gateway as seen from any thread: push, publish, close.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use crate::app::Shared;
use crate::channels::{Publish, RoomBatch, RoomWork, Then};
use crate::dialect::Body;
use crate::id::ConnId;
use crate::public_id::PublicId;
use crate::worker::{Post, PostItem};

/// A handle to a running gateway, for any thread; clones are cheap.
///
/// On threads of one's own, sending waits while a lane is full. Inside handlers it never waits:
/// what is sent leaves when the handler has returned.
#[derive(Clone, Debug)]
pub struct Gateway {
    pub(crate) shared: Arc<Shared>,
}

/// The gateway, or what was addressed, is no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

impl fmt::Display for Gone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it is gone")
    }
}

impl std::error::Error for Gone {}

/// Work that a handler left for after its return.
#[derive(Debug)]
pub(crate) enum Deferred {
    Post(usize, Box<Post>),
    Room(usize, RoomWork),
}

thread_local! {
    /// On threads that lanes wait for, sends are kept here until the handler has returned;
    /// elsewhere `None`.
    static DEFERRED: RefCell<Option<Vec<Deferred>>> = const { RefCell::new(None) };
}

/// Makes the calling thread one that must not wait for lanes.
pub(crate) fn adopt_executor() {
    DEFERRED.with_borrow_mut(|deferred| *deferred = Some(Vec::new()));
}

/// Takes what handlers on this thread left to be sent. Returns at once when there is nothing.
#[inline]
pub(crate) fn take_deferred(mut each: impl FnMut(Deferred)) {
    DEFERRED.with_borrow_mut(|deferred| {
        if let Some(deferred) = deferred
            && !deferred.is_empty()
        {
            deferred.drain(..).for_each(&mut each);
        }
    });
}

/// Defers `work` if this thread must not wait; gives it back otherwise.
fn defer(work: Deferred) -> Option<Deferred> {
    DEFERRED.with_borrow_mut(|deferred| match deferred {
        Some(deferred) => {
            deferred.push(work);
            None
        }
        None => Some(work),
    })
}

impl Gateway {
    /// Sends `body` to one connection. That it is gone by the time is no error but counted.
    ///
    /// # Errors
    /// [`Gone`] when the gateway has stopped.
    pub fn push<'a>(&self, conn: ConnId, body: impl Into<Body<'a>>) -> Result<(), Gone> {
        let publish = Publish::new(None, None, body.into().into(), &self.shared.memory);
        self.post(conn.loop_index(), Post::of(PostItem::Push { conn, publish }))
    }

    /// Publishes `body` to all members of `room`.
    ///
    /// # Errors
    /// [`Gone`] when the gateway has stopped.
    pub fn publish<'a>(&self, room: &str, body: impl Into<Body<'a>>) -> Result<(), Gone> {
        let memory = &self.shared.memory;
        let publish = Publish::new(Some(room.into()), None, body.into().into(), memory);
        let work =
            RoomWork::Publish { room: room.into(), publish, except: None, then: Then::Nothing };
        self.room(work)
    }

    /// Closes a connection with a code (1000, 1001, 1008, 1011–1014, 3000–4999) and a reason of at
    /// most 123 bytes. Nothing reaches the client after it.
    ///
    /// # Errors
    /// [`Gone`] when the gateway has stopped.
    pub fn close(&self, conn: ConnId, code: u16, reason: &str) -> Result<(), Gone> {
        let mut post = Post::new(None);
        post.close(conn, code, reason);
        self.post(conn.loop_index(), post)
    }

    /// What clients see of an id.
    #[must_use]
    pub fn public_id(&self, conn: ConnId) -> PublicId {
        self.shared.ids.encode(conn)
    }

    /// The connection that a client named by its public id; `None` if it is none of this run's.
    #[must_use]
    pub fn conn_of(&self, public_id: &str) -> Option<ConnId> {
        self.shared.ids.decode(public_id)
    }

    pub(crate) fn post(&self, loop_index: usize, post: Box<Post>) -> Result<(), Gone> {
        if loop_index >= self.shared.loads.len() {
            // An id that this gateway never gave out: as one whose connection has ended.
            self.shared.count_late_answer();
            return Ok(());
        }
        match defer(Deferred::Post(loop_index, post)) {
            Some(Deferred::Post(index, post)) => {
                self.shared.lanes().mailboxes[index].send_blocking(post).map_err(|_| Gone)
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn room(&self, work: RoomWork) -> Result<(), Gone> {
        let home = self.shared.home_of(work.room());
        match defer(Deferred::Room(home, work)) {
            Some(Deferred::Room(home, work)) => {
                let batch = Box::new(RoomBatch { work: vec![work] });
                self.shared.lanes().rooms[home].send_blocking(batch).map_err(|_| Gone)
            }
            _ => Ok(()),
        }
    }
}
