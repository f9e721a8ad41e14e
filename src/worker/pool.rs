//! A worker thread: one shard, its two lanes, and sleep.

use std::sync::Arc;
use std::time::Instant;

use super::alarm::Alarm;
use super::batch::Batch;
use super::lane::LaneReceiver;
use super::outgoing::Flush;
use super::shard::{Shard, Turn};
use crate::app::Shared;
use crate::routing::adopt_executor;

/// Runs a shard until the gateway has stopped and all that its loops handed over is done.
pub fn run_worker(
    mut shard: Shard,
    messages: &LaneReceiver<Box<Batch>>,
    alarm: &Arc<Alarm>,
    shared: &Shared,
) {
    alarm.adopt();
    adopt_executor();
    loop {
        // Read before the lanes are looked at: what is found empty after this was set stays so.
        let stopping = shared.workers_stop();
        let busy = turn(&mut shard, messages);
        shard.stages().publish_if_wanted();
        if busy {
            continue;
        }
        if stopping {
            break;
        }
        shard.settle_memory();
        shard.counters().sleeps.add(1);
        shard.stages().publish_before_sleep();
        let timeout = shard.next_due().map(|tick| shared.time_until(tick));
        alarm.park_for(timeout, || {
            shard.last_look(Instant::now())
                || shard.is_ready() && !messages.is_empty()
                || shared.workers_stop()
        });
    }
    shard.settle_memory();
}

/// One round over the levels, lowest first. Says whether anything was done.
fn turn(shard: &mut Shard, messages: &LaneReceiver<Box<Batch>>) -> bool {
    let now = Instant::now();
    shard.sweep_due(now);
    let before = shard.counters().room_work.get();
    if shard.room_turn(now) == Flush::Blocked || shard.message_turn(now) == Turn::Blocked {
        return shard.counters().room_work.get() != before;
    }
    let Some(batch) = messages.take() else {
        return shard.counters().room_work.get() != before;
    };
    shard.begin(batch, now);
    // What it could not send now is tried again at the next turn, before anything else.
    let _ = shard.message_turn(now);
    true
}
