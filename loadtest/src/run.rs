//! Starts the event loops, watches them, and gathers what they counted.

use std::{
    io,
    os::fd::AsRawFd as _,
    sync::{
        Arc, Barrier,
        atomic::Ordering::Relaxed,
        mpsc::{RecvTimeoutError, Sender, channel},
    },
    thread,
};

use mio::Poll;
use nix::sys::signal::{SigSet, Signal};

use crate::{
    clock::Nanos,
    event_loop::EventLoop,
    fdtable::unshare_above,
    link::Driver,
    sampler::{process::Processes, rows::Rows},
    shared::{Setup, Shared},
    tally::{Pick, Tally},
    watch::{Marks, Watch},
};

/// Exit code after a second Ctrl-C, as shells have it.
const EXIT_INTERRUPTED: i32 = 130;

/// What a run was.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// What all threads counted.
    pub(crate) tally: Tally,
    /// From the start to the end of the last thread's ramp.
    pub(crate) ramp: Nanos,
    /// From the start to the end.
    pub(crate) total: Nanos,
    /// Whether it was ended early by a signal.
    pub(crate) interrupted: bool,
    /// How things stood between the stages.
    pub(crate) marks: Marks,
    /// The time series.
    pub(crate) rows: Rows,
    /// The server's processes, after the run.
    pub(crate) server: Processes,
}

/// What of a command is watched while it runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Watched {
    /// Its main latency.
    pub(crate) main: Option<Pick>,
    /// What its work and the end of its work are called.
    pub(crate) stages: [&'static str; 2],
}

/// Runs a command: one driver for each thread, made by `driver`.
pub(crate) fn run<D, F>(setup: Setup, watched: Watched, driver: F) -> Result<Outcome, String>
where
    D: Driver,
    F: Fn(u32) -> D + Send + Clone + 'static,
{
    let server = Processes::find(&setup.server_pids)?;
    let setup = Arc::new(setup);
    let threads = setup.plan.threads;
    let polls = (0..threads)
        .map(|_| Poll::new())
        .collect::<io::Result<Vec<_>>>()
        .map_err(|error| format!("cannot make {threads} polls: {error}"))?;
    let first = polls.iter().map(|poll| poll.as_raw_fd() + 1).max().unwrap_or(3);
    let shared = Arc::new(Shared::new(threads, watched.main));
    watch_signals(Arc::clone(&shared))?;
    let mut watch = Watch::new(&setup, &shared, watched.stages, server);
    let start = Start {
        setup: Arc::clone(&setup),
        shared: Arc::clone(&shared),
        parted: Arc::new(Barrier::new(threads as usize)),
        first: u32::try_from(first).expect("descriptors are not negative"),
    };
    let (results, gathered) = channel();
    for (thread, poll) in (0..threads).zip(polls) {
        let (start, driver, results) = (start.clone(), driver.clone(), results.clone());
        thread::Builder::new()
            .name(format!("loop-{thread}"))
            .spawn(move || start.run_loop(thread, poll, driver, &results))
            .map_err(|error| format!("cannot start thread {thread} of {threads}: {error}"))?;
    }
    drop(results);

    let mut tally = Tally::default();
    for _ in 0..threads {
        loop {
            let pause = watch.look();
            match gathered.recv_timeout(pause) {
                Ok(result) => break tally.merge(&result?),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err("an event loop ended unexpectedly".to_owned());
                }
            }
        }
    }
    Ok(watch.outcome(tally))
}

/// What each thread starts from.
#[derive(Clone)]
struct Start {
    setup: Arc<Setup>,
    shared: Arc<Shared>,
    parted: Arc<Barrier>,
    first: u32,
}

impl Start {
    fn run_loop<D: Driver>(
        self,
        thread: u32,
        poll: Poll,
        driver: impl Fn(u32) -> D,
        results: &Sender<Result<Tally, String>>,
    ) {
        let _guard = Guard { thread, shared: Arc::clone(&self.shared), results };
        let parted = match self.setup.plan.private_tables {
            true => unshare_above(self.first),
            false => Ok(()),
        };
        // No socket before all tables have parted, also if one could not.
        self.parted.wait();
        let result = parted
            .map_err(|error| format!("descriptor tables of threads are not permitted: {error}"))
            .and_then(|()| {
                let shared = Arc::clone(&self.shared);
                EventLoop::new(poll, thread, self.setup, self.shared, driver(thread))
                    .and_then(EventLoop::run)
                    .inspect(|tally| shared.retire(thread, tally))
                    .map_err(|error| format!("event loop {thread}: {error}"))
            });
        // The receiver is gone only if another loop has failed, which ends the run.
        let _ = results.send(result);
    }
}

/// Ends the run if the loop of its thread panics: the others may wait for what that one never says.
struct Guard<'a> {
    thread: u32,
    shared: Arc<Shared>,
    results: &'a Sender<Result<Tally, String>>,
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.shared.stop.store(true, Relaxed);
            let _ = self.results.send(Err(format!("event loop {} panicked", self.thread)));
        }
    }
}

/// Takes SIGINT and SIGTERM on a thread of its own; all threads started later inherit the mask.
fn watch_signals(shared: Arc<Shared>) -> Result<(), String> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGTERM);
    signals.thread_block().map_err(|error| format!("cannot block signals: {error}"))?;
    let wait = move || {
        while signals.wait().is_ok() {
            if shared.stop.swap(true, Relaxed) {
                std::process::exit(EXIT_INTERRUPTED);
            }
        }
    };
    let started = thread::Builder::new().name("signals".to_owned()).spawn(wait);
    started.map(drop).map_err(|error| format!("cannot start the signal thread: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_that_panics_ends_the_run() {
        let shared = Arc::new(Shared::new(2, None));
        let (results, gathered) = channel();
        let (theirs, other) = (Arc::clone(&shared), results.clone());
        let panicking = thread::spawn(move || {
            let _guard = Guard { thread: 1, shared: theirs, results: &other };
            panic!("as if a loop had a bug");
        });
        assert!(panicking.join().is_err());
        // The other loop still has a sender, so without a word the receiver would wait.
        let said = gathered.try_recv().expect("a word").unwrap_err();
        assert!(said.contains("event loop 1"), "{said}");
        assert!(shared.stopping());
        drop(results);
    }

    #[test]
    fn a_loop_that_ends_well_says_nothing_more() {
        let shared = Arc::new(Shared::new(1, None));
        let (results, gathered) = channel();
        drop(Guard { thread: 0, shared: Arc::clone(&shared), results: &results });
        assert!(gathered.try_recv().is_err() && !shared.stopping());
    }
}
