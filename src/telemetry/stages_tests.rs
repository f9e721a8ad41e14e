//! Tests of stage recording.

use std::sync::atomic::AtomicUsize;

use super::*;

fn us(n: u64) -> Duration {
    Duration::from_micros(n)
}

fn pair() -> (StageRecorder, StageCollector) {
    let recorder = StageRecorder::new();
    let collector = StageCollector::new(vec![recorder.cell()]);
    (recorder, collector)
}

#[test]
fn names_are_distinct_tags() {
    for (i, stage) in Stage::ALL.iter().enumerate() {
        assert_eq!(*stage as usize, i);
        assert!(stage.name().bytes().all(|b| b.is_ascii_lowercase() || b == b'_'));
        assert_eq!(Stage::ALL.iter().filter(|s| s.name() == stage.name()).count(), 1);
    }
}

#[test]
fn a_histogram_of_a_thread_is_about_ten_kilobytes() {
    let set = ThreadSet::new();
    let bytes = set.0.histograms[0].distinct_values() * size_of::<u32>();
    assert!((9_000..=11_000).contains(&bytes), "{bytes}");
    assert!(!set.0.histograms[0].is_auto_resize());
}

#[test]
fn extremes_are_clamped_and_only_the_long_are_counted() {
    let (mut recorder, mut collector) = pair();
    recorder.record(Stage::LoopTurn, Duration::ZERO, 2);
    recorder.record(Stage::LoopTurn, us(STAGE_MAX_US), 1);
    recorder.record(Stage::LoopTurn, us(STAGE_MAX_US + 1), 3);
    recorder.record(Stage::LoopTurn, Duration::MAX, 4);
    recorder.record(Stage::LoopTurn, us(5), 0);
    recorder.publish_before_sleep();
    collector.collect();
    let turns = collector.total().get(Stage::LoopTurn);
    assert_eq!((turns.len(), turns.min(), turns.count_at(1)), (10, 1, 2));
    assert_eq!(turns.count_at(STAGE_MAX_US), 8);
    assert_eq!(collector.total().clamped(Stage::LoopTurn), 7);
    assert_eq!(collector.total().clamped(Stage::ReadToRouted), 0);
}

#[test]
fn counts_saturate_and_quantiles_stay_right() {
    let (mut recorder, mut collector) = pair();
    recorder.record(Stage::ReadToRouted, us(10), u64::MAX);
    recorder.record(Stage::ReadToRouted, us(10), 5);
    recorder.record(Stage::ReadToRouted, us(90), 1);
    recorder.publish_before_sleep();
    collector.collect();
    let waits = collector.total().get(Stage::ReadToRouted);
    assert_eq!(waits.len(), u64::from(u32::MAX) + 1);
    assert_eq!((waits.value_at_quantile(0.999), waits.value_at_quantile(1.0)), (10, 90));
}

#[test]
fn an_awake_thread_hands_over_only_when_asked() {
    let (mut recorder, mut collector) = pair();
    recorder.record(Stage::ReadToWritten, us(7), 1);
    recorder.publish_if_wanted();
    collector.collect();
    assert!(collector.total().is_empty());

    collector.request();
    assert_eq!(collector.outstanding(), 1);
    recorder.publish_if_wanted();
    assert_eq!(collector.outstanding(), 0);
    // The thread goes on at once; what it left stays for the reporter.
    recorder.record(Stage::ReadToWritten, us(7), 10);
    collector.collect();
    assert_eq!(collector.total().get(Stage::ReadToWritten).len(), 1);
    recorder.publish_before_sleep();
    collector.collect();
    assert_eq!(collector.total().get(Stage::ReadToWritten).len(), 11);
}

#[test]
fn a_sleeping_thread_is_not_waited_for() {
    let (mut recorder, mut collector) = pair();
    recorder.record(Stage::LoopTurn, us(3), 1);
    recorder.publish_before_sleep();
    collector.request();
    assert_eq!(collector.outstanding(), 0);
    assert_eq!(collector.collect_within(Duration::from_secs(3600)), 0);
    assert_eq!(collector.total().get(Stage::LoopTurn).len(), 1);
}

#[test]
fn both_sets_of_a_thread_are_collected() {
    let (mut recorder, mut collector) = pair();
    for _ in 0..5 {
        recorder.record(Stage::LoopTurn, us(3), 1);
        collector.request();
        recorder.publish_if_wanted();
        recorder.record(Stage::LoopTurn, us(3), 1);
        recorder.publish_before_sleep();
    }
    collector.collect();
    assert_eq!(collector.total().get(Stage::LoopTurn).len(), 10);
}

#[test]
fn the_end_of_a_thread_loses_nothing() {
    let (mut recorder, mut collector) = pair();
    recorder.record(Stage::AcceptToUpgraded, us(300), 4);
    drop(recorder);
    assert_eq!(collector.collect_within(Duration::from_secs(3600)), 0);
    assert_eq!(collector.total().get(Stage::AcceptToUpgraded).len(), 4);
    // Nothing twice.
    collector.collect();
    assert_eq!(collector.total().get(Stage::AcceptToUpgraded).len(), 4);
}

#[test]
fn a_thread_that_does_not_answer_is_reported_and_comes_later() {
    let (mut recorder, mut collector) = pair();
    recorder.record(Stage::LoopTurn, us(3), 1);
    assert_eq!(collector.collect_within(Duration::ZERO), 1);
    assert!(collector.total().is_empty());
    recorder.publish_if_wanted();
    collector.collect();
    assert_eq!(collector.total().get(Stage::LoopTurn).len(), 1);
}

#[test]
fn intervals_partition_the_total() {
    let (mut recorder, mut collector) = pair();
    let mut sum = 0;
    for n in 1..=4 {
        recorder.record(Stage::LoopTurn, us(50 * n), n);
        recorder.publish_before_sleep();
        collector.collect();
        let turns = collector.interval().get(Stage::LoopTurn);
        assert_eq!(turns.len(), n);
        assert!(turns.equivalent(turns.max(), 50 * n), "a former interval's maximum stayed");
        sum += turns.len();
        collector.end_interval();
        assert!(collector.interval().is_empty());
    }
    assert_eq!(collector.total().get(Stage::LoopTurn).len(), sum);
}

#[test]
fn nothing_is_lost_between_running_threads_and_the_reporter() {
    const THREADS: u64 = 3;
    const TURNS: u64 = 20_000;
    let recorders: Vec<_> = (0..THREADS).map(|_| StageRecorder::new()).collect();
    let mut collector = StageCollector::new(recorders.iter().map(StageRecorder::cell).collect());
    let running = AtomicUsize::new(recorders.len());
    thread::scope(|scope| {
        for (thread, mut recorder) in recorders.into_iter().enumerate() {
            let running = &running;
            scope.spawn(move || {
                for turn in 0..TURNS {
                    recorder.record(Stage::ALL[turn as usize % 5], us(turn), 1);
                    recorder.publish_if_wanted();
                    if turn % (3 + thread as u64) == 0 {
                        recorder.publish_before_sleep();
                    }
                }
                drop(recorder);
                running.fetch_sub(1, Relaxed);
            });
        }
        while running.load(Relaxed) > 0 {
            collector.request();
            thread::yield_now();
            collector.collect();
        }
    });
    collector.collect();
    let recorded: u64 = Stage::ALL.iter().map(|s| collector.total().get(*s).len()).sum();
    assert_eq!(recorded, THREADS * TURNS);
}
