//! A gateway process for tests: started on a free port of loopback, asked for its statistics,
//! stopped by its pid.
//!
//! What it writes to stderr is kept, and shown where a test fails.

// Each test binary compiles this module for itself and uses its own part of it.
#![allow(dead_code)]

pub(crate) mod client;
pub(crate) mod process;

use std::env;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

/// Longer than anything here takes on a machine under load: past it the gateway hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running gateway. Dropped, it is killed.
pub(crate) struct Gateway {
    /// Where it listens.
    pub(crate) addr: SocketAddr,
    /// Its process.
    pub(crate) pid: u32,
    child: Child,
    stderr: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
    dir: TempDir,
}

impl Gateway {
    /// Starts `tidegate` on port 0 of 127.0.0.1 with `args` added, and waits until it listens.
    ///
    /// `TIDEGATE_BIN` in the environment names another binary than the one built for the tests.
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::start_by(command(), &[&["--listen", "127.0.0.1:0"], args].concat())
    }

    /// As [`start`](Self::start), with at most so many descriptors.
    pub(crate) fn start_limited(descriptors: u32, args: &[&str]) -> Self {
        let binary = command();
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(format!("ulimit -n {descriptors}; exec \"$0\" \"$@\""));
        shell.arg(binary.get_program());
        for (name, _) in binary.get_envs() {
            shell.env_remove(name);
        }
        shell.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        Self::start_by(shell, &[&["--listen", "127.0.0.1:0"], args].concat())
    }

    /// Starts it by this command with `args` added, and waits until it listens on an IP address.
    pub(crate) fn start_by(mut command: Command, args: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut child = command
            .arg("--stats-out")
            .arg(dir.path().join("stats.json"))
            .args(args)
            .spawn()
            .expect("the gateway starts");
        let stderr = Arc::new(Mutex::new(String::new()));
        let (listening, address) = mpsc::channel();
        let reader = read_stderr(&mut child, Arc::clone(&stderr), listening);
        let addr = wait_for_address(&mut child, &address, &stderr);
        Self { addr, pid: child.id(), child, stderr, reader: Some(reader), dir }
    }

    /// `ws://ADDRESS` followed by `path`.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("ws://{}{path}", self.addr)
    }

    /// What it wrote to stderr until now.
    pub(crate) fn stderr(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    /// Waits until it has written `text` to stderr.
    pub(crate) fn stderr_until(&self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.stderr().contains(text) {
            assert!(Instant::now() < deadline, "never wrote {text:?}:\n{}", self.stderr());
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid.cast_signed()), signal).expect("the gateway runs");
    }

    /// Its statistics as of now: SIGUSR1, and what that writes.
    pub(crate) fn stats(&mut self) -> serde_json::Value {
        let path = self.stats_path();
        // Gone first, so that what is read can't be an older one.
        let _ = fs::remove_file(&path);
        self.signal(Signal::SIGUSR1);
        let deadline = Instant::now() + PATIENCE;
        loop {
            // Half a file is no JSON: it is read again.
            if let Some(stats) = read_json(&path) {
                return stats;
            }
            assert!(self.is_running(), "the gateway left on SIGUSR1:\n{}", self.stderr());
            assert!(
                Instant::now() < deadline,
                "no statistics in {}:\n{}",
                path.display(),
                self.stderr()
            );
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Polls its statistics until `wanted` holds for them.
    pub(crate) fn stats_until(
        &mut self,
        what: &str,
        wanted: impl Fn(&serde_json::Value) -> bool,
    ) -> serde_json::Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let stats = self.stats();
            if wanted(&stats) {
                return stats;
            }
            assert!(Instant::now() < deadline, "never saw {what}; last:\n{stats:#}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// SIGTERM, and its exit status.
    pub(crate) fn stop(mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.wait()
    }

    /// SIGTERM, its exit status, and the statistics it leaves behind.
    pub(crate) fn stop_for_stats(mut self) -> (ExitStatus, serde_json::Value) {
        let _ = fs::remove_file(self.stats_path());
        self.signal(Signal::SIGTERM);
        self.left_with_stats()
    }

    /// Waits for it to leave by itself; its exit status, and the statistics it leaves behind.
    pub(crate) fn left_with_stats(&mut self) -> (ExitStatus, serde_json::Value) {
        let status = self.wait();
        let stats = read_json(&self.stats_path())
            .unwrap_or_else(|| panic!("no statistics at exit; its stderr:\n{}", self.stderr()));
        (status, stats)
    }

    /// Waits for it to leave by itself.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("its status") {
                // All it wrote is there once the pipe has ended.
                if let Some(reader) = self.reader.take() {
                    reader.join().expect("stderr is read");
                }
                return status;
            }
            assert!(Instant::now() < deadline, "the gateway does not leave:\n{}", self.stderr());
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Whether it has not left.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("its status").is_none()
    }

    fn stats_path(&self) -> PathBuf {
        self.dir.path().join("stats.json")
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if self.is_running() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if thread::panicking() {
            eprintln!("the gateway's stderr:\n{}", self.stderr());
        }
    }
}

/// The gateway's command, with none of the settings that the environment may hold for another.
pub(crate) fn command() -> Command {
    let binary = env::var_os("TIDEGATE_BIN").unwrap_or(env!("CARGO_BIN_EXE_tidegate").into());
    let mut command = Command::new(binary);
    for (name, _) in env::vars_os() {
        if name.to_string_lossy().starts_with("TIDEGATE_") {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

fn read_stderr(
    child: &mut Child,
    kept: Arc<Mutex<String>>,
    listening: Sender<SocketAddr>,
) -> JoinHandle<()> {
    let stderr: ChildStderr = child.stderr.take().expect("stderr is piped");
    thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            if let Some(addr) = listening_address(&line) {
                // Nobody waits for a second one.
                let _ = listening.send(addr);
            }
            let mut kept = kept.lock().unwrap();
            kept.push_str(&line);
            kept.push('\n');
        }
    })
}

fn wait_for_address(
    child: &mut Child,
    address: &Receiver<SocketAddr>,
    stderr: &Mutex<String>,
) -> SocketAddr {
    let problem = match address.recv_timeout(PATIENCE) {
        Ok(addr) => return addr,
        Err(RecvTimeoutError::Timeout) => "does not say where it listens",
        Err(RecvTimeoutError::Disconnected) => "left before it listened",
    };
    let _ = child.kill();
    let _ = child.wait();
    panic!("the gateway {problem}:\n{}", stderr.lock().unwrap());
}

/// The address in a line such as `… listening on 127.0.0.1:8080, …`.
fn listening_address(line: &str) -> Option<SocketAddr> {
    let rest = line.split_once("listening on ")?.1;
    let end = rest
        .find(|c: char| !(c.is_ascii_hexdigit() || matches!(c, '.' | ':' | '[' | ']')))
        .unwrap_or(rest.len());
    rest[..end].trim_end_matches(['.', ':']).parse().ok()
}

fn read_json(path: &std::path::Path) -> Option<serde_json::Value> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}
