//! What proxies say: a header is certain as soon as it is told, and the same however it comes; of a list
//! of hops, nothing before a stranger counts.

use std::net::SocketAddr;

use tidegate::transport::proxy::{
    ForwardedHeader, HEADER_BYTES_MAX, Header, HeaderProblem, Malformed, Networks, Seen, client_of,
    parse_trusted, read_header,
};

/// One fuzz input: a byte that says where to cut, then the bytes.
pub fn check(data: &[u8]) {
    let Some((&cut, bytes)) = data.split_first() else { return };
    let cut = usize::from(cut) * bytes.len() / 255;
    header(bytes, cut);
    hops(bytes, cut);
}

fn header(bytes: &[u8], cut: usize) {
    let whole = read_header(bytes);
    match read_header(&bytes[..cut]) {
        Ok(Seen::Begun) => {}
        certain => assert_eq!(certain, whole, "at {cut}"),
    }
    match whole {
        Ok(Seen::Header(Header { len, .. })) => {
            assert!(0 < len && len <= bytes.len() && len <= HEADER_BYTES_MAX);
            assert_eq!(read_header(&bytes[..len]), whole);
            assert_eq!(read_header(&bytes[..len - 1]), Ok(Seen::Begun));
            let is_line = bytes.starts_with(b"PROXY ") && bytes[..len].ends_with(b"\r\n");
            assert!(is_line && len <= 107 || bytes.starts_with(b"\r\n\r\n\0\r\nQUIT\n"));
        }
        Ok(Seen::Begun) => assert!(bytes.len() < HEADER_BYTES_MAX),
        Ok(Seen::NoHeader) => assert!(!bytes.starts_with(b"PROXY ")),
        Err(HeaderProblem::Malformed | HeaderProblem::TooLong) => {}
    }
}

fn hops(bytes: &[u8], cut: usize) {
    let peer = SocketAddr::from(([10, 0, 0, 1], 4000));
    let stranger = SocketAddr::from(([203, 0, 113, 7], 5));
    let trusted: Networks =
        ["10.0.0.0/8", "fd00::/8"].into_iter().map(|text| parse_trusted(text).unwrap()).collect();
    let (one, two) = bytes.split_at(cut);
    for (header, by_proxy) in [
        (ForwardedHeader::XForwardedFor, &b"203.0.113.7:5"[..]),
        (ForwardedHeader::Forwarded, b"for=\"203.0.113.7:5\""),
    ] {
        let of = |lines: &[&[u8]]| client_of(peer, header, lines.iter().copied(), &trusted);
        // Whatever it is, it is read or refused.
        let _ = of(&[one, two]);
        assert_eq!(of(&[one, two, by_proxy]), Ok(stranger), "on a line of its own");
        match of(&[&[bytes, b", ", by_proxy].concat()]) {
            Ok(client) => assert_eq!(client, stranger),
            Err(Malformed) => assert_eq!(header, ForwardedHeader::Forwarded),
        }
    }
}
