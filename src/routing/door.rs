//! What comes in at a listener.

use super::endpoint::EndpointId;

/// What comes in at a listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Door {
    /// The endpoint of what comes in without a request; `None`: requests come in, and say.
    pub tcp: Option<EndpointId>,
    /// Whether it is over TLS.
    pub tls: bool,
}

impl Door {
    /// No endpoint's id: there are fewer than that.
    const NO_TCP: u16 = u16::MAX;
    const TLS: u32 = 1 << 16;

    /// As the word about a passed socket.
    pub(crate) fn word(self) -> u32 {
        let endpoint = self.tcp.map_or(Self::NO_TCP, |endpoint| endpoint.0);
        u32::from(endpoint) | if self.tls { Self::TLS } else { 0 }
    }

    /// Of such a word.
    pub(crate) fn of_word(word: u32) -> Self {
        let endpoint = word as u16;
        let tcp = (endpoint != Self::NO_TCP).then_some(EndpointId(endpoint));
        Self { tcp, tls: word & Self::TLS != 0 }
    }
}
