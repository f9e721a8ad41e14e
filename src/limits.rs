//! Every bound in one table, with the relations between them asserted at compile time.

use crate::id;

/// Most event loops: what a connection id has bits for.
pub const LOOPS_MAX: usize = 1 << id::LOOP_BITS;
/// Most connections of one loop: what a connection id has bits for.
pub const CONNECTIONS_PER_LOOP_MAX: usize = 1 << id::SLOT_BITS;
/// Longest payload of a control frame, bytes (RFC 6455, 5.5).
pub const CONTROL_PAYLOAD_MAX: usize = 125;
/// Longest frame header: 2 bytes, 8 of extended length, 4 of mask (RFC 6455, 5.2).
pub const FRAME_HEADER_MAX: usize = 14;
/// Most header fields of a request.
pub const REQUEST_HEADERS_MAX: usize = 96;
/// One tick of connection deadlines, milliseconds. A `u32` of them is 6.8 years.
pub const TICK_MS: u64 = 50;
/// Most member ids that one `members` answer lists; the count is always whole.
pub const MEMBERS_LISTED_MAX: usize = 100;
/// Longest name of a room, bytes.
pub const ROOM_NAME_MAX: usize = 255;
/// Most rooms one connection may be in.
pub const ROOMS_PER_CONNECTION_MAX: usize = 1024;
