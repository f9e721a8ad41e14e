//! From arguments to what rustls is told.

use std::{path::Path, sync::Arc};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{
        CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls12_signature,
        verify_tls13_signature,
    },
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _},
};

use super::{Verifier, tickets::Tickets};
use crate::cli::network::{TlsArgs, TlsVersion};

/// What the arguments ask for.
pub(super) fn config(args: &TlsArgs) -> Result<ClientConfig, String> {
    let provider = Arc::new(ring::default_provider());
    let versions: &[_] = match args.tls_version {
        None => rustls::ALL_VERSIONS,
        Some(TlsVersion::V12) => &[&rustls::version::TLS12],
        Some(TlsVersion::V13) => &[&rustls::version::TLS13],
    };
    let verifier = verifier(args, &provider)?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .map_err(|error| format!("--tls-version: {error}"))?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match (&args.tls_cert, &args.tls_key) {
        (Some(chain), Some(key)) => {
            let der = PrivateKeyDer::from_pem_file(key).map_err(at("--tls-key", key))?;
            let chain = certificates(chain, "--tls-cert")?;
            let fits = builder.with_client_auth_cert(chain, der);
            fits.map_err(|error| format!("--tls-cert, --tls-key: {error}"))?
        }
        _ => builder.with_no_client_auth(),
    };
    config.resumption = match args.tls_resume {
        true => Resumption::store(Arc::new(Tickets::new())),
        false => Resumption::disabled(),
    };
    Ok(config)
}

fn verifier(args: &TlsArgs, provider: &Arc<CryptoProvider>) -> Result<Verifier, String> {
    if args.tls_insecure {
        return Ok(Arc::new(Anyone(provider.signature_verification_algorithms)));
    }
    let roots = match &args.tls_ca {
        Some(path) => named_roots(path)?,
        None => roots_of_host()?,
    };
    let built =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build();
    Ok(built.map_err(|error| format!("--tls-ca: {error}"))?)
}

fn named_roots(path: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path, "--tls-ca")? {
        roots.add(certificate).map_err(at("--tls-ca", path))?;
    }
    Ok(roots)
}

fn roots_of_host() -> Result<RootCertStore, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    match roots.is_empty() {
        true => Err("--tls: this host has no roots to trust; name a --tls-ca".to_owned()),
        false => Ok(roots),
    }
}

fn certificates(path: &Path, flag: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(path).and_then(|found| found.collect());
    let found = found.map_err(at(flag, path))?;
    match found.is_empty() {
        true => Err(format!("{flag} {}: there is no certificate in it", path.display())),
        false => Ok(found),
    }
}

fn at<E: std::fmt::Display>(flag: &str, path: &Path) -> impl FnOnce(E) -> String {
    move |error| format!("{flag} {}: {error}", path.display())
}

/// Accepts whoever has the key of the certificate that it shows, whoever signed that.
#[derive(Debug)]
struct Anyone(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match certificate.is_empty() {
            true => Err(CertificateError::BadEncoding.into()),
            false => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
