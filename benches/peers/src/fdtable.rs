//! Descriptor limits, and descriptor tables of one's own.
//!
//! The limit of open files counts per descriptor *table*, and a thread may have one to itself. A
//! number then means something only in the table it was made in, so everything that threads share is
//! made first, below the number given to [`unshare_above`].

use std::{io, os::fd::AsRawFd as _};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Raises the soft limit of open files to the hard one and returns it.
///
/// # Errors
/// The kernel's refusal.
pub fn raise_limit() -> io::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(hard)
}

/// A number above all descriptors that are open now, as long as none was closed before.
///
/// # Errors
/// No more can be opened.
pub fn first_free() -> io::Result<u32> {
    let probe = std::fs::File::open("/dev/null")?;
    Ok(probe.as_raw_fd().unsigned_abs())
}

/// Gives the calling thread a descriptor table of its own that holds what is below `first`, closing
/// its copies of the rest.
///
/// The caller must not use, in this thread, any descriptor at or above `first` that was made before.
///
/// # Errors
/// The kernel's refusal; one before 5.9 knows no such call.
pub fn unshare_above(first: u32) -> io::Result<()> {
    // SAFETY: `close_range` takes three integers and touches no memory of ours. With
    // CLOSE_RANGE_UNSHARE it closes descriptors only in the table that becomes this thread's own, so
    // no descriptor that another thread owns goes away; this thread owns none at or above `first`,
    // as every caller parts before it opens anything.
    let result =
        unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_UNSHARE) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
