//! Endpoints, routes and rooms as a file declares them. What they do is told in `routing`.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::connection::{Outbound, OverflowPolicy};
use crate::protocol::deflate::DeflateMode;
use crate::quota::{ConnectionLimits, Over, Rate};
use crate::routing::{IdentitySource, Liveness, OriginRule, RunOn};
use crate::session::SessionPolicy;

/// A path of the URL with a way of speaking and a route table: `[[endpoint]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointConfig {
    /// The path, with parameters in braces: `/room/{name}`.
    pub path: String,
    /// How its clients speak.
    pub dialect: DialectName,
    /// More dialects on the same path.
    pub also: Vec<DialectName>,
    /// Subprotocols that it has.
    pub subprotocols: Vec<String>,
    /// Pages that browsers may connect from: any rule that allows one does.
    pub origins: Vec<OriginRule>,
    /// What happens when a connection is owed more than its limit.
    pub overflow: OverflowPolicy,
    /// Longest message; `None` is the gateway's, which it never exceeds.
    pub max_message_bytes: Option<usize>,
    /// Bytes owed to one connection; `None` is the gateway's, which it never exceeds.
    pub outbound_limit_bytes: Option<usize>,
    /// What each connection may send.
    pub limits: ConnectionLimits,
    /// Connections that it has at once; `None` is as many as the gateway has.
    pub max_connections: Option<usize>,
    /// HTTP status for those over it, 400 to 599.
    pub full_status: u16,
    /// How its connections are found dead, where not as the gateway's are.
    pub liveness: Liveness,
    /// Rooms joined at connect; `{name}` stands for the parameter of the path.
    pub join: Vec<String>,
    /// What of a request says who it is from; no parts of an id: nobody is anybody by that.
    pub identity: IdentitySource,
    /// What happens when an identity connects that is connected already.
    pub session: SessionPolicy,
    /// What its connections have to do before they may do more.
    pub login: Option<LoginConfig>,
    /// Permissions that every connection has.
    pub grants: Vec<String>,
    /// Whether the built-in routes of the dialect are there.
    pub builtin: bool,
    /// Names of members of JSON messages, where `dialect` or `also` has json.
    pub json: JsonFields,
    /// Its routes, no two with one key.
    pub routes: Vec<RouteConfig>,
}

/// How connections of an endpoint log in: `[endpoint.login]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginConfig {
    /// How long a login may take, 1 ms to 365 days.
    pub wait: Duration,
    /// The key of the message that logs in; `None` is the dialect's own.
    pub route: Option<String>,
    /// Where the secret of tokens is; `None` where a route of the endpoint's own logs in.
    pub secret: Option<SecretSource>,
    /// Whom tokens have to be from.
    pub issuer: Option<String>,
    /// How far clocks may be apart, up to 365 days.
    pub leeway: Duration,
}

/// Where a secret is. The secret itself is in no configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// In a file.
    File(PathBuf),
    /// In a variable of the environment.
    Variable(String),
}

/// What answers messages of one key: `[[endpoint.route]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteConfig {
    /// A name, a decimal number, a prefix such as `chat.*`, or `*`.
    pub key: String,
    /// The name of a handler.
    pub handler: String,
    /// What a connection must be permitted to use it.
    pub permission: Option<String>,
    /// How long an answer may take, 1 ms to 365 days; `None` is for ever.
    pub timeout: Option<Duration>,
    /// Where the handler runs; `None` is as the handler asks.
    pub run: Option<RunOn>,
    /// What becomes of what its handler publishes and pushes, where somebody is too slow for it.
    pub outbound: Outbound,
    /// How many messages it takes of all connections together.
    pub rate: Option<Rate>,
    /// What happens over that.
    pub over_limit: Over,
}

/// Rules of the rooms of a pattern: `[[room]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomConfig {
    /// A room's name, or a prefix such as `news/*`.
    pub pattern: String,
    /// What a connection must be permitted to join.
    pub join: Option<String>,
    /// What a connection must be permitted to publish.
    pub publish: Option<String>,
    /// Connections that may be in it at once; `None` is without a limit.
    pub max_members: Option<usize>,
    /// Whether members are told of others who come and go.
    pub events: bool,
    /// How often members are told the time; `None`: never.
    pub clock: Option<Duration>,
    /// What becomes of its publishes, where a member is too slow for them.
    pub outbound: Outbound,
}

/// Names of members of JSON messages, `None` where the dialect's own is meant: `[endpoint.json]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JsonFields {
    /// Where the route's key stands in a request.
    pub selector: Option<String>,
    /// The route's key in a request: `route`.
    pub request_route: Option<String>,
    /// A request's id: `id`.
    pub request_id: Option<String>,
    /// A request's body: `body`.
    pub request_body: Option<String>,
    /// The request's id in an answer: `id`.
    pub answer_id: Option<String>,
    /// An answer's body: `body`.
    pub answer_body: Option<String>,
    /// The error in an answer: `error`.
    pub answer_error: Option<String>,
    /// What a push is: `event`.
    pub push_event: Option<String>,
    /// The room of a publish: `room`.
    pub push_room: Option<String>,
    /// Who published: `from`.
    pub push_from: Option<String>,
    /// The body of a push: `data`.
    pub push_data: Option<String>,
}

/// A built-in dialect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DialectName {
    /// Messages as they are.
    Raw,
    /// The gateway's own JSON.
    Json,
    /// System A's JSON.
    Mef,
    /// System B's JSON.
    Action,
    /// System C's JSON.
    Event,
    /// System D's packets.
    Kim,
    /// System E's packets.
    Hub,
}

impl EndpointConfig {
    /// An endpoint as it is where a file says only these two.
    #[must_use]
    pub fn new(path: &str, dialect: DialectName) -> Self {
        Self {
            path: path.to_owned(),
            dialect,
            also: Vec::new(),
            subprotocols: Vec::new(),
            origins: vec![OriginRule::SameHost],
            overflow: OverflowPolicy::Close,
            max_message_bytes: None,
            outbound_limit_bytes: None,
            limits: ConnectionLimits::default(),
            max_connections: None,
            full_status: 503,
            liveness: Liveness::default(),
            join: Vec::new(),
            identity: IdentitySource::default(),
            session: SessionPolicy::Allow,
            login: None,
            grants: Vec::new(),
            builtin: true,
            json: JsonFields::default(),
            routes: Vec::new(),
        }
    }

    /// Whether its clients may speak a dialect.
    #[must_use]
    pub fn speaks(&self, dialect: DialectName) -> bool {
        self.dialect == dialect || self.also.contains(&dialect)
    }
}

impl JsonFields {
    /// The names by their keys in a file.
    pub(crate) fn by_key(&self) -> [(&'static str, &Option<String>); 11] {
        [
            ("selector", &self.selector),
            ("request_route", &self.request_route),
            ("request_id", &self.request_id),
            ("request_body", &self.request_body),
            ("answer_id", &self.answer_id),
            ("answer_body", &self.answer_body),
            ("answer_error", &self.answer_error),
            ("push_event", &self.push_event),
            ("push_room", &self.push_room),
            ("push_from", &self.push_from),
            ("push_data", &self.push_data),
        ]
    }

    pub(crate) fn by_key_mut(&mut self) -> [(&'static str, &mut Option<String>); 11] {
        [
            ("selector", &mut self.selector),
            ("request_route", &mut self.request_route),
            ("request_id", &mut self.request_id),
            ("request_body", &mut self.request_body),
            ("answer_id", &mut self.answer_id),
            ("answer_body", &mut self.answer_body),
            ("answer_error", &mut self.answer_error),
            ("push_event", &mut self.push_event),
            ("push_room", &mut self.push_room),
            ("push_from", &mut self.push_from),
            ("push_data", &mut self.push_data),
        ]
    }
}

/// A word of a file for each value.
pub(crate) trait Words: Sized + Copy + PartialEq + 'static {
    /// The words and what they mean.
    const ALL: &'static [(&'static str, Self)];

    /// The word for it.
    fn word(self) -> &'static str {
        Self::ALL.iter().find(|(_, value)| *value == self).map_or("", |(word, _)| word)
    }
}

impl Words for DialectName {
    const ALL: &'static [(&'static str, Self)] = &[
        ("raw", Self::Raw),
        ("json", Self::Json),
        ("mef", Self::Mef),
        ("action", Self::Action),
        ("event", Self::Event),
        ("kim", Self::Kim),
        ("hub", Self::Hub),
    ];
}

impl Words for RunOn {
    const ALL: &'static [(&'static str, Self)] =
        &[("inline", Self::Inline), ("pooled", Self::Pooled), ("blocking", Self::Blocking)];
}

impl Words for Over {
    const ALL: &'static [(&'static str, Self)] =
        &[("delay", Self::Delay), ("reject", Self::Reject), ("close", Self::Close)];
}

impl Words for DeflateMode {
    const ALL: &'static [(&'static str, Self)] =
        &[("off", Self::Off), ("shared", Self::Shared), ("dedicated", Self::Dedicated)];
}

impl Words for OverflowPolicy {
    const ALL: &'static [(&'static str, Self)] = &[
        ("close", Self::Close),
        ("drop-oldest", Self::DropOldest),
        ("keep-latest", Self::KeepLatest),
    ];
}

impl fmt::Display for DialectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}
