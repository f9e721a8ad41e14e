//! What a shard knows of its connections, and what handlers see of it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use super::batch::Run;
use super::outgoing::Outgoing;
use super::shard::Shard;
use crate::app::Snapshot;
use crate::connection::Tick;
use crate::dialect::ErrorAnswer;
use crate::quota::Moment;
use crate::routing::{
    AskError, Asks, Context, Effects, Gateway, Parts, Pending, Place, Sessions, Timeouts,
};

/// What a shard knows of its connections.
#[derive(Debug)]
pub(super) struct State {
    pub(super) sessions: Sessions,
    pub(super) effects: Effects,
    pub(super) asks: Asks<Pending>,
    pub(super) timeouts: Timeouts,
    /// Pull channels that the pool had no room for.
    pub(super) unserved: Vec<(Run, Box<str>)>,
    /// Of the turn, for deadlines.
    pub(super) tick: Tick,
    /// Of the turn, for limits.
    pub(super) moment: Moment,
}

impl State {
    pub(super) fn new() -> Self {
        Self {
            sessions: Sessions::new(),
            effects: Effects::default(),
            asks: Asks::new(),
            timeouts: Timeouts::new(),
            unserved: Vec::new(),
            tick: 0,
            moment: Moment::default(),
        }
    }

    /// The surroundings of something that concerns a connection. Built where it is used: moving it
    /// costs as much as routing a short message.
    #[inline(always)]
    pub(super) fn context<'a>(
        &'a mut self,
        run: &Run,
        snapshot: &'a Snapshot,
        gateway: &'a Gateway,
        out: &'a mut Outgoing,
    ) -> Context<'a> {
        self.effects.clear();
        let parts = Parts {
            out,
            sessions: &mut self.sessions,
            effects: &mut self.effects,
            asks: &mut self.asks,
            timeouts: &mut self.timeouts,
            gateway,
            now: self.tick,
        };
        Context::new(run, snapshot, Place::Shard(parts))
    }
}

impl Shard {
    /// Does what is due: fails asks without an answer and requests whose route has a timeout, reaps
    /// rooms and tells them the time. Not while a lane refuses what was sent before.
    pub fn sweep_due(&mut self, now: Instant) {
        let Some(next) = self.next_due() else { return };
        let tick = self.parts.gateway.shared.tick_at(now);
        if tick < next || !self.parts.out.is_sent() {
            return;
        }
        self.state.tick = tick;
        let (counters, mut due) = (&self.parts.counters, Vec::new());
        self.state.asks.sweep(tick, |_, _, Pending(callback)| due.push(callback));
        for callback in due {
            let failed = AssertUnwindSafe(|| callback(Err(AskError::TimedOut)));
            if catch_unwind(failed).is_err() {
                counters.panics.add(1);
            }
        }
        let (out, snapshot) = (&mut self.parts.out, &self.snapshot);
        self.state.timeouts.sweep(tick, |to| {
            let error = ErrorAnswer::new(504, "the answer to this took too long");
            let endpoint = snapshot.endpoint(to.endpoint);
            counters.errors.add(1);
            out.post(to.conn.loop_index()).reply(to.conn, 1, |bytes| {
                endpoint.put_answer(bytes, to.correlation.as_deref(), Err(&error));
            });
        });
        self.at_home(|home, around, out| home.sweep(around, out));
        self.serve_unserved();
        self.send_deferred();
    }
}
