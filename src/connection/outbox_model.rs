//! What an outbox is: whole messages in a queue.

use std::collections::VecDeque;

use super::super::*;
use super::{LIMIT_BYTES, Outbound, PublishTerms};

/// Messages that are one entry of the outbox.
#[derive(Debug)]
pub(super) struct ModelEntry {
    pub(super) messages: Vec<Vec<u8>>,
    pub(super) publish: Option<ModelPublish>,
    pub(super) framed: bool,
}

#[derive(Debug)]
pub(super) struct ModelPublish {
    pub(super) may_drop: bool,
    /// What a later one replaces it by.
    pub(super) key: Option<SharedKey>,
    /// Where it has a budget.
    pub(super) account: Option<u64>,
}

impl ModelEntry {
    pub(super) fn len(&self) -> usize {
        self.messages.iter().map(Vec::len).sum()
    }

    pub(super) fn cost(&self) -> usize {
        self.len() + ENTRY_OVERHEAD
    }

    pub(super) fn is_of(&self, account: u64) -> bool {
        self.publish.as_ref().is_some_and(|publish| publish.account == Some(account))
    }
}

#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) entries: VecDeque<ModelEntry>,
    /// Of the front entry.
    pub(super) written: usize,
    pub(super) dropped: Dropped,
    /// What it has to get below to be trimmed no more.
    pub(super) calm: Option<usize>,
}

impl Model {
    pub(super) fn push_own(&mut self, message: Vec<u8>, framed: bool) {
        if message.is_empty() {
            return;
        }
        match self.entries.back_mut() {
            Some(back)
                if framed
                    && back.framed
                    && back.publish.is_none()
                    && back.len() + message.len() <= COALESCE_BYTES =>
            {
                back.messages.push(message);
            }
            _ => {
                let messages = vec![message];
                self.entries.push_back(ModelEntry { messages, publish: None, framed });
            }
        }
    }

    pub(super) fn push_shared(
        &mut self,
        message: Vec<u8>,
        terms: PublishTerms,
        endpoint: OverflowPolicy,
    ) -> Result<(), Overflow> {
        let Outbound { policy, budget_bytes } = terms.outbound;
        let policy = policy.unwrap_or(endpoint);
        let may_drop = policy != OverflowPolicy::Close;
        if !may_drop && budget_bytes.is_none() && message.len() <= COPY_BYTES {
            self.push_own(message, true);
            return Ok(());
        }
        let keeps_latest = policy == OverflowPolicy::KeepLatest && terms.key != NO_KEY;
        let key = keeps_latest.then_some(terms.key);
        if key.is_some() {
            let of_key = |entry: &ModelEntry| entry.publish.as_ref().is_some_and(|p| p.key == key);
            if let Some(at) = (self.begun()..self.entries.len()).find(|i| of_key(&self.entries[*i]))
            {
                self.entries.remove(at);
                self.dropped.replaced += 1;
            }
        }
        let publish = ModelPublish { may_drop, key, account: budget_bytes.map(|_| terms.account) };
        let messages = vec![message];
        self.entries.push_back(ModelEntry { messages, publish: Some(publish), framed: true });
        budget_bytes.map_or(Ok(()), |budget| self.hold_to_budget(terms.account, budget, may_drop))
    }

    pub(super) fn hold_to_budget(
        &mut self,
        account: u64,
        budget: usize,
        may_drop: bool,
    ) -> Result<(), Overflow> {
        if self.is_within(account, budget) {
            return Ok(());
        }
        if !may_drop {
            return Err(Overflow);
        }
        let (mut drops, newest) = (0, self.entries.len() - 1);
        while self.on_account(account) > budget - budget / 4
            && let Some(at) =
                self.oldest(|index, entry| entry.is_of(account) && index + drops < newest)
        {
            self.entries.remove(at);
            drops += 1;
        }
        self.note_trimmed(drops, budget);
        let between = self.begun()..self.entries.len() - 1;
        let none_between = between.into_iter().all(|at| !self.entries[at].is_of(account));
        if self.on_account(account) <= budget || none_between { Ok(()) } else { Err(Overflow) }
    }

    /// Whether an account is within a budget; one publish alone always is.
    pub(super) fn is_within(&self, account: u64, budget: usize) -> bool {
        let count = self.entries.iter().filter(|entry| entry.is_of(account)).count();
        self.on_account(account) <= budget || count == 1
    }

    pub(super) fn on_account(&self, account: u64) -> usize {
        self.entries.iter().filter(|entry| entry.is_of(account)).map(ModelEntry::cost).sum()
    }

    pub(super) fn enforce(&mut self) -> Result<(), Overflow> {
        if self.owed() <= LIMIT_BYTES {
            return Ok(());
        }
        let mut drops = 0;
        while self.owed() > LIMIT_BYTES - LIMIT_BYTES / 4
            && let Some(at) = self.oldest(|_, _| true)
        {
            let is_newest = self.entries.range(at + 1..).all(|entry| entry.publish.is_none());
            if is_newest && self.owed() <= LIMIT_BYTES {
                break;
            }
            self.entries.remove(at);
            drops += 1;
        }
        self.note_trimmed(drops, LIMIT_BYTES);
        if self.owed() > LIMIT_BYTES { Err(Overflow) } else { Ok(()) }
    }

    /// The oldest publish that may be dropped and of which no byte is written.
    pub(super) fn oldest(&self, wanted: impl Fn(usize, &ModelEntry) -> bool) -> Option<usize> {
        (self.begun()..self.entries.len()).find(|index| {
            let entry = &self.entries[*index];
            entry.publish.as_ref().is_some_and(|p| p.may_drop) && wanted(*index, entry)
        })
    }

    pub(super) fn note_trimmed(&mut self, drops: usize, bound: usize) {
        if drops > 0 {
            self.dropped.oldest += drops as u32;
            self.dropped.trims += u32::from(self.calm.is_none());
            let calm = (bound / 2).max(1);
            self.calm = Some(self.calm.map_or(calm, |before| before.min(calm)));
        }
    }

    /// How many entries have bytes written.
    pub(super) fn begun(&self) -> usize {
        usize::from(self.written > 0)
    }

    pub(super) fn keep_begun(&mut self) {
        self.calm = None;
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

    pub(super) fn wrote(&mut self, n: usize) {
        self.written += n;
        while let Some(front) = self.entries.front()
            && self.written >= front.len()
        {
            self.written -= front.len();
            self.entries.pop_front();
        }
        if self.calm.is_some_and(|calm| self.owed() < calm) {
            self.calm = None;
        }
    }

    pub(super) fn owed(&self) -> usize {
        self.unwritten() + self.entries.len() * ENTRY_OVERHEAD
    }

    pub(super) fn unwritten(&self) -> usize {
        self.entries.iter().map(ModelEntry::len).sum::<usize>() - self.written
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let all: Vec<u8> = self.entries.iter().flat_map(|e| e.messages.concat()).collect();
        all[self.written..].to_vec()
    }

    /// Whole messages among what is owed that no policy may drop.
    pub(super) fn lasting(&self) -> usize {
        let lasts = |e: &&ModelEntry| e.publish.as_ref().is_none_or(|p| !p.may_drop);
        self.entries.iter().filter(lasts).map(|e| e.messages.len()).sum()
    }
}
