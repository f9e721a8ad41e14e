//! Certificates that change while connections live.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use tidegate::transport::tls::{CertificateFiles, TlsSettings};
use tidegate::{Gateway, GatewayBuilder, Running};
use tungstenite::Message;

use crate::authority::{Authority, Issued, replace};
use crate::served::{Tls, WebSocket, dial, open, trusting};
use crate::{LOCALHOST, all, stats_until};

/// A gateway that looks at its files all the time.
struct Reloaded {
    running: Running,
    authority: Authority,
}

impl Reloaded {
    fn start(
        set: &dyn Fn(GatewayBuilder) -> GatewayBuilder,
        authority: Authority,
        files: CertificateFiles,
    ) -> Self {
        let builder = set(Gateway::builder().listen(LOCALHOST).tls_listen(LOCALHOST));
        let builder = builder.configure(|config| {
            config.tls.certificates = vec![files];
            config.tuning.file_look_interval = Duration::from_millis(5);
        });
        Self { running: builder.start().unwrap(), authority }
    }

    fn dial(&self, name: &str) -> Tls {
        let config = trusting([self.authority.der()], rustls::ALL_VERSIONS).with_no_client_auth();
        dial(self.running.tls_addresses()[0], &config.into(), name)
    }

    fn open(&self, name: &str) -> WebSocket {
        open(self.dial(name), "/echo")
    }

    /// The certificate that a new connection is shown.
    fn shown(&self, name: &str) -> CertificateDer<'static> {
        let mut tls = self.dial(name);
        tls.conn.complete_io(&mut tls.sock).unwrap();
        tls.conn.peer_certificates().unwrap()[0].clone().into_owned()
    }

    fn reloads_until(&self, reloads: u64, failures: u64) {
        stats_until(&self.running, "reloaded", |stats| {
            stats["reloads"] == reloads && stats["reload_failures"] == failures
        });
    }
}

fn echoes(client: &mut WebSocket) {
    client.send(Message::text("still here")).unwrap();
    assert_eq!(client.read().unwrap(), Message::text("still here"));
}

/// A folder as Kubernetes mounts secrets: files are links into `..data`, which is a link itself.
fn publish(folder: &Path, generation: &str, issued: &Issued) -> CertificateFiles {
    let inside = folder.join(generation);
    fs::create_dir(&inside).unwrap();
    issued.write(&inside, "tls");
    let link = folder.join("..data.new");
    std::os::unix::fs::symlink(generation, &link).unwrap();
    fs::rename(&link, folder.join("..data")).unwrap();
    let file = |name: &str| {
        let path = folder.join(name);
        let _ = std::os::unix::fs::symlink(Path::new("..data").join(name), &path);
        path
    };
    CertificateFiles { certificate: file("tls.crt"), key: file("tls.key") }
}

#[test]
fn files_that_change_are_for_new_connections() {
    all(|set| {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new("one");
        let [first, second, third] = [(); 3].map(|()| authority.issue("localhost"));
        let files = first.write(folder.path(), "tls");
        let served = Reloaded::start(set, authority, files.clone());
        let mut live = served.open("localhost");
        assert_eq!(served.shown("localhost"), first.der());
        // Others in their place.
        second.write(folder.path(), "tls");
        served.reloads_until(1, 0);
        assert_eq!(served.shown("localhost"), second.der());
        // Others in the same files. The gateway may look between the two.
        fs::write(&files.certificate, third.certificate.pem()).unwrap();
        fs::write(&files.key, third.key.serialize_pem()).unwrap();
        stats_until(&served.running, "reloaded", |stats| stats["reloads"] == 2);
        assert_eq!(served.shown("localhost"), third.der());
        echoes(&mut live);
        assert_eq!(served.running.stats()["closes"]["socket_error"], 0);
    });
}

#[test]
fn links_that_lead_elsewhere_are_followed() {
    all(|set| {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new("one");
        let [first, second] = [(); 2].map(|()| authority.issue("localhost"));
        let files = publish(folder.path(), "..1", &first);
        let served = Reloaded::start(set, authority, files);
        assert_eq!(served.shown("localhost"), first.der());
        publish(folder.path(), "..2", &second);
        served.reloads_until(1, 0);
        assert_eq!(served.shown("localhost"), second.der());
    });
}

#[test]
fn bad_files_are_counted_once_and_change_nothing() {
    all(|set| {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new("one");
        let [first, second] = [(); 2].map(|()| authority.issue("localhost"));
        let files = first.write(folder.path(), "tls");
        let served = Reloaded::start(set, authority, files.clone());
        let mut live = served.open("localhost");
        let key = second.key.serialize_pem();
        let bad = [(&files.key, ""), (&files.key, &key), (&files.certificate, "no PEM")];
        for (n, (file, text)) in (1..).zip(bad) {
            replace(file, text);
            served.reloads_until(0, n);
            assert_eq!(served.shown("localhost"), first.der());
        }
        fs::remove_file(&files.certificate).unwrap();
        served.reloads_until(0, 4);
        assert_eq!(served.shown("localhost"), first.der());
        echoes(&mut live);
        // Bad ones were complained of at the change only, though they were looked at since.
        second.write(folder.path(), "tls");
        stats_until(&served.running, "reloaded", |stats| stats["reloads"] == 1);
        let failures = served.running.stats()["reload_failures"].as_u64().unwrap();
        assert!((4..=5).contains(&failures), "{failures}");
        assert_eq!(served.shown("localhost"), second.der());
    });
}

#[test]
fn new_settings_are_taken_up() {
    all(|set| {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new("one");
        let [a, b] = ["a.test", "b.test"].map(|name| authority.issue(name));
        let [first, second] = [a.write(folder.path(), "a"), b.write(folder.path(), "b")];
        let served = Reloaded::start(set, authority, first.clone());
        let mut live = served.open("a.test");
        let mut refused = served.dial("b.test");
        assert!(refused.conn.complete_io(&mut refused.sock).is_err(), "no certificate for it");
        let settings = TlsSettings { certificates: vec![first, second.clone()], client_auth: None };
        served.running.reload_tls(&settings).unwrap();
        assert_eq!(served.shown("a.test"), a.der());
        assert_eq!(served.shown("b.test"), b.der());
        // The new ones are looked at from here on.
        let again = served.authority.issue("b.test");
        again.write(folder.path(), "b");
        served.reloads_until(2, 0);
        assert_eq!(served.shown("b.test"), again.der());
        // Bad ones are named, and nothing of them holds.
        let bad = CertificateFiles { key: folder.path().join("none"), ..second };
        let bad = TlsSettings { certificates: vec![bad], client_auth: None };
        let problem = served.running.reload_tls(&bad).unwrap_err();
        assert!(problem.to_string().contains("none: no private key"), "{problem}");
        assert_eq!(served.shown("a.test"), a.der());
        served.reloads_until(2, 1);
        echoes(&mut live);
    });
}
