//! Whether this process may give a thread a descriptor table of its own.

use std::io;
use std::thread;

use nix::sched::{CloneFlags, unshare};

/// Tries `unshare(CLONE_FILES)` on a thread that ends at once. The kernel asks no privilege for it,
/// but a container's filter may refuse it.
///
/// # Errors
/// What the kernel answered, or that the thread could not be started.
pub fn probe_unshare() -> io::Result<()> {
    on_a_thread(|| Ok(unshare(CloneFlags::CLONE_FILES)?))
}

/// Tries `close_range` with `CLOSE_RANGE_UNSHARE` (Linux 5.9) on a thread that ends at once.
///
/// # Errors
/// What the kernel answered, or that the thread could not be started.
pub fn probe_close_range() -> io::Result<()> {
    on_a_thread(|| {
        let (first, last) = (libc::c_uint::MAX, libc::c_uint::MAX);
        // SAFETY: the call takes no pointers, and no descriptor has the number it closes from, as
        // they are positive `int`s. The unshared table is the thread's own and ends with it.
        let answer =
            unsafe { libc::syscall(libc::SYS_close_range, first, last, libc::CLOSE_RANGE_UNSHARE) };
        if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    })
}

fn on_a_thread(probe: fn() -> io::Result<()>) -> io::Result<()> {
    let thread = thread::Builder::new().name("tidegate-probe".to_owned()).spawn(probe)?;
    thread.join().unwrap_or_else(|_| Err(io::Error::other("the probe failed")))
}
