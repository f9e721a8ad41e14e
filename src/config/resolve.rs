//! File, environment, command line and the machine's facts → a configuration to run by, or all
//! that is wrong with it.

use std::cmp::Ordering;
use std::fs;

use log::LevelFilter;

use super::capacity::{Layout, loops_needed};
use super::file::File;
use super::given::{Given, GivenValue, Source, Sources};
use super::parse::{
    fitting_count, parse_address, parse_bool, parse_client_auth, parse_deflate_mode,
    parse_fd_table, parse_file, parse_log_format, parse_optional_bytes, parse_optional_duration,
    parse_over, parse_some_count, parse_tcp_listen, split_endpoint,
};
use super::validate::is_capacity_flag;
use super::{
    Capacity, Cli, Config, FdTable, ListenAddr, Machine, Origin, OutputFormat, Problem,
    parse_bytes, parse_duration,
};
use crate::limits;
use crate::transport::tls::{CertificateFiles, ClientAuth};

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
    /// Where each value came from.
    pub sources: Sources,
}

/// What `-v`, `-q` and `--log-format` ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// Messages above this are left out.
    pub level: LevelFilter,
    /// Lines for people, or one JSON object each.
    pub format: OutputFormat,
}

fn builtin_handlers() -> Vec<&'static str> {
    crate::routing::handler_names().collect()
}

/// Reads and checks everything, against the machine too. Routes of a file name built-in handlers.
///
/// # Errors
/// Every mistake there is, each with its flag or its place, its value and a fix.
pub fn resolve(cli: &Cli, machine: &Machine) -> Result<Resolved, Vec<Problem>> {
    resolve_with(cli, machine, &builtin_handlers())
}

/// As [`resolve`], with the names of the handlers that routes of a file may have.
///
/// # Errors
/// Every mistake there is, each with its flag or its place, its value and a fix.
pub fn resolve_with(
    cli: &Cli,
    machine: &Machine,
    known_handlers: &[&str],
) -> Result<Resolved, Vec<Problem>> {
    let mut draft = Draft::of(cli, machine, known_handlers);
    let capacity = if draft.has_capacity_problem() {
        None
    } else {
        let capacity = draft.config.capacity(machine);
        capacity.map_err(|problem| draft.report(problem)).ok()
    };
    match (capacity, draft.problems.is_empty()) {
        (Some(capacity), true) => {
            let warnings = draft.config.warnings(machine);
            let Draft { config, log, sources, .. } = draft;
            Ok(Resolved { config, capacity, log, warnings, sources })
        }
        _ => Err(draft.into_problems()),
    }
}

/// Reads the flags and lays out loops and tables as [`resolve`] does, without asking whether the
/// machine's descriptors suffice: what `tidegate check` compares the machine with.
///
/// # Errors
/// Every mistake in flags, environment and file.
pub fn planned(cli: &Cli, machine: &Machine) -> Result<Config, Vec<Problem>> {
    let draft = Draft::of(cli, machine, &builtin_handlers());
    if draft.problems.is_empty() { Ok(draft.config) } else { Err(draft.into_problems()) }
}

/// A configuration in the making.
pub(super) struct Draft<'a> {
    cli: &'a Cli,
    pub(super) file: File,
    config: Config,
    log: LogSettings,
    problems: Vec<Problem>,
    pub(super) sources: Sources,
}

impl<'a> Draft<'a> {
    fn of(cli: &'a Cli, machine: &Machine, known_handlers: &[&str]) -> Self {
        let log = LogSettings { level: LevelFilter::Info, format: OutputFormat::Text };
        let mut draft = Self {
            cli,
            file: File::default(),
            config: Config::default(),
            log,
            problems: Vec::new(),
            sources: Sources::default(),
        };
        draft.read_file(known_handlers);
        draft.read_limits();
        draft.read_deflate();
        draft.read_timeouts();
        draft.read_output();
        draft.read_capacity(machine);
        draft.check_endpoints();
        draft
    }

    fn read_file(&mut self, known_handlers: &[&str]) {
        let Some(&name) = self.cli.values("--config").first() else { return };
        match fs::read_to_string(name) {
            Ok(text) => self.file = File::parse(name, &text, known_handlers),
            Err(e) => {
                let fix = "give the name of a TOML file";
                let what = format!("cannot be read: {e}");
                self.report(Problem::new("--config", format!("{name:?}"), what, fix));
            }
        }
        self.problems.append(&mut self.file.problems);
        self.config.endpoints = std::mem::take(&mut self.file.endpoints);
        self.config.rooms = std::mem::take(&mut self.file.rooms);
        self.sources.note_fields(std::mem::take(&mut self.file.places));
    }

    fn read_limits(&mut self) {
        let mut config = self.config.clone();
        self.read_bytes("--max-header", &mut config.max_header_bytes);
        self.read_bytes("--max-message", &mut config.max_message_bytes);
        self.read_bytes("--max-frame", &mut config.max_frame_bytes);
        self.read_bytes("--outbound-limit", &mut config.outbound_limit_bytes);
        self.read("--max-fragments", &mut config.max_fragments, fitting_count);
        self.read("--backlog", &mut config.backlog, fitting_count);
        let bandwidth = &mut config.bandwidth_bytes_per_s;
        self.read("--bandwidth-bytes-per-s", bandwidth, parse_optional_bytes);
        let percent = &mut config.bandwidth_reserve_percent;
        self.read("--bandwidth-reserve-percent", percent, fitting_count);
        self.read("--bandwidth-over-limit", &mut config.bandwidth_over_limit, parse_over);
        self.read("--tcp-nodelay", &mut config.tcp_nodelay, parse_bool);
        self.read_sockets(&mut config);
        self.config = config;
    }

    fn read_deflate(&mut self) {
        let mut deflate = self.config.deflate;
        self.read("--deflate", &mut deflate.mode, parse_deflate_mode);
        self.read("--deflate-level", &mut deflate.level, fitting_count);
        self.read_bytes("--deflate-threshold", &mut deflate.threshold_bytes);
        let (server, client) = (&mut deflate.server_window_bits, &mut deflate.client_window_bits);
        self.read("--deflate-server-window-bits", server, fitting_count);
        self.read("--deflate-client-window-bits", client, fitting_count);
        self.config.deflate = deflate;
    }

    fn read_timeouts(&mut self) {
        let mut config = self.config.clone();
        for (flag, time) in [
            ("--handshake-timeout", &mut config.handshake_timeout),
            ("--pong-timeout", &mut config.pong_timeout),
            ("--write-timeout", &mut config.write_timeout),
            ("--close-timeout", &mut config.close_timeout),
            ("--drain-timeout", &mut config.drain_timeout),
            ("--histogram-interval", &mut config.histogram_interval),
        ] {
            self.read(flag, time, parse_duration);
        }
        for (flag, time) in [
            ("--idle-timeout", &mut config.idle_timeout),
            ("--message-timeout", &mut config.message_timeout),
            ("--ping-interval", &mut config.ping_interval),
        ] {
            self.read(flag, time, parse_optional_duration);
        }
        self.config = config;
    }

    fn read_output(&mut self) {
        let mut config = self.config.clone();
        self.read("--stats-out", &mut config.stats_out, parse_file);
        self.read("--histogram-out", &mut config.histogram_out, parse_file);
        self.config = config;
        let mut log = self.log;
        self.read("--log-format", &mut log.format, parse_log_format);
        log.level = self.read_level();
        self.log = log;
    }

    /// Of `quiet` and `verbose`, the one that was said more directly.
    fn read_level(&mut self) -> LevelFilter {
        let (mut verbose, mut quiet) = (0_u8, false);
        self.read("--verbose", &mut verbose, fitting_count);
        self.read("--quiet", &mut quiet, parse_bool);
        if quiet && verbose > 0 {
            let rank = |flag| self.strongest(flag).map_or(0, |given| given.origin.rank());
            match rank("--verbose").cmp(&rank("--quiet")) {
                Ordering::Less => {
                    verbose = 0;
                    self.sources.note_same("--verbose", "--quiet");
                }
                Ordering::Greater => {
                    quiet = false;
                    self.sources.note_same("--quiet", "--verbose");
                }
                Ordering::Equal => {
                    let what = "--quiet and --verbose ask for opposite things";
                    self.report(Problem::new("--verbose", verbose, what, "give one of them"));
                }
            }
        }
        match (quiet, verbose) {
            (false, 0) => LevelFilter::Info,
            (false, 1) => LevelFilter::Debug,
            (false, _) => LevelFilter::Trace,
            (true, _) => LevelFilter::Warn,
        }
    }

    /// Reads what depends on the machine, and lays out loops and tables once all of it is sound.
    fn read_capacity(&mut self, machine: &Machine) {
        let (mut loops, mut wanted, mut fd_table) = (None, None, None);
        let mut config = self.config.clone();
        self.read_listen(&mut config);
        self.read_proxy(&mut config);
        self.read("--loops", &mut loops, parse_some_count);
        self.read("--max-connections", &mut wanted, parse_some_count);
        self.read("--fd-table", &mut fd_table, parse_fd_table);
        config.workers = machine.cores.min(limits::WORKERS_MAX);
        self.read("--workers", &mut config.workers, fitting_count);
        self.read("--blocking-threads", &mut config.blocking_threads, fitting_count);
        config.memory_limit_bytes = default_memory_limit(machine, config.memory_limit_bytes);
        self.read("--memory-limit", &mut config.memory_limit_bytes, parse_bytes);
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

    /// What of endpoints must fit the rest of the configuration.
    fn check_endpoints(&mut self) {
        let mut problems = self.config.endpoint_limit_problems();
        // An endpoint that could not be read may be the one that is missed.
        if !self.problems.iter().any(|problem| field_of(problem).starts_with("endpoint")) {
            problems.extend(self.config.tcp_endpoint_problems());
        }
        for (field, problem) in problems {
            if field.is_empty() {
                self.report(problem);
            } else {
                let place = self.sources.place(&field).cloned();
                self.problems.push(problem.placed(place));
            }
        }
    }

    fn read_listen(&mut self, config: &mut Config) {
        // Who lists listeners and has none for WebSockets without TLS wants none; nor does who asks
        // for TLS.
        let file = &self.file.given;
        if file.contains_key("--tcp-listen")
            || !self.layers("--tls-listen").is_empty()
            || !self.layers("--tls-tcp-listen").is_empty()
        {
            config.listen.clear();
        }
        self.read_each("--listen", &mut config.listen, parse_address);
        self.read_each("--tcp-listen", &mut config.tcp_listen, parse_tcp_listen);
        self.read_each("--tls-listen", &mut config.tls_listen, parse_address);
        self.read_each("--tls-tcp-listen", &mut config.tls_tcp_listen, parse_tcp_listen);
        self.read_tls(config);
    }

    fn read_tls(&mut self, config: &mut Config) {
        let (mut certificates, mut keys, mut authorities) = (Vec::new(), Vec::new(), None);
        let mut is_optional = false;
        let file = |text: &str| parse_file(text)?.ok_or_else(|| "the name of a file".to_owned());
        self.read_each("--tls-cert", &mut certificates, file);
        self.read_each("--tls-key", &mut keys, file);
        self.read("--tls-client-ca", &mut authorities, parse_file);
        self.read("--tls-client-auth", &mut is_optional, parse_client_auth);
        if certificates.len() != keys.len() {
            let counts = [("--tls-cert", certificates.len()), ("--tls-key", keys.len())];
            let [(flag, count), (other, others)] =
                if certificates.is_empty() { [counts[1], counts[0]] } else { counts };
            let what = format!("there are {others} of {other}");
            let fix = "give a key for each certificate, in the same order";
            self.report(Problem::new(flag, count, what, fix));
        }
        let pairs = certificates.into_iter().zip(keys);
        config.tls.certificates =
            pairs.map(|(certificate, key)| CertificateFiles { certificate, key }).collect();
        config.tls.client_auth =
            authorities.map(|authorities| ClientAuth { authorities, is_optional });
    }

    fn read_bytes(&mut self, flag: &'static str, target: &mut usize) {
        self.read(flag, target, |text| {
            usize::try_from(parse_bytes(text)?).map_err(|_| "a size that fits memory".to_owned())
        });
    }

    /// Reads one flag into `target`, wherever it was given: what goes before comes last.
    pub(super) fn read<T>(
        &mut self,
        flag: &'static str,
        target: &mut T,
        parse: impl Fn(&str) -> Result<T, String>,
    ) {
        for Given { values, origin } in self.layers(flag) {
            let Some(value) = values.last() else { continue };
            match parse(&value.text) {
                Ok(read) => {
                    *target = read;
                    self.sources.note(flag.to_owned(), Source::of(flag, origin, value));
                }
                Err(expected) => self.misread(flag, origin, value, &expected),
            }
        }
    }

    /// Reads a repeatable flag: its values of one source take the place of those of another.
    pub(super) fn read_each<T>(
        &mut self,
        flag: &'static str,
        target: &mut Vec<T>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) {
        for Given { values, origin } in self.layers(flag) {
            let mut read = Vec::new();
            for value in &values {
                match parse(&value.text) {
                    Ok(address) => {
                        let source = Source::of(flag, origin, value);
                        self.sources.note(format!("{flag}[{}]", read.len()), source);
                        read.push(address);
                    }
                    Err(expected) => self.misread(flag, origin, value, &expected),
                }
            }
            // Without one that can be read, that there is none is not a second mistake.
            if !read.is_empty() {
                *target = read;
            }
        }
    }

    /// What was given for a flag, from the weakest source to the strongest.
    fn layers(&self, flag: &str) -> Vec<Given> {
        let layers = [self.file.given.get(flag), self.cli.layer().get(flag)];
        layers.into_iter().flatten().cloned().collect()
    }

    fn strongest(&self, flag: &str) -> Option<&Given> {
        self.cli.layer().get(flag).or_else(|| self.file.given.get(flag))
    }

    fn misread(&mut self, flag: &'static str, origin: Origin, value: &GivenValue, expected: &str) {
        let text = format!("{:?}", value.text);
        let problem = Problem::new(flag, text, "cannot be read", format!("expected {expected}"));
        let problem = Problem { origin, ..problem };
        self.problems.push(problem.placed(value.place.clone()));
    }

    /// Notes a problem of the value in force.
    fn report(&mut self, mut problem: Problem) {
        if let Some(Given { values, origin }) = self.strongest(problem.flag) {
            let named = |value: &&GivenValue| address_in(&value.text) == problem.value;
            let value = values.iter().rev().find(named).or(values.first());
            let place = value.and_then(|value| value.place.clone());
            problem.origin = *origin;
            problem = problem.placed(place);
        }
        self.problems.push(problem);
    }

    fn has_capacity_problem(&self) -> bool {
        self.problems.iter().any(|problem| {
            let field = field_of(problem);
            let unknown = problem.place.is_some() && field.is_empty();
            let of_capacity = field.starts_with("capacity") || field.starts_with("listener");
            is_capacity_flag(problem.flag) || unknown || of_capacity
        })
    }

    /// Those of the file first, in its order.
    fn into_problems(mut self) -> Vec<Problem> {
        self.problems.sort_by_key(|problem| match &problem.place {
            Some(place) => (false, place.line, place.column),
            None => (true, 0, 0),
        });
        self.problems
    }
}

/// Where in a file a problem is, if it is in one.
fn field_of(problem: &Problem) -> &str {
    problem.place.as_ref().map_or("", |place| &place.field)
}

/// The address in a value of `--listen` or `--tcp-listen`, as it is written out.
fn address_in(text: &str) -> String {
    let (address, _) = split_endpoint(text);
    address.parse::<ListenAddr>().map_or_else(|_| address.to_owned(), |a| a.to_string())
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
