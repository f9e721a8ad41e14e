//! The ends of a connection: by the peer, by a violation, by a handler, by time or by want of memory.

use super::inbound::{Ended, Inbound};
use super::life::{Connection, Env, Phase};
use super::timers::Tick;
use crate::protocol::{Violation, put_close};
use crate::telemetry::counters::CloseCause;

impl Connection {
    /// The peer ended the stream: no more bytes will come.
    pub fn receive_eof(&mut self, env: &mut Env<'_>) {
        match self.phase {
            Phase::Open => {
                let inside = !matches!(std::mem::take(&mut self.inbound), Inbound::Nothing);
                self.ended = Ended::Eof;
                // Where there is no Close, this is one, but for an end inside a message.
                let is_close = !env.decoder.framing.has_control_frames() && !inside;
                let cause = if is_close { CloseCause::PeerClose } else { CloseCause::PeerEof };
                self.drain(cause, env);
            }
            Phase::Draining => self.ended = Ended::Eof,
            Phase::Closing | Phase::Responding if self.outbox.is_some() => self.ended = Ended::Eof,
            _ => self.phase = Phase::Dead,
        }
    }

    /// The socket failed: nothing can be sent or received any more.
    pub fn failed(&mut self, cause: CloseCause) {
        self.cause.get_or_insert(cause);
        self.phase = Phase::Dead;
    }

    /// Closes now, behind what is queued. `false`: it was closing already.
    pub fn close(&mut self, code: u16, reason: &str, cause: CloseCause, env: &mut Env<'_>) -> bool {
        if !matches!(self.phase, Phase::Open | Phase::Draining) {
            return false;
        }
        self.cause.get_or_insert(cause);
        self.put_close(Some(code), reason, env);
        true
    }

    /// Closes once what was handed over is settled; nothing more is read until then.
    pub fn close_in_order(&mut self, cause: CloseCause, env: &mut Env<'_>) {
        if self.phase == Phase::Open {
            self.drain(cause, env);
        }
    }

    /// Whether nothing is owed and the peer has ended too, so that [`flushed`](Self::flushed) is
    /// to be asked although nothing was written.
    #[inline]
    #[must_use]
    pub fn is_to_be_shut(&self) -> bool {
        self.phase == Phase::Closing && self.ended != Ended::No && self.outbox.is_none()
    }

    /// To be asked when nothing is owed any more: whether our side of the TCP connection is to be
    /// shut now. The connection may be `Dead` after it instead.
    pub fn flushed(&mut self, now: Tick) -> bool {
        debug_assert!(self.outbox.is_none());
        match (self.phase, self.ended) {
            (Phase::Closing, Ended::No) => false,
            (Phase::Closing, Ended::Close { bytes_behind: false, .. } | Ended::Eof)
            | (Phase::Responding, Ended::Eof) => {
                self.phase = Phase::Dead;
                false
            }
            (Phase::Closing | Phase::Responding, _) => {
                self.enter(Phase::Lingering, now);
                true
            }
            _ => false,
        }
    }

    pub(super) fn peer_closed(&mut self, code: Option<u16>, bytes_behind: bool, env: &mut Env<'_>) {
        self.ended = Ended::Close { code, bytes_behind };
        if self.phase == Phase::Open {
            self.drain(CloseCause::PeerClose, env);
        }
    }

    pub(super) fn violated(&mut self, violation: Violation, env: &mut Env<'_>) {
        self.ended = Ended::Violation(violation);
        self.drain(
            match violation.close_code() {
                1007 => CloseCause::InvalidUtf8,
                1009 => CloseCause::TooBig,
                _ => CloseCause::ProtocolError,
            },
            env,
        );
    }

    /// The connection is to end once what it handed over is settled.
    pub(super) fn drain(&mut self, cause: CloseCause, env: &mut Env<'_>) {
        if self.phase == Phase::Closing {
            // A violation while we wait for the peer's Close: ours is out, there is no more to say.
            return;
        }
        self.cause.get_or_insert(cause);
        self.forget_unless_reading();
        self.enter(Phase::Draining, env.now);
        if self.in_flight == 0 {
            self.queue_close(env);
        }
    }

    /// Queues the Close that fits how the connection came to its end.
    pub(super) fn queue_close(&mut self, env: &mut Env<'_>) {
        let (code, reason) = match (self.ended, self.cause) {
            (Ended::Close { code, .. }, _) => (code, ""),
            (Ended::Violation(violation), _) => (Some(violation.close_code()), violation.reason()),
            (Ended::Eof, _) => (Some(1002), "the stream ended without a Close frame"),
            (Ended::No, Some(CloseCause::Shutdown)) => (Some(1001), "the gateway is going away"),
            (Ended::No, Some(CloseCause::IdleTimeout)) => (Some(1001), "idle for too long"),
            (Ended::No, Some(CloseCause::LoginTimeout)) => (Some(1008), "no login in time"),
            (Ended::No, Some(CloseCause::MessageTimeout)) => {
                (Some(1008), "a message took too long")
            }
            (Ended::No, Some(CloseCause::RateLimit)) => (Some(1008), "more than the limit allows"),
            (Ended::No, Some(CloseCause::MemoryLimit)) => (Some(1013), "out of memory for this"),
            (Ended::No, _) => (Some(1000), ""),
        };
        self.put_close(code, reason, env);
    }

    pub(super) fn put_close(&mut self, code: Option<u16>, reason: &str, env: &mut Env<'_>) {
        if !env.decoder.framing.has_control_frames() {
            return self.end_without_close(env);
        }
        let mut frame = Vec::with_capacity(128);
        put_close(env.decoder.framing, &mut frame, code, reason);
        self.forget_unless_reading();
        self.enter(Phase::Closing, env.now);
        // Past the limit by at most one control frame: a Close is never refused.
        self.outbox(env).push_own(&frame, true);
    }

    /// Ends where there is no Close to send and none to wait for: our side of the TCP connection is
    /// shut behind what is owed, and what still comes is thrown away.
    fn end_without_close(&mut self, env: &mut Env<'_>) {
        if self.ended == Ended::No {
            self.ended = Ended::Close { code: None, bytes_behind: true };
        }
        self.inbound = Inbound::Nothing;
        self.enter(Phase::Closing, env.now);
        // All that was owed may have been given up.
        if let Some(outbox) = self.outbox.take_if(|outbox| outbox.is_empty()) {
            env.outboxes.give(outbox);
        }
    }

    /// Lets go of a partial frame, unless the peer's Close, still to come, would be lost in it.
    fn forget_unless_reading(&mut self) {
        if self.ended != Ended::No {
            self.inbound = Inbound::Nothing;
        }
    }

    /// More is owed than the limit allows: nothing but the Close follows what is begun.
    #[cold]
    pub(super) fn overflowed(&mut self, env: &mut Env<'_>) {
        if let Some(outbox) = &mut self.outbox {
            outbox.keep_begun_frame_only(env.decoder.framing);
        }
        self.cause.get_or_insert(CloseCause::OutboundLimit);
        self.put_close(Some(1008), "too slow for what is sent", env);
    }

    /// Gives up what is owed and held, because memory is short.
    pub fn shed(&mut self, env: &mut Env<'_>) {
        if let Some(outbox) = &mut self.outbox {
            outbox.keep_begun_frame_only(env.decoder.framing);
        }
        self.cause.get_or_insert(CloseCause::MemoryLimit);
        if matches!(self.phase, Phase::Open | Phase::Draining) {
            if self.ended == Ended::No && !matches!(self.inbound, Inbound::Nothing) {
                // Inside a frame that is given up: what follows can't be read, only thrown away.
                self.ended = Ended::Close { code: None, bytes_behind: true };
            }
            self.put_close(Some(1013), "shed: the gateway is out of memory", env);
        } else {
            self.phase = Phase::Dead;
        }
    }
}
