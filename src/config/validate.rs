//! The rules a [`Config`] must keep, however it was made.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::{
    Capacity, Config, ListenAddr, Machine, Problem, TcpListen, format_bytes, format_duration,
};
use crate::limits;

impl Config {
    /// Checks that every value is in its range, that they fit each other, and that the counts fit
    /// the machine.
    ///
    /// # Errors
    /// Every mistake there is, each with the flag that sets the value and a fix.
    pub fn validate(&self, machine: &Machine) -> Result<Capacity, Vec<Problem>> {
        let mut problems = self.range_problems();
        // Capacity is worked out from counts that are in range, or it tells nonsense.
        if !problems.iter().any(|problem| is_capacity_flag(problem.flag)) {
            match self.capacity(machine) {
                Ok(capacity) if problems.is_empty() => return Ok(capacity),
                Ok(_) => {}
                Err(problem) => problems.push(problem),
            }
        }
        Err(problems)
    }

    /// What can be run by but is probably not meant, one sentence each.
    #[must_use]
    pub fn warnings(&self, machine: &Machine) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.outbound_limit_bytes < self.max_message_bytes {
            warnings.push(format!(
                "--outbound-limit {} is less than --max-message {}: a client that is sent the \
                 longest message back is closed as too slow",
                format_bytes(self.outbound_limit_bytes as u64),
                format_bytes(self.max_message_bytes as u64),
            ));
        }
        if let (Some(idle), Some(ping)) = (self.idle_timeout, self.ping_interval)
            && idle <= ping
        {
            warnings.push(format!(
                "--idle-timeout {} is not longer than --ping-interval {}: quiet clients are closed \
                 before they are pinged",
                format_duration(idle),
                format_duration(ping),
            ));
        }
        warnings.extend(self.memory_warning(machine));
        warnings.extend(self.proxy_warning());
        warnings
    }

    fn memory_warning(&self, machine: &Machine) -> Option<String> {
        let memory = machine.memory_bytes()?;
        let each = limits::KERNEL_BYTES_PER_CONNECTION + limits::OWN_BYTES_PER_CONNECTION;
        let idle = (self.max_connections as u64).saturating_mul(each);
        let wanted = idle.saturating_add(self.memory_limit_bytes);
        (wanted > memory).then(|| {
            format!(
                "{} idle connections take {} and --memory-limit lets buffers take {}, but there \
                 are {} of memory",
                self.max_connections,
                mebibytes(idle),
                mebibytes(self.memory_limit_bytes),
                mebibytes(memory),
            )
        })
    }

    /// Problems of single values and of their relations, without the machine.
    pub(crate) fn range_problems(&self) -> Vec<Problem> {
        let mut found = Problems(Vec::new());
        self.check_listen(&mut found);
        self.check_tls(&mut found);
        found.0.extend(self.proxy_problem());
        self.check_counts(&mut found);
        self.check_deflate(&mut found);
        self.check_sizes(&mut found);
        self.check_times(&mut found);
        self.check_files(&mut found);
        self.check_tuning(&mut found);
        found.0.extend(self.socket_problems());
        found.0
    }

    fn check_listen(&self, found: &mut Problems) {
        if self.addresses() == 0 {
            let what = format!("expected 1 to {} addresses", limits::LISTEN_MAX);
            found.add("--listen", 0, what, "give --listen 0.0.0.0:8080");
        }
        let mut seen = Vec::new();
        for (flag, addresses) in self.listen_flags() {
            if addresses.len() > limits::LISTEN_MAX {
                let what = format!("expected at most {} addresses", limits::LISTEN_MAX);
                found.add(flag, addresses.len(), what, "leave some of them out");
            }
            for address in addresses {
                if address.is_one_place() && seen.contains(&address) {
                    found.add(flag, &address, "given twice", "leave one of them out");
                }
                seen.push(address);
            }
        }
    }

    /// The flags that name addresses to listen on, and what they name.
    pub(super) fn listen_flags(&self) -> [(&'static str, Vec<ListenAddr>); 4] {
        let of = |all: &[TcpListen]| all.iter().map(|listen| listen.address.clone()).collect();
        [
            ("--listen", self.listen.clone()),
            ("--tcp-listen", of(&self.tcp_listen)),
            ("--tls-listen", self.tls_listen.clone()),
            ("--tls-tcp-listen", of(&self.tls_tcp_listen)),
        ]
    }

    fn check_tls(&self, found: &mut Problems) {
        if !self.tls.certificates.is_empty() {
            return;
        }
        for (flag, addresses) in self.listen_flags() {
            if let Some(address) = addresses.first().filter(|_| flag.starts_with("--tls")) {
                let fix = "give --tls-cert and --tls-key; `tidegate dev-cert` makes some to try";
                found.add(flag, address, "TLS takes a certificate", fix);
            }
        }
    }

    fn check_counts(&self, found: &mut Problems) {
        found.count("--loops", self.loops, &(limits::LOOPS_MIN..=limits::LOOPS_MAX));
        found.count("--workers", self.workers, &(0..=limits::WORKERS_MAX));
        found.count("--blocking-threads", self.blocking_threads, &limits::BLOCKING_THREADS);
        let connections = limits::LOOPS_MAX * limits::CONNECTIONS_PER_LOOP_MAX;
        found.count("--max-connections", self.max_connections, &(1..=connections));
        found.count("--backlog", self.backlog, &(1..=limits::BACKLOG_MAX));
        found.count("--max-fragments", self.max_fragments, &limits::FRAGMENTS);
    }

    fn check_deflate(&self, found: &mut Problems) {
        let settings = &self.deflate;
        found.count("--deflate-level", settings.level, &limits::DEFLATE_LEVEL);
        let bits = &limits::DEFLATE_WINDOW_BITS;
        found.count("--deflate-server-window-bits", settings.server_window_bits, bits);
        found.count("--deflate-client-window-bits", settings.client_window_bits, bits);
        let threshold = &(0..=*limits::MESSAGE_BYTES.end());
        found.bytes("--deflate-threshold", settings.threshold_bytes, threshold);
    }

    fn check_sizes(&self, found: &mut Problems) {
        found.bytes("--max-header", self.max_header_bytes, &limits::HEADER_BYTES);
        found.bytes("--max-message", self.max_message_bytes, &limits::MESSAGE_BYTES);
        found.bytes("--max-frame", self.max_frame_bytes, &limits::MESSAGE_BYTES);
        found.bytes("--outbound-limit", self.outbound_limit_bytes, &limits::OUTBOUND_BYTES);
        found.count("--bandwidth-reserve-percent", self.bandwidth_reserve_percent, &(0..=100));
        if let Some(bytes) = self.bandwidth_bytes_per_s
            && !limits::BANDWIDTH_BYTES_PER_S.contains(&bytes)
        {
            let (least, most) = limits::BANDWIDTH_BYTES_PER_S.into_inner();
            let range = format!("{} to {}", format_bytes(least), format_bytes(most));
            found.range("--bandwidth-bytes-per-s", format_bytes(bytes), &range);
        }
        let (least, most) = limits::MEMORY_BYTES.into_inner();
        if !limits::MEMORY_BYTES.contains(&self.memory_limit_bytes) {
            let value = format_bytes(self.memory_limit_bytes);
            let range = format!("{} to {}", format_bytes(least), format_bytes(most));
            found.range("--memory-limit", value, &range);
        }
    }

    fn check_times(&self, found: &mut Problems) {
        found.time("--handshake-timeout", Some(self.handshake_timeout));
        found.time("--idle-timeout", self.idle_timeout);
        found.time("--message-timeout", self.message_timeout);
        found.time("--ping-interval", self.ping_interval);
        found.time("--pong-timeout", Some(self.pong_timeout));
        found.time("--write-timeout", Some(self.write_timeout));
        found.time("--close-timeout", Some(self.close_timeout));
        found.time("--drain-timeout", Some(self.drain_timeout));
        found.time("--histogram-interval", Some(self.histogram_interval));
    }

    fn check_files(&self, found: &mut Problems) {
        for (flag, file) in [
            ("--stats-out", self.stats_out.as_ref()),
            ("--histogram-out", self.histogram_out.as_ref()),
        ] {
            if file.is_some_and(|file| file.file_name().is_none()) {
                let value = file.map(|file| file.display().to_string()).unwrap_or_default();
                found.add(flag, value, "not the name of a file", "give a file name");
            }
        }
        if let (Some(stats), Some(histogram)) = (&self.stats_out, &self.histogram_out)
            && stats == histogram
        {
            let fix = "give each a file of its own";
            found.add("--histogram-out", histogram.display(), "also the file of --stats-out", fix);
        }
    }

    fn check_tuning(&self, found: &mut Problems) {
        let tuning = &self.tuning;
        for (field, value) in [
            ("tuning.mailbox_capacity", tuning.mailbox_capacity),
            ("tuning.room_lane_capacity", tuning.room_lane_capacity),
            ("tuning.message_lane_capacity", tuning.message_lane_capacity),
            ("tuning.blocking_jobs_max", tuning.blocking_jobs_max),
            ("tuning.read_buffer_bytes", tuning.read_buffer_bytes),
            ("tuning.batch_bytes", tuning.batch_bytes),
            ("tuning.batch_messages", tuning.batch_messages),
            ("tuning.reads_per_turn", tuning.reads_per_turn),
            ("tuning.bytes_per_turn", tuning.bytes_per_turn),
            ("tuning.accepts_per_turn", tuning.accepts_per_turn),
            ("tuning.handshakes_per_turn", tuning.handshakes_per_turn),
            ("tuning.flushes_per_turn", tuning.flushes_per_turn),
        ] {
            if value == 0 {
                found.add(field, value, "nothing would ever move", "set it to 1 or more");
            }
        }
    }
}

/// Whether the flag is one that capacity is worked out from.
pub(crate) fn is_capacity_flag(flag: &str) -> bool {
    flag.ends_with("listen") || matches!(flag, "--loops" | "--max-connections" | "--fd-table")
}

/// Bytes to read, not to parse: rounded to whole MiB.
pub(crate) fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

/// The problems found so far.
struct Problems(Vec<Problem>);

impl Problems {
    fn add(
        &mut self,
        flag: &'static str,
        value: impl Display,
        what: impl Into<String>,
        fix: impl Into<String>,
    ) {
        self.0.push(Problem::new(flag, value, what, fix));
    }

    fn range(&mut self, flag: &'static str, value: impl Display, range: &str) {
        self.add(flag, value, "out of range", format!("expected {range}"));
    }

    fn count<T: PartialOrd + Display>(
        &mut self,
        flag: &'static str,
        value: T,
        range: &RangeInclusive<T>,
    ) {
        if !range.contains(&value) {
            self.range(flag, value, &format!("{} to {}", range.start(), range.end()));
        }
    }

    fn bytes(&mut self, flag: &'static str, value: usize, range: &RangeInclusive<usize>) {
        if !range.contains(&value) {
            let text = |bytes: usize| format_bytes(bytes as u64);
            let range = format!("{} to {}", text(*range.start()), text(*range.end()));
            self.range(flag, text(value), &range);
        }
    }

    fn time(&mut self, flag: &'static str, value: Option<Duration>) {
        if let Some(value) = value.filter(|value| !limits::TIMEOUT.contains(value)) {
            let (least, most) = limits::TIMEOUT.into_inner();
            let range = format!("{} to {}", format_duration(least), format_duration(most));
            self.range(flag, format_duration(value), &range);
        }
    }
}
