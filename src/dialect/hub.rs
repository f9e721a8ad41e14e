//! System E: binary packets, little-endian: `FE EF | u32 length | u32 protocol | u32 sn | body`,
//! where length is 8 and the body's.
//!
//! The serial number says what a packet is to the conversation: 0 wants no answer, the client
//! asks with even ones and the gateway with odd ones, and an answer has its question's.
//!
//! A packet that is none ends the connection, as it did in system E. That system had no form for an
//! error either: what failed was never answered, and the client waited until it gave up. Here the
//! answer to what failed has its question's number, by which clients match it, and protocol
//! [`ERROR_PROTOCOL`] in place of the question's, by which they tell it from an answer; its body is
//! protobuf `{1: code uint32, 2: message string}`.

use std::borrow::Cow;

use super::displaced::Displaced;
use super::kim::wire;
use super::message::{Ask, Body, ErrorAnswer, Key, Kind, Message, NotUnderstood, Push};
use super::meta::Meta;
use crate::protocol::MessageKind;

/// What each packet begins with.
const MAGIC: [u8; 2] = [0xfe, 0xef];
/// Magic and length: what the length does not count.
const PREFIX_BYTES: usize = 6;
/// Protocol and serial number: what the length counts beside the body.
const IDS_BYTES: usize = 8;
/// All that stands before the body.
const HEADER_BYTES: usize = PREFIX_BYTES + IDS_BYTES;
/// Most that the length may be, as system E has it.
const LENGTH_MAX: usize = 512 * 1024;

/// The protocol of a push that names none: a room's publish, above all.
const PUSH_PROTOCOL: u32 = 1;
/// The protocol of an error answer.
const ERROR_PROTOCOL: u32 = 2_147_483_646;
/// The protocol by which system E says that an identity has connected anew, in decimal.
pub(super) const DISPLACED: &str = "2147483647";

#[inline]
pub(super) fn decode(kind: MessageKind, payload: &[u8]) -> Result<Message<'_>, NotUnderstood<'_>> {
    let Some((header, body)) = payload.split_first_chunk::<HEADER_BYTES>() else {
        return Err(refused(kind, payload));
    };
    let length = u32_at(header, 2) as usize;
    let whole = length == payload.len() - PREFIX_BYTES && length <= LENGTH_MAX;
    if !whole || !header.starts_with(&MAGIC) || matches!(kind, MessageKind::Text) {
        return Err(refused(kind, payload));
    }
    let sn = u32_at(header, 10);
    let (kind, correlation) = match sn {
        0 => (Kind::Push, None),
        sn if sn % 2 == 0 => (Kind::Request, Some(Cow::Borrowed(&header[PREFIX_BYTES..]))),
        sn => (Kind::Response { to: sn, failed: false }, None),
    };
    Ok(Message {
        kind,
        key: Key::Number(u32_at(header, 6)),
        correlation,
        body: Body::Binary(body),
        meta: Meta::default(),
    })
}

/// What a payload that is no packet ends the connection with.
#[cold]
fn refused(kind: MessageKind, payload: &[u8]) -> NotUnderstood<'_> {
    let length = payload.get(2..).and_then(|rest| rest.first_chunk());
    let length = length.map(|bytes| u32::from_le_bytes(*bytes) as usize);
    let (code, reason) = match (kind, payload.starts_with(&MAGIC), length) {
        (MessageKind::Text, ..) => (1003, "expected binary packets"),
        (_, false, _) => (1002, "a packet begins with FE EF"),
        (_, _, Some(length)) if length > LENGTH_MAX => {
            (1009, "a packet's length is at most 524288")
        }
        _ => (1002, "the packet's length is not that of the message"),
    };
    NotUnderstood::Close { code, reason }
}

/// `null` in JSON is what is answered for a handler that said nothing: no body.
#[inline]
pub(super) fn encode_answer(
    out: &mut Vec<u8>,
    correlation: Option<&[u8]>,
    answer: Result<Body<'_>, &ErrorAnswer<'_>>,
) -> MessageKind {
    let ids = correlation.and_then(|ids| ids.first_chunk::<IDS_BYTES>());
    let (protocol, sn) = ids.map_or((PUSH_PROTOCOL, 0), |ids| (u32_at(ids, 0), u32_at(ids, 4)));
    match answer {
        Ok(Body::Json("null")) => put_packet(out, protocol, sn, b""),
        Ok(body) => put_packet(out, protocol, sn, body.as_bytes()),
        Err(error) => put_error(out, sn, error),
    }
    MessageKind::Binary
}

pub(super) fn encode_push(out: &mut Vec<u8>, push: &Push<'_>) -> MessageKind {
    put_packet(out, protocol_of(push.key), 0, push.body.as_bytes());
    MessageKind::Binary
}

pub(super) fn encode_ask(out: &mut Vec<u8>, ask: &Ask<'_>) -> MessageKind {
    put_packet(out, protocol_of(Some(ask.key)), ask.id, ask.body.as_bytes());
    MessageKind::Binary
}

/// Appends system E's `P_DISPLACE`: the two addresses as text, and the time.
pub(super) fn put_displaced(body: &mut Vec<u8>, what: &Displaced) {
    let [old_ip, new_ip] = what.ips();
    wire::put_text(body, 1, &old_ip.to_string());
    wire::put_text(body, 2, &new_ip.to_string());
    wire::put_number(body, 3, what.at_ns() as u64);
}

/// The number that a key is in decimal, or else the one for all that has none.
fn protocol_of(key: Option<&str>) -> u32 {
    key.and_then(|key| key.parse().ok()).unwrap_or(PUSH_PROTOCOL)
}

#[cold]
fn put_error(out: &mut Vec<u8>, sn: u32, error: &ErrorAnswer<'_>) {
    let mut body = Vec::with_capacity(error.message.len() + 16);
    wire::put_number(&mut body, 1, u64::from(error.code));
    wire::put_text(&mut body, 2, &error.message);
    put_packet(out, ERROR_PROTOCOL, sn, &body);
}

#[inline]
fn put_packet(out: &mut Vec<u8>, protocol: u32, sn: u32, body: &[u8]) {
    debug_assert!(u32::try_from(body.len()).is_ok(), "messages are bounded by 1 GiB");
    let mut header = [0; HEADER_BYTES];
    header[..2].copy_from_slice(&MAGIC);
    header[2..6].copy_from_slice(&((IDS_BYTES + body.len()) as u32).to_le_bytes());
    header[6..10].copy_from_slice(&protocol.to_le_bytes());
    header[10..].copy_from_slice(&sn.to_le_bytes());
    out.reserve(HEADER_BYTES + body.len());
    out.extend_from_slice(&header);
    out.extend_from_slice(body);
}

/// The number at `at` in bytes that are known to reach so far.
#[inline]
fn u32_at<const N: usize>(bytes: &[u8; N], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Protocol 2, one way: the vector that system E is known by.
    const PUSH: &[u8] = b"\xfe\xef\x16\0\0\0\x02\0\0\0\0\0\0\0client request";
    /// Protocol 1000, the client's first serial number.
    const REQUEST: &[u8] = b"\xfe\xef\x0a\0\0\0\xe8\x03\0\0\x02\0\0\0hi";
    /// Protocol 1000, in answer to the gateway's first question.
    const RESPONSE: &[u8] = b"\xfe\xef\x09\0\0\0\xe8\x03\0\0\x03\0\0\0!";

    fn read(payload: &[u8]) -> Message<'_> {
        decode(MessageKind::Binary, payload).unwrap()
    }

    fn answer(correlation: Option<&[u8]>, answer: Result<Body<'_>, &ErrorAnswer<'_>>) -> Vec<u8> {
        let mut out = Vec::new();
        assert_eq!(encode_answer(&mut out, correlation, answer), MessageKind::Binary);
        out
    }

    fn push(key: Option<&str>, body: Body<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        let push = Push { room: Some("tea"), from: Some("ann"), key, body };
        assert_eq!(encode_push(&mut out, &push), MessageKind::Binary);
        out
    }

    fn ask(id: u32, key: &str, body: Body<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        assert_eq!(encode_ask(&mut out, &Ask { id, key, body }), MessageKind::Binary);
        out
    }

    /// Protocol, serial number and body, read by another way than `decode`'s.
    fn parts(packet: &[u8]) -> (u32, u32, &[u8]) {
        let number = |range: std::ops::Range<usize>| {
            packet[range].iter().rev().fold(0, |number, byte| number << 8 | u32::from(*byte))
        };
        assert_eq!(&packet[..2], b"\xfe\xef");
        assert_eq!(number(2..6) as usize + 6, packet.len());
        (number(6..10), number(10..14), &packet[14..])
    }

    #[test]
    fn serial_numbers_tell_what_a_packet_is() {
        let message = read(PUSH);
        assert_eq!((message.kind, &message.key), (Kind::Push, &Key::Number(2)));
        assert_eq!((message.correlation, message.body), (None, Body::Binary(b"client request")));

        let message = read(REQUEST);
        assert_eq!((message.kind, &message.key), (Kind::Request, &Key::Number(1000)));
        assert_eq!(message.correlation.as_deref(), Some(&REQUEST[6..14]));
        assert_eq!(message.body, Body::Binary(b"hi"));

        let message = read(RESPONSE);
        let kind = Kind::Response { to: 3, failed: false };
        assert_eq!((message.kind, &message.key), (kind, &Key::Number(1000)));
        assert_eq!((message.correlation, message.body), (None, Body::Binary(b"!")));
    }

    #[test]
    fn packets_go_out_as_they_come_in() {
        assert_eq!(push(Some("2"), Body::Text("client request")), PUSH);
        let correlation = read(REQUEST).correlation;
        assert_eq!(answer(correlation.as_deref(), Ok(Body::Binary(b"hi"))), REQUEST);
        assert_eq!(ask(3, "1000", Body::Json("!")), RESPONSE);
    }

    #[test]
    fn what_has_no_protocol_of_its_own_gets_one() {
        assert_eq!(push(None, Body::Json("{}")), b"\xfe\xef\x0a\0\0\0\x01\0\0\0\0\0\0\0{}");
        for key in ["chat.talk", "", "-1", "4294967296"] {
            assert_eq!(parts(&push(Some(key), Body::Text("x"))), (1, 0, &b"x"[..]), "{key}");
            assert_eq!(parts(&ask(5, key, Body::Text("x"))), (1, 5, &b"x"[..]), "{key}");
        }
        assert_eq!(parts(&push(Some("4294967295"), Body::Text(""))), (u32::MAX, 0, &b""[..]));
    }

    #[test]
    fn error_answers_have_the_number_of_what_failed_and_a_protocol_of_their_own() {
        let error = ErrorAnswer::new(404, "no route `1000`");
        let want =
            b"\xfe\xef\x1c\0\0\0\xfe\xff\xff\x7f\x02\0\0\0\x08\x94\x03\x12\x0fno route `1000`";
        assert_eq!(answer(read(REQUEST).correlation.as_deref(), Err(&error)), want);
    }

    #[test]
    fn an_answer_made_up_for_a_handler_that_gave_none_is_empty() {
        let packet = answer(read(REQUEST).correlation.as_deref(), Ok(Body::Json("null")));
        assert_eq!(parts(&packet), (1000, 2, &b""[..]));
        let packet = answer(None, Ok(Body::Text("null")));
        assert_eq!(parts(&packet), (1, 0, &b"null"[..]));
    }

    #[test]
    fn what_is_no_packet_ends_the_connection() {
        let over = [b"\xfe\xef\x01\0\x08\0".as_slice(), &[0; LENGTH_MAX + 1]].concat();
        for (kind, payload, want) in [
            (MessageKind::Text, PUSH, 1003),
            (MessageKind::Text, &b"hello"[..], 1003),
            (MessageKind::Binary, b"", 1002),
            (MessageKind::Binary, b"\xfe\xee\x08\0\0\0\x01\0\0\0\0\0\0\0", 1002),
            (MessageKind::Binary, b"\xfe\xef", 1002),
            (MessageKind::Binary, b"\xfe\xef\x07\0\0\0\x01\0\0\0\0\0\0", 1002),
            (MessageKind::Binary, b"\xfe\xef\x07\0\0\0\x01\0\0\0\0\0\0\0", 1002),
            (MessageKind::Binary, b"\xfe\xef\x09\0\0\0\x01\0\0\0\0\0\0\0", 1002),
            (MessageKind::Binary, b"\xfe\xef\xff\xff\xff\xff\x01\0\0\0\0\0\0\0", 1009),
            (MessageKind::Binary, &over, 1009),
        ] {
            let refused = decode(kind, payload).unwrap_err();
            let NotUnderstood::Close { code, reason } = refused else { panic!("{refused:?}") };
            assert_eq!(code, want, "{reason}");
            assert!(reason.len() <= crate::protocol::CLOSE_REASON_MAX);
        }
        let most = [b"\xfe\xef\0\0\x08\0".as_slice(), &[0; LENGTH_MAX]].concat();
        assert_eq!(read(&most).body.as_bytes().len(), LENGTH_MAX - 8);
    }

    #[test]
    fn packets_cut_short_are_refused() {
        for packet in [PUSH, REQUEST, RESPONSE] {
            for len in 0..packet.len() {
                assert!(decode(MessageKind::Binary, &packet[..len]).is_err(), "{len}");
            }
        }
    }

    proptest! {
        #[test]
        fn what_clients_send_is_what_is_read(
            protocol: u32, sn: u32, body in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let mut packet = b"\xfe\xef".to_vec();
            packet.extend((body.len() as u32 + 8).to_le_bytes());
            packet.extend([protocol, sn].map(u32::to_le_bytes).concat());
            packet.extend(&body);
            let message = read(&packet);
            prop_assert_eq!(&message.key, &Key::Number(protocol));
            prop_assert_eq!(message.body, Body::Binary(&body));
            prop_assert_eq!(message.kind == Kind::Push, sn == 0);
            let to = Kind::Response { to: sn, failed: false };
            prop_assert_eq!(message.kind == to, sn % 2 == 1);
            prop_assert_eq!(message.correlation.is_some(), message.kind == Kind::Request);
            if let Some(correlation) = &message.correlation {
                // What is answered with a question's own body is the question.
                prop_assert_eq!(answer(Some(correlation), Ok(message.body)), packet);
            }
        }

        #[test]
        fn what_is_sent_is_what_was_meant(
            protocol: u32, sn: u32, body in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let (key, body) = (protocol.to_string(), &body[..]);
            let correlation = [protocol, sn].map(u32::to_le_bytes).concat();
            let answered = answer(Some(&correlation), Ok(Body::Binary(body)));
            prop_assert_eq!(parts(&answered), (protocol, sn, body));
            let pushed = push(Some(&key), Body::Binary(body));
            prop_assert_eq!(parts(&pushed), (protocol, 0, body));
            let asked = ask(sn, &key, Body::Binary(body));
            prop_assert_eq!(parts(&asked), (protocol, sn, body));
        }

        #[test]
        fn any_bytes_are_read_or_refused(
            magic: bool, bytes in prop::collection::vec(any::<u8>(), 0..64),
        ) {
            let bytes = if magic { [&MAGIC[..], &bytes].concat() } else { bytes };
            if let Ok(message) = decode(MessageKind::Binary, &bytes) {
                prop_assert_eq!(message.body.as_bytes().len() + HEADER_BYTES, bytes.len());
            }
        }
    }
}
