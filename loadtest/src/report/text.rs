//! The report as text.

use std::{collections::BTreeMap, fmt};

use super::{Percentiles, Report};

impl fmt::Display for Percentiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.count == 0 {
            return f.write_str("none");
        }
        write!(
            f,
            "p50 {}  p90 {}  p99 {}  p99.9 {}  max {}",
            micros(self.p50),
            micros(self.p90),
            micros(self.p99),
            micros(self.p99_9),
            micros(self.max)
        )
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tables = if self.private_tables { ", own descriptor tables" } else { "" };
        writeln!(f, "{} {}", self.command, self.url)?;
        if let Some(dialect) = &self.dialect {
            line(f, "dialect", dialect)?;
        }
        line(f, "layout", format_args!("{} thread(s){tables}", self.threads))?;
        self.show_connect(f)?;
        let lost = self.hold.lost.values().sum();
        writeln!(f, "  held         {:.1} s, lost {}", self.hold.seconds, grouped(lost))?;
        show_kinds(f, &self.hold.lost)?;
        self.work.show(f)?;
        writeln!(f, "  closed       {} cleanly", grouped(self.close.clean))?;
        show_kinds(f, &self.close.unclean)?;
        if self.close.left_open_by_server > 0 {
            let left = grouped(self.close.left_open_by_server);
            writeln!(f, "               {left} of them left open by the server after the Close")?;
        }
        let (sent, received) = (grouped(self.bytes.sent), grouped(self.bytes.received));
        writeln!(f, "  bytes        {sent} sent, {received} received")?;
        if let Some(memory) = &self.memory {
            let (each, all) = (memory.per_connection, memory.resident_ramped >> 20);
            writeln!(f, "  memory here  {} B per connection, {all} MiB in all", grouped(each))?;
        }
        if let Some(server) = &self.server {
            server.show(f)?;
        }
        self.kernel.show(f)?;
        for failed in &self.failed_if {
            line(f, "failed if", failed)?;
        }
        let verdict = match (self.ok, self.interrupted) {
            (true, _) => "ok",
            (false, true) => "FAILED (interrupted)",
            (false, false) => "FAILED",
        };
        writeln!(f, "  result       {verdict}")
    }
}

impl Report {
    fn show_connect(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let connect = &self.connect;
        let (connected, wanted) = (grouped(connect.connected), grouped(connect.wanted));
        write!(f, "  connected    {connected} of {wanted}")?;
        if connect.ramped != connect.connected {
            write!(f, ", {} of them before the work", grouped(connect.ramped))?;
        }
        if connect.ramped > 0 {
            let rate = grouped(connect.per_second.round() as u64);
            write!(f, " in {:.2} s, {rate} per second", connect.seconds)?;
        }
        writeln!(f)?;
        show_kinds(f, &connect.refused)?;
        writeln!(f, "  handshake    {}", connect.handshake_us)?;
        let Some(tls) = &connect.tls else { return Ok(()) };
        let (full, resumed) = (grouped(tls.full), grouped(tls.resumed));
        line(f, "tls", format_args!("{full} full, {resumed} resumed"))?;
        show_kinds(f, &tls.suites)
    }
}

/// One line of the text: what it is, and what it was.
pub(crate) fn line(f: &mut fmt::Formatter<'_>, what: &str, was: impl fmt::Display) -> fmt::Result {
    writeln!(f, "  {what:<12} {was}")
}

/// How often each kind of trouble came, a line each.
pub(crate) fn show_kinds(f: &mut fmt::Formatter<'_>, kinds: &BTreeMap<String, u64>) -> fmt::Result {
    kinds
        .iter()
        .try_for_each(|(kind, count)| writeln!(f, "               {} × {kind}", grouped(*count)))
}

/// Microseconds in a fitting unit.
pub(crate) fn micros(micros: f64) -> String {
    match micros {
        _ if micros < 1_000.0 => format!("{micros:.1} µs"),
        _ if micros < 1_000_000.0 => format!("{:.2} ms", micros / 1_000.0),
        _ => format!("{:.2} s", micros / 1_000_000.0),
    }
}

/// A number with its thousands apart.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_apart() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_000), "1,000");
        assert_eq!(grouped(12_345_678), "12,345,678");
    }

    #[test]
    fn latencies_have_fitting_units() {
        assert_eq!(micros(12.34), "12.3 µs");
        assert_eq!(micros(1_500.0), "1.50 ms");
        assert_eq!(micros(2_000_000.0), "2.00 s");
    }
}
