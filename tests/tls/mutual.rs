//! Clients with certificates, without, and with those of somebody else.

use std::sync::Arc;

use rustls::{ClientConfig, SupportedProtocolVersion};
use tungstenite::Message;

use crate::authority::Authority;
use crate::served::{dial, open, trusting};
use crate::{Served, all, read_to_end, stats_until};

const BOTH: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS12, &rustls::version::TLS13];

/// A client of that version, with a certificate by that authority.
fn client(
    served: &Served,
    version: &'static SupportedProtocolVersion,
    by: Option<&Authority>,
) -> Arc<ClientConfig> {
    let builder = trusting([served.authority()], &[version]);
    Arc::new(match by.map(|authority| authority.issue("ann")) {
        None => builder.with_no_client_auth(),
        Some(issued) => {
            builder.with_client_auth_cert(vec![issued.der()], issued.key_der()).unwrap()
        }
    })
}

fn gets_in(served: &Served, config: &Arc<ClientConfig>) {
    let mut socket = open(dial(served.addr(), config, "localhost"), "/echo");
    socket.send(Message::text("hello")).unwrap();
    assert_eq!(socket.read().unwrap(), Message::text("hello"));
}

fn is_refused(served: &Served, config: &Arc<ClientConfig>, failure: &str) {
    let before = served.running.stats()["tls_failures"][failure].as_u64().unwrap();
    let mut tls = dial(served.addr(), config, "localhost");
    // By TLS 1.3 a client is done before it is refused: the alert comes behind that.
    let _ = tls.conn.complete_io(&mut tls.sock);
    assert!(read_to_end(&mut tls).is_empty());
    stats_until(&served.running, failure, |stats| {
        stats["tls_failures"][failure] == before + 1 && stats["totals"]["connections"] == 0
    });
}

#[test]
fn certificates_are_required_or_asked_for() {
    let (ours, others) = (Authority::new("ours"), Authority::new("others"));
    all(|set| {
        for is_optional in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let auth = ours.client_auth(&folder.path().join("clients.pem"), is_optional);
            let served = Served::start(|b| set(b).configure(|c| c.tls.client_auth = Some(auth)));
            for version in BOTH {
                gets_in(&served, &client(&served, version, Some(&ours)));
                stats_until(&served.running, "gone", |s| s["totals"]["connections"] == 0);
                let bad = client(&served, version, Some(&others));
                is_refused(&served, &bad, "unknown_authority");
                let without = client(&served, version, None);
                if is_optional {
                    gets_in(&served, &without);
                    stats_until(&served.running, "gone", |s| s["totals"]["connections"] == 0);
                } else {
                    is_refused(&served, &without, "no_certificate");
                }
            }
        }
    });
}

#[test]
fn authorities_can_be_changed_and_live_connections_go_on() {
    let (ours, others) = (Authority::new("ours"), Authority::new("others"));
    all(|set| {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("clients.pem");
        let auth = ours.client_auth(&file, false);
        let served = Served::start(|b| {
            set(b).configure(|c| {
                c.tls.client_auth = Some(auth);
                c.tuning.file_look_interval = std::time::Duration::from_millis(5);
            })
        });
        let [mine, theirs] =
            [&ours, &others].map(|a| client(&served, &rustls::version::TLS13, Some(a)));
        let mut live = open(dial(served.addr(), &mine, "localhost"), "/echo");
        others.client_auth(&file, false);
        stats_until(&served.running, "reloaded", |stats| stats["reloads"] == 1);
        gets_in(&served, &theirs);
        live.send(Message::text("still here")).unwrap();
        assert_eq!(live.read().unwrap(), Message::text("still here"));
        drop(live);
        stats_until(&served.running, "gone", |stats| stats["totals"]["connections"] == 0);
        is_refused(&served, &mine, "unknown_authority");
    });
}
