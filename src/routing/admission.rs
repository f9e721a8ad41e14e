//! Deciding on a connection before its upgrade is answered.

use std::net::SocketAddr;

use super::gateway::Gateway;
use crate::id::ConnId;
use crate::session::Identity;
use crate::worker::{Post, PostItem};

/// A request that `on_connect` has to decide on.
#[derive(Debug)]
pub struct ConnectRequest<'a> {
    /// The path, without the query.
    pub path: &'a str,
    /// What stands behind the `?`.
    pub query: Option<&'a str>,
    /// The parameters of the path.
    pub params: &'a super::path::Params,
    /// The client's address: the other end of the socket, or whom a trusted proxy names; `[::]:0` over a Unix-domain socket, which has no address.
    pub peer: SocketAddr,
    /// The id that the connection will have.
    pub conn: ConnId,
    pub(crate) request: &'a crate::protocol::handshake::Request<'a>,
}

impl ConnectRequest<'_> {
    /// The first header of that name (case does not matter), if it is text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.request.header(name).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// The subprotocols that the client asks for, best first (RFC 6455, 4.1).
    pub fn subprotocols(&self) -> impl Iterator<Item = &str> {
        self.request.subprotocols()
    }
}

/// Yes: the upgrade is answered with this.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accept {
    /// The subprotocol to answer, one of [`ConnectRequest::subprotocols`]: clients give up on
    /// another. `None` leaves the choice to the endpoint.
    pub subprotocol: Option<String>,
    /// More headers of the answer.
    pub headers: Vec<(String, String)>,
    /// Who this is, as handlers will see it.
    pub identity: Option<Identity>,
    /// What it may do beyond what its endpoint grants to everyone.
    pub permissions: Vec<String>,
    /// Rooms that the connection is in before the upgrade is answered.
    pub rooms: Vec<String>,
}

impl Accept {
    /// Whether the shard has something to do before the upgrade is answered.
    #[must_use]
    pub fn needs_shard(&self) -> bool {
        self.identity.is_some() || !self.rooms.is_empty() || !self.permissions.is_empty()
    }
}

/// No: the request is answered with this and the connection closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refuse {
    /// HTTP status, 400 to 599.
    pub status: u16,
    /// More headers of the answer.
    pub headers: Vec<(String, String)>,
    /// Text of the answer.
    pub body: String,
}

impl Refuse {
    /// A refusal without headers.
    #[must_use]
    pub fn new(status: u16, body: &str) -> Self {
        Self { status, headers: Vec::new(), body: body.to_owned() }
    }
}

/// What `on_connect` decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The connection may open.
    Accept(Accept),
    /// It may not.
    Refuse(Refuse),
}

/// The right to answer one connection's request, once. Dropped unanswered, it refuses with 500.
#[derive(Debug)]
pub struct Admission {
    conn: ConnId,
    gateway: Gateway,
    answered: bool,
}

impl Admission {
    pub(crate) fn new(conn: ConnId, gateway: Gateway) -> Self {
        Self { conn, gateway, answered: false }
    }

    /// Lets the connection open.
    pub fn accept(self, accept: Accept) {
        self.answer(Verdict::Accept(accept));
    }

    /// Refuses the connection.
    pub fn refuse(self, refuse: Refuse) {
        self.answer(Verdict::Refuse(refuse));
    }

    /// Answers either way.
    pub fn answer(mut self, verdict: Verdict) {
        self.send(verdict);
    }

    /// There was nothing to decide: whoever let the request in answers it.
    pub(crate) fn decided(mut self) {
        self.answered = true;
    }

    fn send(&mut self, verdict: Verdict) {
        self.answered = true;
        let conn = self.conn;
        let item = match verdict {
            Verdict::Accept(accept) => PostItem::Accept { conn, accept: Box::new(accept) },
            Verdict::Refuse(refuse) => PostItem::Refuse { conn, refuse: Box::new(refuse) },
        };
        // Gone only when the gateway is, and the connection with it.
        let _ = self.gateway.post(conn.loop_index(), Post::of(item));
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        if !self.answered {
            self.send(Verdict::Refuse(Refuse::new(500, "The connection was not decided on.\n")));
        }
    }
}
