//! Compression, against the gateway.

use tidegate::client::{Client, Options};
use tidegate::protocol::deflate::{DeflateMode, DeflateSettings};
use tidegate::{Gateway, Running};

use crate::servers::{Server, echo};
use crate::{Seen, next, watched};

fn gateway(mode: DeflateMode) -> Running {
    let configure = |config: &mut tidegate::Config| config.deflate.mode = mode;
    Gateway::builder().listen(([127, 0, 0, 1], 0)).configure(configure).start().unwrap()
}

/// Sends messages of many sizes and kinds, which have to come back.
fn echoes(url: &str, mode: DeflateMode) {
    let deflate = DeflateSettings { mode, threshold_bytes: 100, ..Default::default() };
    let mut options = Options::default();
    options.deflate = Some(deflate);
    let (options, seen) = watched(options);
    let client = Client::connect(url, options).unwrap();
    assert_eq!(next(&seen), Seen::Established);
    for n in [0, 1, 9, 10, 200, 200, 20_000] {
        let text = "compress me ".repeat(n);
        client.send_text(&text).unwrap();
        assert_eq!(next(&seen), Seen::Message(text.into_bytes()));
    }
    client.stop();
}

#[test]
fn messages_are_compressed_both_ways_where_both_want_it() {
    use DeflateMode::{Dedicated, Off, Shared};
    for server in [Off, Shared, Dedicated] {
        for own in [Off, Shared, Dedicated] {
            let running = gateway(server);
            echoes(&format!("ws://{}/echo", running.addresses()[0]), own);
            let stats = running.stats();
            let counts = ["deflate_agreed", "messages_inflated", "messages_deflated"]
                .map(|name| stats["totals"][name].as_u64().unwrap());
            // From a hundred bytes on this client compresses, and from 256 on the gateway.
            let expected = if server == Off || own == Off { [0, 0, 0] } else { [1, 5, 3] };
            assert_eq!(counts, expected, "{server:?}, {own:?}");
        }
    }
}

#[test]
fn a_server_need_not_agree() {
    let server = Server::one(echo);
    echoes(&server.url, DeflateMode::Shared);
    server.done();
}
