//! The opening handshake (RFC 6455, 4.2) over HTTP/1.1 (RFC 9112), in both roles: requests
//! and their answers.
//!
//! Invariants, beside those of the room:
//! - Stricter than HTTP asks: lines end in CRLF, nothing is folded, no request has a body.
//! - A [`Request`] borrows the head and owns nothing: whoever keeps the head can parse it again.
//! - Every answer but 101 ends the connection.

mod client;
mod request;
mod response;

pub use client::{
    BadResponse, NotUpgraded, Response, ResponseLimits, UpgradeRequest, parse_response,
    put_upgrade_request,
};
pub use request::{HeadLimits, Request, Upgrade, head_end, parse_request};
pub use response::{InvalidHeader, NO_HEADERS, Reject, Status, put_response, put_upgrade_response};
pub(super) use response::{is_tchar, is_token};
