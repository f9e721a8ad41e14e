//! What lanes and alarms stand on, as loom sees it: a bounded queue, and threads that park.
//!
//! The queue promises what crossbeam's does, and no more: its length is an atomic with acquire and
//! release only, so that the fences of lanes and alarms are all that orders it against their bits.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossbeam_channel::{SendError, TryRecvError, TrySendError};
use loom::sync::atomic::{
    AtomicUsize,
    Ordering::{AcqRel, Acquire, Relaxed},
};

#[derive(Debug)]
struct Queue<T> {
    capacity: usize,
    /// Pieces in the queue: claimed before they are put in, given back after they are taken.
    len: AtomicUsize,
    /// Never held across an operation that loom could switch threads at.
    pieces: Mutex<VecDeque<T>>,
}

impl<T> Queue<T> {
    fn pieces(&self) -> MutexGuard<'_, VecDeque<T>> {
        self.pieces.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
pub(super) struct Sender<T>(Arc<Queue<T>>);

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Sender<T> {
    pub(super) fn try_send(&self, piece: T) -> Result<(), TrySendError<T>> {
        let mut len = self.0.len.load(Acquire);
        while len < self.0.capacity {
            match self.0.len.compare_exchange(len, len + 1, AcqRel, Relaxed) {
                Ok(_) => {
                    self.0.pieces().push_back(piece);
                    return Ok(());
                }
                Err(now) => len = now,
            }
        }
        Err(TrySendError::Full(piece))
    }

    pub(super) fn send(&self, mut piece: T) -> Result<(), SendError<T>> {
        while let Err(TrySendError::Full(back)) = self.try_send(piece) {
            loom::thread::yield_now();
            piece = back;
        }
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.0.len.load(Acquire)
    }
}

#[derive(Debug)]
pub(super) struct Receiver<T>(Arc<Queue<T>>);

impl<T> Receiver<T> {
    pub(super) fn try_recv(&self) -> Result<T, TryRecvError> {
        if self.is_empty() {
            return Err(TryRecvError::Empty);
        }
        let piece = self.0.pieces().pop_front().expect("a claimed place is filled at once");
        self.0.len.fetch_sub(1, AcqRel);
        Ok(piece)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn len(&self) -> usize {
        self.0.len.load(Acquire)
    }
}

pub(super) fn bounded<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let (len, pieces) = (AtomicUsize::new(0), Mutex::default());
    let queue = Arc::new(Queue { capacity, len, pieces });
    (Sender(Arc::clone(&queue)), Receiver(queue))
}

/// Parking, with a token that lasts: loom's own forgets it where the thread waits for a lock.
pub(super) mod thread {
    use std::fmt;
    use std::sync::Arc;

    use loom::sync::{Condvar, Mutex};

    loom::thread_local! {
        static CURRENT: Thread = Thread(Arc::default());
    }

    #[derive(Default)]
    struct Token {
        is_there: Mutex<bool>,
        came: Condvar,
    }

    #[derive(Clone)]
    pub(in super::super) struct Thread(Arc<Token>);

    impl Thread {
        pub(in super::super) fn unpark(&self) {
            *self.0.is_there.lock().expect("nothing panics under it") = true;
            self.0.came.notify_one();
        }
    }

    impl fmt::Debug for Thread {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("Thread")
        }
    }

    pub(in super::super) fn current() -> Thread {
        CURRENT.with(Thread::clone)
    }

    /// Time does not pass in the model: as if it never ran out.
    pub(in super::super) fn park_timeout(_: std::time::Duration) {
        park();
    }

    pub(in super::super) fn park() {
        let Token { is_there, came } = &*current().0;
        let mut token = is_there.lock().expect("nothing panics under it");
        while !*token {
            token = came.wait(token).expect("nothing panics under it");
        }
        *token = false;
    }
}
