//! The other end of a connection, small enough for every slot and every batch.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// The other end of a socket, in 18 bytes. Clients over a Unix-domain socket have no address: theirs
/// is the unspecified one, with port 0, which no client over TCP can have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    ip: [u8; 16],
    port: u16,
}

impl Peer {
    /// A client over a Unix-domain socket.
    pub const UNIX: Self = Self { ip: [0; 16], port: 0 };

    /// As an address; IPv4 as such.
    #[inline]
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        SocketAddr::new(Ipv6Addr::from(self.ip).to_canonical(), self.port)
    }

    /// Whether it came in over a Unix-domain socket.
    #[inline]
    #[must_use]
    pub fn is_unix(&self) -> bool {
        *self == Self::UNIX
    }
}

impl From<SocketAddr> for Peer {
    fn from(addr: SocketAddr) -> Self {
        let ip = match addr.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        Self { ip: ip.octets(), port: addr.port() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_back() {
        for text in ["1.2.3.4:5", "[::1]:80", "[2001:db8::7]:65535"] {
            let addr: SocketAddr = text.parse().unwrap();
            assert_eq!(Peer::from(addr).addr(), addr);
            assert!(!Peer::from(addr).is_unix());
        }
        assert_eq!(Peer::UNIX.addr().to_string(), "[::]:0");
        assert!(Peer::UNIX.is_unix());
    }
}
