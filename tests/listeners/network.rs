//! IPv4 and IPv6, and the options of sockets on the command line.

use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream};

use super::refused;
use super::support::Gateway;
use super::support::client::Client;

fn at_v4(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn at_v6(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv6Addr::LOCALHOST, port))
}

/// A port that was free for both families a moment ago.
fn free_port() -> u16 {
    TcpListener::bind("[::]:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn one_listener_takes_both_families_unless_told_otherwise() {
    // The first one's address is not said to be another's.
    let gateway = Gateway::start_by(super::support::command(), &["--listen", "[::]:0"]);
    let port = gateway.addr.port();
    Client::echo(at_v4(port)).echoes(b"IPv4");
    Client::echo(at_v6(port)).echoes(b"IPv6");
    let mut client = Client::open(at_v4(port), "/ws");
    let said = client.ask("whoami", 1, serde_json::Value::Null);
    let peer: SocketAddr = said["body"]["peer"].as_str().unwrap().parse().unwrap();
    assert_eq!(peer, client.stream.local_addr().unwrap(), "an IPv4 client by its own address");
}

#[test]
fn the_families_can_have_a_listener_each() {
    let port = free_port();
    let (v4, v6) = (format!("0.0.0.0:{port}"), format!("[::]:{port}"));
    let args = ["--listen", &v4, "--listen", &v6, "--ipv6-only", "true", "--loops", "2"];
    let gateway = Gateway::start_by(super::support::command(), &args);
    gateway.stderr_until(&format!("listening on {v6}"));
    Client::echo(at_v4(port)).echoes(b"IPv4");
    Client::echo(at_v6(port)).echoes(b"IPv6");
    assert!(gateway.stop().success());
    // And IPv6 alone leaves IPv4 clients outside.
    let gateway =
        Gateway::start_by(super::support::command(), &["--listen", &v6, "--ipv6-only", "true"]);
    Client::echo(at_v6(port)).echoes(b"IPv6");
    TcpStream::connect(at_v4(port)).expect_err("nobody listens");
    assert!(gateway.stop().success());
}

#[test]
fn what_of_sockets_does_not_fit_is_told() {
    for (args, wanted) in [
        (
            &["--listen", "0.0.0.0:7000", "--tls-listen", "[::]:7000"][..],
            "takes IPv4 clients too, and so the port of 0.0.0.0:7000; give --ipv6-only true",
        ),
        (&["--listen", "localhost:80"], "names are not looked up: 127.0.0.1:80, [::1]:80"),
        (&["--tcp-keepalive", "500ms"], "expected 1s to 9h"),
        (&["--tcp-keepalive-interval", "5s"], "says nothing without --tcp-keepalive"),
        (&["--tcp-keepalive", "5s", "--tcp-keepalive-count", "128"], "expected 1 to 127"),
        (&["--tcp-user-timeout", "25d"], "expected 1ms to 24d"),
        (&["--socket-receive-buffer", "1KiB"], "expected 4KiB to 1GiB"),
        (&["--socket-send-buffer", "2GiB"], "expected 4KiB to 1GiB"),
        (&["--unix-mode", "1777"], "expected 0 to 0777"),
    ] {
        let (status, said) = refused(args);
        assert_eq!(status.code(), Some(2), "{args:?}: {said}");
        assert!(said.contains(wanted), "{args:?}: {said}");
    }
}

#[test]
fn the_configuration_shows_every_option() {
    let args = [
        "config",
        "--listen",
        "unix:/run/a.sock",
        "--listen",
        "systemd:web",
        "--unix-mode",
        "660",
        "--tcp-keepalive",
        "60",
        "--tcp-user-timeout",
        "30s",
        "--socket-send-buffer",
        "64KiB",
    ];
    let output =
        super::support::command().args(args).stdout(std::process::Stdio::piped()).output().unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    for line in [
        "address = \"unix:/run/a.sock\"  # --listen",
        "address = \"systemd:web\"  # --listen",
        "unix_mode = \"0660\"  # --unix-mode",
        "ipv6_only = false  # default",
        "tcp_keepalive = \"1m\"  # --tcp-keepalive",
        "tcp_user_timeout = \"30s\"  # --tcp-user-timeout",
        "socket_send_buffer = \"64KiB\"  # --socket-send-buffer",
        "socket_receive_buffer = \"off\"  # default",
    ] {
        // Comments stand below each other.
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(shown.lines().any(|shown| words(shown) == words(line)), "{line:?} in {shown}");
    }
}
