//! An echo on fastwebsockets, with its upgrade over hyper, on one thread.

use std::net::SocketAddr;

use clap::Parser;
use fastwebsockets::{FragmentCollector, OpCode, WebSocketError, upgrade};
use http_body_util::Empty;
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use peers::{
    Fatal, fdtable,
    server::{announce, bind},
};
use tokio::net::TcpListener;

/// Echoes WebSocket messages by fastwebsockets.
#[derive(Clone, Copy, Debug, Parser)]
struct Args {
    /// Where to listen; port 0 lets the kernel choose.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
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
        tokio::spawn(async move {
            let connection = http1::Builder::new()
                .serve_connection(TokioIo::new(socket), service_fn(upgrade_request))
                .with_upgrades();
            // A connection that fails has ended; that is all there is to it.
            drop(connection.await);
        });
    }
}

async fn upgrade_request(
    mut request: Request<Incoming>,
) -> Result<Response<Empty<Bytes>>, WebSocketError> {
    let (response, upgraded) = upgrade::upgrade(&mut request)?;
    // Without tokio's budget, as the library's own echo has it: it polls what it must no oftener.
    tokio::spawn(tokio::task::unconstrained(async move { drop(echo(upgraded).await) }));
    Ok(response)
}

async fn echo(upgraded: upgrade::UpgradeFut) -> Result<(), WebSocketError> {
    let mut socket = FragmentCollector::new(upgraded.await?);
    loop {
        let frame = socket.read_frame().await?;
        match frame.opcode {
            OpCode::Close => return Ok(()),
            OpCode::Text | OpCode::Binary => socket.write_frame(frame).await?,
            _ => {}
        }
    }
}
