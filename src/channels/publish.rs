//! One publish: its body, and one lazily made, shared frame per class of members.

use std::sync::{Arc, OnceLock};

use crate::connection::SharedFrame;
use crate::dialect::{Body, Class, Dialect, Push};
use crate::public_id::PublicId;
use crate::telemetry::memory::MemoryGauge;

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
    body: OwnedBody,
    memory: Arc<MemoryGauge>,
    frames: [OnceLock<Arc<SharedFrame>>; Class::COUNT],
}

impl Publish {
    /// A publish to `room`, or a push where there is none.
    #[must_use]
    pub fn new(
        room: Option<Box<str>>,
        from: Option<PublicId>,
        body: OwnedBody,
        memory: &Arc<MemoryGauge>,
    ) -> Arc<Self> {
        let memory = Arc::clone(memory);
        Arc::new(Self { room, from, body, memory, frames: Default::default() })
    }

    /// The frame for members of `dialect`: made once per class, by whichever loop comes first.
    #[must_use]
    pub fn frame(&self, dialect: &Dialect) -> Arc<SharedFrame> {
        match dialect.class() {
            Some(class) => {
                Arc::clone(self.frames[class as usize].get_or_init(|| self.encode(dialect)))
            }
            None => self.encode(dialect),
        }
    }

    fn encode(&self, dialect: &Dialect) -> Arc<SharedFrame> {
        let mut bytes = Vec::with_capacity(self.body.bytes.len() + 128);
        let from = self.from.as_ref().map(PublicId::as_str);
        let push = Push { room: self.room.as_deref(), from, body: self.body.as_body() };
        dialect.put_push(&mut bytes, &push);
        Arc::new(SharedFrame::new(bytes.into_boxed_slice(), &self.memory))
    }
}
