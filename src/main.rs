//! Arguments → configuration → run → exit code. Exit codes: `docs/OPERATING.md`.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use clap::Parser as _;
use nix::sys::signal::{SigSet, Signal};
use tidegate::app::{DevCert, Running, Service, StartError, Stopped, make_dev_cert};
use tidegate::config::{
    Cli, Command, ConfigFormat, DevCertArgs, Machine, Resolved, Table, changed_settings, document,
    resolve, show_json, show_toml, start_banner,
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
    let signals = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGUSR1];
    let signals = SigSet::from_iter(signals);
    if let Err(e) = signals.thread_block() {
        return fail(FAILED, &format!("cannot block signals: {e}"));
    }
    let _log = logging::init(resolved.log.level, resolved.log.format);
    run(&cli, resolved, signals)
}

fn run(cli: &Cli, mut resolved: Resolved, signals: SigSet) -> ExitCode {
    let configured = resolved.clone();
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
    let mut service = Service::from_env();
    service.ready(&running);
    loop {
        let interval = HEALTH_INTERVAL.min(service.interval());
        let signal = signals.recv_timeout(interval);
        service.look(&running);
        match signal {
            Ok(Signal::SIGUSR1) => report(&running, &running.stats()),
            Ok(Signal::SIGHUP) => {
                service.reloading();
                reload(cli, &configured, &running);
                service.ready(&running);
            }
            Ok(signal) => {
                log::info!("{signal}: closing all connections; a second signal leaves at once");
                service.stopping(&running);
                return stop(running, &signals, service);
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

/// Reads the configuration again, and takes up what of it can be while connections live.
fn reload(cli: &Cli, configured: &Resolved, running: &Running) {
    let machine = match Machine::read() {
        Ok(machine) => machine,
        Err(e) => return log::error!("SIGHUP: cannot read facts about this machine: {e}"),
    };
    let next = match resolve(cli, &machine) {
        Ok(next) => next,
        Err(problems) => {
            running.count_failed_reload();
            for problem in problems {
                log::error!("SIGHUP: {problem}");
            }
            return log::error!("SIGHUP: nothing is taken up; what was in force stays so");
        }
    };
    for (table, name) in changed_settings(configured, &next) {
        if table != Table::Tls {
            log::warn!("SIGHUP: {name} is not as it was: that takes a restart");
        }
    }
    match running.reload_tls(&next.config.tls) {
        Ok(()) if running.config().has_tls() => {
            log::info!("SIGHUP: certificates are taken up as they are now")
        }
        Ok(()) => log::info!("SIGHUP: no listener has TLS, so there is nothing to take up"),
        Err(e) => log::error!("SIGHUP: TLS: {e}; what was loaded before stays in force"),
    }
}

fn stop(running: Running, signals: &mpsc::Receiver<Signal>, mut service: Service) -> ExitCode {
    let stats_out = running.config().stats_out.clone();
    let mut hurried = false;
    let (stopped, stats) = running.stop(|| {
        service.hold_on();
        let ends = |signal| matches!(signal, Signal::SIGTERM | Signal::SIGINT);
        hurried |= signals.try_iter().any(ends);
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
