//! When something is due on a connection. Times are ticks, passed in.

use std::num::NonZeroU32;

use super::life::Phase;

/// A point in time, in ticks of [`TICK_MS`](crate::limits::TICK_MS) since the gateway's start.
pub type Tick = u32;

/// All the times that a connection is held to, in ticks; `None` is never.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// Accept → upgraded.
    pub handshake: u32,
    /// Last byte → closed.
    pub idle: Option<NonZeroU32>,
    /// Open → logged in.
    pub login: Option<NonZeroU32>,
    /// First byte of a message → its last.
    pub message: Option<NonZeroU32>,
    /// Last byte → ping.
    pub ping: Option<NonZeroU32>,
    /// Ping → any byte.
    pub pong: u32,
    /// Owed bytes without progress → aborted.
    pub write: u32,
    /// Closing → gone.
    pub close: u32,
}

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Nothing before this tick; ask again then.
    Nothing(Tick),
    /// No complete request in time.
    Handshake,
    /// No byte for too long.
    Idle,
    /// No login in time.
    Login,
    /// A begun message did not end.
    Message,
    /// It is time to ask whether the peer is there.
    Ping,
    /// It did not answer.
    Pong,
    /// It does not take what it is owed.
    Write,
    /// It did not go in time.
    Close,
}

/// The ticks that a connection remembers. 0 is "not running".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Stamps {
    /// Since when the phase lasts, where phases are timed.
    pub(super) phase: Tick,
    /// When a byte last came.
    pub(super) read: Tick,
    /// When a ping went out that nothing has come after.
    pub(super) ping: Tick,
    /// When the unfinished message began.
    pub(super) message: Tick,
    /// Since when owed bytes have not moved.
    pub(super) write: Tick,
    /// Whether it has logged in: once is for all.
    pub(super) logged_in: bool,
}

/// `ticks` ± 10 %, by `seed`: so that a million clients that came together do not ping together.
#[must_use]
pub fn jittered(ticks: u32, seed: u64) -> u32 {
    let spread = u64::from(ticks) / 5;
    let mixed = (seed ^ seed >> 31).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
    (u64::from(ticks) - spread / 2 + mixed % (spread + 1)).max(1) as u32
}

impl Stamps {
    /// What is due at `now`, the gravest first.
    pub(super) fn due(
        &self,
        phase: Phase,
        paused: bool,
        timeouts: &Timeouts,
        seed: u64,
        now: Tick,
    ) -> Due {
        let mut next = Tick::MAX;
        let mut passed = |since: Tick, ticks: u32| {
            let at = since.saturating_add(ticks);
            if at > now {
                next = next.min(at);
            }
            at <= now
        };
        if self.write != 0 && passed(self.write, timeouts.write) {
            return Due::Write;
        }
        match phase {
            Phase::Handshake | Phase::Admitting => {
                if !paused && passed(self.phase, timeouts.handshake) {
                    return Due::Handshake;
                }
            }
            Phase::Draining | Phase::Closing | Phase::Lingering | Phase::Responding => {
                if passed(self.phase, timeouts.close) {
                    return Due::Close;
                }
            }
            Phase::Open if !paused => {
                if self.ping != 0 && passed(self.ping, timeouts.pong) {
                    return Due::Pong;
                }
                if let Some(ticks) = timeouts.login
                    && !self.logged_in
                    && passed(self.phase, ticks.get())
                {
                    return Due::Login;
                }
                if let Some(ticks) = timeouts.idle
                    && passed(self.read, ticks.get())
                {
                    return Due::Idle;
                }
                if let Some(ticks) = timeouts.message
                    && self.message != 0
                    && passed(self.message, ticks.get())
                {
                    return Due::Message;
                }
                if let Some(ticks) = timeouts.ping
                    && self.ping == 0
                    && passed(self.read, jittered(ticks.get(), seed))
                {
                    return Due::Ping;
                }
            }
            Phase::Open | Phase::Dead => {}
        }
        Due::Nothing(next)
    }
}
