//! What rooms take of memory, for the ceiling's count. `scripts/memory.sh rooms` measures it.

use super::RoomId;
use super::home::Room;
use super::members::Members;

/// What one membership takes: an entry at the home, one on the loop and one in the session.
pub(super) const MEMBERSHIP_BYTES: usize = 12;

/// What one room takes at its home beside its members.
pub(super) fn room_bytes(name: &str) -> usize {
    // Its loops are a piece of their own.
    in_table(size_of::<(Box<str>, Room)>()) + allocated(name.len()) + allocated(8)
}

/// What one room takes for each loop that has members: its record there, and its name in the sessions of
/// the loop's shard, in a list and in a table of what is in it.
pub(super) fn loop_bytes(name: &str) -> usize {
    const NAME_BYTES: usize = size_of::<(Box<str>, u32)>();
    // Counts stand before a shared name.
    let shared = allocated(name.len() + 2 * size_of::<usize>());
    in_table(size_of::<(RoomId, Members)>()) + in_table(NAME_BYTES) + NAME_BYTES * 4 / 3 + shared
}

/// An entry of a hash table, which is from seven sixteenths to seven eighths full.
fn in_table(bytes: usize) -> usize {
    (bytes + 1) * 8 / 5
}

/// A piece of memory as common allocators give it: eight bytes more, in steps of sixteen.
fn allocated(bytes: usize) -> usize {
    (bytes + 8).next_multiple_of(16).max(32)
}
