//! Every setting that has a flag: what it is called, what it takes, and what it means. The command
//! line, the file, `tidegate config` and `docs/CONFIGURATION.md` are all made of this table.

use super::definitions_deflate::DEFLATE;
use super::definitions_file::{FILE_ONLY, OVER};
use super::definitions_proxy::PROXY;
use super::definitions_sockets::SOCKETS;

/// One setting.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Definition {
    /// Where it stands in a file.
    pub table: Table,
    /// What kind of value it takes.
    pub kind: Kind,
    /// Its name there; flag and variable are made of it.
    pub key: &'static str,
    /// The values it takes, such as `1 to 1024`.
    pub values: &'static str,
    /// What holds where nobody gives it; [`REQUIRED`] if somebody must.
    pub default: &'static str,
    /// What it is, in one line without a stop at its end.
    pub summary: &'static str,
    /// What else is to be known; often nothing.
    pub detail: &'static str,
}

/// The default of what has none.
pub const REQUIRED: &str = "required";

/// A kind of value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A whole number.
    Count,
    /// A number of bytes.
    Size,
    /// A length of time.
    Time,
    /// True or false.
    Switch,
    /// One of a few words.
    Word,
    /// The name of a file.
    File,
    /// Names of files.
    Files,
    /// An IP address and a port.
    Address,
    /// Any text.
    Text,
    /// A list of texts.
    Texts,
}

/// A table of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// In no table: only a flag.
    FlagOnly,
    /// `[capacity]`
    Capacity,
    /// `[limits]`
    Limits,
    /// `[timeouts]`
    Timeouts,
    /// `[output]`
    Output,
    /// `[tls]`
    Tls,
    /// `[deflate]`
    Deflate,
    /// `[sockets]`
    Sockets,
    /// `[proxy]`
    Proxy,
    /// `[[listener]]`
    Listener,
    /// `[[endpoint]]`
    Endpoint,
    /// `[endpoint.json]`
    Json,
    /// `[endpoint.login]`
    Login,
    /// `[[endpoint.route]]`
    Route,
    /// `[[room]]`
    Room,
}

/// The tables of a file, in the order in which they are written.
pub(crate) const TABLES: [Table; 14] = [
    Table::Capacity,
    Table::Limits,
    Table::Timeouts,
    Table::Output,
    Table::Tls,
    Table::Deflate,
    Table::Sockets,
    Table::Proxy,
    Table::Listener,
    Table::Endpoint,
    Table::Json,
    Table::Login,
    Table::Route,
    Table::Room,
];

/// The settings with flags.
pub(crate) fn flags() -> impl Iterator<Item = &'static Definition> {
    FLAGS.iter().chain(DEFLATE).chain(SOCKETS).chain(PROXY)
}

/// All settings, those with flags first.
pub fn definitions() -> impl Iterator<Item = &'static Definition> {
    flags().chain(FILE_ONLY)
}

/// The settings of one table.
pub(crate) fn definitions_of(table: Table) -> impl Iterator<Item = &'static Definition> {
    definitions().filter(move |definition| definition.table == table)
}

impl Definition {
    pub(super) const fn new(
        table: Table,
        kind: Kind,
        key: &'static str,
        (values, default): (&'static str, &'static str),
        summary: &'static str,
    ) -> Self {
        Self { table, kind, key, values, default, summary, detail: "" }
    }

    /// With more to be known.
    pub(super) const fn detail(mut self, detail: &'static str) -> Self {
        self.detail = detail;
        self
    }

    /// Whether there is a flag for it, and so a variable.
    #[must_use]
    pub fn has_flag(&self) -> bool {
        flags().any(|flag| flag.key == self.key && flag.table == self.table)
    }

    /// `--max-message`
    #[must_use]
    pub fn flag(&self) -> String {
        format!("--{}", self.key.replace('_', "-"))
    }

    /// `TIDEGATE_MAX_MESSAGE`
    #[must_use]
    pub fn variable(&self) -> String {
        format!("TIDEGATE_{}", self.key.to_uppercase())
    }

    /// Whether `tidegate check` takes it too: what capacity is worked out from.
    #[must_use]
    pub fn is_for_check(&self) -> bool {
        matches!(self.table, Table::Capacity | Table::FlagOnly)
            && !matches!(self.key, "workers" | "blocking_threads")
    }
}

impl Kind {
    /// What stands for the value where flags are listed.
    #[must_use]
    pub fn placeholder(self) -> &'static str {
        match self {
            Self::Count => "N",
            Self::Size => "BYTES",
            Self::Time => "TIME",
            Self::Switch => "BOOL",
            Self::Word => "KIND",
            Self::File | Self::Files => "FILE",
            Self::Address => "ADDR",
            Self::Text | Self::Texts => "TEXT",
        }
    }

    /// What a value of it looks like in a file.
    #[must_use]
    pub fn in_file(self) -> &'static str {
        match self {
            Self::Count => "a whole number, such as 4096 or 1_000_000",
            Self::Size => "a size such as \"64KiB\", or a whole number of bytes",
            Self::Time => "a time such as \"10s\", or a whole number of seconds",
            Self::Switch => "true or false",
            Self::Word | Self::Text => "a string",
            Self::File => "the name of a file, in quotes",
            Self::Files => "a list of names of files, such as [\"a.pem\", \"b.pem\"]",
            Self::Address => "an address such as \"0.0.0.0:8080\" or \"unix:/run/tidegate.sock\"",
            Self::Texts => "a list of strings, such as [\"a\", \"b\"]",
        }
    }
}

impl Table {
    /// What it is called in its parent.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::FlagOnly => "",
            Self::Capacity => "capacity",
            Self::Limits => "limits",
            Self::Timeouts => "timeouts",
            Self::Output => "output",
            Self::Tls => "tls",
            Self::Deflate => "deflate",
            Self::Sockets => "sockets",
            Self::Proxy => "proxy",
            Self::Listener => "listener",
            Self::Endpoint => "endpoint",
            Self::Json => "json",
            Self::Login => "login",
            Self::Route => "route",
            Self::Room => "room",
        }
    }

    /// The line that opens it, such as `[[endpoint.route]]`.
    #[must_use]
    pub fn header(self) -> &'static str {
        match self {
            Self::FlagOnly => "",
            Self::Capacity => "[capacity]",
            Self::Limits => "[limits]",
            Self::Timeouts => "[timeouts]",
            Self::Output => "[output]",
            Self::Tls => "[tls]",
            Self::Deflate => "[deflate]",
            Self::Sockets => "[sockets]",
            Self::Proxy => "[proxy]",
            Self::Listener => "[[listener]]",
            Self::Endpoint => "[[endpoint]]",
            Self::Json => "[endpoint.json]",
            Self::Login => "[endpoint.login]",
            Self::Route => "[[endpoint.route]]",
            Self::Room => "[[room]]",
        }
    }

    /// Whether a file may have many of it.
    #[must_use]
    pub fn is_repeated(self) -> bool {
        self.header().starts_with("[[")
    }

    /// The table that it stands in; `None` is the file itself.
    #[must_use]
    pub fn parent(self) -> Option<Self> {
        matches!(self, Self::Json | Self::Login | Self::Route).then_some(Self::Endpoint)
    }

    /// What flags of it stand under in `--help`.
    #[must_use]
    pub fn heading(self) -> &'static str {
        match self {
            Self::Limits => "Protocol limits",
            Self::Timeouts => "Timeouts",
            Self::Output => "Output",
            Self::Tls => "TLS",
            Self::Deflate => "Compression",
            Self::Sockets => "Sockets",
            Self::Proxy => "Proxies",
            _ => "Capacity",
        }
    }
}

use Kind::{Address, Count, File, Files, Size, Switch, Time, Word};
use Table::{Capacity, FlagOnly, Limits, Output, Timeouts, Tls};

pub(super) const LISTEN: &str = "IP:PORT, unix:/PATH, systemd or systemd:NAME";
const TCP_LISTEN: &str = "as --listen; with =/path behind it for another endpoint than /kim";
const TIMES: &str = "1ms to 365d";
const TIMES_OR_NEVER: &str = "1ms to 365d, 0 or off: never";
const MESSAGES: &str = "1B to 1GiB";

/// Settings with flags; [`flags`] are all. What is said of ranges and defaults is compared with the
/// real ones by tests.
static FLAGS: &[Definition] = &[
    Definition::new(
        FlagOnly,
        File,
        "config",
        ("a TOML file, see docs/CONFIGURATION.md", "none"),
        "Read settings from here",
    )
    .detail("Flags and variables go before what it says."),
    Definition::new(
        FlagOnly,
        Address,
        "listen",
        (LISTEN, "0.0.0.0:8080"),
        "Address to listen on, repeatable",
    )
    .detail(
        "In the environment, addresses stand apart by commas. Port 0 takes a free one. `[::]:8080` \
         takes IPv4 clients too; an IPv4 address costs 128 bytes less per connection. A file of a \
         Unix-domain socket that nobody listens on is replaced; unix:@NAME has no file. `systemd` \
         are the sockets that the service manager passes, `systemd:NAME` those of a name; where it \
         passes some and no listener is given, that is the default. Given once, no listener of the \
         file with transport \"websocket\" holds.",
    ),
    Definition::new(
        FlagOnly,
        Address,
        "tcp_listen",
        (TCP_LISTEN, "none"),
        "Address to listen on for frames over plain TCP, repeatable",
    )
    .detail(
        "There is no handshake. IP:PORT=u32:/path and IP:PORT=opcode:/path say what frames look \
         like, as `framing` of [[listener]] does. Given once, no listener of the file with transport \
         \"tcp\" holds.",
    ),
    Definition::new(
        FlagOnly,
        Address,
        "tls_listen",
        (LISTEN, "none"),
        "Address to listen on for WebSockets over TLS (wss), repeatable",
    )
    .detail(
        "It takes --tls-cert and --tls-key; `tidegate dev-cert` makes some to try. Given once, no \
         listener of the file with tls and transport \"websocket\" holds.",
    ),
    Definition::new(
        FlagOnly,
        Address,
        "tls_tcp_listen",
        (TCP_LISTEN, "none"),
        "Address to listen on for frames over TLS without a handshake of WebSockets, repeatable",
    )
    .detail("As --tcp-listen, over TLS."),
    Definition::new(
        Tls,
        Files,
        "tls_cert",
        ("PEM: the server's certificate, then those up to its authority", "none"),
        "Certificate of listeners with TLS, repeatable",
    )
    .detail(
        "With several, a client gets the first that is for the name it asks for (SNI) and that it \
         can work with, or else the first that it can work with.",
    ),
    Definition::new(
        Tls,
        Files,
        "tls_key",
        ("PEM: PKCS #8, PKCS #1 or SEC 1", "none"),
        "Key of each certificate, in the same order, repeatable",
    ),
    Definition::new(
        Tls,
        File,
        "tls_client_ca",
        ("PEM: certificates of authorities", "none"),
        "Check clients' certificates, which have to be by one of these",
    ),
    Definition::new(
        Tls,
        Word,
        "tls_client_auth",
        ("required or optional", "required"),
        "Whether clients without a certificate are refused, where --tls-client-ca is given",
    ),
    Definition::new(
        Capacity,
        Count,
        "max_connections",
        ("1 to 17179869184", "what the descriptors and half of the memory hold"),
        "Connections held at once",
    )
    .detail("Clients over it are answered 503 with Retry-After."),
    Definition::new(
        Capacity,
        Count,
        "loops",
        ("1 to 1024", "cores, or what private tables need"),
        "Event-loop threads",
    ),
    Definition::new(
        Capacity,
        Word,
        "fd_table",
        ("auto, shared or private", "auto"),
        "Where sockets' descriptors live",
    )
    .detail(
        "`shared`: one table for all loops, as usual; the hard limit of `ulimit -n` bounds all \
         connections together. `private`: each loop has a table of its own, and the limit bounds \
         each loop's connections. `auto`: shared if --max-connections fits it, else private.",
    ),
    Definition::new(
        Capacity,
        Count,
        "backlog",
        ("1 to 1048576", "4096"),
        "Queue of connections not yet accepted, per listener",
    )
    .detail("The kernel cuts it to net.core.somaxconn."),
    Definition::new(
        Capacity,
        Size,
        "memory_limit",
        ("64KiB to 1PiB", "half of the memory"),
        "What all buffers together may take before the slowest connections are shed",
    )
    .detail(
        "Half of what the machine or the control group has, whichever is less. The kernel's 3,960 \
         bytes of an idle connection are not part of it.",
    ),
    Definition::new(
        Capacity,
        Count,
        "workers",
        ("0 to 256", "cores"),
        "Worker threads that route messages; 0 routes inline on the loops",
    ),
    Definition::new(
        Capacity,
        Count,
        "blocking_threads",
        ("1 to 1024", "16"),
        "Threads for handlers that block",
    )
    .detail("None are started where no route has `run = \"blocking\"`."),
    Definition::new(Limits, Size, "max_header", ("512B to 1MiB", "8KiB"), "Longest request head")
        .detail(
            "Also the most that is kept of frames sent behind the request. Longer ones are \
             answered 431.",
        ),
    Definition::new(
        Limits,
        Size,
        "max_message",
        (MESSAGES, "1MiB"),
        "Longest message, all its frames together",
    )
    .detail("A longer one closes the connection with 1009."),
    Definition::new(Limits, Size, "max_frame", (MESSAGES, "1MiB"), "Longest payload of one frame")
        .detail("A longer one closes the connection with 1009 when its header is read."),
    Definition::new(
        Limits,
        Count,
        "max_fragments",
        ("1 to 16777216", "4096"),
        "Most frames one message may come in",
    ),
    Definition::new(
        Limits,
        Size,
        "outbound_limit",
        ("4KiB to 16GiB", "4MiB"),
        "What one connection may be owed before it is closed as too slow",
    ),
    Definition::new(
        Limits,
        Size,
        "bandwidth_bytes_per_s",
        ("1KiB to 1TiB, 0 or off: no limit", "off"),
        "Bytes that all clients together may send in a second",
    ),
    Definition::new(
        Limits,
        Count,
        "bandwidth_reserve_percent",
        ("0 to 100", "50"),
        "Share of them that is split evenly among the connections",
    )
    .detail("Each connection is sure of its part. Beyond it, the rest is for whoever comes first."),
    Definition::new(
        Limits,
        Word,
        "bandwidth_over_limit",
        (OVER, "delay"),
        "What happens to a connection beyond its part once the rest is used up",
    )
    .detail("As `over_limit` of endpoints has it."),
    Definition::new(
        Limits,
        Switch,
        "tcp_nodelay",
        ("true or false", "true"),
        "Send small frames at once, without Nagle's delay",
    ),
    Definition::new(
        Timeouts,
        Time,
        "handshake_timeout",
        (TIMES, "10s"),
        "From accept to the end of the upgrade",
    ),
    Definition::new(
        Timeouts,
        Time,
        "idle_timeout",
        (TIMES_OR_NEVER, "off"),
        "Close after so long without a byte from the client",
    ),
    Definition::new(
        Timeouts,
        Time,
        "message_timeout",
        (TIMES_OR_NEVER, "30s"),
        "A begun message must end within this",
    ),
    Definition::new(
        Timeouts,
        Time,
        "ping_interval",
        (TIMES_OR_NEVER, "30s"),
        "Ping after so long without a byte from the client",
    )
    .detail("Jittered by 10 % either way, so that a million pings do not leave together."),
    Definition::new(
        Timeouts,
        Time,
        "pong_timeout",
        (TIMES, "20s"),
        "After a ping, any byte must come within this",
    ),
    Definition::new(
        Timeouts,
        Time,
        "write_timeout",
        (TIMES, "30s"),
        "A client that is owed bytes must take some within this",
    ),
    Definition::new(
        Timeouts,
        Time,
        "close_timeout",
        (TIMES, "5s"),
        "For handlers to settle before our Close, and from it to the end of the connection",
    ),
    Definition::new(
        Timeouts,
        Time,
        "drain_timeout",
        (TIMES, "20s"),
        "From SIGTERM or SIGINT to exit",
    )
    .detail("Every client gets Close 1001 and what it is owed. A second signal leaves at once."),
    Definition::new(
        Output,
        File,
        "stats_out",
        ("one JSON object", "none"),
        "Write statistics here at SIGUSR1 and at exit",
    ),
    Definition::new(
        Output,
        File,
        "histogram_out",
        ("HdrHistogram interval log", "none"),
        "Log latency histograms here",
    ),
    Definition::new(
        Output,
        Time,
        "histogram_interval",
        (TIMES, "10s"),
        "How often an interval is logged",
    ),
    Definition::new(
        Output,
        Word,
        "log_format",
        ("text or json", "text"),
        "How log lines look on standard error",
    ),
    Definition::new(
        Output,
        Count,
        "verbose",
        ("0 to 2", "0"),
        "Log more: -v for debug, -vv for every step",
    )
    .detail("RUST_LOG, where set, has the last word."),
    Definition::new(Output, Switch, "quiet", ("", "false"), "Log warnings and errors only"),
];
