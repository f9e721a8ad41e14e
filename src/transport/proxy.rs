//! Who the client is behind a proxy: by a PROXY header in front of all else, or by a header of the
//! request.
//!
//! Invariants:
//! - nothing is taken from an address that is not of a trusted network;
//! - of a list that proxies add to, nothing counts that stands before an address which is not
//!   trusted itself: it may have been made up.

mod forwarded;
mod header;
mod networks;
mod settings;

pub use forwarded::{Malformed, client_of};
pub use header::{HEADER_BYTES_MAX, Header, HeaderProblem, Seen, Source, read_header};
pub use networks::{Networks, Trusted, parse_trusted};
pub use settings::{ForwardedHeader, FromElsewhere, ListenerKind, ProxyProtocol, ProxySettings};

#[cfg(test)]
mod tests;
