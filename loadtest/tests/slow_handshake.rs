//! `slow-handshake`: what drips is ended by the gateway's deadline and counted on both sides; the
//! probes beside it are verified; a server that takes half a request for a whole one is found.

mod conns;

use std::time::Duration;

use conns::{Mood, gateway, help, loadtest, refused, serve, stopped, sum};

#[test]
fn the_counts_of_both_sides_add_up() {
    let gateway = gateway(Duration::from_millis(300));
    let address = gateway.addresses()[0];
    let arguments =
        "slow-handshake -c 30 --drip 100ms --duration 1500ms --probe-rate 40 --threads 2";
    let run = loadtest(arguments, address);
    assert_eq!(run.code, Some(0), "{}", run.text);
    let count = |what: &str| run.count(&format!("/slow_handshake/{what}"));
    let (opened, ended) = (count("opened"), count("ended_by_server"));
    assert_eq!(opened, ended + count("still_open"), "{}", run.text);
    assert!(ended >= 30, "the deadline passed several times: {}", run.text);
    assert_eq!(count("ended_after_us/count"), ended);
    assert_eq!(sum(&run.json["slow_handshake"]["ends"]), ended);
    let probes = count("probes/begun");
    assert_eq!(probes + count("probes/missed"), 60);
    assert_eq!(count("probes/verified"), probes);
    assert_eq!(run.count("/close/clean"), probes);
    let stats = stopped(gateway);
    assert_eq!(stats["totals"]["opened"], probes);
    assert_eq!(sum(&stats["closes"]), probes);
    assert_eq!(stats["totals"]["accepted"], probes + opened);
    assert_eq!(sum(&stats["refusals"]), opened, "{stats}");
}

#[test]
fn answers_are_counted_by_status() {
    let gateway = gateway(Duration::from_millis(200));
    let arguments = "slow-handshake -c 5 --drip 50ms --duration 1s --probe-rate 5";
    let run = loadtest(arguments, gateway.addresses()[0]);
    assert_eq!(run.code, Some(0), "{}", run.text);
    assert!(run.count("/slow_handshake/ends/HTTP 408") > 0, "{}", run.text);
}

#[test]
fn a_request_without_end_is_ended_by_its_length() {
    let gateway = gateway(Duration::from_secs(60));
    let arguments = "slow-handshake -c 2 --drip 10ms --chunk 8KiB --duration 1s --probe-rate 5";
    let run = loadtest(arguments, gateway.addresses()[0]);
    assert_eq!(run.code, Some(0), "{}", run.text);
    assert!(run.count("/slow_handshake/ends/HTTP 431") > 0, "{}", run.text);
}

#[test]
fn an_answer_to_half_a_request_is_found() {
    let arguments = "slow-handshake -c 3 --drip 10ms --chunk 40 --duration 300ms --probe-rate 5 --timeout 300ms";
    let run = loadtest(arguments, serve(Mood::Hasty));
    assert_eq!(run.code, Some(1), "{}", run.text);
    assert!(sum(&run.json["slow_handshake"]["wrong"]) > 0, "{}", run.text);
}

#[test]
fn what_goes_wrong_for_a_probe_is_found() {
    for (mood, part, kind) in [
        (Mood::Refusing(0), "/connect/refused", "HTTP 503"),
        (Mood::Mispinging(0), "/hold/lost", "pong with another payload"),
    ] {
        // The dripping client comes first and stays; of the probes behind it each third has trouble.
        let arguments = "slow-handshake -c 1 --drip 1h --duration 300ms --probe-rate 40";
        let run = loadtest(arguments, serve(mood));
        assert_eq!(run.code, Some(1), "{}", run.text);
        let trouble = run.count(&format!("{part}/{kind}"));
        let probes = run.count("/slow_handshake/probes/begun");
        assert_eq!(run.count("/slow_handshake/probes/verified") + trouble, probes);
        assert_eq!(run.count("/slow_handshake/still_open"), 1);
    }
}

#[test]
fn bad_arguments_are_named() {
    assert!(help("slow-handshake").contains("Example"));
    for (arguments, flag) in [
        ("slow-handshake --url ws://127.0.0.1:1/ --drip 0", "--drip"),
        ("slow-handshake --url ws://127.0.0.1:1/ --chunk 0", "--chunk"),
        ("slow-handshake --url ws://127.0.0.1:1/ --probe-rate x", "--probe-rate"),
    ] {
        assert!(refused(arguments).contains(flag), "{arguments}");
    }
}
