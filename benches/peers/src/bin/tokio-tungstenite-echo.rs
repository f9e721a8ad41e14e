//! An echo on tokio-tungstenite, on one thread; over TLS by tokio-rustls if it is given a certificate.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::{Parser, ValueEnum};
use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use peers::{
    Fatal, fdtable,
    server::{announce, announce_tls, bind},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    },
};
use tokio_tungstenite::{
    accept_async_with_config,
    tungstenite::{self, Message, protocol::WebSocketConfig},
};

/// Echoes WebSocket messages by tokio-tungstenite.
#[derive(Clone, Debug, Parser)]
struct Args {
    /// Where to listen; port 0 lets the kernel choose.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,

    /// Bytes of a connection's read buffer [default: the library's, 128 KiB].
    #[arg(long)]
    read_buffer: Option<usize>,

    /// When answers are written.
    #[arg(long, value_enum, default_value = "each")]
    flush: Flush,

    /// Speak TLS, with the chain in this file of PEM.
    #[arg(long, requires = "tls_key")]
    tls_cert: Option<PathBuf>,

    /// The key of --tls-cert.
    #[arg(long, requires = "tls_cert")]
    tls_key: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Flush {
    /// Each at once, by `send`.
    Each,
    /// Together, when nothing more can be read at once.
    Drained,
}

fn main() -> Result<(), Fatal> {
    let args = Args::parse();
    fdtable::raise_limit()?;
    tokio::runtime::Builder::new_current_thread().enable_io().build()?.block_on(serve(args))
}

async fn serve(args: Args) -> Result<(), Fatal> {
    let listener = TcpListener::from_std(bind(args.listen)?)?;
    let (config, flush) = (config(&args), args.flush);
    let tls = args.tls_cert.as_deref().zip(args.tls_key.as_deref());
    let tls = tls.map(|(chain, key)| acceptor(chain, key)).transpose()?;
    match tls {
        Some(_) => announce_tls(listener.local_addr()?)?,
        None => announce(listener.local_addr()?)?,
    }
    loop {
        let (socket, _) = listener.accept().await?;
        // A connection that fails has ended; that is all there is to it.
        match tls.clone() {
            None => drop(tokio::spawn(async move { drop(echo(socket, config, flush).await) })),
            Some(tls) => drop(tokio::spawn(async move {
                if let Ok(stream) = tls.accept(socket).await {
                    drop(echo(stream, config, flush).await);
                }
            })),
        }
    }
}

fn config(args: &Args) -> WebSocketConfig {
    let config = WebSocketConfig::default();
    match args.read_buffer {
        Some(bytes) => config.read_buffer_size(bytes),
        None => config,
    }
}

/// As the library has it by default, with ring.
fn acceptor(chain: &Path, key: &Path) -> Result<TlsAcceptor, Fatal> {
    let chain = CertificateDer::pem_file_iter(chain)?.collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_file(key)?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

async fn echo(
    socket: impl AsyncRead + AsyncWrite + Unpin,
    config: WebSocketConfig,
    flush: Flush,
) -> tungstenite::Result<()> {
    let mut stream = accept_async_with_config(socket, Some(config)).await?;
    while let Some(message) = stream.next().await {
        let message = message?;
        if !is_echoed(&message) {
            continue;
        }
        match flush {
            Flush::Each => stream.send(message).await?,
            Flush::Drained => {
                stream.feed(message).await?;
                while let Some(Some(more)) = stream.next().now_or_never() {
                    let more = more?;
                    if is_echoed(&more) {
                        stream.feed(more).await?;
                    }
                }
                stream.flush().await?;
            }
        }
    }
    Ok(())
}

/// Data is; the library answers control frames by itself, and its stream ends behind a Close.
fn is_echoed(message: &Message) -> bool {
    message.is_text() || message.is_binary()
}
