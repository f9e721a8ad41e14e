//! Raw flags and the machine's facts → a configuration to run by, or all that is wrong with it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use log::LevelFilter;

use super::capacity::{Layout, loops_needed};
use super::validate::is_capacity_flag;
use super::{
    Capacity, Cli, Config, FdTable, Machine, Origin, OutputFormat, Problem, parse_bytes,
    parse_count, parse_duration,
};
use crate::limits;

/// Everything a run needs, checked.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Resolved {
    /// What the gateway runs by.
    pub config: Config,
    /// How many connections it can hold, and why not more.
    pub capacity: Capacity,
    /// What and how to log.
    pub log: LogSettings,
    /// What can be run by but is probably not meant, one sentence each.
    pub warnings: Vec<String>,
}

/// What `-v`, `-q` and `--log-format` ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// Messages above this are left out.
    pub level: LevelFilter,
    /// Lines for people, or one JSON object each.
    pub format: OutputFormat,
}

/// Reads and checks everything, against the machine too.
///
/// # Errors
/// Every mistake there is, each with its flag, its value and a fix.
pub fn resolve(cli: &Cli, machine: &Machine) -> Result<Resolved, Vec<Problem>> {
    let mut draft = Draft::of(cli, machine);
    let capacity = if draft.has_capacity_problem() {
        None
    } else {
        let capacity = draft.config.capacity(machine);
        capacity.map_err(|problem| draft.report(problem)).ok()
    };
    match (capacity, draft.problems.is_empty()) {
        (Some(capacity), true) => {
            let warnings = draft.config.warnings(machine);
            Ok(Resolved { config: draft.config, capacity, log: draft.log, warnings })
        }
        _ => Err(draft.problems),
    }
}

/// Reads the flags and lays out loops and tables as [`resolve`] does, without asking whether the
/// machine's descriptors suffice: what `tidegate check` compares the machine with.
///
/// # Errors
/// Every mistake in the flags themselves.
pub fn planned(cli: &Cli, machine: &Machine) -> Result<Config, Vec<Problem>> {
    let draft = Draft::of(cli, machine);
    if draft.problems.is_empty() { Ok(draft.config) } else { Err(draft.problems) }
}

/// A configuration in the making.
struct Draft<'a> {
    cli: &'a Cli,
    config: Config,
    log: LogSettings,
    problems: Vec<Problem>,
}

impl<'a> Draft<'a> {
    fn of(cli: &'a Cli, machine: &Machine) -> Self {
        let log = LogSettings { level: LevelFilter::Info, format: OutputFormat::Text };
        let mut draft = Self { cli, config: Config::default(), log, problems: Vec::new() };
        draft.read_limits();
        draft.read_timeouts();
        draft.read_output();
        draft.read_capacity(machine);
        draft
    }

    fn read_limits(&mut self) {
        let flags = &self.cli.flags;
        let mut config = self.config.clone();
        self.read_bytes("--max-header", &flags.max_header, &mut config.max_header_bytes);
        self.read_bytes("--max-message", &flags.max_message, &mut config.max_message_bytes);
        self.read_bytes("--max-frame", &flags.max_frame, &mut config.max_frame_bytes);
        self.read_bytes(
            "--outbound-limit",
            &flags.outbound_limit,
            &mut config.outbound_limit_bytes,
        );
        self.read_count("--max-fragments", &flags.max_fragments, &mut config.max_fragments);
        self.read_count("--backlog", &flags.backlog, &mut config.backlog);
        self.read("--tcp-nodelay", &flags.tcp_nodelay, &mut config.tcp_nodelay, parse_bool);
        self.config = config;
    }

    fn read_timeouts(&mut self) {
        let flags = &self.cli.flags;
        let mut config = self.config.clone();
        for (flag, raw, time) in [
            ("--handshake-timeout", &flags.handshake_timeout, &mut config.handshake_timeout),
            ("--pong-timeout", &flags.pong_timeout, &mut config.pong_timeout),
            ("--write-timeout", &flags.write_timeout, &mut config.write_timeout),
            ("--close-timeout", &flags.close_timeout, &mut config.close_timeout),
            ("--drain-timeout", &flags.drain_timeout, &mut config.drain_timeout),
            ("--histogram-interval", &flags.histogram_interval, &mut config.histogram_interval),
        ] {
            self.read(flag, raw, time, parse_duration);
        }
        for (flag, raw, time) in [
            ("--idle-timeout", &flags.idle_timeout, &mut config.idle_timeout),
            ("--message-timeout", &flags.message_timeout, &mut config.message_timeout),
            ("--ping-interval", &flags.ping_interval, &mut config.ping_interval),
        ] {
            self.read(flag, raw, time, parse_optional_duration);
        }
        self.config = config;
    }

    fn read_output(&mut self) {
        let flags = &self.cli.flags;
        let mut config = self.config.clone();
        self.read("--stats-out", &flags.stats_out, &mut config.stats_out, parse_file);
        self.read("--histogram-out", &flags.histogram_out, &mut config.histogram_out, parse_file);
        self.config = config;
        let mut log = self.log;
        self.read("--log-format", &flags.log_format, &mut log.format, parse_log_format);
        log.level = match (flags.quiet, flags.verbose) {
            (false, 0) => LevelFilter::Info,
            (false, 1) => LevelFilter::Debug,
            (false, _) => LevelFilter::Trace,
            (true, _) => LevelFilter::Warn,
        };
        self.log = log;
        if flags.quiet && flags.verbose > 0 {
            let what = "--quiet and --verbose ask for opposite things";
            let problem = Problem::new("--verbose", flags.verbose, what, "give one of them");
            self.report(problem);
        }
    }

    /// Reads what depends on the machine, and lays out loops and tables once all of it is sound.
    fn read_capacity(&mut self, machine: &Machine) {
        let flags = &self.cli.flags;
        let (mut loops, mut wanted, mut fd_table) = (None, None, None);
        let mut config = self.config.clone();
        self.read_listen(&mut config.listen);
        self.read("--loops", &flags.loops, &mut loops, parse_some_count);
        self.read("--max-connections", &flags.max_connections, &mut wanted, parse_some_count);
        self.read("--fd-table", &flags.fd_table, &mut fd_table, parse_fd_table);
        config.workers = machine.cores.min(limits::WORKERS_MAX);
        self.read_count("--workers", &flags.workers, &mut config.workers);
        config.memory_limit_bytes = default_memory_limit(machine, config.memory_limit_bytes);
        let memory = &mut config.memory_limit_bytes;
        self.read("--memory-limit", &flags.memory_limit, memory, parse_bytes);
        config.loops = loops.unwrap_or(machine.cores.min(limits::LOOPS_MAX));
        config.max_connections = wanted.unwrap_or(config.max_connections);
        self.config = config;
        self.check_ranges();
        if !self.has_capacity_problem() {
            lay_out(&mut self.config, &Demand { loops, wanted, fd_table }, machine);
        }
    }

    fn check_ranges(&mut self) {
        for problem in self.config.range_problems() {
            self.report(problem);
        }
    }

    fn read_listen(&mut self, listen: &mut Vec<SocketAddr>) {
        let given = self.cli.flags.listen.iter().map(|text| text.trim());
        let given: Vec<&str> = given.filter(|text| !text.is_empty()).collect();
        if given.is_empty() {
            return;
        }
        let mut addresses = Vec::new();
        for text in given {
            match text.parse() {
                Ok(address) => addresses.push(address),
                Err(_) => self.misread(
                    "--listen",
                    text,
                    "an IP address and a port, such as 0.0.0.0:8080 or [::]:8080",
                ),
            }
        }
        // Without one that can be read, that there is none is not a second mistake.
        if !addresses.is_empty() {
            *listen = addresses;
        }
    }

    fn read_bytes(&mut self, flag: &'static str, raw: &Option<String>, target: &mut usize) {
        self.read(flag, raw, target, |text| {
            usize::try_from(parse_bytes(text)?).map_err(|_| "a size that fits memory".to_owned())
        });
    }

    fn read_count<T>(&mut self, flag: &'static str, raw: &Option<String>, target: &mut T)
    where
        T: TryFrom<u64>,
    {
        self.read(flag, raw, target, fitting_count);
    }

    /// Reads one flag, if it was given, into `target`.
    fn read<T>(
        &mut self,
        flag: &'static str,
        raw: &Option<String>,
        target: &mut T,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) {
        // A variable set to nothing is how many tools leave one out.
        let unset = |text: &str| text.is_empty() && self.cli.origin(flag) == Origin::Environment;
        let Some(text) = raw.as_deref().map(str::trim).filter(|text| !unset(text)) else {
            return;
        };
        match parse(text) {
            Ok(value) => *target = value,
            Err(expected) => self.misread(flag, text, &expected),
        }
    }

    fn misread(&mut self, flag: &'static str, text: &str, expected: &str) {
        let value = format!("{text:?}");
        let fix = format!("expected {expected}");
        self.report(Problem::new(flag, value, "cannot be read", fix));
    }

    fn report(&mut self, mut problem: Problem) {
        problem.origin = self.cli.origin(problem.flag);
        self.problems.push(problem);
    }

    fn has_capacity_problem(&self) -> bool {
        self.problems.iter().any(|problem| is_capacity_flag(problem.flag))
    }
}

/// What was asked for in particular; `None` leaves the choice to [`lay_out`].
struct Demand {
    loops: Option<usize>,
    wanted: Option<usize>,
    fd_table: Option<FdTable>,
}

/// Chooses tables, loops and the count of connections where nobody named them. Whether it all
/// fits is asked afterwards.
fn lay_out(config: &mut Config, demand: &Demand, machine: &Machine) {
    let limit = machine.descriptor_limit;
    let addresses = config.addresses();
    let layout = |loops, fd_table| Layout { loops, addresses, fd_table, descriptor_limit: limit };
    let fits = |wanted| wanted <= layout(config.loops, FdTable::Shared).connections();
    config.fd_table = demand.fd_table.unwrap_or(match demand.wanted {
        Some(wanted) if !fits(wanted) => FdTable::Private,
        _ => FdTable::Shared,
    });
    if let (FdTable::Private, None, Some(wanted)) = (config.fd_table, demand.loops, demand.wanted) {
        config.loops = config.loops.max(loops_needed(wanted, limit, addresses).unwrap_or(1));
    }
    let default = layout(config.loops, config.fd_table).default_connections(machine);
    config.max_connections = demand.wanted.unwrap_or(default);
}

/// Half of what the process may use, rounded down to whole MiB; `unknown` if that is not known.
fn default_memory_limit(machine: &Machine, unknown: u64) -> u64 {
    let half = machine.memory_bytes().map_or(unknown, |memory| (memory / 2) >> 20 << 20);
    half.clamp(*limits::MEMORY_BYTES.start(), *limits::MEMORY_BYTES.end())
}

fn fitting_count<T: TryFrom<u64>>(text: &str) -> Result<T, String> {
    let count = parse_count(text)?;
    T::try_from(count).map_err(|_| "a smaller number".to_owned())
}

fn parse_some_count(text: &str) -> Result<Option<usize>, String> {
    fitting_count(text).map(Some)
}

fn parse_optional_duration(text: &str) -> Result<Option<Duration>, String> {
    if text.eq_ignore_ascii_case("off") {
        return Ok(None);
    }
    let time = parse_duration(text).map_err(|expected| format!("{expected}; 0 or off is never"))?;
    Ok((!time.is_zero()).then_some(time))
}

fn parse_bool(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Ok(true),
        "false" | "no" | "off" | "0" => Ok(false),
        _ => Err("true or false".to_owned()),
    }
}

fn parse_fd_table(text: &str) -> Result<Option<FdTable>, String> {
    match text.to_ascii_lowercase().as_str() {
        "auto" => Ok(None),
        "shared" => Ok(Some(FdTable::Shared)),
        "private" => Ok(Some(FdTable::Private)),
        _ => Err("auto, shared or private".to_owned()),
    }
}

fn parse_log_format(text: &str) -> Result<OutputFormat, String> {
    match text.to_ascii_lowercase().as_str() {
        "text" => Ok(OutputFormat::Text),
        "json" => Ok(OutputFormat::Json),
        _ => Err("text or json".to_owned()),
    }
}

/// A file to write: it need not be there, but its directory must, or the first statistics would be
/// lost when they are asked for.
fn parse_file(text: &str) -> Result<Option<PathBuf>, String> {
    let file = PathBuf::from(text);
    let directory = file.parent().filter(|parent| *parent != Path::new(""));
    match directory {
        Some(directory) if !directory.is_dir() => {
            Err("a file in a directory that exists".to_owned())
        }
        _ if text.is_empty() => Err("the name of a file".to_owned()),
        _ => Ok(Some(file)),
    }
}
