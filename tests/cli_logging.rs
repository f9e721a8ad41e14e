//! Log lines: their two forms, that nobody waits for a slow reader, and that losses are told.

use std::io::{self, Write};
use std::process::Command as Process;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use log::{Level, LevelFilter, Log, Record};
use tidegate::config::OutputFormat;
use tidegate::logging::{self, QueuedLogger};

/// Far more than a healthy machine takes; only a failing test waits so long.
const PATIENCE: Duration = Duration::from_secs(20);

/// What was written so far.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Written {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().expect("a lock").clone()).expect("text")
    }
}

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("a lock").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A reader that stops: each write says that it has begun, and waits to be let through.
struct Gate {
    written: Written,
    begun: Sender<()>,
    open: Receiver<()>,
}

impl Write for Gate {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.begun.send(());
        // Once the other end is gone, the gate stays open.
        let _ = self.open.recv();
        self.written.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn say(logger: &QueuedLogger, level: Level, message: &str) {
    let target = "tidegate::test";
    logger.log(
        &Record::builder().level(level).target(target).args(format_args!("{message}")).build(),
    );
}

fn logged(format: OutputFormat, messages: &[(Level, &str)]) -> String {
    let written = Written::default();
    let logger =
        QueuedLogger::new(LevelFilter::Info, format, 64, written.clone()).expect("a thread");
    for (level, message) in messages {
        say(&logger, *level, message);
    }
    assert!(logger.flush_within(PATIENCE));
    assert_eq!(logger.dropped_lines(), 0);
    written.text()
}

/// `2026-01-31T12:00:00.000Z`
fn is_timestamp(text: &str) -> bool {
    let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    shape == "0000-00-00T00:00:00.000Z"
}

#[test]
fn text_is_one_line_a_record() {
    let text = logged(
        OutputFormat::Text,
        &[(Level::Info, "hello"), (Level::Debug, "left out"), (Level::Error, "a\nb\u{1b}[2J\té")],
    );
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    let (time, rest) = lines[0].split_once(' ').expect("a timestamp");
    assert!(is_timestamp(time), "{time}");
    assert_eq!(rest, "INFO  tidegate::test: hello");
    assert!(lines[1].ends_with(r" ERROR tidegate::test: a\nb\u{1b}[2J\té"), "{}", lines[1]);
}

#[test]
fn json_is_one_object_a_line_whatever_is_in_it() {
    let nasty = "quote \" backslash \\ newline \n control \u{1} astral \u{1F600}";
    let text = logged(OutputFormat::Json, &[(Level::Warn, nasty), (Level::Info, "next")]);
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert_eq!(lines[0]["msg"], nasty);
    assert_eq!(
        (&lines[0]["level"], &lines[0]["target"]),
        (&"WARN".into(), &"tidegate::test".into())
    );
    assert!(is_timestamp(lines[1]["ts"].as_str().expect("a timestamp")));
    assert_eq!(lines[0].as_object().expect("an object").len(), 4);
}

#[test]
fn a_stopped_reader_costs_lines_not_time_and_the_loss_is_told() {
    for format in [OutputFormat::Text, OutputFormat::Json] {
        let written = Written::default();
        let ((begun, has_begun), (opener, open)) = (channel(), channel());
        let gate = Gate { written: written.clone(), begun, open };
        let logger = QueuedLogger::new(LevelFilter::Info, format, 4, gate).expect("a thread");
        say(&logger, Level::Info, "first");
        has_begun.recv_timeout(PATIENCE).expect("the thread writes");
        // The thread is stuck in the first line: four wait, the others are lost; none blocks.
        for number in 0..20 {
            say(&logger, Level::Info, &format!("line {number}"));
        }
        assert_eq!(logger.dropped_lines(), 16);
        assert!(!logger.flush_within(Duration::from_millis(10)), "nothing can be flushed yet");
        drop(opener);
        assert!(logger.flush_within(PATIENCE));
        say(&logger, Level::Info, "last");
        assert!(logger.flush_within(PATIENCE));
        let text = written.text();
        assert_eq!(text.matches("line ").count(), 4, "{text}");
        assert_eq!(text.matches("16 log lines dropped").count(), 1, "{text}");
        assert!(text.lines().last().expect("lines").contains("last"), "{text}");
    }
}

#[test]
fn lines_of_one_thread_keep_their_order_among_those_of_others() {
    let written = Written::default();
    let logger = QueuedLogger::new(LevelFilter::Info, OutputFormat::Text, 4096, written.clone())
        .expect("a thread");
    std::thread::scope(|scope| {
        for name in ["a", "b", "c", "d"] {
            let logger = &logger;
            scope.spawn(move || {
                (0..200).for_each(|n| say(logger, Level::Info, &format!("{name} {n:03}")))
            });
        }
    });
    assert!(logger.flush_within(PATIENCE));
    let text = written.text();
    for name in ["a", "b", "c", "d"] {
        let mark = format!(": {name} ");
        let own: Vec<&str> = text.lines().filter_map(|l| Some(l.split_once(&mark)?.1)).collect();
        assert!(own.len() == 200 && own.is_sorted(), "{name}: {own:?}");
    }
}

#[test]
fn the_writing_thread_takes_no_signal_and_ours_still_does() {
    let before = nix::sys::signal::SigSet::thread_get_mask().expect("a mask");
    let logger =
        QueuedLogger::new(LevelFilter::Info, OutputFormat::Text, 4, io::sink()).expect("it");
    assert_eq!(nix::sys::signal::SigSet::thread_get_mask().expect("a mask"), before);
    // A thread gives itself its name; after this it has.
    say(&logger, Level::Info, "up");
    assert!(logger.flush_within(PATIENCE));
    let blocked = std::fs::read_dir("/proc/self/task")
        .expect("tasks")
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("status")).ok())
        .filter(|status| status.contains("Name:\ttidegate-log\n"))
        .map(|status| {
            let line = status.lines().find_map(|line| line.strip_prefix("SigBlk:\t"));
            u64::from_str_radix(line.expect("a mask"), 16).expect("a mask")
        })
        .collect::<Vec<u64>>();
    assert!(!blocked.is_empty());
    for signal in [1_u64, 2, 10, 15] {
        assert!(
            blocked.iter().all(|mask| mask & (1 << (signal - 1)) != 0),
            "{signal} in {blocked:x?}"
        );
    }
    drop(logger);
}

/// Not a test of its own: what the next one starts, since a process has one logger.
#[test]
fn child_that_logs() {
    if std::env::var("CHILD_LOGS").is_err() {
        return;
    }
    let guard = logging::init(LevelFilter::Info, OutputFormat::Json);
    for number in 0..1000 {
        log::info!("number {number}");
    }
    log::debug!("a detail");
    assert_eq!(logging::dropped_lines(), 0);
    drop(guard);
    std::process::exit(0);
}

fn stderr_of_child(rust_log: Option<&str>) -> String {
    let mut child = Process::new(std::env::current_exe().expect("this test"));
    child.args(["--exact", "child_that_logs", "--nocapture"]).env("CHILD_LOGS", "1");
    match rust_log {
        Some(filter) => child.env("RUST_LOG", filter),
        None => child.env_remove("RUST_LOG"),
    };
    let output = child.output().expect("a child process");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stderr).expect("text")
}

#[test]
fn the_guard_brings_every_line_out_and_rust_log_has_the_last_word() {
    let text = stderr_of_child(None);
    assert_eq!(text.lines().filter(|line| line.contains("\"number ")).count(), 1000);
    assert!(!text.contains("a detail"));
    assert!(stderr_of_child(Some("debug")).contains("a detail"));
    assert!(!stderr_of_child(Some("error")).contains("number"));
}
