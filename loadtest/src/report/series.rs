//! The time series of a run as a table of numbers: a part of the JSON, and what the charts draw.

use serde::{Serialize, Serializer};

use crate::{
    run::Outcome,
    sampler::rows::{Row, Rows},
};

/// A table: one row an interval, one number (or none) a column.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Series {
    interval_ms: f64,
    columns: Vec<&'static str>,
    rows: Vec<Vec<Number>>,
    /// From the start to when the work began and ended.
    work_seconds: Option<(f64, f64)>,
}

/// A number of the table; whole ones are written without a fraction, others with three digits.
#[derive(Clone, Copy, Debug)]
struct Number(Option<f64>);

/// What a row says in one column.
type Column = (&'static str, fn(&Row) -> Option<f64>);

/// The columns of every run.
const COLUMNS: &[Column] = &[
    ("seconds", |row| Some(row.at as f64 / 1e9)),
    ("open", |row| Some(row.open as f64)),
    ("connects_per_second", |row| Some(row.per_second(row.connected))),
    ("sent_per_second", |row| Some(row.per_second(row.sent))),
    ("received_per_second", |row| Some(row.per_second(row.received))),
    ("bytes_out_per_second", |row| Some(row.per_second(row.bytes_out))),
    ("bytes_in_per_second", |row| Some(row.per_second(row.bytes_in))),
    ("errors", |row| Some(row.errors as f64)),
    ("latency_count", |row| Some(row.latency.count() as f64)),
    ("p50_us", |row| row.latency.micros(0.5)),
    ("p90_us", |row| row.latency.micros(0.9)),
    ("p99_us", |row| row.latency.micros(0.99)),
    ("max_us", |row| row.latency.max_micros()),
    ("own_rss", |row| Some(row.own.rss as f64)),
    ("own_cpu_percent", |row| Some(100.0 * row.own.cpu as f64 / row.span.max(1) as f64)),
    ("kernel_tcp", |row| row.kernel.map(|kernel| kernel.tcp as f64)),
    ("kernel_objects", |row| row.kernel.map(|kernel| kernel.objects as f64)),
];

/// The columns of a run with a watched server.
const SERVER_COLUMNS: &[Column] = &[
    ("server_rss", |row| row.server.map(|server| server.rss as f64)),
    ("server_cpu_percent", |row| {
        row.server.map(|server| 100.0 * server.cpu as f64 / row.span.max(1) as f64)
    }),
    ("server_threads", |row| row.server.map(|server| server.threads as f64)),
];

impl Series {
    /// The table of a run.
    pub(crate) fn new(outcome: &Outcome) -> Self {
        let seconds = |nanos: u64| nanos as f64 / 1e9;
        let marks = &outcome.marks;
        let work = marks.work_from.zip(marks.work_until);
        let has_server = !outcome.server.pids().is_empty();
        Self {
            work_seconds: work.map(|(from, until)| (seconds(from), seconds(until))),
            ..Self::of(&outcome.rows, has_server)
        }
    }

    /// The table of rows.
    pub(crate) fn of(rows: &Rows, has_server: bool) -> Self {
        let server = if has_server { SERVER_COLUMNS } else { &[] };
        let columns: Vec<_> = COLUMNS.iter().chain(server).collect();
        let numbers = |row| columns.iter().map(|(_, number)| Number(number(row))).collect();
        Self {
            interval_ms: rows.interval() as f64 / 1e6,
            columns: columns.iter().map(|(name, _)| *name).collect(),
            rows: rows.iter().map(numbers).collect(),
            work_seconds: None,
        }
    }

    /// All numbers of a column; none if there is no such column.
    pub(crate) fn column(&self, name: &str) -> Vec<Option<f64>> {
        let Some(at) = self.columns.iter().position(|column| *column == name) else {
            return Vec::new();
        };
        self.rows.iter().map(|row| row[at].0).collect()
    }

    /// From the start to when the work began and ended.
    pub(crate) fn work_seconds(&self) -> Option<(f64, f64)> {
        self.work_seconds
    }
}

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            None => serializer.serialize_none(),
            Some(number) if number.fract() == 0.0 && number.abs() < 1e15 => {
                serializer.serialize_i64(number as i64)
            }
            Some(number) => serializer.serialize_f64((number * 1e3).round() / 1e3),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::sampler::process::Usage;

    #[test]
    fn numbers_are_rates_of_the_interval() {
        let mut rows = Rows::new(500_000_000);
        let server = Some(Usage { rss: 4096, cpu: 250_000_000, threads: 3 });
        let row = Row {
            at: 500_000_000,
            span: 500_000_000,
            open: 7,
            sent: 100,
            server,
            ..Row::default()
        };
        rows.push(row.clone());
        rows.push(Row { at: 1_000_000_000, server: None, ..row });
        let series = Series::of(&rows, true);
        assert_eq!(series.column("seconds"), [Some(0.5), Some(1.0)]);
        assert_eq!(series.column("sent_per_second"), [Some(200.0), Some(200.0)]);
        assert_eq!(series.column("server_cpu_percent"), [Some(50.0), None]);
        assert_eq!(series.column("p99_us"), [None, None]);
        assert!(series.column("x").is_empty());
        let json = json!(series);
        let columns = json["columns"].as_array().unwrap();
        assert!(
            json["rows"]
                .as_array()
                .unwrap()
                .iter()
                .all(|row| { row.as_array().unwrap().len() == columns.len() })
        );
        assert_eq!((&json["rows"][0][0], &json["rows"][0][1]), (&json!(0.5), &json!(7)));
        assert_eq!(json["interval_ms"], 500.0);
    }
}
