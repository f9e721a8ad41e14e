//! Dialects of library users' own, and the guard around them.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::message::{Ask, Body, ErrorAnswer, Message, NotUnderstood, Push};
use crate::protocol::{Framing, MessageKind};

/// A dialect of a library user's own.
///
/// A panic in it is caught. A message that it fails on in `decode`, or an answer in
/// `encode_answer`, becomes error 500; what cannot be encoded even so is not sent and counted as
/// `not_encoded`.
pub trait CustomDialect: Send + Sync {
    /// Payload → message.
    ///
    /// # Errors
    /// What the sender is told, in this dialect.
    fn decode<'a>(
        &self,
        kind: MessageKind,
        payload: &'a [u8],
    ) -> Result<Message<'a>, NotUnderstood<'a>>;

    /// Appends the payload of an answer and says which kind of message it goes out as.
    fn encode_answer(
        &self,
        out: &mut Vec<u8>,
        correlation: Option<&[u8]>,
        answer: Result<Body<'_>, &ErrorAnswer<'_>>,
    ) -> MessageKind;

    /// Appends the payload of what is sent without being asked for.
    fn encode_push(&self, out: &mut Vec<u8>, push: &Push<'_>) -> MessageKind;

    /// Appends the payload of what the gateway asks a client. `None`: this dialect has no way to ask,
    /// and nothing is sent.
    fn encode_ask(&self, out: &mut Vec<u8>, ask: &Ask<'_>) -> Option<MessageKind> {
        let _ = (out, ask);
        None
    }
}

pub(super) fn decode_custom<'a>(
    dialect: &dyn CustomDialect,
    kind: MessageKind,
    payload: &'a [u8],
) -> Result<Message<'a>, NotUnderstood<'a>> {
    catch_unwind(AssertUnwindSafe(|| dialect.decode(kind, payload))).unwrap_or_else(|_| {
        Err(NotUnderstood::Answer {
            correlation: None,
            answer: failed("the dialect failed on this"),
        })
    })
}

pub(super) fn put_custom_answer(
    dialect: &dyn CustomDialect,
    framing: Framing,
    out: &mut Vec<u8>,
    correlation: Option<&[u8]>,
    answer: Result<Body<'_>, &ErrorAnswer<'_>>,
) {
    let encode =
        |payload: &mut Vec<u8>, answer| Some(dialect.encode_answer(payload, correlation, answer));
    if !put_custom(framing, out, |payload| encode(payload, answer)) {
        let failed = failed("the answer could not be encoded");
        put_custom(framing, out, |payload| encode(payload, Err(&failed)));
    }
}

/// Appends a frame, or nothing if `encode` panics or says `None`. The payload is apart from `out`,
/// where other clients' frames are: a dialect can't touch those.
pub(super) fn put_custom(
    framing: Framing,
    out: &mut Vec<u8>,
    encode: impl FnOnce(&mut Vec<u8>) -> Option<MessageKind>,
) -> bool {
    let mut payload = Vec::new();
    match catch_unwind(AssertUnwindSafe(|| encode(&mut payload))) {
        Ok(Some(kind)) => {
            framing.put_frame(out, kind.opcode(), &payload);
            true
        }
        Ok(None) | Err(_) => false,
    }
}

fn failed(message: &'static str) -> ErrorAnswer<'static> {
    ErrorAnswer::new(500, message)
}
