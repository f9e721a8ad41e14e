//! The gateway's side: one connection, driven as the event loop drives it, and watched.

use std::collections::VecDeque;
use std::sync::Arc;

use tidegate::connection::{
    Connection, Due, Env, Outbound, OutboxPool, OverflowPolicy, Phase, PublishTerms, Room,
    SharedFrame, Sink, Tick, Timeouts,
};
use tidegate::protocol::{Decoder, Framing, MessageKind, OpCode, Spare};
use tidegate::telemetry::counters::CloseCause;
use tidegate::telemetry::memory::MemoryGauge;

use super::Setting;
use super::peer::{Peer, Stop, payload_of};
use super::rng::Rng;

/// A control frame, with what its entry counts for.
const CONTROL_BYTES: usize = 5 + 125 + 64;
const UPGRADE: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\n\r\n";

/// What reached the handlers.
#[derive(Debug, Default)]
struct Handlers {
    messages: Vec<Vec<u8>>,
    pings: usize,
    discarded: usize,
}

impl Sink for Handlers {
    fn message(&mut self, _: MessageKind, payload: &[u8]) {
        self.messages.push(payload.to_vec());
    }

    fn assembled(&mut self, _: MessageKind, payload: Vec<u8>) -> Option<Vec<u8>> {
        self.messages.push(payload.clone());
        Some(payload)
    }

    fn ponged(&mut self, _: &[u8]) {}
    fn pinged(&mut self, _: &[u8]) {
        self.pings += 1;
    }

    fn discarded(&mut self) {
        self.discarded += 1;
    }
}

/// When things happened, as seen from outside.
#[derive(Debug, Default)]
struct Watch {
    /// The last byte came, or a pause ended.
    read: Tick,
    ping: Option<Tick>,
    message: Option<Tick>,
    /// The socket took nothing more, and nothing was written since.
    write: Option<Tick>,
    phase: Tick,
    left_open: Option<Tick>,
    /// Begun reads, by offset in the stream: when each message or frame began to come.
    begun: Option<(usize, Tick)>,
}

pub(crate) struct Host {
    pub(crate) conn: Connection,
    pub(crate) peer: Peer,
    handlers: Handlers,
    watch: Watch,
    timeouts: Timeouts,
    decoder: Decoder,
    room: Room,
    spare: Spare,
    outboxes: OutboxPool,
    memory: Arc<MemoryGauge>,
    seed: u64,
    now: Tick,
    /// When the connection is looked at next, as the loop keeps it.
    armed: Tick,
    blocked: bool,
    shut: bool,
    /// Bytes the socket takes before it is full.
    window: usize,
    upgrade_left: usize,
    serial: u32,
    /// Serials that the connection took, replies and pushes; and publishes.
    own: VecDeque<u32>,
    shared: VecDeque<u32>,
    dropped: usize,
    /// It closes without waiting for handlers: told to, or owed too much.
    hasty: bool,
    phase: Phase,
    /// Deadlines that fired.
    pub(crate) fired: Vec<Due>,
}

macro_rules! env {
    ($host:expr) => {
        &mut Env {
            now: $host.now,
            decoder: $host.decoder,
            room: $host.room,
            spare: &mut $host.spare,
            outboxes: &mut $host.outboxes,
            inflate: None,
        }
    };
}

impl Host {
    pub(crate) fn new(setting: &Setting, seed: u64) -> Self {
        let now = 10;
        let mut host = Self {
            conn: Connection::new(now),
            peer: Peer::new(setting.framing),
            handlers: Handlers::default(),
            watch: Watch { read: now, phase: now, ..Watch::default() },
            timeouts: setting.timeouts,
            decoder: Decoder {
                framing: setting.framing,
                max_frame_bytes: 4096,
                max_message_bytes: 4096,
                max_fragments: 100,
                deflate: false,
            },
            room: Room { limit_bytes: setting.limit_bytes, policy: setting.policy },
            spare: Spare::new(2, 2, 1024),
            outboxes: OutboxPool::new(2, 8192),
            memory: MemoryGauge::new(u64::MAX),
            seed,
            now,
            armed: 0,
            blocked: false,
            shut: false,
            window: 10_000,
            upgrade_left: UPGRADE.len(),
            serial: 0,
            own: VecDeque::new(),
            shared: VecDeque::new(),
            dropped: 0,
            hasty: false,
            phase: Phase::Open,
            fired: Vec::new(),
        };
        match setting.framing {
            Framing::WebSocket => host.conn.open(UPGRADE, env!(host)),
            Framing::Tcp | Framing::U32Text | Framing::U32Binary => {
                host.conn = Connection::new_open(now);
                host.upgrade_left = 0;
            }
        }
        host.rearm();
        host
    }

    /// For a failure's message.
    pub(crate) fn summary(&self) -> String {
        format!(
            "now {}, {:?}, {:?}, {} in flight, {:?}\n{:?}",
            self.now,
            self.conn.phase(),
            self.conn.cause(),
            self.conn.in_flight(),
            self.peer.stop,
            self.watch,
        )
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.conn.phase() == Phase::Dead
    }

    pub(crate) fn client_takes(&mut self, rng: &mut Rng) {
        self.window = self.window.max(rng.pick(&[0, 1, 100, 10_000]));
        self.blocked &= self.window == 0;
    }

    /// One read of the socket, of all there is or of as many bytes as luck has it.
    pub(crate) fn read(&mut self, rng: &mut Rng, whole: bool) -> Result<(), String> {
        if self.conn.is_paused() || !self.conn.wants_read() {
            return Ok(());
        }
        if self.peer.wire.is_empty() {
            if self.peer.eof {
                self.conn.receive_eof(env!(self));
            }
            return self.changed();
        }
        let most = if whole { usize::MAX } else { rng.pick(&[1, 3, 20, 1000]) };
        let n = most.min(self.peer.wire.len());
        let begun_at = self.peer.read();
        let mut bytes: Vec<u8> = self.peer.wire.drain(..n).collect();
        let phase = self.conn.phase();
        let before = self.handlers.messages.len();
        let _ = self.conn.receive(&mut bytes, env!(self), &mut self.handlers);
        if matches!(phase, Phase::Open | Phase::Closing) {
            (self.watch.read, self.watch.ping) = (self.now, None);
        }
        let got = self.handlers.messages.len();
        if got - before > 0 && phase != Phase::Open {
            return Err("a message reached the handlers behind our Close".to_owned());
        }
        self.note_begun(begun_at);
        self.changed()
    }

    fn note_begun(&mut self, before: usize) {
        let read = self.peer.read();
        self.watch.begun = self.peer.inside(read).map(|start| match self.watch.begun {
            Some((at, since)) if at == start && start < before => (at, since),
            _ => (start, self.now),
        });
        self.watch.message = self.watch.begun.map(|(_, since)| since);
    }

    /// Handlers return, late or soon, some with an answer.
    pub(crate) fn settle(&mut self, rng: &mut Rng) -> Result<(), String> {
        let n = rng.below(self.conn.in_flight() as usize + 1) as u32;
        for _ in 0..n {
            if rng.one_in(2) {
                self.push(rng)?;
            }
        }
        self.conn.settled(n, env!(self));
        self.changed()
    }

    /// An answer, or a push to this connection alone.
    pub(crate) fn push(&mut self, rng: &mut Rng) -> Result<(), String> {
        let frame = self.frame(rng.pick(&[0, 10, 200, 3000]));
        let open = matches!(self.conn.phase(), Phase::Open | Phase::Draining);
        let delivered = self.conn.deliver(&frame, env!(self));
        self.note_overflow();
        if delivered {
            self.own.push_back(self.serial);
        } else if open {
            return Err("an answer was refused in time".to_owned());
        }
        self.changed()
    }

    pub(crate) fn publish(&mut self, rng: &mut Rng) -> Result<(), String> {
        let frame = self.frame(rng.pick(&[0, 10, 200, 600, 3000]));
        // Some with budgets, which are held to beside the limit.
        let budget_bytes = rng.one_in(3).then(|| rng.pick(&[100, 2000]));
        let outbound = Outbound { policy: None, budget_bytes };
        let terms = PublishTerms { account: rng.next() % 2, key: rng.next() % 3, outbound };
        let frame = Arc::new(SharedFrame::new(frame.into(), terms, &self.memory));
        if self.conn.deliver_shared(&frame, env!(self)) {
            self.shared.push_back(self.serial);
        }
        self.note_overflow();
        self.changed()
    }

    /// What is delivered closes the connection only by being too much.
    fn note_overflow(&mut self) {
        self.hasty |= self.phase != Phase::Closing && self.conn.phase() == Phase::Closing;
    }

    fn frame(&mut self, more: usize) -> Vec<u8> {
        self.serial += 1;
        let mut frame = Vec::new();
        let payload = payload_of(self.serial, more);
        self.decoder.framing.put_frame(&mut frame, OpCode::Binary, &payload);
        frame
    }

    /// Writes what the socket takes.
    pub(crate) fn flush(&mut self, rng: &mut Rng) -> Result<(), String> {
        if self.conn.is_to_be_shut() {
            self.shut |= self.conn.flushed(self.now);
            return self.changed();
        }
        if self.blocked || !self.conn.owes() {
            return Ok(());
        }
        while self.conn.owes() {
            let mut slices = [&[][..]; 3];
            let filled = self.conn.slices(&mut slices);
            let bytes = slices[..filled].concat();
            let n = bytes.len().min(self.window).min(1 + rng.below(5000));
            self.take(&bytes[..n])?;
            self.window -= n;
            if n > 0 {
                self.conn.wrote(n, env!(self));
                self.watch.write = self.watch.write.map(|_| self.now);
            }
            if n < bytes.len() {
                self.blocked = true;
                self.conn.write_blocked(self.now);
                self.watch.write.get_or_insert(self.now);
                return self.changed();
            }
        }
        self.watch.write = None;
        self.shut |= self.conn.flushed(self.now);
        self.changed()
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), String> {
        if self.shut && !bytes.is_empty() {
            return Err("bytes behind the end of our side".to_owned());
        }
        let upgrade = self.upgrade_left.min(bytes.len());
        let at = UPGRADE.len() - self.upgrade_left;
        if bytes[..upgrade] != UPGRADE[at..at + upgrade] {
            return Err("the upgrade's answer is broken".to_owned());
        }
        self.upgrade_left -= upgrade;
        self.peer.receive(&bytes[upgrade..])
    }

    pub(crate) fn toggle_pause(&mut self, rng: &mut Rng) -> Result<(), String> {
        if self.conn.is_paused() {
            self.conn.set_paused(false, self.now);
            (self.watch.read, self.watch.ping) = (self.now, None);
            self.watch.message = self.watch.message.map(|_| self.now);
            self.watch.begun = self.watch.begun.map(|(at, _)| (at, self.now));
            self.rearm();
        } else if rng.one_in(4) && matches!(self.conn.phase(), Phase::Open | Phase::Closing) {
            self.conn.set_paused(true, self.now);
        }
        Ok(())
    }

    /// The gateway ends the connection.
    pub(crate) fn end(&mut self, rng: &mut Rng) -> Result<(), String> {
        match rng.below(4) {
            0 => self.conn.close_in_order(CloseCause::Shutdown, env!(self)),
            1 => {
                self.hasty = true;
                let _ = self.conn.close(4000, "enough", CloseCause::Handler, env!(self));
            }
            2 => {
                self.hasty = true;
                self.conn.shed(env!(self));
            }
            _ => self.conn.failed(CloseCause::SocketError),
        }
        self.changed()
    }

    /// Time passes, and the loop sweeps.
    pub(crate) fn advance(&mut self, ticks: Tick) -> Result<(), String> {
        self.now += ticks;
        if self.now < self.armed {
            return self.check_nothing_missed();
        }
        let due = self.conn.due(&self.timeouts, self.seed, self.now);
        self.check_due(due)?;
        if !matches!(due, Due::Nothing(_)) {
            self.fired.push(due);
        }
        self.conn.act_on(due, env!(self));
        if due == Due::Ping {
            self.watch.ping = Some(self.now);
        }
        self.rearm();
        self.changed()
    }

    fn rearm(&mut self) {
        self.armed = match self.conn.due(&self.timeouts, self.seed, self.now) {
            Due::Nothing(next) => next,
            _ => self.now,
        };
    }

    /// What the loop does after every change; and what is noted of it.
    fn changed(&mut self) -> Result<(), String> {
        let dropped = self.conn.take_dropped().unwrap_or_default();
        self.dropped += (dropped.oldest + dropped.replaced) as usize;
        let (before, now) = (self.phase, self.conn.phase());
        self.phase = now;
        if before != now {
            self.watch.phase = self.now;
            self.check_turn(before, now)?;
        }
        if self.conn.goes_on() {
            return self.check_armed();
        }
        if self.conn.take_timers_changed() {
            self.rearm();
        }
        Ok(())
    }

    /// The loop looks no further at a connection that goes on: nothing may be due before it will.
    fn check_armed(&self) -> Result<(), String> {
        let next = match self.conn.due(&self.timeouts, self.seed, self.now) {
            Due::Nothing(next) => next,
            _ => self.now,
        };
        match next < self.armed {
            true => Err(format!("due at {next}, to be looked at only at {}", self.armed)),
            false => Ok(()),
        }
    }

    fn check_turn(&mut self, before: Phase, now: Phase) -> Result<(), String> {
        if before == Phase::Open {
            self.watch.left_open = Some(self.now);
        }
        self.hasty |= self.conn.cause() == Some(CloseCause::OutboundLimit);
        if now == Phase::Closing && self.conn.in_flight() > 0 && !self.hasty {
            let since = self.watch.left_open.unwrap_or(self.now);
            if self.now < since + self.timeouts.close {
                return Err(format!("closing with {} in flight", self.conn.in_flight()));
            }
        }
        Ok(())
    }
}

#[path = "checks.rs"]
mod checks;
