//! Which rooms there are, at all homes together, and who is in one.

use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicUsize, Ordering::AcqRel};
use std::sync::{Mutex, PoisonError};

use crossbeam_channel::Sender;

use super::home::{Home, Surroundings};
use super::publish::OwnedBody;
use super::report::{Report, put_answer};
use super::work::ReplyTo;
use crate::dialect::Body;
use crate::id::ConnId;
use crate::limits::{ROOM_MEMBERS_TOLD_MAX, ROOMS_LISTED_MAX};
use crate::worker::Outgoing;

/// A room that has members.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct RoomInfo {
    /// Its name.
    pub name: String,
    /// How many are in it; at least 1.
    pub members: usize,
    /// Publishes so far, and events and strikes of its clock among them.
    pub serial: u64,
}

/// Rooms that have members, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RoomList {
    /// The first of those asked for, as many as were wanted at most. If there are more, the next list
    /// begins after the last name here.
    pub rooms: Vec<RoomInfo>,
    /// All whose names begin as asked for, also those that come before this list or after it.
    pub total: usize,
    /// Whether there are more behind these.
    pub more: bool,
}

/// Who is in a room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RoomMembers {
    /// How many are in it.
    pub members: usize,
    /// Publishes so far.
    pub serial: u64,
    /// As many of them as were wanted at most, in no order.
    pub ids: Vec<ConnId>,
}

/// A list in the making: each home adds its part, and the last one hands it over.
#[derive(Debug)]
pub struct Listing {
    prefix: Box<str>,
    after: Box<str>,
    limit: usize,
    homes_left: AtomicUsize,
    found: Mutex<(RoomList, Option<ListTo>)>,
}

/// Who asked for a list.
#[derive(Debug)]
pub enum ListTo {
    /// A thread.
    Thread(Sender<RoomList>),
    /// A client.
    Client(ReplyTo),
}

impl Listing {
    /// A list of at most `limit` rooms whose names begin with `prefix` and come after `after`.
    #[must_use]
    pub fn new(prefix: &str, after: &str, limit: usize, homes: usize, to: ListTo) -> Self {
        let limit = limit.clamp(1, ROOMS_LISTED_MAX);
        let found = Mutex::new((RoomList::default(), Some(to)));
        let (prefix, after) = (prefix.into(), after.into());
        Self { prefix, after, limit, homes_left: AtomicUsize::new(homes), found }
    }

    /// Adds one home's part; the last one gets the whole.
    fn add(&self, part: RoomList) -> Option<(RoomList, ListTo)> {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let list = &mut found.0;
        list.total += part.total;
        list.more |= part.more;
        list.rooms.extend(part.rooms);
        list.rooms.sort_unstable();
        list.more |= list.rooms.len() > self.limit;
        list.rooms.truncate(self.limit);
        if self.homes_left.fetch_sub(1, AcqRel) != 1 {
            return None;
        }
        let (list, to) = &mut *found;
        Some((std::mem::take(list), to.take()?))
    }
}

impl RoomList {
    /// As an answer to a client.
    fn to_json(&self) -> OwnedBody {
        let room = |room: &RoomInfo| {
            serde_json::json!({
                "room": room.name, "members": room.members, "serial": room.serial,
            })
        };
        let rooms: Vec<_> = self.rooms.iter().map(room).collect();
        let list = serde_json::json!({ "rooms": rooms, "total": self.total, "more": self.more });
        Body::Json(&list.to_string()).into()
    }
}

impl Home {
    /// Adds this home's rooms to a list. It looks at each of them.
    pub(super) fn list(
        &self,
        listing: &Listing,
        around: &Surroundings<'_>,
        out: &mut Outgoing,
    ) -> Report {
        if let Some((list, to)) = listing.add(self.part_of(listing)) {
            match to {
                // Whoever asked may have gone.
                ListTo::Thread(to) => drop(to.try_send(list)),
                ListTo::Client(to) => put_answer(&to, &Ok(list.to_json()), around, out),
            }
        }
        Report::Told
    }

    fn part_of(&self, listing: &Listing) -> RoomList {
        let Listing { prefix, after, limit, .. } = listing;
        let mut list = RoomList::default();
        // The first names: the last of them on top, to make way for one that comes before it.
        let mut first: BinaryHeap<&str> = BinaryHeap::new();
        for (name, room) in &self.rooms {
            if room.members.is_empty() || !name.starts_with(&**prefix) {
                continue;
            }
            list.total += 1;
            if **name > **after {
                first.push(name);
            }
            if first.len() > *limit {
                first.pop();
                list.more = true;
            }
        }
        let info = |name: &str| {
            let room = &self.rooms[name];
            RoomInfo { name: name.to_owned(), members: room.members.len(), serial: room.serial }
        };
        list.rooms = first.into_iter().map(info).collect();
        list
    }

    /// Tells who is in a room to who asks, if that one still waits.
    pub(super) fn tell(&self, name: &str, limit: usize, to: &Sender<RoomMembers>) -> Report {
        let told = self.rooms.get(name).map_or_else(RoomMembers::default, |room| RoomMembers {
            members: room.members.len(),
            serial: room.serial,
            ids: room.members.iter().take(limit.min(ROOM_MEMBERS_TOLD_MAX)).collect(),
        });
        let _ = to.try_send(told);
        Report::Told
    }
}
