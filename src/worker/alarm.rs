//! Waking a thread that may be asleep, without a system call when it is not.

use std::sync::OnceLock;
use std::time::Duration;
#[cfg(not(loom))]
use std::{
    sync::atomic::{AtomicBool, Ordering::SeqCst, fence},
    thread::{self, Thread},
};

#[cfg(loom)]
use super::loom_model::thread::{self, Thread};
#[cfg(loom)]
use loom::sync::atomic::{AtomicBool, Ordering::SeqCst, fence};

/// "I am about to sleep": the one bit between a sleeper and those who give it work.
///
/// The sleeper announces, looks at its queues once more, and only then sleeps; a sender puts its
/// work in the queue and then looks at the bit. Each side writes before it reads what the other
/// writes, with a full fence between, so at least one of them sees the other: no wake is lost.
/// Checked with loom in `tests/loom_wake.rs`.
#[derive(Debug)]
pub struct WakeFlag {
    sleeping: AtomicBool,
}

impl WakeFlag {
    /// A flag of a thread that is awake.
    #[must_use]
    pub fn new() -> Self {
        Self { sleeping: AtomicBool::new(false) }
    }

    /// Sleeper: to be called before the last look at the queues.
    #[inline]
    pub fn announce_sleep(&self) {
        self.sleeping.store(true, SeqCst);
        fence(SeqCst);
    }

    /// Sleeper: awake again, or found work at the last look.
    #[inline]
    pub fn awake(&self) {
        self.sleeping.store(false, SeqCst);
    }

    /// Anybody: whether the thread was about to sleep, or asleep, a moment ago.
    #[must_use]
    pub fn is_asleep(&self) -> bool {
        self.sleeping.load(SeqCst)
    }

    /// Sender, after its work is in the queue: whether the sleeper must be woken by this sender.
    /// Of several senders one gets `true`.
    #[inline]
    pub fn must_wake(&self) -> bool {
        fence(SeqCst);
        self.sleeping.load(SeqCst) && self.sleeping.swap(false, SeqCst)
    }
}

impl Default for WakeFlag {
    fn default() -> Self {
        Self::new()
    }
}

/// A thread that takes work from lanes, as seen by those who give it work.
#[derive(Debug)]
pub struct Alarm {
    flag: WakeFlag,
    bell: Bell,
}

#[derive(Debug)]
enum Bell {
    /// An event loop, asleep in its poll.
    Poll(mio::Waker),
    /// A worker, parked. Set by the thread itself before it first sleeps.
    Thread(OnceLock<Thread>),
}

impl Alarm {
    /// The alarm of an event loop.
    #[must_use]
    pub fn for_poll(waker: mio::Waker) -> Self {
        Self { flag: WakeFlag::new(), bell: Bell::Poll(waker) }
    }

    /// The alarm of a thread that parks; it has to [`adopt`](Self::adopt) it first.
    #[must_use]
    pub fn for_thread() -> Self {
        Self { flag: WakeFlag::new(), bell: Bell::Thread(OnceLock::new()) }
    }

    /// Makes the calling thread the one that is woken.
    pub fn adopt(&self) {
        if let Bell::Thread(thread) = &self.bell {
            let _ = thread.set(thread::current());
        }
    }

    /// The bit between the sleeper and its senders.
    #[inline]
    #[must_use]
    pub fn flag(&self) -> &WakeFlag {
        &self.flag
    }

    /// Wakes the thread if it sleeps. To be called after the work is where it will look.
    #[inline]
    pub fn ring(&self) {
        if self.flag.must_wake() {
            self.wake();
        }
    }

    /// Parks the calling thread unless `anything_to_do` says otherwise at the last look.
    pub fn park_unless(&self, anything_to_do: impl FnOnce() -> bool) {
        self.park_for(None, anything_to_do);
    }

    /// The same, for so long at most.
    pub fn park_for(&self, timeout: Option<Duration>, anything_to_do: impl FnOnce() -> bool) {
        self.flag.announce_sleep();
        if !anything_to_do() {
            match timeout {
                Some(timeout) => thread::park_timeout(timeout),
                None => thread::park(),
            }
        }
        self.flag.awake();
    }

    #[cold]
    fn wake(&self) {
        match &self.bell {
            // A full eventfd counter is a pending wake all the same; other errors can't happen on
            // a descriptor that lives as long as the process.
            Bell::Poll(waker) => drop(waker.wake()),
            Bell::Thread(thread) => {
                if let Some(thread) = thread.get() {
                    thread.unpark();
                }
            }
        }
    }
}
