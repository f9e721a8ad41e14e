//! Over TLS, against the gateway.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use rcgen::{CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use tempfile::TempDir;
use tidegate::app::{DevCert, make_dev_cert};
use tidegate::client::{Cause, Client, DialError, Options, Tls, TlsError, TlsFault};
use tidegate::transport::tls::{CertificateFiles, ClientAuth};
use tidegate::{Body, Config, Dialect, Gateway, JsonDialect, Running, TcpListen};

use crate::{PATIENCE, Seen, next, next_but_dials, watched};

const LOCALHOST: ([u8; 4], u16) = ([127, 0, 0, 1], 0);

/// A certificate for `localhost` and `127.0.0.1`, by an authority of its own.
struct Made {
    files: DevCert,
    folder: TempDir,
}

impl Made {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        Self { files: make_dev_cert(folder.path(), &names).unwrap(), folder }
    }

    fn gateway(&self, at: SocketAddr, change: impl FnOnce(&mut Config)) -> Running {
        let DevCert { certificate, key, .. } = self.files.clone();
        let set = |config: &mut Config| {
            config.tls.certificates = vec![CertificateFiles { certificate, key }];
            change(config);
        };
        Gateway::builder().listen(LOCALHOST).tls_listen(at).configure(set).start().unwrap()
    }

    fn start(&self) -> Running {
        self.gateway(LOCALHOST.into(), |_| ())
    }

    fn trust(&self) -> Tls {
        Tls::default().roots_file(&self.files.authority).unwrap()
    }
}

fn wss(running: &Running, path: &str) -> String {
    format!("wss://localhost:{}{path}", running.tls_addresses()[0].port())
}

fn fault(url: &str, tls: Tls) -> TlsFault {
    match Client::connect(url, Options::default().tls(tls)) {
        Err(DialError::Tls(fault)) => fault,
        other => panic!("no fault of TLS: {other:?}"),
    }
}

fn stop(running: Running) {
    running.stop(|| false);
}

#[test]
fn messages_of_every_size_come_back_over_tls() {
    let made = Made::new();
    let running = made.start();
    let (options, seen) = watched(Options::default().tls(made.trust()));
    let client = Client::connect(&wss(&running, "/echo"), options).unwrap();
    assert_eq!(next(&seen), Seen::Established);
    // Many records one way, then the other, and both at once.
    for size in [0, 1, 125, 16_384, 65_536, 1_000_000] {
        let bytes: Vec<u8> = (0..size).map(|n| n as u8).collect();
        (0..3).for_each(|_| client.send_binary(&bytes).unwrap());
        (0..3).for_each(|_| assert_eq!(next(&seen), Seen::Message(bytes.clone())));
    }
    client.stop();
    assert_eq!(next(&seen), Seen::Closed(Cause::Stopped));
    let (_, stats) = running.stop(|| false);
    assert_eq!(stats["closes"]["peer_close"], 1);
}

#[test]
fn what_is_told_as_sent_is_sent() {
    let made = Made::new();
    let running = made.start();
    let (options, seen) = watched(Options::default().tls(made.trust()));
    let client = Client::connect(&wss(&running, "/echo"), options).unwrap();
    assert_eq!(next(&seen), Seen::Established);
    let (tell, told) = std::sync::mpsc::channel();
    for _ in 0..8 {
        let tell = tell.clone();
        client.send_binary_then(&[7; 500_000], move |_, sent| tell.send(sent).unwrap());
    }
    for _ in 0..8 {
        assert_eq!(told.recv_timeout(PATIENCE).unwrap(), Ok(()));
        assert_eq!(next(&seen), Seen::Message(vec![7; 500_000]));
    }
    client.stop();
    stop(running);
}

#[test]
fn dialects_go_over_tls_by_either_framing() {
    let made = Made::new();
    let listen =
        TcpListen { address: LOCALHOST.into(), endpoint: "/kim".to_owned(), framing: None };
    let running = made.gateway(LOCALHOST.into(), |config| config.tls_tcp_listen = vec![listen]);
    let kim = format!("tls://localhost:{}", running.tls_tcp_addresses()[0].port());
    for (url, dialect, body) in [
        (wss(&running, "/ws"), Dialect::Json(JsonDialect::default()), Body::Json("[1,2]")),
        (wss(&running, "/kim"), Dialect::Kim, Body::Binary(b"abc")),
        (kim, Dialect::Kim, Body::Binary(b"abc")),
    ] {
        let options = Options::new(dialect).tls(made.trust());
        let client = Client::connect(&url, options).unwrap();
        client.join("tea", PATIENCE).unwrap();
        let answer = client.request("echo", body, PATIENCE).unwrap();
        assert_eq!(answer.as_body(), body, "{url}");
        client.stop();
    }
    stop(running);
}

#[test]
fn a_server_that_is_not_trusted_is_left_alone() {
    let (made, other) = (Made::new(), Made::new());
    let running = made.start();
    let url = wss(&running, "/echo");
    assert_eq!(fault(&url, other.trust()), TlsFault::UnknownAuthority);
    let wrong = made.trust().server_name("other.example").unwrap();
    let TlsFault::WrongName(why) = fault(&url, wrong) else { panic!("another fault") };
    assert!(why.contains("other.example"), "{why}");
    // By its address it is known, too, and by a name that the URL has not.
    let address = url.replace("localhost", "127.0.0.1");
    let named = made.trust().server_name("localhost").unwrap();
    for tls in [made.trust(), named] {
        Client::connect(&address, Options::default().tls(tls)).unwrap().stop();
    }
    let refused = running.stats()["tls_failures"].to_string();
    assert!(running.stats()["totals"]["opened"] == 2, "{refused}");
    stop(running);
}

#[test]
fn what_speaks_no_tls_is_told_from_what_is_silent() {
    let made = Made::new();
    let running = made.start();
    let plain = format!("wss://{}/echo", running.addresses()[0]);
    assert_eq!(fault(&plain, made.trust()), TlsFault::NotTls);
    stop(running);
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("wss://{}", silent.local_addr().unwrap());
    let mut options = Options::default().tls(made.trust());
    options.connect_timeout = Duration::from_millis(50);
    let error = Client::connect(&url, options).unwrap_err();
    assert!(matches!(error, DialError::TimedOut), "{error:?}");
}

#[test]
fn a_name_that_no_certificate_has_is_refused_at_once() {
    let (options, seen) = watched(Options::default().tls(Made::new().trust()));
    let error = Client::start("wss://a..b/", options).unwrap_err();
    assert!(matches!(error, DialError::TlsSettings(TlsError::ServerName)), "{error:?}");
    // Nothing was tried.
    assert!(seen.try_recv().is_err());
}

/// An authority for clients, a client's certificate by it, and its key: files of PEM.
fn clients_certificate(folder: &TempDir) -> [PathBuf; 3] {
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let mut params = CertificateParams::new([]).unwrap();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &authority).unwrap();
    let files = [
        ("clients.pem", authority.pem()),
        ("client.pem", certificate.pem()),
        ("client.key", key.serialize_pem()),
    ];
    files.map(|(name, pem)| {
        let path = folder.path().join(name);
        std::fs::write(&path, pem).unwrap();
        path
    })
}

#[test]
fn a_client_shows_its_certificate() {
    let made = Made::new();
    let [authorities, certificate, key] = clients_certificate(&made.folder);
    let running = made.gateway(LOCALHOST.into(), |config| {
        config.tls.client_auth = Some(ClientAuth { authorities, is_optional: false });
    });
    let url = wss(&running, "/echo");
    let shown = made.trust().client_certificate_files(certificate, key).unwrap();
    Client::connect(&url, Options::default().tls(shown)).unwrap().stop();
    assert_eq!(fault(&url, made.trust()), TlsFault::Alert("CertificateRequired".to_owned()));
    let DevCert { certificate, key, .. } = &made.files;
    let anothers = made.trust().client_certificate_files(certificate, key).unwrap();
    assert!(matches!(fault(&url, anothers), TlsFault::Alert(_)));
    stop(running);
}

#[test]
fn a_client_comes_back_over_tls() {
    let made = Made::new();
    let running = made.start();
    let (url, at) = (wss(&running, "/echo"), running.tls_addresses()[0]);
    let (options, seen) = watched(Options::default().tls(made.trust()));
    let client = Client::connect(&url, options).unwrap();
    assert_eq!(next(&seen), Seen::Established);
    // What comes behind the handshake lets a session be resumed: it has come before an answer.
    client.send_text("x").unwrap();
    assert_eq!(next(&seen), Seen::Message(b"x".to_vec()));
    stop(running);
    assert!(matches!(next_but_dials(&seen), Seen::Closed(Cause::Closed { .. } | Cause::Lost)));
    let running = made.gateway(at, |_| ());
    assert_eq!(next_but_dials(&seen), Seen::Established);
    client.send_text("again").unwrap();
    assert_eq!(next(&seen), Seen::Message(b"again".to_vec()));
    client.stop();
    // Its tickets were of the gateway before.
    assert_eq!(running.stats()["totals"]["tls_resumed"], 0);
    stop(running);
}
