//! The pool apart, under load and at its end.

use std::sync::atomic::AtomicU32;
use std::sync::mpsc;
use std::time::Duration;

use super::*;

/// Longer than anything here takes on a machine under load: past it the pool hangs.
const PATIENCE: Duration = Duration::from_secs(60);

fn in_a_while() -> Instant {
    Instant::now() + PATIENCE
}

/// A job that says that it has begun and ends when it is told to, or nobody can tell it.
fn held_job() -> (Job, mpsc::Receiver<()>, mpsc::Sender<()>) {
    let (begun_tx, begun) = mpsc::channel();
    let (end, end_rx) = mpsc::channel();
    let job = Box::new(move || {
        let _ = begun_tx.send(());
        let _ = end_rx.recv();
    });
    (job, begun, end)
}

fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let deadline = in_a_while();
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        thread::yield_now();
    }
}

#[test]
fn strands_run_in_order_without_overlap_or_loss() {
    const STRANDS: usize = 50;
    const JOBS: u32 = 400;
    let pool = BlockingPool::new(4, 300).unwrap();
    let (tx, rx) = mpsc::channel();
    thread::scope(|scope| {
        for part in 0..2 {
            let (pool, tx) = (&pool, tx.clone());
            scope.spawn(move || {
                let strands: Vec<_> = (0..STRANDS / 2)
                    .map(|n| (n * 2 + part, pool.strand(), Arc::new(AtomicBool::new(false))))
                    .collect();
                for number in 0..JOBS {
                    for (strand_number, strand, busy) in &strands {
                        let (id, busy, tx) = (*strand_number, Arc::clone(busy), tx.clone());
                        let mut job: Job = Box::new(move || {
                            let overlaps = busy.swap(true, SeqCst);
                            if number % 16 == 0 {
                                thread::yield_now();
                            }
                            let ours = busy.swap(false, SeqCst);
                            tx.send((id, number, !overlaps && ours)).expect("awaited");
                        });
                        while let Err(Busy(back)) = strand.run(job) {
                            job = back;
                            thread::yield_now();
                        }
                    }
                }
            });
        }
    });
    drop(tx);
    let mut next = [0; STRANDS];
    for (strand, number, alone) in rx {
        assert!(alone, "two jobs of strand {strand} at once");
        assert_eq!(number, next[strand], "order of strand {strand}");
        next[strand] += 1;
    }
    assert_eq!(next, [JOBS; STRANDS]);
    wait_until("all jobs are counted off", || pool.held() == 0);
    assert_eq!(pool.stop(in_a_while()), PoolStopped { running: 0, dropped: 0 });
}

#[test]
fn strands_run_beside_each_other() {
    let pool = BlockingPool::new(2, 8).unwrap();
    let (first, second, third) = (pool.strand(), pool.strand(), pool.strand());
    let (job, begun, end) = held_job();
    first.run(job).unwrap();
    begun.recv_timeout(PATIENCE).unwrap();
    // While the first strand blocks one thread, the others share what is left.
    for strand in [&second, &third, &second] {
        let (tx, rx) = mpsc::channel();
        strand.run(Box::new(move || tx.send(()).unwrap())).unwrap();
        rx.recv_timeout(PATIENCE).unwrap();
    }
    end.send(()).unwrap();
}

#[test]
fn a_strand_gives_way_after_each_job() {
    let pool = BlockingPool::new(1, 64).unwrap();
    let (tx, rx) = mpsc::channel();
    let (job, begun, end) = held_job();
    pool.strand().run(job).unwrap();
    begun.recv_timeout(PATIENCE).unwrap();
    let (busy, modest) = (pool.strand(), pool.strand());
    let give = |strand: &Strand, name: &'static str| {
        let tx = tx.clone();
        strand.run(Box::new(move || tx.send(name).unwrap())).unwrap();
    };
    for name in ["a1", "a2", "a3"] {
        give(&busy, name);
    }
    give(&modest, "b1");
    end.send(()).unwrap();
    let order: Vec<_> = (0..4).map(|_| rx.recv_timeout(PATIENCE).unwrap()).collect();
    assert_eq!(order, ["a1", "b1", "a2", "a3"]);
}

#[test]
fn so_many_jobs_and_no_more() {
    let pool = BlockingPool::new(1, 3).unwrap();
    let (one, other) = (pool.strand(), pool.strand());
    let (job, begun, end) = held_job();
    one.run(job).unwrap();
    begun.recv_timeout(PATIENCE).unwrap();
    let (tx, rx) = mpsc::channel();
    let job = |number: u32| -> Job {
        let tx = tx.clone();
        Box::new(move || tx.send(number).unwrap())
    };
    one.run(job(1)).unwrap();
    other.run(job(2)).unwrap();
    assert_eq!(pool.held(), 3, "the running one is one of them");
    let Busy(back) = other.run(job(3)).expect_err("a fourth");
    assert!(one.run(job(4)).is_err());
    end.send(()).unwrap();
    let mut ran: Vec<_> = (0..2).map(|_| rx.recv_timeout(PATIENCE).unwrap()).collect();
    ran.sort_unstable();
    assert_eq!(ran, [1, 2]);
    wait_until("there is room", || pool.held() == 0);
    // What came back is the job itself.
    other.run(back).unwrap();
    assert_eq!(rx.recv_timeout(PATIENCE), Ok(3));
}

#[test]
fn a_panic_stops_nothing() {
    let pool = BlockingPool::new(1, 8).unwrap();
    let strand = pool.strand();
    let (tx, rx) = mpsc::channel();
    strand.run(Box::new(|| panic!("on purpose"))).unwrap();
    strand.run(Box::new(move || tx.send(()).unwrap())).unwrap();
    rx.recv_timeout(PATIENCE).unwrap();
    assert_eq!(pool.panics(), 1);
    wait_until("both are counted off", || pool.held() == 0);
}

#[test]
fn stopping_waits_for_what_runs_and_drops_the_rest() {
    let pool = BlockingPool::new(2, 16).unwrap();
    let (strand, waiting) = (pool.strand(), pool.strand());
    let ran = Arc::new(AtomicU32::new(0));
    let count = || -> Job {
        let ran = Arc::clone(&ran);
        Box::new(move || {
            ran.fetch_add(1, SeqCst);
        })
    };
    let (job, begun, end) = held_job();
    let (job_2, begun_2, end_2) = held_job();
    strand.run(job).unwrap();
    pool.strand().run(job_2).unwrap();
    begun.recv_timeout(PATIENCE).unwrap();
    begun_2.recv_timeout(PATIENCE).unwrap();
    for strand in [&strand, &strand, &waiting] {
        strand.run(count()).unwrap();
    }
    assert_eq!(pool.stop(Instant::now()), PoolStopped { running: 2, dropped: 1 });
    assert!(strand.run(count()).is_err() && waiting.run(count()).is_err());
    end.send(()).unwrap();
    end_2.send(()).unwrap();
    assert_eq!(pool.stop(in_a_while()), PoolStopped { running: 0, dropped: 3 });
    assert_eq!((ran.load(SeqCst), pool.held()), (0, 0));
    assert_eq!(Arc::strong_count(&ran), 1, "a job is still kept somewhere");
}

#[test]
fn jobs_given_while_it_stops_run_or_come_back_or_are_dropped() {
    for _ in 0..50 {
        let pool = BlockingPool::new(2, 1000).unwrap();
        let outcomes = Arc::new(AtomicU32::new(0));
        let (tx, begun) = mpsc::channel();
        thread::scope(|scope| {
            for _ in 0..2 {
                let (pool, tx) = (&pool, tx.clone());
                let outcomes = Arc::clone(&outcomes);
                scope.spawn(move || {
                    let strands = [pool.strand(), pool.strand()];
                    for n in 0..100 {
                        let outcomes = Arc::clone(&outcomes);
                        let _ = tx.send(());
                        let job = Box::new(move || {
                            outcomes.fetch_add(1, SeqCst);
                        });
                        let _ = strands[n % 2].run(job);
                    }
                });
            }
            begun.recv().unwrap();
            assert_eq!(pool.stop(in_a_while()).running, 0);
        });
        assert_eq!(pool.held(), 0);
        assert_eq!(Arc::strong_count(&outcomes), 1, "a job is still kept somewhere");
    }
}

#[test]
fn what_a_job_owns_may_panic_when_it_is_dropped() {
    struct Dies(mpsc::Sender<()>);
    impl Drop for Dies {
        fn drop(&mut self) {
            let _ = self.0.send(());
            panic!("on purpose");
        }
    }
    let pool = BlockingPool::new(1, 8).unwrap();
    let (job, begun, end) = held_job();
    pool.strand().run(job).unwrap();
    begun.recv_timeout(PATIENCE).unwrap();
    let (tx, dropped) = mpsc::channel();
    let owned = Dies(tx);
    pool.strand().run(Box::new(move || drop(owned))).unwrap();
    assert_eq!(pool.stop(Instant::now()).dropped, 1);
    dropped.recv_timeout(PATIENCE).unwrap();
    end.send(()).unwrap();
    assert_eq!(pool.stop(in_a_while()), PoolStopped { running: 0, dropped: 1 });
}

#[test]
fn a_pool_that_is_dropped_ends_its_threads() {
    let pool = BlockingPool::new(3, 8).unwrap();
    let (strand, shared) = (pool.strand(), Arc::clone(&pool.shared));
    drop(pool);
    wait_until("its threads end", || *lock(&shared.alive) == 0);
    assert!(strand.run(Box::new(|| {})).is_err());
}

#[test]
fn threads_are_named_and_take_no_signals() {
    let pool = BlockingPool::new(1, 8).unwrap();
    let (tx, rx) = mpsc::channel();
    let job = Box::new(move || {
        let blocked = SigSet::thread_get_mask().unwrap();
        let name = thread::current().name().map(str::to_owned);
        tx.send((name, blocked.contains(nix::sys::signal::Signal::SIGTERM))).unwrap();
    });
    pool.strand().run(job).unwrap();
    assert_eq!(rx.recv_timeout(PATIENCE).unwrap(), (Some("tg-blocking-0".into()), true));
}
