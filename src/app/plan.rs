//! The threads of a gateway and the lanes between them, laid out before any thread starts.

use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, bounded};
use mio::Poll;

use super::shared::{Shared, SharedParts};
use super::snapshot::Snapshot;
use super::start::StartError;
use crate::channels::RoomBatch;
use crate::public_id::PublicIds;
use crate::reactor::Routing;
use crate::routing::Gateway;
use crate::telemetry::counters::{LoopCounters, WorkerCounters};
use crate::telemetry::memory::{LocalMemory, MemoryGauge};
use crate::telemetry::snapshot::{LoopSource, Registry, WorkerSource};
use crate::telemetry::stages::{StageCell, StageRecorder};
use crate::worker::{
    Alarm, Batch, LaneReceiver, LaneSender, Lanes, Outgoing, Post, Shard, ShardParts, lane,
};

/// Batches and posts that are kept for reuse, per owner.
const SPARES: usize = 64;

/// How many of them there are from the start, so that the first busy moment makes none.
const FIRST_SPARES: usize = 8;

/// What the main thread makes for one loop before tables part.
pub(super) struct LoopSeed {
    pub(super) index: usize,
    pub(super) poll: Poll,
    pub(super) mailbox: LaneReceiver<Box<Post>>,
    pub(super) spare_batches: Receiver<Box<Batch>>,
    pub(super) recycle_posts: Vec<Sender<Box<Post>>>,
    pub(super) routing: Routing,
    pub(super) counters: Arc<LoopCounters>,
    pub(super) stages: StageRecorder,
}

/// What runs once the threads do.
pub(super) struct Plan {
    pub(super) shared: Arc<Shared>,
    pub(super) loop_alarms: Vec<Arc<Alarm>>,
    pub(super) workers: Vec<WorkerSeed>,
    pub(super) registry: Registry,
    pub(super) cells: Vec<Arc<StageCell>>,
}

/// What one worker thread runs with.
pub(super) struct WorkerSeed {
    pub(super) shard: Shard,
    pub(super) messages: LaneReceiver<Box<Batch>>,
    pub(super) alarm: Arc<Alarm>,
}

/// Both ends of one lane per thread, and of one way back for what is reused.
struct Lane<T> {
    tx: Vec<LaneSender<Box<T>>>,
    rx: Vec<LaneReceiver<Box<T>>>,
}

impl<T> Lane<T> {
    fn new(capacity: usize, into: &[Arc<Alarm>]) -> Self {
        let (tx, rx) = into.iter().map(|alarm| lane(capacity, alarm)).unzip();
        Self { tx, rx }
    }
}

struct Recycle<T> {
    tx: Vec<Sender<Box<T>>>,
    rx: Vec<Receiver<Box<T>>>,
}

impl<T> Recycle<T> {
    fn new(owners: usize) -> Self {
        let (tx, rx) = (0..owners).map(|_| bounded(SPARES)).unzip();
        Self { tx, rx }
    }
}

impl Plan {
    /// Lays out everything; the seeds are what each loop's thread takes with it.
    pub(super) fn new(
        snapshot: Snapshot,
        polls: Vec<(Poll, Arc<Alarm>)>,
    ) -> Result<(Self, Vec<LoopSeed>), StartError> {
        let config = snapshot.config.clone();
        let (polls, loop_alarms): (Vec<_>, Vec<_>) = polls.into_iter().unzip();
        let worker_alarms: Vec<_> =
            (0..config.workers).map(|_| Arc::new(Alarm::for_thread())).collect();
        // Shards run on the workers, or inline on the loops where there are none.
        let executors = if config.workers == 0 { &loop_alarms } else { &worker_alarms };
        let mailboxes = Lane::<Post>::new(config.tuning.mailbox_capacity, &loop_alarms);
        let rooms = Lane::<RoomBatch>::new(config.tuning.room_lane_capacity, executors);
        let messages = Lane::<Batch>::new(config.tuning.message_lane_capacity, &worker_alarms);
        let ids = PublicIds::new(0).map_err(|e| StartError::System("make a key for ids", e))?;
        let shared = Shared::new(SharedParts {
            ids,
            memory: MemoryGauge::new(config.memory_limit_bytes),
            lanes: Lanes { mailboxes: mailboxes.tx, rooms: rooms.tx },
            alarms: loop_alarms.iter().chain(&worker_alarms).cloned().collect(),
            snapshot: Arc::new(snapshot),
            started_at: Instant::now(),
        });
        let (batches, posts) = (Recycle::<Batch>::new(polls.len()), Recycle::new(executors.len()));
        fill_pools(&batches.tx, &posts.tx);
        let inline = config.workers == 0;
        let shards = make_shards(&shared, executors, inline, rooms.rx, posts.rx, &batches.tx);
        let worker_counters: Vec<_> = shards.iter().map(Shard::counters_handle).collect();
        let mut cells: Vec<_> = shards.iter().map(Shard::stage_cell).collect();
        let registry_messages = messages.tx.clone();
        let (routings, workers) = place(shards, messages, worker_alarms, polls.len());
        let seeds: Vec<LoopSeed> = polls
            .into_iter()
            .zip(mailboxes.rx)
            .zip(batches.rx)
            .zip(routings)
            .enumerate()
            .map(|(index, (((poll, mailbox), spare_batches), routing))| LoopSeed {
                index,
                poll,
                mailbox,
                spare_batches,
                recycle_posts: posts.tx.clone(),
                routing,
                counters: Arc::default(),
                stages: StageRecorder::new(),
            })
            .collect();
        cells.extend(seeds.iter().map(|seed| seed.stages.cell()));
        let loop_counters: Vec<_> = seeds.iter().map(|seed| Arc::clone(&seed.counters)).collect();
        let registry = registry(&shared, &loop_counters, &worker_counters, &registry_messages);
        Ok((Self { shared, loop_alarms, workers, registry, cells }, seeds))
    }
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

fn make_shards(
    shared: &Arc<Shared>,
    executors: &[Arc<Alarm>],
    inline: bool,
    rooms: Vec<LaneReceiver<Box<RoomBatch>>>,
    posts: Vec<Receiver<Box<Post>>>,
    recycle: &[Sender<Box<Batch>>],
) -> Vec<Shard> {
    rooms
        .into_iter()
        .zip(posts)
        .enumerate()
        .map(|(index, (rooms, spare_posts))| {
            let (me, lanes) = (Arc::clone(&executors[index]), shared.lanes().clone());
            Shard::new(ShardParts {
                index,
                out: Outgoing::new(index, me, lanes, spare_posts, inline.then_some(index)),
                rooms,
                gateway: Gateway::new(Arc::clone(shared)),
                counters: Arc::default(),
                stages: StageRecorder::new(),
                recycle: recycle.to_vec(),
                memory: LocalMemory::new(Arc::clone(&shared.memory)),
            })
        })
        .collect()
}

/// Gives the shards to workers, or to loops where there are none.
fn place(
    shards: Vec<Shard>,
    messages: Lane<Batch>,
    worker_alarms: Vec<Arc<Alarm>>,
    loops: usize,
) -> (Vec<Routing>, Vec<WorkerSeed>) {
    if worker_alarms.is_empty() {
        let inline = shards.into_iter().map(|shard| Routing::Inline(Box::new(shard)));
        return (inline.collect(), Vec::new());
    }
    let routings = (0..loops).map(|_| Routing::Pool(messages.tx.clone())).collect();
    let workers = shards
        .into_iter()
        .zip(messages.rx)
        .zip(worker_alarms)
        .map(|((shard, messages), alarm)| WorkerSeed { shard, messages, alarm })
        .collect();
    (routings, workers)
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
