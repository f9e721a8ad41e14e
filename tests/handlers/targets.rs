//! Messages that are meant for other clients: only where the endpoint allows it (in system B anybody
//! may address anybody).

use serde_json::{Value, json};
use tidegate::{Accept, Endpoint, Flow};

use crate::client::Client;
use crate::speakers::{Action, Event, Json, Mef};
use crate::{addr, both, only};

/// Connections that the query names permissions for have them.
fn asking(endpoint: Endpoint) -> Endpoint {
    endpoint.on_connect(|request, admission| {
        let permissions = request.query.into_iter().flat_map(|q| q.split(',')).map(str::to_owned);
        admission.accept(Accept { permissions: permissions.collect(), ..Accept::default() });
    })
}

fn action(peer: &mut Client, action: &str, more: &Value) -> Value {
    let mut request = json!({ "actioncode": action, "data": "word" });
    request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    peer.text(&request.to_string());
    peer.json()
}

fn id(peer: &mut Client) -> Value {
    action(peer, "whoami", &json!({}))["data"]["id"].clone()
}

#[test]
fn on_every_route_they_take_a_permission() {
    both(|setup| {
        let (seen, reached) = std::sync::mpsc::channel();
        let endpoint = asking(Action.endpoint().builtin())
            .before(move |_, message| {
                let _ = seen.send(message.meta.target().is_some());
                Flow::Continue
            })
            .route("own", |ctx, message| {
                let ids = message.meta.get("client_ids").unwrap_or_default();
                ctx.reply(&*ids);
            });
        let running = setup.start(only(endpoint));
        let open = |query: &str| Client::open(addr(&running), &format!("/action?{query}"));
        let [mut nobody, mut clerk, mut operator] = ["x", "push", "push,broadcast"].map(open);
        let mut listener = open("x");
        let listed = json!({ "client_ids": [id(&mut listener)] });
        let all = json!({ "is_broadcast": true, "client_ids": [] });
        let none = json!({ "is_broadcast": false, "client_ids": [] });
        reached.try_iter().for_each(drop);
        for route in ["echo", "heart_beat", "own", "time", "push", "broadcast"] {
            for target in [&listed, &all, &json!({ "is_broadcast": true, "client_ids": 7 })] {
                let answer = action(&mut nobody, route, target);
                assert_eq!((&answer["code"], &answer["actioncode"]), (&json!(403), &json!(route)));
            }
        }
        // Nothing that was refused came so far as the middleware.
        assert_eq!(reached.try_iter().count(), 0);
        assert_eq!(action(&mut nobody, "echo", &none)["data"], "word");
        assert_eq!(action(&mut nobody, "push", &none)["code"], 403);
        assert_eq!(action(&mut nobody, "dance", &listed)["code"], 404);
        // With the permission it is the handler's.
        assert_eq!(action(&mut clerk, "own", &listed)["data"], listed["client_ids"].to_string());
        assert_eq!(action(&mut clerk, "own", &all)["code"], 403);
        assert_eq!(action(&mut clerk, "push", &all)["code"], 403);
        assert_eq!(action(&mut clerk, "push", &listed)["data"]["receivers"], 1);
        assert_eq!(listener.json()["data"], "word");
        assert_eq!(action(&mut operator, "push", &all)["data"], "word");
        assert_eq!(operator.json()["code"], 0);
        for peer in [&mut nobody, &mut clerk, &mut listener] {
            assert_eq!(peer.json()["data"], "word");
        }
    });
}

/// The same members of other JSON dialects, where a route has the handler.
#[test]
fn the_handlers_of_other_dialects_take_it_too() {
    both(|setup| {
        let with = |endpoint: Endpoint, key: &str| {
            let push = tidegate::routing::handler("push").expect("it is built in");
            asking(endpoint).route(key, move |ctx, message| push(ctx, message))
        };
        let builder = only(with(Json.endpoint(), "push"))
            .endpoint(with(Event.endpoint(), "push"))
            .endpoint(with(Mef.endpoint(), "push:x"));
        let running = setup.start(builder);
        let mut listener = Client::open(addr(&running), "/json");
        for (path, message) in [
            ("/json", json!({ "route": "push", "id": 1, "body": "hi" })),
            ("/event", json!({ "name": "push", "message": "hi" })),
            (
                "/mef",
                json!({
                    "header": { "id": "1", "isSync": true },
                    "router": { "option": "push", "resource": "x" },
                    "content": "hi"
                }),
            ),
        ] {
            for (query, target, refused) in [
                ("x", json!({ "client_ids": [] }), "takes the permission `push`"),
                ("x", json!({ "is_broadcast": true }), "takes the permission `broadcast`"),
                ("push", json!({ "is_broadcast": true }), "takes the permission `broadcast`"),
                ("push", json!({ "client_ids": 7 }), "`client_ids`"),
            ] {
                let mut peer = Client::open(addr(&running), &format!("{path}?{query}"));
                let mut message = message.clone();
                message.as_object_mut().unwrap().extend(target.as_object().unwrap().clone());
                peer.text(&message.to_string());
                let answer = peer.read_text();
                assert!(answer.contains("error") && answer.contains(refused), "{path}: {answer}");
            }
            let mut operator = Client::open(addr(&running), &format!("{path}?broadcast"));
            let mut message = message.clone();
            message["is_broadcast"] = json!(true);
            operator.text(&message.to_string());
            assert_eq!(listener.json(), json!({ "event": "push", "data": "hi" }));
        }
    });
}
