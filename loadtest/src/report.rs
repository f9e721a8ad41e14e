//! The results: as text for people, as JSON for programs.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

use crate::{
    clock::{Nanos, SECOND},
    echo::Pace,
    run::Outcome,
    shared::Setup,
    tally::{Latency, Tally},
    trouble::Kinds,
};

/// What was done between ramp and close.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Work {
    /// Held, then pinged.
    Connect,
    /// Echoed.
    Echo {
        /// When messages were sent.
        pace: Pace,
        /// Payload bytes.
        size: usize,
        /// Text or binary.
        text: bool,
    },
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
    #[serde(skip_serializing_if = "Option::is_none")]
    verify: Option<Verifying>,
    #[serde(skip_serializing_if = "Option::is_none")]
    echo: Option<Echoing>,
    close: Closing,
    bytes: Bytes,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<Memory>,
}

#[derive(Debug, Default, Serialize)]
struct Connecting {
    attempted: u64,
    connected: u64,
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
struct Verifying {
    verified: u64,
    ping_us: Percentiles,
}

#[derive(Debug, Serialize)]
struct Echoing {
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
struct Percentiles {
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
    pub(crate) fn new(work: Work, setup: &Setup, seed: u64) -> Self {
        let (command, verify, echo) = match work {
            Work::Connect => ("connect", Some(Verifying::default()), None),
            Work::Echo { pace, size, text } => ("echo", None, Some(Echoing::new(pace, size, text))),
        };
        Self {
            tool: "loadtest",
            version: env!("CARGO_PKG_VERSION"),
            command,
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
            verify,
            echo,
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
        self.connect = Connecting::new(tally, outcome.ramp);
        self.hold.lost = labels(&tally.lost);
        if let Some(verify) = &mut self.verify {
            verify.verified = tally.verified;
            verify.ping_us = Percentiles::new(&tally.ping);
        }
        if let Some(echo) = &mut self.echo {
            echo.fill(tally, self.hold.seconds);
        }
        self.close = Closing {
            clean: tally.closed,
            unclean: labels(&tally.unclosed),
            left_open_by_server: tally.left_open,
        };
        self.bytes = Bytes { received: tally.bytes_in, sent: tally.bytes_out };
        self.memory = outcome.resident.map(|(before, after)| Memory::new(before, after, tally));
        self.ok = self.is_well(tally);
    }

    fn is_well(&self, tally: &Tally) -> bool {
        let wanted = u64::from(self.connections);
        let verified = self.verify.as_ref().is_none_or(|verify| verify.verified == wanted);
        let echoed = self.echo.as_ref().is_none_or(|echo| echo.right == echo.sent && echo.sent > 0);
        !self.interrupted
            && tally.errors() == 0
            && tally.connected == wanted
            && tally.closed == wanted
            && verified
            && echoed
    }
}

impl Connecting {
    fn new(tally: &Tally, ramp: Nanos) -> Self {
        let seconds = seconds(ramp);
        Self {
            attempted: tally.attempted,
            connected: tally.connected,
            refused: labels(&tally.refused),
            seconds,
            per_second: tally.connected as f64 / seconds.max(1e-9),
            handshake_us: Percentiles::new(&tally.handshake),
        }
    }
}

impl Echoing {
    fn new(pace: Pace, size: usize, text: bool) -> Self {
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
}

impl Memory {
    fn new(before: u64, after: u64, tally: &Tally) -> Self {
        Self {
            resident_before: before,
            resident_ramped: after,
            per_connection: after.saturating_sub(before) / tally.connected.max(1),
        }
    }
}

impl Percentiles {
    fn new(latency: &Latency) -> Self {
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
        writeln!(f, "  layout       {} thread(s){tables}", self.threads)?;
        self.show_connect(f)?;
        let lost = total(&self.hold.lost);
        writeln!(f, "  held         {:.1} s, lost {}", self.hold.seconds, grouped(lost))?;
        show_kinds(f, &self.hold.lost)?;
        if let Some(verify) = &self.verify {
            writeln!(f, "  verified     {} by ping", grouped(verify.verified))?;
            writeln!(f, "  ping         {}", verify.ping_us)?;
        }
        if let Some(echo) = &self.echo {
            write!(f, "{echo}")?;
        }
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
        writeln!(
            f,
            "  connected    {} of {} in {:.2} s, {} per second",
            grouped(connect.connected),
            grouped(self.connections.into()),
            connect.seconds,
            grouped(connect.per_second.round() as u64)
        )?;
        show_kinds(f, &connect.refused)?;
        writeln!(f, "  handshake    {}", connect.handshake_us)
    }
}

impl fmt::Display for Echoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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
            Some(target) => writeln!(f, "  rate         {rate}/s of {}/s", grouped(target))?,
            None => writeln!(f, "  rate         {rate}/s")?,
        }
        writeln!(f, "  latency      {}", self.latency_us)?;
        match &self.send_lag_us {
            Some(lag) => writeln!(f, "  sent late by {lag}"),
            None => Ok(()),
        }
    }
}

fn show_kinds(f: &mut fmt::Formatter<'_>, kinds: &BTreeMap<String, u64>) -> fmt::Result {
    kinds
        .iter()
        .try_for_each(|(kind, count)| writeln!(f, "               {} × {kind}", grouped(*count)))
}

fn labels(kinds: &Kinds) -> BTreeMap<String, u64> {
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
