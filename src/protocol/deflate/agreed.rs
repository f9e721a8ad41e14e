//! What two ends have agreed on.

use std::fmt;
use std::num::NonZeroU8;

use crate::limits::DEFLATE_WINDOW_BITS;

const SERVER_TAKEOVER: u8 = 0x40;
const CLIENT_TAKEOVER: u8 = 0x80;

/// The parameters that two ends have agreed on; an `Option` of them is one byte too.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Agreed(
    /// From the lowest bit: 3 of the server's window less 8, 3 of the client's, the two takeovers.
    NonZeroU8,
);

impl Agreed {
    /// Windows are powers of two of bytes, 9 to 15. One of 8 is kept as 9: that is what zlib makes of
    /// it, and how far back its references go does not hang on which of the two it was told.
    #[must_use]
    pub fn new(
        server_window_bits: u8,
        client_window_bits: u8,
        server_takeover: bool,
        client_takeover: bool,
    ) -> Self {
        let server = packed(server_window_bits);
        let takeovers = if server_takeover { SERVER_TAKEOVER } else { 0 }
            | if client_takeover { CLIENT_TAKEOVER } else { 0 };
        Self(server | packed(client_window_bits).get() << 3 | takeovers)
    }

    /// How far back what the server sends may refer, as a power of two of bytes: 9 to 15.
    #[inline]
    #[must_use]
    pub const fn server_window_bits(self) -> u8 {
        (self.0.get() & 7) + 8
    }

    /// How far back what the client sends may refer, as a power of two of bytes: 9 to 15.
    #[inline]
    #[must_use]
    pub const fn client_window_bits(self) -> u8 {
        (self.0.get() >> 3 & 7) + 8
    }

    /// Whether what the server sends may refer to its earlier messages.
    #[inline]
    #[must_use]
    pub const fn server_takeover(self) -> bool {
        self.0.get() & SERVER_TAKEOVER != 0
    }

    /// Whether what the client sends may refer to its earlier messages.
    #[inline]
    #[must_use]
    pub const fn client_takeover(self) -> bool {
        self.0.get() & CLIENT_TAKEOVER != 0
    }

    /// Which compressed frames the server can send to this connection and to others alike. With
    /// context takeover the connection's own [`Deflater`](super::Deflater) has to
    /// [forget](super::Deflater::forget) what came before each of them.
    #[inline]
    #[must_use]
    pub const fn class(self) -> DeflateClass {
        DeflateClass(self.server_window_bits() - *DEFLATE_WINDOW_BITS.start())
    }
}

impl fmt::Debug for Agreed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Agreed")
            .field("server_window_bits", &self.server_window_bits())
            .field("client_window_bits", &self.client_window_bits())
            .field("server_takeover", &self.server_takeover())
            .field("client_takeover", &self.client_takeover())
            .finish()
    }
}

/// Connections that the same compressed frame can be sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeflateClass(
    /// Below [`COUNT`](Self::COUNT).
    u8,
);

impl DeflateClass {
    /// How many there are.
    pub const COUNT: usize =
        (*DEFLATE_WINDOW_BITS.end() - *DEFLATE_WINDOW_BITS.start()) as usize + 1;

    /// A number below [`COUNT`](Self::COUNT), for tables.
    #[inline]
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// The window to compress in, as a power of two of bytes: 9 to 15.
    #[inline]
    #[must_use]
    pub const fn window_bits(self) -> u8 {
        self.0 + *DEFLATE_WINDOW_BITS.start()
    }
}

/// A window's bits in three of them, none of which is 0.
fn packed(window_bits: u8) -> NonZeroU8 {
    let bits = window_bits.clamp(*DEFLATE_WINDOW_BITS.start(), *DEFLATE_WINDOW_BITS.end());
    NonZeroU8::new(bits - 8).unwrap_or(NonZeroU8::MIN)
}

const _: () = {
    assert!(size_of::<Option<Agreed>>() == 1);
    // Three bits of a window, and none of them zero.
    assert!(*DEFLATE_WINDOW_BITS.start() == 9 && *DEFLATE_WINDOW_BITS.end() == 15);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_agreement_is_kept() {
        for server in DEFLATE_WINDOW_BITS {
            for client in DEFLATE_WINDOW_BITS {
                for (s, c) in [(false, false), (false, true), (true, false), (true, true)] {
                    let agreed = Agreed::new(server, client, s, c);
                    assert_eq!(
                        (agreed.server_window_bits(), agreed.client_window_bits()),
                        (server, client)
                    );
                    assert_eq!((agreed.server_takeover(), agreed.client_takeover()), (s, c));
                    let class = agreed.class();
                    let expected = (usize::from(server - 9), server);
                    assert_eq!((class.index(), class.window_bits()), expected);
                }
            }
        }
        assert_eq!(Agreed::new(8, 8, false, false), Agreed::new(9, 9, false, false));
    }
}
