//! Work that leaves the shard for the pool apart, and what comes back; and what other threads want
//! done here.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use super::batch::Run;
use super::blocking::{Job, Strand};
use super::route::{Settled, finish_effects, finish_message};
use super::shard::Shard;
use crate::app::Snapshot;
use crate::channels::ReplyTo;
use crate::dialect::{Kind, Message};
use crate::protocol::MessageKind;
use crate::routing::{Away, Context, Finish, Gateway, Place, Pull, What, Work, run_actions, ticks};

/// A message on its way to a handler on the pool apart.
struct Errand {
    snapshot: Arc<Snapshot>,
    run: Run,
    kind: MessageKind,
    payload: Box<[u8]>,
    away: Away,
}

impl Shard {
    /// Does what another thread wants done, or tells it that the connection is gone.
    pub(super) fn work(&mut self, run: &Run, work: Option<Box<Work>>, is_gone: bool) {
        let Some(what) = work.and_then(|work| self.take_work(*work, is_gone)) else { return };
        match what {
            What::Call(action) => self.call(run, action),
            What::Ask(ask) => {
                let Self { parts, snapshot, state, .. } = self;
                let mut ctx = state.context(run, snapshot, &parts.gateway, &mut parts.out);
                let endpoint = ctx.endpoint;
                if let Place::Shard(parts) = &mut ctx.place {
                    parts.open_ask(run.conn, endpoint, *ask);
                }
                finish_effects(ctx, Settled::Nothing);
            }
            What::Finish(finish) => self.finish(run, *finish),
            What::Signal(channel) => self.signalled(run, channel),
            What::Pulled(channel, actions) => {
                self.call(run, |ctx| run_actions(ctx, actions));
                self.pulled(run, &channel);
            }
        }
    }

    fn take_work(&mut self, work: Work, is_gone: bool) -> Option<What> {
        let taken = catch_unwind(AssertUnwindSafe(|| work.take(is_gone)));
        if is_gone {
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
    ) {
        let correlation = to.correlation.clone();
        let mut away = self.away(run);
        if let (Some(timeout), true) = (timeout, is_request) {
            let answered = away.answered.get_or_insert_default();
            let due = self.state.tick.saturating_add(ticks(timeout));
            self.state.timeouts.add(due, to, Arc::clone(answered));
        }
        let (snapshot, payload) = (Arc::clone(&self.snapshot), payload.into());
        let errand = Errand { snapshot, run: run.clone(), kind, payload, away };
        let strand = self.strand(run);
        if strand.is_some_and(|strand| strand.run(Box::new(|| errand.run())).is_ok()) {
            self.parts.counters.blocking.add(1);
            return;
        }
        self.parts.counters.blocking_refused.add(1);
        let Self { parts, snapshot, state, .. } = self;
        let mut ctx = state.context(run, snapshot, &parts.gateway, &mut parts.out);
        (ctx.correlation, ctx.is_request) = (correlation.as_deref(), is_request);
        if correlation.is_some() {
            ctx.reply_error(503, "too many messages wait for handlers that block");
        }
        finish_message(ctx);
    }

    /// What a handler on the pool apart works on.
    fn away(&mut self, run: &Run) -> Away {
        let session = self.state.sessions.entry(run.conn).or_default();
        Away {
            gateway: self.parts.gateway.clone(),
            facts: session.facts.clone(),
            store: Arc::clone(session.store()),
            answered: None,
            is_taken: false,
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

    fn pull(&mut self, run: &Run, channel: Box<str>) {
        let mut away = self.away(run);
        let (snapshot, owner, name) = (Arc::clone(&self.snapshot), run.clone(), channel.clone());
        let job: Job = Box::new(move || {
            let endpoint = snapshot.endpoint(owner.endpoint);
            if let Some(runner) = endpoint.pulls.get(&name) {
                let mut ctx = context(&owner, &snapshot, &mut away);
                let _ = catch_unwind(AssertUnwindSafe(|| runner(&mut ctx)));
            }
            send_back(&away.gateway, &owner, What::Pulled(name, away.actions));
        });
        let pool = self.parts.gateway.shared.blocking();
        // Each run is a strand of its own: that there is one at a time is seen to here.
        let given = pool.is_some_and(|pool| pool.strand().run(job).is_ok());
        if !given {
            self.parts.counters.blocking_refused.add(1);
            // What is new stays unfetched until the next signal.
            let extra = self.state.sessions.entry(run.conn).or_default().extra();
            extra.pulls.retain(|pull| pull.name != channel);
        }
    }
}

impl Errand {
    /// On the pool apart.
    fn run(mut self) {
        let endpoint = self.snapshot.endpoint(self.run.endpoint);
        let decoded = endpoint.dialect.decode(self.kind, &self.payload);
        let mut ctx = context(&self.run, &self.snapshot, &mut self.away);
        // Only a dialect of a user's own can fail at what it has understood before.
        let handled = decoded.as_ref().ok().map(|message| {
            ctx.correlation = message.correlation.as_deref();
            ctx.is_request = message.kind == Kind::Request;
            catch_unwind(AssertUnwindSafe(|| run_handler(&mut ctx, message)))
        });
        let (is_request, failed) = (ctx.is_request, !matches!(handled, Some(Ok(()))));
        let correlation = ctx.correlation.map(Into::into);
        let Away { gateway, answered, is_taken, actions, .. } = self.away;
        let finish = Finish { correlation, is_request, answered, is_taken, actions, failed };
        send_back(&gateway, &self.run, What::Finish(Box::new(finish)));
    }
}

fn run_handler(ctx: &mut Context<'_>, message: &Message<'_>) {
    let endpoint = ctx.endpoint;
    if let Some(route) = endpoint.find(&message.key) {
        (route.handler)(ctx, message);
    }
    for after in &endpoint.hooks.after {
        after(ctx, message);
    }
}

fn context<'a>(run: &Run, snapshot: &'a Snapshot, away: &'a mut Away) -> Context<'a> {
    Context {
        conn: run.conn,
        peer: run.peer,
        endpoint_id: run.endpoint,
        snapshot,
        endpoint: snapshot.endpoint(run.endpoint),
        correlation: None,
        is_request: false,
        place: Place::Away(away),
    }
}

/// The gateway is gone only when all its connections are.
fn send_back(gateway: &Gateway, run: &Run, what: What) {
    let _ = gateway.work(run.conn, what);
}
