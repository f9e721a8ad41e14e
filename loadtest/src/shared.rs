//! What the threads of a run share while it lasts: counters to show, latencies so far, and the two
//! points where they wait for each other (tables parted; ramp over).
//!
//! Nothing is locked where messages pass: counters are stored once a turn, and latencies are copied
//! out when the watcher has asked, a few times a second.

use std::{
    net::IpAddr,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::*},
    },
    time::Duration,
};

use crate::{
    clock::{Clock, MILLI, Nanos, due},
    lanes::Lanes,
    plan::Plan,
    tally::{Latency, Pick, Tally},
};

/// From the end of the ramp to the start of the work: enough for every thread to notice.
const HEAD_START: Nanos = 100 * MILLI;
/// The request that a thread which has ended has answered, as all others.
const ENDED: u32 = u32::MAX;

/// What stays the same for the whole run.
#[derive(Debug)]
pub(crate) struct Setup {
    /// What connections speak, and where they go.
    pub(crate) lanes: Lanes,
    /// Threads, tables, source addresses.
    pub(crate) plan: Plan,
    /// Connections in all.
    pub(crate) connections: u32,
    /// Connects per second; 0: as fast as possible.
    pub(crate) connect_rate: u64,
    /// The most handshakes under way at once, in all.
    pub(crate) max_connecting: u32,
    /// For handshake, pong, last answers and close, each.
    pub(crate) timeout: Duration,
    /// How long to hold, or to send.
    pub(crate) duration: Duration,
    /// The read buffer of a connection, in bytes.
    pub(crate) read_buffer: usize,
    /// How often the time series gets a row.
    pub(crate) sample_interval: Duration,
    /// Processes of the server, to be watched.
    pub(crate) server_pids: Vec<u32>,
}

impl Setup {
    /// When connection number `index` is due.
    pub(crate) fn connect_due(&self, index: u32) -> Nanos {
        due(u64::from(index), self.connect_rate)
    }

    /// Where connection number `index` leaves from.
    pub(crate) fn source(&self, index: u32) -> Option<IpAddr> {
        self.plan.source(index)
    }
}

/// Counters and meeting points.
#[derive(Debug)]
pub(crate) struct Shared {
    /// The time line of all threads.
    pub(crate) clock: Clock,
    /// Set to end the run early and in order.
    pub(crate) stop: AtomicBool,
    ramping: AtomicU32,
    ramped_at: AtomicU64,
    work_began: AtomicU64,
    overruns: AtomicBool,
    worked_until: AtomicU64,
    /// Threads that have connections, or may have some again.
    inhabited: AtomicU32,
    /// The number of the watcher's latest request for latencies.
    request: AtomicU32,
    /// Which latency it wants.
    main: Option<Pick>,
    live: Vec<Live>,
    latencies: Vec<Mutex<Latency>>,
}

/// A thread's counters, to be shown while it runs; on cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Live {
    attempted: AtomicU64,
    connected: AtomicU64,
    open: AtomicU64,
    verified: AtomicU64,
    closed: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
    errors: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    /// The latest request for latencies that this thread has answered.
    answered: AtomicU32,
}

/// The sum over all threads at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Snapshot {
    /// Connections begun.
    pub(crate) attempted: u64,
    /// Handshakes completed.
    pub(crate) connected: u64,
    /// Connections open.
    pub(crate) open: u64,
    /// Pings answered.
    pub(crate) verified: u64,
    /// Closes answered.
    pub(crate) closed: u64,
    /// Messages sent.
    pub(crate) sent: u64,
    /// Messages received.
    pub(crate) received: u64,
    /// Things that went wrong.
    pub(crate) errors: u64,
    /// Bytes read.
    pub(crate) bytes_in: u64,
    /// Bytes written.
    pub(crate) bytes_out: u64,
}

impl Shared {
    /// For `threads` threads, from now; `main` is the latency that is shown while they run.
    pub(crate) fn new(threads: u32, main: Option<Pick>) -> Self {
        Self {
            clock: Clock::start(),
            stop: AtomicBool::new(false),
            ramping: AtomicU32::new(threads),
            ramped_at: AtomicU64::new(Nanos::MAX),
            work_began: AtomicU64::new(Nanos::MAX),
            overruns: AtomicBool::new(false),
            worked_until: AtomicU64::new(Nanos::MAX),
            inhabited: AtomicU32::new(threads),
            request: AtomicU32::new(0),
            main,
            live: (0..threads).map(|_| Live::default()).collect(),
            latencies: (0..threads).map(|_| Mutex::default()).collect(),
        }
    }

    /// A thread has opened all it will; the last one to say so starts the work.
    pub(crate) fn ramped(&self) {
        if self.ramping.fetch_sub(1, AcqRel) == 1 {
            self.ramped_at.store(self.clock.now(), Release);
        }
    }

    /// How many threads are still in their ramp, at least one.
    pub(crate) fn ramping(&self) -> u32 {
        self.ramping.load(Relaxed).max(1)
    }

    /// The work proper begins at `at`, for which the command has prepared something since
    /// [`Self::work_from`].
    pub(crate) fn work_began(&self, at: Nanos) {
        self.work_began.fetch_min(at, Relaxed);
    }

    /// When the work proper begins, of a command that prepares something first; once that is known.
    pub(crate) fn work_began_at(&self) -> Option<Nanos> {
        Some(self.work_began.load(Relaxed)).filter(|at| *at != Nanos::MAX)
    }

    /// The work goes on beyond its time, until it is done.
    pub(crate) fn overrun(&self) {
        self.overruns.store(true, Relaxed);
    }

    /// Whether the work goes on beyond its time.
    pub(crate) fn overruns(&self) -> bool {
        self.overruns.load(Relaxed)
    }

    /// A thread has no connection left and will have none again; each says so once.
    pub(crate) fn emptied(&self) {
        self.inhabited.fetch_sub(1, AcqRel);
    }

    /// Whether no thread has a connection left.
    pub(crate) fn deserted(&self) -> bool {
        self.inhabited.load(Acquire) == 0
    }

    /// A thread has ended its work, at `now`.
    pub(crate) fn worked(&self, now: Nanos) {
        self.worked_until.fetch_min(now, Relaxed);
    }

    /// When the first thread ended its work, if one has.
    pub(crate) fn worked_until(&self) -> Option<Nanos> {
        Some(self.worked_until.load(Relaxed)).filter(|at| *at != Nanos::MAX)
    }

    /// When the last thread ended its ramp, if it has.
    pub(crate) fn ramped_at(&self) -> Option<Nanos> {
        Some(self.ramped_at.load(Acquire)).filter(|at| *at != Nanos::MAX)
    }

    /// When the work starts, on all threads; known once the ramp is over.
    pub(crate) fn work_from(&self) -> Option<Nanos> {
        self.ramped_at().map(|at| at + HEAD_START)
    }

    /// Whether the run should end early.
    pub(crate) fn stopping(&self) -> bool {
        self.stop.load(Relaxed)
    }

    /// Shows a thread's counters to the others.
    pub(crate) fn publish(&self, thread: u32, tally: &Tally) {
        let live = &self.live[thread as usize];
        live.attempted.store(tally.attempted, Relaxed);
        live.connected.store(tally.connected, Relaxed);
        live.open.store(tally.open, Relaxed);
        live.verified.store(tally.verified, Relaxed);
        live.closed.store(tally.closed, Relaxed);
        live.sent.store(tally.sent, Relaxed);
        live.received.store(tally.received, Relaxed);
        live.errors.store(tally.errors(), Relaxed);
        live.bytes_in.store(tally.bytes_in, Relaxed);
        live.bytes_out.store(tally.bytes_out, Relaxed);
        let request = self.request.load(Relaxed);
        if live.answered.load(Relaxed) != request {
            self.hand_over(thread, tally, request);
        }
    }

    /// The last word of a thread that has ended: it answers no further request.
    pub(crate) fn retire(&self, thread: u32, tally: &Tally) {
        self.publish(thread, tally);
        self.hand_over(thread, tally, ENDED);
    }

    #[cold]
    fn hand_over(&self, thread: u32, tally: &Tally, request: u32) {
        if let Some(main) = self.main {
            *self.latency(thread as usize) = main(tally).clone();
        }
        self.live[thread as usize].answered.store(request, Release);
    }

    /// Asks all threads for their latencies, which they give at their next turn.
    pub(crate) fn request_latencies(&self) {
        let next = self.request.load(Relaxed).wrapping_add(1) % ENDED;
        self.request.store(next, Relaxed);
    }

    /// The latencies of all threads since the start, once all have given them.
    pub(crate) fn latencies(&self) -> Option<Latency> {
        let request = self.request.load(Relaxed);
        let given = |live: &Live| [request, ENDED].contains(&live.answered.load(Acquire));
        self.live.iter().all(given).then(|| {
            let mut sum = Latency::default();
            for thread in 0..self.latencies.len() {
                sum.merge(&self.latency(thread));
            }
            sum
        })
    }

    fn latency(&self, thread: usize) -> impl std::ops::DerefMut<Target = Latency> {
        self.latencies[thread].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The sum over all threads.
    pub(crate) fn snapshot(&self) -> Snapshot {
        self.live.iter().fold(Snapshot::default(), |sum, live| Snapshot {
            attempted: sum.attempted + live.attempted.load(Relaxed),
            connected: sum.connected + live.connected.load(Relaxed),
            open: sum.open + live.open.load(Relaxed),
            verified: sum.verified + live.verified.load(Relaxed),
            closed: sum.closed + live.closed.load(Relaxed),
            sent: sum.sent + live.sent.load(Relaxed),
            received: sum.received + live.received.load(Relaxed),
            errors: sum.errors + live.errors.load(Relaxed),
            bytes_in: sum.bytes_in + live.bytes_in.load(Relaxed),
            bytes_out: sum.bytes_out + live.bytes_out.load(Relaxed),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_thread_starts_the_work() {
        let shared = Shared::new(2, None);
        shared.ramped();
        assert_eq!(shared.work_from(), None);
        shared.ramped();
        assert!(shared.work_from() > shared.ramped_at());
    }

    #[test]
    fn a_run_is_deserted_when_all_threads_are_empty() {
        let shared = Shared::new(2, None);
        shared.emptied();
        assert!(!shared.deserted());
        shared.emptied();
        assert!(shared.deserted());
    }

    #[test]
    fn a_snapshot_sums_the_threads() {
        let shared = Shared::new(2, None);
        shared.publish(0, &Tally { sent: 1, ..Tally::default() });
        shared.publish(1, &Tally { sent: 2, open: 4, unsent: 3, ..Tally::default() });
        let sum = shared.snapshot();
        assert_eq!((sum.sent, sum.open, sum.errors), (3, 4, 3));
    }

    #[test]
    fn latencies_are_there_once_all_threads_have_given_theirs() {
        let shared = Shared::new(2, Some(|tally| &tally.answer));
        let mut tally = Tally::default();
        tally.answer.record(1_000);
        shared.request_latencies();
        shared.publish(0, &tally);
        assert!(shared.latencies().is_none());
        shared.publish(1, &tally);
        assert_eq!(shared.latencies().map(|sum| sum.count()), Some(2));
        // Not asked again, nothing is handed over.
        tally.answer.record(1_000);
        shared.publish(0, &tally);
        assert_eq!(shared.latencies().map(|sum| sum.count()), Some(2));
    }

    #[test]
    fn a_thread_that_has_ended_has_answered_for_good() {
        let shared = Shared::new(1, Some(|tally| &tally.answer));
        shared.request_latencies();
        let mut tally = Tally::default();
        tally.answer.record(1_000);
        shared.retire(0, &tally);
        shared.request_latencies();
        assert_eq!(shared.latencies().map(|sum| sum.count()), Some(1));
    }
}
