//! `X-Forwarded-For` and `Forwarded`.

use tidegate::GatewayBuilder;
use tidegate::transport::proxy::{ForwardedHeader, FromElsewhere, ProxyProtocol};

use crate::client::{Client, request_with};
use crate::{PROXY, STRANGER, Served, all, dial_from, line, protocol, trusted, with_hook};

fn forwarded(header: ForwardedHeader) -> impl Fn(GatewayBuilder) -> GatewayBuilder {
    move |builder| {
        builder.configure(move |config| {
            config.proxy.forwarded = header;
            config.proxy.trusted = trusted(&["127.0.0.1", "10.0.0.0/8"]);
        })
    }
}

/// Asks with these headers: whom the handler sees, or the status of the refusal.
fn who(served: &Served, from: [u8; 4], headers: &str) -> Result<String, u16> {
    let mut client = Client::over(dial_from(from, served.plain()));
    client.send(&request_with("/ws", headers));
    let head = client.head();
    if head.status != 101 {
        return Err(head.status);
    }
    let seen = client.ask("who", 1, "")["body"].as_str().unwrap().to_owned();
    if let Some(by_hook) = head.header("X-Seen") {
        assert_eq!(by_hook, seen);
    }
    client.close(1000);
    Ok(seen)
}

#[test]
fn the_first_address_that_is_not_trusted_is_the_client() {
    all(|set| {
        for hook in [false, true] {
            let served = Served::start(|builder| {
                let builder = forwarded(ForwardedHeader::XForwardedFor)(set(builder));
                if hook { with_hook(builder) } else { builder }
            });
            for (headers, client) in [
                ("X-Forwarded-For: 203.0.113.7\r\n", "203.0.113.7:0"),
                ("x-forwarded-for: 6.6.6.6, 203.0.113.7, 10.1.1.1\r\n", "203.0.113.7:0"),
                (
                    "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: [2001:db8::1]:9\r\n",
                    "[2001:db8::1]:9",
                ),
                ("X-Forwarded-For: 203.0.113.7\r\nForwarded: for=6.6.6.6\r\n", "203.0.113.7:0"),
                ("X-Forwarded-For: 203.0.113.7\r\nX-Real-IP: 6.6.6.6\r\n", "203.0.113.7:0"),
                ("X-Forwarded-For: rubbish, 203.0.113.7\r\n", "203.0.113.7:0"),
            ] {
                assert_eq!(who(&served, PROXY, headers).as_deref(), Ok(client), "{headers}");
            }
            for headers in ["", "Forwarded: for=6.6.6.6\r\n", "X-Forwarded-For: unknown\r\n"] {
                let seen = who(&served, PROXY, headers).unwrap();
                assert!(seen.starts_with("127.0.0.1:"), "{headers}: {seen}");
            }
            assert_eq!(who(&served, PROXY, "X-Forwarded-For: 6.6.6.6, rubbish\r\n"), Err(400));
            let stats = served.stats_at_rest();
            assert_eq!(stats["forwarded_headers"]["client"], 7);
            assert_eq!(stats["forwarded_headers"]["malformed"], 1);
            assert_eq!(stats["refusals"]["proxy"], 1);
        }
    });
}

#[test]
fn forwarded_is_understood_where_it_is_named() {
    all(|set| {
        let served = Served::start(|builder| forwarded(ForwardedHeader::Forwarded)(set(builder)));
        for (headers, client) in [
            ("Forwarded: for=203.0.113.7;proto=http, for=10.2.2.2\r\n", "203.0.113.7:0"),
            (
                "Forwarded: for=6.6.6.6\r\nForwarded: For=\"[2001:db8::1]:80\"\r\n",
                "[2001:db8::1]:80",
            ),
            ("Forwarded: for=203.0.113.7\r\nX-Forwarded-For: 6.6.6.6\r\n", "203.0.113.7:0"),
        ] {
            assert_eq!(who(&served, PROXY, headers).as_deref(), Ok(client), "{headers}");
        }
        assert!(
            who(&served, PROXY, "Forwarded: for=_hidden\r\n").unwrap().starts_with("127.0.0.1:")
        );
        let open = "Forwarded: for=6.6.6.6;x=\", for=203.0.113.7\r\n";
        assert_eq!(who(&served, PROXY, open), Err(400));
        served.stats_at_rest();
    });
}

#[test]
fn strangers_are_not_believed() {
    let header = "X-Forwarded-For: 203.0.113.7\r\n";
    all(|set| {
        let served =
            Served::start(|builder| forwarded(ForwardedHeader::XForwardedFor)(set(builder)));
        assert!(who(&served, STRANGER, header).unwrap().starts_with("127.0.0.9:"));
        assert_eq!(served.stats_at_rest()["forwarded_headers"]["ignored"], 1);

        let served = Served::start(|builder| {
            forwarded(ForwardedHeader::XForwardedFor)(set(builder))
                .configure(|config| config.proxy.untrusted_forwarded = FromElsewhere::Refuse)
        });
        assert_eq!(who(&served, STRANGER, header), Err(403));
        assert!(who(&served, STRANGER, "").unwrap().starts_with("127.0.0.9:"));
        assert_eq!(who(&served, PROXY, header).as_deref(), Ok("203.0.113.7:0"));
        let stats = served.stats_at_rest();
        assert_eq!(stats["forwarded_headers"]["untrusted"], 1);
        assert_eq!(stats["refusals"]["proxy"], 1);
    });
}

#[test]
fn without_a_header_named_none_counts() {
    let served = Served::start(|builder| builder);
    let headers = "X-Forwarded-For: 203.0.113.7\r\nForwarded: for=203.0.113.7\r\n";
    assert!(who(&served, PROXY, headers).unwrap().starts_with("127.0.0.1:"));
}

#[test]
fn behind_a_proxy_header_it_is_its_address_that_has_to_be_trusted() {
    all(|set| {
        let served = Served::start(|builder| {
            protocol(ProxyProtocol::Require)(forwarded(ForwardedHeader::XForwardedFor)(set(
                builder,
            )))
        });
        for (proxy, client) in
            [("10.0.0.8:1", "203.0.113.7:0"), ("198.51.100.1:1", "198.51.100.1:1")]
        {
            let mut stream = dial_from(PROXY, served.plain());
            std::io::Write::write_all(&mut stream, &line(proxy)).unwrap();
            let mut behind = Client::over(stream);
            behind.send(&request_with("/ws", "X-Forwarded-For: 203.0.113.7\r\n"));
            behind.expect_upgrade();
            assert_eq!(behind.ask("who", 1, "")["body"], client);
        }
        served.stats_at_rest();
    });
}
