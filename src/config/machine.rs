//! What the machine gives: cores, descriptors, memory.

use std::io;
use std::thread;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::Sysfs;

/// The facts a configuration must fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Cores this process may use, at least 1.
    pub cores: usize,
    /// Hard limit on the descriptors of one table (`RLIMIT_NOFILE`).
    pub descriptor_limit: u64,
    /// All memory, bytes; `None` if not known.
    pub memory_total_bytes: Option<u64>,
    /// The control group's limit on memory, bytes; `None` if there is none.
    pub cgroup_memory_bytes: Option<u64>,
}

impl Machine {
    /// Reads the facts of the running system.
    ///
    /// # Errors
    /// If the process's limits cannot be read.
    pub fn read() -> io::Result<Self> {
        Self::read_from(&Sysfs::system())
    }

    /// Reads the facts, memory's from `sysfs`.
    ///
    /// # Errors
    /// If the process's limits cannot be read.
    pub fn read_from(sysfs: &Sysfs) -> io::Result<Self> {
        Ok(Self {
            cores: thread::available_parallelism().map_or(1, usize::from),
            descriptor_limit: descriptor_limits()?.1,
            memory_total_bytes: sysfs.meminfo_bytes("MemTotal"),
            cgroup_memory_bytes: sysfs.cgroup_memory().map(|limit| limit.limit),
        })
    }

    /// What the process may use of the memory, bytes: the smaller of the machine's and the control
    /// group's; `None` if neither is known.
    #[must_use]
    pub fn memory_bytes(&self) -> Option<u64> {
        let known = [self.memory_total_bytes, self.cgroup_memory_bytes];
        known.into_iter().flatten().min()
    }
}

/// The limits on open descriptors of one table: soft and hard.
///
/// # Errors
/// If they cannot be read.
pub fn descriptor_limits() -> io::Result<(u64, u64)> {
    Ok(getrlimit(Resource::RLIMIT_NOFILE)?)
}

/// Raises the soft limit on open descriptors to the hard one, and returns it.
///
/// # Errors
/// If the limit cannot be read or set.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let (soft, hard) = descriptor_limits()?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(hard)
}
