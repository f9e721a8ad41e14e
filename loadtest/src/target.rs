//! The URL to drive, taken apart once: where to connect, and what the handshake says.

use std::{
    fmt,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    path::PathBuf,
};

use rustls::pki_types::ServerName;

use crate::{cli::network::NetworkArgs, tls::server_name, transport::Framing};

/// A parsed and resolved URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// The URL, for reports: as given, unless flags say otherwise.
    pub(crate) url: String,
    /// How messages stand in the stream.
    pub(crate) framing: Framing,
    /// Whose certificate is wanted, where TLS is spoken.
    pub(crate) tls: Option<ServerName<'static>>,
    /// Whether compression is offered, and how.
    pub(crate) deflate: Option<Deflate>,
    /// Where to connect: the first address that the host resolves to.
    pub(crate) address: Address,
    /// The `Host` header: host, and port unless it is the scheme's (RFC 6455, section 4.1).
    pub(crate) host: String,
    /// The request target: path and query, at least `/`.
    pub(crate) path: String,
}

/// How permessage-deflate is offered (RFC 7692, section 7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deflate {
    /// No message refers to an earlier one.
    Shared,
    /// Those of the server may.
    Takeover,
}

impl Deflate {
    /// The header that says so.
    pub(crate) fn offer(self) -> &'static str {
        match self {
            Self::Shared => {
                "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; \
                 client_no_context_takeover\r\n"
            }
            Self::Takeover => {
                "Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover\r\n"
            }
        }
    }
}

/// Where connections go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// Over TCP.
    Ip(SocketAddr),
    /// To a Unix-domain socket.
    Unix(PathBuf),
}

impl Address {
    /// Where that is, if it is anywhere in a network.
    pub(crate) fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Ip(address) => Some(address.ip()),
            Self::Unix(_) => None,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Target {
    /// Parses `url`, changed as the flags say, and resolves its host.
    pub(crate) fn resolve(url: &str, flags: &NetworkArgs) -> Result<Self, String> {
        let Parts { mut framing, mut tls, host, shown, port, mut path } = split(url)?;
        if flags.tcp {
            (framing, path) = (Framing::Tcp, "/".to_owned());
        }
        tls |= flags.tls;
        let standard = if tls { 443 } else { 80 };
        if framing == Framing::Tcp && port.is_none() {
            return Err(format!("--url: {url:?} should look like tcp://127.0.0.1:9000"));
        }
        let port = port.unwrap_or(standard);
        let authority = if port == standard { shown.to_owned() } else { format!("{shown}:{port}") };
        let address = match &flags.unix {
            Some(path) => Address::Unix(path.clone()),
            None => Address::Ip(resolved(host, port)?),
        };
        let tls = tls.then(|| server_name(host, "--url")).transpose()?;
        let deflate = match (flags.deflate, flags.deflate_takeover) {
            (false, _) => None,
            (true, false) => Some(Deflate::Shared),
            (true, true) => Some(Deflate::Takeover),
        };
        if deflate.is_some() && framing == Framing::Tcp {
            return Err(format!("--deflate: --url {url}: frames over TCP are not compressed"));
        }
        let (url, host) = (url.to_owned(), authority);
        let target = Self { url, framing, tls, deflate, address, host, path };
        let is_as_given = !flags.tls && !flags.tcp && flags.unix.is_none();
        Ok(if is_as_given { target } else { Self { url: target.shown(), ..target } })
    }

    /// The URL, made of its parts.
    fn shown(&self) -> String {
        let scheme = match (self.framing, &self.tls) {
            (Framing::Tcp, None) => "tcp",
            (Framing::Tcp, Some(_)) => "tls",
            (_, None) => "ws",
            (_, Some(_)) => "wss",
        };
        let path = if self.framing == Framing::Tcp { "" } else { &*self.path };
        let by = match &self.address {
            Address::Ip(_) => String::new(),
            unix => format!(" by {unix}"),
        };
        format!("{scheme}://{}{path}{by}", self.host)
    }

    /// The same with another last segment of the path.
    pub(crate) fn beside(self, segment: &str) -> Result<Self, String> {
        if self.framing == Framing::Tcp {
            let url = &self.url;
            return Err(format!(
                "--url {url}: frames over TCP have no path; say NAME=URL in --dialect"
            ));
        }
        let (path, query) = match self.path.split_once('?') {
            Some((path, query)) => (path, format!("?{query}")),
            None => (&*self.path, String::new()),
        };
        let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
        let beside = Self { path: format!("{parent}/{segment}{query}"), ..self };
        Ok(Self { url: beside.shown(), ..beside })
    }
}

/// The pieces of a URL; `shown` is the host with the brackets of an IPv6 address.
#[derive(Debug, PartialEq, Eq)]
struct Parts<'a> {
    framing: Framing,
    tls: bool,
    host: &'a str,
    shown: &'a str,
    port: Option<u16>,
    path: String,
}

fn split(url: &str) -> Result<Parts<'_>, String> {
    let ((framing, tls), rest) = strip_scheme(url)?;
    if let Some(bad) = rest.chars().find(|c| !c.is_ascii_graphic()) {
        return Err(format!("--url: {bad:?} must be percent-encoded"));
    }
    if rest.contains('#') {
        return Err("--url: a ws:// URL has no fragment (RFC 6455, section 3)".to_owned());
    }
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if authority.contains('@') {
        return Err("--url: user names and passwords are not supported".to_owned());
    }
    let (shown, port) = split_port(authority)?;
    if framing == Framing::Tcp && !["", "/"].contains(&path) {
        return Err(format!("--url: {url:?} should look like tcp://127.0.0.1:9000"));
    }
    let host = shown.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(shown);
    if host.is_empty() {
        return Err(format!("--url: {url:?} names no host"));
    }
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    Ok(Parts { framing, tls, host, shown, port, path })
}

fn resolved(host: &str, port: u16) -> Result<SocketAddr, String> {
    (host, port)
        .to_socket_addrs()
        .map_err(|error| format!("--url: cannot resolve {host:?}: {error}"))?
        .next()
        .ok_or_else(|| format!("--url: {host:?} resolves to no address"))
}

/// How messages stand in the stream, whether TLS is under it, and what follows.
fn strip_scheme(url: &str) -> Result<((Framing, bool), &str), String> {
    let (scheme, rest) = url
        .split_once("://")
        .ok_or_else(|| format!("--url: {url:?} should look like ws://127.0.0.1:8080/echo"))?;
    match scheme.to_ascii_lowercase().as_str() {
        "ws" => Ok(((Framing::WebSocket, false), rest)),
        "wss" => Ok(((Framing::WebSocket, true), rest)),
        "tcp" => Ok(((Framing::Tcp, false), rest)),
        "tls" => Ok(((Framing::Tcp, true), rest)),
        other => Err(format!("--url: scheme {other:?} is none of ws, wss, tcp, tls")),
    }
}

fn split_port(authority: &str) -> Result<(&str, Option<u16>), String> {
    let colon = match authority.rfind(']') {
        Some(bracket) => authority[bracket..].find(':').map(|at| bracket + at),
        None => authority.rfind(':'),
    };
    let Some(colon) = colon else { return Ok((authority, None)) };
    let port = authority[colon + 1..]
        .parse()
        .ok()
        .filter(|port| *port != 0)
        .ok_or_else(|| format!("--url: bad port in {authority:?}"))?;
    Ok((&authority[..colon], Some(port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(url: &str) -> Target {
        Target::resolve(url, &NetworkArgs::default()).unwrap()
    }

    #[test]
    fn urls_are_taken_apart() {
        let parts = split("ws://127.0.0.1:8080/echo?a=b").unwrap();
        assert_eq!((parts.host, parts.port), ("127.0.0.1", Some(8080)));
        assert_eq!(parts.path, "/echo?a=b");
        let parts = split("WS://[::1]:9/").unwrap();
        assert_eq!((parts.host, parts.shown, parts.port), ("::1", "[::1]", Some(9)));
        let parts = split("wss://example.org?x").unwrap();
        assert_eq!((parts.tls, parts.port, parts.path.as_str()), (true, None, "/?x"));
    }

    #[test]
    fn bad_urls_are_refused_by_name() {
        for url in [
            "127.0.0.1:80",
            "http://h/",
            "ws://",
            "ws://h:0/",
            "ws://h:x/",
            "ws://h/#f",
            "tcp://h",
            "tls://127.0.0.1",
            "tcp://h:1/x",
        ] {
            let error = Target::resolve(url, &NetworkArgs::default()).unwrap_err();
            assert!(error.starts_with("--url"), "{url}: {error}");
        }
        assert!(split("ws://u:p@h/").is_err());
        assert!(split("ws://h/a b").is_err());
    }

    #[test]
    fn a_url_may_be_plain_tcp() {
        let target = resolve("tcp://127.0.0.1:9000");
        assert_eq!(target.framing, Framing::Tcp);
        assert_eq!(target.address.to_string(), "127.0.0.1:9000");
        assert!(target.beside("x").unwrap_err().contains("--dialect"));
    }

    #[test]
    fn the_last_segment_is_replaced() {
        for (url, beside) in [
            ("ws://127.0.0.1:8080/ws", "ws://127.0.0.1:8080/hub"),
            ("wss://127.0.0.1:8080", "wss://127.0.0.1:8080/hub"),
            ("ws://127.0.0.1/a/ws?b=/c", "ws://127.0.0.1/a/hub?b=/c"),
        ] {
            let target = resolve(url).beside("hub").unwrap();
            assert_eq!(target.url, beside);
            assert!(beside.ends_with(&target.path));
        }
    }

    #[test]
    fn the_host_header_leaves_out_the_default_port() {
        assert_eq!(resolve("ws://127.0.0.1/").host, "127.0.0.1");
        assert_eq!(resolve("wss://127.0.0.1:443/").host, "127.0.0.1");
        assert_eq!(resolve("wss://127.0.0.1:80/").host, "127.0.0.1:80");
        assert_eq!(resolve("ws://[::1]:81/x").host, "[::1]:81");
    }

    #[test]
    fn flags_change_the_url() {
        let shown = |url: &str, tls, tcp, unix: Option<&str>| {
            let unix = unix.map(PathBuf::from);
            let flags = NetworkArgs { tls, tcp, unix, ..NetworkArgs::default() };
            Target::resolve(url, &flags).unwrap().url
        };
        assert_eq!(shown("ws://127.0.0.1:1/echo", true, false, None), "wss://127.0.0.1:1/echo");
        assert_eq!(shown("ws://127.0.0.1:1/echo", false, true, None), "tcp://127.0.0.1:1");
        assert_eq!(shown("tcp://127.0.0.1:1", true, true, None), "tls://127.0.0.1:1");
        // Nothing is resolved that nothing is sent to.
        let unix = shown("ws://no.such.host.invalid/echo", false, false, Some("/run/x"));
        assert_eq!(unix, "ws://no.such.host.invalid/echo by unix:/run/x");
    }
}
