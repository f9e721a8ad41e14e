//! What is shown while a run lasts: one line that is rewritten on a terminal, a line a second
//! elsewhere.

use std::io::{IsTerminal as _, Write as _, stderr};

use crate::{
    clock::{MILLI, Nanos, SECOND},
    report::grouped,
    shared::{Setup, Shared, Snapshot},
};

/// How often the line on a terminal is rewritten.
const REWRITE: Nanos = 200 * MILLI;

/// Shows the progress of a run on stderr.
#[derive(Debug)]
pub(crate) struct Progress {
    terminal: bool,
    shown_at: Nanos,
    shown: Snapshot,
}

impl Progress {
    /// Nothing is shown yet.
    pub(crate) fn new() -> Self {
        Self { terminal: stderr().is_terminal(), shown_at: 0, shown: Snapshot::default() }
    }

    /// Shows a line if it is time for one.
    pub(crate) fn show(&mut self, setup: &Setup, shared: &Shared) {
        let now = shared.clock.now();
        let interval = if self.terminal { REWRITE } else { SECOND };
        let elapsed = now - self.shown_at;
        if elapsed < interval {
            return;
        }
        let snapshot = shared.snapshot();
        let line = line(setup.connections, now, elapsed, &self.shown, &snapshot);
        // Progress that cannot be written is not worth failing for.
        let _ = match self.terminal {
            true => write!(stderr(), "\r\x1b[2K{line}"),
            false => writeln!(stderr(), "{line}"),
        };
        (self.shown_at, self.shown) = (now, snapshot);
    }

    /// Clears the rewritten line.
    pub(crate) fn end(&mut self) {
        if self.terminal {
            let _ = write!(stderr(), "\r\x1b[2K");
        }
    }
}

fn line(wanted: u32, now: Nanos, elapsed: Nanos, old: &Snapshot, new: &Snapshot) -> String {
    let rate = |old: u64, new: u64| {
        grouped(((new - old) as f64 * SECOND as f64 / elapsed as f64).round() as u64)
    };
    let mut line = format!("{:6.1}s  open {}", now as f64 / SECOND as f64, grouped(new.open));
    if wanted > 0 {
        line += &format!(" of {}", grouped(wanted.into()));
    }
    if new.connected > old.connected {
        line += &format!(", +{}/s", rate(old.connected, new.connected));
    }
    if new.received > 0 || new.sent > 0 {
        line += &format!(
            ", sent {}/s, received {}/s",
            rate(old.sent, new.sent),
            rate(old.received, new.received)
        );
    }
    if new.verified > 0 {
        line += &format!(", verified {}", grouped(new.verified));
    }
    if new.closed > 0 {
        line += &format!(", closed {}", grouped(new.closed));
    }
    line + &format!(", errors {}", grouped(new.errors))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_rates() {
        let old = Snapshot { connected: 100, sent: 1000, ..Snapshot::default() };
        let new = Snapshot { connected: 600, open: 600, sent: 3000, errors: 2, ..old };
        let line = line(1000, 2 * SECOND, SECOND / 2, &old, &new);
        assert_eq!(
            line,
            "   2.0s  open 600 of 1,000, +1,000/s, sent 4,000/s, received 0/s, errors 2"
        );
    }
}
