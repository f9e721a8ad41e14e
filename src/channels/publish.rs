//! One publish: its body, and one lazily made, shared frame per class of members.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, LazyLock, OnceLock};

use crate::connection::{NO_KEY, Outbound, PublishTerms, SharedFrame};
use crate::dialect::{Body, Class, Content, Push};
use crate::public_id::PublicId;
use crate::routing::Endpoint;
use crate::telemetry::memory::{Charge, Component, MemoryGauge};

/// A [`Body`] that owns its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedBody {
    form: Form,
    bytes: Box<[u8]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Json,
    Text,
    Binary,
}

impl From<Body<'_>> for OwnedBody {
    fn from(body: Body<'_>) -> Self {
        let form = match body {
            Body::Json(_) => Form::Json,
            Body::Text(_) => Form::Text,
            Body::Binary(_) => Form::Binary,
        };
        Self { form, bytes: body.as_bytes().into() }
    }
}

impl OwnedBody {
    /// The body, borrowed.
    #[must_use]
    pub fn as_body(&self) -> Body<'_> {
        match (self.form, std::str::from_utf8(&self.bytes)) {
            (Form::Json, Ok(text)) => Body::Json(text),
            (Form::Text, Ok(text)) => Body::Text(text),
            _ => Body::Binary(&self.bytes),
        }
    }
}

/// What is sent to many, or to one without being asked for.
#[derive(Debug)]
pub struct Publish {
    room: Option<Box<str>>,
    from: Option<PublicId>,
    key: Option<Box<str>>,
    body: OwnedBody,
    outbound: Outbound,
    memory: Arc<MemoryGauge>,
    _charge: Charge,
    frames: [OnceLock<Arc<SharedFrame>>; Class::COUNT],
}

impl Publish {
    /// A publish to `room`, or a push where there is none, under the policies of its receivers'
    /// endpoints.
    #[must_use]
    pub fn new(
        room: Option<Box<str>>,
        from: Option<PublicId>,
        content: Content<'_>,
        memory: &Arc<MemoryGauge>,
    ) -> Arc<Self> {
        Self::under(Outbound::default(), room, from, content, memory)
    }

    /// A publish to `room`, or a push where there is none, with a policy and a budget.
    #[must_use]
    pub fn under(
        outbound: Outbound,
        room: Option<Box<str>>,
        from: Option<PublicId>,
        content: Content<'_>,
        memory: &Arc<MemoryGauge>,
    ) -> Arc<Self> {
        let (key, body) = (content.key.map(Into::into), OwnedBody::from(content.body));
        let charge = Charge::new(memory, Component::Frames, body.bytes.len());
        let (memory, frames) = (Arc::clone(memory), Default::default());
        Arc::new(Self { room, from, key, body, outbound, memory, _charge: charge, frames })
    }

    /// The frame for members of `endpoint`: one per class. Two loops that come first at the same
    /// time may both make it; neither waits for the other, and one of the two is kept.
    ///
    /// `None` where a custom dialect failed.
    #[must_use]
    pub fn frame(&self, endpoint: &Endpoint) -> Option<Arc<SharedFrame>> {
        let Some(class) = endpoint.class else { return self.encode(endpoint) };
        let kept = &self.frames[class.index()];
        if let Some(frame) = kept.get() {
            return Some(Arc::clone(frame));
        }
        let frame = self.encode(endpoint)?;
        let _ = kept.set(Arc::clone(&frame));
        Some(frame)
    }

    fn encode(&self, endpoint: &Endpoint) -> Option<Arc<SharedFrame>> {
        let mut bytes = Vec::with_capacity(self.body.bytes.len() + 128);
        let from = self.from.as_ref().map(PublicId::as_str);
        let room = self.room.as_deref();
        let push = Push { room, from, key: self.key.as_deref(), body: self.body.as_body() };
        let made = endpoint.dialect.put_push(endpoint.framing, &mut bytes, &push);
        let bytes = made.then(|| bytes.into_boxed_slice())?;
        Some(Arc::new(SharedFrame::new(bytes, self.terms(), &self.memory)))
    }

    /// What outboxes have to know of it.
    fn terms(&self) -> PublishTerms {
        let (room, key) = (self.room.as_deref(), self.key.as_deref());
        let key = if room.is_none() && key.is_none() { NO_KEY } else { number(&(room, key)) };
        let account = room.map_or(0, |room| number(&room));
        PublishTerms { account, key, outbound: self.outbound }
    }
}

/// A number for a name, never 0. Nobody outside can foresee it, and so nobody can choose names so that
/// one replaces or trims the other.
fn number(name: &impl std::hash::Hash) -> u64 {
    static STATE: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    STATE.hash_one(name).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(room: Option<&str>, key: Option<&str>) -> PublishTerms {
        let memory = MemoryGauge::new(u64::MAX);
        let content = Content { key, body: Body::Text("x") };
        Publish::new(room.map(Into::into), None, content, &memory).terms()
    }

    #[test]
    fn what_replaces_what_goes_by_room_and_key() {
        let ticks = terms(Some("ticks"), None);
        assert_eq!(ticks, terms(Some("ticks"), None));
        let other_keys = [
            ticks,
            terms(Some("ticks"), Some("AAPL")),
            terms(Some("ticks"), Some("MSFT")),
            terms(Some("tocks"), Some("AAPL")),
            terms(Some("tocks"), None),
            terms(None, Some("AAPL")),
        ];
        for (index, one) in other_keys.iter().enumerate() {
            assert!(one.key != NO_KEY && other_keys[..index].iter().all(|o| o.key != one.key));
        }
        assert_eq!(terms(None, None).key, NO_KEY, "nothing replaces a push that is about nothing");
    }

    #[test]
    fn a_room_has_one_account_and_pushes_have_one() {
        let (ticks, aapl) = (terms(Some("ticks"), None), terms(Some("ticks"), Some("AAPL")));
        assert_eq!(ticks.account, aapl.account);
        assert_ne!(ticks.account, terms(Some("tocks"), None).account);
        assert_eq!((terms(None, None).account, terms(None, Some("AAPL")).account), (0, 0));
    }
}
