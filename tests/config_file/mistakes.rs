//! Every mistake is answered, where it is, with what was expected.

use std::fs;
use std::path::Path;

use clap::Parser;
use tidegate::config::{Cli, Origin, resolve};

use crate::{File, WHOLE, machine, mistakes};

const MISTAKES: &str = include_str!("mistakes.toml");
const ANSWERS: &str = include_str!("mistakes.txt");

#[test]
fn all_mistakes_of_a_file_and_of_flags_are_answered_at_once() {
    let file = File::new(MISTAKES);
    let output = file
        .run(&["--config", "gateway.toml", "--idle-timeout", "soon"], &[("TIDEGATE_BACKLOG", "0")]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let told = String::from_utf8(output.stderr).expect("text").replace("tidegate: ", "");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config_file/mistakes.txt");
        return fs::write(path, told).expect("a file");
    }
    assert_eq!(told, ANSWERS, "UPDATE_DOCS=1 in the environment writes it anew");
}

#[test]
fn mistakes_of_grammar_say_where_and_what_was_expected() {
    for (text, told) in [
        ("[limits\nmax_message = 1\n", "gateway.toml:1:8: unclosed table, expected `]`"),
        ("[limits]\nmax_message = \n", "gateway.toml:2:"),
        ("[limits]\nmax_message 1\n", "gateway.toml:2:"),
        (
            "[limits]\nmax_frame = 1\nmax_frame = 2\n",
            "gateway.toml:3:1: `max_frame` is given twice",
        ),
        ("a = \"x\n", "gateway.toml:1:"),
    ] {
        let answer = mistakes(text);
        let start = told.split(", ").next().unwrap();
        assert!(answer.starts_with(start), "{answer}");
        let expected = answer.contains("expected") || answer.contains("leave one of them out");
        assert!(expected, "{answer}");
    }
    // Beyond a key given twice, reading goes on.
    let both = mistakes("[limits]\nmax_frame = 1\nmax_frame = 2\nmax_header = true\n");
    assert_eq!(both.lines().count(), 2, "{both}");
}

#[test]
fn a_file_that_cannot_be_read_says_so() {
    let cli =
        Cli::try_parse_from(["tidegate", "--config", "/no/such/file", "--loops", "x"]).unwrap();
    let problems = resolve(&cli, &machine()).expect_err("a mistake");
    assert_eq!(problems.len(), 2, "{problems:?}");
    let text = problems[0].to_string();
    assert!(text.starts_with("--config \"/no/such/file\": cannot be read: No such file"), "{text}");
    assert_eq!(problems[0].origin, Origin::CommandLine);
}

#[test]
fn a_mistake_is_one_mistake() {
    // What is wrong with one value is not told again of what depends on it.
    for text in [
        "capacity.loops = \"x\"\ncapacity.max_connections = 1_000_000\n",
        "capacity.loops = 2000\ncapacity.max_connections = 1_000_000\n",
        "limits.max_message = 0\n",
        "listener = [{address = \"nowhere\"}]\n",
        "listener = [{address = \"[::1]:1\", transport = \"udp\"}]\n",
        "listener = [{address = \"[::1]:1\", transport = \"tcp\"}]\n",
        "listener = [{address = \"[::1]:1\", framing = \"u32\"}]\n",
        "listener = [{address = \"[::1]:1\", transport = \"tcp\", endpoint = \"/kim\", framing = \"u16\"}]\n",
        "listener = [{address = \"[::1]:1\"}, {address = \"[::1]:1\"}]\n",
        "endpoint = [{path = \"ws\", dialect = \"raw\"}]\nlistener = [{address = \"[::1]:1\", transport = \"tcp\", endpoint = \"/ws\"}]\n",
        "endpoint = [{path = \"/ws\", dialect = \"raw\"}]\nlistener = [{address = \"[::1]:1\", transport = \"tcp\", endpoint = \"/kim\"}]\n",
        "endpoint = [{path = \"/ws\", dialect = \"jsn\", json = {request_id = \"n\"}}]\n",
        "endpoint = [{path = \"/ws\", dialect = \"raw\", json = {request_id = \"n\"}}]\n",
        "endpoint = [{path = \"/ws\", dialect = \"raw\", max_message = \"2MiB\"}]\n",
        "endpoint = [{path = \"/{a}\", dialect = \"raw\"}, {path = \"/{b}\", dialect = \"raw\"}]\n",
        "endpoint = {path = \"/ws\", dialect = \"raw\"}\n",
        "limits = 3\n",
        "endpoint = [{path = \"/ws\", dialect = \"json\", json = {request_id = \"body\"}}]\n",
        "endpoint = [{path = \"/ws\", dialect = \"json\", also = [\"hub\", \"hub\"]}]\n",
        "endpoint = [{path = \"/ws\", dialect = \"json\", origins = [\"*\", \"same-host\"]}]\n",
        "endpoint = [{path = \"/{a}\", dialect = \"json\", join = [\"{b}\"]}]\n",
        "room = [{pattern = \"a\"}, {pattern = \"a\"}]\n",
        "room = [{pattern = \"a\", max_members = 0}]\n",
        "room = [{pattern = \"a\", events = \"yes\"}]\n",
        "room = [{pattern = \"a\", clock = \"49ms\"}]\n",
        "room = [{pattern = \"a\", clock = \"25h\"}]\n",
        "limits.bandwidth_bytes_per_s = 1\n",
        "endpoint = [{path = \"/\", dialect = \"raw\", messages_per_s = 0, messages_burst = 9}]\n",
        "endpoint = [{path = \"/\", dialect = \"raw\", over_limit = \"close\"}]\n",
        "endpoint = [{path = \"/\", dialect = \"raw\", full_status = 404}]\n",
        "endpoint = [{path = \"/\", dialect = \"raw\", max_connections = 1, full_status = 200}]\n",
        "endpoint = [{path = \"/\", dialect = \"raw\", bytes_per_s = 64, bytes_burst = 3841}]\n",
    ] {
        let told = mistakes(text);
        assert_eq!(told.lines().count(), 1, "{text}{told}");
        assert!(told.starts_with("gateway.toml:"), "{text}{told}");
    }
}

/// Whatever is cut off, left out or doubled, there is an answer.
#[test]
fn no_text_makes_it_fail() {
    let cut = (0..=WHOLE.len()).filter_map(|at| WHOLE.get(..at)).map(ToOwned::to_owned);
    let lines: Vec<&str> = WHOLE.lines().collect();
    let without = (0..lines.len()).map(|n| [&lines[..n], &lines[n + 1..]].concat().join("\n"));
    let doubled = (0..lines.len()).map(|n| [&lines[..=n], &lines[n..]].concat().join("\n"));
    let swapped = (0..lines.len() - 1).map(|n| {
        let value = |line: &str| line.split_once('=').map_or("3", |(_, value)| value).to_owned();
        let (key, _) = lines[n].split_once('=').unwrap_or((lines[n], ""));
        let line = format!("{key} = {}", value(lines[n + 1]));
        [&lines[..n], &[line.as_str()], &lines[n + 1..]].concat().join("\n")
    });
    let file = File::new("");
    let cli = file.cli(&[]);
    let mut refused = 0;
    for text in cut.chain(without).chain(doubled).chain(swapped) {
        // Writing over a file waits for the disk; a new one does not.
        fs::remove_file(file.path()).expect("the last one");
        fs::write(file.path(), &text).expect("a file");
        let Err(problems) = resolve(&cli, &machine()) else { continue };
        refused += 1;
        for problem in problems {
            let told = problem.to_string();
            let place = problem.place.as_ref().unwrap_or_else(|| panic!("{told} in {text}"));
            assert!(place.line as usize <= text.lines().count() + 1, "{told} in {text}");
            assert!(!problem.what.is_empty() && !problem.fix.is_empty(), "{told} in {text}");
        }
    }
    assert!(refused > 500, "{refused}");
}

#[test]
fn a_misspelt_key_or_word_is_answered_with_the_right_one() {
    for (text, meant) in [
        ("timeouts.handshake_timout = 1", "did you mean `handshake_timeout`?"),
        ("limit.max_message = 1", "did you mean `limits`?"),
        ("handshake_timeout = 1", "`handshake_timeout` stands in [timeouts]"),
        ("limits.idle_timeout = 1", "`idle_timeout` stands in [timeouts]"),
        ("listen = \"[::1]:1\"", "did you mean `listener`?"),
        ("capacity.fd-table = \"auto\"", "did you mean `fd_table`?"),
        ("endpoint = [{path = \"/\", dialect = \"evnt\"}]", "did you mean `event`?"),
        ("endpoint = [{path = \"/\", dialect = \"raw\", rote = []}]", "did you mean `route`?"),
        (
            "endpoint = [{path = \"/\", dialect = \"raw\", route = [{key = \"a\", handler = \"ecko\"}]}]",
            "did you mean `echo`?",
        ),
        ("limits.zzz = 1", "[limits] has max_header, max_message"),
    ] {
        let told = mistakes(text);
        assert!(told.contains(meant), "{text}: {told}");
        assert_eq!(told.lines().count(), 1, "{text}: {told}");
    }
}
