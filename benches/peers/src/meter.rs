//! What another process costs, read off `/proc`.

use std::{fs, io, time::Duration};

/// A process that is watched.
#[derive(Clone, Copy, Debug)]
pub struct Process {
    pid: u32,
}

impl Process {
    /// The process of this id.
    #[must_use]
    pub fn new(pid: u32) -> Self {
        Self { pid }
    }

    /// CPU time of all threads that live now: user and kernel, to the last scheduler tick.
    ///
    /// # Errors
    /// The process is gone, or the kernel keeps no scheduler statistics.
    pub fn cpu(self) -> io::Result<Duration> {
        let mut nanos = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.pid))? {
            match fs::read_to_string(task?.path().join("schedstat")) {
                Ok(stat) => nanos += number(stat.split_ascii_whitespace().next())?,
                // A thread may end between being listed and being read.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
        Ok(Duration::from_nanos(nanos))
    }

    /// Resident memory in KiB (`VmRSS`).
    ///
    /// # Errors
    /// The process is gone.
    pub fn resident_kib(self) -> io::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        number(line.and_then(|line| line.split_ascii_whitespace().next()))
    }
}

fn number(text: Option<&str>) -> io::Result<u64> {
    text.and_then(|text| text.parse().ok())
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no number in /proc"))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_process_that_works_uses_cpu_and_memory() {
        let me = Process::new(std::process::id());
        let before = me.cpu().unwrap();
        let began = Instant::now();
        while me.cpu().unwrap() < before + Duration::from_millis(20) {
            assert!(began.elapsed() < Duration::from_secs(30), "no CPU time was counted");
        }
        assert!(me.resident_kib().unwrap() > 100);
        assert!(Process::new(u32::MAX).cpu().is_err());
    }
}
