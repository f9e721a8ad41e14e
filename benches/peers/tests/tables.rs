//! The tables of `scripts/compare.py`: right arithmetic, and a place on the page for each.

use std::{fs, path::Path, process::Command};

use serde_json::{Value, json};

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// Runs the script without measuring; its stdout, and its stderr if it failed.
fn compare(results: &Path, args: &[&str]) -> Result<String, String> {
    let output = Command::new("python3")
        .arg(root().join("scripts/compare.py"))
        .args(["--bin", "nowhere", "--results"])
        .arg(results)
        .args(args)
        .output()
        .expect("python3 is installed");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let stdout = text(&output.stdout);
    if output.status.success() { Ok(stdout) } else { Err(stdout + &text(&output.stderr)) }
}

/// A row whose server used so many microseconds for each of 1,000 messages, one round after another.
fn row(name: &str, costs_us: &[f64]) -> Value {
    let sample = |cost: &f64| json!({"messages": 1000, "seconds": 0.02, "server_cpu_seconds": cost / 1000.0, "elsewhere_cores": 0.1});
    let samples: Vec<_> = costs_us.iter().map(sample).collect();
    measured(name, "floor", &samples, 3)
}

fn measured(name: &str, baseline: &str, samples: &[Value], rounds: u32) -> Value {
    json!({
        "name": name, "baseline": baseline, "samples": samples, "failure": null,
        "commands": {"cores": "0,1"},
        "options": {"rounds": rounds, "seconds": 5, "warmup": 1},
        "machine": {"commit": "abc", "dirty": false, "kernel": "1", "cpu": "x", "cores": 2, "date": "today"},
    })
}

fn keep(results: &Path, group: &str, cases: &[Value]) {
    let result = json!({"format": 2, "cases": cases});
    fs::write(results.join(format!("{group}.json")), result.to_string()).expect("written");
}

#[test]
fn ratios_are_of_minima_and_of_medians() {
    let dir = tempfile::tempdir().unwrap();
    let rows = [row("floor", &[4.0, 8.0, 6.0]), row("other", &[9.0, 5.0, 30.0])];
    let case = json!({"columns": {"bytes": 1024}, "unit": "message", "rows": rows});
    keep(dir.path(), "echo", &[case]);
    let table = compare(dir.path(), &["--render", "--only", "echo"]).unwrap();
    assert!(
        table.contains("| 1,024 | floor | 6.00 | 4.00 | 50,000 | 15 % | 1 | 1 | itself |"),
        "{table}"
    );
    assert!(
        table.contains("| 1,024 | other | 9.00 | 5.00 | 50,000 | 22 % | 1.25 | 1.50 | floor |"),
        "{table}"
    );
    assert!(table.contains("3 rounds of 5 s") && table.contains("; 0.10 cores busy"), "{table}");
}

#[test]
fn memory_is_what_the_connections_added() {
    let dir = tempfile::tempdir().unwrap();
    let samples: Vec<_> = [1100, 1200, 1900]
        .iter()
        .map(|after| json!({"before_kib": 1000, "after_kib": after}))
        .collect();
    let rows = [measured("server", "server", &samples, 3)];
    keep(dir.path(), "idle", &[json!({"columns": {"connections": 1024}, "rows": rows})]);
    let table = compare(dir.path(), &["--render", "--only", "idle"]).unwrap();
    assert!(table.contains("| server | 1,024 | 200 |"), "{table}");
}

#[test]
fn what_was_measured_in_parts_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let sample = json!({"messages": 1000, "seconds": 1.0, "server_cpu_seconds": 0.5,
        "elsewhere_cores": 0.2});
    let case = |bytes: u32, rounds, failure: Value| {
        let mut row = measured("floor", "floor", std::slice::from_ref(&sample), rounds);
        row["failure"] = failure;
        json!({"columns": {"bytes": bytes}, "unit": "message", "rows": [row]})
    };
    keep(dir.path(), "echo", &[case(20, 2, Value::Null), case(1024, 8, json!("broken"))]);
    let table = compare(dir.path(), &["--render", "--only", "echo"]).unwrap();
    assert!(table.contains("- 20 bytes: 2 rounds of 5 s"), "{table}");
    assert!(table.contains("- 1,024 bytes: 8 rounds of 5 s"), "{table}");
    assert!(table.contains("| floor (**failed after 1**) | 500.00"), "{table}");
    assert!(table.contains("**0.20 cores busy with other things**"), "{table}");
}

#[test]
fn a_part_is_not_written_for_the_whole() {
    let dir = tempfile::tempdir().unwrap();
    for part in [&["--servers", "fastwebsockets"][..], &["--sizes", "20"], &["--render"]] {
        let error = compare(dir.path(), &[part, &["--write", "--only", "echo"]].concat());
        assert!(error.unwrap_err().contains("rows out of echo"), "{part:?}");
    }
    let error = compare(dir.path(), &["--sizes", "21"]).unwrap_err();
    assert!(error.contains("20,1024,16384"), "{error}");
}

#[test]
fn a_group_that_measures_nothing_shows_nothing_old() {
    let dir = tempfile::tempdir().unwrap();
    let case =
        json!({"columns": {"active": 1000}, "unit": "message", "rows": [row("old", &[1.0])]});
    let quick = dir.path().join("quick");
    fs::create_dir(&quick).unwrap();
    keep(&quick, "open", &[case]);
    // There are no programs to start.
    let output = compare(dir.path(), &["--quick", "--only", "fanout,open,idle"]).unwrap_err();
    for group in ["fanout", "open", "idle"] {
        assert!(output.contains(&format!("{group}: nothing was measured")), "{output}");
    }
    assert!(!output.contains("| old |"), "{output}");
}

#[test]
fn every_group_has_its_place_on_the_page() {
    let dir = tempfile::tempdir().unwrap();
    let error = compare(dir.path(), &["--render", "--only", "nothing"]).unwrap_err();
    let (_, groups) = error.trim().split_once("there are ").expect("the groups are named");
    let groups: Vec<_> = groups.split(", ").collect();
    assert!(groups.len() >= 7, "{error}");
    let page = fs::read_to_string(root().join("docs/PERFORMANCE.md")).unwrap();
    for group in &groups {
        assert_eq!(page.matches(&format!("<!-- compare:{group} -->")).count(), 1, "{group}");
    }
    assert_eq!(page.matches("<!-- /compare -->").count(), groups.len());
}
