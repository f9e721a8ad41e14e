//! One publish: its body, and one lazily made, shared frame per class of members.

use std::sync::{Arc, OnceLock};

use crate::connection::SharedFrame;
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
    memory: Arc<MemoryGauge>,
    _charge: Charge,
    frames: [OnceLock<Arc<SharedFrame>>; Class::COUNT],
}

impl Publish {
    /// A publish to `room`, or a push where there is none.
    #[must_use]
    pub fn new(
        room: Option<Box<str>>,
        from: Option<PublicId>,
        content: Content<'_>,
        memory: &Arc<MemoryGauge>,
    ) -> Arc<Self> {
        let (key, body) = (content.key.map(Into::into), OwnedBody::from(content.body));
        let charge = Charge::new(memory, Component::Frames, body.bytes.len());
        let (memory, frames) = (Arc::clone(memory), Default::default());
        Arc::new(Self { room, from, key, body, memory, _charge: charge, frames })
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
        made.then(|| Arc::new(SharedFrame::new(bytes.into_boxed_slice(), &self.memory)))
    }
}
