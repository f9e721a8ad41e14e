//! What a shard knows of a connection beyond its slot: kept only for those that need it.

use std::collections::HashMap;
use std::sync::Arc;

use super::path::Params;
use super::store::Store;
use crate::id::ConnId;
use crate::worker::Strand;

/// What was found out about a connection before it opened, and stays.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    /// Who it is, as `on_connect` said.
    pub(crate) identity: Option<Box<str>>,
    /// The parameters of its path.
    pub(crate) params: Params,
    /// What it may do beyond what its endpoint grants to everyone.
    pub(crate) permissions: Box<[Box<str>]>,
}

/// What a shard knows of a connection beyond its slot.
#[derive(Debug, Default)]
pub(crate) struct Session {
    pub(crate) facts: Option<Arc<Facts>>,
    /// Rooms that it is in or on its way into, those of its user included.
    pub(crate) rooms: Vec<InRoom>,
    /// Joins so far.
    attempts: u32,
    /// What few connections have.
    pub(crate) extra: Option<Box<Extra>>,
}

/// A room that a connection is in or on its way into.
#[derive(Debug)]
pub(crate) struct InRoom {
    pub(crate) name: Box<str>,
    /// The last of its joins: a refusal of one before says nothing of it.
    attempt: u32,
}

/// What few connections have.
#[derive(Debug, Default)]
pub(crate) struct Extra {
    pub(crate) store: Option<Arc<Store>>,
    /// Its messages that run on the pool apart, one at a time.
    pub(crate) strand: Option<Strand>,
    /// Its pull channels that are being served.
    pub(crate) pulls: Vec<Pull>,
}

/// A pull channel that is being served.
#[derive(Debug)]
pub(crate) struct Pull {
    pub(crate) name: Box<str>,
    /// Something new came since the runner began.
    pub(crate) again: bool,
}

pub(crate) type Sessions = HashMap<ConnId, Session>;

impl Session {
    pub(crate) fn is_in(&self, room: &str) -> bool {
        self.rooms.iter().any(|known| *known.name == *room)
    }

    /// Notes that it is on its way into a room; says which of its joins this is.
    pub(crate) fn join(&mut self, room: &str) -> u32 {
        self.attempts = self.attempts.wrapping_add(1);
        let attempt = self.attempts;
        match self.rooms.iter_mut().find(|known| *known.name == *room) {
            Some(known) => known.attempt = attempt,
            None => self.rooms.push(InRoom { name: room.into(), attempt }),
        }
        attempt
    }

    pub(crate) fn leave(&mut self, room: &str) {
        self.rooms.retain(|known| *known.name != *room);
    }

    /// The room's home did not take it in at this attempt.
    pub(crate) fn refused(&mut self, room: &str, attempt: u32) {
        self.rooms.retain(|known| *known.name != *room || known.attempt != attempt);
    }

    pub(crate) fn extra(&mut self) -> &mut Extra {
        self.extra.get_or_insert_default()
    }

    pub(crate) fn store(&mut self) -> &Arc<Store> {
        self.extra().store.get_or_insert_default()
    }
}

/// The room, named as no client can name one, that all connections of a user are in.
pub(crate) fn room_of_user(user: &str) -> Box<str> {
    format!("{RESERVED}user:{user}").into()
}

/// What the names of the gateway's own rooms begin with.
pub(crate) const RESERVED: char = '\0';
