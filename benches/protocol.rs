//! Decoder, mask and UTF-8: what one message costs before anybody looks at it.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tidegate::protocol::{Decoder, Event, Framing, Spare, Utf8Stream, apply_mask};

const DECODER: Decoder = Decoder {
    framing: Framing::WebSocket,
    max_frame_bytes: 1 << 20,
    max_message_bytes: 1 << 20,
    max_fragments: 4096,
    deflate: false,
};
const TCP: Decoder = Decoder { framing: Framing::Tcp, ..DECODER };
const SIZES: [usize; 3] = [20, 1024, 16 * 1024];
/// Keeps letters ASCII, so that a frame stays valid text however often it is unmasked in place.
const MASK: [u8; 4] = [1, 2, 3, 1];

/// A whole frame (RFC 6455, 5.2) of letters.
fn frame(first: u8, size: usize) -> Vec<u8> {
    let mut frame = vec![first];
    match size {
        0..=125 => frame.push(0x80 | size as u8),
        _ => {
            frame.push(0xfe);
            frame.extend((size as u16).to_be_bytes());
        }
    }
    frame.extend(MASK);
    frame.extend((0..size).map(|at| b'd' + (at % 16) as u8));
    frame
}

/// A whole frame over plain TCP, of letters.
fn tcp_frame(opcode: u8, size: usize) -> Vec<u8> {
    let mut frame = vec![opcode];
    frame.extend((size as u32).to_be_bytes());
    frame.extend((0..size).map(|at| b'd' + (at % 16) as u8));
    frame
}

/// Takes all messages of a buffer; how many there were.
fn decode_all(decoder: &Decoder, buffer: &mut [u8], spare: &mut Spare) -> usize {
    // Which framing it is shows when it runs, as in the gateway.
    let decoder = black_box(decoder);
    let (mut input, mut state, mut messages) = (buffer, None, 0);
    loop {
        match decoder.next(&mut state, spare, &mut input) {
            Ok(Some(Event::Message { payload, .. })) => {
                black_box(payload);
                messages += 1;
            }
            Ok(None) => return messages,
            other => panic!("{other:?}"),
        }
    }
}

fn decoder(c: &mut Criterion) {
    let mut group = c.benchmark_group("decoder");
    let mut spare = Spare::new(4, 4, 1 << 16);
    for (kind, opcode) in [("binary", 2), ("text", 1)] {
        for size in SIZES {
            group.throughput(Throughput::Bytes(size as u64));
            let mut buffer = frame(0x80 | opcode, size);
            group.bench_function(BenchmarkId::new(kind, size), |b| {
                b.iter(|| assert_eq!(decode_all(&DECODER, black_box(&mut buffer), &mut spare), 1));
            });
            let mut buffer = tcp_frame(opcode, size);
            group.bench_function(BenchmarkId::new(format!("{kind} over TCP"), size), |b| {
                b.iter(|| assert_eq!(decode_all(&TCP, black_box(&mut buffer), &mut spare), 1));
            });
        }
    }
    group.throughput(Throughput::Elements(16));
    let mut buffer = frame(0x82, 20).repeat(16);
    group.bench_function(BenchmarkId::new("16 in one buffer", 20), |b| {
        b.iter(|| assert_eq!(decode_all(&DECODER, black_box(&mut buffer), &mut spare), 16));
    });
    let mut buffer = tcp_frame(2, 20).repeat(16);
    group.bench_function(BenchmarkId::new("16 in one buffer over TCP", 20), |b| {
        b.iter(|| assert_eq!(decode_all(&TCP, black_box(&mut buffer), &mut spare), 16));
    });
    group.finish();
}

fn mask(c: &mut Criterion) {
    let mut group = c.benchmark_group("mask");
    for size in SIZES {
        let mut payload = vec![b'x'; size];
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(BenchmarkId::new("words", size), |b| {
            b.iter(|| apply_mask(black_box(&mut payload), black_box(MASK)));
        });
        group.bench_function(BenchmarkId::new("bytes (baseline)", size), |b| {
            b.iter(|| {
                let mask = black_box(MASK);
                for (at, byte) in black_box(&mut payload).iter_mut().enumerate() {
                    *byte ^= mask[at % 4];
                }
            });
        });
    }
    group.finish();
}

fn utf8(c: &mut Criterion) {
    let mut group = c.benchmark_group("utf8");
    let mixed = "Grüße, мир, 世界, 🌊! ".repeat(600);
    let letters = "tides come and go. ".repeat(900);
    for (kind, text) in [("mixed", &mixed), ("ascii", &letters)] {
        for size in [20, 512, 16 * 1024] {
            let bytes = prefix(text, size);
            group.throughput(Throughput::Bytes(bytes.len() as u64));
            group.bench_function(BenchmarkId::new(format!("{kind}, stream"), size), |b| {
                b.iter(|| Utf8Stream::default().push(black_box(bytes)).is_ok());
            });
            group.bench_function(BenchmarkId::new(format!("{kind}, simdutf8"), size), |b| {
                b.iter(|| simdutf8::basic::from_utf8(black_box(bytes)).is_ok());
            });
            group.bench_function(BenchmarkId::new(format!("{kind}, std (baseline)"), size), |b| {
                b.iter(|| std::str::from_utf8(black_box(bytes)).is_ok());
            });
        }
    }
    group.finish();
}

/// At most the first `size` bytes of a text, up to the end of a character.
fn prefix(text: &str, size: usize) -> &[u8] {
    let end = (0..=size.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    &text.as_bytes()[..end.unwrap_or(0)]
}

criterion_group!(benches, decoder, mask, utf8);
criterion_main!(benches);
