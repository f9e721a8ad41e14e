//! What rooms take of memory, for the ceiling's count. `scripts/memory.sh rooms` measures it. What
//! the names of rooms take in the shards of their members is counted there.

use super::RoomId;
use super::home::Room;
use super::members::Members;
use crate::telemetry::memory::{allocated, in_table};

/// What one membership takes: an entry at the home, one on the loop and one in the session.
pub(super) const MEMBERSHIP_BYTES: usize = 12;

/// What one room takes for each loop that has members.
pub(super) const LOOP_BYTES: usize = in_table(size_of::<(RoomId, Members)>());

/// What one room takes at its home beside its members.
pub(super) fn room_bytes(name: &str) -> usize {
    // Its loops are a piece of their own, and so is its name among the timers.
    in_table(size_of::<(Box<str>, Room)>()) + 2 * allocated(name.len()) + allocated(8)
}
