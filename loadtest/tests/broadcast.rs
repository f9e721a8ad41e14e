//! `broadcast`: nothing to find fault with on the gateway, and every fault of a faulty server found
//! and counted exactly.

mod room_server;

use room_server::{Mood, WORDS, gateway, interrupted, loadtest, refused, serve};
use serde_json::Value;

/// Twenty publishes to four members, on a server with a mood.
fn twenty(mood: Mood, arguments: &str) -> (i32, String, Value) {
    twenty_to(4, mood, arguments)
}

fn twenty_to(members: u32, mood: Mood, arguments: &str) -> (i32, String, Value) {
    let common = "--rate 100 --duration 200ms --timeout 1s --size 48";
    loadtest(&format!("broadcast -c {members} {common} {arguments}"), &WORDS, serve(mood))
}

/// Checks all counts that may be wrong: those named, and that the others are zero.
fn assert_counts(found: &(i32, String, Value), expected: &[(&str, u64)]) {
    let (code, text, json) = found;
    let counts = json["broadcast"]["deliveries"].as_object().expect(text);
    for (name, count) in
        counts.iter().filter(|(name, _)| !["expected", "right"].contains(&&***name))
    {
        let wanted = expected.iter().find(|(wanted, _)| wanted == name).map_or(0, |(_, n)| *n);
        assert_eq!(count.as_u64(), Some(wanted), "{name}: {text}");
    }
    let wrong = expected.iter().any(|(_, count)| *count > 0);
    assert_eq!(*code, i32::from(wrong), "{text}");
    assert_eq!(json["ok"], !wrong, "{text}");
}

#[test]
fn the_gateway_delivers_everything_in_one_order() {
    for workers in [0, 2] {
        let address = gateway(|config| config.workers = workers);
        for arguments in [
            "-c 40 --rooms 3 --publishers 7 --rate 300 --threads 3",
            "-c 40 --rooms 2 --publishers 4 --rate 300 --no-self --threads 2",
            "-c 30 --rooms 2 --in-flight 3 --size 2KiB",
            "-c 30 --publishers 3 --in-flight 2 --no-self --threads 2",
        ] {
            let arguments = format!("broadcast --duration 500ms {arguments}");
            let found = loadtest(&arguments, &[], address);
            assert_counts(&found, &[]);
            let (_, text, json) = found;
            let part = &json["broadcast"];
            assert!(part["publishes"].as_u64().unwrap() > 20, "{text}");
            assert_eq!(part["deliveries"]["right"], part["deliveries"]["expected"], "{text}");
            assert_eq!(part["delivery_us"]["count"], part["deliveries"]["expected"], "{text}");
            assert_eq!(part["join_us"]["count"], json["connections"], "{text}");
        }
    }
}

#[test]
fn a_fixed_rate_publishes_exactly_what_is_due() {
    let found = twenty(Mood::Good, "--publishers 3 --threads 2");
    assert_counts(&found, &[]);
    let part = &found.2["broadcast"];
    assert_eq!(part["publishes"], 20);
    assert_eq!(part["deliveries"]["expected"], 80);
    assert_eq!(part["send_lag_us"]["count"], 20);
}

#[test]
fn publishers_that_are_left_out_get_nothing_of_their_own() {
    // This server does send it to them.
    let found = twenty(Mood::Good, "--publishers 2 --no-self");
    assert_counts(&found, &[("foreign", 20)]);
    assert_eq!(found.2["broadcast"]["deliveries"]["expected"], 60, "{}", found.1);
}

#[test]
fn missing_deliveries_are_counted() {
    let found = twenty(Mood::Dropping, "");
    assert_counts(&found, &[("missing", 1)]);
    assert_eq!(found.2["broadcast"]["deliveries"]["right"], 79);
    assert!(found.1.contains("1 missing"), "{}", found.1);
    assert_counts(&twenty(Mood::DroppingForAll, ""), &[("missing", 4)]);
    assert_counts(&twenty(Mood::Dropping, "--rooms 2 --threads 2"), &[("missing", 2)]);
}

#[test]
fn a_closed_loop_goes_on_without_what_is_missing() {
    let arguments = "broadcast -c 4 --in-flight 2 --duration 2s --timeout 300ms";
    let found = loadtest(arguments, &WORDS, serve(Mood::Dropping));
    assert_counts(&found, &[("missing", 1)]);
    assert!(found.2["broadcast"]["publishes"].as_u64().unwrap() > 20, "{}", found.1);
}

#[test]
fn duplicates_are_counted_up_to_the_last() {
    assert_counts(&twenty(Mood::Duplicating, ""), &[("duplicate", 20)]);
}

#[test]
fn reordered_deliveries_are_counted() {
    // With two members it does not matter which of them is first.
    let one = [("reordered", 1), ("order_differences", 1)];
    assert_counts(&twenty_to(2, Mood::Reordering, ""), &one);
    assert_counts(&twenty(Mood::ReorderingForAll, ""), &[("reordered", 4)]);
}

#[test]
fn two_orders_in_one_room_are_a_difference() {
    for threads in ["1", "2"] {
        let arguments = format!("--publishers 2 --threads {threads}");
        let found = twenty_to(2, Mood::TwoOrders, &arguments);
        assert_counts(&found, &[("order_differences", 1)]);
    }
}

#[test]
fn changed_data_is_counted() {
    let found = twenty(Mood::Corrupting, "");
    assert_counts(&found, &[("corrupt", 1)]);
    assert_eq!(found.2["broadcast"]["deliveries"]["right"], 79);
    // How long a wrong delivery took says nothing.
    assert_eq!(found.2["broadcast"]["delivery_us"]["count"], 79, "{}", found.1);
}

#[test]
fn a_rate_is_held_against_all_deliveries() {
    let found = twenty(Mood::Good, "--publishers 3 --fail-if rate<1%");
    assert_counts(&found, &[]);
    // A hundred publishes a second, each to four members.
    assert_eq!(found.2["main"]["target_per_second"], 400.0, "{}", found.1);
    let main = &found.2["main"];
    let percent = main["per_second"].as_f64().unwrap() / 4.0;
    assert!((main["percent_of_target"].as_f64().unwrap() - percent).abs() < 1e-6, "{}", found.1);
}

#[test]
fn deliveries_that_do_not_come_make_the_rate_fall_short() {
    // One of twenty publishes comes to nobody.
    let (code, text, json) = twenty(Mood::DroppingForAll, "--fail-if rate<97%");
    assert_eq!(code, 1, "{text}");
    assert_eq!(json["failed_if"][0]["metric"], "main.percent_of_target", "{text}");
}

#[test]
fn deliveries_of_another_room_are_counted() {
    assert_counts(&twenty(Mood::Leaking, "--rooms 2 --publishers 1"), &[("foreign", 1)]);
}

#[test]
fn what_lost_members_did_not_get_is_missing() {
    let found = twenty(Mood::Ending, "");
    assert_counts(&found, &[("missing", 15)]);
    assert_eq!(found.2["hold"]["lost"]["end of stream without a close"], 1);
}

#[test]
fn joins_that_fail_are_counted_by_kind() {
    for (mood, kind) in
        [(Mood::Deaf, "timeout: no answer to a join"), (Mood::Refusing, "refused by the server")]
    {
        let (code, text, json) = twenty(mood, "");
        assert_eq!(code, 1, "{text}");
        assert_eq!(json["hold"]["lost"][kind], 1, "{text}");
        assert_eq!(json["broadcast"]["joined"], 3, "{text}");
    }
}

#[test]
fn a_server_that_does_not_answer_joins_is_pinged_instead() {
    let words = ["--join", "JOIN {room}", "--publish", "PUB {room} {data}"];
    let arguments = "broadcast -c 4 --rooms 2 --rate 100 --duration 200ms";
    let found = loadtest(arguments, &words, serve(Mood::Good));
    assert_counts(&found, &[]);
    assert_eq!(found.2["broadcast"]["deliveries"]["right"], 40);
}

#[test]
fn an_interrupted_run_still_accounts_for_every_delivery() {
    let address = gateway(|_| {});
    for pace in ["--rate 500", "--in-flight 2"] {
        let arguments = format!("broadcast -c 20 --publishers 2 --threads 2 --duration 1h {pace}");
        let (code, text) = interrupted(&arguments, "sent", address);
        assert_eq!(code, 1, "{text}");
        assert!(text.contains("FAILED (interrupted)"), "{text}");
        assert!(text.contains("closed       20 cleanly"), "{text}");
        let line = text.lines().find(|line| line.starts_with("  deliveries")).unwrap();
        let words: Vec<_> = line.split_whitespace().collect();
        let ["deliveries", right, "right", "of", expected, "expected"] = words[..] else {
            panic!("{line}");
        };
        assert_eq!(right, expected, "{text}");
    }
}

#[test]
fn bad_arguments_name_the_flag() {
    for (arguments, flag) in [
        (&["broadcast", "--size", "39"] as &[&str], "--size 39"),
        (&["broadcast", "-c", "5", "--rooms", "6"], "--rooms 6"),
        (&["broadcast", "-c", "5", "--publishers", "6"], "--publishers 6"),
        (&["broadcast", "--rate", "5", "--in-flight", "2"], "--in-flight"),
        (&["broadcast", "--publish", "x"], "--publish"),
        (&["broadcast", "--rooms", "2", "--join", "", "--publish", "{data}"], "--rooms 2"),
        (&["broadcast", "--room-prefix", "\""], "--room-prefix"),
        (&["broadcast", "-c", "100000", "--publishers", "100000"], "--publishers 100000"),
    ] {
        let (code, text) = refused(arguments);
        assert_eq!(code, Some(2), "{arguments:?}: {text}");
        assert!(text.contains(flag), "{arguments:?}: {text}");
    }
}
