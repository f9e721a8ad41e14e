//! What time does to a connection.

mod support;

use serde_json::Value;

use support::Gateway;
use support::client::{BINARY, CLOSE, CONTINUATION, Client, close_frame, fragment, frame, request};

#[test]
fn a_message_that_is_cut_short_does_not_hide_the_close() {
    let mut gateway = Gateway::start(&["--message-timeout", "200ms", "--close-timeout", "1m"]);
    let mut client = Client::echo(gateway.addr);
    // The second half would be no frame, if it were taken for one.
    let message = frame(BINARY, &[0xa5; 1_000]);
    let (first, second) = message.split_at(500);
    client.send(first);
    client.expect_close(1008);
    let before = bytes_in(&gateway.stats());
    client.send(second);
    let read = |stats: &Value| bytes_in(stats) == before + second.len() as u64;
    let stats = gateway.stats_until("the second half read", read);
    assert_eq!(stats["totals"]["open"], 1, "it waits for the peer's Close");
    client.send(&close_frame(1008));
    client.expect_end();
    let stats = gateway.stats_until("it gone", |stats| stats["totals"]["open"] == 0);
    assert_eq!(stats["closes"]["message_timeout"], 1);
}

fn bytes_in(stats: &Value) -> u64 {
    stats["totals"]["bytes_in"].as_u64().unwrap()
}
