//! `echo`: sends messages or asks for them in a dialect, compares every answer with what must come,
//! measures the time between.
//!
//! A closed loop keeps a number of messages in flight on each connection. An open loop sends at a
//! fixed rate whatever the answers do, and counts latency from when a message was *due*: a server
//! (or this program) that stalls makes the messages wait, and that wait is measured.

use std::collections::VecDeque;

use tungstenite::Message;

use crate::{
    clock::{Nanos, due},
    link::{Driver, Link, Settled},
    question::Questions,
    table::Table,
    tally::Tally,
    trouble::{Trouble, Waiting, count},
};

/// Connections worked on in one turn, before answers are read again.
const BATCH: usize = 64;

/// When messages are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// So many in flight on each connection.
    Closed(u32),
    /// So many a second, over all connections of all threads.
    Open(u64),
}

/// The command, on one event loop.
#[derive(Debug)]
pub(crate) struct Echo {
    questions: Questions,
    pace: Pace,
    thread: u32,
    threads: u32,
    from: Nanos,
    until: Nanos,
    /// The open connections at the begin; message `n` of an open loop goes to `n % keys.len()`.
    keys: Vec<usize>,
    /// Messages of the open loop that were due, or connections of the closed loop that were started.
    next: usize,
    in_flight: u64,
    settling: bool,
    /// Connections whose last answers were given a deadline.
    settled: usize,
}

/// One connection.
#[derive(Debug, Default)]
pub(crate) struct Client {
    sent: u32,
    answered: u32,
    /// When each message in flight was sent or, at a fixed rate, due.
    stamps: VecDeque<Nanos>,
}

impl Echo {
    /// For thread number `thread` of `threads`.
    pub(crate) fn new(questions: Questions, pace: Pace, thread: u32, threads: u32) -> Self {
        Self {
            questions,
            pace,
            thread,
            threads,
            from: 0,
            until: 0,
            keys: Vec::new(),
            next: 0,
            in_flight: 0,
            settling: false,
            settled: 0,
        }
    }

    /// Sends one message that counts from `stamp`.
    fn send(&mut self, link: &mut Link<'_, Client>, stamp: Nanos) -> Result<(), Trouble> {
        let message = self.questions.message(link.index, link.client.sent);
        link.client.sent = link.client.sent.wrapping_add(1);
        link.client.stamps.push_back(stamp);
        self.in_flight += 1;
        link.tally.sent += 1;
        link.send(message)
    }

    /// Fills the pipelines of connections that have not begun.
    fn start(&mut self, pipeline: u32, table: &mut Table<Client>) -> Option<Nanos> {
        let to = (self.next + BATCH).min(self.keys.len());
        for at in self.next..to {
            table.with(self, self.keys[at], |echo, link| {
                (0..pipeline).try_for_each(|_| echo.send(link, link.now()))
            });
        }
        self.next = to;
        (to < self.keys.len()).then_some(0)
    }

    /// When the next message of an open loop is due.
    fn next_due(&self, rate: u64) -> Nanos {
        let number = self.next as u64 * u64::from(self.threads) + u64::from(self.thread);
        self.from + due(number, rate)
    }

    /// Sends what is due by now.
    fn keep_pace(&mut self, rate: u64, table: &mut Table<Client>, now: Nanos) -> Option<Nanos> {
        for _ in 0..BATCH {
            let stamp = self.next_due(rate);
            if stamp >= self.until || self.keys.is_empty() {
                return None;
            }
            if stamp > now {
                return Some(stamp);
            }
            let key = self.keys[self.next % self.keys.len()];
            self.next += 1;
            let sent = table.with(self, key, |echo, link| {
                link.tally.lag.record(link.now().saturating_sub(stamp));
                echo.send(link, stamp)
            });
            table.tally.unsent += u64::from(!sent);
        }
        Some(0)
    }

    fn answer(&mut self, link: &mut Link<'_, Client>, answer: &Message) -> Result<(), Trouble> {
        let now = link.now();
        let Some(stamp) = link.client.stamps.pop_front() else {
            count(&mut link.tally.wrong, Trouble::Wrong("to nothing that was sent"));
            return Ok(());
        };
        let expected = link.client.answered;
        link.client.answered = expected.wrapping_add(1);
        self.in_flight -= 1;
        let in_flight = link.client.sent.wrapping_sub(expected);
        match self.questions.difference(link.index, expected, in_flight, answer) {
            Some(how) => count(&mut link.tally.wrong, Trouble::Wrong(how)),
            None => {
                link.tally.right += 1;
                link.tally.in_time += u64::from(now <= self.until);
                link.tally.answer.record(now.saturating_sub(stamp));
            }
        }
        if matches!(self.pace, Pace::Closed(_)) && !self.settling && now < self.until {
            self.send(link, now)?;
        }
        if self.settling && link.client.stamps.is_empty() {
            link.rest();
        }
        Ok(())
    }
}

impl Driver for Echo {
    type Client = Client;

    fn begin(&mut self, table: &mut Table<Client>, from: Nanos, until: Nanos) {
        (self.from, self.until) = (from, until);
        self.keys = table.open_keys();
    }

    fn turn(&mut self, table: &mut Table<Client>, now: Nanos) -> Option<Nanos> {
        match self.pace {
            Pace::Closed(pipeline) => self.start(pipeline, table),
            Pace::Open(rate) => self.keep_pace(rate, table, now),
        }
    }

    /// What was due in time is sent however late that is: it is the worst of the latencies.
    fn goes_on(&self) -> bool {
        match self.pace {
            Pace::Closed(_) => false,
            Pace::Open(rate) => !self.keys.is_empty() && self.next_due(rate) < self.until,
        }
    }

    fn settle(&mut self, table: &mut Table<Client>) -> Settled {
        self.settling = true;
        let to = (self.settled + BATCH).min(self.keys.len());
        for at in self.settled..to {
            table.with(self, self.keys[at], |_, link| {
                if !link.client.stamps.is_empty() {
                    link.await_for(Waiting::Answer);
                }
                Ok(())
            });
        }
        self.settled = to;
        match (to == self.keys.len(), self.in_flight) {
            (false, _) => Settled::More,
            (true, 0) => Settled::Yes,
            (true, _) => Settled::Waiting,
        }
    }

    fn message(&mut self, link: &mut Link<'_, Client>, message: Message) -> Result<(), Trouble> {
        match message {
            Message::Text(_) | Message::Binary(_) => self.answer(link, &message),
            _ => Ok(()),
        }
    }

    fn lost(&mut self, client: &Client, tally: &mut Tally) {
        let unanswered = client.stamps.len() as u64;
        self.in_flight -= unanswered;
        tally.unanswered += unanswered;
    }
}
