//! What `wss://` is to be spoken by: read and checked here, so that a mistake is found before anything
//! connects. This build has no TLS to hand it to.
//!
//! Of a certificate or key no more is read than that it is one whole piece of DER. Whether they fit
//! each other, and who signed what, is for the TLS library.

use std::fmt;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use data_encoding::BASE64;

/// Longest host name, bytes (RFC 1035, 2.3.4).
const NAME_MAX: usize = 253;
/// Longest label of it, bytes.
const LABEL_MAX: usize = 63;

/// Whom to trust, and as whom to appear. By default: the platform's roots, as nobody, to the host of
/// the URL.
///
/// The server's certificate is always verified; nothing here turns that off.
#[derive(Clone, Default)]
pub struct Tls {
    /// In DER; none: the platform's.
    roots: Vec<Vec<u8>>,
    identity: Option<Arc<Identity>>,
    server_name: Option<String>,
}

/// As whom to appear.
struct Identity {
    chain: Vec<Vec<u8>>,
    key: PrivateKey,
}

impl Tls {
    /// The only protocol that is offered (RFC 7301): a WebSocket is opened by HTTP/1.1.
    pub const ALPN: &'static str = "http/1.1";

    /// Trusts the certificates in PEM, and those given before, instead of the platform's roots.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn roots_pem(mut self, pem: &[u8]) -> Result<Self, TlsError> {
        self.roots.extend(certificates(pem)?);
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
    /// What is wrong with them.
    pub fn client_certificate(mut self, chain: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        let (chain, key) = (certificates(chain)?, private_key(key)?);
        self.identity = Some(Arc::new(Identity { chain, key }));
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
    ///
    /// # Errors
    /// It is neither.
    pub fn server_name(mut self, name: &str) -> Result<Self, TlsError> {
        if !is_server_name(name) {
            return Err(TlsError::ServerName);
        }
        self.server_name = Some(name.to_owned());
        Ok(self)
    }

    /// The certificates that are trusted, in DER; empty: the platform's.
    #[must_use]
    pub fn roots(&self) -> &[Vec<u8>] {
        &self.roots
    }

    /// This side's certificates, in DER, and the key of the first.
    #[must_use]
    pub fn identity(&self) -> Option<(&[Vec<u8>], &PrivateKey)> {
        self.identity.as_deref().map(|identity| (&*identity.chain, &identity.key))
    }

    /// The name that was given instead of the URL's host.
    #[must_use]
    pub fn given_server_name(&self) -> Option<&str> {
        self.server_name.as_deref()
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Tls");
        debug.field("roots", &self.roots.len()).field("server_name", &self.server_name);
        debug.field("key", &self.identity.as_ref().map(|identity| identity.key.kind)).finish()
    }
}

/// A private key, which is never shown.
pub struct PrivateKey {
    kind: KeyKind,
    der: Vec<u8>,
}

impl PrivateKey {
    /// How it is written.
    #[must_use]
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// The key itself.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrivateKey").field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// How a private key is written in DER.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// `PRIVATE KEY`.
    Pkcs8,
    /// `RSA PRIVATE KEY`.
    Pkcs1,
    /// `EC PRIVATE KEY`.
    Sec1,
}

impl KeyKind {
    fn of(label: &str) -> Option<Self> {
        match label {
            "PRIVATE KEY" => Some(Self::Pkcs8),
            "RSA PRIVATE KEY" => Some(Self::Pkcs1),
            "EC PRIVATE KEY" => Some(Self::Sec1),
            _ => None,
        }
    }
}

/// What is wrong with what TLS is told.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    File {
        /// Which.
        path: PathBuf,
        /// Why, in the system's words.
        why: String,
    },
    /// What is no PEM, or not of what it says.
    Pem {
        /// Of the file or text, from 1.
        line: usize,
        /// What is wrong there.
        why: &'static str,
    },
    /// No certificate in it.
    NoCertificate,
    /// No private key in it.
    NoKey,
    /// More private keys than one in it.
    ManyKeys,
    /// The private key is encrypted.
    EncryptedKey,
    /// Neither a host name nor an address.
    ServerName,
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, why } => write!(f, "`{}` cannot be read: {why}", path.display()),
            Self::Pem { line, why } => write!(f, "no valid PEM: line {line}: {why}"),
            Self::NoCertificate => f.write_str("there is no certificate in it"),
            Self::NoKey => f.write_str("there is no private key in it"),
            Self::ManyKeys => f.write_str("there is more than one private key in it"),
            Self::EncryptedKey => f.write_str("the private key is encrypted: decrypt it first"),
            Self::ServerName => {
                f.write_str("the server's name is neither a host name nor an address")
            }
        }
    }
}

impl std::error::Error for TlsError {}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let failed = |e: std::io::Error| TlsError::File { path: path.to_owned(), why: e.to_string() };
    fs::read(path).map_err(failed)
}

fn certificates(pem: &[u8]) -> Result<Vec<Vec<u8>>, TlsError> {
    let blocks = blocks(pem)?.into_iter();
    let found: Vec<_> =
        blocks.filter(|block| block.label == "CERTIFICATE").map(|block| block.der).collect();
    if found.is_empty() { Err(TlsError::NoCertificate) } else { Ok(found) }
}

fn private_key(pem: &[u8]) -> Result<PrivateKey, TlsError> {
    let mut found = None;
    for block in blocks(pem)? {
        if block.label == "ENCRYPTED PRIVATE KEY" {
            return Err(TlsError::EncryptedKey);
        }
        let Some(kind) = KeyKind::of(&block.label) else { continue };
        if found.replace(PrivateKey { kind, der: block.der }).is_some() {
            return Err(TlsError::ManyKeys);
        }
    }
    found.ok_or(TlsError::NoKey)
}

/// A block of PEM (RFC 7468): its label, and what it holds.
struct Block {
    label: String,
    der: Vec<u8>,
}

/// Reads all blocks; what stands between them is passed over.
fn blocks(pem: &[u8]) -> Result<Vec<Block>, TlsError> {
    let at = |line: usize, why| TlsError::Pem { line: line + 1, why };
    let text = std::str::from_utf8(pem).map_err(|_| at(0, "not text"))?;
    let mut found = Vec::new();
    let mut open: Option<(usize, &str, String)> = None;
    for (number, line) in text.lines().map(str::trim).enumerate() {
        match (mark(line, "BEGIN"), mark(line, "END"), &mut open) {
            (Some(label), _, None) => open = Some((number, label, String::new())),
            (Some(_), ..) => return Err(at(number, "the block before has no end")),
            (_, Some(_), None) => return Err(at(number, "nothing began that could end")),
            (_, Some(label), Some((begun, name, base64))) => {
                if label != *name {
                    return Err(at(number, "it ends under another name"));
                }
                // Of older keys that are encrypted a header says so, in lines of their own.
                if base64.contains(",ENCRYPTED") {
                    return Err(TlsError::EncryptedKey);
                }
                let der = BASE64.decode(base64.as_bytes());
                let der = der.map_err(|_| at(*begun, "not base64"))?;
                if !is_sequence(&der) {
                    return Err(at(*begun, "not one whole piece of DER"));
                }
                found.push(Block { label: label.to_owned(), der });
                open = None;
            }
            (None, None, Some((_, _, base64))) => base64.push_str(line),
            (None, None, None) => {}
        }
    }
    open.map_or(Ok(found), |(begun, ..)| Err(at(begun, "the block has no end")))
}

/// What a line `-----BEGIN LABEL-----` begins, or one of `END` ends.
fn mark<'a>(line: &'a str, word: &str) -> Option<&'a str> {
    let inner = line.strip_prefix("-----")?.strip_suffix("-----")?;
    inner.strip_prefix(word)?.strip_prefix(' ')
}

/// Whether these bytes are one DER sequence, to the end (X.690, 8.1 and 10.1).
fn is_sequence(der: &[u8]) -> bool {
    let Some((&[0x30, first], rest)) = der.split_first_chunk() else { return false };
    let count = usize::from(first & 0x7f);
    match first {
        ..0x80 => rest.len() == count,
        _ if (1..=4).contains(&count) => rest.split_at_checked(count).is_some_and(|(len, rest)| {
            let len = len.iter().fold(0_usize, |len, byte| len << 8 | usize::from(*byte));
            rest.len() == len
        }),
        _ => false,
    }
}

fn is_server_name(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let is_label = |label: &str| {
        (1..=LABEL_MAX).contains(&label.len())
            && label.bytes().all(inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // A name of digits and dots alone that is no address is a misspelt one.
    let is_number = name.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    name.parse::<IpAddr>().is_ok()
        || name.len() <= NAME_MAX && !is_number && name.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pem(label: &str, der: &[u8]) -> String {
        let base64 = BASE64.encode(der);
        let (first, second) = base64.split_at(base64.len() / 2);
        format!("-----BEGIN {label}-----\n{first}\n{second}\n-----END {label}-----\n")
    }

    /// One piece of DER of so many bytes.
    fn der(len: usize) -> Vec<u8> {
        let length = u16::try_from(len).unwrap().to_be_bytes();
        [&[0x30, 0x82], &length[..], &vec![7; len]].concat()
    }

    #[test]
    fn what_is_given_is_held() {
        let none = Tls::default();
        assert!(none.roots().is_empty() && none.identity().is_none());
        let roots = format!(
            "my roots\n{}\r\nand\n{}",
            pem("CERTIFICATE", &der(300)),
            pem("CERTIFICATE", &der(2))
        );
        let tls = none.roots_pem(roots.as_bytes()).unwrap();
        let tls = tls.roots_pem(pem("CERTIFICATE", b"\x30\x01a").as_bytes()).unwrap();
        assert_eq!(tls.roots(), [der(300), der(2), b"\x30\x01a".to_vec()]);
        for (label, kind) in [
            ("PRIVATE KEY", KeyKind::Pkcs8),
            ("RSA PRIVATE KEY", KeyKind::Pkcs1),
            ("EC PRIVATE KEY", KeyKind::Sec1),
        ] {
            let both = pem("CERTIFICATE", &der(9)) + &pem(label, &der(5));
            let tls = tls.clone().client_certificate(both.as_bytes(), both.as_bytes()).unwrap();
            let (chain, key) = tls.identity().unwrap();
            assert_eq!((chain, key.kind(), key.der()), (&[der(9)][..], kind, &*der(5)));
            let shown = format!("{tls:?} {key:?}");
            assert!(shown.contains(&format!("{kind:?}")) && !shown.contains("[48"), "{shown}");
        }
        let named = tls.server_name("edge.example").unwrap();
        assert_eq!(named.given_server_name(), Some("edge.example"));
    }

    #[test]
    fn files_are_read_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("roots.pem");
        let missing = Tls::default().roots_file(&path).unwrap_err();
        assert!(matches!(&missing, TlsError::File { path: at, .. } if *at == path));
        assert!(missing.to_string().contains("roots.pem` cannot be read: "), "{missing}");
        fs::write(&path, pem("CERTIFICATE", &der(1)) + &pem("PRIVATE KEY", &der(1))).unwrap();
        assert_eq!(Tls::default().roots_file(&path).unwrap().roots(), [der(1)]);
        let both = Tls::default().client_certificate_files(&path, &path).unwrap();
        assert!(both.identity().is_some());
    }

    #[test]
    fn what_is_wrong_is_said() {
        let wrong = |pem: &str| Tls::default().roots_pem(pem.as_bytes()).unwrap_err();
        let cut = &der(300)[..200];
        for (text, line) in [
            ("x\n-----BEGIN CERTIFICATE-----\nMAE=\n".to_owned(), 2),
            ("-----END CERTIFICATE-----\n".to_owned(), 1),
            ("-----BEGIN CERTIFICATE-----\nM\n-----END CERTIFICATE-----\n".to_owned(), 1),
            ("-----BEGIN CERTIFICATE-----\nMAA=\n-----END X-----\n".to_owned(), 3),
            ("-----BEGIN X-----\n-----BEGIN CERTIFICATE-----\n".to_owned(), 2),
            (pem("CERTIFICATE", cut), 1),
            (pem("CERTIFICATE", b"\x31\x00"), 1),
            (pem("CERTIFICATE", b"\x30\x80\x00\x00"), 1),
        ] {
            let error = wrong(&text);
            assert!(
                matches!(error, TlsError::Pem { line: at, .. } if at == line),
                "{text}: {error}"
            );
        }
        assert_eq!(Tls::default().roots_pem(b"\xff").unwrap_err().to_string(), {
            "no valid PEM: line 1: not text"
        });
        assert_eq!(wrong("nothing"), TlsError::NoCertificate);
        let key = pem("PRIVATE KEY", &der(1));
        assert_eq!(wrong(&key), TlsError::NoCertificate);
        let chain = pem("CERTIFICATE", &der(1));
        let as_key = |key: &str| {
            Tls::default().client_certificate(chain.as_bytes(), key.as_bytes()).unwrap_err()
        };
        assert_eq!(as_key(&chain), TlsError::NoKey);
        assert_eq!(as_key(&(key.clone() + &key)), TlsError::ManyKeys);
        assert_eq!(as_key(&pem("ENCRYPTED PRIVATE KEY", &der(1))), TlsError::EncryptedKey);
        let older = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: x\n\nMAE=\n\
            -----END RSA PRIVATE KEY-----\n";
        assert_eq!(as_key(older), TlsError::EncryptedKey);
    }

    #[test]
    fn names_of_servers() {
        let long = ["a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(61)].join(".");
        for name in ["a", "edge-1.example", "a_b.c", "127.0.0.1", "::1", "1a.2b", &long] {
            assert!(Tls::default().server_name(name).is_ok(), "{name}");
        }
        for name in [
            "",
            "a..b",
            "a.",
            ".a",
            "-a",
            "a-.b",
            "a b",
            "ä",
            "a:80",
            "1.2.3",
            "1.2.3.256",
            &"a".repeat(64),
            &format!("{long}e"),
        ] {
            let error = Tls::default().server_name(name).unwrap_err();
            assert_eq!(error, TlsError::ServerName, "{name}");
        }
    }
}
