//! `stall`: the members that read miss nothing, and what becomes of those that do not is told.

mod room_server;

use tidegate::config::RoomConfig;
use tidegate::{Outbound, OverflowPolicy};

use room_server::{Mood, WORDS, gateway, loadtest, refused, serve};

#[test]
fn members_that_stall_are_left_out_and_read_again_at_the_end() {
    let address = gateway(|_| {});
    let arguments = "stall -c 40 --stalled 10% --rooms 2 --rate 200 --duration 500ms --threads 2";
    let (code, text, json) = loadtest(arguments, &[], address);
    assert_eq!(code, 0, "{text}");
    let stall = &json["stall"];
    assert_eq!(stall["stalled"], 4);
    assert_eq!(stall["open_at_end"], 4);
    assert_eq!(stall["closed_by_server"], 0);
    assert_eq!(json["close"]["clean"], 40);
    // The seed chooses who stalls, and so how many read in each of the rooms.
    assert_eq!(stall["deliveries"]["right"], 1800, "{text}");
    assert_eq!(stall["piled_up"], 200, "{text}");
    let dropped = ["trimmed", "dropped", "wrong"].map(|what| stall[what].as_u64());
    assert_eq!(dropped, [Some(0); 3], "{text}");
    assert_eq!(stall["delivery_us"]["count"], 1800);
}

#[test]
fn members_that_the_server_closes_are_no_error() {
    let address = gateway(|config| config.outbound_limit_bytes = 1024 * 1024);
    // More than all the buffers of the kernel between the two take.
    let arguments =
        "stall -c 10 --stalled 2 --rate 200 --size 32KiB --duration 2s --receive-buffer 4KiB";
    let (code, text, json) = loadtest(arguments, &[], address);
    assert_eq!(code, 0, "{text}");
    assert_eq!(json["stall"]["stalled"], 2);
    assert_eq!(json["stall"]["closed_by_server"], 2, "{text}");
    assert_eq!(json["stall"]["open_at_end"], 0);
    assert_eq!(json["close"]["clean"], 8);
    assert_eq!(json["stall"]["deliveries"]["right"], 8 * 400, "{text}");
}

#[test]
fn what_the_server_drops_is_counted() {
    let address = gateway(|config| {
        config.rooms = vec![RoomConfig {
            pattern: "*".to_owned(),
            join: None,
            publish: None,
            max_members: None,
            events: false,
            clock: None,
            outbound: Outbound::new(OverflowPolicy::DropOldest).budget(256 * 1024),
        }];
    });
    // More than all the buffers of the kernel between the two take.
    let arguments =
        "stall -c 10 --stalled 2 --rate 200 --size 32KiB --duration 2s --receive-buffer 4KiB";
    let (code, text, json) = loadtest(arguments, &[], address);
    assert_eq!(code, 0, "{text}");
    let stall = &json["stall"];
    assert_eq!((&stall["open_at_end"], &stall["trimmed"]), (&2.into(), &2.into()), "{text}");
    let [piled_up, dropped] = ["piled_up", "dropped"].map(|what| stall[what].as_u64().unwrap());
    assert!(dropped > 0 && piled_up + dropped == 2 * 400, "{text}");
    assert_eq!((&stall["wrong"], &stall["deliveries"]["right"]), (&0.into(), &3200.into()));
}

#[test]
fn what_the_others_miss_fails_the_run() {
    let arguments = "stall -c 6 --stalled 1 --rate 100 --duration 200ms --timeout 1s";
    let (code, text, json) = loadtest(arguments, &WORDS, serve(Mood::DroppingForAll));
    assert_eq!(code, 1, "{text}");
    assert_eq!(json["stall"]["deliveries"]["missing"], 5, "{text}");
    assert_eq!(json["stall"]["deliveries"]["right"], 95, "{text}");
}

#[test]
fn bad_arguments_name_the_flag() {
    for stalled in ["10", "91%", "x", "101%"] {
        let (code, text) = refused(&["stall", "-c", "10", "--stalled", stalled]);
        assert_eq!(code, Some(2), "{text}");
        assert!(text.contains("--stalled"), "{text}");
    }
}
