//! A URL path with a way of speaking and a route table.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use super::admission::{Admission, ConnectRequest};
use super::builtin;
use super::context::Context;
use crate::connection::OverflowPolicy;
use crate::dialect::{Body, Class, CustomDialect, Dialect, ErrorAnswer, JsonDialect, Key, Message};
use crate::protocol::Framing;

/// Which endpoint of the snapshot's append-only table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EndpointId(pub u16);

/// What answers messages of one route. Runs on the connection's shard; must not block.
pub type Handler = Arc<dyn Fn(&mut Context<'_>, &Message<'_>) + Send + Sync>;

/// What decides on a connection before its upgrade is answered. May answer later.
pub type OnConnect = Arc<dyn Fn(&ConnectRequest<'_>, Admission) + Send + Sync>;

/// An [`OnConnect`] in a struct that derives `Debug`.
pub(crate) struct OnConnectDebug(pub(crate) OnConnect);

impl fmt::Debug for OnConnectDebug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnConnect")
    }
}

/// A URL path with a way of speaking and a route table.
#[derive(Clone)]
pub struct Endpoint {
    /// The path, exactly, without the query. No request finds an endpoint over plain TCP by it.
    pub path: String,
    /// How its clients speak.
    pub dialect: Dialect,
    /// How their messages stand in the stream.
    pub framing: Framing,
    /// Whose frames its members share; given to it by its snapshot.
    pub(crate) class: Option<Class>,
    /// Subprotocols that it has. The first that a client asks for and the endpoint has is answered.
    pub subprotocols: Vec<String>,
    /// What happens when bytes owed to a connection pass the limit.
    pub overflow: OverflowPolicy,
    pub(crate) on_connect: Option<OnConnect>,
    routes: HashMap<String, Handler>,
    fallback: Option<Handler>,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut routes: Vec<_> = self.routes.keys().collect();
        routes.sort();
        f.debug_struct("Endpoint")
            .field("path", &self.path)
            .field("dialect", &self.dialect)
            .field("routes", &routes)
            .finish_non_exhaustive()
    }
}

impl Endpoint {
    /// An endpoint without routes.
    #[must_use]
    pub fn new(path: &str, dialect: Dialect) -> Self {
        Self {
            path: path.to_owned(),
            dialect,
            framing: Framing::WebSocket,
            class: None,
            subprotocols: Vec::new(),
            overflow: OverflowPolicy::Close,
            on_connect: None,
            routes: HashMap::new(),
            fallback: None,
        }
    }

    /// The built-in echo: every message comes back as it came.
    #[must_use]
    pub fn echo(path: &str) -> Self {
        Self::new(path, Dialect::Raw).fallback(|ctx, message| ctx.reply(message.body))
    }

    /// The gateway's own JSON dialect with the built-in routes `echo`, `whoami`, `time`, `join`,
    /// `leave`, `publish` and `members`.
    #[must_use]
    pub fn json(path: &str) -> Self {
        builtin::add_to(Self::new(path, Dialect::Json(JsonDialect::default())))
    }

    /// An endpoint in a dialect of one's own.
    #[must_use]
    pub fn custom(path: &str, dialect: impl CustomDialect + 'static) -> Self {
        Self::new(path, Dialect::Custom(Arc::new(dialect)))
    }

    /// Adds a route, or replaces the one of that name.
    #[must_use]
    pub fn route(
        mut self,
        key: &str,
        handler: impl Fn(&mut Context<'_>, &Message<'_>) + Send + Sync + 'static,
    ) -> Self {
        self.routes.insert(key.to_owned(), Arc::new(handler));
        self
    }

    /// What answers messages that no route is for; without it they get error 404.
    #[must_use]
    pub fn fallback(
        mut self,
        handler: impl Fn(&mut Context<'_>, &Message<'_>) + Send + Sync + 'static,
    ) -> Self {
        self.fallback = Some(Arc::new(handler));
        self
    }

    /// Adds a subprotocol.
    #[must_use]
    pub fn subprotocol(mut self, name: &str) -> Self {
        self.subprotocols.push(name.to_owned());
        self
    }

    /// What happens when a connection is too slow for what is sent to it.
    #[must_use]
    pub fn overflow(mut self, policy: OverflowPolicy) -> Self {
        self.overflow = policy;
        self
    }

    /// Asks `hook` before a connection is upgraded. The hook answers through the [`Admission`], at
    /// once or later, from any thread; until then nothing more is read from the connection.
    #[must_use]
    pub fn on_connect(
        mut self,
        hook: impl Fn(&ConnectRequest<'_>, Admission) + Send + Sync + 'static,
    ) -> Self {
        self.on_connect = Some(Arc::new(hook));
        self
    }

    /// Whether requests for the path are for it.
    pub(crate) fn is_at(&self, path: &str) -> bool {
        self.path == path && self.framing == Framing::WebSocket
    }

    /// The same endpoint for connections over plain TCP.
    pub(crate) fn over_tcp(&self) -> Self {
        Self { framing: Framing::Tcp, ..self.clone() }
    }

    /// Appends the frame of an answer in the endpoint's dialect and framing.
    #[inline]
    pub(crate) fn put_answer(
        &self,
        out: &mut Vec<u8>,
        correlation: Option<&[u8]>,
        answer: Result<Body<'_>, &ErrorAnswer<'_>>,
    ) {
        self.dialect.put_answer(self.framing, out, correlation, answer);
    }

    /// The handler for a key.
    #[inline]
    #[must_use]
    pub fn handler(&self, key: &Key<'_>) -> Option<&Handler> {
        if key.is_none() { None } else { self.routes.get(&*key.as_text()) }
            .or(self.fallback.as_ref())
    }
}
