//! The users whose home a shard is: who logs in, and what reaches all connections of a user.

use std::sync::Arc;

use super::home::{Home, Surroundings};
use super::report::Report;
use super::work::UserWork;
use crate::dialect::ErrorAnswer;
use crate::id::ConnId;
use crate::peer::Peer;
use crate::routing::Work;
use crate::session::{Login, SessionPolicy};
use crate::telemetry::memory::Component;
use crate::worker::{Outgoing, PostItem};

/// What a login takes: its entry in a table that is half full, and its identity.
const LOGIN_BYTES: usize = 192;

impl Home {
    /// Takes a connection in as its identity's, and displaces others as the policy has it.
    pub(super) fn login(
        &mut self,
        login: Login,
        peer: Peer,
        policy: SessionPolicy,
        around: &mut Surroundings<'_>,
        out: &mut Outgoing,
    ) -> Report {
        let (conn, identity) = (login.conn, Arc::clone(&login.identity));
        let before = self.users.logins();
        let Ok(displaced) = self.users.login(login, policy) else {
            tell(conn, Work::login_refused(&identity), out);
            return Report::Refused(ErrorAnswer::new(409, "this identity is connected already"));
        };
        self.count_logins(before, around);
        for old in displaced {
            out.post(old.conn.loop_index()).push(PostItem::Displace { conn: old.conn, peer });
        }
        tell(conn, Work::logged_in(&identity), out);
        Report::User { connections: self.users.of(identity.user()).len() }
    }

    pub(super) fn logout(&mut self, login: &Login, around: &mut Surroundings<'_>) -> Report {
        let before = self.users.logins();
        self.users.logout(login);
        self.count_logins(before, around);
        Report::User { connections: self.users.of(login.user()).len() }
    }

    pub(super) fn user(&mut self, user: &str, act: UserWork, out: &mut Outgoing) -> Report {
        let logins = self.users.of(user);
        match act {
            UserWork::Push(publish) => {
                for Login { conn, .. } in logins {
                    let (conn, publish) = (*conn, Arc::clone(&publish));
                    out.post(conn.loop_index()).push(PostItem::Push { conn, publish });
                }
            }
            UserWork::Kick { code, reason } => {
                for Login { conn, .. } in logins {
                    out.post(conn.loop_index()).close(*conn, code, &reason);
                }
            }
            // Whoever asked may have gone.
            UserWork::List(to) => drop(to.try_send(logins.to_vec())),
        }
        Report::User { connections: logins.len() }
    }

    fn count_logins(&self, before: usize, around: &mut Surroundings<'_>) {
        let now = self.users.logins();
        let (more, fewer) = (now.saturating_sub(before), before.saturating_sub(now));
        around.counters.logins.set(now as u64);
        around.counters.users.set(self.users.len() as u64);
        around.memory.add(Component::Rooms, more * LOGIN_BYTES);
        around.memory.sub(Component::Rooms, fewer * LOGIN_BYTES);
    }
}

fn tell(conn: ConnId, work: Work, out: &mut Outgoing) {
    let work = Box::new(work);
    out.post(conn.loop_index()).push(PostItem::Work { conn, work });
}
