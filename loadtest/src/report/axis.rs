//! Axes: round ticks, their labels with units, and where a value lies.

/// What the numbers of an axis are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// A number of things, or of things per second.
    Count,
    /// Bytes.
    Bytes,
    /// Microseconds.
    Micros,
    /// Percent.
    Percent,
    /// Seconds.
    Seconds,
}

/// An axis from its lowest to its highest value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Scale {
    /// What the numbers are.
    pub(crate) unit: Unit,
    kind: Kind,
    low: f64,
    high: f64,
    /// Values, rising, and their labels.
    pub(crate) ticks: Vec<(f64, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Linear,
    Log,
    /// Of quantiles: each nine is as wide as the one before.
    Nines,
}

impl Unit {
    /// A value with its unit.
    pub(crate) fn label(self, value: f64) -> String {
        let (base, suffix) = self.base(value);
        format!("{}{suffix}", trimmed(value / base))
    }

    /// Its name for scripts.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Bytes => "bytes",
            Self::Micros => "micros",
            Self::Percent => "percent",
            Self::Seconds => "seconds",
        }
    }

    /// The multiple of the unit that fits numbers up to `most`, and its name.
    fn base(self, most: f64) -> (f64, &'static str) {
        const KIB: f64 = 1024.0;
        let bases: &[(f64, &str)] = match self {
            Self::Count => &[(1.0, ""), (1e3, " k"), (1e6, " M")],
            Self::Bytes => {
                &[(1.0, " B"), (KIB, " KiB"), (KIB * KIB, " MiB"), (KIB * KIB * KIB, " GiB")]
            }
            Self::Micros => &[(1.0, " µs"), (1e3, " ms"), (1e6, " s")],
            Self::Percent => &[(1.0, " %")],
            Self::Seconds => &[(1.0, " s")],
        };
        let fits = |base: &&(f64, &str)| base.0 <= most.max(1.0) * (1.0 + 1e-9);
        bases.iter().rev().find(fits).copied().unwrap_or(bases[0])
    }
}

impl Scale {
    /// From zero to the round number at or above `max`.
    pub(crate) fn linear(unit: Unit, max: f64) -> Self {
        let max = if max > 0.0 { max } else { 1.0 };
        let (base, suffix) = unit.base(max);
        let step = round_step(max / base / 5.0) * base;
        let count = (max / step - 1e-9).ceil().max(1.0) as u32;
        let ticks = (0..=count).map(|n| {
            let value = f64::from(n) * step;
            let label = if n == 0 { "0".to_owned() } else { trimmed(value / base) + suffix };
            (value, label)
        });
        let ticks: Vec<_> = ticks.collect();
        Self { unit, kind: Kind::Linear, low: 0.0, high: step * f64::from(count), ticks }
    }

    /// From zero to exactly `max`: time.
    pub(crate) fn exactly(unit: Unit, max: f64) -> Self {
        let mut scale = Self::linear(unit, max);
        if max > 0.0 {
            scale.ticks.retain(|(value, _)| *value <= max);
            scale.high = max;
        }
        scale
    }

    /// Logarithmic, between round numbers around `min` and `max`; both above zero.
    pub(crate) fn log(unit: Unit, min: f64, max: f64) -> Self {
        let decades = (max / min).log10();
        let steps: &[f64] = if decades <= 3.0 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let from = min.log10().floor() as i32;
        let to = max.log10().ceil() as i32;
        let all =
            (from..=to).flat_map(|power| steps.iter().map(move |step| step * 10_f64.powi(power)));
        let all: Vec<_> = all.collect();
        let first = all.iter().rposition(|tick| *tick <= min * (1.0 + 1e-9)).unwrap_or(0);
        let last = all.iter().position(|tick| *tick >= max * (1.0 - 1e-9)).unwrap_or(all.len() - 1);
        let last = last.max(first + 1).min(all.len() - 1);
        let ticks = all[first..=last].iter().map(|tick| (*tick, unit.label(*tick))).collect();
        Self { unit, kind: Kind::Log, low: all[first], high: all[last], ticks }
    }

    /// Quantiles (0 to 1) of `count` values: 0 %, 90 %, 99 % and so on, as far as the count goes.
    pub(crate) fn nines(count: u64) -> Self {
        let nines = (count.max(10) as f64).log10().ceil().clamp(1.0, 8.0);
        let ticks = (0..=nines as u32).map(|n| {
            let label = match n {
                0 => "0 %".to_owned(),
                1 => "90 %".to_owned(),
                2 => "99 %".to_owned(),
                n => format!("99.{} %", "9".repeat(n as usize - 2)),
            };
            (1.0 - 0.1_f64.powi(n as i32), label)
        });
        Self {
            unit: Unit::Percent,
            kind: Kind::Nines,
            low: 0.0,
            high: nines,
            ticks: ticks.collect(),
        }
    }

    /// Whether the low end is zero, so that the area below a line means something.
    pub(crate) fn is_from_zero(&self) -> bool {
        self.kind == Kind::Linear && self.low == 0.0
    }

    /// Where a value lies: 0 at the low end, 1 at the high end, and never beyond.
    pub(crate) fn position(&self, value: f64) -> f64 {
        let (value, low, high) = match self.kind {
            Kind::Linear => (value, self.low, self.high),
            Kind::Log => {
                (value.max(f64::MIN_POSITIVE).log10(), self.low.log10(), self.high.log10())
            }
            Kind::Nines => (-(1.0 - value).max(1e-12).log10(), self.low, self.high),
        };
        ((value - low) / (high - low)).clamp(0.0, 1.0)
    }
}

/// The round number (1, 2, 2.5 or 5 times a power of ten) at or above `raw`.
fn round_step(raw: f64) -> f64 {
    let power = 10_f64.powf(raw.log10().floor());
    let steps = [1.0, 2.0, 2.5, 5.0, 10.0];
    let step = steps.into_iter().find(|step| step * power >= raw * (1.0 - 1e-9));
    step.unwrap_or(10.0) * power
}

/// Three digits or so, without zeros at the end.
fn trimmed(value: f64) -> String {
    let digits = match value.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        _ => 3,
    };
    let text = format!("{value:.digits$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(scale: &Scale) -> Vec<&str> {
        scale.ticks.iter().map(|(_, label)| label.as_str()).collect()
    }

    #[test]
    fn ticks_are_round() {
        assert_eq!(
            labels(&Scale::linear(Unit::Count, 100.0)),
            ["0", "20", "40", "60", "80", "100"]
        );
        assert_eq!(
            labels(&Scale::linear(Unit::Count, 1_000_000.0)),
            ["0", "0.2 M", "0.4 M", "0.6 M", "0.8 M", "1 M"]
        );
        assert_eq!(
            labels(&Scale::linear(Unit::Bytes, 200.0 * 1048576.0)),
            ["0", "50 MiB", "100 MiB", "150 MiB", "200 MiB"]
        );
        assert_eq!(labels(&Scale::linear(Unit::Micros, 1_100.0))[1], "0.25 ms");
        assert_eq!(Scale::linear(Unit::Count, 0.0).ticks.len(), 6);
    }

    #[test]
    fn the_time_axis_ends_with_the_time() {
        let scale = Scale::exactly(Unit::Seconds, 11.0);
        assert_eq!(labels(&scale), ["0", "2.5 s", "5 s", "7.5 s", "10 s"]);
        assert!((scale.position(11.0) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn logarithmic_ticks_hold_all_values() {
        let scale = Scale::log(Unit::Micros, 130.0, 4_200.0);
        assert_eq!(labels(&scale), ["100 µs", "200 µs", "500 µs", "1 ms", "2 ms", "5 ms"]);
        assert!(scale.position(130.0) > 0.0 && scale.position(4_200.0) < 1.0);
        let scale = Scale::log(Unit::Micros, 10.0, 1e7);
        assert_eq!(labels(&scale).len(), 7);
        assert!(Scale::log(Unit::Micros, 5.0, 5.0).ticks.len() >= 2);
    }

    #[test]
    fn nines_are_equally_wide() {
        let scale = Scale::nines(900_000);
        assert_eq!(labels(&scale)[..4], ["0 %", "90 %", "99 %", "99.9 %"]);
        let at = |quantile| scale.position(quantile);
        assert!((at(0.99) - 2.0 * at(0.9)).abs() < 1e-9);
        assert!((at(1.0) - 1.0).abs() < 1e-9);
    }
}
