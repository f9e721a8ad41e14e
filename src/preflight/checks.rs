//! Facts and the wanted configuration → findings. No reading here.

use super::facts::Facts;
use super::memory;
use super::{Finding, Status};
use crate::config::{Config, FdTable, loops_needed};
use crate::limits::descriptor_reserve;

/// Threads beside loops and workers: main, signals, log, control plane.
const OTHER_THREADS: u64 = 8;
/// Descriptors in epoll of a loop that are not connections: waker, listeners, hand-over.
const LOOP_WATCHES: u64 = 4;

/// Compares all limits with what `config` wants.
#[must_use]
pub fn check(config: &Config, facts: &Facts) -> Vec<Finding> {
    let checks: [fn(&Config, &Facts) -> Finding; 17] = [
        descriptors,
        nr_open,
        file_max,
        epoll_watches,
        somaxconn,
        port_range,
        memory::tcp_mem,
        orphans,
        time_wait,
        conntrack,
        threads_max,
        memory::cgroup_memory,
        cgroup_pids,
        memory::huge_pages,
        memory::available,
        private_tables,
        close_range,
    ];
    checks.iter().map(|check| check(config, facts)).collect()
}

/// A finding that all is well; the others are made from it.
pub(super) fn ok(
    name: &'static str,
    have: impl Into<String>,
    want: impl Into<String>,
    why: impl Into<String>,
) -> Finding {
    let (have, want, why) = (have.into(), want.into(), why.into());
    Finding { name, status: Status::Ok, have, want, why, fix: None }
}

impl Finding {
    pub(super) fn or(self, status: Status, fix: impl Into<String>) -> Self {
        Self { status, fix: Some(fix.into()), ..self }
    }
}

/// A number that must be at least another; `status` is what it is if not.
pub(super) fn at_least(
    name: &'static str,
    have: Option<u64>,
    want: u64,
    status: Status,
    why: &str,
) -> Finding {
    let Some(have) = have else {
        let why = format!("cannot be read here; {why}");
        return Finding { status: Status::Warn, ..ok(name, "unknown", want.to_string(), why) };
    };
    let finding = ok(name, have.to_string(), want.to_string(), why);
    if have >= want { finding } else { finding.or(status, format!("sysctl -w {name}={want}")) }
}

pub(super) fn connections(config: &Config) -> u64 {
    config.max_connections as u64
}

fn threads(config: &Config) -> u64 {
    (config.loops + config.workers) as u64 + OTHER_THREADS
}

fn is_private(config: &Config) -> bool {
    config.fd_table == FdTable::Private
}

/// Descriptors that the fullest table needs.
fn table_size(config: &Config) -> u64 {
    let tables = if is_private(config) { config.loops } else { 1 };
    let reserve = descriptor_reserve(config.loops, config.addresses(), is_private(config));
    (config.max_connections.max(1).div_ceil(tables) + reserve) as u64
}

fn descriptors(config: &Config, facts: &Facts) -> Finding {
    let want = table_size(config);
    let have = format!("soft {}, hard {}", facts.descriptors_soft, facts.descriptors_hard);
    let (name, why) = if is_private(config) {
        (
            "descriptors per table",
            "the hard limit bounds each loop's table; tidegate raises soft to hard",
        )
    } else {
        ("descriptors", "the hard limit bounds the process's table; tidegate raises soft to hard")
    };
    let finding = ok(name, have, want.to_string(), why);
    if facts.descriptors_hard >= want {
        return finding;
    }
    let needed = loops_needed(config.max_connections, facts.descriptors_hard, config.addresses());
    let other = match needed {
        Some(loops) => format!("; without raising it: --fd-table private --loops {loops}"),
        None => String::new(),
    };
    let why = format!("{why}; for a unit: LimitNOFILE={want}{other}");
    Finding { why, ..finding }.or(Status::Fail, format!("ulimit -n {want}"))
}

fn nr_open(config: &Config, facts: &Facts) -> Finding {
    let why = "the most that a hard limit on descriptors can be";
    at_least("fs.nr_open", facts.nr_open, table_size(config), Status::Fail, why)
}

fn file_max(config: &Config, facts: &Facts) -> Finding {
    let own = descriptor_reserve(config.loops, config.addresses(), false) as u64;
    let want = connections(config) + own + facts.files_open;
    let why = "open files of all processes; what is open now is counted in";
    at_least("fs.file-max", facts.file_max, want, Status::Fail, why)
}

fn epoll_watches(config: &Config, facts: &Facts) -> Finding {
    let want = connections(config) + config.loops as u64 * LOOP_WATCHES;
    let why = "each connection is one watch of this user";
    at_least("fs.epoll.max_user_watches", facts.epoll_watches, want, Status::Fail, why)
}

fn somaxconn(config: &Config, facts: &Facts) -> Finding {
    let why =
        "the kernel cuts --backlog to it without a word; bursts of clients wait a second more";
    at_least("net.core.somaxconn", facts.somaxconn, config.backlog.into(), Status::Warn, why)
}

/// A note for whoever connects from this host; what the gateway accepts takes no port.
fn port_range(config: &Config, facts: &Facts) -> Finding {
    const NAME: &str = "net.ipv4.ip_local_port_range";
    let why = "only for clients or a proxy on this host: ports per source and destination address";
    let Some((first, last)) = facts.port_range else {
        return ok(NAME, "unknown", "-", why);
    };
    let ports = (last + 1).saturating_sub(first);
    let want = connections(config).min(64_511);
    let finding = ok(NAME, format!("{first}-{last} ({ports})"), want.to_string(), why);
    if ports >= want {
        return finding;
    }
    finding.or(Status::Warn, format!("sysctl -w {NAME}=\"1024 65535\""))
}

fn orphans(config: &Config, facts: &Facts) -> Finding {
    let why =
        "connections closed with bytes unacknowledged; more at once, as at a drain, are reset";
    let want = connections(config);
    at_least("net.ipv4.tcp_max_orphans", facts.tcp_max_orphans, want, Status::Warn, why)
}

fn time_wait(config: &Config, facts: &Facts) -> Finding {
    let why =
        "connections that the gateway closed first; more at once, as at a drain, skip TIME_WAIT";
    let want = connections(config);
    at_least("net.ipv4.tcp_max_tw_buckets", facts.tcp_max_tw_buckets, want, Status::Warn, why)
}

fn conntrack(config: &Config, facts: &Facts) -> Finding {
    const NAME: &str = "net.netfilter.nf_conntrack_max";
    let why = "tracked connections of the host; a full table drops new ones; \
               where none is tracked now, there may be no rule that asks for it";
    let want = connections(config) + facts.conntrack_count;
    // The module can be there while no rule asks for it: then nothing is tracked, and no limit met.
    let status = if facts.conntrack_count == 0 { Status::Warn } else { Status::Fail };
    match facts.conntrack_max {
        None => ok(NAME, "not tracked", "-", why),
        Some(max) => at_least(NAME, Some(max), want, status, why),
    }
}

fn threads_max(config: &Config, facts: &Facts) -> Finding {
    let why = "threads of all processes; what runs now is counted in";
    let want = threads(config) + facts.threads;
    at_least("kernel.threads-max", facts.threads_max, want, Status::Fail, why)
}

fn cgroup_pids(config: &Config, facts: &Facts) -> Finding {
    const NAME: &str = "cgroup pids";
    let why = "threads of the control group";
    let Some(group) = &facts.cgroup_pids else {
        return ok(NAME, "no limit", threads(config).to_string(), why);
    };
    let want = threads(config) + group.used;
    let finding = ok(NAME, format!("{} ({} used)", group.limit, group.used), want.to_string(), why);
    if group.limit >= want {
        return finding;
    }
    finding.or(Status::Fail, format!("echo {want} > {}", group.file))
}

fn private_tables(config: &Config, facts: &Facts) -> Finding {
    const NAME: &str = "private descriptor tables";
    let want = if is_private(config) { "permitted" } else { "-" };
    let Some(refused) = &facts.unshare_refused else {
        return ok(NAME, "permitted", want, "a thread may have a descriptor table of its own");
    };
    let why = format!(
        "unshare(CLONE_FILES): {refused}; a container's filter is the usual cause; \
         without them: --fd-table shared"
    );
    let finding = ok(NAME, "refused", want, why);
    if !is_private(config) {
        return finding;
    }
    finding.or(Status::Fail, "docker run --security-opt seccomp=unconfined")
}

fn close_range(config: &Config, facts: &Facts) -> Finding {
    const NAME: &str = "close_range";
    let Some(refused) = &facts.close_range_refused else {
        return ok(NAME, "works", "-", "parts a table and empties it in one call");
    };
    let why = format!("CLOSE_RANGE_UNSHARE: {refused}; tables are parted by unshare instead");
    let status = if is_private(config) { Status::Warn } else { Status::Ok };
    Finding { status, ..ok(NAME, "refused", "-", why) }
}
