//! Arguments → configuration → run → exit code. Exit codes: `docs/OPERATING.md`.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use clap::Parser as _;
use nix::sys::signal::{SigSet, Signal};
use tidegate::app::{DevCert, Running, StartError, Stopped, make_dev_cert};
use tidegate::config::{
    Cli, Command, ConfigFormat, DevCertArgs, Machine, Resolved, document, resolve, show_json,
    show_toml, start_banner,
};
use tidegate::routing::Gateway;
use tidegate::telemetry::report::summary;
use tidegate::{logging, preflight};

/// It could not run, or not go on.
const FAILED: u8 = 1;
/// A flag, a variable or the file has a mistake.
const USAGE: u8 = 2;
/// A second signal cut the drain short.
const FORCED: u8 = 3;
/// The drain's time ran out with connections left.
const TIMED_OUT: u8 = 4;

/// How often the threads' health is looked at.
const HEALTH_INTERVAL: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    let cli = Cli::parse();
    match &cli.command {
        Some(Command::Check(args)) => return preflight::run(&cli, args),
        Some(Command::Config(args)) if args.docs => return print(&document()),
        Some(Command::DevCert(args)) => return dev_cert(args),
        _ => {}
    }
    let machine = match Machine::read() {
        Ok(machine) => machine,
        Err(e) => return fail(FAILED, &format!("cannot read facts about this machine: {e}")),
    };
    let resolved = match resolve(&cli, &machine) {
        Ok(resolved) => resolved,
        Err(problems) => {
            let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
            return fail(USAGE, &lines.join("\n"));
        }
    };
    if let Some(Command::Config(args)) = &cli.command {
        return print(&match args.format {
            ConfigFormat::Toml => show_toml(&resolved),
            ConfigFormat::Json => show_json(&resolved),
        });
    }
    // Blocked before any thread is started, and so in all of them but the one that waits.
    let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT, Signal::SIGUSR1]);
    if let Err(e) = signals.thread_block() {
        return fail(FAILED, &format!("cannot block signals: {e}"));
    }
    let _log = logging::init(resolved.log.level, resolved.log.format);
    run(resolved, signals)
}

fn run(mut resolved: Resolved, signals: SigSet) -> ExitCode {
    for warning in &resolved.warnings {
        log::warn!("{warning}");
    }
    let mut running = match Gateway::builder().config(resolved.config.clone()).start() {
        Ok(running) => running,
        Err(e @ StartError::Config(_)) => return fail(USAGE, &e.to_string()),
        Err(e) => return fail(FAILED, &e.to_string()),
    };
    resolved.config = running.config().clone();
    for line in start_banner(&resolved) {
        log::info!("{line}");
    }
    if let Err(e) = running.start_reporting() {
        return fail(FAILED, &format!("--histogram-out: {e}"));
    }
    let signals = match wait_for_signals(signals) {
        Ok(signals) => signals,
        Err(e) => return fail(FAILED, &format!("cannot start a thread: {e}")),
    };
    loop {
        match signals.recv_timeout(HEALTH_INTERVAL) {
            Ok(Signal::SIGUSR1) => report(&running, &running.stats()),
            Ok(signal) => {
                log::info!("{signal}: closing all connections; a second signal leaves at once");
                return stop(running, &signals);
            }
            Err(RecvTimeoutError::Timeout) if running.has_failed() => {
                return fail(FAILED, "a thread has failed; see the log");
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                return fail(FAILED, "the thread that waits for signals has ended");
            }
        }
    }
}

fn stop(running: Running, signals: &mpsc::Receiver<Signal>) -> ExitCode {
    let stats_out = running.config().stats_out.clone();
    let mut hurried = false;
    let (stopped, stats) = running.stop(|| {
        hurried |= signals.try_iter().any(|signal| signal != Signal::SIGUSR1);
        hurried
    });
    for line in summary(&stats) {
        log::info!("{line}");
    }
    if let Some(path) = stats_out
        && let Err(e) = tidegate::telemetry::snapshot::write_atomically(&path, &stats)
    {
        return fail(FAILED, &format!("--stats-out: {e}"));
    }
    match stopped {
        Stopped::Clean => ExitCode::SUCCESS,
        Stopped::Cut(left) if hurried => {
            fail(FORCED, &format!("left at once: {left} connections were cut"))
        }
        Stopped::Cut(left) => {
            fail(TIMED_OUT, &format!("--drain-timeout: time is up: {left} connections were cut"))
        }
    }
}

fn report(running: &Running, stats: &serde_json::Value) {
    for line in summary(stats) {
        log::info!("{line}");
    }
    if let Some(path) = &running.config().stats_out
        && let Err(e) = tidegate::telemetry::snapshot::write_atomically(path, stats)
    {
        log::error!("--stats-out: {e}");
    }
}

/// Takes signals on a thread of its own, which has the process's own descriptor table.
fn wait_for_signals(signals: SigSet) -> std::io::Result<mpsc::Receiver<Signal>> {
    let (tx, rx) = mpsc::channel();
    std::thread::Builder::new().name("tg-signals".to_owned()).spawn(move || {
        while let Ok(signal) = signals.wait() {
            if tx.send(signal).is_err() {
                return;
            }
        }
    })?;
    Ok(rx)
}

fn dev_cert(args: &DevCertArgs) -> ExitCode {
    match make_dev_cert(&args.out, &args.name) {
        Ok(DevCert { authority, certificate, key }) => {
            let [authority, certificate, key] =
                [authority, certificate, key].map(|path| path.display().to_string());
            print(&format!(
                "{authority}: the authority, for clients to trust\n\
                 {certificate}, {key}: tidegate --tls-listen 127.0.0.1:8443 --tls-cert {certificate} \
                 --tls-key {key}\n"
            ))
        }
        Err(e) => fail(FAILED, &e.to_string()),
    }
}

/// Writes to standard output. Who closes it early has read enough.
fn print(text: &str) -> ExitCode {
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

fn fail(code: u8, message: &str) -> ExitCode {
    for line in message.lines() {
        log::error!("{line}");
    }
    if !log::log_enabled!(log::Level::Error) {
        #[expect(clippy::print_stderr, reason = "mistakes come before the log does")]
        for line in message.lines() {
            eprintln!("tidegate: {line}");
        }
    }
    ExitCode::from(code)
}
