//! What a shard knows of a connection beyond its slot: kept only for those that need it.

use std::sync::Arc;

use super::path::Params;
use super::sessions::Rooms;
use super::store::Store;
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
    pub(crate) rooms: Rooms,
    /// What few connections have.
    pub(crate) extra: Option<Box<Extra>>,
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

impl Session {
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
