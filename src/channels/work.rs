//! Level-1 work: what shards ask of a room's home.

use std::sync::atomic::{AtomicUsize, Ordering::AcqRel};
use std::sync::{Arc, Mutex, OnceLock};

use crossbeam_channel::Sender;

use super::list::{Listing, RoomMembers};
use super::publish::{OwnedBody, Publish};
use crate::app::Shared;
use crate::dialect::ErrorAnswer;
use crate::id::ConnId;
use crate::peer::Peer;
use crate::routing::{Accept, EndpointId};
use crate::session::{Identity, Login, SessionPolicy};

/// Something to do to a room or a user, at its home.
#[expect(missing_docs, reason = "the fields say what they are by their names")]
#[derive(Debug)]
pub enum RoomWork {
    /// `conn` becomes a member; refused, its shard is told at which attempt.
    Join { room: Box<str>, conn: ConnId, who: Option<Arc<Identity>>, attempt: u32, then: Then },
    /// `conn` is a member no more.
    Leave { room: Box<str>, conn: ConnId, who: Option<Arc<Identity>>, then: Then },
    /// All members get it, but for `except`.
    Publish { room: Box<str>, publish: Arc<Publish>, except: Option<ConnId>, then: Then },
    /// All members' connections are closed.
    Close { room: Box<str>, code: u16, reason: Box<str>, then: Then },
    /// Who is in it.
    Members { room: Box<str>, then: Then },
    /// So many of those who are in it are told to who asks.
    Tell { room: Box<str>, limit: usize, to: Sender<RoomMembers>, then: Then },
    /// What rooms there are at one home, as a part of a list of all.
    List { home: usize, listing: Arc<Listing>, then: Then },
    /// A connection becomes its identity's, by this policy; its shard is told what came of it.
    Login { login: Login, peer: Peer, policy: SessionPolicy, then: Then },
    /// A connection is its identity's no more.
    Logout { login: Login, then: Then },
    /// Something that concerns all connections of a user.
    User { user: Box<str>, act: UserWork, then: Then },
}

/// What is done about all connections of a user.
#[expect(missing_docs, reason = "the fields say what they are by their names")]
#[derive(Debug)]
pub enum UserWork {
    /// Each gets it.
    Push(Arc<Publish>),
    /// Each is closed.
    Kick { code: u16, reason: Box<str> },
    /// They are told to who asks, the oldest first.
    List(Sender<Vec<Login>>),
}

impl RoomWork {
    /// The room's or the user's name, which says where its home is; empty for work that names its home.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Join { room, .. }
            | Self::Leave { room, .. }
            | Self::Publish { room, .. }
            | Self::Close { room, .. }
            | Self::Members { room, .. }
            | Self::Tell { room, .. } => room,
            Self::List { .. } => "",
            Self::Login { login, .. } | Self::Logout { login, .. } => login.user(),
            Self::User { user, .. } => user,
        }
    }

    /// The shard that it is for.
    #[must_use]
    pub fn home(&self, shared: &Shared) -> usize {
        match self {
            Self::List { home, .. } => *home,
            _ => shared.home_of(self.name()),
        }
    }

    /// Sets what happens after it.
    pub fn set_then(&mut self, new: Then) {
        match self {
            Self::Join { then, .. }
            | Self::Leave { then, .. }
            | Self::Publish { then, .. }
            | Self::Close { then, .. }
            | Self::Members { then, .. }
            | Self::Tell { then, .. }
            | Self::List { then, .. }
            | Self::Login { then, .. }
            | Self::Logout { then, .. }
            | Self::User { then, .. } => *then = new,
        }
    }
}

/// What happens once the work is done and its posts are queued.
#[derive(Debug)]
pub enum Then {
    /// Nothing.
    Nothing,
    /// The asker is told how it went.
    Report(ReplyTo),
    /// The asker gets an answer that is ready.
    Reply(ReplyTo, Answer),
    /// One of several; the last one acts.
    Last(Arc<Countdown>),
}

/// An answer that waits for room work.
pub type Answer = Result<OwnedBody, ErrorAnswer<'static>>;

/// Whether an answer settles the message that it answers (the handler has returned by then).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settles {
    /// The message counts as handed over until this answer is out.
    Yes,
    /// It was settled before, or is none.
    No,
}

/// Where an answer goes.
#[derive(Debug)]
pub struct ReplyTo {
    /// Whose message is answered.
    pub conn: ConnId,
    /// Its endpoint, which knows the dialect.
    pub endpoint: EndpointId,
    /// What the answer has to carry; `None` where none is wanted.
    pub correlation: Option<Box<[u8]>>,
    /// Whether it settles the message.
    pub settles: Settles,
}

/// Something that waits for several pieces of room work at different homes.
#[derive(Debug)]
pub struct Countdown {
    left: AtomicUsize,
    done: Mutex<Option<Done>>,
    failed: OnceLock<ErrorAnswer<'static>>,
}

/// What the last piece of work sets off.
#[derive(Debug)]
pub enum Done {
    /// The asker gets its answer.
    Reply(ReplyTo, Answer),
    /// The upgrade is answered.
    Accept(ConnId, Box<Accept>),
    /// It is in its rooms, and is to log in before the upgrade is answered.
    LogIn(ConnId, Box<Accept>),
}

impl Countdown {
    /// Acts after `pieces` of work; at least 1.
    #[must_use]
    pub fn new(pieces: usize, done: Done) -> Arc<Self> {
        assert!(pieces > 0);
        let (left, done) = (AtomicUsize::new(pieces), Mutex::new(Some(done)));
        Arc::new(Self { left, done, failed: OnceLock::new() })
    }

    /// One piece could not be done: the last one then tells of this instead, the first that failed.
    pub fn fail(&self, error: ErrorAnswer<'static>) {
        let _ = self.failed.set(error);
    }

    /// What went wrong, if anything has.
    #[must_use]
    pub fn failure(&self) -> Option<&ErrorAnswer<'static>> {
        self.failed.get()
    }

    /// One piece is done; the last one gets what is to be done then.
    pub fn count(&self) -> Option<Done> {
        if self.left.fetch_sub(1, AcqRel) != 1 {
            return None;
        }
        self.done.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take()
    }
}

/// Work of one shard for one home, sent in one piece.
#[derive(Debug, Default)]
pub struct RoomBatch {
    /// In the order in which it was asked for.
    pub work: Vec<RoomWork>,
}
