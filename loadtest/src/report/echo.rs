//! What `echo` adds: how many answers were right, and how long they took.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;
use serde_json::{Value, json};

use super::{Percentiles, Summary, grouped, labels, line, show_kinds};
use crate::{
    echo::Pace,
    tally::{Pick, Tally},
};

/// The part of `echo`.
#[derive(Debug, Serialize)]
pub(crate) struct Echoed {
    size_bytes: usize,
    text: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pipeline: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_per_second: Option<u64>,
    sent: u64,
    received: u64,
    right: u64,
    wrong: BTreeMap<String, u64>,
    unanswered: u64,
    unsent: u64,
    per_second: f64,
    latency_us: Percentiles,
    /// At a fixed rate: how late messages were sent, the generator's own part of the latency.
    #[serde(skip_serializing_if = "Option::is_none")]
    send_lag_us: Option<Percentiles>,
}

impl Echoed {
    /// Before the run.
    pub(crate) fn new(pace: Pace, size: usize, text: bool) -> Self {
        let (pipeline, rate) = match pace {
            Pace::Closed(pipeline) => (Some(pipeline), None),
            Pace::Open(rate) => (None, Some(rate)),
        };
        Self {
            size_bytes: size,
            text,
            pipeline,
            target_per_second: rate,
            sent: 0,
            received: 0,
            right: 0,
            wrong: BTreeMap::new(),
            unanswered: 0,
            unsent: 0,
            per_second: 0.0,
            latency_us: Percentiles::default(),
            send_lag_us: rate.map(|_| Percentiles::default()),
        }
    }
}

impl Summary for Echoed {
    fn command(&self) -> &'static str {
        "echo"
    }

    fn main_latency(&self) -> Option<Pick> {
        Some(|tally| &tally.answer)
    }

    fn main_rate(&self) -> Option<f64> {
        Some(self.per_second)
    }

    fn target_rate(&self) -> Option<f64> {
        self.target_per_second.map(|rate| rate as f64)
    }

    fn fill(&mut self, tally: &Tally, seconds: f64) {
        self.sent = tally.sent;
        self.received = tally.received;
        self.right = tally.right;
        self.wrong = labels(&tally.wrong);
        self.unanswered = tally.unanswered;
        self.unsent = tally.unsent;
        self.per_second = tally.in_time as f64 / seconds;
        self.latency_us = Percentiles::new(&tally.answer);
        self.send_lag_us = self.send_lag_us.take().map(|_| Percentiles::new(&tally.lag));
    }

    fn is_well(&self, tally: &Tally, _: u64) -> bool {
        tally.right == tally.sent && tally.sent > 0
    }

    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.text { "text" } else { "binary" };
        writeln!(
            f,
            "  messages     {} sent, {} answered right, {} B {kind}",
            grouped(self.sent),
            grouped(self.right),
            grouped(self.size_bytes as u64)
        )?;
        show_kinds(f, &self.wrong)?;
        for (count, what) in [
            (self.unanswered, "never answered"),
            (self.unsent, "not sent: their connection was lost"),
        ] {
            if count > 0 {
                writeln!(f, "               {} {what}", grouped(count))?;
            }
        }
        let rate = grouped(self.per_second.round() as u64);
        match self.target_per_second {
            Some(target) => line(f, "rate", format_args!("{rate}/s of {}/s", grouped(target)))?,
            None => line(f, "rate", format_args!("{rate}/s"))?,
        }
        line(f, "latency", &self.latency_us)?;
        match &self.send_lag_us {
            Some(lag) => line(f, "sent late by", lag),
            None => Ok(()),
        }
    }

    fn json(&self) -> Value {
        json!(self)
    }
}
