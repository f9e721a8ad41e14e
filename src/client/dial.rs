//! From a URL to an open connection.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Instant;

use data_encoding::BASE64;

use super::cause::DialError;
use super::driver::Driver;
use super::link::{Link, Opened};
use super::stream::Stream;
use super::tls::TlsFault;
use crate::protocol::Framing;
use crate::protocol::handshake::{
    ResponseLimits, UpgradeRequest, parse_response, put_upgrade_request,
};

/// Read at once, bytes.
const READ_BYTES: usize = 4096;

impl Driver {
    /// Tries the host's addresses one after the other.
    ///
    /// # Errors
    /// Why the last of them did not do, or what the first server that could be reached said.
    pub(super) fn dial(&mut self) -> Result<Link, DialError> {
        let addresses = (&*self.url.host, self.url.port).to_socket_addrs()?;
        let mut last =
            DialError::Io(io::Error::new(ErrorKind::NotFound, "no address of this name"));
        for address in addresses {
            match self.dial_at(address) {
                Err(e @ (DialError::Io(_) | DialError::TimedOut)) => last = e,
                dialed => return dialed,
            }
        }
        Err(last)
    }

    fn dial_at(&mut self, address: SocketAddr) -> Result<Link, DialError> {
        let deadline = Instant::now() + self.options().connect_timeout;
        let mut stream = Stream::connect(address)?;
        self.readiness.watch(&mut stream)?;
        while !stream.is_connected(self.readiness.writable)? {
            self.readiness.writable = false;
            self.wait_to_open(deadline)?;
        }
        stream.set_nodelay()?;
        self.secure(&mut stream, deadline)?;
        let (framing, opened) = match self.url.framing {
            Framing::WebSocket => (Framing::WebSocket, self.shake_hands(&mut stream, deadline)?),
            _ => (self.options().framing_over_tcp(), Opened::default()),
        };
        Ok(Link::new(stream, framing, self.options(), opened))
    }

    /// TLS's handshake, where the URL asks for it.
    fn secure(&mut self, stream: &mut Stream, deadline: Instant) -> Result<(), DialError> {
        let Some(secure) = &self.secure else { return Ok(()) };
        stream.speak(secure.connection().map_err(|e| DialError::Tls(TlsFault::from(&e)))?);
        while !stream.shake_hands()? {
            self.wait_to_open(deadline)?;
        }
        // What came with its end is not announced again.
        self.readiness.readable = true;
        Ok(())
    }

    /// The opening handshake.
    fn shake_hands(&mut self, stream: &mut Stream, deadline: Instant) -> Result<Opened, DialError> {
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce).map_err(io::Error::other)?;
        let (host, key) = (self.url.authority(), BASE64.encode(&nonce));
        let options = self.options().clone();
        let request = UpgradeRequest {
            host: &host,
            target: &self.url.target.clone(),
            key: &key,
            subprotocols: &options.subprotocols,
            deflate: options.deflate.and_then(|settings| settings.offer()),
            headers: &options.headers,
        };
        let mut out = Vec::new();
        put_upgrade_request(&mut out, &request).map_err(DialError::Request)?;
        self.write_all(stream, &out, deadline)?;
        let limits = ResponseLimits { max_header_bytes: options.max_header_bytes };
        let mut head = Vec::new();
        loop {
            let more = self.read_more(stream, &mut head, deadline)?;
            match parse_response(&head, limits).map_err(DialError::Response)? {
                None if more => {}
                None => return Err(io::Error::from(ErrorKind::UnexpectedEof).into()),
                Some((response, len)) if response.status == 101 => {
                    response.check_upgrade(&request).map_err(DialError::NotUpgraded)?;
                    let agreed = response.deflate(&request).map_err(DialError::NotUpgraded)?;
                    return Ok(Opened { early: head.split_off(len), agreed });
                }
                Some((response, len)) => {
                    let (status, most) = (response.status, options.max_header_bytes);
                    let body_bytes = response.content_length().unwrap_or(most).min(most);
                    let body = head.split_off(len);
                    return Err(self.refused(stream, status, body, body_bytes, deadline));
                }
            }
        }
    }

    /// Reads as much of a refusal's body as there is in time.
    fn refused(
        &mut self,
        stream: &mut Stream,
        status: u16,
        mut body: Vec<u8>,
        body_bytes: usize,
        deadline: Instant,
    ) -> DialError {
        while body.len() < body_bytes {
            if !self.read_more(stream, &mut body, deadline).unwrap_or(false) {
                break;
            }
        }
        body.truncate(body_bytes);
        DialError::Refused { status, body }
    }

    fn write_all(
        &mut self,
        stream: &mut Stream,
        mut bytes: &[u8],
        deadline: Instant,
    ) -> Result<(), DialError> {
        while !bytes.is_empty() {
            match stream.write(bytes) {
                Ok(n) => bytes = &bytes[n..],
                Err(e) if e.kind() == ErrorKind::WouldBlock => self.wait_to_open(deadline)?,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e.into()),
            }
        }
        while !stream.flush()? {
            self.wait_to_open(deadline)?;
        }
        Ok(())
    }

    /// Reads something onto the end of `bytes`; `false` at the end of the stream.
    fn read_more(
        &mut self,
        stream: &mut Stream,
        bytes: &mut Vec<u8>,
        deadline: Instant,
    ) -> Result<bool, DialError> {
        let mut piece = [0; READ_BYTES];
        loop {
            if let Some(n) = stream.read(&mut piece)? {
                bytes.extend_from_slice(&piece[..n]);
                return Ok(n > 0);
            }
            self.wait_to_open(deadline)?;
        }
    }

    fn wait_to_open(&mut self, deadline: Instant) -> Result<(), DialError> {
        if Instant::now() >= deadline {
            return Err(DialError::TimedOut);
        }
        self.wait(Some(deadline))?;
        if self.handle.state().stopping { Err(DialError::Stopped) } else { Ok(()) }
    }
}
