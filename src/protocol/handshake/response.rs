//! Answers: 101 and everything else, byte by byte.

use std::borrow::Cow;
use std::fmt;

use crate::protocol::deflate::Answer;
use tungstenite::handshake::derive_accept_key;

/// No further headers, where a list of them is asked for.
pub const NO_HEADERS: &[(&str, &str)] = &[];

const TEXT: &str = "text/plain; charset=utf-8";
const CLOSE: (&str, &str) = ("Connection", "close");
const ALLOW_PAGES: &[(&str, &str)] = &[("Allow", "GET, HEAD"), CLOSE];
const ALLOW_UPGRADE: &[(&str, &str)] = &[("Allow", "GET"), CLOSE];
// Who sends Upgrade has to name it in Connection as well (RFC 9110, 7.8).
const UPGRADE: &[(&str, &str)] =
    &[("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"), ("Connection", "close, Upgrade")];

/// Headers that frame an answer: written here only, never taken from a caller.
const RESERVED: [&str; 8] = [
    "connection",
    "content-length",
    "content-type",
    "sec-websocket-accept",
    "sec-websocket-extensions",
    "sec-websocket-protocol",
    "transfer-encoding",
    "upgrade",
];

/// The status of a final answer: 200 to 599 (RFC 9110, 15).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Status(u16);

impl Status {
    /// 200.
    pub const OK: Self = Self(200);
    /// 400: not a request, or not one that can be served.
    pub const BAD_REQUEST: Self = Self(400);
    /// 401: who is it?
    pub const UNAUTHORIZED: Self = Self(401);
    /// 403: known, and not allowed.
    pub const FORBIDDEN: Self = Self(403);
    /// 404: no endpoint of this path.
    pub const NOT_FOUND: Self = Self(404);
    /// 405: neither GET nor HEAD.
    pub const METHOD_NOT_ALLOWED: Self = Self(405);
    /// 408: the request did not end in time.
    pub const REQUEST_TIMEOUT: Self = Self(408);
    /// 414: the request line alone is over the limit.
    pub const URI_TOO_LONG: Self = Self(414);
    /// 426: this endpoint speaks WebSocket version 13 and nothing else.
    pub const UPGRADE_REQUIRED: Self = Self(426);
    /// 429: too often.
    pub const TOO_MANY_REQUESTS: Self = Self(429);
    /// 431: the head has too many bytes or too many fields (RFC 6585, 5).
    pub const HEADERS_TOO_LARGE: Self = Self(431);
    /// 500: a hook failed.
    pub const INTERNAL_SERVER_ERROR: Self = Self(500);
    /// 503: full, or going away.
    pub const UNAVAILABLE: Self = Self(503);
    /// 505: neither HTTP/1.1 nor HTTP/1.0.
    pub const VERSION_NOT_SUPPORTED: Self = Self(505);

    /// The status of this code, if it is one of 200 to 599.
    #[must_use]
    pub const fn new(code: u16) -> Option<Self> {
        if matches!(code, 200..=599) { Some(Self(code)) } else { None }
    }

    /// The code, 200 to 599.
    #[must_use]
    pub const fn code(self) -> u16 {
        self.0
    }

    /// The reason phrase; empty for codes that none is known for (RFC 9112, 4).
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self.0 {
            200 => "OK",
            204 => "No Content",
            301 => "Moved Permanently",
            302 => "Found",
            304 => "Not Modified",
            307 => "Temporary Redirect",
            308 => "Permanent Redirect",
            400 => "Bad Request",
            401 => "Unauthorized",
            403 => "Forbidden",
            404 => "Not Found",
            405 => "Method Not Allowed",
            408 => "Request Timeout",
            409 => "Conflict",
            410 => "Gone",
            414 => "URI Too Long",
            426 => "Upgrade Required",
            429 => "Too Many Requests",
            431 => "Request Header Fields Too Large",
            500 => "Internal Server Error",
            502 => "Bad Gateway",
            503 => "Service Unavailable",
            504 => "Gateway Timeout",
            505 => "HTTP Version Not Supported",
            _ => "",
        }
    }

    /// Whether an answer of this status has content (RFC 9110, 6.4.1).
    const fn has_content(self) -> bool {
        !matches!(self.0, 204 | 304)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0, self.reason())
    }
}

/// A header that can't be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidHeader {
    /// The name is no token (RFC 9110, 5.6.2).
    Name,
    /// The value has a CR, LF, NUL or another control character (RFC 9110, 5.5).
    Value,
    /// The header frames the answer and is not the caller's to set.
    Reserved,
    /// The subprotocol is no token (RFC 6455, 4.2.2).
    Subprotocol,
}

impl fmt::Display for InvalidHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Name => "header name is not a token",
            Self::Value => "header value has a control character",
            Self::Reserved => "header is reserved",
            Self::Subprotocol => "subprotocol is not a token",
        })
    }
}

impl std::error::Error for InvalidHeader {}

/// A request refused: what to answer before closing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    /// The answer's status.
    pub status: Status,
    /// What is wrong, as plain text for whoever reads the answer.
    pub body: Cow<'static, str>,
    /// When to come again, seconds.
    pub retry_after_s: Option<u32>,
    /// What the status asks for; `Connection` is among them.
    headers: &'static [(&'static str, &'static str)],
}

impl Reject {
    /// A refusal with a text and nothing else.
    #[must_use]
    pub fn new(status: Status, body: impl Into<Cow<'static, str>>) -> Self {
        Self { status, body: body.into(), retry_after_s: None, headers: &[CLOSE] }
    }

    /// 400, and what is wrong.
    #[must_use]
    pub fn bad_request(body: &'static str) -> Self {
        Self::new(Status::BAD_REQUEST, body)
    }

    /// 404.
    #[must_use]
    pub fn not_found() -> Self {
        Self::new(Status::NOT_FOUND, "no such endpoint\n")
    }

    /// 403 for a request of a page whose origin the endpoint does not allow (RFC 6455, 10.2).
    #[must_use]
    pub fn foreign_origin() -> Self {
        Self::new(Status::FORBIDDEN, "pages of this origin may not connect here\n")
    }

    /// 405 for a method that is neither GET nor HEAD.
    #[must_use]
    pub fn method_not_allowed() -> Self {
        let body = "only GET and HEAD are served\n";
        Self { headers: ALLOW_PAGES, ..Self::new(Status::METHOD_NOT_ALLOWED, body) }
    }

    /// 405 for an upgrade by another method than GET (RFC 6455, 4.2.1).
    #[must_use]
    pub fn upgrade_needs_get() -> Self {
        let body = "a WebSocket handshake is a GET\n";
        Self { headers: ALLOW_UPGRADE, ..Self::new(Status::METHOD_NOT_ALLOWED, body) }
    }

    /// 408: the request did not end in time.
    #[must_use]
    pub fn request_timeout() -> Self {
        Self::new(Status::REQUEST_TIMEOUT, "the request did not end in time\n")
    }

    /// 426, for a plain request and for another version than 13 (RFC 6455, 4.2.2).
    #[must_use]
    pub fn upgrade_required() -> Self {
        let body = "this endpoint speaks WebSocket, version 13\n";
        Self { headers: UPGRADE, ..Self::new(Status::UPGRADE_REQUIRED, body) }
    }

    /// 503, to be tried again in `retry_after_s` seconds.
    #[must_use]
    pub fn unavailable(retry_after_s: u32) -> Self {
        let reject = Self::new(Status::UNAVAILABLE, "no room at the moment\n");
        Self { retry_after_s: Some(retry_after_s), ..reject }
    }

    /// Appends the answer; with `head_only`, which a HEAD asks for, without its content.
    pub fn put(&self, out: &mut Vec<u8>, head_only: bool) {
        put_status_line(out, self.status);
        for (name, value) in self.headers {
            put_header(out, name, value);
        }
        if let Some(seconds) = self.retry_after_s {
            put_header(out, "Retry-After", &seconds.to_string());
        }
        put_content(out, self.status, TEXT, self.body.as_bytes(), head_only);
    }
}

/// Appends 101, which opens the connection (RFC 6455, 4.2.2). `key` is the request's, of
/// [`Upgrade`](super::Upgrade); `subprotocol` is one that the client asked for; `deflate` answers
/// what it offered.
///
/// # Errors
/// [`InvalidHeader`] if `subprotocol` or one of `extra` can't be sent; `out` is as it was.
pub fn put_upgrade_response<N: AsRef<str>, V: AsRef<str>>(
    out: &mut Vec<u8>,
    key: &str,
    subprotocol: Option<&str>,
    deflate: Option<Answer>,
    extra: &[(N, V)],
) -> Result<(), InvalidHeader> {
    check_headers(extra)?;
    if !subprotocol.is_none_or(|name| is_token(name.as_bytes())) {
        return Err(InvalidHeader::Subprotocol);
    }
    out.extend_from_slice(b"HTTP/1.1 101 Switching Protocols\r\n");
    put_header(out, "Upgrade", "websocket");
    put_header(out, "Connection", "Upgrade");
    put_header(out, "Sec-WebSocket-Accept", &derive_accept_key(key.as_bytes()));
    if let Some(name) = subprotocol {
        put_header(out, "Sec-WebSocket-Protocol", name);
    }
    if let Some(answer) = deflate {
        put_header(out, "Sec-WebSocket-Extensions", &answer.to_string());
    }
    put_headers(out, extra);
    out.extend_from_slice(b"\r\n");
    Ok(())
}

/// Appends an answer that ends the connection: `Connection: close`, `extra`, then the content
/// with its type and length. With `head_only`, which a HEAD asks for, the content is left out and
/// its length stays (RFC 9110, 9.3.2). 204 and 304 have no content at all.
///
/// # Errors
/// [`InvalidHeader`] if `content_type` or one of `extra` can't be sent; `out` is as it was.
pub fn put_response<N: AsRef<str>, V: AsRef<str>>(
    out: &mut Vec<u8>,
    status: Status,
    content_type: &str,
    extra: &[(N, V)],
    body: &[u8],
    head_only: bool,
) -> Result<(), InvalidHeader> {
    check_headers(extra)?;
    if !is_value(content_type) {
        return Err(InvalidHeader::Value);
    }
    put_status_line(out, status);
    put_header(out, CLOSE.0, CLOSE.1);
    put_headers(out, extra);
    put_content(out, status, content_type, body, head_only);
    Ok(())
}

/// Whether `bytes` are a token: one or more of RFC 9110's `tchar` (5.6.2).
pub(in crate::protocol) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().copied().all(is_tchar)
}

/// Whether `byte` can stand in a token (RFC 9110, 5.6.2).
pub(in crate::protocol) fn is_tchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Whether `value` can stand in a header: nothing that ends a line, no other control character.
pub(super) fn is_value(value: &str) -> bool {
    value.bytes().all(|b| b == b'\t' || (b >= b' ' && b != 0x7f))
}

fn check_headers<N: AsRef<str>, V: AsRef<str>>(extra: &[(N, V)]) -> Result<(), InvalidHeader> {
    for (name, value) in extra {
        let name = name.as_ref();
        if !is_token(name.as_bytes()) {
            return Err(InvalidHeader::Name);
        }
        if RESERVED.iter().any(|reserved| name.eq_ignore_ascii_case(reserved)) {
            return Err(InvalidHeader::Reserved);
        }
        if !is_value(value.as_ref()) {
            return Err(InvalidHeader::Value);
        }
    }
    Ok(())
}

fn put_status_line(out: &mut Vec<u8>, status: Status) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.to_string().as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn put_headers<N: AsRef<str>, V: AsRef<str>>(out: &mut Vec<u8>, headers: &[(N, V)]) {
    for (name, value) in headers {
        put_header(out, name.as_ref(), value.as_ref());
    }
}

pub(super) fn put_header(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// The end of the head, and the content unless `head_only`.
fn put_content(out: &mut Vec<u8>, status: Status, kind: &str, body: &[u8], head_only: bool) {
    if status.has_content() {
        put_header(out, "Content-Type", kind);
        put_header(out, "Content-Length", &body.len().to_string());
    }
    out.extend_from_slice(b"\r\n");
    if status.has_content() && !head_only {
        out.extend_from_slice(body);
    }
}
