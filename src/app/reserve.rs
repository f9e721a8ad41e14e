//! Taking all that is to be listened on, before the loops open their own listeners.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd as _, RawFd};
use std::sync::Arc;

use socket2::Socket;

use super::passed::PassedSockets;
use super::snapshot::Snapshot;
use super::unix_socket::{self, SocketFile};
use crate::config::{Config, ListenAddr, TcpListen};
use crate::reactor::{ListenAt, bind_tcp};
use crate::routing::Door;
use crate::transport::proxy::ListenerKind;

/// All that is listened on, before any loop does.
#[derive(Debug)]
pub(super) struct Reserved {
    /// Files of Unix-domain sockets, for as long as they are listened on. First, so that they are
    /// dropped before their sockets.
    pub(super) files: Vec<SocketFile>,
    /// What the loops are to open.
    pub(super) listeners: Vec<ListenAt>,
    /// The configuration, with addresses as they became: no port 0, and those of passed sockets.
    pub(super) config: Config,
    /// Addresses that are bound and not listened on, so that no connection is ever given to them.
    held: Vec<Socket>,
}

/// One place to listen.
struct Place {
    address: ListenAddr,
    shared: Option<Arc<Socket>>,
}

impl Reserved {
    /// Takes all of a configuration.
    ///
    /// # Errors
    /// The address, its flag, and what the kernel says of it.
    pub(super) fn take(snapshot: &Snapshot) -> io::Result<Self> {
        let config = &snapshot.config;
        let mut passed = PassedSockets::take(&names_of(config))?;
        let mut reserved = Self::nothing(config);
        for (flag, all, tls) in
            [("--listen", &config.listen, false), ("--tls-listen", &config.tls_listen, true)]
        {
            for (index, address) in all.iter().enumerate() {
                let proxy = config.proxy.protocol_at(ListenerKind::of(false, tls), index);
                let door = Door { tcp: None, tls, proxy };
                for address in reserved.add(flag, address, door, &mut passed)? {
                    let config = &mut reserved.config;
                    if tls { &mut config.tls_listen } else { &mut config.listen }.push(address);
                }
            }
        }
        for (index, (TcpListen { address, endpoint, framing }, tls)) in
            config.all_tcp_listen().enumerate()
        {
            let flag = if tls { "--tls-tcp-listen" } else { "--tcp-listen" };
            let own_index = if tls { index - config.tcp_listen.len() } else { index };
            let proxy = config.proxy.protocol_at(ListenerKind::of(true, tls), own_index);
            let door = Door { tcp: Some(snapshot.tcp_endpoint(index)), tls, proxy };
            for address in reserved.add(flag, address, door, &mut passed)? {
                let config = &mut reserved.config;
                let all = if tls { &mut config.tls_tcp_listen } else { &mut config.tcp_listen };
                all.push(TcpListen { address, endpoint: endpoint.clone(), framing: *framing });
            }
        }
        passed.warn_of_rest();
        Ok(reserved)
    }

    /// The numbers in the main table of what loops must not keep, for a copy in a loop's table would
    /// outlive the reservation.
    pub(super) fn held_fds(&self) -> Vec<RawFd> {
        self.held.iter().map(Socket::as_raw_fd).collect()
    }

    fn nothing(config: &Config) -> Self {
        let mut config = config.clone();
        config.listen.clear();
        config.tls_listen.clear();
        config.tcp_listen.clear();
        config.tls_tcp_listen.clear();
        Self { listeners: Vec::new(), config, files: Vec::new(), held: Vec::new() }
    }

    /// Takes what one value of a flag names; says what that is.
    fn add(
        &mut self,
        flag: &str,
        address: &ListenAddr,
        door: Door,
        passed: &mut PassedSockets,
    ) -> io::Result<Vec<ListenAddr>> {
        let places = self
            .places(address, passed)
            .map_err(|e| io::Error::new(e.kind(), format!("{address}: {e} ({flag})")))?;
        let mut taken = Vec::new();
        for Place { address, shared } in places {
            taken.push(address.clone());
            self.listeners.push(ListenAt { address, door, shared });
        }
        Ok(taken)
    }

    fn places(
        &mut self,
        address: &ListenAddr,
        passed: &mut PassedSockets,
    ) -> io::Result<Vec<Place>> {
        let shared = |(address, socket)| Place { address, shared: Some(Arc::new(socket)) };
        Ok(match address {
            ListenAddr::Ip(addr) => {
                let (addr, socket) = reserve(*addr, &self.config)?;
                self.held.push(socket);
                vec![Place { address: addr.into(), shared: None }]
            }
            ListenAddr::Unix(path) => {
                let (socket, file) = unix_socket::bind(path, &self.config)?;
                self.files.push(file);
                vec![shared((address.clone(), socket))]
            }
            ListenAddr::Abstract(name) => {
                vec![shared((address.clone(), unix_socket::bind_abstract(name, &self.config)?))]
            }
            ListenAddr::Passed(name) => {
                let sockets = passed.named(name.as_deref(), &self.config)?;
                sockets.into_iter().map(shared).collect()
            }
        })
    }
}

/// The names of passed sockets that listeners ask for; with the empty one, if one takes the rest.
fn names_of(config: &Config) -> BTreeSet<String> {
    let plain = config.listen.iter().chain(&config.tls_listen);
    let all = plain.chain(config.all_tcp_listen().map(|(listen, _)| &listen.address));
    let name = |address: &ListenAddr| match address {
        ListenAddr::Passed(name) => Some(name.clone().unwrap_or_default()),
        _ => None,
    };
    all.filter_map(name).collect()
}

/// Takes an address; port 0 becomes a free one. The socket holds it: bound, not listening.
///
/// Loops listen with `SO_REUSEPORT`, under which a second gateway could bind the same address and
/// take half of the connections unnoticed. So the address is first bound without it, which fails
/// if anyone listens there.
///
/// # Errors
/// What the kernel says.
fn reserve(addr: SocketAddr, config: &Config) -> io::Result<(SocketAddr, Socket)> {
    let probe = bind_tcp(addr, false, config)?;
    probe.listen(1)?;
    let addr = probe
        .local_addr()?
        .as_socket()
        .ok_or_else(|| io::Error::other("the kernel gave no address"))?;
    drop(probe);
    Ok((addr, bind_tcp(addr, true, config)?))
}
