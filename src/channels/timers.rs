//! What is due in rooms: those that stay empty are reaped, those with a clock are told.
//!
//! Times are milliseconds since the gateway's start, passed in, in steps of ticks. A room has one
//! timer at most: it is empty, or its clock runs.

use std::collections::BTreeMap;

use super::RoomId;
use super::clock::{Clock, RoomView};
use super::cost::room_bytes;
use super::home::{Home, Surroundings};
use super::publish::Publish;
use crate::connection::Tick;
use crate::limits::{ROOMS_EMPTY_SHARE, TICK_MS};
use crate::telemetry::memory::Component;
use crate::worker::Outgoing;

/// Rooms reaped per sweep; the rest is for the next turn.
const REAPED_PER_SWEEP: usize = 1024;
/// Posts that the clocks of one sweep may make; the rest is for the next turn.
const POSTS_PER_SWEEP: usize = 512;
/// Tables smaller than this keep their memory.
const SHRUNK_FROM: usize = 4096;

type ByTime = BTreeMap<(u64, RoomId), Box<str>>;

/// The timers of a home's rooms.
#[derive(Debug)]
pub(super) struct Timers {
    /// Rooms without members, by when they are reaped.
    empty: ByTime,
    /// Rooms with members and a clock, by when it strikes.
    clocks: ByTime,
    /// What rooms without members take.
    empty_bytes: usize,
    /// How many homes share what those may take.
    homes: usize,
}

impl Timers {
    /// None so far, of one of so many homes.
    pub(super) fn of_one_of(homes: usize) -> Self {
        Self { empty: ByTime::new(), clocks: ByTime::new(), empty_bytes: 0, homes }
    }

    fn wait_to_be_reaped(&mut self, due_ms: u64, id: RoomId, name: &str) {
        self.empty_bytes += room_bytes(name);
        self.empty.insert((due_ms, id), name.into());
    }

    fn wait_no_more(&mut self, due_ms: u64, id: RoomId) {
        if let Some(name) = self.empty.remove(&(due_ms, id)) {
            self.empty_bytes -= room_bytes(&name);
        }
    }

    /// Whether rooms without members take more than a home's share under this ceiling.
    fn has_too_many(&self, memory_limit_bytes: u64) -> bool {
        self.empty_bytes as u64 * self.homes as u64 > memory_limit_bytes / ROOMS_EMPTY_SHARE
    }
}

impl Home {
    /// The tick before which nothing is due, if anything ever is.
    #[must_use]
    pub fn next_due(&self) -> Option<Tick> {
        let Timers { empty, clocks, .. } = &self.timers;
        let first = empty.first_key_value().into_iter().chain(clocks.first_key_value());
        first.map(|((due_ms, _), _)| tick_of(*due_ms)).min()
    }

    /// Whether there are rooms that could make way for what needs their memory.
    #[must_use]
    pub fn has_empty_rooms(&self) -> bool {
        !self.timers.empty.is_empty()
    }

    /// Does what is due, up to a budget. At the memory ceiling, and at the gateway's end, all empty
    /// rooms are.
    pub fn sweep(&mut self, around: &mut Surroundings<'_>, out: &mut Outgoing) {
        self.reap(around);
        self.strike(around, out);
    }

    /// The room has one member more: if that is the first, it stays, and its clock runs if it has one.
    pub(super) fn occupied(
        &mut self,
        name: &str,
        clock: Option<&Clock>,
        around: &Surroundings<'_>,
    ) {
        let Some(room) = self.rooms.get_mut(name) else { return };
        if room.members.len() == 1 {
            around.counters.rooms.add(1);
            let due_ms = std::mem::take(&mut room.due_ms);
            if due_ms > 0 {
                self.timers.wait_no_more(due_ms, room.id);
                around.counters.rooms_empty.sub(1);
            }
        }
        if let Some(clock) = clock
            && room.due_ms == 0
        {
            room.due_ms = around.now_ms + clock.interval_ms();
            self.timers.clocks.insert((room.due_ms, room.id), name.into());
        }
    }

    /// The room's last member has left: it lingers for a while, if there is memory for that.
    pub(super) fn emptied(&mut self, name: &str, around: &mut Surroundings<'_>) {
        let Some(room) = self.rooms.get_mut(name) else { return };
        around.counters.rooms.sub(1);
        drop((std::mem::take(&mut room.members), std::mem::take(&mut room.loops)));
        let (id, clock_ms) = (room.id, std::mem::take(&mut room.due_ms));
        self.timers.clocks.remove(&(clock_ms, id));
        let linger_ms = around.snapshot.config.tuning.room_linger.as_millis() as u64;
        if linger_ms == 0 || have_to_go(around) {
            return self.remove(name, around);
        }
        room.due_ms = around.now_ms + linger_ms;
        self.timers.wait_to_be_reaped(room.due_ms, id, name);
        around.counters.rooms_empty.add(1);
        // However fast names come, nobody is shed for rooms that nobody is in.
        while self.timers.has_too_many(around.snapshot.config.memory_limit_bytes) {
            self.reap_oldest(around);
        }
    }

    fn reap(&mut self, around: &mut Surroundings<'_>) {
        let all = have_to_go(around);
        for _ in 0..REAPED_PER_SWEEP {
            match self.timers.empty.first_key_value() {
                Some(((due_ms, _), _)) if all || *due_ms <= around.now_ms => {
                    self.reap_oldest(around);
                }
                _ => return,
            }
        }
    }

    fn reap_oldest(&mut self, around: &mut Surroundings<'_>) {
        if let Some((_, name)) = self.timers.empty.pop_first() {
            self.timers.empty_bytes -= room_bytes(&name);
            around.counters.rooms_empty.sub(1);
            self.remove(&name, around);
        }
    }

    /// Forgets a room that has no members and no timer.
    fn remove(&mut self, name: &str, around: &mut Surroundings<'_>) {
        self.rooms.remove(name);
        around.counters.rooms_reaped.add(1);
        around.memory.sub(Component::Rooms, room_bytes(name));
        // What many rooms took that were there at once is not kept for the few that are left.
        let (len, capacity) = (self.rooms.len(), self.rooms.capacity());
        if capacity >= SHRUNK_FROM && len < capacity / 8 {
            self.rooms.shrink_to(2 * len);
        }
    }

    fn strike(&mut self, around: &mut Surroundings<'_>, out: &mut Outgoing) {
        let mut posts = 0;
        while posts < POSTS_PER_SWEEP
            && let Some(entry) = self.timers.clocks.first_entry()
            && entry.key().0 <= around.now_ms
        {
            let ((due_ms, _), name) = entry.remove_entry();
            posts += self.strike_in(name, due_ms, around, out);
        }
    }

    /// A room's clock strikes; says how much that was.
    fn strike_in(
        &mut self,
        name: Box<str>,
        due_ms: u64,
        around: &Surroundings<'_>,
        out: &mut Outgoing,
    ) -> usize {
        let Some(room) = self.rooms.get_mut(&name) else { return 1 };
        room.due_ms = 0;
        let policy = around.snapshot.rooms.find(&name);
        let clock = policy.and_then(|policy| policy.clock.as_ref());
        // A clock that is no more starts with the next join, if it comes back.
        let Some(clock) = clock.filter(|_| !around.is_draining) else { return 1 };
        // From when it was due, not from now, so that it does not drift; what was missed is missed.
        let interval_ms = clock.interval_ms();
        let missed = (around.now_ms - due_ms) / interval_ms;
        room.due_ms = due_ms + (missed + 1) * interval_ms;
        let view = RoomView { name: &name, members: room.members.len(), serial: room.serial };
        let posts = 1 + room.loops.len();
        let next = (room.due_ms, room.id);
        match clock.content(&view) {
            Ok(Some(content)) => {
                let (memory, content) = (around.memory.gauge(), content.as_content());
                let terms = around.snapshot.rooms.outbound(&name);
                let publish = Publish::under(terms, Some(name.clone()), None, content, memory);
                self.publish(&name, &publish, None, out);
            }
            Ok(None) => {}
            Err(()) => around.counters.panics.add(1),
        }
        self.timers.clocks.insert(next, name);
        posts
    }
}

/// Whether empty rooms are not to linger.
fn have_to_go(around: &Surroundings<'_>) -> bool {
    around.is_draining || around.memory.gauge().over_limit()
}

/// The first tick at or after a time.
fn tick_of(due_ms: u64) -> Tick {
    Tick::try_from(due_ms.div_ceil(TICK_MS) + 1).unwrap_or(Tick::MAX)
}

#[cfg(test)]
#[path = "timers_tests.rs"]
mod tests;
