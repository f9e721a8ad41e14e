//! What comes in at a listener.

use super::endpoint::EndpointId;
use crate::transport::proxy::ProxyProtocol;

/// What comes in at a listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Door {
    /// The endpoint of what comes in without a request; `None`: requests come in, and say.
    pub tcp: Option<EndpointId>,
    /// Whether it is over TLS.
    pub tls: bool,
    /// Whether a PROXY header stands in front of it, of TLS too.
    pub proxy: ProxyProtocol,
}

impl Door {
    /// No endpoint's id: there are fewer than that.
    const NO_TCP: u16 = u16::MAX;
    const TLS: u32 = 1 << 16;
    const PROXY_SHIFT: u32 = 24;

    /// As the word about a passed socket.
    pub(crate) fn word(self) -> u32 {
        let endpoint = self.tcp.map_or(Self::NO_TCP, |endpoint| endpoint.0);
        let proxy = (self.proxy as u32) << Self::PROXY_SHIFT;
        u32::from(endpoint) | if self.tls { Self::TLS } else { 0 } | proxy
    }

    /// Of such a word.
    pub(crate) fn of_word(word: u32) -> Self {
        let endpoint = word as u16;
        let tcp = (endpoint != Self::NO_TCP).then_some(EndpointId(endpoint));
        let proxy = match word >> Self::PROXY_SHIFT & 3 {
            0 => ProxyProtocol::Off,
            1 => ProxyProtocol::Accept,
            _ => ProxyProtocol::Require,
        };
        Self { tcp, tls: word & Self::TLS != 0, proxy }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_door_comes_back_of_its_word() {
        for tcp in [None, Some(EndpointId(0)), Some(EndpointId(u16::MAX - 1))] {
            for tls in [false, true] {
                use ProxyProtocol::{Accept, Off, Require};
                for proxy in [Off, Accept, Require] {
                    let door = Door { tcp, tls, proxy };
                    assert_eq!(Door::of_word(door.word()), door);
                }
            }
        }
    }
}
