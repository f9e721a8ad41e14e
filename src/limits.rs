//! Every bound in one table, with the relations between them asserted at compile time.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::id;

/// Most event loops: what a connection id has bits for.
pub const LOOPS_MAX: usize = 1 << id::LOOP_BITS;
/// Most connections of one loop: what a connection id has bits for.
pub const CONNECTIONS_PER_LOOP_MAX: usize = 1 << id::SLOT_BITS;
/// Longest payload of a control frame, bytes (RFC 6455, 5.5).
pub const CONTROL_PAYLOAD_MAX: usize = 125;
/// Longest frame header: 2 bytes, 8 of extended length, 4 of mask (RFC 6455, 5.2).
pub const FRAME_HEADER_MAX: usize = 14;
/// Bounds of a window of permessage-deflate, as a power of two of bytes (RFC 7692, 7.1.2). It goes
/// down to 8 there, which zlib has no compressor for.
pub const DEFLATE_WINDOW_BITS: RangeInclusive<u8> = 9..=15;
/// Bounds of the compression level: 1 is the fastest.
pub const DEFLATE_LEVEL: RangeInclusive<u8> = 1..=9;
/// Most blocks of one compressed message that are marked as the last one (RFC 7692, 7.2.3.4 and
/// 7.2.3.5). Each costs as much as a message, and two bytes are enough for one.
pub const DEFLATE_FINAL_BLOCKS_MAX: u32 = 1000;
/// Most header fields of a request.
pub const REQUEST_HEADERS_MAX: usize = 96;
/// One tick of connection deadlines, milliseconds. A `u32` of them is 6.8 years.
pub const TICK_MS: u64 = 50;
/// Most member ids that one `members` answer lists; the count is always whole.
pub const MEMBERS_LISTED_MAX: usize = 100;
/// Longest part of an identity, bytes. Its length is kept in one byte.
pub const IDENTITY_PART_MAX: usize = 255;
/// Longest token of a login, bytes.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// Most permissions that one token may give.
pub const TOKEN_PERMISSIONS_MAX: usize = 64;
/// Longest name of a room, bytes.
pub const ROOM_NAME_MAX: usize = 255;
/// The share of the memory ceiling that rooms without members may take, all homes together: a
/// sixteenth.
pub const ROOMS_EMPTY_SHARE: u64 = 16;
/// Bounds of the interval of a room's clock: a tick to a day.
pub const ROOM_CLOCK: RangeInclusive<Duration> =
    Duration::from_millis(TICK_MS)..=Duration::from_secs(24 * 3600);
/// Most rooms that one list holds.
pub const ROOMS_LISTED_MAX: usize = 1000;
/// Most members of a room that are told at once, to threads of this process.
pub const ROOM_MEMBERS_TOLD_MAX: usize = 1 << 20;
/// Most rooms one connection may be in.
pub const ROOMS_PER_CONNECTION_MAX: usize = 1024;
/// Most questions of the gateway that may be open on one connection.
pub const ASKS_PER_CONNECTION_MAX: usize = 100;
/// Most keys of one connection's store.
pub const STORE_KEYS_MAX: usize = 1024;
/// Longest key of a connection's store, bytes.
pub const STORE_KEY_MAX: usize = 255;
/// Longest text or byte string in a connection's store, bytes.
pub const STORE_VALUE_MAX: usize = 64 * 1024;
/// Most segments of an endpoint's path.
pub const PATH_SEGMENTS_MAX: usize = 32;
/// The share of what may wait for handlers that block that one connection may have: a quarter.
pub const BLOCKING_SHARE: usize = 4;
/// Messages of one connection that may wait for handlers that block in any case.
pub const BLOCKING_PER_CONNECTION_MIN: usize = 16;
/// Work of threads that are not the gateway's own that may be on its way to shards at once.
pub const WORK_ON_ITS_WAY_MAX: usize = 4096;

/// Fewest event loops.
pub const LOOPS_MIN: usize = 1;
/// Most worker threads. More than this only pass the same core to each other.
pub const WORKERS_MAX: usize = 256;
/// Bounds of the number of threads for handlers that block.
pub const BLOCKING_THREADS: RangeInclusive<usize> = 1..=1024;
/// Most addresses to listen on.
pub const LISTEN_MAX: usize = 64;
/// Longest queue of connections not yet accepted. The kernel cuts it to `net.core.somaxconn`.
pub const BACKLOG_MAX: u32 = 1 << 20;
/// Bounds of the longest request head, bytes. Below this a browser's own headers do not fit.
pub const HEADER_BYTES: RangeInclusive<usize> = 512..=1 << 20;
/// Bounds of the longest message and of the longest frame payload, bytes.
pub const MESSAGE_BYTES: RangeInclusive<usize> = 1..=1 << 30;
/// Bounds of the number of frames one message may come in.
pub const FRAGMENTS: RangeInclusive<u32> = 1..=1 << 24;
/// Bounds of what one connection may be owed, bytes.
pub const OUTBOUND_BYTES: RangeInclusive<usize> = 4096..=1 << 34;
/// Bounds of what one connection may be owed of one room's publishes, bytes. The newest always fits.
pub const BUDGET_BYTES: RangeInclusive<usize> = 1..=*OUTBOUND_BYTES.end();
/// Bounds of the bytes that all clients together may send in a second.
pub const BANDWIDTH_BYTES_PER_S: RangeInclusive<u64> = 1 << 10..=1 << 40;
/// Bounds of the messages that one connection may send in a second, and of those that a route takes.
pub const MESSAGES_PER_S: RangeInclusive<u64> = 1..=1_000_000;
/// Bounds of the bytes that one connection may send in a second. Reads are not shorter than 256
/// bytes, and each has to be paid for in reasonable time.
pub const BYTES_PER_S: RangeInclusive<u64> = 64..=1 << 40;
/// Bounds of what all buffers together may take, bytes.
pub const MEMORY_BYTES: RangeInclusive<u64> = 64 * 1024..=1 << 50;
/// Bounds of every timeout and interval. Deadlines are rounded up to whole ticks.
pub const TIMEOUT: RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_secs(365 * 24 * 3600);

/// Kernel memory of one idle connection, the gateway's end, bytes: TCP socket, inode, file,
/// dentry and epoll entry, as measured on Linux 6.x. It counts against the machine and the cgroup.
pub const KERNEL_BYTES_PER_CONNECTION: u64 = 3960;
/// The gateway's own memory of one idle connection, bytes: its slot and its columns.
pub const OWN_BYTES_PER_CONNECTION: u64 = 176;

/// Descriptors of a loop that are open before its first connection: the epoll instance, the
/// eventfd of its waker, and the two ends of its hand-over socket pair.
const DESCRIPTORS_PER_LOOP: usize = 4;
/// Standard input, output and error.
const DESCRIPTORS_STDIO: usize = 3;
/// Logs, statistics files, the signal pipe, a socket on its way between two loops, and one
/// descriptor to answer 503 on when everything else is taken.
const DESCRIPTORS_SPARE: usize = 32;

/// Descriptors of one table that are not connections.
///
/// `addresses` is the number of `--listen` and `--tcp-listen` addresses. In the shared table every loop has a
/// listener of its own for each. With private tables a loop's table holds only its own listeners,
/// but still the four descriptors of every loop: they are made before the tables part, so that a
/// waker has one number in all of them.
#[must_use]
pub const fn descriptor_reserve(loops: usize, addresses: usize, private: bool) -> usize {
    let listeners = if private { addresses } else { addresses.saturating_mul(loops) };
    DESCRIPTORS_STDIO + DESCRIPTORS_SPARE + loops.saturating_mul(DESCRIPTORS_PER_LOOP) + listeners
}

const _: () = {
    // A year of ticks is a deadline that a `u32` can say.
    assert!(TIMEOUT.end().as_millis() / (TICK_MS as u128) < u32::MAX as u128);
    // One close frame, or the longest pong, always fits into what a connection may be owed.
    assert!(*OUTBOUND_BYTES.start() >= CONTROL_PAYLOAD_MAX + FRAME_HEADER_MAX);
};
