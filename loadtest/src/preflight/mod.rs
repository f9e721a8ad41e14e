//! Names, before anything starts, each limit of this host that would stop the run, and the command
//! that lifts it.
//!
//! Invariants:
//! - What the host is like comes in as [`Facts`]; judging reads nothing.
//! - A limit that is unknown stops nothing.

mod facts;

use std::{fmt, net::IpAddr};

pub(crate) use self::facts::Facts;
use crate::{
    plan::{Plan, RESERVE, share},
    report::grouped,
};

/// What the kernel keeps for one end of an idle connection, bytes: measured on Linux 6.
const KERNEL_BYTES: u64 = 3_960;
/// What this program keeps for a connection beside its read buffer, bytes.
const OWN_BYTES: u64 = 700;
/// What TLS adds to it, bytes.
const TLS_BYTES: u64 = 4_300;
/// Mappings of a thread: stack and guard, heap of its own and the rest of its reservation.
const MAPS_PER_THREAD: u64 = 4;
/// Mappings of the program itself.
const MAPS: u64 = 200;
/// Threads beside the loops: main and signals.
const OTHER_THREADS: u64 = 2;
/// The widest range of ports that leaves the well-known ones alone.
const WIDE_RANGE: &str = "sysctl -w net.ipv4.ip_local_port_range='1024 65535'";

/// What the run needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Needs<'a> {
    /// Connections in all.
    pub(crate) connections: u32,
    /// How they are laid out.
    pub(crate) plan: &'a Plan,
    /// Whether the number of threads was chosen by `--threads`.
    pub(crate) threads_chosen: bool,
    /// Handshakes under way at once.
    pub(crate) max_connecting: u32,
    /// The read buffer of a connection, bytes.
    pub(crate) read_buffer: usize,
    /// Whether TLS is spoken.
    pub(crate) tls: bool,
    /// Where the server is; `None`: at a Unix-domain socket.
    pub(crate) destination: Option<IpAddr>,
}

/// A limit that is too low.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// Whether the run would fail; else it may.
    pub(crate) stops: bool,
    what: String,
    fix: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n    lift it: {}", self.what, self.fix)
    }
}

/// All limits that are too low for `needs`.
pub(crate) fn check(needs: &Needs<'_>, facts: &Facts) -> Vec<Finding> {
    let checks: [fn(&Needs<'_>, &Facts) -> Option<Finding>; 12] = [
        descriptors,
        private_tables,
        ports,
        memory,
        cgroup_memory,
        open_files,
        epoll_watches,
        threads,
        mappings,
        conntrack,
        tcp_mem,
        backlog,
    ];
    checks.iter().filter_map(|check| check(needs, facts)).collect()
}

/// Errors as one message, if there are any; the rest is returned as warnings.
pub(crate) fn verdict(findings: Vec<Finding>, skip: bool) -> Result<Vec<Finding>, String> {
    let (stops, warnings): (Vec<_>, Vec<_>) =
        findings.into_iter().partition(|finding| finding.stops && !skip);
    if stops.is_empty() {
        return Ok(warnings);
    }
    let list: String = stops.iter().map(|finding| format!("\n  {finding}")).collect();
    Err(format!("limits of this host are in the way (--no-preflight tries anyway):{list}"))
}

impl Needs<'_> {
    fn connections(&self) -> u64 {
        self.connections.into()
    }

    /// Ends of connections on this host.
    fn ends(&self) -> u64 {
        self.connections() * if self.is_local() { 2 } else { 1 }
    }

    /// Whether the server is on this host, which then holds both ends.
    fn is_local(&self) -> bool {
        self.destination.is_none_or(|ip| ip.is_loopback())
    }

    /// Descriptors of the fullest table.
    fn table(&self) -> u64 {
        let threads = u64::from(self.plan.threads);
        match self.plan.private_tables {
            // Every private table also holds the polls of all threads.
            true => u64::from(share(self.connections, self.plan.threads, 0)) + threads + RESERVE,
            false => self.connections() + 2 * threads + RESERVE,
        }
    }

    fn own_bytes(&self) -> u64 {
        let tls = if self.tls { TLS_BYTES } else { 0 };
        self.connections() * (OWN_BYTES + tls + self.read_buffer as u64)
    }
}

fn stops(what: String, fix: impl Into<String>) -> Option<Finding> {
    Some(Finding { stops: true, what, fix: fix.into() })
}

fn warns(what: String, fix: impl Into<String>) -> Option<Finding> {
    Some(Finding { stops: false, what, fix: fix.into() })
}

fn descriptors(needs: &Needs<'_>, facts: &Facts) -> Option<Finding> {
    let (have, want) = (facts.descriptors, needs.table());
    if have >= want {
        return None;
    }
    let first = match facts.nr_open {
        Some(most) if most < want => format!("sysctl -w fs.nr_open={want} && "),
        _ => String::new(),
    };
    let (threads, connections) = (needs.plan.threads, needs.connections);
    let (flag, other) = match needs.threads_chosen {
        true => {
            (format!("--threads {threads}"), "; or leave --threads out to have as many as needed")
        }
        false => (format!("{threads} threads, the most,"), ""),
    };
    stops(
        format!(
            "{flag} cannot hold --connections {connections} at {have} open files a thread \
             (ulimit -Hn); {want} are needed"
        ),
        format!("{first}ulimit -n {want}{other}"),
    )
}

fn private_tables(needs: &Needs<'_>, facts: &Facts) -> Option<Finding> {
    let refused = facts.unshare_refused.as_ref().filter(|_| needs.plan.private_tables)?;
    let want = needs.connections() + 2 * u64::from(needs.plan.threads) + RESERVE;
    stops(
        format!(
            "--connections {} need descriptor tables of their own for each thread, and unshare \
             says: {refused}",
            needs.connections
        ),
        format!("ulimit -n {want}; in a container: docker run --security-opt seccomp=unconfined"),
    )
}

fn ports(needs: &Needs<'_>, facts: &Facts) -> Option<Finding> {
    let have = facts.ports.filter(|_| needs.destination.is_some())?;
    let sources = needs.plan.sources.len().max(1) as u64;
    let most = needs.connections().div_ceil(sources);
    if most <= have {
        return None;
    }
    let more = needs.connections().div_ceil(have);
    let fix = match most <= 64_512 {
        true => format!("{WIDE_RANGE}, or name {more} source addresses with --source-ips"),
        false => format!("name {more} source addresses with --source-ips"),
    };
    stops(
        format!(
            "--connections {} do not fit {have} ports (net.ipv4.ip_local_port_range) on each of \
             {sources} source address(es)",
            needs.connections
        ),
        fix,
    )
}

fn memory(needs: &Needs<'_>, facts: &Facts) -> Option<Finding> {
    let have = facts.memory_available?;
    let want = needs.ends() * KERNEL_BYTES + needs.own_bytes();
    let ends = if needs.is_local() { "both ends" } else { "one end" };
    if want <= have {
        return None;
    }
    stops(
        format!(
            "--connections {} take about {} ({KERNEL_BYTES} B of the kernel's for {ends} of each, \
             and this program's), and {} are available",
            needs.connections,
            mib(want),
            mib(have)
        ),
        fewer(needs, want, have),
    )
}

fn cgroup_memory(needs: &Needs<'_>, facts: &Facts) -> Option<Finding> {
    let group = facts.cgroup_memory?;
    let want = needs.connections() * KERNEL_BYTES + needs.own_bytes();
    if want <= group.left() {
        return None;
    }
    let total = want + group.used;
    stops(
        format!(
            "--connections {} take about {} here, and the control group has {} left (memory.max)",
            needs.connections,
            mib(want),
            mib(group.left())
        ),
        format!(
            "echo {total} > memory.max of the control group, or {}",
            fewer(needs, want, group.left())
        ),
    )
}

fn open_files(needs: &Needs<'_>, facts: &Facts) -> Option<Finding> {
    let files = facts.files?;
    let want = needs.ends().saturating_add(files.used);
    if want <= files.limit {
        return None;
    }
    let (all, limit) = (grouped(want), grouped(files.limit));
    let what = format!("{all} open files on this host would be over fs.file-max {limit}");
    let fix = format!("sysctl -w fs.file-max={want}");
    // With that privilege there is no such limit; but the server may lack it.
    match (facts.exceeds_files, needs.is_local()) {
        (false, _) => stops(what, fix),
        (true, true) => warns(what, fix),
        (true, false) => None,
    }
}

fn epoll_watches(needs: &Needs<'_>, facts: &Facts) -> Option<Finding> {
    let have = facts.epoll_watches?;
    let want = needs.ends() + 2 * u64::from(needs.plan.threads);
    if want <= have {
        return None;
    }
    let what = format!("{want} sockets in epoll are over fs.epoll.max_user_watches {have}");
    let fix = format!("sysctl -w fs.epoll.max_user_watches={want}");
    // A server on this host counts only if it runs as the same user.
    if needs.connections() > have { stops(what, fix) } else { warns(what, fix) }
}

fn threads(needs: &Needs<'_>, facts: &Facts) -> Option<Finding> {
    let threads = facts.threads?;
    let want = u64::from(needs.plan.threads) + OTHER_THREADS;
    if want <= threads.left() {
        return None;
    }
    let total = want + threads.used;
    stops(
        format!("{want} more threads are over kernel.threads-max {}", threads.limit),
        format!("sysctl -w kernel.threads-max={total}"),
    )
}

fn mappings(needs: &Needs<'_>, facts: &Facts) -> Option<Finding> {
    let have = facts.max_map_count?;
    let want = u64::from(needs.plan.threads) * MAPS_PER_THREAD + MAPS;
    if want <= have {
        return None;
    }
    stops(
        format!(
            "{} threads need about {want} mappings, over vm.max_map_count {have}",
            needs.plan.threads
        ),
        format!("sysctl -w vm.max_map_count={want}"),
    )
}

fn conntrack(needs: &Needs<'_>, facts: &Facts) -> Option<Finding> {
    let tracked = facts.conntrack?;
    if needs.connections() <= tracked.left() {
        return None;
    }
    let want = needs.connections() + tracked.used;
    let what = format!(
        "--connections {} are more than the {} that may yet be tracked \
         (net.netfilter.nf_conntrack_max); a full table drops new ones",
        needs.connections,
        grouped(tracked.left())
    );
    let fix = format!("sysctl -w net.netfilter.nf_conntrack_max={want}");
    // The module can be there while no rule asks for it: then nothing is tracked, and no limit met.
    if tracked.used > 0 { stops(what, fix) } else { warns(what, fix) }
}

fn tcp_mem(needs: &Needs<'_>, facts: &Facts) -> Option<Finding> {
    let have = facts.tcp_mem_high?;
    let want = needs.ends();
    if want <= have {
        return None;
    }
    warns(
        format!(
            "with bytes under way on all connections at once, socket buffers take {want} pages or \
             more, over net.ipv4.tcp_mem's {have}; idle ones take none"
        ),
        format!("sysctl -w net.ipv4.tcp_mem='{} {want} {}'", want / 4 * 3, want / 2 * 3),
    )
}

fn backlog(needs: &Needs<'_>, facts: &Facts) -> Option<Finding> {
    let have = facts.somaxconn.filter(|_| needs.is_local())?;
    let want = u64::from(needs.max_connecting.min(needs.connections));
    if want <= have {
        return None;
    }
    warns(
        format!(
            "--max-connecting {} is over net.core.somaxconn {have}: a SYN that finds the backlog \
             full is sent again after a second",
            needs.max_connecting
        ),
        format!(
            "sysctl -w net.core.somaxconn={want} (the server's backlog, too), or --max-connecting {have}"
        ),
    )
}

/// How many connections would fit instead.
fn fewer(needs: &Needs<'_>, want: u64, have: u64) -> String {
    let each = (want / needs.connections().max(1)).max(1);
    format!("free memory, or --connections {}", (have / each).max(1))
}

fn mib(bytes: u64) -> String {
    format!("{} MiB", grouped(bytes.div_ceil(1 << 20)))
}

#[cfg(test)]
mod tests;
