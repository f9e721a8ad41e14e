//! The outbox against a model of it.

#[path = "outbox_model.rs"]
mod model;

use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use self::model::{Model, ModelEntry};
use super::super::outbound::{Outbound, PublishTerms};
use super::*;
use crate::protocol::{Framing, OpCode};
use crate::telemetry::memory::{Component, MemoryGauge};

const LIMIT_BYTES: usize = 6000;

#[derive(Clone, Debug)]
enum Op {
    Own {
        len: usize,
    },
    Response {
        len: usize,
    },
    Shared {
        len: usize,
        terms: PublishTerms,
    },
    /// So many thousandths of what is owed.
    Wrote {
        share: usize,
    },
    Enforce,
    KeepBegun,
    Compact,
}

fn op() -> impl Strategy<Value = Op> {
    let len = prop_oneof![4 => 0usize..100, 2 => 100usize..600, 1 => 600usize..40_000];
    prop_oneof![
        6 => len.clone().prop_map(|len| Op::Own { len }),
        1 => len.clone().prop_map(|len| Op::Response { len }),
        8 => (len, terms()).prop_map(|(len, terms)| Op::Shared { len, terms }),
        6 => (0usize..=1000).prop_map(|share| Op::Wrote { share }),
        6 => Just(Op::Enforce),
        1 => Just(Op::KeepBegun),
        2 => Just(Op::Compact),
    ]
}

/// Publishes of three rooms, some with rules of their own, not always the same in one room.
fn terms() -> impl Strategy<Value = PublishTerms> {
    let policy = prop_oneof![2 => Just(None), 3 => policy().prop_map(Some)];
    let budget_bytes = prop_oneof![2 => Just(None), 3 => (0usize..3000).prop_map(Some)];
    (0..3u64, 0..4u64, policy, budget_bytes).prop_map(|(account, key, policy, budget_bytes)| {
        PublishTerms { account, key, outbound: Outbound { policy, budget_bytes } }
    })
}

fn policy() -> impl Strategy<Value = OverflowPolicy> {
    prop_oneof![
        Just(OverflowPolicy::Close),
        Just(OverflowPolicy::DropOldest),
        Just(OverflowPolicy::KeepLatest),
    ]
}

fn framing() -> impl Strategy<Value = Framing> {
    prop_oneof![Just(Framing::WebSocket), Just(Framing::Tcp), Just(Framing::U32Binary)]
}

/// A key under the endpoint's policy.
fn keyed(key: SharedKey) -> PublishTerms {
    PublishTerms { key, ..PublishTerms::default() }
}

/// Of room 1, under a policy and a budget.
fn under(policy: OverflowPolicy, budget: usize) -> PublishTerms {
    PublishTerms { account: 1, key: NO_KEY, outbound: Outbound::new(policy).budget(budget) }
}

/// An outbox and its model, fed the same.
struct Pair {
    framing: Framing,
    outbox: Outbox,
    model: Model,
    room: Room,
    memory: Arc<MemoryGauge>,
    /// Fills payloads, so that no message is like another.
    serial: u8,
}

impl Pair {
    fn new(framing: Framing, policy: OverflowPolicy) -> Self {
        let room = Room { limit_bytes: LIMIT_BYTES, policy };
        let (outbox, model) = (Outbox::default(), Model::default());
        Self { framing, outbox, model, room, memory: MemoryGauge::new(u64::MAX), serial: 0 }
    }

    fn frame(&mut self, len: usize) -> Vec<u8> {
        self.serial = self.serial.wrapping_add(1);
        let mut frame = Vec::new();
        self.framing.put_frame(&mut frame, OpCode::Binary, &vec![self.serial; len]);
        frame
    }

    /// Does it to both. Answers whether a bound holds.
    fn apply(&mut self, op: &Op) -> Result<Result<(), Overflow>, TestCaseError> {
        let lasting = self.model.lasting();
        let mut held = Ok(());
        match *op {
            Op::Own { len } => {
                let frame = self.frame(len);
                self.outbox.push_own(&frame, true);
                self.model.push_own(frame, true);
            }
            Op::Response { len } => {
                self.outbox.push_own(&vec![b'H'; len], false);
                self.model.push_own(vec![b'H'; len], false);
            }
            Op::Shared { len, terms } => {
                let frame = self.frame(len);
                let bytes = frame.as_slice().into();
                let shared = Arc::new(SharedFrame::new(bytes, terms, &self.memory));
                held = self.outbox.push_shared(&shared, self.room);
                prop_assert_eq!(held, self.model.push_shared(frame, terms, self.room.policy));
                prop_assert!(self.model.lasting() >= lasting);
            }
            Op::Wrote { share } => {
                let n = self.model.unwritten() * share / 1000;
                if n > 0 {
                    self.outbox.wrote(n);
                    self.model.wrote(n);
                }
            }
            Op::Enforce => {
                held = self.outbox.enforce(self.room);
                prop_assert_eq!(held, self.model.enforce());
                prop_assert_eq!(held.is_ok(), self.outbox.owed_bytes() <= LIMIT_BYTES);
                prop_assert_eq!(self.model.lasting(), lasting);
            }
            Op::KeepBegun => {
                self.outbox.keep_begun_frame_only(self.framing);
                self.model.keep_begun();
            }
            Op::Compact => {
                self.outbox.compact();
                let owed = self.outbox.own.len() - self.outbox.own_start;
                prop_assert!(self.outbox.own.len() <= COALESCE_BYTES.max(2 * owed) + owed);
            }
        }
        self.check().map(|()| held)
    }

    fn check(&mut self) -> Result<(), TestCaseError> {
        prop_assert_eq!(owed_bytes_of(&self.outbox), self.model.bytes());
        prop_assert_eq!(self.outbox.owed_bytes(), self.model.owed());
        prop_assert_eq!(self.outbox.is_empty(), self.model.entries.is_empty());
        prop_assert_eq!(
            self.outbox.take_dropped().unwrap_or_default(),
            std::mem::take(&mut self.model.dropped)
        );
        for account in 0..3 {
            let found = self.outbox.accounts.0.iter().find(|(of, _)| *of == account);
            let charged = found.map_or(0, |(_, bytes)| *bytes);
            prop_assert_eq!(charged, self.model.on_account(account));
        }
        let shared = self.model.entries.iter().filter(|e| e.publish.is_some());
        let frames: usize = shared.map(ModelEntry::len).sum();
        prop_assert_eq!(self.memory.component(Component::Frames), frames as u64);
        Ok(())
    }

    /// Queues a publish of so many bytes and holds the outbox against its limit.
    fn publish(&mut self, len: usize, terms: PublishTerms) -> Result<(), Overflow> {
        self.apply(&Op::Shared { len, terms }).unwrap()?;
        self.apply(&Op::Enforce).unwrap()
    }

    /// Writes so many bytes.
    fn write(&mut self, n: usize) {
        self.outbox.wrote(n);
        self.model.wrote(n);
    }

    /// Fillings of the messages that are owed whole, in order.
    fn serials(&self) -> Vec<u8> {
        let all = self.model.entries.iter().flat_map(|e| &e.messages);
        all.map(|message| *message.last().expect("not empty")).collect()
    }
}

fn owed_bytes_of(outbox: &Outbox) -> Vec<u8> {
    let mut slices = vec![&[][..]; outbox.entries.len() + 1];
    let filled = outbox.slices(&mut slices);
    assert_eq!(filled, outbox.entries.len());
    slices.concat()
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 300,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn an_outbox_is_its_model(
        framing in framing(),
        policy in policy(),
        ops in vec(op(), 1..120),
    ) {
        let mut pair = Pair::new(framing, policy);
        for op in &ops {
            let _ = pair.apply(op)?;
        }
    }

    /// As a connection uses it: the bounds are held against after every push, and over one of them
    /// nothing but the begun frame is kept.
    #[test]
    fn whole_publishes_are_dropped_and_nothing_else(
        framing in framing(),
        policy in policy(),
        ops in vec(op(), 1..120),
    ) {
        let mut pair = Pair::new(framing, policy);
        for op in &ops {
            let mut held = pair.apply(op)?;
            if held.is_ok() && !matches!(op, Op::Wrote { .. } | Op::Compact) {
                held = pair.apply(&Op::Enforce)?;
            }
            if held.is_err() {
                let _ = pair.apply(&Op::KeepBegun)?;
            } else if let Op::Shared { terms, .. } = op
                && let Some(budget) = terms.outbound.budget_bytes
            {
                // What is begun and the newest may be more.
                let pair = &pair.model;
                let (begun, entries) = (pair.begun(), pair.entries.len());
                let between = (begun..entries.saturating_sub(1)).any(|i| {
                    pair.entries[i].is_of(terms.account)
                });
                prop_assert!(pair.on_account(terms.account) <= budget || !between);
            }
        }
    }
}

#[test]
fn an_entry_is_as_small_as_can_be() {
    assert!(size_of::<Entry>() <= 24);
}

#[test]
fn keep_latest_keeps_the_latest_of_each_key() {
    let mut pair = Pair::new(Framing::WebSocket, OverflowPolicy::KeepLatest);
    for key in [1, 2, 1, 3, 2, 1] {
        pair.publish(600, keyed(key)).unwrap();
    }
    assert_eq!(pair.serials(), [4, 5, 6]);
    assert_eq!(owed_bytes_of(&pair.outbox).len(), 3 * 604);
}

#[test]
fn a_begun_publish_is_neither_dropped_nor_replaced() {
    for policy in [OverflowPolicy::DropOldest, OverflowPolicy::KeepLatest] {
        let mut pair = Pair::new(Framing::WebSocket, policy);
        pair.publish(5000, keyed(1)).unwrap();
        pair.write(1);
        pair.publish(5000, keyed(1)).unwrap();
        let begun = owed_bytes_of(&pair.outbox);
        assert_eq!((begun.len(), begun[4]), (5003, 1), "{policy:?}");
    }
}

#[test]
fn trimming_goes_down_to_the_low_mark_and_begins_once_while_nothing_is_caught_up() {
    let mut pair = Pair::new(Framing::WebSocket, OverflowPolicy::DropOldest);
    let mut trims = 0;
    for serial in 1..=50_u8 {
        pair.outbox.push_shared(&shared(&pair.memory, 1000, serial), pair.room).unwrap();
        let before = pair.outbox.owed_bytes();
        pair.outbox.enforce(pair.room).unwrap();
        let dropped = pair.outbox.take_dropped().unwrap_or_default();
        trims += dropped.trims;
        if before > LIMIT_BYTES {
            let left = pair.outbox.owed_bytes();
            assert!(left <= LIMIT_BYTES * 3 / 4 && left + 1100 > LIMIT_BYTES * 3 / 4, "{left}");
            assert_eq!(dropped.oldest, 2, "what it is over by, and a quarter");
        }
    }
    assert_eq!(trims, 1);
    // Having caught up, it falls behind anew.
    while pair.outbox.owed_bytes() >= LIMIT_BYTES / 2 {
        pair.outbox.wrote(500);
    }
    for serial in 1..=6_u8 {
        pair.outbox.push_shared(&shared(&pair.memory, 1000, serial), pair.room).unwrap();
        pair.outbox.enforce(pair.room).unwrap();
    }
    assert_eq!(pair.outbox.take_dropped().unwrap_or_default().trims, 1);
}

fn shared(memory: &Arc<MemoryGauge>, len: usize, fill: u8) -> Arc<SharedFrame> {
    let bytes = vec![fill; len].into_boxed_slice();
    Arc::new(SharedFrame::new(bytes, PublishTerms::default(), memory))
}

#[test]
fn a_budget_is_of_one_room() {
    let mut pair = Pair::new(Framing::WebSocket, OverflowPolicy::Close);
    pair.publish(900, PublishTerms { account: 2, ..under(OverflowPolicy::DropOldest, 1000) })
        .unwrap();
    for _ in 0..4 {
        pair.publish(300, under(OverflowPolicy::DropOldest, 1000)).unwrap();
    }
    // The first of the second room is still there, and of the four the last two.
    assert_eq!(pair.serials(), [1, 4, 5]);
}

#[test]
fn one_publish_alone_is_within_any_budget() {
    for policy in [OverflowPolicy::Close, OverflowPolicy::DropOldest] {
        let mut pair = Pair::new(Framing::WebSocket, policy);
        pair.publish(900, under(policy, 10)).unwrap();
        assert_eq!(pair.serials(), [1], "{policy:?}");
        pair.write(904);
        pair.publish(900, under(policy, 10)).unwrap();
        assert_eq!(pair.serials(), [2], "{policy:?}");
    }
    let mut pair = Pair::new(Framing::WebSocket, OverflowPolicy::DropOldest);
    for _ in 0..3 {
        pair.publish(900, under(OverflowPolicy::DropOldest, 10)).unwrap();
    }
    assert_eq!(pair.serials(), [3], "the newest");
}

#[test]
fn over_a_budget_under_close_it_is_closed() {
    let mut pair = Pair::new(Framing::WebSocket, OverflowPolicy::DropOldest);
    for _ in 0..3 {
        pair.publish(300, under(OverflowPolicy::Close, 1000)).unwrap();
    }
    // Another room's are no matter.
    pair.publish(300, keyed(0)).unwrap();
    assert_eq!(pair.publish(300, under(OverflowPolicy::Close, 1000)), Err(Overflow));
}

#[test]
fn what_one_room_may_drop_goes_before_another_is_closed_for() {
    let mut pair = Pair::new(Framing::WebSocket, OverflowPolicy::Close);
    let dropping = PublishTerms { outbound: Outbound::new(OverflowPolicy::DropOldest), ..keyed(0) };
    pair.publish(2000, dropping).unwrap();
    pair.publish(2000, keyed(0)).unwrap();
    pair.publish(1900, dropping).unwrap();
    pair.publish(2000, keyed(0)).unwrap();
    assert_eq!(pair.serials(), [2, 4], "both that may be, as one alone is not enough");
    pair.publish(1000, keyed(0)).unwrap();
    assert_eq!(pair.serials(), [2, 4, 5]);
    assert_eq!(pair.publish(1000, keyed(0)), Err(Overflow), "none is left that may be");
}

#[test]
fn the_answer_to_the_upgrade_is_kept() {
    for written in [0, 1] {
        let mut pair = Pair::new(Framing::WebSocket, OverflowPolicy::Close);
        pair.apply(&Op::Response { len: 129 }).unwrap().unwrap();
        pair.apply(&Op::Own { len: 8 }).unwrap().unwrap();
        pair.write(written);
        pair.apply(&Op::KeepBegun).unwrap().unwrap();
        assert_eq!(owed_bytes_of(&pair.outbox).len(), 129 - written);
    }
}

#[test]
fn nothing_is_kept_of_an_outbox_between_two_frames() {
    let mut pair = Pair::new(Framing::WebSocket, OverflowPolicy::Close);
    pair.apply(&Op::Own { len: 8 }).unwrap().unwrap();
    pair.apply(&Op::Own { len: 8 }).unwrap().unwrap();
    pair.write(10);
    pair.apply(&Op::KeepBegun).unwrap().unwrap();
    assert!(pair.outbox.is_empty());
}
