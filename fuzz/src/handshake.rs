//! The handshake: refused early is refused whole, a request has one end and one reading, and what
//! is answered cannot be mistaken for more than one answer.

use tidegate::protocol::handshake::{
    HeadLimits, Request, head_end, parse_request, put_upgrade_response,
};

/// One fuzz input: two bytes of limits, one that says where to cut, then the request.
pub fn check(data: &[u8]) {
    let Some((&[bytes, fields, cut], request)) = data.split_first_chunk() else { return };
    let max_header_bytes = if bytes == 0 { 1 << 16 } else { usize::from(bytes) * 8 };
    let max_headers = if fields == 0 { 64 } else { usize::from(fields) };
    let limits = HeadLimits { max_header_bytes, max_headers };
    let whole = parse_request(request, limits);
    fronts_agree(request, limits, usize::from(cut) * request.len() / 255);
    scanning_is_the_same_in_two_steps(request, usize::from(cut) * request.len() / 255);
    match whole {
        Ok(Some((parsed, len))) => read(parsed, &request[..len], limits),
        Ok(None) => assert!(request.len() < limits.max_header_bytes),
        Err(reject) => {
            let mut out = Vec::new();
            reject.put(&mut out, false);
            assert!(out.starts_with(b"HTTP/1.1 4") || out.starts_with(b"HTTP/1.1 505"));
        }
    }
}

/// What a front of the bytes says, all of them say.
fn fronts_agree(request: &[u8], limits: HeadLimits, cut: usize) {
    let len = |bytes| parse_request(bytes, limits).map(|found| found.map(|(_, len)| len));
    match (len(&request[..cut]), len(request)) {
        (Err(_), whole) => assert!(whole.is_err(), "refused at {cut} only"),
        (Ok(Some(front)), whole) => assert_eq!(whole, Ok(Some(front))),
        (Ok(None), _) => {}
    }
}

fn scanning_is_the_same_in_two_steps(request: &[u8], cut: usize) {
    let whole = head_end(request, 0);
    match head_end(&request[..cut], 0) {
        Some(end) => assert_eq!(whole, Some(end)),
        None => assert_eq!(head_end(request, cut), whole),
    }
}

/// A request that was taken: its parts are as promised, and as httparse has them.
fn read(request: Request<'_>, head: &[u8], limits: HeadLimits) {
    assert!(head.len() <= limits.max_header_bytes && head.ends_with(b"\r\n\r\n"));
    assert_eq!(head_end(head, 0), Some(head.len()));
    assert!(matches!(request.method(), "GET" | "HEAD"));
    assert!(request.path().starts_with('/') && !request.path().contains('?'));
    let hosts = request.headers("host").count();
    assert!(hosts == 1 || (hosts == 0 && request.minor_version() == 0));
    let mut fields = [httparse::EMPTY_HEADER; 96];
    let mut other = httparse::Request::new(&mut fields);
    assert!(other.parse(head).is_ok_and(|status| status.is_complete()));
    assert!(other.headers.len() <= limits.max_headers);
    let theirs = other.headers.iter().map(|header| (header.name, header.value));
    assert!(request.fields().eq(theirs));
    let Ok(upgrade) = request.upgrade() else { return };
    assert!(request.wants_upgrade() && request.minor_version() == 1 && upgrade.key.len() == 24);
    for name in request.subprotocols() {
        let mut out = Vec::new();
        put_upgrade_response(&mut out, upgrade.key, Some(name), None, &[("X", name)]).unwrap();
        assert_eq!(head_end(&out, 0), Some(out.len()));
    }
}
