//! One read of one connection, held against its limits.

use super::bandwidth::{BandwidthLimit, Share};
use super::bucket::Bucket;
use super::levels::Levels;
use super::moment::Moment;
use super::rate::{Limit, Over, Rate};

/// Fewest bytes that are read at once, however low the rate.
const READ_MIN: u64 = 256;
/// The shortest frame of a client: an empty message over TCP.
const FRAME_MIN: u64 = 5;

/// What each connection of an endpoint may send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Messages.
    pub messages: Option<Rate>,
    /// Bytes that come in behind the request: payloads and frame headers.
    pub bytes: Option<Rate>,
    /// What happens over either.
    pub over: Over,
}

/// What the connections of an endpoint are held to.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    messages: Option<Bucket>,
    bytes: Option<Bucket>,
    over: Over,
    /// Most bytes to read at once for the limits of the endpoint: so few that what they hold is paid
    /// for in about half a minute.
    pub read_max: usize,
}

impl Terms {
    /// Of an endpoint's limits and the gateway's; `None` if there are none.
    #[must_use]
    pub fn new(own: &ConnectionLimits, bandwidth: Option<BandwidthLimit>) -> Option<Self> {
        if own.messages.is_none() && own.bytes.is_none() && bandwidth.is_none() {
            return None;
        }
        let messages = own.messages.map(|rate| Bucket::of_messages(rate, own.over));
        let bytes = own.bytes.map(|rate| Bucket::of_bytes(rate, own.over));
        let delayed = messages.filter(|_| own.over == Over::Delay);
        let by_messages = delayed.map_or(u64::MAX, |bucket| bucket.read_max(FRAME_MIN));
        let read = bytes.filter(|_| own.over != Over::Reject);
        let by_bytes = read.map_or(u64::MAX, |bucket| bucket.read_max(1));
        let read_max = by_messages.min(by_bytes).max(READ_MIN);
        let read_max = usize::try_from(read_max).unwrap_or(usize::MAX);
        Some(Self { messages, bytes, over: own.over, read_max })
    }
}

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// It is handled.
    Pass,
    /// It is answered with an error.
    Refuse(Limit),
    /// It is not handled, and its connection is closed.
    Close(Limit),
}

/// What a read came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    /// What the connection has used now.
    pub levels: Levels,
    /// Until when it is not to be read from; of messages, bytes and bandwidth, which ones say so.
    pub stop: Option<(Moment, [bool; 3])>,
    /// The limit for which it is to be closed.
    pub close: Option<Limit>,
}

/// Holds what one read brings against the limits.
#[derive(Debug)]
pub struct Meter<'a> {
    terms: Terms,
    share: Option<Share<'a>>,
    now: Moment,
    levels: Levels,
}

impl<'a> Meter<'a> {
    /// For a read at `now` from a connection that has used so much so far.
    #[must_use]
    pub fn new(terms: &Terms, share: Option<Share<'a>>, mut levels: Levels, now: Moment) -> Self {
        levels.refresh(now);
        Self { terms: *terms, share, now, levels }
    }

    /// A message of so many bytes is complete.
    ///
    /// Bytes are charged here where messages may be refused for them, and by
    /// [`finish`](Self::finish) where not.
    #[must_use]
    pub fn message(&mut self, bytes: usize) -> Ruling {
        let Terms { over, .. } = self.terms;
        let now = self.now;
        let over_by = |limit| match over {
            Over::Delay => Ruling::Pass,
            Over::Reject => Ruling::Refuse(limit),
            Over::Close => Ruling::Close(limit),
        };
        if let Some(bucket) = self.terms.messages {
            if over != Over::Delay && self.levels.messages.is_spent(now, bucket) {
                return over_by(Limit::Messages);
            }
            self.levels.messages.charge(now, bucket.cost(1));
        }
        if let Some(bucket) = self.terms.bytes.filter(|_| over == Over::Reject) {
            if self.levels.bytes.is_spent(now, bucket) {
                return over_by(Limit::Bytes);
            }
            self.levels.bytes.charge(now, bucket.cost(bytes as u64));
        }
        if let Some(share) = self.share.filter(|share| share.over == Over::Reject)
            && !share.take(&mut self.levels.guarantee, bytes as u64, now)
        {
            return Ruling::Refuse(Limit::Bandwidth);
        }
        Ruling::Pass
    }

    /// So many bytes were read, and all messages in them are told of.
    #[must_use]
    pub fn finish(mut self, bytes: usize) -> Tally {
        let mut close = None;
        let (bytes, now) = (bytes as u64, self.now);
        if let Some(bucket) = self.terms.bytes.filter(|_| self.terms.over != Over::Reject) {
            if self.terms.over == Over::Close && self.levels.bytes.is_spent(now, bucket) {
                close = Some(Limit::Bytes);
            }
            self.levels.bytes.charge(now, bucket.cost(bytes));
        }
        let mut paid = now;
        let own = &mut self.levels.guarantee;
        match self.share.map(|share| (share, share.over)) {
            Some((share, Over::Close)) => {
                let is_over = !share.take(own, bytes, now);
                close = close.or(is_over.then_some(Limit::Bandwidth));
            }
            Some((share, Over::Delay)) => {
                paid = share.take_on_credit(own, bytes, now).unwrap_or(now);
            }
            Some((_, Over::Reject)) | None => {}
        }
        Tally { levels: self.levels, stop: self.stop(paid), close }
    }

    fn stop(&self, bandwidth_paid: Moment) -> Option<(Moment, [bool; 3])> {
        let now = self.now;
        let mut at = [now, now, bandwidth_paid];
        if self.terms.over == Over::Delay {
            let Levels { messages, bytes, .. } = self.levels;
            let paid = |debt: u32| now.plus(debt.into());
            at[0] = paid(self.terms.messages.map_or(0, |bucket| messages.debt(now, bucket)));
            at[1] = paid(self.terms.bytes.map_or(0, |bucket| bytes.debt(now, bucket)));
        }
        let last = at[0].max(at[1]).max(at[2]);
        (last > now).then(|| (last, at.map(|at| at > now)))
    }
}
