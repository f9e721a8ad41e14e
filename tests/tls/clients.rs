//! Other people's clients.

use std::process::{Command, Stdio};

use crate::{Served, all};

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
