//! The time series of a run: what the threads publish and what `/proc` says, a few times a second.
//!
//! Invariants:
//! - Only the watcher calls this, on the main thread, whose descriptor table nobody else uses: it may
//!   open files while the loops run.
//! - A row is whole or not there: its latencies are those of all threads. A thread that is late makes
//!   the row longer, never wrong.
//! - Memory is bounded: a full series halves its resolution (see [`rows`]).

mod buckets;
pub(crate) mod host;
pub(crate) mod process;
pub(crate) mod rows;

pub(crate) use self::buckets::Buckets;
use self::{
    host::KernelMemory,
    process::{Processes, Usage},
    rows::{Row, Rows},
};
use crate::{
    clock::Nanos,
    shared::{Shared, Snapshot},
    tally::Latency,
};

/// Samples a run.
#[derive(Debug)]
pub(crate) struct Sampler {
    rows: Rows,
    server: Processes,
    kernel_before: Option<KernelMemory>,
    /// The last whole sample, and the latencies up to it.
    last: Sample,
    latencies: Latency,
    /// A sample whose latencies were requested.
    pending: Option<Sample>,
    next: Nanos,
}

/// Everything at one moment, counted since the start.
#[derive(Clone, Copy, Debug, Default)]
struct Sample {
    at: Nanos,
    counts: Snapshot,
    own: Usage,
    server: Option<Usage>,
    kernel: Option<KernelMemory>,
}

impl Sampler {
    /// Samples this process and `server` every `interval`, from now, before anything has started.
    pub(crate) fn new(interval: Nanos, mut server: Processes) -> Self {
        let own = process::own_usage().unwrap_or_default();
        let last = Sample { own, server: server.usage(), ..Sample::default() };
        Self {
            rows: Rows::new(interval),
            server,
            kernel_before: host::kernel_memory(),
            last,
            latencies: Latency::default(),
            pending: None,
            next: interval,
        }
    }

    /// When [`tick`](Self::tick) wants to be called next.
    pub(crate) fn next(&self) -> Nanos {
        self.next
    }

    /// Samples if it is time to.
    pub(crate) fn tick(&mut self, shared: &Shared) {
        self.complete(shared);
        let now = shared.clock.now();
        if now >= self.next && self.pending.is_none() {
            self.begin(shared, now);
        }
        if now >= self.next {
            self.next = now - now % self.rows.interval() + self.rows.interval();
        }
    }

    /// The last sample, after all threads have ended.
    pub(crate) fn finish(mut self, shared: &Shared) -> (Rows, Processes) {
        self.complete(shared);
        self.begin(shared, shared.clock.now());
        self.complete(shared);
        (self.rows, self.server)
    }

    /// The watched server processes.
    pub(crate) fn server(&mut self) -> &mut Processes {
        &mut self.server
    }

    /// The last row.
    pub(crate) fn last(&self) -> Option<&Row> {
        self.rows.last()
    }

    /// How much the kernel's memory has grown since before the run.
    pub(crate) fn kernel_growth(&self) -> Option<KernelMemory> {
        Some(host::kernel_memory()?.growth(self.kernel_before?))
    }

    fn begin(&mut self, shared: &Shared, at: Nanos) {
        shared.request_latencies();
        self.pending = Some(Sample {
            at,
            counts: shared.snapshot(),
            own: process::own_usage().unwrap_or_default(),
            server: self.server.usage(),
            kernel: self.kernel_growth(),
        });
    }

    /// Makes a row of the pending sample once all threads have given their latencies.
    fn complete(&mut self, shared: &Shared) {
        let Some(sample) = self.pending else { return };
        let Some(latencies) = shared.latencies() else { return };
        self.pending = None;
        let interval = latencies.since(&self.latencies);
        self.rows.push(sample.row(&self.last, &interval));
        (self.last, self.latencies) = (sample, latencies);
    }
}

impl Sample {
    /// What happened since `earlier`.
    fn row(&self, earlier: &Self, latency: &Latency) -> Row {
        let (new, old) = (&self.counts, &earlier.counts);
        let server = self.server.map(|usage| match earlier.server {
            Some(before) => usage.since(before),
            None => usage.since(usage),
        });
        Row {
            at: self.at,
            span: self.at - earlier.at,
            open: new.open,
            connected: new.connected - old.connected,
            sent: new.sent - old.sent,
            received: new.received - old.received,
            bytes_in: new.bytes_in - old.bytes_in,
            bytes_out: new.bytes_out - old.bytes_out,
            errors: new.errors - old.errors,
            latency: Buckets::of(latency),
            own: self.own.since(earlier.own),
            server,
            kernel: self.kernel,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clock::MILLI, tally::Tally};

    fn tally(sent: u64, latencies: &[Nanos]) -> Tally {
        let mut tally = Tally { sent, ..Tally::default() };
        latencies.iter().for_each(|latency| tally.answer.record(*latency));
        tally
    }

    #[test]
    fn a_row_has_what_happened_since_the_row_before() {
        let shared = Shared::new(1, Some(|tally| &tally.answer));
        let mut sampler = Sampler::new(1, Processes::none());
        sampler.tick(&shared);
        shared.publish(0, &tally(5, &[1_000]));
        sampler.tick(&shared);
        shared.publish(0, &tally(7, &[1_000, MILLI]));
        shared.retire(0, &tally(9, &[1_000, MILLI, 3 * MILLI]));
        let (rows, _) = sampler.finish(&shared);
        let sent: Vec<_> = rows.iter().map(|row| row.sent).collect();
        assert_eq!(sent, [0, 5, 4]);
        let counts: Vec<_> = rows.iter().map(|row| row.latency.count()).collect();
        assert_eq!(counts.iter().sum::<u64>(), 3);
        assert!(rows.iter().all(|row| row.span > 0));
    }

    #[test]
    fn a_late_thread_delays_its_row() {
        let shared = Shared::new(2, Some(|tally| &tally.answer));
        let mut sampler = Sampler::new(1, Processes::none());
        sampler.tick(&shared);
        shared.publish(0, &tally(1, &[1_000]));
        sampler.tick(&shared);
        assert!(sampler.last().is_none());
        shared.publish(1, &tally(1, &[2_000]));
        sampler.tick(&shared);
        assert_eq!(sampler.last().map(|row| row.latency.count()), Some(2));
    }
}
