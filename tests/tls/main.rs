//! WebSockets and bare frames over TLS, with rustls' and other people's clients.

mod authority;
mod clients;
mod mutual;
mod reload;
mod served;
mod signal;
mod sockets;
#[path = "../support/mod.rs"]
mod support;
mod tickets;

use std::io::{Read, Write};

use served::{LOCALHOST, PATIENCE, Served, stats_until};
use tidegate::{Config, GatewayBuilder};

/// Runs a test with messages routed on the loops and on workers, and with each loop's own table.
fn all(test: impl Fn(&dyn Fn(GatewayBuilder) -> GatewayBuilder)) {
    for (workers, fd_table) in [
        (0, tidegate::FdTable::Shared),
        (2, tidegate::FdTable::Shared),
        (2, tidegate::FdTable::Private),
    ] {
        let set = move |config: &mut Config| {
            (config.loops, config.workers, config.fd_table) = (2, workers, fd_table);
        };
        test(&|builder: GatewayBuilder| builder.configure(set));
    }
}

fn read_to_end(mut from: impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    // However it ends, what came is what counts.
    let _ = from.read_to_end(&mut bytes);
    bytes
}

fn write(mut to: impl Write, bytes: &[u8]) {
    to.write_all(bytes).unwrap();
    to.flush().unwrap();
}
