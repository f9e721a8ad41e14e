//! Frames by lengths alone: `[u32 BE length][payload]`. All are messages of one kind, there are no
//! pings, and the end of the stream is the Close.

use std::{io::ErrorKind, mem};

use tungstenite::{
    Bytes, Message, Utf8Bytes,
    protocol::{CloseFrame, frame::coding::CloseCode},
};

use super::{
    MAX_UNWRITTEN,
    frames::{PAYLOAD_MAX, empty, violation},
    outgoing::Outgoing,
};
use crate::{socket::Wire, trouble::Trouble};

const HEADER_LEN: usize = 4;

/// What a stream has half.
#[derive(Debug)]
pub(crate) struct Lengths {
    /// Whether messages are text.
    text: bool,
    /// Bytes from `read` on are not taken out yet.
    input: Vec<u8>,
    read: usize,
    output: Outgoing,
    /// Whether our side is to be ended, or has been.
    closing: bool,
    /// Whether the peer's end, as the answer to ours, was told.
    closed: bool,
}

impl Lengths {
    /// A stream of which `tail` was read already.
    pub(super) fn new(tail: Vec<u8>, text: bool) -> Self {
        let output = Outgoing::default();
        Self { text, input: tail, read: 0, output, closing: false, closed: false }
    }

    /// Queues a message; pings and Closes have no form here.
    pub(super) fn send(&mut self, message: &Message) -> Result<(), Trouble> {
        if let Message::Text(_) | Message::Binary(_) = message {
            let payload = message.clone().into_data();
            let length = u32::try_from(payload.len()).expect("messages are far below 4 GiB");
            let output = self.output.bytes();
            output.extend_from_slice(&length.to_be_bytes());
            output.extend_from_slice(&payload);
        }
        match self.output.len() > 2 * MAX_UNWRITTEN {
            true => Err(Trouble::NotReading),
            false => Ok(()),
        }
    }

    /// Ends our side, once all is written that is queued.
    pub(super) fn close(&mut self) {
        self.closing = true;
    }

    /// Writes what is queued, as far as the socket takes it.
    pub(super) fn flush(&mut self, wire: &mut Wire<'_>) -> Result<(), Trouble> {
        self.output.flush(wire)?;
        if self.closing && self.output.len() == 0 {
            // Where it cannot be, the stream has ended, which reading tells.
            let _ = wire.end_sending();
        }
        Ok(())
    }

    /// The next message, or `None` when all is read that has come. The end of the stream is a Close
    /// first, if it answers ours.
    pub(super) fn read(&mut self, wire: &mut Wire<'_>) -> Result<Option<Message>, Trouble> {
        loop {
            if let Some(payload) = self.next()? {
                return self.message(payload).map(Some);
            }
            match wire.fill() {
                Ok([]) if self.closing && !self.closed && self.input.is_empty() => {
                    self.closed = true;
                    let frame = CloseFrame { code: CloseCode::Normal, reason: "".into() };
                    return Ok(Some(Message::Close(Some(frame))));
                }
                Ok([]) => return Err(Trouble::Eof),
                Ok(bytes) => self.input.extend_from_slice(bytes),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(Trouble::from_io(&error)),
            }
        }
    }

    /// Takes out the next frame, if it is there as a whole.
    fn next(&mut self) -> Result<Option<Bytes>, Trouble> {
        let frame = match self.input[self.read..].split_first_chunk::<HEADER_LEN>() {
            Some((length, rest)) => {
                let length = u32::from_be_bytes(*length) as usize;
                if length > PAYLOAD_MAX {
                    return Err(violation("a frame of more than 80 MiB"));
                }
                rest.get(..length).map(Bytes::copy_from_slice)
            }
            None => None,
        };
        match &frame {
            Some(payload) => self.read += HEADER_LEN + payload.len(),
            // What is left of the input moves to the front only when more must come.
            None => drop(self.input.drain(..mem::take(&mut self.read))),
        }
        if self.input.len() == self.read {
            self.read = 0;
            empty(&mut self.input);
        }
        Ok(frame)
    }

    fn message(&self, payload: Bytes) -> Result<Message, Trouble> {
        match self.text {
            true => Utf8Bytes::try_from(payload)
                .map(Message::Text)
                .map_err(|_| violation("text that is not UTF-8")),
            false => Ok(Message::Binary(payload)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_have_their_layout() {
        let mut lengths = Lengths::new(b"\0\0\0\x02hi\0\0\0\0\0\0".to_vec(), true);
        lengths.send(&Message::text("abc")).unwrap();
        lengths.send(&Message::Ping(Bytes::new())).unwrap();
        assert_eq!(lengths.output.bytes(), b"\0\0\0\x03abc");
        for expected in ["hi", ""] {
            let payload = lengths.next().unwrap().unwrap();
            assert_eq!(lengths.message(payload), Ok(Message::text(expected)));
        }
        assert_eq!(lengths.next(), Ok(None));
        assert_eq!(lengths.input, b"\0\0");
    }

    #[test]
    fn what_is_wrong_is_named() {
        let far = Lengths::new(b"\xff\0\0\0".to_vec(), false).next();
        assert_eq!(far, Err(violation("a frame of more than 80 MiB")));
        let text = Lengths::new(Vec::new(), true).message(Bytes::from_static(b"\xff"));
        assert_eq!(text, Err(violation("text that is not UTF-8")));
    }
}
