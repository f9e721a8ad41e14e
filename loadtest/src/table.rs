//! The connections of one event loop: each from connect to its end, every end counted once.
//!
//! Invariants:
//! - A key below `keys_end` is either vacant or one connection. There are as many as connections were
//!   there at once: the loop's share, or more while some close and others take their place.
//! - After an event or a turn, all bytes that had come are read, and all that is queued is written
//!   or waits for the socket to become writable.
//! - A connection ends in exactly one count: refused, lost, foreseen, unclosed, closed or aborted. So
//!   at the end `attempted` is their sum, also where connections were begun again.
//! - A connection that is not read is ended when an event says that the peer is gone, and is read to
//!   its end once it is resumed or closed.

mod drip;

use std::{
    io::{ErrorKind, Write as _},
    sync::Arc,
};

use mio::{Interest, Registry, Token, event::Source as _};
use slab::Slab;
use tungstenite::{Message, protocol::CloseFrame};

use crate::{
    clock::{Clock, Nanos, nanos},
    handshake::Handshake,
    link::{Driver, Ended, Link, Wait},
    login,
    shared::Setup,
    socket::{Buffers, Readiness, Stream, Wire},
    tally::Tally,
    tls::Session,
    transport::Transport,
    trouble::{Trouble, Waiting, count},
};

/// The connections of one event loop.
pub(crate) struct Table<C> {
    registry: Registry,
    setup: Arc<Setup>,
    clock: Clock,
    conns: Slab<Conn<C>>,
    /// Dense, beside the connections, because it is swept often.
    waits: Vec<Wait>,
    /// No wait ends before this.
    soonest: Nanos,
    buffers: Buffers,
    /// What this loop counts.
    pub(crate) tally: Tally,
    connecting: u32,
}

/// One connection.
struct Conn<C> {
    stream: Stream,
    session: Option<Box<Session>>,
    index: u32,
    /// When it was begun; once it is open, since when it has been.
    since: Nanos,
    codec: Codec,
    phase: Phase,
    /// Whether it is not read.
    paused: bool,
    client: C,
}

/// What a connection goes by.
type Opened = (Stream, Option<Box<Session>>);

/// Who reads and writes the bytes.
// Nearly all are open nearly always, and a box would cost those an allocation.
#[allow(clippy::large_enum_variant)]
enum Codec {
    /// Connecting or in the opening handshake.
    Handshake(Box<Handshake>),
    /// Frames.
    Frames(Transport),
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// No connection yet, or no answer to the handshake or the login.
    Opening,
    /// Messages pass.
    Open,
    /// We sent Close and wait for the peer's.
    Closing,
    /// Both Closes are through; the server should end the stream (RFC 6455, section 7.1.1).
    Closed,
    /// A request comes by drips ([`drip`]); neither counted nor closed like the others.
    Dripping,
}

/// How a client leaves that does not close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Abort {
    /// The stream is reset, as when a network falls away and the next packet finds nobody.
    Reset,
    /// The stream is ended, as when a program is killed.
    End,
}

impl<C: Default> Table<C> {
    /// An empty table that can hold `share` connections.
    pub(crate) fn new(registry: Registry, setup: Arc<Setup>, clock: Clock, share: usize) -> Self {
        let buffers = Buffers::new(setup.lanes.has_tls());
        Self {
            registry,
            setup,
            clock,
            conns: Slab::with_capacity(share),
            waits: vec![Wait::default(); share],
            soonest: Nanos::MAX,
            buffers,
            tally: Tally::default(),
            connecting: 0,
        }
    }

    /// Handshakes under way.
    pub(crate) fn connecting(&self) -> u32 {
        self.connecting
    }

    /// Whether no connection is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.conns.is_empty()
    }

    /// Every key is below this.
    pub(crate) fn keys_end(&self) -> usize {
        self.waits.len()
    }

    /// The keys of all open connections.
    pub(crate) fn open_keys(&self) -> Vec<usize> {
        let open = self.conns.iter().filter(|(_, conn)| conn.phase == Phase::Open);
        open.map(|(key, _)| key).collect()
    }

    /// The time.
    pub(crate) fn now(&self) -> Nanos {
        self.clock.now()
    }

    /// What the command keeps for an open connection; `None` if there is none under this key.
    pub(crate) fn client(&mut self, key: usize) -> Option<&mut C> {
        let conn = self.conns.get_mut(key)?;
        (conn.phase == Phase::Open).then_some(&mut conn.client)
    }

    /// Begins connection number `index`, in the ramp or again; its handshake counts from `since`.
    pub(crate) fn connect(
        &mut self,
        index: u32,
        since: Nanos,
        driver: &mut impl Driver<Client = C>,
    ) {
        self.tally.attempted += 1;
        let handshake = self.setup.lanes.handshake(index);
        let opened = self.open(index, driver.receive_buffer(index));
        let key = match opened
            .and_then(|opened| self.insert(opened, index, since, handshake, Phase::Opening))
        {
            Ok(key) => key,
            Err(trouble) => return self.unopened(index, trouble, driver),
        };
        let until = self.clock.now() + nanos(self.setup.timeout);
        self.waits[key].pending = Some((Waiting::Handshake, until));
        self.soonest = self.soonest.min(until);
        // On loopback the connection is often there already: that saves waiting for the event.
        self.pump(key, Readiness::Nothing, driver);
    }

    /// A stream to where a connection goes, and a session over it where TLS is spoken.
    fn open(&self, index: u32, receive_buffer: Option<usize>) -> Result<Opened, Trouble> {
        let lanes = &self.setup.lanes;
        let session = lanes.session(index).transpose()?;
        let target = &lanes.lane(index).target.address;
        let stream = Stream::open(target, self.setup.source(index), receive_buffer);
        Ok((stream.map_err(|error| Trouble::from_io(&error))?, session.map(Box::new)))
    }

    /// There is not even a socket.
    fn unopened(&mut self, index: u32, trouble: Trouble, driver: &mut impl Driver<Client = C>) {
        let (client, phase) = (&C::default(), Phase::Opening);
        let at = self.clock.now();
        let ended = Ended { index, client, phase, trouble: Some(&trouble), at, lived: 0 };
        driver.ended(&ended, &mut self.tally);
        count(&mut self.tally.refused, trouble);
    }

    fn insert(
        &mut self,
        (stream, session): Opened,
        index: u32,
        since: Nanos,
        handshake: Handshake,
        phase: Phase,
    ) -> Result<usize, Trouble> {
        let codec = Codec::Handshake(Box::new(handshake));
        let (paused, client) = (false, C::default());
        let conn = Conn { stream, session, index, since, codec, phase, paused, client };
        let key = self.conns.insert(conn);
        let interest = Interest::READABLE | Interest::WRITABLE;
        let stream = &mut self.conns[key].stream;
        if let Err(error) = stream.register(&self.registry, Token(key), interest) {
            self.conns.remove(key);
            return Err(Trouble::from_io(&error));
        }
        if key == self.waits.len() {
            self.waits.push(Wait::default());
        }
        self.connecting += u32::from(phase == Phase::Opening);
        Ok(key)
    }

    /// Works on a connection after an event.
    pub(crate) fn pump(
        &mut self,
        key: usize,
        readiness: Readiness,
        driver: &mut impl Driver<Client = C>,
    ) {
        // An event of a connection that ended in this very batch finds nothing, or the next one
        // under the same key, for which it is merely a needless look.
        if !self.conns.contains(key) {
            return;
        }
        let now = self.clock.now();
        let result = self.handshake(key, readiness, now).and_then(|(readiness, shaken)| {
            self.visit(key, readiness, shaken.unwrap_or(now), |link| {
                let ended = shaken.map_or(Ok(()), |_| greet(link, driver));
                let ended = ended.and_then(|()| pump_messages(link, driver));
                // What ended the connection says more than that it cannot be written any more.
                ended.and(link.flush())
            })
        });
        if let Err(trouble) = result {
            self.end(key, trouble, driver);
        }
    }

    /// Reads a connection again, beginning with what has come meanwhile.
    pub(crate) fn resume(&mut self, key: usize, driver: &mut impl Driver<Client = C>) {
        let paused = self.conns.get_mut(key).map(|conn| std::mem::take(&mut conn.paused));
        if paused == Some(true) {
            // To the end, as what came until now was announced once and no event will say it again.
            self.pump(key, Readiness::End, driver);
        }
    }

    /// Works on an open connection in the course of a turn, and writes what that queued.
    pub(crate) fn with<D: Driver<Client = C>>(
        &mut self,
        driver: &mut D,
        key: usize,
        work: impl FnOnce(&mut D, &mut Link<'_, C>) -> Result<(), Trouble>,
    ) -> bool {
        let open = self.conns.get(key).is_some_and(|conn| conn.phase == Phase::Open);
        if !open {
            return false;
        }
        let now = self.clock.now();
        let result = self.visit(key, Readiness::Nothing, now, |link| {
            work(driver, link).and_then(|()| link.flush())
        });
        match result {
            Ok(()) => true,
            Err(trouble) => {
                self.end(key, trouble, driver);
                false
            }
        }
    }

    /// Begins to close a connection, if it is open.
    pub(crate) fn close(&mut self, key: usize, driver: &mut impl Driver<Client = C>) {
        if self.conns.get(key).is_none_or(|conn| conn.phase != Phase::Open) {
            return;
        }
        let now = self.clock.now();
        let result = self.visit(key, Readiness::Nothing, now, |link| link.begin_close());
        match result {
            // The peer's Close must be read.
            Ok(()) => self.resume(key, driver),
            Err(trouble) => self.end(key, trouble, driver),
        }
    }

    /// Ends the sending side of an open connection's stream, and reads on.
    pub(crate) fn end_sending(&self, key: usize) {
        if let Some(conn) = self.conns.get(key).filter(|conn| conn.phase == Phase::Open) {
            // Where it cannot be, the stream has ended, which an event says.
            let _ = conn.stream.end_sending();
        }
    }

    /// Drops a connection at once, however far it is.
    pub(crate) fn abort(&mut self, key: usize, how: Abort, driver: &mut impl Driver<Client = C>) {
        let Some(conn) = self.remove(key) else { return };
        // Where it cannot be, the stream ends in the other way, which only costs a port for a while.
        let _ = (how == Abort::Reset).then(|| conn.stream.end_by_reset());
        self.tally.aborted += u64::from(conn.phase != Phase::Dripping);
        let now = self.clock.now();
        driver.ended(&conn.ended(None, now), &mut self.tally);
    }

    /// Ends what has waited too long.
    pub(crate) fn sweep(&mut self, now: Nanos, driver: &mut impl Driver<Client = C>) {
        if now < self.soonest {
            return;
        }
        self.soonest = Nanos::MAX;
        for key in 0..self.waits.len() {
            match self.waits[key].pending {
                Some((waiting, until)) if until <= now => {
                    self.end(key, Trouble::Timeout(waiting), driver);
                }
                Some((_, until)) => self.soonest = self.soonest.min(until),
                None => {}
            }
        }
    }

    /// Drives the opening handshake, if that is where the connection is. Returns what there may
    /// still be to read, and when the handshake was done if that was just now.
    fn handshake(
        &mut self,
        key: usize,
        readiness: Readiness,
        now: Nanos,
    ) -> Result<(Readiness, Option<Nanos>), Trouble> {
        let conn = &mut self.conns[key];
        let Codec::Handshake(handshake) = &mut conn.codec else { return Ok((readiness, None)) };
        let streams = (&mut conn.stream, conn.session.as_deref_mut());
        let mut wire = Wire::new(streams, &mut self.buffers, readiness, self.clock, now);
        let result = exchange(handshake, &mut wire);
        let (now, readiness) = (wire.now, wire.readiness());
        self.tally.bytes_in += wire.bytes_in;
        self.tally.bytes_out += wire.bytes_out;
        let Some(tail) = result? else { return Ok((Readiness::Nothing, None)) };
        if conn.phase == Phase::Dripping {
            return Err(Trouble::BadHandshake("101 to half a request"));
        }
        if let Some(session) = &conn.session {
            self.tally.tls.count(session);
        }
        let transport = Transport::new(handshake.framing(), tail, self.setup.read_buffer);
        conn.codec = Codec::Frames(transport);
        Ok((readiness, Some(now)))
    }

    /// Borrows a connection behind its handshake as a link, and counts what passes over it.
    fn visit(
        &mut self,
        key: usize,
        readiness: Readiness,
        now: Nanos,
        work: impl FnOnce(&mut Link<'_, C>) -> Result<(), Trouble>,
    ) -> Result<(), Trouble> {
        let conn = &mut self.conns[key];
        let Codec::Frames(transport) = &mut conn.codec else { return Ok(()) };
        let readiness = if conn.paused { unread(&conn.stream, readiness)? } else { readiness };
        let streams = (&mut conn.stream, conn.session.as_deref_mut());
        let mut link = Link {
            key,
            index: conn.index,
            client: &mut conn.client,
            tally: &mut self.tally,
            wire: Wire::new(streams, &mut self.buffers, readiness, self.clock, now),
            transport,
            lanes: &self.setup.lanes,
            phase: &mut conn.phase,
            since: &mut conn.since,
            connecting: &mut self.connecting,
            paused: &mut conn.paused,
            wait: &mut self.waits[key],
            timeout: nanos(self.setup.timeout),
        };
        let result = work(&mut link);
        let (bytes_in, bytes_out) = (link.wire.bytes_in, link.wire.bytes_out);
        self.tally.bytes_in += bytes_in;
        self.tally.bytes_out += bytes_out;
        if let Some((_, until)) = self.waits[key].pending {
            self.soonest = self.soonest.min(until);
        }
        result
    }

    /// Ends a connection and counts why.
    fn end(&mut self, key: usize, trouble: Trouble, driver: &mut impl Driver<Client = C>) {
        let Some(conn) = self.remove(key) else { return };
        let displaced = match conn.phase {
            Phase::Opening | Phase::Open => driver.displaced(conn.index, &trouble),
            _ => false,
        };
        let foreseen =
            displaced || conn.phase == Phase::Open && driver.foreseen(&conn.client, &trouble);
        if conn.phase == Phase::Open && !foreseen {
            driver.lost(&conn.client, &mut self.tally);
        }
        let now = self.clock.now();
        driver.ended(&conn.ended(Some(&trouble), now), &mut self.tally);
        let kinds = match conn.phase {
            Phase::Opening | Phase::Open if foreseen => &mut self.tally.foreseen,
            Phase::Opening => &mut self.tally.refused,
            Phase::Open => &mut self.tally.lost,
            Phase::Closing => &mut self.tally.unclosed,
            Phase::Dripping => return,
            // Nothing may come behind a Close (RFC 6455, section 5.5.1).
            Phase::Closed if matches!(trouble, Trouble::Protocol(_)) => {
                self.tally.closed -= 1;
                &mut self.tally.unclosed
            }
            Phase::Closed => {
                self.tally.left_open += u64::from(trouble == Trouble::Timeout(Waiting::End));
                return;
            }
        };
        count(kinds, trouble);
    }

    /// Takes a connection out of the table and out of the counts of what there is.
    fn remove(&mut self, key: usize) -> Option<Conn<C>> {
        let conn = self.conns.try_remove(key)?;
        self.waits[key].pending = None;
        match conn.phase {
            Phase::Opening => self.connecting -= 1,
            Phase::Dripping => {}
            phase => {
                self.tally.open -= 1;
                self.tally.closing -= u64::from(phase == Phase::Closing);
            }
        }
        Some(conn)
    }
}

impl<C> Conn<C> {
    fn ended<'a>(&'a self, trouble: Option<&'a Trouble>, at: Nanos) -> Ended<'a, C> {
        let Self { index, client, phase, since, .. } = self;
        let (index, phase, lived) = (*index, *phase, at.saturating_sub(*since));
        Ended { index, client, phase, trouble, at, lived }
    }
}

/// What there is to read of a connection that is not read: nothing, unless the peer is gone.
fn unread(stream: &Stream, readiness: Readiness) -> Result<Readiness, Trouble> {
    match readiness {
        Readiness::End => Err(stream.failure().map_or(Trouble::Eof, |e| Trouble::from_io(&e))),
        _ => Ok(Readiness::Nothing),
    }
}

/// Writes the request and reads the answer; returns the bytes behind it once it is right.
fn exchange(handshake: &mut Handshake, wire: &mut Wire<'_>) -> Result<Option<Vec<u8>>, Trouble> {
    if handshake.is_bare() {
        let connected = wire.is_connected().map_err(|error| Trouble::from_io(&error))?;
        return Ok((connected && wire.secure()?).then(|| wire.take_unread()));
    }
    if !wire.secure()? {
        return Ok(None);
    }
    while !handshake.unwritten().is_empty() {
        match wire.write(handshake.unwritten()) {
            Ok(count) => handshake.wrote(count),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(Trouble::from_io(&error)),
        }
    }
    patient(wire.flush())?;
    loop {
        match wire.fill() {
            Ok([]) => return Err(Trouble::Eof),
            Ok(bytes) => {
                if let Some(tail) = handshake.received(bytes)? {
                    return Ok(Some(tail));
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(Trouble::from_io(&error)),
        }
    }
}

/// What could not be written at once is written later.
fn patient(result: std::io::Result<()>) -> Result<(), Trouble> {
    match result {
        Err(error) if error.kind() != ErrorKind::WouldBlock => Err(Trouble::from_io(&error)),
        _ => Ok(()),
    }
}

/// The handshake is done: logs in where that is a message, or else counts the connection as open.
fn greet<D: Driver>(link: &mut Link<'_, D::Client>, driver: &mut D) -> Result<(), Trouble> {
    let (lanes, index) = (link.lanes, link.index);
    let dialect = lanes.lane(index).dialect;
    match lanes.login().and_then(|login| login.greeting(dialect, index)) {
        Some(greeting) => {
            link.await_for(Waiting::Login);
            link.send(greeting)
        }
        None => begin(link, driver),
    }
}

/// The connection is open.
fn begin<D: Driver>(link: &mut Link<'_, D::Client>, driver: &mut D) -> Result<(), Trouble> {
    let took = link.count_open();
    driver.opened(link, took)
}

/// Reads and deals with all that has come.
fn pump_messages<D: Driver>(link: &mut Link<'_, D::Client>, driver: &mut D) -> Result<(), Trouble> {
    while let Some(message) = link.read()? {
        match (message, *link.phase) {
            (Message::Close(frame), Phase::Closing) => closed(link, frame)?,
            (Message::Close(frame), _) => return Err(Trouble::Closed(code(frame))),
            (message, Phase::Open) => {
                link.tally.received += u64::from(message.is_text() || message.is_binary());
                driver.message(link, message)?;
            }
            (message, Phase::Opening) if login::is_welcome(&message)? => begin(link, driver)?,
            // What was on its way when we sent Close.
            _ => {}
        }
    }
    Ok(())
}

/// The peer has answered our Close.
fn closed<C>(link: &mut Link<'_, C>, frame: Option<CloseFrame>) -> Result<(), Trouble> {
    match code(frame) {
        1000 => {
            *link.phase = Phase::Closed;
            link.tally.closing -= 1;
            link.tally.closed += 1;
            if let Some(waited) = link.waited() {
                link.tally.close.record(waited);
            }
            link.await_for(Waiting::End);
            Ok(())
        }
        other => Err(Trouble::Closed(other)),
    }
}

/// The code of a Close; 1005 where it has none (RFC 6455, section 7.1.5).
fn code(frame: Option<CloseFrame>) -> u16 {
    frame.map_or(1005, |frame| frame.code.into())
}
