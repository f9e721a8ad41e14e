//! What `wss://` and `tls://` are spoken by: rustls. All that is given is checked when it is given, so
//! that a mistake is found before anything connects.
//!
//! Who signed the server's certificate is looked up among the certificates of the system, as every
//! other program of the machine does: what its owner adds there or takes away holds here, too.

mod fault;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, ClientConnection, Error, RootCertStore};

pub use self::fault::{TlsError, TlsFault};
use super::url::ServerUrl;
use crate::protocol::Framing;

/// Whom to trust, and as whom to appear. By default: the platform's roots, as nobody, to the host of
/// the URL.
///
/// The server's certificate is always verified; nothing here turns that off.
#[derive(Clone, Default)]
pub struct Tls {
    /// `None`: the platform's.
    roots: Option<RootCertStore>,
    identity: Option<Arc<CertifiedKey>>,
    server_name: Option<ServerName<'static>>,
}

impl Tls {
    /// The only protocol that is offered (RFC 7301): a WebSocket is opened by HTTP/1.1. Where there is
    /// none to be opened, as with `tls://`, none is.
    pub const ALPN: &'static str = "http/1.1";

    /// Trusts the certificates in PEM, and those given before, instead of the platform's roots.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn roots_pem(mut self, pem: &[u8]) -> Result<Self, TlsError> {
        let roots = self.roots.get_or_insert_with(RootCertStore::empty);
        for certificate in certificates(pem)? {
            roots.add(certificate).map_err(|e| TlsError::Certificate(e.to_string()))?;
        }
        Ok(self)
    }

    /// The same, from a file.
    ///
    /// # Errors
    /// The file cannot be read, or what is wrong with it.
    pub fn roots_file(self, path: impl AsRef<Path>) -> Result<Self, TlsError> {
        self.roots_pem(&read(path.as_ref())?)
    }

    /// Appears with a certificate, and those behind it up to the root, in PEM, and its key, in PEM:
    /// PKCS #8, PKCS #1 or SEC 1, not encrypted.
    ///
    /// # Errors
    /// What is wrong with them, or that they do not fit each other.
    pub fn client_certificate(mut self, chain: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        let (chain, key) = (certificates(chain)?, private_key(key)?);
        let certified = CertifiedKey::from_der(chain, key, &provider());
        self.identity = Some(Arc::new(certified.map_err(|e| TlsError::Identity(e.to_string()))?));
        Ok(self)
    }

    /// The same, from two files, or one named twice.
    ///
    /// # Errors
    /// A file cannot be read, or what is wrong with it.
    pub fn client_certificate_files(
        self,
        chain: impl AsRef<Path>,
        key: impl AsRef<Path>,
    ) -> Result<Self, TlsError> {
        self.client_certificate(&read(chain.as_ref())?, &read(key.as_ref())?)
    }

    /// The name, or address, that the server's certificate has to be for, instead of the URL's host.
    /// A name is also what the server is asked for (SNI).
    ///
    /// # Errors
    /// It is neither.
    pub fn server_name(mut self, name: &str) -> Result<Self, TlsError> {
        self.server_name = Some(server_name(name)?);
        Ok(self)
    }

    /// How many certificates are trusted that were given; 0: the platform's are.
    #[must_use]
    pub fn roots(&self) -> usize {
        self.roots.as_ref().map_or(0, RootCertStore::len)
    }

    /// Whether this side appears with a certificate.
    #[must_use]
    pub fn has_client_certificate(&self) -> bool {
        self.identity.is_some()
    }

    /// The name that was given instead of the URL's host.
    #[must_use]
    pub fn given_server_name(&self) -> Option<String> {
        self.server_name.as_ref().map(|name| name.to_str().into_owned())
    }

    /// How a server is spoken to.
    ///
    /// # Errors
    /// Its host's name can be none of a certificate, or nobody is trusted here.
    pub(super) fn prepare(&self, url: &ServerUrl) -> Result<Secure, TlsError> {
        let name = match &self.server_name {
            Some(name) => name.clone(),
            None => server_name(&url.host)?,
        };
        let builder = ClientConfig::builder_with_provider(Arc::new(provider()))
            .with_safe_default_protocol_versions()
            .map_err(|e| TlsError::Identity(e.to_string()))?
            .with_root_certificates(self.trusted()?);
        let mut config = match &self.identity {
            Some(key) => {
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(key))))
            }
            None => builder.with_no_client_auth(),
        };
        if url.framing == Framing::WebSocket {
            config.alpn_protocols = vec![Self::ALPN.into()];
        }
        Ok(Secure { config: Arc::new(config), name })
    }

    fn trusted(&self) -> Result<RootCertStore, TlsError> {
        if let Some(roots) = &self.roots {
            return Ok(roots.clone());
        }
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        // Among the many of a platform there are some that rustls has no use for.
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() { Err(TlsError::NoRoots) } else { Ok(roots) }
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Tls");
        debug.field("roots", &self.roots()).field("server_name", &self.server_name);
        debug.field("client_certificate", &self.identity.is_some()).finish()
    }
}

/// How one server is spoken to, connection after connection: a later one resumes an earlier one's
/// session where the server lets it.
pub(super) struct Secure {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Secure {
    /// A connection on which nothing was said.
    ///
    /// # Errors
    /// What rustls cannot work with.
    pub(super) fn connection(&self) -> Result<ClientConnection, Error> {
        ClientConnection::new(Arc::clone(&self.config), self.name.clone())
    }
}

fn provider() -> CryptoProvider {
    ring::default_provider()
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let failed = |e: std::io::Error| TlsError::File { path: path.to_owned(), why: e.to_string() };
    std::fs::read(path).map_err(failed)
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Vec<_> =
        CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(bad_pem)?;
    if found.is_empty() { Err(TlsError::NoCertificate) } else { Ok(found) }
}

fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
    // Of an encrypted key the label says so, and of an older one a header in the block.
    if pem.windows(ENCRYPTED.len()).any(|window| window == ENCRYPTED) {
        return Err(TlsError::EncryptedKey);
    }
    let mut found = PrivateKeyDer::pem_slice_iter(pem);
    let first = found.next().ok_or(TlsError::NoKey)?.map_err(bad_pem)?;
    if found.next().is_some() { Err(TlsError::ManyKeys) } else { Ok(first) }
}

/// What neither base64 nor a name of what is not encrypted has in it.
const ENCRYPTED: &[u8] = b"ENCRYPTED";

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn bad_pem(error: pem::Error) -> TlsError {
    TlsError::Pem(error.to_string())
}

fn server_name(name: &str) -> Result<ServerName<'static>, TlsError> {
    ServerName::try_from(name.to_owned()).map_err(|_| TlsError::ServerName)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    /// A certificate for `localhost`, by itself, and its key.
    fn made() -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    fn wrong<T>(result: Result<T, TlsError>) -> TlsError {
        result.err().expect("it is wrong")
    }

    #[test]
    fn what_is_given_is_held() {
        let none = Tls::default();
        assert!(none.roots() == 0 && !none.has_client_certificate());
        let ((one, key), (other, _)) = (made(), made());
        let tls = none.roots_pem(format!("my roots\n{one}\r\nand\n{other}").as_bytes()).unwrap();
        assert_eq!(tls.roots(), 2);
        let both = one + &key;
        let tls = tls.client_certificate(both.as_bytes(), both.as_bytes()).unwrap();
        assert!(tls.has_client_certificate());
        let shown = format!("{tls:?}");
        assert!(shown.contains("client_certificate: true") && shown.len() < 100, "{shown}");
        let named = tls.server_name("edge.example").unwrap();
        assert_eq!(named.given_server_name().as_deref(), Some("edge.example"));
    }

    #[test]
    fn files_are_read_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("roots.pem");
        let missing = wrong(Tls::default().roots_file(&path));
        assert!(matches!(&missing, TlsError::File { path: at, .. } if *at == path));
        assert!(missing.to_string().contains("roots.pem` cannot be read: "), "{missing}");
        let (certificate, key) = made();
        std::fs::write(&path, certificate + &key).unwrap();
        assert_eq!(Tls::default().roots_file(&path).unwrap().roots(), 1);
        let both = Tls::default().client_certificate_files(&path, &path).unwrap();
        assert!(both.has_client_certificate());
    }

    #[test]
    fn what_is_wrong_is_said() {
        let roots = |pem: &str| wrong(Tls::default().roots_pem(pem.as_bytes()));
        let ((chain, key), (_, another)) = (made(), made());
        assert_eq!(roots("nothing"), TlsError::NoCertificate);
        assert_eq!(roots(&key), TlsError::NoCertificate);
        for half in [
            "-----BEGIN CERTIFICATE-----\nMAE=\n",
            "-----BEGIN CERTIFICATE-----\nM!\n-----END CERTIFICATE-----\n",
        ] {
            assert!(matches!(roots(half), TlsError::Pem(_)), "{half}");
        }
        let empty = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
        assert!(matches!(roots(empty), TlsError::Certificate(_)));
        let with =
            |key: &str| wrong(Tls::default().client_certificate(chain.as_bytes(), key.as_bytes()));
        assert_eq!(with(&chain), TlsError::NoKey);
        assert_eq!(with(&(key.clone() + &key)), TlsError::ManyKeys);
        assert!(matches!(with(&another), TlsError::Identity(_)), "{}", with(&another));
        assert_eq!(with(&key.replace("PRIVATE", "ENCRYPTED PRIVATE")), TlsError::EncryptedKey);
        let older = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: x\n\nMAE=\n\
            -----END RSA PRIVATE KEY-----\n";
        assert_eq!(with(older), TlsError::EncryptedKey);
    }

    #[test]
    fn names_of_servers() {
        for name in ["a", "edge-1.example", "a_b.c", "127.0.0.1", "::1", "1a.2b"] {
            assert!(Tls::default().server_name(name).is_ok(), "{name}");
        }
        for name in ["", "a..b", ".a", "-a", "a b", "ä", "a:80", "1.2.3.256", &"a".repeat(64)] {
            assert_eq!(wrong(Tls::default().server_name(name)), TlsError::ServerName, "{name}");
        }
    }
}
