//! What a file says of proxies.

use tidegate::config::Resolved;
use tidegate::transport::proxy::{ForwardedHeader, FromElsewhere, ListenerKind, ProxyProtocol};

use crate::{File, WHOLE, resolved};

#[test]
fn what_is_taken_from_proxies_is_as_it_is_written() {
    let proxy = resolved(WHOLE).config.proxy;
    assert_eq!(proxy.protocol, ProxyProtocol::Accept);
    assert_eq!(proxy.trusted.to_string(), "10.0.0.0/8,::1/128");
    let elsewhere = (proxy.untrusted, proxy.untrusted_forwarded);
    assert_eq!(elsewhere, (FromElsewhere::Ignore, FromElsewhere::Refuse));
    assert_eq!(proxy.forwarded, ForwardedHeader::Forwarded);
    let of = |kind| proxy.protocol_at(kind, 0);
    assert_eq!(of(ListenerKind::TlsTcp), ProxyProtocol::Require);
    for kind in [ListenerKind::WebSocket, ListenerKind::Tcp, ListenerKind::TlsWebSocket] {
        assert_eq!(of(kind), ProxyProtocol::Accept, "{kind:?}");
    }
}

#[test]
fn what_a_listener_says_of_proxies_is_its_own() {
    let trust = "[proxy]\ntrusted_proxies = [\"::1\"]\n";
    let listeners = "[[listener]]\naddress = \"[::1]:0\"\n[[listener]]\naddress = \"[::1]:0\"\n\
                     proxy_protocol = \"require\"\n";
    let Resolved { config, .. } = resolved(&format!("{trust}{listeners}"));
    let of = |index| config.proxy.protocol_at(ListenerKind::WebSocket, index);
    assert_eq!((of(0), of(1)), (ProxyProtocol::Off, ProxyProtocol::Require));
    // A flag's listeners take the place of the file's, and what those say goes with them.
    let args = ["--listen", "[::1]:0", "--listen", "[::1]:0", "--proxy-protocol", "accept"];
    let file = File::new(&format!("{trust}{listeners}"));
    let config = file.resolve(&args).expect("no mistake").config;
    let of = |index| config.proxy.protocol_at(ListenerKind::WebSocket, index);
    assert_eq!((of(0), of(1)), (ProxyProtocol::Accept, ProxyProtocol::Accept));
}

#[test]
fn mistakes_about_proxies_are_answered() {
    let problems = |text: &str| {
        let found = File::new(text).resolve(&[]).expect_err("a mistake");
        found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    for (text, said) in [
        ("[proxy]\nproxy_protocol = \"require\"\n", "--trusted-proxies"),
        ("[proxy]\nforwarded_headers = \"forwarded\"\n", "--trusted-proxies"),
        ("[[listener]]\naddress = \"[::1]:0\"\nproxy_protocol = \"accept\"\n", "trusted"),
        ("[proxy]\nproxy_protocol = \"requires\"\n", "did you mean `require`"),
        ("[proxy]\nforwarded_headers = \"x-forwarded-fro\"\n", "did you mean `x-forwarded-for`"),
        ("[proxy]\ntrusted_proxies = [\"10.0.0.1/8\", \"x\"]\n", "10.0.0.0/8, or 10.0.0.1"),
        ("[proxy]\ntrusted_proxies = [\"10.0.0.1/8\", \"x\"]\n", "a network such as"),
        ("[proxy]\nproxy_protocoll = \"off\"\n", "proxy_protocol"),
    ] {
        assert!(problems(text).contains(said), "{text}: {}", problems(text));
    }
    let all = "[proxy]\ntrusted_proxies = [\"0.0.0.0/0\"]\nforwarded_headers = \"forwarded\"\n";
    assert!(resolved(all).warnings.iter().any(|warning| warning.contains("everybody")));
}
