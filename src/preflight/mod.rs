//! `tidegate check`: which limit of this machine is in the way, and the command that lifts it.
//!
//! Invariants:
//! - nothing is changed: facts are read, and the two probes happen on threads that end at once;
//! - what is judged is told apart from what is read: `checks` sees only [`Facts`] and the wanted
//!   configuration, so that a test can be any machine.

mod checks;
mod facts;
mod memory;
mod probe;
mod report;

use std::io::{self, Write};
use std::process::ExitCode;

use serde::Serialize;

pub use checks::check;
pub use facts::Facts;
pub use probe::{probe_close_range, probe_unshare};
pub use report::{write_json, write_text};

use crate::config::{CheckArgs, Cli, Config, Machine, OutputFormat, Problem, Sysfs, planned};

/// How a limit stands to what is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It suffices.
    Ok,
    /// It can be run with, but some load or moment meets the limit.
    Warn,
    /// It is in the way: the wanted connections cannot be held.
    Fail,
}

/// One limit, compared with what is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Finding {
    /// The limit's name, as `sysctl` or `ulimit` call it where they do.
    pub name: &'static str,
    /// Whether it suffices.
    pub status: Status,
    /// What the machine has.
    pub have: String,
    /// What is needed.
    pub want: String,
    /// What it bounds, and what happens there.
    pub why: String,
    /// The exact command that lifts it, where it should be and can be.
    pub fix: Option<String>,
}

/// Runs `tidegate check`: reads the machine, writes the findings to standard output, and says 0 if
/// nothing is in the way, 1 if something is, 2 if the flags are wrong.
pub fn run(cli: &Cli, args: &CheckArgs) -> ExitCode {
    let sysfs = Sysfs::system();
    match Machine::read_from(&sysfs).and_then(|machine| Ok((machine, Facts::read(&sysfs)?))) {
        Ok((machine, facts)) => run_with(cli, args.format, &machine, &facts, &mut io::stdout()),
        Err(error) => {
            let _ = writeln!(
                io::stderr(),
                "tidegate check: cannot read this process's limits: {error}"
            );
            ExitCode::FAILURE
        }
    }
}

/// [`run`] for a machine of one's own, writing to `out`. Mistakes in the flags go to standard
/// error.
pub fn run_with(
    cli: &Cli,
    format: OutputFormat,
    machine: &Machine,
    facts: &Facts,
    out: &mut dyn Write,
) -> ExitCode {
    let config = match planned(cli, machine) {
        Ok(config) => config,
        Err(problems) => return refuse(&problems),
    };
    let findings = check(&config, facts);
    // A closed pipe is no reason for another exit code: the verdict stands.
    let _ = write_findings(format, &config, &findings, out);
    ExitCode::from(u8::from(in_the_way(&findings)))
}

/// Whether any limit is in the way.
#[must_use]
pub fn in_the_way(findings: &[Finding]) -> bool {
    findings.iter().any(|finding| finding.status == Status::Fail)
}

fn write_findings(
    format: OutputFormat,
    config: &Config,
    findings: &[Finding],
    out: &mut dyn Write,
) -> io::Result<()> {
    match format {
        OutputFormat::Text => write_text(config, findings, out),
        OutputFormat::Json => write_json(config, findings, out),
    }
}

fn refuse(problems: &[Problem]) -> ExitCode {
    for problem in problems {
        let _ = writeln!(io::stderr(), "tidegate check: {problem}");
    }
    ExitCode::from(2)
}
