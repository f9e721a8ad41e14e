//! `storm`: all vanish at once and come back at once, but for a few that stay and feel it.
//!
//! A storm begins at the same moment on all event loops: the start of the first follows from the
//! start of the work, that of the next from when the last loop said that all of its connections are
//! back ([`Course`]). Those who stay are pinged at a fixed pace throughout, and each ping counts
//! from when it was due, in the stretch in which it was due.
//!
//! Where connections log in, some that vanish may stay and come back all the same, and some may come
//! back twice at once: the server has to choose. When the last storm is over, each number is looked at
//! once more, and should have one connection that answers.
//!
//! Invariants:
//! - Without a login there is at most one connection of each number; it comes back only when the one
//!   before is gone.
//! - Every connection that is to come back is counted once a storm: as back, or as failed.

pub(crate) mod counts;
mod places;
mod settings;

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    sync::Arc,
};

use tungstenite::Message;

pub(crate) use self::settings::{Settings, Vanish};
use self::{
    counts::{Blow, Course},
    places::{Place, Verdict},
};
use crate::{
    clock::{Nanos, due},
    link::{Driver, Ended, Link, Settled},
    payload::token,
    ping::{self, Pings},
    table::{Phase, Table},
    tally::Tally,
    trouble::{Trouble, Waiting},
    witness::Witness,
};

/// Connections dropped, begun or pinged in one turn, before answers are read again. Few, as a ping
/// that is due, or its answer, waits for them meanwhile.
const BATCH: usize = 16;
/// Set apart from the numbers that payloads are made of.
const JITTER: u64 = 0x7374_6f72_6d00;
/// With what the server closes a connection whose identity has connected anew.
const DISPLACED: Trouble = Trouble::Closed(4001);
/// What it answers to one whose identity has connected anew before it was open.
const OVERTAKEN: Trouble = Trouble::Status(409);
/// Pings awaited at once when all are looked at, on one loop.
const AUDITED: usize = 512;

/// The command, on one event loop.
#[derive(Debug)]
pub(crate) struct Storm {
    settings: Settings,
    course: Arc<Course>,
    witness: Arc<Witness>,
    thread: u32,
    from: Nanos,
    /// Storms begun.
    round: u32,
    stage: Stage,
    /// Where the vanishing connections of this loop stand, by number.
    places: Vec<Place>,
    /// Where more than one is there, and how long the server may take to choose.
    contested: VecDeque<(Nanos, usize)>,
    /// Connections opened so far.
    opened: u64,
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
    /// Last pings that are not answered.
    auditing: usize,
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
    /// No storm is left; places below this were looked at.
    Auditing(usize),
    /// All were; what the server has to say is awaited.
    Asking,
}

/// One connection.
#[derive(Debug, Default)]
pub(crate) struct Client {
    pings: Pings,
    verified: bool,
    /// The storm that it came back from; 0: it was opened in the ramp.
    round: u32,
    /// Tells it from the others of its loop.
    serial: u64,
    leaving: bool,
    /// The server is to end it in whatever way.
    half: bool,
    /// The ping of the last look is not answered.
    audited: bool,
}

impl Storm {
    /// For loop number `thread`.
    pub(crate) fn new(
        settings: Settings,
        course: Arc<Course>,
        witness: Arc<Witness>,
        thread: u32,
    ) -> Self {
        let own = |index: &u32| index % settings.threads == thread;
        let stayers = (0..settings.stayers).filter(|at| own(&(settings.stayers_from + at)));
        let places = (0..settings.vanishing).filter(own).map(|_| Place::default());
        Self {
            places: places.collect(),
            stayers: stayers.map(|at| (at, None)).collect(),
            settings,
            course,
            witness,
            thread,
            from: 0,
            round: 0,
            stage: Stage::Calm,
            contested: VecDeque::new(),
            opened: 0,
            returning: BinaryHeap::new(),
            missing: 0,
            last_back: 0,
            verifying: 0,
            awaited: 0,
            next_stayer: (0, 0),
            auditing: 0,
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

    /// Notes where one of those who stay stands now.
    fn settle_down(&mut self, index: u32, key: Option<usize>) {
        if let Some(at) = index.checked_sub(self.settings.stayers_from)
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
            Stage::Auditing(from) => self.audit(table, from),
            Stage::Asking => self.ask(table, now),
        }
    }

    fn calm(&mut self, table: &mut Table<Client>, now: Nanos) -> Option<Nanos> {
        // It is not known while others are still in the storm before; then the next look tells.
        let start = self.course.start(self.round)?;
        if now < start {
            return Some(start);
        }
        if self.round == self.settings.times {
            self.stage = if self.settings.sessions { Stage::Auditing(0) } else { Stage::Asking };
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
            self.vanish_one(table, to, now);
            to += 1;
        }
        let all = to == self.places.len();
        self.stage = if all { Stage::Returning } else { Stage::Vanishing(to) };
        self.storm(&mut table.tally).vanished += (to - from) as u64;
        (to == end).then_some(0)
    }

    fn vanish_one(&mut self, table: &mut Table<Client>, place: usize, now: Nanos) {
        self.places[place].vanish();
        let how = self.settings.vanish(self.index(place), self.round);
        match (self.places[place].first(), how) {
            (None, _) | (_, Vanish::Stay) => self.call_back(place, now),
            (Some(key), Vanish::Abort(how)) => table.abort(key, how, self),
            (Some(key), Vanish::Close) => {
                self.places[place].leave();
                if let Some(client) = table.client(key) {
                    client.leaving = true;
                }
                table.close(key, self);
            }
            (Some(key), Vanish::Half) => {
                if let Some(client) = table.client(key) {
                    client.half = true;
                }
                table.end_sending(key);
                self.call_back(place, now);
            }
        }
    }

    /// Whether the answers to Closes are to be awaited before there are more: each has its time to
    /// be answered in. A server that has let one run out is waited for no longer.
    fn too_many_closing(&self, table: &Table<Client>) -> bool {
        let at_once = self.settings.connecting_max.div_ceil(self.settings.threads);
        self.settings.vanish.contains(&Vanish::Close)
            && table.tally.closing >= u64::from(at_once)
            && !table.tally.unclosed.contains_key(&Trouble::Timeout(Waiting::Close))
    }

    /// Lets a place be taken again, when its time has come.
    fn call_back(&mut self, place: usize, now: Nanos) {
        let jitter = match self.settings.backoff {
            0 => 0,
            below => token(self.settings.seed ^ JITTER, self.index(place), self.round) % below,
        };
        let twin = self.settings.has_twin(self.index(place), self.round);
        for _ in 0..1 + usize::from(twin) {
            self.places[place].call_back();
            self.returning.push(Reverse((now + jitter, place)));
        }
    }

    fn come_back(&mut self, table: &mut Table<Client>, now: Nanos) -> Option<Nanos> {
        let impatient = self.give_up(now, &mut table.tally);
        // What loops do not use that have all of theirs back is for the others.
        let at_once = self.settings.connecting_max.div_ceil(self.course.out(self.round - 1));
        for _ in 0..BATCH {
            if self.missing == 0 {
                return self.all_back(table);
            }
            let Some(Reverse((at, place))) = self.returning.peek().copied() else {
                return impatient;
            };
            if at > now {
                return impatient.into_iter().chain([at]).min();
            }
            if table.connecting() >= at_once {
                return impatient;
            }
            self.returning.pop();
            let since = if self.settings.backoff == 0 { table.now() } else { at };
            table.connect(self.index(place), since, self);
        }
        Some(0)
    }

    /// Waits no longer where the server does not choose; returns when the next time runs out.
    fn give_up(&mut self, now: Nanos, tally: &mut Tally) -> Option<Nanos> {
        while let Some((until, place)) = self.contested.front().copied() {
            if until > now {
                return Some(until);
            }
            self.contested.pop_front();
            if self.places[place].verdict(self.round) == Verdict::Contested {
                self.settle_place(place, Verdict::Failed, now, tally);
            }
        }
        None
    }

    /// Finds out how it stands with a place behind whatever happened there.
    fn judge(&mut self, place: usize, now: Nanos, tally: &mut Tally) {
        match self.places[place].verdict(self.round) {
            Verdict::Open => {}
            Verdict::Contested => self.contested.push_back((now + self.settings.patience, place)),
            verdict => self.settle_place(place, verdict, now, tally),
        }
    }

    fn settle_place(&mut self, place: usize, verdict: Verdict, now: Nanos, tally: &mut Tally) {
        let storm = self.storm(tally);
        if verdict == Verdict::Back {
            storm.back += 1;
            self.last_back = self.last_back.max(now);
        } else {
            storm.failed += 1;
        }
        self.places[place].settle();
        self.missing -= 1;
    }

    fn all_back(&mut self, table: &mut Table<Client>) -> Option<Nanos> {
        let round = self.round - 1;
        let start = self.course.start(round).unwrap_or(self.last_back);
        self.storm(&mut table.tally).back_after = self.last_back - start;
        self.course.back(round, self.last_back);
        self.stage = Stage::Calm;
        self.contested.clear();
        Some(0)
    }

    /// Looks at each identity: one connection should be there, and answer.
    fn audit(&mut self, table: &mut Table<Client>, from: usize) -> Option<Nanos> {
        let end = (from + BATCH).min(self.places.len());
        let mut to = from;
        while to < end && self.auditing < AUDITED {
            let place = &self.places[to];
            let key = place.only();
            table.tally.storm.sessions.several += u64::from(place.count() > 1);
            table.tally.storm.sessions.none += u64::from(place.count() == 0);
            if let Some(key) = key {
                self.auditing += 1;
                table.with(self, key, Self::last_ping);
            }
            to += 1;
        }
        self.stage = Stage::Auditing(to);
        if to < self.places.len() || self.auditing > 0 {
            return (to == end && to < self.places.len()).then_some(0);
        }
        // Those who stay were pinged all along.
        let here = self.stayers.iter().filter(|stayer| stayer.1.is_some()).count();
        table.tally.storm.sessions.one += here as u64;
        table.tally.storm.sessions.none += (self.stayers.len() - here) as u64;
        self.stage = Stage::Asking;
        self.witness.ready();
        Some(0)
    }

    fn last_ping(&mut self, link: &mut Link<'_, Client>) -> Result<(), Trouble> {
        link.client.audited = true;
        let now = link.now();
        ping::ask(link, |client| &mut client.pings, self.settings.seed, now)
    }

    fn ask(&mut self, table: &mut Table<Client>, now: Nanos) -> Option<Nanos> {
        if self.settings.sessions && !self.witness.is_done() {
            return None;
        }
        self.finished = true;
        table.tally.storm.worked = now - self.from;
        Some(now)
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
                if std::mem::take(&mut link.client.audited) {
                    self.auditing -= 1;
                    link.tally.storm.sessions.one += 1;
                    return;
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
        if let Some(place) = self.place(link.index) {
            self.places[place].verified(link.client.serial);
            self.judge(place, now, link.tally);
        }
    }
}

impl Driver for Storm {
    type Client = Client;

    fn begin(&mut self, _: &mut Table<Client>, from: Nanos, _: Nanos) {
        self.from = from;
        self.course.begin(from);
    }

    fn opened(&mut self, link: &mut Link<'_, Client>, took: Nanos) -> Result<(), Trouble> {
        self.verifying += 1;
        self.opened += 1;
        link.client.serial = self.opened;
        // Nothing else is begun behind the ramp.
        if self.stage == Stage::Returning {
            link.client.round = self.round;
            self.storm(link.tally).handshake.record(took);
        }
        let now = link.now();
        match self.place(link.index) {
            Some(place) => {
                let Client { serial, round, .. } = *link.client;
                self.places[place].opened(link.key, serial, round);
                self.judge(place, now, link.tally);
            }
            None => self.settle_down(link.index, Some(link.key)),
        }
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

    fn foreseen(&self, client: &Client, _: &Trouble) -> bool {
        client.half
    }

    fn displaced(&self, index: u32, trouble: &Trouble) -> bool {
        let Some(place) = self.place(index).filter(|_| self.settings.sessions) else {
            return false;
        };
        let place = &self.places[place];
        *trouble == DISPLACED && place.all() > 1
            || *trouble == OVERTAKEN && place.newcomers(self.round) > 1
    }

    fn lost(&mut self, _: &Client, _: &mut Tally) {}

    fn ended(&mut self, ended: &Ended<'_, Client>, tally: &mut Tally) {
        let Ended { index, client, phase, trouble, at, .. } = *ended;
        let unverified = phase != Phase::Opening && !client.verified;
        self.verifying -= usize::from(unverified);
        let last = usize::from(client.audited);
        self.auditing -= last;
        tally.storm.sessions.none += last as u64;
        let unanswered = client.pings.len() - usize::from(unverified) - last;
        self.awaited -= unanswered;
        tally.unanswered += unanswered as u64;
        let Some(place) = self.place(index) else { return self.settle_down(index, None) };
        if phase == Phase::Opening {
            let displaced = trouble.is_some_and(|trouble| self.displaced(index, trouble));
            tally.storm.sessions.unopened += u64::from(displaced);
            self.places[place].unopened();
        } else {
            self.places[place].ended(client.serial);
        }
        if self.stage == Stage::Calm {
            return;
        }
        if trouble.is_none() || client.leaving {
            self.call_back(place, at);
        } else {
            self.judge(place, at, tally);
        }
    }
}
