//! The system's allocator, counting what the gateway's threads take and give back.
//!
//! A test binary makes it its own by `#[global_allocator]`. A thread is one of the gateway's by its
//! name, `tg-…`; what the test's own threads do counts for nothing.

// Each test binary compiles this module for itself and uses its own part of it.
#![allow(dead_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};

/// The allocator.
pub(crate) struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static LIVE_BYTES: AtomicI64 = AtomicI64::new(0);
/// Whether each allocation is to be shown on stderr, with its backtrace.
static SHOWN: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// Known to be one of the gateway's. Not the other way round: a new thread has its parent's
    /// name until it is given its own.
    static COUNTED: Cell<bool> = const { Cell::new(false) };
    static SHOWING: Cell<bool> = const { Cell::new(false) };
}

/// Allocations and growths of the gateway's threads until now.
pub(crate) fn allocations() -> u64 {
    ALLOCATIONS.load(Relaxed)
}

/// Bytes that the gateway's threads have taken and not given back.
pub(crate) fn live_bytes() -> i64 {
    LIVE_BYTES.load(Relaxed)
}

/// Shows allocations from here on, or no more. Only if `TIDEGATE_SHOW_ALLOCATIONS` is set.
pub(crate) fn show(on: bool) {
    SHOWN.store(on && std::env::var_os("TIDEGATE_SHOW_ALLOCATIONS").is_some(), Relaxed);
}

fn is_counted() -> bool {
    // A thread at its end has no thread-locals any more.
    COUNTED.try_with(Cell::get).unwrap_or(false) || looks_counted()
}

fn looks_counted() -> bool {
    let mut name = [0u8; 16];
    // SAFETY: PR_GET_NAME writes at most 16 bytes to the buffer, and allocates nothing.
    let got = unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
    let counted = got == 0 && name.starts_with(b"tg-");
    if counted {
        let _ = COUNTED.try_with(|c| c.set(true));
    }
    counted
}

fn note(allocations: u64, bytes: i64) {
    if !is_counted() || SHOWING.try_with(Cell::get).unwrap_or(false) {
        return;
    }
    ALLOCATIONS.fetch_add(allocations, Relaxed);
    LIVE_BYTES.fetch_add(bytes, Relaxed);
    if allocations > 0 && SHOWN.load(Relaxed) && !SHOWING.replace(true) {
        eprintln!("{bytes} B:\n{}", std::backtrace::Backtrace::force_capture());
        SHOWING.set(false);
    }
}

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(1, layout.size() as i64);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(1, layout.size() as i64);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        note(0, -(layout.size() as i64));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        note(1, new_size as i64 - layout.size() as i64);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(at, layout, new_size) }
    }
}
