//! What waits to be written on a connection.

use std::io::{ErrorKind, Write as _};

use super::frames::empty;
use crate::{socket::Wire, trouble::Trouble};

/// Bytes, of which those from `written` on are to be written.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    bytes: Vec<u8>,
    written: usize,
}

impl Outgoing {
    /// How many bytes wait.
    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.written
    }

    /// Where more go, at the end.
    pub(super) fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Writes what the socket takes.
    pub(super) fn flush(&mut self, wire: &mut Wire<'_>) -> Result<(), Trouble> {
        while self.written < self.bytes.len() {
            match wire.write(&self.bytes[self.written..]) {
                Ok(0) => return Err(Trouble::Eof),
                Ok(count) => self.written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(Trouble::from_io(&error)),
            }
        }
        self.written = 0;
        empty(&mut self.bytes);
        match wire.flush() {
            Err(error) if error.kind() != ErrorKind::WouldBlock => Err(Trouble::from_io(&error)),
            _ => Ok(()),
        }
    }
}
