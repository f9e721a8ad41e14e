//! What a thread counts on the course of `scale`.

use crate::{clock::Nanos, tally::Latency};

/// The stages that are measured, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Measured {
    /// Pings and pongs.
    Ping,
    /// Echoes.
    Echo,
    /// Joins.
    Join,
    /// The publish and its deliveries.
    Publish,
}

/// When a stage began on the first thread and ended on the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) from: Nanos,
    pub(crate) to: Nanos,
}

/// What each stage did.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    /// Pings sent.
    pub(crate) pinged: u64,
    /// Pongs with the right payload.
    pub(crate) ponged: u64,
    /// Echoes asked for.
    pub(crate) echoes: u64,
    /// Answers with every character right.
    pub(crate) echoed: u64,
    /// Other answers.
    pub(crate) misechoed: u64,
    /// Connections that were to join.
    pub(crate) joining: u64,
    /// Joins answered.
    pub(crate) joined: u64,
    /// Publishes sent.
    pub(crate) published: u64,
    /// Members that get no publish, as it is their own.
    pub(crate) excluded: u64,
    /// Members that got the publish, with every character right.
    pub(crate) delivered: u64,
    /// Members that did not.
    pub(crate) missing: u64,
    /// Deliveries that came again.
    pub(crate) duplicate: u64,
    /// Data with other characters than were sent, of another run, or not for this connection.
    pub(crate) corrupt: u64,
    /// From ping to pong.
    pub(crate) ping: Latency,
    /// From a question to its echo.
    pub(crate) echo: Latency,
    /// From a join to its answer.
    pub(crate) join: Latency,
    /// From the publish to each delivery.
    pub(crate) delivery: Latency,
    spans: [Span; 4],
}

impl Default for Span {
    fn default() -> Self {
        Self { from: Nanos::MAX, to: 0 }
    }
}

impl Span {
    /// How long it was; 0 if it never was.
    pub(crate) fn nanos(&self) -> Nanos {
        self.to.saturating_sub(self.from)
    }

    fn merge(&mut self, other: &Self) {
        self.from = self.from.min(other.from);
        self.to = self.to.max(other.to);
    }
}

impl Counts {
    /// Adds what another thread counted.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.pinged += other.pinged;
        self.ponged += other.ponged;
        self.echoes += other.echoes;
        self.echoed += other.echoed;
        self.misechoed += other.misechoed;
        self.joining += other.joining;
        self.joined += other.joined;
        self.published += other.published;
        self.excluded += other.excluded;
        self.delivered += other.delivered;
        self.missing += other.missing;
        self.duplicate += other.duplicate;
        self.corrupt += other.corrupt;
        self.ping.merge(&other.ping);
        self.echo.merge(&other.echo);
        self.join.merge(&other.join);
        self.delivery.merge(&other.delivery);
        for (span, other) in self.spans.iter_mut().zip(&other.spans) {
            span.merge(other);
        }
    }

    /// Things that went wrong, of all kinds.
    pub(crate) fn errors(&self) -> u64 {
        self.misechoed + self.missing + self.duplicate + self.corrupt
    }

    /// When a stage was.
    pub(crate) fn span(&self, stage: Measured) -> Span {
        self.spans[stage as usize]
    }

    /// Notes when a stage was on this thread.
    pub(super) fn note_span(&mut self, stage: Measured, from: Nanos, to: Nanos) {
        self.spans[stage as usize].merge(&Span { from, to });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_go_from_the_first_thread_to_the_last() {
        let (mut one, mut two) = (Counts::default(), Counts::default());
        one.note_span(Measured::Echo, 5, 9);
        two.note_span(Measured::Echo, 3, 7);
        one.merge(&two);
        assert_eq!(one.span(Measured::Echo), Span { from: 3, to: 9 });
        assert_eq!(one.span(Measured::Ping).nanos(), 0);
    }
}
