//! Every kept input, through the same functions as the fuzzer's.

use std::{fs, path::Path};

use tidegate_fuzz::{decoder, deflate, dialect, handshake, proxy};

fn run(target: &str, least: usize, check: fn(&[u8])) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let mut count = 0;
    for entry in fs::read_dir(&dir).expect("the kept corpus") {
        let path = entry.expect("an entry").path();
        println!("{}", path.display());
        check(&fs::read(&path).expect("a file"));
        count += 1;
    }
    assert!(count >= least, "only {count} files in {}", dir.display());
}

#[test]
fn decoder() {
    run("decoder", 24, decoder::check);
}

#[test]
fn deflate() {
    run("deflate", 12, deflate::check);
}

#[test]
fn handshake() {
    run("handshake", 24, handshake::check);
}

#[test]
fn proxy() {
    run("proxy", 16, proxy::check);
}

#[test]
fn dialects() {
    run("dialect_raw", 4, dialect::raw);
    run("dialect_json", 12, dialect::json);
    run("dialect_mef", 12, dialect::mef);
    run("dialect_action", 12, dialect::action);
    run("dialect_event", 12, dialect::event);
    run("dialect_kim", 12, dialect::kim);
    run("dialect_hub", 12, dialect::hub);
}
