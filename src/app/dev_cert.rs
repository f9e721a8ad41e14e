//! `tidegate dev-cert`: an authority of one's own and a certificate by it, for trying TLS out.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DevCert {
    /// The authority's certificate: clients are to trust it.
    pub authority: PathBuf,
    /// The server's certificate.
    pub certificate: PathBuf,
    /// Its key, readable by its owner only.
    pub key: PathBuf,
}

/// Makes an authority and a certificate by it for these names and addresses, and writes both into
/// `folder`, made if need be. The authority's key is thrown away: no other certificate can be had by
/// it.
///
/// # Errors
/// What is there already, which is left as it is; names that are none; and what the disk says.
pub fn make_dev_cert(folder: &Path, names: &[String]) -> io::Result<DevCert> {
    let (authority, certificate, key) = sign(names).map_err(io::Error::other)?;
    std::fs::create_dir_all(folder)?;
    let made = DevCert {
        authority: folder.join("ca.pem"),
        certificate: folder.join("cert.pem"),
        key: folder.join("key.pem"),
    };
    for path in [&made.authority, &made.certificate, &made.key] {
        if path.exists() {
            let what = format!("{} is there already", path.display());
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, what));
        }
    }
    write(&made.key, 0o600, &key)?;
    write(&made.certificate, 0o644, &certificate)?;
    write(&made.authority, 0o644, &authority)?;
    Ok(made)
}

/// PEM of the authority, of the certificate, and of its key.
fn sign(names: &[String]) -> Result<(String, String, String), rcgen::Error> {
    let mut params = CertificateParams::new([])?;
    params.distinguished_name.push(DnType::CommonName, "tidegate development authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;

    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, "tidegate development server");
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, &authority)?;
    Ok((authority.pem(), certificate.pem(), key.serialize_pem()))
}

fn write(path: &Path, mode: u32, text: &str) -> io::Result<()> {
    let named = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(named)?;
    file.write_all(text.as_bytes()).map_err(named)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::transport::tls::{CertificateFiles, TlsHost, TlsSettings};

    #[test]
    fn what_is_made_serves_and_is_not_made_twice() {
        let folder = tempfile::tempdir().unwrap();
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let made = make_dev_cert(&folder.path().join("certs"), &names).unwrap();
        let mode = made.key.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let files = CertificateFiles { certificate: made.certificate, key: made.key };
        let settings = TlsSettings { certificates: vec![files], client_auth: None };
        assert!(TlsHost::load(&settings).is_ok());
        let again = make_dev_cert(&folder.path().join("certs"), &names).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
    }

    #[test]
    fn names_that_are_none_are_refused_before_anything_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let inside = folder.path().join("certs");
        assert!(make_dev_cert(&inside, &["ä".to_owned()]).is_err());
        assert!(!inside.exists());
    }
}
