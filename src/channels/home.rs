//! The rooms and users whose home a shard is.

use std::collections::HashMap;
use std::sync::Arc;

use super::RoomId;
use super::cost::{LOOP_BYTES, MEMBERSHIP_BYTES, room_bytes};
use super::members::Members;
use super::publish::Publish;
use super::report::{Report, finish};
use super::timers::Timers;
use super::work::RoomWork;
use crate::app::Snapshot;
use crate::dialect::ErrorAnswer;
use crate::id::ConnId;
use crate::limits::MEMBERS_LISTED_MAX;
use crate::public_id::PublicIds;
use crate::routing::Work;
use crate::session::{Identity, Users};
use crate::telemetry::counters::WorkerCounters;
use crate::telemetry::memory::{Component, LocalMemory};
use crate::worker::{Outgoing, PostItem};

/// Membership and order of this shard's rooms, and the logins of its users.
#[derive(Debug)]
pub struct Home {
    shard: usize,
    pub(super) rooms: HashMap<Box<str>, Room>,
    next_serial: u64,
    pub(super) timers: Timers,
    pub(super) users: Users,
}

#[derive(Debug)]
pub(super) struct Room {
    pub(super) id: RoomId,
    pub(super) members: Members,
    /// The loops that have members.
    pub(super) loops: Vec<u16>,
    /// Publishes so far.
    pub(super) serial: u64,
    /// When it is reaped (empty) or its clock strikes (with members), ms since the start; 0: never.
    pub(super) due_ms: u64,
    /// All who were in it are on their way out, and need not be told of each other.
    pub(super) closing: bool,
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
    /// Of the turn, in milliseconds since the start.
    pub now_ms: u64,
    /// The gateway is going away: nobody has to be told of others' ends.
    pub is_draining: bool,
}

impl Home {
    /// A home without rooms, one of so many.
    #[must_use]
    pub fn new(shard: usize, homes: usize) -> Self {
        let (rooms, users) = (HashMap::new(), Users::default());
        Self { shard, rooms, next_serial: 1, timers: Timers::of_one_of(homes), users }
    }

    /// Does one piece of work; posts go to `out`.
    pub fn apply(&mut self, work: RoomWork, around: &mut Surroundings<'_>, out: &mut Outgoing) {
        around.counters.room_work.add(1);
        let (then, report) = match work {
            RoomWork::Join { room, conn, who, attempt, then } => {
                let joined = self.join(&room, conn, who.as_deref(), out, around);
                if joined.is_err() {
                    let work = Box::new(Work::refusal(&room, attempt));
                    out.post(conn.loop_index()).push(PostItem::Work { conn, work });
                }
                let told = |members| Report::Membership { room, members };
                (then, joined.map_or_else(Report::Refused, told))
            }
            RoomWork::Leave { room, conn, who, then } => {
                let members = self.leave(&room, conn, who.as_deref(), out, around);
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
            RoomWork::Tell { room, limit, to, then } => (then, self.tell(&room, limit, &to)),
            RoomWork::List { listing, then, .. } => (then, self.list(&listing, around, out)),
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
        who: Option<&Identity>,
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
            around.memory.add(Component::Rooms, room_bytes(name));
        }
        let room = self.rooms.get_mut(name).expect("just put there");
        if let Some(is_new_loop) = room.add(conn) {
            let more = if is_new_loop { LOOP_BYTES } else { 0 };
            around.counters.memberships.add(1);
            around.memory.add(Component::Rooms, MEMBERSHIP_BYTES + more);
            out.post(conn.loop_index()).push(PostItem::Subscribe { room: room.id, conn });
            room.closing = false;
            let members = room.members.len();
            let clock = policy.and_then(|policy| policy.clock.as_ref());
            if members == 1 || clock.is_some() {
                self.occupied(name, clock, around);
            }
            self.tell_joined(name, (conn, who), policy, around, out);
            return Ok(members);
        }
        Ok(room.members.len())
    }

    /// Whether `conn` is a member or can become one where there may be `limit`.
    fn has_place(&self, name: &str, conn: ConnId, limit: usize) -> bool {
        let members = self.rooms.get(name).map(|room| &room.members);
        members.map_or(limit > 0, |m| m.len() < limit || m.contains(conn))
    }

    fn leave(
        &mut self,
        name: &str,
        conn: ConnId,
        who: Option<&Identity>,
        out: &mut Outgoing,
        around: &mut Surroundings<'_>,
    ) -> usize {
        let Some(room) = self.rooms.get_mut(name) else { return 0 };
        let Some(is_last_of_loop) = room.remove(conn) else { return room.members.len() };
        let more = if is_last_of_loop { LOOP_BYTES } else { 0 };
        around.counters.memberships.sub(1);
        around.memory.sub(Component::Rooms, MEMBERSHIP_BYTES + more);
        out.post(conn.loop_index()).push(PostItem::Unsubscribe { room: room.id, conn });
        let left = room.members.len();
        if left == 0 {
            self.emptied(name, around);
        } else {
            self.tell_left(name, (conn, who), around, out);
        }
        left
    }

    pub(super) fn publish(
        &mut self,
        name: &str,
        publish: &Arc<Publish>,
        except: Option<ConnId>,
        out: &mut Outgoing,
    ) -> (u64, usize) {
        let Some(room) = self.rooms.get_mut(name) else { return (0, 0) };
        room.serial += 1;
        for loop_index in &room.loops {
            let publish = Arc::clone(publish);
            out.post((*loop_index).into()).push(PostItem::Publish {
                room: room.id,
                publish,
                except,
            });
        }
        let spared = except.is_some_and(|conn| room.members.contains(conn));
        (room.serial, room.members.len() - usize::from(spared))
    }

    /// Closes all members' connections. They leave by their ends, as anybody does.
    fn close(&mut self, name: &str, code: u16, reason: &str, out: &mut Outgoing) -> usize {
        let Some(room) = self.rooms.get_mut(name) else { return 0 };
        room.closing = true;
        for loop_index in &room.loops {
            let reason = reason.into();
            out.post((*loop_index).into()).push(PostItem::CloseRoom {
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
        let ids = some.map(|conn| ids.encode(conn).as_str().to_owned()).collect();
        Report::Members { room, members, ids }
    }
}

impl Room {
    fn new(id: RoomId) -> Self {
        let (members, loops) = (Members::new(), Vec::new());
        Self { id, members, loops, serial: 0, due_ms: 0, closing: false }
    }

    /// Takes `conn` in; says whether it is its loop's first member. `None` if it is a member already.
    fn add(&mut self, conn: ConnId) -> Option<bool> {
        if !self.members.insert(conn) {
            return None;
        }
        let at = conn.loop_index() as u16;
        let is_new = !self.loops.contains(&at);
        if is_new {
            self.loops.push(at);
        }
        Some(is_new)
    }

    /// Lets go of `conn`; says whether it was its loop's last member. `None` if it is no member.
    fn remove(&mut self, conn: ConnId) -> Option<bool> {
        if !self.members.remove(conn) {
            return None;
        }
        let is_last = !self.members.has_any_of_loop(conn.loop_index());
        if is_last {
            self.loops.retain(|at| usize::from(*at) != conn.loop_index());
        }
        Some(is_last)
    }
}
