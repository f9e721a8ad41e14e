//! How a server is told to join a room and to publish: in its dialect, or by templates in the place
//! of the JSON of `json`. What comes by a template is recognised by its data alone, whatever the
//! envelope; what comes in a dialect is taken apart.

use tungstenite::{Bytes, Message, Utf8Bytes};

use crate::{
    dialect::{Body, Dialect, Kind, Route},
    lanes::Turns,
};

/// What stands in the place of templates that are not given.
const JSON_JOIN: &str = r#"{"route":"join","id":1,"body":{"room":"{room}"}}"#;
const JSON_JOINED: &str = r#"{"id":1,"body":"#;
const JSON_PUBLISH: &str =
    r#"{"route":"publish","id":2,"body":{"room":"{room}","data":"{data}","self":true}}"#;
const JSON_PUBLISH_OTHERS: &str =
    r#"{"route":"publish","id":2,"body":{"room":"{room}","data":"{data}","self":false}}"#;
const JSON_REFUSED: &str = r#","error":{"code":"#;
const JSON_ECHO: &str = r#"{"route":"echo","id":3,"body":"{data}"}"#;

const JSON_DELIVERY: &str = r#"{"event":"publish","room":""#;

const ROOM: &str = "{room}";
const DATA: &str = "{data}";
/// The number of the question that joins; other questions have higher ones.
const JOIN: u32 = 0;

/// What arguments say of a server's words.
#[derive(Clone, Debug, Default)]
pub(crate) struct Given {
    /// The dialects that members take in turn; none: JSON.
    pub(crate) dialects: Vec<Dialect>,
    /// How to join; empty: nothing is to be said.
    pub(crate) join: Option<String>,
    /// What an answer to a join contains; empty: there is none.
    pub(crate) joined: Option<String>,
    /// How to publish.
    pub(crate) publish: Option<String>,
    /// What an answer contains that refuses; empty: nothing does.
    pub(crate) refused: Option<String>,
    /// How to ask for an echo.
    pub(crate) echo: Option<String>,
    /// Whether publishers do not get what they published.
    pub(crate) not_self: bool,
    /// What the names of rooms begin with.
    pub(crate) prefix: String,
}

/// A server's words.
#[derive(Clone, Debug)]
pub(crate) struct Words {
    speeches: Vec<Speech>,
    turns: Turns,
    not_self: bool,
    prefix: String,
}

/// How some of the connections speak.
#[derive(Clone, Debug)]
enum Speech {
    /// By templates.
    Template(Template),
    /// By requests of a dialect.
    Dialect(Dialect),
}

#[derive(Clone, Debug)]
struct Template {
    join: String,
    joined: String,
    publish: String,
    refused: String,
    echo: String,
}

/// What a message without data is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// A join has succeeded.
    Joined,
    /// Something was refused.
    Refused,
    /// Anything else.
    Other,
}

impl Words {
    /// Checks that what is given can tell `rooms` rooms apart; the error names the flag.
    pub(crate) fn new(given: &Given, rooms: u32) -> Result<Self, String> {
        let dialects = match &given.dialects[..] {
            [] => &[Dialect::Json],
            dialects => dialects,
        };
        let templates = [&given.join, &given.joined, &given.publish, &given.refused, &given.echo];
        let templated = templates.iter().any(|template| template.is_some());
        if templated && *dialects != [Dialect::Json] {
            let why = "--join, --joined, --publish, --refused and --echo are text in the place of \
                       JSON: they go with --dialect json alone";
            return Err(why.to_owned());
        }
        let speech = |dialect: &Dialect| match dialect {
            Dialect::Raw => Err("--dialect raw has no rooms".to_owned()),
            Dialect::Json if templated => Template::new(given, rooms).map(Speech::Template),
            other => Ok(Speech::Dialect(*other)),
        };
        if !given.prefix.chars().all(|c| c.is_ascii_alphanumeric() || "-_.:/".contains(c)) {
            return Err("--room-prefix takes letters, digits and -_.:/".to_owned());
        }
        Ok(Self {
            speeches: dialects.iter().map(speech).collect::<Result<_, _>>()?,
            turns: Turns::new(rooms, dialects.len()),
            not_self: given.not_self,
            prefix: given.prefix.clone(),
        })
    }

    /// What makes a connection join a room; `None` if nothing needs to be said.
    pub(crate) fn join(&self, index: u32, room: u32) -> Option<Message> {
        let room = self.room(room);
        match self.speech(index) {
            Speech::Template(template) => {
                let join = &template.join;
                (!join.is_empty()).then(|| text(join.replace(ROOM, &room)))
            }
            Speech::Dialect(dialect) => {
                let body = format!(r#"{{"room":"{room}"}}"#);
                let ticket = dialect.ticket(index, JOIN);
                Some(dialect.ask(Route::Join, &ticket, Body::Json(&body)))
            }
        }
    }

    /// Whether a connection's join is answered.
    pub(crate) fn answers_joins(&self, index: u32) -> bool {
        match self.speech(index) {
            Speech::Template(template) => !template.join.is_empty() && !template.joined.is_empty(),
            Speech::Dialect(_) => true,
        }
    }

    /// What makes a connection publish to a room, for the time number `serial`.
    pub(crate) fn publish(&self, index: u32, room: u32, serial: u32, data: &str) -> Message {
        let room = self.room(room);
        match self.speech(index) {
            Speech::Template(template) => {
                text(template.publish.replace(ROOM, &room).replace(DATA, data))
            }
            Speech::Dialect(dialect) => {
                let own = !self.not_self;
                let body = format!(r#"{{"room":"{room}","data":"{data}","self":{own}}}"#);
                let ticket = dialect.ticket(index, serial.wrapping_add(JOIN + 1));
                dialect.ask(Route::Publish, &ticket, Body::Json(&body))
            }
        }
    }

    /// What asks for an echo on a connection, for the time number `serial`.
    pub(crate) fn echo(&self, index: u32, serial: u32, data: &str) -> Message {
        match self.speech(index) {
            Speech::Template(template) => text(template.echo.replace(DATA, data)),
            Speech::Dialect(dialect) => {
                let ticket = dialect.ticket(index, serial.wrapping_add(JOIN + 1));
                dialect.ask(Route::Echo, &ticket, Body::Data(data.as_bytes()))
            }
        }
    }

    /// What a message without data is to a connection; `joining` if it awaits the answer to a join.
    pub(crate) fn hear(&self, index: u32, message: &Message, joining: bool) -> Answer {
        match self.speech(index) {
            Speech::Template(template) => {
                bytes(message).map_or(Answer::Other, |bytes| template.hear(bytes, joining))
            }
            Speech::Dialect(dialect) => hear(*dialect, index, message, joining),
        }
    }

    /// Whether a message with data is to a connection what a delivery of the room must be.
    pub(crate) fn delivers(&self, index: u32, room: u32, message: &Message) -> bool {
        match self.speech(index) {
            Speech::Template(_) => true,
            Speech::Dialect(Dialect::Json) if self.is_usual(room, message) => true,
            Speech::Dialect(dialect) => {
                let heard = dialect.hear(message);
                heard.is_ok_and(|heard| dialect.delivers(&heard, &self.room(room)))
            }
        }
    }

    /// Whether a message begins as the gateway's deliveries do. That saves taking apart the JSON of
    /// very many.
    fn is_usual(&self, room: u32, message: &Message) -> bool {
        let Message::Text(text) = message else { return false };
        let behind = text.strip_prefix(JSON_DELIVERY).and_then(|at| at.strip_prefix(&*self.prefix));
        let number = behind.and_then(|behind| behind.split_once('"'));
        number.is_some_and(|(number, _)| number.parse() == Ok(room))
    }

    fn speech(&self, index: u32) -> &Speech {
        &self.speeches[self.turns.of(index)]
    }

    fn room(&self, room: u32) -> String {
        format!("{}{room}", self.prefix)
    }
}

impl Template {
    fn new(given: &Given, rooms: u32) -> Result<Self, String> {
        // A server with a join of its own does not give the answers of the dialect.
        let dialect = |text: &'static str| if given.join.is_some() { "" } else { text };
        let or = |given: &Option<String>, text: &str| given.as_deref().unwrap_or(text).to_owned();
        let publish = if given.not_self { JSON_PUBLISH_OTHERS } else { JSON_PUBLISH };
        let template = Self {
            join: or(&given.join, JSON_JOIN),
            joined: or(&given.joined, dialect(JSON_JOINED)),
            publish: or(&given.publish, publish),
            refused: or(&given.refused, dialect(JSON_REFUSED)),
            echo: or(&given.echo, JSON_ECHO),
        };
        template.check(rooms).map(|()| template)
    }

    fn check(&self, rooms: u32) -> Result<(), String> {
        if !self.publish.contains(DATA) {
            return Err("--publish says nowhere {data}, where the published data goes".to_owned());
        }
        if !self.echo.contains(DATA) {
            return Err("--echo says nowhere {data}, where the data goes".to_owned());
        }
        if rooms > 1 && !self.publish.contains(ROOM) && !self.join.contains(ROOM) {
            return Err(format!(
                "--rooms {rooms}: neither --join nor --publish says {{room}}, so there is one room"
            ));
        }
        Ok(())
    }

    fn hear(&self, message: &[u8], joining: bool) -> Answer {
        match () {
            () if contains(message, &self.refused) => Answer::Refused,
            () if joining && contains(message, &self.joined) => Answer::Joined,
            () => Answer::Other,
        }
    }
}

fn hear(dialect: Dialect, index: u32, message: &Message, joining: bool) -> Answer {
    let Ok(heard) = dialect.hear(message) else { return Answer::Other };
    let answers = dialect.ticket(index, JOIN).is(&heard.ticket)
        && dialect.misanswers(Route::Join, &heard).is_none();
    match heard.kind {
        Kind::Refusal => Answer::Refused,
        _ if joining && answers => Answer::Joined,
        _ => Answer::Other,
    }
}

/// The bytes of a data message.
pub(crate) fn bytes(message: &Message) -> Option<&[u8]> {
    match message {
        Message::Text(text) => Some(text.as_bytes()),
        Message::Binary(bytes) => Some(bytes),
        _ => None,
    }
}

fn text(text: String) -> Message {
    let text = Utf8Bytes::try_from(Bytes::from(text.into_bytes()));
    Message::Text(text.expect("a string is UTF-8"))
}

/// Whether a message contains a text that is not empty.
fn contains(message: &[u8], text: &str) -> bool {
    !text.is_empty() && message.windows(text.len()).any(|part| part == text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given() -> Given {
        Given { prefix: "r-".to_owned(), ..Given::default() }
    }

    fn hear(words: &Words, text: &str, joining: bool) -> Answer {
        words.hear(0, &Message::text(text), joining)
    }

    #[test]
    fn the_dialect_is_the_gateways() {
        let words = Words::new(&given(), 2).unwrap();
        let join = r#"{"route":"join","id":1,"body":{"room":"r-7"}}"#;
        assert_eq!(words.join(0, 7), Some(Message::text(join)));
        let publish = r#"{"route":"publish","id":2,"body":{"room":"r-7","data":"x","self":true}}"#;
        assert_eq!(words.publish(0, 7, 0, "x"), Message::text(publish));
        assert_eq!(hear(&words, r#"{"id":1,"body":null}"#, true), Answer::Joined);
        assert_eq!(hear(&words, r#"{"id":1,"body":null}"#, false), Answer::Other);
        assert_eq!(hear(&words, r#"{"id":2,"body":null}"#, true), Answer::Other);
        let refusal = r#"{"id":1,"error":{"code":400,"message":"no"}}"#;
        assert_eq!(hear(&words, refusal, true), Answer::Refused);
    }

    #[test]
    fn templates_replace_the_dialect() {
        let given = Given {
            join: Some(String::new()),
            publish: Some("{room}|{data}".to_owned()),
            ..given()
        };
        let words = Words::new(&given, 2).unwrap();
        assert_eq!(words.join(0, 7), None);
        assert!(!words.answers_joins(0));
        assert_eq!(words.publish(0, 7, 0, "x"), Message::text("r-7|x"));
        assert_eq!(hear(&words, r#"{"id":1,"error":{"code":400}}"#, true), Answer::Other);
    }

    #[test]
    fn templates_that_cannot_work_name_the_flag() {
        let error = |given: Given| Words::new(&given, 2).unwrap_err();
        assert!(error(Given { publish: Some("x".into()), ..given() }).contains("--publish"));
        assert!(error(Given { echo: Some("x".into()), ..given() }).contains("--echo"));
        assert!(error(Given { prefix: "\"".into(), ..given() }).contains("--room-prefix"));
        let one = Given { join: Some("j".into()), publish: Some("{data}".into()), ..given() };
        assert!(error(one.clone()).contains("--rooms"));
        assert!(Words::new(&one, 1).is_ok());
    }

    fn of(dialects: &[Dialect]) -> Result<Words, String> {
        Words::new(&Given { dialects: dialects.to_vec(), ..given() }, 1)
    }

    #[test]
    fn members_take_dialects_in_turn() {
        let words = of(&[Dialect::Json, Dialect::Hub, Dialect::Event]).unwrap();
        assert!(words.join(0, 0).unwrap().is_text() && words.join(1, 0).unwrap().is_binary());
        assert_eq!(
            words.join(2, 0),
            Some(Message::text(r#"{"name":"join","message":{"room":"r-0"}}"#))
        );
        let publish = r#"{"name":"publish","message":{"room":"r-0","data":"x","self":true}}"#;
        assert_eq!(words.publish(2, 0, 5, "x"), Message::text(publish));
        let echo = r#"{"name":"echo","message":"x"}"#;
        assert_eq!(words.echo(2, 5, "x"), Message::text(echo));
    }

    #[test]
    fn what_a_dialect_answers_is_told_apart() {
        let words = of(&[Dialect::Event]).unwrap();
        let joined = r#"{"name":"join","message":{"members":1}}"#;
        assert_eq!(hear(&words, joined, true), Answer::Joined);
        assert_eq!(hear(&words, joined, false), Answer::Other);
        assert_eq!(hear(&words, r#"{"name":"error","message":"no"}"#, true), Answer::Refused);
        assert_eq!(hear(&words, r#"{"name":"publish","message":null}"#, true), Answer::Other);
        assert!(words.delivers(0, 0, &Message::text(r#"{"name":"message","message":"x"}"#)));
        assert!(!words.delivers(0, 0, &Message::text(r#"{"name":"push","message":"x"}"#)));
        assert!(!words.delivers(0, 0, &Message::text("x")));
    }

    #[test]
    fn deliveries_of_json_have_their_room() {
        let words = of(&[Dialect::Json]).unwrap();
        let delivers = |text: &str| words.delivers(0, 7, &Message::text(text));
        assert!(delivers(r#"{"event":"publish","room":"r-7","from":"x","data":"x"}"#));
        assert!(delivers(r#"{ "room": "r-7", "data": "x", "event": "publish" }"#));
        for other in ["r-70", "r-", "q-7"] {
            assert!(!delivers(&format!(r#"{{"event":"publish","room":"{other}","data":"x"}}"#)));
        }
        assert!(!delivers(r#"{"event":"push","room":"r-7","data":"x"}"#));
    }

    #[test]
    fn a_join_is_told_from_other_answers_by_its_ticket() {
        let words = of(&[Dialect::Hub]).unwrap();
        let answer = |serial: u8| {
            let packet = [b"\xfe\xef\x08\0\0\0\x03\0\0\0" as &[u8], &[serial, 0, 0, 0]].concat();
            words.hear(0, &Message::binary(packet), true)
        };
        assert_eq!(
            (answer(2), answer(4), answer(0)),
            (Answer::Joined, Answer::Other, Answer::Other)
        );
    }

    #[test]
    fn what_dialects_cannot_do_is_refused() {
        assert!(of(&[Dialect::Raw]).unwrap_err().contains("raw"));
        let given = Given {
            dialects: vec![Dialect::Json, Dialect::Hub],
            join: Some("JOIN {room}".to_owned()),
            ..given()
        };
        assert!(Words::new(&given, 1).unwrap_err().contains("--dialect json"));
    }
}
