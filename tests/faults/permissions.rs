//! B: any client may address or broadcast to any other.

use serde_json::{Value, json};
use tidegate::channels::RoomPolicy;
use tidegate::{Accept, Endpoint, Stopped};

use crate::client::Client;
use crate::speakers::Action;
use crate::{addr, both, only};

/// Sends a request of system B; its answer.
fn ask(client: &mut Client, request: &Value) -> Value {
    client.text(&request.to_string());
    client.json()
}

fn id_of(client: &mut Client) -> Value {
    ask(client, &json!({"actioncode": "whoami"}))["data"]["id"].clone()
}

/// What B's clients can ask for that reaches others.
fn reaching(id: &Value) -> [Value; 6] {
    [
        json!({"actioncode": "push", "data": "psst", "client_ids": [id]}),
        json!({"actioncode": "push", "data": "psst", "is_broadcast": true}),
        json!({"actioncode": "broadcast", "data": "psst"}),
        json!({"actioncode": "broadcast", "data": "psst", "client_ids": [id]}),
        json!({"actioncode": "echo", "data": "psst", "client_ids": [id]}),
        json!({"actioncode": "echo", "data": "psst", "is_broadcast": true}),
    ]
}

#[test]
fn nobody_is_addressed_without_a_permission() {
    both(|setup| {
        let running = setup.serve(Action.endpoint().builtin());
        let [mut ann, mut bob] = [(); 2].map(|()| Client::open(addr(&running), &Action.path()));
        let bobs = id_of(&mut bob);
        for request in reaching(&bobs) {
            let answer = ask(&mut ann, &request);
            assert_eq!(
                (&answer["code"], &answer["data"]),
                (&json!(403), &json!(null)),
                "{request}"
            );
        }
        for client in [&mut ann, &mut bob] {
            let answer = ask(client, &json!({"actioncode": "echo", "data": "quiet"}));
            assert_eq!(answer["data"], "quiet", "nothing came before");
            client.close(1000);
            client.expect_close(1000);
            client.expect_end();
        }
        let (stopped, stats) = running.stop(|| false);
        assert_eq!(stopped, Stopped::Clean);
        // Every message that went out was an answer.
        assert_eq!(stats["totals"]["messages_out"], stats["totals"]["messages_in"]);
        assert_eq!(stats["totals"]["deliveries"], 0);
    });
}

#[test]
fn who_has_the_permission_may() {
    both(|setup| {
        let endpoint = Action.endpoint().builtin().on_connect(|request, admission| {
            let permissions = request.query.into_iter().map(str::to_owned).collect();
            admission.accept(Accept { permissions, ..Accept::default() });
        });
        let running = setup.serve(endpoint);
        let open = |query| Client::open(addr(&running), &format!("{}{query}", Action.path()));
        let (mut ann, mut bob) = (open("?push"), open(""));
        let bobs = id_of(&mut bob);
        let [addressed, everyone, ..] = reaching(&bobs);
        assert_eq!(ask(&mut ann, &addressed)["data"]["receivers"], 1);
        assert_eq!(bob.json()["data"], "psst");
        // It is one of two: to address some is not to address all.
        assert_eq!(ask(&mut ann, &everyone)["code"], 403);
        let anns = id_of(&mut ann);
        assert_eq!(ask(&mut bob, &reaching(&anns)[0])["code"], 403, "of one, not of all");
        assert_eq!(ask(&mut ann, &json!({"actioncode": "echo", "data": 1}))["data"], 1);
    });
}

#[test]
fn rooms_are_closed_to_whom_the_gateway_says() {
    both(|setup| {
        let policy = RoomPolicy {
            join: Some("reader".into()),
            publish: Some("editor".into()),
            ..RoomPolicy::default()
        };
        let endpoint = Endpoint::json("/ws").grant("reader");
        let running = setup.start(only(endpoint).room_policy("news/*", policy), |_| {});
        let [mut ann, mut bob] = [(); 2].map(|()| Client::open(addr(&running), "/ws"));
        for client in [&mut ann, &mut bob] {
            assert_eq!(client.ask("join", 1, json!({"room": "news/sea"}))["error"], json!(null));
        }
        let publish = json!({"room": "news/sea", "data": "psst"});
        assert_eq!(ann.ask("publish", 2, publish)["error"]["code"], 403);
        // Its own next answer comes first, and the first in the room is the gateway's.
        running.gateway().publish("news/sea", "official").unwrap();
        assert_eq!(bob.json()["data"], "official");
    });
}
