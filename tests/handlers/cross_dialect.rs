//! One room, members of every dialect.

use std::sync::{Arc, Barrier};
use std::thread;

use serde_json::{Value, json};
use tidegate::{Body, Gateway, GatewayBuilder, Running, SelfDelivery};

use crate::both;
use crate::speakers::{Heard, Hub, Json, Kim, Speaker, Tongue, everywhere};

/// Publishes of each member.
const PUBLISHES: usize = 50;
/// One of each dialect over WebSocket, one over TCP, and two over TCP without opcodes.
const MEMBERS: usize = Tongue::ALL.len() + 3;

fn hall() -> GatewayBuilder {
    everywhere(Gateway::builder(), |tongue, endpoint| {
        let endpoint = tongue.route(endpoint, "join", |ctx, _| {
            ctx.join("hall").unwrap();
            ctx.reply("joined");
        });
        tongue.route(endpoint, "say", |ctx, m| {
            // A string in the JSON dialects, its letters in the others: one text for all.
            let text = m.body.parse::<String>();
            let letters = String::from_utf8_lossy(m.body.as_bytes()).into_owned();
            let text = text.unwrap_or(letters);
            ctx.publish("hall", Body::Text(&text), SelfDelivery::Include).unwrap();
            ctx.reply("ok");
        })
    })
    .tcp_listen(([127, 0, 0, 1], 0), &Kim.path())
    .tcp_listen(([127, 0, 0, 1], 0), &Json.path())
    .tcp_listen(([127, 0, 0, 1], 0), &Hub.path())
}

fn members(running: &Running) -> Vec<Speaker> {
    let over_websocket = Tongue::ALL.into_iter().map(|tongue| Speaker::open(running, tongue));
    let [_, json, hub] = running.tcp_addresses()[..] else { panic!("three listeners") };
    let over_tcp = [
        Speaker::open_tcp(running, Kim),
        Speaker::open_lengths(json, Json),
        Speaker::open_lengths(hub, Hub),
    ];
    let mut members: Vec<_> = over_websocket.chain(over_tcp).collect();
    assert_eq!(members.len(), MEMBERS);
    for member in &mut members {
        member.request("join", 2, &json!("hall"));
        assert_eq!(member.hear(), member.answer_to(2, json!("joined")));
    }
    members
}

/// What a member hears up to the end, without the answers to what it said.
fn hear_all(mut member: Speaker, answers_wanted: usize) -> Vec<String> {
    let (mut heard, mut answers) = (Vec::new(), 0);
    loop {
        match member.hear() {
            Heard::Push { body: Value::String(text), .. } if text == "end" => break,
            Heard::Push { body: Value::String(text), .. } => heard.push(text),
            Heard::Answer { body, .. } if body == "ok" => answers += 1,
            other => panic!("{member:?}: {other:?}"),
        }
    }
    while answers < answers_wanted {
        assert!(matches!(member.hear(), Heard::Answer { body, .. } if body == "ok"));
        answers += 1;
    }
    heard
}

#[test]
fn each_hears_every_publish_once_and_in_one_order() {
    both(|setup| {
        let running = setup.start(hall());
        let start = Arc::new(Barrier::new(MEMBERS));
        let talking: Vec<_> = members(&running)
            .into_iter()
            .enumerate()
            .map(|(who, mut member)| {
                let start = Arc::clone(&start);
                thread::spawn(move || {
                    start.wait();
                    for n in 0..PUBLISHES {
                        member.request("say", 2, &json!(format!("{who}:{n}")));
                    }
                    member
                })
            })
            .collect();
        let members: Vec<_> = talking.into_iter().map(|t| t.join().unwrap()).collect();
        let all = MEMBERS * PUBLISHES;
        let handled = |s: &Value| s["totals"]["deliveries"] == all * MEMBERS;
        crate::stats_until(&running, "all delivered", handled);
        running.gateway().publish("hall", "end").unwrap();
        let mut heard: Vec<_> =
            members.into_iter().map(|member| hear_all(member, PUBLISHES)).collect();
        let first = heard.pop().unwrap();
        assert_eq!(first.len(), all);
        for (who, other) in heard.iter().enumerate() {
            assert_eq!(*other, first, "member {who} heard another order");
        }
        for who in 0..MEMBERS {
            let prefix = format!("{who}:");
            let own = first.iter().filter_map(|text| text.strip_prefix(&prefix));
            let own: Vec<usize> = own.map(|n| n.parse().unwrap()).collect();
            assert!(own.iter().copied().eq(0..PUBLISHES), "of {who}: {own:?}");
        }
        assert_eq!(running.stats()["late_answers"], 0);
    });
}

/// Whatever the form of the body, each gets it in the form that its dialect has for it.
#[test]
fn each_hears_it_in_its_own_form() {
    both(|setup| {
        let running = setup.start(hall());
        let mut members = members(&running);
        let gateway = running.gateway();
        gateway.publish("hall", Body::Json("{\"a\":[1,null]}")).unwrap();
        gateway.publish("hall", Body::Text("a \"text\"")).unwrap();
        gateway.publish("hall", Body::Binary(b"bytes")).unwrap();
        for (member, tongue) in members.iter_mut().zip(Tongue::ALL.into_iter().chain([Kim])) {
            let is_binary = matches!(tongue, Tongue::Hub | Tongue::Kim);
            let bytes = if is_binary { "bytes" } else { "Ynl0ZXM=" };
            for wanted in [json!({"a": [1, null]}), json!("a \"text\""), json!(bytes)] {
                match member.hear() {
                    Heard::Push { body, .. } => assert_eq!(body, wanted, "{tongue:?}"),
                    other => panic!("{tongue:?}: {other:?}"),
                }
            }
        }
    });
}
