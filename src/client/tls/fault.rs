//! What goes wrong with TLS: with what it is told, and with a server.

use std::fmt;
use std::io;
use std::path::PathBuf;

use rustls::{CertificateError, Error};

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
    /// What is no PEM.
    Pem(String),
    /// No certificate in it.
    NoCertificate,
    /// A certificate that cannot be trusted, for it is none.
    Certificate(String),
    /// No private key in it.
    NoKey,
    /// More private keys than one in it.
    ManyKeys,
    /// The private key is encrypted.
    EncryptedKey,
    /// A certificate and a key that do not fit each other, or cannot be used.
    Identity(String),
    /// Neither a host name nor an address.
    ServerName,
    /// The platform has no roots, and none were given.
    NoRoots,
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, why } => write!(f, "`{}` cannot be read: {why}", path.display()),
            Self::Pem(why) => write!(f, "no valid PEM: {why}"),
            Self::NoCertificate => f.write_str("there is no certificate in it"),
            Self::Certificate(why) => write!(f, "a certificate cannot be used: {why}"),
            Self::NoKey => f.write_str("there is no private key in it"),
            Self::ManyKeys => f.write_str("there is more than one private key in it"),
            Self::EncryptedKey => f.write_str("the private key is encrypted: decrypt it first"),
            Self::Identity(why) => write!(f, "certificate and key cannot be used: {why}"),
            Self::ServerName => {
                f.write_str("the server's name is neither a host name nor an address")
            }
            Self::NoRoots => {
                f.write_str("this machine has no certificates to trust: name those of the server")
            }
        }
    }
}

impl std::error::Error for TlsError {}

/// Why TLS with a server failed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsFault {
    /// Nobody who is trusted has signed the server's certificate.
    UnknownAuthority,
    /// The certificate is for others, not for the server that was wanted.
    WrongName(String),
    /// The certificate is not valid any more.
    Expired,
    /// The certificate is not valid yet; or the clock of this machine is wrong.
    NotYetValid,
    /// The certificate is no good in another way.
    Certificate(String),
    /// The server gave up, and this is why: `CertificateRequired`, for one (RFC 8446, 6.2).
    Alert(String),
    /// What came is no TLS.
    NotTls,
    /// There is no version, suite or protocol that both ends speak.
    NothingInCommon(String),
    /// Anything else.
    Other(String),
}

impl TlsFault {
    /// What of it is in an error of a stream.
    pub(in crate::client) fn of(error: &io::Error) -> Option<Self> {
        error.get_ref().and_then(|error| error.downcast_ref::<Error>()).map(Self::from)
    }
}

impl From<&Error> for TlsFault {
    fn from(error: &Error) -> Self {
        use CertificateError as Bad;
        match error {
            Error::InvalidCertificate(bad) => match bad {
                Bad::UnknownIssuer | Bad::BadSignature => Self::UnknownAuthority,
                Bad::NotValidForName | Bad::NotValidForNameContext { .. } => {
                    Self::WrongName(bad.to_string())
                }
                Bad::Expired | Bad::ExpiredContext { .. } => Self::Expired,
                Bad::NotValidYet | Bad::NotValidYetContext { .. } => Self::NotYetValid,
                other => Self::Certificate(other.to_string()),
            },
            Error::AlertReceived(alert) => Self::Alert(format!("{alert:?}")),
            Error::InvalidMessage(_) => Self::NotTls,
            Error::PeerIncompatible(why) => Self::NothingInCommon(format!("{why:?}")),
            other => Self::Other(other.to_string()),
        }
    }
}

impl fmt::Display for TlsFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownAuthority => {
                f.write_str("nobody who is trusted has signed the server's certificate")
            }
            Self::WrongName(why) => write!(f, "the certificate is not this server's: {why}"),
            Self::Expired => f.write_str("the server's certificate has expired"),
            Self::NotYetValid => f.write_str("the server's certificate is not valid yet"),
            Self::Certificate(why) => write!(f, "the server's certificate is no good: {why}"),
            Self::Alert(why) => write!(f, "the server refuses: {why}"),
            Self::NotTls => f.write_str("what the server speaks is no TLS"),
            Self::NothingInCommon(why) => write!(f, "the server speaks no TLS of ours: {why}"),
            Self::Other(why) => write!(f, "TLS failed: {why}"),
        }
    }
}
