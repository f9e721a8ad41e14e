//! `churn`: every replacement is made, verified and counted on both sides; what a server does wrong
//! to one of them is found.

mod conns;

use std::time::Duration;

use conns::{Mood, gateway, help, loadtest, refused, serve, stopped, sum};

const PATIENT: Duration = Duration::from_secs(10);

#[test]
fn the_counts_of_both_sides_add_up() {
    let gateway = gateway(PATIENT);
    let address = gateway.addresses()[0];
    let arguments = "churn -c 50 --rate 200 --duration 1s --abort 25% --threads 2";
    let run = loadtest(arguments, address);
    assert_eq!(run.code, Some(0), "{}", run.text);
    let (begun, aborts) = (run.count("/churn/begun"), run.count("/churn/aborts"));
    assert_eq!(begun + run.count("/churn/missed"), 200);
    assert_eq!(run.count("/churn/due"), 200);
    assert_eq!(run.count("/churn/verified"), begun);
    assert_eq!(run.count("/churn/closes") + aborts, begun);
    assert_eq!(run.count("/churn/handshake_us/count"), begun);
    assert_eq!(run.count("/churn/usable_us/count"), begun);
    assert_eq!(run.count("/churn/close_us/count"), run.count("/churn/closes"));
    assert_eq!(run.count("/connect/connected"), 50 + begun);
    assert_eq!(run.count("/close/clean"), 50 + begun - aborts);
    assert!(aborts > 0, "{}", run.text);
    let stats = stopped(gateway);
    assert_eq!(stats["totals"]["opened"], 50 + begun);
    assert_eq!(stats["totals"]["pings_in"], 50 + begun);
    assert_eq!(sum(&stats["closes"]), 50 + begun);
    assert_eq!(sum(&stats["refusals"]), 0, "{stats}");
}

#[test]
fn which_leave_by_a_reset_follows_from_the_seed() {
    let aborts = |seed: u64| {
        let gateway = gateway(PATIENT);
        let arguments =
            format!("churn -c 20 --rate 300 --duration 500ms --abort 50% --seed {seed}");
        let run = loadtest(&arguments, gateway.addresses()[0]);
        assert_eq!(run.code, Some(0), "{}", run.text);
        (run.count("/churn/begun"), run.count("/churn/aborts"))
    };
    let (first, second) = (aborts(7), aborts(7));
    // A machine that stalls at the very end may leave some unbegun; then there is less to compare.
    assert!(first.0 != second.0 || first.1 == second.1, "{first:?} {second:?}");
}

#[test]
fn connections_stay_as_long_as_they_must() {
    let gateway = gateway(PATIENT);
    let arguments = "churn -c 4 --rate 100 --duration 500ms --stay 1h";
    let run = loadtest(arguments, gateway.addresses()[0]);
    assert_eq!(run.code, Some(0), "{}", run.text);
    assert_eq!((run.count("/churn/begun"), run.count("/churn/missed")), (0, 50));
    assert_eq!(stopped(gateway)["totals"]["opened"], 4);
}

#[test]
fn what_is_refused_is_found() {
    let run = loadtest("churn -c 9 --rate 100 --duration 300ms", serve(Mood::Refusing(9)));
    assert_eq!(run.code, Some(1), "{}", run.text);
    let refused = run.count("/connect/refused/HTTP 503");
    assert!(refused > 0, "{}", run.text);
    assert_eq!(run.count("/churn/begun"), run.count("/churn/verified") + refused);
}

#[test]
fn what_the_limits_keep_back_is_found() {
    // The first replacement is never answered, and no other may open beside it.
    let arguments =
        "churn -c 5 --rate 50 --duration 300ms --max-connecting 1 --threads 1 --timeout 2s";
    let run = loadtest(arguments, serve(Mood::Silent(5)));
    assert_eq!(run.code, Some(1), "{}", run.text);
    assert_eq!((run.count("/churn/begun"), run.count("/churn/missed_ripe")), (1, 14));
    assert!(run.text.contains("14 of them as too many were opening"), "{}", run.text);
}

#[test]
fn wrong_and_missing_pongs_are_found() {
    for (mood, kind) in
        [(Mood::Mispinging(5), "pong with another payload"), (Mood::Mute(5), "timeout: no pong")]
    {
        let arguments = "churn -c 5 --rate 50 --duration 300ms --timeout 500ms";
        let run = loadtest(arguments, serve(mood));
        assert_eq!(run.code, Some(1), "{}", run.text);
        let lost = run.count(&format!("/hold/lost/{kind}"));
        assert!(lost > 0, "{}", run.text);
        assert_eq!(run.count("/churn/begun"), run.count("/churn/verified") + lost);
    }
}

#[test]
fn bad_arguments_are_named() {
    assert!(help("churn").contains("Example"));
    for (arguments, flag) in [
        ("churn --url ws://127.0.0.1:1/ --rate 0", "--rate"),
        ("churn --url ws://127.0.0.1:1/ --abort 10", "--abort"),
        ("churn --url ws://127.0.0.1:1/ --duration 0", "--duration"),
        ("churn --url ws://127.0.0.1:1/ --threads 1 -c 19999999", "--threads"),
    ] {
        assert!(refused(arguments).contains(flag), "{arguments}");
    }
}
