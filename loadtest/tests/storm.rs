//! `storm`: all come back and are counted on both sides, however they vanished; those who do not
//! come back are found.

mod conns;

use std::time::Duration;

use conns::{Mood, gateway, help, loadtest, program, refused, serve, stopped, sum};
use tidegate::{Dialect, Endpoint, Identity, Running, SessionPolicy, routing::IdentitySource};

const PATIENT: Duration = Duration::from_secs(10);

#[test]
fn all_come_back_however_they_vanished() {
    for (vanish, threads) in [("rst", 3), ("fin", 1), ("close", 2)] {
        let gateway = gateway(PATIENT);
        let arguments = format!(
            "storm -c 60 --share 50% --stay 5 --times 2 --pause 300ms --rate 200 --vanish {vanish} \
             --threads {threads}"
        );
        let run = loadtest(&arguments, gateway.addresses()[0]);
        assert_eq!(run.code, Some(0), "{}", run.text);
        assert_eq!(run.count("/connect/connected"), 65 + 2 * 30);
        let closed = if vanish == "close" { 125 } else { 65 };
        assert_eq!(run.count("/close/clean"), closed, "{vanish}: {}", run.text);
        let pings = run.count("/storm/pings");
        let mut measured = run.count("/storm/storms/0/before_us/count");
        for storm in 0..2 {
            let count = |what: &str| run.count(&format!("/storm/storms/{storm}/{what}"));
            assert_eq!((count("vanished"), count("back"), count("failed")), (30, 30, 0));
            assert_eq!(count("handshake_us/count"), 30);
            measured += count("during_us/count") + count("after_us/count");
        }
        assert_eq!(measured, pings, "{}", run.text);
        assert_eq!(run.count("/main/latency_us/count"), pings, "the main latency is theirs");
        let stats = stopped(gateway);
        assert_eq!(stats["totals"]["opened"], 125);
        assert_eq!(sum(&stats["closes"]), 125);
        assert_eq!(stats["totals"]["pings_in"], 125 + pings);
    }
}

#[test]
fn few_closes_at_once_are_enough() {
    let gateway = gateway(PATIENT);
    let arguments = "storm -c 40 --stay 2 --pause 200ms --vanish close --max-connecting 4 \
                     --threads 2 --times 2";
    let run = loadtest(arguments, gateway.addresses()[0]);
    assert_eq!(run.code, Some(0), "{}", run.text);
    assert_eq!(run.count("/storm/storms/1/vanished"), 40);
    assert_eq!(run.count("/storm/storms/1/back"), 40);
}

#[test]
fn each_storm_can_be_held_against_conditions() {
    let gateway = gateway(PATIENT);
    let common = "storm -c 6 --stay 2 --pause 200ms --times 2";
    for (condition, code) in [("storm.storms.1.back<6", 0), ("storm.storms.1.back>5", 1)] {
        let arguments = format!("{common} --fail-if {condition}");
        let run = loadtest(&arguments, gateway.addresses()[0]);
        assert_eq!(run.code, Some(code), "{}", run.text);
    }
    let none = format!("{common} --url ws://127.0.0.1:1/ --fail-if storm.storms.2.back<6");
    assert!(refused(&none).contains("storm.storms.2.back"));
}

#[test]
fn they_may_come_back_one_by_one() {
    let gateway = gateway(PATIENT);
    let arguments = "storm -c 40 --stay 2 --pause 200ms --backoff 400ms";
    let run = loadtest(arguments, gateway.addresses()[0]);
    assert_eq!(run.code, Some(0), "{}", run.text);
    assert_eq!(run.count("/storm/storms/0/back"), 40);
    // The last of forty comes back in the first tenth of its time once in 10^40 storms.
    let seconds = run.json["storm"]["storms"][0]["all_back_seconds"].as_f64().unwrap();
    assert!(seconds > 0.04, "{}", run.text);
}

#[test]
fn those_who_are_refused_are_found() {
    let arguments = "storm -c 12 --stay 3 --pause 200ms --times 2";
    let run = loadtest(arguments, serve(Mood::Refusing(15)));
    assert_eq!(run.code, Some(1), "{}", run.text);
    for storm in 0..2 {
        let count = |what: &str| run.count(&format!("/storm/storms/{storm}/{what}"));
        assert_eq!((count("vanished"), count("back"), count("failed")), (12, 8, 4));
    }
    assert_eq!(run.count("/connect/refused/HTTP 503"), 8);
    assert!(run.text.contains("4 failed to come back"), "{}", run.text);
}

#[test]
fn wrong_and_missing_pongs_are_found() {
    for (mood, kind, failed) in [
        (Mood::Mispinging(9), "pong with another payload", 2),
        (Mood::Mute(9), "timeout: no pong", 6),
    ] {
        let arguments = "storm -c 6 --stay 3 --pause 200ms --timeout 400ms";
        let run = loadtest(arguments, serve(mood));
        assert_eq!(run.code, Some(1), "{}", run.text);
        assert_eq!(run.count("/storm/storms/0/failed"), failed, "{}", run.text);
        assert_eq!(run.count(&format!("/hold/lost/{kind}")), failed);
    }
}

#[test]
fn stayers_that_get_no_answer_are_found() {
    // Three of them were opened last: numbers 6, 7 and 8 of this server.
    let arguments = "storm -c 6 --stay 3 --pause 300ms --rate 30 --timeout 400ms";
    let run = loadtest(arguments, serve(Mood::Mute(6)));
    assert_eq!(run.code, Some(1), "{}", run.text);
    assert!(run.count("/storm/unanswered") > 0, "{}", run.text);
}

/// A gateway on which each user's connections at `/echo` are under a policy.
fn with_sessions(policy: SessionPolicy, workers: usize) -> Running {
    let id = vec!["query.user".parse().unwrap()];
    let source = IdentitySource { id, ..IdentitySource::default() };
    tidegate::Gateway::builder()
        .listen(([127, 0, 0, 1], 0))
        .endpoint(Endpoint::echo("/echo").identified_by(source).session(policy))
        .configure(|config| (config.loops, config.workers) = (2, workers))
        .start()
        .unwrap()
}

#[test]
fn identities_come_back_and_have_one_connection_each() {
    for (workers, threads) in [(0, 1), (2, 3)] {
        let gateway = with_sessions(SessionPolicy::Displace, workers);
        let arguments = format!(
            "storm -c 60 --stay 5 --times 5 --pause 200ms --rate 100 --threads {threads} --login \
             --vanish rst,fin,close,half,stay --twins 50%"
        );
        let run = loadtest(&arguments, gateway.addresses()[0]);
        assert_eq!(run.code, Some(0), "{}", run.text);
        let count = |what: &str| run.count(&format!("/storm/sessions/{what}"));
        assert_eq!((count("identities"), count("one")), (65, 65), "{}", run.text);
        assert_eq!((count("none"), count("several")), (0, 0), "{}", run.text);
        // One in five stays in each storm.
        assert!(count("displaced") >= 60, "{}", run.text);
        assert_eq!(run.json["storm"]["vanish"], "rst,fin,close,half,stay");
        assert_eq!(run.json["storm"]["sessions"].get("server"), None);
        let stats = stopped(gateway);
        assert!(stats["closes"]["displaced"].as_u64() >= Some(60), "{stats}");
        assert_eq!(stats["worker_totals"]["logins"], 0, "{stats}");
    }
}

#[test]
fn identities_log_in_by_packets_too() {
    let kim = Endpoint::new("/kim", Dialect::Kim).session(SessionPolicy::Displace);
    let kim = kim.route("login.signin", |ctx, message| {
        // The token's claims, between its dots; whether it is signed well is not this test's matter.
        let claims = message.body.as_bytes().split(|byte| *byte == b'.').nth(1).unwrap();
        ctx.login(Identity::new(std::str::from_utf8(claims).unwrap()).unwrap()).unwrap();
    });
    let builder = tidegate::Gateway::builder().listen(([127, 0, 0, 1], 0)).endpoint(kim);
    let gateway = builder.configure(|config| config.loops = 2).start().unwrap();
    let url = format!("ws://{}/kim", gateway.addresses()[0]);
    let arguments = "storm -c 30 --stay 3 --times 3 --pause 200ms --dialect kim --login \
                     --login-secret s --vanish stay,rst --twins 50%";
    let run = program(arguments, &url);
    assert_eq!(run.code, Some(0), "{}", run.text);
    assert_eq!(run.count("/storm/sessions/one"), 33, "{}", run.text);
    stopped(gateway);
}

#[test]
fn identities_that_keep_several_connections_are_found() {
    let gateway = with_sessions(SessionPolicy::Allow, 2);
    let arguments = "storm -c 20 --stay 2 --pause 200ms --timeout 1s --login --vanish stay,rst";
    let run = loadtest(arguments, gateway.addresses()[0]);
    assert_eq!(run.code, Some(1), "{}", run.text);
    let count = |what: &str| run.count(&format!("/storm/sessions/{what}"));
    assert_eq!((count("one"), count("several"), count("none")), (12, 10, 0), "{}", run.text);
    assert_eq!(run.count("/storm/storms/0/failed"), 10);
    assert!(run.text.contains("10 with several"), "{}", run.text);
}

#[test]
fn identities_that_are_refused_are_found() {
    let gateway = with_sessions(SessionPolicy::Reject, 0);
    let arguments = "storm -c 20 --stay 2 --pause 200ms --timeout 1s --login --vanish stay";
    let run = loadtest(arguments, gateway.addresses()[0]);
    assert_eq!(run.code, Some(1), "{}", run.text);
    assert_eq!(run.count("/connect/refused/HTTP 409"), 20, "{}", run.text);
    assert_eq!(run.count("/storm/storms/0/failed"), 20);
}

#[test]
fn identities_that_have_no_connection_left_are_found() {
    // One that answers no pings is lost in the last look, if not before.
    let arguments = "storm -c 6 --stay 3 --pause 200ms --timeout 400ms --login";
    let run = loadtest(arguments, serve(Mood::Mute(9)));
    assert_eq!(run.code, Some(1), "{}", run.text);
    assert_eq!(run.count("/storm/sessions/none"), 6, "{}", run.text);
}

#[test]
fn bad_arguments_are_named() {
    assert!(help("storm").contains("Example"));
    for (arguments, flag) in [
        ("storm --url ws://127.0.0.1:1/ --times 0", "--times"),
        ("storm --url ws://127.0.0.1:1/ --times 101", "--times"),
        ("storm --url ws://127.0.0.1:1/ --share 0%", "--share"),
        ("storm --url ws://127.0.0.1:1/ --vanish x", "--vanish"),
        ("storm --url ws://127.0.0.1:1/ --pause 0", "--pause"),
        ("storm --url ws://127.0.0.1:1/ --vanish rst,stay", "--login"),
        ("storm --url ws://127.0.0.1:1/ --twins 1%", "--login"),
        ("storm --url ws://127.0.0.1:1/ --login --server-stats x", "--server-pid"),
        ("storm --url ws://127.0.0.1:1/ --server-pid 1 --server-stats x", "--login"),
    ] {
        assert!(refused(arguments).contains(flag), "{arguments}");
    }
}
