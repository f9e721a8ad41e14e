//! The memory ceiling's counters: exact once settled, at most 64 KiB per thread and component off.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

/// How far a thread's own count of a component may run from the shared one, bytes.
pub const SETTLE_BYTES: i64 = 64 * 1024;

/// What buffer memory is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Component {
    /// Shared frames, each once from its encoding to its last drop.
    Frames,
    /// What connections are owed, with the overhead of each entry.
    Outbox,
    /// Partial frames, unfinished messages, request heads.
    Inbound,
    /// Arenas of batches and posts on their way between threads.
    Arenas,
    /// Rooms and memberships, at their homes and on the loops.
    Rooms,
    /// TLS of connections: its state, begun records, and ciphertext that sockets did not take.
    Tls,
    /// What messages are compressed and inflated with: the loops', and with context takeover the
    /// connections'.
    Deflate,
}

impl Component {
    /// Every component, in the order of its index.
    pub const ALL: [Self; 7] = [
        Self::Frames,
        Self::Outbox,
        Self::Inbound,
        Self::Arenas,
        Self::Rooms,
        Self::Tls,
        Self::Deflate,
    ];
}

/// The buffer bytes of the whole process, with their ceiling. Shared by all threads.
///
/// Threads count through a [`LocalMemory`], or hold a [`Charge`].
#[derive(Debug)]
pub struct MemoryGauge {
    /// A component is below zero for a moment when one thread's decrease settles before another's
    /// increase.
    bytes: [AtomicI64; Component::ALL.len()],
    limit_bytes: u64,
}

impl MemoryGauge {
    /// A gauge at zero under a ceiling of `limit_bytes`.
    #[must_use]
    pub fn new(limit_bytes: u64) -> Arc<Self> {
        Arc::new(Self { bytes: Default::default(), limit_bytes })
    }

    /// Settled bytes of a component.
    #[must_use]
    pub fn component(&self, component: Component) -> u64 {
        self.bytes[component as usize].load(Relaxed).max(0).unsigned_abs()
    }

    /// Settled bytes of a component, as they are: below zero only while threads have not settled.
    #[must_use]
    pub fn signed(&self, component: Component) -> i64 {
        self.bytes[component as usize].load(Relaxed)
    }

    /// Settled bytes of all components.
    #[must_use]
    pub fn total(&self) -> u64 {
        let sum: i64 = self.bytes.iter().map(|bytes| bytes.load(Relaxed)).sum();
        sum.max(0).unsigned_abs()
    }

    /// The ceiling, bytes.
    #[must_use]
    pub fn limit(&self) -> u64 {
        self.limit_bytes
    }

    /// Whether the total is beyond the ceiling: time to shed the slowest.
    #[must_use]
    pub fn over_limit(&self) -> bool {
        self.total() > self.limit_bytes
    }

    fn add(&self, component: Component, delta: i64) {
        self.bytes[component as usize].fetch_add(delta, Relaxed);
    }
}

/// One thread's share of the counting: touches the gauge only every [`SETTLE_BYTES`].
///
/// What one thread adds another may take away. Settles what is left when it is dropped.
#[derive(Debug)]
pub struct LocalMemory {
    gauge: Arc<MemoryGauge>,
    /// Not yet in the gauge. Each within `SETTLE_BYTES` of zero between calls.
    deltas: [i64; Component::ALL.len()],
}

impl LocalMemory {
    /// A share with nothing unsettled.
    #[must_use]
    pub fn new(gauge: Arc<MemoryGauge>) -> Self {
        Self { gauge, deltas: Default::default() }
    }

    /// The gauge that this settles into.
    #[must_use]
    pub fn gauge(&self) -> &Arc<MemoryGauge> {
        &self.gauge
    }

    /// Counts `bytes` as taken.
    #[inline]
    pub fn add(&mut self, component: Component, bytes: usize) {
        self.change(component, bytes as i64);
    }

    /// Counts `bytes` as given back.
    #[inline]
    pub fn sub(&mut self, component: Component, bytes: usize) {
        self.change(component, -(bytes as i64));
    }

    /// Counts a change of either sign.
    #[inline]
    pub fn change(&mut self, component: Component, bytes: i64) {
        let delta = &mut self.deltas[component as usize];
        *delta += bytes;
        if delta.abs() >= SETTLE_BYTES {
            self.gauge.add(component, std::mem::take(delta));
        }
    }

    /// Counts that what was counted as `counted` bytes takes `now`, which is what is counted from here
    /// on.
    pub fn recount(&mut self, component: Component, counted: &mut usize, now: usize) {
        self.change(component, now as i64 - *counted as i64);
        *counted = now;
    }

    /// Brings the gauge up to date. To be called before the thread sleeps and before it sheds.
    pub fn settle(&mut self) {
        for component in Component::ALL {
            let delta = std::mem::take(&mut self.deltas[component as usize]);
            if delta != 0 {
                self.gauge.add(component, delta);
            }
        }
    }
}

impl Drop for LocalMemory {
    fn drop(&mut self) {
        self.settle();
    }
}

/// Bytes counted for as long as this lives, whichever thread drops it.
///
/// For things that are few, such as shared frames: it goes to the gauge directly.
#[derive(Debug)]
#[must_use = "dropping it gives the bytes back"]
pub struct Charge {
    gauge: Arc<MemoryGauge>,
    component: Component,
    bytes: i64,
}

impl Charge {
    /// Counts `bytes` as taken.
    pub fn new(gauge: &Arc<MemoryGauge>, component: Component, bytes: usize) -> Self {
        let bytes = bytes as i64;
        gauge.add(component, bytes);
        Self { gauge: Arc::clone(gauge), component, bytes }
    }

    /// Counts `bytes` as taken for the same use.
    pub fn another(&self, bytes: usize) -> Self {
        Self::new(&self.gauge, self.component, bytes)
    }

    /// The bytes counted.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes as usize
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.gauge.add(self.component, -self.bytes);
    }
}

/// What an entry of a hash table takes, bytes: such a table is from seven sixteenths to seven
/// eighths full, and has a byte beside each entry.
#[must_use]
pub const fn in_table(entry_bytes: usize) -> usize {
    (entry_bytes + 1) * 8 / 5
}

/// What a piece of memory takes, bytes, as common allocators have it: eight more, in steps of
/// sixteen.
#[must_use]
pub const fn allocated(bytes: usize) -> usize {
    let taken = (bytes + 8).next_multiple_of(16);
    if taken < 32 { 32 } else { taken }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    #[test]
    fn settles_at_the_threshold_of_either_sign() {
        let gauge = MemoryGauge::new(1 << 20);
        let mut local = LocalMemory::new(Arc::clone(&gauge));
        local.add(Component::Outbox, SETTLE_BYTES as usize - 1);
        assert_eq!(gauge.total(), 0);
        local.add(Component::Outbox, 1);
        assert_eq!(gauge.component(Component::Outbox), SETTLE_BYTES as u64);
        local.sub(Component::Outbox, SETTLE_BYTES as usize);
        assert_eq!(gauge.total(), 0);
    }

    #[test]
    fn components_have_separate_thresholds() {
        let gauge = MemoryGauge::new(1 << 20);
        let mut local = LocalMemory::new(Arc::clone(&gauge));
        for component in Component::ALL {
            local.add(component, 1000);
        }
        assert_eq!(gauge.total(), 0);
        local.settle();
        assert_eq!(gauge.total(), 7000);
        assert!(Component::ALL.iter().all(|c| gauge.component(*c) == 1000));
        local.settle();
        assert_eq!(gauge.total(), 7000);
    }

    #[test]
    fn over_the_limit_is_more_than_the_limit() {
        let gauge = MemoryGauge::new(100);
        let full = Charge::new(&gauge, Component::Frames, 100);
        assert!(!gauge.over_limit());
        let more = Charge::new(&gauge, Component::Frames, 1);
        assert!(gauge.over_limit());
        assert_eq!((full.bytes(), more.bytes(), gauge.component(Component::Frames)), (100, 1, 101));
        drop(full);
        assert!(!gauge.over_limit());
    }

    #[test]
    fn a_decrease_that_settles_first_shows_as_zero() {
        let gauge = MemoryGauge::new(100);
        let mut taker = LocalMemory::new(Arc::clone(&gauge));
        let mut giver = LocalMemory::new(Arc::clone(&gauge));
        taker.add(Component::Arenas, 500);
        giver.sub(Component::Arenas, 500);
        giver.settle();
        assert_eq!((gauge.total(), gauge.component(Component::Arenas)), (0, 0));
        assert!(!gauge.over_limit());
        taker.settle();
        assert_eq!(gauge.total(), 0);
    }

    #[test]
    fn what_threads_take_and_others_give_back_comes_to_zero() {
        let gauge = MemoryGauge::new(1 << 30);
        let (sender, receiver) = mpsc::channel::<(Component, usize, Charge)>();
        thread::scope(|scope| {
            for seed in 1..=3_usize {
                let (gauge, sender) = (&gauge, sender.clone());
                scope.spawn(move || {
                    let mut local = LocalMemory::new(Arc::clone(gauge));
                    for i in 0..5_000 {
                        let (component, bytes) = (Component::ALL[i % 4], i * seed % 9_001);
                        local.add(component, bytes);
                        let charge = Charge::new(gauge, Component::Frames, bytes);
                        sender.send((component, bytes, charge)).unwrap();
                    }
                });
            }
            drop(sender);
            let mut local = LocalMemory::new(Arc::clone(&gauge));
            for (component, bytes, _charge) in receiver {
                local.sub(component, bytes);
            }
        });
        assert!(gauge.bytes.iter().all(|bytes| bytes.load(Relaxed) == 0), "{gauge:?}");
    }
}
