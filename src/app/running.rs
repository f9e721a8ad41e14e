//! A gateway that runs, and its end.

use std::io;
use std::net::SocketAddr;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Map, Value, json};

use super::shared::Shared;
use super::unix_socket::SocketFile;
use crate::config::{Config, FdTable, ListenAddr, TcpListen};
use crate::routing::Gateway;
use crate::telemetry::interval_log::IntervalLog;
use crate::telemetry::snapshot::Registry;
use crate::telemetry::stages::StageCollector;

/// How long threads are waited for to hand over what they have timed.
const PATIENCE: Duration = Duration::from_millis(200);
/// How long threads get to end that have nothing left to do; a handler may hold one up.
const THREADS_PATIENCE: Duration = Duration::from_secs(1);

/// A gateway that runs. Dropping it takes it down at once; [`stop`](Self::stop) does so in order.
#[derive(Debug)]
pub struct Running {
    gateway: Gateway,
    addresses: Addresses,
    config: Config,
    files: Vec<SocketFile>,
    report: Arc<Report>,
    threads: Vec<JoinHandle<()>>,
    ended: Mutex<Ended>,
    reporter: Option<(mpsc::Sender<()>, JoinHandle<()>)>,
}

/// The IP addresses listened on; what was port 0 is the port it became.
#[derive(Debug)]
pub(super) struct Addresses {
    plain: Vec<SocketAddr>,
    tcp: Vec<SocketAddr>,
    tls: Vec<SocketAddr>,
    tls_tcp: Vec<SocketAddr>,
}

impl Addresses {
    pub(super) fn of(config: &Config) -> Self {
        let of = |all: &[ListenAddr]| all.iter().filter_map(ListenAddr::ip).collect();
        let of_tcp = |all: &[TcpListen]| all.iter().filter_map(|l| l.address.ip()).collect();
        Self {
            plain: of(&config.listen),
            tcp: of_tcp(&config.tcp_listen),
            tls: of(&config.tls_listen),
            tls_tcp: of_tcp(&config.tls_tcp_listen),
        }
    }
}

/// What a running gateway is made from.
#[derive(Debug)]
pub(super) struct RunningParts {
    pub(super) gateway: Gateway,
    pub(super) addresses: Addresses,
    /// With addresses as they became.
    pub(super) config: Config,
    pub(super) files: Vec<SocketFile>,
    pub(super) registry: Registry,
    pub(super) collector: StageCollector,
    pub(super) threads: Vec<JoinHandle<()>>,
    pub(super) ended: mpsc::Receiver<ThreadEnd>,
}

/// How a gateway came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// All connections were closed in order.
    Clean,
    /// The time ran out, or it was told not to wait: so many connections were cut.
    Cut(usize),
}

/// Sent by a thread as it ends, however it ends. A thread that panics takes the gateway down with
/// it: its connections would hang for ever otherwise.
#[derive(Debug)]
pub(super) struct ThreadEnd {
    is_loop: bool,
    tell: Option<(mpsc::Sender<ThreadEnd>, Arc<Shared>)>,
}

impl ThreadEnd {
    pub(super) fn event_loop(tell: mpsc::Sender<ThreadEnd>, shared: Arc<Shared>) -> Self {
        Self { is_loop: true, tell: Some((tell, shared)) }
    }

    pub(super) fn worker(tell: mpsc::Sender<ThreadEnd>, shared: Arc<Shared>) -> Self {
        Self { is_loop: false, tell: Some((tell, shared)) }
    }
}

impl Drop for ThreadEnd {
    fn drop(&mut self) {
        let Some((tell, shared)) = self.tell.take() else { return };
        if std::thread::panicking() {
            shared.fail();
        }
        let _ = tell.send(Self { is_loop: self.is_loop, tell: None });
    }
}

#[derive(Debug)]
struct Ended {
    ends: mpsc::Receiver<ThreadEnd>,
    loops: usize,
    workers: usize,
}

/// What is written out of a running gateway.
#[derive(Debug)]
struct Report {
    gateway: Gateway,
    registry: Registry,
    collector: Mutex<StageCollector>,
    about: Value,
}

impl Report {
    fn stats(&self) -> Value {
        let mut collector = self.collector.lock().unwrap_or_else(PoisonError::into_inner);
        collector.collect_within(PATIENCE);
        let mut extra = Map::new();
        extra.insert("config".to_owned(), self.about.clone());
        let late = self.gateway.shared.late_answers();
        extra.insert("late_answers".to_owned(), json!(late));
        let lines = crate::logging::dropped_lines();
        extra.insert("log_lines_dropped".to_owned(), json!(lines));
        self.registry.snapshot(collector.total(), extra)
    }

    /// Collects for ever, once per interval; writes intervals to `log` if there is one.
    fn collect(&self, log: Option<&mut IntervalLog>, every: Duration, stop: &mpsc::Receiver<()>) {
        let (base, mut from) = (Instant::now(), Duration::ZERO);
        let mut log = log;
        loop {
            let more = stop.recv_timeout(every) == Err(RecvTimeoutError::Timeout);
            let mut collector = self.collector.lock().unwrap_or_else(PoisonError::into_inner);
            collector.collect_within(PATIENCE);
            let to = base.elapsed();
            if let Some(log) = &mut log
                && let Err(e) = log.write(from, to - from, collector.interval())
            {
                log::error!("--histogram-out: {e}");
            }
            collector.end_interval();
            from = to;
            if !more {
                return;
            }
        }
    }
}

impl Running {
    pub(super) fn new(parts: RunningParts) -> Self {
        let RunningParts { gateway, config, registry, collector, threads, ended, .. } = parts;
        let RunningParts { addresses, files, .. } = parts;
        let text = |all: &[ListenAddr]| all.iter().map(ToString::to_string).collect::<Vec<_>>();
        let tcp = |all: &[TcpListen]| {
            all.iter().map(|listen| listen.address.to_string()).collect::<Vec<_>>()
        };
        let table = match config.fd_table {
            FdTable::Shared => "shared",
            FdTable::Private => "private",
        };
        let about = json!({
            "loops": config.loops,
            "workers": config.workers,
            "max_connections": config.max_connections,
            "fd_table": table,
            "listen": text(&config.listen),
            "tcp_listen": tcp(&config.tcp_listen),
            "tls_listen": text(&config.tls_listen),
            "tls_tcp_listen": tcp(&config.tls_tcp_listen),
        });
        let report = Arc::new(Report {
            gateway: gateway.clone(),
            registry,
            collector: Mutex::new(collector),
            about,
        });
        let ended = Mutex::new(Ended { ends: ended, loops: config.loops, workers: config.workers });
        let reporter = None;
        Self { gateway, addresses, config, files, report, threads, ended, reporter }
    }

    /// A handle to push, publish and close by.
    #[must_use]
    pub fn gateway(&self) -> &Gateway {
        &self.gateway
    }

    /// The IP addresses listened on for WebSockets; what was port 0 is the port it became. Listeners
    /// without one, such as Unix-domain sockets, stand in [`config`](Self::config).
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses.plain
    }

    /// The IP addresses listened on for frames over plain TCP, likewise.
    #[must_use]
    pub fn tcp_addresses(&self) -> &[SocketAddr] {
        &self.addresses.tcp
    }

    /// The IP addresses listened on for WebSockets over TLS, likewise.
    #[must_use]
    pub fn tls_addresses(&self) -> &[SocketAddr] {
        &self.addresses.tls
    }

    /// The IP addresses listened on for frames over TLS without a handshake of WebSockets, likewise.
    #[must_use]
    pub fn tls_tcp_addresses(&self) -> &[SocketAddr] {
        &self.addresses.tls_tcp
    }

    /// What it runs by, with addresses as they became: no port 0, and those of passed sockets.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Whether one of its threads has failed; it is going down then.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.gateway.shared.has_failed()
    }

    /// All counters and latencies, as `--stats-out` writes them.
    #[must_use]
    pub fn stats(&self) -> Value {
        self.report.stats()
    }

    /// Begins to collect latencies once per `histogram_interval`, and to log them if the
    /// configuration names a file.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn start_reporting(&mut self) -> io::Result<()> {
        let mut log = match &self.config.histogram_out {
            Some(path) => Some(IntervalLog::create(path, SystemTime::now())?),
            None => None,
        };
        let (report, every) = (Arc::clone(&self.report), self.config.histogram_interval);
        let (tx, rx) = mpsc::channel();
        let thread = std::thread::Builder::new().name("tg-report".to_owned()).spawn(move || {
            let _ = nix::sys::signal::SigSet::all().thread_block();
            report.collect(log.as_mut(), every, &rx);
        })?;
        self.reporter = Some((tx, thread));
        Ok(())
    }

    /// Stops accepting, closes all connections with 1001, sends what is owed, and ends, within
    /// `drain_timeout`. `hurry` may ask not to wait: it is asked about ten times a second.
    pub fn stop(mut self, mut hurry: impl FnMut() -> bool) -> (Stopped, Value) {
        let shared = Arc::clone(&self.gateway.shared);
        let deadline = Instant::now() + self.config.drain_timeout;
        // While their sockets are open, which tells them from others of these names.
        self.files.clear();
        shared.drain();
        let in_time = loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if shared.wait_for_loops(left.min(Duration::from_millis(100))) {
                break true;
            }
            if left.is_zero() || hurry() || shared.has_failed() {
                break false;
            }
        };
        let left = shared.total.get();
        if !in_time {
            shared.force();
        }
        if let Some(pool) = shared.blocking() {
            let _ = pool.stop(deadline.max(Instant::now() + THREADS_PATIENCE));
        }
        // Workers first: as long as they run they post, and loops are there to take it.
        shared.stop_workers();
        self.wait(THREADS_PATIENCE, |ended| ended.workers);
        shared.release_loops();
        self.wait(THREADS_PATIENCE, |ended| ended.loops);
        self.stop_reporting();
        let stats = self.report.stats();
        self.threads.clear();
        let clean = in_time || left == 0;
        (if clean { Stopped::Clean } else { Stopped::Cut(left) }, stats)
    }

    /// Waits, for so long at most, until none of the threads that `count` counts is left.
    fn wait(&self, time: Duration, count: impl Fn(&Ended) -> usize) {
        let deadline = Instant::now() + time;
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        while count(&ended) > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            match ended.ends.recv_timeout(left) {
                Ok(end) if end.is_loop => ended.loops -= 1,
                Ok(_) => ended.workers -= 1,
                Err(_) => return,
            }
        }
    }

    fn stop_reporting(&mut self) {
        if let Some((tx, thread)) = self.reporter.take() {
            drop(tx);
            let _ = thread.join();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.files.clear();
        self.gateway.shared.force();
        self.gateway.shared.stop_workers();
        self.stop_reporting();
        self.wait(THREADS_PATIENCE, |ended| ended.loops + ended.workers);
        // Threads that a handler holds up are left to end by themselves.
        for thread in self.threads.drain(..) {
            if thread.is_finished() {
                let _ = thread.join();
            }
        }
    }
}
