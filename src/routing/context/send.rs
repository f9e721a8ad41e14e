//! What a handler can send to others than the one that it answers.

use std::sync::Arc;

use super::{Context, Place, SelfDelivery};
use crate::channels::{Publish, RoomWork, Then, UserWork};
use crate::connection::Outbound;
use crate::dialect::Content;
use crate::id::ConnId;
use crate::routing::gateway::Permit;
use crate::routing::work::{What, Work};
use crate::worker::PostItem;

impl Context<'_> {
    /// Says what becomes of all that is published or pushed with this context from here on, where a
    /// receiver is too slow for it. What `outbound` leaves open is as the message's route has it.
    ///
    /// ```
    /// use tidegate::{Content, Endpoint, Outbound, OverflowPolicy, SelfDelivery};
    ///
    /// let endpoint = Endpoint::json("/ws").route("tick", |ctx, message| {
    ///     // Of each symbol the latest, and no more than 64 KiB waiting for one member.
    ///     ctx.set_outbound(Outbound::new(OverflowPolicy::KeepLatest).budget(64 * 1024));
    ///     let tick = Content::named("AAPL", message.body);
    ///     if let Err(error) = ctx.publish("ticks", tick, SelfDelivery::Exclude) {
    ///         ctx.reply_error(error.code, &error.message);
    ///     }
    /// });
    /// ```
    pub fn set_outbound(&mut self, outbound: Outbound) {
        self.outbound = outbound.or(self.outbound);
    }

    /// Sends to any connection, in its own dialect.
    pub fn push<'b>(&mut self, conn: ConnId, content: impl Into<Content<'b>>) {
        self.push_to(&[conn], content);
    }

    /// Sends to a list of connections, each in its own dialect. One that has ended is counted.
    pub fn push_to<'b>(&mut self, conns: &[ConnId], content: impl Into<Content<'b>>) {
        let publish = self.new_push(content);
        for conn in conns {
            let publish = Arc::clone(&publish);
            self.post(*conn, PostItem::Push { conn: *conn, publish });
        }
    }

    /// Sends to all connections of a user, each in its own dialect.
    pub fn push_to_user<'b>(&mut self, user: &str, content: impl Into<Content<'b>>) {
        let publish = self.new_push(content);
        let (user, act) = (user.into(), UserWork::Push(publish));
        self.work_on(RoomWork::User { user, act, then: Then::Nothing });
    }

    /// Closes all connections of a user, behind what was sent to it so far.
    pub fn kick_user(&mut self, user: &str, code: u16, reason: &str) {
        let (user, act) = (user.into(), UserWork::Kick { code, reason: reason.into() });
        self.work_on(RoomWork::User { user, act, then: Then::Nothing });
    }

    /// Closes any connection, behind what was sent to it so far.
    pub fn kick(&mut self, conn: ConnId, code: u16, reason: &str) {
        match &mut self.place {
            Place::Shard(parts) if conn.loop_index() < parts.gateway.shared.loads.len() => {
                parts.out.post(conn.loop_index()).close(conn, code, reason);
            }
            Place::Shard(parts) => parts.gateway.shared.count_late_answer(),
            Place::Away(away) => {
                let reason = reason.to_owned();
                away.record(move |ctx| ctx.kick(conn, code, &reason));
            }
        }
    }

    /// Sends to every open connection of this gateway, in its own dialect.
    pub fn push_to_all<'b>(&mut self, content: impl Into<Content<'b>>, own: SelfDelivery) {
        let publish = self.new_push(content);
        let except = (own == SelfDelivery::Exclude).then_some(self.conn);
        match &mut self.place {
            Place::Shard(parts) => {
                for index in 0..parts.gateway.shared.loads.len() {
                    let publish = Arc::clone(&publish);
                    parts.out.post(index).push(PostItem::Everyone { publish, except });
                }
            }
            Place::Away(away) => {
                let gateway = away.gateway.clone();
                away.record(move |_| {
                    // Gone only when all connections are.
                    let _ = gateway.post_to_all(&publish, except);
                });
            }
        }
    }

    /// Says that there is something new on a pull channel of a connection.
    pub fn signal(&mut self, conn: ConnId, channel: &str) {
        self.post_work(conn, What::Signal(channel.into()));
    }

    /// Has something done on another connection's shard, unless too much is on its way already.
    pub(super) fn post_work(&mut self, conn: ConnId, what: What) {
        match &mut self.place {
            Place::Shard(parts) => match Permit::take(&parts.gateway.shared.permits) {
                Some(permit) => {
                    let work = Box::new(Work::new(what, Some(permit)));
                    self.post(conn, PostItem::Work { conn, work });
                }
                None => {
                    parts.gateway.shared.count_late_answer();
                    what.refuse();
                }
            },
            Place::Away(away) => away.record(move |ctx| ctx.post_work(conn, what)),
        }
    }

    fn new_push<'b>(&self, content: impl Into<Content<'b>>) -> Arc<Publish> {
        let memory = &self.gateway().shared.memory;
        Publish::under(self.outbound, None, None, content.into(), memory)
    }

    pub(super) fn post(&mut self, conn: ConnId, item: PostItem) {
        match &mut self.place {
            Place::Shard(parts) if conn.loop_index() < parts.gateway.shared.loads.len() => {
                parts.out.post(conn.loop_index()).push(item);
            }
            // An id that this gateway never gave out: as one whose connection has ended.
            Place::Shard(parts) => parts.gateway.shared.count_late_answer(),
            Place::Away(away) => away.record(move |ctx| ctx.post(conn, item)),
        }
    }
}
