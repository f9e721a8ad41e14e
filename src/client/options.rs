//! What a client is told before it connects.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::backoff::Reconnect;
use super::callbacks::Callbacks;
use super::tls::Tls;
use crate::dialect::{Body, Dialect, Key};
use crate::protocol::deflate::DeflateSettings;
use crate::protocol::{Framing, TcpFraming};

/// What a client is told before it connects: limits, times, and what to call when.
///
/// All that is called runs on the client's one thread, in the order of what happened, and holds up
/// everything else of this client while it runs. A panic in it is logged and ends nothing.
#[derive(Clone)]
#[non_exhaustive]
pub struct Options {
    /// How the server speaks. [`Dialect::Raw`]: messages as they are, without routes or calls.
    pub dialect: Dialect,
    /// Subprotocols to ask for, best first. A server need not choose any.
    pub subprotocols: Vec<String>,
    /// Further headers of the opening handshake.
    pub headers: Vec<(String, String)>,
    /// From the beginning of a try to the end of its opening handshake, by address tried.
    pub connect_timeout: Duration,
    /// How often the server is pinged; `None`: never.
    pub ping_interval: Option<Duration>,
    /// How long nothing may come after a ping until the connection counts as lost.
    pub pong_timeout: Duration,
    /// What frames over `tcp` look like. `None`: as a gateway's listener has them for the dialect, if it is
    /// told nothing else.
    pub tcp_framing: Option<TcpFraming>,
    /// How long the closing handshake, and what is still to be sent before it, may take.
    pub close_timeout: Duration,
    /// When to try again; `None`: the client ends with its connection.
    pub reconnect: Option<Reconnect>,
    /// The code of a Close that says that this client is displaced; `None`: none does.
    pub displaced_code: Option<u16>,
    /// Whether to try again after being displaced, as after any other end. Two clients of one
    /// identity that both do displace each other for ever.
    pub reconnect_displaced: bool,
    /// Whether what waits to be sent when an open connection is gone goes out on the next. Else it
    /// is dropped: see [`SendError::Dropped`](super::SendError::Dropped).
    pub keep_queued: bool,
    /// Most messages that wait to be sent.
    pub max_queued_messages: usize,
    /// Most bytes that wait to be sent. A message over it is never taken.
    pub max_queued_bytes: usize,
    /// Most calls without an answer. Rooms that are joined again count, but are never refused.
    pub max_open_calls: usize,
    /// Most payload of a message or frame from the server, bytes.
    pub max_message_bytes: usize,
    /// Most bytes of the head, and of the body, of an answer to the opening handshake.
    pub max_header_bytes: usize,
    /// For `wss://`.
    pub tls: Tls,
    /// The terms on which messages are compressed, where the server agrees (RFC 7692); `None`: they are
    /// not.
    pub deflate: Option<DeflateSettings>,
    /// Keys and body of joining and leaving a room, where they are not the dialect's own.
    pub(super) room_keys: Option<(Key<'static>, Key<'static>)>,
    /// The key of a push that says that this client is displaced.
    pub(super) displaced_by: Option<String>,
    /// The first message of each connection.
    pub(super) login: Option<Login>,
    pub(super) on: Callbacks,
}

/// Key of a login, and what makes its body.
pub(super) type Login = (String, Arc<dyn Fn() -> OwnedBody + Send + Sync>);

impl Default for Options {
    fn default() -> Self {
        Self {
            dialect: Dialect::Raw,
            subprotocols: Vec::new(),
            headers: Vec::new(),
            connect_timeout: Duration::from_secs(10),
            ping_interval: Some(Duration::from_secs(24)),
            pong_timeout: Duration::from_secs(60),
            tcp_framing: None,
            close_timeout: Duration::from_secs(5),
            reconnect: Some(Reconnect::default()),
            displaced_code: Some(4001),
            reconnect_displaced: false,
            keep_queued: true,
            max_queued_messages: 1024,
            max_queued_bytes: 16 << 20,
            max_open_calls: 1024,
            max_message_bytes: 16 << 20,
            max_header_bytes: 16 << 10,
            tls: Tls::default(),
            deflate: None,
            room_keys: None,
            displaced_by: None,
            login: None,
            on: Callbacks::default(),
        }
    }
}

impl Options {
    /// For a server that speaks `dialect`.
    #[must_use]
    pub fn new(dialect: Dialect) -> Self {
        Self { dialect, ..Self::default() }
    }

    /// What the frames of a connection over `tcp` look like.
    pub(super) fn framing_over_tcp(&self) -> Framing {
        self.dialect.framing_over_tcp(self.tcp_framing)
    }

    /// A subprotocol to ask for, behind those asked for already.
    #[must_use]
    pub fn subprotocol(mut self, name: &str) -> Self {
        self.subprotocols.push(name.to_owned());
        self
    }

    /// A header of the opening handshake.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// What joins and what leaves a room. Both are asked with the body `{"room":…}`.
    #[must_use]
    pub fn room_keys(mut self, join: &'static str, leave: &'static str) -> Self {
        self.room_keys = Some((join.into(), leave.into()));
        self
    }

    /// Signs in on each new connection: asks for `key` before anything else, and sends nothing more
    /// until it is answered. An error for an answer is a failure to connect
    /// ([`DialError::Login`](super::DialError::Login)), and so is none within the connect timeout.
    /// `body` is called for each.
    #[must_use]
    pub fn login(
        mut self,
        key: &str,
        body: impl Fn() -> OwnedBody + Send + Sync + 'static,
    ) -> Self {
        self.login = Some((key.to_owned(), Arc::new(body)));
        self
    }

    /// A push under `key` says that this client is displaced: for dialects that have no word of
    /// their own for that, or servers that have another. It is routed as well.
    #[must_use]
    pub fn displaced_by(mut self, key: &str) -> Self {
        self.displaced_by = Some(key.to_owned());
        self
    }

    /// What `wss://` is spoken by.
    #[must_use]
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = tls;
        self
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").field("dialect", &self.dialect).finish_non_exhaustive()
    }
}

/// Which message asks a server of this dialect for a room.
pub(super) fn own_room_keys(dialect: &Dialect) -> Option<(Key<'static>, Key<'static>)> {
    let (join, leave): (Key<'static>, Key<'static>) = match dialect {
        Dialect::Raw | Dialect::Custom(_) => return None,
        Dialect::Mef => ("join:room".into(), "leave:room".into()),
        Dialect::Hub => (3.into(), 5.into()),
        Dialect::Json(_) | Dialect::Action | Dialect::Event | Dialect::Kim => {
            ("join".into(), "leave".into())
        }
    };
    Some((join, leave))
}

/// The body of a message about a room.
pub(super) fn room_body(room: &str) -> String {
    serde_json::json!({ "room": room }).to_string()
}

/// What a call or answer says, borrowing nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnedBody {
    /// Valid JSON text.
    Json(String),
    /// Any text.
    Text(String),
    /// Any bytes.
    Binary(Vec<u8>),
}

impl OwnedBody {
    /// The same, borrowed.
    #[must_use]
    pub fn as_body(&self) -> Body<'_> {
        match self {
            Self::Json(text) => Body::Json(text),
            Self::Text(text) => Body::Text(text),
            Self::Binary(bytes) => Body::Binary(bytes),
        }
    }
}

impl From<Body<'_>> for OwnedBody {
    fn from(body: Body<'_>) -> Self {
        match body {
            Body::Json(text) => Self::Json(text.to_owned()),
            Body::Text(text) => Self::Text(text.to_owned()),
            Body::Binary(bytes) => Self::Binary(bytes.to_owned()),
        }
    }
}
