//! What is shown while a run lasts: one line that is rewritten on a terminal, a line a second
//! elsewhere.

use std::io::{IsTerminal as _, Write as _, stderr};

use crate::{
    clock::{MILLI, Nanos, SECOND},
    report::{grouped, micros},
    sampler::rows::Row,
    shared::{Setup, Shared, Snapshot},
};

/// How often the line on a terminal is rewritten.
const REWRITE: Nanos = 200 * MILLI;
/// Clears the line that is rewritten.
const CLEAR: &str = "\r\x1b[2K";
/// Cuts what is too long for the terminal: a second line would not be rewritten.
const NO_WRAP: &str = "\x1b[?7l";
/// Ends that.
const WRAP: &str = "\x1b[?7h";

/// Shows the progress of a run on stderr.
#[derive(Debug)]
pub(crate) struct Progress {
    terminal: bool,
    shown_at: Nanos,
    shown: Snapshot,
}

/// What to show beside the counters.
#[derive(Debug)]
pub(crate) struct View<'a> {
    /// Where the run is.
    pub(crate) stage: Stage,
    /// The last row of the time series.
    pub(crate) row: Option<&'a Row>,
    /// Whether a server is watched.
    pub(crate) server: bool,
}

/// A part of the run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stage {
    /// What it is called.
    pub(crate) name: &'static str,
    /// How long it will last yet, if that is known.
    pub(crate) left: Option<Nanos>,
}

impl Progress {
    /// Nothing is shown yet.
    pub(crate) fn new() -> Self {
        Self { terminal: stderr().is_terminal(), shown_at: 0, shown: Snapshot::default() }
    }

    /// Shows a line if it is time for one.
    pub(crate) fn show(&mut self, setup: &Setup, shared: &Shared, view: &View<'_>) {
        let now = shared.clock.now();
        let interval = if self.terminal { REWRITE } else { SECOND };
        let elapsed = now - self.shown_at;
        if elapsed < interval {
            return;
        }
        let snapshot = shared.snapshot();
        let line = line(setup.connections, now, elapsed, &self.shown, &snapshot, view);
        // Progress that cannot be written is not worth failing for.
        let _ = match self.terminal {
            true => write!(stderr(), "{CLEAR}{NO_WRAP}{line}{WRAP}"),
            false => writeln!(stderr(), "{line}"),
        };
        (self.shown_at, self.shown) = (now, snapshot);
    }

    /// Says something that stays.
    pub(crate) fn say(&mut self, what: &str) {
        let clear = if self.terminal { CLEAR } else { "" };
        let _ = writeln!(stderr(), "{clear}loadtest: {what}");
    }

    /// Clears the rewritten line.
    pub(crate) fn end(&mut self) {
        if self.terminal {
            let _ = write!(stderr(), "{CLEAR}");
        }
    }
}

fn line(
    wanted: u32,
    now: Nanos,
    elapsed: Nanos,
    old: &Snapshot,
    new: &Snapshot,
    view: &View<'_>,
) -> String {
    let rate = |old: u64, new: u64| {
        grouped(((new - old) as f64 * SECOND as f64 / elapsed as f64).round() as u64)
    };
    let mut parts = vec![stage(now, &view.stage)];
    let of = if wanted > 0 { format!(" of {}", grouped(wanted.into())) } else { String::new() };
    parts.push(format!("open {}{of}", grouped(new.open)));
    if new.connected > old.connected {
        parts.push(format!("+{}/s", rate(old.connected, new.connected)));
    }
    if new.received > 0 || new.sent > 0 {
        parts.push(format!("sent {}/s", rate(old.sent, new.sent)));
        parts.push(format!("received {}/s", rate(old.received, new.received)));
    }
    if let Some(p99) = view.row.and_then(|row| row.latency.micros(0.99)) {
        parts.push(format!("p99 {}", micros(p99)));
    }
    if new.verified > 0 {
        parts.push(format!("verified {}", grouped(new.verified)));
    }
    if new.closed > 0 {
        parts.push(format!("closed {}", grouped(new.closed)));
    }
    parts.push(format!("errors {}", grouped(new.errors)));
    parts.extend(view.row.filter(|_| view.server).map(server));
    parts.join(", ")
}

fn stage(now: Nanos, stage: &Stage) -> String {
    let seconds = now as f64 / SECOND as f64;
    match stage.left {
        Some(left) => {
            let left = left as f64 / SECOND as f64;
            format!("{seconds:6.1}s  {} ({left:.0} s left)", stage.name)
        }
        None => format!("{seconds:6.1}s  {}", stage.name),
    }
}

fn server(row: &Row) -> String {
    match row.server {
        Some(usage) => format!("server {} MiB", grouped(usage.rss >> 20)),
        None => "server gone".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        sampler::{Buckets, process::Usage},
        tally::Latency,
    };

    #[test]
    fn a_line_says_rates() {
        let old = Snapshot { connected: 100, sent: 1000, ..Snapshot::default() };
        let new = Snapshot { connected: 600, open: 600, sent: 3000, errors: 2, ..old };
        let stage = Stage { name: "ramp", left: Some(3 * SECOND) };
        let view = View { stage, row: None, server: false };
        let line = line(1000, 2 * SECOND, SECOND / 2, &old, &new, &view);
        assert_eq!(
            line,
            "   2.0s  ramp (3 s left), open 600 of 1,000, +1,000/s, sent 4,000/s, received 0/s, \
             errors 2"
        );
    }

    #[test]
    fn a_line_says_what_the_last_interval_was_like() {
        let mut latency = Latency::default();
        latency.record(1_500_000);
        let server = Some(Usage { rss: 30 << 20, ..Usage::default() });
        let row = Row { latency: Buckets::of(&latency), server, ..Row::default() };
        let stage = Stage { name: "verify", left: None };
        let none = Snapshot::default();
        let view = View { stage, row: Some(&row), server: true };
        let shown = line(5, SECOND, SECOND, &none, &none, &view);
        assert_eq!(shown, "   1.0s  verify, open 0 of 5, p99 1.50 ms, errors 0, server 30 MiB");
        let gone = Row { server: None, ..row.clone() };
        let view = View { row: Some(&gone), ..view };
        assert!(line(5, SECOND, SECOND, &none, &none, &view).ends_with("server gone"));
    }
}
