//! What a shard knows of a connection beyond its slot: kept only for those that need it.

use std::sync::Arc;

use super::path::Params;
use super::sessions::Rooms;
use super::store::Store;
use crate::session::Identity;
use crate::worker::Strand;

/// What was found out about a connection before it opened, or at its login, and stays.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    /// Who it is.
    pub(crate) identity: Option<Arc<Identity>>,
    /// The parameters of its path.
    pub(crate) params: Params,
    /// What it may do beyond what its endpoint grants to everyone.
    pub(crate) permissions: Box<[Box<str>]>,
}

/// What a shard knows of a connection beyond its slot.
#[derive(Debug, Default)]
pub(crate) struct Session {
    pub(crate) facts: Option<Arc<Facts>>,
    /// Rooms that it is in or on its way into.
    pub(crate) rooms: Rooms,
    /// What few connections have.
    pub(crate) extra: Option<Box<Extra>>,
}

/// What few connections have.
#[derive(Debug, Default)]
pub(crate) struct Extra {
    pub(crate) store: Option<Arc<Store>>,
    /// Who it will be once the user's home has taken it in.
    pub(crate) login: Option<Arc<Identity>>,
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
    /// Who it is, or is on its way to be.
    pub(crate) fn login(&self) -> Option<&Arc<Identity>> {
        let pending = self.extra.as_ref().and_then(|extra| extra.login.as_ref());
        pending.or_else(|| self.facts.as_ref()?.identity.as_ref())
    }

    /// The user's home took it in, unless it has logged out again meanwhile.
    pub(crate) fn logged_in(&mut self, identity: Arc<Identity>) {
        let pending = self.extra.as_mut().map(|extra| &mut extra.login);
        let Some(pending) = pending else { return };
        if pending.take_if(|pending| Arc::ptr_eq(pending, &identity)).is_some() {
            Arc::make_mut(self.facts.get_or_insert_default()).identity = Some(identity);
        }
    }

    /// The user's home did not take it in. It may be on its way to be somebody else meanwhile.
    pub(crate) fn login_refused(&mut self, identity: &Arc<Identity>) {
        if let Some(extra) = &mut self.extra {
            extra.login.take_if(|pending| Arc::ptr_eq(pending, identity));
        }
    }

    /// It is nobody any more; says who it was, or was on its way to be.
    pub(crate) fn log_out(&mut self) -> Option<Arc<Identity>> {
        let pending = self.extra.as_mut().and_then(|extra| extra.login.take());
        let facts = self.facts.as_mut().filter(|facts| facts.identity.is_some());
        pending.or_else(|| Arc::make_mut(facts?).identity.take())
    }

    pub(crate) fn extra(&mut self) -> &mut Extra {
        self.extra.get_or_insert_default()
    }

    pub(crate) fn store(&mut self) -> &Arc<Store> {
        self.extra().store.get_or_insert_default()
    }
}
