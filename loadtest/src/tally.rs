//! What one thread counts, and what all threads counted together.

use hdrhistogram::Histogram;

use crate::{
    broadcast, churn,
    clock::Nanos,
    scale, slow_handshake, stall, storm, tls,
    trouble::{Kinds, merge},
};

/// Three significant digits, growing as needed: a histogram takes no memory for what never happens.
const DIGITS: u8 = 3;

/// Latencies in nanoseconds.
#[derive(Clone, Debug)]
pub(crate) struct Latency(Histogram<u32>);

/// Picks one latency of a tally.
pub(crate) type Pick = fn(&Tally) -> &Latency;

/// The results of a thread or, merged, of the run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    /// Connections begun.
    pub(crate) attempted: u64,
    /// Handshakes completed.
    pub(crate) connected: u64,
    /// Of these, in the ramp.
    pub(crate) ramped: u64,
    /// Connections open now.
    pub(crate) open: u64,
    /// Pings answered with the right payload.
    pub(crate) verified: u64,
    /// Joins answered, of `connect`.
    pub(crate) joined: u64,
    /// Closes sent and not yet answered.
    pub(crate) closing: u64,
    /// Closes answered.
    pub(crate) closed: u64,
    /// Of these, streams that the server did not end within the timeout (RFC 6455, section 7.1.1).
    pub(crate) left_open: u64,
    /// Connections that the command dropped without a Close.
    pub(crate) aborted: u64,
    /// Messages sent.
    pub(crate) sent: u64,
    /// Messages received.
    pub(crate) received: u64,
    /// Answers that were right, whenever they came.
    pub(crate) right: u64,
    /// Those of them that came before the end of the measured time.
    pub(crate) in_time: u64,
    /// Messages whose answer never came.
    pub(crate) unanswered: u64,
    /// Messages that were due on connections lost before.
    pub(crate) unsent: u64,
    /// Bytes read from sockets.
    pub(crate) bytes_in: u64,
    /// Bytes written to sockets.
    pub(crate) bytes_out: u64,
    /// Connections that never opened.
    pub(crate) refused: Kinds,
    /// Connections lost while they should have been open.
    pub(crate) lost: Kinds,
    /// Open connections that the peer ended as the command wanted it to.
    pub(crate) foreseen: Kinds,
    /// Answers that differ from what was sent.
    pub(crate) wrong: Kinds,
    /// Connections whose Close was not answered, or with more than the end of the stream behind it.
    pub(crate) unclosed: Kinds,
    /// From connect (or when it was due) to the checked answer of the handshake.
    pub(crate) handshake: Latency,
    /// From our Close to the peer's.
    pub(crate) close: Latency,
    /// From ping to pong.
    pub(crate) ping: Latency,
    /// From sending (or when it was due) to the answer.
    pub(crate) answer: Latency,
    /// From when a message was due to when it was sent: the generator's own part.
    pub(crate) lag: Latency,
    /// Handshakes of TLS.
    pub(crate) tls: tls::Counts,
    /// Of `broadcast` and `stall`.
    pub(crate) rooms: broadcast::Counts,
    /// Of `stall`.
    pub(crate) stall: stall::Counts,
    /// Of `scale`.
    pub(crate) scale: scale::Counts,
    /// Of `churn`.
    pub(crate) churn: churn::Counts,
    /// Of `storm`.
    pub(crate) storm: storm::counts::Counts,
    /// Of `slow-handshake`.
    pub(crate) slow_handshake: slow_handshake::Counts,
}

impl Tally {
    /// Adds what another thread counted.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.attempted += other.attempted;
        self.connected += other.connected;
        self.ramped += other.ramped;
        self.open += other.open;
        self.verified += other.verified;
        self.joined += other.joined;
        self.closed += other.closed;
        self.left_open += other.left_open;
        self.aborted += other.aborted;
        self.sent += other.sent;
        self.received += other.received;
        self.right += other.right;
        self.in_time += other.in_time;
        self.unanswered += other.unanswered;
        self.unsent += other.unsent;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        merge(&mut self.refused, &other.refused);
        merge(&mut self.lost, &other.lost);
        merge(&mut self.foreseen, &other.foreseen);
        merge(&mut self.wrong, &other.wrong);
        merge(&mut self.unclosed, &other.unclosed);
        self.handshake.merge(&other.handshake);
        self.close.merge(&other.close);
        self.ping.merge(&other.ping);
        self.answer.merge(&other.answer);
        self.lag.merge(&other.lag);
        self.tls.merge(&other.tls);
        self.rooms.merge(&other.rooms);
        self.stall.merge(&other.stall);
        self.scale.merge(&other.scale);
        self.churn.merge(&other.churn);
        self.storm.merge(&other.storm);
        self.slow_handshake.merge(&other.slow_handshake);
    }

    /// Things that went wrong, of all kinds.
    pub(crate) fn errors(&self) -> u64 {
        let kinds = [&self.refused, &self.lost, &self.wrong, &self.unclosed];
        let counted: u64 = kinds.iter().flat_map(|kinds| kinds.values()).sum();
        let commands = self.rooms.errors() + self.scale.errors() + self.slow_handshake.errors();
        counted + self.unanswered + self.unsent + commands
    }
}

impl Latency {
    /// Counts one latency.
    pub(crate) fn record(&mut self, latency: Nanos) {
        self.0.record(latency.max(1)).expect("a growing histogram takes every value");
    }

    /// How many were counted.
    pub(crate) fn count(&self) -> u64 {
        self.0.len()
    }

    /// The latency that a share of `quantile` (0 to 1) does not exceed, in microseconds.
    pub(crate) fn micros(&self, quantile: f64) -> f64 {
        self.0.value_at_quantile(quantile).min(self.0.max()) as f64 / 1000.0
    }

    /// The highest, in microseconds.
    pub(crate) fn max_micros(&self) -> f64 {
        self.0.max() as f64 / 1000.0
    }

    /// The mean, in microseconds.
    pub(crate) fn mean_micros(&self) -> f64 {
        self.0.mean() / 1000.0
    }

    /// The standard deviation, in microseconds.
    pub(crate) fn stdev_micros(&self) -> f64 {
        self.0.stdev() / 1000.0
    }

    /// What was counted after `earlier`, an earlier state of this.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        let mut later = self.clone();
        later.0.subtract(&earlier.0).expect("counts only grow");
        later
    }

    /// What was counted, in rising order: the highest latency that counts as the same, and how often.
    pub(crate) fn recorded(&self) -> impl Iterator<Item = (Nanos, u64)> {
        let highest = |value| self.0.highest_equivalent(value);
        self.0
            .iter_recorded()
            .map(move |step| (highest(step.value_iterated_to()), step.count_since_last_iteration()))
    }

    /// Steps towards the highest, `ticks` on each half of the distance left: the quantile (0 to 1),
    /// the latency there in microseconds, and how many do not exceed it.
    pub(crate) fn quantiles(&self, ticks: u32) -> Vec<(f64, f64, u64)> {
        let mut counted = 0;
        let steps = self.0.iter_quantiles(ticks).map(|step| {
            counted += step.count_since_last_iteration();
            let micros = step.value_iterated_to().min(self.0.max()) as f64 / 1000.0;
            (step.quantile_iterated_to(), micros, counted)
        });
        steps.collect()
    }

    /// How the histogram is laid out: buckets, and values told apart within one.
    pub(crate) fn layout(&self) -> (u64, u64) {
        (self.0.buckets().into(), (2 * 10_u64.pow(DIGITS.into())).next_power_of_two())
    }

    /// Adds what another thread counted.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.0.add(&other.0).expect("a growing histogram takes every value");
    }
}

impl Default for Latency {
    fn default() -> Self {
        Self(Histogram::new(DIGITS).expect("three digits are allowed"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trouble::{Trouble, count};

    #[test]
    fn tallies_add_up() {
        let mut one = Tally { connected: 2, sent: 5, unanswered: 1, ..Tally::default() };
        count(&mut one.lost, Trouble::Eof);
        one.answer.record(1_000);
        let mut two = Tally { connected: 3, sent: 7, ..Tally::default() };
        count(&mut two.lost, Trouble::Eof);
        two.answer.record(60_000_000_000);
        one.merge(&two);
        assert_eq!((one.connected, one.sent, one.errors()), (5, 12, 3));
        assert_eq!(one.answer.count(), 2);
        assert!((one.answer.micros(0.5) - 1.0).abs() < 0.01);
        assert!((one.answer.max_micros() - 60e6).abs() < 60e3);
    }
}
