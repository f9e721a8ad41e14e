//! Where trusted proxies are.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use ipnet::{IpNet, Ipv4Net};

use crate::peer::Peer;

/// Where somebody is who is trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trusted {
    /// At an address of a network.
    Network(IpNet),
    /// At the other end of a Unix-domain socket.
    Unix,
}

/// Where those are who are trusted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks(Vec<Trusted>);

impl Networks {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether an address is of one of them. An IPv4 address is one also where IPv6 carries it
    /// (`::ffff:10.0.0.1`), as a listener on `[::]` gives it.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let holds = |trusted: &Trusted| match trusted {
            Trusted::Network(network) => network.contains(&address),
            Trusted::Unix => false,
        };
        self.0.iter().any(holds)
    }

    /// Whether the other end of a socket is of one of them.
    #[must_use]
    pub fn contains_peer(&self, peer: SocketAddr) -> bool {
        if Peer::from(peer).is_unix() {
            return self.0.contains(&Trusted::Unix);
        }
        self.contains(peer.ip())
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Trusted> {
        self.0.iter()
    }
}

impl FromIterator<Trusted> for Networks {
    fn from_iter<I: IntoIterator<Item = Trusted>>(all: I) -> Self {
        Self(all.into_iter().collect())
    }
}

impl fmt::Display for Networks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&texts.join(","))
    }
}

impl fmt::Display for Trusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(network) => network.fmt(f),
            Self::Unix => f.write_str("unix"),
        }
    }
}

/// A network, such as `10.0.0.0/8`, one address, or `unix`.
///
/// # Errors
/// What was expected instead.
pub fn parse_trusted(text: &str) -> Result<Trusted, String> {
    if text.eq_ignore_ascii_case("unix") {
        return Ok(Trusted::Unix);
    }
    let expected = || "a network such as 10.0.0.0/8 or fd00::/8, an address, or unix".to_owned();
    let network = match text.parse::<IpAddr>() {
        Ok(address) => IpNet::from(address),
        Err(_) => text.parse::<IpNet>().map_err(|_| expected())?,
    };
    if network.trunc() != network {
        // More is meant than is named, or less: better asked than guessed.
        return Err(format!("{}, or {}", network.trunc(), network.addr()));
    }
    Ok(Trusted::Network(carried(network)))
}

/// Of IPv4 where it is one of `::ffff:0:0/96`.
fn carried(network: IpNet) -> IpNet {
    match (network.addr().to_canonical(), network.prefix_len().checked_sub(96)) {
        (IpAddr::V4(address), Some(len)) if matches!(network, IpNet::V6(_)) => {
            Ipv4Net::new(address, len).map_or(network, IpNet::V4)
        }
        _ => network,
    }
}
