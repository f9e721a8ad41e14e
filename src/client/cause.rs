//! Why things end or do not begin.

use std::fmt;
use std::io;

use super::tls::{TlsError, TlsFault};
use super::url::UrlError;
use crate::protocol::Violation;
use crate::protocol::handshake::{BadResponse, InvalidHeader, NotUpgraded};

/// Why an open connection is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// This side closed it.
    Stopped,
    /// The server closed it, in order.
    Closed {
        /// A code of RFC 6455, 7.4; `None` for an empty Close.
        code: Option<u16>,
        /// Why, in words; often empty.
        reason: String,
    },
    /// Another client of the same identity took its place.
    Displaced,
    /// The stream ended without a Close.
    Lost,
    /// The system says so.
    Io(io::ErrorKind),
    /// TLS failed: that the server refuses a client's certificate, for one, may come this late.
    Tls(TlsFault),
    /// Nothing came after a ping, not even the pong.
    Silent,
    /// The server broke the protocol.
    Violation(Violation),
    /// The server answered the login with an error.
    LoginRefused {
        /// As of [`CallError::Failed`].
        code: u16,
        /// What the server says about it.
        message: String,
    },
    /// The login was not answered within the connect timeout.
    LoginTimedOut,
    /// The server sent what is no message of the dialect.
    NotUnderstood(&'static str),
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped => f.write_str("closed by this side"),
            Self::Closed { code: None, .. } => f.write_str("closed by the server"),
            Self::Closed { code: Some(code), reason } if reason.is_empty() => {
                write!(f, "closed by the server: {code}")
            }
            Self::Closed { code: Some(code), reason } => {
                write!(f, "closed by the server: {code} {reason}")
            }
            Self::Displaced => f.write_str("displaced by another client of the same identity"),
            Self::Lost => f.write_str("the stream ended without a Close"),
            Self::Io(kind) => kind.fmt(f),
            Self::Tls(fault) => fault.fmt(f),
            Self::Silent => f.write_str("the server did not answer a ping in time"),
            Self::Violation(violation) => write!(f, "the server broke the protocol: {violation}"),
            Self::LoginRefused { code, message } => {
                write!(f, "the login was refused with {code}: {message}")
            }
            Self::LoginTimedOut => f.write_str("the login was not answered in time"),
            Self::NotUnderstood(why) => write!(f, "the server was not understood: {why}"),
        }
    }
}

/// The first Close of a connection, of whichever side: from here on this side sends nothing more.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CloseBegun {
    /// Who sent it.
    pub by: Side,
    /// A code of RFC 6455, 7.4; `None` for an empty Close.
    pub code: Option<u16>,
    /// Why, in words; often empty.
    pub reason: String,
}

impl fmt::Display for CloseBegun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.by {
            Side::Client => "this side closes",
            Side::Server => "the server closes",
        })?;
        match self.code {
            Some(code) if self.reason.is_empty() => write!(f, ": {code}"),
            Some(code) => write!(f, ": {code} {}", self.reason),
            None => Ok(()),
        }
    }
}

/// One of the two ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// This one.
    Client,
    /// The other.
    Server,
}

/// Why a connection was not opened.
#[derive(Debug)]
#[non_exhaustive]
pub enum DialError {
    /// The URL cannot be used.
    Url(UrlError),
    /// TLS cannot be spoken to it as the options have it.
    TlsSettings(TlsError),
    /// TLS failed.
    Tls(TlsFault),
    /// The request cannot be sent as the options have it.
    Request(InvalidHeader),
    /// The host's name could not be resolved, or no connection was made.
    Io(io::Error),
    /// No end within the connect timeout.
    TimedOut,
    /// What came back is no response.
    Response(BadResponse),
    /// The server answered with another status than 101. Redirects are not followed.
    Refused {
        /// HTTP's.
        status: u16,
        /// What it said, cut to the limit of a head.
        body: Vec<u8>,
    },
    /// A 101 that breaks a rule.
    NotUpgraded(NotUpgraded),
    /// The connection ended before the login was answered well.
    Login(Cause),
    /// The client was stopped before.
    Stopped,
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(e) => e.fmt(f),
            Self::TlsSettings(e) => e.fmt(f),
            Self::Tls(fault) => fault.fmt(f),
            Self::Request(e) => write!(f, "the request cannot be sent: {e}"),
            Self::Io(e) => e.fmt(f),
            Self::TimedOut => f.write_str("not open within the connect timeout"),
            Self::Response(e) => e.fmt(f),
            Self::Refused { status, body } => {
                let said = String::from_utf8_lossy(body);
                write!(f, "refused with status {status}: {}", said.trim_end())
            }
            Self::NotUpgraded(e) => e.fmt(f),
            Self::Login(cause) => cause.fmt(f),
            Self::Stopped => f.write_str("the client was stopped"),
        }
    }
}

impl std::error::Error for DialError {}

impl From<io::Error> for DialError {
    fn from(error: io::Error) -> Self {
        match TlsFault::of(&error) {
            Some(fault) => Self::Tls(fault),
            None => Self::Io(error),
        }
    }
}

/// Why a message was not taken to be sent, or was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendError {
    /// As much waits already as may wait.
    Full,
    /// As many calls are open already as may be.
    TooManyCalls,
    /// The client has ended.
    Stopped,
    /// The connection went before all of it was written: the server may have got a part.
    Closed,
    /// It waited when the connection went, and such messages are not kept.
    Dropped,
    /// The dialect has no form for it.
    Unsupported,
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "the queue of messages to be sent is full",
            Self::TooManyCalls => "too many calls are open",
            Self::Stopped => "the client has ended",
            Self::Closed => "the connection went before it was written",
            Self::Dropped => "it was dropped with the connection that it waited for",
            Self::Unsupported => "the dialect has no form for this",
        })
    }
}

impl std::error::Error for SendError {}

/// Why a call has no answer, or which error is the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CallError {
    /// It was not sent.
    Send(SendError),
    /// No answer in time. The server may have got it.
    TimedOut,
    /// The connection went before the answer came. The server may have got it.
    Closed,
    /// A blocking call on the client's own thread, which would wait for itself: nothing was sent.
    WouldBlock,
    /// The server says that it failed.
    Failed {
        /// The code of the dialect: a status of system D, else mostly one of HTTP's; 0 where the
        /// dialect has none.
        code: u16,
        /// What the server says about it.
        message: String,
    },
}

impl From<SendError> for CallError {
    fn from(error: SendError) -> Self {
        Self::Send(error)
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Send(e) => e.fmt(f),
            Self::TimedOut => f.write_str("no answer in time"),
            Self::Closed => f.write_str("the connection went before the answer came"),
            Self::WouldBlock => f.write_str("a blocking call on the client's own thread"),
            Self::Failed { code, message } => {
                write!(f, "the server answered with error {code}: {message}")
            }
        }
    }
}

impl std::error::Error for CallError {}
