//! Latencies by stage: recorded on the data plane, handed to whoever reports.
//!
//! Each thread has a [`StageRecorder`] and with it a [`StageCell`]. A thread owns two sets of
//! histograms. One is in use; the other lies in the cell, where the reporter empties it. Handing
//! over is moving a `Box`: before it sleeps a thread leaves the set it used in the cell, and the
//! first record afterwards takes one back; a thread that does not sleep is asked by a flag and
//! changes sets between two turns. What was recorded is thus always in exactly one place, and
//! nothing is added up, cleared or allocated on the data plane.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::{Counter, Histogram};

/// Shortest duration that is told apart, µs. A shorter one is recorded as this.
pub const STAGE_MIN_US: u64 = 1;
/// Longest duration that is told apart, µs. A longer one is recorded as this, and counted.
pub const STAGE_MAX_US: u64 = 60_000_000;
/// Significant decimal digits: recorded values are right to 1 %.
pub const STAGE_DIGITS: u8 = 2;

/// How often [`StageCollector::collect_within`] looks whether every thread has answered.
const POLL: Duration = Duration::from_millis(1);

/// A part of the way of a connection or message whose duration is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Stage {
    /// From the socket's accept to the upgrade's answer.
    AcceptToUpgraded,
    /// From the read to the router: the wait in the shard's queue.
    ReadToRouted,
    /// From the router's send to the write.
    RoutedToWritten,
    /// From the read to the write of its answer.
    ReadToWritten,
    /// One turn of an event loop, without its sleep.
    LoopTurn,
}

impl Stage {
    /// Every stage, in the order of its index.
    pub const ALL: [Self; 5] = [
        Self::AcceptToUpgraded,
        Self::ReadToRouted,
        Self::RoutedToWritten,
        Self::ReadToWritten,
        Self::LoopTurn,
    ];

    /// The name that statistics and logs use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AcceptToUpgraded => "accept_upgraded",
            Self::ReadToRouted => "read_routed",
            Self::RoutedToWritten => "routed_written",
            Self::ReadToWritten => "read_written",
            Self::LoopTurn => "loop_turn",
        }
    }
}

/// Records the durations of one thread.
///
/// What is still held at the thread's end is handed over when this is dropped.
#[derive(Debug)]
pub struct StageRecorder {
    /// The set in use; `None` between a hand-over and the next record.
    active: Option<Box<ThreadSet>>,
    cell: Arc<StageCell>,
}

impl StageRecorder {
    /// A recorder with empty histograms. Its [`cell`](Self::cell) goes to the reporter.
    #[must_use]
    pub fn new() -> Self {
        Self { active: Some(Box::new(ThreadSet::new())), cell: Arc::new(StageCell::new()) }
    }

    /// Where the reporter finds what is handed over.
    #[must_use]
    pub fn cell(&self) -> Arc<StageCell> {
        Arc::clone(&self.cell)
    }

    /// Records that `count` things each took `elapsed`.
    ///
    /// Takes a lock only once after each hand-over.
    #[inline]
    pub fn record(&mut self, stage: Stage, elapsed: Duration, count: u64) {
        match &mut self.active {
            Some(set) => set.record(stage, elapsed, count),
            None => self.resume().record(stage, elapsed, count),
        }
    }

    /// Hands over if the reporter has asked. To be called once per turn.
    #[inline]
    pub fn publish_if_wanted(&mut self) {
        if self.cell.wanted.load(Relaxed) {
            self.hand_over();
        }
    }

    /// Hands over. To be called before the thread sleeps, so that the reporter need not wait for it.
    ///
    /// Two uncontended lock operations per sleep after which something is recorded; none for
    /// a thread that wakes and finds nothing to do.
    #[inline]
    pub fn publish_before_sleep(&mut self) {
        if self.active.is_some() {
            self.hand_over();
        }
    }

    #[cold]
    #[inline(never)]
    fn resume(&mut self) -> &mut ThreadSet {
        let set = self.cell.lock().take();
        self.active.insert(set)
    }

    fn hand_over(&mut self) {
        let mut idle = self.cell.lock();
        if let Some(set) = self.active.take() {
            idle.put(set);
        }
        self.cell.wanted.store(false, Relaxed);
    }
}

impl Default for StageRecorder {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for StageRecorder {
    fn drop(&mut self) {
        self.hand_over();
    }
}

/// What one thread's recorder and the reporter share.
#[derive(Debug)]
pub struct StageCell {
    /// The reporter waits for this thread's set.
    wanted: AtomicBool,
    idle: Mutex<IdleSets>,
}

impl StageCell {
    fn new() -> Self {
        let mut idle = IdleSets { sets: Vec::with_capacity(2) };
        idle.put(Box::new(ThreadSet::new()));
        Self { wanted: AtomicBool::new(false), idle: Mutex::new(idle) }
    }

    fn lock(&self) -> MutexGuard<'_, IdleSets> {
        // Whoever panicked holding it did so between moves of whole sets.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the thread for its set, unless all it has is here.
    fn request(&self) {
        let idle = self.lock();
        self.wanted.store(!idle.is_complete(), Relaxed);
    }
}

/// The sets of a thread that it is not using: one, or both while it sleeps.
#[derive(Debug)]
struct IdleSets {
    #[expect(clippy::vec_box, reason = "sets change hands under the lock: by pointer")]
    sets: Vec<Box<ThreadSet>>,
}

impl IdleSets {
    fn put(&mut self, set: Box<ThreadSet>) {
        debug_assert!(self.sets.len() < 2, "a thread has two sets");
        self.sets.push(set);
    }

    /// A set to record in: an empty one if there is one, so that the other awaits the reporter.
    fn take(&mut self) -> Box<ThreadSet> {
        let empty = self.sets.iter().position(|set| set.is_empty());
        let last = self.sets.len() - 1;
        self.sets.swap_remove(empty.unwrap_or(last))
    }

    fn is_complete(&self) -> bool {
        self.sets.len() == 2
    }

    /// Puts the empty `spare` in the place of a set with records, which it returns.
    fn exchange(&mut self, spare: &mut Box<ThreadSet>) -> bool {
        let Some(set) = self.sets.iter_mut().find(|set| !set.is_empty()) else { return false };
        std::mem::swap(set, spare);
        true
    }
}

/// Gathers what threads recorded: since the start, and since the last interval's end.
///
/// The counts of a thread's histogram are 32 bits wide. Collect at least every few minutes, whether
/// or not anybody reads the result, and they never come near their end.
#[derive(Debug)]
pub struct StageCollector {
    cells: Vec<Arc<StageCell>>,
    spare: Box<ThreadSet>,
    interval: StageHistograms,
    total: StageHistograms,
}

impl StageCollector {
    /// A collector for the recorders that these cells belong to.
    #[must_use]
    pub fn new(cells: Vec<Arc<StageCell>>) -> Self {
        Self {
            cells,
            spare: Box::new(ThreadSet::new()),
            interval: StageHistograms::new(),
            total: StageHistograms::new(),
        }
    }

    /// Asks every thread that is awake to hand over at the end of its turn.
    pub fn request(&self) {
        self.cells.iter().for_each(|cell| cell.request());
    }

    /// How many threads have been asked and have not yet answered.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.cells.iter().filter(|cell| cell.wanted.load(Relaxed)).count()
    }

    /// Takes in what has been handed over.
    pub fn collect(&mut self) {
        for cell in &self.cells {
            // The lock is held for the exchange only, so no thread waits for the adding up.
            while cell.lock().exchange(&mut self.spare) {
                self.interval.add(&self.spare);
                self.total.add(&self.spare);
                self.spare.clear();
            }
        }
    }

    /// Asks, waits up to `patience` for the answers, and takes in what has been handed over.
    ///
    /// Returns how many threads did not answer: they are in the midst of a long turn or handler, and
    /// what they recorded comes with a later call.
    pub fn collect_within(&mut self, patience: Duration) -> usize {
        let start = Instant::now();
        self.request();
        while self.outstanding() > 0 && start.elapsed() < patience {
            thread::sleep(POLL.min(patience));
        }
        self.collect();
        self.outstanding()
    }

    /// What was collected since the last [`end_interval`](Self::end_interval).
    #[must_use]
    pub fn interval(&self) -> &StageHistograms {
        &self.interval
    }

    /// Begins a new interval.
    pub fn end_interval(&mut self) {
        self.interval.clear();
    }

    /// What was collected since the start.
    #[must_use]
    pub fn total(&self) -> &StageHistograms {
        &self.total
    }
}

/// One histogram of microseconds per stage, with 64-bit counts.
#[derive(Clone, Debug)]
pub struct StageHistograms(Set<u64>);

impl StageHistograms {
    /// Empty histograms.
    #[must_use]
    pub fn new() -> Self {
        Self(Set::new())
    }

    /// The durations of `stage`, in µs.
    #[must_use]
    pub fn get(&self, stage: Stage) -> &Histogram<u64> {
        &self.0.histograms[stage as usize]
    }

    /// How many durations of `stage` were longer than [`STAGE_MAX_US`] and were recorded as that.
    #[must_use]
    pub fn clamped(&self, stage: Stage) -> u64 {
        self.0.clamped[stage as usize]
    }

    /// Whether nothing was recorded.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn add(&mut self, other: &ThreadSet) {
        for (to, from) in self.0.histograms.iter_mut().zip(&other.0.histograms) {
            // By bins, not by the total: the total goes on when a 32-bit bin is at its end, and
            // quantiles of a histogram whose total is not the sum of its bins are wrong.
            for bin in from.iter_recorded().take_while(|_| !from.is_empty()) {
                to.saturating_record_n(bin.value_iterated_to(), u64::from(bin.count_at_value()));
            }
        }
        for (to, from) in self.0.clamped.iter_mut().zip(other.0.clamped) {
            *to = to.saturating_add(from);
        }
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}

impl Default for StageHistograms {
    fn default() -> Self {
        Self::new()
    }
}

/// What a thread records in: about 10 KB per stage.
#[derive(Debug)]
struct ThreadSet(Set<u32>);

impl ThreadSet {
    fn new() -> Self {
        Self(Set::new())
    }

    #[inline]
    fn record(&mut self, stage: Stage, elapsed: Duration, count: u64) {
        if count == 0 {
            return;
        }
        let us = micros(elapsed);
        if us > STAGE_MAX_US {
            let clamped = &mut self.0.clamped[stage as usize];
            *clamped = clamped.saturating_add(count);
        }
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.0.histograms[stage as usize]
            .saturating_record_n(us.clamp(STAGE_MIN_US, STAGE_MAX_US), count);
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}

#[derive(Clone)]
struct Set<C: Counter> {
    histograms: [Histogram<C>; Stage::ALL.len()],
    clamped: [u64; Stage::ALL.len()],
}

impl<C: Counter> Set<C> {
    fn new() -> Self {
        let histogram = || {
            Histogram::new_with_bounds(STAGE_MIN_US, STAGE_MAX_US, STAGE_DIGITS)
                .expect("the bounds are constants in range")
        };
        Self { histograms: std::array::from_fn(|_| histogram()), clamped: Default::default() }
    }

    fn is_empty(&self) -> bool {
        self.histograms.iter().all(Histogram::is_empty)
    }

    fn clear(&mut self) {
        self.histograms.iter_mut().filter(|h| !h.is_empty()).for_each(Histogram::reset);
        self.clamped = Default::default();
    }
}

impl<C: Counter> fmt::Debug for Set<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = self.histograms.iter().map(Histogram::len);
        f.debug_map().entries(Stage::ALL.iter().map(|s| s.name()).zip(counts)).finish()
    }
}

/// Whole microseconds; what `Duration::as_micros` says, without its 128-bit arithmetic.
#[inline]
fn micros(elapsed: Duration) -> u64 {
    elapsed.as_secs().saturating_mul(1_000_000).saturating_add(u64::from(elapsed.subsec_micros()))
}

#[cfg(test)]
#[path = "stages_tests.rs"]
mod tests;
