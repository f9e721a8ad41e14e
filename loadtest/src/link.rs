//! One connection as a command sees it while an event or a turn is worked on, and what a command is.

use tungstenite::Message;

use crate::{
    clock::Nanos,
    lanes::Lanes,
    socket::Wire,
    table::{Phase, Table},
    tally::Tally,
    transport::Transport,
    trouble::{Trouble, Waiting},
};

/// What a command does with open connections. Each event loop has one of its own.
///
/// The loop opens connections, calls `begin` once all threads have, then `turn` until the time is
/// over, then `settle` until that says it is done, and closes what is open. During the work a command
/// may end connections ([`Table::close`], [`Table::abort`]) and begin others ([`Table::connect`]).
pub(crate) trait Driver {
    /// What the command keeps for each connection.
    type Client: Default;

    /// The work goes from `from` to `until`.
    fn begin(&mut self, table: &mut Table<Self::Client>, from: Nanos, until: Nanos);

    /// The opening handshake of a connection is done, and its login if there is one, in the ramp or
    /// later; it took so long since the connect, or since that was due. An error ends the connection.
    fn opened(&mut self, _: &mut Link<'_, Self::Client>, _: Nanos) -> Result<(), Trouble> {
        Ok(())
    }

    /// Does what is due at `now`; returns when it wants to be called again, if not for an event.
    fn turn(&mut self, table: &mut Table<Self::Client>, now: Nanos) -> Option<Nanos>;

    /// Whether the work is over before its time.
    fn done(&self) -> bool {
        false
    }

    /// Ends the work, a bounded step at a time. What it waits for has deadlines.
    fn settle(&mut self, table: &mut Table<Self::Client>) -> Settled;

    /// A data message, a ping (already answered) or a pong has come. An error ends the connection.
    fn message(
        &mut self,
        link: &mut Link<'_, Self::Client>,
        message: Message,
    ) -> Result<(), Trouble>;

    /// Whether the command wants the peer to end this open connection like this. It is then counted
    /// as ended by the peer, which is no error, and not as lost.
    fn foreseen(&self, _: &Self::Client, _: &Trouble) -> bool {
        false
    }

    /// Whether the peer has ended a connection of this number, open or not, in favour of another one of
    /// the same, as it should. It counts like one that was foreseen.
    fn displaced(&self, _index: u32, _: &Trouble) -> bool {
        false
    }

    /// An open connection is gone that should not be.
    fn lost(&mut self, client: &Self::Client, tally: &mut Tally);

    /// Whether the work goes on beyond its time, until it is done.
    fn goes_on(&self) -> bool {
        false
    }

    /// When the work proper begins, of a command that prepares something first; `None` as long as
    /// that is not known, and where nothing is prepared.
    fn work_from(&self) -> Option<Nanos> {
        None
    }

    /// Whether the command begins connections in the course of the work, so that there may be some
    /// again when none is left.
    fn reopens(&self) -> bool {
        false
    }

    /// The receive buffer of a connection's socket in bytes, if not the system's choice.
    fn receive_buffer(&self, _index: u32) -> Option<usize> {
        None
    }

    /// A connection is gone, in whatever way; behind `lost` where that is called. Its key may be the
    /// next connection's at once.
    fn ended(&mut self, _: &Ended<'_, Self::Client>, _: &mut Tally) {}
}

/// A connection that is gone.
#[derive(Debug)]
pub(crate) struct Ended<'a, C> {
    /// Its number in the run.
    pub(crate) index: u32,
    /// What the command kept for it; the default one if there was not even a socket.
    pub(crate) client: &'a C,
    /// How far it was.
    pub(crate) phase: Phase,
    /// Why it is gone: behind both Closes usually [`Trouble::Eof`]. `None`: the command dropped it.
    pub(crate) trouble: Option<&'a Trouble>,
    /// When it was.
    pub(crate) at: Nanos,
    /// Since its handshake was done, or since the connect if it never was.
    pub(crate) lived: Nanos,
}

/// How far the end of the work is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    /// All is done.
    Yes,
    /// There is more to do at once.
    More,
    /// Answers are awaited.
    Waiting,
}

/// An open connection, borrowed from its table.
pub(crate) struct Link<'a, C> {
    /// Where it stands in its table; another connection's once this one is gone.
    pub(crate) key: usize,
    /// The connection's number in the run.
    pub(crate) index: u32,
    /// What the command keeps for it.
    pub(crate) client: &'a mut C,
    /// What this thread counts.
    pub(crate) tally: &'a mut Tally,
    pub(crate) wire: Wire<'a>,
    pub(crate) transport: &'a mut Transport,
    pub(crate) lanes: &'a Lanes,
    pub(crate) phase: &'a mut Phase,
    pub(crate) since: &'a mut Nanos,
    pub(crate) connecting: &'a mut u32,
    pub(crate) paused: &'a mut bool,
    pub(crate) wait: &'a mut Wait,
    pub(crate) timeout: Nanos,
}

/// What a connection waits for, and until when.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wait {
    /// What and until when, if anything.
    pub(crate) pending: Option<(Waiting, Nanos)>,
}

impl<C> Link<'_, C> {
    /// When the last bytes came, or when the turn began.
    pub(crate) fn now(&self) -> Nanos {
        self.wire.now
    }

    /// Queues a message; it leaves when the event or turn is done with the connection.
    pub(crate) fn send(&mut self, message: Message) -> Result<(), Trouble> {
        self.transport.send(&mut self.wire, message)
    }

    /// Counts the connection as open; returns how long that took since it was begun.
    pub(crate) fn count_open(&mut self) -> Nanos {
        let now = self.now();
        *self.phase = Phase::Open;
        *self.connecting -= 1;
        self.rest();
        self.tally.connected += 1;
        self.tally.open += 1;
        let took = now.saturating_sub(std::mem::replace(self.since, now));
        self.tally.handshake.record(took);
        took
    }

    /// Waits for something, with the run's timeout.
    pub(crate) fn await_for(&mut self, waiting: Waiting) {
        self.wait.pending = Some((waiting, self.wire.now + self.timeout));
    }

    /// How long it has waited for what it waits for.
    pub(crate) fn waited(&self) -> Option<Nanos> {
        let (_, until) = self.wait.pending?;
        Some((self.wire.now + self.timeout).saturating_sub(until))
    }

    /// Waits no longer.
    pub(crate) fn rest(&mut self) {
        self.wait.pending = None;
    }

    /// Reads no more, behind what was read already, until [`Table::resume`] or the close. That the
    /// peer has ended the stream is seen all the same, and ends the connection.
    pub(crate) fn stop_reading(&mut self) {
        *self.paused = true;
        self.wire.leave_rest();
    }

    /// Begins to close the connection, from within an event or a turn.
    pub(crate) fn begin_close(&mut self) -> Result<(), Trouble> {
        *self.phase = Phase::Closing;
        self.tally.closing += 1;
        self.await_for(Waiting::Close);
        self.transport.close(&mut self.wire)
    }

    /// Writes what is queued, as far as the socket takes it.
    pub(crate) fn flush(&mut self) -> Result<(), Trouble> {
        self.transport.flush(&mut self.wire)
    }

    /// The next message, or `None` when all is read that has come.
    pub(crate) fn read(&mut self) -> Result<Option<Message>, Trouble> {
        self.transport.read(&mut self.wire)
    }
}
