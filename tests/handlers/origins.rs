//! Which web pages may connect.

use tidegate::{Endpoint, Origins, Running};

use crate::client::{Client, request_with};
use crate::{PATH, addr, both, only};

/// The status that a request gets, and the reason in its body.
fn status(running: &Running, path: &str, headers: &str) -> u16 {
    let mut peer = Client::dial(addr(running));
    peer.send(&request_with(path, headers));
    peer.head().status
}

/// A page of another site, opened in a user's browser, cannot connect in the user's name: the
/// browser says whose page it is, and sends the user's cookies all the same.
#[test]
fn cross_site_websocket_hijacking_is_refused() {
    both(|setup| {
        let running = setup.serve(Endpoint::echo(PATH));
        let foreign = [
            "https://evil.test",
            "http://gateway.test.evil.test",
            "http://evil.gateway.test",
            "http://gateway.testevil",
            "http://gateway.test:8080",
            "https://gateway.test:80",
            "null",
            "gateway.test",
            "http://evil.test http://gateway.test",
            "",
        ];
        for origin in foreign {
            let headers = format!("Origin: {origin}\r\nCookie: session=of-the-user\r\n");
            assert_eq!(status(&running, PATH, &headers), 403, "{origin}");
        }
        let stats = running.stats();
        assert_eq!(stats["refusals"]["origin"], foreign.len());
        assert_eq!(stats["totals"]["opened"], 0);
        assert_eq!(stats["totals"]["messages_in"], 0);
    });
}

#[test]
fn the_same_host_and_what_is_no_page_may_connect() {
    both(|setup| {
        let running = setup.serve(Endpoint::echo(PATH));
        let same = [
            "",
            "Origin: http://gateway.test\r\n",
            "Origin: https://gateway.test\r\n",
            "Origin: http://GATEWAY.test:80\r\n",
        ];
        for headers in same {
            assert_eq!(status(&running, PATH, headers), 101, "{headers}");
        }
        assert_eq!(running.stats()["refusals"]["origin"], 0);
    });
}

#[test]
fn a_list_of_origins() {
    both(|setup| {
        let list = ["https://app.test", "https://*.partner.test", "http://dev.test:3000"];
        let list = list.iter().map(|origin| origin.parse().expect("an origin")).collect();
        let builder = only(Endpoint::echo("/list").origins(Origins::new(list)))
            .endpoint(Endpoint::echo("/any").origins(Origins::any()))
            .endpoint(Endpoint::echo("/none").origins(Origins::new(Vec::new())));
        let running = setup.start(builder);
        for (origin, is_listed) in [
            ("https://app.test", true),
            ("https://app.test:443", true),
            ("https://a.partner.test", true),
            ("https://a.b.partner.test", true),
            ("http://dev.test:3000", true),
            ("http://app.test", false),
            ("https://partner.test", false),
            ("https://evilpartner.test", false),
            ("http://dev.test", false),
            ("http://gateway.test", false),
            ("null", false),
        ] {
            let headers = format!("Origin: {origin}\r\n");
            let wanted = if is_listed { 101 } else { 403 };
            assert_eq!(status(&running, "/list", &headers), wanted, "{origin}");
            assert_eq!(status(&running, "/any", &headers), 101, "{origin}");
            assert_eq!(status(&running, "/none", &headers), 403, "{origin}");
        }
        assert_eq!(status(&running, "/none", ""), 101, "what says no origin is no page");
    });
}

/// Nobody's hook is asked about a page that may not connect.
#[test]
fn the_origin_is_looked_at_before_the_hook() {
    both(|setup| {
        let endpoint = Endpoint::echo(PATH)
            .on_connect(|_, admission| admission.refuse(tidegate::Refuse::new(401, "asked")));
        let running = setup.serve(endpoint);
        assert_eq!(status(&running, PATH, "Origin: http://evil.test\r\n"), 403);
        assert_eq!(status(&running, PATH, ""), 401);
        let stats = running.stats();
        assert_eq!(
            (&stats["refusals"]["origin"], &stats["refusals"]["hook"]),
            (&1.into(), &1.into())
        );
    });
}
