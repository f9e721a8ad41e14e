//! Other people's WebSocket clients against the gateway: Python's `websockets`, Node's `ws` and
//! headless Chromium, as they are and over TLS. What they check stands in `tests/clients`.

#[path = "tls/served.rs"]
mod served;
mod support;
#[path = "real_clients/wss.rs"]
mod wss;

use std::env;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use data_encoding::HEXLOWER;
use support::Gateway;
use tidegate::protocol::MessageKind;
use tidegate::protocol::deflate::{Deflater, Inflater, Window};

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

/// What one of the two compresses, the other takes for the same, with every window and with context
/// takeover and without.
#[test]
fn python_websockets_and_deflate() {
    let mut seed = 1_u64;
    for bits in 9..=15 {
        for takeover in [false, true] {
            let messages: Vec<_> = (0..12).map(|n| noisy_text(&mut seed, n * n * 60)).collect();
            let mut deflater = Deflater::new(1 + bits % 9, bits, takeover);
            let mut sent = format!("{bits} {takeover}\n");
            for message in &messages {
                let mut payload = Vec::new();
                let compressed = deflater.compress(message, &mut payload);
                if !compressed {
                    deflater.forget();
                }
                let what = if compressed { "c" } else { "p" };
                sent += &format!("{what} {}\n", hex(if compressed { &payload } else { message }));
            }
            let (mut inflater, mut window) = (Inflater::new(), Window::new(bits));
            let mut answers = python_deflates(&sent).into_iter();
            for message in &messages {
                assert_eq!(answers.next().as_deref(), Some(&message[..]), "{bits} {takeover}");
                let payload = answers.next().expect("what they compress");
                let window = takeover.then_some(&mut window);
                let mut out = Vec::new();
                let kind = MessageKind::Binary;
                assert_eq!(
                    inflater.inflate(kind, &payload, window, message.len(), &mut out),
                    Ok(())
                );
                assert_eq!(&out, message);
            }
        }
    }
}

/// Text with repetitions near and far, and some noise in it.
fn noisy_text(seed: &mut u64, len: usize) -> Vec<u8> {
    let mut text = vec![b'm'];
    while text.len() <= len {
        *seed =
            seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (back, run) = ((*seed >> 40) as usize % text.len(), (*seed >> 33) as usize % 40);
        let from = text.len() - 1 - back;
        text.extend_from_within(from..(from + run).min(text.len()));
        text.push((*seed >> 56) as u8);
    }
    text
}

/// What `tests/clients/python_deflate.py` says to `input`, a line at a time.
fn python_deflates(input: &str) -> Vec<Vec<u8>> {
    let mut child = Command::new(python())
        .arg(checkout().join("tests/clients/python_deflate.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the interpreter starts");
    let mut stdin = child.stdin.take().expect("piped");
    let input = input.to_owned();
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().expect("it ends");
    writer.join().expect("no panic").expect("all is read");
    assert!(output.status.success(), "{}", output.status);
    let text = String::from_utf8(output.stdout).expect("hex digits");
    text.lines().map(|line| HEXLOWER.decode(line.as_bytes()).expect("hex digits")).collect()
}

fn hex(bytes: &[u8]) -> String {
    HEXLOWER.encode(bytes)
}

fn run(interpreter: &Path, script: &str, gateway_args: &[&str]) {
    // What does not compress is a little longer for it, and the largest has 1 MiB before.
    let limits = ["--loops", "2", "--max-message", "2MiB", "--max-frame", "2MiB"];
    let gateway = Gateway::start(&[&limits, gateway_args].concat());
    let output =
        client(interpreter, script, &gateway.url("")).output().expect("the interpreter starts");
    assert_passed(script, &output);
    let status = gateway.stop();
    assert!(status.success(), "the gateway left with {status}");
}

/// A script of `tests/clients`, to be run against the gateway at a URL.
fn client(interpreter: &Path, script: &str, url: &str) -> Command {
    let mut command = Command::new(interpreter);
    command
        .arg(checkout().join("tests/clients").join(script))
        .arg(url)
        .env("TIDEGATE_NODE", cache().join("node"))
        .env("TIDEGATE_CHROMIUM", on_path("chromium"));
    command
}

fn assert_passed(script: &str, output: &Output) {
    assert!(
        output.status.success(),
        "{script} ({}):\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
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
