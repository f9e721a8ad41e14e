//! One connection's TLS, between two buffers.

use std::fmt;
use std::sync::Arc;

use rustls::server::{ServerConnectionData as Data, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus, WriteTraffic,
};
use rustls::{HandshakeKind, ServerConfig};

use super::failure::TlsFailure;

/// Most unfinished handshake that is held for a client, bytes: a record and its header.
const HANDSHAKE_BYTES_MAX: usize = 18 * 1024;
/// Begun records are held in room of a multiple of this, bytes.
const KEPT_STEP: usize = 256;
/// A record's header: type, version, length.
const RECORD_HEADER: usize = 5;
/// The type of records with messages of the handshake, and of the message that begins it.
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
/// Longest message of a handshake that rustls goes on with.
const HELLO_MAX: usize = 0xffff;
/// Most plaintext of one record (RFC 8446, 5.1).
const FRAGMENT_MAX: usize = 16 * 1024;
/// More than a record adds to its plaintext: header, type, tag and, in TLS 1.2, the nonce.
const RECORD_OVERHEAD: usize = 64;

/// One connection's TLS. Owns no socket; what it is given and gives are bytes.
pub struct TlsSession {
    state: State,
    /// Ciphertext of a record that is not whole yet.
    kept: Vec<u8>,
    /// Plaintext that there was no room for.
    left_over: Vec<u8>,
    left_over_at: usize,
    is_established: bool,
}

/// As far as it has come.
enum State {
    /// Nothing has come but the beginning of a ClientHello: what is to be worked with once it is
    /// whole. Whoever never ends it is not worth the memory of a connection.
    Waiting(Arc<ServerConfig>),
    Begun(Box<UnbufferedServerConnection>),
}

/// What came of ciphertext.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of plaintext that were put.
    pub plain_bytes: usize,
    /// The handshake was completed by it.
    pub established: bool,
    /// The peer has ended its side, by `close_notify`.
    pub ended: bool,
}

impl TlsSession {
    /// A connection on which nothing was said.
    #[must_use]
    pub fn new(config: Arc<ServerConfig>) -> Self {
        Self {
            state: State::Waiting(config),
            kept: Vec::new(),
            left_over: Vec::new(),
            left_over_at: 0,
            is_established: false,
        }
    }

    /// Whether a whole ClientHello has come, or something that is none: only from then on it has
    /// rustls' own state.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        matches!(self.state, State::Begun(_))
    }

    /// Whether the handshake is done.
    #[must_use]
    pub fn is_established(&self) -> bool {
        self.is_established
    }

    /// Whether the handshake resumed an earlier session.
    #[must_use]
    pub fn is_resumed(&self) -> bool {
        let State::Begun(connection) = &self.state else { return false };
        connection.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// Whether there is plaintext that there was no room for: more comes without a read.
    #[must_use]
    pub fn has_left_over(&self) -> bool {
        !self.left_over.is_empty()
    }

    /// Bytes of memory that it holds beside rustls' own state.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.kept.capacity() + self.left_over.capacity()
    }

    /// Puts plaintext that there was no room for into `plain`; says how much.
    pub fn take_left_over(&mut self, plain: &mut [u8]) -> usize {
        let rest = &self.left_over[self.left_over_at..];
        let n = rest.len().min(plain.len());
        plain[..n].copy_from_slice(&rest[..n]);
        self.left_over_at += n;
        if self.left_over_at == self.left_over.len() {
            (self.left_over, self.left_over_at) = (Vec::new(), 0);
        }
        n
    }

    /// Puts the begun record in front of `cipher`, where what is read next goes behind it; says how
    /// long it is. `cipher` has to have room for a record more.
    #[must_use]
    pub fn begin(&mut self, cipher: &mut [u8]) -> usize {
        cipher[..self.kept.len()].copy_from_slice(&self.kept);
        self.kept.len()
    }

    /// Takes all of `cipher`, which [`begin`](Self::begin) began: decrypts into `plain`, and appends
    /// to `out` what is to be sent.
    ///
    /// # Errors
    /// Why the connection is to be given up, when what was appended is sent: an alert, mostly.
    pub fn receive(
        &mut self,
        cipher: &mut [u8],
        plain: &mut [u8],
        out: &mut Vec<u8>,
    ) -> Result<Progress, TlsFailure> {
        let mut progress =
            Progress { plain_bytes: self.take_left_over(plain), ..Progress::default() };
        let mut at = 0;
        let Some(connection) = self.state.begin(cipher)? else {
            return self.keep(cipher).map(|()| progress);
        };
        loop {
            let UnbufferedStatus { discard, state } =
                connection.process_tls_records(&mut cipher[at..]);
            let mut is_done = false;
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(Ok(record)) = traffic.next_record() {
                        let room = &mut plain[progress.plain_bytes..];
                        let fits = record.payload.len().min(room.len());
                        let fits = if self.left_over.is_empty() { fits } else { 0 };
                        room[..fits].copy_from_slice(&record.payload[..fits]);
                        self.left_over.extend_from_slice(&record.payload[fits..]);
                        progress.plain_bytes += fits;
                    }
                }
                Ok(ConnectionState::EncodeTlsData(data)) => encode(data, out),
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::PeerClosed) => progress.ended = true,
                Ok(ConnectionState::WriteTraffic(_)) => {
                    progress.established = !self.is_established;
                    self.is_established = true;
                    is_done = true;
                }
                Ok(ConnectionState::BlockedHandshake | ConnectionState::Closed) => is_done = true,
                // Early data is not offered.
                Ok(_) => return Err(TlsFailure::Other),
                Err(error) => {
                    put_alert(connection, out);
                    return Err(TlsFailure::from(&error));
                }
            }
            at += discard;
            if is_done {
                return self.keep(&cipher[at..]).map(|()| progress);
            }
        }
    }

    /// Encrypts `plain`, in records of up to 16 KiB, behind `out`.
    ///
    /// # Errors
    /// When no more can be encrypted: the connection is to be given up.
    pub fn send(&mut self, mut plain: &[u8], out: &mut Vec<u8>) -> Result<(), TlsFailure> {
        while !plain.is_empty() {
            let (record, rest) = plain.split_at(plain.len().min(FRAGMENT_MAX));
            let room = record.len() + RECORD_OVERHEAD;
            self.with_traffic(out, room, |traffic, room| traffic.encrypt(record, room))?;
            plain = rest;
        }
        Ok(())
    }

    /// Ends this side, by `close_notify` behind `out`.
    pub fn close(&mut self, out: &mut Vec<u8>) {
        // Where it can't be sent the handshake is not done, and the peer expects no data either.
        let _ = self
            .with_traffic(out, RECORD_OVERHEAD, |traffic, room| traffic.queue_close_notify(room));
    }

    fn keep(&mut self, rest: &[u8]) -> Result<(), TlsFailure> {
        if !self.is_established && rest.len() > HANDSHAKE_BYTES_MAX {
            return Err(TlsFailure::HandshakeTooLong);
        }
        if rest.is_empty() || rest.len() > self.kept.capacity() {
            // Not grown by doubling, which could take twice of what may be held.
            self.kept = Vec::with_capacity(rest.len().next_multiple_of(KEPT_STEP));
        }
        self.kept.clear();
        self.kept.extend_from_slice(rest);
        Ok(())
    }

    /// Has `write` put bytes into so much room behind `out`, once what rustls has to say before is
    /// there.
    fn with_traffic(
        &mut self,
        out: &mut Vec<u8>,
        room_bytes: usize,
        write: impl FnOnce(&mut WriteTraffic<'_, Data>, &mut [u8]) -> Result<usize, EncryptError>,
    ) -> Result<(), TlsFailure> {
        let State::Begun(connection) = &mut self.state else { return Err(TlsFailure::Other) };
        let mut at = 0;
        loop {
            // The begun record goes along: rustls may have looked into it already.
            let UnbufferedStatus { discard, state } =
                connection.process_tls_records(&mut self.kept[at..]);
            at += discard;
            match state {
                Ok(ConnectionState::EncodeTlsData(data)) => encode(data, out),
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    let end = out.len();
                    out.resize(end + room_bytes, 0);
                    let wrote = write(&mut traffic, &mut out[end..]);
                    out.truncate(end + wrote.as_ref().map_or(0, |n| *n));
                    self.kept.drain(..at);
                    return wrote.map(drop).map_err(|_| TlsFailure::Other);
                }
                Ok(_) => return Err(TlsFailure::Other),
                Err(error) => return Err(TlsFailure::from(&error)),
            }
        }
    }
}

impl State {
    /// What goes on with `cipher`, all that has come so far; `None` if that is the beginning of a
    /// ClientHello and no more.
    fn begin(
        &mut self,
        cipher: &[u8],
    ) -> Result<Option<&mut UnbufferedServerConnection>, TlsFailure> {
        if let Self::Waiting(config) = self {
            if is_begun_hello(cipher) {
                return Ok(None);
            }
            let connection = UnbufferedServerConnection::new(Arc::clone(config));
            *self = Self::Begun(Box::new(connection.map_err(|e| TlsFailure::from(&e))?));
        }
        match self {
            Self::Begun(connection) => Ok(Some(connection)),
            Self::Waiting(_) => Ok(None),
        }
    }
}

/// Whether all that came is the beginning of a ClientHello, in records as they are to be, so that
/// there is nothing to answer yet (RFC 8446, 4 and 5.1).
fn is_begun_hello(cipher: &[u8]) -> bool {
    let (mut rest, mut head, mut came) = (cipher, [CLIENT_HELLO, 0, 0, 0], 0);
    while let [kind, _, _, high, low, fragment @ ..] = rest {
        let len = usize::from(u16::from_be_bytes([*high, *low]));
        let fragment = &fragment[..len.min(fragment.len())];
        for (to, from) in head.iter_mut().skip(came).zip(fragment) {
            *to = *from;
        }
        came += fragment.len();
        let [message, len_bytes @ ..] = head;
        let wanted = len_bytes.iter().fold(0, |len, byte| len << 8 | usize::from(*byte));
        let is_whole = came >= head.len() && came - head.len() >= wanted;
        let is_fit = *kind == HANDSHAKE && message == CLIENT_HELLO && wanted <= HELLO_MAX;
        if !is_fit || is_whole || !(1..=FRAGMENT_MAX).contains(&len) {
            return false;
        }
        rest = &rest[RECORD_HEADER + fragment.len()..];
    }
    rest.first().is_none_or(|kind| *kind == HANDSHAKE)
}

/// After an error: what the peer is to be told. As long as there is something to say, rustls does
/// not look at what came, which it must not do any more.
fn put_alert(connection: &mut UnbufferedServerConnection, out: &mut Vec<u8>) {
    while connection.wants_write() {
        let UnbufferedStatus { state, .. } = connection.process_tls_records(&mut []);
        let Ok(ConnectionState::EncodeTlsData(data)) = state else { return };
        encode(data, out);
    }
}

/// Appends what rustls has to say.
fn encode(mut data: EncodeTlsData<'_, Data>, out: &mut Vec<u8>) {
    let end = out.len();
    let mut room = RECORD_OVERHEAD;
    loop {
        out.resize(end + room, 0);
        match data.encode(&mut out[end..]) {
            Ok(n) => return out.truncate(end + n),
            Err(EncodeError::InsufficientSize(error)) if error.required_size > room => {
                room = error.required_size;
            }
            Err(_) => return out.truncate(end),
        }
    }
}

impl fmt::Debug for TlsSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsSession").field("is_established", &self.is_established).finish()
    }
}
