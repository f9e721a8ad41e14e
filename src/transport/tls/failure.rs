//! Why TLS did not come about, or came to an end.

use std::fmt;
use std::path::PathBuf;

use rustls::{CertificateError, Error};

pub use crate::telemetry::counters::TlsFailure;

impl From<&Error> for TlsFailure {
    fn from(error: &Error) -> Self {
        use CertificateError as Cert;
        match error {
            Error::InappropriateMessage { .. }
            | Error::InappropriateHandshakeMessage { .. }
            | Error::InvalidMessage(_)
            | Error::PeerMisbehaved(_)
            | Error::DecryptError
            | Error::PeerSentOversizedRecord => Self::Malformed,
            Error::PeerIncompatible(_) | Error::NoApplicationProtocol => Self::Incompatible,
            Error::NoCertificatesPresented => Self::NoCertificate,
            Error::InvalidCertificate(error) => match error {
                Cert::Expired
                | Cert::ExpiredContext { .. }
                | Cert::NotValidYet
                | Cert::NotValidYetContext { .. } => Self::CertificateExpired,
                Cert::UnknownIssuer => Self::UnknownAuthority,
                _ => Self::BadCertificate,
            },
            Error::AlertReceived(_) => Self::Alert,
            _ => Self::Other,
        }
    }
}

/// Files that no TLS can be had with.
#[derive(Debug)]
pub struct TlsProblem {
    /// Which file.
    pub file: PathBuf,
    /// What is wrong with it.
    pub what: String,
}

impl fmt::Display for TlsProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file.display(), self.what)
    }
}

impl std::error::Error for TlsProblem {}
