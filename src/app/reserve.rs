//! Holding the addresses to listen on, before the loops open their own listeners.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd as _, RawFd};

use socket2::{Domain, Protocol, Socket, Type};

/// An address that is ours: bound, not listening, so that no connection is ever given to it.
#[derive(Debug)]
pub(super) struct Reservation {
    pub(super) addr: SocketAddr,
    socket: Socket,
}

impl Reservation {
    /// The number in the main table, for loops to close in theirs.
    pub(super) fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// Takes an address; port 0 becomes a free one.
///
/// Loops listen with `SO_REUSEPORT`, under which a second gateway could bind the same address and
/// take half of the connections unnoticed. So the address is first bound without it, which fails
/// if anyone listens there.
///
/// # Errors
/// The address, and what the kernel says of it.
pub(super) fn reserve(addr: SocketAddr) -> io::Result<Reservation> {
    let named = |e: io::Error| io::Error::new(e.kind(), format!("{addr}: {e}"));
    let probe = bind(addr, false).map_err(named)?;
    probe.listen(1).map_err(named)?;
    let addr = probe
        .local_addr()?
        .as_socket()
        .ok_or_else(|| io::Error::other("the kernel gave no address"))?;
    drop(probe);
    let socket = bind(addr, true).map_err(named)?;
    Ok(Reservation { addr, socket })
}

fn bind(addr: SocketAddr, reuse_port: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(reuse_port)?;
    socket.bind(&addr.into())?;
    Ok(socket)
}
