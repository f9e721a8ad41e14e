//! PROXY headers in front of requests, of frames, and of TLS.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use socket2::SockRef;
use tidegate::transport::proxy::{FromElsewhere, ListenerKind, ProxyProtocol};

use crate::client::Client;
use crate::doors::{WAYS, Way, ask_by_message};
use crate::{
    PROXY, STRANGER, Served, all, binary, binary_of, dial_from, line, protocol, trusted, with_hook,
};

const CLIENT: &str = "203.0.113.7:4711";
const CLIENT_6: &str = "[2001:db8::77]:4711";

/// How a header comes.
#[derive(Clone, Copy, Debug)]
enum Sent {
    /// In one segment with what stands behind it.
    Along,
    /// In one segment of its own.
    Apart,
    /// Byte by byte.
    Dripping,
}

fn send(stream: &mut TcpStream, header: &[u8], sent: Sent) {
    stream.set_nodelay(true).unwrap();
    match sent {
        Sent::Along => {
            SockRef::from(&*stream).set_tcp_cork(true).unwrap();
            stream.write_all(header).unwrap();
            let same = stream.try_clone().unwrap();
            // Whatever the client says first stands in the queue behind the header by then.
            thread::spawn(move || {
                thread::sleep(Duration::from_millis(30));
                SockRef::from(&same).set_tcp_cork(false).unwrap();
            });
        }
        Sent::Apart => stream.write_all(header).unwrap(),
        Sent::Dripping => {
            for byte in header.chunks(1) {
                stream.write_all(byte).unwrap();
                thread::sleep(Duration::from_micros(200));
            }
        }
    }
}

/// Everything that the gateway sends until it ends the connection, by whatever means.
fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    bytes
}

#[test]
fn handlers_see_the_client_whatever_the_header_and_the_way_in() {
    all(|set| {
        let served = Served::start(|builder| protocol(ProxyProtocol::Require)(set(builder)));
        let headers = [
            (line(CLIENT), CLIENT),
            (line(CLIENT_6), CLIENT_6),
            (binary(CLIENT, 0), CLIENT),
            (binary(CLIENT_6, 500), CLIENT_6),
            (binary("[::ffff:203.0.113.7]:4711", 4096 - 52), CLIENT),
        ];
        let mut count = 0;
        for way in WAYS {
            for sent in [Sent::Along, Sent::Apart, Sent::Dripping] {
                for (header, client) in &headers {
                    let mut stream = dial_from(PROXY, way.address(&served));
                    if header.len() > 1000 && matches!(sent, Sent::Dripping) {
                        // Long enough in a hundred pieces.
                        header.chunks(41).for_each(|part| stream.write_all(part).unwrap());
                    } else {
                        send(&mut stream, header, sent);
                    }
                    assert_eq!(way.who(stream), *client, "{way:?} {sent:?} {header:02x?}");
                    count += 1;
                }
            }
        }
        let stats = served.stats_at_rest();
        assert_eq!(stats["proxy_headers"]["client"], count);
        assert_eq!(stats["totals"]["opened"], count);
    });
}

#[test]
fn the_peer_stays_where_no_client_is_named() {
    all(|set| {
        let served = Served::start(|builder| protocol(ProxyProtocol::Require)(set(builder)));
        let headers = [
            b"PROXY UNKNOWN\r\n".to_vec(),
            b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n".to_vec(),
            binary_of(0x20, 0x00, &[]),
            binary_of(0x20, 0x11, &[1; 12]),
            binary_of(0x21, 0x00, &[]),
            binary_of(0x21, 0x31, &[b'/'; 216]),
        ];
        for way in WAYS {
            for header in &headers {
                let mut stream = dial_from(PROXY, way.address(&served));
                let own = stream.local_addr().unwrap().to_string();
                stream.write_all(header).unwrap();
                assert_eq!(way.who(stream), own, "{way:?} {header:02x?}");
            }
        }
        assert_eq!(served.stats_at_rest()["proxy_headers"]["local"], 24);
    });
}

#[test]
fn without_a_header_in_order_there_is_no_connection_and_no_answer() {
    all(|set| {
        let served = Served::start(|builder| protocol(ProxyProtocol::Require)(set(builder)));
        let long = [b"PROXY UNKNOWN ", &[b'x'; 100][..], b"\r\n"].concat();
        let cases = [
            ("missing", b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()),
            ("missing", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc".to_vec()),
            ("missing", b"\x02\x00\x00\x00\x01a".to_vec()),
            ("malformed", b"PROXY TCP4 203.0.113.7 192.0.2.1 4711\r\n".to_vec()),
            ("malformed", binary_of(0x22, 0x11, &[1; 12])),
            ("malformed", binary_of(0x21, 0x11, &[1; 11])),
            ("too_long", long),
            ("too_long", binary(CLIENT, 4096)),
        ];
        for way in WAYS {
            for (_, bytes) in &cases {
                let mut stream = dial_from(PROXY, way.address(&served));
                stream.write_all(bytes).unwrap();
                assert_eq!(rest(&mut stream), b"", "{way:?} {bytes:02x?}");
            }
            for front in [&b"P"[..], b"PROXY TCP4 203.", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0"] {
                let mut stream = dial_from(PROXY, way.address(&served));
                stream.write_all(front).unwrap();
                stream.shutdown(Shutdown::Write).unwrap();
                assert_eq!(rest(&mut stream), b"", "{way:?} {front:02x?}");
            }
        }
        let stats = served.stats_at_rest();
        for (name, count) in
            [("missing", 12), ("malformed", 12), ("too_long", 8), ("unfinished", 12), ("client", 0)]
        {
            assert_eq!(stats["proxy_headers"][name], count, "{name}");
        }
        assert_eq!(stats["refusals"]["proxy"], 44);
        assert_eq!(stats["totals"]["opened"], 0);
    });
}

#[test]
fn a_header_has_to_come_in_time() {
    all(|set| {
        let served = Served::start(|builder| {
            protocol(ProxyProtocol::Require)(set(builder))
                .configure(|config| config.handshake_timeout = Duration::from_millis(200))
        });
        for way in WAYS {
            for front in [&b""[..], b"PROXY TCP4", &binary(CLIENT, 100)[..100]] {
                let mut stream = dial_from(PROXY, way.address(&served));
                stream.write_all(front).unwrap();
                assert_eq!(rest(&mut stream), b"", "{way:?} {front:02x?}");
            }
        }
        let stats = served.stats_at_rest();
        assert_eq!(stats["proxy_headers"]["unfinished"], 12);
        assert_eq!(stats["refusals"]["handshake_timeout"], 12);
    });
}

#[test]
fn a_check_that_says_nothing_is_no_fault() {
    all(|set| {
        let served = Served::start(|builder| protocol(ProxyProtocol::Require)(set(builder)));
        for way in WAYS {
            drop(dial_from(PROXY, way.address(&served)));
            let reset = dial_from(PROXY, way.address(&served));
            SockRef::from(&reset).set_linger(Some(Duration::ZERO)).unwrap();
            drop(reset);
            // As HAProxy does it with `check-send-proxy`.
            let mut local = dial_from(PROXY, way.address(&served));
            local.write_all(&binary_of(0x20, 0x00, &[])).unwrap();
        }
        let stats = served.stats_until("all gone", |s| {
            s["totals"]["accepted"] == 12 && s["totals"]["connections"] == 0
        });
        assert_eq!(stats["proxy_headers"]["local"], 4);
        for fault in ["missing", "malformed", "unfinished", "too_long", "untrusted"] {
            assert_eq!(stats["proxy_headers"][fault], 0, "{fault}");
        }
        served.stats_at_rest();
    });
}

#[test]
fn strangers_are_closed_where_a_header_is_required() {
    all(|set| {
        let served = Served::start(|builder| protocol(ProxyProtocol::Require)(set(builder)));
        for way in WAYS {
            let mut stream = dial_from(STRANGER, way.address(&served));
            // It may be closed already.
            let _ = stream.write_all(&line(CLIENT));
            assert_eq!(rest(&mut stream), b"", "{way:?}");
        }
        let stats = served.stats_at_rest();
        assert_eq!(stats["proxy_headers"]["untrusted"], 4);
        assert_eq!(stats["refusals"]["proxy"], 4);
    });
}

#[test]
fn strangers_are_clients_where_they_are_ignored_and_their_headers_bad_requests() {
    for kind in [ProxyProtocol::Require, ProxyProtocol::Accept] {
        all(|set| {
            let served = Served::start(|builder| {
                protocol(kind)(set(builder))
                    .configure(|config| config.proxy.untrusted = FromElsewhere::Ignore)
            });
            for way in WAYS {
                let stream = dial_from(STRANGER, way.address(&served));
                let own = stream.local_addr().unwrap().to_string();
                assert_eq!(way.who(stream), own, "{way:?}");
            }
            for header in [line(CLIENT), binary(CLIENT, 0)] {
                let mut stream = dial_from(STRANGER, served.plain());
                stream.write_all(&header).unwrap();
                stream.write_all(&crate::client::request("/ws")).unwrap();
                let answer = String::from_utf8(rest(&mut stream)).unwrap();
                assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
            }
            let stats = served.stats_at_rest();
            assert_eq!(stats["refusals"]["bad_request"], 2);
            assert_eq!(stats["proxy_headers"]["client"], 0);
        });
    }
}

#[test]
fn where_a_header_is_accepted_there_may_be_none() {
    all(|set| {
        let served = Served::start(|builder| protocol(ProxyProtocol::Accept)(set(builder)));
        for way in WAYS {
            let stream = dial_from(PROXY, way.address(&served));
            let own = stream.local_addr().unwrap().to_string();
            assert_eq!(way.who(stream), own, "{way:?}");
            let mut stream = dial_from(PROXY, way.address(&served));
            send(&mut stream, &line(CLIENT), Sent::Along);
            assert_eq!(way.who(stream), CLIENT, "{way:?}");
        }
        let stats = served.stats_at_rest();
        assert_eq!(stats["proxy_headers"]["absent"], 4);
        assert_eq!(stats["proxy_headers"]["client"], 4);
    });
}

#[test]
fn a_listener_says_for_itself() {
    all(|set| {
        let served = Served::start(|builder| {
            protocol(ProxyProtocol::Require)(set(builder)).configure(|config| {
                config.proxy.set_protocol_at(ListenerKind::WebSocket, 0, ProxyProtocol::Off);
                config.proxy.set_protocol_at(ListenerKind::TlsTcp, 0, ProxyProtocol::Accept);
            })
        });
        for way in WAYS {
            let mut stream = dial_from(PROXY, way.address(&served));
            let own = stream.local_addr().unwrap().to_string();
            match way {
                Way::WebSocket | Way::TlsTcp => {
                    assert_eq!(way.who(stream), own, "{way:?}");
                }
                _ => {
                    stream.write_all(&line(CLIENT)).unwrap();
                    assert_eq!(way.who(stream), CLIENT, "{way:?}");
                }
            }
        }
        served.stats_at_rest();
    });
}

#[test]
fn unix_domain_sockets_have_to_be_trusted_by_their_name() {
    all(|set| {
        for (names, client) in [(&["unix"][..], Some(CLIENT)), (&["127.0.0.1", "::/0"], None)] {
            let served = Served::start(|builder| {
                protocol(ProxyProtocol::Require)(set(builder))
                    .configure(|config| config.proxy.trusted = trusted(names))
            });
            let mut stream = UnixStream::connect(served.unix()).unwrap();
            for byte in line(CLIENT).chunks(1) {
                // It may be closed already.
                let _ = stream.write_all(byte);
            }
            match client {
                Some(client) => assert_eq!(ask_by_message(stream), client),
                None => {
                    let _ = stream.read_to_end(&mut Vec::new());
                    served.stats_until("refused", |s| s["proxy_headers"]["untrusted"] == 1);
                }
            }
            served.stats_at_rest();
        }
    });
}

#[test]
fn hooks_see_the_client() {
    all(|set| {
        let served =
            Served::start(|builder| with_hook(protocol(ProxyProtocol::Require)(set(builder))));
        let mut stream = dial_from(PROXY, served.plain());
        stream.write_all(&line(CLIENT)).unwrap();
        let mut client = Client::over(stream);
        client.send(&crate::client::request("/ws"));
        assert_eq!(client.expect_upgrade().header("X-Seen"), Some(CLIENT));
    });
}

#[test]
fn there_may_be_too_many() {
    all(|set| {
        let served = Served::start(|builder| {
            protocol(ProxyProtocol::Require)(set(builder))
                .configure(|config| (config.loops, config.max_connections) = (1, 1))
        });
        let mut first = dial_from(PROXY, served.plain());
        first.write_all(&line(CLIENT)).unwrap();
        let mut first = Client::over(first);
        first.upgrade("/ws");
        for way in WAYS {
            let mut stream = dial_from(PROXY, way.address(&served));
            let said = rest(&mut stream);
            match way {
                Way::WebSocket => {
                    assert!(said.starts_with(b"HTTP/1.1 503 "), "{said:?}");
                }
                // A Close.
                Way::Tcp => assert_eq!(said[0] & 0x0F, 8, "{said:?}"),
                _ => assert_eq!(said, b""),
            }
        }
        assert_eq!(first.ask("who", 1, "")["body"], CLIENT);
        drop(first);
        served.stats_at_rest();
    });
}
