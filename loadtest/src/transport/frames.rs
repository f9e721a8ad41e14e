//! Frames over plain TCP: `[u8 opcode][u32 BE length][payload]`.

use std::io::ErrorKind;

use tungstenite::{Bytes, Message, Utf8Bytes, protocol::CloseFrame};

use super::{MAX_UNWRITTEN, outgoing::Outgoing};
use crate::{socket::Wire, trouble::Trouble};

/// The largest payload that is taken: a data message of the largest size, with an envelope.
pub(super) const PAYLOAD_MAX: usize = 80 << 20;
const HEADER_LEN: usize = 5;
/// What an empty buffer may keep.
const KEPT: usize = 4096;

const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;

/// What a stream has half.
#[derive(Debug)]
pub(crate) struct Frames {
    /// Bytes from `read` on are not taken out yet.
    input: Vec<u8>,
    read: usize,
    output: Outgoing,
    /// Whether our Close is queued or gone: nothing is sent behind it.
    closing: bool,
    /// Whether the peer's Close has come: nothing may come behind it.
    closed: bool,
}

impl Frames {
    /// A stream of which `tail` was read already.
    pub(super) fn new(tail: Vec<u8>) -> Self {
        Self { input: tail, read: 0, output: Outgoing::default(), closing: false, closed: false }
    }

    /// Queues a message.
    pub(super) fn send(&mut self, message: &Message) -> Result<(), Trouble> {
        match message {
            Message::Text(text) => self.put(TEXT, text.as_bytes()),
            Message::Binary(bytes) => self.put(BINARY, bytes),
            Message::Ping(bytes) => self.put(PING, bytes),
            Message::Pong(bytes) => self.put(PONG, bytes),
            Message::Close(frame) => self.close(frame.as_ref()),
            // Nothing but a codec of WebSocket frames makes these.
            Message::Frame(_) => {}
        }
        match self.output.len() > 2 * MAX_UNWRITTEN {
            true => Err(Trouble::NotReading),
            false => Ok(()),
        }
    }

    /// Queues a Close, once.
    pub(super) fn close(&mut self, frame: Option<&CloseFrame>) {
        self.put(CLOSE, &close_payload(frame));
        self.closing = true;
    }

    fn put(&mut self, opcode: u8, payload: &[u8]) {
        if self.closing {
            return;
        }
        let length = u32::try_from(payload.len()).expect("messages are far below 4 GiB");
        let output = self.output.bytes();
        output.push(opcode);
        output.extend_from_slice(&length.to_be_bytes());
        output.extend_from_slice(payload);
    }

    /// Writes what is queued, as far as the socket takes it.
    pub(super) fn flush(&mut self, wire: &mut Wire<'_>) -> Result<(), Trouble> {
        self.output.flush(wire)
    }

    /// The next message, or `None` when all is read that has come.
    pub(super) fn read(&mut self, wire: &mut Wire<'_>) -> Result<Option<Message>, Trouble> {
        loop {
            if let Some((opcode, payload)) = self.next()? {
                return self.understand(opcode, payload).map(Some);
            }
            match wire.fill() {
                Ok([]) => return Err(Trouble::Eof),
                Ok(bytes) => self.input.extend_from_slice(bytes),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(Trouble::from_io(&error)),
            }
        }
    }

    /// Takes out the next frame, if it is there as a whole.
    fn next(&mut self) -> Result<Option<(u8, Bytes)>, Trouble> {
        let unread = &self.input[self.read..];
        if self.closed && !unread.is_empty() {
            return Err(violation("bytes behind a Close"));
        }
        let frame = match unread {
            [opcode, a, b, c, d, rest @ ..] => {
                let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
                if length > PAYLOAD_MAX {
                    return Err(violation("a frame of more than 80 MiB"));
                }
                rest.get(..length).map(|payload| (*opcode, Bytes::copy_from_slice(payload)))
            }
            _ => None,
        };
        match &frame {
            Some((_, payload)) => self.read += HEADER_LEN + payload.len(),
            // What is left of the input moves to the front only when more must come.
            None => drop(self.input.drain(..std::mem::take(&mut self.read))),
        }
        if self.input.len() == self.read {
            self.read = 0;
            empty(&mut self.input);
        }
        Ok(frame)
    }

    fn understand(&mut self, opcode: u8, payload: Bytes) -> Result<Message, Trouble> {
        Ok(match opcode {
            TEXT => Message::Text(
                Utf8Bytes::try_from(payload).map_err(|_| violation("text that is not UTF-8"))?,
            ),
            BINARY => Message::Binary(payload),
            PING => {
                self.put(PONG, &payload);
                Message::Ping(payload)
            }
            PONG => Message::Pong(payload),
            CLOSE => {
                let frame = close_frame(&payload)?;
                self.close(frame.as_ref());
                self.closed = true;
                Message::Close(frame)
            }
            _ => return Err(violation("an unknown opcode")),
        })
    }
}

/// What a Close says, as its payload.
pub(super) fn close_payload(frame: Option<&CloseFrame>) -> Vec<u8> {
    let payload = frame.map(|frame| {
        let code = u16::from(frame.code).to_be_bytes();
        [&code, frame.reason.as_bytes()].concat()
    });
    payload.unwrap_or_default()
}

/// The code and reason of a Close; there may be none.
pub(super) fn close_frame(payload: &[u8]) -> Result<Option<CloseFrame>, Trouble> {
    let Some((code, reason)) = payload.split_first_chunk() else {
        return match payload {
            [] => Ok(None),
            _ => Err(violation("half a close code")),
        };
    };
    let reason = std::str::from_utf8(reason).map_err(|_| violation("text that is not UTF-8"))?;
    Ok(Some(CloseFrame { code: u16::from_be_bytes(*code).into(), reason: reason.into() }))
}

/// Empties a buffer, and gives back what only a burst needed.
pub(super) fn empty(buffer: &mut Vec<u8>) {
    match buffer.capacity() > KEPT {
        true => *buffer = Vec::new(),
        false => buffer.clear(),
    }
}

pub(super) fn violation(what: &str) -> Trouble {
    Trouble::Protocol(what.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(message: Message) -> Vec<u8> {
        let mut frames = Frames::new(Vec::new());
        frames.send(&message).unwrap();
        frames.output.bytes().clone()
    }

    fn taken(frames: &mut Frames) -> Result<Option<Message>, Trouble> {
        let next = frames.next()?;
        next.map(|(opcode, payload)| frames.understand(opcode, payload)).transpose()
    }

    #[test]
    fn frames_have_their_layout() {
        assert_eq!(written(Message::text("abc")), b"\x01\0\0\0\x03abc");
        assert_eq!(written(Message::binary(b"abc".to_vec())), b"\x02\0\0\0\x03abc");
        assert_eq!(written(Message::Ping(Bytes::new())), b"\x09\0\0\0\0");
        let frame = CloseFrame { code: 1000.into(), reason: "x".into() };
        assert_eq!(written(Message::Close(Some(frame))), b"\x08\0\0\0\x03\x03\xe8x");
        assert_eq!(written(Message::Close(None)), b"\x08\0\0\0\0");
    }

    #[test]
    fn pings_and_closes_are_answered() {
        let mut frames = Frames::new(b"\x09\0\0\0\x02hi\x08\0\0\0\x02\x03\xe9".to_vec());
        assert_eq!(taken(&mut frames), Ok(Some(Message::Ping("hi".into()))));
        let closed = taken(&mut frames).unwrap().unwrap();
        assert!(matches!(closed, Message::Close(Some(frame)) if u16::from(frame.code) == 1001));
        assert_eq!(*frames.output.bytes(), b"\x0a\0\0\0\x02hi\x08\0\0\0\x02\x03\xe9");
        // Nothing goes out behind it, and nothing may come.
        frames.send(&Message::text("late")).unwrap();
        assert_eq!(frames.output.len(), 14);
        assert_eq!(taken(&mut frames), Ok(None));
        frames.input.push(1);
        assert_eq!(taken(&mut frames), Err(violation("bytes behind a Close")));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (bytes, what) in [
            (b"\x03\0\0\0\0" as &[u8], "an unknown opcode"),
            (b"\x01\0\0\0\x01\xff", "text that is not UTF-8"),
            (b"\x08\0\0\0\x01\x03", "half a close code"),
            (b"\x02\xff\0\0\0", "a frame of more than 80 MiB"),
        ] {
            assert_eq!(taken(&mut Frames::new(bytes.to_vec())), Err(violation(what)));
        }
    }

    #[test]
    fn an_idle_stream_keeps_little() {
        let mut frames = Frames::new(written(Message::binary(vec![0; 100_000])));
        assert!(taken(&mut frames).unwrap().is_some());
        assert!(frames.input.capacity() <= KEPT);
    }

    proptest! {
        #[test]
        fn reading_undoes_writing_in_any_pieces(
            bodies in prop::collection::vec(any::<Vec<u8>>(), 1..8), piece in 1_usize..50
        ) {
            let mut bytes = Vec::new();
            for body in &bodies {
                bytes.extend(written(Message::binary(body.clone())));
            }
            let mut frames = Frames::new(Vec::new());
            let mut read = Vec::new();
            for piece in bytes.chunks(piece) {
                frames.input.extend_from_slice(piece);
                while let Some(message) = taken(&mut frames).unwrap() {
                    read.push(message.into_data().to_vec());
                }
            }
            prop_assert_eq!(read, bodies);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let mut frames = Frames::new(bytes);
            while let Ok(Some(_)) = taken(&mut frames) {}
        }
    }
}
