//! Findings as an aligned table, or as JSON.

use std::io::{self, Write};

use serde::Serialize;

use super::{Finding, Status, in_the_way};
use crate::config::{Config, FdTable};

/// Writes the table: a line per limit, and below those that are not well why they matter and what
/// lifts them.
///
/// # Errors
/// Those of `out`.
pub fn write_text(config: &Config, findings: &[Finding], out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{}\n", headline(config))?;
    let width = |text: fn(&Finding) -> &str, title: &str| {
        let longest = findings.iter().map(|finding| text(finding).chars().count()).max();
        longest.unwrap_or(0).max(title.len())
    };
    let name = width(|finding| finding.name, "limit");
    let have = width(|finding| &finding.have, "have");
    writeln!(out, "      {:name$}  {:have$}  want", "limit", "have")?;
    for finding in findings {
        let status = word(finding.status);
        writeln!(
            out,
            "{status:4}  {:name$}  {:have$}  {}",
            finding.name, finding.have, finding.want
        )?;
        if finding.status != Status::Ok {
            writeln!(out, "      why: {}", finding.why)?;
        }
        if let Some(fix) = &finding.fix {
            writeln!(out, "      fix: {fix}")?;
        }
    }
    writeln!(out, "\n{}", verdict(findings))
}

/// Writes one JSON object on one line.
///
/// # Errors
/// Those of `out`.
pub fn write_json(config: &Config, findings: &[Finding], out: &mut dyn Write) -> io::Result<()> {
    let report = Report {
        connections: config.max_connections,
        loops: config.loops,
        workers: config.workers,
        private_tables: config.fd_table == FdTable::Private,
        in_the_way: in_the_way(findings),
        findings,
    };
    serde_json::to_writer(&mut *out, &report)?;
    writeln!(out)
}

#[derive(Serialize)]
struct Report<'a> {
    connections: usize,
    loops: usize,
    workers: usize,
    private_tables: bool,
    in_the_way: bool,
    findings: &'a [Finding],
}

fn headline(config: &Config) -> String {
    let tables = match config.fd_table {
        FdTable::Shared => "one shared descriptor table",
        FdTable::Private => "a descriptor table each",
    };
    format!(
        "{} connections on {} loops with {tables}, {} workers",
        config.max_connections, config.loops, config.workers
    )
}

fn word(status: Status) -> &'static str {
    match status {
        Status::Ok => "ok",
        Status::Warn => "warn",
        Status::Fail => "FAIL",
    }
}

fn verdict(findings: &[Finding]) -> String {
    let count = |status| findings.iter().filter(|finding| finding.status == status).count();
    match (count(Status::Fail), count(Status::Warn)) {
        (0, 0) => "nothing is in the way".to_owned(),
        (0, warnings) => format!("nothing is in the way; {warnings} to look at"),
        (failures, warnings) => format!("{failures} in the way; {warnings} more to look at"),
    }
}
