//! From a snapshot to running threads.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd as _, RawFd};
use std::sync::mpsc;
use std::sync::{Arc, Barrier};
use std::thread::JoinHandle;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, bounded};
use mio::{Poll, Waker};
use nix::sys::signal::SigSet;

use super::reserve::{Reservation, reserve};
use super::running::{Running, RunningParts, ThreadEnd};
use super::shared::{Shared, SharedParts};
use super::snapshot::Snapshot;
use crate::channels::RoomBatch;
use crate::config::{Capacity, Config, FdTable, Problem, raise_descriptor_limit};
use crate::public_id::PublicIds;
use crate::reactor::{
    Acceptor, EventLoop, HandOver, LoopParts, Routing, WAKER, bind_listeners, leave_shared_table,
};
use crate::routing::Gateway;
use crate::telemetry::counters::{LoopCounters, WorkerCounters};
use crate::telemetry::memory::{LocalMemory, MemoryGauge};
use crate::telemetry::snapshot::{LoopSource, Registry, WorkerSource};
use crate::telemetry::stages::{StageCell, StageCollector, StageRecorder};
use crate::worker::{
    Alarm, Batch, LaneReceiver, LaneSender, Lanes, Outgoing, Post, Shard, ShardParts, lane,
    run_worker,
};

/// Batches and posts that are kept for reuse, per owner.
const SPARES: usize = 64;

/// How many of them there are from the start, so that the first busy moment makes none.
const FIRST_SPARES: usize = 8;

/// Why a gateway did not start.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// Facts about the machine could not be read.
    Machine(io::Error),
    /// The configuration has mistakes, or does not fit the machine.
    Config(Vec<Problem>),
    /// More endpoints than ids for them.
    TooManyEndpoints(usize),
    /// An address cannot be listened on.
    Listen(io::Error),
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
            Self::TooManyEndpoints(n) => write!(f, "{n} endpoints; at most {} fit", u16::MAX),
            Self::Listen(e) => write!(f, "cannot listen on {e}"),
            Self::System(what, e) => write!(f, "cannot {what}: {e}"),
        }
    }
}

impl std::error::Error for StartError {}

/// What the main thread makes for one loop before tables part.
struct LoopSeed {
    index: usize,
    poll: Poll,
    mailbox: LaneReceiver<Box<Post>>,
    spare_batches: Receiver<Box<Batch>>,
    recycle_posts: Vec<Sender<Box<Post>>>,
    routing: Routing,
    counters: Arc<LoopCounters>,
    stages: StageRecorder,
}

/// What all loops need to begin.
#[derive(Clone)]
struct LoopStart {
    shared: Arc<Shared>,
    alarms: Vec<Arc<Alarm>>,
    hand_over: Vec<Arc<HandOver>>,
    addresses: Vec<SocketAddr>,
    per_loop: usize,
    /// With private tables, the first descriptor that loops do not keep.
    leave_from: Option<RawFd>,
    opened: mpsc::Sender<Result<(), StartError>>,
    go: Arc<Barrier>,
    ended: mpsc::Sender<ThreadEnd>,
}

pub(super) fn start(snapshot: Snapshot, capacity: &Capacity) -> Result<Running, StartError> {
    let system = |what| move |e| StartError::System(what, e);
    raise_descriptor_limit().map_err(system("raise the descriptor limit"))?;
    let config = snapshot.config.clone();
    let reserved: Vec<Reservation> = config
        .listen
        .iter()
        .map(|addr| reserve(*addr))
        .collect::<Result<_, _>>()
        .map_err(StartError::Listen)?;
    let addresses: Vec<_> = reserved.iter().map(|r| r.addr).collect();
    let polls = make_polls(config.loops).map_err(system("make an epoll instance"))?;
    let hand_over = make_hand_over(&config).map_err(system("make a socket pair"))?;
    let (mut plan, seeds, shards) = Plan::new(snapshot, polls)?;
    let (opened_tx, opened_rx) = mpsc::channel();
    let (ended_tx, ended_rx) = mpsc::channel();
    let begin = LoopStart {
        shared: Arc::clone(&plan.shared),
        alarms: plan.loop_alarms.clone(),
        leave_from: (config.fd_table == FdTable::Private).then(|| first_own_fd(&hand_over, &seeds)),
        hand_over,
        addresses: addresses.clone(),
        per_loop: capacity.per_loop,
        opened: opened_tx,
        go: Arc::new(Barrier::new(config.loops + 1)),
        ended: ended_tx.clone(),
    };
    let go = Arc::clone(&begin.go);
    let mut threads = spawn_workers(&mut plan, shards, &ended_tx)?;
    threads.extend(spawn_loops(seeds, begin)?);
    let opened: Result<Vec<()>, StartError> = opened_rx.iter().take(config.loops).collect();
    if opened.is_err() {
        plan.shared.force();
        plan.shared.stop_workers();
    }
    go.wait();
    opened?;
    drop(reserved);
    Ok(Running::new(RunningParts {
        gateway: Gateway { shared: Arc::clone(&plan.shared) },
        addresses,
        config,
        registry: plan.registry,
        collector: StageCollector::new(plan.cells),
        threads,
        ended: ended_rx,
    }))
}

fn fill_pools(batches: &[Sender<Box<Batch>>], posts: &[Sender<Box<Post>>]) {
    let now = Instant::now();
    for _ in 0..FIRST_SPARES {
        for (from_loop, pool) in batches.iter().enumerate() {
            let _ = pool.try_send(Batch::new(from_loop, now));
        }
        for (from_shard, pool) in posts.iter().enumerate() {
            let _ = pool.try_send(Post::roomy(from_shard));
        }
    }
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

/// The number above all that every loop has to keep.
fn first_own_fd(hand_over: &[Arc<HandOver>], seeds: &[LoopSeed]) -> RawFd {
    let ways = hand_over.iter().map(|way| way.highest_fd());
    let polls = seeds.iter().map(|seed| seed.poll.as_raw_fd());
    // A waker was made right behind its poll, and hand-over sockets behind all of those.
    ways.chain(polls.map(|fd| fd + 1)).max().unwrap_or(2) + 1
}

/// Lanes and state that connect the threads.
struct Plan {
    shared: Arc<Shared>,
    loop_alarms: Vec<Arc<Alarm>>,
    worker_alarms: Vec<Arc<Alarm>>,
    message_rx: Vec<LaneReceiver<Box<Batch>>>,
    registry: Registry,
    cells: Vec<Arc<StageCell>>,
}

type Queues<T> = (Vec<LaneSender<Box<T>>>, Vec<LaneReceiver<Box<T>>>);

impl Plan {
    fn new(
        snapshot: Snapshot,
        polls: Vec<(Poll, Arc<Alarm>)>,
    ) -> Result<(Self, Vec<LoopSeed>, Vec<Shard>), StartError> {
        let config = snapshot.config.clone();
        let tuning = &config.tuning;
        let (polls, loop_alarms): (Vec<_>, Vec<_>) = polls.into_iter().unzip();
        let worker_alarms: Vec<_> =
            (0..config.workers).map(|_| Arc::new(Alarm::for_thread())).collect();
        let inline = config.workers == 0;
        let executors = if inline { &loop_alarms } else { &worker_alarms };
        let (mailbox_tx, mailbox_rx): Queues<Post> =
            loop_alarms.iter().map(|alarm| lane(tuning.mailbox_capacity, alarm)).unzip();
        let (rooms_tx, rooms_rx): Queues<RoomBatch> =
            executors.iter().map(|alarm| lane(tuning.room_lane_capacity, alarm)).unzip();
        let (message_tx, message_rx): Queues<Batch> =
            worker_alarms.iter().map(|alarm| lane(tuning.message_lane_capacity, alarm)).unzip();
        let ids = PublicIds::new(0).map_err(|e| StartError::System("make a key for ids", e))?;
        let shared = Shared::new(SharedParts {
            ids,
            memory: MemoryGauge::new(config.memory_limit_bytes),
            lanes: Lanes { mailboxes: mailbox_tx, rooms: rooms_tx },
            alarms: loop_alarms.iter().chain(&worker_alarms).cloned().collect(),
            snapshot: Arc::new(snapshot),
            started_at: Instant::now(),
        });
        let (batch_tx, batch_rx): (Vec<_>, Vec<_>) = polls.iter().map(|_| bounded(SPARES)).unzip();
        let (post_tx, post_rx): (Vec<_>, Vec<_>) =
            executors.iter().map(|_| bounded(SPARES)).unzip();
        fill_pools(&batch_tx, &post_tx);
        let worker_counters: Vec<_> =
            executors.iter().map(|_| Arc::new(WorkerCounters::default())).collect();
        let loop_counters: Vec<_> =
            polls.iter().map(|_| Arc::new(LoopCounters::default())).collect();
        let mut cells = Vec::new();
        let mut recorder = || {
            let stages = StageRecorder::new();
            cells.push(stages.cell());
            stages
        };
        let shards: Vec<Shard> = rooms_rx
            .into_iter()
            .zip(post_rx)
            .enumerate()
            .map(|(index, (rooms, spare_posts))| {
                let (me, lanes) = (Arc::clone(&executors[index]), shared.lanes().clone());
                let local = inline.then_some(index);
                Shard::new(ShardParts {
                    index,
                    out: Outgoing::new(index, me, lanes, spare_posts, local),
                    rooms,
                    gateway: Gateway { shared: Arc::clone(&shared) },
                    counters: Arc::clone(&worker_counters[index]),
                    stages: recorder(),
                    recycle: batch_tx.clone(),
                    memory: LocalMemory::new(Arc::clone(&shared.memory)),
                })
            })
            .collect();
        let mut inline_shards = Vec::new();
        let mut pool_shards = Vec::new();
        for shard in shards {
            if inline { inline_shards.push(shard) } else { pool_shards.push(shard) }
        }
        let mut inline_shards = inline_shards.into_iter();
        let seeds = polls
            .into_iter()
            .zip(mailbox_rx)
            .zip(batch_rx)
            .enumerate()
            .map(|(index, ((poll, mailbox), spare_batches))| LoopSeed {
                index,
                poll,
                mailbox,
                spare_batches,
                recycle_posts: post_tx.clone(),
                routing: match inline_shards.next() {
                    Some(shard) => Routing::Inline(Box::new(shard)),
                    None => Routing::Pool(message_tx.clone()),
                },
                counters: Arc::clone(&loop_counters[index]),
                stages: recorder(),
            })
            .collect();
        let registry = registry(&shared, &loop_counters, &worker_counters, &message_tx);
        let plan = Self { shared, loop_alarms, worker_alarms, message_rx, registry, cells };
        Ok((plan, seeds, pool_shards))
    }
}

fn registry(
    shared: &Arc<Shared>,
    loops: &[Arc<LoopCounters>],
    workers: &[Arc<WorkerCounters>],
    messages: &[LaneSender<Box<Batch>>],
) -> Registry {
    let lanes = shared.lanes();
    let loops = loops.iter().zip(&lanes.mailboxes).map(|(counters, mailbox)| {
        let (counters, mailbox) = (Arc::clone(counters), mailbox.clone());
        LoopSource { counters, mailbox_depth: Box::new(move || mailbox.depth()) }
    });
    let workers = workers.iter().enumerate().map(|(index, counters)| {
        let (messages, rooms) = (messages.get(index).cloned(), lanes.rooms[index].clone());
        WorkerSource {
            counters: Arc::clone(counters),
            queue_depth: Box::new(move || messages.as_ref().map_or(0, LaneSender::depth)),
            room_queue_depth: Box::new(move || rooms.depth()),
        }
    });
    Registry::new(loops.collect(), workers.collect(), Arc::clone(&shared.memory))
}

fn spawn_workers(
    plan: &mut Plan,
    shards: Vec<Shard>,
    ended: &mpsc::Sender<ThreadEnd>,
) -> Result<Vec<JoinHandle<()>>, StartError> {
    let lanes = std::mem::take(&mut plan.message_rx);
    shards
        .into_iter()
        .zip(lanes)
        .zip(&plan.worker_alarms)
        .enumerate()
        .map(|(index, ((shard, messages), alarm))| {
            let (alarm, shared) = (Arc::clone(alarm), Arc::clone(&plan.shared));
            let ended = ended.clone();
            spawn(format!("tg-worker-{index}"), move || {
                let _end = ThreadEnd::worker(ended);
                run_worker(shard, &messages, &alarm, &shared);
            })
        })
        .collect()
}

fn spawn_loops(seeds: Vec<LoopSeed>, begin: LoopStart) -> Result<Vec<JoinHandle<()>>, StartError> {
    seeds
        .into_iter()
        .map(|seed| {
            let begin = begin.clone();
            spawn(format!("tg-loop-{}", seed.index), move || run_loop(seed, begin))
        })
        .collect()
}

fn run_loop(seed: LoopSeed, begin: LoopStart) {
    let ended = begin.ended.clone();
    let (go, opened) = (Arc::clone(&begin.go), begin.opened.clone());
    let made = open_loop(seed, begin);
    let (event_loop, result) = match made {
        Ok(event_loop) => (Some(event_loop), Ok(())),
        Err(e) => (None, Err(e)),
    };
    let _end = ThreadEnd::event_loop(ended);
    let _ = opened.send(result);
    // No loop accepts before all have left the shared table.
    go.wait();
    if let Some(event_loop) = event_loop {
        event_loop.run();
    }
}

fn open_loop(seed: LoopSeed, begin: LoopStart) -> Result<EventLoop, StartError> {
    if let Some(first) = begin.leave_from {
        leave_shared_table(first)
            .map_err(|e| StartError::System("give a loop a descriptor table of its own", e))?;
    }
    let config = begin.shared.snapshot().config.clone();
    let listeners = bind_listeners(&config, &begin.addresses).map_err(StartError::Listen)?;
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
