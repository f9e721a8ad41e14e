//! The client's thread: dials, serves the connection, waits, dials again.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::{Duration, Instant};

use super::backoff::Backoff;
use super::cause::{CallError, Cause, DialError, SendError};
use super::handle::{Call, Handle, Sent};
use super::options::{Options, OwnedBody};
use super::tls::Secure;
use super::url::ServerUrl;
use super::wait::{Readiness, earlier};

/// What the client's thread owns.
pub(super) struct Driver {
    pub(super) handle: Handle,
    pub(super) url: ServerUrl,
    /// Where the URL asks for TLS.
    pub(super) secure: Option<Secure>,
    pub(super) readiness: Readiness,
    pub(super) backoff: Backoff,
}

impl Driver {
    pub(super) fn new(
        handle: Handle,
        url: ServerUrl,
        secure: Option<Secure>,
        readiness: Readiness,
    ) -> Self {
        let backoff = Backoff::new(handle.shared.options.reconnect.unwrap_or_default());
        Self { handle, url, secure, readiness, backoff }
    }

    /// The life of a client.
    pub(super) fn run(mut self) {
        // Set once, before anything is called on this thread.
        let _ = self.handle.shared.thread.set(thread::current().id());
        loop {
            let is_last = match self.dial() {
                Ok(link) => {
                    let (cause, was_open) = self.serve(link);
                    self.lose_calls(was_open);
                    let is_last = cause == Cause::Displaced && !self.options().reconnect_displaced;
                    if was_open {
                        self.closed(&cause);
                    } else {
                        self.dial_failed(DialError::Login(cause));
                    }
                    is_last
                }
                Err(DialError::Stopped) => true,
                Err(error) => {
                    self.dial_failed(error);
                    false
                }
            };
            if is_last || self.options().reconnect.is_none() || !self.pause() {
                break;
            }
        }
        self.end();
    }

    pub(super) fn options(&self) -> &Options {
        &self.handle.shared.options
    }

    /// Waits for the next try; `false` if there is to be none.
    fn pause(&mut self) -> bool {
        let until = Instant::now() + self.backoff.next();
        loop {
            if self.handle.state().stopping {
                return false;
            }
            if Instant::now() >= until {
                return true;
            }
            if let Err(e) = self.wait(Some(until)) {
                log::error!("a client cannot wait: {e}");
                return false;
            }
        }
    }

    /// Waits for socket, waker or time; calls whose time is over are told so.
    pub(super) fn wait(&mut self, until: Option<Instant>) -> io::Result<()> {
        let next_call = self.expire_calls();
        self.readiness.wait(earlier(until, next_call))?;
        self.expire_calls();
        Ok(())
    }

    /// Tells calls whose time is over; gives the next deadline of one.
    fn expire_calls(&mut self) -> Option<Instant> {
        loop {
            let mut state = self.handle.state();
            let with_deadline =
                state.calls.iter().filter_map(|(id, call)| Some((call.deadline?, *id)));
            let (deadline, id) = with_deadline.min()?;
            if deadline > Instant::now() {
                return Some(deadline);
            }
            let call = state.give_up(id);
            drop(state);
            self.done(call, Err(CallError::TimedOut));
        }
    }

    /// Tells a call how it ended.
    pub(super) fn done(&self, call: Option<Call>, answer: Result<OwnedBody, CallError>) {
        if let Some(Call { done, .. }) = call {
            guarded("an answer's handler", || done(&self.handle, answer));
        }
    }

    fn dial_failed(&mut self, error: DialError) {
        if let Some(call) = &self.options().on.dial_failed {
            guarded("on_dial_failed", || call(&self.handle, &error));
        }
        let mut state = self.handle.state();
        if state.opened == 0 && state.first_dial.is_none() {
            state.first_dial = Some(Err(error));
        }
        drop(state);
        self.handle.announce();
    }

    /// A connection is gone, and with it the answers to what was sent on it, and what waited for it
    /// if that is not to be kept.
    fn lose_calls(&mut self, was_open: bool) {
        let keeps = self.options().keep_queued || !was_open;
        let mut state = self.handle.state();
        state.open = false;
        let dropped = if keeps { Vec::new() } else { state.drop_queue() };
        let calls = state.calls.iter().filter(|(_, call)| call.sent || !keeps);
        let ids: Vec<u32> = calls.map(|(id, _)| *id).collect();
        let lost: Vec<_> = ids.iter().filter_map(|id| state.calls.remove(id)).collect();
        drop(state);
        self.handle.announce();
        self.tell_all(dropped, SendError::Dropped);
        for call in lost {
            let why = if call.sent { CallError::Closed } else { SendError::Dropped.into() };
            self.done(Some(call), Err(why));
        }
    }

    /// Tells that messages were not sent.
    fn tell_all(&self, sent: Vec<Sent>, why: SendError) {
        for sent in sent {
            self.tell(sent, Err(why));
        }
    }

    /// Tells what became of a message.
    pub(super) fn tell(&self, sent: Sent, what: Result<(), SendError>) {
        guarded("a message's handler", || sent(&self.handle, what));
    }

    fn closed(&mut self, cause: &Cause) {
        if let Some(call) = &self.options().on.closed {
            guarded("on_closed", || call(&self.handle, cause));
        }
    }

    fn end(&mut self) {
        let mut state = self.handle.state();
        state.ended = true;
        let dropped = state.drop_queue();
        let calls = std::mem::take(&mut state.calls);
        drop(state);
        self.handle.announce();
        self.tell_all(dropped, SendError::Stopped);
        for call in calls.into_values() {
            self.done(Some(call), Err(CallError::Send(SendError::Stopped)));
        }
    }
}

/// Calls what the user gave: a panic in it is logged, and ends nothing.
pub(super) fn guarded(what: &str, call: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(call)).is_err() {
        log::error!("{what} of a client panicked");
    }
}

/// A deadline, as far as the clock reaches.
pub(super) fn after(time: Duration) -> Option<Instant> {
    Instant::now().checked_add(time)
}
