//! What the kernel says of a process.

use std::fs;
use std::path::Path;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Resident memory of a process, KiB.
pub(crate) fn resident_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("it has memory");
    line.split_whitespace().nth(1).unwrap().parse().expect("a number")
}

/// Processor time that a process has used, milliseconds, in steps of 10.
pub(crate) fn cpu_ms(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    // The name, in parentheses, may hold anything.
    let fields: Vec<_> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks = |at: usize| fields[at].parse::<u64>().expect("a number");
    (ticks(11) + ticks(12)) * 10
}

/// The sockets in a descriptor directory such as `/proc/PID/fd`, as links that name their inodes.
pub(crate) fn sockets_in(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("it runs");
    entries
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .map(|link| link.to_string_lossy().into_owned())
        .filter(|link| link.starts_with("socket:"))
        .collect()
}

/// Lets this process open as many descriptors as its hard limit allows, which has to be `wanted`.
pub(crate) fn raise_descriptor_limit(wanted: u64) {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    assert!(hard >= wanted, "this test needs {wanted} descriptors, the hard limit is {hard}");
}
