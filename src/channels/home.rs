//! The rooms whose home a shard is.

use std::collections::hash_map::{Entry, HashMap};
use std::fmt::Write as _;
use std::sync::Arc;

use super::RoomId;
use super::cost::{MEMBERSHIP_BYTES, loop_bytes, room_bytes};
use super::members::Members;
use super::publish::{OwnedBody, Publish};
use super::work::{Answer, Done, ReplyTo, RoomWork, Settles, Then};
use crate::app::Snapshot;
use crate::dialect::{Body, ErrorAnswer};
use crate::id::ConnId;
use crate::limits::MEMBERS_LISTED_MAX;
use crate::public_id::PublicIds;
use crate::routing::{Refuse, SessionPolicy, Work, is_room_name};
use crate::telemetry::counters::WorkerCounters;
use crate::telemetry::memory::{Component, LocalMemory};
use crate::worker::{Outgoing, PostItem};

/// Membership and order of this shard's rooms.
#[derive(Debug)]
pub struct Home {
    shard: usize,
    rooms: HashMap<Box<str>, Room>,
    next_serial: u64,
}

#[derive(Debug)]
pub(super) struct Room {
    id: RoomId,
    members: Members,
    /// The loops that have members.
    loops: Vec<u16>,
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

/// Close code of a connection whose identity has connected elsewhere.
const DISPLACED: u16 = 4001;

impl Home {
    /// A home without rooms.
    #[must_use]
    pub fn new(shard: usize) -> Self {
        Self { shard, rooms: HashMap::new(), next_serial: 1 }
    }

    /// Does one piece of work; posts go to `out`.
    pub fn apply(&mut self, work: RoomWork, around: &mut Surroundings<'_>, out: &mut Outgoing) {
        around.counters.room_work.add(1);
        let (then, report) = match work {
            RoomWork::Join { room, conn, session, attempt, then } => {
                let joined = self
                    .make_way(&room, conn, session, out)
                    .and_then(|()| self.join(&room, conn, out, around));
                if joined.is_err() {
                    let work = Box::new(Work::refusal(&room, attempt));
                    out.post(conn.loop_index()).push(PostItem::Work { conn, work });
                }
                (
                    then,
                    joined.map_or_else(Report::Refused, |members| Report::Membership {
                        room,
                        members,
                    }),
                )
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
        // The gateway's own rooms, of a user's connections, are nobody's to bound.
        let policy = around.snapshot.rooms.find(name).filter(|_| is_room_name(name));
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
        if let Some(is_new_loop) = room.add(conn) {
            let more = if is_new_loop { loop_bytes(name) } else { 0 };
            around.counters.memberships.add(1);
            around.memory.add(Component::Rooms, MEMBERSHIP_BYTES + more);
            out.post(conn.loop_index()).push(PostItem::Subscribe { room: room.id, conn });
        }
        Ok(room.members.len())
    }

    /// Sees to the others of a user's connections, as the newest one's endpoint has it. Two that come
    /// at once come here one after the other, so that what the policy says holds between them too.
    fn make_way(
        &mut self,
        name: &str,
        conn: ConnId,
        session: SessionPolicy,
        out: &mut Outgoing,
    ) -> Result<(), ErrorAnswer<'static>> {
        if session.limit().is_some_and(|limit| !self.has_place(name, conn, limit)) {
            return Err(ErrorAnswer::new(409, "this identity is connected already"));
        }
        if session == SessionPolicy::Displace
            && let Some(room) = self.rooms.get(name)
        {
            for other in room.members.iter().filter(|other| *other != conn) {
                out.post(other.loop_index()).close(other, DISPLACED, "connected elsewhere");
            }
        }
        Ok(())
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
        out: &mut Outgoing,
        around: &mut Surroundings<'_>,
    ) -> usize {
        let Entry::Occupied(mut entry) = self.rooms.entry(name.into()) else { return 0 };
        let room = entry.get_mut();
        if let Some(is_last_of_loop) = room.remove(conn) {
            let more = if is_last_of_loop { loop_bytes(name) } else { 0 };
            around.counters.memberships.sub(1);
            around.memory.sub(Component::Rooms, MEMBERSHIP_BYTES + more);
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
    fn close(&self, name: &str, code: u16, reason: &str, out: &mut Outgoing) -> usize {
        let Some(room) = self.rooms.get(name) else { return 0 };
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
        Self { id, members: Members::new(), loops: Vec::new(), serial: 0 }
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

/// What the asker may be told.
enum Report {
    Membership { room: Box<str>, members: usize },
    Published { room: Box<str>, serial: u64, members: usize },
    Members { room: Box<str>, members: usize, ids: Vec<String> },
    Refused(ErrorAnswer<'static>),
}

impl Report {
    /// Why the work was not done, if it was not.
    fn refusal(self) -> Option<ErrorAnswer<'static>> {
        match self {
            Self::Refused(error) => Some(error),
            _ => None,
        }
    }

    /// The answer to the asker.
    fn into_answer(self) -> Answer {
        let room = match &self {
            Self::Refused(error) => return Err(error.clone()),
            Self::Membership { room, .. }
            | Self::Published { room, .. }
            | Self::Members { room, .. } => room,
        };
        let mut text = format!("{{\"room\":{}", serde_json::Value::from(&**room));
        let _ = match &self {
            Self::Refused(_) => Ok(()),
            Self::Membership { members, .. } => write!(text, ",\"members\":{members}}}"),
            Self::Published { serial, members, .. } => {
                write!(text, ",\"serial\":{serial},\"receivers\":{members}}}")
            }
            Self::Members { members, ids, .. } => {
                let ids = serde_json::Value::from(ids.clone());
                write!(text, ",\"members\":{members},\"ids\":{ids}}}")
            }
        };
        Ok(Body::Json(&text).into())
    }
}

fn finish(then: Then, report: Report, around: &Surroundings<'_>, out: &mut Outgoing) {
    match then {
        Then::Nothing => {}
        Then::Report(to) => {
            if to.correlation.is_some() {
                put_answer(&to, &report.into_answer(), around, out);
            }
            settle(&to, out);
        }
        Then::Reply(to, answer) => {
            let answer = report.refusal().map_or(answer, Err);
            put_answer(&to, &answer, around, out);
            settle(&to, out);
        }
        Then::Last(countdown) => {
            if let Some(error) = report.refusal() {
                countdown.fail(error);
            }
            if let Some(done) = countdown.count() {
                finish_last(done, countdown.failure(), around, out);
            }
        }
    }
}

/// What the last of several pieces of work sets off; `failure` is what one of them came to.
fn finish_last(
    done: Done,
    failure: Option<&ErrorAnswer<'static>>,
    around: &Surroundings<'_>,
    out: &mut Outgoing,
) {
    match (done, failure) {
        (Done::Reply(to, answer), failure) => {
            let answer = failure.map_or(answer, |error| Err(error.clone()));
            put_answer(&to, &answer, around, out);
            settle(&to, out);
        }
        (Done::Accept(conn, accept), None) => {
            out.post(conn.loop_index()).push(PostItem::Open { conn, accept });
        }
        (Done::Accept(conn, _), Some(error)) => {
            let status = if error.code == 409 { 409 } else { 503 };
            let refuse = Box::new(Refuse::new(status, &format!("{}\n", error.message)));
            out.post(conn.loop_index()).push(PostItem::Refuse { conn, refuse });
        }
    }
}

fn put_answer(to: &ReplyTo, answer: &Answer, around: &Surroundings<'_>, out: &mut Outgoing) {
    if to.correlation.is_none() {
        return;
    }
    let endpoint = around.snapshot.endpoint(to.endpoint);
    let body = answer.as_ref().map(OwnedBody::as_body);
    let correlation = to.correlation.as_deref();
    out.post(to.conn.loop_index())
        .reply(to.conn, 1, |bytes| endpoint.put_answer(bytes, correlation, body));
}

fn settle(to: &ReplyTo, out: &mut Outgoing) {
    if to.settles == Settles::Yes {
        out.post(to.conn.loop_index()).settle(to.conn, 1);
    }
}
