//! A URL path with a way of speaking and a route table.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::admission::{Accept, Admission, ConnectRequest};
use super::builtin;
use super::context::Context;
use super::hooks::{Ended, Hooks, Notices};
use super::identity::IdentitySource;
use super::login::LoginRule;
use super::origin::Origins;
use super::path::{PathPattern, PatternError, Template};
use super::route::{Flow, Route};
use super::table::RouteTable;
use super::twins::AllTwins;
use super::typed::{json_handler, proto_handler};
use crate::connection::OverflowPolicy;
use crate::dialect::{Body, Class, CustomDialect, Dialect, ErrorAnswer, JsonDialect, Key, Message};
use crate::protocol::{Framing, TcpFraming};
use crate::quota::{ConnectionLimits, Over, Rate};
use crate::session::SessionPolicy;

/// Which endpoint of the snapshot's append-only table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct EndpointId(pub u16);

/// What decides on a connection before its upgrade is answered. May answer later.
pub type OnConnect = Arc<dyn Fn(&ConnectRequest<'_>, Admission) + Send + Sync>;

/// An [`OnConnect`] in a struct that derives `Debug`.
pub(crate) struct OnConnectDebug(pub(crate) OnConnect);

impl fmt::Debug for OnConnectDebug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnConnect")
    }
}

/// What fetches what is new on a pull channel.
pub type Runner = Arc<dyn Fn(&mut Context<'_>) + Send + Sync>;

/// A URL path with a way of speaking and a route table.
#[derive(Clone)]
pub struct Endpoint {
    /// The path, without the query. No request finds an endpoint over plain TCP by it.
    pub path: PathPattern,
    /// How its clients speak.
    pub dialect: Dialect,
    /// How their messages stand in the stream.
    pub framing: Framing,
    /// Subprotocols that it has. The first that a client asks for and the endpoint has is answered.
    pub subprotocols: Vec<String>,
    /// What happens when bytes owed to a connection pass the limit.
    pub overflow: OverflowPolicy,
    /// Longest message; the gateway's own limit holds beside it.
    pub max_message_bytes: Option<usize>,
    /// Bytes owed to one connection; the gateway's own limit holds beside it.
    pub outbound_limit_bytes: Option<usize>,
    /// How its connections are found dead, where not as the gateway's are.
    pub liveness: Liveness,
    /// From which pages browsers may connect.
    pub origins: Origins,
    /// What each of its connections may send.
    pub limits: ConnectionLimits,
    /// Connections that it has at once, in all its dialects and framings together.
    pub max_connections: Option<usize>,
    /// HTTP status for those over it, 400 to 599.
    pub full_status: u16,
    /// Whose frames its members share; given to it by its snapshot.
    pub(crate) class: Option<Class>,
    pub(crate) on_connect: Option<OnConnect>,
    pub(crate) hooks: Hooks,
    /// What happens when an identity connects that is connected already.
    pub session: SessionPolicy,
    /// What its connections have to do before they may do more.
    pub(crate) login: Option<Arc<LoginRule>>,
    /// What every connection may do.
    pub(crate) grants: Vec<Box<str>>,
    /// Rooms that every connection is in from the start.
    pub(crate) joins: Vec<Template>,
    pub(crate) pulls: HashMap<Box<str>, Runner>,
    /// Other dialects at the same path.
    pub(crate) also: Vec<Dialect>,
    /// The endpoints that they became, by the snapshot's table.
    pub(crate) twins: AllTwins,
    /// The endpoint at the same path that it is another dialect of.
    pub(crate) base: Option<EndpointId>,
    /// It is another endpoint's, in another dialect or framing, and not found by its path.
    is_twin: bool,
    routes: RouteTable<Route>,
}

/// How connections are found dead. `None`: as the gateway has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Liveness {
    /// Silence after which a ping goes out; `Some(None)` is never.
    pub ping_interval: Option<Option<Duration>>,
    /// From a ping to any byte of the peer.
    pub pong_timeout: Option<Duration>,
    /// Silence after which the connection is closed; `Some(None)` is never.
    pub idle_timeout: Option<Option<Duration>>,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut routes: Vec<_> = self.routes.keys().collect();
        routes.sort_unstable();
        f.debug_struct("Endpoint")
            .field("path", &self.path)
            .field("dialect", &self.dialect)
            .field("framing", &self.framing)
            .field("routes", &routes)
            .finish_non_exhaustive()
    }
}

impl Endpoint {
    /// An endpoint without routes. In `path`, `{name}` stands for any one segment:
    /// [`Context::param`] says which it was.
    ///
    /// # Panics
    /// If `path` is none; [`try_new`](Self::try_new) says so instead.
    #[must_use]
    pub fn new(path: &str, dialect: Dialect) -> Self {
        match Self::try_new(path, dialect) {
            Ok(endpoint) => endpoint,
            Err(e) => panic!("`{path}` is no path of an endpoint: {e}"),
        }
    }

    /// An endpoint without routes.
    ///
    /// # Errors
    /// What was expected instead of `path`.
    pub fn try_new(path: &str, dialect: Dialect) -> Result<Self, PatternError> {
        Ok(Self {
            path: PathPattern::parse(path)?,
            dialect,
            framing: Framing::WebSocket,
            subprotocols: Vec::new(),
            overflow: OverflowPolicy::Close,
            max_message_bytes: None,
            outbound_limit_bytes: None,
            liveness: Liveness::default(),
            origins: Origins::default(),
            limits: ConnectionLimits::default(),
            max_connections: None,
            full_status: 503,
            class: None,
            on_connect: None,
            hooks: Hooks::default(),
            session: SessionPolicy::Allow,
            login: None,
            grants: Vec::new(),
            joins: Vec::new(),
            pulls: HashMap::new(),
            also: Vec::new(),
            twins: AllTwins::default(),
            base: None,
            is_twin: false,
            routes: RouteTable::new(),
        })
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
        Self::new(path, Dialect::Json(JsonDialect::default())).builtin()
    }

    /// An endpoint in a dialect of one's own.
    #[must_use]
    pub fn custom(path: &str, dialect: impl CustomDialect + 'static) -> Self {
        Self::new(path, Dialect::Custom(Arc::new(dialect)))
    }

    /// System C's rooms: connections are in the room that their path, `/room/{name}`, names, and
    /// speak to it by events.
    ///
    /// # Errors
    /// What was expected instead of `path` and `room`.
    pub fn room(path: &str, room: &str) -> Result<Self, PatternError> {
        Ok(builtin::add_room_to(Self::try_new(path, Dialect::Event)?.join(room)?))
    }

    /// Adds the built-in routes of its dialect, and of those that it [also](Self::also) speaks by now:
    /// `docs/DIALECTS.md`.
    #[must_use]
    pub fn builtin(self) -> Self {
        builtin::add_to(self)
    }

    /// Adds a route, or replaces the one of that key: a name; `chat.*` for all that begin with
    /// `chat.`; `*` for what no other route is for; or, in dialects that number what they can do, a
    /// decimal.
    #[must_use]
    pub fn route(
        self,
        key: &str,
        handler: impl Fn(&mut Context<'_>, &Message<'_>) + Send + Sync + 'static,
    ) -> Self {
        self.route_with(key, Route::new(handler))
    }

    /// Adds a route for JSON bodies of one shape, answered with JSON of another: error 400 for others.
    #[must_use]
    pub fn route_json<Req: serde::de::DeserializeOwned, Res: serde::Serialize>(
        self,
        key: &str,
        handler: impl Fn(&mut Context<'_>, Req) -> Result<Res, ErrorAnswer<'static>>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        self.route(key, json_handler(handler))
    }

    /// Adds a route for protobuf bodies of one message, answered with another: error 400 for others.
    #[must_use]
    pub fn route_proto<Req: prost::Message + Default, Res: prost::Message>(
        self,
        key: &str,
        handler: impl Fn(&mut Context<'_>, Req) -> Result<Res, ErrorAnswer<'static>>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        self.route(key, proto_handler(handler))
    }

    /// Adds a route with a permission, a timeout or a place to run, or replaces the one of that key.
    #[must_use]
    pub fn route_with(mut self, key: &str, route: Route) -> Self {
        self.routes.insert(key, route);
        self
    }

    /// What answers messages that no route is for; without it they get error 404.
    #[must_use]
    pub fn fallback(
        self,
        handler: impl Fn(&mut Context<'_>, &Message<'_>) + Send + Sync + 'static,
    ) -> Self {
        self.route("*", handler)
    }

    /// Runs `before` ahead of every handler, in the order in which these are added. It runs on the
    /// connection's shard, wherever the handler does.
    #[must_use]
    pub fn before(
        mut self,
        before: impl Fn(&mut Context<'_>, &Message<'_>) -> Flow + Send + Sync + 'static,
    ) -> Self {
        self.hooks.before.push(Arc::new(before));
        self
    }

    /// Runs `after` when a handler has returned, where the handler ran, in the order in which these
    /// are added. Not after one that panicked.
    #[must_use]
    pub fn after(
        mut self,
        after: impl Fn(&mut Context<'_>, &Message<'_>) + Send + Sync + 'static,
    ) -> Self {
        self.hooks.after.push(Arc::new(after));
        self
    }

    /// Adds a subprotocol.
    #[must_use]
    pub fn subprotocol(mut self, name: &str) -> Self {
        self.subprotocols.push(name.to_owned());
        self
    }

    /// Serves another dialect at the same path with the same routes: to clients that ask for its
    /// name as their subprotocol or, for `kim` and `hub`, whose first message has its magic bytes.
    /// Until that message, what is sent to them is in the endpoint's own dialect.
    #[must_use]
    pub fn also(mut self, dialect: Dialect) -> Self {
        if let Some(rule) = self.login.clone() {
            self = builtin::add_login(self, &rule, &dialect);
        }
        self.also.push(dialect);
        self
    }

    /// What happens when a connection is too slow for what is sent to it.
    #[must_use]
    pub fn overflow(mut self, policy: OverflowPolicy) -> Self {
        self.overflow = policy;
        self
    }

    /// How its connections are found dead, where not as the gateway's are.
    #[must_use]
    pub fn liveness(mut self, liveness: Liveness) -> Self {
        self.liveness = liveness;
        self
    }

    /// From which pages browsers may connect; by default those of the same host.
    #[must_use]
    pub fn origins(mut self, origins: Origins) -> Self {
        self.origins = origins;
        self
    }

    /// How many messages each of its connections may send.
    #[must_use]
    pub fn message_rate(mut self, rate: Rate) -> Self {
        self.limits.messages = Some(rate);
        self
    }

    /// How many bytes each of its connections may send.
    #[must_use]
    pub fn byte_rate(mut self, rate: Rate) -> Self {
        self.limits.bytes = Some(rate);
        self
    }

    /// What happens to a connection that sends more.
    #[must_use]
    pub fn over_limit(mut self, over: Over) -> Self {
        self.limits.over = over;
        self
    }

    /// How many connections it has at once, in all its dialects and framings together. One more is
    /// answered 503 with Retry-After; over plain TCP, with a Close with 1013.
    #[must_use]
    pub fn max_connections(mut self, max: usize) -> Self {
        self.max_connections = Some(max);
        self
    }

    /// The HTTP status that a connection over the maximum is answered with, in place of 503.
    #[must_use]
    pub fn full_status(mut self, status: u16) -> Self {
        self.full_status = status;
        self
    }

    /// What happens when an identity connects that is connected already, to whichever endpoint.
    #[must_use]
    pub fn session(mut self, policy: SessionPolicy) -> Self {
        self.session = policy;
        self
    }

    /// Demands that connections log in, and adds the routes by which they do in its dialects, unless
    /// it has routes of these keys by now. In the dialect `raw`, which has no routes, nobody can.
    #[must_use]
    pub fn login(mut self, rule: LoginRule) -> Self {
        let dialects: Vec<_> = [&self.dialect].into_iter().chain(&self.also).cloned().collect();
        for dialect in dialects {
            self = builtin::add_login(self, &rule, &dialect);
        }
        self.login = Some(Arc::new(rule));
        self
    }

    /// Reads a connection's identity off its request. One without a part of its id is refused with
    /// 401. In place of an `on_connect`.
    #[must_use]
    pub fn identified_by(self, source: IdentitySource) -> Self {
        self.on_connect(move |request, admission| match source.identify(request) {
            Ok(identity) => {
                admission.accept(Accept { identity: Some(identity), ..Accept::default() });
            }
            Err(refuse) => admission.refuse(refuse),
        })
    }

    /// Gives every connection a permission.
    #[must_use]
    pub fn grant(mut self, permission: &str) -> Self {
        self.grants.push(permission.into());
        self
    }

    /// Makes every connection a member of a room before its upgrade is answered; `{name}` in it
    /// stands for a parameter of the path.
    ///
    /// # Errors
    /// What was expected instead of `room`, or which parameter the path does not have.
    pub fn join(mut self, room: &str) -> Result<Self, PatternError> {
        let template = Template::parse(room)?;
        template.check(&self.path)?;
        self.joins.push(template);
        Ok(self)
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

    /// Runs `hook` when a connection is open, ahead of its first message.
    #[must_use]
    pub fn on_established(
        mut self,
        hook: impl Fn(&mut Context<'_>) + Send + Sync + 'static,
    ) -> Self {
        self.hooks.established = Some(Arc::new(hook));
        self.with_notice(Notices::OPENED)
    }

    /// Runs `hook` when a connection begins to end, behind its last message. Nothing can be sent to
    /// it any more, or hardly ever.
    #[must_use]
    pub fn on_closing(
        mut self,
        hook: impl Fn(&mut Context<'_>, crate::telemetry::counters::CloseCause) + Send + Sync + 'static,
    ) -> Self {
        self.hooks.closing = Some(Arc::new(hook));
        self.with_notice(Notices::CLOSING)
    }

    /// Runs `hook` once a connection has ended and why, last of all.
    #[must_use]
    pub fn on_closed(mut self, hook: impl Fn(&Ended<'_>) + Send + Sync + 'static) -> Self {
        self.hooks.closed = Some(Arc::new(hook));
        self.with_notice(Notices::CLOSED)
    }

    /// Runs `hook` when a ping has come in, which is answered without it.
    #[must_use]
    pub fn on_ping(
        mut self,
        hook: impl Fn(&mut Context<'_>, &[u8]) + Send + Sync + 'static,
    ) -> Self {
        self.hooks.ping = Some(Arc::new(hook));
        self.with_notice(Notices::PING)
    }

    /// Runs `hook` when a pong has come in.
    #[must_use]
    pub fn on_pong(
        mut self,
        hook: impl Fn(&mut Context<'_>, &[u8]) + Send + Sync + 'static,
    ) -> Self {
        self.hooks.pong = Some(Arc::new(hook));
        self.with_notice(Notices::PONG)
    }

    /// Adds a pull channel. `runner` fetches and sends what is new for a connection when it was
    /// [signalled](Context::signal): on the pool apart, one at a time for each connection and
    /// channel, once for all signals that came before it began.
    #[must_use]
    pub fn pull(
        mut self,
        channel: &str,
        runner: impl Fn(&mut Context<'_>) + Send + Sync + 'static,
    ) -> Self {
        self.pulls.insert(channel.into(), Arc::new(runner));
        self
    }

    /// The route for a key.
    #[inline]
    #[must_use]
    pub fn find(&self, key: &Key<'_>) -> Option<&Route> {
        self.routes.find(key)
    }

    /// Whether there is a route of just this key.
    pub(super) fn has_route(&self, key: &str) -> bool {
        self.routes.keys().any(|known| known == key)
    }

    /// Whether it is another endpoint's, in another dialect or framing.
    pub(crate) fn is_twin(&self) -> bool {
        self.is_twin
    }

    /// Whether requests for a path may be for it: it is no other endpoint's twin.
    pub(crate) fn is_at(&self, path: &str) -> bool {
        !self.is_twin && self.path.matches(path).is_some()
    }

    /// Whether some of its handlers run on the pool apart.
    pub(crate) fn needs_pool(&self, inline: bool) -> bool {
        use super::route::RunOn::{Blocking, Inline, Pooled};
        !self.pulls.is_empty()
            || self.routes.values().any(|route| match route.run_on {
                Inline => false,
                Pooled => inline,
                Blocking => true,
            })
    }

    /// Whether its shard has something to do before a request for it is answered.
    #[must_use]
    pub(crate) fn asks_shard(&self) -> bool {
        self.on_connect.is_some() || self.joins_or_params()
    }

    /// Whether its connections have rooms or parameters from the start.
    pub(crate) fn joins_or_params(&self) -> bool {
        !self.joins.is_empty() || !self.path.is_plain()
    }

    /// The same endpoint for connections over plain TCP, in the framing that is asked for, or else in
    /// its dialect's.
    pub(crate) fn over_tcp(&self, framing: Option<TcpFraming>) -> Self {
        let framing = self.dialect.framing_over_tcp(framing);
        Self { framing, is_twin: true, twins: AllTwins::default(), ..self.clone() }
    }

    /// The same endpoint in another dialect, without further ones.
    pub(crate) fn speaking(&self, dialect: Dialect) -> Self {
        let subprotocols = vec![dialect.name().to_owned()];
        let (also, twins) = (Vec::new(), AllTwins::default());
        Self { dialect, subprotocols, is_twin: true, also, twins, ..self.clone() }
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

    fn with_notice(mut self, notice: Notices) -> Self {
        self.hooks.notices = self.hooks.notices.with(notice);
        self
    }
}
