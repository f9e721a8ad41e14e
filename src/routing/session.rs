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
    /// What it may do besides for as long as it is logged in.
    pub(crate) by_login: Box<[Box<str>]>,
}

/// Who a connection is on its way to be.
#[derive(Debug)]
pub(crate) struct PendingLogin {
    pub(crate) identity: Arc<Identity>,
    /// What it may do then.
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
    pub(crate) login: Option<PendingLogin>,
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
        let pending = pending.map(|pending| &pending.identity);
        pending.or_else(|| self.facts.as_ref()?.identity.as_ref())
    }

    /// The user's home took it in, unless it has logged out again meanwhile.
    pub(crate) fn logged_in(&mut self, identity: Arc<Identity>) {
        let Some(extra) = &mut self.extra else { return };
        let is_it = |pending: &mut PendingLogin| Arc::ptr_eq(&pending.identity, &identity);
        let Some(PendingLogin { permissions, .. }) = extra.login.take_if(is_it) else { return };
        if extra.is_empty() {
            // There was nothing in it but the login.
            self.extra = None;
        }
        let facts = Arc::make_mut(self.facts.get_or_insert_default());
        (facts.identity, facts.by_login) = (Some(identity), permissions);
    }

    /// The user's home did not take it in. `false`: it has logged out again meanwhile, and may be on
    /// its way to be somebody else.
    pub(crate) fn login_refused(&mut self, identity: &Arc<Identity>) -> bool {
        let Some(extra) = &mut self.extra else { return false };
        extra.login.take_if(|pending| Arc::ptr_eq(&pending.identity, identity)).is_some()
    }

    /// It is nobody any more; says who it was, or was on its way to be.
    pub(crate) fn log_out(&mut self) -> Option<Arc<Identity>> {
        if let Some(pending) = self.extra.as_mut().and_then(|extra| extra.login.take()) {
            return Some(pending.identity);
        }
        let facts = Arc::make_mut(self.facts.as_mut().filter(|facts| facts.identity.is_some())?);
        facts.by_login = Box::default();
        facts.identity.take()
    }

    pub(crate) fn extra(&mut self) -> &mut Extra {
        self.extra.get_or_insert_default()
    }

    pub(crate) fn store(&mut self) -> &Arc<Store> {
        self.extra().store.get_or_insert_default()
    }
}

impl Extra {
    fn is_empty(&self) -> bool {
        let Self { store, login, strand, pulls } = self;
        store.is_none() && login.is_none() && strand.is_none() && pulls.is_empty()
    }
}

impl Facts {
    /// Whether it has a permission beyond those of its endpoint.
    pub(crate) fn may(&self, permission: &str) -> bool {
        self.all_permissions().any(|has| *has == *permission)
    }

    /// What it may do beyond what its endpoint grants to everyone.
    pub(crate) fn all_permissions(&self) -> impl Iterator<Item = &str> {
        self.permissions.iter().chain(&self.by_login).map(|permission| &**permission)
    }
}
