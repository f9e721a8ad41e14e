//! What a thread counts while it broadcasts.

use crate::{
    rooms::{Order, Serial},
    tally::Latency,
};

/// Publishes and deliveries. Deliveries to members that stall are not among them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    /// Members whose join was answered.
    pub(crate) joined: u64,
    /// Publishes sent.
    pub(crate) publishes: u64,
    /// Of these, those that were sent in the time in which publishes are due.
    pub(crate) sent_in_time: u64,
    /// Publishes that were due on connections lost before.
    pub(crate) unsent: u64,
    /// Publishes times members, over all rooms.
    pub(crate) expected: u64,
    /// Deliveries with every character right, for the first time.
    pub(crate) right: u64,
    /// Of these, those that came in the time in which publishes are due.
    pub(crate) in_time: u64,
    /// Deliveries that never came.
    pub(crate) missing: u64,
    /// Deliveries that came again.
    pub(crate) duplicate: u64,
    /// Deliveries that came after a later one of the same publisher.
    pub(crate) reordered: u64,
    /// Deliveries that came in another order than to the member that was first.
    pub(crate) differing: u64,
    /// Deliveries with other characters than were sent, or in another envelope than their dialect's.
    pub(crate) corrupt: u64,
    /// Deliveries of another room or run, or of what a publisher is not to get of its own.
    pub(crate) foreign: u64,
    /// Deliveries whose order could not be compared, as the log of their room was full.
    pub(crate) uncompared: u64,
    /// Publishes and joins that the server refused.
    pub(crate) refused: u64,
    /// From a join to its answer.
    pub(crate) join: Latency,
    /// From when a publish was due to each right delivery.
    pub(crate) delivery: Latency,
    /// From when a publish was due to when it was sent: the generator's own part.
    pub(crate) lag: Latency,
}

impl Counts {
    /// Adds what another thread counted.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.joined += other.joined;
        self.publishes += other.publishes;
        self.sent_in_time += other.sent_in_time;
        self.unsent += other.unsent;
        self.expected += other.expected;
        self.right += other.right;
        self.in_time += other.in_time;
        self.missing += other.missing;
        self.duplicate += other.duplicate;
        self.reordered += other.reordered;
        self.differing += other.differing;
        self.corrupt += other.corrupt;
        self.foreign += other.foreign;
        self.uncompared += other.uncompared;
        self.refused += other.refused;
        self.join.merge(&other.join);
        self.delivery.merge(&other.delivery);
        self.lag.merge(&other.lag);
    }

    /// What went wrong, by what it is called.
    pub(crate) fn wrongs(&self) -> [(u64, &'static str); 9] {
        [
            (self.missing, "missing"),
            (self.duplicate, "duplicate"),
            (self.reordered, "reordered"),
            (self.differing, "in another order than to others"),
            (self.corrupt, "corrupt"),
            (self.foreign, "not for this member, or of another run"),
            (self.uncompared, "of an order not compared (run shorter)"),
            (self.refused, "refused by the server"),
            (self.unsent, "not sent: their connection was lost"),
        ]
    }

    /// Things that went wrong, of all kinds.
    pub(crate) fn errors(&self) -> u64 {
        self.wrongs().iter().map(|(count, _)| count).sum()
    }

    /// Counts how a delivery fits those of its publisher.
    pub(super) fn note_serial(&mut self, serial: Serial) {
        match serial {
            Serial::Newer => {}
            Serial::Late => self.reordered += 1,
            Serial::Again => self.duplicate += 1,
        }
    }

    /// Counts how a delivery fits the order of its room.
    pub(super) fn note_order(&mut self, order: Order) {
        match order {
            Order::Same => {}
            Order::Differs => self.differing += 1,
            Order::Unknown => self.uncompared += 1,
        }
    }
}
