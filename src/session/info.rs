//! All that is known of one connection.

use std::net::SocketAddr;
use std::sync::Arc;

use super::identity::Identity;
use crate::id::ConnId;

/// All that is known of one connection, as of when it was asked.
#[derive(Clone, Debug)]
pub struct ConnectionInfo {
    /// Its id.
    pub conn: ConnId,
    /// Its id as clients see it.
    pub public_id: String,
    /// The other end; `[::]:0` over a Unix-domain socket.
    pub peer: SocketAddr,
    /// The path of its endpoint.
    pub endpoint: String,
    /// What it speaks.
    pub dialect: &'static str,
    /// Who it is, if it is anybody.
    pub identity: Option<Arc<Identity>>,
    /// What it may do beyond what its endpoint grants to everyone.
    pub permissions: Vec<String>,
    /// The parameters of its path: name, value.
    pub params: Vec<(String, String)>,
    /// Rooms that it is in or on its way into.
    pub rooms: Vec<String>,
    /// What its loop knows.
    pub slot: SlotInfo,
}

/// What a connection's loop knows of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlotInfo {
    /// Bytes owed to it, overhead included.
    pub owed_bytes: usize,
    /// Bytes of partial frames and messages kept for it.
    pub inbound_bytes: usize,
    /// Messages of its that are not settled.
    pub in_flight: u32,
    /// Whether it is not read from because its worker is full.
    pub is_paused: bool,
    /// Whether it is open: not on its way in or out.
    pub is_open: bool,
}
