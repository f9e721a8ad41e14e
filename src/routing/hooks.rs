//! What an endpoint's owner wants to hear of its connections and messages.

use std::fmt;
use std::sync::Arc;

use super::context::Context;
use super::gateway::Gateway;
use super::route::{After, Before};
use crate::id::ConnId;
use crate::session::Identity;
use crate::telemetry::counters::CloseCause;

/// A connection that has ended.
#[derive(Debug)]
pub struct Ended<'a> {
    /// Which; it names nobody any more.
    pub conn: ConnId,
    /// Why; `None` where it never was open.
    pub cause: Option<CloseCause>,
    /// Who it was, if it was anybody.
    pub identity: Option<&'a Identity>,
    /// To tell others by.
    pub gateway: &'a Gateway,
}

type OnEstablished = Arc<dyn Fn(&mut Context<'_>) + Send + Sync>;
type OnClosing = Arc<dyn Fn(&mut Context<'_>, CloseCause) + Send + Sync>;
type OnClosed = Arc<dyn Fn(&Ended<'_>) + Send + Sync>;
type OnControl = Arc<dyn Fn(&mut Context<'_>, &[u8]) + Send + Sync>;

/// What runs around handlers and at the turns of a connection's life.
#[derive(Clone, Default)]
pub(crate) struct Hooks {
    pub(crate) before: Vec<Before>,
    pub(crate) after: Vec<After>,
    pub(crate) established: Option<OnEstablished>,
    pub(crate) closing: Option<OnClosing>,
    pub(crate) closed: Option<OnClosed>,
    pub(crate) ping: Option<OnControl>,
    pub(crate) pong: Option<OnControl>,
    /// What loops tell shards of, so that nothing crosses that nobody wants.
    pub(crate) notices: Notices,
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks").field("notices", &self.notices).finish_non_exhaustive()
    }
}

/// What loops tell shards of: bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Notices(u8);

impl Notices {
    pub(crate) const OPENED: Self = Self(1);
    pub(crate) const CLOSING: Self = Self(1 << 1);
    pub(crate) const CLOSED: Self = Self(1 << 2);
    pub(crate) const PING: Self = Self(1 << 3);
    pub(crate) const PONG: Self = Self(1 << 4);

    #[inline]
    pub(crate) fn has(self, notice: Self) -> bool {
        self.0 & notice.0 != 0
    }

    pub(crate) fn with(self, notice: Self) -> Self {
        Self(self.0 | notice.0)
    }
}
