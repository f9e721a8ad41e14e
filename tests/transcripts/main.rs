//! The five systems' servers in `examples/`, each held to a conversation byte by byte.
//!
//! How transcripts are written: `README.md` beside this file.

#[allow(dead_code)]
#[path = "../../examples/a_websocketmgr.rs"]
mod a_websocketmgr;
#[allow(dead_code)]
#[path = "../../examples/b_ginserver.rs"]
mod b_ginserver;
#[allow(dead_code)]
#[path = "../../examples/c_rooms.rs"]
mod c_rooms;
#[allow(dead_code)]
#[path = "../../examples/d_kim.rs"]
mod d_kim;
#[allow(dead_code)]
#[path = "../../examples/e_hub.rs"]
mod e_hub;
mod player;
mod script;

use std::fs;
use std::path::Path;

use clap::Parser;
use tidegate::{Running, StartError};

use player::Player;
use script::read;

#[test]
fn a_websocketmgr() {
    play_file("a.txt", a_websocketmgr::start);
}

#[test]
fn b_ginserver() {
    play_file("b.txt", b_ginserver::start);
}

#[test]
fn c_rooms() {
    play_file("c.txt", c_rooms::start);
}

#[test]
fn d_kim() {
    play_file("d.txt", d_kim::start);
}

#[test]
fn e_hub() {
    play_file("e.txt", e_hub::start);
}

fn text_of(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts").join(name);
    fs::read_to_string(path).expect("a transcript")
}

fn play_file<Args: Parser>(name: &str, start: impl Fn(&Args) -> Result<Running, StartError>) {
    play(name, &text_of(name), start);
}

/// Plays a transcript against an example, which is started as its command line would start it.
fn play<Args: Parser>(
    name: &str,
    transcript: &str,
    start: impl Fn(&Args) -> Result<Running, StartError>,
) {
    let steps = read(transcript).unwrap_or_else(|mistake| panic!("{name}: {mistake}"));
    let mut player = Player::new(|words: &[String]| {
        let command = [name, "--listen", "127.0.0.1:0"].into_iter();
        let args = Args::parse_from(command.chain(words.iter().map(String::as_str)));
        start(&args).expect("it starts")
    });
    for step in &steps {
        if let Err(why) = player.play(&step.action) {
            panic!("{name}, line {}: {why}", step.line);
        }
    }
    if let Err(why) = player.finish() {
        panic!("{name}, at the end: {why}");
    }
}

/// A conversation with example E, and the first word in which each copy of it differs.
#[test]
fn a_transcript_that_is_wrong_fails() {
    let right = text_of("e.txt");
    for (find, put) in [
        ("1< 82", "1< 81"),
        ("'HTTP/1.1 101", "'HTTP/1.1 200"),
        ("1< end", "1< 00"),
        ("1< end\n", "\n"),
    ] {
        let at = right.rfind(find).unwrap_or_else(|| panic!("{find} is in e.txt"));
        let wrong = [&right[..at], put, &right[at + find.len()..]].concat();
        let played = std::panic::catch_unwind(|| play("wrong", &wrong, e_hub::start));
        assert!(played.is_err(), "{find} → {put} went unseen");
    }
}
