//! `slow-handshake`: clients that send their request by drips and never finish it, and what ordinary
//! clients feel meanwhile.
//!
//! Each dripping client has a place in a round: once every interval it sends its next bytes, or, if
//! the server has ended its connection, begins another. Beside them probes come at a fixed pace:
//! each opens, counted from when it was due, sends a ping, and closes.
//!
//! Invariants:
//! - A dripping connection is known by its key and number together; numbers are not used twice.
//! - A server may end what drips as it likes, but must not answer it with 101. All that happens to
//!   probes counts as it does in every other command.

use tungstenite::Message;

use crate::{
    clock::{Nanos, due},
    link::{Driver, Ended, Link, Settled},
    ping::{self, Pings},
    table::{Phase, Table},
    tally::{Latency, Tally},
    trouble::{Kinds, Trouble, count, merge},
};

/// Drips, or probes, in one turn, before answers are read again. Few, as a probe that is due, or its
/// answer, waits for them meanwhile.
const BATCH: usize = 16;
/// How long the first drips of all clients take, at most.
const RAMP: Nanos = crate::clock::SECOND;

/// What all event loops do the same.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// Of payloads.
    pub(crate) seed: u64,
    /// From one drip of a client to its next.
    pub(crate) interval: Nanos,
    /// Bytes of a drip.
    pub(crate) chunk: usize,
    /// Probes a second, over all loops.
    pub(crate) probe_rate: u64,
    /// Event loops.
    pub(crate) threads: u32,
    /// The most probes of a loop at once.
    pub(crate) probes_max: u64,
}

/// What the command counts beside the tally.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    /// Dripping connections begun.
    pub(crate) opened: u64,
    /// Of these, still there at the end.
    pub(crate) still_open: u64,
    /// Probes begun.
    pub(crate) probes: u64,
    /// Probes that were due and not begun when the time was over.
    pub(crate) missed: u64,
    /// How the server ended dripping connections: by an answer, or by a kind of end.
    pub(crate) ends: Kinds,
    /// How long those were there.
    pub(crate) lived: Latency,
    /// Dripping clients for which there was no socket.
    pub(crate) unopened: Kinds,
    /// Answers that no half request should get.
    pub(crate) wrong: Kinds,
}

/// The command, on one event loop.
#[derive(Debug)]
pub(crate) struct SlowHandshake {
    settings: Settings,
    thread: u32,
    from: Nanos,
    until: Nanos,
    /// Clients by their place in the round: key and number of the connection.
    places: Vec<Option<(usize, u32)>>,
    /// The place that is next to drip, and the round.
    next_place: (usize, u64),
    /// Dripping connections that are there.
    dripping: u64,
    /// Numbers used on this loop.
    numbers: u32,
    /// Probes begun on this loop, and those not ended.
    next_probe: u64,
    probes: u64,
    /// Places below this were ended, at the end.
    settled: usize,
}

impl Counts {
    /// Adds what another thread counted.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.opened += other.opened;
        self.still_open += other.still_open;
        self.probes += other.probes;
        self.missed += other.missed;
        merge(&mut self.ends, &other.ends);
        self.lived.merge(&other.lived);
        merge(&mut self.unopened, &other.unopened);
        merge(&mut self.wrong, &other.wrong);
    }

    /// Things that went wrong.
    pub(crate) fn errors(&self) -> u64 {
        self.unopened.values().chain(self.wrong.values()).sum()
    }
}

impl SlowHandshake {
    /// For loop number `thread`, which has `share` of the dripping clients.
    pub(crate) fn new(settings: Settings, thread: u32, share: u32) -> Self {
        Self {
            settings,
            thread,
            from: 0,
            until: 0,
            places: vec![None; share as usize],
            next_place: (0, 0),
            dripping: 0,
            numbers: 0,
            next_probe: 0,
            probes: 0,
            settled: 0,
        }
    }

    /// A number that no connection had.
    fn number(&mut self) -> u32 {
        self.numbers += 1;
        self.numbers.wrapping_mul(self.settings.threads).wrapping_add(self.thread)
    }

    /// Lets every client drip whose time has come.
    fn drip(&mut self, table: &mut Table<Pings>, now: Nanos) -> Option<Nanos> {
        if self.places.is_empty() {
            return None;
        }
        for _ in 0..BATCH {
            let (place, round) = self.next_place;
            let stamp = self.drip_due(place, round);
            if stamp > now {
                return Some(stamp);
            }
            let last = place + 1 == self.places.len();
            self.next_place = if last { (0, round + 1) } else { (place + 1, round) };
            self.drip_once(table, place);
        }
        Some(0)
    }

    /// Clients drip one after the other, spread over the interval or what there is of a ramp.
    fn drip_due(&self, place: usize, round: u64) -> Nanos {
        let spread = self.settings.interval.min(RAMP);
        let offset = u128::from(spread) * place as u128 / self.places.len() as u128;
        let round = self.settings.interval.saturating_mul(round);
        self.from.saturating_add(round).saturating_add(offset as u64)
    }

    fn drip_once(&mut self, table: &mut Table<Pings>, place: usize) {
        let chunk = self.settings.chunk;
        if let Some((key, number)) = self.places[place]
            && table.drip(key, number, chunk, self)
        {
            return;
        }
        let number = self.number();
        self.places[place] = match table.begin_dripping(number) {
            Ok(key) => {
                table.tally.slow_handshake.opened += 1;
                self.dripping += 1;
                table.drip(key, number, chunk, self);
                Some((key, number))
            }
            Err(trouble) => {
                count(&mut table.tally.slow_handshake.unopened, trouble);
                None
            }
        };
    }

    fn probe_due(&self) -> Nanos {
        let threads = u64::from(self.settings.threads);
        let number = self.next_probe * threads + u64::from(self.thread);
        self.from.saturating_add(due(number, self.settings.probe_rate))
    }

    /// Begins the probes that are due.
    fn probe(&mut self, table: &mut Table<Pings>, now: Nanos) -> Option<Nanos> {
        for _ in 0..BATCH {
            let stamp = self.probe_due();
            if stamp >= self.until || self.probes >= self.settings.probes_max {
                return None;
            }
            if stamp > now {
                return Some(stamp);
            }
            self.next_probe += 1;
            self.probes += 1;
            table.tally.slow_handshake.probes += 1;
            table.tally.lag.record(now.saturating_sub(stamp));
            let number = self.number();
            table.connect(number, stamp, self);
        }
        Some(0)
    }

    fn pong(&self, link: &mut Link<'_, Pings>, payload: &[u8]) -> Result<(), Trouble> {
        let seed = self.settings.seed;
        let mut answered = false;
        ping::take(
            link,
            |pings| pings,
            seed,
            payload,
            |link, stamp| {
                answered = true;
                link.tally.verified += 1;
                link.tally.ping.record(link.now().saturating_sub(stamp));
            },
        )?;
        if answered { link.begin_close() } else { Ok(()) }
    }

    /// Sorts the end of a connection that dripped.
    fn dripper_ended(&mut self, ended: &Ended<'_, Pings>, counts: &mut Counts) {
        self.dripping -= 1;
        match ended.trouble {
            None => counts.still_open += 1,
            Some(trouble @ Trouble::BadHandshake(_)) => count(&mut counts.wrong, trouble.clone()),
            Some(trouble) => {
                count(&mut counts.ends, trouble.clone());
                counts.lived.record(ended.lived);
            }
        }
    }
}

impl Driver for SlowHandshake {
    type Client = Pings;

    fn begin(&mut self, _: &mut Table<Pings>, from: Nanos, until: Nanos) {
        (self.from, self.until) = (from, until);
    }

    fn opened(&mut self, link: &mut Link<'_, Pings>, _: Nanos) -> Result<(), Trouble> {
        let now = link.now();
        ping::ask(link, |pings| pings, self.settings.seed, now)
    }

    fn turn(&mut self, table: &mut Table<Pings>, now: Nanos) -> Option<Nanos> {
        let next_probe = self.probe(table, now);
        let next_drip = self.drip(table, now);
        next_probe.into_iter().chain(next_drip).min()
    }

    /// All probes that were due before the end are begun, however late, unless there are too many.
    fn goes_on(&self) -> bool {
        self.probes < self.settings.probes_max && self.probe_due() < self.until
    }

    fn reopens(&self) -> bool {
        true
    }

    fn settle(&mut self, table: &mut Table<Pings>) -> Settled {
        let to = (self.settled + BATCH).min(self.places.len());
        for place in self.settled..to {
            if let Some((key, number)) = self.places[place] {
                table.stop_dripping(key, number, self);
            }
        }
        self.settled = to;
        if to < self.places.len() {
            return Settled::More;
        }
        if self.dripping + self.probes > 0 {
            return Settled::Waiting;
        }
        let end = self.until.min(table.now());
        while self.probe_due() < end {
            self.next_probe += 1;
            table.tally.slow_handshake.missed += 1;
        }
        Settled::Yes
    }

    fn message(&mut self, link: &mut Link<'_, Pings>, message: Message) -> Result<(), Trouble> {
        match message {
            Message::Pong(payload) => self.pong(link, &payload),
            _ => Ok(()),
        }
    }

    fn lost(&mut self, _: &Pings, _: &mut Tally) {}

    fn ended(&mut self, ended: &Ended<'_, Pings>, tally: &mut Tally) {
        match ended.phase {
            Phase::Dripping => self.dripper_ended(ended, &mut tally.slow_handshake),
            _ => self.probes -= 1,
        }
    }
}
