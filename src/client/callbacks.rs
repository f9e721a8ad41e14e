//! What a client calls when.

use std::sync::Arc;

use super::cause::{Cause, CloseBegun, DialError};
use super::handle::Handle;
use super::incoming::Incoming;
use super::options::Options;
use crate::protocol::MessageKind;

type OnMessage = dyn Fn(&Handle, MessageKind, &[u8]) + Send + Sync;
type OnEvent = dyn Fn(&Handle) + Send + Sync;
type OnPayload = dyn Fn(&Handle, &[u8]) + Send + Sync;
type OnClosing = dyn Fn(&Handle, &CloseBegun) + Send + Sync;
type OnClosed = dyn Fn(&Handle, &Cause) + Send + Sync;
type OnDialFailed = dyn Fn(&Handle, &DialError) + Send + Sync;
pub(super) type OnRoute = dyn Fn(&Handle, &Incoming<'_>) + Send + Sync;

#[derive(Clone, Default)]
pub(super) struct Callbacks {
    pub(super) message: Option<Arc<OnMessage>>,
    pub(super) established: Option<Arc<OnEvent>>,
    pub(super) closing: Option<Arc<OnClosing>>,
    pub(super) closed: Option<Arc<OnClosed>>,
    pub(super) displaced: Option<Arc<OnEvent>>,
    pub(super) dial_failed: Option<Arc<OnDialFailed>>,
    pub(super) ping: Option<Arc<OnPayload>>,
    pub(super) pong: Option<Arc<OnPayload>>,
    pub(super) routes: Vec<(String, Arc<OnRoute>)>,
}

impl Callbacks {
    /// Whether there is a route of exactly this key.
    pub(super) fn has(&self, key: &str) -> bool {
        self.routes.iter().any(|(route, _)| route == key)
    }

    /// The handler of the route that matches `key` best.
    pub(super) fn route(&self, key: &str) -> Option<&OnRoute> {
        let matches = |route: &str| match route.strip_suffix('*') {
            Some(prefix) => key.starts_with(prefix),
            None => route == key,
        };
        let found = self.routes.iter().filter(|(route, _)| matches(route));
        // A name is better than a prefix of the same letters, which has a star more.
        let best = found.max_by_key(|(route, _)| (!route.ends_with('*'), route.len()));
        best.map(|(_, call)| &**call)
    }
}

/// What to call when.
impl Options {
    /// Called with each message as it came, before any route: for
    /// [`Dialect::Raw`](crate::Dialect::Raw), or to listen in.
    #[must_use]
    pub fn on_message(
        mut self,
        call: impl Fn(&Handle, MessageKind, &[u8]) + Send + Sync + 'static,
    ) -> Self {
        self.on.message = Some(Arc::new(call));
        self
    }

    /// Called when a connection is open, also after each reconnect.
    #[must_use]
    pub fn on_established(mut self, call: impl Fn(&Handle) + Send + Sync + 'static) -> Self {
        self.on.established = Some(Arc::new(call));
        self
    }

    /// Called when the first Close of an open connection was sent or has come. A connection that is
    /// lost has none; [`on_closed`](Self::on_closed) follows in any case.
    #[must_use]
    pub fn on_closing(
        mut self,
        call: impl Fn(&Handle, &CloseBegun) + Send + Sync + 'static,
    ) -> Self {
        self.on.closing = Some(Arc::new(call));
        self
    }

    /// Called when a connection that was open is gone.
    #[must_use]
    pub fn on_closed(mut self, call: impl Fn(&Handle, &Cause) + Send + Sync + 'static) -> Self {
        self.on.closed = Some(Arc::new(call));
        self
    }

    /// Called when the server says that this client is displaced by another of the same identity, once
    /// for each connection; [`on_closed`](Self::on_closed) follows with [`Cause::Displaced`].
    ///
    /// That is said by the Close's code ([`displaced_code`](Self::displaced_code)), in `hub` by a
    /// packet of protocol 2147483647, in `kim` by a push of `login.signin`, and by the push that
    /// [`displaced_by`](Self::displaced_by) names. Such a push is routed as well.
    #[must_use]
    pub fn on_displaced(mut self, call: impl Fn(&Handle) + Send + Sync + 'static) -> Self {
        self.on.displaced = Some(Arc::new(call));
        self
    }

    /// Called when a try to connect has failed.
    #[must_use]
    pub fn on_dial_failed(
        mut self,
        call: impl Fn(&Handle, &DialError) + Send + Sync + 'static,
    ) -> Self {
        self.on.dial_failed = Some(Arc::new(call));
        self
    }

    /// Called with the payload of a ping from the server, or with nothing at a ping of the dialect's
    /// own. It is answered without this.
    #[must_use]
    pub fn on_ping(mut self, call: impl Fn(&Handle, &[u8]) + Send + Sync + 'static) -> Self {
        self.on.ping = Some(Arc::new(call));
        self
    }

    /// Called with the payload of a pong from the server, or with nothing at a pong of the dialect's
    /// own.
    #[must_use]
    pub fn on_pong(mut self, call: impl Fn(&Handle, &[u8]) + Send + Sync + 'static) -> Self {
        self.on.pong = Some(Arc::new(call));
        self
    }

    /// Called with what the server pushes or asks under `key`: a name, a decimal in dialects that
    /// number, a `prefix.*`, or `*` for all that has no route of its own. The longest match is it.
    #[must_use]
    pub fn route(
        mut self,
        key: &str,
        call: impl Fn(&Handle, &Incoming<'_>) + Send + Sync + 'static,
    ) -> Self {
        self.on.routes.push((key.to_owned(), Arc::new(call)));
        self
    }
}
