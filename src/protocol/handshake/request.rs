//! The head of a request, parsed in place and checked.

use super::response::{Reject, Status, is_token};
use crate::limits::REQUEST_HEADERS_MAX;
use crate::protocol::deflate::{Answer, DeflateSettings};
use memchr::{memchr, memchr_iter};
use std::mem::MaybeUninit;

/// How large the head of a request may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Most bytes, from the method to the blank line.
    pub max_header_bytes: usize,
    /// Most header fields; over [`REQUEST_HEADERS_MAX`] it is that.
    pub max_headers: usize,
}

/// The end of the first head in `buf`: the index just after its blank line. `scanned` bytes of
/// `buf` were given before without one; they are not looked through again, so a request that
/// drips in byte by byte costs no more than one that comes at once.
///
/// A blank line of bare LF counts too, so that such a request is refused and not waited for.
#[must_use]
pub fn head_end(buf: &[u8], scanned: usize) -> Option<usize> {
    let new = buf.get(scanned..)?;
    memchr_iter(b'\n', new)
        .map(|at| scanned + at)
        .find(|&at| buf[..at].ends_with(b"\n") || buf[..at].ends_with(b"\n\r"))
        .map(|at| at + 1)
}

/// Parses the head of a request from the front of `buf`; what follows the head (first frames,
/// sent along) is not looked at. Gives the request and the length of its head.
///
/// `Ok(None)` means that the head goes on. Each call parses from the start: call it with the
/// first bytes, for garbage to be refused at once, and again when [`head_end`] finds the end or
/// `buf` reaches the limit.
///
/// # Errors
/// A [`Reject`] as soon as it is certain: 400, 405 (neither GET nor HEAD), 414, 431 or 505.
pub fn parse_request(
    buf: &[u8],
    limits: HeadLimits,
) -> Result<Option<(Request<'_>, usize)>, Reject> {
    let window = &buf[..buf.len().min(limits.max_header_bytes)];
    let start = if window.starts_with(b"\r\n") { 2 } else { 0 };
    // One empty line before the request is forgiven (RFC 9112, 2.2).
    if start == 2 && window[start..].starts_with(b"\r") {
        return Err(Reject::bad_request("empty request\n"));
    }
    let mut fields = [const { MaybeUninit::uninit() }; REQUEST_HEADERS_MAX];
    let fields = &mut fields[..limits.max_headers.min(REQUEST_HEADERS_MAX)];
    let mut parsed = httparse::Request::new(&mut []);
    let status = parsed
        .parse_with_uninit_headers(&window[start..], fields)
        .map_err(|error| refusal(error, &window[start..]))?;
    let len = match status {
        httparse::Status::Complete(len) => start + len,
        httparse::Status::Partial => window.len(),
    };
    check_line_ends(&window[..len])?;
    if status.is_partial() {
        return if buf.len() < limits.max_header_bytes { Ok(None) } else { Err(too_large(window)) };
    }
    let head = &window[start..len];
    let lines = memchr(b'\n', head).map_or(head.len(), |at| at + 1);
    let target = parsed.path.unwrap_or_default();
    let method = parsed.method.unwrap_or_default();
    let request = Request {
        method,
        path: target,
        query: None,
        minor: parsed.version.unwrap_or(0),
        lines: head[lines..].strip_suffix(b"\r\n").unwrap_or_default(),
    };
    request.checked(target).map(|request| Some((request, len)))
}

/// A request whose head was whole and well formed: GET or HEAD, with no body announced, and under
/// HTTP/1.1 with exactly one `Host`.
///
/// It borrows the head; looking a header up walks the head's lines.
#[derive(Clone, Copy, Debug)]
pub struct Request<'b> {
    method: &'b str,
    path: &'b str,
    query: Option<&'b str>,
    minor: u8,
    /// The header lines, each with its CRLF, found well formed.
    lines: &'b [u8],
}

impl<'b> Request<'b> {
    /// `GET` or `HEAD`.
    #[must_use]
    pub const fn method(&self) -> &'b str {
        self.method
    }

    /// Whether only the head of the answer is wanted.
    #[must_use]
    pub fn is_head(&self) -> bool {
        self.method == "HEAD"
    }

    /// The target's path, raw: from its `/` to before a `?`, percent-encoding as it came, all of
    /// it visible ASCII.
    #[must_use]
    pub const fn path(&self) -> &'b str {
        self.path
    }

    /// What follows the first `?` of the target, raw; `None` without a `?`.
    #[must_use]
    pub const fn query(&self) -> Option<&'b str> {
        self.query
    }

    /// The minor version of HTTP/1: 0 or 1.
    #[must_use]
    pub const fn minor_version(&self) -> u8 {
        self.minor
    }

    /// All header fields in their order: name as it came, value without white space around it.
    pub fn fields(&self) -> impl Iterator<Item = (&'b str, &'b [u8])> + use<'b> {
        fields(self.lines)
    }

    /// The value of the first header of this name, in any case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&'b [u8]> {
        self.headers(name).next()
    }

    /// The values of all headers of this name, in any case.
    pub fn headers<'n>(&self, name: &'n str) -> impl Iterator<Item = &'b [u8]> + use<'b, 'n> {
        self.fields().filter(move |(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// Whether the client wants anything of WebSocket: `websocket` is among its `Upgrade` tokens.
    /// If so, [`upgrade`](Self::upgrade) says whether it can have it.
    #[must_use]
    pub fn wants_upgrade(&self) -> bool {
        self.has_token("Upgrade", "websocket")
    }

    /// The opening handshake, if that is what this is, by all the rules of RFC 6455, 4.2.1.
    ///
    /// # Errors
    /// 405 if it is no GET; 426 if it is a plain request or of another version than 13; 400 if
    /// it is HTTP/1.0, lacks `Connection: Upgrade`, has not exactly one key of 16 bytes, or names
    /// subprotocols that are no tokens.
    pub fn upgrade(&self) -> Result<Upgrade<'b>, Reject> {
        if !self.wants_upgrade() {
            return Err(Reject::upgrade_required());
        }
        if self.method != "GET" {
            return Err(Reject::upgrade_needs_get());
        }
        if self.minor != 1 {
            return Err(Reject::bad_request("WebSocket needs HTTP/1.1\n"));
        }
        if !self.has_token("Connection", "upgrade") {
            return Err(Reject::bad_request("Connection has no upgrade\n"));
        }
        if self.only("Sec-WebSocket-Version") != Some(b"13") {
            return Err(Reject::upgrade_required());
        }
        let tokens = |value| elements(value).all(is_token);
        if !self.headers("Sec-WebSocket-Protocol").all(tokens) {
            return Err(Reject::bad_request("a subprotocol is not a token\n"));
        }
        let key = self.only("Sec-WebSocket-Key").filter(|key| is_key(key));
        match key.and_then(|key| std::str::from_utf8(key).ok()) {
            Some(key) => Ok(Upgrade { key }),
            None => Err(Reject::bad_request("Sec-WebSocket-Key is not one of 16 bytes\n")),
        }
    }

    /// The subprotocols that the client asks for, best first (RFC 6455, 4.1).
    pub fn subprotocols(&self) -> impl Iterator<Item = &'b str> + use<'b> {
        self.headers("Sec-WebSocket-Protocol")
            .flat_map(elements)
            .filter_map(|name| std::str::from_utf8(name).ok())
    }

    /// The answer to what the client offers of permessage-deflate: `None` for none.
    ///
    /// # Errors
    /// 400 if what it offers is no list of extensions, which is looked at only where there is
    /// compression.
    pub fn deflate(&self, settings: &DeflateSettings) -> Result<Option<Answer>, Reject> {
        settings
            .answer(self.headers("Sec-WebSocket-Extensions"))
            .map_err(|_| Reject::bad_request("Sec-WebSocket-Extensions is not a list\n"))
    }

    /// The value of the header of this name, if there is exactly one.
    fn only(&self, name: &str) -> Option<&'b [u8]> {
        let mut values = self.headers(name);
        values.next().filter(|_| values.next().is_none())
    }

    /// Whether one of the lists in all headers of this name has `token`, in any case.
    fn has_token(&self, name: &str, token: &str) -> bool {
        let wanted = |element: &[u8]| element.eq_ignore_ascii_case(token.as_bytes());
        self.headers(name).any(|value| elements(value).any(wanted))
    }

    /// Takes `target` apart and checks what holds for every request.
    fn checked(mut self, target: &'b str) -> Result<Self, Reject> {
        if !matches!(self.method, "GET" | "HEAD") {
            return Err(Reject::method_not_allowed());
        }
        let visible = target.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
        let origin = origin_form(target).filter(|_| visible);
        let origin = origin.ok_or_else(|| Reject::bad_request("bad request target\n"))?;
        (self.path, self.query) = match origin.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (origin, None),
        };
        // An absolute target may lack a path (RFC 9112, 3.2.2).
        if self.path.is_empty() {
            self.path = "/";
        }
        self.check_host()?;
        self.check_no_body()?;
        Ok(self)
    }

    /// RFC 9112, 3.2: exactly one under HTTP/1.1, at most one under HTTP/1.0.
    fn check_host(&self) -> Result<(), Reject> {
        let good = match self.only("Host") {
            Some(host) => is_host(host),
            None => self.minor == 0 && self.header("Host").is_none(),
        };
        if good { Ok(()) } else { Err(Reject::bad_request("not exactly one valid Host\n")) }
    }

    /// Nothing here reads a body, and where its end is must never be in doubt.
    fn check_no_body(&self) -> Result<(), Reject> {
        let none = |len: &[u8]| len == b"0";
        if self.header("Transfer-Encoding").is_some() || !self.headers("Content-Length").all(none) {
            return Err(Reject::bad_request("requests have no body here\n"));
        }
        Ok(())
    }
}

/// What an opening handshake asks for, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Upgrade<'b> {
    /// `Sec-WebSocket-Key`: base64 of 16 bytes.
    pub key: &'b str,
}

/// The header fields in `lines`, of which each ends in LF and has a colon.
pub(super) fn fields<'b>(lines: &'b [u8]) -> impl Iterator<Item = (&'b str, &'b [u8])> + use<'b> {
    let mut rest = lines;
    std::iter::from_fn(move || {
        let end = memchr(b'\n', rest)?;
        let line = &rest[..end];
        rest = &rest[end + 1..];
        let colon = memchr(b':', line)?;
        let name = std::str::from_utf8(&line[..colon]).ok()?;
        Some((name, line[colon + 1..].trim_ascii()))
    })
}

/// The elements of a list header, without white space and empty ones (RFC 9110, 5.6.1).
pub(super) fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&b| b == b',').map(<[u8]>::trim_ascii).filter(|element| !element.is_empty())
}

/// The path and query of a target in origin form, or in absolute form without its authority.
fn origin_form(target: &str) -> Option<&str> {
    if target.starts_with('/') {
        return Some(target);
    }
    let (scheme, rest) = target.split_once("://")?;
    let known = ["http", "https", "ws", "wss"].iter().any(|s| scheme.eq_ignore_ascii_case(s));
    let authority = rest.find(['/', '?']).unwrap_or(rest.len());
    if known && authority > 0 { Some(&rest[authority..]) } else { None }
}

/// Whether `host` can be a host and port: visible ASCII with nothing that ends an authority.
fn is_host(host: &[u8]) -> bool {
    let allowed = |b: &u8| b.is_ascii_graphic() && !b"/\\?#@,\"<>".contains(b);
    !host.is_empty() && host.iter().all(allowed)
}

/// Whether `key` is the base64 of exactly 16 bytes, with no loose bits at its end.
fn is_key(key: &[u8]) -> bool {
    let Some((digits, last)) = key.strip_suffix(b"==").and_then(|k| k.split_last_chunk::<1>())
    else {
        return false;
    };
    let digit = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/');
    digits.len() == 21 && digits.iter().all(digit) && b"AQgw".contains(&last[0])
}

/// Bare LF is where one parser sees an end that another does not: refused.
fn check_line_ends(head: &[u8]) -> Result<(), Reject> {
    let bare = |at| !head[..at].ends_with(b"\r");
    if memchr_iter(b'\n', head).any(bare) {
        return Err(Reject::bad_request("a line does not end in CRLF\n"));
    }
    Ok(())
}

fn too_large(window: &[u8]) -> Reject {
    let start = if window.starts_with(b"\r\n") { 2 } else { 0 };
    if memchr(b'\n', &window[start..]).is_none() {
        return Reject::new(Status::URI_TOO_LONG, "the request line is too long\n");
    }
    Reject::new(Status::HEADERS_TOO_LARGE, "the request head is too large\n")
}

fn refusal(error: httparse::Error, head: &[u8]) -> Reject {
    match error {
        httparse::Error::TooManyHeaders => {
            Reject::new(Status::HEADERS_TOO_LARGE, "too many header fields\n")
        }
        httparse::Error::Version if has_version(head) => {
            Reject::new(Status::VERSION_NOT_SUPPORTED, "HTTP/1.1 is spoken here\n")
        }
        httparse::Error::HeaderName => Reject::bad_request("bad header name\n"),
        httparse::Error::HeaderValue => Reject::bad_request("bad header value\n"),
        _ => Reject::bad_request("not an HTTP request\n"),
    }
}

/// Whether the request line at least ends in some version of HTTP.
fn has_version(head: &[u8]) -> bool {
    let line = head.split(|&b| b == b'\n').next().unwrap_or_default().trim_ascii_end();
    let version = line.rsplit(|&b| b == b' ').next().unwrap_or_default();
    version.strip_prefix(b"HTTP/").is_some_and(|v| v.first().is_some_and(u8::is_ascii_digit))
}
