//! What `storm` adds: each storm, and what those felt who stayed.

use std::fmt;

use serde::Serialize;
use serde_json::{Value, json};

use super::{Expected, Percentiles, Summary, grouped, line, micros, seconds};
use crate::{
    storm::{Settings, Vanish},
    storm_counts::Blow,
    table::Abort,
    tally::{Pick, Tally},
};

/// The part of `storm`.
#[derive(Debug, Serialize)]
pub(crate) struct Stormed {
    vanish: &'static str,
    #[serde(skip)]
    closes: bool,
    vanishing: u64,
    stayers: u64,
    times: u64,
    pings_per_second: u64,
    backoff_seconds: f64,
    pings: u64,
    unanswered: u64,
    unsent: u64,
    sent_late_us: Percentiles,
    storms: Vec<Storm>,
}

/// One storm.
#[derive(Debug, Default, Serialize)]
struct Storm {
    vanished: u64,
    back: u64,
    failed: u64,
    all_back_seconds: f64,
    per_second: f64,
    handshake_us: Percentiles,
    before_us: Percentiles,
    during_us: Percentiles,
    after_us: Percentiles,
}

impl Stormed {
    /// Before the run.
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            vanish: match settings.vanish {
                Vanish::Abort(Abort::Reset) => "rst",
                Vanish::Abort(Abort::End) => "fin",
                Vanish::Close => "close",
            },
            closes: settings.vanish == Vanish::Close,
            vanishing: settings.vanishing.into(),
            stayers: settings.stayers.into(),
            times: settings.times.into(),
            pings_per_second: settings.rate,
            backoff_seconds: seconds(settings.backoff),
            pings: 0,
            unanswered: 0,
            unsent: 0,
            sent_late_us: Percentiles::default(),
            storms: (0..settings.times).map(|_| Storm::default()).collect(),
        }
    }
}

impl Storm {
    fn new(blow: &Blow) -> Self {
        let all_back_seconds = seconds(blow.back_after);
        Self {
            vanished: blow.vanished,
            back: blow.back,
            failed: blow.failed,
            all_back_seconds,
            per_second: blow.back as f64 / all_back_seconds.max(1e-9),
            handshake_us: Percentiles::new(&blow.handshake),
            before_us: Percentiles::default(),
            during_us: Percentiles::new(&blow.during),
            after_us: Percentiles::default(),
        }
    }

    fn show(&self, f: &mut fmt::Formatter<'_>, number: usize) -> fmt::Result {
        let what = if self.failed == 0 { "all back" } else { "the last back" };
        line(
            f,
            &format!("storm {number}"),
            format_args!(
                "{} vanished; {what} after {}, {} per second",
                grouped(self.vanished),
                micros(self.all_back_seconds * 1e6),
                grouped(self.per_second.round() as u64)
            ),
        )?;
        if self.failed > 0 {
            writeln!(f, "               {} failed to come back", grouped(self.failed))?;
        }
        line(f, "  handshake", &self.handshake_us)?;
        line(f, "  before", &self.before_us)?;
        line(f, "  during", &self.during_us)?;
        line(f, "  after", &self.after_us)
    }
}

impl Summary for Stormed {
    fn command(&self) -> &'static str {
        "storm"
    }

    fn main_latency(&self) -> Option<Pick> {
        Some(|tally| &tally.storm.stayed)
    }

    fn stages(&self) -> [&'static str; 2] {
        ["storms", "settle"]
    }

    fn fill(&mut self, tally: &Tally, _: f64) {
        let counts = &tally.storm;
        self.pings = counts.pings;
        self.unanswered = tally.unanswered;
        self.unsent = tally.unsent;
        self.sent_late_us = Percentiles::new(&tally.lag);
        self.storms = counts.blows().iter().map(Storm::new).collect();
        for (at, storm) in self.storms.iter_mut().enumerate() {
            let calm = |at| counts.calms().get(at).map(Percentiles::new).unwrap_or_default();
            (storm.before_us, storm.after_us) = (calm(at), calm(at + 1));
        }
    }

    fn expected(&self, tally: &Tally, connections: u64) -> Expected {
        let made = connections + self.vanishing * self.times;
        Expected { made, closed: made - tally.aborted.min(made) }
    }

    fn seconds(&self, tally: &Tally) -> Option<f64> {
        Some(seconds(tally.storm.worked))
    }

    fn is_well(&self, tally: &Tally, connections: u64) -> bool {
        let all = self.vanishing * self.times;
        let back: u64 = self.storms.iter().map(|storm| storm.back).sum();
        back == all
            && tally.verified == connections + all
            && tally.aborted == if self.closes { 0 } else { all }
            && self.pings > 0
    }

    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        line(
            f,
            "stayed",
            format_args!(
                "{}, pinged {} times, {} per second",
                grouped(self.stayers),
                grouped(self.pings),
                grouped(self.pings_per_second)
            ),
        )?;
        for (count, what) in [
            (self.unanswered, "pings never answered"),
            (self.unsent, "pings not sent: their connection was lost"),
        ] {
            if count > 0 {
                writeln!(f, "               {} {what}", grouped(count))?;
            }
        }
        line(f, "sent late by", &self.sent_late_us)?;
        self.storms.iter().zip(1..).try_for_each(|(storm, number)| storm.show(f, number))
    }

    fn json(&self) -> Value {
        json!(self)
    }
}
