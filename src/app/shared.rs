//! What all threads of a gateway see.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{
    AtomicBool, AtomicU64, AtomicUsize,
    Ordering::{Acquire, Relaxed, Release, SeqCst},
};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::snapshot::Snapshot;
use crate::connection::Tick;
use crate::limits::{TICK_MS, WORK_ON_ITS_WAY_MAX};
use crate::public_id::PublicIds;
use crate::quota::{Moment, SharedLevel};
use crate::routing::Permits;
use crate::telemetry::memory::MemoryGauge;
use crate::worker::{Alarm, BlockingPool, Lanes};

/// How many connections a loop has and may have, readable by the other loops.
#[derive(Debug, Default)]
pub struct Load {
    held: AtomicUsize,
}

impl Load {
    /// Connections held or on their way to the loop.
    #[must_use]
    pub fn get(&self) -> usize {
        self.held.load(Relaxed)
    }

    /// Takes a place, unless `capacity` are taken.
    #[must_use]
    pub fn reserve(&self, capacity: usize) -> bool {
        let taken = self.held.fetch_add(1, Relaxed);
        if taken >= capacity {
            self.release();
            return false;
        }
        true
    }

    /// Gives a place back.
    pub fn release(&self) {
        let before = self.held.fetch_sub(1, Relaxed);
        debug_assert!(before > 0, "released more places than were taken");
    }
}

/// What all threads of a gateway see.
#[derive(Debug)]
pub struct Shared {
    /// What clients see of ids.
    pub ids: PublicIds,
    /// The ceiling's count.
    pub memory: Arc<MemoryGauge>,
    /// The zero of ticks and of uptime.
    pub started_at: Instant,
    /// Per loop.
    pub loads: Vec<Load>,
    /// Connections held by all loops together.
    pub total: Load,
    /// What is used of the bandwidth that nobody is sure of.
    pub bandwidth: SharedLevel,
    /// Connections of endpoints that have a maximum, by path.
    places: Mutex<HashMap<Box<str>, Arc<Load>>>,
    lanes: Lanes,
    alarms: Vec<Arc<Alarm>>,
    snapshot: Mutex<Arc<Snapshot>>,
    snapshot_version: AtomicU64,
    hasher: RandomState,
    late_answers: AtomicU64,
    draining: AtomicBool,
    forced: AtomicBool,
    failed: AtomicBool,
    loops_busy: Mutex<usize>,
    loop_done: Condvar,
    released: AtomicBool,
    /// Work of other threads that may be on its way to shards.
    pub(crate) permits: Arc<Permits>,
    blocking: OnceLock<BlockingPool>,
    workers_stop: AtomicBool,
}

/// What [`Shared`] is made from.
#[derive(Debug)]
pub struct SharedParts {
    /// What clients see of ids.
    pub ids: PublicIds,
    /// The ceiling's count.
    pub memory: Arc<MemoryGauge>,
    /// Into every loop and home.
    pub lanes: Lanes,
    /// Of every loop, then of every worker.
    pub alarms: Vec<Arc<Alarm>>,
    /// The first configuration.
    pub snapshot: Arc<Snapshot>,
    /// When the gateway started.
    pub started_at: Instant,
}

impl Shared {
    /// The state of a gateway that runs.
    #[must_use]
    pub fn new(parts: SharedParts) -> Arc<Self> {
        let loops = parts.lanes.mailboxes.len();
        Arc::new(Self {
            ids: parts.ids,
            memory: parts.memory,
            started_at: parts.started_at,
            loads: (0..loops).map(|_| Load::default()).collect(),
            total: Load::default(),
            bandwidth: SharedLevel::default(),
            places: Mutex::default(),
            lanes: parts.lanes,
            alarms: parts.alarms,
            snapshot_version: AtomicU64::new(parts.snapshot.version),
            snapshot: Mutex::new(parts.snapshot),
            hasher: RandomState::new(),
            late_answers: AtomicU64::new(0),
            draining: AtomicBool::new(false),
            forced: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            loops_busy: Mutex::new(loops),
            loop_done: Condvar::new(),
            released: AtomicBool::new(false),
            permits: Permits::new(WORK_ON_ITS_WAY_MAX),
            blocking: OnceLock::new(),
            workers_stop: AtomicBool::new(false),
        })
    }

    /// The sending ends of every mailbox and room lane.
    #[must_use]
    pub fn lanes(&self) -> &Lanes {
        &self.lanes
    }

    /// The shard whose rooms `room` is one of. Keyed, so that clients can't gather rooms on one.
    #[must_use]
    pub fn home_of(&self, room: &str) -> usize {
        (self.hasher.hash_one(room) % self.lanes.rooms.len() as u64) as usize
    }

    /// The pool for handlers that block. Set before any loop runs; `None` where no route needs it.
    #[must_use]
    pub fn blocking(&self) -> Option<&BlockingPool> {
        self.blocking.get()
    }

    /// Sets the pool for handlers that block, once.
    pub(super) fn set_blocking(&self, pool: BlockingPool) {
        let _ = self.blocking.set(pool);
    }

    /// The tick of an instant: 0 is never, as in a connection's stamps.
    #[inline]
    #[must_use]
    pub fn tick_at(&self, now: Instant) -> Tick {
        let since = now.saturating_duration_since(self.started_at);
        (since.as_millis() as u64 / TICK_MS) as Tick + 1
    }

    /// An instant, as buckets have it.
    #[inline]
    #[must_use]
    pub fn moment_at(&self, now: Instant) -> Moment {
        Moment::since_start(now.saturating_duration_since(self.started_at))
    }

    /// The connections of an endpoint with a maximum, by its path: those of one that takes its place
    /// in a later configuration are counted with them.
    #[must_use]
    pub fn places_at(&self, path: &str) -> Arc<Load> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(places.entry(path.into()).or_default())
    }

    /// How long it is from now until a tick has begun, and a little more.
    #[must_use]
    pub fn time_until(&self, tick: Tick) -> Duration {
        let at = Duration::from_millis(u64::from(tick.saturating_sub(1)) * TICK_MS);
        at.saturating_sub(self.started_at.elapsed()) + Duration::from_millis(1)
    }

    /// The configuration in force.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The configuration in force if it is not `current`. One relaxed load where it is.
    #[inline]
    #[must_use]
    pub fn newer_snapshot(&self, current: &Snapshot) -> Option<Arc<Snapshot>> {
        (self.snapshot_version.load(Acquire) != current.version).then(|| self.snapshot())
    }

    /// Puts a configuration in force; threads take it up between turns.
    ///
    /// # Panics
    /// If it drops or moves an endpoint: slots hold indices into that table.
    pub fn replace_snapshot(&self, mut next: Snapshot) {
        let mut current = self.snapshot.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(current.endpoints_are_prefix_of(&next), "endpoints may only be added");
        next.version = current.version + 1;
        *current = Arc::new(next);
        self.snapshot_version.store(current.version, Release);
        drop(current);
        self.ring_all();
    }

    /// Counts an answer that has nowhere to go: unasked for, double, or too late.
    pub fn count_late_answer(&self) {
        self.late_answers.fetch_add(1, Relaxed);
    }

    /// Answers that had nowhere to go.
    #[must_use]
    pub fn late_answers(&self) -> u64 {
        self.late_answers.load(Relaxed)
    }

    /// Asks all loops to stop accepting and to close what they have.
    pub fn drain(&self) {
        self.draining.store(true, SeqCst);
        self.ring_all();
    }

    /// Whether the gateway is going away.
    #[inline]
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.load(Relaxed)
    }

    /// Asks all loops to leave at once.
    pub fn force(&self) {
        self.forced.store(true, SeqCst);
        self.drain();
    }

    /// A thread has failed: nothing is as it should be, and all of it ends.
    pub fn fail(&self) {
        self.failed.store(true, SeqCst);
        self.force();
        self.stop_workers();
    }

    /// Whether a thread has failed.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.failed.load(SeqCst)
    }

    /// Whether loops have to leave at once.
    #[must_use]
    pub fn is_forced(&self) -> bool {
        self.forced.load(Relaxed)
    }

    /// A loop has no connections left. It goes on serving rooms and its mailbox until it may leave.
    pub fn loop_is_done(&self) {
        *self.loops_busy.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.loop_done.notify_all();
    }

    /// Waits, for so long at most, until no loop has connections left; says whether that is so.
    #[must_use]
    pub fn wait_for_loops(&self, time: Duration) -> bool {
        let busy = self.loops_busy.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.loop_done.wait_timeout_while(busy, time, |busy| *busy > 0);
        *waited.unwrap_or_else(PoisonError::into_inner).0 == 0
    }

    /// Lets loops without connections leave: nothing posts to them any more.
    pub fn release_loops(&self) {
        self.released.store(true, SeqCst);
        self.ring_loops();
    }

    /// Whether loops without connections may leave.
    #[inline]
    #[must_use]
    pub fn loops_may_leave(&self) -> bool {
        self.released.load(SeqCst)
    }

    /// Asks workers to leave once their lanes are empty.
    pub fn stop_workers(&self) {
        self.workers_stop.store(true, SeqCst);
        self.ring_all();
    }

    /// Whether workers have to leave once their lanes are empty.
    #[must_use]
    pub fn workers_stop(&self) -> bool {
        self.workers_stop.load(SeqCst)
    }

    fn ring_loops(&self) {
        for alarm in &self.alarms[..self.loads.len()] {
            alarm.ring();
        }
    }

    /// Whether each loop sleeps, by index.
    pub(super) fn loops_asleep(&self) -> impl Iterator<Item = bool> {
        self.alarms[..self.loads.len()].iter().map(|alarm| alarm.flag().is_asleep())
    }

    /// Wakes all loops and workers that sleep.
    pub fn ring_all(&self) {
        for alarm in &self.alarms {
            alarm.ring();
        }
    }
}
