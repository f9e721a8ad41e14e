//! What a handler can do with one message.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use serde::Serialize;

use super::endpoint::{Endpoint, EndpointId};
use super::gateway::{Gateway, Gone};
use crate::channels::{Answer, OwnedBody, Publish, ReplyTo, RoomWork, Settles, Then};
use crate::dialect::{Body, ErrorAnswer};
use crate::id::ConnId;
use crate::limits::{ROOM_NAME_MAX, ROOMS_PER_CONNECTION_MAX};
use crate::peer::Peer;
use crate::public_id::PublicId;
use crate::worker::{Outgoing, Post, PostItem};

/// Whether a publisher who is a member gets its own publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SelfDelivery {
    /// It does.
    Include,
    /// It does not.
    Exclude,
}

/// What a shard knows of a connection beyond its slot: kept only for those that need it.
#[derive(Debug, Default)]
pub(crate) struct Session {
    pub(crate) identity: Option<Box<str>>,
    pub(crate) rooms: Vec<Box<str>>,
}

pub(crate) type Sessions = HashMap<ConnId, Session>;

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
    /// A [`Responder`] was taken; set once anyone has answered.
    pub(crate) later: Option<Arc<AtomicBool>>,
}

impl Effects {
    /// Whether there is nothing to carry out but, perhaps, an answer that is out already.
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        self.rooms.is_empty() && self.held.is_none() && self.later.is_none() && !self.report
    }

    #[inline]
    pub(crate) fn clear(&mut self) {
        if self.is_plain() {
            self.replied = false;
            return;
        }
        self.rooms.clear();
        self.held = None;
        (self.report, self.replied, self.later) = (false, false, None);
    }
}

/// The shard's parts that a handler works on.
#[derive(Debug)]
pub(crate) struct Parts<'a> {
    pub(crate) out: &'a mut Outgoing,
    pub(crate) sessions: &'a mut Sessions,
    pub(crate) effects: &'a mut Effects,
    pub(crate) gateway: &'a Gateway,
}

/// One message's surroundings: who sent it, and what can be done about it.
#[derive(Debug)]
pub struct Context<'a> {
    pub(crate) conn: ConnId,
    pub(crate) peer: Peer,
    pub(crate) endpoint_id: EndpointId,
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) correlation: Option<&'a [u8]>,
    pub(crate) parts: Parts<'a>,
}

impl Context<'_> {
    /// The connection that sent the message.
    #[must_use]
    pub fn conn(&self) -> ConnId {
        self.conn
    }

    /// The connection's id as clients see it.
    #[must_use]
    pub fn public_id(&self) -> PublicId {
        self.parts.gateway.public_id(self.conn)
    }

    /// The other end of its socket.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.peer.addr()
    }

    /// Who it is, if `on_connect` said so.
    #[must_use]
    pub fn identity(&self) -> Option<&str> {
        self.parts.sessions.get(&self.conn)?.identity.as_deref()
    }

    /// A handle for other threads.
    #[must_use]
    pub fn gateway(&self) -> &Gateway {
        self.parts.gateway
    }

    /// Answers the message. A second answer to the same message is counted and not sent; so is one
    /// to a message that wants none. After room work in the same handler, the answer leaves when
    /// that work is in force.
    #[inline]
    pub fn reply<'b>(&mut self, body: impl Into<Body<'b>>) {
        self.answer(Ok(body.into()));
    }

    /// Answers with a value as JSON.
    pub fn reply_json(&mut self, value: &impl Serialize) {
        match serde_json::to_string(value) {
            Ok(text) => self.answer(Ok(Body::Json(&text))),
            Err(e) => self.reply_error(500, &format!("the answer is no JSON: {e}")),
        }
    }

    /// Answers with an error.
    pub fn reply_error(&mut self, code: u16, message: &str) {
        self.answer(Err(&ErrorAnswer { code, message: message.into() }));
    }

    /// The right to answer, to be used later and on any thread. If the handler answers as well,
    /// or fails, the first answer is the one that is sent.
    #[must_use]
    pub fn later(&mut self) -> Responder {
        let to = self.reply_to(Settles::No);
        let effects = &mut *self.parts.effects;
        let replied = effects.replied;
        let answered = effects.later.get_or_insert_with(|| Arc::new(AtomicBool::new(replied)));
        let answered = Arc::clone(answered);
        Responder { to, answered, gateway: self.parts.gateway.clone() }
    }

    /// Sends to any connection, in its own dialect.
    pub fn push<'b>(&mut self, conn: ConnId, body: impl Into<Body<'b>>) {
        let memory = &self.parts.gateway.shared.memory;
        let publish = Publish::new(None, None, body.into().into(), memory);
        if conn.loop_index() < self.parts.gateway.shared.loads.len() {
            self.parts.out.post(conn.loop_index()).push(PostItem::Push { conn, publish });
        } else {
            // An id that this gateway never gave out: as one whose connection has ended.
            self.parts.gateway.shared.count_late_answer();
        }
    }

    /// Makes the connection a member of a room, created if need be.
    ///
    /// # Errors
    /// What is wrong with the name, or that the connection is in too many rooms.
    pub fn join(&mut self, room: &str) -> Result<(), ErrorAnswer<'static>> {
        check_room(room)?;
        let session = self.parts.sessions.entry(self.conn).or_default();
        if !session.rooms.iter().any(|r| **r == *room) {
            if self.parts.gateway.shared.memory.over_limit() {
                let message = "the gateway is out of memory for rooms";
                return Err(ErrorAnswer { code: 503, message: message.into() });
            }
            if session.rooms.len() >= ROOMS_PER_CONNECTION_MAX {
                let message = format!("in {ROOMS_PER_CONNECTION_MAX} rooms already, the most");
                return Err(ErrorAnswer { code: 429, message: message.into() });
            }
            session.rooms.push(room.into());
        }
        let (room, conn) = (room.into(), self.conn);
        self.parts.effects.rooms.push(RoomWork::Join { room, conn, then: Then::Nothing });
        Ok(())
    }

    /// Ends the connection's membership of a room, if it is a member.
    ///
    /// # Errors
    /// What is wrong with the name.
    pub fn leave(&mut self, room: &str) -> Result<(), ErrorAnswer<'static>> {
        check_room(room)?;
        if let Some(session) = self.parts.sessions.get_mut(&self.conn) {
            session.rooms.retain(|r| **r != *room);
        }
        let (room, conn) = (room.into(), self.conn);
        self.parts.effects.rooms.push(RoomWork::Leave { room, conn, then: Then::Nothing });
        Ok(())
    }

    /// Publishes to all members of a room.
    ///
    /// # Errors
    /// What is wrong with the name.
    pub fn publish<'b>(
        &mut self,
        room: &str,
        body: impl Into<Body<'b>>,
        own: SelfDelivery,
    ) -> Result<(), ErrorAnswer<'static>> {
        check_room(room)?;
        let from = Some(self.public_id());
        let memory = &self.parts.gateway.shared.memory;
        let publish = Publish::new(Some(room.into()), from, body.into().into(), memory);
        let except = (own == SelfDelivery::Exclude).then_some(self.conn);
        let room = room.into();
        let work = RoomWork::Publish { room, publish, except, then: Then::Nothing };
        self.parts.effects.rooms.push(work);
        Ok(())
    }

    /// Closes the connection behind what was answered so far.
    pub fn close(&mut self, code: u16, reason: &str) {
        self.parts.out.post(self.conn.loop_index()).close(self.conn, code, reason);
    }

    /// Asks who is in a room; the room's home answers the message.
    pub(super) fn members(&mut self, room: &str) -> Result<(), ErrorAnswer<'static>> {
        check_room(room)?;
        let work = RoomWork::Members { room: room.into(), then: Then::Nothing };
        self.parts.effects.rooms.push(work);
        Ok(())
    }

    /// Leaves the answer to the home of the room that this message works on.
    pub(super) fn report(&mut self) {
        self.parts.effects.report = true;
        self.parts.effects.replied = true;
    }

    pub(crate) fn reply_to(&self, settles: Settles) -> ReplyTo {
        ReplyTo {
            conn: self.conn,
            endpoint: self.endpoint_id,
            correlation: self.correlation.map(Into::into),
            settles,
        }
    }

    #[inline]
    pub(crate) fn answer(&mut self, answer: Result<Body<'_>, &ErrorAnswer<'_>>) {
        let effects = &*self.parts.effects;
        let taken = |answered: &Arc<AtomicBool>| answered.swap(true, Relaxed);
        if self.correlation.is_none()
            || effects.replied
            || effects.later.as_ref().is_some_and(taken)
        {
            self.parts.gateway.shared.count_late_answer();
            return;
        }
        self.parts.effects.replied = true;
        if self.parts.effects.rooms.is_empty() {
            self.put_answer(answer);
        } else {
            self.parts.effects.held = Some(own(answer));
        }
    }

    #[inline]
    fn put_answer(&mut self, answer: Result<Body<'_>, &ErrorAnswer<'_>>) {
        let (conn, endpoint, correlation) = (self.conn, self.endpoint, self.correlation);
        let post = self.parts.out.post(conn.loop_index());
        let before = post.bytes();
        post.reply(conn, 1, |out| endpoint.put_answer(out, correlation, answer));
        let wrote = post.bytes() - before;
        self.parts.out.wrote(wrote);
    }
}

fn own(answer: Result<Body<'_>, &ErrorAnswer<'_>>) -> Answer {
    match answer {
        Ok(body) => Ok(OwnedBody::from(body)),
        Err(error) => Err(ErrorAnswer {
            code: error.code,
            message: error.message.clone().into_owned().into(),
        }),
    }
}

/// Whether a room may have this name.
pub(crate) fn is_room_name(room: &str) -> bool {
    (1..=ROOM_NAME_MAX).contains(&room.len())
}

fn check_room(room: &str) -> Result<(), ErrorAnswer<'static>> {
    if !is_room_name(room) {
        let message = format!("a room's name has 1 to {ROOM_NAME_MAX} bytes");
        return Err(ErrorAnswer { code: 400, message: message.into() });
    }
    Ok(())
}

/// The right to answer one message later, on any thread. Dropped unanswered, nothing is sent.
///
/// A message is answered once: what comes after its first answer is counted and not sent. An answer to a connection that has ended by then goes nowhere and is counted.
#[derive(Debug)]
pub struct Responder {
    to: ReplyTo,
    /// Shared by all who may answer this message.
    answered: Arc<AtomicBool>,
    gateway: Gateway,
}

impl Responder {
    /// Answers.
    ///
    /// # Errors
    /// [`Gone`] when the gateway has stopped.
    pub fn reply<'b>(self, body: impl Into<Body<'b>>) -> Result<(), Gone> {
        self.answer(Ok(body.into()))
    }

    /// Answers with an error.
    ///
    /// # Errors
    /// [`Gone`] when the gateway has stopped.
    pub fn reply_error(self, code: u16, message: &str) -> Result<(), Gone> {
        self.answer(Err(&ErrorAnswer { code, message: message.into() }))
    }

    fn answer(self, answer: Result<Body<'_>, &ErrorAnswer<'_>>) -> Result<(), Gone> {
        let ReplyTo { conn, endpoint, correlation, .. } = self.to;
        let Some(correlation) = correlation.filter(|_| !self.answered.swap(true, Relaxed)) else {
            self.gateway.shared.count_late_answer();
            return Ok(());
        };
        let snapshot = self.gateway.shared.snapshot();
        let mut post = Post::new(None);
        post.reply(conn, 1, |out| {
            snapshot.endpoint(endpoint).put_answer(out, Some(&correlation), answer);
        });
        self.gateway.post(conn.loop_index(), post)
    }
}
