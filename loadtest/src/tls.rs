//! TLS of connections: rustls' client, between the buffers of a thread.
//!
//! Invariants:
//! - A connection at rest owns no bytes, neither plain nor encrypted.
//! - Without `--tls-resume` every handshake is a full one.
//! - Who the server is gets verified, unless `--tls-insecure` says otherwise.

mod config;
mod session;
mod tickets;

use std::{collections::BTreeMap, sync::Arc};

use rustls::{
    ClientConfig,
    client::{UnbufferedClientConnection, danger::ServerCertVerifier},
    pki_types::ServerName,
};

pub(crate) use self::session::Session;
use crate::{cli::network::TlsArgs, transport::Framing, trouble::Trouble};

/// How connections speak TLS.
#[derive(Clone, Debug)]
pub(crate) struct Tls {
    config: Arc<ClientConfig>,
    /// Whom the certificate has to name, if not the host of the URL.
    name: Option<ServerName<'static>>,
}

/// Handshakes that were completed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    /// Of these, resumed ones.
    pub(crate) resumed: u64,
    /// By version and suite.
    pub(crate) suites: BTreeMap<String, u64>,
}

impl Tls {
    /// As the arguments have it.
    pub(crate) fn new(args: &TlsArgs) -> Result<Self, String> {
        let name = args.tls_name.as_deref().map(|name| server_name(name, "--tls-name"));
        Ok(Self { config: Arc::new(config::config(args)?), name: name.transpose()? })
    }

    /// A session with the host of a URL, for what stands in the stream like this.
    pub(crate) fn session(
        &self,
        host: &ServerName<'static>,
        framing: Framing,
    ) -> Result<Session, Trouble> {
        let name = self.name.as_ref().unwrap_or(host).clone();
        let alpn = match framing {
            Framing::Tcp => Vec::new(),
            _ => vec![b"http/1.1".to_vec()],
        };
        let config = Arc::clone(&self.config);
        let connection = UnbufferedClientConnection::new_with_alpn(config, name, alpn);
        connection.map(Session::new).map_err(|error| Trouble::Tls(error.to_string()))
    }
}

impl Counts {
    /// Counts a session that was just established.
    pub(crate) fn count(&mut self, session: &Session) {
        self.resumed += u64::from(session.is_resumed());
        *self.suites.entry(session.suite()).or_default() += 1;
    }

    /// Adds what another thread counted.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.resumed += other.resumed;
        for (suite, count) in &other.suites {
            *self.suites.entry(suite.clone()).or_default() += count;
        }
    }
}

/// The name or address that a certificate has to be for; `whence` says where it stands.
pub(crate) fn server_name(name: &str, whence: &str) -> Result<ServerName<'static>, String> {
    ServerName::try_from(name.to_owned())
        .map_err(|_| format!("{whence}: {name:?} is neither a host name nor an address"))
}

/// Who accepts certificates.
type Verifier = Arc<dyn ServerCertVerifier>;
