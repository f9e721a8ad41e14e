//! How a server is told to join a room and to publish: its own words, given as templates.

use tungstenite::{Bytes, Message, Utf8Bytes};

/// What the gateway's JSON dialect says; `{self}` is replaced once.
const JSON_JOIN: &str = r#"{"route":"join","id":1,"body":{"room":"{room}"}}"#;
const JSON_JOINED: &str = r#"{"id":1,"body":"#;
const JSON_PUBLISH: &str =
    r#"{"route":"publish","id":2,"body":{"room":"{room}","data":"{data}","self":true}}"#;
const JSON_PUBLISH_OTHERS: &str =
    r#"{"route":"publish","id":2,"body":{"room":"{room}","data":"{data}","self":false}}"#;
const JSON_REFUSED: &str = r#","error":{"code":"#;
const JSON_ECHO: &str = r#"{"route":"echo","id":3,"body":"{data}"}"#;

const ROOM: &str = "{room}";
const DATA: &str = "{data}";

/// What arguments say of a server's words; what is not given is as in the JSON dialect.
#[derive(Clone, Debug, Default)]
pub(crate) struct Given {
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
    join: String,
    joined: String,
    publish: String,
    refused: String,
    echo: String,
    prefix: String,
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
        // A server with a join of its own does not give the answers of the dialect.
        let dialect = |text: &'static str| if given.join.is_some() { "" } else { text };
        let or = |given: &Option<String>, text: &str| given.as_deref().unwrap_or(text).to_owned();
        let publish = if given.not_self { JSON_PUBLISH_OTHERS } else { JSON_PUBLISH };
        let words = Self {
            join: or(&given.join, JSON_JOIN),
            joined: or(&given.joined, dialect(JSON_JOINED)),
            publish: or(&given.publish, publish),
            refused: or(&given.refused, dialect(JSON_REFUSED)),
            echo: or(&given.echo, JSON_ECHO),
            prefix: given.prefix.clone(),
        };
        words.check(rooms)?;
        Ok(words)
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
        if !self.prefix.chars().all(|c| c.is_ascii_alphanumeric() || "-_.:/".contains(c)) {
            return Err("--room-prefix takes letters, digits and -_.:/".to_owned());
        }
        Ok(())
    }

    /// What joins a room; `None` if nothing needs to be said.
    pub(crate) fn join(&self, room: u32) -> Option<Message> {
        (!self.join.is_empty()).then(|| text(self.join.replace(ROOM, &self.room(room))))
    }

    /// Whether joins are answered.
    pub(crate) fn answers_joins(&self) -> bool {
        !self.join.is_empty() && !self.joined.is_empty()
    }

    /// What publishes to a room.
    pub(crate) fn publish(&self, room: u32, data: &str) -> Message {
        text(self.publish.replace(ROOM, &self.room(room)).replace(DATA, data))
    }

    /// What asks for an echo.
    pub(crate) fn echo(&self, data: &str) -> Message {
        text(self.echo.replace(DATA, data))
    }

    /// What a message without data is; `joining` if an answer to a join is awaited.
    pub(crate) fn hear(&self, message: &[u8], joining: bool) -> Answer {
        match () {
            () if contains(message, &self.refused) => Answer::Refused,
            () if joining && contains(message, &self.joined) => Answer::Joined,
            () => Answer::Other,
        }
    }

    fn room(&self, room: u32) -> String {
        format!("{}{room}", self.prefix)
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

    #[test]
    fn the_dialect_is_the_gateways() {
        let words = Words::new(&given(), 2).unwrap();
        let join = r#"{"route":"join","id":1,"body":{"room":"r-7"}}"#;
        assert_eq!(words.join(7), Some(Message::text(join)));
        let publish = r#"{"route":"publish","id":2,"body":{"room":"r-7","data":"x","self":true}}"#;
        assert_eq!(words.publish(7, "x"), Message::text(publish));
        assert_eq!(words.hear(br#"{"id":1,"body":null}"#, true), Answer::Joined);
        assert_eq!(words.hear(br#"{"id":1,"body":null}"#, false), Answer::Other);
        assert_eq!(words.hear(br#"{"id":2,"body":null}"#, true), Answer::Other);
        let refusal = br#"{"id":1,"error":{"code":400,"message":"no"}}"#;
        assert_eq!(words.hear(refusal, true), Answer::Refused);
    }

    #[test]
    fn templates_replace_the_dialect() {
        let given = Given {
            join: Some(String::new()),
            publish: Some("{room}|{data}".to_owned()),
            ..given()
        };
        let words = Words::new(&given, 2).unwrap();
        assert_eq!(words.join(7), None);
        assert!(!words.answers_joins());
        assert_eq!(words.publish(7, "x"), Message::text("r-7|x"));
        assert_eq!(words.hear(br#"{"id":1,"error":{"code":400}}"#, true), Answer::Other);
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
}
