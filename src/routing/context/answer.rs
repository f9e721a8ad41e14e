//! Answering, at once or later.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use serde::Serialize;

use super::{Context, Place};
use crate::channels::{Answer, OwnedBody, ReplyTo, Settles};
use crate::dialect::{Body, ErrorAnswer};
use crate::routing::gateway::{Gateway, Gone};
use crate::worker::Post;

impl Context<'_> {
    /// Answers the message. A second answer to the same message is counted and not sent; so is one
    /// to a message that takes none. After room work in the same handler, the answer leaves when
    /// that work is in force.
    #[inline]
    pub fn reply<'b>(&mut self, body: impl Into<Body<'b>>) {
        self.answer(Ok(body.into()));
    }

    /// Answers with a value as JSON.
    pub fn reply_json(&mut self, value: &impl Serialize) {
        match serde_json::to_string(value) {
            Ok(text) => self.answer(Ok(Body::Json(&text))),
            Err(e) => self.reply_error(500, &format!("the answer is no JSON: {e}")),
        }
    }

    /// Answers with an error.
    pub fn reply_error(&mut self, code: u16, message: &str) {
        self.answer(Err(&ErrorAnswer { code, message: message.into() }));
    }

    /// Whether the sender waits for an answer: one is made up (`null`) if the handler gives none.
    #[must_use]
    pub fn wants_answer(&self) -> bool {
        self.is_request && self.correlation.is_some_and(|c| !c.is_empty())
    }

    /// The right to answer, to be used later and on any thread. If the handler answers as well,
    /// or fails, the first answer is the one that is sent.
    #[must_use]
    pub fn later(&mut self) -> Responder {
        let to = self.reply_to(Settles::No);
        let gateway = self.gateway().clone();
        let (answered, taken, replied) = match &mut self.place {
            Place::Shard(parts) => {
                let effects = &mut *parts.effects;
                (&mut effects.answered, &mut effects.taken, effects.replied)
            }
            Place::Away(away) => (&mut away.answered, &mut away.is_taken, false),
        };
        *taken = true;
        let answered = answered.get_or_insert_with(|| Arc::new(AtomicBool::new(replied)));
        Responder { to, answered: Arc::clone(answered), gateway }
    }

    /// Whether nobody has to answer the message any more: an answer is out or held, or a responder
    /// was taken.
    #[inline]
    pub(crate) fn is_answered(&self) -> bool {
        let Place::Shard(parts) = &self.place else { return false };
        let effects = &*parts.effects;
        effects.replied
            || effects.taken
            || effects.answered.as_ref().is_some_and(|answered| answered.load(Relaxed))
    }

    #[inline]
    pub(crate) fn answer(&mut self, answer: Result<Body<'_>, &ErrorAnswer<'_>>) {
        let parts = match &mut self.place {
            Place::Shard(parts) => parts,
            Place::Away(away) => {
                let answer = own(answer);
                return away.record(move |ctx| {
                    ctx.answer(answer.as_ref().map(OwnedBody::as_body));
                });
            }
        };
        let effects = &mut *parts.effects;
        let taken = |answered: &Arc<AtomicBool>| answered.swap(true, Relaxed);
        if self.correlation.is_none()
            || effects.replied
            || effects.answered.as_ref().is_some_and(taken)
        {
            parts.gateway.shared.count_late_answer();
            return;
        }
        effects.replied = true;
        if !effects.rooms.is_empty() {
            effects.held = Some(own(answer));
            return;
        }
        let (conn, endpoint, correlation) = (self.conn, self.endpoint, self.correlation);
        let post = parts.out.post(conn.loop_index());
        let before = post.bytes();
        post.reply(conn, 1, |out| endpoint.put_answer(out, correlation, answer));
        let wrote = post.bytes() - before;
        parts.out.wrote(wrote);
    }
}

fn own(answer: Result<Body<'_>, &ErrorAnswer<'_>>) -> Answer {
    match answer {
        Ok(body) => Ok(OwnedBody::from(body)),
        Err(error) => Err(ErrorAnswer {
            code: error.code,
            message: error.message.clone().into_owned().into(),
        }),
    }
}

/// The right to answer one message later, on any thread. Dropped unanswered, nothing is sent.
///
/// A message is answered once: what comes after its first answer is counted and not sent. An answer
/// to a connection that has ended by then goes nowhere and is counted.
#[derive(Debug)]
pub struct Responder {
    to: ReplyTo,
    /// Shared by all who may answer this message.
    answered: Arc<AtomicBool>,
    gateway: Gateway,
}

impl Responder {
    /// Answers.
    ///
    /// # Errors
    /// [`Gone`] when the gateway has stopped.
    pub fn reply<'b>(self, body: impl Into<Body<'b>>) -> Result<(), Gone> {
        self.answer(Ok(body.into()))
    }

    /// Answers with an error.
    ///
    /// # Errors
    /// [`Gone`] when the gateway has stopped.
    pub fn reply_error(self, code: u16, message: &str) -> Result<(), Gone> {
        self.answer(Err(&ErrorAnswer { code, message: message.into() }))
    }

    fn answer(self, answer: Result<Body<'_>, &ErrorAnswer<'_>>) -> Result<(), Gone> {
        let ReplyTo { conn, endpoint, correlation, .. } = self.to;
        let Some(correlation) = correlation.filter(|_| !self.answered.swap(true, Relaxed)) else {
            self.gateway.shared.count_late_answer();
            return Ok(());
        };
        let snapshot = self.gateway.shared.snapshot();
        let mut post = Post::new(None);
        post.reply(conn, 1, |out| {
            snapshot.endpoint(endpoint).put_answer(out, Some(&correlation), answer);
        });
        self.gateway.post(conn.loop_index(), post)
    }
}
