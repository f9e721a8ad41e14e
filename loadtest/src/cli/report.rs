//! The arguments about results: where they go, what they are held against, what they are compared
//! with.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use super::some_time;
use crate::report::fail_if::Condition;

/// The shortest time between two samples: threads look up 20 times a second.
const MIN_INTERVAL: Duration = Duration::from_millis(100);

/// What every command takes about its results.
#[derive(Clone, Debug, Args)]
pub(crate) struct ReportArgs {
    /// Also write the results as JSON to this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// Write the main latency as a percentile distribution, in milliseconds, as HdrHistogram's
    /// plotters read it.
    #[arg(long, value_name = "FILE")]
    pub(crate) hgrm: Option<PathBuf>,

    /// Write a report with charts, one page that needs nothing else.
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,

    /// Write each chart as an SVG file into this directory.
    #[arg(long, value_name = "DIR")]
    pub(crate) svg: Option<PathBuf>,

    /// Fail the run, exit code 1, if this holds afterwards; may be given several times.
    ///
    /// METRIC OPERATOR NUMBER, with its unit. Metrics: p50 p90 p99 p99.9 max mean (main latency),
    /// errors, rate, connect_rate, or the path of any number in the JSON report, like
    /// connect.handshake_us.p99 or server.rss_peak. Operators: > >= < <= ==. Units: ns us ms s, KiB
    /// MiB GiB, k M; and % for errors (of connections and messages begun) and for rate and
    /// connect_rate (of what was asked for).
    #[arg(long, value_name = "CONDITION")]
    pub(crate) fail_if: Vec<Condition>,

    /// How often the time series of --json, --html and --svg gets a row, at least 100ms.
    ///
    /// A run of more than 4,000 rows doubles it as often as needed.
    #[arg(long, value_name = "TIME", default_value = "500ms", value_parser = interval)]
    pub(crate) sample_interval: Duration,

    /// Processes of the server, if it runs on this host: watches their memory and CPU time.
    #[arg(long, value_name = "PID,…", value_delimiter = ',')]
    pub(crate) server_pid: Vec<u32>,
}

/// Arguments of `compare`.
#[derive(Clone, Debug, Args)]
pub(crate) struct CompareArgs {
    /// The JSON report of the run to compare with.
    #[arg(value_name = "A.json")]
    pub(crate) before: PathBuf,

    /// The JSON report of the other run.
    #[arg(value_name = "B.json")]
    pub(crate) after: PathBuf,

    /// Print JSON instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
}

fn interval(text: &str) -> Result<Duration, String> {
    some_time(text).and_then(|time| match time < MIN_INTERVAL {
        true => Err("must be at least 100ms".to_owned()),
        false => Ok(time),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_not_too_many() {
        assert_eq!(interval("250ms"), Ok(Duration::from_millis(250)));
        assert!(interval("99ms").is_err() && interval("0").is_err());
    }
}
