//! Which rooms there are, and who is in them.

use serde_json::{Value, json};
use tidegate::channels::RoomInfo;
use tidegate::{Endpoint, Route, RunOn};

use crate::client::Client;
use crate::{PATH, PATIENCE, both, only, open, open_known, stats_until, telling_ids};

fn listed(endpoint: Endpoint) -> Endpoint {
    endpoint.grant("rooms")
}

fn names(list: &[RoomInfo]) -> Vec<&str> {
    list.iter().map(|room| &*room.name).collect()
}

/// In rooms `a/0` to `a/9` and `b`.
fn seated(running: &tidegate::Running) -> Client {
    let mut peer = open(running);
    for n in 0..10 {
        peer.ask("join", n, json!({ "room": format!("a/{n}") }));
    }
    peer.ask("join", 10, json!({ "room": "b" }));
    peer
}

#[test]
fn by_the_gateways_handle() {
    both(|setup| {
        let running = setup.serve(Endpoint::json(PATH));
        let gateway = running.gateway().clone();
        let rooms = |prefix: &str, after: &str, limit| {
            let list = gateway.rooms(prefix, after, limit).expect("it runs");
            list.recv_timeout(PATIENCE).expect("it comes")
        };
        assert_eq!(rooms("", "", 10), Default::default());
        let mut peer = seated(&running);
        let mut other = open(&running);
        other.ask("join", 1, json!({ "room": "a/7" }));
        other.ask("publish", 2, json!({ "room": "a/7", "data": "x" }));
        let all = rooms("", "", 1000);
        assert_eq!((all.rooms.len(), all.total, all.more), (11, 11, false));
        assert!(all.rooms.is_sorted());
        assert_eq!((all.rooms[7].members, all.rooms[7].serial), (2, 1));
        assert_eq!((all.rooms[8].members, all.rooms[8].serial), (1, 0));
        // Page by page.
        let (mut after, mut seen) = (String::new(), Vec::new());
        loop {
            let page = rooms("a/", &after, 3);
            assert_eq!(page.total, 10);
            seen.extend(names(&page.rooms).into_iter().map(str::to_owned));
            after = seen.last().unwrap().clone();
            if !page.more {
                break;
            }
            assert_eq!(page.rooms.len(), 3);
        }
        let wanted: Vec<String> = (0..10).map(|n| format!("a/{n}")).collect();
        assert_eq!(seen, wanted);
        assert_eq!(names(&rooms("b", "", 3).rooms), ["b"]);
        assert_eq!(rooms("c", "", 3).total, 0);
        // A room that is empty is none that there is.
        assert_eq!(peer.json()["event"], "publish");
        peer.ask("leave", 20, json!({ "room": "b" }));
        assert_eq!(rooms("b", "", 3).total, 0);
    });
}

#[test]
fn who_is_in_a_room() {
    both(|setup| {
        let (endpoint, told) = telling_ids(Endpoint::json(PATH));
        let running = setup.serve(endpoint);
        let members = |limit| {
            let members = running.gateway().members_of("tea", limit).expect("it runs");
            members.recv_timeout(PATIENCE).expect("they come")
        };
        assert_eq!(members(10), Default::default());
        let mut peers = [(); 3].map(|()| open_known(&running, &told));
        for (peer, _) in &mut peers {
            peer.ask("join", 1, json!({ "room": "tea" }));
        }
        let mut all = members(10);
        all.ids.sort_unstable();
        let mut ids = peers.each_ref().map(|(_, id)| *id);
        ids.sort_unstable();
        assert_eq!((all.members, &all.ids[..]), (3, &ids[..]));
        let some = members(2);
        assert_eq!((some.members, some.ids.len()), (3, 2));
    });
}

#[test]
fn by_the_built_in_route() {
    both(|setup| {
        let rooms = tidegate::routing::handler("rooms").expect("it is built in");
        let blocking = Route::new(move |ctx, message| rooms(ctx, message)).run_on(RunOn::Blocking);
        let builder = only(listed(Endpoint::json(PATH)))
            .endpoint(Endpoint::json("/others"))
            .endpoint(listed(Endpoint::json("/plain")).route_with("blocking", blocking));
        let running = setup.start(builder);
        let mut peer = seated(&running);
        let list = |answer: &Value| {
            let rooms = answer["body"]["rooms"].as_array().expect("a list");
            rooms.iter().map(|room| room["room"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        let answer = peer.ask("rooms", 1, json!({ "prefix": "a/", "after": "a/4", "limit": 2 }));
        assert_eq!(list(&answer), ["a/5", "a/6"]);
        assert_eq!((&answer["body"]["total"], &answer["body"]["more"]), (&json!(10), &json!(true)));
        assert_eq!(answer["body"]["rooms"][0], json!({ "room": "a/5", "members": 1, "serial": 0 }));
        assert_eq!(list(&peer.ask("rooms", 2, json!(null))).len(), 11);
        assert_eq!(peer.ask("rooms", 3, json!({ "limit": "x" }))["error"]["code"], 400);
        let mut other = Client::open(crate::addr(&running), "/others");
        assert_eq!(other.ask("rooms", 1, json!(null))["error"]["code"], 403);
        let mut plain = Client::open(crate::addr(&running), "/plain");
        assert_eq!(list(&plain.ask("blocking", 1, json!({ "prefix": "b" }))), ["b"]);
        drop(peer);
        stats_until(&running, "no room", |s| s["worker_totals"]["rooms"] == 0);
        assert_eq!(list(&plain.ask("blocking", 2, json!(null))), [""; 0]);
    });
}
