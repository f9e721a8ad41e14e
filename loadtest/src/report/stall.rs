//! What `stall` adds: what those feel that read, and what became of those that did not.

use std::fmt;

use serde::Serialize;
use serde_json::{Value, json};

use super::{Expected, Summary, broadcast::Broadcasted, grouped, line};
use crate::{
    broadcast::Task,
    tally::{Pick, Tally},
};

/// The part of `stall`. Deliveries and latencies are those of the members that read.
#[derive(Debug, Serialize)]
pub(crate) struct Stalled {
    receive_buffer_bytes: usize,
    stalled: u64,
    closed_by_server: u64,
    open_at_end: u64,
    piled_up: u64,
    trimmed: u64,
    dropped: u64,
    wrong: u64,
    #[serde(flatten)]
    healthy: Broadcasted,
}

impl Stalled {
    /// Before the run.
    pub(crate) fn new(task: &Task, size: usize) -> Self {
        Self {
            receive_buffer_bytes: task.receive_buffer,
            stalled: 0,
            closed_by_server: 0,
            open_at_end: 0,
            piled_up: 0,
            trimmed: 0,
            dropped: 0,
            wrong: 0,
            healthy: Broadcasted::new(task, size),
        }
    }
}

impl Summary for Stalled {
    fn command(&self) -> &'static str {
        "stall"
    }

    fn main_latency(&self) -> Option<Pick> {
        Some(|tally| &tally.rooms.delivery)
    }

    fn main_rate(&self) -> Option<f64> {
        self.healthy.main_rate()
    }

    fn target_rate(&self) -> Option<f64> {
        self.healthy.target_rate()
    }

    fn stages(&self) -> [&'static str; 2] {
        ["publish", "settle"]
    }

    fn fill(&mut self, tally: &Tally, seconds: f64) {
        let counts = &tally.stall;
        self.stalled = counts.stalled;
        self.closed_by_server = counts.closed;
        self.open_at_end = counts.drained;
        self.piled_up = counts.piled_up;
        (self.trimmed, self.dropped) = (counts.trimmed, counts.dropped);
        self.wrong = counts.wrong;
        self.healthy.fill(tally, seconds);
    }

    fn expected(&self, tally: &Tally, connections: u64) -> Expected {
        Expected { made: connections, closed: connections - tally.stall.closed }
    }

    fn is_well(&self, tally: &Tally, connections: u64) -> bool {
        self.healthy.is_well(tally, connections) && tally.stall.wrong == 0
    }

    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (stalled, closed) = (grouped(self.stalled), grouped(self.closed_by_server));
        let (open, piled_up) = (grouped(self.open_at_end), grouped(self.piled_up));
        line(
            f,
            "stalled",
            format_args!("{stalled}: {closed} closed by the server, {open} left open"),
        )?;
        line(f, "piled up", format_args!("{piled_up} messages, read at the end"))?;
        let (trimmed, dropped) = (grouped(self.trimmed), grouped(self.dropped));
        line(f, "dropped", format_args!("{dropped} publishes, for {trimmed} of those left open"))?;
        if self.wrong > 0 {
            let wrong = grouped(self.wrong);
            line(f, "wrong", format_args!("{wrong} of these not whole, again or out of order"))?;
        }
        writeln!(f, "  those that read:")?;
        self.healthy.show(f)
    }

    fn json(&self) -> Value {
        json!(self)
    }
}
