//! What is counted: one block per loop and per worker, each written by one thread.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::quota::{Limit, Over};

/// A count with one writer and any number of readers.
///
/// The writer's `add` is a plain load and store: no locked instruction on the hot path.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. To be called by the owning thread only.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// Takes `n` away. To be called by the owning thread only.
    #[inline]
    pub fn sub(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_sub(n), Relaxed);
    }

    /// Sets the value. To be called by the owning thread only.
    #[inline]
    pub fn set(&self, n: u64) {
        self.0.store(n, Relaxed);
    }

    /// The value as of about now.
    #[inline]
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Declares an enum of causes with a stable name for each, usable as an array index.
macro_rules! causes {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum $name { $($(#[$vdoc])* $variant,)+ }

        impl $name {
            /// Every cause, in the order of its index.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The name that statistics use.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }
    };
}

causes! {
    /// Why an upgraded connection ended. Each is counted once, by the first cause that applied.
    CloseCause {
        /// The peer sent a Close frame.
        PeerClose = "peer_close",
        /// The peer ended the TCP stream without a Close frame.
        PeerEof = "peer_eof",
        /// The socket failed: reset, or the network's error.
        SocketError = "socket_error",
        /// The peer broke the protocol (1002).
        ProtocolError = "protocol_error",
        /// Text that is not UTF-8 (1007).
        InvalidUtf8 = "invalid_utf8",
        /// A frame or message over its limit (1009).
        TooBig = "too_big",
        /// Bytes owed to the peer passed its limit or, under `close`, a budget.
        OutboundLimit = "outbound_limit",
        /// No progress on owed bytes within `--write-timeout`.
        WriteTimeout = "write_timeout",
        /// No byte after a ping within `--pong-timeout`.
        PongTimeout = "pong_timeout",
        /// No byte within `--idle-timeout`.
        IdleTimeout = "idle_timeout",
        /// Not logged in within its endpoint's wait (1008).
        LoginTimeout = "login_timeout",
        /// A begun message not ended within `--message-timeout`.
        MessageTimeout = "message_timeout",
        /// Over a rate that is limited, where that closes (1008).
        RateLimit = "rate_limit",
        /// Shed at the memory ceiling.
        MemoryLimit = "memory_limit",
        /// A handler closed it.
        Handler = "handler",
        /// Its identity has connected elsewhere (4001).
        Displaced = "displaced",
        /// The gateway is going away (1001).
        Shutdown = "shutdown",
    }
}

causes! {
    /// Why a connection never became an open WebSocket.
    RefusalCause {
        /// 400, 431, 414, 405 and their like: a request that is not in order.
        BadRequest = "bad_request",
        /// 403: a page of an origin that may not connect.
        Origin = "origin",
        /// 404: no endpoint at that path.
        NotFound = "not_found",
        /// 426: not an upgrade, or not version 13.
        UpgradeRequired = "upgrade_required",
        /// `on_connect` said no.
        Hook = "hook",
        /// 503: over the maximum, or out of descriptors.
        Full = "full",
        /// Over the endpoint's maximum: 503, or as it has it.
        EndpointFull = "endpoint_full",
        /// No complete request within `--handshake-timeout`.
        HandshakeTimeout = "handshake_timeout",
        /// The peer left before the upgrade was done.
        PeerGone = "peer_gone",
        /// The gateway is going away.
        Shutdown = "shutdown",
        /// No PROXY header in order where one has to be, or a forwarded header that is not: closed
        /// without an answer, or 400 or 403.
        Proxy = "proxy",
    }
}

causes! {
    /// What became of a PROXY header. From `missing` on, the connection was closed for it.
    ProxyOutcome {
        /// It names a client, who is the peer from there on.
        Client = "client",
        /// It leaves the peer as it is: a check by the proxy (LOCAL), or nobody known.
        Local = "local",
        /// There was none, and none has to be.
        Absent = "absent",
        /// There was none, and one has to be.
        Missing = "missing",
        /// It was not as the protocol has it.
        Malformed = "malformed",
        /// It was too long.
        TooLong = "too_long",
        /// It was not whole when the peer left or the time for it was up.
        Unfinished = "unfinished",
        /// One has to be, and the peer is no trusted proxy.
        Untrusted = "untrusted",
    }
}

causes! {
    /// What became of a request's forwarded header.
    ForwardedOutcome {
        /// The client in it is the peer from there on.
        Client = "client",
        /// Not from a trusted proxy: not looked at.
        Ignored = "ignored",
        /// Not from a trusted proxy: refused (403).
        Untrusted = "untrusted",
        /// It could not be read: refused (400).
        Malformed = "malformed",
    }
}

causes! {
    /// What was dropped without reaching a client or handler, and why.
    DropCause {
        /// Addressed to a connection that has ended.
        StaleConnection = "stale_connection",
        /// Addressed to a connection that is closing.
        AfterClose = "after_close",
        /// A publish dropped as the oldest, for a limit or budget.
        DropOldest = "drop_oldest",
        /// A publish replaced under `keep-latest`.
        KeepLatest = "keep_latest",
        /// A message behind our Close or behind a violation.
        InboundAfterClose = "inbound_after_close",
        /// A custom dialect failed to encode it.
        NotEncoded = "not_encoded",
    }
}

causes! {
    /// Why a connection's TLS failed.
    TlsFailure {
        /// What came was no TLS, or not as TLS has it.
        Malformed = "malformed",
        /// Client and server have no version, cipher suite, group or protocol in common.
        Incompatible = "incompatible",
        /// A client certificate is required, and there was none.
        NoCertificate = "no_certificate",
        /// The client's certificate has expired, or is not valid yet.
        CertificateExpired = "certificate_expired",
        /// The client's certificate is by no authority known here.
        UnknownAuthority = "unknown_authority",
        /// The client's certificate is not good for another reason.
        BadCertificate = "bad_certificate",
        /// The client refused, by an alert.
        Alert = "alert",
        /// More unfinished handshake than may be held.
        HandshakeTooLong = "handshake_too_long",
        /// Anything else.
        Other = "other",
    }
}

causes! {
    /// What was over a limit, and what came of it: `delay` counts the times that a connection was
    /// stopped, `reject` messages (or connections), `close` connections.
    LimitHit {
        /// A connection's messages: stopped.
        MessagesDelay = "messages_delay",
        /// A connection's messages: answered with an error.
        MessagesReject = "messages_reject",
        /// A connection's messages: closed.
        MessagesClose = "messages_close",
        /// A connection's bytes: stopped.
        BytesDelay = "bytes_delay",
        /// A connection's bytes: answered with an error.
        BytesReject = "bytes_reject",
        /// A connection's bytes: closed.
        BytesClose = "bytes_close",
        /// All connections' bytes: stopped.
        BandwidthDelay = "bandwidth_delay",
        /// All connections' bytes: answered with an error.
        BandwidthReject = "bandwidth_reject",
        /// All connections' bytes: closed.
        BandwidthClose = "bandwidth_close",
        /// A route's messages: stopped.
        RouteDelay = "route_delay",
        /// A route's messages: answered with an error.
        RouteReject = "route_reject",
        /// A route's messages: closed.
        RouteClose = "route_close",
        /// Connections: one more was refused.
        ConnectionsReject = "connections_reject",
    }
}

impl LimitHit {
    /// What came of being over a limit.
    #[must_use]
    pub fn of(limit: Limit, over: Over) -> Self {
        let all = match limit {
            Limit::Messages => [Self::MessagesDelay, Self::MessagesReject, Self::MessagesClose],
            Limit::Bytes => [Self::BytesDelay, Self::BytesReject, Self::BytesClose],
            Limit::Bandwidth => [Self::BandwidthDelay, Self::BandwidthReject, Self::BandwidthClose],
            Limit::Route => [Self::RouteDelay, Self::RouteReject, Self::RouteClose],
            Limit::Connections => [Self::ConnectionsReject; 3],
        };
        all[over as usize]
    }
}

/// One count per cause.
#[derive(Debug)]
pub struct PerCause<const N: usize>([Counter; N]);

impl<const N: usize> Default for PerCause<N> {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Counter::default()))
    }
}

impl<const N: usize> PerCause<N> {
    /// The count of the cause with this index (`cause as usize`).
    #[inline]
    #[must_use]
    pub fn at(&self, index: usize) -> &Counter {
        &self.0[index]
    }
}

/// What one event loop counts. Written by its thread only.
#[derive(Debug, Default)]
pub struct LoopCounters {
    /// Sockets held now, open or not.
    pub connections: Counter,
    /// Open connections now.
    pub open: Counter,
    /// Turns of the loop.
    pub turns: Counter,
    /// Connections not read from now because their worker is full.
    pub paused: Counter,
    /// Times a connection was paused.
    pub pauses: Counter,
    /// Connections not read from now because they are over a limit.
    pub delayed: Counter,
    /// Sockets accepted.
    pub accepted: Counter,
    /// Times accepting was suspended for want of descriptors or room.
    pub accept_pauses: Counter,
    /// Sockets passed to an emptier loop.
    pub handed_over: Counter,
    /// Connections opened: upgrade answered, or accepted over plain TCP.
    pub opened: Counter,
    /// Connections closed that had been open.
    pub closed: Counter,
    /// Plain HTTP requests answered (page, health, errors).
    pub http_responses: Counter,
    /// Messages received from clients.
    pub messages_in: Counter,
    /// Messages queued to clients.
    pub messages_out: Counter,
    /// Bytes read from sockets.
    pub bytes_in: Counter,
    /// Bytes written to sockets.
    pub bytes_out: Counter,
    /// Pings received and answered.
    pub pings_in: Counter,
    /// Pings sent.
    pub pings_out: Counter,
    /// Publishes expanded to a member of this loop.
    pub deliveries: Counter,
    /// Times a connection began to be trimmed: to have publishes dropped for a limit or budget.
    pub trims: Counter,
    /// Open connections that ended, by cause.
    pub closes: PerCause<{ CloseCause::ALL.len() }>,
    /// Connections that never were open, by cause.
    pub refusals: PerCause<{ RefusalCause::ALL.len() }>,
    /// Messages dropped, by cause.
    pub drops: PerCause<{ DropCause::ALL.len() }>,
    /// TLS handshakes completed.
    pub tls_handshakes: Counter,
    /// Of those, resumptions of earlier sessions.
    pub tls_resumed: Counter,
    /// Connections whose TLS failed, by cause.
    pub tls_failures: PerCause<{ TlsFailure::ALL.len() }>,
    /// Connections opened that have permessage-deflate.
    pub deflate_agreed: Counter,
    /// Compressed messages received.
    pub messages_inflated: Counter,
    /// Messages queued that are compressed.
    pub messages_deflated: Counter,
    /// PROXY headers, by what became of them.
    pub proxy_headers: PerCause<{ ProxyOutcome::ALL.len() }>,
    /// Forwarded headers of requests, by what became of them.
    pub forwarded_headers: PerCause<{ ForwardedOutcome::ALL.len() }>,
    /// Times that something was over a limit, by what came of it.
    pub limits: PerCause<{ LimitHit::ALL.len() }>,
    /// Bytes in outboxes and their entries now.
    pub outbox_bytes: Counter,
    /// Bytes of partial frames, unfinished messages and request heads now.
    pub inbound_bytes: Counter,
}

/// What one worker (or one loop's inline shard) counts. Written by its thread only.
#[derive(Debug, Default)]
pub struct WorkerCounters {
    /// Batches taken.
    pub batches: Counter,
    /// Messages routed.
    pub messages: Counter,
    /// Room work items done: joins, leaves, publishes.
    pub room_work: Counter,
    /// Handlers that panicked.
    pub panics: Counter,
    /// Messages handed to the pool for handlers that block.
    pub blocking: Counter,
    /// Messages answered with an error because that pool was full.
    pub blocking_refused: Counter,
    /// Messages answered with an error by the router itself.
    pub errors: Counter,
    /// Times that something was over a route's limit, by what came of it.
    pub limits: PerCause<{ LimitHit::ALL.len() }>,
    /// Sends refused by a full lane.
    pub refused_sends: Counter,
    /// Times the thread went to sleep.
    pub sleeps: Counter,
    /// Rooms that have members now, of which this shard is the home.
    pub rooms: Counter,
    /// Rooms without members now that are not reaped yet.
    pub rooms_empty: Counter,
    /// Rooms reaped, having been without members for long enough.
    pub rooms_reaped: Counter,
    /// Memberships of rooms now.
    pub memberships: Counter,
    /// Users that are logged in now, of whom this shard is the home.
    pub users: Counter,
    /// Logins of those users now.
    pub logins: Counter,
}
