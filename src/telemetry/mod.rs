//! Counters, stage histograms, and what is written out of them.
//!
//! Invariants:
//! - every counter has one writing thread; readers add up over the threads;
//! - nothing here takes a lock per message.

pub mod counters;
pub mod memory;
pub mod stages;
