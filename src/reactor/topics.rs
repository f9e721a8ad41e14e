//! Which of the loop's connections are in which rooms. The home decides; this only follows.

use std::collections::HashMap;

use crate::channels::{Members, RoomId};
use crate::id::ConnId;

/// Members on this loop, by room. Members that ended are found stale at delivery; their home's
/// `Unsubscribe` removes them.
#[derive(Debug, Default)]
pub(super) struct Topics {
    rooms: HashMap<RoomId, Members>,
}

impl Topics {
    /// `conn` is a member from here on.
    pub(super) fn subscribe(&mut self, room: RoomId, conn: ConnId) {
        self.rooms.entry(room).or_default().insert(conn);
    }

    /// `conn` is no member from here on.
    pub(super) fn unsubscribe(&mut self, room: RoomId, conn: ConnId) {
        if let Some(members) = self.rooms.get_mut(&room) {
            members.remove(conn);
            if members.is_empty() {
                self.rooms.remove(&room);
            }
        }
    }

    /// Takes the members of a room out, to be put back by [`put_members`](Self::put_members).
    pub(super) fn take_members(&mut self, room: RoomId) -> Members {
        self.rooms.get_mut(&room).map(std::mem::take).unwrap_or_default()
    }

    /// Puts the members back.
    pub(super) fn put_members(&mut self, room: RoomId, members: Members) {
        if let Some(place) = self.rooms.get_mut(&room) {
            *place = members;
        }
    }
}
