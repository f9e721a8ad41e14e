//! Compressed messages on their way to the sink.

use super::inbound::Inbound;
use super::life::{Connection, Env, Phase, Received, Sink};
use crate::protocol::deflate::{Inflater, Window};
use crate::protocol::{MessageKind, Violation};

/// What a connection's compressed messages are inflated with: it goes with
/// [`Decoder::deflate`](crate::protocol::Decoder::deflate).
#[derive(Debug)]
pub struct Inflate<'a> {
    /// The loop's.
    pub inflater: &'a mut Inflater,
    /// With context takeover, the connection's.
    pub window: Option<&'a mut Window>,
    /// Bytes in and out that may still be inflated for it in this turn. The message that uses it up is
    /// the last one of the turn; what came behind it is kept, see [`Received::Later`].
    pub budget_bytes: u64,
    /// Messages inflated.
    pub messages: u32,
}

impl Connection {
    /// Whether bytes that came before wait for another turn: [`receive`](Self::receive) is to be
    /// called with no bytes then, before any are read.
    #[inline]
    #[must_use]
    pub fn has_unread(&self) -> bool {
        matches!(self.inbound, Inbound::Unread(_))
    }

    /// Takes a compressed message; what follows it, `behind`, is kept where it is over the budget.
    pub(super) fn compressed(
        &mut self,
        kind: MessageKind,
        payload: &[u8],
        behind: &[u8],
        env: &mut Env<'_>,
        sink: &mut impl Sink,
    ) -> Received {
        if self.phase != Phase::Open {
            sink.discarded();
            return Received::Continue;
        }
        match inflated(kind, payload, env) {
            Ok(message) => self.assembled(kind, message, env, sink),
            Err(violation) => {
                self.violated(violation, env);
                return Received::Stop;
            }
        }
        let spent = env.inflate.as_ref().is_some_and(|inflate| inflate.budget_bytes == 0);
        if spent && !behind.is_empty() && self.phase == Phase::Open {
            self.inbound = Inbound::Unread(Box::new(behind.to_vec()));
            return Received::Later;
        }
        Received::Continue
    }

    /// Goes on with what was kept, and then with `input`.
    #[cold]
    pub(super) fn receive_unread(
        &mut self,
        mut unread: Vec<u8>,
        input: &[u8],
        env: &mut Env<'_>,
        sink: &mut impl Sink,
    ) -> Received {
        unread.extend_from_slice(input);
        self.receive(&mut unread, env, sink)
    }
}

fn inflated(kind: MessageKind, payload: &[u8], env: &mut Env<'_>) -> Result<Vec<u8>, Violation> {
    // The decoder lets none through where none were agreed.
    let Some(inflate) = &mut env.inflate else { return Err(Violation::ReservedBits) };
    let mut message = env.spare.buffer();
    let window = inflate.window.as_deref_mut();
    let max_bytes = env.decoder.max_message_bytes;
    inflate.inflater.inflate(kind, payload, window, max_bytes, &mut message)?;
    let worked = (payload.len() + message.len()) as u64;
    inflate.budget_bytes = inflate.budget_bytes.saturating_sub(worked);
    inflate.messages += 1;
    Ok(message)
}
