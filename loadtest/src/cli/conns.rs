//! The arguments of `churn`, `storm` and `slow-handshake`.

use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};

use super::{Common, count, dialect::LoginArgs, size, some_time, time};
use crate::dialect::Dialect;

pub(crate) const CHURN_HELP: &str = "\
Replacements are due at fixed times, whatever the server does (an open loop): at its time a
connection leaves, chosen by the seed among those at rest, and a new one is begun, verified by a
ping, and left in peace. A handshake counts from when it was due, so what the server (or this
program) makes wait is measured.

In the summary, 'replaced' says how many were begun and verified, of how many were due, and the rate
that makes. What was due while a connection was ripe and was not begun, as too many others were
opening or leaving, fails the run. 'handshake' is the replacements' alone; 'usable' goes on until the ping is answered;
'close' is from a Close to the server's; 'begun late' is this program's own part of the latencies.

Example, 10,000 connections, of which 500 a second are replaced, one in ten after a reset:
  loadtest churn --url ws://127.0.0.1:8080/echo --connections 10000 --rate 500 --duration 30s \\
    --abort 10%";

pub(crate) const STORM_HELP: &str = "\
After a pause, all but those who stay vanish at once and come back as fast as --max-connecting lets
them, each verified by a ping; when all are back there is another pause, and the next storm. Those
who stay are pinged at --rate throughout; each ping counts from when it was due.

In the summary, 'all back' is the time from the start of a storm until the last connection was
verified; 'before', 'during' and 'after' are the latencies of pings to those who stay that were due
in the pause before the storm, until all were back, and in the pause behind it.

With --login each connection is an identity of its own, and comes back as the same. The server should
let the new one in and end the one that was there, if it still is (tidegate: session = \"displace\").
When the last storm is over, each identity should have one connection, which answers a ping, and all
others should have been closed with 4001; if not, the run fails.

Examples, 20,000 connections that fall away and come back three times; the same as identities, of
which some are still there when they come back, and some come back twice at once:
  loadtest storm --url ws://127.0.0.1:8080/echo --connections 20000 --times 3
  loadtest storm --url ws://127.0.0.1:8080/echo --connections 20000 --times 3 --login \\
    --vanish rst,fin,half,stay --twins 10%";

pub(crate) const SLOW_HANDSHAKE_HELP: &str = "\
Each dripping client sends a few bytes of its request at a time and never finishes it: behind the
last header comes one more, without end. When the server ends such a connection, as it should after
some time, it is replaced at the client's next drip, and that is no error. The probes are ordinary
clients, --probe-rate a second: each connects (counted from when it was due), sends a ping and
closes. If anything goes wrong for a probe, one that was due could not be begun, fewer dripping
clients than --connections could, or the server accepts half a request, the run fails.

In the summary, 'drippers' says how many connections dripped, how many the server ended and how many
were left at the end; below it, with which answers or how; 'ended after' is how long it let them
drip; 'handshake' and 'probe ping' are what the probes felt.

Example, 5,000 clients that send one byte a second:
  loadtest slow-handshake --url ws://127.0.0.1:8080/echo --connections 5000 --duration 30s";

/// Arguments of `churn`.
#[derive(Debug, Args)]
pub(crate) struct ChurnArgs {
    /// What every command takes.
    #[command(flatten)]
    pub(crate) common: Common,

    /// Connects per second while ramping up, over all threads; 0: as fast as possible.
    #[arg(long, value_name = "N", default_value = "0")]
    pub(crate) connect_rate: u64,

    /// Connections replaced per second, over all threads.
    #[arg(long, value_name = "N", default_value = "100", value_parser = pace)]
    pub(crate) rate: u64,

    /// How long to replace connections.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = some_time)]
    pub(crate) duration: Duration,

    /// How long a connection stays at least, once it is verified.
    ///
    /// While none has stayed that long, replacements that are due wait, and that counts.
    #[arg(long, value_name = "TIME", default_value = "0", value_parser = time)]
    pub(crate) stay: Duration,

    /// The share that leaves by a reset of the stream, without a Close.
    #[arg(long, value_name = "PERCENT", default_value = "0%", value_parser = percent)]
    pub(crate) abort: Ppm,
}

/// Arguments of `storm`.
#[derive(Debug, Args)]
pub(crate) struct StormArgs {
    /// What every command takes.
    #[command(flatten)]
    pub(crate) common: Common,

    /// Connects per second while ramping up, over all threads; 0: as fast as possible.
    #[arg(long, value_name = "N", default_value = "0")]
    pub(crate) connect_rate: u64,

    /// The share of --connections that vanishes; the rest stays and rests.
    #[arg(long, value_name = "PERCENT", default_value = "100%", value_parser = percent)]
    pub(crate) share: Ppm,

    /// Connections beside --connections that stay and are pinged [default: 1 %, at least 100].
    #[arg(long, value_name = "N", value_parser = count)]
    pub(crate) stay: Option<u32>,

    /// Pings per second to those who stay, over all of them.
    #[arg(long, value_name = "N", default_value = "500", value_parser = pace)]
    pub(crate) rate: u64,

    /// How many storms, at most 100.
    #[arg(long, value_name = "N", default_value = "1", value_parser = storms)]
    pub(crate) times: u32,

    /// The time before each storm, and behind the last.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = some_time)]
    pub(crate) pause: Duration,

    /// How connections vanish: one way, or several that they take in turn.
    ///
    /// With "fin" each leaves its port in TIME-WAIT; frequent storms can run out of ports. With "stay",
    /// which takes --login, the server has to end the one that was there.
    #[arg(long, value_name = "HOW,…", default_value = "rst", value_delimiter = ',')]
    pub(crate) vanish: Vec<VanishArg>,

    /// The share that comes back twice at once, of which the server leaves one; takes --login.
    #[arg(long, value_name = "PERCENT", default_value = "0%", value_parser = percent)]
    pub(crate) twins: Ppm,

    /// Each comes back after a random time below this; 0: at once.
    #[arg(long, value_name = "TIME", default_value = "0", value_parser = time)]
    pub(crate) backoff: Duration,

    /// What is spoken there: how connections log in.
    #[arg(long, value_enum, default_value = "raw")]
    pub(crate) dialect: Dialect,

    /// Who connections say they are.
    #[command(flatten)]
    pub(crate) login: LoginArgs,

    /// Where the process of --server-pid, a tidegate, writes its statistics when it gets SIGUSR1.
    ///
    /// In the end it has to count so many connections and logins as there are identities; takes --login.
    #[arg(long, value_name = "FILE", requires_all = ["login", "server_pid"])]
    pub(crate) server_stats: Option<PathBuf>,
}

/// How connections vanish.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum VanishArg {
    /// The stream is reset, as when a network falls away.
    Rst,
    /// The stream ends without a Close, as when a program is killed.
    Fin,
    /// By the closing handshake.
    Close,
    /// The sending side of the stream ends; the server has to do the rest.
    Half,
    /// Not at all: each comes back, and the one that was there is still open.
    Stay,
}

/// Arguments of `slow-handshake`.
#[derive(Debug, Args)]
pub(crate) struct SlowHandshakeArgs {
    /// What every command takes.
    #[command(flatten)]
    pub(crate) common: Common,

    /// The time from one drip of a client to its next.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = some_time)]
    pub(crate) drip: Duration,

    /// Bytes of a drip.
    #[arg(long, value_name = "BYTES", default_value = "1", value_parser = chunk)]
    pub(crate) chunk: usize,

    /// How long.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = some_time)]
    pub(crate) duration: Duration,

    /// Ordinary connections per second beside the dripping ones.
    #[arg(long, value_name = "N", default_value = "50", value_parser = pace)]
    pub(crate) probe_rate: u64,
}

/// Parts of a million.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ppm(pub(crate) u32);

impl Ppm {
    /// The share of `all`, rounded down.
    pub(crate) fn of(self, all: u32) -> u32 {
        (u64::from(all) * u64::from(self.0) / 1_000_000) as u32
    }
}

/// `10%`, `0.5%`.
fn percent(text: &str) -> Result<Ppm, String> {
    let number = text.strip_suffix('%').ok_or("is not a share like 10%")?;
    match number.trim().parse::<f64>() {
        Ok(percent) if (0.0..=100.0).contains(&percent) => {
            Ok(Ppm((percent * 10_000.0).round() as u32))
        }
        Ok(_) => Err("must be from 0% to 100%".to_owned()),
        Err(_) => Err("is not a share like 10%".to_owned()),
    }
}

fn pace(text: &str) -> Result<u64, String> {
    match count(text) {
        Ok(number) if number <= 1_000_000 => Ok(number.into()),
        Ok(_) => Err("must be at most 1,000,000".to_owned()),
        Err(error) => Err(error),
    }
}

fn storms(text: &str) -> Result<u32, String> {
    count(text).and_then(|number| match number {
        ..=100 => Ok(number),
        _ => Err("must be at most 100".to_owned()),
    })
}

fn chunk(text: &str) -> Result<usize, String> {
    size(text).and_then(|bytes| match bytes {
        1..=65_536 => Ok(bytes),
        _ => Err("must be from 1 to 64KiB".to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_percent() {
        assert_eq!(percent("10%"), Ok(Ppm(100_000)));
        assert_eq!(percent("0.01 %"), Ok(Ppm(100)));
        assert_eq!(percent("100%").map(|share| share.of(12_345)), Ok(12_345));
        assert_eq!(Ppm(333_333).of(10), 3);
        for bad in ["10", "%", "101%", "-1%", "NaN%", "x%"] {
            assert!(percent(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn bounds_hold() {
        assert_eq!(pace("1_000"), Ok(1_000));
        assert!(pace("0").is_err() && pace("1000001").is_err());
        assert!(chunk("0").is_err() && chunk("65KiB").is_err() && chunk("64KiB").is_ok());
        assert!(storms("0").is_err() && storms("101").is_err() && storms("100").is_ok());
    }
}
