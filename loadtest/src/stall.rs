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
}

impl Counts {
    /// Adds what another thread counted.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.stalled += other.stalled;
        self.closed += other.closed;
        self.drained += other.drained;
        self.piled_up += other.piled_up;
    }
}
