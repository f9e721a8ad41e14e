//! Limits on what comes in: connections that are over one are refused, stopped or closed.

use super::event_loop::EventLoop;
use super::gate::BatchSink;
use super::table::Marks;
use crate::connection::{Phase, Received, Tick};
use crate::id::ConnId;
use crate::quota::{Limit, Over, Ruling, Tally};
use crate::routing::{EndpointId, Refuse};
use crate::telemetry::counters::{CloseCause, LimitHit, RefusalCause};

/// The limits that stop a connection, in the order in which a [`Tally`] names them.
const STOPPING: [Limit; 3] = [Limit::Messages, Limit::Bytes, Limit::Bandwidth];

impl BatchSink<'_> {
    /// Whether a message is handed over; one that is refused is marked so.
    #[inline]
    pub(super) fn meter_message(&mut self, bytes: usize) -> bool {
        let Some(meter) = &mut self.meter else { return true };
        let (limit, over) = match meter.message(bytes) {
            Ruling::Pass => return true,
            Ruling::Refuse(limit) => (limit, Over::Reject),
            Ruling::Close(limit) => (limit, Over::Close),
        };
        self.counters.limits.at(LimitHit::of(limit, over) as usize).add(1);
        if over == Over::Reject {
            self.refused = Some(limit);
        }
        over == Over::Reject
    }
}

impl EventLoop {
    /// Carries out what a read came to; whether more is to be read.
    #[inline(never)]
    pub(super) fn settle_tally(&mut self, index: usize, tally: Tally) -> Received {
        // What stops it until when is told by the levels.
        self.table.set_levels(index, tally.levels);
        if let Some(limit) = tally.close {
            self.close_over(index, limit);
        }
        if let Some((until, by)) = tally.stop
            && self.delay(index, until.tick())
        {
            for limit in STOPPING.iter().zip(by).filter_map(|(limit, by)| by.then_some(*limit)) {
                self.count_hit(limit, Over::Delay);
            }
        }
        if tally.close.is_some() { Received::Stop } else { Received::Continue }
    }

    pub(super) fn count_hit(&self, limit: Limit, over: Over) {
        self.counters.limits.at(LimitHit::of(limit, over) as usize).add(1);
    }

    /// Does not read from a connection before a tick. `false`: it is not read from anyway.
    fn delay(&mut self, index: usize, until: Tick) -> bool {
        let tick = self.kit.tick;
        let Some(slot) = self.table.get_mut(index) else { return false };
        if slot.conn.phase() != Phase::Open {
            return false;
        }
        if slot.marks.has(Marks::HANGUP)
            && slot.socket.as_ref().is_some_and(|s| !matches!(s.take_error(), Ok(None)))
        {
            // The event that told of it is spent, and nobody would read the error before.
            self.socket_failed(index);
            return false;
        }
        if !slot.marks.has(Marks::DELAYED) {
            slot.marks.set(Marks::DELAYED);
            slot.conn.set_paused(true, tick);
            self.counters.delayed.add(1);
        }
        let mut levels = self.table.levels(index);
        levels.until = levels.until.max(until);
        self.table.set_levels(index, levels);
        self.table.arm(index, levels.until);
        self.next_sweep = self.next_sweep.min(levels.until);
        true
    }

    /// Reads on from a connection that was stopped, once it may be or has to be.
    pub(super) fn undelay(&mut self, index: usize) {
        let tick = self.kit.tick;
        let Some(slot) = self.table.get_mut(index) else { return };
        if !slot.marks.has(Marks::DELAYED) {
            return;
        }
        slot.marks.clear(Marks::DELAYED);
        self.counters.delayed.sub(1);
        if !slot.marks.has(Marks::PAUSED) {
            slot.conn.set_paused(false, tick);
            self.rearm(index);
            self.queue_run(index);
        }
    }

    /// A shard found a connection over the limit of a route: it is stopped until then, or closed.
    pub(super) fn over_route(&mut self, conn: ConnId, until: Option<Tick>) {
        // One that has ended is stopped and closed.
        let Some((index, _)) = self.table.find(conn) else { return };
        let Some(until) = until else { return self.close_over(index, Limit::Route) };
        let was_delayed = self.table.get_mut(index).is_some_and(|s| s.marks.has(Marks::DELAYED));
        if self.delay(index, until) && !was_delayed {
            self.count_hit(Limit::Route, Over::Delay);
        }
    }

    fn close_over(&mut self, index: usize, limit: Limit) {
        let closed = self.change(index, |conn, env| {
            let is_open = conn.phase() == Phase::Open;
            conn.close_in_order(CloseCause::RateLimit, env);
            is_open
        });
        if closed == Some(true) {
            self.count_hit(limit, Over::Close);
        }
    }

    /// Takes one of an endpoint's places. `false`: there is none.
    pub(super) fn take_place(&mut self, index: usize, endpoint: EndpointId) -> bool {
        let Some(places) = self.kit.places(endpoint) else { return true };
        if !places.held.reserve(places.max) {
            self.count_hit(Limit::Connections, Over::Reject);
            return false;
        }
        if let Some(slot) = self.table.get_mut(index) {
            slot.endpoint = endpoint;
            slot.marks.set(Marks::PLACED);
        }
        true
    }

    /// Gives its place back, if it has one.
    pub(super) fn leave_place(&mut self, index: usize) {
        let Some(slot) = self.table.get_mut(index) else { return };
        if slot.marks.has(Marks::PLACED) {
            slot.marks.clear(Marks::PLACED);
            let endpoint = slot.endpoint;
            if let Some(places) = self.kit.places(endpoint) {
                places.held.release();
            }
        }
    }

    /// Tells a request that its endpoint is full.
    pub(super) fn refuse_for_place(&mut self, index: usize, endpoint: EndpointId) {
        let status = self.kit.snapshot.endpoint(endpoint).full_status;
        let refuse = Refuse {
            headers: vec![("Retry-After".to_owned(), "5".to_owned())],
            ..Refuse::new(status, "this endpoint is full; come again later\n")
        };
        self.respond_refusal(index, RefusalCause::EndpointFull, &refuse);
    }
}
