//! What becomes of publishes that a slow connection has no room for, and what its outbox has to know
//! of each of them.

use std::sync::{Arc, OnceLock};

use crate::protocol::deflate::{DeflateClass, Deflaters};
use crate::protocol::{SERVER_HEADER_MAX, first_frame, put_compressed_frame};
use crate::telemetry::memory::{Charge, Component, MemoryGauge};

/// What to do with publishes that a slow connection has no room for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OverflowPolicy {
    /// Close it; nothing but the Close follows.
    #[default]
    Close,
    /// Drop its oldest publishes of which no byte was written.
    DropOldest,
    /// Keep of each room's publishes with one key only the latest, and drop the oldest if that is not
    /// enough.
    KeepLatest,
}

/// How publishes and pushes are kept from heaping up before a connection that is slow.
///
/// It can be given with one publish, by a route, and by a room. What one of them leaves open, the
/// next has: the publish goes before the route, that before the room, that before the connection's
/// endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outbound {
    /// What happens to one that there is no room for; `None` is as the next one has it.
    pub policy: Option<OverflowPolicy>,
    /// Most bytes that one connection may be owed of one room's publishes, or of pushes, which are no
    /// room's, entries' overhead included. One that finds none of its kind waiting always fits.
    /// `None` is as the next one has it; where nobody has any, only the connection's own limit holds.
    pub budget_bytes: Option<usize>,
}

impl Outbound {
    /// Under this policy, with a budget as the next one has it.
    #[must_use]
    pub const fn new(policy: OverflowPolicy) -> Self {
        Self { policy: Some(policy), budget_bytes: None }
    }

    /// With a budget.
    #[must_use]
    pub const fn budget(mut self, bytes: usize) -> Self {
        self.budget_bytes = Some(bytes);
        self
    }

    /// Itself, and what it leaves open as `next` has it.
    #[inline]
    #[must_use]
    pub fn or(self, next: Self) -> Self {
        Self {
            policy: self.policy.or(next.policy),
            budget_bytes: self.budget_bytes.or(next.budget_bytes),
        }
    }
}

/// Publishes of one key replace each other under [`OverflowPolicy::KeepLatest`], but for [`NO_KEY`].
pub type SharedKey = u64;

/// The key of publishes that nothing replaces.
pub const NO_KEY: SharedKey = 0;

/// The budget of publishes that have none: more than anything can be owed.
pub const NO_BUDGET: usize = usize::MAX;

/// What outboxes have to know of a publish beside its bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PublishTerms {
    /// What its bytes count towards, where it has a budget: a number for each room, 0 for pushes.
    pub account: u64,
    /// What it replaces under `keep-latest`.
    pub key: SharedKey,
    /// Its policy, where it is not that of the receiver's endpoint, and its budget.
    pub outbound: Outbound,
}

/// A frame encoded once and owed to many. Counted once, from encode to last drop.
#[derive(Debug)]
pub struct SharedFrame {
    bytes: Box<[u8]>,
    /// The budget at hand for each delivery; without one, as much as there can be.
    budget_bytes: usize,
    /// Neither policy nor budget of its own.
    is_plain: bool,
    terms: PublishTerms,
    charge: Charge,
    /// What it is for connections with permessage-deflate, once any has been sent it.
    compressed: OnceLock<Box<Compressed>>,
}

/// A frame compressed for each class; `None`: it is sent as it is.
type Compressed = [OnceLock<Option<Arc<SharedFrame>>>; DeflateClass::COUNT];

impl SharedFrame {
    /// Takes the bytes of one whole message (one frame) and counts them.
    #[must_use]
    pub fn new(bytes: Box<[u8]>, terms: PublishTerms, memory: &Arc<MemoryGauge>) -> Self {
        let charge = Charge::new(memory, Component::Frames, bytes.len());
        Self::counted(bytes, terms, charge)
    }

    fn counted(bytes: Box<[u8]>, terms: PublishTerms, charge: Charge) -> Self {
        let budget_bytes = terms.outbound.budget_bytes.unwrap_or(NO_BUDGET);
        let is_plain = terms.outbound == Outbound::default();
        Self { bytes, budget_bytes, is_plain, terms, charge, compressed: OnceLock::new() }
    }

    /// The same message, compressed for all connections of a class, by whoever needs it first: who
    /// comes meanwhile waits, which takes no longer than doing it again. `None`: they are sent this
    /// frame as it is, because it is short or would be no shorter.
    #[must_use]
    pub fn compressed(&self, class: DeflateClass, deflaters: &mut Deflaters) -> Option<&Arc<Self>> {
        let (kind, message) = first_frame(&self.bytes).message?;
        if deflaters.is_short(message.len()) {
            return None;
        }
        let of_classes = self.compressed.get_or_init(Box::default);
        let made = of_classes[class.index()].get_or_init(|| {
            let mut payload = Vec::new();
            let pays = deflaters.compress(class, message, &mut payload);
            pays.then(|| {
                let mut bytes = Vec::with_capacity(payload.len() + SERVER_HEADER_MAX);
                put_compressed_frame(&mut bytes, kind, &payload);
                let charge = self.charge.another(bytes.len());
                Arc::new(Self::counted(bytes.into_boxed_slice(), self.terms, charge))
            })
        });
        made.as_ref()
    }

    /// The wire bytes.
    #[inline]
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Most bytes that a receiver may be owed of its account; [`NO_BUDGET`] where it has none.
    #[inline]
    #[must_use]
    pub fn budget_bytes(&self) -> usize {
        self.budget_bytes
    }

    /// Whether it has neither policy nor budget of its own.
    #[inline]
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.is_plain
    }

    /// What outboxes have to know of it.
    #[inline]
    #[must_use]
    pub fn terms(&self) -> &PublishTerms {
        &self.terms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_leaves_open_the_next_has() {
        let publish = Outbound::default().budget(10);
        let route = Outbound::new(OverflowPolicy::KeepLatest);
        let room = Outbound::new(OverflowPolicy::DropOldest).budget(20);
        let both = Outbound::new(OverflowPolicy::KeepLatest).budget(10);
        assert_eq!(publish.or(route).or(room), both);
        assert_eq!(publish.or(route.or(room)), both);
        assert_eq!(Outbound::default().or(room), room);
        assert_eq!(room.or(route), room);
    }
}
