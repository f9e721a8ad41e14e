//! Paths with parameters, and the rooms that they lead into.

use serde_json::{Value, json};
use tidegate::{Endpoint, SelfDelivery};

use crate::client::{Client, request};
use crate::{addr, both, json_at, only, stats_until};

/// With routes that say where the connection is.
fn placed(path: &str) -> Endpoint {
    json_at(path)
        .route("where", |ctx, _| {
            let params: Vec<(String, String)> = ctx
                .params()
                .into_iter()
                .flat_map(|params| params.iter())
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect();
            let rooms: Vec<_> = ctx.rooms().into_iter().map(str::to_owned).collect();
            ctx.reply_json(&(params, rooms));
        })
        .route("say", |ctx, m| {
            let room = ctx.rooms().first().map(|room| (*room).to_owned()).unwrap();
            ctx.publish(&room, m.body, SelfDelivery::Exclude).unwrap();
        })
}

fn place(peer: &mut Client) -> Value {
    peer.ask("where", 1, json!(null))["body"].clone()
}

#[test]
fn parameters_and_rooms_of_a_path() {
    both(|setup| {
        let endpoint = placed("/{house}/room/{name}");
        let endpoint = endpoint.join("all of {house}").unwrap().join("{house}/{name}").unwrap();
        let running = setup.serve(endpoint);
        let open = |path| Client::open(addr(&running), path);
        let mut peer = open("/h/room/sea%20side?x=/");
        let params = json!([["house", "h"], ["name", "sea side"]]);
        assert_eq!(place(&mut peer), json!([params, ["all of h", "h/sea side"]]));
        let mut other = open("/h/room/attic");
        let mut elsewhere = open("/i/room/attic");
        other.ask("say", 1, json!("to the house"));
        assert_eq!(peer.json()["data"], "to the house");
        assert_eq!(elsewhere.ask("echo", 1, json!(1))["body"], 1);
        running.gateway().publish("h/sea side", "to the room").unwrap();
        assert_eq!(peer.json()["data"], "to the room");
        for path in ["/h/room", "/h/room/", "/h/room/a/b", "/h/rooms/a", "//room/a", "/h/room/%ff"]
        {
            let mut peer = Client::dial(addr(&running));
            peer.send(&request(path));
            assert_eq!(peer.head().status, 404, "{path}");
        }
        drop((peer, other, elsewhere));
        stats_until(&running, "no room", |s| s["worker_totals"]["rooms"] == 0);
    });
}

#[test]
fn the_closest_path_is_taken() {
    both(|setup| {
        let builder = only(placed("/a/{x}")).endpoint(placed("/a/b")).endpoint(placed("/{x}/{y}"));
        let running = setup.start(builder);
        for (path, params) in [
            ("/a/b", json!([])),
            ("/a/c", json!([["x", "c"]])),
            ("/b/a", json!([["x", "b"], ["y", "a"]])),
        ] {
            let mut peer = Client::open(addr(&running), path);
            assert_eq!(place(&mut peer)[0], params, "{path}");
        }
    });
}

/// No client gets out of what a room's name may be by its path.
#[test]
fn a_path_that_names_no_room() {
    both(|setup| {
        let endpoint = placed("/{name}").join("{name}").unwrap();
        let running = setup.serve(endpoint);
        let mut peer = Client::dial(addr(&running));
        peer.send(&request(&format!("/{}", "x".repeat(256))));
        assert_eq!(peer.head().status, 400);
        stats_until(&running, "no room", |s| s["worker_totals"]["rooms"] == 0);
        assert_eq!(place(&mut Client::open(addr(&running), "/ok"))[1], json!(["ok"]));
    });
}

#[test]
fn a_template_has_to_fit_its_path() {
    assert!(placed("/{a}").join("{b}").is_err());
    assert!(placed("/{a}").join("{a").is_err());
    assert!(placed("/a").join("fixed").is_ok());
}
