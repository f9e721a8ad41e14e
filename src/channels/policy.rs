//! What takes a permission in which rooms, how many fit, what they are told, and what becomes of
//! publishes to the slow.

use std::fmt;
use std::time::Duration;

use super::clock::{Clock, OwnedContent, RoomView};
use crate::connection::Outbound;
use crate::dialect::Key;
use crate::routing::RouteTable;

/// What is asked of members and publishers of rooms whose names match a pattern.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoomPolicy {
    /// The permission that it takes to join; `None`: none.
    pub join: Option<Box<str>>,
    /// The permission that it takes to publish; `None`: none.
    pub publish: Option<Box<str>>,
    /// Most members; `None`: no bound.
    pub max_members: Option<usize>,
    /// Whether members are told of others who come and go, by the pushes `joined` and `left`.
    pub events: bool,
    /// What rooms with members are told again and again.
    pub clock: Option<Clock>,
    /// What becomes of its publishes that a member has no room for.
    pub outbound: Outbound,
}

impl RoomPolicy {
    /// With a push of one's own making each `interval`, of at least one tick (50 ms), to rooms that
    /// have members. `content` runs at the room's home and must not block; `None` leaves one out.
    #[must_use]
    pub fn every(
        mut self,
        interval: Duration,
        content: impl Fn(&RoomView<'_>) -> Option<OwnedContent> + Send + Sync + 'static,
    ) -> Self {
        self.clock = Some(Clock::new(interval, content));
        self
    }
}

/// Policies by pattern: a name, or `news/*` for all that begin with `news/`, or `*`. The longest
/// pattern that matches counts.
#[derive(Default)]
pub struct RoomPolicies(RouteTable<RoomPolicy>);

impl RoomPolicies {
    /// Sets what holds for rooms of a pattern.
    pub fn set(&mut self, pattern: &str, policy: RoomPolicy) {
        self.0.insert(pattern, policy);
    }

    /// What holds for a room.
    #[inline]
    #[must_use]
    pub fn find(&self, room: &str) -> Option<&RoomPolicy> {
        if self.0.is_empty() { None } else { self.0.find(&Key::from(room)) }
    }

    /// What becomes of publishes to a room that a member has no room for, as far as its policy says.
    #[inline]
    #[must_use]
    pub fn outbound(&self, room: &str) -> Outbound {
        self.find(room).map_or_else(Outbound::default, |policy| policy.outbound)
    }
}

impl fmt::Debug for RoomPolicies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
