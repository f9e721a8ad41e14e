//! From arguments to a run to a verdict.

mod conns;
mod rooms;

use std::{
    io::{self, Write as _},
    sync::Arc,
    time::Duration,
};

use crate::{
    cli::{
        Cli, Command, Common, CompareArgs, ConnectArgs, EchoArgs,
        dialect::{LoginArgs, Spoken},
    },
    clock::nanos,
    connect::{Connect, Joining},
    dialect::Dialect,
    echo::{Echo, Pace},
    fdtable::raise_limit,
    lanes::Lanes,
    link::Driver,
    plan::{Limits, Plan, Wanted},
    preflight::{self, Facts, Needs},
    question::Questions,
    report::{Report, compare::Comparison, connect::Verified, echo::Echoed, outputs::Outputs},
    rooms::Gate,
    run::run,
    sampler::process::Processes,
    shared::Setup,
};

/// The read buffer of a connection, at least: pongs and small messages.
const MIN_READ_BUFFER: usize = 128;
/// The same, at most: larger messages grow it while they arrive.
const MAX_READ_BUFFER: usize = 16 * 1024;
/// What an envelope may add to the data, roughly, before a read buffer grows.
const ENVELOPE: usize = 256;
/// Ephemeral ports of Linux where `/proc` does not say.
const DEFAULT_PORTS: u32 = 28_232;

/// Does what the arguments say. Returns whether all was well, or why it could not be done.
pub(crate) fn execute(cli: &Cli) -> Result<bool, String> {
    match &cli.command {
        Command::Connect(args) => connect(args),
        Command::Echo(args) => echo(args),
        Command::Broadcast(args) => rooms::broadcast(args),
        Command::Stall(args) => rooms::stall(args),
        Command::Scale(args) => rooms::scale(args),
        Command::Churn(args) => conns::churn(args),
        Command::Storm(args) => conns::storm(args),
        Command::SlowHandshake(args) => conns::slow_handshake(args),
        Command::Compare(args) => compare(args),
    }
}

fn connect(args: &ConnectArgs) -> Result<bool, String> {
    let pace = Times { connect_rate: args.rate, duration: args.hold };
    let to_join = rooms::to_join(args)?;
    let lanes = one_lane(&args.common, args.dialect, &args.login)?.with_pings()?;
    let (setup, outputs) = prepare(&args.common, lanes, &pace, MIN_READ_BUFFER)?;
    let seed = args.common.seed;
    let work = Verified::new(to_join.as_ref().map(|(_, places)| *places));
    let report = Report::new(Box::new(work), &setup, seed);
    let (after, hold) = (nanos(args.join_after), nanos(args.hold));
    let joined = Gate::new(setup.plan.threads);
    let plan = to_join.map(|(words, places)| Joining { words, places, after, hold, joined });
    let plan = plan.map(Arc::new);
    carry_out(report, setup, outputs, move |_| Connect::new(seed, plan.clone()))
}

fn echo(args: &EchoArgs) -> Result<bool, String> {
    let pace = match args.rate {
        Some(rate) => Pace::Open(rate),
        None => Pace::Closed(args.pipeline),
    };
    let times = Times { connect_rate: args.connect_rate, duration: args.duration };
    let EchoArgs { dialect, size, .. } = *args;
    let words = args.words;
    let text = args.text || words || dialect.is_json();
    let envelope = if dialect == Dialect::Raw { 16 } else { ENVELOPE };
    let read_buffer = (size + envelope).clamp(MIN_READ_BUFFER, MAX_READ_BUFFER);
    let lanes = one_lane(&args.common, dialect, &args.login)?;
    let (setup, outputs) = prepare(&args.common, lanes, &times, read_buffer)?;
    let work = Echoed::new(pace, size, text);
    let report = Report::new(Box::new(work), &setup, args.common.seed);
    let (seed, threads) = (args.common.seed, setup.plan.threads);
    let driver = move |thread| {
        let questions = Questions::new(dialect, seed, size, text);
        let questions = if words { questions.of_words() } else { questions };
        Echo::new(questions, pace, thread, threads)
    };
    carry_out(report, setup, outputs, driver)
}

fn compare(args: &CompareArgs) -> Result<bool, String> {
    let comparison = Comparison::read(&args.before, &args.after)?;
    comparison.warnings().for_each(|warning| eprintln!("loadtest: warning: {warning}"));
    let text = if args.json { comparison.to_json() } else { comparison.to_string() };
    write!(io::stdout().lock(), "{text}")
        .map_err(|error| format!("cannot write the comparison: {error}"))?;
    Ok(true)
}

/// The one way of a command whose connections are all alike.
fn one_lane(common: &Common, dialect: Dialect, login: &LoginArgs) -> Result<Lanes, String> {
    let spoken = [Spoken::at_url(dialect)];
    Lanes::new(common, &spoken, 1, login.resolve(&spoken)?)
}

struct Times {
    connect_rate: u64,
    duration: Duration,
}

/// Finds out before anything starts whether the run is possible, the files of results included.
fn prepare(
    common: &Common,
    lanes: Lanes,
    times: &Times,
    read_buffer: usize,
) -> Result<(Setup, Outputs), String> {
    Processes::find(&common.report.server_pid)?;
    let plan = lay_out(common, &lanes, read_buffer)?;
    let outputs = Outputs::create(&common.report)?;
    let setup = Setup {
        lanes,
        plan,
        connections: common.connections,
        connect_rate: times.connect_rate,
        max_connecting: common.max_connecting,
        timeout: common.timeout,
        duration: times.duration,
        read_buffer,
        sample_interval: common.report.sample_interval,
        server_pids: common.report.server_pid.clone(),
    };
    Ok((setup, outputs))
}

/// Plans the run and compares the plan with the limits of this host.
fn lay_out(common: &Common, lanes: &Lanes, read_buffer: usize) -> Result<Plan, String> {
    let destination = lanes.first().target.address.ip();
    let descriptors =
        raise_limit().map_err(|error| format!("cannot raise the limit of open files: {error}"))?;
    let facts = Facts::read(descriptors);
    let ports = facts.ports.map_or(DEFAULT_PORTS, |ports| u32::try_from(ports).unwrap_or(u32::MAX));
    let wanted = Wanted {
        connections: common.connections,
        threads: common.threads,
        sources: common.source_ips.clone(),
        destination,
    };
    let plan = Plan::new(&wanted, Limits { descriptors, ports })?;
    let needs = Needs {
        connections: common.connections,
        plan: &plan,
        threads_chosen: common.threads.is_some(),
        max_connecting: common.max_connecting,
        read_buffer,
        tls: lanes.has_tls(),
        destination,
    };
    let findings = preflight::check(&needs, &facts);
    for warning in preflight::verdict(findings, common.no_preflight)? {
        eprintln!("loadtest: warning: {warning}");
    }
    Ok(plan)
}

/// Runs a command to its end: one driver for each thread, made by `driver`. Returns whether all was
/// well.
fn carry_out<D, F>(
    mut report: Report,
    setup: Setup,
    outputs: Outputs,
    driver: F,
) -> Result<bool, String>
where
    D: Driver,
    F: Fn(u32) -> D + Send + Clone + 'static,
{
    outputs.check(&report)?;
    let outcome = run(setup, report.watched(), driver)?;
    report.fill(&outcome);
    outputs.judge(&mut report)?;
    // Before the text, whose reader may be gone.
    let written = outputs.write(&report);
    write!(io::stdout().lock(), "{report}")
        .map_err(|error| format!("cannot write the summary: {error}"))?;
    written?;
    Ok(report.ok)
}
