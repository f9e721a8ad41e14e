//! What `connect` adds: rooms joined, and each connection verified by a ping.

use std::fmt;

use serde::Serialize;
use serde_json::{Value, json};

use super::{Percentiles, Summary, grouped, line};
use crate::{
    connect::Places,
    tally::{Pick, Tally},
};

/// The part of `connect`.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Verified {
    verified: u64,
    ping_us: Percentiles,
    rooms: u32,
    rooms_per_connection: u32,
    joined: u64,
}

impl Verified {
    /// A run in which connections join rooms, if there are any.
    pub(crate) fn new(places: Option<Places>) -> Self {
        let (rooms, rooms_per_connection) =
            places.map_or((0, 0), |places| (places.rooms, places.per_connection));
        Self { rooms, rooms_per_connection, ..Self::default() }
    }

    fn to_join(&self, connections: u64) -> u64 {
        connections * u64::from(self.rooms_per_connection)
    }
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
        self.joined = tally.joined;
        self.ping_us = Percentiles::new(&tally.ping);
    }

    fn is_well(&self, tally: &Tally, connections: u64) -> bool {
        tally.verified == connections && tally.joined == self.to_join(connections)
    }

    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.rooms > 0 {
            let each = grouped(self.rooms_per_connection.into());
            let (joined, rooms) = (grouped(self.joined), grouped(self.rooms.into()));
            line(f, "joined", format_args!("{joined}, {each} a connection, of {rooms} rooms"))?;
        }
        line(f, "verified", format_args!("{} by ping", grouped(self.verified)))?;
        line(f, "ping", &self.ping_us)
    }

    fn json(&self) -> Value {
        json!(self)
    }
}
