//! The statistics of the whole gateway as one JSON object, for `--stats-out`.
//!
//! The shape, all counts since the start unless they say "now" at their counter:
//!
//! ```json
//! {"version": "0.1.0", "started_at": "2026-01-31T12:00:00.000Z", "uptime_s": 12.5, "pid": 4711,
//!  "loops": [{"index": 0, "connections": 3, "open": 2, "turns": 99, "paused": 0,
//!             "mailbox_depth": 0, "closes": {"peer_close": 1}, "refusals": {}, "drops": {},
//!             "limits": {}}],
//!  "workers": [{"index": 0, "batches": 7, "queue_depth": 0, "room_queue_depth": 0, "limits": {}}],
//!  "totals": {"opened": 3, "closed": 1, "messages_in": 5},
//!  "closes": {"peer_close": 1}, "refusals": {"not_found": 0}, "drops": {"after_close": 0},
//!  "limits": {"messages_delay": 0}, "buffers": {"outbox_bytes": 0, "inbound_bytes": 0, "arena_bytes": 0, "frame_bytes": 0,
//!              "total_bytes": 0, "limit_bytes": 1073741824},
//!  "latency": {"read_routed": {"count": 5, "p50_us": 21, "p90_us": 30, "p99_us": 41,
//!                              "p999_us": 41, "max_us": 41, "clamped": 0}}}
//! ```
//!
//! Every counter of [`LoopCounters`] and [`WorkerCounters`] stands in its loop's or worker's object
//! under its own name, and, added up, in `totals` (loops) and `worker_totals` (workers). Every cause
//! stands in the maps, also at zero; `limits` adds up loops and workers.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use serde_json::{Map, Value, json};

use super::counters::{
    CloseCause, DropCause, ForwardedOutcome, LimitHit, LoopCounters, PerCause, ProxyOutcome,
    RefusalCause, TlsFailure, WorkerCounters,
};
use super::memory::{Component, MemoryGauge};
use super::stages::{STAGE_MAX_US, Stage, StageHistograms};
use super::time::rfc3339;

/// How many things wait in a lane now. Called by the reporter only.
pub type Depth = Box<dyn Fn() -> usize + Send + Sync>;

/// One loop, as the statistics see it.
pub struct LoopSource {
    /// What it counts.
    pub counters: Arc<LoopCounters>,
    /// Posts in its mailbox now.
    pub mailbox_depth: Depth,
}

/// One worker or inline shard, as the statistics see it.
pub struct WorkerSource {
    /// What it counts.
    pub counters: Arc<WorkerCounters>,
    /// Batches of client messages that wait for it now.
    pub queue_depth: Depth,
    /// Batches of room work that wait for it now.
    pub room_queue_depth: Depth,
}

/// Everything that is counted, and when counting began.
pub struct Registry {
    /// The loops, by index.
    pub loops: Vec<LoopSource>,
    /// The workers (or inline shards), by index.
    pub workers: Vec<WorkerSource>,
    /// Buffer bytes and their ceiling.
    pub memory: Arc<MemoryGauge>,
    started_at: SystemTime,
    started: Instant,
}

impl Registry {
    /// A registry of a gateway that starts now.
    #[must_use]
    pub fn new(
        loops: Vec<LoopSource>,
        workers: Vec<WorkerSource>,
        memory: Arc<MemoryGauge>,
    ) -> Self {
        let (started_at, started) = (SystemTime::now(), Instant::now());
        Self { loops, workers, memory, started_at, started }
    }

    /// When the gateway started.
    #[must_use]
    pub fn started_at(&self) -> SystemTime {
        self.started_at
    }

    /// The statistics of about now, with the fields of `extra` beside (or in place of) the others.
    #[must_use]
    pub fn snapshot(&self, stages: &StageHistograms, extra: Map<String, Value>) -> Value {
        let mut snapshot = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "started_at": rfc3339(self.started_at),
            "uptime_s": (self.started.elapsed().as_secs_f64() * 1000.0).round() / 1000.0,
            "pid": process::id(),
            "loops": self.loops.iter().enumerate().map(loop_entry).collect::<Vec<_>>(),
            "workers": self.workers.iter().enumerate().map(worker_entry).collect::<Vec<_>>(),
            "totals": self.loop_totals(),
            "worker_totals": self.worker_totals(),
            "closes": self.causes(closes),
            "refusals": self.causes(refusals),
            "drops": self.causes(drops),
            "tls_failures": self.causes(tls_failures),
            "proxy_headers": self.causes(proxy_headers),
            "forwarded_headers": self.causes(forwarded_headers),
            "limits": self.limits(),
            "buffers": buffers(&self.memory),
            "latency": latency(stages),
        });
        if let Value::Object(fields) = &mut snapshot {
            fields.extend(extra);
        }
        snapshot
    }

    fn loop_totals(&self) -> Map<String, Value> {
        totals(self.loops.iter().map(|source| loop_counts(&source.counters)))
    }

    fn worker_totals(&self) -> Map<String, Value> {
        totals(self.workers.iter().map(|source| worker_counts(&source.counters)))
    }

    fn limits(&self) -> Map<String, Value> {
        let loops = self.loops.iter().map(|source| limits(&source.counters.limits));
        let workers = self.workers.iter().map(|source| limits(&source.counters.limits));
        totals(loops.chain(workers))
    }

    fn causes(&self, counts: fn(&LoopCounters) -> Vec<Count>) -> Map<String, Value> {
        totals(self.loops.iter().map(|source| counts(&source.counters)))
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("loops", &self.loops.len())
            .field("workers", &self.workers.len())
            .field("memory", &self.memory)
            .finish_non_exhaustive()
    }
}

/// Replaces the file at `path` by `value`: whoever reads it sees the old one or the whole new one.
///
/// A link is followed. What is no regular file, such as a pipe or `/dev/stderr`, is written to.
///
/// # Errors
/// What writing or renaming says, with the file's path. The old file stays then, and no other.
pub fn write_atomically(path: &Path, value: &Value) -> io::Result<()> {
    let mut text = value.to_string();
    text.push('\n');
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let result = match fs::metadata(&target) {
        Ok(found) if !found.is_file() => write_to(&target, &text),
        _ => replace(&target, &text),
    };
    result.map_err(|e| io::Error::new(e.kind(), format!("cannot write {}: {e}", path.display())))
}

fn write_to(path: &Path, text: &str) -> io::Result<()> {
    OpenOptions::new().write(true).open(path)?.write_all(text.as_bytes())
}

fn replace(path: &Path, text: &str) -> io::Result<()> {
    let temporary = beside(path);
    fs::write(&temporary, text).and_then(|()| fs::rename(&temporary, path)).inspect_err(|_| {
        // Best effort: the first error is the one to tell.
        let _ = fs::remove_file(&temporary);
    })
}

/// A name in the same directory, so that the rename stays in one file system; of this process, so
/// that two gateways don't write into one file.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", process::id()));
    path.with_file_name(name)
}

type Count = (&'static str, u64);

/// Lists counters with their names. The pattern has no `..`: a counter that is added to the struct
/// and not here does not compile.
macro_rules! counts {
    ($counters:expr, $type:ident { $($name:ident),+ } $(, but $other:ident)*) => {{
        let $type { $($name,)+ $($other: _,)* } = $counters;
        vec![$((stringify!($name), $name.get())),+]
    }};
}

fn loop_counts(counters: &LoopCounters) -> Vec<Count> {
    counts!(
        counters,
        LoopCounters {
            connections, open, turns, paused, pauses, delayed, accepted, accept_pauses, handed_over,
            opened, closed, http_responses, messages_in, messages_out, bytes_in, bytes_out, pings_in,
            pings_out, deliveries, trims, tls_handshakes, tls_resumed, deflate_agreed, messages_inflated,
            messages_deflated, outbox_bytes, inbound_bytes
        },
        but closes, but refusals, but drops, but limits, but tls_failures, but proxy_headers,
        but forwarded_headers
    )
}

fn worker_counts(counters: &WorkerCounters) -> Vec<Count> {
    counts!(
        counters,
        WorkerCounters {
            batches,
            messages,
            room_work,
            panics,
            blocking,
            blocking_refused,
            errors,
            refused_sends,
            sleeps,
            rooms,
            rooms_empty,
            rooms_reaped,
            memberships,
            users,
            logins
        },
        but limits
    )
}

fn closes(counters: &LoopCounters) -> Vec<Count> {
    per_cause(CloseCause::ALL, CloseCause::name, &counters.closes)
}

fn refusals(counters: &LoopCounters) -> Vec<Count> {
    per_cause(RefusalCause::ALL, RefusalCause::name, &counters.refusals)
}

fn drops(counters: &LoopCounters) -> Vec<Count> {
    per_cause(DropCause::ALL, DropCause::name, &counters.drops)
}

fn tls_failures(counters: &LoopCounters) -> Vec<Count> {
    per_cause(TlsFailure::ALL, TlsFailure::name, &counters.tls_failures)
}

fn proxy_headers(counters: &LoopCounters) -> Vec<Count> {
    per_cause(ProxyOutcome::ALL, ProxyOutcome::name, &counters.proxy_headers)
}

fn forwarded_headers(counters: &LoopCounters) -> Vec<Count> {
    per_cause(ForwardedOutcome::ALL, ForwardedOutcome::name, &counters.forwarded_headers)
}

fn limits(counts: &PerCause<{ LimitHit::ALL.len() }>) -> Vec<Count> {
    per_cause(LimitHit::ALL, LimitHit::name, counts)
}

fn per_cause<C: Copy, const N: usize>(
    causes: &[C],
    name: fn(C) -> &'static str,
    counts: &PerCause<N>,
) -> Vec<Count> {
    causes.iter().enumerate().map(|(i, cause)| (name(*cause), counts.at(i).get())).collect()
}

fn object(counts: Vec<Count>) -> Map<String, Value> {
    counts.into_iter().map(|(name, n)| (name.to_owned(), n.into())).collect()
}

fn totals(parts: impl Iterator<Item = Vec<Count>>) -> Map<String, Value> {
    let mut sum: Vec<Count> = Vec::new();
    for part in parts {
        if sum.is_empty() {
            sum = part;
            continue;
        }
        for ((_, total), (_, n)) in sum.iter_mut().zip(part) {
            *total = total.wrapping_add(n);
        }
    }
    object(sum)
}

fn loop_entry((index, source): (usize, &LoopSource)) -> Value {
    let counters = &source.counters;
    let mut entry = object(loop_counts(counters));
    entry.insert("index".to_owned(), index.into());
    entry.insert("mailbox_depth".to_owned(), (source.mailbox_depth)().into());
    entry.insert("closes".to_owned(), object(closes(counters)).into());
    entry.insert("refusals".to_owned(), object(refusals(counters)).into());
    entry.insert("drops".to_owned(), object(drops(counters)).into());
    entry.insert("tls_failures".to_owned(), object(tls_failures(counters)).into());
    entry.insert("proxy_headers".to_owned(), object(proxy_headers(counters)).into());
    entry.insert("forwarded_headers".to_owned(), object(forwarded_headers(counters)).into());
    entry.insert("limits".to_owned(), object(limits(&counters.limits)).into());
    entry.into()
}

fn worker_entry((index, source): (usize, &WorkerSource)) -> Value {
    let mut entry = object(worker_counts(&source.counters));
    entry.insert("index".to_owned(), index.into());
    entry.insert("queue_depth".to_owned(), (source.queue_depth)().into());
    entry.insert("room_queue_depth".to_owned(), (source.room_queue_depth)().into());
    entry.insert("limits".to_owned(), object(limits(&source.counters.limits)).into());
    entry.into()
}

fn buffers(memory: &MemoryGauge) -> Value {
    json!({
        "outbox_bytes": memory.component(Component::Outbox),
        "inbound_bytes": memory.component(Component::Inbound),
        "arena_bytes": memory.component(Component::Arenas),
        "frame_bytes": memory.component(Component::Frames),
        "room_bytes": memory.component(Component::Rooms),
        "tls_bytes": memory.component(Component::Tls),
        "deflate_bytes": memory.component(Component::Deflate),
        "total_bytes": memory.total(),
        "limit_bytes": memory.limit(),
    })
}

fn latency(stages: &StageHistograms) -> Map<String, Value> {
    let entry = |stage: Stage| {
        let histogram = stages.get(stage);
        // A bin's upper end may lie beyond the longest duration that is recorded.
        let at = |quantile| histogram.value_at_quantile(quantile).min(STAGE_MAX_US);
        json!({
            "count": histogram.len(),
            "p50_us": at(0.5),
            "p90_us": at(0.9),
            "p99_us": at(0.99),
            "p999_us": at(0.999),
            "max_us": histogram.max().min(STAGE_MAX_US),
            "clamped": stages.clamped(stage),
        })
    };
    Stage::ALL.iter().map(|stage| (stage.name().to_owned(), entry(*stage))).collect()
}

#[cfg(test)]
#[path = "snapshot_tests.rs"]
mod tests;
