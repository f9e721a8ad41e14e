//! Other people's servers: Python's `websockets` and Node's `ws`, as scripts/setup.sh installs them.

use std::env;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tidegate::client::{Cause, Client, DialError, Options};
use tidegate::protocol::deflate::{DeflateMode, DeflateSettings};
use tidegate::{Body, Dialect, JsonDialect};

use crate::{PATIENCE, Seen, next, next_but_dials, watched};

#[test]
fn python_websockets() {
    let python = installed(cache().join("python/bin/python"));
    against(&Server::start(&python, "python_server.py"));
}

#[test]
fn node_ws() {
    installed(cache().join("node/node_modules/ws"));
    against(&Server::start(&on_path("node"), "node_server.mjs"));
}

/// What both servers do is the same: `/echo` echoes and `/json` answers requests; a message `ping`
/// is answered once a ping of the server's is, and `close` by a Close; other paths are refused.
fn against(server: &Server) {
    for mode in [DeflateMode::Off, DeflateMode::Shared, DeflateMode::Dedicated] {
        echoes(server, DeflateSettings { mode, threshold_bytes: 100, ..Default::default() });
    }
    answers(server);
    let error = Client::connect(&server.url("/none"), Options::default()).unwrap_err();
    let DialError::Refused { status: 404, body } = error else { panic!("{error:?}") };
    assert_eq!(String::from_utf8(body).unwrap().trim_end(), "no such path");
}

fn echoes(server: &Server, deflate: DeflateSettings) {
    let mut options = Options::default().subprotocol("one").subprotocol("two");
    options.deflate = Some(deflate);
    let (options, seen) = watched(options);
    let client = Client::connect(&server.url("/echo"), options).unwrap();
    assert_eq!(next(&seen), Seen::Established);
    for size in [0, 1, 125, 126, 65535, 65536, 300_000] {
        let bytes: Vec<u8> = (0..size).map(|n| n as u8).collect();
        client.send_binary(&bytes).unwrap();
        assert_eq!(next(&seen), Seen::Message(bytes));
        let text = "grüße 🦀".repeat(size / 8);
        client.send_text(&text).unwrap();
        assert_eq!(next(&seen), Seen::Message(text.into_bytes()));
    }
    client.send_text("extensions").unwrap();
    let agreed = if deflate.mode == DeflateMode::Off { "" } else { "permessage-deflate" };
    assert_eq!(next(&seen), Seen::Message(agreed.into()));
    client.send_text("ping").unwrap();
    assert_eq!(next(&seen), Seen::Message(b"pong".to_vec()));
    client.send_text("fragments").unwrap();
    assert_eq!(next(&seen), Seen::Message("a".repeat(10).into_bytes()));
    client.send_text("close").unwrap();
    let cause = Cause::Closed { code: Some(4002), reason: "as asked".to_owned() };
    assert_eq!(next(&seen), Seen::Closed(cause));
    assert_eq!(next_but_dials(&seen), Seen::Established);
    client.stop();
    assert_eq!(next(&seen), Seen::Closed(Cause::Stopped));
}

fn answers(server: &Server) {
    let options = Options::new(Dialect::Json(JsonDialect::default()));
    let client = Client::connect(&server.url("/json"), options).unwrap();
    for n in 0..50 {
        let body = format!("[{n}]");
        let answer = client.request("any", Body::Json(&body), PATIENCE).unwrap();
        assert_eq!(answer.as_body().parse::<[u32; 1]>().unwrap(), [n]);
    }
    client.stop();
}

/// A server's process, killed at the end.
struct Server {
    child: Child,
    port: u16,
}

impl Server {
    /// Starts it, and reads the port from its first line.
    fn start(interpreter: &Path, script: &str) -> Self {
        let mut child = Command::new(interpreter)
            .arg(checkout().join("tests/client").join(script))
            .env("TIDEGATE_NODE", cache().join("node"))
            .stdout(Stdio::piped())
            .spawn()
            .expect("the interpreter starts");
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        stdout.read_line(&mut line).expect("it says its port");
        let port = line.trim().parse().expect("a port");
        Self { child, port }
    }

    fn url(&self, path: &str) -> String {
        format!("ws://127.0.0.1:{}{path}", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn on_path(program: &str) -> PathBuf {
    env::split_paths(&env::var_os("PATH").unwrap_or_default())
        .map(|dir| dir.join(program))
        .find(|path| path.is_file())
        .unwrap_or_else(|| panic!("no `{program}` on the path: run scripts/setup.sh"))
}

fn installed(path: PathBuf) -> PathBuf {
    assert!(path.exists(), "no {}: run scripts/setup.sh", path.display());
    path
}

/// Where scripts/setup.sh installs.
fn cache() -> PathBuf {
    env::var_os("TIDEGATE_CACHE").map_or_else(|| checkout().join(".cache"), PathBuf::from)
}

fn checkout() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}
