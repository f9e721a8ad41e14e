//! `stall`: a broadcast in which some members stop reading once they have joined; what the others
//! feel, and what becomes of those.

/// What a thread counts of the members that stall.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    /// Members that stopped reading.
    pub(crate) stalled: u64,
    /// Of these, those that the server had closed by the end, or did while they caught up.
    pub(crate) closed: u64,
    /// Of these, those that at the end read all that had piled up.
    pub(crate) drained: u64,
    /// Messages that had piled up.
    pub(crate) piled_up: u64,
    /// Of those that read all that had piled up, those for whom the server had dropped publishes.
    pub(crate) trimmed: u64,
    /// The publishes that it had dropped for these.
    pub(crate) dropped: u64,
    /// Deliveries to members that caught up which were not whole, came again or out of order.
    pub(crate) wrong: u64,
}

impl Counts {
    /// Adds what another thread counted.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.stalled += other.stalled;
        self.closed += other.closed;
        self.drained += other.drained;
        self.piled_up += other.piled_up;
        self.trimmed += other.trimmed;
        self.dropped += other.dropped;
        self.wrong += other.wrong;
    }
}
