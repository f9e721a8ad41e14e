//! Other people's clients.

use std::env;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::authority::Authority;
use crate::served::{dial, trusting};
use crate::{Served, all, stats_until};

/// OpenSSL's own client, which checks the certificate and says what was agreed.
#[test]
fn openssl_connects_by_both_versions() {
    all(|set| {
        let served = Served::start(set);
        for (version, name) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
            let out = Command::new("openssl")
                .args(["s_client", "-connect", &served.addr().to_string(), version])
                .args(["-servername", "localhost", "-verify_return_error", "-alpn", "http/1.1"])
                .arg("-CAfile")
                .arg(&served.made.authority)
                .stdin(Stdio::null())
                .output()
                .expect("openssl is installed");
            let text = String::from_utf8_lossy(&out.stdout);
            assert!(text.contains("Verify return code: 0 (ok)"), "{text}");
            assert!(text.contains(name) && text.contains("ALPN protocol: http/1.1"), "{text}");
        }
    });
}

fn s_client(served: &Served, args: &[&str]) -> (bool, String) {
    let out = Command::new("openssl")
        .args(["s_client", "-connect", &served.addr().to_string(), "-servername", "localhost"])
        .args(args)
        .stdin(Stdio::null())
        .output()
        .expect("openssl is installed");
    let text = [out.stdout, out.stderr].concat();
    (out.status.success(), String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn old_versions_and_other_protocols_are_refused_and_counted() {
    all(|set| {
        let served = Served::start(set);
        let refused = |args: &[&str], alert: &str, failure: &str| {
            let before = served.running.stats()["tls_failures"][failure].as_u64().unwrap();
            let (is_ok, text) = s_client(&served, args);
            assert!(!is_ok && text.contains(alert), "{args:?}: {text}");
            stats_until(&served.running, failure, |stats| {
                stats["tls_failures"][failure] == before + 1
            });
        };
        for version in ["-tls1", "-tls1_1"] {
            let args = [version, "-cipher", "ALL:@SECLEVEL=0"];
            refused(&args, "alert", "incompatible");
        }
        let cbc = ["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA256"];
        refused(&cbc, "alert handshake failure", "incompatible");
        // HTTP/2 is not spoken, and who speaks nothing else is told so (RFC 7301, 3.2).
        refused(&["-alpn", "h2"], "alert no application protocol", "incompatible");
        let (is_ok, text) = s_client(&served, &["-alpn", "h2,http/1.1"]);
        assert!(is_ok && text.contains("ALPN protocol: http/1.1"), "{text}");
        let (is_ok, text) = s_client(&served, &[]);
        assert!(is_ok && text.contains("No ALPN negotiated"), "{text}");
        // The client refuses: it trusts nobody.
        refused(&["-verify_return_error"], "unable to get", "alert");
    });
}

#[test]
fn the_name_that_is_asked_for_picks_the_certificate() {
    all(|set| {
        let (folder, authority) = (tempfile::tempdir().unwrap(), Authority::new("one"));
        let issued = ["a.test", "b.test", "*.c.test"].map(|name| (name, authority.issue(name)));
        let files = (0..).zip(&issued).map(|(n, (_, i))| i.write(folder.path(), &n.to_string()));
        let files: Vec<_> = files.collect();
        let served = Served::start(|b| set(b).configure(|c| c.tls.certificates = files));
        let shown = |name: &str| {
            let config = trusting([authority.der()], rustls::ALL_VERSIONS).with_no_client_auth();
            let mut tls = dial(served.addr(), &config.into(), name);
            tls.conn.complete_io(&mut tls.sock).map_err(|e| e.to_string())?;
            Ok::<_, String>(tls.conn.peer_certificates().unwrap()[0].clone().into_owned())
        };
        for (asked, n) in [("a.test", 0), ("b.test", 1), ("x.c.test", 2)] {
            assert_eq!(shown(asked), Ok(issued[n].1.der()), "{asked}");
        }
        // The first, which the client finds is not for it.
        assert!(shown("d.test").is_err());
    });
}

/// Versions, suites, renegotiation and the rest: what is asserted stands in the script.
#[test]
fn sslyze_finds_nothing_but_what_is_meant() {
    let served = Served::start(|builder| builder);
    let checkout = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let cache =
        env::var_os("TIDEGATE_CACHE").map_or_else(|| checkout.join(".cache"), PathBuf::from);
    let python = cache.join("python/bin/python");
    assert!(python.exists(), "no {}: run scripts/setup.sh", python.display());
    let out = Command::new(python)
        .arg(checkout.join("tests/clients/sslyze_scan.py"))
        .arg(served.addr().to_string())
        .output()
        .expect("the interpreter starts");
    let text = String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned();
    assert!(out.status.success(), "{text}");
}
