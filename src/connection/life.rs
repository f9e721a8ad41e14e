//! Phases of a connection, and what moves it from one to the next.

use std::sync::Arc;

use super::inbound::{Ended, Inbound};
use super::inflating::Inflate;
use super::outbound::SharedFrame;
use super::outbox::{Dropped, Outbox, Room};
use super::outbox_pool::OutboxPool;
use super::timers::{Due, Stamps, Tick, Timeouts};
use crate::limits::CONTROL_PAYLOAD_MAX;
use crate::protocol::{Decoder, Event, MessageKind, OpCode, Partial, SERVER_HEADER_MAX, Spare};
use crate::telemetry::counters::CloseCause;

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The request head is being read.
    Handshake,
    /// The request is complete and waits for `on_connect`; nothing is read.
    Admitting,
    /// Messages go to and fro.
    Open,
    /// Ending, while messages handed over before are not settled; nothing is read.
    Draining,
    /// Our Close is queued or sent. Read on for the peer's, unless it came.
    Closing,
    /// Our side of the TCP connection is shut; what still comes is thrown away, so that the
    /// kernel does not answer it with a reset that would overtake our last bytes.
    Lingering,
    /// An HTTP response is queued; then as `Lingering`.
    Responding,
    /// The socket can be closed.
    Dead,
}

/// Whether more is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// Yes.
    Continue,
    /// No: the connection is ending.
    Stop,
    /// Not in this turn: inflating has used up its budget, and what is left of the bytes is kept.
    Later,
}

/// Takes the messages of a connection.
pub trait Sink {
    /// A message of so many bytes is about to be handed over. `false`: it is not to be, and the
    /// connection is to be closed in order, for it is over a limit.
    #[inline]
    fn admits(&mut self, _bytes: usize) -> bool {
        true
    }
    /// A message that lay whole in the read buffer; text is valid UTF-8.
    fn message(&mut self, kind: MessageKind, payload: &[u8]);
    /// A message assembled from pieces. Returns the buffer if it was copied out of it.
    fn assembled(&mut self, kind: MessageKind, payload: Vec<u8>) -> Option<Vec<u8>>;
    /// A ping with this payload was answered.
    fn pinged(&mut self, payload: &[u8]);
    /// A pong with this payload came.
    fn ponged(&mut self, payload: &[u8]);
    /// A message came behind our Close and was thrown away.
    fn discarded(&mut self);
}

/// What a connection works with that is its loop's.
#[derive(Debug)]
pub struct Env<'a> {
    /// Now.
    pub now: Tick,
    /// Framing, both ways, and frame and message limits.
    pub decoder: Decoder,
    /// Outbound limit and policy.
    pub room: Room,
    /// Memory for partial frames.
    pub spare: &'a mut Spare,
    /// Memory for owed bytes.
    pub outboxes: &'a mut OutboxPool,
    /// What compressed messages are inflated with, where they may come.
    pub inflate: Option<Inflate<'a>>,
}

/// One client's state. The socket is the reactor's.
#[derive(Debug)]
pub struct Connection {
    pub(super) inbound: Inbound,
    pub(super) outbox: Option<Box<Outbox>>,
    pub(super) stamps: Stamps,
    /// Messages handed over and not settled.
    pub(super) in_flight: u32,
    pub(super) ended: Ended,
    pub(super) phase: Phase,
    pub(super) cause: Option<CloseCause>,
    paused: bool,
    /// A deadline may have come nearer since [`take_timers_changed`](Connection::take_timers_changed).
    timers_changed: bool,
}

impl Connection {
    /// A connection that was just accepted.
    #[must_use]
    pub fn new(now: Tick) -> Self {
        Self {
            inbound: Inbound::Nothing,
            outbox: None,
            stamps: Stamps { phase: now, read: now, ..Stamps::default() },
            in_flight: 0,
            ended: Ended::No,
            phase: Phase::Handshake,
            cause: None,
            paused: false,
            timers_changed: true,
        }
    }

    /// A connection that was just accepted and is open from its first byte on: it has no handshake.
    #[must_use]
    pub fn new_open(now: Tick) -> Self {
        Self { phase: Phase::Open, ..Self::new(now) }
    }

    /// Where it is in its life.
    #[inline]
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Why it ends or ended, once it does.
    #[inline]
    #[must_use]
    pub fn cause(&self) -> Option<CloseCause> {
        self.cause
    }

    /// Messages handed over and not settled.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// Whether there is anything to read for in this phase.
    #[inline]
    #[must_use]
    pub fn wants_read(&self) -> bool {
        match self.phase {
            Phase::Handshake | Phase::Open | Phase::Lingering | Phase::Responding => true,
            Phase::Closing => self.ended == Ended::No,
            Phase::Admitting | Phase::Draining | Phase::Dead => false,
        }
    }

    /// Bytes kept of what came in.
    #[inline]
    #[must_use]
    pub fn inbound_bytes(&self) -> usize {
        self.inbound.heap_bytes()
    }

    /// Bytes of memory of what is owed.
    #[inline]
    #[must_use]
    pub fn outbox_bytes(&self) -> usize {
        self.outbox.as_ref().map_or(0, |outbox| outbox.heap_bytes())
    }

    /// All that it holds and keeps others from letting go of.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.inbound_bytes() + self.outbox_bytes().max(self.owed_bytes())
    }

    /// Keeps what has come of the request head, and what came behind it.
    pub fn keep_head(&mut self, head: Vec<u8>) {
        self.inbound = Inbound::Head(Box::new(head));
    }

    /// What has come of the request head so far.
    #[must_use]
    pub fn take_head(&mut self) -> Option<Vec<u8>> {
        match std::mem::take(&mut self.inbound) {
            Inbound::Head(head) => Some(*head),
            other => {
                self.inbound = other;
                None
            }
        }
    }

    /// The request waits for its verdict. The handshake deadline goes on.
    pub fn admit(&mut self) {
        debug_assert_eq!(self.phase, Phase::Handshake);
        self.phase = Phase::Admitting;
    }

    /// The upgrade is answered with `response`: an open WebSocket from here on.
    pub fn open(&mut self, response: &[u8], env: &mut Env<'_>) {
        debug_assert!(matches!(self.phase, Phase::Handshake | Phase::Admitting));
        self.inbound = Inbound::Nothing;
        self.enter(Phase::Open, env.now);
        self.stamps.read = env.now;
        self.outbox(env).push_own(response, false);
    }

    /// Open from here on, without an answer.
    pub fn open_bare(&mut self, now: Tick) {
        debug_assert_eq!(self.phase, Phase::Handshake);
        self.enter(Phase::Open, now);
        self.stamps.read = now;
    }

    /// The request is answered with an HTTP `response`, and that is all.
    pub fn respond(&mut self, response: &[u8], env: &mut Env<'_>) {
        self.inbound = Inbound::Nothing;
        self.enter(Phase::Responding, env.now);
        self.outbox(env).push_own(response, false);
    }

    /// Bytes came in, in any phase that reads but `Handshake`.
    #[inline]
    pub fn receive(
        &mut self,
        mut input: &mut [u8],
        env: &mut Env<'_>,
        sink: &mut impl Sink,
    ) -> Received {
        match self.phase {
            Phase::Open => {}
            Phase::Closing if self.ended == Ended::No => {}
            _ => return if self.wants_read() { Received::Continue } else { Received::Stop },
        }
        self.stamps.read = env.now;
        if self.stamps.ping != 0 {
            self.stamps.ping = 0;
            // The next ping may be due before this one's answer was.
            self.timers_changed = true;
        }
        let mut state = match std::mem::take(&mut self.inbound) {
            Inbound::Partial(partial) => Some(partial),
            Inbound::Unread(unread) => return self.receive_unread(*unread, input, env, sink),
            _ => None,
        };
        let received = loop {
            // Matched where it stands: moving an event about costs more than decoding one.
            match env.decoder.next(&mut state, env.spare, &mut input) {
                Ok(Some(Event::Message { kind, payload })) => {
                    self.message(kind, payload, env, sink);
                }
                Ok(Some(Event::Assembled { kind, payload })) => {
                    self.assembled(kind, payload, env, sink);
                }
                Ok(Some(Event::Compressed { kind, payload })) => {
                    match self.compressed(kind, payload, input, env, sink) {
                        Received::Continue => {}
                        other => break other,
                    }
                }
                Ok(Some(Event::CompressedAssembled { kind, payload })) => {
                    let taken = self.compressed(kind, &payload, input, env, sink);
                    env.spare.recycle(payload);
                    match taken {
                        Received::Continue => {}
                        other => break other,
                    }
                }
                Ok(Some(Event::Ping(payload))) => self.pinged(payload.as_slice(), env, sink),
                Ok(Some(Event::Pong(payload))) => {
                    if self.phase == Phase::Open {
                        sink.ponged(payload.as_slice());
                    }
                }
                Ok(Some(Event::Close { code, .. })) => {
                    self.peer_closed(code, !input.is_empty(), env);
                    break Received::Stop;
                }
                Ok(None) => break Received::Continue,
                Err(violation) => {
                    self.violated(violation, env);
                    break Received::Stop;
                }
            }
            if !self.wants_read() {
                break Received::Stop;
            }
            if state.is_none() {
                // What was begun has ended; what begins behind it has its own time.
                self.stamps.message = 0;
            }
        };
        if received == Received::Continue {
            self.keep_partial(state, env.now);
        }
        received
    }

    #[inline]
    fn keep_partial(&mut self, state: Option<Box<Partial>>, now: Tick) {
        match state {
            Some(partial) => {
                self.inbound = Inbound::Partial(partial);
                if self.stamps.message == 0 {
                    self.stamps.message = now.max(1);
                    self.timers_changed = true;
                }
            }
            None => self.stamps.message = 0,
        }
    }

    #[inline]
    fn message(
        &mut self,
        kind: MessageKind,
        payload: &[u8],
        env: &mut Env<'_>,
        sink: &mut impl Sink,
    ) {
        if self.phase != Phase::Open {
            return sink.discarded();
        }
        if !sink.admits(payload.len()) {
            return self.close_in_order(CloseCause::RateLimit, env);
        }
        self.in_flight += 1;
        self.stamps.message = 0;
        sink.message(kind, payload);
    }

    pub(super) fn assembled(
        &mut self,
        kind: MessageKind,
        payload: Vec<u8>,
        env: &mut Env<'_>,
        sink: &mut impl Sink,
    ) {
        if self.phase != Phase::Open {
            env.spare.recycle(payload);
            return sink.discarded();
        }
        if !sink.admits(payload.len()) {
            env.spare.recycle(payload);
            return self.close_in_order(CloseCause::RateLimit, env);
        }
        self.in_flight += 1;
        self.stamps.message = 0;
        if let Some(buffer) = sink.assembled(kind, payload) {
            env.spare.recycle(buffer);
        }
    }

    fn pinged(&mut self, payload: &[u8], env: &mut Env<'_>, sink: &mut impl Sink) {
        if self.phase == Phase::Open {
            sink.pinged(payload);
            self.control(OpCode::Pong, payload, env);
        }
    }

    /// `n` messages handed over before are settled.
    #[inline]
    pub fn settled(&mut self, n: u32, env: &mut Env<'_>) {
        debug_assert!(n <= self.in_flight, "settled more than was handed over");
        self.in_flight = self.in_flight.saturating_sub(n);
        if self.phase == Phase::Draining && self.in_flight == 0 {
            self.queue_close(env);
        }
    }

    /// Queues whole frames that answer or push. `false`: too late, the connection is ending.
    #[inline]
    pub fn deliver(&mut self, frames: &[u8], env: &mut Env<'_>) -> bool {
        if !matches!(self.phase, Phase::Open | Phase::Draining) {
            return false;
        }
        let room = env.room;
        let outbox = self.outbox(env);
        outbox.push_own(frames, true);
        if outbox.enforce(room).is_err() {
            self.overflowed(env);
        }
        true
    }

    /// Queues a shared frame. `false`: too late, or too early.
    #[inline]
    pub fn deliver_shared(&mut self, frame: &Arc<SharedFrame>, env: &mut Env<'_>) -> bool {
        if !matches!(self.phase, Phase::Open | Phase::Draining) {
            return false;
        }
        let room = env.room;
        let outbox = self.outbox(env);
        if outbox.push_shared(frame, room).and_then(|()| outbox.enforce(room)).is_err() {
            self.overflowed(env);
        }
        true
    }

    /// The connection is paused (not read from: its worker is full, or it is over a limit) or no more.
    /// Deadlines that wait for the peer stand still meanwhile and begin anew at resume.
    pub fn set_paused(&mut self, paused: bool, now: Tick) {
        if self.paused && !paused {
            self.stamps.read = now;
            self.stamps.ping = 0;
            if self.stamps.message != 0 {
                self.stamps.message = now;
            }
            let logs_in = self.phase == Phase::Open && !self.stamps.logged_in;
            if self.phase == Phase::Handshake || logs_in {
                self.stamps.phase = now;
            }
        }
        self.paused = paused;
    }

    /// Whether what is read in this phase has to wait for the worker.
    #[inline]
    #[must_use]
    pub fn may_pause(&self) -> bool {
        matches!(self.phase, Phase::Handshake | Phase::Open)
    }

    /// Whether it is paused.
    #[inline]
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// It is logged in, where that is timed.
    pub fn set_logged_in(&mut self) {
        self.stamps.logged_in = true;
    }

    /// What is due at `now`.
    #[must_use]
    pub fn due(&self, timeouts: &Timeouts, seed: u64, now: Tick) -> Due {
        self.stamps.due(self.phase, self.paused, timeouts, seed, now)
    }

    /// Acts on what is due. `Handshake` is the reactor's, which answers in HTTP.
    pub fn act_on(&mut self, due: Due, env: &mut Env<'_>) {
        match due {
            Due::Nothing(_) | Due::Handshake => {}
            Due::Login => self.close_in_order(CloseCause::LoginTimeout, env),
            Due::Idle => self.close_in_order(CloseCause::IdleTimeout, env),
            Due::Message => self.close_in_order(CloseCause::MessageTimeout, env),
            Due::Ping => {
                self.stamps.ping = env.now.max(1);
                self.control(OpCode::Ping, b"", env);
            }
            Due::Pong => self.failed(CloseCause::PongTimeout),
            Due::Write => self.failed(CloseCause::WriteTimeout),
            // Handlers had their time; what they answer from now on comes too late.
            Due::Close if self.phase == Phase::Draining => self.queue_close(env),
            Due::Close => self.phase = Phase::Dead,
        }
    }

    /// Whether a deadline may have come nearer since this was last asked.
    #[inline]
    pub fn take_timers_changed(&mut self) -> bool {
        std::mem::take(&mut self.timers_changed)
    }

    /// Whether it is open and no deadline may have come nearer: nothing about it has to be seen to
    /// but what it may owe.
    #[inline]
    #[must_use]
    pub fn goes_on(&self) -> bool {
        self.phase == Phase::Open && !self.timers_changed
    }

    /// Whether bytes are owed.
    #[inline]
    #[must_use]
    pub fn owes(&self) -> bool {
        self.outbox.is_some()
    }

    /// Bytes owed, with the overhead of entries.
    #[inline]
    #[must_use]
    pub fn owed_bytes(&self) -> usize {
        self.outbox.as_ref().map_or(0, |outbox| outbox.owed_bytes())
    }

    /// The next bytes to write.
    #[inline]
    pub fn slices<'a>(&'a self, slices: &mut [&'a [u8]]) -> usize {
        self.outbox.as_ref().map_or(0, |outbox| outbox.slices(slices))
    }

    /// All that is owed, where it lies in one piece.
    #[inline]
    #[must_use]
    pub fn only_slice(&self) -> Option<&[u8]> {
        self.outbox.as_ref()?.only_slice()
    }

    /// What became of publishes since this was last asked, if anything has.
    #[inline]
    pub fn take_dropped(&mut self) -> Option<Dropped> {
        self.outbox.as_mut()?.take_dropped()
    }

    /// `n` of the next bytes were written.
    #[inline]
    pub fn wrote(&mut self, n: usize, env: &mut Env<'_>) {
        let Some(outbox) = &mut self.outbox else { return };
        outbox.wrote(n);
        if self.stamps.write != 0 {
            self.stamps.write = env.now.max(1);
        }
        if outbox.is_empty() {
            self.stamps.write = 0;
            if let Some(outbox) = self.outbox.take() {
                env.outboxes.give(outbox);
            }
        }
    }

    /// Bytes that count as written already have gone out; `all` of them, or not.
    pub fn moved(&mut self, now: Tick, all: bool) {
        if self.stamps.write != 0 {
            self.stamps.write = if all && self.outbox.is_none() { 0 } else { now.max(1) };
        }
    }

    /// Appends owed bytes to `out`, up to `most` of them.
    pub fn copy_owed(&self, out: &mut Vec<u8>, most: usize) {
        let mut slices = [&[][..]; 32];
        let filled = self.slices(&mut slices);
        for slice in &slices[..filled] {
            let n = slice.len().min(most - out.len());
            out.extend_from_slice(&slice[..n]);
        }
    }

    /// The socket takes no more for now.
    #[inline]
    pub fn write_blocked(&mut self, now: Tick) {
        if self.stamps.write == 0 {
            self.stamps.write = now.max(1);
            self.timers_changed = true;
        }
        if let Some(outbox) = &mut self.outbox {
            outbox.compact();
        }
    }

    /// Lets go of all memory, at the end.
    pub fn release(&mut self, env: &mut Env<'_>) {
        self.inbound = Inbound::Nothing;
        if let Some(outbox) = self.outbox.take() {
            env.outboxes.give(outbox);
        }
    }

    pub(super) fn enter(&mut self, phase: Phase, now: Tick) {
        self.phase = phase;
        self.stamps.phase = now;
        self.timers_changed = true;
    }

    /// Queues a ping or pong.
    fn control(&mut self, op: OpCode, payload: &[u8], env: &mut Env<'_>) {
        debug_assert!(env.decoder.framing.has_control_frames(), "nobody is pinged without pings");
        let mut header = [0; SERVER_HEADER_MAX];
        let at = env.decoder.framing.encode_header(&mut header, op, payload.len());
        let mut frame = [0; SERVER_HEADER_MAX + CONTROL_PAYLOAD_MAX];
        frame[..SERVER_HEADER_MAX].copy_from_slice(&header);
        frame[at..at + payload.len()].copy_from_slice(payload);
        let room = env.room;
        let outbox = self.outbox(env);
        outbox.push_own(&frame[..at + payload.len()], true);
        if outbox.enforce(room).is_err() {
            self.overflowed(env);
        }
    }

    #[inline]
    pub(super) fn outbox(&mut self, env: &mut Env<'_>) -> &mut Outbox {
        self.outbox.get_or_insert_with(|| env.outboxes.take())
    }
}
