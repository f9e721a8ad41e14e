//! Which charts a report has: those that have something to show.

use super::{
    Report,
    axis::{Scale, Unit},
    chart::{Chart, Line},
    series::Series,
};
use crate::tally::Latency;

/// A logarithmic axis shows more once the highest value is so many times the lowest.
const LOG_FROM: f64 = 30.0;

/// All charts, in the order of a page.
pub(crate) fn of(report: &Report) -> Vec<Chart> {
    let series = &report.series;
    let [work, _] = report.work.stages();
    let over_time = TIMED.iter().filter_map(|timed| timed.chart(series, work));
    let mut charts: Vec<_> = over_time.collect();
    if let Some(curve) = report.latency().filter(|latency| latency.count() > 0).map(percentiles) {
        let at = charts.iter().position(|chart| chart.name == "latency");
        charts.insert(at.map_or(charts.len(), |at| at + 1), curve);
    }
    charts
}

/// A chart of columns of the series.
struct Timed {
    name: &'static str,
    title: &'static str,
    unit: Unit,
    /// Columns and what the legend calls them.
    columns: &'static [(&'static str, &'static str)],
    /// Left out if all it shows is zero.
    may_be_missing: bool,
    /// Whether it is zero before the run.
    from_zero: bool,
}

const TIMED: &[Timed] = &[
    Timed {
        name: "connections",
        title: "Connections",
        unit: Unit::Count,
        columns: &[("open", "open")],
        may_be_missing: false,
        from_zero: true,
    },
    Timed {
        name: "connects",
        title: "Connects per second",
        unit: Unit::Count,
        columns: &[("connects_per_second", "connects/s")],
        may_be_missing: true,
        from_zero: false,
    },
    Timed {
        name: "messages",
        title: "Messages per second",
        unit: Unit::Count,
        columns: &[("sent_per_second", "sent"), ("received_per_second", "received")],
        may_be_missing: true,
        from_zero: false,
    },
    Timed {
        name: "bytes",
        title: "Bytes per second",
        unit: Unit::Bytes,
        columns: &[("bytes_out_per_second", "sent"), ("bytes_in_per_second", "received")],
        may_be_missing: true,
        from_zero: false,
    },
    Timed {
        name: "latency",
        title: "Latency",
        unit: Unit::Micros,
        columns: &[("p50_us", "p50"), ("p90_us", "p90"), ("p99_us", "p99"), ("max_us", "max")],
        may_be_missing: true,
        from_zero: false,
    },
    Timed {
        name: "errors",
        title: "Errors in each interval",
        unit: Unit::Count,
        columns: &[("errors", "errors")],
        may_be_missing: true,
        from_zero: false,
    },
    Timed {
        name: "memory",
        title: "Resident memory",
        unit: Unit::Bytes,
        columns: &[("server_rss", "server"), ("own_rss", "loadtest")],
        may_be_missing: false,
        from_zero: false,
    },
    Timed {
        name: "cpu",
        title: "CPU (100 % is one core)",
        unit: Unit::Percent,
        columns: &[("server_cpu_percent", "server"), ("own_cpu_percent", "loadtest")],
        may_be_missing: false,
        from_zero: false,
    },
    Timed {
        name: "kernel",
        title: "Kernel memory, growth since before the run",
        unit: Unit::Bytes,
        columns: &[("kernel_objects", "sockets, files, stacks"), ("kernel_tcp", "TCP buffers")],
        may_be_missing: true,
        from_zero: true,
    },
];

impl Timed {
    fn chart(&self, series: &Series, work: &'static str) -> Option<Chart> {
        let times = series.column("seconds");
        let lines: Vec<_> =
            self.columns.iter().filter_map(|column| self.line(series, column)).collect();
        let values =
            || lines.iter().flat_map(|line| line.points.iter().filter_map(|point| point.1));
        let max = values().fold(0.0, f64::max);
        if times.is_empty() || lines.is_empty() || (self.may_be_missing && max <= 0.0) {
            return None;
        }
        let min = values().filter(|value| *value > 0.0).fold(f64::INFINITY, f64::min);
        let y = match self.unit {
            Unit::Micros if max > min * LOG_FROM => Scale::log(self.unit, min, max),
            unit => Scale::linear(unit, max),
        };
        let end = times.iter().flatten().fold(0.0, |end: f64, time| end.max(*time));
        let x = Scale::exactly(Unit::Seconds, end);
        let marked = series.work_seconds().map(|(from, until)| (from, until, work));
        Some(Chart { name: self.name, title: self.title, x, y, lines, marked })
    }

    /// A column and its name as a line; none if it has no numbers.
    fn line(&self, series: &Series, (column, name): &(&str, &'static str)) -> Option<Line> {
        let (times, values) = (series.column("seconds"), series.column(column));
        let points = times.iter().zip(&values).filter_map(|(time, value)| Some(((*time)?, *value)));
        let before = self.from_zero.then_some((0.0, Some(0.0)));
        let any = values.iter().any(Option::is_some);
        any.then(|| Line { name, points: before.into_iter().chain(points).collect() })
    }
}

/// The latency at each percentile, the way HdrHistogram plots it.
fn percentiles(latency: &Latency) -> Chart {
    let steps = latency.quantiles(10);
    let points: Vec<_> =
        steps.iter().map(|(quantile, micros, _)| (*quantile, Some(*micros))).collect();
    let max = latency.max_micros();
    let min = steps.first().map_or(max, |(_, micros, _)| *micros);
    let y = match max > min * LOG_FROM {
        true => Scale::log(Unit::Micros, min, max),
        false => Scale::linear(Unit::Micros, max),
    };
    Chart {
        name: "percentiles",
        title: "Latency by percentile",
        x: Scale::nines(latency.count()),
        y,
        lines: vec![Line { name: "latency", points }],
        marked: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sampler::{
        Buckets,
        host::KernelMemory,
        process::Usage,
        rows::{Row, Rows},
    };

    fn rows(latency: &Latency) -> Rows {
        let mut rows = Rows::new(1);
        for n in 1..=5 {
            rows.push(Row {
                at: n * 1_000_000_000,
                span: 1_000_000_000,
                open: n,
                sent: n,
                latency: if n == 3 { Buckets::default() } else { Buckets::of(latency) },
                server: (n < 4).then_some(Usage { rss: 1 << 20, cpu: 500_000_000, threads: 1 }),
                kernel: Some(KernelMemory { tcp: 0, objects: n << 20 }),
                ..Row::default()
            });
        }
        rows
    }

    #[test]
    fn what_has_nothing_to_show_is_left_out() {
        let mut latency = Latency::default();
        latency.record(1_000);
        latency.record(100_000);
        let series = Series::of(&rows(&latency), true);
        let charts: Vec<_> =
            TIMED.iter().filter_map(|timed| timed.chart(&series, "work")).collect();
        let names: Vec<_> = charts.iter().map(|chart| chart.name).collect();
        assert_eq!(names, ["connections", "messages", "latency", "memory", "cpu", "kernel"]);
        let gap = &charts[2].lines[0].points[2];
        assert_eq!(gap.1, None);
        assert_eq!(charts[3].lines.len(), 2);
        let alone = Series::of(&rows(&latency), false);
        assert_eq!(TIMED[6].chart(&alone, "work").unwrap().lines.len(), 1);
    }

    #[test]
    fn the_percentile_curve_goes_from_the_least_to_the_most() {
        let mut latency = Latency::default();
        (1..=1_000).for_each(|n| latency.record(n * 1_000));
        let chart = percentiles(&latency);
        let points = &chart.lines[0].points;
        assert_eq!(points.first(), Some(&(0.0, Some(1.0))));
        assert!(points.last().is_some_and(|(x, y)| *x == 1.0 && y.unwrap() >= 1_000.0));
    }
}
