//! Every dialect: what is asked has the layout of its system, what is answered is told by its
//! ticket, and nothing panics. The bytes of `kim` and `hub` are tested beside their codecs.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const ALL: [Dialect; 7] = [
    Dialect::Raw,
    Dialect::Json,
    Dialect::Mef,
    Dialect::Action,
    Dialect::Event,
    Dialect::Kim,
    Dialect::Hub,
];

fn asked(dialect: Dialect, route: Route, body: Body<'_>) -> Value {
    let message = dialect.ask(route, &dialect.ticket(3, 7), body);
    serde_json::from_str(message.to_text().unwrap()).unwrap()
}

#[test]
fn json_is_asked_by_route_id_and_body() {
    assert_eq!(
        asked(Dialect::Json, Route::Echo, Body::Data(b"a\"\\")),
        json!({"route": "echo", "id": 8, "body": "a\"\\"})
    );
    assert_eq!(
        asked(Dialect::Json, Route::Join, Body::Json(r#"{"room":"r"}"#)),
        json!({"route": "join", "id": 8, "body": {"room": "r"}})
    );
}

#[test]
fn mef_is_asked_by_router_and_id() {
    let asked = asked(Dialect::Mef, Route::Publish, Body::Json("[1]"));
    let id = asked["header"]["id"].as_str().unwrap();
    assert!(Dialect::Mef.ticket(3, 7).is(&Given::Text(id.into())));
    assert_eq!(
        asked,
        json!({
            "header": {
                "id": id, "parentId": "", "isSync": true, "timestamp": 1_700_000_000_000_u64,
                "version": "1.0", "nodeId": "", "peerInfo": {"ip": "", "serialNumber": ""}
            },
            "router": {
                "source": "loadtest", "destination": "", "option": "publish", "resource": "room"
            },
            "route": {"source": "", "group": "", "operation": "", "resource": ""},
            "content": [1]
        })
    );
}

#[test]
fn action_and_event_are_asked_by_name() {
    assert_eq!(
        asked(Dialect::Action, Route::Join, Body::Json("{}")),
        json!({
            "company": "", "actioncode": "join", "data": {}, "token": "", "is_broadcast": false,
            "client_ids": []
        })
    );
    assert_eq!(
        asked(Dialect::Event, Route::Join, Body::Json(r#"{"room":"r"}"#)),
        json!({"name": "join", "message": {"room": "r"}})
    );
}

#[test]
fn uuids_are_of_version_4_and_differ() {
    let texts: std::collections::HashSet<_> = (0..100)
        .flat_map(|connection| (0..10).map(move |number| uuid(connection, number)))
        .map(|uuid| String::from_utf8(uuid.to_vec()).unwrap())
        .collect();
    assert_eq!(texts.len(), 1000);
    for text in &texts {
        let parts: Vec<_> = text.split('-').collect();
        assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
        assert!(text.chars().all(|c| c == '-' || c.is_ascii_hexdigit()), "{text}");
        assert!(parts[2].starts_with('4') && "89ab".contains(&parts[3][..1]), "{text}");
    }
}

/// What a server says, and what is heard of it.
fn heard(dialect: Dialect, said: &Value) -> Result<(Kind, Given<'static>, String), &'static str> {
    let message = Message::text(said.to_string());
    dialect.hear(&message).map(|heard| {
        let ticket = match heard.ticket {
            Given::None => Given::None,
            Given::Number(number) => Given::Number(number),
            Given::Text(text) => Given::Text(text.into_owned().into()),
        };
        (heard.kind, ticket, String::from_utf8(heard.body.into_owned()).unwrap())
    })
}

#[test]
fn json_answers_are_told_from_refusals_and_pushes() {
    let hear = |said: &Value| heard(Dialect::Json, said);
    let id = |number| Given::Number(number);
    assert_eq!(hear(&json!({"id": 8, "body": "é\n"})), Ok((Kind::Answer, id(8), "é\n".into())));
    let refusal = json!({"id": 8, "error": {"code": 404, "message": "no"}});
    assert_eq!(hear(&refusal), Ok((Kind::Refusal, id(8), "null".into())));
    let push = json!({"event": "publish", "room": "r", "from": "x", "data": {"a": 1}});
    assert_eq!(hear(&push), Ok((Kind::Push, Given::None, "{\"a\":1}".into())));
    for bad in [json!([1]), json!({"id": "a"}), json!({"id": -1}), json!("x")] {
        assert!(hear(&bad).is_err(), "{bad}");
    }
}

#[test]
fn mef_answers_name_their_request() {
    let say = |parent: &str, option: &str, content: Value| {
        json!({
            "header": {"id": "x", "parentId": parent},
            "router": {"option": option, "resource": "r"}, "content": content
        })
    };
    let hear = |said: &Value| heard(Dialect::Mef, said).map(|(kind, ticket, _)| (kind, ticket));
    let (parent, text) = (|| Given::Text("p".into()), || json!("c"));
    let error = || json!({"error": {"code": 404, "message": "no"}});
    assert_eq!(hear(&say("p", "echo", text())), Ok((Kind::Answer, parent())));
    assert_eq!(hear(&say("p", "echo", error())), Ok((Kind::Refusal, parent())));
    assert_eq!(hear(&say("", "error", error())), Ok((Kind::Refusal, Given::None)));
    assert_eq!(hear(&say("", "publish", text())), Ok((Kind::Push, Given::None)));
    assert!(hear(&json!({"content": 1})).is_err());
}

#[test]
fn actions_and_events_are_told_from_refusals() {
    let action = |code: i32| json!({"code": code, "msg": "", "data": "d", "actioncode": "echo"});
    let hear = |said: &Value| heard(Dialect::Action, said);
    assert_eq!(hear(&action(0)), Ok((Kind::Either, Given::None, "d".into())));
    assert_eq!(hear(&action(404)), Ok((Kind::Refusal, Given::None, "d".into())));
    assert!(hear(&json!({"actioncode": "x"})).is_err());
    let event = |name: &str| json!({"name": name, "message": "m"});
    let hear = |said: &Value| heard(Dialect::Event, said);
    assert_eq!(hear(&event("echo")), Ok((Kind::Either, Given::None, "m".into())));
    assert_eq!(hear(&event("error")), Ok((Kind::Refusal, Given::None, "m".into())));
    assert!(hear(&json!({"message": "m"})).is_err());
}

#[test]
fn deliveries_must_be_enveloped_as_their_dialect_does() {
    let delivers = |dialect: Dialect, said: Value| {
        let message = Message::text(said.to_string());
        dialect.delivers(&dialect.hear(&message).unwrap(), "r")
    };
    let json = |event: &str, room: &str| json!({"event": event, "room": room, "data": "d"});
    assert!(delivers(Dialect::Json, json("publish", "r")));
    assert!(!delivers(Dialect::Json, json("push", "r")));
    assert!(!delivers(Dialect::Json, json("publish", "q")));
    let mef = |parent: &str, room: &str| {
        json!({
            "header": {"parentId": parent},
            "router": {"option": "publish", "resource": room}, "content": "d"
        })
    };
    assert!(delivers(Dialect::Mef, mef("", "r")));
    assert!(!delivers(Dialect::Mef, mef("p", "r")) && !delivers(Dialect::Mef, mef("", "q")));
    let action = |name: &str| json!({"code": 0, "data": "d", "actioncode": name});
    assert!(delivers(Dialect::Action, action("publish")));
    assert!(!delivers(Dialect::Action, action("push")));
    let event = |name: &str| json!({"name": name, "message": "d"});
    assert!(delivers(Dialect::Event, event("message")));
    assert!(!delivers(Dialect::Event, event("publish")));
}

#[test]
fn a_message_of_the_other_type_is_refused() {
    let (text, binary) = (Message::text("{}"), Message::binary(b"{}".to_vec()));
    for dialect in ALL {
        let other = if dialect.is_json() { &binary } else { &text };
        assert_eq!(dialect.hear(other).is_err(), dialect != Dialect::Raw, "{dialect:?}");
    }
}

#[test]
fn tickets_are_told_apart() {
    for dialect in [Dialect::Json, Dialect::Mef, Dialect::Kim, Dialect::Hub] {
        let (one, two) = (dialect.ticket(1, 1), dialect.ticket(1, 2));
        assert_ne!(one, two);
        let given = |ticket: &Ticket| match ticket {
            Ticket::None => Given::None,
            Ticket::Number(number) => Given::Number((*number).into()),
            Ticket::Uuid(uuid) => Given::Text(String::from_utf8_lossy(uuid).into_owned().into()),
        };
        assert!(one.is(&given(&one)) && !one.is(&given(&two)) && !one.is(&Given::None));
    }
}

proptest! {
    #[test]
    fn bodies_survive_every_envelope(body: String) {
        for dialect in [Dialect::Json, Dialect::Mef, Dialect::Action, Dialect::Event] {
            let message = dialect.ask(Route::Echo, &dialect.ticket(0, 0), Body::Data(body.as_bytes()));
            let said: Value = serde_json::from_str(message.to_text().unwrap()).unwrap();
            let field = match dialect {
                Dialect::Json => "body",
                Dialect::Mef => "content",
                Dialect::Action => "data",
                _ => "message",
            };
            prop_assert_eq!(said[field].as_str(), Some(&*body));
        }
        for (dialect, said) in [
            (Dialect::Json, json!({"id": 1, "body": body})),
            (Dialect::Mef, json!({"header": {"parentId": "x"}, "content": body})),
            (Dialect::Action, json!({"code": 0, "actioncode": "echo", "data": body})),
            (Dialect::Event, json!({"name": "echo", "message": body})),
        ] {
            prop_assert_eq!(heard(dialect, &said).map(|(_, _, heard)| heard), Ok(body.clone()));
        }
    }

    #[test]
    fn any_text_is_heard_or_refused(text: String, bytes: Vec<u8>) {
        for dialect in ALL {
            let _ = dialect.hear(&Message::text(text.clone()));
            let _ = dialect.hear(&Message::text(format!("{{{text}}}")));
            let _ = dialect.hear(&Message::binary(bytes.clone()));
        }
    }
}
