//! The pool apart: for handlers that block.
//!
//! Invariants:
//! - the jobs of one strand run one at a time, in the order in which they were given;
//! - a strand is in the ready queue or on a thread, never both and never twice, and is there only
//!   while it has a job; so the queue, as long as the bound on jobs, never refuses;
//! - giving a job never waits;
//! - a job's panic is caught and counted: it takes down neither thread nor strand;
//! - a job runs at most once; after [`BlockingPool::stop`] has begun none is begun.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{
    AtomicBool, AtomicU64, AtomicUsize,
    Ordering::{Relaxed, SeqCst},
};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, bounded, select};
use nix::sys::signal::SigSet;

/// What a pool runs.
pub type Job = Box<dyn FnOnce() + Send>;

/// Threads for work that may block. All are started with the pool, so that they have the descriptor
/// table of the thread that makes it.
///
/// Dropped, it begins no further job and waits for none.
pub struct BlockingPool {
    shared: Arc<Shared>,
    /// Nothing is sent; dropped, it wakes the threads to their end.
    go_on: Mutex<Option<Sender<Infallible>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

struct Shared {
    /// Strands that have a job and no thread.
    ready: Sender<Arc<Queue>>,
    /// The same queue's other end, for who clears it at the end.
    leftover: Receiver<Arc<Queue>>,
    /// Jobs given and not ended.
    held: AtomicUsize,
    held_max: usize,
    panics: AtomicU64,
    stopping: AtomicBool,
    /// Jobs given and dropped.
    dropped: AtomicU64,
    alive: Mutex<usize>,
    one_ended: Condvar,
}

/// Jobs that run one at a time, in order. A clone gives to the same strand.
///
/// Dropped, the strand's jobs run all the same.
#[derive(Clone)]
pub struct Strand {
    queue: Arc<Queue>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Queue {
    state: Mutex<QueueState>,
}

#[derive(Default)]
struct QueueState {
    jobs: VecDeque<Job>,
    /// In the ready queue or on a thread.
    scheduled: bool,
}

/// The pool holds as many jobs as it may, or has stopped; the job comes back.
pub struct Busy(pub Job);

/// How a pool stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolStopped {
    /// Threads that had not ended by the deadline, for the jobs that they run.
    pub running: usize,
    /// Jobs that were dropped without having been begun.
    pub dropped: u64,
}

impl BlockingPool {
    /// Starts `threads` threads for at most `jobs_max` jobs, running ones among them.
    ///
    /// # Errors
    /// The kernel refused a thread.
    ///
    /// # Panics
    /// If either number is 0.
    pub fn new(threads: usize, jobs_max: usize) -> io::Result<Self> {
        assert!(threads > 0 && jobs_max > 0);
        let (ready, leftover) = bounded(jobs_max);
        let (go_on, ended) = bounded(0);
        let shared = Arc::new(Shared {
            ready,
            leftover: leftover.clone(),
            held: AtomicUsize::new(0),
            held_max: jobs_max,
            panics: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
            dropped: AtomicU64::new(0),
            alive: Mutex::new(0),
            one_ended: Condvar::new(),
        });
        // From here on a failure drops the pool, which ends the threads that there are.
        let pool = Self { shared, go_on: Mutex::new(Some(go_on)), threads: Mutex::default() };
        for index in 0..threads {
            let thread = spawn(index, &pool.shared, leftover.clone(), ended.clone())?;
            lock(&pool.threads).push(thread);
        }
        Ok(pool)
    }

    /// A strand without jobs.
    #[must_use]
    pub fn strand(&self) -> Strand {
        Strand { queue: Arc::default(), shared: Arc::clone(&self.shared) }
    }

    /// Jobs given and not ended yet.
    #[must_use]
    pub fn held(&self) -> usize {
        self.shared.held.load(Relaxed)
    }

    /// Jobs that panicked so far.
    #[must_use]
    pub fn panics(&self) -> u64 {
        self.shared.panics.load(Relaxed)
    }

    /// Begins no further job, waits until `deadline` for those that run, and drops all others.
    ///
    /// A job that runs on past the deadline keeps its thread; what waits behind it in its strand is
    /// dropped when it ends.
    pub fn stop(&self, deadline: Instant) -> PoolStopped {
        self.end();
        let mut alive = lock(&self.shared.alive);
        while let Some(left) = deadline.checked_duration_since(Instant::now())
            && *alive > 0
        {
            let waited = self.shared.one_ended.wait_timeout(alive, left);
            alive = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let running = *alive;
        drop(alive);
        if running == 0 {
            // They have said that they are done: nothing is left to wait for.
            lock(&self.threads).drain(..).for_each(|thread| drop(thread.join()));
        }
        PoolStopped { running, dropped: self.shared.dropped.load(Relaxed) }
    }

    fn end(&self) {
        self.shared.stopping.store(true, SeqCst);
        *lock(&self.go_on) = None;
        self.shared.drop_ready();
    }
}

impl Drop for BlockingPool {
    fn drop(&mut self) {
        self.end();
    }
}

impl fmt::Debug for BlockingPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (held, panics) = (self.held(), self.panics());
        f.debug_struct("BlockingPool")
            .field("held", &held)
            .field("panics", &panics)
            .finish_non_exhaustive()
    }
}

impl Strand {
    /// Has a job run after all that this strand was given before. Never waits.
    ///
    /// Accepted, it runs, unless the pool stops before its turn comes.
    ///
    /// # Errors
    /// [`Busy`], with the job.
    pub fn run(&self, job: Job) -> Result<(), Busy> {
        if self.shared.stopping.load(SeqCst) || !self.shared.hold() {
            return Err(Busy(job));
        }
        let mut state = self.queue.lock();
        state.jobs.push_back(job);
        let was_scheduled = std::mem::replace(&mut state.scheduled, true);
        drop(state);
        if !was_scheduled {
            self.shared.make_ready(Arc::clone(&self.queue));
        }
        Ok(())
    }
}

impl Strand {
    /// Jobs that wait for their turn on it.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.queue.lock().jobs.len()
    }
}

impl fmt::Debug for Strand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Strand").field("waiting", &self.waiting()).finish()
    }
}

impl fmt::Debug for Busy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Busy")
    }
}

impl fmt::Display for Busy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the pool for blocking work takes no more")
    }
}

impl std::error::Error for Busy {}

impl Shared {
    /// Counts one job more, if there may be one.
    fn hold(&self) -> bool {
        let one_more = |held: usize| (held < self.held_max).then_some(held + 1);
        self.held.fetch_update(SeqCst, SeqCst, one_more).is_ok()
    }

    fn release(&self, jobs: usize) {
        self.held.fetch_sub(jobs, SeqCst);
    }

    /// Queues a strand that has a job, behind all others that have.
    fn make_ready(&self, queue: Arc<Queue>) {
        let sent = self.ready.try_send(queue);
        debug_assert!(sent.is_ok(), "each strand in the queue holds a job, and there are so many");
        // Whoever began to stop before this may have cleared the queue already.
        if self.stopping.load(SeqCst) {
            self.drop_ready();
        }
    }

    /// Runs the first job of a strand, and queues the strand behind the others if it has more.
    fn run_one(&self, queue: Arc<Queue>) {
        if self.stopping.load(SeqCst) {
            return self.drop_jobs(&queue);
        }
        let Some(job) = queue.lock().jobs.pop_front() else { return };
        if catch_unwind(AssertUnwindSafe(job)).is_err() {
            self.panics.fetch_add(1, Relaxed);
        }
        self.release(1);
        if self.stopping.load(SeqCst) {
            return self.drop_jobs(&queue);
        }
        let mut state = queue.lock();
        state.scheduled = !state.jobs.is_empty();
        let more = state.scheduled;
        drop(state);
        if more {
            self.make_ready(queue);
        }
    }

    fn drop_ready(&self) {
        while let Ok(queue) = self.leftover.try_recv() {
            self.drop_jobs(&queue);
        }
    }

    /// Drops what waits in a strand, which runs no more.
    fn drop_jobs(&self, queue: &Queue) {
        let mut state = queue.lock();
        let jobs = std::mem::take(&mut state.jobs);
        state.scheduled = false;
        // What a job owns may do anything when it is dropped, and so not under the lock.
        drop(state);
        self.release(jobs.len());
        self.dropped.fetch_add(jobs.len() as u64, Relaxed);
        for job in jobs {
            let _ = catch_unwind(AssertUnwindSafe(|| drop(job)));
        }
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, QueueState> {
        lock(&self.state)
    }
}

/// No job runs under any of these locks, so none is ever left half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn spawn(
    index: usize,
    shared: &Arc<Shared>,
    ready: Receiver<Arc<Queue>>,
    ended: Receiver<Infallible>,
) -> io::Result<JoinHandle<()>> {
    let alive = Alive::new(Arc::clone(shared));
    thread::Builder::new().name(format!("tg-blocking-{index}")).spawn(move || {
        // Signals are for the thread that waits for them, on the main descriptor table.
        let _ = SigSet::all().thread_block();
        run_thread(&alive.0, &ready, &ended);
    })
}

fn run_thread(shared: &Shared, ready: &Receiver<Arc<Queue>>, ended: &Receiver<Infallible>) {
    while !shared.stopping.load(SeqCst) {
        select! {
            recv(ready) -> queue => {
                let Ok(queue) = queue else { return };
                shared.run_one(queue);
            }
            recv(ended) -> _ => return,
        }
    }
}

/// Counts a thread as long as it may run jobs.
struct Alive(Arc<Shared>);

impl Alive {
    fn new(shared: Arc<Shared>) -> Self {
        *lock(&shared.alive) += 1;
        Self(shared)
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        *lock(&self.0.alive) -= 1;
        self.0.one_ended.notify_all();
    }
}

#[cfg(test)]
#[path = "blocking_tests.rs"]
mod tests;
