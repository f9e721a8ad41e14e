//! Unix-domain sockets.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::Path;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tidegate::transport::proxy::{ProxyProtocol, parse_trusted};
use tidegate::{ListenAddr, Running, TcpListen};

use super::support::client::{Client, request};
use super::tcp_client::TcpClient;
use super::{SETUPS, at, builder, refused, support};

fn open(path: &Path, endpoint: &str) -> Client {
    let mut client = dial(path);
    client.upgrade(endpoint);
    client
}

fn dial(path: &Path) -> Client {
    Client::over_unix(UnixStream::connect(path).expect("somebody listens"))
}

fn stop(running: Running) -> Value {
    let (_, stats) = running.stop(|| false);
    stats
}

#[test]
fn connections_are_served_by_all_loops_and_share_rooms() {
    for setup in SETUPS {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gateway.sock");
        let running = builder(&at(&path), setup).start().unwrap();
        assert!(running.addresses().is_empty());
        assert_eq!(running.config().listen, [at(&path)]);
        let mut echoing: Vec<_> = (0..100).map(|_| open(&path, "/echo")).collect();
        echoing.iter_mut().for_each(|client| client.echoes(b"over no network"));
        let mut members: Vec<_> = (0..10).map(|_| open(&path, "/ws")).collect();
        for member in &mut members {
            let answer = member.ask("join", 1, json!({ "room": "r" }));
            assert!(answer.get("error").is_none(), "{answer}");
        }
        let said = members[0].ask("whoami", 2, Value::Null);
        assert_eq!(said["body"]["peer"], "[::]:0", "{said}");
        // An answer and a message of the room, in whichever order.
        members[1].request("publish", 3, json!({ "room": "r", "data": "all" }));
        for member in members.iter_mut().skip(2) {
            assert!(member.read_text().contains("\"all\""), "{setup:?}");
        }
        drop((echoing, members));
        let stats = stop(running);
        let passed = stats["totals"]["handed_over"].as_u64().unwrap();
        assert!(passed > 0, "one loop had them all: {setup:?} {stats:#}");
        for each in stats["loops"].as_array().unwrap() {
            assert!(each["opened"].as_u64().unwrap() > 20, "{setup:?} {stats:#}");
        }
        assert_eq!(stats["config"]["listen"], json!([format!("unix:{}", path.display())]));
        assert!(!path.exists(), "its file is left behind");
    }
}

#[test]
fn messages_larger_than_the_sockets_buffers_pass_both_ways() {
    for setup in SETUPS {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gateway.sock");
        let running = builder(&at(&path), setup).start().unwrap();
        let mut client = open(&path, "/echo");
        let message: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
        for _ in 0..3 {
            client.echoes(&message);
        }
        // Whoever leaves in the middle of what it is owed takes nobody along.
        let mut leaving = open(&path, "/echo");
        leaving.binary(&message);
        drop(leaving);
        client.echoes(b"still there");
        client.close(1000);
        client.expect_close(1000);
        client.expect_end();
        let stats = stop(running);
        assert_eq!(stats["totals"]["closed"], 2);
    }
}

#[test]
fn frames_without_a_handshake_and_several_sockets_side_by_side() {
    for setup in SETUPS {
        let folder = tempfile::tempdir().unwrap();
        let paths: Vec<_> = (0..5).map(|n| folder.path().join(format!("{n}.sock"))).collect();
        let bare = folder.path().join("bare.sock");
        let builder = builder(&at(&paths[0]), setup).configure(|config| {
            config.listen.extend(paths[1..].iter().map(|path| at(path)));
            config.listen.push(([127, 0, 0, 1], 0).into());
        });
        let builder = builder.tcp_listen(at(&bare), "/echo");
        let running = builder.start().unwrap();
        for path in &paths {
            open(path, "/echo").echoes(b"here");
        }
        Client::echo(running.addresses()[0]).echoes(b"and here");
        let stream = OwnedFd::from(UnixStream::connect(&bare).unwrap());
        TcpClient::over(stream.into()).echoes(2, b"and here");
        let listen = TcpListen { address: at(&bare), endpoint: "/echo".to_owned(), framing: None };
        assert_eq!(running.config().tcp_listen, [listen]);
        stop(running);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "files are left behind");
    }
}

#[test]
fn whoever_is_too_many_is_told_so() {
    for setup in SETUPS {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gateway.sock");
        let builder = builder(&at(&path), setup).configure(|config| config.max_connections = 6);
        let running = builder.start().unwrap();
        let held: Vec<_> = (0..6).map(|_| open(&path, "/echo")).collect();
        let mut surplus = dial(&path);
        surplus.send(&request("/echo"));
        assert!(surplus.response().starts_with("HTTP/1.1 503 "));
        drop((held, surplus));
        stop(running);
    }
}

#[test]
fn a_name_without_a_file_is_listened_on() {
    let name = format!("tidegate-listeners-{}", std::process::id());
    for setup in SETUPS {
        let listen: ListenAddr = format!("unix:@{name}").parse().unwrap();
        let running = builder(&listen, setup).start().unwrap();
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let mut client = Client::over_unix(UnixStream::connect_addr(&address).unwrap());
        client.upgrade("/echo");
        client.echoes(b"nameless on disk");
        drop(client);
        // Its name is free again once it has stopped, or the next round could not start.
        stop(running);
    }
}

#[test]
fn a_gateway_that_is_dropped_or_does_not_start_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway.sock");
    drop(builder(&at(&path), SETUPS[3]).start().unwrap());
    assert!(!path.exists());
    let nowhere = folder.path().join("missing/gateway.sock");
    let both = builder(&at(&path), SETUPS[0]).configure(|config| config.listen.push(at(&nowhere)));
    both.start().expect_err("no such folder");
    assert!(!path.exists());
}

#[test]
fn the_binary_takes_a_stale_socket_and_removes_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway.sock");
    drop(UnixListener::bind(&path).unwrap());
    let listen = format!("unix:{}", path.display());
    for table in ["shared", "private"] {
        let gateway = support::Gateway::start(&[
            "--listen",
            &listen,
            "--unix-mode",
            "0600",
            "--loops",
            "2",
            "--fd-table",
            table,
        ]);
        gateway.stderr_until(&format!("listening on {listen}"));
        assert_eq!(fs::symlink_metadata(&path).unwrap().mode() & 0o7777, 0o600);
        open(&path, "/echo").echoes(b"here");
        let (status, said) = refused(&["--listen", &listen]);
        assert_eq!(status.code(), Some(1), "{said}");
        let told = format!("cannot listen on {listen}: somebody listens there (--listen)");
        assert!(said.contains(&told), "{said}");
        open(&path, "/echo").echoes(b"undisturbed");
        assert!(gateway.stop().success());
        assert!(!path.exists());
    }
}

#[test]
fn new_connections_find_no_file_while_it_drains() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway.sock");
    let mut gateway = support::Gateway::start(&["--listen", &format!("unix:{}", path.display())]);
    let mut client = open(&path, "/echo");
    gateway.signal(Signal::SIGTERM);
    client.expect_close(1001);
    assert!(!path.exists(), "the next gateway can take its place");
    client.close(1001);
    client.expect_end();
    assert!(gateway.wait().success());
}

#[test]
fn mistakes_name_the_flag_and_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("precious");
    fs::write(&file, "data").unwrap();
    let listen = format!("unix:{}", file.display());
    let (status, said) = refused(&["--tcp-listen", &listen, "--listen", "127.0.0.1:0"]);
    assert_eq!(status.code(), Some(1));
    let told = format!("cannot listen on {listen}: there is a file of this name that is no socket");
    assert!(said.contains(&told) && said.contains("(--tcp-listen)"), "{said}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "data");
    for args in [
        &["--listen", "unix:"][..],
        &["--listen", &format!("unix:/{}", "x".repeat(200))],
        &["--listen", &listen, "--tls-listen", &listen],
        &["--listen", "unix:a", "--unix-mode", "0999"],
    ] {
        let (status, said) = refused(args);
        assert_eq!(status.code(), Some(2), "{said}");
        assert!(said.contains("listen") || said.contains("--unix-mode"), "{said}");
    }
}

#[test]
fn proxies_in_front_of_it_are_trusted_by_its_name() {
    for setup in SETUPS {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gateway.sock");
        let builder = builder(&at(&path), setup).configure(|config| {
            config.proxy.protocol = ProxyProtocol::Require;
            config.proxy.trusted = [parse_trusted("unix").unwrap()].into_iter().collect();
        });
        let running = builder.start().unwrap();
        let mut client = dial(&path);
        client.send(b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 443\r\n");
        client.upgrade("/ws");
        let said = client.ask("whoami", 1, Value::Null);
        assert_eq!(said["body"]["peer"], "192.0.2.7:4711", "{said}");
        drop(client);
        stop(running);
    }
}
