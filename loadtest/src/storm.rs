//! `storm`: all vanish at once and come back at once, but for a few that stay and feel it.
//!
//! A storm begins at the same moment on all event loops: the start of the first follows from the
//! start of the work, that of the next from when the last loop said that all of its connections are
//! back ([`Course`]). Those who stay are pinged at a fixed pace throughout, and each ping counts
//! from when it was due, in the stretch in which it was due.
//!
//! Invariants:
//! - Of each number there is at most one connection; it comes back only when the one before is gone.
//! - Every connection that is to come back is counted once a storm: as back, or as failed.

use std::{cmp::Reverse, collections::BinaryHeap, sync::Arc};

use tungstenite::Message;

use crate::{
    clock::{Nanos, due},
    link::{Driver, Ended, Link, Settled},
    payload::token,
    ping::{self, Pings},
    storm_counts::{Blow, Course},
    table::{Abort, Phase, Table},
    tally::Tally,
    trouble::{Trouble, Waiting},
};

/// Connections dropped, begun or pinged in one turn, before answers are read again. Few, as a ping
/// that is due, or its answer, waits for them meanwhile.
const BATCH: usize = 16;
/// Set apart from the numbers that payloads are made of.
const JITTER: u64 = 0x7374_6f72_6d00;

/// How connections vanish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Vanish {
    /// Dropped, without a Close.
    Abort(Abort),
    /// By the closing handshake; each comes back when its stream has ended.
    Close,
}

/// What all event loops do the same.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// Of payloads and jitter.
    pub(crate) seed: u64,
    /// Connections with numbers below this vanish.
    pub(crate) vanishing: u32,
    /// Connections with numbers from this on stay and are pinged.
    pub(crate) stayers_from: u32,
    /// So many of those.
    pub(crate) stayers: u32,
    /// Storms.
    pub(crate) times: u32,
    /// Before, between and after storms.
    pub(crate) pause: Nanos,
    /// Pings a second to those who stay, in all.
    pub(crate) rate: u64,
    /// How the others vanish.
    pub(crate) vanish: Vanish,
    /// Each comes back after a time below this, which the seed chooses.
    pub(crate) backoff: Nanos,
    /// Event loops.
    pub(crate) threads: u32,
    /// The most handshakes under way, on all loops.
    pub(crate) connecting_max: u32,
}

/// The command, on one event loop.
#[derive(Debug)]
pub(crate) struct Storm {
    settings: Settings,
    course: Arc<Course>,
    thread: u32,
    from: Nanos,
    /// Storms begun.
    round: u32,
    stage: Stage,
    /// Where the vanishing connections of this loop stand, by number; `None`: there is none.
    places: Vec<Option<usize>>,
    /// Those who come back, and when: the place, and the time it may.
    returning: BinaryHeap<Reverse<(Nanos, usize)>>,
    /// Connections of this storm that are neither back nor failed.
    missing: usize,
    last_back: Nanos,
    /// Connections whose first ping is not answered.
    verifying: usize,
    /// Pings to those who stay that are not answered.
    awaited: usize,
    /// Where those who stay stand, with their numbers among all who do.
    stayers: Vec<(u32, Option<usize>)>,
    /// The next to be pinged, and how often all were.
    next_stayer: (usize, u64),
    finished: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Until the next storm, or the end.
    Calm,
    /// Places below this have vanished.
    Vanishing(usize),
    /// All have vanished; some are not back.
    Returning,
}

/// One connection.
#[derive(Debug, Default)]
pub(crate) struct Client {
    pings: Pings,
    verified: bool,
    /// The storm that it came back from; 0: it was opened in the ramp.
    round: u32,
    leaving: bool,
}

impl Storm {
    /// For loop number `thread`.
    pub(crate) fn new(settings: Settings, course: Arc<Course>, thread: u32) -> Self {
        let own = |index: &u32| index % settings.threads == thread;
        let stayers = (0..settings.stayers).filter(|at| own(&(settings.stayers_from + at)));
        Self {
            settings,
            course,
            thread,
            from: 0,
            round: 0,
            stage: Stage::Calm,
            places: (0..settings.vanishing).filter(own).map(|_| None).collect(),
            returning: BinaryHeap::new(),
            missing: 0,
            last_back: 0,
            verifying: 0,
            awaited: 0,
            stayers: stayers.map(|at| (at, None)).collect(),
            next_stayer: (0, 0),
            finished: false,
        }
    }

    /// The place of connection `index` among those who vanish here.
    fn place(&self, index: u32) -> Option<usize> {
        (index < self.settings.vanishing).then_some((index / self.settings.threads) as usize)
    }

    fn index(&self, place: usize) -> u32 {
        place as u32 * self.settings.threads + self.thread
    }

    /// Notes where a connection stands now.
    fn settle_down(&mut self, index: u32, key: Option<usize>) {
        if let Some(place) = self.place(index) {
            self.places[place] = key;
        } else if let Some(at) = index.checked_sub(self.settings.stayers_from)
            && let Ok(own) = self.stayers.binary_search_by_key(&at, |stayer| stayer.0)
        {
            self.stayers[own].1 = key;
        }
    }

    /// Pings those who stay, as far as due.
    fn keep_pace(&mut self, table: &mut Table<Client>, now: Nanos) -> Option<Nanos> {
        if self.stayers.is_empty() {
            return None;
        }
        for _ in 0..BATCH {
            let (own, times) = self.next_stayer;
            let (at, key) = self.stayers[own];
            let number = times * u64::from(self.settings.stayers) + u64::from(at);
            let stamp = self.from.saturating_add(due(number, self.settings.rate));
            if stamp > now {
                return Some(stamp);
            }
            let last = own + 1 == self.stayers.len();
            self.next_stayer = if last { (0, times + 1) } else { (own + 1, times) };
            let sent = key.is_some_and(|key| table.with(self, key, |s, link| s.probe(link, stamp)));
            table.tally.unsent += u64::from(!sent);
        }
        Some(0)
    }

    fn probe(&mut self, link: &mut Link<'_, Client>, stamp: Nanos) -> Result<(), Trouble> {
        link.tally.lag.record(link.now().saturating_sub(stamp));
        link.tally.storm.pings += 1;
        self.awaited += 1;
        ping::ask(link, |client| &mut client.pings, self.settings.seed, stamp)
    }

    /// Goes on with the storm; returns when there is more to do.
    fn blow(&mut self, table: &mut Table<Client>, now: Nanos) -> Option<Nanos> {
        match self.stage {
            Stage::Calm => self.calm(table, now),
            Stage::Vanishing(from) => self.vanish(table, from, now),
            Stage::Returning => self.come_back(table, now),
        }
    }

    fn calm(&mut self, table: &mut Table<Client>, now: Nanos) -> Option<Nanos> {
        // It is not known while others are still in the storm before; then the next look tells.
        let start = self.course.start(self.round)?;
        if now < start {
            return Some(start);
        }
        if self.round == self.settings.times {
            self.finished = true;
            table.tally.storm.worked = now - self.from;
            return Some(now);
        }
        self.round += 1;
        self.missing = self.places.len();
        self.last_back = start;
        self.stage = Stage::Vanishing(0);
        Some(0)
    }

    fn vanish(&mut self, table: &mut Table<Client>, from: usize, now: Nanos) -> Option<Nanos> {
        let end = (from + BATCH).min(self.places.len());
        let mut to = from;
        while to < end && !self.too_many_closing(table) {
            let place = to;
            to += 1;
            match (self.places[place], self.settings.vanish) {
                (None, _) => self.call_back(place, now),
                (Some(key), Vanish::Abort(how)) => table.abort(key, how, self),
                (Some(key), Vanish::Close) => {
                    if let Some(client) = table.client(key) {
                        client.leaving = true;
                    }
                    table.close(key, self);
                }
            }
        }
        let all = to == self.places.len();
        self.stage = if all { Stage::Returning } else { Stage::Vanishing(to) };
        self.storm(&mut table.tally).vanished += (to - from) as u64;
        (to == end).then_some(0)
    }

    /// Whether the answers to Closes are to be awaited before there are more: each has its time to
    /// be answered in. A server that has let one run out is waited for no longer.
    fn too_many_closing(&self, table: &Table<Client>) -> bool {
        let at_once = self.settings.connecting_max.div_ceil(self.settings.threads);
        self.settings.vanish == Vanish::Close
            && table.tally.closing >= u64::from(at_once)
            && !table.tally.unclosed.contains_key(&Trouble::Timeout(Waiting::Close))
    }

    /// Lets a place be taken again, when its time has come.
    fn call_back(&mut self, place: usize, now: Nanos) {
        let jitter = match self.settings.backoff {
            0 => 0,
            below => token(self.settings.seed ^ JITTER, self.index(place), self.round) % below,
        };
        self.returning.push(Reverse((now + jitter, place)));
    }

    fn come_back(&mut self, table: &mut Table<Client>, now: Nanos) -> Option<Nanos> {
        // What loops do not use that have all of theirs back is for the others.
        let at_once = self.settings.connecting_max.div_ceil(self.course.out(self.round - 1));
        for _ in 0..BATCH {
            if self.missing == 0 {
                return self.all_back(table);
            }
            let Reverse((at, place)) = self.returning.peek().copied()?;
            if at > now {
                return Some(at);
            }
            if table.connecting() >= at_once {
                return None;
            }
            self.returning.pop();
            let since = if self.settings.backoff == 0 { table.now() } else { at };
            table.connect(self.index(place), since, self);
        }
        Some(0)
    }

    fn all_back(&mut self, table: &mut Table<Client>) -> Option<Nanos> {
        let round = self.round - 1;
        let start = self.course.start(round).unwrap_or(self.last_back);
        self.storm(&mut table.tally).back_after = self.last_back - start;
        self.course.back(round, self.last_back);
        self.stage = Stage::Calm;
        Some(0)
    }

    /// What is counted of the storm that was begun last.
    fn storm<'a>(&self, tally: &'a mut Tally) -> &'a mut Blow {
        tally.storm.blow(self.round as usize - 1)
    }

    fn pong(&mut self, link: &mut Link<'_, Client>, payload: &[u8]) -> Result<(), Trouble> {
        let seed = self.settings.seed;
        ping::take(
            link,
            |client| &mut client.pings,
            seed,
            payload,
            |link, stamp| {
                let now = link.now();
                if !std::mem::replace(&mut link.client.verified, true) {
                    return self.verified(link, now, stamp);
                }
                let took = now.saturating_sub(stamp);
                self.awaited -= 1;
                link.tally.storm.stayed.record(took);
                match self.course.stretch(stamp) {
                    (round, true) => link.tally.storm.blow(round).during.record(took),
                    (round, false) => link.tally.storm.calm(round).record(took),
                }
            },
        )
    }

    fn verified(&mut self, link: &mut Link<'_, Client>, now: Nanos, stamp: Nanos) {
        self.verifying -= 1;
        link.tally.verified += 1;
        link.tally.ping.record(now.saturating_sub(stamp));
        if self.is_return(link.client) {
            self.storm(link.tally).back += 1;
            self.last_back = self.last_back.max(now);
            self.missing -= 1;
        }
    }

    /// Whether a connection was begun in this storm. It is not over before all such are verified.
    fn is_return(&self, client: &Client) -> bool {
        self.stage == Stage::Returning && client.round == self.round
    }
}

impl Driver for Storm {
    type Client = Client;

    fn begin(&mut self, _: &mut Table<Client>, from: Nanos, _: Nanos) {
        self.from = from;
        self.course.begin(from);
    }

    fn opened(&mut self, link: &mut Link<'_, Client>, took: Nanos) -> Result<(), Trouble> {
        self.settle_down(link.index, Some(link.key));
        self.verifying += 1;
        // Nothing else is begun behind the ramp.
        if self.stage == Stage::Returning {
            link.client.round = self.round;
            self.storm(link.tally).handshake.record(took);
        }
        let now = link.now();
        ping::ask(link, |client| &mut client.pings, self.settings.seed, now)
    }

    fn turn(&mut self, table: &mut Table<Client>, now: Nanos) -> Option<Nanos> {
        let next_ping = self.keep_pace(table, now);
        let next_blow = self.blow(table, now);
        next_ping.into_iter().chain(next_blow).min()
    }

    fn done(&self) -> bool {
        self.finished
    }

    fn reopens(&self) -> bool {
        true
    }

    fn settle(&mut self, table: &mut Table<Client>) -> Settled {
        table.tally.storm.worked = table.tally.storm.worked.max(table.now() - self.from);
        match self.verifying + self.awaited + table.connecting() as usize {
            0 => Settled::Yes,
            _ => Settled::Waiting,
        }
    }

    fn message(&mut self, link: &mut Link<'_, Client>, message: Message) -> Result<(), Trouble> {
        match message {
            Message::Pong(payload) => self.pong(link, &payload),
            _ => Ok(()),
        }
    }

    fn lost(&mut self, _: &Client, _: &mut Tally) {}

    fn ended(&mut self, ended: &Ended<'_, Client>, tally: &mut Tally) {
        let Ended { index, client, phase, trouble, at, .. } = *ended;
        self.settle_down(index, None);
        let unverified = phase != Phase::Opening && !client.verified;
        self.verifying -= usize::from(unverified);
        let unanswered = client.pings.len() - usize::from(unverified);
        self.awaited -= unanswered;
        tally.unanswered += unanswered as u64;
        let Some(place) = self.place(index).filter(|_| self.stage != Stage::Calm) else { return };
        if trouble.is_none() || client.leaving {
            self.call_back(place, at);
        } else if phase == Phase::Opening || unverified && self.is_return(client) {
            self.storm(tally).failed += 1;
            self.missing -= 1;
        }
    }
}
