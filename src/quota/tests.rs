//! Buckets against models that do not wrap.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;

use super::bucket::AHEAD_MAX;
use super::moment::UNITS_PER_S;
use super::*;

fn after(seconds: f64) -> Moment {
    Moment::since_start(Duration::from_secs_f64(seconds))
}

fn limits(messages: Option<Rate>, bytes: Option<Rate>, over: Over) -> ConnectionLimits {
    ConnectionLimits { messages, bytes, over }
}

/// One connection, read from again and again.
struct Reader {
    terms: Terms,
    levels: Levels,
}

impl Reader {
    fn new(limits: &ConnectionLimits) -> Self {
        let terms = Terms::new(limits, None).expect("there are limits");
        Self { terms, levels: Levels::default() }
    }

    /// Messages of so many bytes each that come in one read; what becomes of them.
    fn read(&mut self, now: Moment, messages: &[usize]) -> (Vec<Ruling>, Tally) {
        let mut meter = Meter::new(&self.terms, None, self.levels, now);
        let rulings = messages.iter().map(|bytes| meter.message(*bytes)).collect();
        let tally = meter.finish(messages.iter().sum());
        self.levels = tally.levels;
        (rulings, tally)
    }

    fn passes(&mut self, now: Moment, bytes: usize) -> bool {
        self.read(now, &[bytes]).0[0] == Ruling::Pass
    }
}

/// A bucket in seconds of an unbounded clock.
struct Model {
    bucket: Bucket,
    at: u64,
}

impl Model {
    fn take(&mut self, now: Moment, n: u64) -> bool {
        let at = self.at.max(now.0);
        if self.bucket.is_spent((at - now.0) as u32) {
            return false;
        }
        self.charge(now, n);
        true
    }

    /// When nothing is owed any more.
    fn paid(&self, now: Moment) -> Moment {
        now.plus(self.bucket.debt(self.at.saturating_sub(now.0) as u32).into())
    }

    fn charge(&mut self, now: Moment, n: u64) {
        let at = self.at.max(now.0) + u64::from(self.bucket.cost(n));
        self.at = at.min(now.0 + u64::from(AHEAD_MAX));
    }
}

/// Gaps from nothing to longer than the levels' circle, some just about it.
fn gap() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(0),
        0_u64..UNITS_PER_S,
        0..200 * UNITS_PER_S,
        (1_u64 << 31) - 2 * UNITS_PER_S..(1 << 31) + 2 * UNITS_PER_S,
        (1_u64 << 32) - 2 * UNITS_PER_S..(1 << 32) + 2 * UNITS_PER_S,
        0..100_000 * UNITS_PER_S,
    ]
}

fn rate() -> impl Strategy<Value = Rate> {
    let per_s = prop_oneof![1_u64..20, 1_u64..100_000, 1..Rate::PER_S_MAX];
    (per_s, 1_u64..1000).prop_map(|(per_s, burst)| Rate::per_s(per_s).burst(burst))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn levels_that_wrap_are_as_levels_that_do_not(
        rate in rate(),
        bytes in rate(),
        reads in vec((gap(), vec(0_usize..5000, 0..8)), 1..60),
    ) {
        let mut reader = Reader::new(&limits(Some(rate), Some(bytes), Over::Reject));
        let mut by_count = Model { bucket: Bucket::of_messages(rate, Over::Reject), at: 0 };
        let mut by_bytes = Model { bucket: Bucket::of_bytes(bytes, Over::Reject), at: 0 };
        let mut now = Moment::default();
        for (gap, messages) in reads {
            now = now.plus(gap);
            let (rulings, tally) = reader.read(now, &messages);
            for (ruling, bytes) in rulings.into_iter().zip(messages) {
                let expected = match by_count.take(now, 1) {
                    false => Ruling::Refuse(Limit::Messages),
                    true if !by_bytes.take(now, bytes as u64) => Ruling::Refuse(Limit::Bytes),
                    true => Ruling::Pass,
                };
                prop_assert_eq!(ruling, expected);
            }
            prop_assert_eq!((tally.stop, tally.close), (None, None));
        }
    }

    #[test]
    fn under_delay_debts_are_those_of_the_model(
        rate in rate(),
        bytes in rate(),
        reads in vec((gap(), vec(0_usize..5000, 0..8)), 1..60),
    ) {
        let mut reader = Reader::new(&limits(Some(rate), Some(bytes), Over::Delay));
        let mut by_count = Model { bucket: Bucket::of_messages(rate, Over::Delay), at: 0 };
        let mut by_bytes = Model { bucket: Bucket::of_bytes(bytes, Over::Delay), at: 0 };
        let mut now = Moment::default();
        for (gap, messages) in reads {
            now = now.plus(gap);
            let (rulings, tally) = reader.read(now, &messages);
            prop_assert!(rulings.iter().all(|ruling| *ruling == Ruling::Pass));
            messages.iter().for_each(|_| by_count.charge(now, 1));
            by_bytes.charge(now, messages.iter().sum::<usize>() as u64);
            let at = [by_count.paid(now), by_bytes.paid(now)];
            let stop = (at[0].max(at[1]) > now)
                .then(|| (at[0].max(at[1]), [at[0] > now, at[1] > now, false]));
            prop_assert_eq!(tally.stop, stop);
        }
    }

    /// In any time, no more passes than the burst and what the rate gives in that time.
    #[test]
    fn never_more_than_the_burst_and_the_rate(
        per_s in 1_u64..1000,
        burst in 1_u64..1000,
        gaps in vec(0_u64..UNITS_PER_S / 10, 1..400),
    ) {
        let rate = Rate::per_s(per_s).burst(burst);
        let mut reader = Reader::new(&limits(Some(rate), None, Over::Reject));
        let (mut now, mut passed) = (after(1000.0), Vec::new());
        for gap in gaps {
            now = now.plus(gap);
            if reader.passes(now, 0) {
                passed.push(now.0);
            }
        }
        for (index, from) in passed.iter().enumerate() {
            for (count, to) in passed[index..].iter().enumerate() {
                let most = rate.at_once() + (to - from) * per_s / UNITS_PER_S + 1;
                prop_assert!((count as u64) < most, "{} in {}", count + 1, to - from);
            }
        }
    }

    /// Who reads only when nothing is owed gets the rate over time, and no more.
    #[test]
    fn delayed_reads_keep_to_the_rate(per_s in 1_u64..5000, each in 1_usize..200) {
        let mut reader = Reader::new(&limits(Some(Rate::per_s(per_s)), None, Over::Delay));
        let (begin, mut now, mut read) = (after(5.0), after(5.0), 0);
        let messages = vec![0; each];
        while now < begin.plus(100 * UNITS_PER_S) {
            read += each as u64;
            let stop = reader.read(now, &messages).1.stop;
            now = stop.map_or(now, |(until, _)| until);
        }
        // A last read is not paid yet, and the burst was there from the start.
        let seconds = (now.0 - begin.0).div_ceil(UNITS_PER_S);
        let slack = per_s.max(per_s / 10 + 1) + each as u64 + 1;
        prop_assert!(read <= per_s * seconds + slack, "{read} at {per_s} in {seconds}");
        prop_assert!(read + slack >= per_s * (seconds - 1), "{read} at {per_s} in {seconds}");
    }

    /// One that keeps to its part is never in the way, whatever others take.
    #[test]
    fn a_guarantee_holds_beside_hogs(
        bytes_per_s in 10_000_u64..1 << 30,
        reserve_percent in 1_u8..=100,
        connections in 1_usize..50,
        gaps in vec(1_u64..UNITS_PER_S, 1..100),
    ) {
        for over in [Over::Reject, Over::Delay, Over::Close] {
            let limit = BandwidthLimit { bytes_per_s, reserve_percent, over };
            let terms = Terms::new(&ConnectionLimits::default(), Some(limit)).expect("a limit");
            let part = bytes_per_s / 100 * u64::from(reserve_percent) / connections as u64;
            let (pool, mut modest, mut hog) =
                (SharedLevel::default(), Levels::default(), Levels::default());
            let (mut now, mut used) = (after(3.0), after(3.0));
            for gap in &gaps {
                now = now.plus(*gap);
                let share = || Some(limit.share(connections, &pool));
                let mut meter = Meter::new(&terms, share(), hog, now);
                let _ = meter.message(1 << 20);
                hog = meter.finish(1 << 20).levels;
                // What its part gives in the time since, in whole bytes.
                let mine = u128::from(now.0 - used.0) * u128::from(part) / u128::from(UNITS_PER_S);
                used = now;
                let mut meter = Meter::new(&terms, share(), modest, now);
                prop_assert_eq!(meter.message(mine as usize), Ruling::Pass);
                let tally = meter.finish(mine as usize);
                prop_assert_eq!((tally.stop, tally.close), (None, None));
                modest = tally.levels;
            }
        }
    }

    /// All together get most of what there is and no more, and each its part.
    #[test]
    fn hogs_share_the_bandwidth_and_no_more(
        bytes_per_s in 10_000_u64..1 << 24,
        reserve_percent in 0_u8..=100,
        connections in prop_oneof![9 => 1_usize..20, 1 => 500_usize..1500],
    ) {
        let limit = BandwidthLimit { bytes_per_s, reserve_percent, over: Over::Delay };
        let terms = Terms::new(&ConnectionLimits::default(), Some(limit)).expect("a limit");
        let pool = SharedLevel::default();
        let each = limit.read_max(connections) as u64;
        let mut hogs = vec![(after(1.0), Levels::default(), 0_u64); connections];
        let end = after(31.0);
        let mut queue: BinaryHeap<_> = (0..connections).map(|n| Reverse((after(1.0), n))).collect();
        while let Some(Reverse((_, n))) = queue.pop() {
            let (next, levels, read) = &mut hogs[n];
            let share = limit.share(connections, &pool);
            let tally = Meter::new(&terms, Some(share), *levels, *next).finish(each as usize);
            *read += each;
            *next = tally.stop.map_or(*next, |(until, _)| until);
            *levels = tally.levels;
            if *next < end {
                queue.push(Reverse((*next, n)));
            }
        }
        let all: u64 = hogs.iter().map(|(_, _, read)| read).sum();
        // 30 s, a second of burst, and reads that are not paid: one each, and one of the rest's.
        let most = bytes_per_s * 31 + each * (connections as u64 + 1);
        prop_assert!(all <= most, "{all} of {most}");
        // While it waits for the rest, a part that is full gains nothing.
        prop_assert!(all >= bytes_per_s * 25, "{all} of {}", bytes_per_s * 30);
        let part = bytes_per_s * u64::from(reserve_percent) / 100 / connections as u64;
        for (_, _, read) in &hogs {
            prop_assert!(read + 2 * each >= part * 29, "{read} of {}", part * 30);
        }
    }
}

#[test]
fn a_burst_and_then_the_rate() {
    let mut reader = Reader::new(&limits(Some(Rate::per_s(10).burst(3)), None, Over::Reject));
    let begin = 500.0;
    let passed =
        |reader: &mut Reader, at: f64| (0..5).filter(|_| reader.passes(after(at), 9)).count();
    assert_eq!(passed(&mut reader, begin), 3);
    assert_eq!(passed(&mut reader, begin + 0.0999), 0);
    assert_eq!(passed(&mut reader, begin + 0.1001), 1);
    assert_eq!(passed(&mut reader, begin + 0.45), 3);
    assert_eq!(passed(&mut reader, begin + 10_000.0), 3);
}

#[test]
fn who_was_silent_for_days_is_over_no_limit() {
    for over in [Over::Reject, Over::Delay] {
        let rate = Some(Rate::per_s(5));
        let mut reader = Reader::new(&limits(rate, rate, over));
        let mut now = after(0.0);
        for step in 0..100_000 {
            let (rulings, tally) = reader.read(now, &[1]);
            assert_eq!((rulings[0], tally.stop), (Ruling::Pass, None), "at {now:?}");
            now = now.plus(UNITS_PER_S / 4 + (step % 400) * UNITS_PER_S);
        }
    }
}

#[test]
fn under_close_what_is_over_ends_the_connection() {
    let rate = Some(Rate::per_s(2));
    let mut reader = Reader::new(&limits(rate, None, Over::Close));
    let (rulings, tally) = reader.read(after(1.0), &[1, 1, 1]);
    assert_eq!(rulings, [Ruling::Pass, Ruling::Pass, Ruling::Close(Limit::Messages)]);
    assert_eq!((tally.stop, tally.close), (None, None));
    let mut reader = Reader::new(&limits(None, Some(Rate::per_s(100)), Over::Close));
    assert_eq!(reader.read(after(1.0), &[60, 60]).1.close, None);
    assert_eq!(reader.read(after(1.1), &[1]).1.close, Some(Limit::Bytes));
    let mut reader = Reader::new(&limits(None, Some(Rate::per_s(100)), Over::Close));
    assert_eq!(reader.read(after(1.0), &[60, 60]).1.close, None);
    assert_eq!(reader.read(after(1.3), &[1]).1.close, None);
}

#[test]
fn reads_are_so_short_that_they_can_be_paid_for() {
    let read_max = |messages: Option<u64>, bytes: Option<u64>, over: Over| {
        let rate = |rate: Option<u64>| rate.map(Rate::per_s);
        Terms::new(&limits(rate(messages), rate(bytes), over), None).map(|terms| terms.read_max)
    };
    assert_eq!(read_max(None, None, Over::Delay), None);
    assert_eq!(read_max(Some(1), None, Over::Delay), Some(256));
    assert_eq!(read_max(Some(100), None, Over::Delay), Some(100 * 31 * 5));
    assert_eq!(read_max(Some(100), Some(100), Over::Delay), Some(3100));
    assert_eq!(read_max(Some(100), Some(100), Over::Reject), Some(usize::MAX));
    // The slowest rates, in the shortest read.
    for (messages, bytes, read) in [(Some(1), None, 256 / 5), (None, Some(64), 256)] {
        let rate = |rate: Option<u64>| rate.map(|rate| Rate::per_s(rate).burst(u64::MAX));
        let mut reader = Reader::new(&limits(rate(messages), rate(bytes), Over::Delay));
        let one = if messages.is_some() { 5 } else { 1 };
        for _ in 0..10 {
            let stop = reader.read(after(7.0), &vec![one; read]).1.stop;
            if let Some((until, _)) = stop {
                assert!(until < after(7.0 + 60.0), "{until:?}");
                break;
            }
        }
    }
}

#[test]
fn a_shared_limit_is_one_for_all_its_clones() {
    let limit = SharedLimit::new(Rate::per_s(10).burst(4), Over::Reject);
    let clones = [limit.clone(), limit];
    let ruled: Vec<_> = (0..8).map(|n| clones[n % 2].message(after(1.0))).collect();
    assert_eq!(ruled[..4], [SharedRuling::Pass; 4]);
    assert_eq!(ruled[4..], [SharedRuling::Over(Over::Reject); 4]);
    assert_eq!(clones[0].message(after(1.11)), SharedRuling::Pass);
    assert_eq!(clones[1].message(after(1.11)), SharedRuling::Over(Over::Reject));
}

#[test]
fn debts_of_a_shared_limit_are_paid_one_after_the_other_and_end() {
    let limit = SharedLimit::new(Rate::per_s(10).burst(2), Over::Delay);
    let now = after(1.0);
    assert_eq!([limit.message(now), limit.message(now)], [SharedRuling::Pass; 2]);
    let mut last = now;
    for n in 1..=20 {
        let SharedRuling::PassThenStop(until) = limit.message(now) else {
            panic!("{n}: it passed")
        };
        assert_eq!(until, after(1.0 + 0.1 * f64::from(n)));
        assert!(until > last);
        last = until;
    }
    let mut refused = 0;
    for _ in 0..1000 {
        match limit.message(now) {
            SharedRuling::PassThenStop(until) => assert!(until <= after(11.2), "{until:?}"),
            ruling => {
                assert_eq!(ruling, SharedRuling::Over(Over::Reject));
                refused += 1;
            }
        }
    }
    // What is refused is not owed.
    assert_eq!(refused, 1000 - (101 - 20));
    assert_eq!(limit.message(after(11.4)), SharedRuling::Pass);
}

#[test]
fn a_moment_is_over_when_its_tick_begins() {
    for (seconds, tick) in [(0.0, 1), (0.000_001, 2), (0.05, 2), (0.051, 3), (100.0, 2001)] {
        assert_eq!(after(seconds).tick(), tick, "{seconds}");
    }
}
