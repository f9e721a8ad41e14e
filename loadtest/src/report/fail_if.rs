//! Conditions under which a run counts as failed: `p99>50ms`, `errors>0`, `server.rss_peak>1GiB`.
//!
//! Every condition is a number of the JSON report, by its path, and a bound in that number's unit;
//! the short names stand for paths, too.

use std::{fmt, str::FromStr};

use serde::Serialize;
use serde_json::Value;

use super::member;

/// Objects that count kinds of trouble, or of ends: they have only those that were seen.
pub(super) const KINDS: &[&str] = &["refused", "lost", "wrong", "unclean", "ends", "unopened"];
/// Short names, and the paths they stand for.
const NAMES: &[(&str, &str)] = &[
    ("p50", "main.latency_us.p50"),
    ("p90", "main.latency_us.p90"),
    ("p99", "main.latency_us.p99"),
    ("p99.9", "main.latency_us.p99_9"),
    ("max", "main.latency_us.max"),
    ("mean", "main.latency_us.mean"),
    ("errors", "errors"),
    ("rate", "main.per_second"),
    ("connect_rate", "connect.per_second"),
];
/// What they stand for when the bound is in percent.
const SHARES: &[(&str, &str)] = &[
    ("errors", "errors_percent"),
    ("rate", "main.percent_of_target"),
    ("connect_rate", "connect.percent_of_target"),
];
const OPERATORS: &[(&str, Operator)] = &[
    (">=", |is, bound| is >= bound),
    ("<=", |is, bound| is <= bound),
    ("==", |is, bound| is == bound),
    (">", |is, bound| is > bound),
    ("<", |is, bound| is < bound),
];
/// Units, what they measure, and how many of the base unit (ns, B, 1, %) they are.
const UNITS: &[(&str, Kind, f64)] = &[
    ("ns", Kind::Time, 1.0),
    ("us", Kind::Time, 1e3),
    ("µs", Kind::Time, 1e3),
    ("ms", Kind::Time, 1e6),
    ("KiB", Kind::Plain, 1024.0),
    ("MiB", Kind::Plain, 1_048_576.0),
    ("GiB", Kind::Plain, 1_073_741_824.0),
    ("s", Kind::Time, 1e9),
    ("k", Kind::Plain, 1e3),
    ("M", Kind::Plain, 1e6),
    ("%", Kind::Percent, 1.0),
];
const FORM: &str = "expected METRIC OPERATOR NUMBER[UNIT], like p99>50ms, errors>0, rate<95% or \
                    server.rss_peak>1GiB";

type Operator = fn(f64, f64) -> bool;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Time,
    Percent,
    Plain,
}

/// One `--fail-if`.
#[derive(Clone, Debug)]
pub(crate) struct Condition {
    text: String,
    /// Where in the JSON report the number stands.
    path: String,
    operator: Operator,
    /// In the unit of that number.
    bound: f64,
}

/// A condition that held, or could not be judged: either fails the run.
#[derive(Debug, Serialize)]
pub(crate) struct Failed {
    condition: String,
    metric: String,
    /// What it was; none if that is not known.
    value: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unknown: Option<&'static str>,
}

impl Condition {
    /// Whether `report`, as it is before the run, has such a number.
    pub(crate) fn check(&self, report: &Value) -> Result<(), String> {
        if find(report, &self.path).is_some() {
            return Ok(());
        }
        let names: Vec<_> = NAMES.iter().map(|(name, _)| *name).collect();
        Err(format!(
            "--fail-if {:?}: this run reports no number {:?}; there are {}, and every path of the \
             JSON report, like connect.handshake_us.p99 (server.… needs --server-pid, rate needs a \
             command that sends, a % of it needs --rate)",
            self.text,
            self.path,
            names.join(", ")
        ))
    }

    /// Says so if it holds, or if nobody can tell.
    pub(crate) fn judge(&self, report: &Value) -> Option<Failed> {
        let failed = |value, unknown| Failed {
            condition: self.text.clone(),
            metric: self.path.clone(),
            value,
            unknown,
        };
        match find(report, &self.path) {
            None => Some(failed(None, Some("the report has no such number"))),
            Some(_) if unmeasured(report, &self.path) => {
                Some(failed(None, Some("nothing was measured")))
            }
            Some(is) => (self.operator)(is, self.bound).then(|| failed(Some(is), None)),
        }
    }
}

impl FromStr for Condition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (at, &(sign, operator)) = OPERATORS
            .iter()
            .filter_map(|operator| Some((text.find(operator.0)?, operator)))
            .min_by_key(|(at, (sign, _))| (*at, 2 - sign.len()))
            .ok_or_else(|| format!("has no operator (> >= < <= ==); {FORM}"))?;
        let metric = text[..at].trim();
        if metric.is_empty() || metric.split('.').any(|part| part.trim().is_empty()) {
            return Err(format!("{metric:?} is no metric; {FORM}"));
        }
        let (number, unit) = number(text[at + sign.len()..].trim())?;
        let path = path(metric, unit.map(|(kind, _)| kind));
        let bound = number * scale(metric, &path, unit)?;
        Ok(Self { text: text.trim().to_owned(), path, operator, bound })
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { condition, metric, value, unknown } = self;
        match value {
            Some(value) if is_micros(metric) => {
                write!(f, "{condition} (it was {})", super::micros(*value))
            }
            Some(value) => write!(f, "{condition} (it was {})", (value * 1e3).round() / 1e3),
            None => write!(f, "{condition} ({})", unknown.unwrap_or("unknown")),
        }
    }
}

/// The number and its unit, with how many of the base unit that is.
fn number(text: &str) -> Result<(f64, Option<(Kind, f64)>), String> {
    let unit = UNITS.iter().find(|(unit, ..)| text.ends_with(unit));
    let digits = unit.map_or(text, |(unit, ..)| &text[..text.len() - unit.len()]);
    match digits.trim().replace('_', "").parse::<f64>() {
        Ok(number) if number.is_finite() => {
            Ok((number, unit.map(|(_, kind, base)| (*kind, *base))))
        }
        _ => Err(format!(
            "{text:?} is no number with a unit of ns us ms s KiB MiB GiB k M % or none; {FORM}"
        )),
    }
}

fn path(metric: &str, unit: Option<Kind>) -> String {
    let names = if unit == Some(Kind::Percent) { SHARES } else { NAMES };
    let named = names.iter().find(|(name, _)| *name == metric);
    named.map_or(metric, |(_, path)| path).to_owned()
}

/// How many of the number's own unit one of the bound's unit is.
fn scale(metric: &str, path: &str, unit: Option<(Kind, f64)>) -> Result<f64, String> {
    let is_short = metric != path;
    let last = path.rsplit('.').next().unwrap_or(path);
    match unit {
        None if is_short && is_micros(path) => {
            Err(format!("{metric} is a time, which needs a unit: {metric}>50ms"))
        }
        None => Ok(1.0),
        Some((Kind::Time, nanos)) if is_micros(path) => Ok(nanos / 1e3),
        Some((Kind::Time, nanos)) if last.contains("seconds") => Ok(nanos / 1e9),
        Some((Kind::Time, _)) => Err(format!("{metric} is not a time")),
        Some((Kind::Percent, _)) if last.contains("percent") => Ok(1.0),
        Some((Kind::Percent, _)) => {
            Err(format!("{metric} has no percentage; errors, rate and connect_rate have"))
        }
        Some((Kind::Plain, _)) if is_micros(path) || last.contains("seconds") => {
            Err(format!("{metric} is a time; its units are ns us ms s"))
        }
        Some((Kind::Plain, count)) => Ok(count),
    }
}

fn is_micros(path: &str) -> bool {
    path.split('.').any(|part| part.ends_with("_us") || part.contains("_us_"))
}

/// The number at a path. What is not in an object that is still empty is zero: it counts kinds of
/// trouble, and has only those that were seen.
fn find(report: &Value, path: &str) -> Option<f64> {
    let (parent, leaf) = match path.rsplit_once('.') {
        Some((parent, leaf)) => (walk(report, parent)?, leaf),
        None => (report, path),
    };
    match member(parent, leaf) {
        Some(number) => number.as_f64(),
        None if parent.as_object()?.values().all(Value::is_u64) && counts_kinds(path) => Some(0.0),
        None => None,
    }
}

fn walk<'a>(report: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(report, member)
}

/// Whether the path leads into an object that counts kinds of trouble.
fn counts_kinds(path: &str) -> bool {
    let parent = path.rsplit('.').nth(1);
    parent.is_some_and(|parent| KINDS.contains(&parent))
}

/// Whether the number is one of a latency that was never measured.
fn unmeasured(report: &Value, path: &str) -> bool {
    let parent = path.rsplit_once('.').and_then(|(parent, _)| walk(report, parent));
    is_micros(path)
        && !path.ends_with(".count")
        && parent.is_some_and(|parent| parent.get("count").and_then(Value::as_u64) == Some(0))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn report() -> Value {
        json!({
            "errors": 3,
            "errors_percent": 0.5,
            "main": {"per_second": 900.0, "percent_of_target": 90.0,
                     "latency_us": {"count": 5, "p50": 10.0, "p99": 60_000.0, "p99_9": 70_000.0}},
            "connect": {"per_second": 100.0, "refused": {}, "seconds": 2.5,
                        "handshake_us": {"count": 0, "p99": 0.0}},
            "server": {"rss_peak": 1u64 << 30, "rss_end": null},
            "storm": {"storms": [{"back": 1}, {"back": 2, "during_us": {"count": 3, "p99": 500.0}}]},
            "slow_handshake": {"ends": {"HTTP 408": 2}, "unopened": {}},
        })
    }

    fn judge(text: &str) -> Option<Failed> {
        let condition: Condition = text.parse().unwrap();
        condition.judge(&report())
    }

    #[test]
    fn conditions_hold_or_not() {
        for holds in [
            "p99>50ms",
            "p99 >= 60ms",
            "p99.9>0.069s",
            "p50==10us",
            "errors>0",
            "errors>=0.5%",
            "rate<1k",
            "rate<95%",
            "connect_rate<=100",
            "server.rss_peak>1023MiB",
            "connect.seconds>2s",
            "connect.seconds>2",
            "main.latency_us.p99>59999",
            "storm.storms.1.during_us.p99>400us",
            "slow_handshake.ends.HTTP 408>1",
        ] {
            assert!(judge(holds).is_some_and(|failed| failed.value.is_some()), "{holds}");
        }
        for not in [
            "p99>60ms",
            "errors>3",
            "rate<900",
            "rate<90%",
            "connect.refused.HTTP 503>0",
            "storm.storms.0.back>1",
            "slow_handshake.ends.HTTP 431>0",
            "slow_handshake.unopened.x>0",
        ] {
            assert!(judge(not).is_none(), "{not}");
        }
    }

    #[test]
    fn what_nobody_can_tell_fails() {
        let said = |text| judge(text).unwrap().to_string();
        assert!(said("connect.handshake_us.p99>1ms").ends_with("(nothing was measured)"));
        assert!(said("server.rss_end>1GiB").ends_with("(the report has no such number)"));
        assert_eq!(said("p99>50ms"), "p99>50ms (it was 60.00 ms)");
        assert_eq!(said("rate<1k"), "rate<1k (it was 900)");
    }

    #[test]
    fn unknown_metrics_are_found_before_the_run() {
        let check = |text: &str| text.parse::<Condition>().unwrap().check(&report());
        assert_eq!(check("p99>1ms"), Ok(()));
        assert_eq!(check("connect.refused.anything>0"), Ok(()));
        for bad in [
            "p95>1",
            "connect>1",
            "server.x>1",
            "connect.handshake_us>1ms",
            "max>1s",
            "storm.storms.2.back>1",
            "storm.storms.back>1",
        ] {
            let error = check(bad).unwrap_err();
            assert!(error.starts_with("--fail-if") && error.contains(bad), "{error}");
        }
    }

    #[test]
    fn bad_conditions_name_the_form() {
        for bad in ["", "p99", ">5", "p99>", "p99>x", "p99>5parsecs", ".>1", "a..b>1", "p99>nan"] {
            let error = bad.parse::<Condition>().unwrap_err();
            assert!(error.contains("p99>50ms"), "{bad}: {error}");
        }
        for bad in ["p99>50", "errors>5ms", "p99>5%", "p99>5MiB", "connect.seconds>1k"] {
            assert!(bad.parse::<Condition>().is_err(), "{bad}");
        }
    }
}
