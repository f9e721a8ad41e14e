//! Certificates, keys and authorities: files → what rustls works with.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::client::verify_server_name;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;

use super::failure::TlsProblem;

/// What a TLS listener is configured with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsSettings {
    /// Certificates with their keys. A client gets the first that is for the name it asks for and
    /// that it can work with, or else the first that it can work with.
    pub certificates: Vec<CertificateFiles>,
    /// Whether clients have certificates.
    pub client_auth: Option<ClientAuth>,
}

/// A certificate chain and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// PEM: the server's certificate first, then those that lead to its authority.
    pub certificate: PathBuf,
    /// PEM: PKCS #8, PKCS #1 or SEC 1.
    pub key: PathBuf,
}

/// How clients' certificates are checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientAuth {
    /// PEM: the authorities that clients' certificates may be by.
    pub authorities: PathBuf,
    /// Whether a client without one is let in. One with a bad one never is.
    pub is_optional: bool,
}

/// Certificates, chosen by the name that a client asks for (SNI, RFC 6066, 3).
#[derive(Debug)]
pub(super) struct Certificates(Vec<Arc<CertifiedKey>>);

impl Certificates {
    pub(super) fn load(
        files: &[CertificateFiles],
        provider: &CryptoProvider,
    ) -> Result<Self, TlsProblem> {
        files.iter().map(|files| load_one(files, provider)).collect::<Result<_, _>>().map(Self)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let usable =
            |key: &&Arc<CertifiedKey>| key.key.choose_scheme(hello.signature_schemes()).is_some();
        let name = hello.server_name().and_then(|name| ServerName::try_from(name).ok());
        let named = |key: &&Arc<CertifiedKey>| name.as_ref().is_some_and(|name| is_for(key, name));
        let mut keys = self.0.iter().filter(usable);
        // Whom nothing fits still gets one to fail by: rustls says then that the two have nothing in
        // common, where for none at all it would deny access.
        keys.clone().find(named).or_else(|| keys.next()).or_else(|| self.0.first()).cloned()
    }
}

fn is_for(key: &CertifiedKey, name: &ServerName<'_>) -> bool {
    let parsed = key.cert.first().and_then(|cert| ParsedCertificate::try_from(cert).ok());
    parsed.is_some_and(|cert| verify_server_name(&cert, name).is_ok())
}

fn load_one(
    files: &CertificateFiles,
    provider: &CryptoProvider,
) -> Result<Arc<CertifiedKey>, TlsProblem> {
    let chain = certificates_of(&files.certificate)?;
    let wrong = |what: String| TlsProblem { file: files.key.clone(), what };
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|e| wrong(format!("no private key in PEM: {e}")))?;
    let key = provider.key_provider.load_private_key(key).map_err(|e| wrong(e.to_string()))?;
    let key = CertifiedKey::new(chain, key);
    match key.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {}
        Err(_) => {
            let of = files.certificate.display();
            return Err(wrong(format!("it is not the key of the certificate in {of}")));
        }
    }
    Ok(Arc::new(key))
}

/// Who checks clients' certificates, and the authorities themselves.
pub(super) fn client_verifier(
    auth: &ClientAuth,
    provider: &Arc<CryptoProvider>,
) -> Result<(Arc<dyn ClientCertVerifier>, Vec<CertificateDer<'static>>), TlsProblem> {
    let authorities = certificates_of(&auth.authorities)?;
    let wrong = |what: String| TlsProblem { file: auth.authorities.clone(), what };
    let mut roots = RootCertStore::empty();
    for authority in &authorities {
        roots.add(authority.clone()).map_err(|e| wrong(e.to_string()))?;
    }
    let provider = Arc::clone(provider);
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let builder = if auth.is_optional { builder.allow_unauthenticated() } else { builder };
    Ok((builder.build().map_err(|e| wrong(e.to_string()))?, authorities))
}

fn certificates_of(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsProblem> {
    let wrong = |what: String| TlsProblem { file: file.to_owned(), what };
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(file).and_then(Iterator::collect);
    let found = found.map_err(|e| wrong(format!("no certificates in PEM: {e}")))?;
    if found.is_empty() {
        return Err(wrong("there is no certificate in it".to_owned()));
    }
    Ok(found)
}
