//! WebSockets and bare frames over TLS, with rustls' and other people's clients.

mod clients;
mod sockets;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tempfile::TempDir;
use tidegate::app::{DevCert, make_dev_cert};
use tidegate::transport::tls::CertificateFiles;
use tidegate::{Config, Gateway, GatewayBuilder, Running};
use tungstenite::protocol::WebSocketConfig;

/// Longer than anything here takes on a machine under load: past it the gateway hangs.
const PATIENCE: Duration = Duration::from_secs(60);
const LOCALHOST: ([u8; 4], u16) = ([127, 0, 0, 1], 0);

type Tls = StreamOwned<ClientConnection, TcpStream>;
type WebSocket = tungstenite::WebSocket<Tls>;

/// A gateway with a certificate of its own, and who trusts it.
struct Served {
    running: Running,
    made: DevCert,
    _folder: TempDir,
}

impl Served {
    fn start(change: impl FnOnce(GatewayBuilder) -> GatewayBuilder) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let made = make_dev_cert(folder.path(), &names).unwrap();
        let files =
            CertificateFiles { certificate: made.certificate.clone(), key: made.key.clone() };
        let builder = Gateway::builder().listen(LOCALHOST).tls_listen(LOCALHOST);
        let builder = builder.configure(|config| config.tls.certificates = vec![files]);
        let running = change(builder).start().unwrap();
        Self { running, made, _folder: folder }
    }

    fn addr(&self) -> SocketAddr {
        self.running.tls_addresses()[0]
    }

    fn trust(&self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&self.made.authority).unwrap()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
    }

    fn dial(&self, addr: SocketAddr) -> Tls {
        let stream = TcpStream::connect(addr).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        StreamOwned::new(ClientConnection::new(self.trust(), name).unwrap(), stream)
    }

    fn open(&self, path: &str) -> WebSocket {
        let url = format!("wss://localhost:{}{path}", self.addr().port());
        let config = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
        let stream = self.dial(self.addr());
        tungstenite::client::client_with_config(url, stream, Some(config)).unwrap().0
    }
}

/// Runs a test with messages routed on the loops and on workers, and with each loop's own table.
fn all(test: impl Fn(&dyn Fn(GatewayBuilder) -> GatewayBuilder)) {
    for (workers, fd_table) in [
        (0, tidegate::FdTable::Shared),
        (2, tidegate::FdTable::Shared),
        (2, tidegate::FdTable::Private),
    ] {
        let set = move |config: &mut Config| {
            (config.loops, config.workers, config.fd_table) = (2, workers, fd_table);
        };
        test(&|builder: GatewayBuilder| builder.configure(set));
    }
}

/// Waits until the statistics are as they are to be.
fn stats_until(running: &Running, what: &str, is_so: impl Fn(&serde_json::Value) -> bool) {
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

fn read_to_end(mut from: impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    // However it ends, what came is what counts.
    let _ = from.read_to_end(&mut bytes);
    bytes
}

fn write(mut to: impl Write, bytes: &[u8]) {
    to.write_all(bytes).unwrap();
    to.flush().unwrap();
}
