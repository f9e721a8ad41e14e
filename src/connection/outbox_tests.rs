//! The outbox against a model of it: whole messages in a queue.

use std::collections::VecDeque;
use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use super::*;
use crate::protocol::{Framing, OpCode};

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
        key: SharedKey,
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
        8 => (len, 0..4u64).prop_map(|(len, key)| Op::Shared { len, key }),
        6 => (0usize..=1000).prop_map(|share| Op::Wrote { share }),
        6 => Just(Op::Enforce),
        1 => Just(Op::KeepBegun),
        2 => Just(Op::Compact),
    ]
}

fn policy() -> impl Strategy<Value = OverflowPolicy> {
    prop_oneof![
        Just(OverflowPolicy::Close),
        Just(OverflowPolicy::DropOldest),
        Just(OverflowPolicy::KeepLatest),
    ]
}

fn framing() -> impl Strategy<Value = Framing> {
    prop_oneof![Just(Framing::WebSocket), Just(Framing::Tcp)]
}

/// Messages that are one entry of the outbox.
#[derive(Debug)]
struct ModelEntry {
    messages: Vec<Vec<u8>>,
    key: Option<SharedKey>,
    framed: bool,
}

impl ModelEntry {
    fn len(&self) -> usize {
        self.messages.iter().map(Vec::len).sum()
    }
}

#[derive(Debug, Default)]
struct Model {
    entries: VecDeque<ModelEntry>,
    /// Of the front entry.
    written: usize,
    /// (oldest, replaced)
    dropped: (u32, u32),
}

impl Model {
    fn push_own(&mut self, message: Vec<u8>, framed: bool) {
        if message.is_empty() {
            return;
        }
        match self.entries.back_mut() {
            Some(back)
                if framed
                    && back.framed
                    && back.key.is_none()
                    && back.len() + message.len() <= COALESCE_BYTES =>
            {
                back.messages.push(message);
            }
            _ => {
                self.entries.push_back(ModelEntry { messages: vec![message], key: None, framed });
            }
        }
    }

    fn push_shared(&mut self, message: Vec<u8>, key: SharedKey, policy: OverflowPolicy) {
        if policy == OverflowPolicy::Close && message.len() <= COPY_BYTES {
            return self.push_own(message, true);
        }
        if policy == OverflowPolicy::KeepLatest && key != NO_KEY {
            let before = self.entries.len();
            let mut index = 0;
            let written = self.written;
            self.entries.retain(|entry| {
                index += 1;
                entry.key != Some(key) || index == 1 && written > 0
            });
            self.dropped.1 += (before - self.entries.len()) as u32;
        }
        let entry = ModelEntry { messages: vec![message], key: Some(key), framed: true };
        self.entries.push_back(entry);
    }

    fn enforce(&mut self, policy: OverflowPolicy) -> Result<(), Overflow> {
        if policy != OverflowPolicy::Close {
            while self.owed() > LIMIT_BYTES {
                let from = usize::from(self.written > 0);
                let oldest = (from..self.entries.len()).find(|i| self.entries[*i].key.is_some());
                let Some(oldest) = oldest else { break };
                self.entries.remove(oldest);
                self.dropped.0 += 1;
            }
        }
        if self.owed() > LIMIT_BYTES { Err(Overflow) } else { Ok(()) }
    }

    fn keep_begun(&mut self) {
        self.entries.truncate(1);
        let mut end = 0;
        if let Some(front) = self.entries.front_mut() {
            if !front.framed {
                return;
            }
            let whole = front.messages.iter().take_while(|message| {
                let begun = end < self.written;
                end += if begun { message.len() } else { 0 };
                begun
            });
            let whole = whole.count();
            front.messages.truncate(whole);
        }
        if end <= self.written {
            self.entries.clear();
            self.written = 0;
        }
    }

    fn wrote(&mut self, n: usize) {
        self.written += n;
        while let Some(front) = self.entries.front()
            && self.written >= front.len()
        {
            self.written -= front.len();
            self.entries.pop_front();
        }
    }

    fn owed(&self) -> usize {
        self.bytes().len() + self.entries.len() * ENTRY_OVERHEAD
    }

    fn bytes(&self) -> Vec<u8> {
        let all: Vec<u8> = self.entries.iter().flat_map(|e| e.messages.concat()).collect();
        all[self.written..].to_vec()
    }

    /// Whole own messages among what is owed: what no policy may drop.
    fn own_messages(&self) -> usize {
        self.entries.iter().filter(|e| e.key.is_none()).map(|e| e.messages.len()).sum()
    }
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

    fn apply(&mut self, op: &Op) -> Result<(), TestCaseError> {
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
            Op::Shared { len, key } => {
                let frame = self.frame(len);
                let shared = Arc::new(SharedFrame::new(frame.as_slice().into(), &self.memory));
                self.outbox.push_shared(&shared, key, self.room);
                self.model.push_shared(frame, key, self.room.policy);
            }
            Op::Wrote { share } => {
                let n = self.model.bytes().len() * share / 1000;
                if n > 0 {
                    self.outbox.wrote(n);
                    self.model.wrote(n);
                }
            }
            Op::Enforce => {
                let own = self.model.own_messages();
                let (got, want) =
                    (self.outbox.enforce(self.room), self.model.enforce(self.room.policy));
                prop_assert_eq!(got, want);
                prop_assert_eq!(self.model.own_messages(), own);
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
        self.check()
    }

    fn check(&mut self) -> Result<(), TestCaseError> {
        prop_assert_eq!(owed_bytes_of(&self.outbox), self.model.bytes());
        prop_assert_eq!(self.outbox.owed_bytes(), self.model.owed());
        prop_assert_eq!(self.outbox.is_empty(), self.model.entries.is_empty());
        prop_assert_eq!(
            self.outbox.take_dropped().unwrap_or_default(),
            std::mem::take(&mut self.model.dropped)
        );
        let shared = self.model.entries.iter().filter(|e| e.key.is_some());
        let frames: usize = shared.map(ModelEntry::len).sum();
        prop_assert_eq!(self.memory.component(Component::Frames), frames as u64);
        Ok(())
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
            pair.apply(op)?;
        }
    }

    /// As a connection uses it: the limit is held against after every push.
    #[test]
    fn whole_publishes_are_dropped_and_nothing_else(
        framing in framing(),
        policy in policy(),
        ops in vec(op(), 1..120),
    ) {
        let mut pair = Pair::new(framing, policy);
        for op in &ops {
            pair.apply(op)?;
            if !matches!(op, Op::Wrote { .. } | Op::Compact) {
                pair.apply(&Op::Enforce)?;
                if pair.outbox.owed_bytes() > LIMIT_BYTES {
                    pair.apply(&Op::KeepBegun)?;
                }
            }
        }
    }
}

#[test]
fn keep_latest_keeps_the_latest_of_each_key() {
    let mut pair = Pair::new(Framing::WebSocket, OverflowPolicy::KeepLatest);
    for key in [1, 2, 1, 3, 2, 1] {
        pair.apply(&Op::Shared { len: 600, key }).unwrap();
    }
    let keys: Vec<_> = pair.model.entries.iter().map(|entry| entry.key).collect();
    assert_eq!(keys, [Some(3), Some(2), Some(1)]);
    assert_eq!(owed_bytes_of(&pair.outbox).len(), 3 * 604);
}

#[test]
fn a_begun_publish_is_neither_dropped_nor_replaced() {
    for policy in [OverflowPolicy::DropOldest, OverflowPolicy::KeepLatest] {
        let mut pair = Pair::new(Framing::WebSocket, policy);
        pair.apply(&Op::Shared { len: 5000, key: 1 }).unwrap();
        pair.outbox.wrote(1);
        pair.model.wrote(1);
        pair.apply(&Op::Shared { len: 5000, key: 1 }).unwrap();
        pair.apply(&Op::Enforce).unwrap();
        let begun = owed_bytes_of(&pair.outbox);
        assert_eq!((begun.len(), begun[4]), (5003, 1), "{policy:?}");
    }
}

#[test]
fn the_answer_to_the_upgrade_is_kept() {
    for written in [0, 1] {
        let mut pair = Pair::new(Framing::WebSocket, OverflowPolicy::Close);
        pair.apply(&Op::Response { len: 129 }).unwrap();
        pair.apply(&Op::Own { len: 8 }).unwrap();
        pair.outbox.wrote(written);
        pair.model.wrote(written);
        pair.apply(&Op::KeepBegun).unwrap();
        assert_eq!(owed_bytes_of(&pair.outbox).len(), 129 - written);
    }
}

#[test]
fn nothing_is_kept_of_an_outbox_between_two_frames() {
    let mut pair = Pair::new(Framing::WebSocket, OverflowPolicy::Close);
    pair.apply(&Op::Own { len: 8 }).unwrap();
    pair.apply(&Op::Own { len: 8 }).unwrap();
    pair.outbox.wrote(10);
    pair.model.wrote(10);
    pair.apply(&Op::KeepBegun).unwrap();
    assert!(pair.outbox.is_empty());
}
