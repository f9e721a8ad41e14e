//! What other threads want done on a connection's shard, in the order of the connection.
//!
//! It goes by the mailbox of the connection's loop, which knows whether the connection still is
//! there, and from there with the connection's own messages to its shard.

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crossbeam_channel::Sender;

use super::admission::Accept;
use super::context::{Action, AskCallback, AskError, Context};
use super::gateway::Permit;
use crate::session::{ConnectionInfo, Identity, SlotInfo};

/// Something to be done on a connection's shard.
pub struct Work {
    what: What,
    /// Held by work that comes from threads which may be made to wait.
    _permit: Option<Permit>,
}

/// What is to be done.
pub(crate) enum What {
    /// This, with the connection's context.
    Call(Action),
    /// Ask the client.
    Ask(Box<AskWork>),
    /// What a handler on the pool apart left behind.
    Finish(Box<Finish>),
    /// There is something new on a pull channel.
    Signal(Box<str>),
    /// A room's home did not take the connection in, at this attempt.
    Refused { room: Box<str>, attempt: u32 },
    /// It is in its first rooms, and logs in now, which is the last of what it waits for.
    LogIn(Box<Accept>),
    /// The home of its user took it in as this one.
    LoggedIn(Arc<Identity>),
    /// The home of its user did not take it in as this one.
    LoginRefused(Arc<Identity>),
    /// All that is known of the connection is told to who asks; by then its loop has told its part.
    Describe(Box<Describe>),
    /// The runner of a pull channel has ended.
    Pulled { channel: Box<str>, actions: Vec<Action>, failed: bool },
}

/// A question about a connection.
pub(crate) struct Describe {
    pub(crate) slot: SlotInfo,
    pub(crate) to: Sender<ConnectionInfo>,
}

/// A question, on its way to the shard that keeps it open.
pub(crate) struct AskWork {
    pub(crate) key: Box<str>,
    pub(crate) body: crate::channels::OwnedBody,
    pub(crate) timeout: std::time::Duration,
    pub(crate) callback: AskCallback,
}

/// What a handler on the pool apart left behind.
pub(crate) struct Finish {
    pub(crate) correlation: Option<Box<[u8]>>,
    pub(crate) is_request: bool,
    /// Shared with a responder or the route's deadline.
    pub(crate) answered: Option<Arc<AtomicBool>>,
    /// A responder was taken: that no answer is here does not mean that none will come.
    pub(crate) is_taken: bool,
    pub(crate) actions: Vec<Action>,
    /// The handler panicked.
    pub(crate) failed: bool,
}

impl What {
    /// Tells who waits for it that too much is on its way already.
    pub(crate) fn refuse(self) {
        if let Self::Ask(ask) = self {
            (ask.callback)(Err(AskError::TooMany));
        }
    }
}

impl Work {
    pub(crate) fn new(what: What, permit: Option<Permit>) -> Self {
        Self { what, _permit: permit }
    }

    /// A room's home did not take the connection in, at this attempt.
    pub(crate) fn refusal(room: &str, attempt: u32) -> Self {
        Self::new(What::Refused { room: room.into(), attempt }, None)
    }

    /// The connection is in its first rooms, and logs in now.
    pub(crate) fn log_in(accept: Box<Accept>) -> Self {
        Self::new(What::LogIn(accept), None)
    }

    /// The home of its user took the connection in.
    pub(crate) fn logged_in(identity: &Arc<Identity>) -> Self {
        Self::new(What::LoggedIn(Arc::clone(identity)), None)
    }

    /// The home of its user did not take the connection in.
    pub(crate) fn login_refused(identity: &Arc<Identity>) -> Self {
        Self::new(What::LoginRefused(Arc::clone(identity)), None)
    }

    /// Whether somebody meant the connection by it.
    pub(crate) fn is_addressed(&self) -> bool {
        !matches!(
            self.what,
            What::Refused { .. }
                | What::LogIn(_)
                | What::LoggedIn(_)
                | What::LoginRefused(_)
                | What::Describe(_)
        )
    }

    /// Whether it says that the connection is logged in.
    pub(crate) fn is_login(&self) -> bool {
        matches!(self.what, What::LoggedIn(_))
    }

    /// Adds what the connection's loop knows, where that is asked for.
    pub(crate) fn add_slot_info(&mut self, info: impl FnOnce() -> SlotInfo) {
        if let What::Describe(describe) = &mut self.what {
            describe.slot = info();
        }
    }

    /// The work; where the connection is gone, `None`, and who waits for it is told.
    pub(crate) fn take(self, is_gone: bool) -> Option<What> {
        match self.what {
            What::Ask(ask) if is_gone => {
                (ask.callback)(Err(AskError::Closed));
                None
            }
            _ if is_gone => None,
            what => Some(what),
        }
    }
}

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.what {
            What::Call(_) => "Call",
            What::Ask(_) => "Ask",
            What::Finish(_) => "Finish",
            What::Signal(_) => "Signal",
            What::Refused { .. } => "Refused",
            What::LogIn(_) => "LogIn",
            What::LoggedIn(_) => "LoggedIn",
            What::LoginRefused(_) => "LoginRefused",
            What::Describe(_) => "Describe",
            What::Pulled { .. } => "Pulled",
        })
    }
}

/// A place in a batch that work is taken out of while the batch is read.
#[derive(Default)]
pub struct WorkCell(Cell<Option<Box<Work>>>);

impl WorkCell {
    pub(crate) fn new(work: Box<Work>) -> Self {
        Self(Cell::new(Some(work)))
    }

    pub(crate) fn take(&self) -> Option<Box<Work>> {
        self.0.take()
    }
}

impl fmt::Debug for WorkCell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WorkCell")
    }
}

/// Runs what a handler on the pool apart recorded.
pub(crate) fn run_actions(ctx: &mut Context<'_>, actions: Vec<Action>) {
    for action in actions {
        action(ctx);
    }
}
