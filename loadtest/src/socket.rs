//! Opening a socket, and reading and writing it with as few system calls as can be.

use std::{
    io::{self, ErrorKind, Read, Write},
    mem,
    net::{IpAddr, SocketAddr},
    os::fd::AsRawFd as _,
    time::Duration,
};

use mio::{Interest, Registry, Token, event::Source, unix::SourceFd};
use nix::sys::socket::{setsockopt, sockopt::IpBindAddressNoPort};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::{
    clock::{Clock, Nanos},
    target::Address,
    tls::Session,
    trouble::Trouble,
};

/// Segments of sockets with a small receive buffer, bytes: those of an Ethernet. By those of a
/// loopback, 65,483, the other end gives itself a send buffer of 2.6 MB, which hides who does not read.
const ETHERNET_MSS: u32 = 1448;
/// What all connections of a thread read through, bytes.
const SCRATCH: usize = 64 * 1024;
/// Most that is encrypted before it is written, bytes.
const ENCRYPTED_AT_ONCE: usize = 64 * 1024;

/// A connection to the server, or one on its way there.
#[derive(Debug)]
pub(crate) struct Stream(Socket);

impl Stream {
    /// Begins a connection to `target`, from `source` and with a receive buffer of so many bytes if
    /// given.
    pub(crate) fn open(
        target: &Address,
        source: Option<IpAddr>,
        receive_buffer: Option<usize>,
    ) -> io::Result<Self> {
        match target {
            Address::Ip(target) => open_tcp(*target, source, receive_buffer),
            Address::Unix(path) => {
                let socket = nonblocking(Domain::UNIX, None)?;
                if let Some(bytes) = receive_buffer {
                    socket.set_recv_buffer_size(bytes)?;
                }
                // It is connected at once, or not at all.
                socket.connect(&SockAddr::unix(path)?)?;
                Ok(Self(socket))
            }
        }
    }

    /// Whether the connection is made; an error if it has failed.
    fn is_connected(&self) -> io::Result<bool> {
        if let Some(error) = self.0.take_error()? {
            return Err(error);
        }
        match self.0.peer_addr() {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Ends the sending side.
    pub(crate) fn end_sending(&self) -> io::Result<()> {
        self.0.shutdown(std::net::Shutdown::Write)
    }

    /// Makes the end of the stream a reset: no waiting for what is unsent or unacknowledged, and no
    /// port that stays taken (TIME-WAIT) on either side.
    pub(crate) fn end_by_reset(&self) -> io::Result<()> {
        self.0.set_linger(Some(Duration::ZERO))
    }

    /// What the system has to say about it, if it has failed.
    pub(crate) fn failure(&self) -> Option<io::Error> {
        self.0.take_error().unwrap_or_else(Some)
    }

    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        persistent(|| self.0.read(into))
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        persistent(|| self.0.write(bytes))
    }
}

impl Source for Stream {
    fn register(&mut self, to: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        SourceFd(&self.0.as_raw_fd()).register(to, token, interests)
    }

    fn reregister(&mut self, to: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        SourceFd(&self.0.as_raw_fd()).reregister(to, token, interests)
    }

    fn deregister(&mut self, from: &Registry) -> io::Result<()> {
        SourceFd(&self.0.as_raw_fd()).deregister(from)
    }
}

/// With `IP_BIND_ADDRESS_NO_PORT` the kernel chooses the port at connect, per destination, so that
/// an address serves as many connections as there are ephemeral ports, and quickly.
fn open_tcp(
    target: SocketAddr,
    source: Option<IpAddr>,
    receive_buffer: Option<usize>,
) -> io::Result<Stream> {
    let socket = nonblocking(Domain::for_address(target), Some(Protocol::TCP))?;
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
        _ => Ok(Stream(socket)),
    }
}

fn nonblocking(domain: Domain, protocol: Option<Protocol>) -> io::Result<Socket> {
    Socket::new_raw(domain, Type::STREAM.nonblocking().cloexec(), protocol)
}

/// Tries again what a signal has interrupted.
fn persistent<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// What all connections of a thread read and write through.
#[derive(Debug)]
pub(crate) struct Buffers {
    plain: Box<[u8]>,
    /// Empty where nothing is encrypted.
    cipher: Box<[u8]>,
    out: Vec<u8>,
}

impl Buffers {
    /// With room for what is encrypted, if anything is.
    pub(crate) fn new(encrypted: bool) -> Self {
        let scratch = |bytes| vec![0; bytes].into_boxed_slice();
        let cipher = scratch(if encrypted { SCRATCH } else { 0 });
        Self { plain: scratch(SCRATCH), cipher, out: Vec::new() }
    }
}

/// A socket for the time of one event, reading through buffers that all connections of a thread
/// share, and through TLS where that is spoken.
///
/// Obligation: whoever reads goes on until `WouldBlock` or an error, else bytes would stay in the
/// shared buffer. A short read counts as drained, which saves a system call, unless the event said
/// that the peer has closed: then the stream is read to its end, as no further event will come.
/// Whoever writes flushes: what is encrypted may wait here.
#[derive(Debug)]
pub(crate) struct Wire<'a> {
    stream: &'a mut Stream,
    session: Option<&'a mut Session>,
    buffers: &'a mut Buffers,
    unread: std::ops::Range<usize>,
    drained: bool,
    to_end: bool,
    clock: Clock,
    /// When bytes last came; at first, when the event was taken up.
    pub(crate) now: Nanos,
    /// Bytes read off the socket.
    pub(crate) bytes_in: u64,
    /// Bytes written to it.
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
        (stream, session): (&'a mut Stream, Option<&'a mut Session>),
        buffers: &'a mut Buffers,
        readiness: Readiness,
        clock: Clock,
        now: Nanos,
    ) -> Self {
        Self {
            stream,
            session,
            buffers,
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
        self.stream.is_connected()
    }

    /// Shakes hands as TLS does, where that is spoken; whether that is done.
    pub(crate) fn secure(&mut self) -> Result<bool, Trouble> {
        let Some(session) = self.session.as_deref_mut() else { return Ok(true) };
        session.begin().map_err(|error| Trouble::Tls(error.to_string()))?;
        match self.shake_hands() {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(Trouble::from_io(&error)),
        }
    }

    fn shake_hands(&mut self) -> io::Result<()> {
        self.write_unwritten()?;
        while !self.is_secure() {
            if !self.decrypt_some()? {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            self.write_unwritten()?;
        }
        Ok(())
    }

    fn is_secure(&self) -> bool {
        self.session.as_deref().is_none_or(Session::is_established)
    }

    /// Ends our side, behind what is written, and TLS before that where it is spoken.
    pub(crate) fn end_sending(&mut self) -> io::Result<()> {
        if let Some(session) = self.session.as_deref_mut() {
            session.close();
        }
        self.write_unwritten()?;
        self.stream.end_sending()
    }

    /// Reads no more from the socket than is in the buffer.
    pub(crate) fn leave_rest(&mut self) {
        (self.drained, self.to_end) = (true, false);
    }

    /// What was read off the socket already.
    pub(crate) fn take_unread(&mut self) -> Vec<u8> {
        self.buffers.plain[mem::replace(&mut self.unread, 0..0)].to_vec()
    }

    /// Bytes as they lie in the buffer, at least one unless the stream has ended.
    pub(crate) fn fill(&mut self) -> io::Result<&[u8]> {
        if self.unread.is_empty() {
            self.refill()?;
        }
        let unread = mem::replace(&mut self.unread, 0..0);
        Ok(&self.buffers.plain[unread])
    }

    fn refill(&mut self) -> io::Result<()> {
        if self.session.is_some() {
            return self.decrypt();
        }
        self.unread = 0..self.read_socket(0)?;
        Ok(())
    }

    /// Reads until there is something, which takes a whole record, or the end.
    fn decrypt(&mut self) -> io::Result<()> {
        self.unread = 0..0;
        while self.unread.is_empty() && self.session.as_deref().is_some_and(|s| !s.has_ended()) {
            if !self.decrypt_some()? {
                break;
            }
        }
        Ok(())
    }

    /// Reads once, and decrypts what is whole; `false` at the end of the stream.
    fn decrypt_some(&mut self) -> io::Result<bool> {
        let Some(session) = self.session.as_deref() else { return Ok(false) };
        let begun = session.put_begun(&mut self.buffers.cipher);
        let end = begun + self.read_socket(begun)?;
        let Some(session) = self.session.as_deref_mut().filter(|_| end > begun) else {
            return Ok(false);
        };
        let Buffers { plain, cipher, .. } = &mut *self.buffers;
        let count = session.receive(&mut cipher[..end], plain).map_err(io::Error::other);
        if count.is_err() {
            // The peer is told why, if it listens.
            let _ = self.write_unwritten();
        }
        self.unread = 0..count?;
        Ok(true)
    }

    /// Reads off the socket, behind the first `from` bytes of a buffer.
    fn read_socket(&mut self, from: usize) -> io::Result<usize> {
        if self.drained {
            return Err(ErrorKind::WouldBlock.into());
        }
        let into = match self.session {
            Some(_) => &mut self.buffers.cipher[from..],
            None => &mut self.buffers.plain[..],
        };
        let count = self.stream.read(into)?;
        self.drained = count < into.len() && !self.to_end;
        self.bytes_in += count as u64;
        self.now = self.clock.now();
        Ok(count)
    }

    fn write_socket(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.stream.write(bytes)?;
        self.bytes_out += count as u64;
        Ok(count)
    }

    /// Encrypts, and writes what the socket takes; the rest waits in the session.
    fn encrypt(&mut self, plain: &[u8]) -> io::Result<usize> {
        self.write_unwritten()?;
        let plain = &plain[..plain.len().min(ENCRYPTED_AT_ONCE)];
        let mut out = mem::take(&mut self.buffers.out);
        out.clear();
        let Some(session) = self.session.as_deref_mut() else { return Ok(0) };
        let sent = session.send(plain, &mut out).map_err(io::Error::other);
        let wrote = sent.and_then(|()| self.write_part(&out));
        let result = wrote.map(|count| {
            if let Some(session) = self.session.as_deref_mut() {
                session.write_later(&out[count..]);
            }
            plain.len()
        });
        self.buffers.out = out;
        result
    }

    /// Writes what the socket takes of `bytes`, and says how much that is.
    fn write_part(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut written = 0;
        while written < bytes.len() {
            match self.write_socket(&bytes[written..]) {
                Ok(count) => written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(written)
    }

    /// Writes what is encrypted; `WouldBlock` as long as some is left.
    fn write_unwritten(&mut self) -> io::Result<()> {
        while let Some(session) = self.session.as_deref() {
            if session.unwritten().is_empty() {
                break;
            }
            let count = self.stream.write(session.unwritten())?;
            self.bytes_out += count as u64;
            if let Some(session) = self.session.as_deref_mut() {
                session.wrote(count);
            }
        }
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
        into[..count].copy_from_slice(&self.buffers.plain[from..from + count]);
        self.unread.start += count;
        Ok(count)
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.session {
            Some(_) => self.encrypt(bytes),
            None => self.write_socket(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.write_unwritten()
    }
}
