//! `connect`: opens, holds, and at the end verifies each connection by a ping.

use tungstenite::{Bytes, Message};

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
}

/// When the ping was sent that is not answered yet.
#[derive(Debug, Default)]
pub(crate) struct Pinged(Option<Nanos>);

impl Connect {
    /// Pings carry a payload made from `seed` and the connection.
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, pinged: 0, awaited: 0 }
    }

    fn payload(&self, index: u32) -> [u8; 8] {
        token(self.seed, index, 0).to_le_bytes()
    }

    fn ping(&mut self, link: &mut Link<'_, Pinged>) -> Result<(), Trouble> {
        self.awaited += 1;
        link.client.0 = Some(link.now());
        link.await_for(Waiting::Pong);
        let payload = self.payload(link.index);
        link.send(Message::Ping(Bytes::copy_from_slice(&payload)))
    }

    fn pong(&mut self, link: &mut Link<'_, Pinged>, payload: &[u8]) -> Result<(), Trouble> {
        // A pong that nobody asked for is allowed (RFC 6455, section 5.5.3).
        let Some(sent) = link.client.0 else { return Ok(()) };
        if payload.is_empty() {
            return Ok(());
        }
        if payload != self.payload(link.index) {
            return Err(Trouble::WrongPong);
        }
        link.client.0 = None;
        link.rest();
        self.awaited -= 1;
        link.tally.verified += 1;
        link.tally.ping.record(link.now().saturating_sub(sent));
        Ok(())
    }
}

impl Driver for Connect {
    type Client = Pinged;

    fn begin(&mut self, _: &mut Table<Pinged>, _: Nanos, _: Nanos) {}

    fn turn(&mut self, _: &mut Table<Pinged>, _: Nanos) -> Option<Nanos> {
        None
    }

    fn settle(&mut self, table: &mut Table<Pinged>) -> Settled {
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

    fn message(&mut self, link: &mut Link<'_, Pinged>, message: Message) -> Result<(), Trouble> {
        match message {
            Message::Pong(payload) => self.pong(link, &payload),
            _ => Ok(()),
        }
    }

    fn lost(&mut self, client: &Pinged, _: &mut Tally) {
        self.awaited -= u64::from(client.0.is_some());
    }
}
