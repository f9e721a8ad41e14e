//! What routes are called with, and how it is answered.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;

use super::cause::SendError;
use super::handle::Handle;
use crate::dialect::{Body, ErrorAnswer};

/// What the server pushed or asked.
#[non_exhaustive]
pub struct Incoming<'a> {
    /// What it is about, in decimal in dialects that number.
    pub key: Cow<'a, str>,
    /// The room it was published to, where the dialect says so.
    pub room: Option<Cow<'a, str>>,
    /// Who published it, where the dialect says so.
    pub from: Option<Cow<'a, str>>,
    /// What it says.
    pub body: Body<'a>,
    /// Taken once an answer is given or promised.
    pub(super) responder: Cell<Option<Responder>>,
    /// Whether the server waits for an answer.
    pub(super) owed: bool,
}

impl Incoming<'_> {
    /// Whether the server waits for an answer: `null` is sent where the handler gives none.
    #[must_use]
    pub fn is_ask(&self) -> bool {
        self.owed
    }

    /// Answers. A second answer, and one to what cannot be answered, is a no-op.
    ///
    /// # Errors
    /// The answer was not taken to be sent.
    pub fn reply<'b>(&self, body: impl Into<Body<'b>>) -> Result<(), SendError> {
        self.responder().map_or(Ok(()), |responder| responder.reply(body))
    }

    /// Answers that it failed, by a code, of HTTP's where one fits, and a sentence.
    ///
    /// # Errors
    /// The answer was not taken to be sent.
    pub fn reply_error(&self, code: u16, message: &str) -> Result<(), SendError> {
        self.responder().map_or(Ok(()), |responder| responder.reply_error(code, message))
    }

    /// To answer later, from any thread; `None` if it was answered, or cannot be.
    #[must_use]
    pub fn responder(&self) -> Option<Responder> {
        self.responder.take()
    }
}

impl fmt::Debug for Incoming<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Incoming");
        debug.field("key", &self.key).field("room", &self.room).field("from", &self.from);
        debug.field("body", &self.body).finish_non_exhaustive()
    }
}

/// Answers once, from any thread. Dropped without an answer, it leaves the server waiting.
#[derive(Debug)]
pub struct Responder {
    pub(super) handle: Handle,
    pub(super) correlation: Vec<u8>,
    /// The connection that asked: on another the answer means nothing, and is not sent.
    pub(super) connection: u64,
}

impl Responder {
    /// Answers.
    ///
    /// # Errors
    /// The answer was not taken to be sent.
    pub fn reply<'b>(self, body: impl Into<Body<'b>>) -> Result<(), SendError> {
        self.handle.answer(&self.correlation, self.connection, Ok(body.into()))
    }

    /// Answers that it failed.
    ///
    /// # Errors
    /// The answer was not taken to be sent.
    pub fn reply_error(self, code: u16, message: &str) -> Result<(), SendError> {
        let error = ErrorAnswer::new(code, message);
        self.handle.answer(&self.correlation, self.connection, Err(&error))
    }
}
