//! A TLS listener's configuration, which can be loaded anew while it is in use.

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::CertificateDer;
use rustls::server::ProducesTickets;
use rustls::server::{NoClientAuth, ServerSessionMemoryCache, StoresServerSessions};
use rustls::version::{TLS12, TLS13};
use rustls::{Error, ServerConfig};

use super::certificates::{Certificates, TlsSettings, client_verifier};
use super::failure::TlsProblem;

/// TLS 1.2 sessions that are remembered for clients which do without tickets, at most.
const SESSIONS_MAX: usize = 4096;

/// What new connections of listeners with the same settings begin with.
#[derive(Clone, Debug)]
pub struct TlsHost {
    config: Arc<ServerConfig>,
    /// Whom the sessions that can be resumed were checked by.
    resumable: Resumable,
}

/// What lets clients resume. It holds who a client was found to be, and so is good only among
/// connections whose clients are checked alike: those of one host, which has one rule for all its
/// names and listeners, until that rule or its authorities change. rustls itself takes no ticket of
/// another name.
#[derive(Clone, Debug)]
struct Resumable {
    sessions: Arc<dyn StoresServerSessions>,
    tickets: Arc<dyn ProducesTickets>,
    authorities: Vec<CertificateDer<'static>>,
    is_optional: bool,
}

impl TlsHost {
    /// Loads what the settings name.
    ///
    /// # Errors
    /// Which file is no good, and why.
    pub fn load(settings: &TlsSettings) -> Result<Self, TlsProblem> {
        Self::load_after(settings, None)
    }

    /// Loads it again. Sessions of before can be resumed if clients are checked as before.
    ///
    /// # Errors
    /// Which file is no good, and why: what was loaded before goes on.
    pub fn reload(&self, settings: &TlsSettings) -> Result<Self, TlsProblem> {
        Self::load_after(settings, Some(&self.resumable))
    }

    /// For a new connection.
    #[must_use]
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }

    fn load_after(settings: &TlsSettings, before: Option<&Resumable>) -> Result<Self, TlsProblem> {
        let provider = Arc::new(ring::default_provider());
        let certificates = Certificates::load(&settings.certificates, &provider)?;
        let (verifier, authorities) = match &settings.client_auth {
            Some(auth) => client_verifier(auth, &provider)?,
            None => (Arc::new(NoClientAuth) as _, Vec::new()),
        };
        let is_optional = settings.client_auth.as_ref().is_none_or(|auth| auth.is_optional);
        let resumable = match before.filter(|before| before.is_for(&authorities, is_optional)) {
            Some(before) => before.clone(),
            None => Resumable::new(authorities, is_optional).map_err(|e| {
                let file = settings.certificates.first().map(|files| files.key.clone());
                TlsProblem { file: file.unwrap_or_default(), what: format!("no tickets: {e}") }
            })?,
        };
        let mut config = builder(provider)
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(certificates));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.session_storage = Arc::clone(&resumable.sessions);
        config.ticketer = Arc::clone(&resumable.tickets);
        config.send_tls13_tickets = 1;
        Ok(Self { config: Arc::new(config), resumable })
    }
}

impl Resumable {
    fn new(authorities: Vec<CertificateDer<'static>>, is_optional: bool) -> Result<Self, Error> {
        let sessions = ServerSessionMemoryCache::new(SESSIONS_MAX);
        Ok(Self { sessions, tickets: ring::Ticketer::new()?, authorities, is_optional })
    }

    fn is_for(&self, authorities: &[CertificateDer<'static>], is_optional: bool) -> bool {
        self.authorities == authorities && self.is_optional == is_optional
    }
}

/// TLS 1.2 and 1.3; of 1.2 only what ring has: ECDHE with AEAD (RFC 9325).
fn builder(
    provider: Arc<CryptoProvider>,
) -> rustls::ConfigBuilder<ServerConfig, rustls::WantsVerifier> {
    ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13, &TLS12])
        .expect("ring has suites of both versions")
}
