//! What the client's thread waits on: its socket, its waker, and time.

use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

use mio::event::Source;
use mio::{Events, Interest, Poll, Token, Waker};

const WAKER: Token = Token(0);
const STREAM: Token = Token(1);

/// The poll, and what it last said of the one socket there is.
pub(super) struct Readiness {
    poll: Poll,
    events: Events,
    /// Whether a read may give something. Edge-triggered: to be unset by whoever finds nothing.
    pub(super) readable: bool,
    /// Whether a write may take something, likewise.
    pub(super) writable: bool,
}

impl Readiness {
    /// And what wakes it from other threads.
    ///
    /// # Errors
    /// The system has no descriptors left.
    pub(super) fn new() -> io::Result<(Self, Waker)> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        let events = Events::with_capacity(8);
        Ok((Self { poll, events, readable: false, writable: false }, waker))
    }

    /// Goes over to a new socket; the old one is closed.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn watch(&mut self, stream: &mut impl Source) -> io::Result<()> {
        (self.readable, self.writable) = (false, false);
        self.poll.registry().register(stream, STREAM, Interest::READABLE | Interest::WRITABLE)
    }

    /// Waits for the socket or the waker, at most up to `until`.
    ///
    /// # Errors
    /// The poll's.
    pub(super) fn wait(&mut self, until: Option<Instant>) -> io::Result<()> {
        let timeout = until.map(|until| until.saturating_duration_since(Instant::now()));
        // Rounded up: else the last part of a millisecond is waited for in a busy loop.
        let timeout = timeout.map(|left| {
            if left.is_zero() { left } else { left.saturating_add(Duration::from_millis(1)) }
        });
        match self.poll.poll(&mut self.events, timeout) {
            Err(e) if e.kind() == ErrorKind::Interrupted => return Ok(()),
            polled => polled?,
        }
        for event in self.events.iter().filter(|event| event.token() == STREAM) {
            self.readable |= event.is_readable() || event.is_read_closed() || event.is_error();
            self.writable |= event.is_writable() || event.is_write_closed() || event.is_error();
        }
        Ok(())
    }
}

/// The earlier of two deadlines, of which each may be none.
pub(super) fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    [one, other].into_iter().flatten().min()
}
