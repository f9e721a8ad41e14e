//! Authorities of tests, and certificates by them.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tidegate::transport::tls::{CertificateFiles, ClientAuth};

/// One that signs.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate by an authority, and its key.
pub(crate) struct Issued {
    pub(crate) certificate: Certificate,
    pub(crate) key: KeyPair,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn der(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }

    pub(crate) fn issue(&self, name: &str) -> Issued {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        Issued { certificate: params.signed_by(&key, &self.0).unwrap(), key }
    }

    /// Writes its own certificate, for a gateway that checks clients'.
    pub(crate) fn client_auth(&self, file: &Path, is_optional: bool) -> ClientAuth {
        replace(file, &self.0.pem());
        ClientAuth { authorities: file.to_owned(), is_optional }
    }
}

impl Issued {
    /// Writes both into `folder`, under names that begin with `name`.
    pub(crate) fn write(&self, folder: &Path, name: &str) -> CertificateFiles {
        let file = |end: &str| -> PathBuf { folder.join(format!("{name}.{end}")) };
        let files = CertificateFiles { certificate: file("crt"), key: file("key") };
        replace(&files.certificate, &self.certificate.pem());
        replace(&files.key, &self.key.serialize_pem());
        files
    }

    pub(crate) fn der(&self) -> CertificateDer<'static> {
        self.certificate.der().clone()
    }

    pub(crate) fn key_der(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::try_from(self.key.serialize_der()).unwrap()
    }
}

/// Puts a file with this text in the place of another, as careful programs do.
pub(crate) fn replace(file: &Path, text: &str) {
    let new = file.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(new, file).unwrap();
}
