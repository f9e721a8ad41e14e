//! Two reports side by side: every figure of the second relative to the first.

use std::{fmt, fs, path::Path};

use serde_json::{Value, json};

use super::{fail_if::KINDS, grouped, member, micros};

/// What makes two runs different tests, by its path.
const SETTINGS: &[&str] = &[
    "command",
    "connections",
    "threads",
    "private_tables",
    "hold.seconds",
    "connect.target_per_second",
    "main.target_per_second",
];
/// The same in a command's own part: besides words and switches, numbers of these names.
const OWN_SETTINGS: &[&str] = &[
    "size_bytes",
    "pipeline",
    "target_per_second",
    "rooms",
    "publishers",
    "members",
    "stalled",
    "stalled_percent",
    "connections",
    "rate",
    "duration_seconds",
    "in_flight",
    "times",
    "vanishing",
    "stayers",
    "pings_per_second",
    "backoff_seconds",
    "stay_seconds",
    "abort_percent",
    "drip_seconds",
    "chunk_bytes",
    "receive_buffer_bytes",
];
/// Parts of a report that are compared, besides the command's own. What is left out are settings and
/// what says nothing by itself.
const PARTS: &[&str] = &["connect", "hold.lost", "close", "bytes", "memory", "server", "kernel"];
const LEFT_OUT: &[&str] = &["pids", "ended", "count", "attempted", "percent_of_target"];

/// Two reports that can be compared.
#[derive(Debug)]
pub(crate) struct Comparison {
    warnings: Vec<String>,
    figures: Vec<Figure>,
}

#[derive(Debug, PartialEq)]
struct Figure {
    path: String,
    before: f64,
    after: f64,
}

impl Comparison {
    /// Reads both files.
    pub(crate) fn read(before: &Path, after: &Path) -> Result<Self, String> {
        Ok(Self::new(&load(before)?, &load(after)?))
    }

    fn new(before: &Value, after: &Value) -> Self {
        let mut figures = Vec::new();
        push(&mut figures, "errors", before, after);
        push(&mut figures, "main.per_second", before, after);
        let mut parts = PARTS.to_vec();
        parts.splice(1..1, own_part(before));
        for part in parts {
            gather(part, at(before, part), at(after, part), &mut figures);
        }
        figures.retain(|figure| figure.before != 0.0 || figure.after != 0.0);
        Self { warnings: warnings(before, after), figures }
    }

    /// What makes the figures mean less than they seem to.
    pub(crate) fn warnings(&self) -> impl Iterator<Item = &str> {
        self.warnings.iter().map(String::as_str)
    }

    /// As JSON, with a line break at the end.
    pub(crate) fn to_json(&self) -> String {
        let figures = self.figures.iter().map(|figure| {
            let Figure { path, before, after } = figure;
            json!({"figure": path, "a": before, "b": after, "ratio": figure.ratio()})
        });
        let all = json!({"warnings": self.warnings, "figures": figures.collect::<Vec<_>>()});
        format!("{all:#}\n")
    }
}

impl Figure {
    /// The second relative to the first; none if that was nothing.
    fn ratio(&self) -> Option<f64> {
        (self.before != 0.0).then(|| self.after / self.before)
    }

    fn label(&self, value: f64) -> String {
        let (parent, leaf) = self.path.rsplit_once('.').unwrap_or(("", &self.path));
        match leaf {
            _ if parent.ends_with("_us") || leaf.contains("_us") => micros(value),
            _ if leaf.contains("seconds") => format!("{value:.2} s"),
            _ if value.fract() == 0.0 || value >= 1_000.0 => grouped(value.round() as u64),
            _ => format!("{value:.3}"),
        }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.figures.iter().map(|figure| figure.path.len()).max().unwrap_or(0);
        writeln!(f, "{:<width$} {:>16} {:>16} {:>8}", "", "A", "B", "B/A")?;
        for figure in &self.figures {
            let (before, after) = (figure.label(figure.before), figure.label(figure.after));
            let ratio = figure.ratio().map_or("-".to_owned(), |ratio| format!("{ratio:.3}"));
            writeln!(f, "{:<width$} {before:>16} {after:>16} {ratio:>8}", figure.path)?;
        }
        Ok(())
    }
}

fn load(path: &Path) -> Result<Value, String> {
    let shown = path.display();
    let text = fs::read(path).map_err(|error| format!("{shown}: {error}"))?;
    let report: Value =
        serde_json::from_slice(&text).map_err(|error| format!("{shown} is not JSON: {error}"))?;
    match report["tool"] == "loadtest" && report["connect"].is_object() {
        true => Ok(report),
        false => Err(format!("{shown} is not a report of loadtest --json")),
    }
}

/// The key of what only this command reports.
fn own_part(report: &Value) -> Option<&str> {
    const COMMON: &[&str] = &["main", "hold", "series"];
    let members = report.as_object()?.iter();
    let mut objects = members.filter(|(_, value)| value.is_object()).map(|(key, _)| key.as_str());
    objects.find(|key| !COMMON.contains(key) && !PARTS.contains(key))
}

/// Adds every number that both have below `path`. A kind of trouble that only one has seen was seen
/// zero times by the other.
fn gather(path: &str, before: &Value, after: &Value, figures: &mut Vec<Figure>) {
    let counts_kinds = KINDS.contains(&path.rsplit('.').next().unwrap_or(path));
    let number = |value: Option<&Value>| match value {
        None if counts_kinds => Some(0.0),
        value => value.and_then(Value::as_f64),
    };
    for key in keys(before, after) {
        let (value, other) = (member(before, &key), member(after, &key));
        let path = format!("{path}.{key}");
        let skipped = [LEFT_OUT, OWN_SETTINGS].concat().contains(&key.as_str());
        match (number(value), number(other)) {
            _ if skipped => {}
            (Some(before), Some(after)) => figures.push(Figure { path, before, after }),
            _ => {
                if let (Some(value), Some(other)) = (value, other) {
                    gather(&path, value, other, figures);
                }
            }
        }
    }
}

/// The keys of the first and then those that only the second has; of arrays, their numbers.
fn keys(before: &Value, after: &Value) -> Vec<String> {
    let items = |value: &Value| value.as_array().map_or(0, Vec::len);
    let own = |value: &Value| {
        value.as_object().into_iter().flatten().map(|(key, _)| key.clone()).collect::<Vec<_>>()
    };
    let numbers = (0..items(before).max(items(after))).map(|number| number.to_string());
    let only_after = own(after).into_iter().filter(|key| before.get(key).is_none());
    own(before).into_iter().chain(only_after).chain(numbers).collect()
}

/// Adds the number at a path if both have it.
fn push(figures: &mut Vec<Figure>, path: &str, before: &Value, after: &Value) {
    let numbers = at(before, path).as_f64().zip(at(after, path).as_f64());
    figures.extend(numbers.map(|(before, after)| Figure { path: path.to_owned(), before, after }));
}

fn at<'a>(report: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(report, |value, part| &value[part])
}

fn warnings(before: &Value, after: &Value) -> Vec<String> {
    let mut warnings = Vec::new();
    for (name, report) in [("A", before), ("B", after)] {
        if report["interrupted"] == true {
            warnings.push(format!("{name} was interrupted"));
        } else if report["ok"] != true {
            warnings.push(format!("{name} failed"));
        }
    }
    let mut differ = |path: &str, before: &Value, after: &Value| {
        if before != after {
            warnings.push(format!("the runs are not alike: {path} was {before}, then {after}"));
        }
    };
    for path in SETTINGS {
        differ(path, at(before, path), at(after, path));
    }
    // Reports of before there was a choice name none.
    if before["dialect"].is_string() && after["dialect"].is_string() {
        differ("dialect", &before["dialect"], &after["dialect"]);
    }
    let own = own_part(before).unwrap_or("");
    for (key, value) in before[own].as_object().into_iter().flatten() {
        let setting =
            value.is_string() || value.is_boolean() || OWN_SETTINGS.contains(&key.as_str());
        if setting && before["command"] == after["command"] {
            differ(&format!("{own}.{key}"), value, &after[own][key]);
        }
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Value {
        json!({
            "tool": "loadtest", "command": "echo", "ok": true, "interrupted": false, "errors": 0,
            "connections": 100, "threads": 1, "hold": {"seconds": 5.0},
            "main": {"per_second": 1000.0},
            "connect": {"connected": 100, "per_second": 50.0, "handshake_us": {"count": 9, "p99": 1500.0}},
            "echo": {"size_bytes": 20, "text": false, "latency_us": {"p50": 100.0}, "wrong": {}},
            "server": {"cpu_seconds_work": 2.0, "rss_peak": 1000, "pids": [7]},
        })
    }

    #[test]
    fn every_figure_of_both_is_compared() {
        let mut after = report();
        after["main"]["per_second"] = json!(1500.0);
        after["echo"]["latency_us"]["p50"] = json!(50.0);
        let comparison = Comparison::new(&report(), &after);
        let paths: Vec<_> = comparison.figures.iter().map(|figure| figure.path.as_str()).collect();
        assert_eq!(
            paths,
            [
                "main.per_second",
                "connect.connected",
                "connect.handshake_us.p99",
                "connect.per_second",
                "echo.latency_us.p50",
                "server.cpu_seconds_work",
                "server.rss_peak",
            ]
        );
        let ratios: Vec<_> = comparison.figures.iter().filter_map(Figure::ratio).collect();
        assert_eq!(ratios, [1.5, 1.0, 1.0, 1.0, 0.5, 1.0, 1.0]);
        assert_eq!(comparison.warnings().count(), 0);
        let text = comparison.to_string();
        assert!(text.contains("1.50 ms") && text.contains("1.500"), "{text}");
        let json: Value = serde_json::from_str(&comparison.to_json()).unwrap();
        assert_eq!(json["figures"][0]["ratio"], 1.5);
    }

    #[test]
    fn runs_that_are_not_alike_are_told() {
        let told = |change: fn(&mut Value)| {
            let mut after = report();
            change(&mut after);
            Comparison::new(&report(), &after).warnings.join("; ")
        };
        assert!(told(|b| b["connections"] = json!(5)).contains("connections was 100, then 5"));
        assert!(told(|b| b["echo"]["size_bytes"] = json!(1)).contains("echo.size_bytes"));
        assert!(told(|b| b["echo"]["text"] = json!(true)).contains("echo.text"));
        assert!(told(|b| b["command"] = json!("connect")).contains("command"));
        assert_eq!(told(|b| b["dialect"] = json!("hub")), "");
        assert!(told(|b| b["ok"] = json!(false)).contains("B failed"));
        assert_eq!(told(|b| b["hold"]["seconds"] = json!(5.0)), "");
    }

    #[test]
    fn kinds_that_one_has_not_seen_are_zero_there() {
        let (mut before, mut after) = (report(), report());
        before["hold"]["lost"] = json!({});
        after["hold"]["lost"] = json!({"connection reset": 4});
        before["echo"]["wrong"] = json!({"answer a second time": 2});
        let comparison = Comparison::new(&before, &after);
        let figure = |path: &str| comparison.figures.iter().find(|figure| figure.path == path);
        let lost = figure("hold.lost.connection reset").unwrap();
        assert_eq!((lost.before, lost.after), (0.0, 4.0));
        let wrong = figure("echo.wrong.answer a second time").unwrap();
        assert_eq!((wrong.before, wrong.after), (2.0, 0.0));
    }

    #[test]
    fn storms_are_compared_one_by_one() {
        let report = |p99: f64| {
            let mut report = report();
            let storms = json!([{"back": 5}, {"back": 5, "during_us": {"count": 9, "p99": p99}}]);
            report["command"] = json!("storm");
            report["storm"] = json!({"times": 2, "vanish": "rst", "storms": storms});
            report.as_object_mut().unwrap().remove("echo");
            report
        };
        let mut after = report(30.0);
        after["storm"]["times"] = json!(3);
        let comparison = Comparison::new(&report(10.0), &after);
        let during = "storm.storms.1.during_us.p99";
        let figure = comparison.figures.iter().find(|figure| figure.path == during).unwrap();
        assert_eq!(figure.ratio(), Some(3.0));
        assert!(comparison.warnings.join("; ").contains("storm.times was 2, then 3"));
        assert!(comparison.figures.iter().all(|figure| figure.path != "storm.times"));
    }

    #[test]
    fn nothing_divides_by_nothing() {
        let mut before = report();
        before["errors"] = json!(0);
        let mut after = report();
        after["errors"] = json!(3);
        let comparison = Comparison::new(&before, &after);
        assert_eq!(comparison.figures[0].ratio(), None);
        assert!(comparison.to_string().lines().nth(1).unwrap().ends_with('-'));
    }
}
