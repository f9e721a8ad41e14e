//! What a connection is told whose identity has connected anew, in the words of its dialect.

use std::net::{IpAddr, SocketAddr};
use std::time::{SystemTime, UNIX_EPOCH};

use super::message::{Body, Push};
use super::{Dialect, hub, kim};
use crate::protocol::Framing;
use crate::public_id::PublicId;

/// What a connection is told whose identity has connected anew.
#[derive(Clone, Copy, Debug)]
pub struct Displaced {
    /// The connection that is told.
    pub id: PublicId,
    /// Its other end.
    pub old_peer: SocketAddr,
    /// The other end of the new one.
    pub new_peer: SocketAddr,
    /// When.
    pub at: SystemTime,
}

impl Displaced {
    /// Since 1970, nanoseconds.
    pub(super) fn at_ns(&self) -> i64 {
        let since = self.at.duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
    }

    pub(super) fn ips(&self) -> [IpAddr; 2] {
        [self.old_peer.ip(), self.new_peer.ip()]
    }
}

impl Dialect {
    /// Appends the frame that tells a connection that it is displaced: system D's `KickoutNotify`,
    /// system E's `P_DISPLACE`, and elsewhere a push `displaced` with `old_ip`, `new_ip` and `at_ms`.
    /// Nothing where messages have no names.
    pub(crate) fn put_displaced(&self, framing: Framing, out: &mut Vec<u8>, what: &Displaced) {
        let mut bytes = Vec::new();
        let text;
        let (key, body) = match self {
            Self::Raw => return,
            Self::Hub => {
                hub::put_displaced(&mut bytes, what);
                (hub::DISPLACED, Body::Binary(&bytes))
            }
            Self::Kim => {
                kim::put_kickout(&mut bytes, what.id.as_str());
                (kim::SIGN_IN, Body::Binary(&bytes))
            }
            _ => {
                let [old_ip, new_ip] = what.ips();
                let at_ms = what.at_ns() / 1_000_000;
                text = format!(
                    "{{\"old_ip\":\"{old_ip}\",\"new_ip\":\"{new_ip}\",\"at_ms\":{at_ms}}}"
                );
                ("displaced", Body::Json(&text))
            }
        };
        let push = Push { room: None, from: None, key: Some(key), body };
        // One that a custom dialect has no words for is told by its Close.
        let _ = self.put_push(framing, out, &push);
    }
}
