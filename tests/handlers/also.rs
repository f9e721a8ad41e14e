//! Several dialects at one path.

use std::sync::mpsc::{self, Receiver};

use serde_json::json;
use tidegate::{ConnId, Dialect, Endpoint};

use crate::client::{Client, PING, PONG, frame, request_with};
use crate::speakers::{Heard, Hub, Json, Kim, Mef, Speaker, hub, kim};
use crate::{PATH, addr, both, endpoint, got, tell};

/// JSON, `kim`, `hub` and `mef` at one path, with routes by all their keys.
fn polyglot() -> (Endpoint, Receiver<ConnId>) {
    let (ids, told) = mpsc::channel();
    let endpoint = endpoint().also(Dialect::Kim).also(Dialect::Hub).also(Dialect::Mef);
    let tongues = [Json, Hub, Mef];
    let endpoint = tongues.iter().fold(endpoint, |endpoint, tongue| {
        let endpoint = tongue.route(endpoint, "id", tell(&ids));
        tongue.route(endpoint, "say", |ctx, m| ctx.reply(m.body))
    });
    (endpoint, told)
}

#[test]
fn a_subprotocol_chooses() {
    both(|setup| {
        let running = setup.serve(polyglot().0);
        for (asked, answered, tongue) in [
            ("", None, Json),
            ("kim", Some("kim"), Kim),
            ("hub", Some("hub"), Hub),
            ("mef", Some("mef"), Mef),
            ("x, hub, kim", Some("hub"), Hub),
            ("event", None, Json),
        ] {
            let header = format!("Sec-WebSocket-Protocol: {asked}\r\n");
            let header = if asked.is_empty() { "" } else { &header };
            let (client, head) = Client::open_with(addr(&running), PATH, header);
            assert_eq!(head.header("Sec-WebSocket-Protocol"), answered, "{asked}");
            let mut peer = Speaker::over(client, tongue);
            peer.request("say", 2, &json!("spoken"));
            assert_eq!(peer.hear(), peer.answer_to(2, json!("spoken")), "{asked}");
        }
    });
}

#[test]
fn the_first_bytes_choose() {
    both(|setup| {
        let (endpoint, told) = polyglot();
        let running = setup.serve(endpoint);
        for tongue in [Kim, Hub] {
            let mut client = Client::open(addr(&running), PATH);
            client.send(&frame(PING, b"before anything"));
            client.expect(PONG, b"before anything");
            let mut peer = Speaker::over(client, tongue);
            peer.request("id", 2, &json!(null));
            let id = got(&told);
            assert_eq!(peer.hear(), Heard::Answer { id: 2, body: json!("") });
            running.gateway().push(id, "pushed").unwrap();
            assert!(matches!(peer.hear(), Heard::Push { body, .. } if body == "pushed"));
            let (outcomes, outcome) = mpsc::channel();
            let answered = move |answer: Result<tidegate::Body<'_>, _>| {
                outcomes.send(answer.map(|body| body.as_bytes().to_vec())).unwrap();
            };
            let minute = std::time::Duration::from_secs(60);
            running.gateway().ask(id, &tongue.key("ask"), "q", minute, answered).unwrap();
            let (token, ..) = peer.hear_ask();
            peer.answer(&token, &json!("yes"));
            assert_eq!(got(&outcome), Ok(b"yes".to_vec()));
        }
    });
}

/// The first message may come with what is handled in the base dialect: in one read, one batch.
#[test]
fn what_comes_along_with_the_first_message() {
    both(|setup| {
        let (endpoint, _told) = polyglot();
        let endpoint = endpoint
            .on_established(|ctx| ctx.store().set("established", 1).map(drop).unwrap())
            .on_ping(|_, _| {})
            .on_closed(|_| {});
        let running = setup.serve(endpoint);
        for tongue in [Kim, Hub] {
            let payload = match tongue {
                Kim => kim("say", 2, 0, 0, b"first"),
                _ => hub(tongue.key("say").parse().unwrap(), 2, b"first"),
            };
            let message = frame(crate::client::BINARY, &payload);
            let mut client = Client::dial(addr(&running));
            client.send(&[request_with(PATH, ""), message.clone(), message.clone()].concat());
            client.expect_upgrade();
            let mut peer = Speaker::over(client, tongue);
            for _ in 0..2 {
                assert_eq!(peer.hear(), Heard::Answer { id: 2, body: json!("first") });
            }
            let mut client = Client::open(addr(&running), PATH);
            client.send(&[frame(PING, b"p"), message].concat());
            client.expect(PONG, b"p");
            let answer = Heard::Answer { id: 2, body: json!("first") };
            assert_eq!(Speaker::over(client, tongue).hear(), answer);
        }
    });
}

#[test]
fn until_the_first_message_it_is_the_base_dialect() {
    both(|setup| {
        let (ids, told) = mpsc::channel();
        let endpoint = polyglot().0.on_established(move |ctx| {
            // The test may have ended.
            let _ = ids.send(ctx.conn());
        });
        let running = setup.serve(endpoint);
        let mut client = Client::open(addr(&running), PATH);
        let id = got(&told);
        running.gateway().push(id, "early").unwrap();
        assert_eq!(client.json(), json!({"event": "push", "data": "early"}));
        let mut peer = Speaker::over(client, Kim);
        peer.request("say", 2, &json!("spoken"));
        assert_eq!(peer.hear(), Heard::Answer { id: 2, body: json!("spoken") });
        running.gateway().push(id, "then").unwrap();
        assert!(matches!(peer.hear(), Heard::Push { body, .. } if body == "then"));
    });
}

#[test]
fn the_first_message_settles_it() {
    both(|setup| {
        let running = setup.serve(polyglot().0);
        for in_one_read in [true, false] {
            let mut client = Client::open(addr(&running), PATH);
            if in_one_read {
                client.cork();
            }
            client.request("say", 1, json!("json it is"));
            if !in_one_read {
                assert_eq!(client.json()["body"], "json it is");
            }
            client.binary(&kim("say", 2, 0, 0, b"too late"));
            client.request("say", 3, json!("still"));
            if in_one_read {
                socket2::SockRef::from(&client.stream).set_tcp_cork(false).unwrap();
                assert_eq!(client.json()["body"], "json it is");
            }
            assert_eq!(client.json()["error"]["code"], 400);
            assert_eq!(client.json()["body"], "still");
        }
    });
}

#[test]
fn bytes_without_magic_are_the_base_dialects() {
    both(|setup| {
        let running = setup.serve(polyglot().0);
        let mut client = Client::open(addr(&running), PATH);
        client.binary(b"\xfe\xee nothing that is known");
        assert_eq!(client.json()["error"]["code"], 400);
        assert_eq!(client.ask("say", 1, json!(1))["body"], 1);
    });
}
