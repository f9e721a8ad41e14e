//! What `broadcast` adds: publishes, what became of every delivery, and how long they took.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;
use serde_json::{Value, json};

use super::{Percentiles, Summary, grouped, line};
use crate::{
    broadcast::{Counts, Task},
    echo::Pace,
    tally::{Pick, Tally},
};

/// The part of `broadcast`.
#[derive(Debug, Serialize)]
pub(crate) struct Broadcasted {
    size_bytes: usize,
    rooms: u32,
    publishers: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    in_flight: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_per_second: Option<u64>,
    /// Deliveries that a publish should make, on average.
    #[serde(skip)]
    receivers: f64,
    joined: u64,
    publishes: u64,
    deliveries: Deliveries,
    publishes_per_second: f64,
    deliveries_per_second: f64,
    delivery_us: Percentiles,
    join_us: Percentiles,
    /// At a fixed rate: how late publishes were sent, the generator's own part of the latency.
    #[serde(skip_serializing_if = "Option::is_none")]
    send_lag_us: Option<Percentiles>,
}

#[derive(Debug, Default, Serialize)]
struct Deliveries {
    expected: u64,
    right: u64,
    missing: u64,
    duplicate: u64,
    reordered: u64,
    order_differences: u64,
    corrupt: u64,
    foreign: u64,
    uncompared: u64,
    refused: u64,
    unsent: u64,
    #[serde(skip)]
    wrongs: BTreeMap<&'static str, u64>,
}

impl Broadcasted {
    /// Before the run.
    pub(crate) fn new(task: &Task, size: usize) -> Self {
        let (in_flight, rate) = match task.pace {
            Pace::Closed(in_flight) => (Some(in_flight), None),
            Pace::Open(rate) => (None, Some(rate)),
        };
        Self {
            size_bytes: size,
            rooms: task.layout.rooms,
            publishers: task.layout.publishers,
            in_flight,
            target_per_second: rate,
            receivers: task.mean_receivers(),
            joined: 0,
            publishes: 0,
            deliveries: Deliveries::default(),
            publishes_per_second: 0.0,
            deliveries_per_second: 0.0,
            delivery_us: Percentiles::default(),
            join_us: Percentiles::default(),
            send_lag_us: rate.map(|_| Percentiles::default()),
        }
    }

    fn show_rates(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rate = |per_second: f64| grouped(per_second.round() as u64);
        let (publishes, deliveries) =
            (rate(self.publishes_per_second), rate(self.deliveries_per_second));
        let target =
            self.target_per_second.map(|rate| format!(" of {}", grouped(rate))).unwrap_or_default();
        line(f, "rate", format_args!("{publishes}{target} publishes/s, {deliveries} deliveries/s"))
    }
}

impl Deliveries {
    fn new(counts: &Counts) -> Self {
        Self {
            expected: counts.expected,
            right: counts.right,
            missing: counts.missing,
            duplicate: counts.duplicate,
            reordered: counts.reordered,
            order_differences: counts.differing,
            corrupt: counts.corrupt,
            foreign: counts.foreign,
            uncompared: counts.uncompared,
            refused: counts.refused,
            unsent: counts.unsent,
            wrongs: counts.wrongs().into_iter().map(|(count, what)| (what, count)).collect(),
        }
    }
}

impl Summary for Broadcasted {
    fn command(&self) -> &'static str {
        "broadcast"
    }

    fn main_latency(&self) -> Option<Pick> {
        Some(|tally| &tally.rooms.delivery)
    }

    fn main_rate(&self) -> Option<f64> {
        Some(self.deliveries_per_second)
    }

    /// In deliveries, as the rate is.
    fn target_rate(&self) -> Option<f64> {
        let target = self.target_per_second.map(|rate| rate as f64 * self.receivers);
        target.filter(|target| *target > 0.0)
    }

    fn stages(&self) -> [&'static str; 2] {
        ["publish", "settle"]
    }

    fn fill(&mut self, tally: &Tally, seconds: f64) {
        let counts = &tally.rooms;
        self.joined = counts.joined;
        self.publishes = counts.publishes;
        self.deliveries = Deliveries::new(counts);
        self.publishes_per_second = counts.sent_in_time as f64 / seconds;
        self.deliveries_per_second = counts.in_time as f64 / seconds;
        self.delivery_us = Percentiles::new(&counts.delivery);
        self.join_us = Percentiles::new(&counts.join);
        self.send_lag_us = self.send_lag_us.take().map(|_| Percentiles::new(&counts.lag));
    }

    fn is_well(&self, tally: &Tally, connections: u64) -> bool {
        let counts = &tally.rooms;
        counts.joined == connections && counts.expected > 0 && counts.right == counts.expected
    }

    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (rooms, publishers) = (grouped(self.rooms.into()), grouped(self.publishers.into()));
        let joined = grouped(self.joined);
        line(f, "joined", format_args!("{joined} in {rooms} room(s), {publishers} publish"))?;
        line(f, "join", &self.join_us)?;
        let (publishes, size) = (grouped(self.publishes), grouped(self.size_bytes as u64));
        line(f, "published", format_args!("{publishes} of {size} B"))?;
        let (right, all) = (grouped(self.deliveries.right), grouped(self.deliveries.expected));
        line(f, "deliveries", format_args!("{right} right of {all} expected"))?;
        for (what, count) in self.deliveries.wrongs.iter().filter(|(_, count)| **count > 0) {
            writeln!(f, "               {} {what}", grouped(*count))?;
        }
        self.show_rates(f)?;
        line(f, "latency", &self.delivery_us)?;
        match &self.send_lag_us {
            Some(lag) => line(f, "sent late by", lag),
            None => Ok(()),
        }
    }

    fn json(&self) -> Value {
        json!(self)
    }
}
