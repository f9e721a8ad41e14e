//! The client's part: the request, and the strict check of what comes back (RFC 6455, 4.1).

use std::fmt;
use std::mem::MaybeUninit;

use memchr::{memchr, memchr_iter};
use tungstenite::handshake::derive_accept_key;

use super::request::{elements, fields};
use super::response::{InvalidHeader, is_token, is_value, put_header};
use crate::limits::REQUEST_HEADERS_MAX;
use crate::protocol::deflate::{Agreed, Offer};

/// Headers that make the handshake: written here only, never taken from a caller.
const RESERVED: [&str; 10] = [
    "host",
    "connection",
    "content-length",
    "sec-websocket-accept",
    "sec-websocket-extensions",
    "sec-websocket-key",
    "sec-websocket-protocol",
    "sec-websocket-version",
    "transfer-encoding",
    "upgrade",
];

/// What an opening handshake asks for.
#[derive(Clone, Copy, Debug)]
pub struct UpgradeRequest<'a> {
    /// Host and, where it is not the scheme's own, port.
    pub host: &'a str,
    /// Path and query, from the `/` on.
    pub target: &'a str,
    /// Base64 of 16 random bytes, new for each connection.
    pub key: &'a str,
    /// Subprotocols, best first.
    pub subprotocols: &'a [String],
    /// Compression.
    pub deflate: Option<Offer>,
    /// Further headers.
    pub headers: &'a [(String, String)],
}

/// Appends the request.
///
/// # Errors
/// [`InvalidHeader`] if host, target, a subprotocol or a header can't be sent; `out` is as it was.
pub fn put_upgrade_request(
    out: &mut Vec<u8>,
    request: &UpgradeRequest<'_>,
) -> Result<(), InvalidHeader> {
    check(request)?;
    for part in ["GET ", request.target, " HTTP/1.1\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
    put_header(out, "Host", request.host);
    put_header(out, "Upgrade", "websocket");
    put_header(out, "Connection", "Upgrade");
    put_header(out, "Sec-WebSocket-Key", request.key);
    put_header(out, "Sec-WebSocket-Version", "13");
    if !request.subprotocols.is_empty() {
        put_header(out, "Sec-WebSocket-Protocol", &request.subprotocols.join(", "));
    }
    if let Some(offer) = request.deflate {
        put_header(out, "Sec-WebSocket-Extensions", &offer.to_string());
    }
    for (name, value) in request.headers {
        put_header(out, name, value);
    }
    out.extend_from_slice(b"\r\n");
    Ok(())
}

fn check(request: &UpgradeRequest<'_>) -> Result<(), InvalidHeader> {
    let visible = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
    if !visible(request.host) || !visible(request.target) || !request.target.starts_with('/') {
        return Err(InvalidHeader::Value);
    }
    if !request.subprotocols.iter().all(|name| is_token(name.as_bytes())) {
        return Err(InvalidHeader::Subprotocol);
    }
    for (name, value) in request.headers {
        if !is_token(name.as_bytes()) {
            return Err(InvalidHeader::Name);
        }
        if RESERVED.iter().any(|reserved| name.eq_ignore_ascii_case(reserved)) {
            return Err(InvalidHeader::Reserved);
        }
        if !is_value(value) {
            return Err(InvalidHeader::Value);
        }
    }
    Ok(())
}

/// How large the head of a response may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseLimits {
    /// Most bytes, from the version to the blank line.
    pub max_header_bytes: usize,
}

/// What came back that is no response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadResponse {
    /// Not HTTP/1.1.
    Malformed,
    /// The head is over the limit, or has too many fields.
    TooLarge,
}

impl fmt::Display for BadResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "not a response of HTTP/1.1",
            Self::TooLarge => "the response's head is too large",
        })
    }
}

impl std::error::Error for BadResponse {}

/// Parses the head of a response from the front of `buf`: the response and the length of its head.
/// `Ok(None)` means that the head goes on.
///
/// # Errors
/// [`BadResponse`], as soon as it is certain.
pub fn parse_response(
    buf: &[u8],
    limits: ResponseLimits,
) -> Result<Option<(Response<'_>, usize)>, BadResponse> {
    let window = &buf[..buf.len().min(limits.max_header_bytes)];
    let mut slots = [const { MaybeUninit::uninit() }; REQUEST_HEADERS_MAX];
    let mut parsed = httparse::Response::new(&mut []);
    let status = httparse::ParserConfig::default()
        .parse_response_with_uninit_headers(&mut parsed, window, &mut slots)
        .map_err(|error| match error {
            httparse::Error::TooManyHeaders => BadResponse::TooLarge,
            _ => BadResponse::Malformed,
        })?;
    let httparse::Status::Complete(len) = status else {
        let more = buf.len() < limits.max_header_bytes;
        return if more { Ok(None) } else { Err(BadResponse::TooLarge) };
    };
    let head = &window[..len];
    // Bare LF is where one parser sees an end that another does not.
    if parsed.version != Some(1) || memchr_iter(b'\n', head).any(|at| !head[..at].ends_with(b"\r"))
    {
        return Err(BadResponse::Malformed);
    }
    let first = memchr(b'\n', head).map_or(len, |at| at + 1);
    let lines = head[first..].strip_suffix(b"\r\n").unwrap_or_default();
    Ok(Some((Response { status: parsed.code.unwrap_or(0), lines }, len)))
}

/// A response whose head was whole and well formed.
#[derive(Clone, Copy, Debug)]
pub struct Response<'b> {
    /// Its status code.
    pub status: u16,
    /// The header lines, each with its CRLF, found well formed.
    lines: &'b [u8],
}

impl<'b> Response<'b> {
    /// All header fields in their order: name as it came, value without white space around it.
    pub fn fields(&self) -> impl Iterator<Item = (&'b str, &'b [u8])> + use<'b> {
        fields(self.lines)
    }

    /// The values of all headers of this name, in any case.
    pub fn headers<'n>(&self, name: &'n str) -> impl Iterator<Item = &'b [u8]> + use<'b, 'n> {
        self.fields().filter(move |(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// How long its content is; `None` where that is not said by exactly one valid
    /// `Content-Length`, so that it ends with the connection.
    #[must_use]
    pub fn content_length(&self) -> Option<usize> {
        std::str::from_utf8(self.only("Content-Length")?).ok()?.parse().ok()
    }

    /// Checks that this opens the connection asked for by `request`, by all the rules of RFC 6455,
    /// 4.1, and gives the subprotocol that the server chose.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check_upgrade(
        &self,
        request: &UpgradeRequest<'_>,
    ) -> Result<Option<&'b str>, NotUpgraded> {
        if self.status != 101 {
            return Err(NotUpgraded::Status(self.status));
        }
        if !self.has_token("Upgrade", "websocket") {
            return Err(NotUpgraded::Upgrade);
        }
        if !self.has_token("Connection", "upgrade") {
            return Err(NotUpgraded::Connection);
        }
        let accept = derive_accept_key(request.key.as_bytes());
        if self.only("Sec-WebSocket-Accept") != Some(accept.as_bytes()) {
            return Err(NotUpgraded::Accept);
        }
        self.deflate(request)?;
        let mut chosen = self.headers("Sec-WebSocket-Protocol");
        let (Some(name), None) = (chosen.next(), chosen.next()) else {
            let none = self.headers("Sec-WebSocket-Protocol").next().is_none();
            return if none { Ok(None) } else { Err(NotUpgraded::Subprotocol) };
        };
        let name = std::str::from_utf8(name).map_err(|_| NotUpgraded::Subprotocol)?;
        let asked = request.subprotocols.iter().any(|asked| asked == name);
        if asked { Ok(Some(name)) } else { Err(NotUpgraded::Subprotocol) }
    }

    /// What is agreed on compression with the offer of `request`: `None` for none.
    ///
    /// # Errors
    /// [`NotUpgraded::Extension`] for an extension that was not offered, or not like that.
    pub fn deflate(&self, request: &UpgradeRequest<'_>) -> Result<Option<Agreed>, NotUpgraded> {
        let mut headers = self.headers("Sec-WebSocket-Extensions");
        match request.deflate {
            Some(offer) => offer.check(headers).map_err(|_| NotUpgraded::Extension),
            None if headers.all(|value| elements(value).next().is_none()) => Ok(None),
            None => Err(NotUpgraded::Extension),
        }
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
}

/// Why a response does not open the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotUpgraded {
    /// Another status than 101: a redirect is not followed.
    Status(u16),
    /// `Upgrade` has no `websocket`.
    Upgrade,
    /// `Connection` has no `upgrade`.
    Connection,
    /// `Sec-WebSocket-Accept` does not answer the key.
    Accept,
    /// An extension that was not asked for, or not with these parameters.
    Extension,
    /// A subprotocol that was not asked for, or two.
    Subprotocol,
}

impl fmt::Display for NotUpgraded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "the server answered {status}"),
            Self::Upgrade => f.write_str("no `Upgrade: websocket`"),
            Self::Connection => f.write_str("no `Connection: upgrade`"),
            Self::Accept => f.write_str("Sec-WebSocket-Accept does not answer the key"),
            Self::Extension => f.write_str("an extension that was not asked for"),
            Self::Subprotocol => f.write_str("a subprotocol that was not asked for"),
        }
    }
}

impl std::error::Error for NotUpgraded {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::deflate::{DeflateMode, DeflateSettings};
    use crate::protocol::handshake::{
        HeadLimits, NO_HEADERS, Status, parse_request, put_upgrade_response,
    };

    const LIMITS: ResponseLimits = ResponseLimits { max_header_bytes: 512 };
    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

    fn request<'a>(
        subprotocols: &'a [String],
        headers: &'a [(String, String)],
    ) -> UpgradeRequest<'a> {
        UpgradeRequest {
            host: "example.com:81",
            target: "/chat?a=b",
            key: KEY,
            subprotocols,
            deflate: None,
            headers,
        }
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn the_servers_part_takes_what_is_asked_and_is_taken() {
        let names = ["kim".to_owned(), "json".to_owned()];
        let headers = [pair("clientName", "a-1"), pair("Authorization", "Bearer x")];
        let asked = request(&names, &headers);
        let mut out = Vec::new();
        put_upgrade_request(&mut out, &asked).unwrap();
        let limits = HeadLimits { max_header_bytes: 1024, max_headers: 32 };
        let (read, len) = parse_request(&out, limits).unwrap().unwrap();
        assert_eq!((len, read.path(), read.query()), (out.len(), "/chat", Some("a=b")));
        assert_eq!(read.header("host"), Some(&b"example.com:81"[..]));
        assert_eq!(read.header("clientname"), Some(&b"a-1"[..]));
        assert_eq!(read.subprotocols().collect::<Vec<_>>(), ["kim", "json"]);
        let mut answer = Vec::new();
        let key = read.upgrade().unwrap().key;
        put_upgrade_response(&mut answer, key, Some("json"), None, NO_HEADERS).unwrap();
        let (response, len) = parse_response(&answer, LIMITS).unwrap().unwrap();
        assert_eq!(len, answer.len());
        assert_eq!(response.check_upgrade(&asked), Ok(Some("json")));
        for end in 0..answer.len() {
            assert!(parse_response(&answer[..end], LIMITS).unwrap().is_none(), "{end}");
        }
    }

    #[test]
    fn nothing_is_sent_that_begins_a_line_of_its_own() {
        let refused = |request: &UpgradeRequest<'_>| {
            let mut out = Vec::new();
            let refused = put_upgrade_request(&mut out, request).unwrap_err();
            assert!(out.is_empty());
            refused
        };
        assert_eq!(refused(&request(&[], &[pair("a", "b\r\nc: d")])), InvalidHeader::Value);
        assert_eq!(refused(&request(&[], &[pair("a b", "")])), InvalidHeader::Name);
        assert_eq!(refused(&request(&[], &[pair("HOST", "x")])), InvalidHeader::Reserved);
        assert_eq!(refused(&request(&["a b".into()], &[])), InvalidHeader::Subprotocol);
        let target = UpgradeRequest { target: "/ HTTP/1.1\r\nx: y", ..request(&[], &[]) };
        assert_eq!(refused(&target), InvalidHeader::Value);
        let host = UpgradeRequest { host: "", ..request(&[], &[]) };
        assert_eq!(refused(&host), InvalidHeader::Value);
    }

    /// What becomes of a response with this status and these lines.
    fn checked(status: u16, lines: &str) -> Result<Option<String>, NotUpgraded> {
        let head = format!("HTTP/1.1 {status} X\r\n{lines}\r\n");
        let (response, _) = parse_response(head.as_bytes(), LIMITS).unwrap().unwrap();
        let names = ["a".to_owned(), "b".to_owned()];
        response.check_upgrade(&request(&names, &[])).map(|name| name.map(str::to_owned))
    }

    #[test]
    fn every_rule_is_checked() {
        const UPGRADE: &str = "Upgrade: WebSocket\r\n";
        const CONNECTION: &str = "Connection: keep-alive, Upgrade\r\n";
        // RFC 6455, 1.3.
        const ACCEPT: &str = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";
        let good = [UPGRADE, CONNECTION, ACCEPT].concat();
        let and = |line: &str| checked(101, &(good.clone() + line));
        assert_eq!(checked(101, &good), Ok(None));
        assert_eq!(and("sec-websocket-protocol: b\r\n"), Ok(Some("b".into())));
        assert_eq!(checked(200, &good), Err(NotUpgraded::Status(200)));
        assert_eq!(checked(302, "Location: /x\r\n"), Err(NotUpgraded::Status(302)));
        assert_eq!(checked(101, &[CONNECTION, ACCEPT].concat()), Err(NotUpgraded::Upgrade));
        assert_eq!(checked(101, &[UPGRADE, ACCEPT].concat()), Err(NotUpgraded::Connection));
        assert_eq!(checked(101, &[UPGRADE, CONNECTION].concat()), Err(NotUpgraded::Accept));
        assert_eq!(and(ACCEPT), Err(NotUpgraded::Accept));
        let wrong = good.replace("s3p", "S3p");
        assert_eq!(checked(101, &wrong), Err(NotUpgraded::Accept));
        let deflate = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
        assert_eq!(and(deflate), Err(NotUpgraded::Extension));
        for chosen in ["c", "a, b", "A", ""] {
            let line = format!("Sec-WebSocket-Protocol: {chosen}\r\n");
            assert_eq!(and(&line), Err(NotUpgraded::Subprotocol), "{chosen}");
        }
        let twice = "Sec-WebSocket-Protocol: a\r\nSec-WebSocket-Protocol: a\r\n";
        assert_eq!(and(twice), Err(NotUpgraded::Subprotocol));
    }

    #[test]
    fn compression_is_offered_answered_and_agreed() {
        let settings = DeflateSettings { mode: DeflateMode::Dedicated, ..Default::default() };
        let asked = UpgradeRequest { deflate: settings.offer(), ..request(&[], &[]) };
        let mut out = Vec::new();
        put_upgrade_request(&mut out, &asked).unwrap();
        let limits = HeadLimits { max_header_bytes: 1024, max_headers: 32 };
        let (read, _) = parse_request(&out, limits).unwrap().unwrap();
        let answer = read.deflate(&DeflateSettings::default()).unwrap();
        assert_eq!(read.deflate(&DeflateSettings { mode: DeflateMode::Off, ..settings }), Ok(None));
        let mut upgraded = Vec::new();
        put_upgrade_response(&mut upgraded, KEY, None, answer, NO_HEADERS).unwrap();
        let (response, _) = parse_response(&upgraded, LIMITS).unwrap().unwrap();
        assert_eq!(response.check_upgrade(&asked), Ok(None));
        assert_eq!(response.deflate(&asked), Ok(answer.map(|answer| answer.agreed())));
        assert!(answer.is_some());
        // Who did not offer it takes no answer.
        let plain = request(&[], &[]);
        assert_eq!(response.check_upgrade(&plain), Err(NotUpgraded::Extension));
        assert_eq!(response.deflate(&plain), Err(NotUpgraded::Extension));
        let malformed = String::from_utf8(out).unwrap().replace("permessage-", "permessage ");
        let (read, _) = parse_request(malformed.as_bytes(), limits).unwrap().unwrap();
        let refused = read.deflate(&settings).unwrap_err();
        assert_eq!(refused.status, Status::BAD_REQUEST);
    }

    #[test]
    fn heads_are_bounded_and_well_formed() {
        let bad = |bytes: &[u8]| parse_response(bytes, LIMITS).unwrap_err();
        assert_eq!(bad(b"SSH-2.0-x\r\n"), BadResponse::Malformed);
        assert_eq!(bad(b"HTTP/1.0 101 x\r\n\r\n"), BadResponse::Malformed);
        assert_eq!(bad(b"HTTP/1.1 101 x\nUpgrade: y\n\n"), BadResponse::Malformed);
        let long = format!("HTTP/1.1 101 x\r\na: {}", "x".repeat(600));
        assert_eq!(bad(long.as_bytes()), BadResponse::TooLarge);
        let many = "HTTP/1.1 101 x\r\n".to_owned() + &"a:b\r\n".repeat(97);
        assert_eq!(bad((many + "\r\n").as_bytes()), BadResponse::TooLarge);
        let length = |lines: &str| {
            let head = format!("HTTP/1.1 400 x\r\n{lines}\r\n");
            parse_response(head.as_bytes(), LIMITS).unwrap().unwrap().0.content_length()
        };
        assert_eq!(length("Content-Length: 12\r\n"), Some(12));
        assert_eq!(length("Content-Length: 12\r\nContent-Length: 13\r\n"), None);
        assert_eq!(length(""), None);
    }
}
