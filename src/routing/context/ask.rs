//! Asking clients.

use std::fmt;
use std::time::Duration;

use super::{Context, Parts, Place};
use crate::channels::OwnedBody;
use crate::connection::Tick;
use crate::dialect::{Ask, Body};
use crate::id::ConnId;
use crate::limits::TICK_MS;
use crate::routing::endpoint::Endpoint;
use crate::routing::work::{AskWork, What};

/// Why an ask has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AskError {
    /// None came in time.
    TimedOut,
    /// The connection ended first, or was gone already.
    Closed,
    /// As many are open on the connection as there may be:
    /// [`ASKS_PER_CONNECTION_MAX`](crate::limits::ASKS_PER_CONNECTION_MAX).
    TooMany,
    /// The connection's dialect has no way to ask.
    Unsupported,
    /// The client says that it failed, in these words.
    Failed(String),
}

impl fmt::Display for AskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut => f.write_str("timed out"),
            Self::Closed => f.write_str("closed"),
            Self::TooMany => f.write_str("too many asks are open on the connection"),
            Self::Unsupported => f.write_str("the connection's dialect has no way to ask"),
            Self::Failed(why) => write!(f, "the client failed: {why}"),
        }
    }
}

impl std::error::Error for AskError {}

/// Takes the answer to an ask, once, on a thread that must not block.
pub(crate) type AskCallback = Box<dyn FnOnce(Result<Body<'_>, AskError>) + Send>;

/// What is kept with an open ask.
pub(crate) struct Pending(pub(crate) AskCallback);

impl fmt::Debug for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pending")
    }
}

impl Context<'_> {
    /// Asks a client, any, and hands its answer to `callback`, or why there is none: exactly once,
    /// on a thread that must not block. `key` is what clients of its dialect know the question by.
    pub fn ask<'b>(
        &mut self,
        conn: ConnId,
        key: &str,
        body: impl Into<Body<'b>>,
        timeout: Duration,
        callback: impl FnOnce(Result<Body<'_>, AskError>) + Send + 'static,
    ) {
        let body = OwnedBody::from(body.into());
        let ask = AskWork { key: key.into(), body, timeout, callback: Box::new(callback) };
        if conn.loop_index() >= self.gateway().shared.loads.len() {
            // An id that this gateway never gave out: as one whose connection has ended.
            self.gateway().shared.count_late_answer();
            return (ask.callback)(Err(AskError::Closed));
        }
        let endpoint = self.endpoint;
        match &mut self.place {
            Place::Shard(parts) if conn == self.conn => parts.open_ask(conn, endpoint, ask),
            _ => self.post_work(conn, What::Ask(Box::new(ask))),
        }
    }
}

impl Parts<'_> {
    /// Opens an ask on a connection of this shard and sends it.
    pub(crate) fn open_ask(&mut self, conn: ConnId, endpoint: &Endpoint, ask: AskWork) {
        let AskWork { key, body, timeout, callback } = ask;
        let due = self.now.saturating_add(ticks(timeout));
        let id = match self.asks.open(conn, due, Pending(callback)) {
            Ok(id) => id,
            Err(Pending(callback)) => return callback(Err(AskError::TooMany)),
        };
        let ask = Ask { id, key: &key, body: body.as_body() };
        let mut frame = Vec::new();
        if endpoint.dialect.put_ask(endpoint.framing, &mut frame, &ask) {
            let post = self.out.post(conn.loop_index());
            post.reply(conn, 1, |out| out.extend_from_slice(&frame));
        } else if let Some(Pending(callback)) = self.asks.take(conn, id) {
            callback(Err(AskError::Unsupported));
        }
    }
}

/// Whole ticks and one more: a deadline is never early.
pub(crate) fn ticks(time: Duration) -> Tick {
    let ticks = time.as_millis().div_ceil(u128::from(TICK_MS)) + 1;
    Tick::try_from(ticks).unwrap_or(Tick::MAX)
}
