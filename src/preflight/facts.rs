//! What is read of the machine before anything is judged.

use std::io;

use super::probe::{probe_close_range, probe_unshare};
use crate::config::{CgroupLimit, Sysfs, descriptor_limits};

/// The machine's limits and what of them is in use. `None` is: not there, or not to be read.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Soft limit on descriptors of one table.
    pub descriptors_soft: u64,
    /// Hard limit on descriptors of one table.
    pub descriptors_hard: u64,
    /// `fs.nr_open`: the most the hard limit can be raised to.
    pub nr_open: Option<u64>,
    /// `fs.file-max`: open files of all processes.
    pub file_max: Option<u64>,
    /// Open files of all processes now, from `fs.file-nr`.
    pub files_open: u64,
    /// `fs.epoll.max_user_watches`: descriptors one user may have in epoll instances.
    pub epoll_watches: Option<u64>,
    /// `net.core.somaxconn`.
    pub somaxconn: Option<u64>,
    /// `net.ipv4.ip_local_port_range`: first and last.
    pub port_range: Option<(u64, u64)>,
    /// `net.ipv4.tcp_mem`: low, pressure and high, in pages.
    pub tcp_mem_pages: Option<[u64; 3]>,
    /// `net.ipv4.tcp_max_orphans`.
    pub tcp_max_orphans: Option<u64>,
    /// `net.ipv4.tcp_max_tw_buckets`.
    pub tcp_max_tw_buckets: Option<u64>,
    /// `net.netfilter.nf_conntrack_max`; `None` where connections are not tracked.
    pub conntrack_max: Option<u64>,
    /// Connections tracked now.
    pub conntrack_count: u64,
    /// `kernel.threads-max`.
    pub threads_max: Option<u64>,
    /// Threads of all processes now.
    pub threads: u64,
    /// The tightest memory limit of the control groups.
    pub cgroup_memory: Option<CgroupLimit>,
    /// The tightest thread limit of the control groups.
    pub cgroup_pids: Option<CgroupLimit>,
    /// The setting of transparent huge pages that is in force: `always`, `madvise` or `never`.
    pub huge_pages: Option<String>,
    /// `MemAvailable`, bytes.
    pub memory_available_bytes: Option<u64>,
    /// Why a thread may not have a descriptor table of its own.
    pub unshare_refused: Option<String>,
    /// Why `close_range` with `CLOSE_RANGE_UNSHARE` does not work.
    pub close_range_refused: Option<String>,
}

impl Facts {
    /// Reads this process's limits, tries what it may do, and reads the rest from `sysfs`.
    ///
    /// # Errors
    /// If the process's limits cannot be read.
    pub fn read(sysfs: &Sysfs) -> io::Result<Self> {
        let (descriptors_soft, descriptors_hard) = descriptor_limits()?;
        Ok(Self {
            descriptors_soft,
            descriptors_hard,
            unshare_refused: probe_unshare().err().map(|error| error.to_string()),
            close_range_refused: probe_close_range().err().map(|error| error.to_string()),
            ..Self::read_files(sysfs)
        })
    }

    /// Reads what stands in files alone.
    #[must_use]
    pub fn read_files(sysfs: &Sysfs) -> Self {
        let net = |name: &str| sysfs.number(&format!("/proc/sys/net/{name}"));
        Self {
            nr_open: sysfs.number("/proc/sys/fs/nr_open"),
            file_max: sysfs.number("/proc/sys/fs/file-max"),
            files_open: array::<3>(sysfs, "/proc/sys/fs/file-nr").map_or(0, |[open, ..]| open),
            epoll_watches: sysfs.number("/proc/sys/fs/epoll/max_user_watches"),
            somaxconn: net("core/somaxconn"),
            port_range: array(sysfs, "/proc/sys/net/ipv4/ip_local_port_range")
                .map(|[first, last]| (first, last)),
            tcp_mem_pages: array(sysfs, "/proc/sys/net/ipv4/tcp_mem"),
            tcp_max_orphans: net("ipv4/tcp_max_orphans"),
            tcp_max_tw_buckets: net("ipv4/tcp_max_tw_buckets"),
            conntrack_max: net("netfilter/nf_conntrack_max"),
            conntrack_count: net("netfilter/nf_conntrack_count").unwrap_or(0),
            threads_max: sysfs.number("/proc/sys/kernel/threads-max"),
            threads: threads_now(sysfs).unwrap_or(0),
            cgroup_memory: sysfs.cgroup_memory(),
            cgroup_pids: sysfs.cgroup_pids(),
            huge_pages: huge_pages(sysfs),
            memory_available_bytes: sysfs.meminfo_bytes("MemAvailable"),
            ..Self::default()
        }
    }
}

fn array<const N: usize>(sysfs: &Sysfs, path: &str) -> Option<[u64; N]> {
    sysfs.numbers(path)?.try_into().ok()
}

/// All threads of the machine: `0.20 0.18 0.12 1/80 11206` has 80.
fn threads_now(sysfs: &Sysfs) -> Option<u64> {
    let text = sysfs.text("/proc/loadavg")?;
    text.split_whitespace().nth(3)?.split_once('/')?.1.parse().ok()
}

/// The word in brackets: `always [madvise] never`.
fn huge_pages(sysfs: &Sysfs) -> Option<String> {
    let text = sysfs.text("/sys/kernel/mm/transparent_hugepage/enabled")?;
    let (_, rest) = text.split_once('[')?;
    Some(rest.split_once(']')?.0.to_owned())
}
