//! By what connections go: TLS, frames with a length before them, Unix-domain sockets.

mod program;

use std::{
    net::SocketAddr,
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    thread,
};

use program::{Run, loadtest, refused, run};
use tempfile::TempDir;
use tidegate::{
    Config, Gateway, Running, TcpListen,
    app::{DevCert, make_dev_cert},
    protocol::deflate::DeflateMode,
    transport::tls::CertificateFiles,
};
use tungstenite::WebSocket;

const LOCALHOST: ([u8; 4], u16) = ([127, 0, 0, 1], 0);

/// A gateway with a certificate for `localhost`, and an authority that clients may trust.
struct Served {
    running: Running,
    made: DevCert,
    _folder: TempDir,
}

impl Served {
    fn start() -> Self {
        Self::with(|_| ())
    }

    fn with(change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let made = make_dev_cert(folder.path(), &["localhost".to_owned()]).unwrap();
        let files =
            CertificateFiles { certificate: made.certificate.clone(), key: made.key.clone() };
        let builder = Gateway::builder().listen(LOCALHOST).tls_listen(LOCALHOST);
        let running = builder
            .configure(|config| {
                (config.loops, config.workers) = (2, 2);
                config.tls.certificates = vec![files];
                config.tls_tcp_listen = vec![TcpListen {
                    address: LOCALHOST.into(),
                    endpoint: "/kim".into(),
                    framing: None,
                }];
                change(config);
            })
            .start()
            .unwrap();
        Self { running, made, _folder: folder }
    }

    fn port(&self) -> u16 {
        self.running.tls_addresses()[0].port()
    }

    /// Runs the program over TLS, trusting the gateway.
    fn run(&self, arguments: &str, path: &str) -> Run {
        let url = format!("wss://localhost:{}{path}", self.port());
        run(arguments, &url, &["--tls-ca", self.made.authority.to_str().unwrap()])
    }
}

#[test]
fn connections_over_tls_are_verified_and_closed() {
    let served = Served::start();
    let run = served.run("connect -c 40 --threads 2 --hold 100ms", "/echo");
    assert_eq!(run.code, Some(0), "{}", run.text);
    assert_eq!(run.count("/verify/verified"), 40);
    assert_eq!(run.count("/close/clean"), 40);
    // Each shook hands in full.
    assert_eq!((run.count("/connect/tls/full"), run.count("/connect/tls/resumed")), (40, 0));
    assert_eq!(run.count("/connect/tls/suites/TLSv1_3 TLS13_AES_256_GCM_SHA384"), 40);
    assert!(run.text.contains("40 full, 0 resumed"), "{}", run.text);
}

#[test]
fn sessions_are_resumed_if_that_is_wanted() {
    let served = Served::start();
    for version in ["1.2", "1.3"] {
        let arguments = format!(
            "connect -c 20 --max-connecting 1 --hold 0 --tls-resume --tls-version {version}"
        );
        let run = served.run(&arguments, "/echo");
        assert_eq!(run.code, Some(0), "{}", run.text);
        assert!(run.count("/connect/tls/resumed") > 0, "{}", run.text);
        let suites = run.json["connect"]["tls"]["suites"].as_object().unwrap();
        let named = format!("TLSv{}", version.replace('.', "_"));
        assert!(suites.keys().all(|suite| suite.starts_with(&named)), "{}", run.text);
    }
}

#[test]
fn echoes_over_tls_come_back_as_they_were() {
    let served = Served::start();
    for arguments in [
        "echo -c 20 --threads 2 --duration 200ms --pipeline 16",
        "echo -c 4 --duration 200ms --size 100000 --pipeline 4",
        // More than sockets hold: what is encrypted waits.
        "echo -c 2 --duration 200ms --size 1000000 --pipeline 4 --tls-version 1.2",
    ] {
        let run = served.run(arguments, "/echo");
        assert_eq!(run.code, Some(0), "{}", run.text);
        assert!(run.count("/echo/right") > 0, "{}", run.text);
    }
}

#[test]
fn rooms_and_storms_go_over_tls() {
    let served = Served::start();
    let arguments = "broadcast -c 20 --rooms 2 --rate 50 --duration 300ms --dialect json,hub";
    let run = served.run(arguments, "/ws");
    assert_eq!(run.code, Some(0), "{}", run.text);
    let run = served.run("storm -c 20 --stay 5 --pause 100ms --vanish rst,fin,close", "/echo");
    assert_eq!(run.code, Some(0), "{}", run.text);
}

#[test]
fn frames_with_a_length_go_over_tls() {
    let served = Served::start();
    let address = served.running.tls_tcp_addresses()[0];
    let ca = served.made.authority.to_str().unwrap();
    let arguments = "echo -c 10 --duration 200ms --dialect kim --pipeline 4";
    let tls = format!("tls://localhost:{}", address.port());
    let flags = format!("ws://localhost:{}/ignored", address.port());
    for (url, more) in [(tls, ""), (flags, "--tcp --tls")] {
        let run = run(&format!("{arguments} {more}"), &url, &["--tls-ca", ca]);
        assert_eq!(run.code, Some(0), "{}", run.text);
        assert_eq!(run.json["dialect"], "kim over tcp, tls");
        assert_eq!(run.json["url"], format!("tls://localhost:{}", address.port()));
    }
}

#[test]
fn a_server_that_is_not_trusted_is_refused_by_name() {
    let served = Served::start();
    let other = tempfile::tempdir().unwrap();
    let other = make_dev_cert(other.path(), &["localhost".to_owned()]).unwrap();
    let url = format!("wss://localhost:{}/echo", served.port());
    let (own, wrong) = (served.made.authority.as_path(), other.authority.as_path());
    let with = |more: &[&str]| run("connect -c 3 --hold 0", &url, more);
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    for (more, trouble) in [
        (vec!["--tls-ca", &path(wrong)], "tls: invalid peer certificate: "),
        (vec!["--tls-ca", &path(own), "--tls-name", "other.example"], "other.example"),
    ] {
        let run = with(&more);
        assert_eq!(run.code, Some(1), "{}", run.text);
        let refused = run.json["connect"]["refused"].as_object().unwrap();
        let (label, count) = refused.iter().next().unwrap();
        assert!(label.contains(trouble) && count == 3, "{}", run.text);
    }
    let run = with(&["--tls-insecure"]);
    assert_eq!(run.code, Some(0), "{}", run.text);
}

#[test]
fn a_server_without_tls_is_seen() {
    let served = Served::start();
    let plain = served.running.addresses()[0];
    let run = run("connect -c 2 --hold 0 --tls-insecure", &format!("wss://{plain}/echo"), &[]);
    assert_eq!(run.code, Some(1), "{}", run.text);
    assert_eq!(run.count("/errors"), 2);
}

#[test]
fn connections_go_to_a_unix_socket() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("echo.sock");
    serve_unix(UnixListener::bind(&path).unwrap());
    let path = path.to_str().unwrap();
    for arguments in [
        "connect -c 20 --threads 2 --hold 0",
        "echo -c 10 --duration 200ms --size 20",
        "echo -c 2 --duration 200ms --size 1MiB",
    ] {
        let run = run(arguments, "ws://localhost/echo", &["--unix", path]);
        assert_eq!(run.code, Some(0), "{}", run.text);
        assert_eq!(run.json["url"], format!("ws://localhost/echo by unix:{path}"));
    }
    let run = run("connect -c 2 --hold 0", "ws://localhost/", &["--unix", "/no/such.sock"]);
    assert_eq!(run.json["connect"]["refused"]["no such socket (--unix)"], 2, "{}", run.text);
}

fn serve_unix(listener: UnixListener) {
    thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            thread::spawn(move || {
                if let Ok(socket) = tungstenite::accept(stream) {
                    // What a client does to its stream at the end is not this server's matter.
                    let _ = echo(socket);
                }
            });
        }
    });
}

fn echo(mut socket: WebSocket<UnixStream>) -> tungstenite::Result<()> {
    loop {
        let message = socket.read()?;
        if message.is_text() || message.is_binary() {
            socket.send(message)?;
        }
    }
}

#[test]
fn what_cannot_be_is_named() {
    let nobody: SocketAddr = ([127, 0, 0, 1], 1).into();
    for (arguments, named) in [
        ("--tls-ca ca.pem", "nothing goes over TLS"),
        ("--tls --tls-ca /no/such/ca.pem", "--tls-ca /no/such/ca.pem"),
        ("--tls --tls-ca Cargo.toml", "there is no certificate in it"),
        ("--tls --tls-insecure --tls-name a..b", "--tls-name"),
        ("--tls --tls-insecure --tls-ca x", "cannot be used with"),
        ("--tls --tls-cert x", "--tls-key"),
        ("--unix /x --source-ips off", "cannot be used with"),
        ("--tcp", "only kim"),
        ("--tcp --deflate", "cannot be used with"),
        ("--deflate-takeover", "--deflate"),
    ] {
        let text = refused(&format!("connect --url ws://{nobody}/ {arguments}"));
        assert!(text.contains(named), "{arguments}: {text}");
    }
}

#[test]
fn messages_are_compressed_both_ways() {
    for mode in [DeflateMode::Shared, DeflateMode::Dedicated] {
        let served = Served::with(|config| config.deflate.mode = mode);
        for flags in ["", "--deflate-takeover", "--text --pipeline 16", "--tls-version 1.3"] {
            let arguments = format!("echo -c 5 --size 2000 --duration 200ms --deflate {flags}");
            let run = match flags.starts_with("--tls") {
                true => served.run(&arguments, "/echo"),
                false => loadtest(&arguments, served.running.addresses()[0]),
            };
            assert_eq!(run.code, Some(0), "{}", run.text);
            assert!(run.count("/echo/right") > 0, "{}", run.text);
        }
        let run = served.run("broadcast -c 20 --rooms 2 --rate 50 --duration 300ms --size 500 --dialect json,hub --deflate", "/ws");
        assert_eq!(run.code, Some(0), "{}", run.text);
        let totals = &served.running.stats()["totals"];
        assert_eq!(totals["deflate_agreed"], 40);
        assert!(totals["messages_inflated"].as_u64() > Some(100), "{totals}");
        assert!(totals["messages_deflated"].as_u64() > Some(100), "{totals}");
    }
}

#[test]
fn a_server_that_compresses_nothing_is_named() {
    let served = Served::with(|config| config.deflate.mode = DeflateMode::Off);
    let run = loadtest("connect -c 2 --hold 0 --deflate", served.running.addresses()[0]);
    assert_eq!(run.code, Some(1), "{}", run.text);
    let refused = &run.json["connect"]["refused"];
    assert_eq!(refused["bad handshake: permessage-deflate was declined"], 2, "{}", run.text);
}

#[test]
fn frames_by_lengths_alone_are_spoken() {
    for (dialect, endpoint) in [("json", "/ws"), ("hub", "/hub")] {
        let listen =
            || TcpListen { address: LOCALHOST.into(), endpoint: endpoint.into(), framing: None };
        let served = Served::with(|config| {
            (config.tcp_listen, config.tls_tcp_listen) = (vec![listen()], vec![listen()]);
        });
        let plain = format!("tcp://{}", served.running.tcp_addresses()[0]);
        let tls = format!("tls://localhost:{}", served.running.tls_tcp_addresses()[0].port());
        for (url, more) in [(&plain, vec![]), (&tls, vec!["--tls-insecure"])] {
            for command in [
                "echo -c 10 --duration 200ms --pipeline 4",
                "broadcast -c 10 --rate 50 --duration 200ms",
            ] {
                let run = run(&format!("{command} --dialect {dialect}"), url, &more);
                assert_eq!(run.code, Some(0), "{}", run.text);
                assert_eq!(run.count("/close/clean"), 10);
            }
        }
        let text = refused(&format!("connect --url {plain} --dialect {dialect}"));
        assert!(text.contains("has no pings"), "{text}");
    }
}
