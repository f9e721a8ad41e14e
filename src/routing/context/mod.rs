//! What a handler can do with one message.

mod answer;
mod ask;
mod login;
mod rooms;
mod send;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

pub use answer::Responder;
pub use ask::AskError;
pub(crate) use ask::{AskCallback, Pending, ticks};
pub use rooms::SelfDelivery;
pub(crate) use rooms::is_room_name;

use super::asks::Asks;
use super::endpoint::{Endpoint, EndpointId};
use super::gateway::Gateway;
use super::path::Params;
use super::session::Facts;
use super::sessions::Sessions;
use super::store::Store;
use super::timeouts::Timeouts;
use crate::app::Snapshot;
use crate::channels::{Answer, ReplyTo, RoomWork, Settles};
use crate::connection::{Outbound, Tick};
use crate::id::ConnId;
use crate::peer::Peer;
use crate::public_id::PublicId;
use crate::session::Identity;
use crate::worker::{Outgoing, Run};

/// What a handler leaves behind for its shard to carry out. Reused from message to message.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    /// Room work, in the order in which it was asked for.
    pub(crate) rooms: Vec<RoomWork>,
    /// An answer that waits for the room work.
    pub(crate) held: Option<Answer>,
    /// The room's home composes the answer.
    pub(crate) report: bool,
    /// An answer is out or held.
    pub(crate) replied: bool,
    /// Set once anyone has answered; shared with a [`Responder`] or the route's deadline.
    pub(crate) answered: Option<Arc<AtomicBool>>,
    /// A [`Responder`] was taken: an answer may come later.
    pub(crate) taken: bool,
}

impl Effects {
    /// Whether there is nothing to carry out but, perhaps, an answer that is out already.
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        self.rooms.is_empty() && self.held.is_none() && self.answered.is_none() && !self.report
    }

    #[inline]
    pub(crate) fn clear(&mut self) {
        if self.is_plain() {
            self.replied = false;
            return;
        }
        self.rooms.clear();
        self.held = None;
        self.answered = None;
        (self.report, self.replied, self.taken) = (false, false, false);
    }
}

/// The shard's parts that a handler works on.
#[derive(Debug)]
pub(crate) struct Parts<'a> {
    pub(crate) out: &'a mut Outgoing,
    pub(crate) sessions: &'a mut Sessions,
    pub(crate) effects: &'a mut Effects,
    pub(crate) asks: &'a mut Asks<Pending>,
    pub(crate) timeouts: &'a mut Timeouts,
    pub(crate) gateway: &'a Gateway,
    pub(crate) now: Tick,
}

/// Something to be done on the connection's shard.
pub(crate) type Action = Box<dyn FnOnce(&mut Context<'_>) + Send>;

/// What a handler on the pool apart works on: it records what the shard carries out when it has
/// returned.
pub(crate) struct Away {
    pub(crate) gateway: Gateway,
    pub(crate) facts: Option<Arc<Facts>>,
    pub(crate) store: Arc<Store>,
    pub(crate) answered: Option<Arc<AtomicBool>>,
    pub(crate) is_taken: bool,
    pub(crate) outbound: Outbound,
    pub(crate) actions: Vec<Action>,
}

/// Where a handler runs.
pub(crate) enum Place<'a> {
    /// On the connection's shard.
    Shard(Parts<'a>),
    /// On the pool apart.
    Away(&'a mut Away),
}

/// One message's surroundings: who sent it, and what can be done about it.
///
/// What a handler does on the pool apart takes effect, in order, when it has returned.
pub struct Context<'a> {
    pub(crate) conn: ConnId,
    pub(crate) peer: Peer,
    pub(crate) endpoint_id: EndpointId,
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) correlation: Option<&'a [u8]>,
    pub(crate) is_request: bool,
    /// Of what is published or pushed from here on: its own, or else its route's.
    pub(crate) outbound: Outbound,
    pub(crate) place: Place<'a>,
}

impl std::fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("conn", &self.conn).finish_non_exhaustive()
    }
}

impl<'a> Context<'a> {
    /// The surroundings of something that concerns a connection, with nothing to answer.
    #[inline(always)]
    pub(crate) fn new(run: &Run, snapshot: &'a Snapshot, place: Place<'a>) -> Self {
        Self {
            conn: run.conn,
            peer: run.peer,
            endpoint_id: run.endpoint,
            snapshot,
            endpoint: snapshot.endpoint(run.endpoint),
            correlation: None,
            is_request: false,
            outbound: Outbound::default(),
            place,
        }
    }

    /// The connection that sent the message.
    #[must_use]
    pub fn conn(&self) -> ConnId {
        self.conn
    }

    /// The connection's id as clients see it.
    #[must_use]
    pub fn public_id(&self) -> PublicId {
        self.gateway().public_id(self.conn)
    }

    /// The client's address: the other end of its socket, or whom a trusted proxy names; `[::]:0` over a Unix-domain socket, which has no address.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.peer.addr()
    }

    /// The endpoint that it is connected to.
    #[must_use]
    pub fn endpoint(&self) -> &'a Endpoint {
        self.endpoint
    }

    /// Who it is, if its request, `on_connect` or its login said so.
    #[must_use]
    pub fn identity(&self) -> Option<&Identity> {
        self.facts()?.identity.as_deref()
    }

    /// A parameter of the path that it connected to: `name` of `/room/{name}`.
    #[must_use]
    pub fn param(&self, name: &str) -> Option<&str> {
        self.params()?.get(name)
    }

    /// All parameters of that path.
    #[must_use]
    pub fn params(&self) -> Option<&Params> {
        Some(&self.facts()?.params)
    }

    /// Whether it has a permission: by its endpoint's grants, by `on_connect`, or by its
    /// login.
    #[must_use]
    pub fn may(&self, permission: &str) -> bool {
        let has = |all: &[Box<str>]| all.iter().any(|p| **p == *permission);
        has(&self.endpoint.grants) || self.facts().is_some_and(|facts| facts.may(permission))
    }

    /// The connection's own key–value store, which lives as long as it does. May be kept and used
    /// on any thread.
    #[must_use]
    pub fn store(&mut self) -> Arc<Store> {
        match &mut self.place {
            Place::Shard(parts) => Arc::clone(parts.sessions.entry(self.conn).or_default().store()),
            Place::Away(away) => Arc::clone(&away.store),
        }
    }

    /// A handle for other threads.
    #[must_use]
    pub fn gateway(&self) -> &Gateway {
        match &self.place {
            Place::Shard(parts) => parts.gateway,
            Place::Away(away) => &away.gateway,
        }
    }

    /// Closes the connection behind what was answered so far.
    pub fn close(&mut self, code: u16, reason: &str) {
        match &mut self.place {
            Place::Shard(parts) => {
                parts.out.post(self.conn.loop_index()).close(self.conn, code, reason);
            }
            Place::Away(away) => {
                let reason = reason.to_owned();
                away.record(move |ctx| ctx.close(code, &reason));
            }
        }
    }

    fn facts(&self) -> Option<&Facts> {
        match &self.place {
            Place::Shard(parts) => parts.sessions.get(&self.conn)?.facts.as_deref(),
            Place::Away(away) => away.facts.as_deref(),
        }
    }

    pub(crate) fn reply_to(&self, settles: Settles) -> ReplyTo {
        ReplyTo {
            conn: self.conn,
            endpoint: self.endpoint_id,
            correlation: self.correlation.map(Into::into),
            settles,
        }
    }
}

impl Away {
    pub(crate) fn record(&mut self, action: impl FnOnce(&mut Context<'_>) + Send + 'static) {
        self.actions.push(Box::new(action));
    }
}
