//! The URL to drive, taken apart once: where to connect, and what the handshake says.

use std::net::{SocketAddr, ToSocketAddrs};

use crate::transport::Framing;

/// A parsed and resolved `ws://` or `tcp://` URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// The URL as given, for reports.
    pub(crate) url: String,
    /// How messages stand in the stream.
    pub(crate) framing: Framing,
    /// Where to connect: the first address that the host resolves to.
    pub(crate) address: SocketAddr,
    /// The `Host` header: host, and port unless it is 80 (RFC 6455, section 4.1).
    pub(crate) host: String,
    /// The request target: path and query, at least `/`.
    pub(crate) path: String,
}

impl Target {
    /// Parses `url` and resolves its host.
    pub(crate) fn resolve(url: &str) -> Result<Self, String> {
        let parts = split(url)?;
        let address = (parts.host, parts.port)
            .to_socket_addrs()
            .map_err(|error| format!("--url: cannot resolve {:?}: {error}", parts.host))?
            .next()
            .ok_or_else(|| format!("--url: {:?} resolves to no address", parts.host))?;
        Ok(Self {
            url: url.to_owned(),
            framing: parts.framing,
            address,
            host: if parts.port == 80 {
                parts.shown.to_owned()
            } else {
                format!("{}:{}", parts.shown, parts.port)
            },
            path: parts.path,
        })
    }

    /// The same with another last segment of the path.
    pub(crate) fn beside(self, segment: &str) -> Result<Self, String> {
        if self.framing == Framing::Tcp {
            let url = &self.url;
            return Err(format!(
                "--url {url}: a tcp:// URL has no path; say NAME=URL in --dialect"
            ));
        }
        let (path, query) = match self.path.split_once('?') {
            Some((path, query)) => (path, format!("?{query}")),
            None => (&*self.path, String::new()),
        };
        let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
        let path = format!("{parent}/{segment}{query}");
        Ok(Self { url: format!("ws://{}{path}", self.host), path, ..self })
    }
}

/// The pieces of a URL; `shown` is the host with the brackets of an IPv6 address.
#[derive(Debug, PartialEq, Eq)]
struct Parts<'a> {
    framing: Framing,
    host: &'a str,
    shown: &'a str,
    port: u16,
    path: String,
}

fn split(url: &str) -> Result<Parts<'_>, String> {
    let (framing, rest) = strip_scheme(url)?;
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
    if framing == Framing::Tcp && (port.is_none() || !["", "/"].contains(&path)) {
        return Err(format!("--url: {url:?} should look like tcp://127.0.0.1:9000"));
    }
    let host = shown.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(shown);
    if host.is_empty() {
        return Err(format!("--url: {url:?} names no host"));
    }
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    Ok(Parts { framing, host, shown, port: port.unwrap_or(80), path })
}

fn strip_scheme(url: &str) -> Result<(Framing, &str), String> {
    let (scheme, rest) = url
        .split_once("://")
        .ok_or_else(|| format!("--url: {url:?} should look like ws://127.0.0.1:8080/echo"))?;
    match scheme.to_ascii_lowercase().as_str() {
        "ws" => Ok((Framing::WebSocket, rest)),
        "tcp" => Ok((Framing::Tcp, rest)),
        "wss" => Err("--url: wss:// is not supported, only ws://".to_owned()),
        other => Err(format!("--url: scheme {other:?} is neither ws nor tcp")),
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

    #[test]
    fn urls_are_taken_apart() {
        let parts = split("ws://127.0.0.1:8080/echo?a=b").unwrap();
        assert_eq!((parts.host, parts.port, parts.path.as_str()), ("127.0.0.1", 8080, "/echo?a=b"));
        let parts = split("WS://[::1]:9/").unwrap();
        assert_eq!((parts.host, parts.shown, parts.port), ("::1", "[::1]", 9));
        let parts = split("ws://example.org?x").unwrap();
        assert_eq!((parts.port, parts.path.as_str()), (80, "/?x"));
    }

    #[test]
    fn bad_urls_are_refused_by_name() {
        for url in [
            "127.0.0.1:80",
            "http://h/",
            "wss://h/",
            "ws://",
            "ws://h:0/",
            "ws://h:x/",
            "ws://h/#f",
            "tcp://h",
            "tcp://h:1/x",
        ] {
            let error = split(url).unwrap_err();
            assert!(error.starts_with("--url"), "{url}: {error}");
        }
        assert!(split("ws://u:p@h/").is_err());
        assert!(split("ws://h/a b").is_err());
    }

    #[test]
    fn a_url_may_be_plain_tcp() {
        let target = Target::resolve("tcp://127.0.0.1:9000").unwrap();
        assert_eq!((target.framing, target.address.port()), (Framing::Tcp, 9000));
        assert!(target.beside("x").unwrap_err().contains("--dialect"));
    }

    #[test]
    fn the_last_segment_is_replaced() {
        for (url, beside) in [
            ("ws://127.0.0.1:8080/ws", "ws://127.0.0.1:8080/hub"),
            ("ws://127.0.0.1:8080", "ws://127.0.0.1:8080/hub"),
            ("ws://127.0.0.1/a/ws?b=/c", "ws://127.0.0.1/a/hub?b=/c"),
        ] {
            let target = Target::resolve(url).unwrap().beside("hub").unwrap();
            assert_eq!(target.url, beside);
            assert!(beside.ends_with(&target.path));
        }
    }

    #[test]
    fn the_host_header_leaves_out_the_default_port() {
        assert_eq!(Target::resolve("ws://127.0.0.1/").unwrap().host, "127.0.0.1");
        assert_eq!(Target::resolve("ws://[::1]:81/x").unwrap().host, "[::1]:81");
    }
}
