//! Counters, stage histograms, and what is written out of them.
//!
//! Invariants:
//! - every counter has one writing thread; readers add up over the threads;
//! - nothing here takes a lock per message, or allocates on the data plane once threads have started;
//! - what was recorded is in exactly one place at any time: reading loses nothing and counts nothing
//!   twice;
//! - the gauge of buffer bytes is off by at most 64 KiB per thread and component, and by nothing once
//!   all threads have settled.

pub mod counters;
pub mod interval_log;
pub mod memory;
pub mod report;
pub mod snapshot;
pub mod stages;
pub mod time;
