//! The five systems' clients in `examples/`, each against its server and held to what it prints.

#[allow(dead_code)]
#[path = "../../examples/client_a.rs"]
mod client_a;
#[allow(dead_code)]
#[path = "../../examples/client_b.rs"]
mod client_b;
#[allow(dead_code)]
#[path = "../../examples/client_c.rs"]
mod client_c;
#[allow(dead_code)]
#[path = "../../examples/client_d.rs"]
mod client_d;
#[allow(dead_code)]
#[path = "../../examples/client_e.rs"]
mod client_e;

use std::env;
use std::error::Error;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use clap::Parser;
use tidegate::{Running, StartError};

use crate::server::{Program, Server};
use crate::{PROGRAMS, a_websocketmgr, b_ginserver, c_rooms, d_kim, e_hub, text_of};

#[test]
fn client_a() {
    let pair = Pair { server: "a_websocketmgr", client: "client_a", path: "/", words: &[] };
    pair.hold(a_websocketmgr::start, client_a::run);
}

#[test]
fn client_b() {
    let pair = Pair { server: "b_ginserver", client: "client_b", path: "/ws", words: &[] };
    pair.hold(b_ginserver::start, client_b::run);
}

#[test]
fn client_c() {
    let words = &["--time-interval-ms", "50"];
    let pair = Pair { server: "c_rooms", client: "client_c", path: "", words };
    pair.hold(c_rooms::start, client_c::run);
}

#[test]
fn client_d() {
    let words = &["--tcp-listen", "127.0.0.1:0"];
    let pair = Pair { server: "d_kim", client: "client_d", path: "/kim", words };
    pair.hold(d_kim::start, client_d::run);
}

#[test]
fn client_e() {
    let pair = Pair { server: "e_hub", client: "client_e", path: "/hub", words: &[] };
    pair.hold(e_hub::start, client_e::run);
}

/// A server and a client, by the names of their programs.
struct Pair {
    server: &'static str,
    client: &'static str,
    /// Of the server's URL.
    path: &'static str,
    /// What the server is started with.
    words: &'static [&'static str],
}

impl Pair {
    fn hold<ServerArgs: Parser, ClientArgs: Parser>(
        &self,
        start: impl Fn(&ServerArgs) -> Result<Running, StartError>,
        run: impl Fn(&ClientArgs, &mut dyn Write) -> Result<(), Box<dyn Error>>,
    ) {
        let programs = env::var_os(PROGRAMS);
        let words: Vec<_> = self.words.iter().map(|word| (*word).to_owned()).collect();
        let server = match &programs {
            Some(directory) => Program::start(directory, self.server, &words),
            None => Server::here(&words, &start),
        };
        let urls = self.urls(&server);
        let printed = match &programs {
            Some(directory) => printed_by(&Path::new(directory).join(self.client), &urls),
            None => {
                let command = [self.client].into_iter().chain(urls.iter().map(String::as_str));
                let mut out = Vec::new();
                run(&ClientArgs::parse_from(command), &mut out).expect("the client comes through");
                String::from_utf8(out).expect("it prints text")
            }
        };
        server.stop().expect("the server stops cleanly");
        compare(&masked(&printed), &text_of(&format!("{}.txt", self.client)));
    }

    /// The client's arguments: where the server listens.
    fn urls(&self, server: &Server) -> Vec<String> {
        let address = server.address(false).expect("it listens for WebSockets");
        let mut urls = vec!["--url".to_owned(), format!("ws://{address}{}", self.path)];
        if let Some(address) = server.address(true) {
            urls.extend(["--tcp-url".to_owned(), format!("tcp://{address}")]);
        }
        urls
    }
}

fn printed_by(program: &Path, words: &[String]) -> String {
    let output = Command::new(program).args(words).stderr(Stdio::inherit()).output();
    let output = output.expect("the example was built: cargo build --examples");
    assert!(output.status.success(), "{}: {}", program.display(), output.status);
    String::from_utf8(output.stdout).expect("it prints text")
}

/// Compares line by line, without comments.
fn compare(printed: &str, transcript: &str) {
    let mut wanted = transcript.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    for line in printed.lines() {
        assert_eq!(Some(line), wanted.next(), "all that was printed:\n{printed}");
    }
    assert_eq!(wanted.next(), None, "all that was printed:\n{printed}");
}

/// The same with `<id>` for a connection's id, `<ms>` and `<ns>` for a time since 1970.
fn masked(printed: &str) -> String {
    let is_word = |c: char| c.is_ascii_alphanumeric();
    let mut masked = String::new();
    for piece in printed.split_inclusive(|c: char| !is_word(c)) {
        let word = piece.trim_end_matches(|c: char| !is_word(c));
        let is_number = word.bytes().all(|byte| byte.is_ascii_digit());
        let is_hex = word.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        masked.push_str(match word.len() {
            32 if is_hex => "<id>",
            13 if is_number => "<ms>",
            19 if is_number => "<ns>",
            _ => word,
        });
        masked.push_str(&piece[word.len()..]);
    }
    masked
}

#[test]
fn what_varies_is_masked_and_nothing_else() {
    for (printed, want) in [
        ("at 1763715260000.", "at <ms>."),
        ("\"ce6fd1296161c1b73f635e9b589f195e\"\n", "\"<id>\"\n"),
        ("message 7 at 1763715260000000000", "message 7 at <ns>"),
        ("17637152600001 ce6fd1296161c1b73f635e9b589f195E", "same"),
        ("äöü 127.0.0.1:8080", "same"),
    ] {
        assert_eq!(masked(printed), if want == "same" { printed } else { want });
    }
}
