//! Bounded lanes between threads, with wakes in both directions.
//!
//! A send that is refused gives the work back: the sender keeps that one piece, registers, and is
//! rung when there is room again. It never blocks, so it can go on with lower levels.

use std::sync::Arc;
#[cfg(not(loom))]
use std::sync::{
    Mutex,
    atomic::{AtomicBool, Ordering::SeqCst, fence},
};

#[cfg(not(loom))]
use crossbeam_channel::{Receiver, Sender, bounded};
use crossbeam_channel::{TryRecvError, TrySendError};
#[cfg(loom)]
use loom::sync::{
    Mutex,
    atomic::{AtomicBool, Ordering::SeqCst, fence},
};

use super::alarm::Alarm;
#[cfg(loom)]
use super::loom_model::{Receiver, Sender, bounded};

/// Senders that were refused and want to be rung when there is room.
#[derive(Debug, Default)]
struct Waiting {
    any: AtomicBool,
    who: Mutex<Vec<Arc<Alarm>>>,
}

impl Waiting {
    fn register(&self, alarm: &Arc<Alarm>) {
        let mut who = self.who.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if !who.iter().any(|w| Arc::ptr_eq(w, alarm)) {
            who.push(Arc::clone(alarm));
        }
        drop(who);
        self.any.store(true, SeqCst);
        fence(SeqCst);
    }

    #[inline]
    fn ring_all(&self) {
        fence(SeqCst);
        if self.any.load(SeqCst) {
            self.ring_registered();
        }
    }

    #[cold]
    fn ring_registered(&self) {
        self.any.store(false, SeqCst);
        let mut who = self.who.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for alarm in who.drain(..) {
            alarm.ring();
        }
    }
}

/// The sending end of a lane; any number of them.
#[derive(Debug)]
pub struct LaneSender<T> {
    queue: Sender<T>,
    receiver: Arc<Alarm>,
    waiting: Arc<Waiting>,
}

impl<T> Clone for LaneSender<T> {
    fn clone(&self) -> Self {
        Self {
            queue: self.queue.clone(),
            receiver: Arc::clone(&self.receiver),
            waiting: Arc::clone(&self.waiting),
        }
    }
}

/// Why a lane did not take a piece of work; the work comes back.
#[derive(Debug)]
pub enum Refused<T> {
    /// No room now. The sender is registered and will be rung.
    Full(T),
    /// The receiver is gone for good.
    Gone(T),
}

impl<T> LaneSender<T> {
    /// Sends without blocking. When refused for want of room, `me` is registered, and rung at the
    /// next take. A ring that finds `me` awake is spent all the same: who is going to sleep
    /// announces that first and then offers again, as the last look.
    ///
    /// # Errors
    /// [`Refused`], with the work.
    pub fn offer(&self, work: T, me: &Arc<Alarm>) -> Result<(), Refused<T>> {
        let work = match self.try_once(work) {
            Err(Refused::Full(work)) => work,
            done => return done,
        };
        self.waiting.register(me);
        // Room may have come between the refusal and the registration: look once more.
        self.try_once(work)
    }

    /// Sends, waiting for room. For threads that no lane waits for (a handler's own threads).
    ///
    /// # Errors
    /// The work, when the receiver is gone.
    pub fn send_blocking(&self, work: T) -> Result<(), T> {
        self.queue.send(work).map_err(|e| e.0)?;
        self.receiver.ring();
        Ok(())
    }

    /// Pieces of work in the lane now.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.queue.len()
    }

    fn try_once(&self, work: T) -> Result<(), Refused<T>> {
        match self.queue.try_send(work) {
            Ok(()) => {
                self.receiver.ring();
                Ok(())
            }
            Err(TrySendError::Full(work)) => Err(Refused::Full(work)),
            Err(TrySendError::Disconnected(work)) => Err(Refused::Gone(work)),
        }
    }
}

/// The receiving end of a lane; one.
#[derive(Debug)]
pub struct LaneReceiver<T> {
    queue: Receiver<T>,
    waiting: Arc<Waiting>,
}

impl<T> LaneReceiver<T> {
    /// Takes a piece of work if there is one.
    #[inline]
    pub fn take(&self) -> Option<T> {
        match self.queue.try_recv() {
            Ok(work) => {
                self.waiting.ring_all();
                Some(work)
            }
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => None,
        }
    }

    /// Pieces of work in the lane now.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.queue.len()
    }

    /// Whether there is nothing to take.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

/// A lane of at most `capacity` pieces, into the thread that `receiver` wakes.
#[must_use]
pub fn lane<T>(capacity: usize, receiver: &Arc<Alarm>) -> (LaneSender<T>, LaneReceiver<T>) {
    let (tx, rx) = bounded(capacity);
    let waiting = Arc::new(Waiting::default());
    (
        LaneSender { queue: tx, receiver: Arc::clone(receiver), waiting: Arc::clone(&waiting) },
        LaneReceiver { queue: rx, waiting },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_sender_is_rung_when_there_is_room() {
        let (mine, theirs) = (Arc::new(Alarm::for_thread()), Arc::new(Alarm::for_thread()));
        let (tx, rx) = lane(1, &theirs);
        mine.adopt();
        tx.offer(1, &mine).unwrap();
        let Err(Refused::Full(2)) = tx.offer(2, &mine) else { panic!("took two") };
        let taker = std::thread::spawn(move || (rx.take(), rx));
        // Parks until rung; a lost ring would hang here.
        mine.park_unless(|| tx.offer(2, &mine).is_ok());
        let (first, rx) = taker.join().unwrap();
        assert_eq!(first, Some(1));
        let _ = tx.offer(2, &mine);
        assert_eq!(rx.take(), Some(2));
        drop(rx);
        assert!(matches!(tx.offer(3, &mine), Err(Refused::Gone(3))));
    }

    #[test]
    fn a_hundred_thousand_pieces_through_a_lane_of_one() {
        let theirs = Arc::new(Alarm::for_thread());
        let (tx, rx) = lane(1, &theirs);
        let sender = std::thread::spawn(move || {
            let me = Arc::new(Alarm::for_thread());
            me.adopt();
            let mut kept = None;
            let mut next = 0..100_000u32;
            loop {
                let Some(work) = kept.take().or_else(|| next.next()) else { return };
                let Err(Refused::Full(back)) = tx.offer(work, &me) else { continue };
                me.park_unless(|| match tx.offer(back, &me) {
                    Err(Refused::Full(back)) => {
                        kept = Some(back);
                        false
                    }
                    _ => true,
                });
            }
        });
        theirs.adopt();
        let mut want = 0;
        while want < 100_000 {
            match rx.take() {
                Some(got) => {
                    assert_eq!(got, want);
                    want += 1;
                }
                None => theirs.park_unless(|| !rx.is_empty()),
            }
        }
        sender.join().unwrap();
    }
}
