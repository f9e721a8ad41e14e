//! Opening a socket, and reading and writing it with as few system calls as can be.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use mio::net::TcpStream;
use nix::sys::socket::{setsockopt, sockopt::IpBindAddressNoPort};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::clock::{Clock, Nanos};

/// Segments of sockets with a small receive buffer, bytes: those of an Ethernet. By those of a
/// loopback, 65,483, the other end gives itself a send buffer of 2.6 MB, which hides who does not read.
const ETHERNET_MSS: u32 = 1448;

/// Begins a connection to `target`, from `source` and with a receive buffer of so many bytes if given.
///
/// With `IP_BIND_ADDRESS_NO_PORT` the kernel chooses the port at connect, per destination, so that
/// an address serves as many connections as there are ephemeral ports, and quickly.
pub(crate) fn open(
    target: SocketAddr,
    source: Option<IpAddr>,
    receive_buffer: Option<usize>,
) -> io::Result<TcpStream> {
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new_raw(Domain::for_address(target), kind, Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    if let Some(bytes) = receive_buffer {
        // Before the connect, which settles how large a window may be offered.
        socket.set_recv_buffer_size(bytes)?;
        socket.set_tcp_mss(ETHERNET_MSS)?;
    }
    if let Some(source) = source {
        setsockopt(&socket, IpBindAddressNoPort, &true)?;
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    match socket.connect(&target.into()) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(TcpStream::from_std(socket.into())),
    }
}

/// Makes the end of `socket` a reset: no waiting for what is unsent or unacknowledged, and no port
/// that stays taken (TIME-WAIT) on either side.
pub(crate) fn end_by_reset(socket: &TcpStream) -> io::Result<()> {
    SockRef::from(socket).set_linger(Some(Duration::ZERO))
}

/// What the system has to say about `socket`, if it has failed.
pub(crate) fn failure(socket: &TcpStream) -> Option<io::Error> {
    socket.take_error().unwrap_or_else(Some)
}

/// A socket for the time of one event, reading through a buffer that all connections of a thread
/// share.
///
/// Obligation: whoever reads goes on until `WouldBlock` or an error, else bytes would stay in the
/// shared buffer. A short read counts as drained, which saves a system call, unless the event said
/// that the peer has closed: then the stream is read to its end, as no further event will come.
#[derive(Debug)]
pub(crate) struct Wire<'a> {
    socket: &'a mut TcpStream,
    buffer: &'a mut [u8],
    unread: std::ops::Range<usize>,
    drained: bool,
    to_end: bool,
    clock: Clock,
    /// When bytes last came; at first, when the event was taken up.
    pub(crate) now: Nanos,
    /// Bytes read.
    pub(crate) bytes_in: u64,
    /// Bytes written.
    pub(crate) bytes_out: u64,
}

/// What is known about a socket before it is touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readiness {
    /// Nothing to read.
    Nothing,
    /// There may be bytes.
    Bytes,
    /// There may be bytes, and then the end or an error.
    End,
}

impl<'a> Wire<'a> {
    /// Takes up a socket at time `now`.
    pub(crate) fn new(
        socket: &'a mut TcpStream,
        buffer: &'a mut [u8],
        readiness: Readiness,
        clock: Clock,
        now: Nanos,
    ) -> Self {
        Self {
            socket,
            buffer,
            unread: 0..0,
            drained: readiness == Readiness::Nothing,
            to_end: readiness == Readiness::End,
            clock,
            now,
            bytes_in: 0,
            bytes_out: 0,
        }
    }

    /// What is known now: nothing to read, if the socket has been drained.
    pub(crate) fn readiness(&self) -> Readiness {
        match (self.drained, self.to_end) {
            (true, _) => Readiness::Nothing,
            (false, true) => Readiness::End,
            (false, false) => Readiness::Bytes,
        }
    }

    /// Whether the connection is made; an error if it has failed.
    pub(crate) fn is_connected(&self) -> io::Result<bool> {
        if let Some(error) = self.socket.take_error()? {
            return Err(error);
        }
        match self.socket.peer_addr() {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Reads no more from the socket than is in the buffer.
    pub(crate) fn leave_rest(&mut self) {
        (self.drained, self.to_end) = (true, false);
    }

    /// Bytes as they lie in the buffer, at least one unless the stream has ended.
    pub(crate) fn fill(&mut self) -> io::Result<&[u8]> {
        if self.unread.is_empty() {
            self.refill()?;
        }
        let unread = std::mem::replace(&mut self.unread, 0..0);
        Ok(&self.buffer[unread])
    }

    fn refill(&mut self) -> io::Result<()> {
        if self.drained {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = loop {
            match self.socket.read(self.buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result?,
            }
        };
        self.drained = count < self.buffer.len() && !self.to_end;
        self.unread = 0..count;
        self.bytes_in += count as u64;
        self.now = self.clock.now();
        Ok(())
    }
}

impl Read for Wire<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.unread.is_empty() {
            self.refill()?;
        }
        let count = into.len().min(self.unread.len());
        let from = self.unread.start;
        into[..count].copy_from_slice(&self.buffer[from..from + count]);
        self.unread.start += count;
        Ok(count)
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.socket.write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => {
                    let count = result?;
                    self.bytes_out += count as u64;
                    return Ok(count);
                }
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
