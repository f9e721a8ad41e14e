//! Reading `/proc` and `/sys`, or a directory that stands in for them.

use std::fs;
use std::path::{Path, PathBuf};

/// The tree that holds `proc` and `sys`.
#[derive(Clone, Debug)]
pub struct Sysfs {
    /// `/`, or the directory of a test.
    pub root: PathBuf,
}

impl Sysfs {
    /// The running system.
    #[must_use]
    pub fn system() -> Self {
        Self { root: PathBuf::from("/") }
    }

    /// The text of a file, without the white space around it; `None` if it cannot be read.
    /// `path` is absolute as on the running system: `/proc/meminfo`.
    #[must_use]
    pub fn text(&self, path: &str) -> Option<String> {
        let text = fs::read_to_string(self.root.join(path.trim_start_matches('/'))).ok()?;
        Some(text.trim().to_owned())
    }

    /// The one number in a file.
    #[must_use]
    pub fn number(&self, path: &str) -> Option<u64> {
        self.text(path)?.parse().ok()
    }

    /// The numbers in a file, in order; `None` if there is anything else in it.
    #[must_use]
    pub fn numbers(&self, path: &str) -> Option<Vec<u64>> {
        self.text(path)?.split_whitespace().map(|word| word.parse().ok()).collect()
    }

    /// A line of `/proc/meminfo`, in bytes: `MemTotal`, `MemAvailable`.
    #[must_use]
    pub fn meminfo_bytes(&self, key: &str) -> Option<u64> {
        let text = self.text("/proc/meminfo")?;
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
        let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        kib.checked_mul(1024)
    }

    /// The tightest memory limit of this process's cgroup and those above it, bytes.
    #[must_use]
    pub fn cgroup_memory(&self) -> Option<CgroupLimit> {
        self.cgroup_limit("memory", "memory.max", "memory.current").or_else(|| {
            self.cgroup_limit("memory", "memory.limit_in_bytes", "memory.usage_in_bytes")
        })
    }

    /// The tightest limit on threads of this process's cgroup and those above it.
    #[must_use]
    pub fn cgroup_pids(&self) -> Option<CgroupLimit> {
        self.cgroup_limit("pids", "pids.max", "pids.current")
    }

    fn cgroup_limit(&self, controller: &str, max: &str, current: &str) -> Option<CgroupLimit> {
        let groups = self.text("/proc/self/cgroup")?;
        groups
            .lines()
            .filter_map(|line| cgroup_directory(line, controller))
            .flat_map(|(mount, group)| ancestors(&mount, &group))
            .filter_map(|directory| self.limit_at(&directory, max, current))
            .min_by_key(CgroupLimit::left)
    }

    fn limit_at(&self, directory: &str, max: &str, current: &str) -> Option<CgroupLimit> {
        let file = format!("{directory}/{max}");
        // Version 1 says "no limit" by the largest number of whole pages that fits an i64.
        let limit = self.number(&file).filter(|&limit| limit < 1 << 62)?;
        let used = self.number(&format!("{directory}/{current}")).unwrap_or(0);
        Some(CgroupLimit { file, limit, used })
    }
}

/// A limit of a control group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgroupLimit {
    /// The file that sets it.
    pub file: String,
    /// What it is set to.
    pub limit: u64,
    /// What of it is in use.
    pub used: u64,
}

impl CgroupLimit {
    /// What of it is left.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.limit.saturating_sub(self.used)
    }
}

/// A line of `/proc/self/cgroup` → the controller's mount and the group's path below it.
/// Version 2 is `0::/path`, version 1 `4:memory:/path`.
fn cgroup_directory(line: &str, controller: &str) -> Option<(String, String)> {
    let mut fields = line.splitn(3, ':').skip(1);
    let (controllers, group) = (fields.next()?, fields.next()?);
    if controllers.is_empty() {
        return Some(("/sys/fs/cgroup".to_owned(), group.to_owned()));
    }
    let ours = controllers.split(',').any(|name| name == controller);
    ours.then(|| (format!("/sys/fs/cgroup/{controller}"), group.to_owned()))
}

/// The group's directory and all above it, down to the mount. In a container the path may be the
/// host's and not be there, while the mount is the group itself.
fn ancestors(mount: &str, group: &str) -> Vec<String> {
    Path::new(group)
        .ancestors()
        .map(|path| format!("{mount}{}", path.display()).trim_end_matches('/').to_owned())
        .collect()
}
