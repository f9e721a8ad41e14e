//! The file of `--histogram-out`, read back by another implementation: PyPI's `hdrhistogram`.

mod support;

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use serde_json::Value;
use support::Gateway;
use support::client::Client;

const CLIENTS: u64 = 4;
const MESSAGES: u64 = 250;

#[test]
fn another_reader_reads_it_inline() {
    logs_and_reads_back("0");
}

#[test]
fn another_reader_reads_it_pooled() {
    logs_and_reads_back("2");
}

fn logs_and_reads_back(workers: &str) {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("latency.hlog");
    let log_arg = log.to_str().unwrap();
    let began = Instant::now();
    let mut gateway = Gateway::start(&[
        "--loops",
        "2",
        "--workers",
        workers,
        "--histogram-out",
        log_arg,
        "--histogram-interval",
        "200ms",
    ]);
    let mut peers = [(); CLIENTS as usize].map(|()| Client::open(gateway.addr, "/echo"));
    for n in 0..MESSAGES {
        for peer in &mut peers {
            peer.text(&n.to_string());
            assert_eq!(peer.read_text(), n.to_string());
        }
        if n == MESSAGES / 2 {
            // Over the edge of an interval: the counts must add up all the same.
            gateway.stats_until("half a second", |s| s["uptime_s"].as_f64() > Some(0.5));
        }
    }
    drop(peers);
    let (status, stats) = gateway.stop_for_stats();
    assert!(status.success(), "{status}");
    let tags = read_back(&log);
    let longest_us = began.elapsed().as_micros() as u64;
    let names: Vec<_> = tags.as_object().unwrap().keys().map(String::as_str).collect();
    let stages = ["accept_upgraded", "loop_turn", "read_routed", "read_written", "routed_written"];
    assert_eq!(names, stages);
    for (name, tag) in tags.as_object().unwrap() {
        let us = ["p50_us", "p99_us", "max_us"].map(|field| tag[field].as_u64().unwrap());
        assert!(us[0] >= 1 && us.is_sorted() && us[2] < longest_us, "{name}: {tag}");
        assert!(
            tag["intervals"].as_u64().unwrap() >= 3 && tag["in_order"] == true,
            "{name}: {tag}"
        );
        // The summary at exit is of the same recordings.
        assert_eq!(tag["count"], stats["latency"][name]["count"], "{name}");
    }
    let count = |name: &str| tags[name]["count"].as_u64().unwrap();
    assert_eq!(count("accept_upgraded"), CLIENTS);
    for stage in ["read_routed", "routed_written", "read_written"] {
        assert_eq!(count(stage), CLIENTS * MESSAGES, "{stage}");
    }
    assert!(count("loop_turn") >= MESSAGES);
    assert!(tags["read_written"]["p50_us"].as_u64() >= tags["read_routed"]["p50_us"].as_u64());
}

fn read_back(log: &Path) -> Value {
    let checkout = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let cache =
        env::var_os("TIDEGATE_CACHE").map_or_else(|| checkout.join(".cache"), PathBuf::from);
    let python = cache.join("python/bin/python");
    assert!(python.exists(), "no {}: run scripts/setup.sh", python.display());
    let output = Command::new(python)
        .arg(checkout.join("tests/clients/read_histogram.py"))
        .arg(log)
        .output()
        .expect("Python starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}
