//! Messages over a limit: answered instead of handled.

use super::batch::Run;
use super::post::PostItem;
use super::route::{Outcome, finish_message};
use super::shard::Shard;
use crate::connection::Tick;
use crate::dialect::{ErrorAnswer, Kind, Message, NotUnderstood};
use crate::protocol::MessageKind;
use crate::quota::{Limit, Moment, Over, SharedLimit, SharedRuling};
use crate::routing::{Context, Place};
use crate::telemetry::counters::{LimitHit, WorkerCounters};

impl Shard {
    /// Answers a message that its connection's loop found over a limit.
    #[cold]
    pub(super) fn refuse_message(
        &mut self,
        run: &Run,
        kind: MessageKind,
        payload: &[u8],
        limit: Limit,
    ) {
        let Self { parts, snapshot, state, .. } = self;
        let decoded = snapshot.endpoint(run.endpoint).dialect.decode(kind, payload);
        let correlation = match &decoded {
            // Somebody here has asked for it; and whoever can't be understood is told so.
            Ok(Message { kind: Kind::Response { .. }, .. }) | Err(NotUnderstood::Close { .. }) => {
                return self.route_message(run, kind, payload);
            }
            Ok(message) => message.correlation.as_deref(),
            Err(NotUnderstood::Answer { correlation, .. }) => correlation.as_deref(),
        };
        let mut ctx = state.context(run, snapshot, &parts.gateway, &mut parts.out);
        ctx.correlation = correlation;
        refuse(&mut ctx, limit);
        parts.counters.errors.add(1);
        finish_message(ctx);
    }
}

/// Takes a message for a route that is limited; what becomes of one that is not to be handled.
pub(super) fn limited(
    ctx: &mut Context<'_>,
    limit: &SharedLimit,
    now: Moment,
    counters: &WorkerCounters,
) -> Option<Outcome> {
    match limit.message(now) {
        SharedRuling::Pass => return None,
        SharedRuling::PassThenStop(paid) => {
            stop(ctx, Some(paid.tick()));
            return None;
        }
        // Its Close comes behind what came with it, and so does this answer come ahead of that.
        SharedRuling::Over(Over::Close) => stop(ctx, None),
        SharedRuling::Over(_) => counters.limits.at(LimitHit::RouteReject as usize).add(1),
    }
    refuse(ctx, Limit::Route);
    Some(Outcome::Failed)
}

/// Has the connection's loop read nothing before a tick, or close it.
fn stop(ctx: &mut Context<'_>, until: Option<Tick>) {
    let conn = ctx.conn;
    if let Place::Shard(parts) = &mut ctx.place {
        parts.out.post(conn.loop_index()).push(PostItem::OverRoute { conn, until });
    }
}

/// Answers with error 429, also where nobody waits for an answer: nothing is dropped without a word.
fn refuse(ctx: &mut Context<'_>, limit: Limit) {
    let message = match limit {
        Limit::Messages => "more messages than the limit allows",
        Limit::Bytes => "more bytes than the limit allows",
        Limit::Bandwidth => "more bytes than there is bandwidth for",
        Limit::Route => "more messages to this route than the limit allows",
        Limit::Connections => "more connections than the limit allows",
    };
    ctx.correlation.get_or_insert(b"");
    ctx.answer(Err(&ErrorAnswer::new(429, message)));
}
