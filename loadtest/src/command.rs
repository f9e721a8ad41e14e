//! From arguments to a run to a verdict.

mod conns;
mod rooms;

use std::{
    fs::{self, File},
    io::{self, Write as _},
    time::Duration,
};

use crate::{
    cli::{Cli, Command, Common, ConnectArgs, EchoArgs},
    connect::Connect,
    echo::{Echo, Pace},
    fdtable::raise_limit,
    payload::Payloads,
    plan::{Limits, Plan, Wanted},
    report::{Report, connect::Verified, echo::Echoed},
    run::{Outcome, run},
    shared::Setup,
    target::Target,
};

/// The read buffer of a connection, at least: pongs and small messages.
const MIN_READ_BUFFER: usize = 128;
/// The same, at most: larger messages grow it while they arrive.
const MAX_READ_BUFFER: usize = 16 * 1024;
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
    }
}

fn connect(args: &ConnectArgs) -> Result<bool, String> {
    let pace = Times { connect_rate: args.rate, duration: args.hold };
    let (setup, json) = prepare(&args.common, &pace, MIN_READ_BUFFER)?;
    let report = Report::new(Box::new(Verified::default()), &setup, args.common.seed);
    let seed = args.common.seed;
    conclude(report, run(setup, move |_| Connect::new(seed))?, json)
}

fn echo(args: &EchoArgs) -> Result<bool, String> {
    let pace = match args.rate {
        Some(rate) => Pace::Open(rate),
        None => Pace::Closed(args.pipeline),
    };
    let times = Times { connect_rate: args.connect_rate, duration: args.duration };
    let read_buffer = (args.size + 16).clamp(MIN_READ_BUFFER, MAX_READ_BUFFER);
    let (setup, json) = prepare(&args.common, &times, read_buffer)?;
    let work = Echoed::new(pace, args.size, args.text);
    let report = Report::new(Box::new(work), &setup, args.common.seed);
    let (seed, size, text) = (args.common.seed, args.size, args.text);
    let threads = setup.plan.threads;
    let driver = move |thread| Echo::new(Payloads::new(seed, size, text), pace, thread, threads);
    conclude(report, run(setup, driver)?, json)
}

struct Times {
    connect_rate: u64,
    duration: Duration,
}

/// Finds out before anything starts whether the run is possible, the JSON file included.
fn prepare(
    common: &Common,
    times: &Times,
    read_buffer: usize,
) -> Result<(Setup, Option<File>), String> {
    let target = Target::resolve(&common.url)?;
    let descriptors =
        raise_limit().map_err(|error| format!("cannot raise the limit of open files: {error}"))?;
    let wanted = Wanted {
        connections: common.connections,
        threads: common.threads,
        sources: common.source_ips.clone(),
        destination: target.address.ip(),
    };
    let plan = Plan::new(&wanted, Limits { descriptors, ports: ephemeral_ports() })?;
    let json = common.json.as_ref().map(|path| {
        File::create(path).map_err(|error| format!("--json {}: {error}", path.display()))
    });
    let setup = Setup {
        target,
        plan,
        connections: common.connections,
        connect_rate: times.connect_rate,
        max_connecting: common.max_connecting,
        timeout: common.timeout,
        duration: times.duration,
        read_buffer,
    };
    Ok((setup, json.transpose()?))
}

fn conclude(mut report: Report, outcome: Outcome, json: Option<File>) -> Result<bool, String> {
    report.fill(&outcome);
    write!(io::stdout().lock(), "{report}")
        .map_err(|error| format!("cannot write the summary: {error}"))?;
    if let Some(file) = json {
        serde_json::to_writer_pretty(&file, &report)
            .map_err(io::Error::from)
            .and_then(|()| writeln!(&file))
            .map_err(|error| format!("--json: {error}"))?;
    }
    Ok(report.ok)
}

/// How many ports of one address the kernel gives out by itself.
fn ephemeral_ports() -> u32 {
    fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .ok()
        .and_then(|text| {
            let mut ends = text.split_whitespace().map(str::parse::<u32>);
            let (low, high) = (ends.next()?.ok()?, ends.next()?.ok()?);
            (high >= low).then(|| high - low + 1)
        })
        .unwrap_or(DEFAULT_PORTS)
}
