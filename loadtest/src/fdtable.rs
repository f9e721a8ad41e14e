//! Descriptor limits, and descriptor tables of one's own.
//!
//! The limit of open files counts per descriptor *table*, and a thread may have one to itself. A
//! number then means something only in the table it was made in, so everything shared is made first,
//! below the number given to [`unshare_above`], and nothing else before all threads have parted.

use std::io;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Raises the soft limit of open files to the hard one and returns it.
pub(crate) fn raise_limit() -> io::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(hard)
}

/// Gives the calling thread a descriptor table of its own that holds what is below `first`, closing
/// its copies of the rest.
///
/// The caller must not use, in this thread, any descriptor at or above `first` that was made before.
pub(crate) fn unshare_above(first: u32) -> io::Result<()> {
    match close_range_unshare(first) {
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => {
            // A kernel before 5.9: the copies above `first` stay open, which only wastes numbers.
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_FILES)?;
            Ok(())
        }
        result => result,
    }
}

fn close_range_unshare(first: u32) -> io::Result<()> {
    // SAFETY: `close_range` takes three integers and touches no memory of ours. With
    // CLOSE_RANGE_UNSHARE it closes descriptors only in the table that becomes this thread's own, so
    // no descriptor that another thread owns goes away; this thread owns none at or above `first`,
    // as it has opened nothing yet and was handed only descriptors below (see `run`).
    let result =
        unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_UNSHARE) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Write as _, os::fd::AsRawFd as _, thread};

    use super::*;

    #[test]
    fn a_table_of_ones_own_leaves_the_others_alone() {
        let mut kept = tempfile::tempfile().unwrap();
        let number = kept.as_raw_fd();
        let own = thread::spawn(move || {
            unshare_above(3).unwrap();
            // The number is free here, though it stays open in the table left behind.
            let opened = File::open("/dev/null").unwrap();
            opened.as_raw_fd()
        });
        assert!(own.join().unwrap() <= number);
        kept.write_all(b"still mine").unwrap();
        assert_eq!(kept.metadata().unwrap().len(), 10);
    }
}
