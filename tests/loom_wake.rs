//! No wake is lost between a lane and its two ends, over all interleavings that loom finds.
//!
//! The lanes and alarms are the gateway's own; only the queue in the middle is a model of
//! crossbeam's. Run with
//! `RUSTFLAGS="--cfg loom" cargo test --release --test loom_wake`, in a target directory apart.
#![cfg(loom)]

use std::sync::Arc;

use loom::model::Builder;
use loom::thread;
use tidegate::worker::{Alarm, LaneReceiver, LaneSender, Refused, WakeFlag, lane};

/// A lost wake leaves a thread parked for ever, which loom reports as a deadlock.
fn check(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

/// Takes `wanted` pieces, asleep whenever there are none; returns them in their order.
fn take_all(rx: &LaneReceiver<u32>, me: &Alarm, wanted: usize) -> Vec<u32> {
    me.adopt();
    let mut got = Vec::new();
    while got.len() < wanted {
        match rx.take() {
            Some(piece) => got.push(piece),
            None => me.park_unless(|| !rx.is_empty()),
        }
    }
    got
}

/// Sends `pieces` in order. The last look before sleep is an offer, as in the gateway: refused, it
/// registers anew.
fn send_all(tx: &LaneSender<u32>, me: &Arc<Alarm>, pieces: &[u32]) {
    me.adopt();
    for piece in pieces {
        let mut kept = offer(tx, me, *piece);
        while let Some(piece) = kept {
            me.park_unless(|| {
                kept = offer(tx, me, piece);
                kept.is_none()
            });
        }
    }
}

fn offer(tx: &LaneSender<u32>, me: &Arc<Alarm>, piece: u32) -> Option<u32> {
    match tx.offer(piece, me) {
        Ok(()) => None,
        Err(Refused::Full(piece)) => Some(piece),
        Err(Refused::Gone(_)) => panic!("the receiver lives"),
    }
}

fn pieces_of(got: &[u32], sender: u32) -> Vec<u32> {
    got.iter().copied().filter(|piece| piece / 10 == sender).collect()
}

#[test]
fn of_two_senders_one_has_to_wake() {
    check(3, || {
        let flag = Arc::new(WakeFlag::new());
        flag.announce_sleep();
        let other = Arc::clone(&flag);
        let wakes = thread::spawn(move || other.must_wake());
        let mine = flag.must_wake();
        assert_ne!(mine, wakes.join().unwrap());
    });
}

#[test]
fn a_sleeping_receiver_hears_of_work() {
    check(3, || {
        let theirs = Arc::new(Alarm::for_thread());
        let (tx, rx) = lane(2, &theirs);
        let senders: Vec<_> = [1, 2]
            .map(|sender| {
                let tx = tx.clone();
                thread::spawn(move || {
                    send_all(&tx, &Arc::new(Alarm::for_thread()), &[sender * 10]);
                })
            })
            .into();
        let mut got = take_all(&rx, &theirs, 2);
        got.sort_unstable();
        assert_eq!(got, [10, 20]);
        senders.into_iter().for_each(|sender| sender.join().unwrap());
    });
}

#[test]
fn a_ring_without_work_does_no_harm() {
    check(3, || {
        let theirs = Arc::new(Alarm::for_thread());
        let (tx, rx) = lane(1, &theirs);
        let ringer = Arc::clone(&theirs);
        let ringer = thread::spawn(move || ringer.ring());
        let sender = thread::spawn(move || {
            send_all(&tx, &Arc::new(Alarm::for_thread()), &[10]);
        });
        assert_eq!(take_all(&rx, &theirs, 1), [10]);
        ringer.join().unwrap();
        sender.join().unwrap();
    });
}

#[test]
fn a_refused_sender_hears_of_room() {
    check(3, || {
        let theirs = Arc::new(Alarm::for_thread());
        let (tx, rx) = lane(1, &theirs);
        let sender = thread::spawn(move || {
            send_all(&tx, &Arc::new(Alarm::for_thread()), &[10, 11, 12]);
        });
        assert_eq!(take_all(&rx, &theirs, 3), [10, 11, 12]);
        sender.join().unwrap();
    });
}

#[test]
fn two_senders_share_a_lane_of_one() {
    check(2, || {
        let theirs = Arc::new(Alarm::for_thread());
        let (tx, rx) = lane(1, &theirs);
        let senders: Vec<_> = [1, 2]
            .map(|sender| {
                let tx = tx.clone();
                thread::spawn(move || {
                    let me = Arc::new(Alarm::for_thread());
                    send_all(&tx, &me, &[sender * 10, sender * 10 + 1]);
                })
            })
            .into();
        let got = take_all(&rx, &theirs, 4);
        assert_eq!((pieces_of(&got, 1), pieces_of(&got, 2)), (vec![10, 11], vec![20, 21]));
        senders.into_iter().for_each(|sender| sender.join().unwrap());
    });
}
