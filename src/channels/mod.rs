//! Rooms: who is in them, and in what order they are spoken to; and homes, of rooms and of users.
//!
//! Invariants:
//! - a room has one home shard (by hash of its name); joins, leaves and publishes pass through it
//!   and through nothing else, so all members see its publishes in one order;
//! - the home knows the members and how many of them each loop has; loops without are not posted to;
//! - a publish begun after a join was answered reaches that member; one begun after a leave was
//!   answered does not: the answer rides behind the change of membership in the same mailbox;
//! - room work posts to mailboxes only, never to other room or message lanes;
//! - a room that has become empty keeps its id and its numbering for as long as it lingers; what it
//!   takes is counted until it is reaped, and no room, however busy, holds up another's end.

mod clock;
mod cost;
mod events;
mod home;
mod list;
mod logins;
mod member_codec;
mod members;
mod policy;
mod publish;
mod report;
mod timers;
mod work;

pub use clock::{Clock, OwnedContent, RoomView};
pub use home::{Home, Surroundings};
pub use list::{ListTo, Listing, RoomInfo, RoomList, RoomMembers};
pub use members::{Iter, Members};
pub use policy::{RoomPolicies, RoomPolicy};
pub use publish::{OwnedBody, Publish};
pub use work::{Answer, Countdown, Done, ReplyTo, RoomBatch, RoomWork, Settles, Then, UserWork};

/// A room from its first join until it is reaped: home shard 16 bits | serial 48.
///
/// Loops know rooms by this alone. It is never used again, so a late post about a room that was
/// reaped finds nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoomId(u64);

impl RoomId {
    /// The `serial`-th room of a shard.
    ///
    /// Serials begin with 1, so that no id is 0.
    #[must_use]
    pub fn new(shard: usize, serial: u64) -> Self {
        debug_assert!((1..1 << 48).contains(&serial));
        Self((shard as u64) << 48 | serial)
    }

    /// As an opaque key.
    #[must_use]
    pub fn to_bits(self) -> u64 {
        self.0
    }
}
