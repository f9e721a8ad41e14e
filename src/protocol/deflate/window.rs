//! What later messages of a connection may refer to.

/// The last bytes of what one end has said, with context takeover (RFC 7692, 7.1.1).
///
/// It is all that inflating needs of the messages before, so that connections share an
/// [`Inflater`](super::Inflater) all the same. It takes the memory of what was said, up to its size.
#[derive(Debug)]
pub struct Window {
    /// At most `max_bytes`, in memory of at most `max_bytes`.
    bytes: Vec<u8>,
    max_bytes: usize,
}

impl Window {
    /// An empty one that keeps 2 to the power of `window_bits`, which are 9 to 15.
    #[must_use]
    pub fn new(window_bits: u8) -> Self {
        Self { bytes: Vec::new(), max_bytes: 1 << window_bits.clamp(9, super::WINDOW_BITS_MAX) }
    }

    /// What it takes of the heap, bytes.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.bytes
    }

    /// Adds what was said next.
    pub(super) fn push(&mut self, said: &[u8]) {
        let said = &said[said.len().saturating_sub(self.max_bytes)..];
        let over = (self.bytes.len() + said.len()).saturating_sub(self.max_bytes);
        self.bytes.drain(..over);
        let need = self.bytes.len() + said.len();
        if need > self.bytes.capacity() {
            let wanted = (self.bytes.capacity() * 2).clamp(need, self.max_bytes);
            self.bytes.reserve_exact(wanted - self.bytes.len());
        }
        self.bytes.extend_from_slice(said);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_bytes_are_kept_and_no_more() {
        let mut window = Window::new(9);
        let mut all = Vec::new();
        for (at, len) in [0, 1, 10, 300, 200, 2, 511, 512, 513, 1000, 3, 0].into_iter().enumerate()
        {
            let said = vec![at as u8; len];
            window.push(&said);
            all.extend(said);
            assert_eq!(window.as_slice(), &all[all.len().saturating_sub(512)..]);
            assert!(window.heap_bytes() <= 512);
        }
        assert_eq!(Window::new(15).heap_bytes(), 0);
    }
}
