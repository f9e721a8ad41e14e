//! A gateway with a certificate of its own, and clients that trust it.

// Each test binary compiles this module for itself and uses its own part of it.
#![allow(dead_code)]

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, ConfigBuilder, RootCertStore, StreamOwned,
    SupportedProtocolVersion, client::WantsClientCert,
};
use tempfile::TempDir;
use tidegate::app::{DevCert, make_dev_cert};
use tidegate::transport::tls::CertificateFiles;
use tidegate::{Gateway, GatewayBuilder, Running};
use tungstenite::protocol::WebSocketConfig;

/// Longer than anything here takes on a machine under load: past it the gateway hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
pub(crate) const LOCALHOST: ([u8; 4], u16) = ([127, 0, 0, 1], 0);

pub(crate) type Tls = StreamOwned<ClientConnection, TcpStream>;
pub(crate) type WebSocket = tungstenite::WebSocket<Tls>;

/// A gateway with a certificate of its own, and who trusts it.
pub(crate) struct Served {
    pub(crate) running: Running,
    pub(crate) made: DevCert,
    pub(crate) folder: TempDir,
}

impl Served {
    pub(crate) fn start(change: impl FnOnce(GatewayBuilder) -> GatewayBuilder) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let made = make_dev_cert(folder.path(), &names).unwrap();
        let files =
            CertificateFiles { certificate: made.certificate.clone(), key: made.key.clone() };
        let builder = Gateway::builder().listen(LOCALHOST).tls_listen(LOCALHOST);
        let builder = builder.configure(|config| config.tls.certificates = vec![files]);
        let running = change(builder).start().unwrap();
        Self { running, made, folder }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.running.tls_addresses()[0]
    }

    pub(crate) fn authority(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_file(&self.made.authority).unwrap()
    }

    pub(crate) fn trust(&self) -> Arc<ClientConfig> {
        Arc::new(trusting([self.authority()], rustls::ALL_VERSIONS).with_no_client_auth())
    }

    pub(crate) fn dial(&self, addr: SocketAddr) -> Tls {
        dial(addr, &self.trust(), "localhost")
    }

    pub(crate) fn open(&self, path: &str) -> WebSocket {
        open(self.dial(self.addr()), path)
    }
}

/// Clients that trust these authorities.
pub(crate) fn trusting(
    authorities: impl IntoIterator<Item = CertificateDer<'static>>,
    versions: &[&'static SupportedProtocolVersion],
) -> ConfigBuilder<ClientConfig, WantsClientCert> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(authority).unwrap();
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    builder.with_protocol_versions(versions).unwrap().with_root_certificates(roots)
}

/// A connection on which nothing was said yet.
pub(crate) fn dial(addr: SocketAddr, config: &Arc<ClientConfig>, name: &str) -> Tls {
    let stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    StreamOwned::new(ClientConnection::new(Arc::clone(config), name).unwrap(), stream)
}

/// A WebSocket over a connection.
pub(crate) fn open(stream: Tls, path: &str) -> WebSocket {
    let url = format!("wss://localhost{path}");
    let config = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
    tungstenite::client::client_with_config(url, stream, Some(config)).unwrap().0
}

/// Waits until the statistics are as they are to be.
pub(crate) fn stats_until(
    running: &Running,
    what: &str,
    is_so: impl Fn(&serde_json::Value) -> bool,
) {
    let began = std::time::Instant::now();
    loop {
        let stats = running.stats();
        if is_so(&stats) {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "never {what}: {stats:#}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
