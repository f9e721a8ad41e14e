//! The program itself, as tests run it.

// Each test binary uses its own part.
#![allow(dead_code)]

use std::{
    fs,
    net::SocketAddr,
    process::{Command, Output},
};

use serde_json::Value;

/// What the program said, and how it left.
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) text: String,
    /// `null` where it wrote none.
    pub(crate) json: Value,
}

impl Run {
    /// A number of the JSON, by its path.
    pub(crate) fn count(&self, path: &str) -> u64 {
        self.json.pointer(path).and_then(Value::as_u64).unwrap_or_else(|| {
            panic!("no number at {path}: {}", self.text);
        })
    }
}

/// Runs the program against the endpoint `/echo` of `address`.
pub(crate) fn loadtest(arguments: &str, address: SocketAddr) -> Run {
    run(arguments, &format!("ws://{address}/echo"), &[])
}

/// Runs the program with `arguments`, in which spaces part words, and `more`.
pub(crate) fn run(arguments: &str, url: &str, more: &[&str]) -> Run {
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("out.json");
    let mut words = arguments.split_whitespace();
    let output = Command::new(env!("CARGO_BIN_EXE_loadtest"))
        .arg(words.next().unwrap())
        .args(["--url", url, "--json"])
        .arg(&json)
        .args(words)
        .args(more)
        .output()
        .unwrap();
    let json = serde_json::from_slice(&fs::read(&json).unwrap_or_default()).unwrap_or_default();
    Run { code: output.status.code(), text: both(&output), json }
}

/// Runs the program with arguments that it refuses; what it said.
pub(crate) fn refused(arguments: &str) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_loadtest"))
        .args(arguments.split_whitespace())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", both(&output));
    both(&output)
}

/// The help of a command.
pub(crate) fn help(command: &str) -> String {
    let output =
        Command::new(env!("CARGO_BIN_EXE_loadtest")).args([command, "--help"]).output().unwrap();
    assert!(output.status.success());
    both(&output)
}

/// Both streams that the program wrote to.
pub(crate) fn both(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}
