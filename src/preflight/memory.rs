//! Findings about memory: the machine's, the control group's, and TCP's share.

use super::checks::{connections, ok};
use super::facts::Facts;
use super::{Finding, Status};
use crate::config::{Config, format_bytes};
use crate::limits::{KERNEL_BYTES_PER_CONNECTION, OWN_BYTES_PER_CONNECTION};

const EACH: u64 = KERNEL_BYTES_PER_CONNECTION + OWN_BYTES_PER_CONNECTION;

/// Pages of socket buffers. An idle connection holds none of them.
pub(super) fn tcp_mem(config: &Config, facts: &Facts) -> Finding {
    const NAME: &str = "net.ipv4.tcp_mem";
    let why = "pages of socket buffers: none for an idle connection, at least one while bytes are \
               under way; over the second number the kernel shrinks windows, \
               over the third it drops";
    let want = connections(config);
    let Some([low, pressure, high]) = facts.tcp_mem_pages else {
        return Finding { status: Status::Warn, ..ok(NAME, "unknown", want.to_string(), why) };
    };
    let finding = ok(NAME, format!("{low} {pressure} {high}"), want.to_string(), why);
    if pressure >= want {
        return finding;
    }
    let (low, high) = (want / 4 * 3, want / 2 * 3);
    finding.or(Status::Warn, format!("sysctl -w {NAME}=\"{low} {want} {high}\""))
}

/// What the control group lets the process have.
pub(super) fn cgroup_memory(config: &Config, facts: &Facts) -> Finding {
    const NAME: &str = "cgroup memory";
    let Some(group) = &facts.cgroup_memory else {
        return ok(NAME, "no limit", mib(idle(config)), why(config));
    };
    let all = idle(config).saturating_add(config.memory_limit_bytes);
    let finding = ok(NAME, mib(group.limit), mib(all), why(config));
    match status(config, group.limit) {
        Status::Ok => finding,
        bad => finding.or(bad, format!("echo {all} > {}", group.file)),
    }
}

/// What the machine has left.
pub(super) fn available(config: &Config, facts: &Facts) -> Finding {
    const NAME: &str = "memory available";
    let all = idle(config).saturating_add(config.memory_limit_bytes);
    let Some(have) = facts.memory_available_bytes else {
        let finding = ok(NAME, "unknown", mib(all), why(config));
        return Finding { status: Status::Warn, ..finding };
    };
    let finding = ok(NAME, mib(have), mib(all), why(config));
    match status(config, have) {
        Status::Ok => finding,
        Status::Warn => {
            let limit = have.saturating_sub(idle(config)) >> 20 << 20;
            finding.or(Status::Warn, format!("tidegate --memory-limit {}", format_bytes(limit)))
        }
        Status::Fail => {
            finding.or(Status::Fail, format!("tidegate --max-connections {}", have / 2 / EACH))
        }
    }
}

/// Huge pages turn a few touched bytes into 2 MiB.
pub(super) fn huge_pages(_: &Config, facts: &Facts) -> Finding {
    const NAME: &str = "transparent huge pages";
    const FILE: &str = "/sys/kernel/mm/transparent_hugepage/enabled";
    let why = "under `always` resident memory grows by steps of 2 MiB, and compaction stalls loops";
    let have = facts.huge_pages.as_deref().unwrap_or("none");
    let finding = ok(NAME, have, "madvise or never", why);
    if have == "always" {
        return finding.or(Status::Warn, format!("echo madvise > {FILE}"));
    }
    finding
}

/// Memory of all connections while they are idle, bytes.
fn idle(config: &Config) -> u64 {
    connections(config).saturating_mul(EACH)
}

/// Idle connections must fit; their buffers, up to the limit, had better.
fn status(config: &Config, have: u64) -> Status {
    let idle = idle(config);
    if idle > have {
        Status::Fail
    } else if idle.saturating_add(config.memory_limit_bytes) > have {
        Status::Warn
    } else {
        Status::Ok
    }
}

fn why(config: &Config) -> String {
    format!(
        "{EACH} B an idle connection, {KERNEL_BYTES_PER_CONNECTION} of them the kernel's, make {}; \
         buffers may take {} more (--memory-limit)",
        mib(idle(config)),
        mib(config.memory_limit_bytes)
    )
}

fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}
