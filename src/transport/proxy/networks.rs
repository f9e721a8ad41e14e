//! Networks of trusted proxies.

use std::fmt;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

/// Networks whose addresses are trusted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks(Vec<IpNet>);

impl Networks {
    /// These networks.
    #[must_use]
    pub fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

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
        self.0.iter().any(|network| network.contains(&address))
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &IpNet> {
        self.0.iter()
    }
}

impl FromIterator<IpNet> for Networks {
    fn from_iter<I: IntoIterator<Item = IpNet>>(networks: I) -> Self {
        Self(networks.into_iter().collect())
    }
}

impl fmt::Display for Networks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&texts.join(","))
    }
}

/// A network, such as `10.0.0.0/8`, or one address.
///
/// # Errors
/// What was expected instead.
pub fn parse_network(text: &str) -> Result<IpNet, String> {
    let expected = || "a network such as 10.0.0.0/8 or fd00::/8, or an address".to_owned();
    let network = match text.parse::<IpAddr>() {
        Ok(address) => IpNet::from(address),
        Err(_) => text.parse::<IpNet>().map_err(|_| expected())?,
    };
    if network.trunc() != network {
        // More is meant than is named, or less: better asked than guessed.
        return Err(format!("{}, or {}", network.trunc(), network.addr()));
    }
    Ok(carried(network))
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
