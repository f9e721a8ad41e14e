//! What `scale` adds: the counts, the time and the latency of each stage.

use std::fmt;

use serde::Serialize;
use serde_json::{Value, json};

use super::{Percentiles, Summary, grouped, line, seconds};
use crate::{
    rooms::Sample,
    scale::{Counts, Measured},
    tally::{Latency, Pick, Tally},
};

/// The part of `scale`.
#[derive(Debug, Serialize)]
pub(crate) struct Scaled {
    ping: Stage,
    echo: Stage,
    join: Stage,
    broadcast: Stage,
    publishes: u64,
    duplicate: u64,
    wrong_echoes: u64,
    corrupt: u64,
}

/// One stage: `right` of `wanted`.
#[derive(Debug, Default, Serialize)]
struct Stage {
    wanted: u64,
    right: u64,
    seconds: f64,
    latency_us: Percentiles,
}

impl Scaled {
    /// Before the run.
    pub(crate) fn new(echoing: &Sample, echoes: u32, members: &Sample, not_self: bool) -> Self {
        let wants = |wanted: u64| Stage { wanted, ..Stage::default() };
        let members = u64::from(members.len());
        Self {
            ping: Stage::default(),
            echo: wants(u64::from(echoing.len()) * u64::from(echoes)),
            join: wants(members),
            broadcast: wants(members.saturating_sub(not_self.into())),
            publishes: 0,
            duplicate: 0,
            wrong_echoes: 0,
            corrupt: 0,
        }
    }

    fn adds_up(&self, connections: u64) -> bool {
        let publishes = u64::from(self.join.wanted > 0);
        self.ping.right == connections
            && [&self.ping, &self.echo, &self.join, &self.broadcast].iter().all(|s| s.is_whole())
            && self.publishes == publishes
    }
}

impl Stage {
    fn fill(&mut self, right: u64, counts: &Counts, stage: Measured, latency: &Latency) {
        self.right = right;
        self.seconds = seconds(counts.span(stage).nanos());
        self.latency_us = Percentiles::new(latency);
    }

    fn is_whole(&self) -> bool {
        self.right == self.wanted
    }

    fn show(&self, f: &mut fmt::Formatter<'_>, what: &str, did: &str) -> fmt::Result {
        let (right, wanted) = (grouped(self.right), grouped(self.wanted));
        line(f, what, format_args!("{right} of {wanted} {did} in {:.2} s", self.seconds))?;
        writeln!(f, "               {}", self.latency_us)
    }
}

impl Summary for Scaled {
    fn command(&self) -> &'static str {
        "scale"
    }

    fn main_latency(&self) -> Option<Pick> {
        Some(|tally| &tally.scale.ping)
    }

    fn stages(&self) -> [&'static str; 2] {
        ["hold", "work"]
    }

    fn fill(&mut self, tally: &Tally, _: f64) {
        let counts = &tally.scale;
        self.ping.wanted = counts.pinged;
        self.ping.fill(counts.ponged, counts, Measured::Ping, &counts.ping);
        self.echo.fill(counts.echoed, counts, Measured::Echo, &counts.echo);
        self.join.fill(counts.joined, counts, Measured::Join, &counts.join);
        self.broadcast.fill(counts.delivered, counts, Measured::Publish, &counts.delivery);
        self.publishes = counts.published;
        self.duplicate = counts.duplicate;
        self.wrong_echoes = counts.misechoed;
        self.corrupt = counts.corrupt;
    }

    fn is_well(&self, _: &Tally, connections: u64) -> bool {
        self.adds_up(connections)
    }

    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.ping.show(f, "pings", "answered")?;
        self.echo.show(f, "echoes", "right")?;
        self.join.show(f, "joins", "answered")?;
        self.broadcast.show(f, "broadcast", "deliveries")?;
        for (count, what) in [
            (self.duplicate, "delivered again"),
            (self.wrong_echoes, "wrong echoes"),
            (self.corrupt, "corrupt, or not for their connection"),
        ] {
            if count > 0 {
                writeln!(f, "               {} {what}", grouped(count))?;
            }
        }
        Ok(())
    }

    fn json(&self) -> Value {
        json!(self)
    }
}
