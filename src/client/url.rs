//! Where to connect to.

use std::fmt;

use crate::protocol::Framing;

/// A server's address, as `ws://host[:port][/path][?query]` or `tcp://host:port`, or the same over TLS
/// with `wss` or `tls`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerUrl {
    /// How messages stand in the stream, as far as the scheme says it: what frames over `tcp` look like is
    /// the client's [`tcp_framing`](super::Options::tcp_framing).
    pub framing: Framing,
    /// Whether the scheme asks for TLS: `wss`, `tls`.
    pub tls: bool,
    /// A name or an address; IPv6 without its brackets.
    pub host: String,
    /// Where the URL names none, 80 for `ws` and 443 for `wss`.
    pub port: u16,
    /// Path and query, from the `/` on.
    pub target: String,
}

impl ServerUrl {
    /// Reads a URL.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(url: &str) -> Result<Self, UrlError> {
        let (scheme, rest) = url.split_once("://").ok_or(UrlError::Scheme)?;
        let (framing, tls) = match scheme {
            "ws" => (Framing::WebSocket, false),
            "wss" => (Framing::WebSocket, true),
            "tcp" => (Framing::Tcp, false),
            "tls" => (Framing::Tcp, true),
            _ => return Err(UrlError::Scheme),
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        let (host, port) = split_port(authority)?;
        let port = match (port, framing) {
            (Some(port), _) => port.parse().map_err(|_| UrlError::Port)?,
            (None, Framing::WebSocket) => default_port(tls),
            (None, _) => return Err(UrlError::Port),
        };
        let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        // A fragment has no meaning for a WebSocket (RFC 6455, 3).
        if !target.bytes().all(|b| b.is_ascii_graphic() && b != b'#') {
            return Err(UrlError::Path);
        }
        Ok(Self { framing, tls, host: host.to_owned(), port, target })
    }

    /// What the `Host` header says.
    #[must_use]
    pub fn authority(&self) -> String {
        let host =
            if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == default_port(self.tls) { host } else { format!("{host}:{}", self.port) }
    }
}

fn default_port(tls: bool) -> u16 {
    if tls { 443 } else { 80 }
}

fn split_port(authority: &str) -> Result<(&str, Option<&str>), UrlError> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or(UrlError::Host)?;
            match (port, port.strip_prefix(':')) {
                ("", _) => (host, None),
                (_, Some(port)) => (host, Some(port)),
                _ => return Err(UrlError::Host),
            }
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._~%:".contains(&b);
    if host.is_empty() || !host.bytes().all(allowed) {
        return Err(UrlError::Host);
    }
    Ok((host, port))
}

/// What is wrong with a URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UrlError {
    /// It begins with none of `ws://`, `wss://`, `tcp://` and `tls://`.
    Scheme,
    /// No host, or one with characters that none has.
    Host,
    /// No port where one is needed, or none of 0 to 65535.
    Port,
    /// A path with spaces, characters that are not ASCII, or a fragment.
    Path,
}

impl fmt::Display for UrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scheme => "a URL begins with ws://, wss://, tcp:// or tls://",
            Self::Host => "the URL names no valid host",
            Self::Port => "the URL names no valid port",
            Self::Path => "the URL's path has spaces, a fragment or characters that are not ASCII",
        })
    }
}

impl std::error::Error for UrlError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_and_what_is_wrong_with_them() {
        for (url, framing, host, port, target, authority) in [
            ("ws://a.b/c?d=e", Framing::WebSocket, "a.b", 80, "/c?d=e", "a.b"),
            ("ws://a:81", Framing::WebSocket, "a", 81, "/", "a:81"),
            ("ws://a?x", Framing::WebSocket, "a", 80, "/?x", "a"),
            ("ws://[::1]:9/x", Framing::WebSocket, "::1", 9, "/x", "[::1]:9"),
            ("wss://a.b/c", Framing::WebSocket, "a.b", 443, "/c", "a.b"),
            ("wss://a.b:80", Framing::WebSocket, "a.b", 80, "/", "a.b:80"),
            ("tls://a.b:9443", Framing::Tcp, "a.b", 9443, "/", "a.b:9443"),
            ("tcp://127.0.0.1:9000", Framing::Tcp, "127.0.0.1", 9000, "/", "127.0.0.1:9000"),
        ] {
            let read = ServerUrl::parse(url).unwrap();
            assert_eq!((read.framing, &*read.host, read.port), (framing, host, port), "{url}");
            assert_eq!((&*read.target, &*read.authority()), (target, authority), "{url}");
            assert_eq!(read.tls, url.starts_with("wss") || url.starts_with("tls"), "{url}");
        }
        for (url, want) in [
            ("a.b", UrlError::Scheme),
            ("http://a", UrlError::Scheme),
            ("wss://", UrlError::Host),
            ("ws://", UrlError::Host),
            ("ws://:80", UrlError::Host),
            ("ws://u@a", UrlError::Host),
            ("ws://[::1", UrlError::Host),
            ("ws://[::1]x", UrlError::Host),
            ("ws://a:", UrlError::Port),
            ("ws://a:65536", UrlError::Port),
            ("tcp://a", UrlError::Port),
            ("ws://a/b c", UrlError::Path),
            ("ws://a/b#c", UrlError::Path),
        ] {
            assert_eq!(ServerUrl::parse(url), Err(want), "{url}");
        }
    }
}
