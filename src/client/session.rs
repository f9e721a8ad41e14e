//! The life of one open connection, turn by turn.

use std::io;
use std::mem;
use std::time::{Duration, Instant};

use super::cause::{CallError, Cause, CloseBegun, SendError, Side};
use super::driver::{Driver, after, guarded};
use super::handle::{Call, Handle, State};
use super::link::Link;
use super::options::{OwnedBody, room_body};
use super::speech;
use super::tls::TlsFault;
use super::wait::earlier;
use crate::dialect::{Body, Key};
use crate::protocol::{Event, MessageKind, OpCode, Violation};

/// No more is taken from the queue while so much is to be written, bytes.
const OWED_BYTES: usize = 64 * 1024;
/// Read at once, bytes.
const READ_BYTES: usize = 64 * 1024;
/// Reads of one turn; then what is to be sent has its turn.
const READS_PER_TURN: usize = 16;

/// An open connection, and how far its end has come.
pub(super) struct Session {
    pub(super) link: Link,
    pub(super) number: u64,
    /// Whether the login, if there is one, was answered well: before, nothing else is sent.
    admitted: bool,
    /// When it has to be.
    login_by: Option<Instant>,
    ping_at: Option<Instant>,
    /// When the connection is lost if nothing comes.
    silent_at: Option<Instant>,
    /// Until when this side may take to close.
    stop_by: Option<Instant>,
    pub(super) displaced: bool,
    /// Until when the server may take to close then.
    pub(super) leave_by: Option<Instant>,
    pub(super) closing: Option<Closing>,
}

/// After a Close was sent: nothing more is.
pub(super) struct Closing {
    cause: Cause,
    /// When the stream is closed though the server has not closed it.
    until: Option<Instant>,
    /// Whether the server's Close has come: nothing behind it has a meaning.
    heard: bool,
}

/// How a connection ends.
pub(super) type Ended = Result<(), Cause>;

impl Driver {
    /// Serves a connection up to its end: why it ended, and whether it was ever open to the user.
    pub(super) fn serve(&mut self, link: Link) -> (Cause, bool) {
        let mut session = Session {
            number: 0,
            admitted: false,
            login_by: after(self.options().connect_timeout),
            ping_at: self.ping_interval(&link).and_then(after),
            link,
            silent_at: None,
            stop_by: None,
            displaced: false,
            leave_by: None,
            closing: None,
        };
        let mut buf = vec![0; READ_BYTES];
        let ended = self.live(&mut session, &mut buf);
        self.tell_written(&mut session);
        while let Some(sent) = session.link.take_unwritten() {
            self.tell(sent, Err(SendError::Closed));
        }
        let cause = match (ended, session.closing) {
            _ if session.displaced => Cause::Displaced,
            // Whatever came behind a Close, that is why.
            (_, Some(closing)) => closing.cause,
            (Err(cause), None) => cause,
            (Ok(()), None) => Cause::Lost,
        };
        (cause, session.admitted)
    }

    fn live(&mut self, session: &mut Session, buf: &mut [u8]) -> Ended {
        self.sign_in(session)?;
        let mut early = mem::take(&mut session.link.early);
        self.decode(session, &mut early)?;
        loop {
            self.read(session, buf)?;
            self.take_queue(session)?;
            self.flush(session)?;
            self.begin_to_stop(session)?;
            self.flush(session)?;
            let until = self.keep_time(session)?;
            let until = if self.readiness.readable { Some(Instant::now()) } else { until };
            self.wait(until).map_err(io_cause)?;
        }
    }

    /// Sends the login, if there is one; without, the connection is open.
    fn sign_in(&mut self, session: &mut Session) -> Ended {
        let mut state = self.handle.state();
        state.connection += 1;
        session.number = state.connection;
        state.login = None;
        let Some((key, body)) = &self.options().login else {
            drop(state);
            return self.opened(session);
        };
        let id = state.take_call_id();
        drop(state);
        let mut made = OwnedBody::Binary(Vec::new());
        guarded("a login's body", || made = body());
        let key = Key::from(&**key);
        let said = speech::call(&self.options().dialect, id, &key, made.as_body());
        let Ok((kind, payload)) = said else {
            return Err(Cause::NotUnderstood("the dialect has no form for the login"));
        };
        session.link.put(kind.opcode(), &payload).map_err(io_cause)?;
        let done = Box::new(|handle: &Handle, answer| handle.state().login = Some(answer));
        let key = key.as_text().into_owned();
        self.handle.state().calls.insert(id, Call { key, deadline: None, sent: true, done });
        Ok(())
    }

    /// Looks whether the login has been answered.
    pub(super) fn check_login(&mut self, session: &mut Session) -> Ended {
        if session.admitted {
            return Ok(());
        }
        let answer = self.handle.state().login.take();
        match answer {
            None => Ok(()),
            Some(Ok(_)) => self.opened(session),
            Some(Err(CallError::Failed { code, message })) => {
                let cause = Cause::LoginRefused { code, message };
                Err(self.give_up(session, 1000, "", cause))
            }
            Some(Err(_)) => Err(Cause::Lost),
        }
    }

    /// The connection is open: to the user, too.
    fn opened(&mut self, session: &mut Session) -> Ended {
        session.admitted = true;
        self.backoff.reset();
        let mut state = self.handle.state();
        state.open = true;
        state.opened += 1;
        if state.opened == 1 {
            state.first_dial = Some(Ok(()));
        }
        self.rejoin(&mut state, session)?;
        drop(state);
        self.handle.announce();
        if let Some(call) = &self.options().on.established {
            guarded("on_established", || call(&self.handle));
        }
        Ok(())
    }

    /// Joins all rooms again, before anything that waits is sent.
    fn rejoin(&self, state: &mut State, session: &mut Session) -> Ended {
        let Ok((join, _)) = self.handle.room_keys() else { return Ok(()) };
        for room in state.rooms.clone() {
            let (id, body) = (state.take_call_id(), room_body(&room));
            let said = speech::call(&self.options().dialect, id, &join, Body::Json(&body));
            let Ok((kind, payload)) = said else { continue };
            session.link.put(kind.opcode(), &payload).map_err(io_cause)?;
            let done = Box::new(move |handle: &Handle, answer: Result<_, CallError>| {
                if let Err(e @ CallError::Failed { .. }) = answer {
                    log::warn!("a client could not join room `{room}` again: {e}");
                    handle.state().rooms.remove(&room);
                }
            });
            let key = join.as_text().into_owned();
            state.calls.insert(id, Call { key, deadline: None, sent: true, done });
        }
        Ok(())
    }

    /// Asked to end, sends a Close once nothing else is to be sent.
    fn begin_to_stop(&mut self, session: &mut Session) -> Ended {
        let state = self.handle.state();
        if !state.stopping || session.closing.is_some() {
            return Ok(());
        }
        let by = after(self.options().close_timeout);
        let by = *session.stop_by.get_or_insert(by.unwrap_or_else(Instant::now));
        let nothing_to_send = state.queue.is_empty() || !session.admitted;
        let nothing_waits = nothing_to_send && session.link.owed() == 0;
        let (code, reason) = state.last_words.clone();
        drop(state);
        if nothing_waits || Instant::now() >= by {
            session.link.put_close(code, &reason).map_err(io_cause)?;
            session.closing =
                Some(Closing { cause: Cause::Stopped, until: Some(by), heard: false });
            self.close_begun(session, Side::Client, code, &reason);
        }
        Ok(())
    }

    /// Tells that a Close was sent or has come, if the connection was open to the user.
    fn close_begun(&self, session: &Session, by: Side, code: Option<u16>, reason: &str) {
        if let Some(call) = self.options().on.closing.as_ref().filter(|_| session.admitted) {
            let begun = CloseBegun { by, code, reason: reason.to_owned() };
            guarded("on_closing", || call(&self.handle, &begun));
        }
    }

    fn take_queue(&mut self, session: &mut Session) -> Ended {
        if session.closing.is_some() || !session.admitted {
            return Ok(());
        }
        let mut state = self.handle.state();
        while session.link.owed() < OWED_BYTES
            && let Some(next) = state.queue.pop_front()
        {
            state.queued_bytes -= next.payload.len();
            if next.only_on.is_some_and(|only| only != session.number) {
                continue;
            }
            session.link.put(next.op, &next.payload).map_err(io_cause)?;
            if let Some(sent) = next.sent {
                session.link.mark(sent);
            }
            if let Some(call) = next.call.and_then(|id| state.calls.get_mut(&id)) {
                call.sent = true;
            }
        }
        Ok(())
    }

    /// Writes what the socket takes, and tells of what is written whole.
    fn flush(&self, session: &mut Session) -> Ended {
        let flushed = session.link.flush().map_err(io_cause);
        self.tell_written(session);
        flushed.map(drop)
    }

    fn tell_written(&self, session: &mut Session) {
        while let Some(sent) = session.link.take_written() {
            self.tell(sent, Ok(()));
        }
    }

    fn read(&mut self, session: &mut Session, buf: &mut [u8]) -> Ended {
        for _ in 0..READS_PER_TURN {
            if !self.readiness.readable {
                break;
            }
            match session.link.read(buf).map_err(io_cause)? {
                None => self.readiness.readable = false,
                Some(0) => return Err(self.stream_ended(session)),
                Some(n) => {
                    session.silent_at = None;
                    self.decode(session, &mut buf[..n])?;
                }
            }
        }
        Ok(())
    }

    /// The end of the stream is the server's Close where no frame can be.
    fn stream_ended(&self, session: &Session) -> Cause {
        if !session.link.is_closed_by_end() {
            return Cause::Lost;
        }
        if session.closing.is_none() {
            self.close_begun(session, Side::Server, None, "");
        }
        Cause::Closed { code: None, reason: String::new() }
    }

    /// How often the server is pinged, if it can be.
    fn ping_interval(&self, link: &Link) -> Option<Duration> {
        self.options().ping_interval.filter(|_| link.has_control_frames())
    }

    fn decode(&mut self, session: &mut Session, mut input: &mut [u8]) -> Ended {
        let decoder = session.link.decoder;
        while !session.closing.as_ref().is_some_and(|closing| closing.heard) {
            let link = &mut session.link;
            match decoder.next(&mut link.partial, &mut link.spare, &mut input) {
                Ok(None) => break,
                Ok(Some(Event::Message { kind, payload })) => {
                    self.on_message(session, kind, payload)?;
                }
                Ok(Some(Event::Assembled { kind, payload })) => {
                    self.on_message(session, kind, &payload)?;
                    session.link.spare.recycle(payload);
                }
                Ok(Some(Event::Compressed { kind, payload })) => {
                    self.on_compressed(session, kind, payload)?;
                }
                Ok(Some(Event::CompressedAssembled { kind, payload })) => {
                    self.on_compressed(session, kind, &payload)?;
                    session.link.spare.recycle(payload);
                }
                Ok(Some(Event::Ping(payload))) => {
                    if session.closing.is_none() {
                        session.link.put(OpCode::Pong, payload.as_slice()).map_err(io_cause)?;
                    }
                    self.on_ping(payload.as_slice());
                }
                Ok(Some(Event::Pong(payload))) => self.on_pong(payload.as_slice()),
                Ok(Some(Event::Close { code, reason })) => {
                    self.on_close(session, code, reason.as_str())?;
                }
                Err(violation) => return Err(self.violated(session, violation)),
            }
        }
        Ok(())
    }

    fn on_compressed(&mut self, session: &mut Session, kind: MessageKind, payload: &[u8]) -> Ended {
        match session.link.inflated(kind, payload) {
            Ok(message) => self.on_message(session, kind, &message),
            Err(violation) => Err(self.violated(session, violation)),
        }
    }

    fn violated(&mut self, session: &mut Session, violation: Violation) -> Cause {
        let (code, reason) = (violation.close_code(), violation.reason());
        self.give_up(session, code, reason, Cause::Violation(violation))
    }

    /// Answers a Close, and leaves it to the server to close the stream (RFC 6455, 7.1.1).
    fn on_close(&mut self, session: &mut Session, code: Option<u16>, reason: &str) -> Ended {
        if let Some(closing) = &mut session.closing {
            closing.heard = true;
            return Ok(());
        }
        session.link.put_close(code, "").map_err(io_cause)?;
        let cause = Cause::Closed { code, reason: reason.to_owned() };
        let until = after(self.options().close_timeout);
        session.closing = Some(Closing { cause, until, heard: true });
        if code.is_some() && code == self.options().displaced_code {
            self.displace(session);
        }
        self.close_begun(session, Side::Server, code, reason);
        Ok(())
    }

    /// Says why the connection cannot go on, if that can still be said, behind what was queued
    /// before: the answers to what came before the fault, above all.
    pub(super) fn give_up(
        &mut self,
        session: &mut Session,
        code: u16,
        reason: &str,
        cause: Cause,
    ) -> Cause {
        if session.closing.is_none()
            && self.take_queue(session).is_ok()
            && session.link.put_close(Some(code), reason).is_ok()
        {
            // It is gone either way.
            let _ = session.link.flush();
            self.close_begun(session, Side::Client, Some(code), reason);
        }
        cause
    }

    /// Pings, and finds out what took too long; gives the next deadline.
    fn keep_time(&mut self, session: &mut Session) -> Result<Option<Instant>, Cause> {
        let now = Instant::now();
        let over = |deadline: Option<Instant>| deadline.is_some_and(|deadline| now >= deadline);
        if let Some(closing) = &session.closing {
            return if over(closing.until) { Err(Cause::Lost) } else { Ok(closing.until) };
        }
        if over(session.silent_at) {
            return Err(Cause::Silent);
        }
        if over(session.leave_by) {
            return Err(self.give_up(session, 1000, "", Cause::Displaced));
        }
        let login_by = session.login_by.filter(|_| !session.admitted);
        if over(login_by) {
            return Err(self.give_up(session, 1000, "", Cause::LoginTimedOut));
        }
        if over(session.ping_at) {
            session.link.put(OpCode::Ping, b"").map_err(io_cause)?;
            session.link.flush().map_err(io_cause)?;
            session.ping_at = self.ping_interval(&session.link).and_then(after);
            session.silent_at = session.silent_at.or_else(|| after(self.options().pong_timeout));
        }
        let next = earlier(session.ping_at, session.silent_at);
        let end = earlier(session.stop_by, session.leave_by);
        Ok(earlier(earlier(next, login_by), end))
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
pub(super) fn io_cause(error: io::Error) -> Cause {
    match TlsFault::of(&error) {
        Some(fault) => Cause::Tls(fault),
        None => Cause::Io(error.kind()),
    }
}
