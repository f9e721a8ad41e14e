//! The five systems' servers in `examples/`, each held to a conversation byte by byte.
//!
//! How transcripts are written and played: `README.md` beside this file.

#[allow(dead_code)]
#[path = "../../examples/a_websocketmgr.rs"]
mod a_websocketmgr;
#[allow(dead_code)]
#[path = "../../examples/b_ginserver.rs"]
mod b_ginserver;
#[allow(dead_code)]
#[path = "../../examples/c_rooms.rs"]
mod c_rooms;
mod clients;
#[allow(dead_code)]
#[path = "../../examples/d_kim.rs"]
mod d_kim;
#[allow(dead_code)]
#[path = "../../examples/e_hub.rs"]
mod e_hub;
mod player;
mod script;
mod server;

use std::path::Path;
use std::{env, fs};

use clap::Parser;
use tidegate::{Running, StartError};

use player::Player;
use server::{Program, Server};

/// The environment's name for the directory of programs to play against, instead of what was built
/// into this test.
const PROGRAMS: &str = "EXAMPLE_PROGRAMS";

#[test]
fn a_websocketmgr() {
    hold("a.txt", "a_websocketmgr", a_websocketmgr::start);
}

#[test]
fn b_ginserver() {
    hold("b.txt", "b_ginserver", b_ginserver::start);
}

#[test]
fn c_rooms() {
    hold("c.txt", "c_rooms", c_rooms::start);
}

#[test]
fn d_kim() {
    hold("d.txt", "d_kim", d_kim::start);
}

#[test]
fn e_hub() {
    hold("e.txt", "e_hub", e_hub::start);
}

/// System A's expression is `^[a-zA-Z0-9]([-_a-zA-Z0-9]{0,62}[a-zA-Z0-9])?$`.
#[test]
fn names_match_the_expression() {
    let long = |length: usize| format!("a{}9", "-".repeat(length - 2));
    for name in ["a", "Z", "0", "ab", "a-b", "a__-b", "edge-1", &long(64)] {
        assert!(a_websocketmgr::is_client_name(name), "{name}");
    }
    for name in ["", "-", "_", "-a", "a-", "a_", "_a", "a b", "a.b", "ä", "aä", "a\n", &long(65)]
    {
        assert!(!a_websocketmgr::is_client_name(name), "{name}");
    }
}

/// Holds an example to a transcript.
fn hold<Args: Parser>(
    transcript: &str,
    example: &str,
    start: impl Fn(&Args) -> Result<Running, StartError>,
) {
    let programs = env::var_os(PROGRAMS);
    let played = play(&text_of(transcript), |words| match &programs {
        Some(directory) => Program::start(directory, example, words),
        None => Server::here(words, &start),
    });
    if let Err(why) = played {
        panic!("{transcript}, {why}");
    }
}

/// Plays a transcript against what `start` starts.
fn play(transcript: &str, start: impl Fn(&[String]) -> Server) -> Result<(), String> {
    let steps = script::read(transcript)?;
    let mut player = Player::new(start);
    for step in &steps {
        player.play(&step.action).map_err(|why| format!("line {}: {why}", step.line))?;
    }
    player.finish().map_err(|why| format!("at the end: {why}"))
}

pub(crate) fn text_of(transcript: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts").join(transcript);
    fs::read_to_string(path).expect("a transcript")
}

#[test]
fn a_server_that_says_something_else_is_found_out() {
    let right = "$\n1+\n1> 'GET /hub?user=a&type=1&device=b&source=c HTTP/1.1\\r\\nHost: a\\r\\nUpgrade: websocket\\r\\n'\n  \
        'Connection: Upgrade\\r\\nSec-WebSocket-Version: 13\\r\\n'\n  \
        'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\\r\\n\\r\\n'\n\
        1< 'HTTP/1.1 101 Switching Protocols\\r\\nUpgrade: websocket\\r\\n'\n  \
        'Connection: Upgrade\\r\\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\\r\\n\\r\\n'\n\
        1> binary FEEF0A000000 02000000 02000000 'hi'\n\
        1< 82 10 FEEF0A000000 02000000 02000000 'hi'\n\
        1> close 03E8\n1< 88 02 03E8\n1< end\n";
    let played = |transcript: &str| play(transcript, |words| Server::here(words, e_hub::start));
    assert_eq!(played(right), Ok(()));
    for (part, other, why) in [
        ("1 101 Sw", "1 200 Sw", "line 6: byte 9 is not what was expected; got 'HTTP/1.1 101 "),
        ("1< 82 10", "1< 82 7E 00 10", "line 9: byte 1 is not what was expected; got 82 10 FE EF"),
        ("1< 82 10", "1< 81 10", "line 9: byte 0 is not what was expected; got 82 10 FE EF"),
        ("2000000 'hi'\n1>", "2000000 'ha'\n1>", "line 9: byte 17 is not what was expected"),
        (
            "2000000 'hi'\n1>",
            "2000000 'h'\n1>",
            "line 11: byte 0 is not what was expected; got 'i'",
        ),
        ("2000000 'hi'\n1>", "2000000\n1>", "line 11: byte 0 is not what was expected; got 'hi'"),
        ("1< 88 02 03E8\n", "", "line 11: expected the end, got 88 02 03 E8"),
        ("1< end\n", "", "at the end: connection 1 has not ended"),
        ("1< end\n", "1< 00\n", "line 12: byte 0 is not"),
        ("1< end\n", "1-\n2-\n", "line 13: connection 2 is not open"),
    ] {
        let wrong = right.replace(part, other);
        assert_ne!(wrong, right, "{part}");
        let found = played(&wrong).expect_err(other);
        assert!(found.starts_with(why), "{other}: {found}");
    }
}
