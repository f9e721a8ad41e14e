//! `connect`: opens, lets them join rooms if so wanted, holds, and at the end verifies each
//! connection by a ping.

mod rooms;

use std::sync::Arc;

use tungstenite::{Bytes, Message};

use self::rooms::{Joined, Joins};
pub(crate) use self::rooms::{Joining, Places};
use crate::{
    clock::Nanos,
    link::{Driver, Link, Settled},
    payload::token,
    table::Table,
    tally::Tally,
    trouble::{Trouble, Waiting},
};

/// Pings awaited at once: each has its time to be answered in.
const AWAITED: u64 = 512;
/// Pings begun in one turn.
const BATCH: usize = 64;

/// The command, on one event loop.
#[derive(Debug)]
pub(crate) struct Connect {
    seed: u64,
    pinged: usize,
    awaited: u64,
    joins: Option<Joins>,
}

/// One connection.
#[derive(Debug, Default)]
pub(crate) struct Client {
    /// When the ping was sent that is not answered yet.
    pinged: Option<Nanos>,
    joined: Joined,
}

impl Connect {
    /// Pings carry a payload made from `seed` and the connection.
    pub(crate) fn new(seed: u64, plan: Option<Arc<Joining>>) -> Self {
        Self { seed, pinged: 0, awaited: 0, joins: plan.map(Joins::new) }
    }

    fn payload(&self, index: u32) -> [u8; 8] {
        token(self.seed, index, 0).to_le_bytes()
    }

    fn ping(&mut self, link: &mut Link<'_, Client>) -> Result<(), Trouble> {
        self.awaited += 1;
        link.client.pinged = Some(link.now());
        link.await_for(Waiting::Pong);
        let payload = self.payload(link.index);
        link.send(Message::Ping(Bytes::copy_from_slice(&payload)))
    }

    fn pong(&mut self, link: &mut Link<'_, Client>, payload: &[u8]) -> Result<(), Trouble> {
        // A pong that nobody asked for is allowed (RFC 6455, section 5.5.3).
        let Some(sent) = link.client.pinged else { return Ok(()) };
        if payload.is_empty() {
            return Ok(());
        }
        if payload != self.payload(link.index) {
            return Err(Trouble::WrongPong);
        }
        link.client.pinged = None;
        link.rest();
        self.awaited -= 1;
        link.tally.verified += 1;
        link.tally.ping.record(link.now().saturating_sub(sent));
        Ok(())
    }
}

impl Driver for Connect {
    type Client = Client;

    fn begin(&mut self, _: &mut Table<Client>, from: Nanos, _: Nanos) {
        if let Some(joins) = &mut self.joins {
            joins.begin(from);
        }
    }

    fn turn(&mut self, table: &mut Table<Client>, now: Nanos) -> Option<Nanos> {
        self.join(table, now)
    }

    fn goes_on(&self) -> bool {
        self.joins.as_ref().is_some_and(|joins| !joins.over)
    }

    fn done(&self) -> bool {
        self.joins.as_ref().is_some_and(|joins| joins.over)
    }

    fn work_from(&self) -> Option<Nanos> {
        self.joins.as_ref()?.joined_at()
    }

    fn settle(&mut self, table: &mut Table<Client>) -> Settled {
        let to = (self.pinged + BATCH).min(table.keys_end());
        while self.pinged < to && self.awaited < AWAITED {
            table.with(self, self.pinged, Self::ping);
            self.pinged += 1;
        }
        if self.awaited == AWAITED {
            return Settled::Waiting;
        }
        match (to == table.keys_end(), self.awaited) {
            (false, _) => Settled::More,
            (true, 0) => Settled::Yes,
            (true, _) => Settled::Waiting,
        }
    }

    fn message(&mut self, link: &mut Link<'_, Client>, message: Message) -> Result<(), Trouble> {
        match message {
            Message::Pong(payload) => self.pong(link, &payload),
            other => self.hear(link, &other),
        }
    }

    fn lost(&mut self, client: &Client, _: &mut Tally) {
        self.awaited -= u64::from(client.pinged.is_some());
        if let Some(joins) = self.joins.as_mut().filter(|_| client.joined.waits()) {
            joins.lost();
        }
    }
}
