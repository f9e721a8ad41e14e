//! Publishes to members with and without compression.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tidegate::{Body, Outbound, OverflowPolicy};

use crate::client::{Client, TEXT};
use crate::peer::{Peer, Received};
use crate::wait::wait_until;
use crate::{OFFER, all, lines, noise, start, start_with, total};

fn member(addr: SocketAddr, offer: &str) -> Peer {
    let mut peer = Peer::open(addr, "/ws", offer);
    peer.client.ask("join", 1, json!({ "room": "r" }));
    peer
}

fn publish(client: &mut Client, text: &str) {
    let answer = client.ask("publish", 2, json!({ "room": "r", "data": text, "self": false }));
    assert!(answer["error"].is_null(), "{answer}");
}

/// What was published or answered.
fn body(received: &Received) -> String {
    assert_eq!(received.opcode, TEXT);
    let push: Value = serde_json::from_slice(&received.message).unwrap();
    push.get("data").unwrap_or(&push["body"]).as_str().expect("a text").to_owned()
}

#[test]
fn each_gets_what_it_agreed_on() {
    all(|mode, workers| {
        let running = start(mode, workers);
        let addr = running.addresses()[0];
        let mut publisher = Client::open(addr, "/ws");
        let ten = "permessage-deflate; server_max_window_bits=10";
        let mut members: Vec<_> =
            [OFFER, "none", ten, OFFER, ten, "none"].map(|offer| member(addr, offer)).into();
        for n in [1, 100, 7, 100] {
            let text = lines(n);
            publish(&mut publisher, &text);
            let got: Vec<_> = members.iter_mut().map(Peer::receive).collect();
            assert!(got.iter().all(|received| body(received) == text));
            let compressed: Vec<_> = got.iter().map(|received| received.is_compressed).collect();
            let long = n > 1;
            assert_eq!(compressed, [long, false, long, long, long, false], "{n}");
            // Compressed once for all with equal parameters.
            assert_eq!((&got[0].wire, &got[2].wire), (&got[3].wire, &got[4].wire));
        }
        assert_eq!(total(&running, "messages_deflated"), 3 * 4);
    });
}

#[test]
fn answers_and_publishes_between_each_other() {
    all(|mode, workers| {
        let running = start(mode, workers);
        let addr = running.addresses()[0];
        let mut publisher = Client::open(addr, "/ws");
        let mut member = member(addr, OFFER);
        for n in 0..20 {
            let text = lines(10 + n % 3);
            let request = json!({ "route": "echo", "id": n, "body": text });
            member.send(TEXT, request.to_string().as_bytes());
            assert_eq!(body(&member.receive()), text);
            if n % 2 == 0 {
                publish(&mut publisher, &text);
                assert_eq!(body(&member.receive()), text);
            }
        }
    });
}

#[test]
fn publishes_that_are_dropped_break_nothing() {
    all(|mode, workers| {
        let running = start_with(mode, workers, |config| config.outbound_limit_bytes = 100_000);
        let addr = running.addresses()[0];
        let outbound = Outbound::new(OverflowPolicy::DropOldest).budget(30_000);
        let publisher = running.gateway().with_outbound(outbound);
        let mut slow = member(addr, OFFER);
        // Incompressible, so that what is owed grows; the answer is compressed with takeover, if any.
        let data = data_encoding::BASE64.encode(&noise(9000));
        for n in 0..2000 {
            let body = json!({ "n": n, "data": data }).to_string();
            publisher.publish("r", Body::Json(&body)).unwrap();
        }
        wait_until("some are dropped", || {
            running.stats()["drops"]["drop_oldest"].as_u64().unwrap() > 100
        });
        let text = lines(40);
        let request = json!({ "route": "echo", "id": 1, "body": text });
        for _ in 0..3 {
            slow.send(TEXT, request.to_string().as_bytes());
        }
        let (mut last, mut answers) = (-1, 0);
        while answers < 3 || last < 1999 {
            let received = slow.receive();
            let message: Value = serde_json::from_slice(&received.message).unwrap();
            if message["id"] == 1 {
                assert_eq!(message["body"], text);
                answers += 1;
            } else {
                let n = message["data"]["n"].as_i64().unwrap();
                assert!(n > last, "{n} behind {last}");
                last = n;
            }
        }
    });
}
