//! What rooms are told again and again.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::publish::OwnedBody;
use crate::dialect::{Body, Content};
use crate::limits::ROOM_CLOCK;
use crate::telemetry::time::rfc3339;

/// A push to every room with members, at an interval: system C's clock.
#[derive(Clone)]
pub struct Clock {
    /// Within [`ROOM_CLOCK`].
    interval: Duration,
    /// `None`: the time.
    content: Option<Arc<Told>>,
}

type Told = dyn Fn(&RoomView<'_>) -> Option<OwnedContent> + Send + Sync;

/// A room, as one who makes a push for it sees it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct RoomView<'a> {
    /// Its name.
    pub name: &'a str,
    /// How many are in it; at least 1.
    pub members: usize,
    /// Publishes so far.
    pub serial: u64,
}

/// A [`Content`] that owns what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedContent {
    key: Option<Box<str>>,
    body: OwnedBody,
}

impl Clock {
    /// The push `time` each `interval`: the time in UTC, as RFC 3339 has it, to the millisecond.
    /// Intervals below [`ROOM_CLOCK`] are lengthened to its start, those above shortened to its end.
    #[must_use]
    pub fn time(interval: Duration) -> Self {
        Self { interval: within(interval), content: None }
    }

    /// What `content` makes of the room each `interval`; where that is `None` there is no push.
    #[must_use]
    pub fn new(
        interval: Duration,
        content: impl Fn(&RoomView<'_>) -> Option<OwnedContent> + Send + Sync + 'static,
    ) -> Self {
        Self { interval: within(interval), content: Some(Arc::new(content)) }
    }

    /// From one push to the next.
    #[must_use]
    pub fn interval(&self) -> Duration {
        self.interval
    }

    pub(super) fn interval_ms(&self) -> u64 {
        self.interval.as_millis() as u64
    }

    /// What the room is told now. An error if a user's own code panicked.
    pub(super) fn content(&self, room: &RoomView<'_>) -> Result<Option<OwnedContent>, ()> {
        match &self.content {
            Some(content) => catch_unwind(AssertUnwindSafe(|| content(room))).map_err(drop),
            None => {
                let now = rfc3339(SystemTime::now());
                Ok(Some(Content::named("time", Body::Text(&now)).into()))
            }
        }
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clock").field("interval", &self.interval).finish_non_exhaustive()
    }
}

impl PartialEq for Clock {
    fn eq(&self, other: &Self) -> bool {
        let same = match (&self.content, &other.content) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (a, b) => a.is_none() && b.is_none(),
        };
        same && self.interval == other.interval
    }
}

impl Eq for Clock {}

impl OwnedContent {
    /// The content, borrowed.
    #[must_use]
    pub fn as_content(&self) -> Content<'_> {
        Content { key: self.key.as_deref(), body: self.body.as_body() }
    }
}

impl From<Content<'_>> for OwnedContent {
    fn from(content: Content<'_>) -> Self {
        Self { key: content.key.map(Into::into), body: content.body.into() }
    }
}

fn within(interval: Duration) -> Duration {
    interval.clamp(*ROOM_CLOCK.start(), *ROOM_CLOCK.end())
}
