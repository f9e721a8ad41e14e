//! What a handler can do with rooms.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::{Context, Parts, Place};
use crate::channels::{ListTo, Publish, RoomPolicy, RoomWork, Settles, Then};
use crate::dialect::{Content, ErrorAnswer};
use crate::id::ConnId;
use crate::limits::{ROOM_NAME_MAX, ROOMS_PER_CONNECTION_MAX};

/// Whether a publisher who is a member gets its own publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SelfDelivery {
    /// It does.
    Include,
    /// It does not.
    Exclude,
}

impl Context<'_> {
    /// Makes the connection a member of a room, created if need be.
    ///
    /// # Errors
    /// What is wrong with the name, that the connection may not, or that it is in too many rooms.
    pub fn join(&mut self, room: &str) -> Result<(), ErrorAnswer<'static>> {
        check_room(room)?;
        self.check_policy(room, "join", |policy| policy.join.as_deref())?;
        match &mut self.place {
            Place::Shard(parts) => parts.join(self.conn, room),
            Place::Away(away) => {
                let room = room.to_owned();
                away.record(move |ctx| {
                    if let Err(error) = ctx.join(&room) {
                        ctx.answer(Err(&error));
                    }
                });
                Ok(())
            }
        }
    }

    /// Ends the connection's membership of a room, if it is a member.
    ///
    /// # Errors
    /// What is wrong with the name.
    pub fn leave(&mut self, room: &str) -> Result<(), ErrorAnswer<'static>> {
        check_room(room)?;
        match &mut self.place {
            Place::Shard(parts) => {
                let session = parts.sessions.get(&self.conn);
                let who = session.and_then(|session| session.login().cloned());
                parts.sessions.leave(&self.conn, room);
                let (room, conn, then) = (room.into(), self.conn, Then::Nothing);
                parts.effects.rooms.push(RoomWork::Leave { room, conn, who, then });
            }
            Place::Away(away) => {
                let room = room.to_owned();
                away.record(move |ctx| drop(ctx.leave(&room)));
            }
        }
        Ok(())
    }

    /// The rooms that the connection is in or on its way into.
    #[must_use]
    pub fn rooms(&self) -> Vec<&str> {
        let Place::Shard(parts) = &self.place else { return Vec::new() };
        parts.sessions.rooms(&self.conn).collect()
    }

    /// Publishes to all members of a room.
    ///
    /// # Errors
    /// What is wrong with the name, or that the connection may not.
    pub fn publish<'b>(
        &mut self,
        room: &str,
        content: impl Into<Content<'b>>,
        own: SelfDelivery,
    ) -> Result<(), ErrorAnswer<'static>> {
        check_room(room)?;
        self.check_policy(room, "publish to", |policy| policy.publish.as_deref())?;
        let from = Some(self.public_id());
        let outbound = self.outbound.or(self.snapshot.rooms.outbound(room));
        let memory = &self.gateway().shared.memory;
        let publish = Publish::under(outbound, Some(room.into()), from, content.into(), memory);
        let except = (own == SelfDelivery::Exclude).then_some(self.conn);
        let room = room.into();
        self.work_on(RoomWork::Publish { room, publish, except, then: Then::Nothing });
        Ok(())
    }

    /// Closes the connections of all members of a room, behind what was published to it so far.
    ///
    /// # Errors
    /// What is wrong with the name.
    pub fn close_room(
        &mut self,
        room: &str,
        code: u16,
        reason: &str,
    ) -> Result<(), ErrorAnswer<'static>> {
        check_room(room)?;
        let (room, reason) = (room.into(), reason.into());
        self.work_on(RoomWork::Close { room, code, reason, then: Then::Nothing });
        Ok(())
    }

    /// Asks who is in a room; the room's home answers the message. What may not be joined may not be
    /// looked into either.
    pub(crate) fn members(&mut self, room: &str) -> Result<(), ErrorAnswer<'static>> {
        check_room(room)?;
        if !self.rooms().contains(&room) {
            self.check_policy(room, "list", |policy| policy.join.as_deref())?;
        }
        self.work_on(RoomWork::Members { room: room.into(), then: Then::Nothing });
        Ok(())
    }

    /// Has the message answered with the rooms that have members and whose names begin with `prefix`
    /// and come after `after`, so many at most.
    pub(crate) fn list_rooms(&mut self, prefix: &str, after: &str, limit: usize) {
        if let Place::Away(away) = &mut self.place {
            let (prefix, after) = (prefix.to_owned(), after.to_owned());
            return away.record(move |ctx| ctx.list_rooms(&prefix, &after, limit));
        }
        let to = ListTo::Client(self.reply_to(Settles::No));
        let Place::Shard(parts) = &mut self.place else { return };
        let effects = &mut *parts.effects;
        let taken = |answered: &Arc<AtomicBool>| answered.swap(true, Relaxed);
        if effects.replied || effects.answered.as_ref().is_some_and(taken) {
            return parts.gateway.shared.count_late_answer();
        }
        effects.replied = true;
        effects.rooms.extend(parts.gateway.list_work(prefix, after, limit, to));
    }

    /// Leaves the answer to the home of the room that this message works on.
    pub(crate) fn report(&mut self) {
        match &mut self.place {
            Place::Shard(parts) => {
                let effects = &mut *parts.effects;
                let taken = |answered: &Arc<AtomicBool>| answered.swap(true, Relaxed);
                if self.correlation.is_none() {
                } else if effects.replied || effects.answered.as_ref().is_some_and(taken) {
                    parts.gateway.shared.count_late_answer();
                } else {
                    (effects.report, effects.replied) = (true, true);
                }
            }
            Place::Away(away) => away.record(|ctx| ctx.report()),
        }
    }

    pub(super) fn work_on(&mut self, work: RoomWork) {
        match &mut self.place {
            Place::Shard(parts) => parts.effects.rooms.push(work),
            Place::Away(away) => away.record(move |ctx| ctx.work_on(work)),
        }
    }

    fn check_policy<'p>(
        &'p self,
        room: &str,
        verb: &str,
        wanted: impl FnOnce(&'p RoomPolicy) -> Option<&'p str>,
    ) -> Result<(), ErrorAnswer<'static>> {
        match self.snapshot.rooms.find(room).and_then(wanted) {
            Some(permission) if !self.may(permission) => {
                let message = format!("to {verb} this room takes the permission `{permission}`");
                Err(ErrorAnswer::new(403, message))
            }
            _ => Ok(()),
        }
    }
}

impl Parts<'_> {
    fn join(&mut self, conn: ConnId, room: &str) -> Result<(), ErrorAnswer<'static>> {
        if !self.sessions.is_in(&conn, room) {
            if self.gateway.shared.memory.over_limit() {
                return Err(ErrorAnswer::new(503, "the gateway is out of memory for rooms"));
            }
            if self.sessions.room_count(&conn) >= ROOMS_PER_CONNECTION_MAX {
                let message = format!("in {ROOMS_PER_CONNECTION_MAX} rooms already, the most");
                return Err(ErrorAnswer::new(429, message));
            }
        }
        let Some(attempt) = self.sessions.join(conn, room) else {
            return Err(ErrorAnswer::new(503, "there are too many rooms"));
        };
        let who = self.sessions.get(&conn).and_then(|session| session.login().cloned());
        let (room, then) = (room.into(), Then::Nothing);
        self.effects.rooms.push(RoomWork::Join { room, conn, who, attempt, then });
        Ok(())
    }
}

/// Whether a room may have this name.
pub(crate) fn is_room_name(room: &str) -> bool {
    (1..=ROOM_NAME_MAX).contains(&room.len())
}

pub(crate) fn check_room(room: &str) -> Result<(), ErrorAnswer<'static>> {
    if !is_room_name(room) {
        let message = format!("a room's name has 1 to {ROOM_NAME_MAX} bytes");
        return Err(ErrorAnswer::new(400, message));
    }
    Ok(())
}
