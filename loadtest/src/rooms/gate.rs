//! Where the threads of a run wait for each other without blocking: each says that it has come, and
//! looks every turn whether all have.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::*};

use crate::clock::Nanos;

/// Opens once all threads have come. What a thread did before it came, all see behind the gate.
#[derive(Debug)]
pub(crate) struct Gate {
    missing: AtomicU32,
    opened: AtomicU64,
}

impl Gate {
    /// A gate for so many threads, at least one.
    pub(crate) fn new(threads: u32) -> Self {
        Self { missing: AtomicU32::new(threads), opened: AtomicU64::new(Nanos::MAX) }
    }

    /// Says that the calling thread has come, at `now`. Each thread says so once.
    pub(crate) fn arrive(&self, now: Nanos) {
        if self.missing.fetch_sub(1, AcqRel) == 1 {
            self.opened.store(now, Release);
        }
    }

    /// When the last thread came, if it has.
    pub(crate) fn opened(&self) -> Option<Nanos> {
        Some(self.opened.load(Acquire)).filter(|at| *at != Nanos::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_thread_opens_the_gate() {
        let gate = Gate::new(2);
        gate.arrive(3);
        assert_eq!(gate.opened(), None);
        gate.arrive(5);
        assert_eq!(gate.opened(), Some(5));
    }
}
