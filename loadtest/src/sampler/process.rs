//! Memory and CPU time of processes, this one's and the server's, from `/proc`.

use std::{collections::BTreeMap, fs};

use nix::{
    sys::{
        resource::{UsageWho, getrusage},
        time::TimeValLike as _,
    },
    unistd::{SysconfVar, sysconf},
};

use super::host::meminfo_bytes;
use crate::clock::{Nanos, SECOND};

/// What processes use together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Resident bytes.
    pub(crate) rss: u64,
    /// CPU time.
    pub(crate) cpu: Nanos,
    /// Threads.
    pub(crate) threads: u64,
}

/// The processes of `--server-pid`.
#[derive(Debug)]
pub(crate) struct Processes {
    living: Vec<Process>,
    /// Those that have ended, and what CPU time they had used when last seen.
    ended: Vec<u32>,
    ended_cpu: Nanos,
    peak: u64,
}

#[derive(Debug)]
struct Process {
    pid: u32,
    /// In clock ticks since boot: tells it from another that gets the same number.
    started: u64,
    /// CPU time of each thread when last seen: a thread that ends takes its record with it.
    threads: BTreeMap<u32, Nanos>,
    cpu: Nanos,
}

impl Usage {
    /// The same memory, with the CPU time used since `earlier`.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self { cpu: self.cpu.saturating_sub(earlier.cpu), ..self }
    }

    /// Of two intervals: the memory of the later, the CPU time of both.
    pub(crate) fn and(self, later: Self) -> Self {
        Self { cpu: self.cpu + later.cpu, ..later }
    }
}

/// What this process uses; only memory and CPU time.
pub(crate) fn own_usage() -> Option<Usage> {
    let rss = resident_bytes("self")?;
    let usage = getrusage(UsageWho::RUSAGE_SELF).ok()?;
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    let cpu = u64::try_from(micros).ok()? * 1_000;
    Some(Usage { rss, cpu, threads: 0 })
}

/// `VmRSS` of a process, by its number or as `self`. What `stat` and `statm` say is less exact.
pub(crate) fn resident_bytes(process: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    meminfo_bytes(&status, "VmRSS")
}

impl Processes {
    /// None to watch.
    pub(crate) fn none() -> Self {
        Self { living: Vec::new(), ended: Vec::new(), ended_cpu: 0, peak: 0 }
    }

    /// Finds all of them.
    ///
    /// # Errors
    /// If there is no such process.
    pub(crate) fn find(pids: &[u32]) -> Result<Self, String> {
        let find = |pid: &u32| {
            Process::find(*pid)
                .ok_or_else(|| format!("--server-pid {pid}: there is no such process"))
        };
        let mut pids = pids.to_vec();
        pids.sort_unstable();
        pids.dedup();
        Ok(Self { living: pids.iter().map(find).collect::<Result<_, _>>()?, ..Self::none() })
    }

    /// The numbers of all, ended ones behind.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.living.iter().map(|process| process.pid).chain(self.ended.clone()).collect()
    }

    /// Those that have ended.
    pub(crate) fn ended(&self) -> &[u32] {
        &self.ended
    }

    /// The most memory they were seen to have.
    pub(crate) fn peak(&self) -> u64 {
        self.peak
    }

    /// What they use now, together; none if none is left or none was to be watched. The CPU time of
    /// those that have ended stays in.
    pub(crate) fn usage(&mut self) -> Option<Usage> {
        let mut sum = Usage { cpu: self.ended_cpu, ..Usage::default() };
        let mut living = Vec::with_capacity(self.living.len());
        for mut process in self.living.drain(..) {
            match process.usage() {
                Some(usage) => {
                    sum.rss += usage.rss;
                    sum.cpu += usage.cpu;
                    sum.threads += usage.threads;
                    living.push(process);
                }
                None => {
                    sum.cpu += process.cpu;
                    self.ended_cpu += process.cpu;
                    self.ended.push(process.pid);
                }
            }
        }
        self.living = living;
        self.peak = self.peak.max(sum.rss);
        (!self.living.is_empty()).then_some(sum)
    }

    /// CPU time of all, also of those that have ended.
    pub(crate) fn cpu(&mut self) -> Nanos {
        self.usage().map_or(self.ended_cpu, |usage| usage.cpu)
    }
}

impl Process {
    fn find(pid: u32) -> Option<Self> {
        let started = alive(&stat(pid)?)?.started;
        Some(Self { pid, started, threads: BTreeMap::new(), cpu: 0 })
    }

    fn usage(&mut self) -> Option<Usage> {
        let stat = alive(&stat(self.pid)?).filter(|stat| stat.started == self.started)?;
        // Its tasks say nanoseconds, the process only ticks of 10 ms; but a thread that came and went
        // between two looks is in the ticks alone. Neither says too much.
        let tasks = self.tasks().unwrap_or(0);
        self.cpu = self.cpu.max(tasks).max(stat.cpu);
        let rss = resident_bytes(&self.pid.to_string())?;
        Some(Usage { rss, cpu: self.cpu, threads: stat.threads })
    }

    /// CPU time of all its threads.
    fn tasks(&mut self) -> Option<Nanos> {
        for entry in fs::read_dir(format!("/proc/{}/task", self.pid)).ok()?.flatten() {
            let task: Option<u32> = entry.file_name().to_str().and_then(|name| name.parse().ok());
            let cpu = fs::read_to_string(entry.path().join("schedstat")).ok();
            let cpu = cpu.and_then(|text| text.split_whitespace().next()?.parse().ok());
            if let (Some(task), Some(cpu)) = (task, cpu) {
                self.threads.insert(task, cpu);
            }
        }
        Some(self.threads.values().sum())
    }
}

/// What a `/proc/PID/stat` says.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    cpu: Nanos,
    threads: u64,
    started: u64,
}

fn stat(pid: u32) -> Option<String> {
    fs::read_to_string(format!("/proc/{pid}/stat")).ok()
}

/// The record of a process that has not ended (a zombie has).
fn alive(stat: &str) -> Option<Stat> {
    // The name in parentheses may hold anything, so count from its end.
    let fields: Vec<_> = stat[stat.rfind(')')? + 1..].split_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    if matches!(*fields.first()?, "Z" | "X") {
        return None;
    }
    Some(Stat {
        cpu: (number(11)? + number(12)?) * (SECOND / ticks_per_second()),
        threads: number(17)?,
        started: number(19)?,
    })
}

fn ticks_per_second() -> u64 {
    let ticks = sysconf(SysconfVar::CLK_TCK).ok().flatten();
    ticks.and_then(|ticks| u64::try_from(ticks).ok()).unwrap_or(100).max(1)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_record_is_read_behind_the_name() {
        let text = "7 (a b) R) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 3 0 4242 1000000 25 18446744073709551615";
        let stat = alive(text).unwrap();
        let ticks = SECOND / ticks_per_second();
        assert_eq!(stat, Stat { cpu: 300 * ticks, threads: 3, started: 4242 });
        assert_eq!(alive(&text.replace(") S", ") Z")), None);
    }

    #[test]
    fn this_process_uses_memory_and_time() {
        let own = own_usage().unwrap();
        assert!(own.rss > 100_000, "{own:?}");
        let mut this = Processes::find(&[std::process::id()]).unwrap();
        let usage = this.usage().unwrap();
        assert!(usage.rss > 100_000 && usage.cpu > 0 && usage.threads >= 1, "{usage:?}");
        assert!(this.peak() >= usage.rss);
    }

    #[test]
    fn threads_that_came_and_went_between_two_looks_are_counted() {
        let mut this = Processes::find(&[std::process::id()]).unwrap();
        let before = this.usage().unwrap().cpu;
        let busy = || {
            let from = own_usage().unwrap().cpu;
            while own_usage().unwrap().cpu < from + SECOND / 5 {}
        };
        std::thread::spawn(busy).join().unwrap();
        let used = this.usage().unwrap().cpu - before;
        assert!(used >= SECOND / 10, "{used}");
    }

    #[test]
    fn an_ended_process_is_told_and_its_time_kept() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let mut processes = Processes::find(&[child.id()]).unwrap();
        assert!(processes.usage().is_some());
        let before = processes.cpu();
        drop(child.stdin.take());
        child.wait().unwrap();
        assert_eq!(processes.usage(), None);
        assert_eq!(processes.ended(), [child.id()]);
        assert_eq!(processes.pids(), [child.id()]);
        assert!(processes.cpu() >= before);
    }

    #[test]
    fn a_process_that_is_not_there_is_refused_by_flag() {
        let error = Processes::find(&[u32::MAX]).unwrap_err();
        assert!(error.contains("--server-pid 4294967295"), "{error}");
    }
}
