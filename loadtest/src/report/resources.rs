//! What the run cost: the server's memory and CPU time, the kernel's memory.

use std::fmt;

use serde::Serialize;

use super::{grouped, line};
use crate::{run::Outcome, sampler::rows::Row};

/// The watched server. The field names are those of the JSON; sizes are in bytes.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Server {
    pids: Vec<u32>,
    /// Those of them that ended before the run did.
    ended: Vec<u32>,
    cpu_seconds: f64,
    /// During the work only: neither ramp nor close.
    cpu_seconds_work: f64,
    cpu_us_per_message: Option<f64>,
    rss_before: Option<u64>,
    rss_ramped: Option<u64>,
    rss_peak: u64,
    rss_end: Option<u64>,
    bytes_per_connection: Option<u64>,
}

/// Memory of the kernel on this host, as growth since before the run, in bytes. With the server on
/// the same host it holds both ends.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Kernel {
    ramped: Option<u64>,
    peak: u64,
    bytes_per_connection: Option<u64>,
}

impl Server {
    /// Before the run: every number it will have, so that conditions can be checked.
    pub(crate) fn expected(has_messages: bool) -> Self {
        let number = Some(0);
        Self {
            cpu_us_per_message: has_messages.then_some(0.0),
            rss_before: number,
            rss_ramped: number,
            rss_end: number,
            bytes_per_connection: number,
            ..Self::default()
        }
    }

    /// Of a run whose work moved `messages`.
    pub(crate) fn new(outcome: &Outcome, messages: Option<f64>) -> Self {
        let marks = &outcome.marks;
        let seconds = |nanos: u64| nanos as f64 / 1e9;
        let work = marks.cpu_work_from.zip(marks.cpu_work_until);
        let work = work.map_or(0.0, |(from, until)| seconds(until.saturating_sub(from)));
        let grown = marks.server_before.zip(marks.server_ramped);
        let grown = grown.map(|(before, ramped)| ramped.saturating_sub(before));
        Self {
            pids: outcome.server.pids(),
            ended: outcome.server.ended().to_vec(),
            cpu_seconds: seconds(marks.cpu_end.saturating_sub(marks.cpu_before)),
            cpu_seconds_work: work,
            cpu_us_per_message: messages
                .filter(|messages| *messages >= 1.0)
                .map(|messages| work * 1e6 / messages),
            rss_before: marks.server_before,
            rss_ramped: marks.server_ramped,
            rss_peak: outcome.server.peak(),
            rss_end: marks.server_end,
            bytes_per_connection: each(grown, outcome.tally.ramped),
        }
    }

    /// Its lines of the text.
    pub(crate) fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let each = match self.cpu_us_per_message {
            Some(micros) => format!(", {micros:.2} µs per message"),
            None => String::new(),
        };
        let (all, work) = (self.cpu_seconds, self.cpu_seconds_work);
        line(f, "server CPU", format_args!("{all:.2} s, {work:.2} s of it in the work{each}"))?;
        let mib = |bytes: Option<u64>| match bytes {
            Some(bytes) => format!("{:.1} MiB", bytes as f64 / 1024.0 / 1024.0),
            None => "?".to_owned(),
        };
        let each = self.bytes_per_connection.map_or("?".to_owned(), grouped);
        let (before, ramped) = (mib(self.rss_before), mib(self.rss_ramped));
        let (peak, end) = (mib(Some(self.rss_peak)), mib(self.rss_end));
        line(
            f,
            "server RSS",
            format_args!(
                "{before} before, {ramped} ramped ({each} B per connection), {peak} peak, {end} end"
            ),
        )?;
        self.ended
            .iter()
            .try_for_each(|pid| writeln!(f, "               process {pid} ended during the run"))
    }
}

impl Kernel {
    /// Before the run: every number it will have, so that conditions can be checked.
    pub(crate) fn expected() -> Self {
        Self { ramped: Some(0), peak: 0, bytes_per_connection: Some(0) }
    }

    /// Of a run.
    pub(crate) fn new(outcome: &Outcome) -> Self {
        let total = |row: &Row| row.kernel.map(|kernel| kernel.total());
        let ramped = outcome.marks.kernel_ramped.map(|kernel| kernel.total());
        Self {
            ramped,
            peak: outcome.rows.iter().filter_map(total).chain(ramped).max().unwrap_or(0),
            bytes_per_connection: each(ramped, outcome.tally.ramped),
        }
    }

    /// Its line of the text.
    pub(crate) fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(ramped) = self.ramped else { return Ok(()) };
        let each = self.bytes_per_connection.map_or("?".to_owned(), grouped);
        let (ramped, peak) = (ramped >> 20, self.peak >> 20);
        line(
            f,
            "kernel here",
            format_args!("+{ramped} MiB ramped ({each} B per connection), +{peak} MiB peak"),
        )
    }
}

fn each(bytes: Option<u64>, connections: u64) -> Option<u64> {
    bytes.filter(|_| connections > 0).map(|bytes| bytes / connections)
}
