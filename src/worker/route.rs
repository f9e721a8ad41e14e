//! From a message to its handler, and what the handler left behind.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::batch::Run;
use super::over::limited;
use super::shard::Shard;
use super::state::State;
use crate::channels::{Countdown, Done, Settles, Then};
use crate::connection::Outbound;
use crate::dialect::{AskId, Body, ErrorAnswer, Kind, Message, NotUnderstood, Target};
use crate::protocol::MessageKind;
use crate::quota::Moment;
use crate::routing::{
    AskError, Context, Flow, Gateway, Pending, Place, Route, RunOn, STRANGER, refusal, ticks,
};
use crate::telemetry::counters::WorkerCounters;

/// What became of a message.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Its handler has returned, or it needs none.
    Handled,
    /// The router had to answer with an error of its own.
    Failed,
    /// Its handler is to run on the pool apart, where an answer may take so long.
    Away(Option<Duration>),
}

impl Shard {
    pub(super) fn route_message(&mut self, run: &Run, kind: MessageKind, payload: &[u8]) {
        let inline = self.is_inline();
        let Self { parts, snapshot, state, .. } = self;
        let (counters, now) = (&*parts.counters, state.moment);
        let decoded = snapshot.endpoint(run.endpoint).dialect.decode(kind, payload);
        let (correlation, is_request) = match &decoded {
            Ok(message) => (message.correlation.as_deref(), message.kind == Kind::Request),
            Err(NotUnderstood::Answer { correlation, .. }) => {
                (Some(correlation.as_deref().unwrap_or(b"")), false)
            }
            Err(NotUnderstood::Close { .. }) => (None, false),
        };
        if let Ok(Message { kind: Kind::Response { to, failed }, body, .. }) = &decoded {
            answered(state, run, (*to, *failed, *body), &parts.gateway, counters);
        }
        let mut ctx = state.context(run, snapshot, &parts.gateway, &mut parts.out);
        (ctx.correlation, ctx.is_request) = (correlation, is_request);
        let outcome = match &decoded {
            Ok(message) => route(&mut ctx, message, (inline, now), counters),
            Err(NotUnderstood::Answer { answer, .. }) => {
                ctx.answer(Err(answer));
                Outcome::Failed
            }
            Err(NotUnderstood::Close { code, reason }) => {
                ctx.close(*code, reason);
                Outcome::Failed
            }
        };
        counters.errors.add(u64::from(outcome == Outcome::Failed));
        if let Outcome::Away(timeout) = outcome {
            let to = ctx.reply_to(Settles::No);
            let before = finish_before(ctx);
            return self.send_away(run, (kind, payload), to, is_request, timeout, before);
        }
        finish_message(ctx);
    }

    /// Runs something of a user's; a panic is caught and counted.
    pub(super) fn guard(&mut self, run: impl FnOnce()) {
        if catch_unwind(AssertUnwindSafe(run)).is_err() {
            self.parts.counters.panics.add(1);
        }
    }

    /// Runs something of a user's with a connection's context; nothing waits for it.
    pub(super) fn call(&mut self, run: &Run, action: impl FnOnce(&mut Context<'_>)) {
        let Self { parts, snapshot, state, .. } = self;
        let mut ctx = state.context(run, snapshot, &parts.gateway, &mut parts.out);
        if catch_unwind(AssertUnwindSafe(|| action(&mut ctx))).is_err() {
            parts.counters.panics.add(1);
        }
        finish_effects(ctx, Settled::Nothing);
    }
}

/// Hands a client's answer to who asked.
#[cold]
fn answered(
    state: &mut State,
    run: &Run,
    (to, failed, body): (AskId, bool, Body<'_>),
    gateway: &Gateway,
    counters: &WorkerCounters,
) {
    let Some(Pending(callback)) = state.asks.take(run.conn, to) else {
        return gateway.shared.count_late_answer();
    };
    let answer = match failed {
        false => Ok(body),
        true => Err(AskError::Failed(String::from_utf8_lossy(body.as_bytes()).into())),
    };
    if catch_unwind(AssertUnwindSafe(|| callback(answer))).is_err() {
        counters.panics.add(1);
    }
}

/// Finds the route of a message and runs its handler, unless that is to run elsewhere.
#[inline]
fn route(
    ctx: &mut Context<'_>,
    message: &Message<'_>,
    (inline, now): (bool, Moment),
    counters: &WorkerCounters,
) -> Outcome {
    match message.kind {
        Kind::Request | Kind::Push => {}
        Kind::Heartbeat => {
            // One without a correlation is an answer to a heartbeat of ours.
            if ctx.correlation.is_some() {
                ctx.reply(&b""[..]);
            }
            return Outcome::Handled;
        }
        Kind::Response { .. } if ctx.endpoint.dialect.routes_responses() => {}
        Kind::Response { .. } => return Outcome::Handled,
    }
    let endpoint = ctx.endpoint;
    if let Some(rule) = &endpoint.login
        && let Some(error) = refusal(ctx, rule, message)
    {
        return turn_away(ctx, &error);
    }
    let Some(route) = endpoint.find(&message.key) else {
        return unrouted(ctx, message);
    };
    if let Some(permission) = &route.permission
        && !ctx.may(permission)
    {
        return fail(ctx, 403, &format!("this route takes the permission `{permission}`"));
    }
    if let Some(permission) = message.meta.target().map(Target::permission)
        && !ctx.may(permission)
    {
        return fail(ctx, 403, &format!("to {permission} takes the permission `{permission}`"));
    }
    ctx.outbound = route.outbound;
    if let Some(limit) = &route.limit
        && let Some(outcome) = limited(ctx, limit, now, counters)
    {
        return outcome;
    }
    let handled = catch_unwind(AssertUnwindSafe(|| {
        for before in &endpoint.hooks.before {
            if before(ctx, message) == Flow::Stop {
                return Outcome::Handled;
            }
        }
        if is_away(route, inline) {
            return Outcome::Away(route.timeout);
        }
        run_handler(ctx, route, message);
        Outcome::Handled
    }));
    let outcome = handled.unwrap_or_else(|_| {
        counters.panics.add(1);
        fail(ctx, 500, "the handler of this route failed")
    });
    if outcome == Outcome::Handled && route.timeout.is_some() {
        await_answer(ctx, route);
    }
    outcome
}

/// Runs a message's handler, and what is to run behind each.
#[inline]
pub(super) fn run_handler(ctx: &mut Context<'_>, route: &Route, message: &Message<'_>) {
    (route.handler)(ctx, message);
    for after in &ctx.endpoint.hooks.after {
        after(ctx, message);
    }
}

fn is_away(route: &Route, inline: bool) -> bool {
    match route.run_on {
        RunOn::Inline => false,
        RunOn::Pooled => inline,
        RunOn::Blocking => true,
    }
}

#[cold]
fn unrouted(ctx: &mut Context<'_>, message: &Message<'_>) -> Outcome {
    match message.kind {
        // It has been handed to who asked.
        Kind::Response { .. } => Outcome::Handled,
        // Nobody would be told.
        _ if ctx.correlation.is_none() => Outcome::Failed,
        _ if message.key.is_none() => fail(ctx, 404, "no route for this"),
        _ => fail(ctx, 404, &format!("no route `{}`", message.key)),
    }
}

/// Answers one that is not logged in. Where strangers are closed it is, unless it has begun to log
/// in.
#[cold]
fn turn_away(ctx: &mut Context<'_>, error: &ErrorAnswer<'_>) -> Outcome {
    if ctx.correlation.is_some() {
        ctx.answer(Err(error));
    }
    if ctx.endpoint.closes_strangers() && !ctx.is_logging_in() {
        ctx.close(1008, STRANGER);
    }
    Outcome::Failed
}

fn fail(ctx: &mut Context<'_>, code: u16, message: &str) -> Outcome {
    if ctx.correlation.is_some() {
        ctx.answer(Err(&ErrorAnswer { code, message: message.into() }));
    }
    Outcome::Failed
}

/// Gives a request that waits for a later answer its deadline.
fn await_answer(ctx: &mut Context<'_>, route: &Route) {
    let to = ctx.reply_to(Settles::No);
    let (Some(timeout), true) = (route.timeout, ctx.wants_answer()) else { return };
    let Place::Shard(parts) = &mut ctx.place else { return };
    if parts.effects.taken && !parts.effects.replied {
        let answered = parts.effects.answered.get_or_insert_with(Arc::<AtomicBool>::default);
        parts.timeouts.add(parts.now.saturating_add(ticks(timeout)), to, Arc::clone(answered));
    }
}

/// Who may have answered a message whose handler is to run elsewhere, and what else was settled.
#[derive(Debug)]
pub(super) struct Answerers {
    /// Shared with those who may; set once anyone has.
    pub(super) answered: Option<Arc<AtomicBool>>,
    /// A responder was taken.
    pub(super) is_taken: bool,
    /// How what it publishes and pushes is kept from heaping up.
    pub(super) outbound: Outbound,
}

/// Carries out what ran before a handler that is to run elsewhere.
fn finish_before(mut ctx: Context<'_>) -> Answerers {
    let mut before = Answerers { answered: None, is_taken: false, outbound: ctx.outbound };
    if let Place::Shard(parts) = &mut ctx.place {
        let effects = &mut *parts.effects;
        if effects.replied {
            effects.answered.get_or_insert_with(|| Arc::new(AtomicBool::new(true)));
        }
        (before.answered, before.is_taken) = (effects.answered.clone(), effects.taken);
    }
    finish_effects(ctx, Settled::Nothing);
    before
}

/// What is settled once the effects are carried out.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Settled {
    /// One message.
    Message,
    /// Nothing: no message set this off.
    Nothing,
}

/// Carries out what the handler left behind, and settles the message exactly once.
#[inline]
pub(super) fn finish_message(mut ctx: Context<'_>) {
    let wants_answer = ctx.wants_answer();
    let conn = ctx.conn;
    if wants_answer && !ctx.is_answered() {
        ctx.answer(Ok(Body::Json("null")));
    }
    let Place::Shard(parts) = &mut ctx.place else { return };
    if parts.effects.is_plain() {
        return parts.out.post(conn.loop_index()).settle(conn, 1);
    }
    finish_effects(ctx, Settled::Message);
}

/// Sends on the room work of a message, with the answer that waits for it.
#[inline(never)]
pub(super) fn finish_effects(mut ctx: Context<'_>, settled: Settled) {
    let Place::Shard(parts) = &mut ctx.place else { return };
    let held = parts.effects.held.take();
    let report = std::mem::take(&mut parts.effects.report);
    let mut rooms = std::mem::take(&mut parts.effects.rooms);
    let settles = if settled == Settled::Message { Settles::Yes } else { Settles::No };
    let settled_by_home = !rooms.is_empty() && (held.is_some() || report);
    if settled_by_home {
        let to = ctx.reply_to(settles);
        match (held, rooms.as_mut_slice()) {
            (Some(answer), [one]) => one.set_then(Then::Reply(to, answer)),
            (None, [.., last]) => last.set_then(Then::Report(to)),
            (answer, many) => {
                let answer = answer.unwrap_or(Ok(Body::Json("null").into()));
                let countdown = Countdown::new(many.len(), Done::Reply(to, answer));
                many.iter_mut().for_each(|w| w.set_then(Then::Last(Arc::clone(&countdown))));
            }
        }
    }
    let conn = ctx.conn;
    let Place::Shard(parts) = &mut ctx.place else { return };
    for work in rooms.drain(..) {
        parts.out.room_batch(work.home(&parts.gateway.shared)).work.push(work);
    }
    parts.effects.rooms = rooms;
    if !settled_by_home && settled == Settled::Message {
        parts.out.post(conn.loop_index()).settle(conn, 1);
    }
}
