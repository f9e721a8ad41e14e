//! Log lines that never block the thread that writes them.
//!
//! Event loops may not wait for a slow reader of standard error, and under private descriptor
//! tables should touch no descriptor but their own sockets. So every line is formatted where it
//! arises, handed over a bounded queue, and written by one thread on main's table.
//!
//! Invariants:
//! - a full queue drops the line and counts it; nobody waits;
//! - a record is one line, whatever characters are in it;
//! - the thread takes no signal.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use env_logger::fmt::Formatter;
use env_logger::{Builder, Logger, Target};
use log::{Level, LevelFilter, Record};
use nix::sys::signal::SigSet;
use serde::Serialize;

use crate::config::OutputFormat;

/// Lines that wait for the writing thread before further ones are dropped.
pub const QUEUE_LINES: usize = 4096;
/// Longest wait for the queue to empty when the guard goes.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// The installed queue's count of dropped lines.
static DROPPED: OnceLock<Arc<AtomicU64>> = OnceLock::new();

/// Keeps logging alive; when it goes, waiting lines are written, for 2 seconds at most.
///
/// Lines logged after that still come out while the process lives, but nobody waits for them.
#[derive(Debug)]
#[must_use = "lines that still wait are lost when the process ends without the guard's drop"]
pub struct LogGuard {
    queue: Option<Sender<Item>>,
}

/// Installs the logger of the process: messages up to `level`, or as `RUST_LOG` says where it is
/// set, to standard error.
///
/// To be called on main's thread before any event loop starts. If the process has a logger
/// already, as programs that embed the library do, that one stays.
pub fn init(level: LevelFilter, format: OutputFormat) -> LogGuard {
    let Ok(queue) = LogQueue::start(QUEUE_LINES, format, io::stderr()) else {
        // Without a thread there is no one to write for us: lines may block, but are not lost.
        install(build(level, format, Target::Stderr));
        return LogGuard { queue: None };
    };
    let guard = LogGuard { queue: Some(queue.sender.clone()) };
    let dropped = Arc::clone(&queue.dropped);
    if install(build(level, format, Target::Pipe(Box::new(queue)))) {
        let _ = DROPPED.set(dropped);
    }
    guard
}

/// Lines dropped so far because the queue was full; 0 before [`init`].
#[must_use]
pub fn dropped_lines() -> u64 {
    DROPPED.get().map_or(0, |dropped| dropped.load(Ordering::Relaxed))
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        if let Some(queue) = &self.queue {
            flush(queue, FLUSH_TIMEOUT);
        }
    }
}

/// A logger that hands its lines to a thread, which writes them to a sink of one's own.
///
/// What [`init`] installs, in a form that a test or an embedding program can hold.
pub struct QueuedLogger {
    logger: Logger,
    sender: Sender<Item>,
    dropped: Arc<AtomicU64>,
}

impl QueuedLogger {
    /// Starts the thread. `capacity` is in lines, at least 1.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn new(
        level: LevelFilter,
        format: OutputFormat,
        capacity: usize,
        sink: impl Write + Send + 'static,
    ) -> io::Result<Self> {
        let queue = LogQueue::start(capacity, format, sink)?;
        let (sender, dropped) = (queue.sender.clone(), Arc::clone(&queue.dropped));
        let logger = build(level, format, Target::Pipe(Box::new(queue)));
        Ok(Self { logger, sender, dropped })
    }

    /// Lines dropped so far because the queue was full.
    #[must_use]
    pub fn dropped_lines(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Waits until all lines logged before are written, for `timeout` at most; says whether they
    /// were.
    pub fn flush_within(&self, timeout: Duration) -> bool {
        flush(&self.sender, timeout)
    }
}

impl log::Log for QueuedLogger {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        self.logger.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        self.logger.log(record);
    }

    fn flush(&self) {
        self.flush_within(FLUSH_TIMEOUT);
    }
}

/// What the writing thread is told.
enum Item {
    Line(Vec<u8>),
    /// All before this is to be written; then answer.
    Flush(Sender<()>),
}

/// The near end of the queue, in the place of a file.
struct LogQueue {
    sender: Sender<Item>,
    dropped: Arc<AtomicU64>,
}

impl LogQueue {
    fn start(
        capacity: usize,
        format: OutputFormat,
        sink: impl Write + Send + 'static,
    ) -> io::Result<Self> {
        let (sender, receiver) = bounded(capacity.max(1));
        let dropped = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&dropped);
        spawn_without_signals("tidegate-log", move || {
            write_lines(&receiver, &counted, format, sink)
        })?;
        Ok(Self { sender, dropped })
    }
}

impl Write for LogQueue {
    /// Takes one whole line: `env_logger` writes each record's in one piece.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if let Err(TrySendError::Full(_)) = self.sender.try_send(Item::Line(line.to_vec())) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The writing thread: ends when nobody can log any more.
fn write_lines(
    queue: &Receiver<Item>,
    dropped: &AtomicU64,
    format: OutputFormat,
    sink: impl Write + Send + 'static,
) {
    let sink = Sink(Arc::new(Mutex::new(sink)));
    let (mut told, mut written) = (0, 0);
    for item in queue {
        // If standard error is gone there is nobody to tell; the queue must still be emptied.
        match item {
            Item::Line(line) => {
                let _ = sink.lock().write_all(&line);
                written += 1;
            }
            Item::Flush(done) => {
                let _ = sink.lock().flush();
                let _ = done.try_send(());
            }
        }
        // Not after each line: while it overflows, that would halve the room for real ones.
        if queue.is_empty() || written >= QUEUE_LINES {
            let total = dropped.load(Ordering::Relaxed);
            tell_dropped(total - told, format, &sink);
            (told, written) = (total, 0);
        }
    }
}

/// Writes how many lines were lost, in the form of the others.
fn tell_dropped<W: Write + Send + 'static>(lines: u64, format: OutputFormat, sink: &Sink<W>) {
    if lines == 0 {
        return;
    }
    let target = Target::Pipe(Box::new(Sink(Arc::clone(&sink.0))));
    let logger = formatted(Builder::new().filter_level(LevelFilter::Warn), format, target);
    log::Log::log(
        &logger,
        &Record::builder()
            .level(Level::Warn)
            .target("tidegate::logging")
            .args(format_args!("{lines} log lines dropped: the reader of the log is too slow"))
            .build(),
    );
}

/// Where lines end up, for the thread itself and for the logger of its own notices.
struct Sink<W>(Arc<Mutex<W>>);

impl<W> Sink<W> {
    fn lock(&self) -> MutexGuard<'_, W> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<W: Write> Write for Sink<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.lock().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.lock().flush()
    }
}

fn flush(queue: &Sender<Item>, timeout: Duration) -> bool {
    let deadline = Instant::now() + timeout;
    let (done, wait) = bounded(1);
    queue.send_deadline(Item::Flush(done), deadline).is_ok() && wait.recv_deadline(deadline).is_ok()
}

/// Starts a thread that no signal is delivered to: it inherits its mask from this one, which is
/// put back afterwards.
fn spawn_without_signals(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let before = SigSet::thread_get_mask()?;
    SigSet::all().thread_block()?;
    let spawned = thread::Builder::new().name(name.to_owned()).spawn(body);
    before.thread_set_mask()?;
    spawned.map(drop)
}

fn install(logger: Logger) -> bool {
    let level = logger.filter();
    let installed = log::set_boxed_logger(Box::new(logger)).is_ok();
    if installed {
        log::set_max_level(level);
    }
    installed
}

fn build(level: LevelFilter, format: OutputFormat, target: Target) -> Logger {
    formatted(Builder::new().filter_level(level).parse_default_env(), format, target)
}

fn formatted(builder: &mut Builder, format: OutputFormat, target: Target) -> Logger {
    let builder = builder.target(target);
    match format {
        OutputFormat::Text => builder.format(write_text),
        OutputFormat::Json => builder.format(write_json),
    }
    .build()
}

/// `2026-01-31T12:00:00.000Z INFO  tidegate::app: message`
fn write_text(out: &mut Formatter, record: &Record<'_>) -> io::Result<()> {
    let time = out.timestamp_millis();
    let message = escape_controls(&record.args().to_string());
    writeln!(out, "{time} {:<5} {}: {message}", record.level(), record.target())
}

/// One line of the JSON log.
#[derive(Serialize)]
struct JsonLine<'a> {
    ts: String,
    level: &'a str,
    target: &'a str,
    msg: String,
}

fn write_json(out: &mut Formatter, record: &Record<'_>) -> io::Result<()> {
    let line = JsonLine {
        ts: out.timestamp_millis().to_string(),
        level: record.level().as_str(),
        target: record.target(),
        msg: record.args().to_string(),
    };
    serde_json::to_writer(&mut *out, &line)?;
    out.write_all(b"\n")
}

/// Control characters as `\n`, `\u{1b}` and so on: what clients send reaches the log, and must
/// neither forge lines nor steer a terminal.
fn escape_controls(message: &str) -> String {
    let mut escaped = String::with_capacity(message.len());
    for c in message.chars() {
        if c.is_control() { escaped.extend(c.escape_default()) } else { escaped.push(c) }
    }
    escaped
}
