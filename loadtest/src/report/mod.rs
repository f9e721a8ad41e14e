//! The results: as text for people, as JSON for programs. What each command adds stands in a file
//! of its own.

pub(crate) mod broadcast;
pub(crate) mod churn;
pub(crate) mod connect;
pub(crate) mod echo;
pub(crate) mod scale;
pub(crate) mod slow_handshake;
pub(crate) mod stall;
pub(crate) mod storm;

use std::{collections::BTreeMap, fmt};

use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::{
    clock::{Nanos, SECOND},
    run::Outcome,
    shared::Setup,
    tally::{Latency, Tally},
    trouble::Kinds,
};

/// What a command adds to the report: its own counts and latencies.
pub(crate) trait Summary: fmt::Debug {
    /// The name of the command.
    fn command(&self) -> &'static str;

    /// The key of its part of the JSON.
    fn key(&self) -> &'static str {
        self.command()
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

    /// Its lines of the text, each indented like [`line`] does.
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
    seed: u64,
    connections: u32,
    threads: u32,
    private_tables: bool,
    source_addresses: usize,
    /// Whether no client saw an error, and every connection was made, verified and closed.
    pub(crate) ok: bool,
    interrupted: bool,
    total_seconds: f64,
    connect: Connecting,
    hold: Holding,
    #[serde(flatten)]
    work: Box<dyn Summary>,
    close: Closing,
    bytes: Bytes,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<Memory>,
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
    handshake_us: Percentiles,
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

#[derive(Debug, Serialize)]
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
        Self {
            tool: "loadtest",
            version: env!("CARGO_PKG_VERSION"),
            command: work.command(),
            url: setup.target.url.clone(),
            seed,
            connections: setup.connections,
            threads: setup.plan.threads,
            private_tables: setup.plan.private_tables,
            source_addresses: setup.plan.sources.len(),
            ok: false,
            interrupted: false,
            total_seconds: 0.0,
            connect: Connecting::default(),
            hold: Holding { seconds: setup.duration.as_secs_f64(), ..Holding::default() },
            work,
            close: Closing::default(),
            bytes: Bytes::default(),
            memory: None,
        }
    }

    /// Adds what the run gave.
    pub(crate) fn fill(&mut self, outcome: &Outcome) {
        let tally = &outcome.tally;
        self.interrupted = outcome.interrupted;
        self.total_seconds = seconds(outcome.total);
        let expected = self.work.expected(tally, self.connections.into());
        self.connect = Connecting::new(tally, outcome.ramp, expected.made);
        self.hold.lost = labels(&tally.lost);
        if let Some(seconds) = self.work.seconds(tally) {
            self.hold.seconds = seconds;
        }
        self.work.fill(tally, self.hold.seconds);
        self.close = Closing {
            clean: tally.closed,
            unclean: labels(&tally.unclosed),
            left_open_by_server: tally.left_open,
        };
        self.bytes = Bytes { received: tally.bytes_in, sent: tally.bytes_out };
        let resident = outcome.resident.filter(|_| tally.ramped > 0);
        self.memory = resident.map(|(before, after)| Memory::new(before, after, tally));
        self.ok = self.is_well(tally);
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

impl Connecting {
    fn new(tally: &Tally, ramp: Nanos, wanted: u64) -> Self {
        let seconds = seconds(ramp);
        Self {
            wanted,
            attempted: tally.attempted,
            connected: tally.connected,
            ramped: tally.ramped,
            refused: labels(&tally.refused),
            seconds,
            per_second: tally.ramped as f64 / seconds.max(1e-9),
            handshake_us: Percentiles::new(&tally.handshake),
        }
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

impl fmt::Display for Percentiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.count == 0 {
            return f.write_str("none");
        }
        let show = micros;
        write!(
            f,
            "p50 {}  p90 {}  p99 {}  p99.9 {}  max {}",
            show(self.p50),
            show(self.p90),
            show(self.p99),
            show(self.p99_9),
            show(self.max)
        )
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tables = if self.private_tables { ", own descriptor tables" } else { "" };
        writeln!(f, "{} {}", self.command, self.url)?;
        line(f, "layout", format_args!("{} thread(s){tables}", self.threads))?;
        self.show_connect(f)?;
        let lost = total(&self.hold.lost);
        writeln!(f, "  held         {:.1} s, lost {}", self.hold.seconds, grouped(lost))?;
        show_kinds(f, &self.hold.lost)?;
        self.work.show(f)?;
        writeln!(f, "  closed       {} cleanly", grouped(self.close.clean))?;
        show_kinds(f, &self.close.unclean)?;
        if self.close.left_open_by_server > 0 {
            let left = grouped(self.close.left_open_by_server);
            writeln!(f, "               {left} of them left open by the server after the Close")?;
        }
        let (sent, received) = (grouped(self.bytes.sent), grouped(self.bytes.received));
        writeln!(f, "  bytes        {sent} sent, {received} received")?;
        if let Some(memory) = &self.memory {
            let (each, all) = (memory.per_connection, memory.resident_ramped >> 20);
            writeln!(f, "  memory here  {} B per connection, {all} MiB in all", grouped(each))?;
        }
        let verdict = match (self.ok, self.interrupted) {
            (true, _) => "ok",
            (false, true) => "FAILED (interrupted)",
            (false, false) => "FAILED",
        };
        writeln!(f, "  result       {verdict}")
    }
}

impl Report {
    fn show_connect(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let connect = &self.connect;
        let (connected, wanted) = (grouped(connect.connected), grouped(connect.wanted));
        write!(f, "  connected    {connected} of {wanted}")?;
        if connect.ramped != connect.connected {
            write!(f, ", {} of them before the work", grouped(connect.ramped))?;
        }
        if connect.ramped > 0 {
            let rate = grouped(connect.per_second.round() as u64);
            write!(f, " in {:.2} s, {rate} per second", connect.seconds)?;
        }
        writeln!(f)?;
        show_kinds(f, &connect.refused)?;
        writeln!(f, "  handshake    {}", connect.handshake_us)
    }
}

/// One line of the text: what it is, and what it was.
pub(crate) fn line(f: &mut fmt::Formatter<'_>, what: &str, was: impl fmt::Display) -> fmt::Result {
    writeln!(f, "  {what:<12} {was}")
}

/// How often each kind of trouble came, a line each.
pub(crate) fn show_kinds(f: &mut fmt::Formatter<'_>, kinds: &BTreeMap<String, u64>) -> fmt::Result {
    kinds
        .iter()
        .try_for_each(|(kind, count)| writeln!(f, "               {} × {kind}", grouped(*count)))
}

/// Kinds of trouble by what they are called.
pub(crate) fn labels(kinds: &Kinds) -> BTreeMap<String, u64> {
    let mut labels = BTreeMap::new();
    for (trouble, count) in kinds {
        *labels.entry(trouble.to_string()).or_default() += count;
    }
    labels
}

fn total(kinds: &BTreeMap<String, u64>) -> u64 {
    kinds.values().sum()
}

fn seconds(nanos: Nanos) -> f64 {
    nanos as f64 / SECOND as f64
}

fn micros(micros: f64) -> String {
    match micros {
        _ if micros < 1_000.0 => format!("{micros:.1} µs"),
        _ if micros < 1_000_000.0 => format!("{:.2} ms", micros / 1_000.0),
        _ => format!("{:.2} s", micros / 1_000_000.0),
    }
}

/// A number with its thousands apart.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_apart() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_000), "1,000");
        assert_eq!(grouped(12_345_678), "12,345,678");
    }

    #[test]
    fn latencies_have_fitting_units() {
        assert_eq!(micros(12.34), "12.3 µs");
        assert_eq!(micros(1_500.0), "1.50 ms");
        assert_eq!(micros(2_000_000.0), "2.00 s");
    }
}
