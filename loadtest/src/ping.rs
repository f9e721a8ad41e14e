//! Pings of one connection, each answered by a pong with its payload (RFC 6455, section 5.5.3).

use std::collections::VecDeque;

use tungstenite::{Bytes, Message};

use crate::{
    clock::Nanos,
    link::Link,
    payload::token,
    trouble::{Trouble, Waiting},
};

/// What was asked and not answered.
#[derive(Debug, Default)]
pub(crate) struct Pings {
    /// Pings sent; the payload of each is made of its number.
    sent: u32,
    /// When each unanswered one was sent, or due.
    stamps: VecDeque<Nanos>,
}

impl Pings {
    /// How many are not answered.
    pub(crate) fn len(&self) -> usize {
        self.stamps.len()
    }

    /// Whether all are answered.
    pub(crate) fn is_empty(&self) -> bool {
        self.stamps.is_empty()
    }

    /// The next ping of connection `index`, which counts from `stamp`.
    fn next(&mut self, seed: u64, index: u32, stamp: Nanos) -> Message {
        let payload = token(seed, index, self.sent).to_le_bytes();
        self.sent = self.sent.wrapping_add(1);
        self.stamps.push_back(stamp);
        Message::Ping(Bytes::copy_from_slice(&payload))
    }

    /// How many pings a pong answers: all up to the one whose payload it has, as a peer need not
    /// answer each. A pong that nobody asked for is allowed, and answers none.
    fn answered(&self, seed: u64, index: u32, payload: &[u8]) -> Result<usize, Trouble> {
        if self.stamps.is_empty() || payload.is_empty() {
            return Ok(0);
        }
        let count = u32::try_from(self.stamps.len()).expect("pings are awaited, not piled up");
        let first = self.sent.wrapping_sub(count);
        (0..count)
            .find(|at| payload == token(seed, index, first.wrapping_add(*at)).to_le_bytes())
            .map(|at| at as usize + 1)
            .ok_or(Trouble::WrongPong)
    }
}

/// Sends a ping that counts from `stamp`. Its pong has a deadline.
pub(crate) fn ask<C>(
    link: &mut Link<'_, C>,
    pings: impl Fn(&mut C) -> &mut Pings,
    seed: u64,
    stamp: Nanos,
) -> Result<(), Trouble> {
    let index = link.index;
    let idle = pings(link.client).is_empty();
    let ping = pings(link.client).next(seed, index, stamp);
    if idle {
        link.await_for(Waiting::Pong);
    }
    link.send(ping)
}

/// Takes in a pong; calls `each` with the stamp of every ping that it answers.
pub(crate) fn take<C>(
    link: &mut Link<'_, C>,
    pings: impl Fn(&mut C) -> &mut Pings,
    seed: u64,
    payload: &[u8],
    mut each: impl FnMut(&mut Link<'_, C>, Nanos),
) -> Result<(), Trouble> {
    let index = link.index;
    let count = pings(link.client).answered(seed, index, payload)?;
    for _ in 0..count {
        if let Some(stamp) = pings(link.client).stamps.pop_front() {
            each(link, stamp);
        }
    }
    match (count, pings(link.client).is_empty()) {
        (0, _) => {}
        (_, true) => link.rest(),
        // It answers, so the others have their time again.
        (_, false) => link.await_for(Waiting::Pong),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(message: Message) -> Vec<u8> {
        message.into_data().to_vec()
    }

    #[test]
    fn a_pong_answers_the_pings_before_it_too() {
        let mut pings = Pings::default();
        let sent: Vec<_> = (0..3).map(|at| payload(pings.next(1, 7, at))).collect();
        for (at, payload) in sent.iter().enumerate() {
            assert_eq!(pings.answered(1, 7, payload), Ok(at + 1));
            assert_eq!(pings.answered(2, 7, payload), Err(Trouble::WrongPong), "another seed");
            assert_eq!(pings.answered(1, 8, payload), Err(Trouble::WrongPong), "another's");
        }
        assert_eq!(pings.answered(1, 7, b""), Ok(0));
        pings.stamps.pop_front();
        assert_eq!(pings.answered(1, 7, &sent[0]), Err(Trouble::WrongPong), "answered before");
        pings.stamps.clear();
        assert_eq!(pings.answered(1, 7, b"unasked"), Ok(0));
    }
}
