//! The examples do what they say.

#[allow(dead_code)]
#[path = "../examples/chat.rs"]
mod chat;
#[path = "support/client.rs"]
mod client;
#[allow(dead_code)]
#[path = "../examples/echo.rs"]
mod echo;

use serde_json::json;

use client::{BINARY, Client, Frame, request};

#[test]
fn echo_shouts_and_counts() {
    let running = echo::gateway().listen(([127, 0, 0, 1], 0)).start().expect("it starts");
    let mut peer = Client::open(running.addresses()[0], "/shout");
    peer.text("hallo, grüße");
    assert_eq!(peer.read_text(), "HALLO, GRÜSSE");
    peer.binary(b"ab");
    assert_eq!(peer.frame(), Some(Frame::new(BINARY, b"ab")));
    for n in 1..=3 {
        let mut peer = Client::open(running.addresses()[0], "/count");
        peer.text("?");
        assert_eq!(peer.read_text(), n.to_string());
    }
}

#[test]
fn chat_says_whispers_and_rolls() {
    let running = chat::gateway().listen(([127, 0, 0, 1], 0)).start().expect("it starts");
    let addr = running.addresses()[0];
    let mut nobody = Client::dial(addr);
    nobody.send(&request("/ws?name="));
    assert_eq!(nobody.head().status, 401);

    let mut ann = Client::open(addr, "/ws?name=ann");
    let mut bob = Client::open(addr, "/ws?name=bob");
    ann.request("say", 1, "hello");
    let said = bob.json();
    assert_eq!((&said["event"], &said["room"]), (&json!("publish"), &json!("lobby")));
    assert_eq!(said["data"], json!({"name": "ann", "text": "hello"}));
    let own = [ann.json(), ann.json()];
    assert!(own.contains(&said) && own.contains(&json!({"id": 1, "body": null})), "{own:?}");

    let whisper = json!({"to": said["from"], "text": "psst"});
    assert_eq!(bob.ask("whisper", 2, whisper)["body"], json!(null));
    let heard = ann.json();
    assert_eq!(heard, json!({"event": "push", "data": {"name": "bob", "text": "psst"}}));
    let nobody = json!({"to": "nobody", "text": "psst"});
    assert_eq!(bob.ask("whisper", 3, nobody)["error"]["code"], 404);

    ann.request("roll", 4, 6);
    assert_eq!(ann.ask("echo", 5, "meanwhile")["body"], "meanwhile");
    let rolled = ann.json();
    assert_eq!(rolled["id"], 4);
    assert!((1..=6).contains(&rolled["body"].as_u64().unwrap()), "{rolled}");
    assert_eq!(ann.ask("roll", 6, "many")["error"]["code"], 400);
}
