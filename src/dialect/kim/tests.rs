//! Golden vectors, checked with another implementation of protobuf, and properties.

use proptest::prelude::*;

use super::*;

/// A request with all that a client's has.
const REQUEST: &[u8] = b"\xc3\x11\xa3\x65\0\0\0\x4a\
    \x0a\x0echat.user.talk\x12\x0bgate1_ann_1\x18\x02\x32\x03bob\
    \x3a\x0c\x0a\x03app\x12\x03kim\x18\x01\x3a\x16\x0a\x0bdest.server\x12\x05gate1\x18\x01\
    \0\0\0\x09\x08\x01\x12\x05hello";
/// Its answer, `ok`.
const ANSWER: &[u8] = b"\xc3\x11\xa3\x65\0\0\0\x4c\
    \x0a\x0echat.user.talk\x12\x0bgate1_ann_1\x18\x02\x20\x01\x32\x03bob\
    \x3a\x0c\x0a\x03app\x12\x03kim\x18\x01\x3a\x16\x0a\x0bdest.server\x12\x05gate1\x18\x01\
    \0\0\0\x02ok";
/// Its answer where there is no such route: status 301.
const REFUSAL: &[u8] = b"\xc3\x11\xa3\x65\0\0\0\x4f\
    \x0a\x0echat.user.talk\x12\x0bgate1_ann_1\x18\x02\x20\x01\x28\xad\x02\x32\x03bob\
    \x3a\x0c\x0a\x03app\x12\x03kim\x18\x01\x3a\x16\x0a\x0bdest.server\x12\x05gate1\x18\x01\
    \0\0\0\x1b\x0a\x19no route `chat.user.talk`";
const PUSH: &[u8] = b"\xc3\x11\xa3\x65\0\0\0\x1d\
    \x0a\x0echat.room.push\x12\x04a1b2\x20\x02\x32\x03tea\
    \0\0\0\x07{\"a\":1}";
const ASK: &[u8] = b"\xc3\x11\xa3\x65\0\0\0\x0c\x0a\x08time.ask\x18\x03\0\0\0\x05noon?";
/// A client's answer to that.
const RESPONSE: &[u8] = b"\xc3\x11\xa3\x65\0\0\0\x1b\
    \x0a\x08time.ask\x12\x0bgate1_ann_1\x18\x03\x20\x01\
    \0\0\0\x04noon";
/// The same with status 300 and no body.
const FAILED_RESPONSE: &[u8] = b"\xc3\x11\xa3\x65\0\0\0\x1e\
    \x0a\x08time.ask\x12\x0bgate1_ann_1\x18\x03\x20\x01\x28\xac\x02\
    \0\0\0\0";
const PING_PACKET: &[u8] = b"\xc3\x15\xa7\x65\0\x01\0\0";
const PONG_PACKET: &[u8] = b"\xc3\x15\xa7\x65\0\x02\0\0";

const GOLDEN: [&[u8]; 9] =
    [REQUEST, ANSWER, REFUSAL, PUSH, ASK, RESPONSE, FAILED_RESPONSE, PING_PACKET, PONG_PACKET];

fn read(payload: &[u8]) -> Message<'_> {
    decode(MessageKind::Binary, payload).unwrap()
}

fn answer(correlation: Option<&[u8]>, answer: Result<Body<'_>, &ErrorAnswer<'_>>) -> Vec<u8> {
    let mut out = Vec::new();
    assert_eq!(encode_answer(&mut out, correlation, answer), MessageKind::Binary);
    out
}

fn push(push: &Push<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    assert_eq!(encode_push(&mut out, push), MessageKind::Binary);
    out
}

fn ask(ask: &Ask<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    assert_eq!(encode_ask(&mut out, ask), MessageKind::Binary);
    out
}

#[test]
fn a_request_is_read_and_answered() {
    let message = read(REQUEST);
    assert_eq!((message.kind, &message.key), (Kind::Request, &Key::from("chat.user.talk")));
    assert_eq!(message.correlation.as_deref(), Some(&REQUEST[8..8 + 0x4a]));
    assert!(matches!(message.correlation, Some(Cow::Borrowed(_))));
    assert_eq!(message.body, Body::Binary(b"\x08\x01\x12\x05hello"));

    let correlation = message.correlation.as_deref();
    assert_eq!(answer(correlation, Ok(Body::Text("ok"))), ANSWER);
    let error = ErrorAnswer::new(404, "no route `chat.user.talk`");
    assert_eq!(answer(correlation, Err(&error)), REFUSAL);
}

#[test]
fn what_stands_around_the_body_is_found_by_name() {
    let message = read(REQUEST);
    for (name, want) in [
        ("command", Some("chat.user.talk")),
        ("channelId", Some("gate1_ann_1")),
        ("sequence", Some("2")),
        ("flag", Some("0")),
        ("status", Some("0")),
        ("dest", Some("bob")),
        ("app", Some("kim")),
        ("dest.server", Some("gate1")),
        ("zone", None),
        ("", None),
    ] {
        assert_eq!(message.meta.get(name).as_deref(), want, "{name}");
    }
    let message = read(FAILED_RESPONSE);
    assert_eq!(message.meta.get("status").as_deref(), Some("300"));
    assert_eq!(message.meta.get("flag").as_deref(), Some("1"));
    assert_eq!(message.meta.get("dest"), None);
    let negative = b"\x28\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01";
    assert_eq!(field(negative, "status").as_deref(), Some("-1"));
    let twice = b"\x3a\x06\x0a\x01k\x12\x01a\x3a\x06\x0a\x01k\x12\x01b\x18\x01\x18\x05";
    assert_eq!(field(twice, "k").as_deref(), Some("a"), "the first Meta of a key");
    assert_eq!(field(twice, "sequence").as_deref(), Some("5"), "the last of a field");
}

#[test]
fn a_push_and_a_question_are_written_and_read() {
    let body = Body::Json("{\"a\":1}");
    let publish = Push { room: Some("tea"), from: Some("a1b2"), key: None, body };
    assert_eq!(push(&publish), PUSH);
    let message = read(PUSH);
    assert_eq!((message.kind, &message.key), (Kind::Push, &Key::from("chat.room.push")));
    assert_eq!((message.correlation, message.body.as_bytes()), (None, body.as_bytes()));

    let bare = push(&Push { room: None, from: None, key: Some("kick"), body: Body::Text("") });
    assert_eq!(bare, b"\xc3\x11\xa3\x65\0\0\0\x08\x0a\x04kick\x20\x02\0\0\0\0");

    assert_eq!(ask(&Ask { id: 3, key: "time.ask", body: Body::Text("noon?") }), ASK);
    for (packet, failed, body) in [(RESPONSE, false, &b"noon"[..]), (FAILED_RESPONSE, true, b"")] {
        let message = read(packet);
        assert_eq!(message.kind, Kind::Response { to: 3, failed });
        assert_eq!((&message.key, message.correlation), (&Key::from("time.ask"), None));
        assert_eq!(message.body, Body::Binary(body));
    }
}

#[test]
fn a_ping_is_answered_and_a_pong_is_not() {
    let message = read(PING_PACKET);
    assert_eq!((message.kind, message.key.is_none()), (Kind::Heartbeat, true));
    let pong = answer(message.correlation.as_deref(), Ok(Body::Binary(b"")));
    assert_eq!(pong, PONG_PACKET);
    assert_eq!(read(b"\xc3\x15\xa7\x65\0\x01\0\x02hi").body, Body::Binary(b"hi"));
    for quiet in [PONG_PACKET, b"\xc3\x15\xa7\x65\x01\x01\0\0"] {
        let message = read(quiet);
        assert_eq!((message.kind, message.correlation), (Kind::Heartbeat, None));
    }
    // What a ping is known by is no header, so no request is answered by a pong.
    assert_eq!(Header::parse(&BASIC_MAGIC), Err(wire::Malformed));
}

#[test]
fn an_answer_made_up_for_a_handler_that_gave_none_has_no_body() {
    let packet = answer(Some(b"\x0a\x01x\x18\x07"), Ok(Body::Json("null")));
    assert_eq!(packet, b"\xc3\x11\xa3\x65\0\0\0\x07\x0a\x01x\x18\x07\x20\x01\0\0\0\0");
    let text = answer(Some(b""), Ok(Body::Text("null")));
    assert_eq!(text, b"\xc3\x11\xa3\x65\0\0\0\x02\x20\x01\0\0\0\x04null");
}

#[test]
fn what_is_not_known_in_a_header_comes_back_with_the_answer() {
    // Field 9, text; fields out of order; flag 0 and status 103 said outright.
    let header = b"\x4a\x01z\x20\0\x28\x67\x18\x07\x0a\x01x";
    let packet = answer(Some(header), Ok(Body::Text("")));
    assert_eq!(packet, b"\xc3\x11\xa3\x65\0\0\0\x0a\x20\x01\x4a\x01z\x18\x07\x0a\x01x\0\0\0\0");
}

#[test]
fn errors_have_a_status_of_system_d() {
    for (code, status) in [
        (0, 300),
        (1, 1),
        (100, 100),
        (103, 103),
        (399, 399),
        (400, 101),
        (401, 105),
        (403, 105),
        (404, 301),
        (429, 300),
        (500, 300),
        (501, 301),
        (503, 300),
        (u16::MAX, 300),
    ] {
        let packet = answer(Some(b"\x18\x07"), Err(&ErrorAnswer::new(code, "")));
        let message = read(&packet);
        assert_eq!(message.kind, Kind::Response { to: 7, failed: true }, "{code}");
        assert_eq!(message.meta.get("status").as_deref(), Some(&*status.to_string()), "{code}");
    }
}

#[test]
fn a_request_that_breaks_off_behind_its_header_is_answered() {
    let whole = &REQUEST[8..8 + 0x4a];
    for len in whole.len() + 8..REQUEST.len() {
        let refused = decode(MessageKind::Binary, &REQUEST[..len]).unwrap_err();
        let NotUnderstood::Answer { correlation, answer: error } = refused else {
            panic!("{refused:?}")
        };
        assert_eq!((correlation.as_deref(), error.code), (Some(whole), 400));
        let packet = answer(correlation.as_deref(), Err(&error));
        let meta = read(&packet).meta;
        assert_eq!(meta.get("status").as_deref(), Some("101"));
    }
    let more = [REQUEST, b"x"].concat();
    assert!(matches!(decode(MessageKind::Binary, &more), Err(NotUnderstood::Answer { .. })));
}

#[test]
fn what_is_no_packet_ends_the_connection() {
    for (kind, payload, want) in [
        (MessageKind::Text, REQUEST, 1003),
        (MessageKind::Text, &b"hello"[..], 1003),
        (MessageKind::Binary, b"", 1002),
        (MessageKind::Binary, b"\xc3\x11\xa3", 1002),
        (MessageKind::Binary, b"\xfe\xef\x08\0\0\0\x01\0\0\0\0\0\0\0", 1002),
        (MessageKind::Binary, b"\xc3\x11\xa3\x65\xff\xff\xff\xff\x0a\x01x\0\0\0\0", 1002),
        // Bodies of a push and a response.
        (MessageKind::Binary, b"\xc3\x11\xa3\x65\0\0\0\x02\x20\x02\0\0\0\x01", 1002),
        (MessageKind::Binary, b"\xc3\x11\xa3\x65\0\0\0\x02\x20\x01\0\0\0\0x", 1002),
        // Flag 3; a command, and the key of a Meta, that are not UTF-8; a field that breaks off.
        (MessageKind::Binary, b"\xc3\x11\xa3\x65\0\0\0\x02\x20\x03\0\0\0\0", 1007),
        (MessageKind::Binary, b"\xc3\x11\xa3\x65\0\0\0\x03\x0a\x01\xff\0\0\0\0", 1007),
        (MessageKind::Binary, b"\xc3\x11\xa3\x65\0\0\0\x05\x3a\x03\x0a\x01\xff\0\0\0\0", 1007),
        (MessageKind::Binary, b"\xc3\x11\xa3\x65\0\0\0\x02\x0a\x01\0\0\0\0", 1007),
        (MessageKind::Binary, b"\xc3\x15\xa7\x65\0\x01\0", 1002),
        (MessageKind::Binary, b"\xc3\x15\xa7\x65\0\x01\0\x01", 1002),
        (MessageKind::Binary, b"\xc3\x15\xa7\x65\0\x01\0\0x", 1002),
    ] {
        let refused = decode(kind, payload).unwrap_err();
        let NotUnderstood::Close { code, reason } = refused else { panic!("{refused:?}") };
        assert_eq!(code, want, "{reason}: {payload:?}");
        assert!(reason.len() <= crate::protocol::CLOSE_REASON_MAX);
    }
}

#[test]
fn packets_cut_short_are_refused() {
    for packet in GOLDEN {
        assert!(decode(MessageKind::Binary, packet).is_ok());
        for len in 0..packet.len() {
            assert!(decode(MessageKind::Binary, &packet[..len]).is_err(), "{len} of {packet:?}");
            // Also as what an answer is matched with: whatever it is, it is no panic.
            let _ = answer(Some(&packet[..len]), Ok(Body::Text("x")));
            let _ = field(&packet[..len], "k");
        }
    }
}

/// Another reader and writer of headers than the ones under test: fields in a list.
mod other {
    /// A field with its number, its varint or its bytes.
    #[derive(Clone, Debug, PartialEq)]
    pub(super) enum Field {
        Number(u32, u64),
        Bytes(u32, Vec<u8>),
    }

    fn varint(mut number: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        loop {
            let low = (number % 128) as u8;
            number /= 128;
            if number == 0 {
                bytes.push(low);
                return bytes;
            }
            bytes.push(low + 128);
        }
    }

    pub(super) fn message(fields: &[Field]) -> Vec<u8> {
        let bytes = fields.iter().map(|field| match field {
            Field::Number(n, number) => [varint(u64::from(n * 8)), varint(*number)].concat(),
            Field::Bytes(n, bytes) => {
                [varint(u64::from(n * 8 + 2)), varint(bytes.len() as u64), bytes.clone()].concat()
            }
        });
        bytes.collect::<Vec<_>>().concat()
    }

    pub(super) fn packet(header: &[Field], body: &[u8]) -> Vec<u8> {
        let header = message(header);
        let len = |bytes: &[u8]| (bytes.len() as u32).to_be_bytes();
        let magic = b"\xc3\x11\xa3\x65";
        [magic, &len(&header)[..], &header, &len(body), body].concat()
    }

    fn take(bytes: &mut &[u8], len: usize) -> Vec<u8> {
        let taken = bytes[..len].to_vec();
        *bytes = &bytes[len..];
        taken
    }

    fn take_varint(bytes: &mut &[u8]) -> u64 {
        let len = 1 + bytes.iter().position(|byte| *byte < 128).unwrap();
        take(bytes, len).iter().rev().fold(0, |n, byte| n * 128 + u64::from(byte % 128))
    }

    fn take_counted(bytes: &mut &[u8]) -> Vec<u8> {
        let len = take(bytes, 4).iter().fold(0, |n, byte| n * 256 + usize::from(*byte));
        take(bytes, len)
    }

    /// Header and body of a packet.
    pub(super) fn read(mut packet: &[u8]) -> (Vec<Field>, Vec<u8>) {
        assert_eq!(take(&mut packet, 4), b"\xc3\x11\xa3\x65");
        let (header, body) = (take_counted(&mut packet), take_counted(&mut packet));
        assert!(packet.is_empty());
        let (mut rest, mut fields) = (&header[..], Vec::new());
        while !rest.is_empty() {
            let tag = take_varint(&mut rest);
            let number = (tag / 8) as u32;
            let value = take_varint(&mut rest);
            fields.push(match tag % 8 {
                0 => Field::Number(number, value),
                2 => Field::Bytes(number, take(&mut rest, value as usize)),
                other => panic!("wire type {other}"),
            });
        }
        (fields, body)
    }
}

use other::Field;

fn text_field(number: u32, text: &str) -> Option<Field> {
    (!text.is_empty()).then(|| Field::Bytes(number, text.as_bytes().to_vec()))
}

fn number_field(number: u32, value: u64) -> Option<Field> {
    (value != 0).then_some(Field::Number(number, value))
}

prop_compose! {
    /// What a client might have put behind the fields of a header.
    fn meta()(key in "[a-z]{1,8}", value in ".{0,8}", kind in 0..3_u64) -> Field {
        let fields = [text_field(1, &key), text_field(2, &value), number_field(3, kind)];
        Field::Bytes(7, other::message(&fields.into_iter().flatten().collect::<Vec<_>>()))
    }
}

prop_compose! {
    /// A header but for its flag and status: fields 1 to 3, and those from 6 on.
    fn around()(
        command in ".{0,20}", channel in ".{0,20}", sequence: u32, dest in ".{0,20}",
        metas in prop::collection::vec(meta(), 0..4), unknown in prop::option::of(any::<u64>()),
    ) -> (String, String, u32, String, Vec<Field>, Vec<Field>) {
        let before =
            [text_field(1, &command), text_field(2, &channel), number_field(3, sequence.into())];
        let behind = text_field(6, &dest).into_iter().chain(metas);
        let behind = behind.chain(unknown.map(|number| Field::Number(8, number)));
        let before = before.into_iter().flatten().collect();
        (command, channel, sequence, dest, before, behind.collect())
    }
}

proptest! {
    #[test]
    fn what_clients_send_is_what_is_read_and_answered(
        (command, channel, sequence, dest, before, behind) in around(),
        flag in 0..3_u64, status in prop::sample::select(vec![0_u64, 1, 300]),
        body in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let own = [number_field(4, flag), number_field(5, status)];
        let header: Vec<_> =
            before.iter().cloned().chain(own.into_iter().flatten()).chain(behind.clone()).collect();
        let packet = other::packet(&header, &body);
        let message = read(&packet);
        prop_assert_eq!(message.kind, match flag {
            0 => Kind::Request,
            1 => Kind::Response { to: sequence, failed: status != 0 },
            _ => Kind::Push,
        });
        prop_assert_eq!(&message.key, &*command);
        prop_assert_eq!(message.body, Body::Binary(&body));
        prop_assert_eq!(message.meta.get("channelId").unwrap_or_default(), channel);
        prop_assert_eq!(message.meta.get("dest").unwrap_or_default(), dest);
        prop_assert_eq!(message.meta.get("sequence").unwrap(), sequence.to_string());

        let Some(correlation) = message.correlation else { return Ok(()) };
        for (error, status) in [(None, 0), (Some(ErrorAnswer::new(500, "no")), 300)] {
            let packet = answer(Some(&correlation), error.as_ref().map_or(Ok(message.body), Err));
            let (fields, said) = other::read(&packet);
            let own = [number_field(4, 1), number_field(5, status)];
            let want: Vec<_> = before.iter().cloned().chain(own.into_iter().flatten())
                .chain(behind.clone()).collect();
            prop_assert_eq!(fields, want);
            prop_assert_eq!(said, if status == 0 { body.clone() } else { b"\x0a\x02no".to_vec() });
        }
    }

    #[test]
    fn what_is_sent_is_what_was_meant(
        key in prop::option::of(".{0,20}"), from in prop::option::of(".{0,20}"),
        room in prop::option::of(".{0,20}"), id: u32, text in ".{0,200}",
    ) {
        let sent = push(&Push {
            room: room.as_deref(), from: from.as_deref(), key: key.as_deref(),
            body: Body::Text(&text),
        });
        let command = key.as_deref().unwrap_or("chat.room.push");
        let want = [
            text_field(1, command), text_field(2, from.as_deref().unwrap_or_default()),
            number_field(4, 2), text_field(6, room.as_deref().unwrap_or_default()),
        ];
        let want: Vec<_> = want.into_iter().flatten().collect();
        prop_assert_eq!(other::read(&sent), (want, text.clone().into_bytes()));
        let message = read(&sent);
        prop_assert_eq!((message.kind, message.body), (Kind::Push, Body::Binary(text.as_bytes())));
        prop_assert_eq!(&message.key, command);

        let sent = ask(&Ask { id, key: command, body: Body::Text(&text) });
        let want = [text_field(1, command), number_field(3, id.into())];
        let want: Vec<_> = want.into_iter().flatten().collect();
        prop_assert_eq!(other::read(&sent), (want, text.into_bytes()));
    }

    #[test]
    fn any_bytes_are_read_or_refused(
        at in 0..GOLDEN.len(), from in 0..40_usize,
        bytes in prop::collection::vec(any::<u8>(), 0..16),
    ) {
        // Over a good packet, so that they meet more than the check of the magic.
        let mut packet = GOLDEN[at].to_vec();
        for (old, new) in packet.iter_mut().skip(from).zip(&bytes) {
            *old = *new;
        }
        for payload in [&packet, &bytes] {
            if let Ok(message) = decode(MessageKind::Binary, payload) {
                prop_assert!(payload.ends_with(message.body.as_bytes()));
                let _ = answer(message.correlation.as_deref(), Ok(message.body));
            }
        }
    }
}
