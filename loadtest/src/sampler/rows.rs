//! The rows of the time series. When there are too many, pairs become one and the interval doubles:
//! a run of any length fits the same memory, and no row is an average of averages.

use super::{Buckets, host::KernelMemory, process::Usage};
use crate::clock::Nanos;

/// The most rows.
const MAX_ROWS: usize = 4_000;

/// What happened in one interval, and how things stood at its end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Row {
    /// The end, since the start of the run.
    pub(crate) at: Nanos,
    /// The length.
    pub(crate) span: Nanos,
    /// Connections open at the end.
    pub(crate) open: u64,
    /// Handshakes completed.
    pub(crate) connected: u64,
    /// Messages sent.
    pub(crate) sent: u64,
    /// Messages received.
    pub(crate) received: u64,
    /// Bytes read.
    pub(crate) bytes_in: u64,
    /// Bytes written.
    pub(crate) bytes_out: u64,
    /// Things that went wrong.
    pub(crate) errors: u64,
    /// Latencies of the command's main kind.
    pub(crate) latency: Buckets,
    /// This process: memory at the end, CPU in the interval.
    pub(crate) own: Usage,
    /// The server's processes likewise, while they live.
    pub(crate) server: Option<Usage>,
    /// How much more memory the kernel uses than before the run.
    pub(crate) kernel: Option<KernelMemory>,
}

/// A bounded number of rows.
#[derive(Debug)]
pub(crate) struct Rows {
    interval: Nanos,
    rows: Vec<Row>,
}

impl Row {
    /// Per second, of a count of this row.
    pub(crate) fn per_second(&self, count: u64) -> f64 {
        count as f64 * 1e9 / self.span.max(1) as f64
    }

    /// This row and the next as one.
    fn with(&self, next: &Self) -> Self {
        Self {
            at: next.at,
            span: self.span + next.span,
            open: next.open,
            connected: self.connected + next.connected,
            sent: self.sent + next.sent,
            received: self.received + next.received,
            bytes_in: self.bytes_in + next.bytes_in,
            bytes_out: self.bytes_out + next.bytes_out,
            errors: self.errors + next.errors,
            latency: self.latency.merged(&next.latency),
            own: self.own.and(next.own),
            server: match (self.server, next.server) {
                (Some(this), Some(next)) => Some(this.and(next)),
                (this, next) => next.or(this),
            },
            kernel: next.kernel,
        }
    }
}

impl Rows {
    /// None yet, one each `interval`.
    pub(crate) fn new(interval: Nanos) -> Self {
        Self { interval: interval.max(1), rows: Vec::new() }
    }

    /// The interval now.
    pub(crate) fn interval(&self) -> Nanos {
        self.interval
    }

    /// Adds a row, making room if need be.
    pub(crate) fn push(&mut self, row: Row) {
        if self.rows.len() == MAX_ROWS {
            self.rows = self.rows.chunks(2).map(|pair| pair[0].with(&pair[1])).collect();
            self.interval *= 2;
        }
        self.rows.push(row);
    }

    /// The last row.
    pub(crate) fn last(&self) -> Option<&Row> {
        self.rows.last()
    }

    /// All rows.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_rows_become_half_as_many_and_lose_nothing() {
        let mut rows = Rows::new(10);
        for n in 1..=MAX_ROWS as u64 + 1 {
            rows.push(Row { at: n * 10, span: 10, sent: n, open: n, ..Row::default() });
        }
        assert_eq!((rows.iter().count(), rows.interval()), (MAX_ROWS / 2 + 1, 20));
        let first = rows.iter().next().unwrap();
        assert_eq!((first.at, first.span, first.sent, first.open), (20, 20, 3, 2));
        let sent: u64 = rows.iter().map(|row| row.sent).sum();
        assert_eq!(sent, (1..=MAX_ROWS as u64 + 1).sum::<u64>());
    }
}
