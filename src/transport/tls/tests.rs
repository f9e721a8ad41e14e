//! Sessions against rustls' own clients, in memory.

use std::io::{Read, Write};
use std::sync::Arc;

use proptest::prelude::*;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::client::Resumption;
use rustls::crypto::ring;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion};
use tempfile::TempDir;

use super::{CertificateFiles, ClientAuth, TlsFailure, TlsHost, TlsSession, TlsSettings};

type Authority = CertifiedIssuer<'static, KeyPair>;

/// A folder with an authority's certificate and those by it.
struct Files {
    folder: TempDir,
    authority: Authority,
}

impl Files {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = authority(&folder.path().display().to_string());
        std::fs::write(folder.path().join("ca.pem"), authority.pem()).unwrap();
        Self { folder, authority }
    }

    fn add(&self, name: &str) -> CertificateFiles {
        let (certificate, key) = issued(&self.authority, name);
        let path = |what: &str| self.folder.path().join(format!("{name}.{what}"));
        std::fs::write(path("crt"), certificate.pem()).unwrap();
        std::fs::write(path("key"), key.serialize_pem()).unwrap();
        CertificateFiles { certificate: path("crt"), key: path("key") }
    }

    fn settings(&self, names: &[&str]) -> TlsSettings {
        let certificates = names.iter().map(|name| self.add(name)).collect();
        TlsSettings { certificates, client_auth: None }
    }

    fn client_auth(&self, is_optional: bool) -> Option<ClientAuth> {
        Some(ClientAuth { authorities: self.folder.path().join("ca.pem"), is_optional })
    }

    /// A client that trusts this authority.
    fn client(&self, version: &'static SupportedProtocolVersion) -> ClientConfig {
        self.client_with(version, None)
    }

    fn client_with(
        &self,
        version: &'static SupportedProtocolVersion,
        identity: Option<(rcgen::Certificate, KeyPair)>,
    ) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.der().clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots);
        match identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
                builder.with_client_auth_cert(vec![certificate.der().clone()], key).unwrap()
            }
        }
    }
}

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::new([]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn issued(authority: &Authority, name: &str) -> (rcgen::Certificate, KeyPair) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new([name.to_owned()]).unwrap();
    (params.signed_by(&key, authority).unwrap(), key)
}

/// A client and a session with all that is on the way between them.
struct Pair {
    client: ClientConnection,
    session: TlsSession,
    to_session: Vec<u8>,
    received: Vec<u8>,
    /// What the client has had.
    heard: Vec<u8>,
    /// How much the session gets at a time, and how much plaintext there is room for.
    chunk: usize,
    room: usize,
}

impl Pair {
    fn new(host: &TlsHost, client: &Arc<ClientConfig>, name: &str) -> Self {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        Self {
            client: ClientConnection::new(Arc::clone(client), name).unwrap(),
            session: TlsSession::new(host.config()),
            to_session: Vec::new(),
            received: Vec::new(),
            heard: Vec::new(),
            chunk: usize::MAX,
            room: 32 * 1024,
        }
    }

    /// Exchanges what there is until nobody has anything to say.
    fn run(&mut self) -> Result<(), TlsFailure> {
        loop {
            while self.client.wants_write() {
                self.client.write_tls(&mut self.to_session).unwrap();
            }
            if self.to_session.is_empty() && !self.session.has_left_over() {
                return Ok(());
            }
            let n = self.to_session.len().min(self.chunk);
            let next: Vec<u8> = self.to_session.drain(..n).collect();
            self.give(&next)?;
        }
    }

    fn give(&mut self, bytes: &[u8]) -> Result<(), TlsFailure> {
        let mut cipher = vec![0; 32 * 1024 + bytes.len()];
        let at = self.session.begin(&mut cipher);
        cipher[at..at + bytes.len()].copy_from_slice(bytes);
        let (mut plain, mut out) = (vec![0; self.room], Vec::new());
        let got = self.session.receive(&mut cipher[..at + bytes.len()], &mut plain, &mut out);
        self.client_reads(&out);
        self.received.extend_from_slice(&plain[..got?.plain_bytes]);
        Ok(())
    }

    fn client_reads(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            self.client.read_tls(&mut bytes).unwrap();
            // What the client finds wrong, its alert says.
            let _ = self.client.process_new_packets();
            let _ = self.client.reader().read_to_end(&mut self.heard);
        }
    }

    fn answer(&mut self, plain: &[u8]) {
        let mut out = Vec::new();
        self.session.send(plain, &mut out).unwrap();
        self.client_reads(&out);
    }

    fn heard(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.heard)
    }
}

const BOTH: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

#[test]
fn what_goes_in_comes_out_and_an_idle_session_holds_nothing() {
    let files = Files::new();
    let host = TlsHost::load(&files.settings(&["localhost"])).unwrap();
    for version in BOTH {
        let mut pair = Pair::new(&host, &Arc::new(files.client(version)), "localhost");
        pair.run().unwrap();
        assert!(pair.session.is_established() && pair.client.alpn_protocol().is_none());
        pair.client.writer().write_all(b"hello").unwrap();
        pair.run().unwrap();
        assert_eq!(pair.received, b"hello");
        pair.answer(b"hello yourself");
        assert_eq!(pair.heard(), b"hello yourself");
        assert_eq!(pair.session.heap_bytes(), 0);
    }
}

#[test]
fn both_ends_can_end() {
    let files = Files::new();
    let host = TlsHost::load(&files.settings(&["localhost"])).unwrap();
    let mut pair = Pair::new(&host, &Arc::new(files.client(&TLS13)), "localhost");
    pair.run().unwrap();
    let mut out = Vec::new();
    pair.session.close(&mut out);
    pair.client_reads(&out);
    assert_eq!(pair.client.reader().read(&mut [0]).unwrap(), 0, "close_notify");
    pair.client.send_close_notify();
    let mut bytes = Vec::new();
    pair.client.write_tls(&mut bytes).unwrap();
    let mut plain = vec![0; 64];
    let progress = pair.session.receive(&mut bytes, &mut plain, &mut out).unwrap();
    assert!(progress.ended && progress.plain_bytes == 0);
}

#[test]
fn a_client_gets_the_certificate_for_the_name_it_asks_for() {
    let files = Files::new();
    let host = TlsHost::load(&files.settings(&["a.test", "b.test"])).unwrap();
    for version in BOTH {
        for (name, works) in [("a.test", true), ("b.test", true), ("c.test", false)] {
            let mut pair = Pair::new(&host, &Arc::new(files.client(version)), name);
            let refused = pair.run().err();
            assert_eq!(refused, (!works).then_some(TlsFailure::Alert), "{name}");
        }
    }
}

#[test]
fn clients_without_a_good_certificate_are_refused() {
    let (files, others) = (Files::new(), Files::new());
    let mut settings = files.settings(&["localhost"]);
    for is_optional in [false, true] {
        settings.client_auth = files.client_auth(is_optional);
        let host = TlsHost::load(&settings).unwrap();
        for version in BOTH {
            let run = |config: ClientConfig| {
                let mut pair = Pair::new(&host, &Arc::new(config), "localhost");
                pair.run().map(|()| assert!(pair.session.is_established()))
            };
            let good = issued(&files.authority, "ann");
            assert_eq!(run(files.client_with(version, Some(good))), Ok(()));
            let bad = issued(&others.authority, "ann");
            let refused = Err(TlsFailure::UnknownAuthority);
            assert_eq!(run(files.client_with(version, Some(bad))), refused);
            let none = if is_optional { Ok(()) } else { Err(TlsFailure::NoCertificate) };
            assert_eq!(run(files.client(version)), none);
        }
    }
}

#[test]
fn sessions_are_resumed_unless_clients_are_checked_otherwise_now() {
    let (files, others) = (Files::new(), Files::new());
    let mut settings = files.settings(&["localhost"]);
    settings.client_auth = files.client_auth(false);
    let host = TlsHost::load(&settings).unwrap();
    for version in BOTH {
        let identity = issued(&files.authority, "ann");
        let mut client = files.client_with(version, Some(identity));
        client.resumption = Resumption::in_memory_sessions(8);
        let client = Arc::new(client);
        let connect = |host: &TlsHost| {
            let mut pair = Pair::new(host, &client, "localhost");
            pair.run().map(|()| pair.client.handshake_kind().unwrap())
        };
        assert_eq!(connect(&host), Ok(rustls::HandshakeKind::Full));
        assert_eq!(connect(&host), Ok(rustls::HandshakeKind::Resumed));
        // The same authorities, read again.
        let again = host.reload(&settings).unwrap();
        assert_eq!(connect(&again), Ok(rustls::HandshakeKind::Resumed));
        // The authority that the client's certificate is by is gone.
        let changed = TlsSettings { client_auth: others.client_auth(false), ..settings.clone() };
        let changed = again.reload(&changed).unwrap();
        assert_eq!(connect(&changed), Err(TlsFailure::UnknownAuthority));
    }
}

#[test]
fn what_is_no_tls_is_refused_with_an_alert_and_holds_little() {
    let files = Files::new();
    let host = TlsHost::load(&files.settings(&["localhost"])).unwrap();
    let mut session = TlsSession::new(host.config());
    let (mut plain, mut out) = (vec![0; 64], Vec::new());
    let mut http = *b"GET / HTTP/1.1\r\n\r\n";
    let refused = session.receive(&mut http, &mut plain, &mut out);
    assert_eq!(refused, Err(TlsFailure::Malformed));
    assert_eq!(out.first(), Some(&21), "an alert");

    // A ClientHello that says it is long, and goes on and on.
    let mut session = TlsSession::new(host.config());
    let mut held = 0;
    let failure = (0..100).find_map(|n| {
        let mut cipher = vec![0; 64 * 1024];
        let at = session.begin(&mut cipher);
        let mut record = vec![22, 3, 1, 0x40, 0];
        if n == 0 {
            record.extend([1, 0xff, 0xff, 0xff]);
        }
        record.resize(5 + 0x4000, 0);
        cipher[at..at + record.len()].copy_from_slice(&record);
        let end = at + record.len();
        let got = session.receive(&mut cipher[..end], &mut plain, &mut Vec::new());
        held = held.max(session.heap_bytes());
        got.err()
    });
    assert!(failure.is_some() && held <= 20 * 1024, "{failure:?}, {held} held");
}

/// However a ClientHello is cut into records, rustls gets to see it when it is whole.
#[test]
fn nothing_is_begun_before_a_hello_is_whole() {
    let files = Files::new();
    let host = TlsHost::load(&files.settings(&["localhost"])).unwrap();
    for (version, fragment) in
        [(&TLS12, None), (&TLS13, None), (&TLS13, Some(32)), (&TLS12, Some(33))]
    {
        let mut client = files.client(version);
        client.max_fragment_size = fragment;
        let mut pair = Pair::new(&host, &Arc::new(client), "localhost");
        let mut hello = Vec::new();
        pair.client.write_tls(&mut hello).unwrap();
        for (n, byte) in hello.iter().enumerate() {
            assert!(!pair.session.has_begun(), "{n} of {}", hello.len());
            pair.give(&[*byte]).unwrap();
        }
        assert!(pair.session.has_begun());
        pair.run().unwrap();
        assert!(pair.session.is_established());
    }
    // What is no ClientHello is not waited for.
    for odd in [&b"G"[..], &[22, 3, 1, 0, 0], &[22, 3, 1, 0, 9, 2], &[22, 3, 1, 0, 9, 1, 1]] {
        let mut session = TlsSession::new(host.config());
        let _ = session.receive(&mut odd.to_vec(), &mut [0; 64], &mut Vec::new());
        assert!(session.has_begun(), "{odd:?}");
    }
}

/// The client's key update, split over two records: between the two the session has to send.
#[test]
fn what_is_said_amid_the_peers_handshake_message_goes_out() {
    let files = Files::new();
    let host = TlsHost::load(&files.settings(&["localhost"])).unwrap();
    let mut pair = Pair::new(&host, &Arc::new(files.client(&TLS13)), "localhost");
    pair.run().unwrap();
    pair.client.refresh_traffic_keys().unwrap();
    let mut bytes = Vec::new();
    pair.client.write_tls(&mut bytes).unwrap();
    for (n, byte) in bytes.iter().enumerate() {
        pair.give(&[*byte]).unwrap();
        pair.answer(&[n as u8]);
        assert_eq!(pair.heard(), [n as u8]);
    }
    pair.client.writer().write_all(b"under new keys").unwrap();
    pair.run().unwrap();
    assert_eq!(pair.received, b"under new keys");
}

#[test]
fn files_that_do_not_serve_are_named() {
    let files = Files::new();
    let mut settings = files.settings(&["a.test", "b.test"]);
    let problem = |settings: &TlsSettings| TlsHost::load(settings).unwrap_err().to_string();
    let key = std::mem::take(&mut settings.certificates[0].key);
    assert!(problem(&settings).contains("no private key"));
    settings.certificates[0].key = settings.certificates[1].key.clone();
    assert!(problem(&settings).contains("not the key of the certificate"));
    settings.certificates[0].key = key.clone();
    settings.certificates[0].certificate = key;
    assert!(problem(&settings).contains("no certificate"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn however_it_is_cut_it_comes_through(
        sizes in prop::collection::vec(0..40_000_usize, 1..5),
        chunk in 1..20_000_usize,
        room in 1..20_000_usize,
        is_new in any::<bool>(),
    ) {
        let files = Files::new();
        let host = TlsHost::load(&files.settings(&["localhost"])).unwrap();
        let version = if is_new { &TLS13 } else { &TLS12 };
        let mut pair = Pair::new(&host, &Arc::new(files.client(version)), "localhost");
        (pair.chunk, pair.room) = (chunk, room);
        let mut sent = Vec::<u8>::new();
        for (n, size) in sizes.into_iter().enumerate() {
            let plain = vec![n as u8; size];
            pair.client.writer().write_all(&plain).unwrap();
            sent.extend(&plain);
            pair.run().unwrap();
            if pair.session.is_established() {
                pair.answer(&plain);
                prop_assert_eq!(pair.heard(), plain);
            }
        }
        prop_assert_eq!(pair.received, sent);
        prop_assert_eq!(pair.session.heap_bytes(), 0);
    }

    #[test]
    fn no_bytes_are_too_odd(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..6)) {
        let files = Files::new();
        let host = TlsHost::load(&files.settings(&["localhost"])).unwrap();
        let mut pair = Pair::new(&host, &Arc::new(files.client(&TLS13)), "localhost");
        for piece in pieces {
            if pair.give(&piece).is_err() {
                break;
            }
        }
    }
}
