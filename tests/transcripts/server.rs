//! An example as a server: in this process, or the program that was built of it.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use clap::Parser;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tidegate::{Running, StartError, Stopped};

/// Listens on a free port, whatever else it is told.
const LISTEN: [&str; 2] = ["--listen", "127.0.0.1:0"];

/// A running example.
pub(crate) enum Server {
    /// In this process, started as its command line would start it.
    Here(Box<Running>),
    /// A process of its own.
    Program(Program),
}

impl Server {
    /// Starts an example in this process.
    pub(crate) fn here<Args: Parser>(
        words: &[String],
        start: impl Fn(&Args) -> Result<Running, StartError>,
    ) -> Self {
        let command = ["example"].into_iter().chain(LISTEN);
        let args = Args::parse_from(command.chain(words.iter().map(String::as_str)));
        Self::Here(Box::new(start(&args).expect("it starts")))
    }

    /// Where it listens for WebSockets or, if so, for plain TCP.
    pub(crate) fn address(&self, tcp: bool) -> Option<SocketAddr> {
        match self {
            Self::Here(running) if tcp => running.tcp_addresses().first().copied(),
            Self::Here(running) => running.addresses().first().copied(),
            Self::Program(program) => program.addresses.get(usize::from(tcp)).copied(),
        }
    }

    /// Stops it.
    ///
    /// # Errors
    /// It did not stop cleanly.
    pub(crate) fn stop(self) -> Result<(), String> {
        match self {
            Self::Here(running) => match running.stop(|| false).0 {
                Stopped::Clean => Ok(()),
                other => Err(format!("the server stopped: {other:?}")),
            },
            Self::Program(program) => program.stop(),
        }
    }
}

/// An example's process. Dropped, it is killed.
pub(crate) struct Program {
    child: Child,
    stdout: BufReader<ChildStdout>,
    /// What its first line names, in this order.
    addresses: Vec<SocketAddr>,
}

impl Program {
    /// Starts the program of that name in a directory.
    pub(crate) fn start(directory: &OsStr, name: &str, words: &[String]) -> Server {
        let mut child = Command::new(Path::new(directory).join(name))
            .args(LISTEN)
            .args(words)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the example was built: cargo build --examples");
        let mut stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut line = String::new();
        stdout.read_line(&mut line).expect("it says where it listens");
        let is_address = |c: char| c.is_ascii_digit() || matches!(c, '.' | ':');
        let words = line.split(|c: char| !is_address(c)).map(|word| word.trim_matches(':'));
        let addresses = words.filter_map(|word| word.parse().ok()).collect();
        Server::Program(Self { child, stdout, addresses })
    }

    fn stop(mut self) -> Result<(), String> {
        let pid = Pid::from_raw(self.child.id().cast_signed());
        kill(pid, Signal::SIGTERM).map_err(|e| format!("it left: {e}"))?;
        let mut words = String::new();
        self.stdout.read_to_string(&mut words).map_err(|e| e.to_string())?;
        let status = self.child.wait().map_err(|e| e.to_string())?;
        match (status.success(), &*words) {
            (true, "stopped: Clean\n") => Ok(()),
            _ => Err(format!("the server stopped: {status}, {words}")),
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have left already, and then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
