//! What the documents say of the statistics is what the statistics hold.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;
use support::Gateway;

/// Counters that stand in the statistics for nobody yet: not documented.
const SILENT: [&str; 4] = ["arena_bytes", "late_answers", "log_line", "index"];

/// The first two cells of each row of the table of fields.
fn rows() -> Vec<(String, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/OPERATING.md");
    let text = fs::read_to_string(path).expect("the manual");
    let section = text.split("\n## Statistics\n").nth(1).expect("a section on statistics");
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let mut cells = row.trim_matches('|').splitn(2, '|');
        (cells.next().unwrap().to_owned(), cells.next().unwrap().to_owned())
    })
    .collect()
}

/// The words in `backquotes`.
fn quoted(text: &str) -> BTreeSet<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

#[test]
fn every_field_of_the_statistics_is_documented() {
    let (_, stats) = Gateway::start(&["--workers", "2"]).stop_for_stats();
    let rows = rows();
    let documented: BTreeSet<_> = rows.iter().flat_map(|(fields, _)| quoted(fields)).collect();
    assert_eq!(documented, keys(&stats));
    for field in ["config", "totals", "worker_totals", "buffers", "latency"] {
        let (_, said) = rows.iter().find(|(name, _)| quoted(name).contains(field)).unwrap();
        let held = match field {
            "latency" => keys(&stats["latency"]["loop_turn"]),
            "buffers" => keys(&stats["buffers"]),
            _ => keys(&stats[field]).into_iter().filter(|key| !SILENT.contains(key)).collect(),
        };
        assert_eq!(quoted(said), held, "{field}");
    }
    let (_, drops) = rows.iter().find(|(name, _)| quoted(name).contains("drops")).unwrap();
    let counted: BTreeSet<_> =
        keys(&stats["drops"]).into_iter().filter(|key| !SILENT.contains(key)).collect();
    assert_eq!(quoted(drops), counted);
    let (_, loops) = rows.iter().find(|(name, _)| quoted(name).contains("loops")).unwrap();
    for own in keys(&stats["loops"][0]).difference(&keys(&stats["totals"])) {
        assert!(quoted(loops).contains(own), "{own} of a loop");
    }
    let (_, workers) = rows.iter().find(|(name, _)| quoted(name).contains("workers")).unwrap();
    for own in keys(&stats["workers"][0]).difference(&keys(&stats["worker_totals"])) {
        assert!(quoted(workers).contains(own), "{own} of a worker");
    }
}

#[test]
fn every_built_in_handler_is_documented() {
    let page = include_str!("../docs/DIALECTS.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let documented: BTreeSet<_> = rows.collect();
    for name in tidegate::routing::handler_names() {
        assert!(documented.contains(name), "{name}");
    }
}
