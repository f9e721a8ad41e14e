//! The rooms and users whose home a shard is.

use std::collections::HashSet;
use std::collections::hash_map::{Entry, HashMap};
use std::sync::Arc;

use super::RoomId;
use super::publish::Publish;
use super::report::{Report, finish};
use super::work::RoomWork;
use crate::app::Snapshot;
use crate::dialect::ErrorAnswer;
use crate::id::ConnId;
use crate::limits::MEMBERS_LISTED_MAX;
use crate::public_id::PublicIds;
use crate::routing::Work;
use crate::session::Users;
use crate::telemetry::counters::WorkerCounters;
use crate::telemetry::memory::{Component, LocalMemory};
use crate::worker::{Outgoing, PostItem};

/// Membership and order of this shard's rooms, and the logins of its users.
#[derive(Debug)]
pub struct Home {
    shard: usize,
    rooms: HashMap<Box<str>, Room>,
    next_serial: u64,
    pub(super) users: Users,
}

#[derive(Debug)]
struct Room {
    id: RoomId,
    members: HashSet<ConnId>,
    /// How many members each loop has; loops without are not listed.
    per_loop: Vec<(u32, u32)>,
    /// Publishes so far.
    serial: u64,
}

/// What room work needs from around it.
#[derive(Debug)]
pub struct Surroundings<'a> {
    /// Endpoints, for their dialects.
    pub snapshot: &'a Snapshot,
    /// What clients see of ids.
    pub ids: &'a PublicIds,
    /// The shard's counters.
    pub counters: &'a WorkerCounters,
    /// The ceiling's count.
    pub memory: &'a mut LocalMemory,
}

/// What one membership takes: an entry at the home, one on the loop and one in the session, each
/// in a hash table that is half full.
const MEMBERSHIP_BYTES: usize = 96;

/// What one room takes beside its members: its record, and its name at the home and in a session.
fn room_bytes(name: &str) -> usize {
    size_of::<Room>() + 256 + 3 * name.len()
}

impl Home {
    /// A home without rooms.
    #[must_use]
    pub fn new(shard: usize) -> Self {
        Self { shard, rooms: HashMap::new(), next_serial: 1, users: Users::default() }
    }

    /// Does one piece of work; posts go to `out`.
    pub fn apply(&mut self, work: RoomWork, around: &mut Surroundings<'_>, out: &mut Outgoing) {
        around.counters.room_work.add(1);
        let (then, report) = match work {
            RoomWork::Join { room, conn, attempt, then } => {
                let joined = self.join(&room, conn, out, around);
                if joined.is_err() {
                    let work = Box::new(Work::refusal(&room, attempt));
                    out.post(conn.loop_index()).push(PostItem::Work { conn, work });
                }
                let told = |members| Report::Membership { room, members };
                (then, joined.map_or_else(Report::Refused, told))
            }
            RoomWork::Leave { room, conn, then } => {
                let members = self.leave(&room, conn, out, around);
                (then, Report::Membership { room, members })
            }
            RoomWork::Publish { room, publish, except, then } => {
                let (serial, members) = self.publish(&room, &publish, except, out);
                (then, Report::Published { room, serial, members })
            }
            RoomWork::Close { room, code, reason, then } => {
                let members = self.close(&room, code, &reason, out);
                (then, Report::Membership { room, members })
            }
            RoomWork::Members { room, then } => (then, self.members(room, around.ids)),
            RoomWork::Login { login, peer, policy, then } => {
                (then, self.login(login, peer, policy, around, out))
            }
            RoomWork::Logout { login, then } => (then, self.logout(&login, around)),
            RoomWork::User { user, act, then } => (then, self.user(&user, act, out)),
        };
        finish(then, report, around, out);
    }

    fn join(
        &mut self,
        name: &str,
        conn: ConnId,
        out: &mut Outgoing,
        around: &mut Surroundings<'_>,
    ) -> Result<usize, ErrorAnswer<'static>> {
        let policy = around.snapshot.rooms.find(name);
        let limit = policy.and_then(|policy| policy.max_members);
        if limit.is_some_and(|limit| !self.has_place(name, conn, limit)) {
            return Err(ErrorAnswer::new(429, format!("the room `{name}` is full")));
        }
        if !self.rooms.contains_key(name) {
            let id = RoomId::new(self.shard, self.next_serial);
            self.next_serial += 1;
            self.rooms.insert(name.into(), Room::new(id));
            around.counters.rooms.add(1);
            around.memory.add(Component::Rooms, room_bytes(name));
        }
        let room = self.rooms.get_mut(name).expect("just put there");
        if room.add(conn) {
            around.counters.memberships.add(1);
            around.memory.add(Component::Rooms, MEMBERSHIP_BYTES);
            out.post(conn.loop_index()).push(PostItem::Subscribe { room: room.id, conn });
        }
        Ok(room.members.len())
    }

    /// Whether `conn` is a member or can become one where there may be `limit`.
    fn has_place(&self, name: &str, conn: ConnId, limit: usize) -> bool {
        let members = self.rooms.get(name).map(|room| &room.members);
        members.map_or(limit > 0, |m| m.len() < limit || m.contains(&conn))
    }

    fn leave(
        &mut self,
        name: &str,
        conn: ConnId,
        out: &mut Outgoing,
        around: &mut Surroundings<'_>,
    ) -> usize {
        let Entry::Occupied(mut entry) = self.rooms.entry(name.into()) else { return 0 };
        let room = entry.get_mut();
        if room.remove(conn) {
            around.counters.memberships.sub(1);
            around.memory.sub(Component::Rooms, MEMBERSHIP_BYTES);
            out.post(conn.loop_index()).push(PostItem::Unsubscribe { room: room.id, conn });
        }
        let left = room.members.len();
        if left == 0 {
            entry.remove();
            around.counters.rooms.sub(1);
            around.memory.sub(Component::Rooms, room_bytes(name));
        }
        left
    }

    fn publish(
        &mut self,
        name: &str,
        publish: &Arc<Publish>,
        except: Option<ConnId>,
        out: &mut Outgoing,
    ) -> (u64, usize) {
        let Some(room) = self.rooms.get_mut(name) else { return (0, 0) };
        room.serial += 1;
        for (loop_index, _) in &room.per_loop {
            let publish = Arc::clone(publish);
            out.post(*loop_index as usize).push(PostItem::Publish {
                room: room.id,
                publish,
                except,
            });
        }
        let spared = except.is_some_and(|conn| room.members.contains(&conn));
        (room.serial, room.members.len() - usize::from(spared))
    }

    /// Closes all members' connections. They leave by their ends, as anybody does.
    fn close(&self, name: &str, code: u16, reason: &str, out: &mut Outgoing) -> usize {
        let Some(room) = self.rooms.get(name) else { return 0 };
        for (loop_index, _) in &room.per_loop {
            let reason = reason.into();
            out.post(*loop_index as usize).push(PostItem::CloseRoom {
                room: room.id,
                code,
                reason,
            });
        }
        room.members.len()
    }

    fn members(&self, room: Box<str>, ids: &PublicIds) -> Report {
        let found = self.rooms.get(&room);
        let members = found.map_or(0, |r| r.members.len());
        let some = found.into_iter().flat_map(|r| r.members.iter()).take(MEMBERS_LISTED_MAX);
        let ids = some.map(|conn| ids.encode(*conn).as_str().to_owned()).collect();
        Report::Members { room, members, ids }
    }
}

impl Room {
    fn new(id: RoomId) -> Self {
        Self { id, members: HashSet::new(), per_loop: Vec::new(), serial: 0 }
    }

    fn add(&mut self, conn: ConnId) -> bool {
        if !self.members.insert(conn) {
            return false;
        }
        let at = conn.loop_index() as u32;
        match self.per_loop.iter_mut().find(|(index, _)| *index == at) {
            Some((_, count)) => *count += 1,
            None => self.per_loop.push((at, 1)),
        }
        true
    }

    fn remove(&mut self, conn: ConnId) -> bool {
        if !self.members.remove(&conn) {
            return false;
        }
        let at = conn.loop_index() as u32;
        let index = self.per_loop.iter().position(|(index, _)| *index == at);
        let index = index.expect("a member's loop is counted");
        self.per_loop[index].1 -= 1;
        if self.per_loop[index].1 == 0 {
            self.per_loop.swap_remove(index);
        }
        true
    }
}
