//! tidegate: a WebSocket edge gateway.
//!
//! A fixed set of event-loop threads parse frames in place and hand decoded messages over bounded
//! channels to a worker pool, which does the routing. The rooms of the house and their invariants:
//! `docs/ARCHITECTURE.md`.

pub mod app;
pub mod channels;
pub mod config;
pub mod connection;
pub mod dialect;
pub mod id;
pub mod limits;
pub mod logging;
pub mod preflight;
pub mod protocol;
pub mod public_id;
pub mod reactor;
pub mod routing;
pub mod telemetry;
pub mod worker;
