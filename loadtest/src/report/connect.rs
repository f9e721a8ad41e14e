//! What `connect` adds: each connection verified by a ping.

use std::fmt;

use serde::Serialize;
use serde_json::{Value, json};

use super::{Percentiles, Summary, grouped, line};
use crate::tally::{Pick, Tally};

/// The part of `connect`.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Verified {
    verified: u64,
    ping_us: Percentiles,
}

impl Summary for Verified {
    fn command(&self) -> &'static str {
        "connect"
    }

    fn key(&self) -> &'static str {
        "verify"
    }

    fn main_latency(&self) -> Option<Pick> {
        Some(|tally| &tally.handshake)
    }

    fn stages(&self) -> [&'static str; 2] {
        ["hold", "verify"]
    }

    fn fill(&mut self, tally: &Tally, _: f64) {
        self.verified = tally.verified;
        self.ping_us = Percentiles::new(&tally.ping);
    }

    fn is_well(&self, tally: &Tally, connections: u64) -> bool {
        tally.verified == connections
    }

    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        line(f, "verified", format_args!("{} by ping", grouped(self.verified)))?;
        line(f, "ping", &self.ping_us)
    }

    fn json(&self) -> Value {
        json!(self)
    }
}
