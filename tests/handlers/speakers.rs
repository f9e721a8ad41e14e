//! Clients of each dialect, put together from bytes: nothing of the gateway's own codecs is used.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tidegate::{Context, Dialect, Endpoint, GatewayBuilder, JsonDialect, Message, Running};

use crate::client::{BINARY, Client, TEXT, frame};
use crate::tcp_client::TcpClient;
use crate::u32_client::U32Client;

/// What the routes of these tests are called; in the `hub` dialect, by their place here, from 10 on.
const NAMES: [&str; 6] = ["echo", "join", "say", "id", "go", "ask"];

/// How a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tongue {
    Json,
    Event,
    Mef,
    Action,
    Hub,
    Kim,
}

pub(crate) use Tongue::{Action, Event, Hub, Json, Kim, Mef};

impl Tongue {
    pub(crate) const ALL: [Self; 6] = [Json, Event, Mef, Action, Hub, Kim];

    pub(crate) fn dialect(self) -> Dialect {
        match self {
            Json => Dialect::Json(JsonDialect::default()),
            Event => Dialect::Event,
            Mef => Dialect::Mef,
            Action => Dialect::Action,
            Hub => Dialect::Hub,
            Kim => Dialect::Kim,
        }
    }

    pub(crate) fn path(self) -> String {
        format!("/{self:?}").to_lowercase()
    }

    pub(crate) fn endpoint(self) -> Endpoint {
        Endpoint::new(&self.path(), self.dialect())
    }

    /// What clients know the route `name` by.
    pub(crate) fn key(self, name: &str) -> String {
        match self {
            Mef => format!("{name}:x"),
            Hub => number(name).to_string(),
            _ => name.to_owned(),
        }
    }

    /// Adds a route by the key that it has in this dialect.
    pub(crate) fn route(
        self,
        endpoint: Endpoint,
        name: &str,
        handler: impl Fn(&mut Context<'_>, &Message<'_>) + Send + Sync + 'static,
    ) -> Endpoint {
        endpoint.route(&self.key(name), handler)
    }
}

/// An endpoint for each dialect, at its name.
pub(crate) fn everywhere(
    builder: GatewayBuilder,
    with: impl Fn(Tongue, Endpoint) -> Endpoint,
) -> GatewayBuilder {
    let all = Tongue::ALL.into_iter();
    all.fold(builder, |builder, tongue| builder.endpoint(with(tongue, tongue.endpoint())))
}

fn number(name: &str) -> u32 {
    let at = NAMES.iter().position(|known| *known == name).expect("a name with a number");
    10 + at as u32
}

/// What a client hears.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Heard {
    /// An answer to one of its requests.
    Answer { id: u64, body: Value },
    /// What it did not ask for, with its dialect's word for it.
    Push { word: String, body: Value },
    /// A question of the gateway, with what is to be sent back to answer it, and its number.
    Ask { token: String, number: u32, word: String, body: Value },
}

#[derive(Debug)]
enum Wire {
    WebSocket(Client),
    Tcp(TcpClient),
    Lengths(U32Client),
}

/// A client of one dialect.
#[derive(Debug)]
pub(crate) struct Speaker {
    tongue: Tongue,
    wire: Wire,
}

impl Speaker {
    pub(crate) fn open(running: &Running, tongue: Tongue) -> Self {
        Self::over(Client::open(running.addresses()[0], &tongue.path()), tongue)
    }

    pub(crate) fn over(client: Client, tongue: Tongue) -> Self {
        Self { tongue, wire: Wire::WebSocket(client) }
    }

    /// Over plain TCP, at the gateway's only such address.
    pub(crate) fn open_tcp(running: &Running, tongue: Tongue) -> Self {
        Self { tongue, wire: Wire::Tcp(TcpClient::dial(running.tcp_addresses()[0])) }
    }

    /// Over plain TCP at this address, in frames that are a length and a payload.
    pub(crate) fn open_lengths(address: SocketAddr, tongue: Tongue) -> Self {
        Self { tongue, wire: Wire::Lengths(U32Client::dial(address)) }
    }

    /// Sends a request; in `event` and `action`, which do not number them, the id stays behind.
    /// Ids are even and not 0.
    pub(crate) fn request(&mut self, name: &str, id: u32, body: &Value) {
        let key = self.tongue.key(name);
        let payload = match self.tongue {
            Json => json!({"route": key, "id": id, "body": body}).to_string().into_bytes(),
            Event => json!({"name": key, "message": body}).to_string().into_bytes(),
            Action => json!({"actioncode": key, "data": body}).to_string().into_bytes(),
            Mef => mef(&json!({"id": id.to_string(), "isSync": true}), &key, body),
            Hub => hub(number(name), id, &bytes_of(body)),
            Kim => kim(&key, id, 0, 0, &bytes_of(body)),
        };
        self.send(&payload);
    }

    /// Answers a question of the gateway.
    pub(crate) fn answer(&mut self, token: &str, body: &Value) {
        let number = || token.parse().expect("a number");
        let payload = match self.tongue {
            Json => json!({"answer": number(), "body": body}).to_string().into_bytes(),
            Mef => mef(&json!({"id": "x", "parentId": token}), "", body),
            Hub => hub(self::number("ask"), number(), &bytes_of(body)),
            Kim => kim("ask", number(), 1, 0, &bytes_of(body)),
            Event | Action => panic!("{:?} has no way to ask", self.tongue),
        };
        self.send(&payload);
    }

    /// Answers a question of the gateway by saying that it failed.
    pub(crate) fn fail(&mut self, token: &str, why: &Value) {
        let number = || token.parse().expect("a number");
        let payload = match self.tongue {
            Json => json!({"answer": number(), "error": why}).to_string().into_bytes(),
            Mef => mef(&json!({"id": "x", "parentId": token}), "", &json!({"error": why})),
            Kim => kim("ask", number(), 1, 300, &bytes_of(why)),
            Hub | Event | Action => panic!("{:?} has no way to say so", self.tongue),
        };
        self.send(&payload);
    }

    pub(crate) fn send(&mut self, payload: &[u8]) {
        let opcode = if matches!(self.tongue, Hub | Kim) { BINARY } else { TEXT };
        match &mut self.wire {
            Wire::WebSocket(client) => client.send(&frame(opcode, payload)),
            Wire::Tcp(client) => client.frame(opcode, payload),
            Wire::Lengths(client) => client.message(payload),
        }
    }

    /// What comes next.
    pub(crate) fn hear(&mut self) -> Heard {
        let wanted = if matches!(self.tongue, Hub | Kim) { BINARY } else { TEXT };
        let (opcode, payload) = match &mut self.wire {
            Wire::WebSocket(client) => {
                let frame = client.frame().expect("a message, not the end");
                (frame.opcode, frame.payload)
            }
            Wire::Tcp(client) => client.next().expect("a message, not the end"),
            Wire::Lengths(client) => (wanted, client.next().expect("a message, not the end")),
        };
        assert_eq!(opcode, wanted, "{:?}", String::from_utf8_lossy(&payload));
        match self.tongue {
            Hub => hear_hub(&payload),
            Kim => hear_kim(&payload),
            tongue => {
                let message = serde_json::from_slice(&payload).expect("JSON");
                hear_json(tongue, &message)
            }
        }
    }

    /// The next question.
    pub(crate) fn hear_ask(&mut self) -> (String, u32, Value) {
        match self.hear() {
            Heard::Ask { token, number, body, .. } => (token, number, body),
            other => panic!("{:?}: {other:?}", self.tongue),
        }
    }

    /// What it knows the answer to the request `id` by.
    pub(crate) fn answer_to(&self, id: u32, body: Value) -> Heard {
        let id = if matches!(self.tongue, Event | Action) { 0 } else { id.into() };
        Heard::Answer { id, body }
    }
}

fn hear_json(tongue: Tongue, message: &Value) -> Heard {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (word, body) = match tongue {
        Json if message["event"] == "ask" => {
            let number = message["ask"].as_u64().expect("a number") as u32;
            let (word, body) = (text(&message["route"]), message["data"].clone());
            return Heard::Ask { token: number.to_string(), number, word, body };
        }
        Json => (text(&message["event"]), &message["data"]),
        Event => (text(&message["name"]), &message["message"]),
        Action => (text(&message["actioncode"]), &message["data"]),
        _ => return hear_mef(message),
    };
    match word.as_str() {
        "" => {
            let body = message.get("body").or(message.get("error")).expect("either");
            Heard::Answer { id: message["id"].as_u64().expect("an id"), body: body.clone() }
        }
        "publish" | "message" | "push" | "news" | "joined" | "left" | "time" => {
            Heard::Push { word, body: body.clone() }
        }
        _ => Heard::Answer { id: 0, body: body.clone() },
    }
}

fn hear_mef(message: &Value) -> Heard {
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let (header, body) = (&message["header"], message["content"].clone());
    let (id, parent) = (text(&header["id"]), text(&header["parentId"]));
    let word = text(&message["router"]["option"]);
    if !parent.is_empty() {
        return Heard::Answer { id: parent.parse().expect("the request's id"), body };
    }
    if header["isSync"] == true {
        let number = u32::from_str_radix(&id[..8], 16).expect("it begins with the number");
        return Heard::Ask { token: id, number, word, body };
    }
    Heard::Push { word, body }
}

fn hear_hub(payload: &[u8]) -> Heard {
    let u32_at = |at: usize| u32::from_le_bytes(payload[at..at + 4].try_into().expect("4 bytes"));
    assert_eq!(payload[..2], [0xfe, 0xef]);
    assert_eq!(u32_at(2) as usize, payload.len() - 6);
    let (protocol, sn, body) = (u32_at(6).to_string(), u32_at(10), value_of(&payload[14..]));
    match sn {
        0 => Heard::Push { word: protocol, body },
        sn if sn % 2 == 0 => Heard::Answer { id: sn.into(), body },
        sn => Heard::Ask { token: sn.to_string(), number: sn, word: protocol, body },
    }
}

fn hear_kim(payload: &[u8]) -> Heard {
    assert_eq!(payload[..4], [0xc3, 0x11, 0xa3, 0x65]);
    let (header, rest) = counted(&payload[4..]);
    let (body, rest) = counted(rest);
    assert!(rest.is_empty(), "behind the body: {rest:?}");
    let (mut word, mut sequence, mut flag) = (String::new(), 0, 0);
    let mut at = 0;
    while at < header.len() {
        let tag = varint(header, &mut at);
        let number = varint(header, &mut at);
        match tag {
            0x0a => word = String::from_utf8(header[at..at + number as usize].to_vec()).unwrap(),
            0x18 => sequence = number,
            0x20 => flag = number,
            _ => {}
        }
        if tag & 7 == 2 {
            at += number as usize;
        }
    }
    let body = value_of(body);
    match flag {
        0 => Heard::Ask { token: sequence.to_string(), number: sequence as u32, word, body },
        1 => Heard::Answer { id: sequence, body },
        _ => Heard::Push { word, body },
    }
}

fn counted(bytes: &[u8]) -> (&[u8], &[u8]) {
    let (len, rest) = bytes.split_first_chunk().expect("a length");
    rest.split_at(u32::from_be_bytes(*len) as usize)
}

fn varint(bytes: &[u8], at: &mut usize) -> u64 {
    let mut number = 0;
    for shift in (0..).step_by(7) {
        let byte = bytes[*at];
        *at += 1;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    number
}

/// In the binary dialects a text is its letters, all else JSON.
fn bytes_of(body: &Value) -> Vec<u8> {
    match body {
        Value::String(text) => text.clone().into_bytes(),
        other => other.to_string().into_bytes(),
    }
}

fn value_of(body: &[u8]) -> Value {
    let text = String::from_utf8(body.to_vec()).expect("these tests speak text");
    serde_json::from_str(&text).unwrap_or(Value::String(text))
}

/// A packet of the `hub` dialect.
pub(crate) fn hub(protocol: u32, sn: u32, body: &[u8]) -> Vec<u8> {
    let len = (8 + body.len()) as u32;
    let mut packet = vec![0xfe, 0xef];
    for number in [len, protocol, sn] {
        packet.extend(number.to_le_bytes());
    }
    packet.extend(body);
    packet
}

/// A packet of the `kim` dialect.
pub(crate) fn kim(command: &str, sequence: u32, flag: u8, status: u32, body: &[u8]) -> Vec<u8> {
    let mut header = vec![0x0a, command.len() as u8];
    header.extend(command.as_bytes());
    for (tag, number) in [(0x18, sequence), (0x20, flag.into()), (0x28, status)] {
        header.push(tag);
        put_varint(&mut header, number);
    }
    let mut packet = vec![0xc3, 0x11, 0xa3, 0x65];
    for part in [&header[..], body] {
        packet.extend((part.len() as u32).to_be_bytes());
        packet.extend(part);
    }
    packet
}

fn put_varint(out: &mut Vec<u8>, mut number: u32) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn mef(header: &Value, key: &str, body: &Value) -> Vec<u8> {
    let (option, resource) = key.split_once(':').unwrap_or((key, ""));
    let router = json!({"option": option, "resource": resource});
    json!({"header": header, "router": router, "content": body}).to_string().into_bytes()
}
