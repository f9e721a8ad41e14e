//! The workers: shards that route messages, and the lanes and batches between them and the loops.
//!
//! Invariants:
//! - a connection belongs to one shard for life, so its messages are routed in order;
//! - work has three levels, each waiting only for those below: (0) mailbox → outbox, which the
//!   loops always drain and which posts nothing; (1) room work → mailboxes; (2) client messages →
//!   room work and mailboxes. A shard whose send is refused keeps that one piece, takes nothing
//!   more from the level it was at or above, and goes on with the levels below;
//! - the same shard code runs on a worker thread and, with `--workers 0`, inline on a loop;
//! - every message handed over is settled exactly once, whatever its handler does.

mod admit;
mod alarm;
mod away;
mod batch;
mod blocking;
mod lane;
#[cfg(loom)]
mod loom_model;
mod outgoing;
mod over;
mod pool;
mod post;
mod route;
mod shard;
mod state;

pub use alarm::{Alarm, WakeFlag};
pub use batch::{Batch, Notice, Run, Taken};
pub use blocking::{BlockingPool, Busy, Job, PoolStopped, Strand};
pub use lane::{LaneReceiver, LaneSender, Refused, lane};
pub use outgoing::{Flush, Lanes, Outgoing};
pub use pool::run_worker;
pub use post::{Post, PostItem, bytes_at};
pub use shard::{Shard, ShardParts, Turn};
