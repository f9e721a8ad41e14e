//! TLS by rustls' unbuffered connections, as a server.

mod certificates;
mod failure;
mod files;
mod host;
mod session;

pub use certificates::{CertificateFiles, ClientAuth, TlsSettings};
pub use failure::{TlsFailure, TlsProblem};
pub use files::FileStamps;
pub use host::TlsHost;
pub use session::{Progress, TlsSession};

#[cfg(test)]
mod tests;
