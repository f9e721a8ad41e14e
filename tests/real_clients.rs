//! Other people's WebSocket clients against the gateway: Python's `websockets`, Node's `ws` and
//! headless Chromium. What they check stands in `tests/clients`.

mod support;

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::Gateway;

#[test]
fn python_websockets_inline() {
    run(&python(), "python_websockets.py", &["--workers", "0"]);
}

#[test]
fn python_websockets_pooled() {
    run(&python(), "python_websockets.py", &["--workers", "2"]);
}

#[test]
fn node_ws_inline() {
    run(&node(), "node_ws.mjs", &["--workers", "0"]);
}

#[test]
fn node_ws_pooled() {
    run(&node(), "node_ws.mjs", &["--workers", "2"]);
}

#[test]
fn chromium_inline() {
    run(&node(), "chromium.mjs", &["--workers", "0"]);
}

#[test]
fn chromium_pooled() {
    run(&node(), "chromium.mjs", &["--workers", "2"]);
}

fn run(interpreter: &Path, script: &str, gateway_args: &[&str]) {
    let gateway = Gateway::start(&[&["--loops", "2"], gateway_args].concat());
    let output = Command::new(interpreter)
        .arg(checkout().join("tests/clients").join(script))
        .arg(gateway.url(""))
        .env("TIDEGATE_NODE", cache().join("node"))
        .env("TIDEGATE_CHROMIUM", on_path("chromium"))
        .output()
        .expect("the interpreter starts");
    assert!(
        output.status.success(),
        "{script} ({}):\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    let status = gateway.stop();
    assert!(status.success(), "the gateway left with {status}");
}

fn python() -> PathBuf {
    installed(cache().join("python/bin/python"))
}

fn node() -> PathBuf {
    installed(cache().join("node/node_modules/ws"));
    installed(cache().join("node/node_modules/playwright-core"));
    on_path("node")
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
