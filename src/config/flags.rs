//! The command line and the environment as they were given: raw texts, read in `resolve`.
//!
//! Values stay texts here, so that every mistake in them can be reported at once and not only the
//! first. What is said of ranges and defaults is compared with the real ones by a test.

use std::collections::BTreeMap;

use clap::parser::ValueSource;
use clap::{ArgAction, ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use super::Origin;

const UNITS: &str = "\
Sizes:  4096, 64KiB, 512K, 1MiB (steps of 1024); 10MB (steps of 1000)
Times:  250ms, 10s, 5m, 2h, 1d; a plain number is seconds
Counts: 4096, 1_000_000
Every flag can stand in the environment as TIDEGATE_ and its name; the command line goes first.

Exit codes: 0 stopped cleanly, 1 failed while running (cannot bind), 2 mistakes in flags,
            3 second signal, 4 drain timeout ran out with connections left";

/// Arguments and environment, with where each value came from.
///
/// Made by [`clap::Parser::parse`] and its kin.
#[derive(Clone, Debug)]
pub struct Cli {
    /// What to do; `None` is to serve.
    pub command: Option<Command>,
    /// The flags, as given.
    pub flags: Flags,
    origins: BTreeMap<String, Origin>,
}

/// What to do other than serve.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Say which limit of this machine is in the way of the wanted connections, and what lifts it
    ///
    /// Nothing is changed. The exit code is 1 if something is in the way, else 0.
    Check(CheckArgs),
}

/// Flags of `tidegate check` alone.
#[derive(Clone, Debug, Args)]
pub struct CheckArgs {
    /// How the findings are written [text or json; default: text]
    #[arg(
        long,
        env = "TIDEGATE_FORMAT",
        value_name = "FORMAT",
        value_enum,
        default_value = "text",
        hide_default_value = true,
        hide_possible_values = true
    )]
    pub format: OutputFormat,
}

/// A way to write for people or for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum OutputFormat {
    /// Lines for people.
    Text,
    /// JSON.
    Json,
}

/// The flags, as given; `None` where nobody gave one.
#[derive(Clone, Debug, Default, Args)]
pub struct Flags {
    /// Address to listen on, repeatable [IP:PORT, port 0 takes a free one; default: 0.0.0.0:8080]
    ///
    /// In the environment, addresses stand apart by commas. `[::]:8080` takes IPv4 clients too; an
    /// IPv4 address costs 128 bytes less per connection.
    #[arg(
        long,
        env = "TIDEGATE_LISTEN",
        value_name = "ADDR",
        help_heading = "Capacity",
        global = true,
        value_delimiter = ',',
        allow_negative_numbers = true
    )]
    pub listen: Vec<String>,

    /// Connections held at once [1 to 17179869184; default: what the descriptors and half of the
    /// memory hold]
    ///
    /// Clients over it are answered 503 with Retry-After.
    #[arg(
        long,
        env = "TIDEGATE_MAX_CONNECTIONS",
        value_name = "N",
        help_heading = "Capacity",
        global = true,
        allow_negative_numbers = true
    )]
    pub max_connections: Option<String>,

    /// Event-loop threads [1 to 1024; default: cores, or what private tables need]
    #[arg(
        long,
        env = "TIDEGATE_LOOPS",
        value_name = "N",
        help_heading = "Capacity",
        global = true,
        allow_negative_numbers = true
    )]
    pub loops: Option<String>,

    /// Where sockets' descriptors live [auto, shared or private; default: auto]
    ///
    /// `shared`: one table for all loops, as usual; the hard limit of `ulimit -n` bounds all
    /// connections together. `private`: each loop has a table of its own, and the limit bounds each
    /// loop's connections. `auto`: shared if --max-connections fits it, else private.
    #[arg(
        long,
        env = "TIDEGATE_FD_TABLE",
        value_name = "KIND",
        help_heading = "Capacity",
        global = true,
        allow_negative_numbers = true
    )]
    pub fd_table: Option<String>,

    /// Queue of connections not yet accepted, per listener [1 to 1048576; default: 4096]
    ///
    /// The kernel cuts it to net.core.somaxconn.
    #[arg(
        long,
        env = "TIDEGATE_BACKLOG",
        value_name = "N",
        help_heading = "Capacity",
        global = true,
        allow_negative_numbers = true
    )]
    pub backlog: Option<String>,

    /// What all buffers together may take before the slowest connections are shed [64KiB to 1PiB;
    /// default: half of the memory]
    ///
    /// Half of what the machine or the control group has, whichever is less. The kernel's 3,960
    /// bytes of an idle connection are not part of it.
    #[arg(
        long,
        env = "TIDEGATE_MEMORY_LIMIT",
        value_name = "BYTES",
        help_heading = "Capacity",
        global = true,
        allow_negative_numbers = true
    )]
    pub memory_limit: Option<String>,

    /// Worker threads that route messages; 0 routes inline on the loops [0 to 256; default: cores]
    #[arg(
        long,
        env = "TIDEGATE_WORKERS",
        value_name = "N",
        help_heading = "Capacity",
        allow_negative_numbers = true
    )]
    pub workers: Option<String>,

    /// Longest request head [512B to 1MiB; default: 8KiB]
    ///
    /// Also the most that is kept of frames sent behind the request. Longer ones are answered 431.
    #[arg(
        long,
        env = "TIDEGATE_MAX_HEADER",
        value_name = "BYTES",
        help_heading = "Protocol limits",
        allow_negative_numbers = true
    )]
    pub max_header: Option<String>,

    /// Longest message, all its frames together [1B to 1GiB; default: 1MiB]
    ///
    /// A longer one closes the connection with 1009.
    #[arg(
        long,
        env = "TIDEGATE_MAX_MESSAGE",
        value_name = "BYTES",
        help_heading = "Protocol limits",
        allow_negative_numbers = true
    )]
    pub max_message: Option<String>,

    /// Longest payload of one frame [1B to 1GiB; default: 1MiB]
    ///
    /// A longer one closes the connection with 1009 when its header is read.
    #[arg(
        long,
        env = "TIDEGATE_MAX_FRAME",
        value_name = "BYTES",
        help_heading = "Protocol limits",
        allow_negative_numbers = true
    )]
    pub max_frame: Option<String>,

    /// Most frames one message may come in [1 to 16777216; default: 4096]
    #[arg(
        long,
        env = "TIDEGATE_MAX_FRAGMENTS",
        value_name = "N",
        help_heading = "Protocol limits",
        allow_negative_numbers = true
    )]
    pub max_fragments: Option<String>,

    /// What one connection may be owed before it is closed as too slow [4KiB to 16GiB; default:
    /// 4MiB]
    #[arg(
        long,
        env = "TIDEGATE_OUTBOUND_LIMIT",
        value_name = "BYTES",
        help_heading = "Protocol limits",
        allow_negative_numbers = true
    )]
    pub outbound_limit: Option<String>,

    /// Send small frames at once, without Nagle's delay [true or false; default: true]
    #[arg(
        long,
        env = "TIDEGATE_TCP_NODELAY",
        value_name = "BOOL",
        help_heading = "Protocol limits",
        allow_negative_numbers = true
    )]
    pub tcp_nodelay: Option<String>,

    /// From accept to the end of the upgrade [1ms to 365d; default: 10s]
    #[arg(
        long,
        env = "TIDEGATE_HANDSHAKE_TIMEOUT",
        value_name = "TIME",
        help_heading = "Timeouts",
        allow_negative_numbers = true
    )]
    pub handshake_timeout: Option<String>,

    /// Close after so long without a byte from the client [1ms to 365d, 0 or off: never; default:
    /// off]
    #[arg(
        long,
        env = "TIDEGATE_IDLE_TIMEOUT",
        value_name = "TIME",
        help_heading = "Timeouts",
        allow_negative_numbers = true
    )]
    pub idle_timeout: Option<String>,

    /// A begun message must end within this [1ms to 365d, 0 or off: never; default: 30s]
    #[arg(
        long,
        env = "TIDEGATE_MESSAGE_TIMEOUT",
        value_name = "TIME",
        help_heading = "Timeouts",
        allow_negative_numbers = true
    )]
    pub message_timeout: Option<String>,

    /// Ping after so long without a byte from the client [1ms to 365d, 0 or off: never; default:
    /// 30s]
    ///
    /// Jittered by 10 % either way, so that a million pings do not leave together.
    #[arg(
        long,
        env = "TIDEGATE_PING_INTERVAL",
        value_name = "TIME",
        help_heading = "Timeouts",
        allow_negative_numbers = true
    )]
    pub ping_interval: Option<String>,

    /// After a ping, any byte must come within this [1ms to 365d; default: 20s]
    #[arg(
        long,
        env = "TIDEGATE_PONG_TIMEOUT",
        value_name = "TIME",
        help_heading = "Timeouts",
        allow_negative_numbers = true
    )]
    pub pong_timeout: Option<String>,

    /// A client that is owed bytes must take some within this [1ms to 365d; default: 30s]
    #[arg(
        long,
        env = "TIDEGATE_WRITE_TIMEOUT",
        value_name = "TIME",
        help_heading = "Timeouts",
        allow_negative_numbers = true
    )]
    pub write_timeout: Option<String>,

    /// For handlers to settle before our Close, and from it to the end of the connection [1ms to
    /// 365d; default: 5s]
    #[arg(
        long,
        env = "TIDEGATE_CLOSE_TIMEOUT",
        value_name = "TIME",
        help_heading = "Timeouts",
        allow_negative_numbers = true
    )]
    pub close_timeout: Option<String>,

    /// From SIGTERM or SIGINT to exit [1ms to 365d; default: 20s]
    ///
    /// Every client gets Close 1001 and what it is owed. A second signal leaves at once.
    #[arg(
        long,
        env = "TIDEGATE_DRAIN_TIMEOUT",
        value_name = "TIME",
        help_heading = "Timeouts",
        allow_negative_numbers = true
    )]
    pub drain_timeout: Option<String>,

    /// Write statistics here at SIGUSR1 and at exit [one JSON object; default: none]
    #[arg(
        long,
        env = "TIDEGATE_STATS_OUT",
        value_name = "FILE",
        help_heading = "Output",
        allow_negative_numbers = true
    )]
    pub stats_out: Option<String>,

    /// Log latency histograms here [HdrHistogram interval log; default: none]
    #[arg(
        long,
        env = "TIDEGATE_HISTOGRAM_OUT",
        value_name = "FILE",
        help_heading = "Output",
        allow_negative_numbers = true
    )]
    pub histogram_out: Option<String>,

    /// How often an interval is logged [1ms to 365d; default: 10s]
    #[arg(
        long,
        env = "TIDEGATE_HISTOGRAM_INTERVAL",
        value_name = "TIME",
        help_heading = "Output",
        allow_negative_numbers = true
    )]
    pub histogram_interval: Option<String>,

    /// How log lines look on standard error [text or json; default: text]
    #[arg(
        long,
        env = "TIDEGATE_LOG_FORMAT",
        value_name = "FORMAT",
        help_heading = "Output",
        allow_negative_numbers = true
    )]
    pub log_format: Option<String>,

    /// Log more: -v for debug, -vv for every step [0 to 2; default: 0]
    ///
    /// RUST_LOG, where set, has the last word.
    #[arg(
        short,
        long,
        env = "TIDEGATE_VERBOSE",
        help_heading = "Output",
        action = ArgAction::Count
    )]
    pub verbose: u8,

    /// Log warnings and errors only [default: false]
    #[arg(
        short,
        long,
        env = "TIDEGATE_QUIET",
        help_heading = "Output",
        action = ArgAction::SetTrue,
        value_parser = clap::builder::FalseyValueParser::new()
    )]
    pub quiet: bool,
}

impl Cli {
    /// Where a flag's value came from; the flag as it is typed, such as `--loops`.
    #[must_use]
    pub fn origin(&self, flag: &str) -> Origin {
        let id = flag.trim_start_matches('-').replace('-', "_");
        self.origins.get(&id).copied().unwrap_or(Origin::Default)
    }
}

impl CommandFactory for Cli {
    fn command() -> clap::Command {
        Arguments::command()
    }

    fn command_for_update() -> clap::Command {
        Arguments::command_for_update()
    }
}

impl FromArgMatches for Cli {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let Arguments { command, flags } = Arguments::from_arg_matches(matches)?;
        Ok(Self { command, flags, origins: origins(matches) })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Parser for Cli {}

/// A WebSocket edge gateway: a million client connections on a small machine
///
/// Without arguments it serves on 0.0.0.0:8080: `/echo` sends every message back, `/ws` speaks
/// JSON with rooms, `/healthz` answers 200.
#[derive(Parser)]
#[command(name = "tidegate", version, after_help = UNITS)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    flags: Flags,
}

fn origins(matches: &ArgMatches) -> BTreeMap<String, Origin> {
    let origin = |id: &str| match matches.value_source(id)? {
        ValueSource::EnvVariable => Some(Origin::Environment),
        ValueSource::CommandLine => Some(Origin::CommandLine),
        _ => None,
    };
    let ids = matches.ids().map(clap::Id::as_str);
    // Groups made by `flatten` stand among the ids, but have no source of their own.
    ids.filter_map(|id| Some((id.to_owned(), origin(id)?))).collect()
}
