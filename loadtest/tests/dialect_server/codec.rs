//! The server's side of each dialect, over `serde_json` values and bytes written by hand.

use serde_json::{Value, json};
use tungstenite::Message;

/// A question, out of its envelope.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) route: String,
    ticket: Ticket,
    /// In dialects of JSON its text.
    pub(crate) body: Vec<u8>,
}

#[derive(Clone, Debug)]
enum Ticket {
    Value(Value),
    Number(u32),
}

/// What is wrong with an answer's envelope.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Flaw {
    None,
    /// It answers another question.
    Ticket,
    /// It is of another route.
    Route,
    /// It says that it could not be done.
    Refusal,
}

/// What a client says in a dialect.
pub(crate) fn read(dialect: &str, message: &Message) -> Asked {
    let json = || -> Value { serde_json::from_str(message.to_text().unwrap()).unwrap() };
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let body = |value: &Value| value.to_string().into_bytes();
    match dialect {
        "json" => {
            let said = json();
            let ticket = Ticket::Value(said["id"].clone());
            Asked { route: text(&said["route"]), ticket, body: body(&said["body"]) }
        }
        "mef" => {
            let said = json();
            assert_eq!(
                (&said["header"]["isSync"], &said["header"]["parentId"]),
                (&json!(true), &json!(""))
            );
            let resource = text(&said["router"]["resource"]);
            let route = text(&said["router"]["option"]);
            let wanted = if route == "echo" { "echo" } else { "room" };
            assert_eq!(resource, wanted);
            let ticket = Ticket::Value(said["header"]["id"].clone());
            Asked { route, ticket, body: body(&said["content"]) }
        }
        "action" => {
            let said = json();
            let ticket = Ticket::Value(Value::Null);
            Asked { route: text(&said["actioncode"]), ticket, body: body(&said["data"]) }
        }
        "event" => {
            let said = json();
            let ticket = Ticket::Value(Value::Null);
            Asked { route: text(&said["name"]), ticket, body: body(&said["message"]) }
        }
        "hub" => read_hub(&message.clone().into_data()),
        "kim" => read_kim(&message.clone().into_data()),
        other => panic!("no dialect {other}"),
    }
}

/// The answer to a question.
pub(crate) fn answer(dialect: &str, asked: &Asked, body: &[u8], flaw: Flaw) -> Message {
    let value = || serde_json::from_slice::<Value>(body).unwrap();
    let refuses = flaw == Flaw::Refusal;
    let route = if flaw == Flaw::Route { "other" } else { &asked.route };
    let ticket = match (flaw, &asked.ticket) {
        (Flaw::Ticket, _) => json!(4_000_000_001_u32),
        (_, Ticket::Value(value)) => value.clone(),
        (_, Ticket::Number(number)) => json!(number),
    };
    let number = ticket.as_u64().unwrap_or(0) as u32;
    match dialect {
        "json" if refuses => text(&json!({"id": ticket, "error": {"code": 400, "message": "no"}})),
        "json" => text(&json!({"id": ticket, "body": value()})),
        "mef" => {
            let failure = json!({"error": {"code": 400, "message": "no"}});
            let content = if refuses { failure } else { value() };
            let parent = ticket.as_str().map_or("other".to_owned(), str::to_owned);
            text(&json!({
                "header": {"id": "mine", "parentId": parent, "isSync": false},
                "router": {"source": "server", "destination": "", "option": route, "resource": "x"},
                "content": content
            }))
        }
        "action" => {
            let (code, data) = if refuses { (400, Value::Null) } else { (0, value()) };
            text(&json!({"code": code, "msg": "", "data": data, "actioncode": route}))
        }
        "event" if refuses => text(&json!({"name": "error", "message": "no"})),
        "event" => text(&json!({"name": route, "message": value()})),
        "hub" => {
            let protocol = match asked.route.as_str() {
                _ if refuses => 2_147_483_646,
                _ if flaw == Flaw::Route => 77,
                "echo" => 2,
                "join" => 3,
                _ => 4,
            };
            hub(protocol, number, body)
        }
        "kim" => kim(route, number, 1, if refuses { 300 } else { 0 }, body),
        other => panic!("no dialect {other}"),
    }
}

/// A room's publish of `data`, which is JSON; in a wrong envelope if `wrong`.
pub(crate) fn push(dialect: &str, room: &str, data: &Value, wrong: bool) -> Message {
    let or = |right: &'static str| if wrong { "something" } else { right };
    match dialect {
        "json" => text(&json!({"event": or("publish"), "room": room, "from": "x", "data": data})),
        "mef" => text(&json!({
            "header": {"id": "mine", "parentId": "", "isSync": false},
            "router": {"source": "x", "destination": "", "option": or("publish"), "resource": room},
            "content": data
        })),
        "action" => text(&json!({"code": 0, "msg": "", "data": data, "actioncode": or("publish")})),
        "event" => text(&json!({"name": or("message"), "message": data})),
        "hub" => hub(if wrong { 9 } else { 1 }, 0, data.to_string().as_bytes()),
        "kim" => kim(or("chat.room.push"), 0, 2, 0, data.to_string().as_bytes()),
        other => panic!("no dialect {other}"),
    }
}

/// The answer to a login.
pub(crate) fn welcome(asked: &Asked, status: u8) -> Message {
    let Ticket::Number(sequence) = asked.ticket else { panic!("{asked:?}") };
    kim(&asked.route, sequence, 1, status.into(), b"")
}

fn text(value: &Value) -> Message {
    Message::text(value.to_string())
}

fn read_hub(bytes: &[u8]) -> Asked {
    let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    assert_eq!((&bytes[..2], number(2) as usize), (&b"\xfe\xef"[..], bytes.len() - 6));
    assert_eq!(number(10) % 2, 0, "clients count in even numbers");
    let route = match number(6) {
        2 => "echo",
        3 => "join",
        4 => "publish",
        other => panic!("no protocol {other}"),
    };
    Asked {
        route: route.to_owned(),
        ticket: Ticket::Number(number(10)),
        body: bytes[14..].to_vec(),
    }
}

fn hub(protocol: u32, serial: u32, body: &[u8]) -> Message {
    let length = 8 + body.len() as u32;
    let numbers = [length, protocol, serial].map(u32::to_le_bytes).concat();
    Message::binary([b"\xfe\xef", &numbers[..], body].concat())
}

fn read_kim(bytes: &[u8]) -> Asked {
    let length = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    assert_eq!(bytes[..4], [0xc3, 0x11, 0xa3, 0x65]);
    let (header, behind) = (&bytes[8..8 + length(4)], 8 + length(4));
    let body = bytes[behind + 4..].to_vec();
    assert_eq!(body.len(), length(behind));
    // A command, and a sequence that is not 0: what a request has.
    assert_eq!(header[0], 0x0a);
    let (command, rest) = header[2..].split_at(header[1].into());
    assert_eq!(rest[0], 0x18);
    let sequence =
        rest[1..].iter().rev().fold(0, |sum: u32, byte| sum << 7 | u32::from(byte & 0x7f));
    let route = String::from_utf8(command.to_vec()).unwrap();
    Asked { route, ticket: Ticket::Number(sequence), body }
}

fn kim(command: &str, sequence: u32, flag: u8, status: u32, body: &[u8]) -> Message {
    let mut header = vec![0x0a, command.len() as u8];
    header.extend_from_slice(command.as_bytes());
    for (tag, number) in [(0x18, sequence), (0x20, flag.into()), (0x28, status)] {
        header.push(tag);
        let mut number = number;
        while number > 0x7f {
            header.push(number as u8 | 0x80);
            number >>= 7;
        }
        header.push(number as u8);
    }
    let lengths = [header.len(), body.len()].map(|length| (length as u32).to_be_bytes());
    Message::binary([b"\xc3\x11\xa3\x65", &lengths[0][..], &header, &lengths[1], body].concat())
}
