//! What the fuzz target checks, on what it keeps and on a great many like it.

#[path = "../../fuzz/src/proxy.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with the fuzz target")]
mod harness;
#[path = "../support/rng.rs"]
mod rng;

use std::fs;
use std::path::Path;

use rng::Rng;

/// Pieces of headers and lists, to be put where they do harm.
const PIECES: [&[u8]; 16] = [
    b"PROXY ",
    b"TCP4 ",
    b"UNKNOWN",
    b"\r\n",
    b"\r\n\r\n\0\r\nQUIT\n",
    b"\x21\x11",
    b"\0\x0c",
    b"for=",
    b"\"",
    b"\\",
    b",",
    b";",
    b"[",
    b"]",
    b":_a",
    b"10.1.2.3",
];

fn kept() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/proxy");
    let files = fs::read_dir(folder).expect("the kept corpus");
    files.map(|file| fs::read(file.unwrap().path()).unwrap()).collect()
}

#[test]
fn what_is_kept_and_what_is_like_it_holds() {
    let kept = kept();
    assert!(kept.len() >= 16, "{}", kept.len());
    kept.iter().for_each(|input| harness::check(input));
    let mut rng = Rng::new(0x50_52_4f_58_59);
    for _ in 0..200_000 {
        let mut input = kept[rng.below(kept.len())].clone();
        for _ in 0..=rng.below(6) {
            change(&mut input, &mut rng);
        }
        harness::check(&input);
    }
}

fn change(input: &mut Vec<u8>, rng: &mut Rng) {
    let at = rng.below(input.len() + 1);
    match rng.below(4) {
        0 => input.truncate(at),
        1 if at < input.len() => input[at] = rng.next() as u8,
        2 if at < input.len() => {
            input.remove(at);
        }
        _ => {
            let piece = rng.pick(&PIECES);
            input.splice(at..at, piece.iter().copied());
        }
    }
}
