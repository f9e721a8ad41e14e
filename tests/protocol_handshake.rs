//! The opening handshake: what is taken, what is refused and how, and the answers byte by byte.

use proptest::prelude::*;
use tidegate::protocol::handshake::{
    HeadLimits, InvalidHeader, NO_HEADERS, Reject, Request, Status, head_end, parse_request,
    put_response, put_upgrade_response,
};

const LIMITS: HeadLimits = HeadLimits { max_header_bytes: 4096, max_headers: 64 };

const GOOD: &str = "GET /chat?room=1 HTTP/1.1\r\n\
    Host: server.example.com\r\n\
    Upgrade: websocket\r\n\
    Connection: keep-alive, Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Origin: http://example.com\r\n\
    Sec-WebSocket-Protocol: chat, superchat\r\n\
    Sec-WebSocket-Version: 13\r\n\r\n";

/// The status that `head` ends in: of its parsing, of its upgrade, or 101.
fn status(head: &[u8]) -> u16 {
    match parse_request(head, LIMITS) {
        Ok(Some((request, _))) => request.upgrade().map_or_else(|r| r.status.code(), |_| 101),
        Ok(None) => 0,
        Err(reject) => reject.status.code(),
    }
}

fn with<R>(head: &str, look: impl FnOnce(Request<'_>) -> R) -> R {
    let (request, len) = parse_request(head.as_bytes(), LIMITS).unwrap().unwrap();
    assert_eq!(len, head.len());
    look(request)
}

#[test]
fn the_example_of_the_rfc() {
    with(GOOD, |request| {
        assert_eq!((request.method(), request.path()), ("GET", "/chat"));
        assert_eq!((request.query(), request.minor_version()), (Some("room=1"), 1));
        assert_eq!(request.header("ORIGIN"), Some(&b"http://example.com"[..]));
        assert_eq!(request.fields().count(), 7);
        assert!(request.wants_upgrade());
        assert_eq!(request.upgrade().unwrap().key, "dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(request.subprotocols().collect::<Vec<_>>(), ["chat", "superchat"]);
    });
}

#[test]
fn every_front_of_a_request_is_incomplete_and_the_rest_is_not_looked_at() {
    let mut bytes = GOOD.as_bytes().to_vec();
    for end in 0..bytes.len() {
        assert_eq!(parse_request(&bytes[..end], LIMITS).unwrap().map(|(_, n)| n), None, "{end}");
    }
    bytes.extend_from_slice(&[0x81, 0x80, 0, 10, 0, 10, b'\n', 0xff]);
    let (_, len) = parse_request(&bytes, LIMITS).unwrap().unwrap();
    assert_eq!(len, GOOD.len());
}

#[test]
fn the_end_of_a_head_is_found_byte_by_byte() {
    let mut scanned = 0;
    for end in 0..GOOD.len() {
        assert_eq!(head_end(&GOOD.as_bytes()[..end], scanned), None, "{end}");
        scanned = end;
    }
    assert_eq!(head_end(GOOD.as_bytes(), scanned), Some(GOOD.len()));
    assert_eq!(head_end(format!("{GOOD}rest\r\n\r\n").as_bytes(), 0), Some(GOOD.len()));
    assert_eq!(head_end(b"GET / HTTP/1.1\n\nxx", 0), Some(16));
    assert_eq!(head_end(b"short", 99), None);
}

#[test]
fn lists_are_read_over_all_headers_of_a_name_in_any_case() {
    let head = GOOD
        .replace("Connection: keep-alive, Upgrade", "cOnNeCtIoN: close\r\nConnection: ,UPGRADE ,")
        .replace("Upgrade: websocket\r\n", "Upgrade: h2c\r\nUPGRADE: foo , WebSocket\r\n");
    assert_eq!(status(head.as_bytes()), 101);
    let head = GOOD.replace("chat, superchat", "a\r\nsec-websocket-protocol: b,, c");
    with(&head, |r| assert_eq!(r.subprotocols().collect::<Vec<_>>(), ["a", "b", "c"]));
}

#[test]
fn targets() {
    let of = |target: &str| {
        let head = GOOD.replace("/chat?room=1", target);
        parse_request(head.as_bytes(), LIMITS)
            .map(|r| r.map(|(r, _)| (r.path().to_owned(), r.query().map(str::to_owned))).unwrap())
            .map_err(|reject| reject.status.code())
    };
    let ok = |path: &str, query: Option<&str>| Ok((path.to_owned(), query.map(str::to_owned)));
    assert_eq!(of("/"), ok("/", None));
    assert_eq!(of("/a%2Fb?"), ok("/a%2Fb", Some("")));
    assert_eq!(of("/a?b?c=/d"), ok("/a", Some("b?c=/d")));
    assert_eq!(of("//x"), ok("//x", None));
    assert_eq!(of("HTTP://h:1/p?q"), ok("/p", Some("q")));
    assert_eq!(of("ws://h"), ok("/", None));
    assert_eq!(of("wss://h?q"), ok("/", Some("q")));
    for bad in ["*", "chat", "http:///p", "ftp://h/p", "/a#b", "/\u{e9}", "h:443", "://h/"] {
        assert_eq!(of(bad), Err(400), "{bad}");
    }
}

/// A header line of `GOOD` and what to put in its place, with the status that must come of it.
const BAD_LINES: &[(&str, &str, u16)] = &[
    ("GET /", "POST /", 405),
    ("GET /", "OPTIONS /", 405),
    ("GET /", "HEAD /", 405),
    ("GET /", "get /", 405),
    ("HTTP/1.1", "HTTP/1.0", 400),
    ("HTTP/1.1", "HTTP/2.0", 505),
    ("HTTP/1.1", "HTTP/0.9", 505),
    ("HTTP/1.1", "HTP/1.1", 400),
    (" HTTP/1.1", "", 400),
    ("GET /chat", "GET  /chat", 400),
    ("GET ", "GET\t", 400),
    ("GET ", " GET ", 400),
    ("GET ", "\r\n\r\nGET ", 400),
    ("GET ", "\nGET ", 400),
    ("Host: server.example.com\r\n", "", 400),
    ("Host: server.example.com", "Host:", 400),
    ("Host: server.example.com", "Host: a\r\nHost: a", 400),
    ("Host: server.example.com", "Host: a b", 400),
    ("Host: server.example.com", "Host: a/b", 400),
    ("Host: server.example.com", "Host: u@h", 400),
    ("Host: server.example.com", "Host : h", 400),
    ("Upgrade: websocket\r\n", "", 426),
    ("Upgrade: websocket", "Upgrade: websocket2", 426),
    ("Upgrade: websocket", "Upgrade: h2c", 426),
    ("Connection: keep-alive, Upgrade\r\n", "", 400),
    ("keep-alive, Upgrade", "keep-alive", 400),
    ("keep-alive, Upgrade", "keep-alive Upgrade", 400),
    ("Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 8", 426),
    ("Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 013", 426),
    ("Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 13, 8", 426),
    ("Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Version: 13", 426),
    ("Sec-WebSocket-Version: 13\r\n", "", 426),
    ("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "", 400),
    ("dGhlIHNhbXBsZSBub25jZQ==", "", 400),
    ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZR==", 400),
    ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQ=", 400),
    ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQ", 400),
    ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZWE=", 400),
    ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jQ==", 400),
    ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25-ZQ==", 400),
    ("Origin: http://example.com", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", 400),
    ("chat, superchat", "chat, super chat", 400),
    ("chat, superchat", "chat;v=1", 400),
    ("Origin: http://example.com", "Transfer-Encoding: chunked", 400),
    ("Origin: http://example.com", "Transfer-Encoding: identity", 400),
    ("Origin: http://example.com", "Content-Length: 5", 400),
    ("Origin: http://example.com", "Content-Length: 0\r\nContent-Length: 1", 400),
    ("Origin: http://example.com", "Content-Length: +0", 400),
    ("Origin: http://example.com", "Content-Length:", 400),
    ("Origin: http://example.com", "X: a\r\n folded", 400),
    ("Origin: http://example.com", "X: a\r\n\tfolded", 400),
    ("Origin: http://example.com", "X: a\0b", 400),
    ("Origin: http://example.com", "X: a\u{7f}b", 400),
    ("Origin: http://example.com", "X: a\rb", 400),
    ("Origin: http://example.com", "X: a\nY: b", 400),
    ("Origin: http://example.com\r\n", "Origin: http://example.com\n", 400),
    ("Origin: http://example.com", "X Y: b", 400),
    ("Origin: http://example.com", ": b", 400),
    ("Origin: http://example.com", "novalue", 400),
    ("Origin: http://example.com", "X\u{e9}: b", 400),
];

#[test]
fn bad_handshakes() {
    for &(line, instead, expected) in BAD_LINES {
        assert!(GOOD.contains(line), "{line}");
        let head = GOOD.replacen(line, instead, 1);
        assert_eq!(status(head.as_bytes()), expected, "{head}");
    }
}

#[test]
fn oddities_that_are_fine() {
    for (line, instead) in [
        ("GET ", "\r\nGET "),
        ("Origin: http://example.com", "Content-Length: 0"),
        ("Origin: http://example.com", "X:"),
        ("Origin: http://example.com", "X:\t \u{e9} \t"),
        ("Host: server.example.com", "hOST:[::1]:80"),
        ("Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: \t13 "),
    ] {
        let head = GOOD.replacen(line, instead, 1);
        assert_eq!(status(head.as_bytes()), 101, "{head}");
    }
}

#[test]
fn pages() {
    with("GET / HTTP/1.1\r\nHost: h\r\n\r\n", |request| {
        assert!(!request.wants_upgrade() && !request.is_head());
        assert_eq!(request.upgrade(), Err(Reject::upgrade_required()));
    });
    with("HEAD /healthz HTTP/1.0\r\n\r\n", |request| {
        assert!(request.is_head());
        assert_eq!((request.path(), request.minor_version()), ("/healthz", 0));
        assert_eq!(request.fields().count(), 0);
    });
    assert_eq!(status(b"GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n"), 400);
    assert_eq!(status(b"GET /\r\n\r\n"), 400);
    assert_eq!(status(b"GET / HTTP/1.1\n\n"), 400);
}

#[test]
fn garbage_is_refused_before_its_end() {
    for garbage in [
        &b"\x16\x03\x01\x02\x00\x01"[..],
        b"PRI * HTTP/2.0\r\n",
        b"\0",
        b"\r\r",
        b"\n",
        b"GET \x01",
        b"GET / HTTP/1.1\r\nHost: h\r\nX\x01",
        b"GET / HTTP/1.1\r\nHost: h\r\n X: y",
        b"GET / HTTP/1.1\nHost",
        b"SSH-2.0-OpenSSH_9.6\r\n",
    ] {
        assert!(parse_request(garbage, LIMITS).is_err(), "{garbage:?}");
    }
}

#[test]
fn limits_of_the_head() {
    let limits = HeadLimits { max_header_bytes: GOOD.len(), max_headers: 7 };
    let code = |bytes, limits| parse_request(bytes, limits).map_err(|r| r.status.code());
    assert!(code(GOOD.as_bytes(), limits).unwrap().is_some());
    let pipelined = [GOOD.as_bytes(), &[0; 99]].concat();
    assert!(code(&pipelined, limits).unwrap().is_some());
    let one_byte = HeadLimits { max_header_bytes: GOOD.len() - 1, ..limits };
    assert_eq!(code(GOOD.as_bytes(), one_byte).unwrap_err(), 431);
    let one_field = HeadLimits { max_headers: 6, ..limits };
    assert_eq!(code(GOOD.as_bytes(), one_field).unwrap_err(), 431);
    let no_fields = HeadLimits { max_headers: 0, ..limits };
    assert_eq!(code(GOOD.as_bytes(), no_fields).unwrap_err(), 431);
    assert_eq!(code(b"GET / HTTP/1.0\r\n\r\n", no_fields).unwrap().unwrap().1, 18);
    let many = format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", "X: y\r\n".repeat(96));
    let huge = HeadLimits { max_header_bytes: 1 << 20, max_headers: 1 << 20 };
    assert_eq!(code(many.as_bytes(), huge).unwrap_err(), 431);
    let long = format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "a".repeat(5000));
    assert_eq!(code(long.as_bytes(), LIMITS).unwrap_err(), 414);
    assert_eq!(code(&long.as_bytes()[..4096], LIMITS).unwrap_err(), 414);
    assert!(code(&long.as_bytes()[..4095], LIMITS).unwrap().is_none());
}

fn golden(put: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    put(&mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn the_upgrade_answer() {
    let extra = [("Set-Cookie".to_owned(), "a=b".to_owned())];
    let key = "dGhlIHNhbXBsZSBub25jZQ==";
    let answer = golden(|out| put_upgrade_response(out, key, Some("chat"), None, &extra).unwrap());
    assert_eq!(
        answer,
        "HTTP/1.1 101 Switching Protocols\r\n\
         Upgrade: websocket\r\n\
         Connection: Upgrade\r\n\
         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\
         Sec-WebSocket-Protocol: chat\r\n\
         Set-Cookie: a=b\r\n\r\n"
    );
    let answer = golden(|out| put_upgrade_response(out, key, None, None, NO_HEADERS).unwrap());
    assert!(answer.ends_with("xOo=\r\n\r\n"));
}

#[test]
fn the_refusals() {
    assert_eq!(
        golden(|out| Reject::upgrade_required().put(out, false)),
        "HTTP/1.1 426 Upgrade Required\r\n\
         Upgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\n\
         Connection: close, Upgrade\r\n\
         Content-Type: text/plain; charset=utf-8\r\n\
         Content-Length: 43\r\n\r\n\
         this endpoint speaks WebSocket, version 13\n"
    );
    assert_eq!(
        golden(|out| Reject::method_not_allowed().put(out, false)),
        "HTTP/1.1 405 Method Not Allowed\r\n\
         Allow: GET, HEAD\r\n\
         Connection: close\r\n\
         Content-Type: text/plain; charset=utf-8\r\n\
         Content-Length: 29\r\n\r\n\
         only GET and HEAD are served\n"
    );
    assert_eq!(
        golden(|out| Reject::unavailable(5).put(out, true)),
        "HTTP/1.1 503 Service Unavailable\r\n\
         Connection: close\r\n\
         Retry-After: 5\r\n\
         Content-Type: text/plain; charset=utf-8\r\n\
         Content-Length: 22\r\n\r\n"
    );
    let first =
        |reject: Reject| golden(|out| reject.put(out, false)).lines().next().map(String::from);
    assert_eq!(first(Reject::not_found()).unwrap(), "HTTP/1.1 404 Not Found");
    assert_eq!(first(Reject::request_timeout()).unwrap(), "HTTP/1.1 408 Request Timeout");
    assert!(golden(|out| Reject::upgrade_needs_get().put(out, false)).contains("Allow: GET\r\n"));
}

#[test]
fn the_pages() {
    let page = |head_only| {
        golden(|out| {
            let extra = [("Cache-Control", "no-store")];
            put_response(out, Status::OK, "text/plain", &extra, b"ok\n", head_only).unwrap();
        })
    };
    let head = "HTTP/1.1 200 OK\r\n\
         Connection: close\r\n\
         Cache-Control: no-store\r\n\
         Content-Type: text/plain\r\n\
         Content-Length: 3\r\n\r\n";
    assert_eq!(page(true), head);
    assert_eq!(page(false), format!("{head}ok\n"));
    let status = Status::new(204).unwrap();
    let empty = golden(|out| put_response(out, status, "", NO_HEADERS, b"x", false).unwrap());
    assert_eq!(empty, "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n");
    let status = Status::new(599).unwrap();
    let odd = golden(|out| put_response(out, status, "a/b", NO_HEADERS, b"", false).unwrap());
    assert!(odd.starts_with("HTTP/1.1 599 \r\n"));
    assert_eq!((Status::new(101), Status::new(600), Status::new(199)), (None, None, None));
}

#[test]
fn no_header_can_be_smuggled_into_an_answer() {
    let mut out = b"before".to_vec();
    for (name, value, error) in [
        ("X", "a\r\nSet-Cookie: b", InvalidHeader::Value),
        ("X", "a\nb", InvalidHeader::Value),
        ("X", "a\0", InvalidHeader::Value),
        ("X\r\nY", "a", InvalidHeader::Name),
        ("X:", "a", InvalidHeader::Name),
        ("", "a", InvalidHeader::Name),
        ("content-LENGTH", "0", InvalidHeader::Reserved),
        ("Connection", "keep-alive", InvalidHeader::Reserved),
        ("Transfer-Encoding", "chunked", InvalidHeader::Reserved),
        ("Sec-WebSocket-Extensions", "permessage-deflate", InvalidHeader::Reserved),
    ] {
        let extra = [("Fine", "yes"), (name, value)];
        let page = put_response(&mut out, Status::OK, "a/b", &extra, b"", false);
        assert_eq!(page, Err(error), "{name}: {value}");
        assert_eq!(put_upgrade_response(&mut out, "k", None, None, &extra), Err(error));
    }
    for name in ["", "a b", "a\r\nX: y", "a,b"] {
        let answer = put_upgrade_response(&mut out, "k", Some(name), None, NO_HEADERS);
        assert_eq!(answer, Err(InvalidHeader::Subprotocol), "{name:?}");
    }
    let page = put_response(&mut out, Status::OK, "a\r\nX: y", NO_HEADERS, b"", false);
    assert_eq!(page, Err(InvalidHeader::Value));
    assert_eq!(out, b"before");
}

proptest! {
    /// One changed byte anywhere never makes a request mean something before its end, and
    /// whatever is refused of a front is refused of the whole.
    #[test]
    fn refused_early_is_refused_whole(at in 0..GOOD.len(), byte: u8, end in 0..GOOD.len()) {
        let mut head = GOOD.as_bytes().to_vec();
        head[at] = byte;
        let whole = parse_request(&head, LIMITS).map(|r| r.map(|(_, len)| len));
        match parse_request(&head[..end], LIMITS) {
            Err(_) => prop_assert!(whole.is_err()),
            Ok(Some((_, len))) => prop_assert_eq!(whole, Ok(Some(len))),
            Ok(None) => {}
        }
    }

    #[test]
    fn no_bytes_panic(bytes: Vec<u8>, headers in 0usize..100, max in 0usize..300) {
        let limits = HeadLimits { max_header_bytes: max, max_headers: headers };
        if let Ok(Some((request, len))) = parse_request(&bytes, limits) {
            prop_assert!(len <= max && head_end(&bytes, 0).is_some_and(|end| end <= len));
            let _ = request.upgrade();
        }
    }
}
