//! Typed bodies: values in, values out.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use prost::Message as _;
use prost::bytes::{Buf, BufMut};
use prost::encoding::wire_type::WireType;
use prost::encoding::{DecodeContext, string, uint32};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tidegate::routing::{json_handler, proto_handler};
use tidegate::{Body, CustomDialect, Endpoint, ErrorAnswer, Gateway, Key, NotUnderstood, Push};
use tidegate::{Message, MessageKind};

use crate::client::{BINARY, Client};
use crate::start;

#[derive(Deserialize)]
struct Order {
    item: String,
    #[serde(default)]
    count: u32,
}

#[derive(Serialize)]
struct Priced {
    total: u32,
    items: Vec<String>,
}

fn price(order: Order) -> Result<Priced, ErrorAnswer<'static>> {
    match order.count {
        0 => Err(ErrorAnswer::new(418, format!("no {}", order.item))),
        count => Ok(Priced { total: 3 * count, items: vec![order.item; count as usize] }),
    }
}

#[test]
fn json_bodies() {
    for workers in [0, 2] {
        let builder = Gateway::builder()
            .route("order", json_handler(|_, order| price(order)))
            .route("nothing", json_handler(|_, ()| Ok(())));
        let running = start(builder, workers);
        let mut peer = Client::open(running.addresses()[0], "/ws");
        let mut ask = |route: &str, body: Value| peer.ask(route, 7, body);
        let priced = json!({"total": 6, "items": ["tea", "tea"]});
        assert_eq!(ask("order", json!({"item": "tea", "count": 2}))["body"], priced);
        let error = json!({"code": 418, "message": "no tea"});
        assert_eq!(ask("order", json!({"item": "tea"}))["error"], error);
        let error = ask("order", json!({"count": 2}))["error"].clone();
        assert_eq!(error["code"], 400);
        assert!(error["message"].as_str().unwrap().contains("missing field `item`"), "{error}");
        assert_eq!(ask("nothing", json!(null)), json!({"id": 7, "body": null}));
        assert_eq!(ask("nothing", json!(1))["error"]["code"], 400);
    }
}

/// A protobuf message as its generated code has it: `1 name string, 2 count uint32`.
#[derive(Clone, Debug, Default, PartialEq)]
struct Named {
    name: String,
    count: u32,
}

impl prost::Message for Named {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        string::encode(1, &self.name, buf);
        uint32::encode(2, &self.count, buf);
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), prost::DecodeError> {
        match tag {
            1 => string::merge(wire_type, &mut self.name, buf, ctx),
            2 => uint32::merge(wire_type, &mut self.count, buf, ctx),
            _ => prost::encoding::skip_field(wire_type, tag, buf, ctx),
        }
    }

    fn encoded_len(&self) -> usize {
        string::encoded_len(1, &self.name) + uint32::encoded_len(2, &self.count)
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

/// One letter for the route, one for the correlation, the body; the same without the first back.
struct Letters;

impl CustomDialect for Letters {
    fn decode<'a>(
        &self,
        _: MessageKind,
        payload: &'a [u8],
    ) -> Result<Message<'a>, NotUnderstood<'a>> {
        let key = Key::from(std::str::from_utf8(&payload[..1]).expect("a letter"));
        let body = Body::Binary(&payload[2..]);
        Ok(match payload[1] {
            b'-' => Message::push(key, body),
            _ => Message::request(key, Cow::Borrowed(&payload[1..2]), body),
        })
    }

    fn encode_answer(
        &self,
        out: &mut Vec<u8>,
        correlation: Option<&[u8]>,
        answer: Result<Body<'_>, &ErrorAnswer<'_>>,
    ) -> MessageKind {
        out.extend_from_slice(correlation.unwrap_or(b"?"));
        match answer {
            Ok(Body::Binary(bytes)) => out.extend_from_slice(bytes),
            Ok(text) => panic!("{text:?} is no protobuf"),
            Err(error) => {
                out.extend_from_slice(format!("error {} {}", error.code, error.message).as_bytes());
            }
        }
        MessageKind::Binary
    }

    fn encode_push(&self, _: &mut Vec<u8>, _: &Push<'_>) -> MessageKind {
        MessageKind::Binary
    }
}

#[test]
fn protobuf_bodies() {
    let letters = || {
        let double = proto_handler(|_, named: Named| match named.count {
            u32::MAX => Err(ErrorAnswer::new(418, "too many")),
            count => Ok(Named { name: named.name.repeat(2), count: 2 * count }),
        });
        Endpoint::custom("/letters", Letters).route("d", double)
    };
    for workers in [0, 2] {
        let sum = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&sum);
        let count = json_handler(move |ctx, by: u32| {
            assert!(ctx.peer().port() > 0);
            Ok(count.fetch_add(by, SeqCst))
        });
        let letters = letters().route("c", count);
        let running = start(Gateway::builder().endpoint(letters), workers);
        let mut peer = Client::open(running.addresses()[0], "/letters");
        let sea = Named { name: "sea".into(), count: 21 };
        assert_eq!(sea.encode_to_vec(), *b"\x0a\x03sea\x10\x15");
        // What wants no answer is handled and gets none; nor is one counted that was not sent.
        for message in [&b"c-4"[..], b"c-x", b"c-5", b"d-", b"d-\x0a\x09sea"] {
            peer.binary(message);
        }
        let mut ask = |letters: &[u8], body: &[u8]| {
            peer.binary(&[letters, body].concat());
            let frame = peer.frame().expect("an answer");
            assert_eq!(frame.opcode, BINARY);
            frame.payload
        };
        assert_eq!(ask(b"d1", b"\x0a\x03sea\x10\x15"), b"1\x0a\x06seasea\x10\x2a");
        // Fields that are not known are passed over.
        assert_eq!(ask(b"d2", b"\x10\x01\x18\x07"), b"2\x0a\0\x10\x02");
        assert_eq!(ask(b"d3", b"\x10\xff\xff\xff\xff\x0f"), b"3error 418 too many");
        let error = ask(b"d4", b"\x0a\x09sea");
        assert!(error.starts_with(b"4error 400 "), "{}", String::from_utf8_lossy(&error));
        assert_eq!(sum.load(SeqCst), 9);
        assert_eq!(running.stats()["late_answers"], 0);
    }
}
