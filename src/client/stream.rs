//! The socket of a connection, with TLS over it or without.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr};

use mio::event::Source;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use rustls::ClientConnection;

/// A connection to a server, which never blocks.
pub(super) struct Stream {
    tcp: TcpStream,
    tls: Option<Box<ClientConnection>>,
}

impl Stream {
    /// Begins to connect.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn connect(address: SocketAddr) -> io::Result<Self> {
        Ok(Self { tcp: TcpStream::connect(address)?, tls: None })
    }

    /// Whether a connect has come to its end.
    ///
    /// # Errors
    /// Why it has failed.
    pub(super) fn is_connected(&self, writable: bool) -> io::Result<bool> {
        if let Some(error) = self.tcp.take_error()? {
            return Err(error);
        }
        if !writable {
            return Ok(false);
        }
        match self.tcp.peer_addr() {
            // A port that nobody listens on may be the one that the system chose for this end, and
            // then TCP connects the socket with itself.
            Ok(peer) if peer == self.tcp.local_addr()? => Err(ErrorKind::ConnectionRefused.into()),
            Ok(_) => Ok(true),
            Err(e) if e.kind() == ErrorKind::NotConnected => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Sends what is written at once.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn set_nodelay(&self) -> io::Result<()> {
        self.tcp.set_nodelay(true)
    }

    /// From here on, all goes over TLS.
    pub(super) fn speak(&mut self, tls: ClientConnection) {
        self.tls = Some(Box::new(tls));
    }

    /// Goes on with TLS's handshake; whether it is done.
    ///
    /// # Errors
    /// The socket's, or TLS's.
    pub(super) fn shake_hands(&mut self) -> io::Result<bool> {
        let Some(tls) = &mut self.tls else { return Ok(true) };
        while tls.is_handshaking() || tls.wants_write() {
            match tls.complete_io(&mut self.tcp) {
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(e) => return Err(e),
            }
        }
        Ok(true)
    }

    /// Reads what there is: `None` if that is nothing now, 0 at the end of the stream.
    ///
    /// # Errors
    /// The socket's, or TLS's.
    pub(super) fn read(&mut self, buf: &mut [u8]) -> io::Result<Option<usize>> {
        loop {
            let read = match &mut self.tls {
                None => self.tcp.read(buf),
                Some(tls) => decrypt(tls, &mut self.tcp, buf),
            };
            match read {
                Ok(n) => return Ok(Some(n)),
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// Writes what is taken now, some of which may be owed then.
    ///
    /// # Errors
    /// The socket's, or TLS's; `WouldBlock` if nothing is taken.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.flush()? {
            return Err(ErrorKind::WouldBlock.into());
        }
        match &mut self.tls {
            None => self.tcp.write(bytes),
            Some(tls) => {
                let taken = tls.writer().write(bytes)?;
                self.flush().map(|_| taken)
            }
        }
    }

    /// Writes what is owed; whether that is all.
    ///
    /// # Errors
    /// The socket's.
    pub(super) fn flush(&mut self) -> io::Result<bool> {
        let Some(tls) = &mut self.tls else { return Ok(true) };
        while tls.wants_write() {
            match tls.write_tls(&mut self.tcp) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Ok(_) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(true)
    }

    /// Ends TLS in order (RFC 8446, 6.1), behind what is owed; nothing is to be written any more.
    pub(super) fn end(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
        }
    }

    /// Ends the sending side of the socket.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn end_sending(&self) -> io::Result<()> {
        self.tcp.shutdown(Shutdown::Write)
    }

    /// Whether something was taken that the socket has not.
    pub(super) fn owes(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.wants_write())
    }
}

impl Drop for Stream {
    /// Ends TLS in order, as far as the socket takes it.
    fn drop(&mut self) {
        self.end();
        // It is gone either way.
        let _ = self.flush();
    }
}

impl Source for Stream {
    fn register(&mut self, with: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.tcp.register(with, token, interests)
    }

    fn reregister(&mut self, with: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.tcp.reregister(with, token, interests)
    }

    fn deregister(&mut self, with: &Registry) -> io::Result<()> {
        self.tcp.deregister(with)
    }
}

/// Reads until there is something, or the end of either stream.
fn decrypt(tls: &mut ClientConnection, tcp: &mut TcpStream, buf: &mut [u8]) -> io::Result<usize> {
    loop {
        match tls.reader().read(buf) {
            Err(e) if e.kind() == ErrorKind::WouldBlock => {}
            // Without TLS's own end the stream was cut off, which the Close tells as well.
            Err(e) if e.kind() == ErrorKind::UnexpectedEof => return Ok(0),
            read => return read,
        }
        tls.read_tls(tcp)?;
        if let Err(error) = tls.process_new_packets() {
            // The server is told why, if it listens.
            let _ = tls.write_tls(tcp);
            return Err(io::Error::new(ErrorKind::InvalidData, error));
        }
    }
}
