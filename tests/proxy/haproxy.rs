//! HAProxy in front: the configuration of `examples/`, and TLS behind it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use tempfile::TempDir;
use tidegate::transport::proxy::{ForwardedHeader, ListenerKind, ProxyProtocol};
use tungstenite::Message;

use crate::doors::{Way, ask, ask_by_message, over_tls};
use crate::{PATIENCE, Served, all, dial_from, trusted};

const EXAMPLE: &str = include_str!("../../examples/config/haproxy.cfg");

/// Ways to the gateway's listener with TLS: by HAProxy's own, by the client's that HAProxy passes on,
/// and by requests.
const TLS: &str = "
frontend tls
    mode tcp
    bind 127.0.0.1:9084
    default_backend tls

backend tls
    mode tcp
    server gateway 127.0.0.1:8443 send-proxy-v2 ssl verify none

frontend passed
    mode tcp
    bind 127.0.0.1:9085
    default_backend passed

backend passed
    mode tcp
    server gateway 127.0.0.1:8443 send-proxy-v2-ssl

frontend https
    mode http
    bind 127.0.0.1:9086
    option forwardfor
    default_backend https

backend https
    mode http
    server gateway 127.0.0.1:8443 send-proxy-v2 ssl verify none

frontend local
    mode tcp
    bind 127.0.0.1:9088
    default_backend local

backend local
    mode tcp
    server gateway unix@SOCKET send-proxy-v2

frontend frames
    mode tcp
    bind 127.0.0.1:9087
    default_backend frames

backend frames
    mode tcp
    server gateway 127.0.0.1:8084 send-proxy-v2 check
";

const CLIENT: [u8; 4] = [127, 0, 0, 2];

/// A running HAProxy. Dropped, it is killed.
struct HaProxy {
    child: Child,
    ports: Vec<(String, SocketAddr)>,
    _folder: TempDir,
}

impl HaProxy {
    /// Starts it by a configuration in which addresses stand for others: those of the gateway as given,
    /// and those that it listens on for free ones.
    fn start(configuration: &str, gateways: &[(&str, String)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let names = configuration.lines().filter_map(|line| line.trim().strip_prefix("bind "));
        let free: Vec<_> = names
            .map(|name| (name.to_owned(), TcpListener::bind("127.0.0.1:0").unwrap()))
            .collect();
        let ports: Vec<_> =
            free.iter().map(|(name, at)| (name.clone(), at.local_addr().unwrap())).collect();
        drop(free);
        let mut text = configuration.to_owned();
        for (name, at) in &ports {
            text = text.replace(name, &at.to_string());
        }
        for (name, at) in gateways {
            assert!(text.contains(name), "{name}");
            text = text.replace(name, at);
        }
        let file = folder.path().join("haproxy.cfg");
        std::fs::write(&file, text).unwrap();
        let mut command = Command::new("haproxy");
        command.arg("-db").arg("-f").arg(&file).stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.spawn().expect("haproxy is installed: scripts/setup.sh");
        let started = Self { child, ports, _folder: folder };
        for (_, at) in &started.ports {
            started.wait_for(*at);
        }
        started
    }

    fn wait_for(&self, at: SocketAddr) {
        let began = Instant::now();
        while TcpStream::connect(at).is_err() {
            assert!(began.elapsed() < PATIENCE, "HAProxy does not listen on {at}");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    /// A client's connection to what the configuration calls `name`.
    fn dial(&self, name: &str) -> TcpStream {
        let found = self.ports.iter().find(|(own, _)| own == name);
        dial_from(CLIENT, found.unwrap_or_else(|| panic!("{name}")).1)
    }
}

impl Drop for HaProxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn echoes(stream: impl Read + Write) {
    let (mut socket, _) = tungstenite::client("ws://gateway.test/echo", stream).unwrap();
    for size in [0, 1, 126, 70_000, 300_000] {
        let message = Message::binary(vec![size as u8; size]);
        socket.send(message.clone()).unwrap();
        assert_eq!(socket.read().unwrap(), message, "{size}");
    }
    socket.close(None).unwrap();
    while socket.read().is_ok() {}
}

#[test]
fn the_client_is_seen_through_haproxy() {
    all(|set| {
        // The example's second listener is for requests with X-Forwarded-For: it stands apart.
        let with_requests = Served::start(|builder| {
            set(builder).configure(|config| config.proxy.forwarded = ForwardedHeader::XForwardedFor)
        });
        let served = Served::start(|builder| {
            set(builder).configure(|config| {
                config.proxy.protocol = ProxyProtocol::Require;
                config.proxy.trusted = trusted(&["127.0.0.1", "unix"]);
                config.proxy.set_protocol_at(ListenerKind::TlsTcp, 0, ProxyProtocol::Off);
            })
        });
        let proxy = HaProxy::start(
            &format!("{EXAMPLE}{TLS}"),
            &[
                ("127.0.0.1:8081", served.plain().to_string()),
                ("127.0.0.1:8082", with_requests.plain().to_string()),
                ("127.0.0.1:8443", Way::TlsWebSocket.address(&served).to_string()),
                ("127.0.0.1:8084", Way::Tcp.address(&served).to_string()),
                ("SOCKET", served.unix().display().to_string()),
            ],
        );
        for name in ["127.0.0.1:9081", "127.0.0.1:9082", "127.0.0.1:9084", "127.0.0.1:9088"] {
            let stream = proxy.dial(name);
            let own = stream.local_addr().unwrap().to_string();
            assert_eq!(ask_by_message(stream), own, "{name}");
            echoes(proxy.dial(name));
        }
        let stream = proxy.dial("127.0.0.1:9085");
        let own = stream.local_addr().unwrap().to_string();
        assert_eq!(ask_by_message(over_tls(stream)), own);
        echoes(over_tls(proxy.dial("127.0.0.1:9085")));
        let stream = proxy.dial("127.0.0.1:9087");
        let own = stream.local_addr().unwrap().to_string();
        assert_eq!(Way::Tcp.who(stream), own);
        let stream = proxy.dial("127.0.0.1:9086");
        let own = stream.local_addr().unwrap().to_string();
        assert_eq!(ask_by_message(stream), own, "by the PROXY header of a request's connection");
        assert_eq!(ask_by_message(proxy.dial("127.0.0.1:9083")), "127.0.0.2:0");
        echoes(proxy.dial("127.0.0.1:9083"));
        both_ways_at_once(proxy.dial("127.0.0.1:9083"));
        no_check_is_a_fault(&served, proxy);
    });
}

/// What a client makes up stands before what HAProxy adds.
#[test]
fn what_the_client_makes_up_is_not_believed() {
    let served = Served::start(|builder| {
        builder.configure(|config| config.proxy.forwarded = ForwardedHeader::XForwardedFor)
    });
    let proxy = HaProxy::start(EXAMPLE, &[("127.0.0.1:8082", served.plain().to_string())]);
    let made_up =
        "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 127.0.0.1\r\nForwarded: for=6.6.6.6\r\n";
    let mut client = crate::client::Client::over(proxy.dial("127.0.0.1:9083"));
    client.send(&crate::client::request_with("/ws", made_up));
    client.expect_upgrade();
    assert_eq!(client.ask("who", 1, "")["body"], "127.0.0.2:0");
}

/// A WebSocket through HAProxy that sends before it reads.
fn both_ways_at_once(stream: TcpStream) {
    let (mut socket, _) = tungstenite::client("ws://gateway.test/ws", stream).unwrap();
    assert_eq!(ask(&mut socket), "127.0.0.2:0");
    for n in 0..200 {
        socket.write(Message::text(format!(r#"{{"route":"who","id":{n}}}"#))).unwrap();
    }
    socket.flush().unwrap();
    for n in 0..200 {
        let text = socket.read().unwrap().into_text().unwrap();
        let answer: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(answer["id"], n);
    }
    socket.close(None).unwrap();
    while socket.read().is_ok() {}
}

/// HAProxy's checks send a header of nobody's (LOCAL, UNKNOWN) and leave.
fn no_check_is_a_fault(served: &Served, proxy: HaProxy) {
    served.stats_until("checked", |s| s["proxy_headers"]["local"].as_u64() >= Some(3));
    drop(proxy);
    let stats = served.stats_at_rest();
    for fault in ["missing", "malformed", "too_long", "untrusted"] {
        assert_eq!(stats["proxy_headers"][fault], 0, "{fault}");
    }
}
