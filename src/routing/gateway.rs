//! The gateway as seen from any thread: push, publish, close.

use std::cell::RefCell;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded};

use super::context::{AskError, Context};
use super::work::{AskWork, Describe, What, Work};
use crate::app::Shared;
use crate::channels::{
    ListTo, Listing, OwnedBody, Publish, RoomBatch, RoomList, RoomMembers, RoomWork, Then, UserWork,
};
use crate::connection::Outbound;
use crate::dialect::{Body, Content};
use crate::id::ConnId;
use crate::public_id::PublicId;
use crate::session::{ConnectionInfo, Login, SlotInfo};
use crate::worker::{Post, PostItem};

/// A handle to a running gateway, for any thread; clones are cheap.
///
/// On threads of one's own, sending waits while a lane is full. Inside handlers it never waits:
/// what is sent leaves when the handler has returned.
#[derive(Clone, Debug)]
pub struct Gateway {
    pub(crate) shared: Arc<Shared>,
    /// Of what is published or pushed with this handle.
    outbound: Outbound,
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
#[inline(always)]
pub(crate) fn take_deferred(mut each: impl FnMut(Deferred)) {
    DEFERRED.with_borrow_mut(|deferred| {
        if let Some(deferred) = deferred
            && !deferred.is_empty()
        {
            deferred.drain(..).for_each(&mut each);
        }
    });
}

/// Whether the calling thread is one that lanes wait for.
fn is_executor() -> bool {
    DEFERRED.with_borrow(Option::is_some)
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

/// How much work of other threads may be on its way to shards.
#[derive(Debug)]
pub(crate) struct Permits {
    left: Mutex<usize>,
    returned: Condvar,
}

impl Permits {
    pub(crate) fn new(count: usize) -> Arc<Self> {
        Arc::new(Self { left: Mutex::new(count), returned: Condvar::new() })
    }
}

/// One place among the work on its way; given back when dropped.
#[derive(Debug)]
pub(crate) struct Permit(Arc<Permits>);

impl Permit {
    fn wait(permits: &Arc<Permits>) -> Self {
        let left = permits.left.lock().unwrap_or_else(PoisonError::into_inner);
        let left = permits.returned.wait_while(left, |left| *left == 0);
        *left.unwrap_or_else(PoisonError::into_inner) -= 1;
        Self(Arc::clone(permits))
    }
}

impl Permit {
    /// A place, if there is one: for threads that must not wait.
    pub(crate) fn take(permits: &Arc<Permits>) -> Option<Self> {
        let mut left = permits.left.lock().unwrap_or_else(PoisonError::into_inner);
        *left = left.checked_sub(1)?;
        Some(Self(Arc::clone(permits)))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        *self.0.left.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.returned.notify_one();
    }
}

impl Gateway {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, outbound: Outbound::default() }
    }

    /// A handle that publishes and pushes with this policy and budget. What `outbound` leaves open is
    /// as this handle, a publish's room and the receivers' endpoints have it.
    #[must_use]
    pub fn with_outbound(&self, outbound: Outbound) -> Self {
        Self { shared: Arc::clone(&self.shared), outbound: outbound.or(self.outbound) }
    }

    /// Sends to one connection, in its own dialect. That it is gone by the time is no error but
    /// counted.
    ///
    /// # Errors
    /// [`Gone`] when the gateway has stopped.
    pub fn push<'a>(&self, conn: ConnId, content: impl Into<Content<'a>>) -> Result<(), Gone> {
        self.push_to(&[conn], content)
    }

    /// Sends to a list of connections, each in its own dialect.
    ///
    /// # Errors
    /// [`Gone`] when the gateway has stopped.
    pub fn push_to<'a>(
        &self,
        conns: &[ConnId],
        content: impl Into<Content<'a>>,
    ) -> Result<(), Gone> {
        let publish = self.new_push(content);
        for conn in conns {
            let (conn, publish) = (*conn, Arc::clone(&publish));
            self.post(conn.loop_index(), Post::of(PostItem::Push { conn, publish }))?;
        }
        Ok(())
    }

    /// Sends to all connections of a user, each in its own dialect.
    ///
    /// # Errors
    /// [`Gone`] when the gateway has stopped.
    pub fn push_to_user<'a>(
        &self,
        user: &str,
        content: impl Into<Content<'a>>,
    ) -> Result<(), Gone> {
        let publish = self.new_push(content);
        self.user(user, UserWork::Push(publish))
    }

    /// Closes all connections of a user, behind what was sent to them so far.
    ///
    /// # Errors
    /// [`Gone`] when the gateway has stopped.
    pub fn kick_user(&self, user: &str, code: u16, reason: &str) -> Result<(), Gone> {
        self.user(user, UserWork::Kick { code, reason: reason.into() })
    }

    /// Asks for a user's logins, the oldest first: they come once, by what is returned. Inside
    /// handlers it is not to be waited for, but in those that may block.
    ///
    /// # Errors
    /// [`Gone`] when the gateway has stopped.
    pub fn logins_of(&self, user: &str) -> Result<Receiver<Vec<Login>>, Gone> {
        let (to, from) = bounded(1);
        self.user(user, UserWork::List(to))?;
        Ok(from)
    }

    /// Asks for all that is known of a connection: it comes once, by what is returned, or that ends
    /// without anything where the connection has. Inside handlers it is not to be waited for.
    ///
    /// # Errors
    /// [`Gone`] when the gateway has stopped.
    pub fn describe(&self, conn: ConnId) -> Result<Receiver<ConnectionInfo>, Gone> {
        let (to, from) = bounded(1);
        self.work(conn, What::Describe(Box::new(Describe { slot: SlotInfo::default(), to })))?;
        Ok(from)
    }

    /// Asks for the rooms that have members and whose names begin with `prefix` and come after
    /// `after`, by name, 1 to [`ROOMS_LISTED_MAX`](crate::limits::ROOMS_LISTED_MAX) of them: they come
    /// once, by what is returned. Every home looks at all of its rooms for that. Inside handlers it
    /// is not to be waited for.
    ///
    /// # Errors
    /// [`Gone`] when the gateway has stopped.
    pub fn rooms(
        &self,
        prefix: &str,
        after: &str,
        limit: usize,
    ) -> Result<Receiver<RoomList>, Gone> {
        let (to, from) = bounded(1);
        for work in self.list_work(prefix, after, limit, ListTo::Thread(to)) {
            self.room(work)?;
        }
        Ok(from)
    }

    /// A list's work at each home.
    pub(crate) fn list_work(
        &self,
        prefix: &str,
        after: &str,
        limit: usize,
        to: ListTo,
    ) -> impl Iterator<Item = RoomWork> + use<> {
        let homes = self.shared.lanes().rooms.len();
        let listing = Arc::new(Listing::new(prefix, after, limit, homes, to));
        (0..homes).map(move |home| {
            let listing = Arc::clone(&listing);
            RoomWork::List { home, listing, then: Then::Nothing }
        })
    }

    /// Asks who is in a room, at most `limit` of them: they come once, by what is returned. Inside
    /// handlers it is not to be waited for.
    ///
    /// # Errors
    /// [`Gone`] when the gateway has stopped.
    pub fn members_of(&self, room: &str, limit: usize) -> Result<Receiver<RoomMembers>, Gone> {
        let (to, from) = bounded(1);
        self.room(RoomWork::Tell { room: room.into(), limit, to, then: Then::Nothing })?;
        Ok(from)
    }

    /// Sends to every open connection, in its own dialect.
    ///
    /// # Errors
    /// [`Gone`] when the gateway has stopped.
    pub fn push_to_all<'a>(&self, content: impl Into<Content<'a>>) -> Result<(), Gone> {
        let publish = self.new_push(content);
        self.post_to_all(&publish, None)
    }

    /// Publishes to all members of `room`.
    ///
    /// # Errors
    /// [`Gone`] when the gateway has stopped.
    pub fn publish<'a>(&self, room: &str, content: impl Into<Content<'a>>) -> Result<(), Gone> {
        let outbound = self.outbound.or(self.shared.snapshot().rooms.outbound(room));
        let memory = &self.shared.memory;
        let publish = Publish::under(outbound, Some(room.into()), None, content.into(), memory);
        let work =
            RoomWork::Publish { room: room.into(), publish, except: None, then: Then::Nothing };
        self.room(work)
    }

    /// Asks a client and hands its answer to `callback`, or why there is none: exactly once, on a
    /// thread that must not block. `key` is what clients of its dialect know the question by.
    ///
    /// # Errors
    /// [`Gone`] when the gateway has stopped; `callback` has been told so or is dropped.
    pub fn ask<'a>(
        &self,
        conn: ConnId,
        key: &str,
        body: impl Into<Body<'a>>,
        timeout: Duration,
        callback: impl FnOnce(Result<Body<'_>, AskError>) + Send + 'static,
    ) -> Result<(), Gone> {
        let body = OwnedBody::from(body.into());
        let ask = AskWork { key: key.into(), body, timeout, callback: Box::new(callback) };
        self.work(conn, What::Ask(Box::new(ask)))
    }

    /// Says that there is something new on a pull channel of a connection: its endpoint's
    /// [runner](crate::Endpoint::pull) will fetch it. Signals that come before it begins are one.
    ///
    /// # Errors
    /// [`Gone`] when the gateway has stopped.
    pub fn signal(&self, conn: ConnId, channel: &str) -> Result<(), Gone> {
        self.work(conn, What::Signal(channel.into()))
    }

    /// Runs `action` on the connection's shard, behind what has come from it so far: to join rooms,
    /// say, once it has logged in elsewhere. Not if the connection is gone.
    ///
    /// # Errors
    /// [`Gone`] when the gateway has stopped.
    pub fn run_on(
        &self,
        conn: ConnId,
        action: impl FnOnce(&mut Context<'_>) + Send + 'static,
    ) -> Result<(), Gone> {
        self.work(conn, What::Call(Box::new(action)))
    }

    /// Closes the connections of all members of a room.
    ///
    /// # Errors
    /// [`Gone`] when the gateway has stopped.
    pub fn close_room(&self, room: &str, code: u16, reason: &str) -> Result<(), Gone> {
        let (room, reason, then) = (room.into(), reason.into(), Then::Nothing);
        self.room(RoomWork::Close { room, code, reason, then })
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

    fn new_push<'a>(&self, content: impl Into<Content<'a>>) -> Arc<Publish> {
        Publish::under(self.outbound, None, None, content.into(), &self.shared.memory)
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

    pub(crate) fn post_to_all(
        &self,
        publish: &Arc<Publish>,
        except: Option<ConnId>,
    ) -> Result<(), Gone> {
        for index in 0..self.shared.loads.len() {
            let publish = Arc::clone(publish);
            self.post(index, Post::of(PostItem::Everyone { publish, except }))?;
        }
        Ok(())
    }

    /// Has something done on a connection's shard. Threads that may wait do so while as much as
    /// may be is on its way already.
    pub(crate) fn work(&self, conn: ConnId, what: What) -> Result<(), Gone> {
        if conn.loop_index() >= self.shared.loads.len() {
            self.shared.count_late_answer();
            return Work::new(what, None).take(true).map_or(Ok(()), |_| Ok(()));
        }
        let permits = &self.shared.permits;
        let permit =
            if is_executor() { Permit::take(permits) } else { Some(Permit::wait(permits)) };
        let Some(permit) = permit else {
            self.shared.count_late_answer();
            what.refuse();
            return Ok(());
        };
        let work = Box::new(Work::new(what, Some(permit)));
        self.post(conn.loop_index(), Post::of(PostItem::Work { conn, work }))
    }

    fn user(&self, user: &str, act: UserWork) -> Result<(), Gone> {
        self.room(RoomWork::User { user: user.into(), act, then: Then::Nothing })
    }

    /// Has work done at its home.
    pub(crate) fn room(&self, work: RoomWork) -> Result<(), Gone> {
        let home = work.home(&self.shared);
        match defer(Deferred::Room(home, work)) {
            Some(Deferred::Room(home, work)) => {
                let batch = Box::new(RoomBatch { work: vec![work] });
                self.shared.lanes().rooms[home].send_blocking(batch).map_err(|_| Gone)
            }
            _ => Ok(()),
        }
    }
}
