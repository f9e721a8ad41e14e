//! `scale`: the whole course, and what goes wrong in each of its stages.

mod room_server;

use room_server::{Mood, WORDS, gateway, interrupted, loadtest, refused, serve};

const ECHO: [&str; 2] = ["--echo", "ECHO {data}"];

#[test]
fn the_course_is_followed_to_its_end() {
    for workers in [0, 2] {
        let address = gateway(|config| config.workers = workers);
        let arguments = "scale -c 200 --hold 100ms --threads 3 --echo-sample 5% --echoes 4 \
                         --room-members 50 --max-pinging 7";
        for words in [&[] as &[&str], &["--no-self"]] {
            let (code, text, json) = loadtest(arguments, words, address);
            assert_eq!(code, 0, "{text}");
            let scale = &json["scale"];
            let deliveries = 50 - words.len();
            assert_eq!(scale["ping"]["right"], 200);
            assert_eq!(scale["echo"]["right"], 40);
            assert_eq!(scale["join"]["right"], 50);
            assert_eq!(scale["broadcast"]["right"], deliveries);
            assert_eq!(scale["broadcast"]["latency_us"]["count"], deliveries);
            assert_eq!(scale["publishes"], 1);
            assert_eq!(json["close"]["clean"], 200);
        }
    }
}

#[test]
fn the_sample_and_the_room_may_be_empty() {
    let arguments = "scale -c 5 --hold 0 --echo-sample 0 --room-members 0%";
    let (code, text, json) = loadtest(arguments, &[], gateway(|_| {}));
    assert_eq!(code, 0, "{text}");
    assert_eq!(json["scale"]["ping"]["right"], 5);
    assert_eq!(json["scale"]["publishes"], 0);
}

#[test]
fn wrong_echoes_fail_the_run() {
    let words = [&WORDS[..], &ECHO].concat();
    let arguments = "scale -c 4 --hold 0 --echo-sample 2 --echoes 3 --room-members 2 --timeout 1s";
    let (code, text, json) = loadtest(arguments, &words, serve(Mood::Good));
    assert_eq!(code, 0, "{text}");
    assert_eq!(json["scale"]["echo"]["right"], 6);
    let (code, text, json) = loadtest(arguments, &words, serve(Mood::Misechoing));
    assert_eq!(code, 1, "{text}");
    assert_eq!(json["scale"]["echo"]["right"], 0);
    // Each waits for its first echo, in vain.
    assert_eq!(json["hold"]["lost"]["timeout: no answer"], 2, "{text}");
}

#[test]
fn a_second_delivery_fails_the_run() {
    let words = [&WORDS[..], &ECHO].concat();
    let arguments = "scale -c 6 --hold 0 --echo-sample 0 --room-members 4 --threads 2";
    let (code, text, json) = loadtest(arguments, &words, serve(Mood::Duplicating));
    assert_eq!(code, 1, "{text}");
    assert_eq!(json["scale"]["broadcast"]["right"], 4);
    assert_eq!(json["scale"]["duplicate"], 1, "{text}");
}

#[test]
fn joins_that_are_not_answered_fail_the_run() {
    let words = [&WORDS[..], &ECHO].concat();
    let arguments = "scale -c 6 --hold 0 --echo-sample 0 --room-members 4 --timeout 500ms";
    let (code, text, json) = loadtest(arguments, &words, serve(Mood::Refusing));
    assert_eq!(code, 1, "{text}");
    assert_eq!(json["scale"]["join"]["right"], 3);
    assert_eq!(json["hold"]["lost"]["refused by the server"], 1, "{text}");
}

#[test]
fn an_interrupted_hold_ends_in_order() {
    let arguments = "scale -c 10 --threads 2 --hold 1h";
    let (code, text) = interrupted(arguments, "open 10 of 10", gateway(|_| {}));
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("FAILED (interrupted)"), "{text}");
    assert!(text.contains("closed       10 cleanly"), "{text}");
}

#[test]
fn bad_arguments_name_the_flag() {
    for (flag, value) in [
        ("--echo-sample", "11"),
        ("--room-members", "11"),
        ("--size", "39"),
        ("--echo", "nothing"),
        ("--max-pinging", "0"),
    ] {
        let (code, text) = refused(&["scale", "-c", "10", flag, value]);
        assert_eq!(code, Some(2), "{text}");
        assert!(text.contains(flag), "{text}");
    }
}
