//! What compressors and inflaters say they take of the heap is what they take.

#[path = "support/counting.rs"]
mod counting;

use std::thread;

use tidegate::protocol::MessageKind;
use tidegate::protocol::deflate::{Agreed, DeflateSettings, Deflater, Deflaters, Inflater, Window};

#[global_allocator]
static COUNTING: counting::Counting = counting::Counting;

/// What is said is what is live since `before`, give or take a twentieth.
fn assert_about(said: usize, before: i64) {
    let live = usize::try_from(counting::live_bytes() - before).expect("more than before");
    assert!(said.abs_diff(live) <= live / 20, "{said} said, {live} live");
}

fn measure() {
    let live = counting::live_bytes;
    for bits in 9..=15 {
        let before = live();
        let deflater = Deflater::new(6, bits, true);
        assert_about(deflater.heap_bytes(), before);
    }
    let before = live();
    let mut deflaters = Deflaters::new(&DeflateSettings::default());
    let class = |bits| Agreed::new(bits, 15, false, false).class();
    let mut out = Vec::with_capacity(4096);
    let start = live();
    for bits in [9, 12, 12, 15] {
        out.clear();
        assert!(deflaters.compress(class(bits), &[7; 1000], &mut out));
    }
    assert_about(deflaters.heap_bytes(), start);
    drop((deflaters, out));
    assert_eq!(live(), before);

    let (mut inflater, mut window) = (Inflater::new(), Window::new(15));
    let mut out = Vec::with_capacity(100);
    let before = live();
    assert_eq!(inflater.heap_bytes(), 0);
    let hello = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    let kind = MessageKind::Text;
    assert_eq!(inflater.inflate(kind, &hello, Some(&mut window), 50, &mut out), Ok(()));
    assert_eq!(window.heap_bytes(), 5);
    assert_about(inflater.heap_bytes() + window.heap_bytes(), before);
    let before = live();
    for _ in 0..10_000 {
        assert_eq!(inflater.inflate(kind, &hello, Some(&mut window), 50, &mut out), Ok(()));
    }
    // Once it is full, the window stays as it is.
    assert_eq!(live() - before, (1 << 15) - 5);
    assert_eq!(window.heap_bytes(), 1 << 15);
}

#[test]
fn what_they_say_they_take_is_what_they_take() {
    // Only threads of this name are counted.
    let counted = thread::Builder::new().name("tg-measured".to_owned()).spawn(measure);
    counted.expect("a thread").join().expect("no panic");
}
