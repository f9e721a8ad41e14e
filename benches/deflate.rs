//! permessage-deflate: what compressing and inflating one message of JSON costs.

use std::fmt::Write as _;
use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tidegate::protocol::MessageKind;
use tidegate::protocol::deflate::{Deflater, Inflater, Window};

const SIZES: [usize; 3] = [128, 1024, 16 * 1024];

/// JSON of `size` bytes, as services say it: names that repeat, values that do not.
fn json(size: usize) -> Vec<u8> {
    let mut text = String::from("[");
    let mut seed = 1_u64;
    while text.len() < size {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (id, price) = (seed >> 40, (seed >> 20) % 100_000);
        write!(text, r#"{{"id":{id},"symbol":"TIDE{}","price":{price},"open":true}},"#, id % 97)
            .expect("memory");
    }
    text.truncate(size);
    text.into_bytes()
}

fn compress(c: &mut Criterion) {
    let mut group = c.benchmark_group("deflate");
    for size in SIZES {
        let message = json(size);
        group.throughput(Throughput::Bytes(size as u64));
        for (name, level, bits, takeover) in [
            ("shared, level 1", 1, 15, false),
            ("shared, level 1, 10 bits", 1, 10, false),
            ("shared, level 6", 6, 15, false),
            ("dedicated, level 1", 1, 15, true),
            ("dedicated, level 6", 6, 15, true),
        ] {
            let mut deflater = Deflater::new(level, bits, takeover);
            let mut out = Vec::new();
            group.bench_function(BenchmarkId::new(name, size), |b| {
                b.iter(|| {
                    out.clear();
                    deflater.compress(black_box(&message), &mut out)
                });
            });
        }
    }
    group.finish();
}

fn inflate(c: &mut Criterion) {
    let mut group = c.benchmark_group("inflate");
    for size in SIZES {
        let message = json(size);
        let mut payload = Vec::new();
        assert!(Deflater::new(1, 15, false).compress(&message, &mut payload));
        group.throughput(Throughput::Bytes(size as u64));
        let (mut inflater, mut out) = (Inflater::new(), Vec::new());
        let mut full = Window::new(15);
        for _ in 0..300 {
            let read =
                inflater.inflate(MessageKind::Text, &payload, Some(&mut full), size, &mut out);
            assert_eq!((read, &out), (Ok(()), &message));
        }
        for (name, mut window) in [("shared", None), ("dedicated, full window", Some(full))] {
            group.bench_function(BenchmarkId::new(name, size), |b| {
                b.iter(|| {
                    let payload = black_box(&payload);
                    inflater.inflate(MessageKind::Text, payload, window.as_mut(), size, &mut out)
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, compress, inflate);
criterion_main!(benches);
