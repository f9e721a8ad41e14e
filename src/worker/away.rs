//! Work that leaves the shard for the pool apart, and what comes back; and what other threads want
//! done here.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use super::batch::Run;
use super::blocking::{Job, Strand};
use super::route::{Answerers, finish_message, run_handler};
use super::shard::Shard;
use crate::app::Snapshot;
use crate::channels::{ReplyTo, RoomWork, Then};
use crate::connection::Outbound;
use crate::limits::{BLOCKING_PER_CONNECTION_MIN, BLOCKING_SHARE};
use crate::protocol::MessageKind;
use crate::routing::{
    Away, Context, Describe, Finish, Gateway, Place, Pull, STRANGER, What, Work, run_actions, ticks,
};
use crate::session::ConnectionInfo;
use crate::telemetry::memory::{Charge, Component};

/// A message on its way to a handler on the pool apart.
struct Errand {
    snapshot: Arc<Snapshot>,
    run: Run,
    kind: MessageKind,
    payload: Box<[u8]>,
    _charge: Charge,
    correlation: Option<Box<[u8]>>,
    is_request: bool,
    away: Away,
}

impl Shard {
    /// Does what another thread wants done, or tells it that the connection is gone.
    pub(super) fn work(&mut self, run: &Run, work: Option<Box<Work>>, is_gone: bool) {
        let Some(what) = work.and_then(|work| self.take_work(*work, is_gone)) else { return };
        match what {
            What::Call(action) => self.call(run, action),
            What::Ask(ask) => self.call(run, |ctx| {
                let endpoint = ctx.endpoint;
                if let Place::Shard(parts) = &mut ctx.place {
                    parts.open_ask(run.conn, endpoint, *ask);
                }
            }),
            What::Refused { room, attempt } => {
                if self.state.sessions.refused(&run.conn, &room, attempt) {
                    let (conn, then) = (run.conn, Then::Nothing);
                    let work = RoomWork::Leave { room, conn, who: None, then };
                    self.send_home(work);
                }
            }
            What::LogIn(accept) => self.log_in_then_accept(run, accept),
            What::LoggedIn(identity) => {
                if let Some(session) = self.state.sessions.get_mut(&run.conn) {
                    session.logged_in(identity);
                }
            }
            What::LoginRefused(identity) => {
                let session = self.state.sessions.get_mut(&run.conn);
                let was_pending = session.is_some_and(|session| session.login_refused(&identity));
                if was_pending && self.snapshot.endpoint(run.endpoint).closes_strangers() {
                    // Behind the answer, which the home has posted ahead of this.
                    self.parts.out.post(run.conn.loop_index()).close(run.conn, 1008, STRANGER);
                }
            }
            What::Describe(describe) => self.describe(run, &describe),
            What::Finish(finish) => self.finish(run, *finish),
            What::Signal(channel) => self.signalled(run, channel),
            What::Pulled { channel, actions, failed } => {
                self.parts.counters.panics.add(u64::from(failed));
                self.call(run, |ctx| run_actions(ctx, actions));
                self.pulled(run, &channel);
            }
        }
    }

    /// Tells all that is known of a connection to who asks, if that one still waits.
    fn describe(&self, run: &Run, describe: &Describe) {
        let endpoint = self.snapshot.endpoint(run.endpoint);
        let session = self.state.sessions.get(&run.conn);
        let facts = session.and_then(|session| session.facts.as_deref());
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        let info = ConnectionInfo {
            conn: run.conn,
            public_id: self.parts.gateway.public_id(run.conn).as_str().to_owned(),
            peer: run.peer.addr(),
            endpoint: endpoint.path.as_str().to_owned(),
            dialect: endpoint.dialect.name(),
            identity: facts.and_then(|facts| facts.identity.clone()),
            permissions: facts
                .iter()
                .flat_map(|f| f.all_permissions())
                .map(ToOwned::to_owned)
                .collect(),
            params: facts.iter().flat_map(|f| f.params.iter()).map(owned).collect(),
            rooms: self.state.sessions.rooms(&run.conn).map(str::to_owned).collect(),
            slot: describe.slot,
        };
        let _ = describe.to.try_send(info);
    }

    fn take_work(&mut self, work: Work, is_gone: bool) -> Option<What> {
        let is_addressed = work.is_addressed();
        let taken = catch_unwind(AssertUnwindSafe(|| work.take(is_gone)));
        if is_gone && is_addressed {
            self.parts.gateway.shared.count_late_answer();
        }
        taken.unwrap_or_else(|_| {
            self.parts.counters.panics.add(1);
            None
        })
    }

    /// Hands a message to the pool apart, behind those of its connection that are there.
    pub(super) fn send_away(
        &mut self,
        run: &Run,
        (kind, payload): (MessageKind, &[u8]),
        to: ReplyTo,
        is_request: bool,
        timeout: Option<Duration>,
        before: Answerers,
    ) {
        let correlation = to.correlation.clone();
        let is_owed = is_request && correlation.as_ref().is_some_and(|c| !c.is_empty());
        let mut away = self.away(run, before);
        if let (Some(timeout), true) = (timeout, is_owed) {
            let answered = away.answered.get_or_insert_default();
            let due = self.state.tick.saturating_add(ticks(timeout));
            self.state.timeouts.add(due, to, Arc::clone(answered));
        }
        let (answered, is_taken) = (away.answered.clone(), away.is_taken);
        let memory = &self.parts.gateway.shared.memory;
        let errand = Errand {
            snapshot: Arc::clone(&self.snapshot),
            run: run.clone(),
            kind,
            payload: payload.into(),
            _charge: Charge::new(memory, Component::Arenas, payload.len()),
            correlation: correlation.clone(),
            is_request,
            away,
        };
        // No connection takes the pool for itself.
        let jobs_max = self.snapshot.config.tuning.blocking_jobs_max;
        let share = (jobs_max / BLOCKING_SHARE).max(BLOCKING_PER_CONNECTION_MIN);
        let strand = self.strand(run).filter(|strand| strand.waiting() < share);
        if strand.is_some_and(|strand| strand.run(Box::new(|| errand.run())).is_ok()) {
            self.parts.counters.blocking.add(1);
            return;
        }
        self.parts.counters.blocking_refused.add(1);
        let Self { parts, snapshot, state, .. } = self;
        let mut ctx = state.context(run, snapshot, &parts.gateway, &mut parts.out);
        (ctx.correlation, ctx.is_request) = (correlation.as_deref(), is_request);
        if let Place::Shard(parts) = &mut ctx.place {
            // Its deadline, or what ran before, may have the right to answer as well.
            (parts.effects.answered, parts.effects.taken) = (answered, is_taken);
        }
        if correlation.is_some() && !ctx.is_answered() {
            ctx.reply_error(503, "too many messages wait for handlers that block");
        }
        finish_message(ctx);
    }

    /// What a handler on the pool apart works on.
    fn away(&mut self, run: &Run, before: Answerers) -> Away {
        let session = self.state.sessions.entry(run.conn).or_default();
        Away {
            gateway: self.parts.gateway.clone(),
            facts: session.facts.clone(),
            store: Arc::clone(session.store()),
            answered: before.answered,
            is_taken: before.is_taken,
            outbound: before.outbound,
            actions: Vec::new(),
        }
    }

    fn strand(&mut self, run: &Run) -> Option<&Strand> {
        let pool = self.parts.gateway.shared.blocking()?;
        let extra = self.state.sessions.entry(run.conn).or_default().extra();
        Some(extra.strand.get_or_insert_with(|| pool.strand()))
    }

    /// Carries out what a handler on the pool apart left behind.
    fn finish(&mut self, run: &Run, finish: Finish) {
        let Self { parts, snapshot, state, .. } = self;
        let mut ctx = state.context(run, snapshot, &parts.gateway, &mut parts.out);
        (ctx.correlation, ctx.is_request) = (finish.correlation.as_deref(), finish.is_request);
        if let Place::Shard(parts) = &mut ctx.place {
            (parts.effects.answered, parts.effects.taken) = (finish.answered, finish.is_taken);
        }
        if finish.failed {
            if ctx.correlation.is_some() {
                ctx.reply_error(500, "the handler of this route failed");
            }
            parts.counters.errors.add(1);
            parts.counters.panics.add(1);
        } else {
            run_actions(&mut ctx, finish.actions);
        }
        finish_message(ctx);
    }

    /// Has a pull channel served, unless that is under way: then once more.
    fn signalled(&mut self, run: &Run, channel: Box<str>) {
        if !self.snapshot.endpoint(run.endpoint).pulls.contains_key(&channel) {
            return self.parts.gateway.shared.count_late_answer();
        }
        let extra = self.state.sessions.entry(run.conn).or_default().extra();
        if let Some(pull) = extra.pulls.iter_mut().find(|pull| pull.name == channel) {
            pull.again = true;
            return;
        }
        extra.pulls.push(Pull { name: channel.clone(), again: false });
        self.pull(run, channel);
    }

    /// The runner of a pull channel has ended.
    fn pulled(&mut self, run: &Run, channel: &str) {
        let extra = self.state.sessions.entry(run.conn).or_default().extra();
        let Some(at) = extra.pulls.iter().position(|pull| *pull.name == *channel) else { return };
        if std::mem::take(&mut extra.pulls[at].again) {
            self.pull(run, channel.into());
        } else {
            extra.pulls.swap_remove(at);
        }
    }

    /// Tries again what the pool had no room for, unless its connection has ended.
    pub(super) fn serve_unserved(&mut self) {
        for (run, channel) in std::mem::take(&mut self.state.unserved) {
            if self.state.sessions.contains_key(&run.conn) {
                self.pull(&run, channel);
            }
        }
    }

    fn pull(&mut self, run: &Run, channel: Box<str>) {
        let outbound = Outbound::default();
        let nobody = Answerers { answered: None, is_taken: false, outbound };
        let mut away = self.away(run, nobody);
        let (snapshot, owner, name) = (Arc::clone(&self.snapshot), run.clone(), channel.clone());
        let job: Job = Box::new(move || {
            let endpoint = snapshot.endpoint(owner.endpoint);
            let mut failed = false;
            if let Some(runner) = endpoint.pulls.get(&name) {
                let mut ctx = context(&owner, &snapshot, &mut away);
                failed = catch_unwind(AssertUnwindSafe(|| runner(&mut ctx))).is_err();
            }
            let Away { gateway, actions, .. } = away;
            send_back(&gateway, &owner, What::Pulled { channel: name, actions, failed });
        });
        let pool = self.parts.gateway.shared.blocking();
        // Each run is a strand of its own: that there is one at a time is seen to here.
        let given = pool.is_some_and(|pool| pool.strand().run(job).is_ok());
        if !given {
            self.parts.counters.blocking_refused.add(1);
            self.state.unserved.push((run.clone(), channel));
        }
    }
}

impl Errand {
    /// On the pool apart.
    fn run(mut self) {
        let endpoint = self.snapshot.endpoint(self.run.endpoint);
        let mut ctx = context(&self.run, &self.snapshot, &mut self.away);
        (ctx.correlation, ctx.is_request) = (self.correlation.as_deref(), self.is_request);
        let handled = catch_unwind(AssertUnwindSafe(|| {
            // It was understood before it was sent here, but who knows a user's own dialect.
            let decoded = endpoint.dialect.decode(self.kind, &self.payload);
            decoded.is_ok_and(|message| {
                // Its route is there, or it would not have been sent here.
                let route = endpoint.find(&message.key);
                route.map(|route| run_handler(&mut ctx, route, &message)).is_some()
            })
        }));
        let Away { gateway, answered, is_taken, actions, .. } = self.away;
        let finish = Finish {
            correlation: self.correlation,
            is_request: self.is_request,
            answered,
            is_taken,
            actions,
            failed: !handled.unwrap_or(false),
        };
        send_back(&gateway, &self.run, What::Finish(Box::new(finish)));
    }
}

fn context<'a>(run: &Run, snapshot: &'a Snapshot, away: &'a mut Away) -> Context<'a> {
    let outbound = away.outbound;
    Context { outbound, ..Context::new(run, snapshot, Place::Away(away)) }
}

/// The gateway is gone only when all its connections are.
fn send_back(gateway: &Gateway, run: &Run, what: What) {
    let _ = gateway.work(run.conn, what);
}
