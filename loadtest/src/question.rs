//! What `echo` asks: payloads as they are or, in a dialect, in the body of a request, whose answer is
//! told by its ticket and compared in full.

use tungstenite::Message;

use crate::{
    dialect::{Body, Dialect, Route},
    payload::Payloads,
};

/// How many answers back a second one is still known as such.
const REMEMBERED: u32 = 64;

/// Makes questions and compares answers.
#[derive(Debug)]
pub(crate) struct Questions {
    dialect: Dialect,
    payloads: Payloads,
    body: Vec<u8>,
}

impl Questions {
    /// Bodies of `size` bytes, of ASCII characters if `text` or if the dialect is JSON.
    pub(crate) fn new(dialect: Dialect, seed: u64, size: usize, text: bool) -> Self {
        let payloads = Payloads::new(seed, size, text || dialect.is_json());
        Self { dialect, payloads, body: Vec::new() }
    }

    /// The same with bodies of words, which have to be text.
    pub(crate) fn of_words(self) -> Self {
        Self { payloads: self.payloads.of_words(), ..self }
    }

    /// Question number `sequence` of a connection.
    pub(crate) fn message(&mut self, connection: u32, sequence: u32) -> Message {
        if self.dialect == Dialect::Raw {
            return self.payloads.message(connection, sequence);
        }
        self.body.clear();
        self.payloads.write(connection, sequence, &mut self.body);
        let ticket = self.dialect.ticket(connection, sequence);
        self.dialect.ask(Route::Echo, &ticket, Body::Data(&self.body))
    }

    /// Says how an answer differs from what must come to question number `expected`, of which
    /// `in_flight` more follow; `None` if it does not.
    pub(crate) fn difference(
        &self,
        connection: u32,
        expected: u32,
        in_flight: u32,
        answer: &Message,
    ) -> Option<&'static str> {
        if self.dialect == Dialect::Raw {
            return self.payloads.difference(connection, expected, in_flight, answer);
        }
        let heard = match self.dialect.hear(answer) {
            Ok(heard) => heard,
            Err(how) => return Some(how),
        };
        if let Some(how) = self.dialect.misanswers(Route::Echo, &heard) {
            return Some(how);
        }
        let is = |sequence| self.dialect.ticket(connection, sequence).is(&heard.ticket);
        if is(expected) {
            return self.payloads.unlike(connection, expected, in_flight, &heard.body);
        }
        let any = |mut range: std::ops::Range<u32>| range.any(is);
        Some(if any(expected + 1..expected.saturating_add(in_flight)) {
            "out of order or one missing before it"
        } else if any(expected.saturating_sub(REMEMBERED)..expected) {
            "a second time"
        } else {
            "to nothing that was asked"
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// The answer of a server whose `json` is right, after a change.
    fn answered(question: &Message, change: impl FnOnce(&mut Value)) -> Message {
        let asked: Value = serde_json::from_str(question.to_text().unwrap()).unwrap();
        let mut answer = json!({"id": asked["id"], "body": asked["body"]});
        change(&mut answer);
        Message::text(answer.to_string())
    }

    fn questions(dialect: Dialect) -> Questions {
        Questions::new(dialect, 1, 40, false)
    }

    #[test]
    fn answers_are_told_by_ticket_and_by_body() {
        let mut questions = questions(Dialect::Json);
        let asked: Vec<_> = (0..6).map(|sequence| questions.message(2, sequence)).collect();
        let say = |answer: &Message| questions.difference(2, 3, 3, answer);
        assert_eq!(say(&answered(&asked[3], |_| {})), None);
        for (answer, how) in [
            (answered(&asked[4], |_| {}), "out of order or one missing before it"),
            (answered(&asked[2], |_| {}), "a second time"),
            (answered(&asked[3], |a| a["id"] = json!(99)), "to nothing that was asked"),
            (answered(&asked[3], |a| a["id"] = Value::Null), "to nothing that was asked"),
            // The ticket is right, and the body another's.
            (answered(&asked[4], |a| a["id"] = json!(4)), "out of order or one missing before it"),
            (answered(&asked[3], |a| a["body"] = json!("x")), "of another length"),
            (answered(&asked[3], |a| a["body"] = json!("x".repeat(40))), "with other bytes"),
            (answered(&asked[3], |a| a["error"] = json!({})), "that refuses"),
            (Message::text("[]"), "that is not of the dialect"),
            (Message::binary(b"x".to_vec()), "of the other type (text or binary)"),
        ] {
            assert_eq!(say(&answer), Some(how), "{answer}");
        }
    }

    #[test]
    fn answers_without_a_ticket_are_told_by_their_body() {
        let mut questions = questions(Dialect::Event);
        let asked: Vec<_> = (0..6).map(|sequence| questions.message(2, sequence)).collect();
        // An answer is made like the question.
        assert_eq!(questions.difference(2, 3, 3, &asked[3]), None);
        let how = questions.difference(2, 3, 3, &asked[4]).unwrap();
        assert!(how.starts_with("out of order"), "{how}");
        let other = Message::text(r#"{"name":"message","message":"x"}"#);
        assert_eq!(questions.difference(2, 3, 3, &other), Some("to another route"));
    }

    #[test]
    fn the_size_is_that_of_the_body() {
        for dialect in [Dialect::Raw, Dialect::Hub] {
            let one = Questions::new(dialect, 1, 0, false).message(0, 0).len();
            assert_eq!(Questions::new(dialect, 1, 500, false).message(0, 0).len() - one, 500);
        }
        for dialect in [Dialect::Json, Dialect::Mef, Dialect::Action, Dialect::Event] {
            let one = Questions::new(dialect, 1, 0, false).message(0, 0).len();
            let other = Questions::new(dialect, 1, 500, false).message(0, 0);
            assert_eq!((other.len() - one, other.is_text()), (500, true), "{dialect:?}");
        }
    }
}
