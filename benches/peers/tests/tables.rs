//! The tables of `scripts/compare.py`: right arithmetic, and a place on the page for each.

use std::{fs, path::Path, process::Command};

use serde_json::{Value, json};

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// Runs the script without measuring; its stdout, or its stderr if it failed.
fn compare(results: &Path, args: &[&str]) -> Result<String, String> {
    let output = Command::new("python3")
        .arg(root().join("scripts/compare.py"))
        .args(["--bin", "nowhere", "--results"])
        .arg(results)
        .args(args)
        .output()
        .expect("python3 is installed");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// A row whose server used so many microseconds for each of 1,000 messages, one round after another.
fn row(name: &str, costs_us: &[f64]) -> Value {
    let sample =
        |cost: &f64| json!({"messages": 1000, "seconds": 2.0, "server_cpu_seconds": cost / 1000.0});
    let samples: Vec<_> = costs_us.iter().map(sample).collect();
    json!({"name": name, "baseline": "floor", "samples": samples})
}

fn keep(results: &Path, group: &str, case: &Value) {
    let of = json!({"commit": "abc", "dirty": false, "kernel": "1", "cpu": "x", "cores": 2,
        "load": 0.0, "date": "today"});
    let options = json!({"rounds": 3, "seconds": 5, "warmup": 1});
    let result = json!({"group": group, "machine": of, "options": options, "cases": [case]});
    fs::write(results.join(format!("{group}.json")), result.to_string()).expect("written");
}

#[test]
fn ratios_are_of_minima_and_of_medians() {
    let dir = tempfile::tempdir().unwrap();
    let rows = [row("floor", &[4.0, 8.0, 6.0]), row("other", &[9.0, 5.0, 30.0])];
    let case = json!({"columns": {"bytes": 1024}, "unit": "message", "rows": rows});
    keep(dir.path(), "echo", &case);
    let table = compare(dir.path(), &["--render", "--only", "echo"]).unwrap();
    assert!(table.contains("| 1,024 | floor | 6.00 | 4.00 | 500 | 1 | 1 | itself |"), "{table}");
    assert!(
        table.contains("| 1,024 | other | 9.00 | 5.00 | 500 | 1.25 | 1.50 | floor |"),
        "{table}"
    );
    assert!(table.contains("3 rounds of 5 s") && !table.contains("from elsewhere"), "{table}");
}

#[test]
fn memory_is_what_the_connections_added() {
    let dir = tempfile::tempdir().unwrap();
    let samples: Vec<_> = [1100, 1200, 1900]
        .iter()
        .map(|after| json!({"before_kib": 1000, "after_kib": after}))
        .collect();
    let case = json!({"name": "server", "connections": 1024, "samples": samples});
    keep(dir.path(), "idle", &case);
    let table = compare(dir.path(), &["--render", "--only", "idle"]).unwrap();
    assert!(table.contains("| server | 1,024 | 200 |"), "{table}");
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
