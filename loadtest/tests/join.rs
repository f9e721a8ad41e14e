//! `connect --rooms`: connections that are in rooms, many or few, while they are held.

mod room_server;

use room_server::{gateway, interrupted, loadtest, refused};

#[test]
fn each_connection_joins_its_rooms() {
    for workers in [0, 2] {
        let address = gateway(|config| config.workers = workers);
        let arguments = "connect -c 60 --threads 3 --hold 100ms --join-after 50ms --dialect json \
                         --rooms 200 --rooms-per-connection 50";
        let (code, text, json) = loadtest(arguments, &[], address);
        assert_eq!(code, 0, "{text}");
        assert_eq!(json["verify"]["joined"], 3000);
        assert_eq!(json["verify"]["verified"], 60);
        assert_eq!(json["close"]["clean"], 60);
        assert!(text.contains("joined       3,000, 50 a connection, of 200 rooms"), "{text}");
    }
}

#[test]
fn a_refused_join_fails_the_run() {
    let arguments = "connect -c 2 --hold 0 --dialect json --rooms 1025 --rooms-per-connection 1025";
    let (code, text, json) = loadtest(arguments, &[], gateway(|_| {}));
    assert_eq!(code, 1, "{text}");
    assert_eq!(json["verify"]["joined"], 2 * 1024);
    assert_eq!(json["hold"]["lost"]["refused by the server"], 2, "{text}");
}

#[test]
fn rooms_that_cannot_be_are_named() {
    for (arguments, named) in [
        ("connect --rooms 5", "--dialect raw has no rooms"),
        ("connect --dialect json --rooms 5 --rooms-per-connection 6", "there are only 5 rooms"),
    ] {
        let (code, text) = refused(&arguments.split(' ').collect::<Vec<_>>());
        assert_eq!(code, Some(2), "{text}");
        assert!(text.contains(named), "{text}");
    }
}

#[test]
fn an_interrupted_hold_ends_in_order() {
    let arguments = "connect -c 10 --threads 2 --hold 1h --dialect json --rooms 5";
    let (code, text) = interrupted(arguments, "open 10 of 10", gateway(|_| {}));
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("closed       10 cleanly"), "{text}");
}
