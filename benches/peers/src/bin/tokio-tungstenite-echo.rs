//! An echo on tokio-tungstenite, on one thread.

use std::net::SocketAddr;

use clap::{Parser, ValueEnum};
use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use peers::{
    Fatal, fdtable,
    server::{announce, bind},
};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::{
    accept_async_with_config,
    tungstenite::{Message, Result, protocol::WebSocketConfig},
};

/// Echoes WebSocket messages by tokio-tungstenite.
#[derive(Clone, Copy, Debug, Parser)]
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
    announce(listener.local_addr()?)?;
    loop {
        let (socket, _) = listener.accept().await?;
        // A connection that fails has ended; that is all there is to it.
        tokio::spawn(async move { drop(echo(socket, args).await) });
    }
}

async fn echo(socket: TcpStream, args: Args) -> Result<()> {
    let mut config = WebSocketConfig::default();
    if let Some(bytes) = args.read_buffer {
        config = config.read_buffer_size(bytes);
    }
    let mut stream = accept_async_with_config(socket, Some(config)).await?;
    while let Some(message) = stream.next().await {
        let message = message?;
        if !is_echoed(&message) {
            continue;
        }
        match args.flush {
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
