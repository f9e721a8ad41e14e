//! The results: as text for people, as JSON for programs, as charts for both. What each command
//! adds stands in a file of its own.
//!
//! Invariants:
//! - A report has all its fields before the run, so that paths into its JSON can be checked then.
//! - All outputs are made from the report alone, and the same report makes the same bytes.

pub(crate) mod axis;
pub(crate) mod broadcast;
pub(crate) mod chart;
pub(crate) mod charts;
pub(crate) mod churn;
pub(crate) mod compare;
pub(crate) mod connect;
pub(crate) mod echo;
pub(crate) mod fail_if;
mod hgrm;
mod html;
pub(crate) mod outputs;
mod resources;
pub(crate) mod scale;
mod series;
pub(crate) mod slow_handshake;
pub(crate) mod stall;
pub(crate) mod storm;
mod text;

use std::{collections::BTreeMap, fmt};

use serde::{Serialize, Serializer};
use serde_json::Value;

pub(crate) use self::text::{grouped, line, micros, show_kinds};
use self::{
    fail_if::Failed,
    resources::{Kernel, Server},
    series::Series,
};
use crate::{
    clock::{Nanos, SECOND},
    run::{Outcome, Watched},
    shared::Setup,
    tally::{Latency, Pick, Tally},
    tls,
    trouble::Kinds,
    watch::Marks,
};

/// What a command adds to the report: its own counts and latencies.
pub(crate) trait Summary: fmt::Debug {
    /// The name of the command.
    fn command(&self) -> &'static str;

    /// The key of its part of the JSON.
    fn key(&self) -> &'static str {
        self.command()
    }

    /// The latency that the command is about: of the time series, `--hgrm`, the percentile curve and
    /// `--fail-if p99>…`.
    fn main_latency(&self) -> Option<Pick> {
        None
    }

    /// How many of what the command is about came in a second of the work, after the run; 0 before.
    fn main_rate(&self) -> Option<f64> {
        None
    }

    /// How many were asked for.
    fn target_rate(&self) -> Option<f64> {
        None
    }

    /// What the work and the end of the work are called in the progress display.
    fn stages(&self) -> [&'static str; 2] {
        ["work", "settle"]
    }

    /// Takes over what the run counted; `seconds` is how long the work went.
    fn fill(&mut self, tally: &Tally, seconds: f64);

    /// How many connections should have been made and closed, of a run over `connections`.
    fn expected(&self, _: &Tally, connections: u64) -> Expected {
        Expected { made: connections, closed: connections }
    }

    /// How long the work really went, in seconds, if that was not given.
    fn seconds(&self, _: &Tally) -> Option<f64> {
        None
    }

    /// Whether the command got what it wanted from every one of `connections`.
    fn is_well(&self, tally: &Tally, connections: u64) -> bool;

    /// Its lines of the text, each indented like [`line()`] does.
    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result;

    /// Its part of the JSON.
    fn json(&self) -> Value;
}

/// What a run should have come to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected {
    /// Handshakes completed.
    pub(crate) made: u64,
    /// Connections closed by the closing handshake.
    pub(crate) closed: u64,
}

impl Serialize for dyn Summary {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map([(self.key(), self.json())])
    }
}

/// All results of a run. The field names are those of the JSON.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    tool: &'static str,
    version: &'static str,
    command: &'static str,
    url: String,
    /// What was spoken, of a command with a choice.
    #[serde(skip_serializing_if = "Option::is_none")]
    dialect: Option<String>,
    seed: u64,
    connections: u32,
    threads: u32,
    private_tables: bool,
    source_addresses: usize,
    /// Whether no client saw an error, and every connection was made, verified and closed.
    pub(crate) ok: bool,
    interrupted: bool,
    total_seconds: f64,
    /// Things that went wrong, of all kinds.
    errors: u64,
    /// The same as a share of the connections and messages begun.
    errors_percent: f64,
    /// Conditions of `--fail-if` that held.
    failed_if: Vec<Failed>,
    main: Main,
    connect: Connecting,
    hold: Holding,
    #[serde(flatten)]
    work: Box<dyn Summary>,
    close: Closing,
    bytes: Bytes,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<Memory>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<Server>,
    kernel: Kernel,
    series: Series,
    /// All of the main latency, for what needs more than percentiles.
    #[serde(skip)]
    latency: Option<Latency>,
}

/// What the command is about, whatever it is.
#[derive(Debug, Default, Serialize)]
struct Main {
    per_second: Option<f64>,
    target_per_second: Option<f64>,
    percent_of_target: Option<f64>,
    latency_us: Option<Percentiles>,
}

#[derive(Debug, Default, Serialize)]
struct Connecting {
    wanted: u64,
    attempted: u64,
    connected: u64,
    ramped: u64,
    refused: BTreeMap<String, u64>,
    seconds: f64,
    per_second: f64,
    target_per_second: Option<f64>,
    percent_of_target: Option<f64>,
    handshake_us: Percentiles,
    /// Where it was spoken.
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<Secured>,
}

/// Handshakes of TLS.
#[derive(Debug, Default, Serialize)]
struct Secured {
    full: u64,
    resumed: u64,
    /// By version and suite.
    suites: BTreeMap<String, u64>,
}

#[derive(Debug, Default, Serialize)]
struct Holding {
    seconds: f64,
    lost: BTreeMap<String, u64>,
}

#[derive(Debug, Default, Serialize)]
struct Closing {
    clean: u64,
    unclean: BTreeMap<String, u64>,
    left_open_by_server: u64,
}

#[derive(Debug, Default, Serialize)]
struct Bytes {
    received: u64,
    sent: u64,
}

#[derive(Debug, Default, Serialize)]
struct Memory {
    resident_before: u64,
    resident_ramped: u64,
    per_connection: u64,
}

/// Latencies in microseconds.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Percentiles {
    count: u64,
    mean: f64,
    p50: f64,
    p90: f64,
    p99: f64,
    p99_9: f64,
    max: f64,
}

impl Report {
    /// What is known before the run.
    pub(crate) fn new(work: Box<dyn Summary>, setup: &Setup, seed: u64) -> Self {
        let has_rate = work.main_rate().is_some();
        Self {
            tool: "loadtest",
            version: env!("CARGO_PKG_VERSION"),
            command: work.command(),
            url: setup.lanes.urls(),
            dialect: setup.lanes.names(),
            seed,
            connections: setup.connections,
            threads: setup.plan.threads,
            private_tables: setup.plan.private_tables,
            source_addresses: setup.plan.sources.len(),
            ok: false,
            interrupted: false,
            total_seconds: 0.0,
            errors: 0,
            errors_percent: 0.0,
            failed_if: Vec::new(),
            main: Main::new(&*work, None),
            connect: Connecting {
                tls: setup.lanes.has_tls().then(Secured::default),
                ..Connecting::new(&Tally::default(), 0, 0, setup.connect_rate)
            },
            hold: Holding { seconds: setup.duration.as_secs_f64(), ..Holding::default() },
            work,
            close: Closing::default(),
            bytes: Bytes::default(),
            memory: Some(Memory::default()),
            server: (!setup.server_pids.is_empty()).then(|| Server::expected(has_rate)),
            kernel: Kernel::expected(),
            series: Series::default(),
            latency: None,
        }
    }

    /// What of the command is watched during the run.
    pub(crate) fn watched(&self) -> Watched {
        Watched { main: self.main_latency(), stages: self.work.stages() }
    }

    fn main_latency(&self) -> Option<Pick> {
        self.work.main_latency()
    }

    /// The main latency, after the run.
    fn latency(&self) -> Option<&Latency> {
        self.latency.as_ref()
    }

    /// Adds what the run gave.
    pub(crate) fn fill(&mut self, outcome: &Outcome) {
        let tally = &outcome.tally;
        self.interrupted = outcome.interrupted;
        self.total_seconds = seconds(outcome.total);
        let expected = self.work.expected(tally, self.connections.into());
        self.errors = tally.errors();
        let begun = tally.attempted + tally.sent;
        self.errors_percent = 100.0 * self.errors as f64 / begun.max(1) as f64;
        self.latency = self.main_latency().map(|pick| pick(tally).clone());
        let rate = self.connect.target_per_second.map_or(0, |rate| rate as u64);
        self.connect = Connecting {
            tls: self.connect.tls.take().map(|_| Secured::new(&tally.tls)),
            ..Connecting::new(tally, outcome.ramp, expected.made, rate)
        };
        self.hold.lost = labels(&tally.lost);
        let wanted = self.hold.seconds;
        let worked = self.work.seconds(tally);
        self.hold.seconds = worked.unwrap_or_else(|| worked_seconds(wanted, &outcome.marks));
        // An interrupted run may have done nothing at all, which makes a rate of nothing.
        self.work.fill(tally, self.hold.seconds.max(1e-9));
        self.main = Main::new(&*self.work, self.latency.as_ref());
        self.close = Closing {
            clean: tally.closed,
            unclean: labels(&tally.unclosed),
            left_open_by_server: tally.left_open,
        };
        self.bytes = Bytes { received: tally.bytes_in, sent: tally.bytes_out };
        let resident = outcome.marks.own_before.zip(outcome.marks.own_ramped);
        let resident = resident.filter(|_| tally.ramped > 0);
        self.memory = resident.map(|(before, after)| Memory::new(before, after, tally));
        let messages = self.main.per_second.map(|rate| rate * self.hold.seconds);
        self.server = self.server.take().map(|_| Server::new(outcome, messages));
        self.kernel = Kernel::new(outcome);
        self.series = Series::new(outcome);
        self.ok = self.is_well(tally);
    }

    /// Fails the run for the conditions that held.
    fn judge(&mut self, failed: impl Iterator<Item = Failed>) {
        self.failed_if.extend(failed);
        self.ok &= self.failed_if.is_empty();
    }

    /// As `--json` has it.
    fn to_json(&self) -> Result<Value, String> {
        serde_json::to_value(self).map_err(|error| format!("the report is no JSON: {error}"))
    }

    fn is_well(&self, tally: &Tally) -> bool {
        let wanted = u64::from(self.connections);
        let expected = self.work.expected(tally, wanted);
        !self.interrupted
            && tally.errors() == 0
            && tally.connected == expected.made
            && tally.closed == expected.closed
            && self.work.is_well(tally, wanted)
    }
}

impl Main {
    fn new(work: &dyn Summary, latency: Option<&Latency>) -> Self {
        let empty = work.main_latency().map(|_| Percentiles::default());
        Self {
            per_second: work.main_rate(),
            target_per_second: work.target_rate(),
            percent_of_target: percent(work.main_rate(), work.target_rate()),
            latency_us: latency.map(Percentiles::new).or(empty),
        }
    }
}

impl Connecting {
    /// Of what was opened in the time of `ramp`, of `wanted` in all; `rate` was asked for, or 0.
    fn new(tally: &Tally, ramp: Nanos, wanted: u64, rate: u64) -> Self {
        let seconds = seconds(ramp);
        let per_second = if ramp == 0 { 0.0 } else { tally.ramped as f64 / seconds };
        let target = (rate > 0).then_some(rate as f64);
        Self {
            wanted,
            attempted: tally.attempted,
            connected: tally.connected,
            ramped: tally.ramped,
            refused: labels(&tally.refused),
            seconds,
            per_second,
            target_per_second: target,
            percent_of_target: percent(Some(per_second), target),
            handshake_us: Percentiles::new(&tally.handshake),
            tls: None,
        }
    }
}

impl Secured {
    fn new(counts: &tls::Counts) -> Self {
        let tls::Counts { resumed, suites } = counts.clone();
        let all: u64 = suites.values().sum();
        Self { full: all - resumed, resumed, suites }
    }
}

impl Memory {
    fn new(before: u64, after: u64, tally: &Tally) -> Self {
        Self {
            resident_before: before,
            resident_ramped: after,
            per_connection: after.saturating_sub(before) / tally.ramped.max(1),
        }
    }
}

impl Percentiles {
    /// Of what was measured.
    pub(crate) fn new(latency: &Latency) -> Self {
        Self {
            count: latency.count(),
            mean: latency.mean_micros(),
            p50: latency.micros(0.5),
            p90: latency.micros(0.9),
            p99: latency.micros(0.99),
            p99_9: latency.micros(0.999),
            max: latency.max_micros(),
        }
    }
}

/// Kinds of trouble by what they are called.
pub(crate) fn labels(kinds: &Kinds) -> BTreeMap<String, u64> {
    let mut labels = BTreeMap::new();
    for (trouble, count) in kinds {
        *labels.entry(trouble.to_string()).or_default() += count;
    }
    labels
}

/// How long the work went that was given `wanted` seconds. It may be less: the run was interrupted,
/// or no connection was left.
fn worked_seconds(wanted: f64, marks: &Marks) -> f64 {
    let worked = marks.work_from.zip(marks.work_until);
    let worked = worked.map(|(from, until)| seconds(until.saturating_sub(from)));
    // What was given is exact, and the same in reports that are compared.
    worked.filter(|worked| *worked < wanted - 1e-3).unwrap_or(wanted)
}

/// What stands under a key of an object, or at a number of an array.
fn member<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    match value {
        Value::Array(items) => items.get(key.parse::<usize>().ok()?),
        other => other.get(key),
    }
}

fn percent(is: Option<f64>, target: Option<f64>) -> Option<f64> {
    is.zip(target).map(|(is, target)| 100.0 * is / target)
}

fn seconds(nanos: Nanos) -> f64 {
    nanos as f64 / SECOND as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_that_ended_early_counts_as_long_as_it_went() {
        let marks =
            |until| Marks { work_from: Some(SECOND), work_until: until, ..Marks::default() };
        assert_eq!(worked_seconds(5.0, &marks(Some(3 * SECOND))), 2.0);
        assert_eq!(worked_seconds(5.0, &marks(Some(SECOND / 2))), 0.0);
        // What went on a little longer, or is not known, went as long as it should.
        assert_eq!(worked_seconds(5.0, &marks(Some(6 * SECOND + 7))), 5.0);
        assert_eq!(worked_seconds(5.0, &marks(None)), 5.0);
    }
}
