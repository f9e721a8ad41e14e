//! What a loop accepts from: listeners of its own, and those that it has for all loops.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd as _, RawFd};
use std::sync::Arc;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, SockAddr, Socket, TcpKeepalive, Type};

use crate::config::{Config, ListenAddr, SocketConfig};
use crate::peer::Peer;
use crate::routing::Door;

/// Where to listen, and what comes in there.
#[derive(Clone, Debug)]
pub struct ListenAt {
    /// The address; never one of the service manager's to be found out.
    pub address: ListenAddr,
    /// What comes in.
    pub door: Door,
    /// The socket that listens there, in the main table, where there can be only one: of a
    /// Unix-domain socket, or of one that was passed. One loop accepts from it, and passes on.
    pub shared: Option<Arc<Socket>>,
}

/// One of the loop's listeners.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    pub(super) door: Door,
    /// It is TCP and was passed: what waited in it before it was ours has none of our options.
    was_passed: bool,
    /// There may be something to accept.
    pub(super) ready: bool,
}

impl Listener {
    fn new(socket: Socket, at: &ListenAt) -> Self {
        let was_passed = at.shared.is_some() && at.address.ip().is_some();
        Self { socket, door: at.door, was_passed, ready: true }
    }

    pub(super) fn register(&self, registry: &Registry, token: Token) -> io::Result<()> {
        registry.register(&mut SourceFd(&self.socket.as_raw_fd()), token, Interest::READABLE)
    }

    /// The next connection, without waiting for it.
    pub(super) fn accept(&self, config: &Config) -> io::Result<(Socket, Peer)> {
        let (socket, addr) = self.socket.accept4(libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK)?;
        if self.was_passed {
            set_tcp_options(&socket, config)?;
        }
        Ok((socket, peer_of(&addr)))
    }
}

/// The other end, which has no address over a Unix-domain socket.
pub(super) fn peer_of(addr: &SockAddr) -> Peer {
    addr.as_socket().map_or(Peer::UNIX, Peer::from)
}

/// Opens the listeners of loop `index`. A shared one is taken over by a descriptor of the loop's own.
///
/// # Errors
/// The address, and what the kernel says of it.
pub fn open_listeners(
    config: &Config,
    all: &[ListenAt],
    (index, loops): (usize, usize),
) -> io::Result<Vec<Listener>> {
    let mut listeners = Vec::new();
    let mut shared = 0..;
    for at in all {
        let socket = match (&at.address, &at.shared) {
            (_, Some(socket)) => {
                if shared.next().is_some_and(|nth| nth % loops == index) {
                    socket.try_clone()?
                } else {
                    continue;
                }
            }
            (ListenAddr::Ip(addr), None) => bind_listener(config, *addr)
                .map_err(|e| io::Error::new(e.kind(), format!("{addr}: {e}")))?,
            (other, None) => {
                return Err(io::Error::other(format!("{other}: no socket listens there")));
            }
        };
        listeners.push(Listener::new(socket, at));
    }
    Ok(listeners)
}

/// The numbers of shared listeners in the main table: loops with a table of their own close them
/// there once they have [opened](open_listeners) theirs.
pub fn shared_fds(all: &[ListenAt]) -> Vec<RawFd> {
    all.iter().filter_map(|at| at.shared.as_ref()).map(|socket| socket.as_raw_fd()).collect()
}

fn bind_listener(config: &Config, addr: SocketAddr) -> io::Result<Socket> {
    let socket = bind_tcp(addr, true, config)?;
    set_tcp_options(&socket, config)?;
    listen(&socket, config)?;
    Ok(socket)
}

/// A socket that is bound to an address and does not listen.
///
/// # Errors
/// What the kernel says.
pub fn bind_tcp(addr: SocketAddr, reuse_port: bool, config: &Config) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(reuse_port)?;
    if addr.is_ipv6() {
        socket.set_only_v6(config.sockets.ipv6_only)?;
    }
    socket.bind(&addr.into())?;
    Ok(socket)
}

/// Begins to listen on a socket that is bound.
///
/// # Errors
/// What the kernel says.
pub fn listen(socket: &Socket, config: &Config) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    socket.listen(i32::try_from(config.backlog).unwrap_or(i32::MAX))
}

/// Sets what connections of a TCP listener inherit from it: no system call per connection. Before it
/// listens, where it is the gateway's own: a handshake settles what window a client is offered.
///
/// # Errors
/// What the kernel says.
pub fn set_tcp_options(socket: &Socket, config: &Config) -> io::Result<()> {
    socket.set_tcp_nodelay(config.tcp_nodelay)?;
    let sockets = &config.sockets;
    if let Some(bytes) = sockets.receive_buffer_bytes {
        socket.set_recv_buffer_size(bytes)?;
    }
    if let Some(bytes) = sockets.send_buffer_bytes {
        socket.set_send_buffer_size(bytes)?;
    }
    if let Some(time) = sockets.tcp_user_timeout {
        socket.set_tcp_user_timeout(Some(time))?;
    }
    match keepalive(sockets) {
        Some(keepalive) => socket.set_tcp_keepalive(&keepalive),
        None => Ok(()),
    }
}

fn keepalive(sockets: &SocketConfig) -> Option<TcpKeepalive> {
    // The kernel counts seconds: none is shorter than asked for.
    let seconds = |time: Duration| Duration::from_secs(time.as_millis().div_ceil(1000) as u64);
    let mut keepalive = TcpKeepalive::new().with_time(seconds(sockets.tcp_keepalive?));
    if let Some(interval) = sockets.tcp_keepalive_interval {
        keepalive = keepalive.with_interval(seconds(interval));
    }
    if let Some(count) = sockets.tcp_keepalive_count {
        keepalive = keepalive.with_retries(count);
    }
    Some(keepalive)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    /// The gateway's end of a connection to a listener by this configuration.
    fn accepted(config: &Config) -> Socket {
        let at =
            ListenAt { address: ([127, 0, 0, 1], 0).into(), door: Door::default(), shared: None };
        let listeners = open_listeners(config, &[at], (0, 1)).unwrap();
        let addr = listeners[0].socket.local_addr().unwrap().as_socket().unwrap();
        let client = TcpStream::connect(addr).unwrap();
        let (socket, peer) = listeners[0].accept(config).unwrap();
        assert_eq!(peer.addr(), client.local_addr().unwrap());
        socket
    }

    #[test]
    fn connections_inherit_what_is_set() {
        let mut config = Config::default();
        config.sockets.tcp_keepalive = Some(Duration::from_millis(90_500));
        config.sockets.tcp_keepalive_interval = Some(Duration::from_secs(7));
        config.sockets.tcp_keepalive_count = Some(3);
        config.sockets.tcp_user_timeout = Some(Duration::from_millis(12_345));
        config.sockets.receive_buffer_bytes = Some(16 << 10);
        config.sockets.send_buffer_bytes = Some(24 << 10);
        let socket = accepted(&config);
        assert!(socket.keepalive().unwrap() && socket.tcp_nodelay().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(91));
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), Duration::from_secs(7));
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), 3);
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_millis(12_345)));
        // The kernel doubles them.
        assert_eq!(socket.recv_buffer_size().unwrap(), 32 << 10);
        assert_eq!(socket.send_buffer_size().unwrap(), 48 << 10);
        assert!(socket.nonblocking().unwrap());
    }

    #[test]
    fn what_is_not_set_is_the_kernels() {
        let config = Config { tcp_nodelay: false, ..Config::default() };
        let (socket, bare) = (accepted(&config), TcpListener::bind("127.0.0.1:0").unwrap());
        let client = TcpStream::connect(bare.local_addr().unwrap()).unwrap();
        let bare = Socket::from(bare.accept().unwrap().0);
        assert!(!socket.keepalive().unwrap() && !socket.tcp_nodelay().unwrap());
        assert_eq!(socket.tcp_user_timeout().unwrap(), bare.tcp_user_timeout().unwrap());
        assert_eq!(socket.recv_buffer_size().unwrap(), bare.recv_buffer_size().unwrap());
        assert_eq!(socket.send_buffer_size().unwrap(), bare.send_buffer_size().unwrap());
        drop(client);
    }

    #[test]
    fn shared_listeners_are_spread_over_the_loops() {
        let config = Config::default();
        let shared = |_| {
            let addr = SocketAddr::from(([127, 0, 0, 1], 0));
            let socket = bind_tcp(addr, false, &config).unwrap();
            listen(&socket, &config).unwrap();
            ListenAt { address: addr.into(), door: Door::default(), shared: Some(Arc::new(socket)) }
        };
        let all: Vec<_> = (0..5).map(shared).collect();
        let of = |index| open_listeners(&config, &all, (index, 3)).unwrap().len();
        assert_eq!([of(0), of(1), of(2)], [2, 2, 1]);
    }
}
