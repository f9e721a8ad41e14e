//! What is taken from proxies, and from whom.

use super::Networks;

/// Whether a PROXY header stands in front of what comes in at a listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// None does.
    #[default]
    Off,
    /// One may, from a trusted network.
    Accept,
    /// One has to, from a trusted network.
    Require,
}

/// The header of a request that the trusted proxies set. Never two: a proxy that sets one passes the
/// other on as the client made it up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ForwardedHeader {
    /// None.
    #[default]
    Off,
    /// `X-Forwarded-For`.
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

/// What becomes of whoever is not of a trusted network and does what only a proxy may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FromElsewhere {
    /// It is refused.
    Refuse,
    /// It is a client like others, and what it says of another is not listened to.
    Ignore,
}

/// The kinds of listeners, as the configuration has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenerKind {
    /// `listen`
    WebSocket,
    /// `tcp_listen`
    Tcp,
    /// `tls_listen`
    TlsWebSocket,
    /// `tls_tcp_listen`
    TlsTcp,
}

impl ListenerKind {
    /// That of listeners for frames without a request, or for WebSockets, with TLS or without.
    #[must_use]
    pub fn of(is_tcp: bool, tls: bool) -> Self {
        match (is_tcp, tls) {
            (false, false) => Self::WebSocket,
            (true, false) => Self::Tcp,
            (false, true) => Self::TlsWebSocket,
            (true, true) => Self::TlsTcp,
        }
    }
}

/// What is taken from proxies, and from whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxySettings {
    /// Whether PROXY headers stand in front of what comes in at listeners that do not say.
    pub protocol: ProxyProtocol,
    /// Where proxies are.
    pub trusted: Networks,
    /// What becomes of connections from elsewhere, where a PROXY header is required.
    pub untrusted: FromElsewhere,
    /// The header of a request by which the client is known.
    pub forwarded: ForwardedHeader,
    /// What becomes of requests from elsewhere that have such a header.
    pub untrusted_forwarded: FromElsewhere,
    /// What single listeners say, by kind and place among those of the kind.
    listeners: [Vec<Option<ProxyProtocol>>; 4],
}

impl Default for ProxySettings {
    fn default() -> Self {
        Self {
            protocol: ProxyProtocol::Off,
            trusted: Networks::default(),
            untrusted: FromElsewhere::Refuse,
            forwarded: ForwardedHeader::Off,
            untrusted_forwarded: FromElsewhere::Ignore,
            listeners: <[Vec<_>; 4]>::default(),
        }
    }
}

impl ProxySettings {
    /// Whether a PROXY header stands in front of what comes in at a listener: the one at `index` of
    /// its kind in the configuration.
    #[must_use]
    pub fn protocol_at(&self, kind: ListenerKind, index: usize) -> ProxyProtocol {
        self.own_protocol_at(kind, index).unwrap_or(self.protocol)
    }

    /// What that listener says for itself, if it does.
    #[must_use]
    pub fn own_protocol_at(&self, kind: ListenerKind, index: usize) -> Option<ProxyProtocol> {
        self.listeners[kind as usize].get(index).copied().flatten()
    }

    /// Has a listener say for itself.
    pub fn set_protocol_at(&mut self, kind: ListenerKind, index: usize, protocol: ProxyProtocol) {
        let all = &mut self.listeners[kind as usize];
        if all.len() <= index {
            all.resize(index + 1, None);
        }
        all[index] = Some(protocol);
    }

    /// Whether any listener, or all, may have PROXY headers.
    #[must_use]
    pub fn has_protocol(&self) -> bool {
        let own = self.listeners.iter().flatten().flatten();
        own.chain([&self.protocol]).any(|protocol| *protocol != ProxyProtocol::Off)
    }
}
