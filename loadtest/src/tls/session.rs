//! One connection's TLS, from and to bytes.

use std::{fmt, mem};

use rustls::{
    Error, HandshakeKind,
    client::{ClientConnectionData as Data, UnbufferedClientConnection},
    unbuffered::{
        ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus, WriteTraffic,
    },
};

/// Most plaintext of one record (RFC 8446, section 5.1).
const FRAGMENT_MAX: usize = 16 * 1024;
/// More than a record adds to its plaintext.
const RECORD_OVERHEAD: usize = 64;

/// One connection's TLS.
pub(crate) struct Session {
    connection: UnbufferedClientConnection,
    /// Ciphertext of a record, or of a handshake message, that is not whole yet.
    kept: Vec<u8>,
    /// Ciphertext that is still to be written.
    unwritten: Vec<u8>,
    state: State,
    /// Whether our side was ended.
    closed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing was said.
    New,
    /// In the handshake.
    Begun,
    /// Data passes.
    Established,
    /// The peer has ended its side in order (RFC 8446, section 6.1).
    Ended,
}

impl Session {
    pub(super) fn new(connection: UnbufferedClientConnection) -> Self {
        let (kept, unwritten) = (Vec::new(), Vec::new());
        Self { connection, kept, unwritten, state: State::New, closed: false }
    }

    /// Whether the handshake is done.
    pub(crate) fn is_established(&self) -> bool {
        matches!(self.state, State::Established | State::Ended)
    }

    /// Whether nothing more will come.
    pub(crate) fn has_ended(&self) -> bool {
        self.state == State::Ended
    }

    /// Whether the handshake took up an earlier session.
    pub(super) fn is_resumed(&self) -> bool {
        self.connection.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// Version and suite.
    pub(super) fn suite(&self) -> String {
        let version = self.connection.protocol_version().and_then(|version| version.as_str());
        let suite = self.connection.negotiated_cipher_suite().map(|suite| suite.suite());
        let suite = suite.and_then(|suite| suite.as_str());
        format!("{} {}", version.unwrap_or("?"), suite.unwrap_or("?"))
    }

    /// Says the first word, if nothing was said.
    pub(crate) fn begin(&mut self) -> Result<(), Error> {
        if self.state != State::New {
            return Ok(());
        }
        self.state = State::Begun;
        self.receive(&mut [], &mut []).map(drop)
    }

    /// Puts the begun record in front of `cipher`, where what is read next goes behind it; says how
    /// long it is.
    pub(crate) fn put_begun(&self, cipher: &mut [u8]) -> usize {
        cipher[..self.kept.len()].copy_from_slice(&self.kept);
        self.kept.len()
    }

    /// Takes all of `cipher`, which [`Self::put_begun`] began, and decrypts into `plain`, which is as
    /// long at least; says how much that was.
    pub(crate) fn receive(&mut self, cipher: &mut [u8], plain: &mut [u8]) -> Result<usize, Error> {
        let (mut at, mut count) = (0, 0);
        loop {
            let status = self.connection.process_tls_records(&mut cipher[at..]);
            let UnbufferedStatus { discard, state } = status;
            let mut waits = false;
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let payload = record?.payload;
                        plain[count..count + payload.len()].copy_from_slice(payload);
                        count += payload.len();
                    }
                }
                Ok(ConnectionState::EncodeTlsData(data)) => encode(data, &mut self.unwritten),
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::PeerClosed) => self.state = State::Ended,
                Ok(ConnectionState::WriteTraffic(_)) => {
                    if !self.is_established() {
                        self.state = State::Established;
                    }
                    waits = true;
                }
                Ok(ConnectionState::BlockedHandshake | ConnectionState::Closed) => waits = true,
                // Early data is never sent, so no server takes it.
                Ok(_) => return Err(Error::General("an unknown state".to_owned())),
                Err(error) => {
                    self.put_alert();
                    return Err(error);
                }
            }
            at += discard;
            if waits {
                self.keep(&cipher[at..]);
                return Ok(count);
            }
        }
    }

    /// Encrypts `plain`, in records of up to 16 KiB, behind `out`.
    pub(crate) fn send(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
        plain.chunks(FRAGMENT_MAX).try_for_each(|record| {
            let room = record.len() + RECORD_OVERHEAD;
            self.with_traffic(out, room, |traffic, room| traffic.encrypt(record, room))
        })
    }

    /// Ends our side, once.
    pub(crate) fn close(&mut self) {
        if mem::replace(&mut self.closed, true) {
            return;
        }
        let mut out = mem::take(&mut self.unwritten);
        // Where it cannot be said, the stream has ended.
        let _ = self.with_traffic(&mut out, RECORD_OVERHEAD, |traffic, room| {
            traffic.queue_close_notify(room)
        });
        self.unwritten = out;
    }

    /// Ciphertext that is still to be written.
    pub(crate) fn unwritten(&self) -> &[u8] {
        &self.unwritten
    }

    /// Notes that `count` bytes of it were.
    pub(crate) fn wrote(&mut self, count: usize) {
        match count == self.unwritten.len() {
            true => self.unwritten = Vec::new(),
            false => drop(self.unwritten.drain(..count)),
        }
    }

    /// Keeps ciphertext to be written later.
    pub(crate) fn write_later(&mut self, cipher: &[u8]) {
        self.unwritten.extend_from_slice(cipher);
    }

    fn keep(&mut self, rest: &[u8]) {
        match rest.is_empty() {
            true => self.kept = Vec::new(),
            false => {
                self.kept.clear();
                self.kept.extend_from_slice(rest);
            }
        }
    }

    /// Has `write` put bytes into so much room behind `out`, once what rustls has to say before is
    /// there.
    fn with_traffic(
        &mut self,
        out: &mut Vec<u8>,
        room_bytes: usize,
        write: impl FnOnce(&mut WriteTraffic<'_, Data>, &mut [u8]) -> Result<usize, EncryptError>,
    ) -> Result<(), Error> {
        let mut at = 0;
        loop {
            // The begun record goes along: rustls may have looked into it already.
            let status = self.connection.process_tls_records(&mut self.kept[at..]);
            let UnbufferedStatus { discard, state } = status;
            at += discard;
            match state? {
                ConnectionState::EncodeTlsData(data) => encode(data, out),
                ConnectionState::TransmitTlsData(data) => data.done(),
                ConnectionState::WriteTraffic(mut traffic) => {
                    let end = out.len();
                    out.resize(end + room_bytes, 0);
                    let wrote = write(&mut traffic, &mut out[end..]);
                    out.truncate(end + wrote.as_ref().map_or(0, |count| *count));
                    self.kept.drain(..at);
                    return wrote.map(drop).map_err(|error| Error::General(error.to_string()));
                }
                _ => return Err(Error::General("the peer has ended the stream".to_owned())),
            }
        }
    }

    /// After an error: what the peer is to be told.
    fn put_alert(&mut self) {
        while self.connection.wants_write() {
            let UnbufferedStatus { state, .. } = self.connection.process_tls_records(&mut []);
            let Ok(ConnectionState::EncodeTlsData(data)) = state else { return };
            encode(data, &mut self.unwritten);
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("state", &self.state).finish_non_exhaustive()
    }
}

/// Appends what rustls has to say.
fn encode(mut data: EncodeTlsData<'_, Data>, out: &mut Vec<u8>) {
    let end = out.len();
    let mut room = RECORD_OVERHEAD;
    loop {
        out.resize(end + room, 0);
        match data.encode(&mut out[end..]) {
            Ok(count) => return out.truncate(end + count),
            Err(EncodeError::InsufficientSize(error)) if error.required_size > room => {
                room = error.required_size;
            }
            Err(_) => return out.truncate(end),
        }
    }
}
