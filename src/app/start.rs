//! From a snapshot to running threads.

use std::fmt;
use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;

use mio::{Poll, Waker};
use nix::sys::signal::SigSet;

use super::plan::{LoopSeed, Plan, WorkerSeed};
use super::reserve::Reserved;
use super::running::{Addresses, Running, RunningParts, ThreadEnd};
use super::shared::Shared;
use super::snapshot::Snapshot;
use crate::config::{Capacity, Config, FdTable, Problem, raise_descriptor_limit};
use crate::reactor::{
    Acceptor, EventLoop, HandOver, ListenAt, LoopParts, WAKER, close_copies, leave_shared_table,
    open_listeners, shared_fds,
};
use crate::routing::Gateway;
use crate::telemetry::stages::StageCollector;
use crate::transport::tls::TlsProblem;
use crate::worker::{Alarm, BlockingPool, run_worker};

/// Why a gateway did not start.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// Facts about the machine could not be read.
    Machine(io::Error),
    /// The configuration has mistakes, or does not fit the machine.
    Config(Vec<Problem>),
    /// No endpoint to connect to.
    NoEndpoints,
    /// More endpoints than ids for them.
    TooManyEndpoints(usize),
    /// An address cannot be listened on.
    Listen(io::Error),
    /// A certificate, a key or an authority that TLS can't be had with.
    Tls(TlsProblem),
    /// A thread failed as it began.
    ThreadFailed,
    /// The kernel refused something else.
    System(&'static str, io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Machine(e) => write!(f, "cannot read facts about this machine: {e}"),
            Self::Config(problems) => {
                for (index, problem) in problems.iter().enumerate() {
                    write!(f, "{}{problem}", if index == 0 { "" } else { "\n" })?;
                }
                Ok(())
            }
            Self::NoEndpoints => f.write_str("no endpoint to connect to"),
            Self::TooManyEndpoints(n) => write!(f, "{n} endpoints; at most {} fit", u16::MAX),
            Self::ThreadFailed => f.write_str("a thread failed as it began"),
            Self::Listen(e) => write!(f, "cannot listen on {e}"),
            Self::Tls(e) => write!(f, "TLS: {e}"),
            Self::System(what, e) => write!(f, "cannot {what}: {e}"),
        }
    }
}

impl std::error::Error for StartError {}

/// What all loops need to begin.
#[derive(Clone)]
struct LoopStart {
    shared: Arc<Shared>,
    alarms: Vec<Arc<Alarm>>,
    hand_over: Vec<Arc<HandOver>>,
    listeners: Vec<ListenAt>,
    per_loop: usize,
    /// With private tables, the first descriptor that loops do not keep, and others that they must
    /// not: a copy in a loop's table would outlive the reservation.
    leave_from: Option<RawFd>,
    reserved: Vec<RawFd>,
    opened: mpsc::Sender<Result<(), StartError>>,
    ended: mpsc::Sender<ThreadEnd>,
}

/// Takes down the threads of a start that did not succeed.
struct Undo(Option<Arc<Shared>>);

impl Undo {
    fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        if let Some(shared) = self.0.take() {
            shared.force();
            shared.stop_workers();
        }
    }
}

pub(super) fn start(snapshot: Snapshot, capacity: &Capacity) -> Result<Running, StartError> {
    let system = |what| move |e| StartError::System(what, e);
    raise_descriptor_limit().map_err(system("raise the descriptor limit"))?;
    let config = snapshot.config.clone();
    let inherited = open_fds().map_err(system("read /proc/self/fd"))?;
    let polls = make_polls(config.loops).map_err(system("make an epoll instance"))?;
    let hand_over = make_hand_over(&config).map_err(system("make a socket pair"))?;
    // Before loops part: they take over what is shared by its number.
    let reserved = Reserved::take(&snapshot).map_err(StartError::Listen)?;
    let listeners = &reserved.listeners;
    let leave_from = match config.fd_table {
        FdTable::Private => {
            let own = first_own_fd(&inherited).map_err(system("read /proc/self/fd"))?;
            // Passed sockets are inherited ones.
            Some(shared_fds(listeners).into_iter().map(|fd| fd + 1).fold(own, RawFd::max))
        }
        FdTable::Shared => None,
    };
    let (mut plan, seeds) = Plan::new(snapshot, polls)?;
    start_pool(&plan.shared).map_err(system("start threads for handlers that block"))?;
    let undo = Undo(Some(Arc::clone(&plan.shared)));
    let (opened_tx, opened_rx) = mpsc::channel();
    let (ended_tx, ended_rx) = mpsc::channel();
    let begin = LoopStart {
        shared: Arc::clone(&plan.shared),
        alarms: plan.loop_alarms.clone(),
        leave_from,
        reserved: reserved.held_fds(),
        hand_over,
        listeners: listeners.clone(),
        per_loop: capacity.per_loop,
        opened: opened_tx,
        ended: ended_tx.clone(),
    };
    let mut threads = spawn_workers(&mut plan, &ended_tx)?;
    let (loops, go) = spawn_loops(seeds, begin)?;
    threads.extend(loops);
    // All of them, failed or not: none takes over what is shared once this returns.
    let opened: Vec<_> = (0..config.loops)
        .map(|_| opened_rx.recv().unwrap_or(Err(StartError::ThreadFailed)))
        .collect();
    opened.into_iter().collect::<Result<(), _>>()?;
    // No loop accepts before all have left the shared table.
    for go in &go {
        let _ = go.send(());
    }
    undo.disarm();
    let Reserved { config, files, .. } = reserved;
    Ok(Running::new(RunningParts {
        gateway: Gateway::new(Arc::clone(&plan.shared)),
        addresses: Addresses::of(&config),
        config,
        files,
        registry: plan.registry,
        collector: StageCollector::new(plan.cells),
        threads,
        ended: ended_rx,
    }))
}

/// Started on main's descriptor table, which handlers that block may need.
fn start_pool(shared: &Shared) -> io::Result<()> {
    let snapshot = shared.snapshot();
    let config = &snapshot.config;
    if snapshot.endpoints().iter().any(|endpoint| endpoint.needs_pool(config.workers == 0)) {
        let threads = config.blocking_threads;
        shared.set_blocking(BlockingPool::new(threads, config.tuning.blocking_jobs_max)?);
    }
    Ok(())
}

fn make_polls(loops: usize) -> io::Result<Vec<(Poll, Arc<Alarm>)>> {
    (0..loops)
        .map(|_| {
            let poll = Poll::new()?;
            let waker = Waker::new(poll.registry(), WAKER)?;
            Ok((poll, Arc::new(Alarm::for_poll(waker))))
        })
        .collect()
}

/// Sockets pass through the kernel only between private tables; a shared one needs no passing.
fn make_hand_over(config: &Config) -> io::Result<Vec<Arc<HandOver>>> {
    let ways = if config.fd_table == FdTable::Private { config.loops } else { 0 };
    (0..ways).map(|_| HandOver::new().map(Arc::new)).collect()
}

/// The descriptors that are open now.
fn open_fds() -> io::Result<Vec<RawFd>> {
    let numbers = std::fs::read_dir("/proc/self/fd")?
        .map(|entry| Ok(entry?.file_name().to_str().and_then(|name| name.parse().ok())))
        .collect::<io::Result<Vec<Option<RawFd>>>>()?;
    // The directory itself was one of them, and is closed again.
    let open = |fd: &RawFd| std::path::Path::new(&format!("/proc/self/fd/{fd}")).exists();
    Ok(numbers.into_iter().flatten().filter(open).collect())
}

/// The number above all that were opened since `before`, and so above all that loops have to keep.
/// What was inherited at higher numbers is not theirs.
fn first_own_fd(before: &[RawFd]) -> io::Result<RawFd> {
    let ours = open_fds()?.into_iter().filter(|fd| !before.contains(fd));
    Ok(ours.max().unwrap_or(2) + 1)
}

fn spawn_workers(
    plan: &mut Plan,
    ended: &mpsc::Sender<ThreadEnd>,
) -> Result<Vec<JoinHandle<()>>, StartError> {
    std::mem::take(&mut plan.workers)
        .into_iter()
        .enumerate()
        .map(|(index, WorkerSeed { shard, messages, alarm })| {
            let (shared, ended) = (Arc::clone(&plan.shared), ended.clone());
            spawn(format!("tg-worker-{index}"), move || {
                let _end = ThreadEnd::worker(ended, Arc::clone(&shared));
                run_worker(shard, &messages, &alarm, &shared);
            })
        })
        .collect()
}

/// Tells each loop to accept; dropped, it tells them to end.
type Go = Vec<mpsc::Sender<()>>;

/// Starts the loops' threads. Each opens what it needs, and accepts once it is told to go; if the
/// way to tell it is dropped instead, it ends.
fn spawn_loops(
    seeds: Vec<LoopSeed>,
    begin: LoopStart,
) -> Result<(Vec<JoinHandle<()>>, Go), StartError> {
    let mut go = Go::new();
    let threads = seeds.into_iter().map(|seed| {
        let (tx, rx) = mpsc::channel();
        go.push(tx);
        let begin = begin.clone();
        spawn(format!("tg-loop-{}", seed.index), move || run_loop(seed, begin, &rx))
    });
    let threads = threads.collect::<Result<_, _>>()?;
    Ok((threads, go))
}

fn run_loop(seed: LoopSeed, begin: LoopStart, go: &mpsc::Receiver<()>) {
    let _end = ThreadEnd::event_loop(begin.ended.clone(), Arc::clone(&begin.shared));
    let opened = begin.opened.clone();
    let made = open_loop(seed, begin);
    let (event_loop, result) = match made {
        Ok(event_loop) => (Some(event_loop), Ok(())),
        Err(e) => (None, Err(e)),
    };
    let _ = opened.send(result);
    drop(opened);
    if go.recv().is_ok()
        && let Some(event_loop) = event_loop
    {
        event_loop.run();
    }
}

fn open_loop(seed: LoopSeed, begin: LoopStart) -> Result<EventLoop, StartError> {
    if let Some(first) = begin.leave_from {
        leave_shared_table(first, &begin.reserved)
            .map_err(|e| StartError::System("give a loop a descriptor table of its own", e))?;
    }
    let config = begin.shared.snapshot().config.clone();
    let place = (seed.index, config.loops);
    let listeners = open_listeners(&config, &begin.listeners, place).map_err(StartError::Listen)?;
    if begin.leave_from.is_some() {
        close_copies(&shared_fds(&begin.listeners))
            .map_err(|e| StartError::System("close what other loops listen on", e))?;
    }
    let acceptor = Acceptor::new(seed.index, &config, begin.per_loop, listeners, begin.hand_over);
    EventLoop::new(LoopParts {
        index: seed.index,
        poll: seed.poll,
        alarm: Arc::clone(&begin.alarms[seed.index]),
        shared: begin.shared,
        mailbox: seed.mailbox,
        spare_batches: seed.spare_batches,
        recycle_posts: seed.recycle_posts,
        routing: seed.routing,
        acceptor,
        counters: seed.counters,
        stages: seed.stages,
    })
    .map_err(|e| StartError::System("poll the listeners", e))
}

fn spawn(name: String, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StartError> {
    std::thread::Builder::new()
        .name(name)
        .spawn(move || {
            // Signals are for the thread that waits for them, on the main descriptor table.
            let _ = SigSet::all().thread_block();
            body();
        })
        .map_err(|e| StartError::System("start a thread", e))
}
