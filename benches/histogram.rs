//! What it costs to record a stage's duration.

use std::{hint::black_box, time::Duration};

use criterion::{Criterion, criterion_group, criterion_main};
use hdrhistogram::Histogram;
use tidegate::telemetry::stages::{STAGE_DIGITS, STAGE_MAX_US, Stage, StageRecorder};

fn record(c: &mut Criterion) {
    let mut group = c.benchmark_group("histogram");
    let mut recorder = StageRecorder::new();
    // Over the whole range, so that no one bucket stays in the nearest cache line.
    let mut micros = 1;
    let mut next = move || {
        micros = micros * 5 % 59_999_999;
        micros
    };
    group.bench_function("record", |b| {
        b.iter(|| recorder.record(Stage::ReadToWritten, Duration::from_micros(next()), 1));
    });
    let short = Duration::from_micros(37);
    group.bench_function("record, always the same", |b| {
        b.iter(|| recorder.record(Stage::ReadToWritten, black_box(short), 1));
    });
    let mut plain = Histogram::<u32>::new_with_bounds(1, STAGE_MAX_US, STAGE_DIGITS)
        .expect("the bounds are valid");
    group.bench_function("HdrHistogram, always the same (baseline)", |b| {
        b.iter(|| plain.record_n(black_box(37), 1));
    });
    group.bench_function("clock, read once", |b| b.iter(std::time::Instant::now));
    group.finish();
}

criterion_group!(benches, record);
criterion_main!(benches);
