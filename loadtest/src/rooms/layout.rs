//! Who is in which room, and who publishes there.

use crate::plan::share;

/// Connection `i` is a member of room `i % rooms`; the first `publishers` of them also publish, each
/// in its own room.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    /// Connections.
    pub(crate) members: u32,
    /// Rooms, no more than members.
    pub(crate) rooms: u32,
    /// Publishers, no more than members.
    pub(crate) publishers: u32,
}

impl Layout {
    /// The room of a connection.
    pub(crate) fn room(&self, index: u32) -> u32 {
        index % self.rooms
    }

    /// A publisher's rank among those of its room.
    pub(crate) fn rank(&self, publisher: u32) -> u32 {
        publisher / self.rooms
    }

    /// How many publish in a room.
    pub(crate) fn publishers_of(&self, room: u32) -> u32 {
        share(self.publishers, self.rooms, room)
    }

    /// Whether a connection publishes.
    pub(crate) fn publishes(&self, index: u32) -> bool {
        index < self.publishers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_count_the_publishers_of_a_room() {
        let layout = Layout { members: 20, rooms: 3, publishers: 7 };
        for room in 0..3 {
            let ranks: Vec<_> = (0..20)
                .filter(|index| layout.room(*index) == room && layout.publishes(*index))
                .map(|index| layout.rank(index))
                .collect();
            assert_eq!(ranks, (0..layout.publishers_of(room)).collect::<Vec<_>>());
        }
    }
}
