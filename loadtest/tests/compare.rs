//! `loadtest compare`: two reports, made by real runs.

mod plain_server;

use std::{fs, net::SocketAddr, path::Path, process::Command, time::Duration};

use plain_server::serve;
use serde_json::Value;

/// Runs the program; returns its exit code and what it wrote to stdout and stderr.
fn loadtest(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_loadtest")).args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn run(address: SocketAddr, connections: &str, json: &Path) {
    let url = format!("ws://{address}/");
    let json = json.to_str().unwrap();
    let words = ["echo", "--url", &url, "-c", connections, "--duration", "300ms", "--json", json];
    let (code, out, err) = loadtest(&words);
    assert_eq!(code, Some(0), "{out}{err}");
}

#[test]
fn ratios_of_two_runs_are_printed() {
    let directory = tempfile::tempdir().unwrap();
    let (a, b) = (directory.path().join("a.json"), directory.path().join("b.json"));
    let address = serve(Duration::ZERO);
    run(address, "2", &a);
    run(address, "4", &b);
    let (a, b) = (a.to_str().unwrap(), b.to_str().unwrap());

    let (code, out, err) = loadtest(&["compare", a, b]);
    assert_eq!(code, Some(0), "{out}{err}");
    let line = out.lines().find(|line| line.starts_with("connect.connected")).expect(&out);
    assert_eq!(
        line.split_whitespace().collect::<Vec<_>>(),
        ["connect.connected", "2", "4", "2.000"]
    );
    for figure in ["main.per_second", "echo.latency_us.p99", "bytes.sent", "connect.per_second"] {
        assert!(out.contains(figure), "{figure}: {out}");
    }
    assert!(err.contains("not alike: connections was 2, then 4"), "{err}");

    let (code, out, err) = loadtest(&["compare", a, a, "--json"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let json: Value = serde_json::from_str(&out).unwrap();
    let figures = json["figures"].as_array().unwrap();
    assert!(figures.len() > 10);
    assert!(figures.iter().all(|figure| figure["ratio"] == 1.0), "{out}");
}

#[test]
fn bad_files_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (no_json, other) = (file("x", "no"), file("y.json", "{\"tool\": \"other\"}"));
    for (path, said) in [
        ("/nonexistent.json", "/nonexistent.json: "),
        (&no_json, "is not JSON"),
        (&other, "is not a report of loadtest"),
    ] {
        let (code, out, err) = loadtest(&["compare", path, path]);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{err}");
        assert!(err.contains(said) && err.contains(path), "{err}");
    }
    assert_eq!(loadtest(&["compare", &no_json]).0, Some(2));
}
