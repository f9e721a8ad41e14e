//! The examples of both specifications, every front of them, and whatever else comes.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use proptest::collection::vec;
use proptest::prelude::*;

use super::{
    ForwardedHeader, HEADER_BYTES_MAX, Header, HeaderProblem, Malformed, Networks, Seen, Source,
    client_of, parse_trusted, read_header,
};
use crate::peer::Peer;

const SIGNATURE: &[u8] = b"\x0D\x0A\x0D\x0A\x00\x0D\x0A\x51\x55\x49\x54\x0A";

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn networks(texts: &[&str]) -> Networks {
    texts.iter().map(|text| parse_trusted(text).unwrap()).collect()
}

/// A header of version 2.
fn binary(command: u8, family: u8, behind: &[u8]) -> Vec<u8> {
    let len = u16::try_from(behind.len()).unwrap().to_be_bytes();
    [SIGNATURE, &[command, family], &len, behind].concat()
}

fn taken(bytes: &[u8]) -> Source {
    match read_header(bytes) {
        Ok(Seen::Header(Header { len, source })) => {
            assert_eq!(len, bytes.len());
            source
        }
        other => panic!("{other:?} of {bytes:02x?}"),
    }
}

/// Every front of a header is the beginning of one, and what stands behind it changes nothing.
fn fronts_and_backs(bytes: &[u8]) {
    let whole = read_header(bytes);
    for end in 0..bytes.len() {
        assert_eq!(read_header(&bytes[..end]), Ok(Seen::Begun), "{end} of {bytes:02x?}");
    }
    for behind in [&b"GET / HTTP/1.1\r\n"[..], b"\x16\x03\x01", b"\n", b"PROXY ", &[0; 5000]] {
        assert_eq!(read_header(&[bytes, behind].concat()), whole);
    }
}

#[test]
fn lines_of_version_1() {
    let client = |text| Source::Client(addr(text));
    for (line, source) in [
        ("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535", client("255.255.255.255:65535")),
        ("PROXY TCP4 192.168.0.1 192.168.0.11 56324 443", client("192.168.0.1:56324")),
        ("PROXY TCP4 1.2.3.4 5.6.7.8 0 0", client("1.2.3.4:0")),
        (
            "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff \
             ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535",
            client("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"),
        ),
        ("PROXY TCP6 2001:db8::1 ::1 1 2", client("[2001:db8::1]:1")),
        ("PROXY UNKNOWN", Source::Peer),
        (
            "PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff \
             ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535",
            Source::Peer,
        ),
        ("PROXY UNKNOWN of whatever kind, it is to be ignored \x7f", Source::Peer),
    ] {
        let line = format!("{line}\r\n");
        assert_eq!(taken(line.as_bytes()), source, "{line:?}");
        fronts_and_backs(line.as_bytes());
    }
}

#[test]
fn lines_that_are_none() {
    for line in [
        "PROXY ",
        "PROXY  TCP4 1.2.3.4 5.6.7.8 1 2",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1 2 3",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1 2 ",
        "PROXY TCP4 1.2.3.4  5.6.7.8 1 2",
        "PROXY TCP4 1.2.3.4 5.6.7.8 +1 2",
        "PROXY TCP4 1.2.3.4 5.6.7.8 01 2",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1 65536",
        "PROXY TCP4 1.2.3.04 5.6.7.8 1 2",
        "PROXY TCP4 1.2.3.4\r5.6.7.8 1 2",
        "PROXY TCP4 ::1 ::1 1 2",
        "PROXY TCP6 1.2.3.4 5.6.7.8 1 2",
        "PROXY TCP5 1.2.3.4 5.6.7.8 1 2",
        "PROXY tcp4 1.2.3.4 5.6.7.8 1 2",
        "PROXY UNKNOWNS",
        "PROXY UDP4 1.2.3.4 5.6.7.8 1 2",
    ] {
        let line = format!("{line}\r\n");
        assert_eq!(read_header(line.as_bytes()), Err(HeaderProblem::Malformed), "{line:?}");
    }
    let bare = b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n";
    assert_eq!(read_header(bare), Err(HeaderProblem::Malformed));
    let long = format!("PROXY UNKNOWN {}", "x".repeat(91));
    assert_eq!(long.len(), 105);
    assert_eq!(taken(format!("{long}\r\n").as_bytes()), Source::Peer);
    assert_eq!(read_header(format!("{long}x").as_bytes()), Ok(Seen::Begun));
    assert_eq!(read_header(format!("{long}xx").as_bytes()), Err(HeaderProblem::TooLong));
    assert_eq!(read_header(format!("{long}x\r\n").as_bytes()), Err(HeaderProblem::TooLong));
}

#[test]
fn headers_of_version_2() {
    let client = |text| Source::Client(addr(text));
    let four = [127, 0, 0, 1, 192, 168, 1, 1, 0xDC, 0x04, 1, 0xBB];
    let six = [
        &addr("[2001:db8::7]:1").ip().to_canonical(),
        &addr("[2001:db8::8]:1").ip().to_canonical(),
    ]
    .map(|ip| match ip {
        IpAddr::V6(ip) => ip.octets(),
        IpAddr::V4(_) => unreachable!(),
    })
    .concat();
    let six = [&six[..], &[0x12, 0x34, 0, 80]].concat();
    let unix = [b'/'; 216];
    // TLVs: no operation, and one that is not as long as it says. Neither is read.
    let tlvs = [4, 0, 1, 42, 0x20, 0xFF, 0xFF];
    for (bytes, source) in [
        (binary(0x21, 0x11, &four), client("127.0.0.1:56324")),
        (binary(0x21, 0x11, &[&four[..], &tlvs].concat()), client("127.0.0.1:56324")),
        (binary(0x21, 0x21, &six), client("[2001:db8::7]:4660")),
        (binary(0x21, 0x21, &[&six[..], &tlvs].concat()), client("[2001:db8::7]:4660")),
        (binary(0x21, 0x31, &unix), Source::Peer),
        (binary(0x21, 0x12, &four), Source::Peer),
        (binary(0x21, 0x00, &[]), Source::Peer),
        (binary(0x21, 0x00, &tlvs), Source::Peer),
        (binary(0x20, 0x00, &[]), Source::Peer),
        (binary(0x20, 0x11, &four), Source::Peer),
        (binary(0x20, 0x11, &[]), Source::Peer),
        (binary(0x20, 0xFF, &tlvs), Source::Peer),
    ] {
        assert_eq!(taken(&bytes), source, "{bytes:02x?}");
        fronts_and_backs(&bytes);
    }
    let longest = vec![0; HEADER_BYTES_MAX - 16];
    assert_eq!(taken(&binary(0x21, 0x11, &longest)), client("0.0.0.0:0"));
    let longer = binary(0x21, 0x11, &vec![0; HEADER_BYTES_MAX - 15]);
    assert_eq!(read_header(&longer[..15]), Ok(Seen::Begun));
    assert_eq!(read_header(&longer[..16]), Err(HeaderProblem::TooLong));
    for bytes in [
        binary(0x11, 0x11, &four),
        binary(0x31, 0x11, &four),
        binary(0x22, 0x11, &four),
        binary(0x21, 0x41, &four),
        binary(0x21, 0x13, &four),
        binary(0x21, 0x11, &four[..11]),
        binary(0x21, 0x21, &six[..35]),
        binary(0x21, 0x31, &unix[..215]),
    ] {
        assert_eq!(read_header(&bytes), Err(HeaderProblem::Malformed), "{bytes:02x?}");
    }
}

#[test]
fn what_begins_otherwise_has_no_header() {
    for bytes in [
        &b"GET / HTTP/1.1\r\n"[..],
        b"PUT ",
        b"PROXX",
        b"proxy ",
        b"\x16\x03\x01\x02\x00",
        b"\r\n\r\nGET",
        b"\r\nGET",
        b"\x02\x00\x00\x00\x01",
        b"\0",
    ] {
        assert_eq!(read_header(bytes), Ok(Seen::NoHeader), "{bytes:02x?}");
    }
}

#[test]
fn networks_are_read_and_hold_what_is_in_them() {
    let trusted = networks(&["10.0.0.0/8", "192.0.2.7", "fd00::/8", "::ffff:198.51.100.0/120"]);
    let holds = |text: &str| trusted.contains(text.parse().unwrap());
    for inside in
        ["10.1.2.3", "::ffff:10.1.2.3", "192.0.2.7", "fd12::1", "198.51.100.200", "10.255.255.255"]
    {
        assert!(holds(inside), "{inside}");
    }
    for outside in ["11.0.0.0", "192.0.2.8", "fe00::1", "::1", "::10.1.2.3", "198.51.101.1"] {
        assert!(!holds(outside), "{outside}");
    }
    let error = parse_trusted("10.1.2.3/8").unwrap_err();
    assert_eq!(error, "10.0.0.0/8, or 10.1.2.3");
    for bad in ["", "10.0.0.0/33", "10.0.0", "localhost", "10.0.0.0/-1", "fd00::/129"] {
        assert!(parse_trusted(bad).unwrap_err().starts_with("a network such as"), "{bad}");
    }
    assert_eq!(trusted.to_string(), "10.0.0.0/8,192.0.2.7/32,fd00::/8,198.51.100.0/24");
}

#[test]
fn who_comes_over_a_unix_domain_socket_is_trusted_only_by_that_name() {
    let unix = Peer::UNIX.addr();
    assert!(networks(&["unix"]).contains_peer(unix));
    assert!(!networks(&["::/0", "0.0.0.0/0"]).contains_peer(unix));
    // An address that somebody names is no socket's.
    assert!(!networks(&["unix"]).contains(unix.ip()));
    for other in ["0.0.0.0:0", "[::1]:0", "[::]:1"] {
        assert!(!networks(&["unix"]).contains_peer(addr(other)), "{other}");
    }
    assert!(networks(&["unix", "10.0.0.0/8"]).contains_peer(addr("[::ffff:10.0.0.1]:1")));
    assert_eq!(networks(&["Unix", "::1"]).to_string(), "unix,::1/128");
}

const PEER: &str = "10.0.0.1:4000";

fn client(header: ForwardedHeader, lines: &[&str]) -> Result<String, Malformed> {
    let trusted = networks(&["10.0.0.0/8", "fd00::/8"]);
    let lines = lines.iter().map(|line| line.as_bytes());
    client_of(addr(PEER), header, lines, &trusted).map(|client| client.to_string())
}

#[test]
fn x_forwarded_for_is_read_from_its_end() {
    for (lines, named) in [
        (&["203.0.113.7"][..], "203.0.113.7:0"),
        (&["6.6.6.6, 203.0.113.7"], "203.0.113.7:0"),
        (&["6.6.6.6,203.0.113.7 , 10.9.9.9"], "203.0.113.7:0"),
        (&["6.6.6.6", "203.0.113.7", "10.1.1.1, fd00::1"], "203.0.113.7:0"),
        (&["rubbish \"%$, 203.0.113.7"], "203.0.113.7:0"),
        (&["2001:db8::7"], "[2001:db8::7]:0"),
        (&["[2001:db8::7]"], "[2001:db8::7]:0"),
        (&["[2001:db8::7]:443"], "[2001:db8::7]:443"),
        (&["203.0.113.7:5000"], "203.0.113.7:5000"),
        (&["::ffff:203.0.113.7"], "203.0.113.7:0"),
        (&["6.6.6.6, ::ffff:10.0.0.9"], "6.6.6.6:0"),
        (&["10.3.3.3, 10.2.2.2"], "10.3.3.3:0"),
        (&["6.6.6.6, unknown"], PEER),
        (&["6.6.6.6, unknown, 10.2.2.2"], "10.2.2.2:0"),
        (&["6.6.6.6, _hidden"], PEER),
        (&["", " , ,"], PEER),
        (&["203.0.113.7, ,"], "203.0.113.7:0"),
    ] {
        let found = client(ForwardedHeader::XForwardedFor, lines);
        assert_eq!(found.as_deref(), Ok(named), "{lines:?}");
    }
    for bad in [
        "203.0.113.7, rubbish",
        "203.0.113.256",
        "203.0.113.7:",
        "203.0.113.7:+5",
        "203.0.113.7:65536",
        "[203.0.113.7]",
        "[2001:db8::7",
        "2001:db8::7]",
        "[2001:db8::7]443",
        "203.0.113.7;10.0.0.1",
        "\"203.0.113.7\"",
        "_",
    ] {
        assert_eq!(client(ForwardedHeader::XForwardedFor, &[bad]), Err(Malformed), "{bad}");
    }
}

#[test]
fn forwarded_is_read_from_its_end() {
    // The examples of RFC 7239, 4, 6 and 7, among others.
    for (lines, named) in [
        (&["for=192.0.2.43, for=198.51.100.17"][..], "198.51.100.17:0"),
        (&["for=192.0.2.60;proto=http;by=203.0.113.43"], "192.0.2.60:0"),
        (&["For=\"[2001:db8:cafe::17]:4711\""], "[2001:db8:cafe::17]:4711"),
        (&["for=192.0.2.43,for=\"[2001:db8:cafe::17]\""], "[2001:db8:cafe::17]:0"),
        (&["for=\"192.0.2.43:47011\""], "192.0.2.43:47011"),
        (&["for=\"192.0.2.43:_port\""], "192.0.2.43:0"),
        (&["for=192.0.2.43", "for=\"[fd00::1]\";by=_x , by=10.0.0.1;FOR=10.2.2.2"], "192.0.2.43:0"),
        (&["for=6.6.6.6, for=\"_gazonk\""], PEER),
        (&["for=6.6.6.6, for=_hidden, for=10.7.7.7"], "10.7.7.7:0"),
        (&["for=6.6.6.6, for=unknown"], PEER),
        (&["for=6.6.6.6, for=\"unknown:123\""], PEER),
        (&["for=6.6.6.6, proto=https"], PEER),
        (&["for=6.6.6.6;x=\"a, for=10.5.5.5; \\\" \\\\\""], "6.6.6.6:0"),
        (&["for=\"192\\.0.2.43\""], "192.0.2.43:0"),
        (&["for=192.0.2.43 ; proto=http ,"], "192.0.2.43:0"),
        (&[",,;, for=192.0.2.43;;"], "192.0.2.43:0"),
        (&["for=192.0.2.43:80"], "192.0.2.43:80"),
        (&["rubbish", "for=192.0.2.43"], "192.0.2.43:0"),
        (&["for=rubbish, for=192.0.2.43"], "192.0.2.43:0"),
        (&[""], PEER),
    ] {
        let found = client(ForwardedHeader::Forwarded, lines);
        assert_eq!(found.as_deref(), Ok(named), "{lines:?}");
    }
    for bad in [
        "192.0.2.43",
        "for",
        "for=",
        "for=\"\"",
        "for =192.0.2.43",
        "=192.0.2.43",
        "for=\"192.0.2.43",
        "for=192.0.2.43\"",
        "for=\"192.0.2.43\\",
        "for=192.0.2.43;for=192.0.2.44",
        "for=192.0.2.43 by=192.0.2.44",
        "for=\"192.0.2.43\"x",
        "for=rubbish",
        // A quote that a client leaves open must not hide what the proxy wrote behind it.
        "for=6.6.6.6;x=\", for=192.0.2.43",
        "for=6.6.6.6;x=\", for=\"[2001:db8::1]\"",
    ] {
        assert_eq!(client(ForwardedHeader::Forwarded, &[bad]), Err(Malformed), "{bad}");
    }
}

#[test]
fn one_header_is_not_read_as_the_other_and_none_as_none() {
    assert_eq!(client(ForwardedHeader::Off, &["6.6.6.6"]).as_deref(), Ok(PEER));
    assert!(client(ForwardedHeader::XForwardedFor, &["for=6.6.6.6"]).is_err());
}

fn any_address() -> impl Strategy<Value = SocketAddr> {
    let ip = prop_oneof![
        any::<[u8; 4]>().prop_map(IpAddr::from),
        any::<[u8; 16]>().prop_map(|o| { Ipv6Addr::from(o).to_canonical() })
    ];
    (ip, any::<u16>()).prop_map(SocketAddr::from)
}

proptest! {
    #[test]
    fn addresses_come_through_both_versions(source in any_address(), behind in vec(any::<u8>(), 0..40)) {
        let (family, word, zero) = match source {
            SocketAddr::V4(_) => (0x11, "TCP4", "0.0.0.0"),
            SocketAddr::V6(_) => (0x21, "TCP6", "::"),
        };
        let line = format!("PROXY {word} {} {zero} {} 7\r\n", source.ip(), source.port());
        let mut addresses = match source.ip() {
            IpAddr::V4(ip) => [&ip.octets()[..], &[0; 4]].concat(),
            IpAddr::V6(ip) => [&ip.octets()[..], &[0; 16]].concat(),
        };
        addresses.extend(source.port().to_be_bytes());
        addresses.extend([0, 7]);
        let two = binary(0x21, family, &addresses);
        for header in [line.as_bytes(), &two] {
            let found = read_header(&[header, &behind].concat());
            let wanted = Header { len: header.len(), source: Source::Client(source) };
            prop_assert_eq!(found, Ok(Seen::Header(wanted)));
        }
    }

    #[test]
    fn what_is_said_of_a_front_holds_of_the_whole(
        start in prop::sample::select(vec![&b""[..], b"PROXY ", b"PROXY TCP4 1.1.1.1 ", SIGNATURE]),
        rest in vec(any::<u8>(), 0..300),
        cut in any::<prop::sample::Index>(),
    ) {
        let bytes = [start, &rest].concat();
        let whole = read_header(&bytes);
        if let Ok(Seen::Header(Header { len, .. })) = whole {
            prop_assert!(0 < len && len <= bytes.len() && len <= HEADER_BYTES_MAX);
        }
        match read_header(&bytes[..cut.index(bytes.len() + 1)]) {
            Ok(Seen::Begun) => {}
            certain => prop_assert_eq!(certain, whole),
        }
    }

    #[test]
    fn nothing_before_a_stranger_counts(
        made_up in "[ -~]{0,60}",
        stranger in any_address(),
        is_own_line in any::<bool>(),
    ) {
        let trusted = networks(&["10.0.0.0/8", "fd00::/8"]);
        prop_assume!(!trusted.contains(stranger.ip()));
        for (header, by_proxy) in [
            (ForwardedHeader::XForwardedFor, stranger.to_string()),
            (ForwardedHeader::Forwarded, format!("for=\"{stranger}\"")),
        ] {
            let lines = if is_own_line {
                vec![made_up.clone(), by_proxy]
            } else {
                vec![format!("{made_up}, {by_proxy}")]
            };
            let lines = lines.iter().map(|line| line.as_bytes());
            match client_of(addr(PEER), header, lines, &trusted) {
                Ok(client) => prop_assert_eq!(client, stranger),
                // Only a client that breaks the list that it is in itself.
                Err(Malformed) => {
                    prop_assert!(header == ForwardedHeader::Forwarded && !is_own_line);
                }
            }
        }
    }

    #[test]
    fn whatever_comes_is_read_or_refused(lines in vec(vec(any::<u8>(), 0..80), 0..4)) {
        let trusted = networks(&["10.0.0.0/8", "fd00::/8"]);
        for header in [ForwardedHeader::XForwardedFor, ForwardedHeader::Forwarded] {
            let _ = client_of(addr(PEER), header, lines.iter().map(Vec::as_slice), &trusted);
        }
    }
}
