//! What `slow-handshake` adds: how the dripping connections ended, and what the probes felt.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;
use serde_json::{Value, json};

use super::{Expected, Percentiles, Summary, grouped, labels, line, show_kinds};
use crate::tally::{Pick, Tally};

/// The part of `slow-handshake`.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Dripped {
    drip_seconds: f64,
    chunk_bytes: usize,
    opened: u64,
    ended_by_server: u64,
    still_open: u64,
    /// Answers by status, and ends without one by kind.
    ends: BTreeMap<String, u64>,
    ended_after_us: Percentiles,
    unopened: BTreeMap<String, u64>,
    wrong: BTreeMap<String, u64>,
    probes: Probes,
}

#[derive(Debug, Default, Serialize)]
struct Probes {
    target_per_second: u64,
    begun: u64,
    missed: u64,
    verified: u64,
    handshake_us: Percentiles,
    ping_us: Percentiles,
    begun_late_us: Percentiles,
}

impl Dripped {
    /// Before the run.
    pub(crate) fn new(drip_seconds: f64, chunk_bytes: usize, probe_rate: u64) -> Self {
        let probes = Probes { target_per_second: probe_rate, ..Probes::default() };
        Self { drip_seconds, chunk_bytes, probes, ..Self::default() }
    }
}

impl Summary for Dripped {
    fn command(&self) -> &'static str {
        "slow-handshake"
    }

    fn main_latency(&self) -> Option<Pick> {
        Some(|tally| &tally.handshake)
    }

    fn stages(&self) -> [&'static str; 2] {
        ["drip", "settle"]
    }

    fn key(&self) -> &'static str {
        "slow_handshake"
    }

    fn fill(&mut self, tally: &Tally, _: f64) {
        let counts = &tally.slow_handshake;
        self.opened = counts.opened;
        self.still_open = counts.still_open;
        self.ends = labels(&counts.ends);
        self.ended_by_server = total_of(&self.ends);
        self.ended_after_us = Percentiles::new(&counts.lived);
        self.unopened = labels(&counts.unopened);
        self.wrong = labels(&counts.wrong);
        let probes = &mut self.probes;
        (probes.begun, probes.missed) = (counts.probes, counts.missed);
        probes.verified = tally.verified;
        probes.handshake_us = Percentiles::new(&tally.handshake);
        probes.ping_us = Percentiles::new(&tally.ping);
        probes.begun_late_us = Percentiles::new(&tally.lag);
    }

    fn expected(&self, tally: &Tally, _: u64) -> Expected {
        let probes = tally.slow_handshake.probes;
        Expected { made: probes, closed: probes }
    }

    fn is_well(&self, tally: &Tally, connections: u64) -> bool {
        let counts = &tally.slow_handshake;
        let ended = self.ended_by_server + self.still_open + total_of(&self.wrong);
        tally.verified == counts.probes
            && counts.probes > 0
            && counts.missed == 0
            && counts.opened >= connections
            && counts.opened == ended
    }

    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        line(
            f,
            "drippers",
            format_args!(
                "{} opened, {} ended by the server, {} still open at the end",
                grouped(self.opened),
                grouped(self.ended_by_server),
                grouped(self.still_open)
            ),
        )?;
        show_kinds(f, &self.ends)?;
        show_kinds(f, &self.wrong)?;
        if !self.unopened.is_empty() {
            line(f, "not opened", format_args!("{} drippers", grouped(total_of(&self.unopened))))?;
            show_kinds(f, &self.unopened)?;
        }
        line(f, "ended after", &self.ended_after_us)?;
        let probes = &self.probes;
        line(
            f,
            "probes",
            format_args!(
                "{} of {} due, {} verified",
                grouped(probes.begun),
                grouped(probes.begun + probes.missed),
                grouped(probes.verified)
            ),
        )?;
        line(f, "probe ping", &probes.ping_us)?;
        line(f, "begun late", &probes.begun_late_us)
    }

    fn json(&self) -> Value {
        json!(self)
    }
}

fn total_of(kinds: &BTreeMap<String, u64>) -> u64 {
    kinds.values().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missed_probes_and_too_few_drippers_fail() {
        let is_well = |opened: u64, missed: u64| {
            let mut tally = Tally { verified: 2, ..Tally::default() };
            let counts = &mut tally.slow_handshake;
            (counts.opened, counts.still_open) = (opened, opened);
            (counts.probes, counts.missed) = (2, missed);
            let mut work = Dripped::new(1.0, 1, 10);
            work.fill(&tally, 1.0);
            work.is_well(&tally, 5)
        };
        assert!(is_well(5, 0) && is_well(6, 0));
        assert!(!is_well(4, 0) && !is_well(5, 1));
    }
}
