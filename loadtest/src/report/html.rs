//! The report as one page that stands alone: no network, charts inline, light or dark, printable. A
//! small script shows the numbers under the pointer; the page says all it has to say without it.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{
    Report,
    axis::Unit,
    chart::{Chart, escaped, style},
    charts, grouped, micros,
};

const CSS: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");
/// Where the value of a line of the text begins.
const LABEL_WIDTH: usize = 15;

/// The page.
pub(crate) fn page(report: &Report) -> String {
    let json = report.to_json().unwrap_or_default();
    let (class, verdict) = if report.ok { ("good", "ok") } else { ("bad", "failed") };
    let title = escaped(&format!("{} {}", report.command, report.url));
    let figures: String = charts::of(report).iter().map(figure).collect();
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>loadtest {title}</title>\n<style>\n{CSS}{}\n</style>\n</head>\n<body>\n\
         <h1>{title} <span class=\"verdict {class}\">{verdict}</span></h1>\n<p>{}</p>\n\
         <div class=\"tables\">\n<section>\n<h2>Summary</h2>\n{}</section>\n\
         <section>\n<h2>Latencies</h2>\n{}</section>\n</div>\n\
         <h2>Over time</h2>\n<div class=\"charts\">\n{figures}</div>\n<script>\n{SCRIPT}</script>\n</body>\n</html>\n",
        style(),
        escaped(&subtitle(report)),
        summary(&report.to_string()),
        latencies(&json),
    )
}

fn subtitle(report: &Report) -> String {
    format!(
        "loadtest {}, {} connections, seed {}, {:.1} s in all",
        report.version,
        grouped(report.connections.into()),
        report.seed,
        report.total_seconds
    )
}

/// The lines of the text as a table, without the latencies, which have one of their own.
fn summary(text: &str) -> String {
    let mut table = "<div class=\"wide\"><table>\n".to_owned();
    for line in text.lines().skip(1) {
        let at = line.char_indices().nth(LABEL_WIDTH).map_or(line.len(), |(at, _)| at);
        let (label, value) = line.split_at(at);
        if !value.starts_with("p50 ") {
            let (label, value) = (escaped(label.trim()), escaped(value));
            writeln!(table, "<tr><th>{label}</th><td>{value}</td></tr>")
                .expect("a string takes all");
        }
    }
    table + "</table></div>\n"
}

/// Every latency of the report that was measured.
fn latencies(report: &Value) -> String {
    let mut found = Vec::new();
    collect("", report, &mut found);
    let mut table =
        "<div class=\"wide\"><table class=\"numbers\">\n<thead><tr><th></th>".to_owned();
    let columns = [
        ("mean", "mean"),
        ("p50", "p50"),
        ("p90", "p90"),
        ("p99", "p99"),
        ("p99_9", "p99.9"),
        ("max", "max"),
    ];
    for (_, name) in columns {
        write!(table, "<th>{name}</th>").expect("a string takes all");
    }
    table += "<th>count</th></tr></thead>\n";
    for (name, latency) in found {
        write!(table, "<tr><th>{}</th>", escaped(&name)).expect("a string takes all");
        for (key, _) in columns {
            let value = micros(latency[key].as_f64().unwrap_or(0.0));
            write!(table, "<td>{value}</td>").expect("a string takes all");
        }
        let count = grouped(latency["count"].as_u64().unwrap_or(0));
        writeln!(table, "<td>{count}</td></tr>").expect("a string takes all");
    }
    table + "</table></div>\n"
}

/// Finds latencies: objects whose key ends in `_us`, with a count above zero.
fn collect<'a>(path: &str, value: &'a Value, found: &mut Vec<(String, &'a Value)>) {
    // Numbers of an array count from 1, as the text does.
    for (item, number) in value.as_array().into_iter().flatten().zip(1..) {
        collect(&format!("{path} {number}"), item, found);
    }
    let members = value.as_object().into_iter().flatten();
    // The main latency stands in the command's own part, too; the series has none.
    for (key, member) in members.filter(|(key, _)| !["main", "series"].contains(&key.as_str())) {
        let name = [path, key.trim_end_matches("_us").replace('_', " ").trim()].join(" ");
        match key.strip_suffix("_us") {
            Some(_) if member["count"].as_u64() > Some(0) => {
                found.push((name.trim().to_owned(), member));
            }
            Some(_) => {}
            None => collect(&name, member, found),
        }
    }
}

fn figure(chart: &Chart) -> String {
    // A script element ends at its first "</", wherever that stands.
    let data = data(chart).to_string().replace('<', "\\u003c");
    format!(
        "<figure>{}\n<script type=\"application/json\">{data}</script></figure>\n",
        chart.element()
    )
}

/// What the script shows: all lines have the same first numbers.
fn data(chart: &Chart) -> Value {
    let xs: Vec<f64> = chart
        .lines
        .first()
        .map_or(Vec::new(), |line| line.points.iter().map(|(x, _)| *x).collect());
    let rounded = |number: f64, digits: f64| (number * digits).round() / digits;
    let labels = xs.iter().map(|x| match chart.x.unit {
        Unit::Percent => format!("{} %", rounded(x * 100.0, 1e6)),
        unit => unit.label(*x),
    });
    let columns = chart.lines.iter().map(|line| {
        line.points.iter().map(|(_, y)| y.map(|y| rounded(y, 1e3))).collect::<Vec<_>>()
    });
    json!({
        "pixels": xs.iter().map(|x| rounded(chart.place((*x, 0.0)).0, 10.0)).collect::<Vec<_>>(),
        "names": chart.lines.iter().map(|line| line.name).collect::<Vec<_>>(),
        "x": labels.collect::<Vec<_>>(),
        "y": chart.y.unit.name(),
        "columns": columns.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_becomes_rows() {
        let text = "echo ws://x\n  layout       1 thread(s)\n  handshake    p50 1 µs\n               3 × <b>\n";
        let table = summary(text);
        assert!(table.contains("<tr><th>layout</th><td>1 thread(s)</td></tr>"), "{table}");
        assert!(table.contains("<tr><th></th><td>3 × &lt;b&gt;</td></tr>"), "{table}");
        assert!(!table.contains("p50") && !table.contains("ws://x"), "{table}");
    }

    #[test]
    fn latencies_are_found_wherever_they_are() {
        let some = json!({"count": 2, "p50": 1_500.0});
        let report = json!({
            "main": {"latency_us": some},
            "echo": {"latency_us": some, "send_lag_us": {"count": 0}},
            "connect": {"handshake_us": some},
        });
        let table = latencies(&report);
        assert_eq!(
            table.matches("<tr><th>").count(),
            2 + usize::from(table.contains("<tr><th></th>"))
        );
        assert!(
            table.contains("<th>connect handshake</th>") && table.contains("1.50 ms"),
            "{table}"
        );
    }

    #[test]
    fn latencies_of_each_storm_are_found() {
        let storm = json!({"during_us": {"count": 2, "p50": 1_500.0}, "after_us": {"count": 0}});
        let table = latencies(&json!({"storm": {"storms": [storm, storm]}}));
        for name in ["storm storms 1 during", "storm storms 2 during"] {
            assert!(table.contains(&format!("<th>{name}</th>")), "{table}");
        }
        assert!(!table.contains("after"), "{table}");
    }

    #[test]
    fn the_page_needs_nothing_else() {
        for outside in ["http://", "https://", "@import", "url(", "src=", "href="] {
            assert!(!CSS.contains(outside) && !SCRIPT.contains(outside), "{outside}");
        }
    }
}
