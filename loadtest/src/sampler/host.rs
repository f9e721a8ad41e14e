//! What the kernel itself uses, from `/proc`.

use std::fs;

/// Memory of the kernel, in bytes: as it is, or as it has grown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct KernelMemory {
    /// Pages of TCP buffers.
    pub(crate) tcp: u64,
    /// Objects (sockets, files, inodes), kernel stacks and page tables.
    pub(crate) objects: u64,
}

impl KernelMemory {
    /// Both together.
    pub(crate) fn total(self) -> u64 {
        self.tcp + self.objects
    }

    /// How much it is above `before`; what has shrunk counts as zero.
    pub(crate) fn growth(self, before: Self) -> Self {
        Self {
            tcp: self.tcp.saturating_sub(before.tcp),
            objects: self.objects.saturating_sub(before.objects),
        }
    }
}

/// What the kernel uses now, on the whole host.
pub(crate) fn kernel_memory() -> Option<KernelMemory> {
    let meminfo = fs::read_to_string("/proc/meminfo").ok()?;
    let sockstat = fs::read_to_string("/proc/net/sockstat").ok()?;
    Some(KernelMemory {
        tcp: tcp_pages(&sockstat)? * page_bytes(),
        objects: ["Slab", "KernelStack", "PageTables"]
            .iter()
            .map(|name| meminfo_bytes(&meminfo, name))
            .sum::<Option<u64>>()?,
    })
}

/// A field of `/proc/meminfo`, or of a process's `status`, in bytes.
pub(crate) fn meminfo_bytes(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    let kib: u64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// Bytes of a page.
fn page_bytes() -> u64 {
    let size = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE);
    size.ok().flatten().and_then(|size| u64::try_from(size).ok()).unwrap_or(4096)
}

/// Pages of TCP buffers: the word after `mem` in the line of TCP.
fn tcp_pages(sockstat: &str) -> Option<u64> {
    let line = sockstat.lines().find_map(|line| line.strip_prefix("TCP:"))?;
    let mut words = line.split_whitespace().skip_while(|word| *word != "mem");
    words.nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found() {
        let sockstat =
            "sockets: used 9\nTCP: inuse 8 orphan 1 tw 2 alloc 3 mem 14061\nUDP: inuse 0 mem 7\n";
        assert_eq!(tcp_pages(sockstat), Some(14_061));
        assert_eq!(tcp_pages("UDP: inuse 0 mem 7\n"), None);
        let meminfo = "MemTotal: 5 kB\nSlabX: 1 kB\nSlab:            6860900 kB\n";
        assert_eq!(meminfo_bytes(meminfo, "Slab"), Some(6_860_900 * 1024));
        assert_eq!(meminfo_bytes(meminfo, "Sla"), None);
    }

    #[test]
    fn this_host_has_kernel_memory() {
        assert!(kernel_memory().is_some_and(|memory| memory.objects > 0));
    }

    #[test]
    fn growth_is_never_negative() {
        let (small, large) =
            (KernelMemory { tcp: 1, objects: 9 }, KernelMemory { tcp: 5, objects: 4 });
        assert_eq!(large.growth(small), KernelMemory { tcp: 4, objects: 0 });
        assert_eq!(large.total(), 9);
    }
}
