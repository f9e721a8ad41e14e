//! How much clients may send: rates, buckets, and what has been taken out of them.
//!
//! Invariants:
//! - no io, no clock, no allocation: time is passed in, as a [`Moment`];
//! - a bucket is a theoretical arrival time (the generic cell rate algorithm): how far it is ahead
//!   of now is how much of the bucket is used. Over is whoever finds nothing left; what it takes
//!   then is a debt, which is paid as time goes by;
//! - a level of a connection is a `u32` that wraps: bursts, debts and the time between two looks are
//!   bounded so that what is ahead of now and what is behind it are never taken for each other;
//! - what was charged is never more than what was sent, and nothing is charged twice.

mod bandwidth;
mod bucket;
mod levels;
mod meter;
mod moment;
mod rate;
mod shared;
#[cfg(test)]
mod tests;

pub use bandwidth::{BandwidthLimit, Share};
pub use bucket::Bucket;
pub use levels::Levels;
pub use meter::{ConnectionLimits, Meter, Ruling, Tally, Terms};
pub use moment::Moment;
pub use rate::{Limit, Over, Rate};
pub use shared::{SharedBucket, SharedLevel, SharedLimit, SharedRuling};
