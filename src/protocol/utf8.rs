//! UTF-8 that arrives in pieces (RFC 3629; RFC 6455, 8.1).

/// Text is not UTF-8, and no continuation can make it so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidUtf8;

/// Validates a text piece by piece, and fails at the first byte that no continuation can mend.
///
/// Keeps at most the three bytes of an unfinished character. After an error it says nothing of
/// use any more.
#[derive(Clone, Copy, Debug, Default)]
pub struct Utf8Stream {
    /// The character that the last piece broke off in; only `pending[..len]` counts.
    pending: [u8; 4],
    /// Bytes of it so far, 0–3.
    len: u8,
}

impl Utf8Stream {
    /// Takes the next piece.
    ///
    /// # Errors
    /// [`InvalidUtf8`] as soon as the bytes so far begin no valid text.
    #[inline]
    pub fn push(&mut self, piece: &[u8]) -> Result<(), InvalidUtf8> {
        let rest = if self.len == 0 { piece } else { self.finish_character(piece)? };
        match simdutf8::compat::from_utf8(rest) {
            Ok(_) => Ok(()),
            Err(error) if error.error_len().is_some() => Err(InvalidUtf8),
            Err(error) => {
                self.keep(rest.get(error.valid_up_to()..).unwrap_or_default());
                Ok(())
            }
        }
    }

    /// Whether the text may end here: not within a character.
    #[inline]
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.len == 0
    }

    /// Adds bytes to the broken character until it is whole; what is left of `piece` is next.
    #[cold]
    fn finish_character<'a>(&mut self, piece: &'a [u8]) -> Result<&'a [u8], InvalidUtf8> {
        let mut rest = piece;
        while let Some((&byte, after)) = rest.split_first() {
            let end = usize::from(self.len);
            let Some(slot) = self.pending.get_mut(end) else { return Err(InvalidUtf8) };
            *slot = byte;
            rest = after;
            match std::str::from_utf8(&self.pending[..=end]) {
                Ok(_) => {
                    self.len = 0;
                    break;
                }
                Err(error) if error.error_len().is_some() => return Err(InvalidUtf8),
                Err(_) => self.len += 1,
            }
        }
        Ok(rest)
    }

    #[cold]
    fn keep(&mut self, tail: &[u8]) {
        let len = tail.len().min(3);
        self.pending[..len].copy_from_slice(&tail[..len]);
        self.len = len as u8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both opinions on `bytes` in the pieces that `cuts` make of it.
    fn agree(bytes: &[u8], cut: usize) {
        let mut stream = Utf8Stream::default();
        let (a, b) = bytes.split_at(cut);
        let ours = stream.push(a).and_then(|()| stream.push(b));
        match std::str::from_utf8(bytes) {
            Ok(_) => assert!(ours.is_ok() && stream.is_complete(), "{bytes:x?} at {cut}"),
            Err(e) if e.error_len().is_none() => {
                assert!(ours.is_ok() && !stream.is_complete(), "{bytes:x?} at {cut}");
            }
            Err(_) => assert!(ours.is_err(), "{bytes:x?} at {cut}"),
        }
    }

    #[test]
    fn edges_of_the_encoding_at_every_split() {
        let edges: &[&[u8]] = &[
            b"",
            b"plain",
            b"\x7f",
            b"\x80",
            b"\xbf",
            b"\xc0\x80",
            b"\xc1\xbf",
            b"\xc2\x80",
            b"\xdf\xbf",
            b"\xe0\x80\x80",
            b"\xe0\x9f\xbf",
            b"\xe0\xa0\x80",
            b"\xed\x9f\xbf",
            b"\xed\xa0\x80",
            b"\xed\xbf\xbf",
            b"\xee\x80\x80",
            b"\xef\xbf\xbf",
            b"\xf0\x80\x80\x80",
            b"\xf0\x8f\xbf\xbf",
            b"\xf0\x90\x80\x80",
            b"\xf4\x8f\xbf\xbf",
            b"\xf4\x90\x80\x80",
            b"\xf5\x80\x80\x80",
            b"\xf8\x88\x80\x80\x80",
            b"\xff",
            b"\xfe",
            b"\xe2\x82",
            b"\xf0\x9f\x98",
            b"\xf0\x9f\x98\x80tail",
            b"ab\xe2\x82\xac\xe2\x82\xaccd",
            b"\xe2\x82a",
            b"\xf0\x9f\x98\xf0\x9f\x98\x80",
        ];
        for bytes in edges {
            for cut in 0..=bytes.len() {
                agree(bytes, cut);
            }
        }
    }

    #[test]
    fn every_two_bytes_before_and_after_text() {
        for pair in 0..=u16::MAX {
            let [a, b] = pair.to_be_bytes();
            let bytes = [b'x', a, b, 0xac];
            for cut in 1..=3 {
                agree(&bytes, cut);
            }
        }
    }

    #[test]
    fn fails_at_the_first_hopeless_byte() {
        let mut stream = Utf8Stream::default();
        assert_eq!(stream.push(b"\xce\xba\xf4"), Ok(()));
        assert_eq!(stream.push(b"\x90"), Err(InvalidUtf8));
    }
}
