//! What the gateway listens on other than an address of its own choice: Unix-domain sockets, sockets
//! that a service manager passes, and the options of all of them.

#[path = "../support/mod.rs"]
mod support;
#[path = "../support/tcp_client.rs"]
mod tcp_client;
mod unix;

use std::path::Path;
use std::process::ExitStatus;

use tidegate::{Config, FdTable, Gateway, GatewayBuilder, ListenAddr};

/// Where messages are routed, and whose table sockets are in.
const SETUPS: [(usize, FdTable); 4] =
    [(0, FdTable::Shared), (2, FdTable::Shared), (0, FdTable::Private), (2, FdTable::Private)];

/// A gateway of three loops that listens on this and nothing else.
fn builder(listen: &ListenAddr, (workers, fd_table): (usize, FdTable)) -> GatewayBuilder {
    let listen = vec![listen.clone()];
    Gateway::builder().configure(move |config: &mut Config| {
        (config.loops, config.workers, config.fd_table) = (3, workers, fd_table);
        config.listen = listen;
    })
}

fn at(path: &Path) -> ListenAddr {
    ListenAddr::Unix(path.to_owned())
}

/// What `tidegate` with these arguments says and how it leaves, if it does not start.
fn refused(args: &[&str]) -> (ExitStatus, String) {
    let output = support::command().args(args).output().expect("it runs");
    (output.status, String::from_utf8_lossy(&output.stderr).into_owned())
}
