//! The arguments that say by what connections go, whatever is spoken.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// By what connections go.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Network")]
pub(crate) struct NetworkArgs {
    /// Connect to this Unix-domain socket; the URL says only what the handshake does.
    #[arg(long, value_name = "PATH", conflicts_with = "source_ips")]
    pub(crate) unix: Option<PathBuf>,

    /// Frames with a length before them instead of WebSocket ones, as with a tcp:// URL.
    #[arg(long)]
    pub(crate) tcp: bool,

    /// Compress messages (permessage-deflate, RFC 7692), none by what was in an earlier one.
    ///
    /// A server that does not agree to it fails the run.
    #[arg(long, conflicts_with = "tcp")]
    pub(crate) deflate: bool,

    /// Let the server refer to earlier messages of a connection, for 50 KB a connection here.
    #[arg(long, requires = "deflate")]
    pub(crate) deflate_takeover: bool,

    /// TLS under everything, as with a wss:// URL, or tls:// for frames with a length before them.
    #[arg(long)]
    pub(crate) tls: bool,

    /// How TLS is spoken.
    #[command(flatten)]
    pub(crate) how: TlsArgs,
}

/// How TLS is spoken.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct TlsArgs {
    /// Trust the certificates in this file of PEM instead of this host's roots.
    ///
    /// Of `tidegate dev-cert` it is ca.pem.
    #[arg(long, value_name = "FILE")]
    pub(crate) tls_ca: Option<PathBuf>,

    /// Whom the server's certificate has to name, and what is asked for (SNI) [default: the URL's host].
    #[arg(long, value_name = "NAME")]
    pub(crate) tls_name: Option<String>,

    /// Trust every server, whoever signed its certificate and whomever that names.
    #[arg(long, conflicts_with = "tls_ca")]
    pub(crate) tls_insecure: bool,

    /// Resume earlier sessions where the server lets them, instead of a full handshake for each.
    #[arg(long)]
    pub(crate) tls_resume: bool,

    /// Speak this version only.
    #[arg(long, value_name = "VERSION", value_enum)]
    pub(crate) tls_version: Option<TlsVersion>,

    /// Appear with the certificate in this file of PEM, and those behind it up to the root.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,

    /// The key of --tls-cert, in PEM.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TlsVersion {
    /// RFC 5246.
    #[value(name = "1.2")]
    V12,
    /// RFC 8446.
    #[value(name = "1.3")]
    V13,
}

impl TlsArgs {
    /// A flag that says how TLS is to be spoken, if one is there.
    pub(crate) fn named(&self) -> Option<&'static str> {
        [
            (self.tls_ca.is_some(), "--tls-ca"),
            (self.tls_name.is_some(), "--tls-name"),
            (self.tls_insecure, "--tls-insecure"),
            (self.tls_resume, "--tls-resume"),
            (self.tls_version.is_some(), "--tls-version"),
            (self.tls_cert.is_some(), "--tls-cert"),
        ]
        .into_iter()
        .find_map(|(is_there, flag)| is_there.then_some(flag))
    }
}
