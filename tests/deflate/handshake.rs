//! What is agreed.

use tidegate::protocol::deflate::DeflateMode::{self, Dedicated, Off, Shared};
use tidegate::{Accept, Endpoint, Gateway};

use crate::client::{Client, TEXT, request_with};
use crate::peer::Peer;
use crate::{OFFER, all, lines, start, start_with, total};

fn answer(mode: DeflateMode, offer: &str) -> Option<String> {
    let running = start(mode, 0);
    Peer::open(running.addresses()[0], "/echo", offer).answer
}

#[test]
fn offers_are_answered() {
    const SHARED: &str =
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
    let of = |mode, offer| answer(mode, offer);
    assert_eq!(of(Shared, OFFER).as_deref(), Some(SHARED));
    assert_eq!(of(Shared, "permessage-deflate").as_deref(), Some(SHARED));
    assert_eq!(of(Dedicated, OFFER).as_deref(), Some("permessage-deflate"));
    assert_eq!(of(Off, OFFER), None);
    assert_eq!(of(Shared, "x-webkit-deflate-frame"), None);
    let ten = format!("{SHARED}; server_max_window_bits=10");
    assert_eq!(of(Shared, "permessage-deflate; server_max_window_bits=10"), Some(ten));
}

#[test]
fn a_window_that_zlib_has_not_is_declined() {
    assert_eq!(answer(Shared, "permessage-deflate; server_max_window_bits=8"), None);
    // The second offer can be kept to.
    let two = "permessage-deflate; server_max_window_bits=8, permessage-deflate";
    assert!(answer(Shared, two).is_some());
}

#[test]
fn windows_are_as_configured() {
    let running = start_with(Dedicated, 0, |config| {
        (config.deflate.server_window_bits, config.deflate.client_window_bits) = (11, 10);
    });
    let mut peer = Peer::open(running.addresses()[0], "/echo", OFFER);
    let expected = "permessage-deflate; server_max_window_bits=11; client_max_window_bits=10";
    assert_eq!(peer.answer.as_deref(), Some(expected));
    peer.echoes(TEXT, b"short enough for any window");
}

#[test]
fn what_is_no_offer_is_a_bad_request() {
    let running = start(Shared, 0);
    for header in ["permessage-deflate; =", "permessage-deflate; a=\"", ";"] {
        let mut client = Client::dial(running.addresses()[0]);
        let header = format!("Sec-WebSocket-Extensions: {header}\r\n");
        client.send(&request_with("/echo", &header));
        assert_eq!(client.head().status, 400, "{header}");
    }
}

#[test]
fn it_is_agreed_behind_a_hook_too() {
    all(|mode, workers| {
        let endpoint = Endpoint::json("/hooked")
            .on_connect(|_, admission| admission.accept(Accept::default()));
        let running = Gateway::builder()
            .listen(([127, 0, 0, 1], 0))
            .endpoint(endpoint)
            .configure(|config| (config.workers, config.deflate.mode) = (workers, mode))
            .start()
            .unwrap();
        let mut peer = Peer::open(running.addresses()[0], "/hooked", OFFER);
        assert!(peer.answer.is_some());
        let text = lines(20);
        let body = serde_json::Value::from(text.clone());
        let request = serde_json::json!({ "route": "echo", "id": 1, "body": body });
        peer.send(TEXT, request.to_string().as_bytes());
        let received = peer.receive();
        assert!(received.is_compressed);
        let answer: serde_json::Value = serde_json::from_slice(&received.message).unwrap();
        assert_eq!(answer["body"], text);
        assert_eq!(total(&running, "deflate_agreed"), 1);
    });
}
