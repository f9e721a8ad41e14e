//! Who resumes what: a ticket is good where clients are checked as they were when it was given.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::{ClientConfig, HandshakeKind, SupportedProtocolVersion};

use crate::authority::Authority;
use crate::served::{dial, trusting};
use crate::{Served, all, read_to_end, stats_until, write};

const BOTH: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS12, &rustls::version::TLS13];
const REQUEST: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/// A client that resumes where it can, with a certificate if there is an authority for it.
fn client(
    served: &Served,
    version: &'static SupportedProtocolVersion,
    by: Option<&Authority>,
) -> Arc<ClientConfig> {
    let builder = trusting([served.authority()], &[version]);
    let mut config = match by.map(|authority| authority.issue("ann")) {
        None => builder.with_no_client_auth(),
        Some(issued) => {
            builder.with_client_auth_cert(vec![issued.der()], issued.key_der()).unwrap()
        }
    };
    config.resumption = Resumption::in_memory_sessions(16);
    Arc::new(config)
}

/// Asks for a page, which takes in tickets on the way; says how the handshake was, or that there was
/// no page.
fn visit(addr: SocketAddr, config: &Arc<ClientConfig>) -> Option<HandshakeKind> {
    let mut tls = dial(addr, config, "localhost");
    if tls.conn.complete_io(&mut tls.sock).is_ok() {
        write(&mut tls, REQUEST);
    }
    let answer = read_to_end(&mut tls);
    answer.starts_with(b"HTTP/1.1 200").then(|| tls.conn.handshake_kind().unwrap())
}

#[test]
fn clients_resume_on_every_listener_of_a_gateway_and_on_no_other_gateway() {
    all(|set| {
        let served = Served::start(|b| set(b).tls_listen(crate::LOCALHOST));
        let [here, there] = served.running.tls_addresses() else { panic!("two listeners") };
        let folder = tempfile::tempdir().unwrap();
        let other = {
            let copies = ["cert.pem", "key.pem"].map(|name| folder.path().join(name));
            fs::copy(&served.made.certificate, &copies[0]).unwrap();
            fs::copy(&served.made.key, &copies[1]).unwrap();
            let [certificate, key] = copies;
            let files = tidegate::transport::tls::CertificateFiles { certificate, key };
            Served::start(|b| set(b).configure(|config| config.tls.certificates = vec![files]))
        };
        for version in BOTH {
            let client = client(&served, version, None);
            assert_eq!(visit(*here, &client), Some(HandshakeKind::Full));
            assert_eq!(visit(*here, &client), Some(HandshakeKind::Resumed));
            assert_eq!(visit(*there, &client), Some(HandshakeKind::Resumed));
            // The same certificate and key, but tickets of its own.
            assert_eq!(visit(other.addr(), &client), Some(HandshakeKind::Full));
        }
        assert_eq!(served.running.stats()["totals"]["tls_resumed"], 4);
        assert_eq!(other.running.stats()["totals"]["tls_resumed"], 0);
    });
}

#[test]
fn tickets_outlive_a_reload_unless_clients_are_checked_otherwise() {
    let (ours, others) = (Authority::new("ours"), Authority::new("others"));
    all(|set| {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("clients.pem");
        let auth = ours.client_auth(&file, false);
        let served = Served::start(|b| set(b).configure(|c| c.tls.client_auth = Some(auth)));
        for version in BOTH {
            let client = client(&served, version, Some(&ours));
            let mut settings = served.running.config().tls.clone();
            assert_eq!(visit(served.addr(), &client), Some(HandshakeKind::Full));
            served.running.reload_tls(&settings).unwrap();
            assert_eq!(visit(served.addr(), &client), Some(HandshakeKind::Resumed));
            // A client that need not have one may have been let in without: what it got then is
            // worth nothing where one is required, nor the other way round.
            settings.client_auth.as_mut().unwrap().is_optional = true;
            served.running.reload_tls(&settings).unwrap();
            assert_eq!(visit(served.addr(), &client), Some(HandshakeKind::Full));
            // Its authority is gone: no ticket lets it in.
            others.client_auth(&file, false);
            served.running.reload_tls(&settings).unwrap();
            assert_eq!(visit(served.addr(), &client), None);
            stats_until(&served.running, "refused", |stats| {
                stats["tls_failures"]["unknown_authority"].as_u64() >= Some(1)
            });
            // It is back, but what was given before it went is not.
            ours.client_auth(&file, false);
            served.running.reload_tls(&served.running.config().tls).unwrap();
            assert_eq!(visit(served.addr(), &client), Some(HandshakeKind::Full));
        }
    });
}

/// OpenSSL's client, with a certificate, keeping its session or coming with one.
fn openssl(served: &Served, folder: &Path, name: &str, version: &str, session: &[&str]) -> String {
    let mut child = Command::new("openssl")
        .args(["s_client", "-connect", &served.addr().to_string(), version, "-servername", name])
        .arg("-CAfile")
        .arg(&served.made.authority)
        .arg("-cert")
        .arg(folder.join("ann.crt"))
        .arg("-key")
        .arg(folder.join("ann.key"))
        .args(session)
        .args(["-ign_eof"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("openssl is installed");
    // Who is refused at once does not read it.
    let _ = std::io::Write::write_all(&mut child.stdin.take().unwrap(), REQUEST);
    let out = child.wait_with_output().unwrap();
    String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr)
}

#[test]
fn openssl_resumes_by_a_file_until_its_authority_is_removed() {
    let (ours, others) = (Authority::new("ours"), Authority::new("others"));
    all(|set| {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("clients.pem");
        let auth = ours.client_auth(&file, false);
        ours.issue("ann").write(folder.path(), "ann");
        let served = Served::start(|b| set(b).configure(|c| c.tls.client_auth = Some(auth)));
        let session = folder.path().join("session.pem");
        let session = session.to_str().unwrap();
        for version in ["-tls1_2", "-tls1_3"] {
            ours.client_auth(&file, false);
            served.running.reload_tls(&served.running.config().tls).unwrap();
            let first =
                openssl(&served, folder.path(), "localhost", version, &["-sess_out", session]);
            assert!(first.contains("200 OK") && first.contains("New, "), "{first}");
            let again =
                openssl(&served, folder.path(), "localhost", version, &["-sess_in", session]);
            assert!(again.contains("200 OK") && again.contains("Reused, "), "{again}");
            // For another name it is not good, though the certificate is the same.
            let other =
                openssl(&served, folder.path(), "127.0.0.1.test", version, &["-sess_in", session]);
            assert!(!other.contains("Reused, "), "{other}");
            others.client_auth(&file, false);
            served.running.reload_tls(&served.running.config().tls).unwrap();
            let refused =
                openssl(&served, folder.path(), "localhost", version, &["-sess_in", session]);
            assert!(!refused.contains("200 OK") && refused.contains("alert"), "{refused}");
        }
    });
}
