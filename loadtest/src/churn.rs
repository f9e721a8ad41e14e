//! `churn`: keeps connections open while so many a second are replaced by new ones.
//!
//! An open loop: replacements are due at fixed times whatever the server does, and a handshake
//! counts from when it was due. At its time a connection that is at rest leaves, cleanly or for a
//! share by a reset, and a new one is begun, verified by a ping, and left in peace.
//!
//! Invariants:
//! - Each number of the loop's share is vacant or one connection that opens or stays. Beside these
//!   there are those that leave, never more than `leaving_max`.
//! - Which of its connections a loop replaces, and which leave by a reset, follows from the seed.

use std::collections::VecDeque;

use tungstenite::Message;

use crate::{
    clock::{Nanos, due},
    link::{Driver, Ended, Link, Settled},
    payload::token,
    ping::{self, Pings},
    table::{Abort, Table},
    tally::{Latency, Tally},
    trouble::Trouble,
};

/// Connections replaced in one turn, before answers are read again.
const BATCH: usize = 64;
/// Set apart from the numbers that payloads are made of.
const CHOICE: u64 = 0x6368_7572_6e00;

/// What all event loops do the same.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// Of payloads and choices.
    pub(crate) seed: u64,
    /// Replacements a second, over all loops.
    pub(crate) rate: u64,
    /// How long a connection stays at least.
    pub(crate) stay: Nanos,
    /// Of a million that leave, so many do by a reset.
    pub(crate) resets_ppm: u32,
    /// Event loops.
    pub(crate) threads: u32,
    /// The most handshakes under way on a loop.
    pub(crate) connecting_max: u32,
    /// The most connections of a loop whose Close is under way.
    pub(crate) leaving_max: usize,
}

/// What the command counts beside the tally.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    /// Replacements begun.
    pub(crate) begun: u64,
    /// Of these, verified.
    pub(crate) verified: u64,
    /// Replacements that were due and not begun when the time was over.
    pub(crate) missed: u64,
    /// Of these, those for which a connection was ripe: too many others were opening or leaving.
    pub(crate) missed_ripe: u64,
    /// Connections that left by a Close.
    pub(crate) closes: u64,
    /// Handshakes of the replacements.
    pub(crate) handshake: Latency,
    /// From when a replacement was due to the answer to its ping.
    pub(crate) usable: Latency,
    /// From a Close to its answer, before the run's end closes all.
    pub(crate) close: Latency,
}

/// The command, on one event loop.
#[derive(Debug)]
pub(crate) struct Churn {
    settings: Settings,
    thread: u32,
    from: Nanos,
    until: Nanos,
    /// Replacements begun, of those due on this loop.
    next: u64,
    /// Connections that were opened here.
    serial: u64,
    /// Those at rest, with their serial numbers, for longer than they must; some may be lost.
    ripe: Vec<(usize, u64)>,
    /// The same, not as long, with the time from which they are ripe.
    young: VecDeque<(Nanos, usize, u64)>,
    /// Numbers that connections gave back.
    vacant: Vec<u32>,
    leaving: usize,
    verifying: usize,
    /// If a replacement was due at the last turn and could not be begun: whether anybody was ripe.
    blocked: Option<bool>,
}

/// One connection.
#[derive(Debug, Default)]
pub(crate) struct Client {
    serial: u64,
    index: u32,
    pings: Pings,
    /// When a replacement was due.
    due: Option<Nanos>,
    leaving: bool,
}

impl Counts {
    /// Adds what another thread counted.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.begun += other.begun;
        self.verified += other.verified;
        self.missed += other.missed;
        self.missed_ripe += other.missed_ripe;
        self.closes += other.closes;
        self.handshake.merge(&other.handshake);
        self.usable.merge(&other.usable);
        self.close.merge(&other.close);
    }
}

impl Churn {
    /// For loop number `thread`.
    pub(crate) fn new(settings: Settings, thread: u32) -> Self {
        Self {
            settings,
            thread,
            from: 0,
            until: Nanos::MAX,
            next: 0,
            serial: 0,
            ripe: Vec::new(),
            young: VecDeque::new(),
            vacant: Vec::new(),
            leaving: 0,
            verifying: 0,
            blocked: None,
        }
    }

    /// The number, over all loops, of this loop's next replacement, and when it is due.
    fn upcoming(&self) -> (u64, Nanos) {
        let number = self.next * u64::from(self.settings.threads) + u64::from(self.thread);
        (number, self.from.saturating_add(due(number, self.settings.rate)))
    }

    /// Begins a replacement, if there is room and somebody to leave.
    fn replace(&mut self, table: &mut Table<Client>, number: u64, due: Nanos, now: Nanos) -> bool {
        if table.connecting() >= self.settings.connecting_max {
            return false;
        }
        // A number is vacant where a connection was lost, or was never made.
        let Some(index) = self.vacant.pop().or_else(|| self.leave(table, number, now)) else {
            return false;
        };
        self.next += 1;
        table.tally.churn.begun += 1;
        table.tally.lag.record(now.saturating_sub(due));
        table.connect(index, due, self);
        true
    }

    /// Lets a connection leave, and returns its number for the next.
    fn leave(&mut self, table: &mut Table<Client>, number: u64, now: Nanos) -> Option<u32> {
        if self.leaving >= self.settings.leaving_max {
            return None;
        }
        while let Some((ripe, key, serial)) = self.young.front().copied()
            && ripe <= now
        {
            self.young.pop_front();
            self.ripe.push((key, serial));
        }
        let dice = token(self.settings.seed ^ CHOICE, (number >> 32) as u32, number as u32);
        while !self.ripe.is_empty() {
            let at = (dice >> 20) as usize % self.ripe.len();
            let (key, serial) = self.ripe.swap_remove(at);
            let Some(client) = table.client(key).filter(|client| client.serial == serial) else {
                continue;
            };
            client.leaving = true;
            let index = client.index;
            self.leaving += 1;
            if dice % 1_000_000 < u64::from(self.settings.resets_ppm) {
                table.abort(key, Abort::Reset, self);
            } else {
                table.tally.churn.closes += 1;
                table.close(key, self);
            }
            return Some(index);
        }
        None
    }

    /// Whether there is somebody to be replaced.
    fn is_anybody_ripe(&self, now: Nanos) -> bool {
        let ripens = self.young.front().is_some_and(|(ripe, ..)| *ripe <= now);
        ripens || !self.ripe.is_empty() || !self.vacant.is_empty()
    }

    /// When the next connection is ripe. Those that are ripe already wait for something else.
    fn next_ripe(&self, now: Nanos) -> Option<Nanos> {
        self.young.front().map(|(ripe, ..)| *ripe).filter(|ripe| *ripe > now)
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
                self.verifying -= 1;
                link.tally.verified += 1;
                link.tally.ping.record(now.saturating_sub(stamp));
                if let Some(due) = link.client.due {
                    link.tally.churn.verified += 1;
                    link.tally.churn.usable.record(now.saturating_sub(due));
                }
                self.young.push_back((now + self.settings.stay, link.key, link.client.serial));
            },
        )
    }
}

impl Driver for Churn {
    type Client = Client;

    fn begin(&mut self, _: &mut Table<Client>, from: Nanos, until: Nanos) {
        (self.from, self.until) = (from, until);
    }

    fn opened(&mut self, link: &mut Link<'_, Client>, took: Nanos) -> Result<(), Trouble> {
        self.serial += 1;
        self.verifying += 1;
        (link.client.serial, link.client.index) = (self.serial, link.index);
        let now = link.now();
        if self.from > 0 {
            link.client.due = Some(now.saturating_sub(took));
            link.tally.churn.handshake.record(took);
        }
        ping::ask(link, |client| &mut client.pings, self.settings.seed, now)
    }

    fn turn(&mut self, table: &mut Table<Client>, now: Nanos) -> Option<Nanos> {
        self.blocked = None;
        for _ in 0..BATCH {
            let (number, due) = self.upcoming();
            if due >= self.until {
                return None;
            }
            if due > now {
                return Some(due);
            }
            if !self.replace(table, number, due, now) {
                // Until somebody has come, gone, or stayed long enough.
                self.blocked = Some(self.is_anybody_ripe(now));
                return self.next_ripe(now);
            }
        }
        Some(0)
    }

    /// All that was due before the end is begun, however late it is, unless something is in its way.
    fn goes_on(&self) -> bool {
        self.until < Nanos::MAX && self.blocked.is_none() && self.upcoming().1 < self.until
    }

    fn reopens(&self) -> bool {
        true
    }

    fn settle(&mut self, table: &mut Table<Client>) -> Settled {
        if self.verifying + self.leaving > 0 || table.connecting() > 0 {
            return Settled::Waiting;
        }
        table.tally.churn.close = table.tally.close.clone();
        let end = self.until.min(table.now());
        while self.upcoming().1 < end {
            self.next += 1;
            table.tally.churn.missed += 1;
            table.tally.churn.missed_ripe += u64::from(self.blocked == Some(true));
        }
        Settled::Yes
    }

    fn message(&mut self, link: &mut Link<'_, Client>, message: Message) -> Result<(), Trouble> {
        match message {
            Message::Pong(payload) => self.pong(link, &payload),
            _ => Ok(()),
        }
    }

    fn lost(&mut self, _: &Client, _: &mut Tally) {}

    fn ended(&mut self, ended: &Ended<'_, Client>, _: &mut Tally) {
        if ended.client.leaving {
            self.leaving -= 1;
        } else {
            self.vacant.push(ended.index);
            self.verifying -= usize::from(!ended.client.pings.is_empty());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_will_be_ripe_is_waited_for() {
        let settings = Settings {
            seed: 1,
            rate: 10,
            stay: 0,
            resets_ppm: 0,
            threads: 1,
            connecting_max: 1,
            leaving_max: 1,
        };
        let mut churn = Churn::new(settings, 0);
        assert_eq!((churn.next_ripe(4), churn.is_anybody_ripe(4)), (None, false));
        churn.young.push_back((5, 0, 1));
        assert_eq!((churn.next_ripe(4), churn.is_anybody_ripe(4)), (Some(5), false));
        // It is ripe and cannot leave: to look again at once would help nobody.
        assert_eq!((churn.next_ripe(5), churn.is_anybody_ripe(5)), (None, true));
    }
}
