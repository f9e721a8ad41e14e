//! System D: binary packets with a protobuf header, over WebSocket or TCP framing.
//!
//! Two layouts, told apart by their first four bytes, all numbers big-endian:
//! - logic: `C3 11 A3 65 | u32 length | header | u32 length | body`, with a header of protobuf
//!   `{1: command, 2: channelId, 3: sequence, 4: flag, 5: status, 6: dest, 7: repeated Meta}`;
//! - basic: `C3 15 A7 65 | u16 code | u16 length | body`, with code 1 for a ping and 2 for a pong.
//!
//! Invariants:
//! - decoding allocates nothing and borrows all it gives;
//! - an answer's header is its request's, with all fields that are not known here, but for flag and
//!   status; bodies are the handlers' and pass as they are;
//! - a request that is malformed behind its header is answered with status 101; any other malformed
//!   packet ends the connection, for nobody could tell what the answer was to.
//!
//! Clients' `channelId` is what they say it is: who a client is, its session knows.

mod header;
#[cfg(test)]
mod tests;
pub(super) mod wire;

use std::borrow::Cow;

use self::header::{Flag, Header};
use super::message::{Ask, Body, ErrorAnswer, Key, Kind, Message, NotUnderstood, Push};
use super::meta::Meta;
use crate::protocol::MessageKind;

pub(super) use self::header::field;

const LOGIC_MAGIC: [u8; 4] = [0xc3, 0x11, 0xa3, 0x65];
/// Also the correlation of a ping: no header begins with it, for its first byte would be the tag of
/// a group.
const BASIC_MAGIC: [u8; 4] = [0xc3, 0x15, 0xa7, 0x65];
const PING: u16 = 1;
/// The whole packet.
const PONG: [u8; 8] = [0xc3, 0x15, 0xa7, 0x65, 0, 2, 0, 0];

/// The command of a push that names none: a room's publish, above all.
const PUSH_COMMAND: &str = "chat.room.push";

/// The command of a login, and of the push that says that the account has logged in elsewhere.
pub(super) const SIGN_IN: &str = "login.signin";

/// Statuses of system D, as far as the gateway itself answers with them.
const INVALID_PACKET_BODY: i32 = 101;
const UNAUTHORIZED: i32 = 105;
const SYSTEM_EXCEPTION: i32 = 300;
const NOT_IMPLEMENTED: i32 = 301;

/// Field of system D's `ErrorResp`, the body of an error answer.
const ERROR_MESSAGE: u32 = 1;

pub(super) fn decode(kind: MessageKind, payload: &[u8]) -> Result<Message<'_>, NotUnderstood<'_>> {
    if matches!(kind, MessageKind::Text) {
        return Err(close(1003, "expected binary packets"));
    }
    match payload.split_first_chunk() {
        Some((&LOGIC_MAGIC, rest)) => decode_logic(rest),
        Some((&BASIC_MAGIC, rest)) => decode_basic(rest),
        _ => Err(close(1002, "a packet begins with C3 11 A3 65 or C3 15 A7 65")),
    }
}

fn decode_logic(rest: &[u8]) -> Result<Message<'_>, NotUnderstood<'_>> {
    let (header_bytes, rest) =
        take_counted(rest).ok_or(close(1002, "the packet ends within its header"))?;
    let header =
        Header::parse(header_bytes).map_err(|_| close(1007, "the header is not protobuf"))?;
    let correlation = Cow::Borrowed(header_bytes);
    let (kind, correlation) = match Flag::of(header.flag) {
        Some(Flag::Request) => (Kind::Request, Some(correlation)),
        Some(Flag::Push) => (Kind::Push, None),
        Some(Flag::Response) => {
            (Kind::Response { to: header.sequence, failed: header.status != 0 }, None)
        }
        None => return Err(close(1007, "the header's flag is none of 0, 1, 2")),
    };
    let Some((body, [])) = take_counted(rest) else {
        return Err(match correlation {
            None => close(1002, "the body's length is not that of the packet's rest"),
            asked => NotUnderstood::bad_request(
                asked,
                "the body's length is not that of the packet's rest",
            ),
        });
    };
    let meta = Meta::of_kim(header_bytes);
    let key = Key::from(header.command);
    Ok(Message { kind, key, correlation, body: Body::Binary(body), meta })
}

/// A ping is answered; a pong, or a code that nobody knows, is taken in and not answered.
fn decode_basic(rest: &[u8]) -> Result<Message<'_>, NotUnderstood<'_>> {
    let Some((&[code @ .., len_high, len_low], body)) = rest.split_first_chunk::<4>() else {
        return Err(close(1002, "the packet ends within its header"));
    };
    if body.len() != usize::from(u16::from_be_bytes([len_high, len_low])) {
        return Err(close(1002, "the body's length is not that of the packet's rest"));
    }
    let is_ping = u16::from_be_bytes(code) == PING;
    Ok(Message {
        kind: Kind::Heartbeat,
        key: Key::NONE,
        correlation: is_ping.then_some(Cow::Borrowed(&BASIC_MAGIC)),
        body: Body::Binary(body),
        meta: Meta::default(),
    })
}

/// Splits off what a big-endian `u32` counts.
fn take_counted(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(usize::try_from(u32::from_be_bytes(*len)).ok()?)
}

fn close<'a>(code: u16, reason: &'static str) -> NotUnderstood<'a> {
    NotUnderstood::Close { code, reason }
}

/// The request's header as a response, and the body; of an error, its status and system D's
/// `ErrorResp`. `null` in JSON is what is answered for a handler that said nothing: no body.
pub(super) fn encode_answer(
    out: &mut Vec<u8>,
    correlation: Option<&[u8]>,
    answer: Result<Body<'_>, &ErrorAnswer<'_>>,
) -> MessageKind {
    let request = correlation.unwrap_or_default();
    if request == BASIC_MAGIC {
        out.extend_from_slice(&PONG);
        return MessageKind::Binary;
    }
    let status = answer.err().map_or(0, |error| status_of(error.code));
    out.extend_from_slice(&LOGIC_MAGIC);
    put_counted(out, |out| header::put_answer(out, request, status));
    put_counted(out, |out| match answer {
        Ok(Body::Json("null")) => {}
        Ok(body) => out.extend_from_slice(body.as_bytes()),
        Err(error) => wire::put_text(out, ERROR_MESSAGE, &error.message),
    });
    MessageKind::Binary
}

/// The status of an error answer.
///
/// Codes below 400 are statuses of system D, for handlers that mean one of them. What no route is
/// for, 404, is what system D calls not implemented; its own 404 is a lost session, on which
/// clients log in anew, and so no error of HTTP's becomes that.
fn status_of(code: u16) -> i32 {
    match code {
        1..400 => i32::from(code),
        400 => INVALID_PACKET_BODY,
        401 | 403 | 409 => UNAUTHORIZED,
        404 | 501 => NOT_IMPLEMENTED,
        _ => SYSTEM_EXCEPTION,
    }
}

/// The publisher is the channel, and the room the destination.
pub(super) fn encode_push(out: &mut Vec<u8>, push: &Push<'_>) -> MessageKind {
    let header = Header {
        command: push.key.unwrap_or(PUSH_COMMAND),
        channel_id: push.from.unwrap_or_default(),
        flag: Flag::Push as i32,
        dest: push.room.unwrap_or_default(),
        ..Header::default()
    };
    put_logic(out, &header, push.body);
    MessageKind::Binary
}

pub(super) fn encode_ask(out: &mut Vec<u8>, ask: &Ask<'_>) -> MessageKind {
    let header = Header { command: ask.key, sequence: ask.id, ..Header::default() };
    put_logic(out, &header, ask.body);
    MessageKind::Binary
}

/// Appends system D's `KickoutNotify` to the channel that is told.
pub(super) fn put_kickout(body: &mut Vec<u8>, channel_id: &str) {
    wire::put_text(body, 1, channel_id);
}

fn put_logic(out: &mut Vec<u8>, header: &Header<'_>, body: Body<'_>) {
    out.extend_from_slice(&LOGIC_MAGIC);
    put_counted(out, |out| header.put(out));
    put_counted(out, |out| out.extend_from_slice(body.as_bytes()));
}

/// Appends what `put` appends, behind its length as a big-endian `u32`.
fn put_counted(out: &mut Vec<u8>, put: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    put(out);
    let len = out.len() - at - 4;
    debug_assert!(u32::try_from(len).is_ok(), "messages are bounded by 1 GiB");
    out[at..at + 4].copy_from_slice(&(len as u32).to_be_bytes());
}
