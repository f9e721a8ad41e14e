//! `action`.

use super::message::{Body, ErrorAnswer, Message, NotUnderstood, Push};
use crate::protocol::MessageKind;

pub(super) fn decode<'a>(_: MessageKind, _: &'a [u8]) -> Result<Message<'a>, NotUnderstood<'a>> {
    Err(NotUnderstood::Close { code: 1003, reason: "not yet" })
}

pub(super) fn encode_answer(
    _: &mut Vec<u8>,
    _: Option<&[u8]>,
    _: Result<Body<'_>, &ErrorAnswer<'_>>,
) -> MessageKind {
    MessageKind::Text
}

pub(super) fn encode_push(_: &mut Vec<u8>, _: &Push<'_>) -> MessageKind {
    MessageKind::Text
}
