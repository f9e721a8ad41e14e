//! Command line, environment and file → one validated [`Config`].
//!
//! Invariants:
//! - a `Config` that passed [`Config::validate`] can be run by: limits fit each other, counts fit
//!   the machine;
//! - every mistake is reported, not the first one, and each names its flag or its place in the file,
//!   its value and a fix;
//! - what a setting is called, takes and means stands in `definitions` alone: flags, the file, what
//!   `tidegate config` prints and the manual are made of it;
//! - nothing here opens a socket or starts a thread; of the machine only `/proc`, `/sys` and the
//!   process's limits are read, all of it in [`Machine`] and [`Sysfs`], and the file of `--config`.

mod banner;
mod capacity;
mod cross;
mod definitions;
mod definitions_deflate;
mod definitions_file;
mod definitions_proxy;
mod definitions_sockets;
mod document;
mod endpoints;
mod file;
mod flags;
mod given;
mod listen_addr;
mod machine;
mod parse;
mod paths;
mod problem;
mod proxy;
mod resolve;
mod show;
mod shown;
mod sockets;
mod suggest;
mod sysfs;
mod units;
mod validate;

use std::path::PathBuf;
use std::time::Duration;

use crate::protocol::TcpFraming;
use crate::quota::{BandwidthLimit, Over};
pub use banner::start_banner;
pub use capacity::{Capacity, loops_needed};
pub use definitions::{Definition, Kind, REQUIRED, Table, definitions};
pub use document::document;
pub use endpoints::{
    DialectName, EndpointConfig, JsonFields, LoginConfig, RoomConfig, RouteConfig, SecretSource,
};
pub use flags::{CheckArgs, Cli, Command, ConfigArgs, ConfigFormat, DevCertArgs, OutputFormat};
pub use given::Sources;
pub use listen_addr::ListenAddr;
pub use machine::{Machine, descriptor_limits, raise_descriptor_limit};
pub use problem::{Origin, Place, Problem};
pub use resolve::{LogSettings, Resolved, planned, resolve, resolve_with};
pub use show::{show_json, show_toml};
pub use sockets::SocketConfig;
pub use sysfs::{CgroupLimit, Sysfs};
pub use units::{format_bytes, format_duration, parse_bytes, parse_count, parse_duration};

use crate::protocol::deflate::DeflateSettings;
use crate::transport::proxy::ProxySettings;
use crate::transport::tls::TlsSettings;

/// Which descriptor table loops keep their sockets in. See `docs/OPERATING.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FdTable {
    /// All loops use the process's table; its limit bounds all connections together.
    Shared,
    /// Each loop has a table of its own; the limit bounds each loop's connections.
    Private,
}

/// An address to listen on for frames without a handshake of WebSockets, and whom they are for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpListen {
    /// The address. Port 0 takes a free one.
    pub address: ListenAddr,
    /// The path of the endpoint that its connections are of. It can't have an `on_connect`, for there
    /// is no request to ask it about.
    pub endpoint: String,
    /// What frames look like. `None`: by lengths alone if the endpoint's dialect is `json` or `hub`, else
    /// with opcodes.
    pub framing: Option<TcpFraming>,
}

/// Everything the gateway runs by, validated: limits fit each other, counts fit the machine.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// What to listen on. Port 0 takes a free one.
    pub listen: Vec<ListenAddr>,
    /// Addresses to listen on for frames over plain TCP, without a handshake.
    pub tcp_listen: Vec<TcpListen>,
    /// Addresses to listen on for WebSockets over TLS.
    pub tls_listen: Vec<ListenAddr>,
    /// Addresses to listen on for frames over TLS, without a handshake of WebSockets.
    pub tls_tcp_listen: Vec<TcpListen>,
    /// What listeners with TLS are configured with.
    pub tls: TlsSettings,
    /// The terms on which messages are compressed.
    pub deflate: DeflateSettings,
    /// What is taken from proxies, and from whom.
    pub proxy: ProxySettings,
    /// Event-loop threads, 1 to 1024.
    pub loops: usize,
    /// Worker threads; 0 routes inline on the loops.
    pub workers: usize,
    /// Threads for handlers that block; none are started where no route needs them.
    pub blocking_threads: usize,
    /// Connections held at once, all loops together.
    pub max_connections: usize,
    /// Where descriptors live.
    pub fd_table: FdTable,
    /// Length of the kernel's queue of connections not yet accepted, per listener.
    pub backlog: u32,
    /// Longest request head, and the most that is kept of what is pipelined behind it.
    pub max_header_bytes: usize,
    /// Longest message, assembled.
    pub max_message_bytes: usize,
    /// Longest payload of one frame.
    pub max_frame_bytes: usize,
    /// Most frames one message may come in.
    pub max_fragments: u32,
    /// From accept to the end of the upgrade.
    pub handshake_timeout: Duration,
    /// Without a byte from the peer; `None` is never.
    pub idle_timeout: Option<Duration>,
    /// From a message's first byte to its last; `None` is never.
    pub message_timeout: Option<Duration>,
    /// Silence after which a ping goes out (± 10 %); `None` is never.
    pub ping_interval: Option<Duration>,
    /// From a ping to any byte of the peer.
    pub pong_timeout: Duration,
    /// Without progress on bytes that are owed to the peer.
    pub write_timeout: Duration,
    /// From our Close to the end of the TCP connection, and for handlers to settle before it.
    pub close_timeout: Duration,
    /// From SIGTERM to exit.
    pub drain_timeout: Duration,
    /// Bytes owed to one connection before it is closed as too slow.
    pub outbound_limit_bytes: usize,
    /// Bytes of all buffers together before the slowest connections are shed.
    pub memory_limit_bytes: u64,
    /// Bytes per second that all clients together may send; `None` is without a limit.
    pub bandwidth_bytes_per_s: Option<u64>,
    /// Per cent of them that are split evenly among the connections, each of which is sure of its
    /// part.
    pub bandwidth_reserve_percent: u8,
    /// What happens to a connection beyond its part once the rest is used up.
    pub bandwidth_over_limit: Over,
    /// `TCP_NODELAY` on client sockets.
    pub tcp_nodelay: bool,
    /// Other options of sockets.
    pub sockets: SocketConfig,
    /// Where SIGUSR1 and exit write the statistics, as one JSON object.
    pub stats_out: Option<PathBuf>,
    /// Where latency histograms are logged, in the HdrHistogram interval log format.
    pub histogram_out: Option<PathBuf>,
    /// How often an interval is written to `histogram_out`.
    pub histogram_interval: Duration,
    /// Endpoints as a file declares them; without any, the built-in ones are there.
    pub endpoints: Vec<EndpointConfig>,
    /// Rules of rooms as a file declares them, no two with one pattern.
    pub rooms: Vec<RoomConfig>,
    /// Capacities and budgets that have no flag.
    pub tuning: Tuning,
}

impl Config {
    /// The limit on what all clients together send, if there is one.
    #[must_use]
    pub fn bandwidth(&self) -> Option<BandwidthLimit> {
        let (reserve_percent, over) = (self.bandwidth_reserve_percent, self.bandwidth_over_limit);
        let limit = |bytes_per_s| BandwidthLimit { bytes_per_s, reserve_percent, over };
        self.bandwidth_bytes_per_s.map(limit)
    }
}

/// Capacities of lanes and budgets of a loop turn. The defaults suit every load measured so far;
/// tests squeeze them.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Tuning {
    /// Posts a loop's mailbox holds.
    pub mailbox_capacity: usize,
    /// Batches of room work a shard's lane holds.
    pub room_lane_capacity: usize,
    /// Batches of client messages a shard's lane holds.
    pub message_lane_capacity: usize,
    /// Messages that wait for or are at handlers that block, in all.
    pub blocking_jobs_max: usize,
    /// The loop's shared read buffer, bytes.
    pub read_buffer_bytes: usize,
    /// Arena bytes after which a batch leaves before its turn ends.
    pub batch_bytes: usize,
    /// Messages after which a batch leaves before its turn ends.
    pub batch_messages: usize,
    /// Reads per connection and turn.
    pub reads_per_turn: usize,
    /// Bytes read per connection and turn.
    pub bytes_per_turn: usize,
    /// Bytes in and out of messages inflated per connection and turn; the message that is beyond it is
    /// the turn's last.
    pub inflate_bytes_per_turn: u64,
    /// Connections accepted per loop and turn.
    pub accepts_per_turn: usize,
    /// Handshakes answered per loop and turn.
    pub handshakes_per_turn: usize,
    /// Reads from connections whose TLS handshake is not done, per loop and turn: at most one costs
    /// as much as thousands of messages.
    pub tls_handshakes_per_turn: usize,
    /// Connections flushed per loop and turn.
    pub flushes_per_turn: usize,
    /// How long a room without members keeps its place; zero: not at all.
    pub room_linger: Duration,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            mailbox_capacity: 256,
            room_lane_capacity: 64,
            message_lane_capacity: 64,
            blocking_jobs_max: 4096,
            read_buffer_bytes: 64 * 1024,
            batch_bytes: 64 * 1024,
            batch_messages: 1024,
            reads_per_turn: 4,
            bytes_per_turn: 256 * 1024,
            inflate_bytes_per_turn: 1024 * 1024,
            accepts_per_turn: 64,
            handshakes_per_turn: 128,
            tls_handshakes_per_turn: 4,
            flushes_per_turn: 1024,
            room_linger: Duration::from_secs(10),
        }
    }
}

impl Default for Config {
    /// What `tidegate` without arguments runs by, but for what depends on the machine
    /// (`loops`, `workers`: 1; `max_connections`: 1024).
    fn default() -> Self {
        Self {
            listen: vec![([0, 0, 0, 0], 8080).into()],
            tcp_listen: Vec::new(),
            tls_listen: Vec::new(),
            tls_tcp_listen: Vec::new(),
            tls: TlsSettings::default(),
            deflate: DeflateSettings::default(),
            proxy: ProxySettings::default(),
            loops: 1,
            workers: 1,
            blocking_threads: 16,
            max_connections: 1024,
            fd_table: FdTable::Shared,
            backlog: 4096,
            max_header_bytes: 8 * 1024,
            max_message_bytes: 1024 * 1024,
            max_frame_bytes: 1024 * 1024,
            max_fragments: 4096,
            handshake_timeout: Duration::from_secs(10),
            idle_timeout: None,
            message_timeout: Some(Duration::from_secs(30)),
            ping_interval: Some(Duration::from_secs(30)),
            pong_timeout: Duration::from_secs(20),
            write_timeout: Duration::from_secs(30),
            close_timeout: Duration::from_secs(5),
            drain_timeout: Duration::from_secs(20),
            outbound_limit_bytes: 4 * 1024 * 1024,
            memory_limit_bytes: 1024 * 1024 * 1024,
            bandwidth_bytes_per_s: None,
            bandwidth_reserve_percent: 50,
            bandwidth_over_limit: Over::Delay,
            tcp_nodelay: true,
            sockets: SocketConfig::default(),
            stats_out: None,
            histogram_out: None,
            histogram_interval: Duration::from_secs(10),
            endpoints: Vec::new(),
            rooms: Vec::new(),
            tuning: Tuning::default(),
        }
    }
}
