//! Putting a gateway together, running it, and taking it down.
//!
//! Invariants:
//! - what several threads use is made by the starting thread before any loop leaves its descriptor
//!   table; no loop accepts before all have passed that barrier;
//! - every thread that is started has all signals blocked;
//! - what is taken up anew is one snapshot, put in force when all of it is good; files are looked at by
//!   threads on main's descriptor table;
//! - taking down: stop accepting, Close 1001 to all, flush, then loops end, then workers.

mod builder;
mod dev_cert;
mod endpoints;
mod passed;
mod plan;
mod reload;
mod reserve;
mod running;
mod service;
mod shared;
mod snapshot;
mod start;
mod unix_socket;

pub use builder::GatewayBuilder;
pub use dev_cert::{DevCert, make_dev_cert};
pub use running::{Running, Stopped};
pub use service::Service;
pub use shared::{Load, Shared, SharedParts};
pub use snapshot::Snapshot;
pub use start::StartError;

#[cfg(test)]
mod reload_tests;
