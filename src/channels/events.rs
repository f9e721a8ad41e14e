//! What members are told of others who come and go: pushes of the room, in the order of its publishes.

use super::home::{Home, Surroundings};
use super::policy::RoomPolicy;
use super::publish::Publish;
use crate::dialect::{Body, Content};
use crate::id::ConnId;
use crate::session::Identity;
use crate::worker::Outgoing;

impl Home {
    /// Tells the others that somebody is in the room from here on.
    pub(super) fn tell_joined(
        &mut self,
        name: &str,
        who: (ConnId, Option<&Identity>),
        policy: Option<&RoomPolicy>,
        around: &Surroundings<'_>,
        out: &mut Outgoing,
    ) {
        if policy.is_some_and(|policy| policy.events) {
            self.tell_others(name, "joined", who, around, out);
        }
    }

    /// Tells the others that somebody is in the room no more; not if they are going, too.
    pub(super) fn tell_left(
        &mut self,
        name: &str,
        who: (ConnId, Option<&Identity>),
        around: &Surroundings<'_>,
        out: &mut Outgoing,
    ) {
        let policy = around.snapshot.rooms.find(name);
        let all_go = around.is_draining || self.rooms.get(name).is_some_and(|room| room.closing);
        if policy.is_some_and(|policy| policy.events) && !all_go {
            self.tell_others(name, "left", who, around, out);
        }
    }

    fn tell_others(
        &mut self,
        name: &str,
        event: &str,
        (conn, who): (ConnId, Option<&Identity>),
        around: &Surroundings<'_>,
        out: &mut Outgoing,
    ) {
        let Some(room) = self.rooms.get(name) else { return };
        let members = room.members.len();
        if members == usize::from(room.members.contains(conn)) {
            return;
        }
        let id = around.ids.encode(conn);
        let body = serde_json::json!({ "id": id.as_str(), "identity": who, "members": members });
        let body = body.to_string();
        let content = Content::named(event, Body::Json(&body));
        let (terms, memory) = (around.snapshot.rooms.outbound(name), around.memory.gauge());
        let publish = Publish::under(terms, Some(name.into()), None, content, memory);
        self.publish(name, &publish, Some(conn), out);
    }
}
