//! What is read of the host before anything is judged.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
};

use nix::sched::{CloneFlags, unshare};

use crate::sampler::host::meminfo_bytes;

/// The limits of this host and what of them is in use. `None`: not there, or not to be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Descriptors of one table (hard `RLIMIT_NOFILE`).
    pub(crate) descriptors: u64,
    /// Why a thread may not have a descriptor table of its own.
    pub(crate) unshare_refused: Option<String>,
    /// `fs.nr_open`: the most that the hard limit can be raised to.
    pub(crate) nr_open: Option<u64>,
    /// `fs.file-max`, and the open files of all processes.
    pub(crate) files: Option<Bounded>,
    /// Whether this process may exceed that (`CAP_SYS_ADMIN`).
    pub(crate) exceeds_files: bool,
    /// `fs.epoll.max_user_watches`.
    pub(crate) epoll_watches: Option<u64>,
    /// Ephemeral ports of one source address (`net.ipv4.ip_local_port_range`).
    pub(crate) ports: Option<u64>,
    /// `MemAvailable`, bytes.
    pub(crate) memory_available: Option<u64>,
    /// The tightest memory limit of the control groups, bytes.
    pub(crate) cgroup_memory: Option<Bounded>,
    /// The third number of `net.ipv4.tcp_mem`, pages.
    pub(crate) tcp_mem_high: Option<u64>,
    /// `vm.max_map_count`.
    pub(crate) max_map_count: Option<u64>,
    /// `kernel.threads-max`, and the threads of all processes.
    pub(crate) threads: Option<Bounded>,
    /// `net.netfilter.nf_conntrack_max`, and the connections tracked.
    pub(crate) conntrack: Option<Bounded>,
    /// `net.core.somaxconn`.
    pub(crate) somaxconn: Option<u64>,
}

/// A limit, and how much of it is in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bounded {
    /// The limit.
    pub(crate) limit: u64,
    /// What is in use.
    pub(crate) used: u64,
}

impl Bounded {
    /// What is left.
    pub(crate) fn left(self) -> u64 {
        self.limit.saturating_sub(self.used)
    }
}

impl Facts {
    /// Of this host. `descriptors` is the limit of one table.
    pub(crate) fn read(descriptors: u64) -> Self {
        let refused = probe_unshare().err();
        Self { descriptors, unshare_refused: refused, ..Self::read_files(Path::new("/")) }
    }

    /// What stands in files below `root`.
    fn read_files(root: &Path) -> Self {
        let files = Files(root);
        let sys = |name: &str| files.numbers(&format!("proc/sys/{name}"));
        let number = |name: &str| sys(name).first().copied();
        let bounded = |limit: Option<u64>, used: Option<u64>| {
            limit.map(|limit| Bounded { limit, used: used.unwrap_or(0) })
        };
        let ports = match sys("net/ipv4/ip_local_port_range")[..] {
            [first, last] if first <= last => Some(last - first + 1),
            _ => None,
        };
        Self {
            descriptors: 0,
            unshare_refused: None,
            nr_open: number("fs/nr_open"),
            files: bounded(number("fs/file-max"), number("fs/file-nr")),
            exceeds_files: is_admin(&files.text("proc/self/status")),
            epoll_watches: number("fs/epoll/max_user_watches"),
            ports,
            memory_available: meminfo_bytes(&files.text("proc/meminfo"), "MemAvailable"),
            cgroup_memory: files.cgroup_memory(),
            tcp_mem_high: sys("net/ipv4/tcp_mem").get(2).copied(),
            max_map_count: number("vm/max_map_count"),
            threads: bounded(number("kernel/threads-max"), files.threads()),
            conntrack: bounded(
                number("net/netfilter/nf_conntrack_max"),
                number("net/netfilter/nf_conntrack_count"),
            ),
            somaxconn: number("net/core/somaxconn"),
        }
    }
}

/// Files below a root.
struct Files<'a>(&'a Path);

impl Files<'_> {
    /// The text of a file; empty if it cannot be read.
    fn text(&self, path: &str) -> String {
        fs::read_to_string(self.0.join(path)).unwrap_or_default()
    }

    fn numbers(&self, path: &str) -> Vec<u64> {
        self.text(path).split_whitespace().map_while(|word| word.parse().ok()).collect()
    }

    /// All threads of the host: `0.20 0.18 0.12 1/80 11206` has 80.
    fn threads(&self) -> Option<u64> {
        let text = self.text("proc/loadavg");
        text.split_whitespace().nth(3)?.split_once('/')?.1.parse().ok()
    }

    /// Of the control group and all above it, the memory limit with the least left; of version 2
    /// or 1. Cached pages of files are not in use: the kernel gives them up when it must.
    fn cgroup_memory(&self) -> Option<Bounded> {
        let groups = self.text("proc/self/cgroup");
        let limits = groups.lines().flat_map(|line| {
            let mut parts = line.splitn(3, ':');
            let (controllers, group) = (parts.nth(1).unwrap_or(""), parts.next().unwrap_or("/"));
            let (mount, limit, used, total) = match controllers {
                "" => ("sys/fs/cgroup", "memory.max", "memory.current", ""),
                "memory" => (
                    "sys/fs/cgroup/memory",
                    "memory.limit_in_bytes",
                    "memory.usage_in_bytes",
                    "total_",
                ),
                _ => return Vec::new(),
            };
            let group = PathBuf::from(group.trim_start_matches('/'));
            let ancestors = group.ancestors().map(|group| {
                let number = |name| {
                    let path = Path::new(mount).join(group).join(name);
                    self.numbers(&path.to_string_lossy()).first().copied()
                };
                let stat = Path::new(mount).join(group).join("memory.stat");
                let cached = cached_files(&self.text(&stat.to_string_lossy()), total);
                let used = number(used)?.saturating_sub(cached);
                Some(Bounded { limit: number(limit)?, used })
            });
            ancestors.flatten().collect::<Vec<_>>()
        });
        // Version 1 says "no limit" by a number near the largest.
        limits.filter(|bounded| bounded.limit < 1 << 60).min_by_key(|bounded| bounded.left())
    }
}

/// Bytes of cached pages of files, of a `memory.stat` in which what counts begins with `prefix`.
fn cached_files(stat: &str, prefix: &str) -> u64 {
    let bytes = |line: &str| {
        let (name, bytes) = line.strip_prefix(prefix)?.split_once(' ')?;
        ["inactive_file", "active_file"]
            .contains(&name)
            .then(|| bytes.trim().parse::<u64>().ok())?
    };
    stat.lines().filter_map(bytes).sum()
}

/// Whether `CAP_SYS_ADMIN`, bit 21, is in force.
fn is_admin(status: &str) -> bool {
    let bits = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = bits.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok());
    bits.is_some_and(|bits| bits & 1 << 21 != 0)
}

/// Tries what private tables need, on a thread that ends at once.
fn probe_unshare() -> Result<(), String> {
    let probe = || unshare(CloneFlags::CLONE_FILES).map_err(|error| error.to_string());
    let thread = thread::Builder::new().spawn(probe).map_err(|error| error.to_string())?;
    thread.join().unwrap_or_else(|_| Err("the probe failed".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(files: &[(&str, &str)]) -> Facts {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Facts::read_files(root.path())
    }

    #[test]
    fn facts_are_read_from_files() {
        let facts = host(&[
            ("proc/sys/fs/nr_open", "1048576\n"),
            ("proc/sys/fs/file-max", "9223372036854775807\n"),
            ("proc/sys/fs/file-nr", "1200\t0\t2466193\n"),
            ("proc/sys/net/ipv4/ip_local_port_range", "32768\t60999\n"),
            ("proc/sys/net/ipv4/tcp_mem", "287901\t383869\t575802\n"),
            ("proc/sys/kernel/threads-max", "192000\n"),
            ("proc/loadavg", "0.20 0.18 0.12 1/80 11206\n"),
            ("proc/meminfo", "MemTotal: 1 kB\nMemAvailable:   20971520 kB\n"),
            ("proc/self/status", "Name: x\nCapEff:\t0000000000200000\n"),
            ("proc/self/cgroup", "0::/app/test\n"),
            ("sys/fs/cgroup/app/test/memory.max", "max\n"),
            ("sys/fs/cgroup/app/test/memory.current", "5\n"),
            ("sys/fs/cgroup/app/memory.max", "1000\n"),
            ("sys/fs/cgroup/app/memory.current", "400\n"),
            (
                "sys/fs/cgroup/app/memory.stat",
                "anon 200\nfile 190\ninactive_anon 7\nactive_file 50\ninactive_file 100\n",
            ),
        ]);
        assert_eq!(facts.ports, Some(28_232));
        assert_eq!(facts.tcp_mem_high, Some(575_802));
        assert_eq!(facts.threads, Some(Bounded { limit: 192_000, used: 80 }));
        assert_eq!(facts.files.map(|files| files.used), Some(1_200));
        assert!(facts.exceeds_files && !is_admin("CapEff:\t00000000a80425fb\n"));
        assert_eq!(facts.memory_available, Some(20 << 30));
        assert_eq!(facts.cgroup_memory, Some(Bounded { limit: 1_000, used: 250 }));
        assert_eq!((facts.conntrack, facts.somaxconn), (None, None));
    }

    #[test]
    fn control_groups_of_version_1_are_read_too() {
        let facts = host(&[
            ("proc/self/cgroup", "4:memory:/box\n3:cpuset:/\n0::/\n"),
            ("sys/fs/cgroup/memory/box/memory.limit_in_bytes", "5000\n"),
            ("sys/fs/cgroup/memory/box/memory.usage_in_bytes", "1000\n"),
            (
                "sys/fs/cgroup/memory/box/memory.stat",
                "inactive_file 500\ntotal_inactive_file 100\ntotal_active_file 20\n",
            ),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("sys/fs/cgroup/memory/memory.usage_in_bytes", "1000\n"),
        ]);
        assert_eq!(facts.cgroup_memory, Some(Bounded { limit: 5_000, used: 880 }));
    }

    #[test]
    fn a_host_without_files_has_no_limits() {
        assert_eq!(host(&[]), Facts::default());
    }
}
