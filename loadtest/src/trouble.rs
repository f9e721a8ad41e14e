//! What can go wrong for one connection or message, in kinds that are worth counting apart.

use std::{collections::BTreeMap, fmt, io};

use tungstenite::Error;

/// One kind of trouble. The `Display` form is the label of reports and of `--json`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Trouble {
    /// A system call failed; the label is the name of the error.
    Io(&'static str),
    /// The handshake was answered with this HTTP status instead of 101.
    Status(u16),
    /// TLS failed, in rustls' words.
    Tls(String),
    /// The answer to the handshake breaks HTTP or RFC 6455, section 4.1.
    BadHandshake(&'static str),
    /// The peer sent Close with this code (1005: without one; RFC 6455, section 7.4).
    Closed(u16),
    /// The peer ended the stream without a Close.
    Eof,
    /// What was awaited did not come within `--timeout`.
    Timeout(Waiting),
    /// The peer broke the protocol.
    Protocol(String),
    /// So much waits to be written that the peer has clearly stopped reading.
    NotReading,
    /// A pong came with another payload than the ping had.
    WrongPong,
    /// The server refused what the command cannot go on without.
    Refused,
    /// An answer that was due at this place came, but is not what was sent.
    Wrong(&'static str),
}

/// What a connection waits for, with a deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Waiting {
    /// The connection and the answer to the handshake.
    Handshake,
    /// The answer to a login.
    Login,
    /// The answer to a join.
    Joined,
    /// The pong to the verifying ping.
    Pong,
    /// Answers to messages, after the last was sent.
    Answer,
    /// The peer's Close.
    Close,
    /// The end of the stream after both Closes.
    End,
}

/// How often each kind of trouble was seen.
pub(crate) type Kinds = BTreeMap<Trouble, u64>;

impl Trouble {
    /// Sorts a failed system call.
    pub(crate) fn from_io(error: &io::Error) -> Self {
        match error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>()) {
            Some(error) => Self::Tls(error.to_string()),
            None if error.kind() == io::ErrorKind::UnexpectedEof => Self::Eof,
            None => Self::Io(io_label(error)),
        }
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        match error {
            Error::Io(error) => Self::from_io(&error),
            Error::ConnectionClosed | Error::AlreadyClosed => Self::Eof,
            Error::Protocol(tungstenite::error::ProtocolError::ResetWithoutClosingHandshake) => {
                Self::Eof
            }
            Error::WriteBufferFull(_) => Self::NotReading,
            other => Self::Protocol(other.to_string()),
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(label) => f.write_str(label),
            Self::Status(status) => write!(f, "HTTP {status}"),
            Self::Tls(why) => write!(f, "tls: {why}"),
            Self::BadHandshake(why) => write!(f, "bad handshake: {why}"),
            Self::Closed(1005) => f.write_str("closed without a code"),
            Self::Closed(code) => write!(f, "closed with {code}"),
            Self::Eof => f.write_str("end of stream without a close"),
            Self::Timeout(waiting) => write!(f, "timeout: {waiting}"),
            Self::Protocol(why) => write!(f, "protocol: {why}"),
            Self::NotReading => f.write_str("peer stopped reading"),
            Self::WrongPong => f.write_str("pong with another payload"),
            Self::Refused => f.write_str("refused by the server"),
            Self::Wrong(how) => write!(f, "answer {how}"),
        }
    }
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Handshake => "no handshake",
            Self::Login => "no answer to a login",
            Self::Joined => "no answer to a join",
            Self::Pong => "no pong",
            Self::Answer => "no answer",
            Self::Close => "no close",
            Self::End => "stream not ended after close",
        })
    }
}

/// Counts one more of a kind.
pub(crate) fn count(kinds: &mut Kinds, trouble: Trouble) {
    *kinds.entry(trouble).or_default() += 1;
}

/// Adds what another thread counted.
pub(crate) fn merge(into: &mut Kinds, from: &Kinds) {
    for (trouble, seen) in from {
        *into.entry(trouble.clone()).or_default() += seen;
    }
}

/// A short, stable name for an error of a system call.
fn io_label(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::ECONNREFUSED) => "connection refused",
        Some(libc::ECONNRESET) => "connection reset",
        Some(libc::EPIPE) => "broken pipe",
        Some(libc::ETIMEDOUT) => "connection timed out",
        Some(libc::EADDRNOTAVAIL) => "no free local port or address (--source-ips)",
        Some(libc::EMFILE) => "out of descriptors (--threads)",
        Some(libc::ENFILE) => "out of descriptors (fs.file-max)",
        Some(libc::ENOBUFS | libc::ENOMEM) => "out of kernel memory",
        Some(libc::ENOSPC) => "out of epoll watches (fs.epoll.max_user_watches)",
        Some(libc::ENOENT) => "no such socket (--unix)",
        // Of a Unix-domain socket, where a connect does not wait.
        Some(libc::EAGAIN) => "the server's backlog is full (--max-connecting)",
        Some(libc::EHOSTUNREACH | libc::ENETUNREACH) => "unreachable",
        Some(libc::EACCES | libc::EPERM) => "not permitted",
        _ => match error.kind() {
            io::ErrorKind::ConnectionReset => "connection reset",
            _ => "other system error",
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_sorted() {
        let reset = io::Error::from_raw_os_error(libc::ECONNRESET);
        assert_eq!(Trouble::from(Error::Io(reset)).to_string(), "connection reset");
        assert_eq!(Trouble::from(Error::ConnectionClosed), Trouble::Eof);
        assert_eq!(Trouble::Closed(1001).to_string(), "closed with 1001");
        assert_eq!(Trouble::Timeout(Waiting::Pong).to_string(), "timeout: no pong");
    }

    #[test]
    fn kinds_add_up() {
        let mut all = Kinds::new();
        count(&mut all, Trouble::Eof);
        let mut other = Kinds::new();
        count(&mut other, Trouble::Eof);
        count(&mut other, Trouble::Status(503));
        merge(&mut all, &other);
        assert_eq!(all[&Trouble::Eof], 2);
        assert_eq!(all[&Trouble::Status(503)], 1);
    }
}
