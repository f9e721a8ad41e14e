//! What is done about what the server said.

use std::cell::Cell;

use super::cause::{CallError, Cause};
use super::driver::{Driver, after, guarded};
use super::handle::Call;
use super::incoming::{Incoming, Responder};
use super::options::OwnedBody;
use super::session::{Ended, Session, io_cause};
use super::speech::{self, Failure, Heard, To, Told};
use crate::dialect::{Body, Dialect};
use crate::protocol::MessageKind;

impl Driver {
    pub(super) fn on_message(
        &mut self,
        session: &mut Session,
        kind: MessageKind,
        payload: &[u8],
    ) -> Ended {
        if let Some(call) = &self.options().on.message {
            guarded("on_message", || call(&self.handle, kind, payload));
        }
        match speech::hear(&self.options().dialect, kind, payload) {
            Err(why) => return Err(self.give_up(session, 1002, why, Cause::NotUnderstood(why))),
            Ok(Heard::Unrouted) => {}
            Ok(Heard::Heartbeat(None)) => self.on_pong(b""),
            Ok(Heard::Heartbeat(Some((kind, pong)))) => {
                if session.closing.is_none() {
                    session.link.put(kind.opcode(), &pong).map_err(io_cause)?;
                }
                self.on_ping(b"");
            }
            Ok(Heard::Displaced(message)) => {
                self.displace(session);
                self.on_told(session, message, None, false);
            }
            Ok(Heard::Told { message, correlation, owed }) => {
                self.on_told(session, message, correlation, owed);
            }
            Ok(Heard::Answer { to, failed, message }) => {
                self.on_answer(session, &to, failed, message);
            }
        }
        self.check_login(session)
    }

    pub(super) fn on_ping(&self, payload: &[u8]) {
        if let Some(call) = &self.options().on.ping {
            guarded("on_ping", || call(&self.handle, payload));
        }
    }

    pub(super) fn on_pong(&self, payload: &[u8]) {
        if let Some(call) = &self.options().on.pong {
            guarded("on_pong", || call(&self.handle, payload));
        }
    }

    /// Another client has come. The server closes the connection; where it does not, this side does.
    pub(super) fn displace(&self, session: &mut Session) {
        if session.displaced {
            return;
        }
        session.displaced = true;
        session.leave_by = after(self.options().close_timeout);
        if let Some(call) = &self.options().on.displaced {
            guarded("on_displaced", || call(&self.handle));
        }
    }

    fn on_answer(
        &mut self,
        session: &mut Session,
        to: &To<'_>,
        failed: Option<Failure<'_>>,
        message: Told<'_>,
    ) {
        let mut state = self.handle.state();
        let oldest = |matches: &dyn Fn(&Call) -> bool| {
            state.calls.iter().find(|(_, call)| call.sent && matches(call)).map(|(id, _)| *id)
        };
        let id = match to {
            To::Id(id) => Some(*id),
            To::Key(key) => oldest(&|call| call.key == *key),
            To::Oldest => oldest(&|_| true),
        };
        let call = id.and_then(|id| state.calls.remove(&id));
        drop(state);
        let is_push = call.is_none() && !matches!(to, To::Id(_));
        // As system E has it: the handler of its protocol runs as well.
        let also_routed = matches!(self.options().dialect, Dialect::Hub)
            && failed.is_none()
            && self.options().on.has(&message.key);
        if call.is_some() {
            let answer = match failed {
                Some(Failure { code, words }) => {
                    Err(CallError::Failed { code, message: words.into_owned() })
                }
                None => Ok(message.body.map_or(OwnedBody::Binary(Vec::new()), Into::into)),
            };
            self.done(call, answer);
        }
        if is_push || also_routed {
            self.on_told(session, message, None, false);
        }
    }

    fn on_told(
        &mut self,
        session: &mut Session,
        told: Told<'_>,
        correlation: Option<Vec<u8>>,
        owed: bool,
    ) {
        if self.options().displaced_by.as_deref() == Some(&*told.key) {
            self.displace(session);
        }
        let connection = session.number;
        let responder = correlation.map(|correlation| Responder {
            handle: self.handle.clone(),
            correlation,
            connection,
        });
        let incoming = Incoming {
            key: told.key,
            room: told.room,
            from: told.from,
            body: told.body.unwrap_or(Body::Json("null")),
            responder: Cell::new(responder),
            owed,
        };
        let refusal = match self.options().on.route(&incoming.key) {
            Some(call) => {
                let mut returned = false;
                guarded("a route's handler", || {
                    call(&self.handle, &incoming);
                    returned = true;
                });
                (!returned).then_some((500, "the handler panicked"))
            }
            None => Some((404, "no such route")),
        };
        if !owed {
            return;
        }
        let answered = match refusal {
            Some((code, why)) => incoming.reply_error(code, why),
            None => incoming.reply(Body::Json("null")),
        };
        if let Err(e) = answered {
            log::warn!("a client's answer was not sent: {e}");
        }
    }
}
