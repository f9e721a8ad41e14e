//! SIGHUP: the file of `--config` is read again, and certificates with it.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use nix::sys::signal::Signal;
use rustls::pki_types::CertificateDer;
use tungstenite::Message;

use crate::authority::Authority;
use crate::served::{dial, open, trusting};
use crate::support::Gateway;

/// A file with these certificates of `folder` in it.
fn configure(folder: &Path, names: &[&str], more: &str) {
    let list = |end: &str| {
        let files = names.iter().map(|name| format!("{:?}", folder.join(format!("{name}.{end}"))));
        files.collect::<Vec<_>>().join(", ")
    };
    let listener =
        "[[listener]]\naddress = \"127.0.0.1:0\"\ntransport = \"websocket\"\ntls = true\n";
    let tls = format!("[tls]\ntls_cert = [{}]\ntls_key = [{}]\n", list("crt"), list("key"));
    fs::write(folder.join("gateway.toml"), format!("{tls}{more}\n{listener}")).unwrap();
}

fn tls_addr(gateway: &mut Gateway) -> SocketAddr {
    gateway.stats()["config"]["tls_listen"][0].as_str().unwrap().parse().unwrap()
}

#[test]
fn what_the_file_says_of_certificates_is_taken_up() {
    let (folder, authority) = (tempfile::tempdir().unwrap(), Authority::new("one"));
    let [a, b] = ["a", "b"].map(|name| {
        let issued = authority.issue(&format!("{name}.test"));
        issued.write(folder.path(), name);
        issued
    });
    configure(folder.path(), &["a"], "");
    let file = folder.path().join("gateway.toml");
    let mut gateway = Gateway::start(&["--config", file.to_str().unwrap()]);
    let addr = tls_addr(&mut gateway);
    let config = trusting([authority.der()], rustls::ALL_VERSIONS).with_no_client_auth().into();
    let shown = |name: &str| -> Option<CertificateDer<'static>> {
        let mut tls = dial(addr, &config, name);
        tls.conn.complete_io(&mut tls.sock).ok()?;
        Some(tls.conn.peer_certificates().unwrap()[0].clone().into_owned())
    };
    let mut live = open(dial(addr, &config, "a.test"), "/echo");
    assert_eq!((shown("a.test"), shown("b.test")), (Some(a.der()), None));

    configure(
        folder.path(),
        &["a", "b"],
        "[capacity]\nbacklog = 77\n[limits]\nmax_frame = \"9KiB\"",
    );
    gateway.signal(Signal::SIGHUP);
    gateway.stderr_until("SIGHUP: certificates are taken up");
    assert_eq!((shown("a.test"), shown("b.test")), (Some(a.der()), Some(b.der())));
    for name in ["--backlog", "--max-frame"] {
        assert!(
            gateway.stderr().contains(&format!("{name} is not as it was: that takes a restart"))
        );
    }
    assert_eq!(gateway.stderr().matches("a restart").count(), 2, "{}", gateway.stderr());

    // A certificate that is not there, and then no TOML.
    configure(folder.path(), &["c"], "");
    gateway.signal(Signal::SIGHUP);
    gateway.stderr_until("c.crt: no certificates in PEM");
    fs::write(&file, "[tls").unwrap();
    gateway.signal(Signal::SIGHUP);
    gateway.stderr_until("SIGHUP: nothing is taken up");
    assert_eq!((shown("a.test"), shown("b.test")), (Some(a.der()), Some(b.der())));
    let stats = gateway.stats();
    assert_eq!((&stats["reloads"], &stats["reload_failures"]), (&1.into(), &2.into()));

    live.send(Message::text("still here")).unwrap();
    assert_eq!(live.read().unwrap(), Message::text("still here"));
    drop(live);
    assert!(gateway.stop().success());
}

#[test]
fn without_tls_there_is_nothing_to_take_up() {
    let mut gateway = Gateway::start(&[]);
    gateway.signal(Signal::SIGHUP);
    gateway.stderr_until("SIGHUP: no listener has TLS");
    assert!(gateway.is_running());
    assert!(gateway.stop().success());
}
