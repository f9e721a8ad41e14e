//! A server that speaks every dialect, over WebSocket at the path of its name and `kim` over plain
//! TCP too, with one set of rooms for all; and that does one thing wrong, if it shall.

mod codec;

use std::{
    collections::HashMap,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use serde_json::{Value, json};
use tungstenite::{
    Message,
    handshake::server::{Request, Response},
};

pub(crate) use codec::Flaw;
use codec::{Asked, answer, push, read, welcome};

/// What the server does wrong: to the fifth or tenth answer of a connection, to the sixth publish in
/// a room, or to logins.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Mood {
    Good,
    /// The tenth answer has another last character.
    Corrupting,
    /// The fifth answer comes behind the sixth.
    Swapping,
    /// The tenth answer is enveloped wrongly.
    Flawed(Flaw),
    /// The last member to join does not get the sixth publish.
    Dropping,
    /// That member gets the sixth publish twice.
    Duplicating,
    /// That member gets the sixth publish behind the seventh.
    Reordering,
    /// That member gets the sixth publish in a wrong envelope.
    Misenveloping,
    /// Joins are refused.
    Closed,
    /// Logins are answered by this status.
    Login(u8),
    /// Logins are not answered.
    Deaf,
}

/// A server of every dialect, over WebSocket at the paths that the gateway has from the start.
pub(crate) trait Speaker {
    /// Where WebSocket is spoken.
    fn web(&self) -> SocketAddr;
    /// Where `kim` over plain TCP is spoken.
    fn tcp(&self) -> SocketAddr;

    /// The URL at which a dialect is spoken.
    fn url(&self, dialect: &str) -> String {
        match dialect {
            "kim over tcp" => format!("tcp://{}", self.tcp()),
            "json" => format!("ws://{}/ws", self.web()),
            "raw" => format!("ws://{}/echo", self.web()),
            dialect => format!("ws://{}/{dialect}", self.web()),
        }
    }
}

/// A server that lives as long as the test process.
pub(crate) struct Server {
    web: SocketAddr,
    tcp: SocketAddr,
    hub: Arc<Mutex<Hub>>,
}

struct Hub {
    mood: Mood,
    rooms: HashMap<String, Room>,
    /// How connections said who they are.
    logins: Vec<String>,
}

#[derive(Default)]
struct Room {
    members: Vec<(usize, Peer)>,
    published: u32,
    held: Option<Message>,
}

/// The way to a client.
#[derive(Clone)]
struct Peer {
    dialect: String,
    stream: Arc<TcpStream>,
    plain: bool,
}

impl Server {
    pub(crate) fn start(mood: Mood) -> Self {
        let hub = Hub { mood, rooms: HashMap::new(), logins: Vec::new() };
        let hub = Arc::new(Mutex::new(hub));
        let listen = |plain: bool| {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let (address, hub) = (listener.local_addr().unwrap(), Arc::clone(&hub));
            thread::spawn(move || {
                for (number, stream) in listener.incoming().enumerate() {
                    let (stream, hub) = (stream.unwrap(), Arc::clone(&hub));
                    stream.set_nodelay(true).unwrap();
                    let number = 2 * number + usize::from(plain);
                    thread::spawn(move || match plain {
                        true => talk_plain(stream, number, &hub),
                        false => talk(stream, number, &hub),
                    });
                }
            });
            address
        };
        Self { web: listen(false), tcp: listen(true), hub }
    }

    /// How connections said who they are, sorted.
    pub(crate) fn logins(&self) -> Vec<String> {
        let mut logins = self.hub.lock().unwrap().logins.clone();
        logins.sort();
        logins
    }
}

impl Speaker for Server {
    fn web(&self) -> SocketAddr {
        self.web
    }

    fn tcp(&self) -> SocketAddr {
        self.tcp
    }
}

fn talk(stream: TcpStream, number: usize, hub: &Mutex<Hub>) {
    let writer = Arc::new(stream.try_clone().unwrap());
    let mut dialect = String::new();
    #[allow(clippy::result_large_err)]
    let note = |request: &Request, response: Response| {
        let path = request.uri().path().rsplit('/').next().unwrap_or_default();
        dialect = if path == "ws" { "json" } else { path }.to_owned();
        let name = request.headers().get("clientName").and_then(|name| name.to_str().ok());
        let said = request.uri().query().or(name).map(str::to_owned);
        hub.lock().unwrap().logins.extend(said);
        Ok(response)
    };
    let Ok(mut socket) = tungstenite::accept_hdr(stream, note) else { return };
    let mut client = Client::new(number, Peer { dialect, stream: writer, plain: false });
    while let Ok(message) = socket.read() {
        if message.is_text() || message.is_binary() {
            client.hear(&message, hub);
        }
    }
    // The hub has the stream too, so that it would not end by itself. It may have ended before.
    let _ = client.peer.stream.shutdown(Shutdown::Both);
}

fn talk_plain(mut stream: TcpStream, number: usize, hub: &Mutex<Hub>) {
    let writer = Arc::new(stream.try_clone().unwrap());
    let peer = Peer { dialect: "kim".to_owned(), stream: writer, plain: true };
    let mut client = Client::new(number, peer);
    let mut header = [0; 5];
    while stream.read_exact(&mut header).is_ok() {
        let length = u32::from_be_bytes(header[1..].try_into().unwrap());
        let mut payload = vec![0; length as usize];
        stream.read_exact(&mut payload).unwrap();
        match header[0] {
            2 => client.hear(&Message::binary(payload), hub),
            9 => client.peer.send(&Message::Pong(payload.into())),
            8 => {
                assert_eq!(payload, [3, 232]);
                client.peer.frame(8, &payload);
                break;
            }
            other => panic!("opcode {other}"),
        }
    }
    let _ = client.peer.stream.shutdown(Shutdown::Both);
}

/// One connection.
struct Client {
    number: usize,
    peer: Peer,
    answered: u32,
    held: Option<Message>,
}

impl Client {
    fn new(number: usize, peer: Peer) -> Self {
        Self { number, peer, answered: 0, held: None }
    }

    fn hear(&mut self, message: &Message, hub: &Mutex<Hub>) {
        let asked = read(&self.peer.dialect, message);
        let mut hub = hub.lock().unwrap();
        match &*asked.route {
            "echo" => self.echo(&asked, hub.mood),
            "join" => hub.join(self, &asked),
            "publish" => {
                // What is done wrong to others is for them to see.
                self.peer.send(&self.answer(&asked, b"{\"members\":2}", Flaw::None));
                hub.publish(self.number, &asked);
            }
            "login.signin" => hub.login(self, &asked),
            other => panic!("no route {other}"),
        }
    }

    fn answer(&self, asked: &Asked, body: &[u8], flaw: Flaw) -> Message {
        answer(&self.peer.dialect, asked, body, flaw)
    }

    fn echo(&mut self, asked: &Asked, mood: Mood) {
        self.answered += 1;
        let right = self.answer(asked, &asked.body, Flaw::None);
        match (mood, self.answered) {
            (Mood::Corrupting, 10) => {
                let mut body = asked.body.clone();
                // The last of a JSON string is its quote.
                let last = body.iter_mut().rev().find(|byte| **byte != b'"').unwrap();
                *last = if *last == b'0' { b'1' } else { b'0' };
                self.peer.send(&self.answer(asked, &body, Flaw::None));
            }
            (Mood::Flawed(flaw), 10) => self.peer.send(&self.answer(asked, &asked.body, flaw)),
            (Mood::Swapping, 5) => self.held = Some(right),
            _ => {
                self.peer.send(&right);
                if let Some(held) = self.held.take() {
                    self.peer.send(&held);
                }
            }
        }
    }
}

impl Hub {
    fn join(&mut self, client: &Client, asked: &Asked) {
        if self.mood == Mood::Closed {
            return client.peer.send(&client.answer(asked, b"null", Flaw::Refusal));
        }
        let body: Value = serde_json::from_slice(&asked.body).unwrap();
        let room = self.rooms.entry(body["room"].as_str().unwrap().to_owned()).or_default();
        room.members.push((client.number, client.peer.clone()));
        client.peer.send(&client.answer(asked, b"{\"members\":2}", Flaw::None));
    }

    fn publish(&mut self, publisher: usize, asked: &Asked) {
        let body: Value = serde_json::from_slice(&asked.body).unwrap();
        let name = body["room"].as_str().unwrap();
        let room = self.rooms.get_mut(name).unwrap();
        room.published += 1;
        let last = room.members.len() - 1;
        for at in 0..=last {
            let (member, peer) = room.members[at].clone();
            if member == publisher && body["self"] == json!(false) {
                continue;
            }
            let right = push(&peer.dialect, name, &body["data"], false);
            match (self.mood, room.published) {
                _ if at < last => peer.send(&right),
                (Mood::Dropping, 6) => {}
                (Mood::Reordering, 6) => room.held = Some(right),
                (Mood::Misenveloping, 6) => {
                    peer.send(&push(&peer.dialect, name, &body["data"], true));
                }
                (Mood::Duplicating, 6) => {
                    peer.send(&right);
                    peer.send(&right);
                }
                _ => {
                    peer.send(&right);
                    if let Some(held) = room.held.take() {
                        peer.send(&held);
                    }
                }
            }
        }
    }

    fn login(&mut self, client: &Client, asked: &Asked) {
        // LoginReq{token}: field 1, and a length of one or two bytes.
        assert_eq!(asked.body[0], 0x0a);
        let at = if asked.body[1] > 0x7f { 3 } else { 2 };
        let token = std::str::from_utf8(&asked.body[at..]).unwrap();
        let claims = token.split('.').nth(1).unwrap();
        let claims = data_encoding::BASE64URL_NOPAD.decode(claims.as_bytes()).unwrap();
        let claims: Value = serde_json::from_slice(&claims).unwrap();
        self.logins.push(claims["acc"].as_str().unwrap().to_owned());
        match self.mood {
            Mood::Deaf => {}
            Mood::Login(status) => client.peer.send(&welcome(asked, status)),
            _ => client.peer.send(&welcome(asked, 0)),
        }
    }
}

impl Peer {
    fn send(&self, message: &Message) {
        let opcode = match message {
            Message::Text(_) => 1,
            Message::Binary(_) => 2,
            Message::Pong(_) => 10,
            other => panic!("not sent: {other}"),
        };
        self.frame(opcode, &message.clone().into_data());
    }

    /// Writes one frame. A client that has gone is no matter of the server's.
    fn frame(&self, opcode: u8, payload: &[u8]) {
        let length = payload.len();
        let mut frame = match (self.plain, length) {
            (true, _) => [&[opcode][..], &(length as u32).to_be_bytes()].concat(),
            (false, 0..126) => vec![0x80 | opcode, length as u8],
            (false, 126..0x1_0000) => {
                [&[0x80 | opcode, 126][..], &(length as u16).to_be_bytes()].concat()
            }
            (false, _) => [&[0x80 | opcode, 127][..], &(length as u64).to_be_bytes()].concat(),
        };
        frame.extend_from_slice(payload);
        let _ = (&*self.stream).write_all(&frame);
    }
}
