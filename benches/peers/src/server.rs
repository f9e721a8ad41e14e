//! What the bare servers share: listening, accepting, one read.

use std::{
    io::{self, Read as _, Write as _},
    net::SocketAddr,
};

use mio::net::{TcpListener, TcpStream};
use socket2::{Domain, Protocol, Socket, Type};

/// Connections that the kernel keeps for a server until they are accepted.
const BACKLOG: i32 = 4096;
/// The read buffer of a loop.
pub const READ_BUFFER: usize = 64 * 1024;

/// A listener. What it accepts has `TCP_NODELAY` from it.
///
/// # Errors
/// The kernel's refusal.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    bind(address).map(TcpListener::from_std)
}

/// The same for a runtime of its own: a listener of the standard library, non-blocking.
///
/// # Errors
/// The kernel's refusal.
pub fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new_raw(Domain::for_address(address), kind, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// One listener for each loop, on one address; port 0 is chosen once.
///
/// # Errors
/// The kernel's refusal.
pub fn listen_each(address: SocketAddr, loops: usize) -> io::Result<Vec<TcpListener>> {
    let first = listen(address)?;
    let bound = first.local_addr()?;
    let others = (1..loops).map(|_| listen(bound));
    std::iter::once(Ok(first)).chain(others).collect()
}

/// Says on stdout that the server accepts.
///
/// # Errors
/// Nobody reads it.
pub fn announce(address: SocketAddr) -> io::Result<()> {
    say(format_args!("listening on {address}"))
}

/// The same, of TLS.
///
/// # Errors
/// Nobody reads it.
pub fn announce_tls(address: SocketAddr) -> io::Result<()> {
    say(format_args!("listening on {address} over TLS"))
}

fn say(what: std::fmt::Arguments<'_>) -> io::Result<()> {
    let mut stdout = io::stdout();
    writeln!(stdout, "{what}")?;
    stdout.flush()
}

/// Accepts all that wait.
///
/// # Errors
/// The kernel's refusal, but for connections that have gone meanwhile.
pub fn accept_all(
    listener: &TcpListener,
    mut take: impl FnMut(TcpStream) -> io::Result<()>,
) -> io::Result<()> {
    loop {
        match listener.accept() {
            Ok((socket, _)) => take(socket)?,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(e) => return Err(e),
        }
    }
}

/// What one read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Brought {
    /// So many bytes.
    Bytes(usize),
    /// Nothing for now.
    Nothing,
    /// The end, or an error.
    End,
}

/// Reads once.
pub fn read(socket: &mut TcpStream, buffer: &mut [u8]) -> Brought {
    match socket.read(buffer) {
        Ok(0) => Brought::End,
        Ok(count) => Brought::Bytes(count),
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Brought::Nothing,
        Err(_) => Brought::End,
    }
}

/// Writes once; how much was taken, or `None` for an error.
pub fn write(socket: &mut TcpStream, bytes: &[u8]) -> Option<usize> {
    match socket.write(bytes) {
        Ok(count) => Some(count),
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Some(0),
        Err(_) => None,
    }
}
