//! What `churn` adds: how many connections were replaced, and how long that took.

use std::fmt;

use serde::Serialize;
use serde_json::{Value, json};

use super::{Expected, Percentiles, Summary, grouped, line};
use crate::tally::{Pick, Tally};

/// The part of `churn`.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Churned {
    target_per_second: u64,
    stay_seconds: f64,
    abort_percent: f64,
    due: u64,
    begun: u64,
    missed: u64,
    /// Of these, those for which a connection was ripe.
    missed_ripe: u64,
    verified: u64,
    per_second: f64,
    closes: u64,
    aborts: u64,
    handshake_us: Percentiles,
    usable_us: Percentiles,
    close_us: Percentiles,
    ping_us: Percentiles,
    begun_late_us: Percentiles,
}

impl Churned {
    /// Before the run.
    pub(crate) fn new(rate: u64, stay_seconds: f64, resets_ppm: u32) -> Self {
        let abort_percent = f64::from(resets_ppm) / 10_000.0;
        Self { target_per_second: rate, stay_seconds, abort_percent, ..Self::default() }
    }
}

impl Summary for Churned {
    fn command(&self) -> &'static str {
        "churn"
    }

    fn main_latency(&self) -> Option<Pick> {
        Some(|tally| &tally.churn.usable)
    }

    fn main_rate(&self) -> Option<f64> {
        Some(self.per_second)
    }

    fn target_rate(&self) -> Option<f64> {
        Some(self.target_per_second as f64)
    }

    fn stages(&self) -> [&'static str; 2] {
        ["churn", "settle"]
    }

    fn fill(&mut self, tally: &Tally, seconds: f64) {
        let counts = &tally.churn;
        self.due = counts.begun + counts.missed;
        self.begun = counts.begun;
        self.missed = counts.missed;
        self.missed_ripe = counts.missed_ripe;
        self.verified = counts.verified;
        self.per_second = counts.verified as f64 / seconds;
        self.closes = counts.closes;
        self.aborts = tally.aborted;
        self.handshake_us = Percentiles::new(&counts.handshake);
        self.usable_us = Percentiles::new(&counts.usable);
        self.close_us = Percentiles::new(&counts.close);
        self.ping_us = Percentiles::new(&tally.ping);
        self.begun_late_us = Percentiles::new(&tally.lag);
    }

    fn expected(&self, tally: &Tally, connections: u64) -> Expected {
        let made = connections + tally.churn.begun;
        Expected { made, closed: made - tally.aborted.min(made) }
    }

    fn is_well(&self, tally: &Tally, connections: u64) -> bool {
        let counts = &tally.churn;
        counts.missed_ripe == 0
            && counts.verified == counts.begun
            && counts.begun == counts.closes + tally.aborted
            && tally.verified == connections + counts.begun
    }

    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        line(
            f,
            "replaced",
            format_args!(
                "{} of {} due, {} per second of {}",
                grouped(self.verified),
                grouped(self.due),
                grouped(self.per_second.round() as u64),
                grouped(self.target_per_second)
            ),
        )?;
        if self.missed > 0 {
            let missed = grouped(self.missed);
            writeln!(f, "               {missed} were due and not begun before the end")?;
        }
        if self.missed_ripe > 0 {
            let ripe = grouped(self.missed_ripe);
            writeln!(f, "               {ripe} of them as too many were opening or leaving")?;
        }
        line(
            f,
            "left",
            format_args!("{} by close, {} by reset", grouped(self.closes), grouped(self.aborts)),
        )?;
        line(f, "handshake", format_args!("{} (replacements)", self.handshake_us))?;
        line(f, "usable", &self.usable_us)?;
        line(f, "close", &self.close_us)?;
        line(f, "begun late", &self.begun_late_us)
    }

    fn json(&self) -> Value {
        json!(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_missed_though_somebody_was_ripe_fails() {
        let work = Churned::new(10, 0.0, 0);
        let mut tally = Tally { verified: 5, ..Tally::default() };
        tally.churn.missed = 3;
        assert!(work.is_well(&tally, 5));
        tally.churn.missed_ripe = 1;
        assert!(!work.is_well(&tally, 5));
    }
}
