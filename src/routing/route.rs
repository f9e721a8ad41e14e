//! One entry of a route table, and what runs around its handler.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::context::Context;
use crate::connection::Outbound;
use crate::dialect::Message;
use crate::quota::{Over, Rate, SharedLimit};

/// What answers messages of one route.
pub type Handler = Arc<dyn Fn(&mut Context<'_>, &Message<'_>) + Send + Sync>;

/// Runs before a route's handler and may stop the message there.
pub type Before = Arc<dyn Fn(&mut Context<'_>, &Message<'_>) -> Flow + Send + Sync>;

/// Runs once a route's handler has returned.
pub type After = Arc<dyn Fn(&mut Context<'_>, &Message<'_>) + Send + Sync>;

/// Whether a message goes on to its handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// It does.
    Continue,
    /// It does not: what runs before has answered it, or it gets no answer but the one that
    /// requests without one get.
    Stop,
}

/// Where a handler runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RunOn {
    /// On the connection's shard: a worker or, with `--workers 0`, the connection's loop. It must
    /// not block and, on a loop, own no descriptor.
    #[default]
    Inline,
    /// On a worker, never on a loop: with `--workers 0` on the pool apart. It must not block.
    Pooled,
    /// On the pool apart: it may block. A connection's messages there run one at a time, in their
    /// order, and hold back none of its other routes.
    Blocking,
}

/// One entry of a route table.
#[derive(Clone)]
pub struct Route {
    pub(crate) handler: Handler,
    pub(crate) permission: Option<Box<str>>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) run_on: RunOn,
    pub(crate) outbound: Outbound,
    pub(crate) limit: Option<SharedLimit>,
}

impl Route {
    /// A route that anybody may use.
    #[must_use]
    pub fn new(handler: impl Fn(&mut Context<'_>, &Message<'_>) + Send + Sync + 'static) -> Self {
        Self::of(Arc::new(handler))
    }

    pub(crate) fn of(handler: Handler) -> Self {
        Self {
            handler,
            permission: None,
            timeout: None,
            run_on: RunOn::Inline,
            outbound: Outbound::default(),
            limit: None,
        }
    }

    /// Only connections that have this permission get further than error 403.
    #[must_use]
    pub fn permission(mut self, name: &str) -> Self {
        self.permission = Some(name.into());
        self
    }

    /// A request that is not answered by then is answered with error 504; what comes later is
    /// counted and not sent. Handlers that answer before they return are not timed.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// How many messages it takes of all connections together, and what happens over that. Under
    /// [`Over::Delay`] a message is handled all the same, and its connection is not read from until
    /// the rate has caught up; once that takes more than 10 s, further messages are refused as under
    /// [`Over::Reject`].
    #[must_use]
    pub fn rate(mut self, rate: Rate, over: Over) -> Self {
        self.limit = Some(SharedLimit::new(rate, over));
        self
    }

    /// Where the handler runs.
    #[must_use]
    pub fn run_on(mut self, run_on: RunOn) -> Self {
        self.run_on = run_on;
        self
    }

    /// What becomes of that which its handler publishes or pushes, and what runs around it, where a
    /// receiver is too slow for it. Answers are never dropped.
    #[must_use]
    pub fn outbound(mut self, outbound: Outbound) -> Self {
        self.outbound = outbound;
        self
    }
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Route")
            .field("permission", &self.permission)
            .field("timeout", &self.timeout)
            .field("run_on", &self.run_on)
            .field("outbound", &self.outbound)
            .finish_non_exhaustive()
    }
}
