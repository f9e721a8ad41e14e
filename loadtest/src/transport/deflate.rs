//! WebSocket frames with permessage-deflate (RFC 7692): tungstenite's headers, which know RSV1, around
//! what flate2 makes.
//!
//! Every message is compressed, and none refers to an earlier one, so that the connections of a thread
//! share a compressor. Only where the server keeps its window a connection has an inflater of its own.

use std::{
    cell::RefCell,
    io::{Cursor, ErrorKind},
    mem,
};

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use tungstenite::{
    Bytes, Message, Utf8Bytes,
    protocol::{
        CloseFrame,
        frame::{
            FrameHeader,
            coding::{Control, Data, OpCode},
        },
    },
};

use super::{
    MAX_UNWRITTEN,
    frames::{PAYLOAD_MAX, close_frame, close_payload, empty, violation},
    outgoing::Outgoing,
};
use crate::{payload::token, socket::Wire, trouble::Trouble};

/// What ends every compressed message and is not sent (RFC 7692, section 7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];
/// The longest payload of a control frame (RFC 6455, section 5.5).
const CONTROL_MAX: u64 = 125;
/// Room for what compressing adds.
const ROOM: usize = 64;

thread_local! {
    static SHARED: RefCell<Shared> = RefCell::new(Shared::new());
}

/// What a stream has half.
#[derive(Debug)]
pub(crate) struct Deflated {
    /// Bytes from `read` on are not taken out yet.
    input: Vec<u8>,
    read: usize,
    output: Outgoing,
    /// A message of which frames are missing.
    begun: Option<Begun>,
    /// Where the server keeps its window from message to message.
    inflater: Option<Box<Decompress>>,
    /// Whether our Close is queued or gone: nothing is sent behind it.
    closing: bool,
    /// Whether the peer's Close has come: nothing may come behind it.
    closed: bool,
}

#[derive(Debug)]
struct Begun {
    data: Data,
    compressed: bool,
    payload: Vec<u8>,
}

/// What the connections of a thread share.
struct Shared {
    compress: Compress,
    decompress: Decompress,
    compressed: Vec<u8>,
    /// Masks drawn so far. They are no secret here: nobody is deceived by what is in a frame.
    masks: u32,
}

impl Deflated {
    /// A stream of which `tail` was read already; `keeps`: the server keeps its window.
    pub(super) fn new(tail: Vec<u8>, keeps: bool) -> Self {
        Self {
            input: tail,
            read: 0,
            output: Outgoing::default(),
            begun: None,
            inflater: keeps.then(|| Box::new(Decompress::new(false))),
            closing: false,
            closed: false,
        }
    }

    /// Queues a message.
    pub(super) fn send(&mut self, message: &Message) -> Result<(), Trouble> {
        match message {
            Message::Text(text) => self.put_data(Data::Text, text.as_bytes()),
            Message::Binary(bytes) => self.put_data(Data::Binary, bytes),
            Message::Ping(bytes) => self.put(OpCode::Control(Control::Ping), false, bytes),
            Message::Pong(bytes) => self.put(OpCode::Control(Control::Pong), false, bytes),
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
        self.put(OpCode::Control(Control::Close), false, &close_payload(frame));
        self.closing = true;
    }

    /// Writes what is queued, as far as the socket takes it.
    pub(super) fn flush(&mut self, wire: &mut Wire<'_>) -> Result<(), Trouble> {
        self.output.flush(wire)
    }

    /// The next message, or `None` when all is read that has come.
    pub(super) fn read(&mut self, wire: &mut Wire<'_>) -> Result<Option<Message>, Trouble> {
        loop {
            if let Some((header, payload)) = self.next()? {
                match self.understand(&header, payload)? {
                    Some(message) => return Ok(Some(message)),
                    None => continue,
                }
            }
            match wire.fill() {
                Ok([]) => return Err(Trouble::Eof),
                Ok(bytes) => self.input.extend_from_slice(bytes),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(Trouble::from_io(&error)),
            }
        }
    }

    fn put_data(&mut self, data: Data, payload: &[u8]) {
        let compressed = SHARED.with_borrow_mut(|shared| shared.deflate(payload));
        self.put(OpCode::Data(data), true, &compressed);
        SHARED.with_borrow_mut(|shared| shared.compressed = compressed);
    }

    fn put(&mut self, opcode: OpCode, rsv1: bool, payload: &[u8]) {
        if self.closing {
            return;
        }
        let mask = SHARED.with_borrow_mut(Shared::mask);
        let header = FrameHeader { rsv1, opcode, mask: Some(mask), ..FrameHeader::default() };
        let out = self.output.bytes();
        header.format(payload.len() as u64, out).expect("a vector takes all");
        let masked = payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask);
        out.extend(masked);
    }

    /// Takes out the next frame, if it is there as a whole.
    fn next(&mut self) -> Result<Option<(FrameHeader, Vec<u8>)>, Trouble> {
        let unread = &self.input[self.read..];
        if self.closed && !unread.is_empty() {
            return Err(violation("bytes behind a Close"));
        }
        let mut cursor = Cursor::new(unread);
        let parsed = FrameHeader::parse(&mut cursor).map_err(Trouble::from)?;
        let from = cursor.position() as usize;
        let frame = match parsed {
            Some((_, length)) if length > PAYLOAD_MAX as u64 => {
                return Err(violation("a frame of more than 80 MiB"));
            }
            Some((header, length)) => {
                let whole = unread.get(from..from + length as usize);
                whole.map(|payload| (header, payload.to_vec()))
            }
            None => None,
        };
        match &frame {
            Some((_, payload)) => self.read += from + payload.len(),
            // What is left of the input moves to the front only when more must come.
            None => drop(self.input.drain(..mem::take(&mut self.read))),
        }
        if self.input.len() == self.read {
            self.read = 0;
            empty(&mut self.input);
        }
        Ok(frame)
    }

    /// What a frame says, if that is a whole message.
    fn understand(
        &mut self,
        header: &FrameHeader,
        payload: Vec<u8>,
    ) -> Result<Option<Message>, Trouble> {
        if header.rsv2 || header.rsv3 || header.mask.is_some() {
            return Err(violation("a reserved bit, or a mask of a server's"));
        }
        match header.opcode {
            OpCode::Control(control) => {
                if header.rsv1 || !header.is_final || payload.len() as u64 > CONTROL_MAX {
                    return Err(violation("a control frame that is too long or in parts"));
                }
                self.control(control, Bytes::from(payload)).map(Some)
            }
            OpCode::Data(data) => {
                self.part(header, data, payload)?;
                match header.is_final {
                    true => self.whole().map(Some),
                    false => Ok(None),
                }
            }
        }
    }

    fn control(&mut self, control: Control, payload: Bytes) -> Result<Message, Trouble> {
        Ok(match control {
            Control::Ping => {
                self.put(OpCode::Control(Control::Pong), false, &payload);
                Message::Ping(payload)
            }
            Control::Pong => Message::Pong(payload),
            Control::Close => {
                let frame = close_frame(&payload)?;
                self.close(frame.as_ref());
                self.closed = true;
                Message::Close(frame)
            }
            Control::Reserved(_) => return Err(violation("an unknown opcode")),
        })
    }

    fn part(&mut self, header: &FrameHeader, data: Data, payload: Vec<u8>) -> Result<(), Trouble> {
        match (data, &mut self.begun) {
            (Data::Continue, Some(begun)) if !header.rsv1 => {
                begun.payload.extend_from_slice(&payload);
            }
            (Data::Text | Data::Binary, None) => {
                self.begun = Some(Begun { data, compressed: header.rsv1, payload });
            }
            _ => return Err(violation("a part of no message, or of another")),
        }
        match self.begun.as_ref().is_some_and(|begun| begun.payload.len() > PAYLOAD_MAX) {
            true => Err(violation("a message of more than 80 MiB")),
            false => Ok(()),
        }
    }

    fn whole(&mut self) -> Result<Message, Trouble> {
        let Some(Begun { data, compressed, payload }) = self.begun.take() else {
            return Err(violation("a part of no message"));
        };
        let payload = match (compressed, &mut self.inflater) {
            (false, _) => payload,
            (true, Some(own)) => inflate(own, payload)?,
            (true, None) => SHARED.with_borrow_mut(|shared| {
                shared.decompress.reset(false);
                inflate(&mut shared.decompress, payload)
            })?,
        };
        match data {
            Data::Text => Utf8Bytes::try_from(Bytes::from(payload))
                .map(Message::Text)
                .map_err(|_| violation("text that is not UTF-8")),
            _ => Ok(Message::Binary(payload.into())),
        }
    }
}

impl Shared {
    fn new() -> Self {
        Self {
            compress: Compress::new(Compression::fast(), false),
            decompress: Decompress::new(false),
            compressed: Vec::new(),
            masks: 0,
        }
    }

    fn mask(&mut self) -> [u8; 4] {
        self.masks = self.masks.wrapping_add(1);
        (token(0, 0, self.masks) as u32).to_le_bytes()
    }

    /// Compresses a message, without what ends it; the buffer should come back.
    fn deflate(&mut self, payload: &[u8]) -> Vec<u8> {
        self.compress.reset();
        let mut out = mem::take(&mut self.compressed);
        out.clear();
        loop {
            let taken = self.compress.total_in() as usize;
            if taken == payload.len() && taken > 0 && out.len() < out.capacity() {
                break;
            }
            out.reserve((payload.len() - taken) / 2 + ROOM);
            let rest = &payload[taken..];
            let made = self.compress.compress_vec(rest, &mut out, FlushCompress::Sync);
            made.expect("a compressor takes every input");
            if payload.is_empty() {
                break;
            }
        }
        out.truncate(out.len() - TAIL.len());
        out
    }
}

/// Undoes what a server's compressor has done.
fn inflate(decompress: &mut Decompress, mut payload: Vec<u8>) -> Result<Vec<u8>, Trouble> {
    payload.extend_from_slice(&TAIL);
    let begun = decompress.total_in();
    let mut out = Vec::with_capacity(2 * payload.len() + ROOM);
    loop {
        let taken = (decompress.total_in() - begun) as usize;
        if taken == payload.len() && out.len() < out.capacity() {
            return Ok(out);
        }
        if out.len() > PAYLOAD_MAX {
            return Err(violation("a message of more than 80 MiB"));
        }
        out.reserve(out.len().max(ROOM));
        let before = out.len();
        let status = decompress.decompress_vec(&payload[taken..], &mut out, FlushDecompress::Sync);
        let status = status.map_err(|_| violation("a message that cannot be inflated"))?;
        let idle = out.len() == before && decompress.total_in() - begun == taken as u64;
        if status == Status::StreamEnd || idle {
            return Err(violation("a message that cannot be inflated"));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What one side wrote, unmasked, as a server would have sent it.
    fn sent(message: &Message) -> Vec<u8> {
        let mut deflated = Deflated::new(Vec::new(), false);
        deflated.send(message).unwrap();
        let bytes = deflated.output.bytes().clone();
        let mut cursor = Cursor::new(&bytes);
        let (header, length) = FrameHeader::parse(&mut cursor).unwrap().unwrap();
        let (mask, from) = (header.mask.unwrap(), cursor.position() as usize);
        let mut unmasked = Vec::new();
        FrameHeader { mask: None, ..header }.format(length, &mut unmasked).unwrap();
        unmasked.extend(bytes[from..].iter().zip(mask.iter().cycle()).map(|(b, m)| b ^ m));
        unmasked
    }

    fn heard(bytes: Vec<u8>, keeps: bool) -> Result<Message, Trouble> {
        let mut deflated = Deflated::new(bytes, keeps);
        loop {
            let (header, payload) = deflated.next()?.expect("a whole frame");
            if let Some(message) = deflated.understand(&header, payload)? {
                return Ok(message);
            }
        }
    }

    #[test]
    fn the_rfcs_examples_are_understood() {
        // RFC 7692, section 7.2.3: compressed, in two frames, and without compression.
        let hello = [0xc1, 0x07, 0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
        assert_eq!(heard(hello.to_vec(), false), Ok(Message::text("Hello")));
        let parts = [0x41, 0x03, 0xf2, 0x48, 0xcd, 0x80, 0x04, 0xc9, 0xc9, 0x07, 0x00];
        assert_eq!(heard(parts.to_vec(), true), Ok(Message::text("Hello")));
        let stored = [0xc1, 0x0b, 0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00];
        assert_eq!(heard(stored.to_vec(), false), Ok(Message::text("Hello")));
        assert_eq!(heard(b"\x81\x05Hello".to_vec(), false), Ok(Message::text("Hello")));
    }

    #[test]
    fn a_window_that_is_kept_is_referred_to() {
        // RFC 7692, section 7.2.3.2: the second message refers to the first.
        let both = [
            0xc1, 0x07, 0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0xc1, 0x05, 0xf2, 0x00, 0x11,
            0x00, 0x00,
        ];
        let mut deflated = Deflated::new(both.to_vec(), true);
        for _ in 0..2 {
            let (header, payload) = deflated.next().unwrap().unwrap();
            let message = deflated.understand(&header, payload).unwrap();
            assert_eq!(message, Some(Message::text("Hello")));
        }
    }

    #[test]
    fn what_is_wrong_is_refused() {
        for bytes in [
            b"\xc1\x03abc" as &[u8],
            b"\xc9\x00",
            b"\x09\x7e\x00\x7e",
            b"\xa1\x01a",
            b"\x80\x01a",
            b"\x81\x81\0\0\0\0a",
            b"\x81\x01\xff",
        ] {
            let mut whole = bytes.to_vec();
            whole.resize(whole.len() + 200, 0);
            assert!(matches!(heard(whole, false), Err(Trouble::Protocol(_))), "{bytes:x?}");
        }
    }

    proptest! {
        #[test]
        fn inflating_undoes_deflating(bytes: Vec<u8>, times in 1_usize..200) {
            let message = Message::binary(bytes.repeat(times));
            prop_assert_eq!(heard(sent(&message), false), Ok(message.clone()));
            prop_assert_eq!(heard(sent(&message), true), Ok(message));
        }
    }
}
