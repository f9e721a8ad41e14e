//! The arguments, as given.

mod conns;
pub(crate) mod dialect;
pub(crate) mod network;
mod report;
pub(crate) mod rooms;

pub(crate) use conns::{ChurnArgs, SlowHandshakeArgs, StormArgs, VanishArg};

use std::{net::IpAddr, str::FromStr, time::Duration};

use clap::{Args, Parser, Subcommand};

pub(crate) use self::report::{CompareArgs, ReportArgs};
use self::{dialect::LoginArgs, network::NetworkArgs};
use crate::{dialect::Dialect, plan::Sources};

/// Drives any WebSocket server: opens connections, holds them, verifies them, measures.
#[derive(Debug, Parser)]
#[command(
    name = "loadtest",
    version,
    after_help = "Exit codes: 0 all was well; 1 a client saw an error, or a connection was not \
                  made, verified or closed as it should be, or a --fail-if held; 2 the arguments or the limits of this \
                  host do not allow the run.\n\nThe summary goes to stdout, progress to stderr. \
                  Ctrl-C ends a run early and in order; a second one at once."
)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Open connections, hold them, and verify each by a ping at the end.
    #[command(
        after_help = "Example, 100,000 connections at 5,000 a second, held for half a minute:\n  \
                      loadtest connect --url ws://127.0.0.1:8080/echo --connections 100000 \
                      --rate 5000 --hold 30s"
    )]
    Connect(ConnectArgs),
    /// Send messages to a server that echoes, compare every answer, measure latency.
    #[command(after_help = "Without --rate the loop is closed: every connection keeps --pipeline \
                      messages in flight, which finds the highest throughput. With --rate it is \
                      open: messages are due at fixed times and latency counts from when a message \
                      was due, so a stall is seen in full (no coordinated omission).\n\nExamples:\n  \
                      loadtest echo --url ws://127.0.0.1:8080/echo --connections 100 --size 20 \
                      --duration 10s\n  loadtest echo --url ws://127.0.0.1:8080/echo --connections \
                      1000 --size 1KiB --duration 30s --rate 20000 --text --json out.json\n  \
                      loadtest echo --url ws://127.0.0.1:8080/hub --dialect hub --connections 100 \
                      --pipeline 16")]
    Echo(EchoArgs),
    /// Publish to rooms and check every delivery: that it comes, once, in order, the same for all.
    #[command(after_help = rooms::BROADCAST_HELP)]
    Broadcast(rooms::BroadcastArgs),
    /// Publish to rooms in which some members stop reading, and see what the others feel.
    #[command(after_help = rooms::STALL_HELP)]
    Stall(rooms::StallArgs),
    /// Take very many connections through a course: hold, ping, echo, one broadcast, close.
    #[command(after_help = rooms::SCALE_HELP)]
    Scale(rooms::ScaleArgs),
    /// Keep connections open while so many a second leave and new ones take their place.
    #[command(after_help = conns::CHURN_HELP)]
    Churn(ChurnArgs),
    /// Let all vanish and come back at once, and see what those feel who stay.
    #[command(after_help = conns::STORM_HELP)]
    Storm(StormArgs),
    /// Send thousands of requests byte by byte, and see what ordinary clients feel.
    #[command(after_help = conns::SLOW_HANDSHAKE_HELP)]
    SlowHandshake(SlowHandshakeArgs),
    /// Compare the JSON reports of two runs: every figure of the second relative to the first.
    Compare(CompareArgs),
}

/// What every command takes.
#[derive(Clone, Debug, Args)]
pub(crate) struct Common {
    /// The server, like ws://HOST:PORT/PATH?QUERY; what follows the host may be left out.
    ///
    /// wss:// is the same over TLS; tcp://HOST:PORT and tls://HOST:PORT have frames with a length before
    /// them.
    ///
    /// tidegate speaks raw at /echo, json at /ws, the other dialects at /mef, /action, /event, /kim
    /// and /hub.
    #[arg(long, value_name = "URL")]
    pub(crate) url: String,

    /// How many connections to open.
    #[arg(long, short = 'c', value_name = "N", default_value = "100", value_parser = count)]
    pub(crate) connections: u32,

    /// Event-loop threads [default: one, or as many as descriptors need].
    ///
    /// When the connections do not fit the limit of open files (ulimit -Hn), each thread gets a
    /// descriptor table of its own, and there are as many threads as that takes.
    #[arg(long, value_name = "N", value_parser = count)]
    pub(crate) threads: Option<u32>,

    /// Handshakes under way at once, in all threads together.
    ///
    /// Keep it below the server's backlog: a SYN that finds it full is sent again after a second.
    #[arg(long, value_name = "N", default_value = "512", value_parser = count)]
    pub(crate) max_connecting: u32,

    /// Where connections leave from: auto, off, or a list of addresses to take in turn.
    ///
    /// One source address has about 28,000 ports, and finding a free one takes longer the more are
    /// taken. "auto" spreads over 127.0.0.2, 127.0.0.3, … when the server is on a loopback IPv4
    /// address and there are more than 7,000 connections; "off" leaves the choice to the kernel.
    #[arg(long, value_name = "auto|off|IP,IP,…", default_value = "auto")]
    pub(crate) source_ips: Sources,

    /// How long to wait for a handshake, a pong, the last answers, a close; each.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = some_time)]
    pub(crate) timeout: Duration,

    /// Seed of all payloads: the same seed sends the same bytes.
    #[arg(long, value_name = "N", default_value = "1")]
    pub(crate) seed: u64,

    /// Start even if a limit of this host would stop the run; what is found is only a warning.
    #[arg(long)]
    pub(crate) no_preflight: bool,

    /// By what connections go.
    #[command(flatten)]
    pub(crate) network: NetworkArgs,

    /// What becomes of the results.
    #[command(flatten)]
    pub(crate) report: ReportArgs,
}

/// Arguments of `connect`.
#[derive(Debug, Args)]
pub(crate) struct ConnectArgs {
    /// What every command takes.
    #[command(flatten)]
    pub(crate) common: Common,

    /// Connects per second, over all threads; 0: as fast as possible.
    #[arg(long, value_name = "N", default_value = "0")]
    pub(crate) rate: u64,

    /// How long to hold the connections before they are verified.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = time)]
    pub(crate) hold: Duration,

    /// What is spoken there: how connections log in, and kim over plain TCP with a tcp:// URL.
    #[arg(long, value_enum, default_value = "raw")]
    pub(crate) dialect: Dialect,

    /// Rooms that the connections join before they are held; it takes a --dialect with rooms.
    #[arg(long, value_name = "N", value_parser = count)]
    pub(crate) rooms: Option<u32>,

    /// How many of the rooms each connection joins: all rooms get as many members.
    #[arg(long, value_name = "N", default_value = "1", value_parser = count, requires = "rooms")]
    pub(crate) rooms_per_connection: u32,

    /// How long to wait with the first join when all connections are open.
    #[arg(long, value_name = "TIME", default_value = "0", value_parser = time, requires = "rooms")]
    pub(crate) join_after: Duration,

    /// Who connections say they are.
    #[command(flatten)]
    pub(crate) login: LoginArgs,
}

/// Arguments of `echo`.
#[derive(Debug, Args)]
pub(crate) struct EchoArgs {
    /// What every command takes.
    #[command(flatten)]
    pub(crate) common: Common,

    /// Connects per second while ramping up, over all threads; 0: as fast as possible.
    #[arg(long, value_name = "N", default_value = "0")]
    pub(crate) connect_rate: u64,

    /// Payload bytes of a message, up to 64MiB; KiB and MiB are understood.
    #[arg(long, value_name = "BYTES", default_value = "20", value_parser = size)]
    pub(crate) size: usize,

    /// How long to send.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = some_time)]
    pub(crate) duration: Duration,

    /// Messages per second over all connections [default: a closed loop].
    #[arg(long, value_name = "N", value_parser = rate, conflicts_with = "pipeline")]
    pub(crate) rate: Option<u64>,

    /// Messages in flight on each connection of a closed loop.
    #[arg(long, value_name = "N", default_value = "1", value_parser = count)]
    pub(crate) pipeline: u32,

    /// Send text instead of bytes; in dialects of JSON it is text anyway.
    #[arg(long)]
    pub(crate) text: bool,

    /// Send text made of words, which compresses to about a third; else it is made of 64 characters at
    /// random.
    #[arg(long)]
    pub(crate) words: bool,

    /// How messages are enveloped.
    ///
    /// In all but "raw" each message is a request for the route "echo" (in mef option and resource are
    /// "echo"; in hub it is protocol 2), with --size bytes as its body. An answer must carry what its
    /// request is told by, be of that route, and have the same body.
    /// kim goes over plain TCP, too: --url tcp://127.0.0.1:9000.
    #[arg(long, value_enum, default_value = "raw")]
    pub(crate) dialect: Dialect,

    /// Who connections say they are.
    #[command(flatten)]
    pub(crate) login: LoginArgs,
}

#[cfg(test)]
impl Common {
    /// All defaults, to a server.
    pub(crate) fn to(url: &str) -> Self {
        let cli = Cli::parse_from(["loadtest", "connect", "--url", url]);
        match cli.command {
            Command::Connect(args) => args.common,
            _ => unreachable!("it is `connect`"),
        }
    }
}

impl FromStr for Sources {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "off" => Ok(Self::Off),
            list => list.split(',').map(address).collect::<Result<_, _>>().map(Self::List),
        }
    }
}

fn address(text: &str) -> Result<IpAddr, String> {
    text.trim().parse().map_err(|_| format!("{text:?} is not auto, off or an IP address"))
}

/// A number of things, at least one; `_` may group digits.
fn count(text: &str) -> Result<u32, String> {
    match text.replace('_', "").parse() {
        Ok(0) => Err("must be at least 1".to_owned()),
        Ok(number) if number <= 100_000_000 => Ok(number),
        Ok(_) => Err("must be at most 100,000,000".to_owned()),
        Err(_) => Err("is not a whole number".to_owned()),
    }
}

fn rate(text: &str) -> Result<u64, String> {
    match text.replace('_', "").parse() {
        Ok(0) => Err("must be at least 1; leave it out for a closed loop".to_owned()),
        Ok(number) if number <= 100_000_000 => Ok(number),
        Ok(_) => Err("must be at most 100,000,000".to_owned()),
        Err(_) => Err("is not a whole number".to_owned()),
    }
}

/// A time: `500ms`, `30s`, `2m`, `1h`; a bare number is seconds.
fn time(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let scale = match unit {
        "ms" => 0.001,
        "s" | "" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("unit {unit:?} is not ms, s, m or h")),
    };
    let number: f64 = number.parse().map_err(|_| "is not a time like 30s or 500ms".to_owned())?;
    let seconds = number * scale;
    if seconds > 30.0 * 86_400.0 {
        return Err("is longer than 30 days".to_owned());
    }
    Ok(Duration::from_secs_f64(seconds))
}

fn some_time(text: &str) -> Result<Duration, String> {
    time(text).and_then(|time| match time.is_zero() {
        true => Err("must be longer than nothing".to_owned()),
        false => Ok(time),
    })
}

fn size(text: &str) -> Result<usize, String> {
    let (number, scale) = match text {
        _ if text.ends_with("KiB") => (&text[..text.len() - 3], 1 << 10),
        _ if text.ends_with("MiB") => (&text[..text.len() - 3], 1 << 20),
        _ => (text, 1),
    };
    let number: usize =
        number.trim().replace('_', "").parse().map_err(|_| "is not like 20, 16KiB or 1MiB")?;
    number
        .checked_mul(scale)
        .filter(|bytes| *bytes <= 64 << 20)
        .ok_or_else(|| "must be at most 64MiB".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn times_have_units() {
        assert_eq!(time("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(time("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(time("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(time("7"), Ok(Duration::from_secs(7)));
        for bad in ["", "s", "1d", "-1s", "1.2.3s", "9999h", "1e99s"] {
            assert!(time(bad).is_err(), "{bad}");
        }
        assert!(some_time("0").is_err());
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(size("20"), Ok(20));
        assert_eq!(size("16KiB"), Ok(16 * 1024));
        assert!(size("65MiB").is_err() && size("KiB").is_err() && size("-1").is_err());
        assert!(size("99999999999999999MiB").is_err());
    }

    #[test]
    fn counts_start_at_one() {
        assert_eq!(count("1_000_000"), Ok(1_000_000));
        assert!(count("0").is_err() && count("x").is_err() && count("4000000000").is_err());
    }

    #[test]
    fn source_addresses_are_parsed() {
        assert_eq!("auto".parse(), Ok(Sources::Auto));
        let list: Sources = "127.0.0.2,127.0.0.3".parse().unwrap();
        assert!(matches!(list, Sources::List(list) if list.len() == 2));
        assert!("127.0.0.2,".parse::<Sources>().is_err());
    }
}
