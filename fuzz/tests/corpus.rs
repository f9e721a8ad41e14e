//! Every kept input, through the same functions as the fuzzer's.

use std::{fs, path::Path};

fn run(target: &str, check: fn(&[u8])) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let mut count = 0;
    for entry in fs::read_dir(&dir).expect("the kept corpus") {
        let path = entry.expect("an entry").path();
        println!("{}", path.display());
        check(&fs::read(&path).expect("a file"));
        count += 1;
    }
    assert!(count >= 24, "only {count} files in {}", dir.display());
}

#[test]
fn decoder() {
    run("decoder", tidegate_fuzz::decoder::check);
}

#[test]
fn handshake() {
    run("handshake", tidegate_fuzz::handshake::check);
}
