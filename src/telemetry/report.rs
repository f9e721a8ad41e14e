//! The statistics in a few lines, for the log at exit and on SIGUSR1.

use serde_json::{Map, Value};

use super::stages::Stage;

/// Lines that sum up a [snapshot](super::snapshot::Registry::snapshot): totals, buffers, causes that
/// occurred, and a line per stage of which something was recorded.
///
/// A field that is missing reads as 0.
#[must_use]
pub fn summary(snapshot: &Value) -> Vec<String> {
    let mut lines = vec![connections(snapshot), traffic(snapshot), buffers(snapshot)];
    for map in ["closes", "refusals", "drops", "limits"] {
        lines.extend(causes(snapshot, map));
    }
    lines.extend(trims(snapshot));
    lines.extend(Stage::ALL.iter().filter_map(|stage| latency(snapshot, stage.name())));
    lines
}

fn connections(snapshot: &Value) -> String {
    let totals = &snapshot["totals"];
    format!(
        "connections: {} open, {} accepted, {} opened, {} closed, in {:.1} s",
        count(totals, "open"),
        count(totals, "accepted"),
        count(totals, "opened"),
        count(totals, "closed"),
        snapshot["uptime_s"].as_f64().unwrap_or_default(),
    )
}

fn traffic(snapshot: &Value) -> String {
    let totals = &snapshot["totals"];
    format!(
        "traffic: {} messages ({}) in, {} messages ({}) out",
        count(totals, "messages_in"),
        bytes(count(totals, "bytes_in")),
        count(totals, "messages_out"),
        bytes(count(totals, "bytes_out")),
    )
}

fn buffers(snapshot: &Value) -> String {
    let buffers = &snapshot["buffers"];
    format!(
        "buffers: {} of {} (outboxes {}, inbound {}, arenas {}, frames {})",
        bytes(count(buffers, "total_bytes")),
        bytes(count(buffers, "limit_bytes")),
        bytes(count(buffers, "outbox_bytes")),
        bytes(count(buffers, "inbound_bytes")),
        bytes(count(buffers, "arena_bytes")),
        bytes(count(buffers, "frame_bytes")),
    )
}

/// The causes that occurred, the most frequent first; `None` if none did.
fn causes(snapshot: &Value, map: &str) -> Option<String> {
    let none = Map::new();
    let counts = snapshot[map].as_object().unwrap_or(&none);
    let mut counts: Vec<_> =
        counts.iter().map(|(cause, n)| (n.as_u64().unwrap_or_default(), cause)).collect();
    counts.retain(|(n, _)| *n > 0);
    counts.sort_by(|(a, _), (b, _)| b.cmp(a));
    let counts: Vec<_> = counts.iter().map(|(n, cause)| format!("{cause} {n}")).collect();
    (!counts.is_empty()).then(|| format!("{map}: {}", counts.join(", ")))
}

/// How often connections fell so far behind that publishes were dropped; `None` if none did.
fn trims(snapshot: &Value) -> Option<String> {
    let trims = count(&snapshot["totals"], "trims");
    (trims > 0).then(|| format!("trimmed: {trims} times a connection fell behind"))
}

fn latency(snapshot: &Value, stage: &str) -> Option<String> {
    let entry = &snapshot["latency"][stage];
    let n = count(entry, "count");
    let quantiles = [
        ("p50", "p50_us"),
        ("p90", "p90_us"),
        ("p99", "p99_us"),
        ("p99.9", "p999_us"),
        ("max", "max_us"),
    ]
    .map(|(name, field)| format!("{name} {}", duration(count(entry, field))));
    (n > 0).then(|| format!("latency {stage}: {} ({n} recorded)", quantiles.join(", ")))
}

fn count(object: &Value, field: &str) -> u64 {
    object[field].as_u64().unwrap_or_default()
}

/// Bytes in the largest binary unit that leaves at least one, to a tenth.
fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let unit = (n.max(1).ilog2() / 10).min(4);
    let name = UNITS[unit as usize];
    match unit {
        0 => format!("{n} {name}"),
        _ => format!("{:.1} {name}", n as f64 / (1_u64 << (10 * unit)) as f64),
    }
}

/// Microseconds in the unit in which they are read most easily.
fn duration(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..1_000_000 => format!("{:.2} ms", us as f64 / 1e3),
        _ => format!("{:.2} s", us as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn sums_up_what_happened() {
        let snapshot = json!({
            "uptime_s": 12.345,
            "totals": {
                "open": 2, "accepted": 12, "opened": 10, "closed": 8,
                "messages_in": 5, "bytes_in": 100, "messages_out": 7, "bytes_out": 1536, "trims": 3,
            },
            "buffers": {
                "total_bytes": 3_145_728, "limit_bytes": 1_073_741_824, "outbox_bytes": 3_145_728,
            },
            "closes": {"peer_close": 1, "idle_timeout": 0, "peer_eof": 7},
            "refusals": {"not_found": 2},
            "drops": {"after_close": 0},
            "latency": {
                "read_routed": {
                    "count": 5, "p50_us": 21, "p90_us": 999, "p99_us": 1000, "p999_us": 12_345,
                    "max_us": 1_500_000,
                },
                "loop_turn": {"count": 0},
            },
        });
        assert_eq!(
            summary(&snapshot),
            [
                "connections: 2 open, 12 accepted, 10 opened, 8 closed, in 12.3 s",
                "traffic: 5 messages (100 B) in, 7 messages (1.5 KiB) out",
                "buffers: 3.0 MiB of 1.0 GiB (outboxes 3.0 MiB, inbound 0 B, arenas 0 B, frames 0 B)",
                "closes: peer_eof 7, peer_close 1",
                "refusals: not_found 2",
                "trimmed: 3 times a connection fell behind",
                "latency read_routed: p50 21 µs, p90 999 µs, p99 1.00 ms, p99.9 12.35 ms, \
                 max 1.50 s (5 recorded)",
            ]
        );
    }

    #[test]
    fn an_empty_snapshot_reads_as_zeros() {
        assert_eq!(summary(&json!({})).len(), 3);
        assert!(summary(&json!({}))[0].starts_with("connections: 0 open"));
    }

    #[test]
    fn bytes_are_in_fitting_units() {
        for (n, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1 << 20, "1.0 MiB"),
            (3 << 39, "1.5 TiB"),
            (5 << 50, "5120.0 TiB"),
        ] {
            assert_eq!(bytes(n), text);
        }
    }
}
