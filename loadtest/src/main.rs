//! Drives any WebSocket server: ramps, holds, verifies, measures.
//!
//! The client side is tungstenite's `WebSocketContext` over mio, and dialects of its own, so that it
//! shares no codec with the gateway beside it: a bug cannot cancel itself out between the two ends.
//!
//! Invariants of the whole:
//! - A socket is touched by one thread, for its whole life.
//! - Every thread may own a descriptor table: what is shared (the polls) is made before the tables
//!   part, no socket is opened before all have parted, and event loops open nothing but sockets.
//! - What crosses threads is plain data: counters while running, one [`tally::Tally`] at the end.
//! - Whatever a client sees that it should not is counted by kind, and makes the exit code 1.

mod broadcast;
mod churn;
mod cli;
mod clock;
mod command;
mod connect;
mod dialect;
mod echo;
mod event_loop;
mod fdtable;
mod handshake;
mod lanes;
mod link;
mod login;
mod payload;
mod ping;
mod plan;
mod preflight;
mod progress;
mod question;
mod report;
mod rooms;
mod run;
mod sampler;
mod scale;
mod shared;
mod slow_handshake;
mod socket;
mod stall;
mod storm;
mod table;
mod tally;
mod target;
mod tls;
mod transport;
mod trouble;
mod watch;
mod witness;

use std::process::ExitCode;

use clap::Parser;

/// Everything was well.
const EXIT_OK: u8 = 0;
/// A client saw an error, or a connection was not made, verified or closed as it should be.
const EXIT_FAILED: u8 = 1;
/// The arguments, or the limits of this host, do not allow the run.
const EXIT_USAGE: u8 = 2;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    match command::execute(&cli) {
        Ok(true) => ExitCode::from(EXIT_OK),
        Ok(false) => ExitCode::from(EXIT_FAILED),
        Err(message) => {
            eprintln!("loadtest: {message}");
            ExitCode::from(EXIT_USAGE)
        }
    }
}
