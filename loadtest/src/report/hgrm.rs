//! A latency as the percentile distribution that HdrHistogram's tools write and plot (`.hgrm`).
//! Values are in milliseconds.

use std::fmt::{self, Write as _};

use crate::tally::Latency;

/// Lines on each half of the distance to 100 %; what HdrHistogram's tools use.
const TICKS: u32 = 5;

/// The text of the file.
pub(crate) fn hgrm(latency: &Latency) -> String {
    let mut text = String::new();
    write(&mut text, latency).expect("a string takes all");
    text
}

fn write(text: &mut String, latency: &Latency) -> fmt::Result {
    let head = ["Value", "Percentile", "TotalCount", "1/(1-Percentile)"];
    writeln!(text, "{:>12} {:>14} {:>10} {:>14}\n", head[0], head[1], head[2], head[3])?;
    for (quantile, micros, count) in latency.quantiles(TICKS) {
        let millis = micros / 1_000.0;
        write!(text, "{millis:12.3} {quantile:2.12} {count:10}")?;
        // The last line has no fourth column: it would be infinite.
        match quantile < 1.0 {
            true => writeln!(text, " {:14.2}", 1.0 / (1.0 - quantile))?,
            false => writeln!(text)?,
        }
    }
    let (mean, stdev) = (latency.mean_micros() / 1e3, latency.stdev_micros() / 1e3);
    let (max, count) = (latency.max_micros() / 1e3, latency.count());
    let (buckets, steps) = latency.layout();
    writeln!(text, "#[Mean    = {mean:12.3}, StdDeviation   = {stdev:12.3}]")?;
    writeln!(text, "#[Max     = {max:12.3}, Total count    = {count:12}]")?;
    writeln!(text, "#[Buckets = {buckets:12}, SubBuckets     = {steps:12}]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_that_of_hdrhistogram() {
        let mut latency = Latency::default();
        (1..=1_000).for_each(|n| latency.record(n * 1_000_000));
        let text = hgrm(&latency);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "       Value     Percentile TotalCount 1/(1-Percentile)");
        assert_eq!(lines[1], "");
        assert_eq!(lines[2], "       1.000 0.000000000000          1           1.00");
        assert!(lines.contains(&"     500.171 0.500000000000        500           2.00"), "{text}");
        let last = lines.iter().rposition(|line| !line.starts_with('#')).unwrap();
        assert_eq!(lines[last], "    1000.342 1.000000000000       1000");
        assert_eq!(lines[last + 1], "#[Mean    =      500.500, StdDeviation   =      288.675]");
        assert_eq!(lines[last + 2], "#[Max     =     1000.342, Total count    =         1000]");
        assert_eq!(lines[last + 3], "#[Buckets =           20, SubBuckets     =         2048]");
    }

    #[test]
    fn counts_and_values_rise() {
        let mut latency = Latency::default();
        (0..5_000_u64).for_each(|n| latency.record(n * n % 7_919 * 1_000));
        let text = hgrm(&latency);
        let rows: Vec<Vec<f64>> = text
            .lines()
            .skip(2)
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.split_whitespace().map(|word| word.parse().unwrap()).collect())
            .collect();
        assert!(rows.len() > 20);
        assert!(rows.windows(2).all(|two| two[0][0] <= two[1][0] && two[0][2] <= two[1][2]));
        assert_eq!(rows.last().map(|row| row[2]), Some(5_000.0));
        assert_eq!(hgrm(&Latency::default()).lines().count(), 5);
    }
}
