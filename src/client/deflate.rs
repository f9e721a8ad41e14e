//! permessage-deflate (RFC 7692) on one connection.

use std::fmt;

use crate::protocol::deflate::{Agreed, DeflateSettings, Deflater, Inflater, Window};
use crate::protocol::{MessageKind, Violation};

/// What a connection compresses and inflates with.
pub(super) struct Deflate {
    inflater: Inflater,
    /// What the server has said, where later messages of it may refer to it.
    window: Option<Window>,
    deflater: Deflater,
    /// Shorter messages are sent as they are.
    threshold_bytes: usize,
    payload: Vec<u8>,
}

impl Deflate {
    /// By what was agreed on the terms of `settings`.
    pub(super) fn new(settings: &DeflateSettings, agreed: Agreed) -> Self {
        let takeover = agreed.client_takeover();
        Self {
            inflater: Inflater::new(),
            window: agreed.server_takeover().then(|| Window::new(agreed.server_window_bits())),
            deflater: Deflater::new(settings.level, agreed.client_window_bits(), takeover),
            threshold_bytes: settings.threshold_bytes,
            payload: Vec::new(),
        }
    }

    /// The payload of a compressed message that says `message`; `None`: it is to be sent as it is.
    pub(super) fn compressed(&mut self, message: &[u8]) -> Option<&[u8]> {
        if message.len() < self.threshold_bytes {
            return None;
        }
        self.payload.clear();
        self.deflater.compress(message, &mut self.payload).then_some(&*self.payload)
    }

    /// The message in a payload.
    ///
    /// # Errors
    /// It is none, or has more than `max_bytes`.
    pub(super) fn inflated(
        &mut self,
        kind: MessageKind,
        payload: &[u8],
        max_bytes: usize,
    ) -> Result<Vec<u8>, Violation> {
        let mut message = Vec::new();
        self.inflater.inflate(kind, payload, self.window.as_mut(), max_bytes, &mut message)?;
        Ok(message)
    }
}

impl fmt::Debug for Deflate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deflate").finish_non_exhaustive()
    }
}
