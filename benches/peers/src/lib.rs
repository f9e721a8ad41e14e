//! What the servers and generators of the comparison share.
//!
//! Servers print `listening on ADDRESS` to stdout once they accept, and run until they are killed.
//! Generators print one line of JSON to stdout and leave with 0 if every answer was right. A
//! generator treats all servers alike: the same bytes, in the same batches, with the same system
//! calls; it has no codec beyond frames that it builds once.
//!
//! Invariants:
//! - a generator is one closed loop: it sends again when it has all it waits for, and not before;
//! - what a server answers is counted by length, and compared in full for each connection's first
//!   answer and for one in [`wire::SAMPLE`] after it, or for the whole read that it came in;
//! - CPU is the server's own, read off the kernel's scheduler in nanoseconds, in the measured window
//!   only.

pub mod dial;
pub mod fanout;
pub mod fdtable;
pub mod meter;
pub mod server;
pub mod wire;

/// What a program of this crate can die of.
pub type Fatal = Box<dyn std::error::Error + Send + Sync>;

/// Prints a generator's result.
///
/// # Errors
/// Nobody reads it.
pub fn print_line(result: &serde_json::Value) -> std::io::Result<()> {
    use std::io::Write as _;
    writeln!(std::io::stdout(), "{result}")
}
