//! One publish on its way to the outboxes of a loop's members: encoding once, then queueing and
//! taking note of the write for each.

use std::{hint::black_box, sync::Arc};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tidegate::{
    Body, Endpoint, OverflowPolicy,
    app::Snapshot,
    channels::Publish,
    connection::{Outbox, Room},
    telemetry::memory::MemoryGauge,
};

const MEMBERS: usize = 5_000;

fn publish_of(size: usize, memory: &Arc<MemoryGauge>) -> Arc<Publish> {
    let text = "x".repeat(size);
    Publish::new(Some("tea".into()), None, Body::Text(&text).into(), memory)
}

fn json_endpoint() -> Endpoint {
    let mut endpoints = [Endpoint::json("/ws")];
    Snapshot::classify(&mut endpoints);
    let [endpoint] = endpoints;
    endpoint
}

fn encode(c: &mut Criterion) {
    let endpoint = json_endpoint();
    let mut group = c.benchmark_group("broadcast, encode");
    let memory = MemoryGauge::new(u64::MAX);
    for size in [64, 1024] {
        group.bench_function(BenchmarkId::new("publish and its frame", size), |b| {
            b.iter(|| publish_of(size, &memory).frame(black_box(&endpoint)));
        });
        let publish = publish_of(size, &memory);
        group.bench_function(BenchmarkId::new("frame made already", size), |b| {
            b.iter(|| publish.frame(black_box(&endpoint)));
        });
    }
    group.finish();
}

fn expand(c: &mut Criterion) {
    let mut group = c.benchmark_group("broadcast, expand");
    group.throughput(Throughput::Elements(MEMBERS as u64));
    let memory = MemoryGauge::new(u64::MAX);
    for (name, policy) in
        [("close", OverflowPolicy::Close), ("drop-oldest", OverflowPolicy::DropOldest)]
    {
        // Up to 512 bytes are copied under `close`; what is longer is shared in any case.
        for size in [64, 1024] {
            let room = Room { limit_bytes: 1 << 20, policy };
            let publish = publish_of(size, &memory);
            let mut outboxes: Vec<_> = (0..MEMBERS).map(|_| Outbox::default()).collect();
            group.bench_function(BenchmarkId::new(name, size), |b| {
                b.iter(|| expand_once(&publish, &mut outboxes, room));
            });
        }
    }
    group.finish();
}

/// Queues a publish for every member, and takes all of it as written.
fn expand_once(publish: &Publish, outboxes: &mut [Outbox], room: Room) {
    let frame = publish.frame(&json_endpoint()).expect("JSON can say it");
    for outbox in outboxes {
        outbox.push_shared(&frame, room).and_then(|()| outbox.enforce(room)).expect("it fits");
        let written = outbox.only_slice().map_or(0, |bytes| black_box(bytes).len());
        outbox.wrote(written);
    }
}

criterion_group!(benches, encode, expand);
criterion_main!(benches);
