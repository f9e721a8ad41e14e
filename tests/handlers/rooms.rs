//! What handlers and other threads say in rooms.

use serde_json::json;
use tidegate::channels::RoomPolicy;
use tidegate::{Accept, Content, Identity, SelfDelivery};

use crate::client::Client;
use crate::{PATH, addr, both, endpoint, only, open, stats_until};

fn room_endpoint() -> tidegate::Endpoint {
    let answer =
        |ctx: &mut tidegate::Context<'_>, done: Result<(), tidegate::ErrorAnswer<'_>>| match done {
            Ok(()) => ctx.reply("done"),
            Err(error) => ctx.reply_error(error.code, &error.message),
        };
    endpoint()
        .route("join", move |ctx, m| {
            let done = ctx.join(m.body.parse().unwrap());
            answer(ctx, done);
        })
        .route("leave", move |ctx, m| {
            let done = ctx.leave(m.body.parse().unwrap());
            answer(ctx, done);
        })
        .route("say", move |ctx, m| {
            let done = ctx.publish(m.body.parse().unwrap(), "said", SelfDelivery::Include);
            answer(ctx, done);
        })
        .route("tell", move |ctx, m| {
            let done = ctx.publish(m.body.parse().unwrap(), "told", SelfDelivery::Exclude);
            answer(ctx, done);
        })
        .route("close", move |ctx, m| {
            let done = ctx.close_room(m.body.parse().unwrap(), 4001, "closed");
            answer(ctx, done);
        })
        .route("rooms", |ctx, _| {
            let rooms: Vec<_> = ctx.rooms().into_iter().map(str::to_owned).collect();
            ctx.reply_json(&rooms);
        })
}

fn policy(join: Option<&str>, publish: Option<&str>, max_members: Option<usize>) -> RoomPolicy {
    let (join, publish) = (join.map(Into::into), publish.map(Into::into));
    RoomPolicy { join, publish, max_members, ..RoomPolicy::default() }
}

#[test]
fn with_and_without_the_sender() {
    both(|setup| {
        let running = setup.serve(room_endpoint());
        let mut peers = [(); 3].map(|()| open(&running));
        for peer in &mut peers {
            assert_eq!(peer.ask("join", 1, json!("hall"))["body"], "done");
            assert_eq!(peer.ask("rooms", 2, json!(null))["body"], json!(["hall"]));
        }
        peers[0].request("say", 3, json!("hall"));
        assert_eq!(peers[0].json()["data"], "said");
        assert_eq!(peers[0].json()["id"], 3);
        assert_eq!(peers[0].ask("tell", 4, json!("hall"))["body"], "done");
        for peer in &mut peers[1..] {
            assert_eq!(
                (&peer.json()["data"], &peer.json()["data"]),
                (&json!("said"), &json!("told"))
            );
        }
        assert_eq!(peers[1].ask("leave", 5, json!("hall"))["body"], "done");
        running.gateway().publish("hall", Content::named("news", "outside")).unwrap();
        for at in [0, 2] {
            let heard = peers[at].json();
            assert_eq!((&heard["event"], &heard["data"]), (&json!("news"), &json!("outside")));
        }
        assert_eq!(peers[1].ask("echo", 6, json!(6))["body"], 6);
    });
}

#[test]
fn policies() {
    both(|setup| {
        let endpoint = room_endpoint().on_connect(|request, admission| {
            let permissions = request.query.into_iter().map(str::to_owned).collect();
            admission.accept(Accept { permissions, ..Accept::default() });
        });
        let builder = only(endpoint)
            .room_policy("news/*", policy(None, Some("editor"), None))
            .room_policy("news/staff", policy(Some("editor"), None, None))
            .room_policy("small/*", policy(None, None, Some(1)));
        let running = setup.start(builder);
        let mut reader = open(&running);
        let mut editor = Client::open(addr(&running), &format!("{PATH}?editor"));
        let code = |peer: &mut Client, route: &str, room: &str| {
            let answer = peer.ask(route, 1, json!(room));
            answer["error"]["code"].as_u64().unwrap_or(200)
        };
        for (route, room, wanted) in [
            ("join", "news/world", 200),
            ("tell", "news/world", 403),
            ("join", "news/staff", 403),
            ("tell", "news/staff", 200),
            ("join", "small/a", 200),
            ("join", "small/b", 200),
            ("join", "small/b", 200),
        ] {
            assert_eq!(code(&mut reader, route, room), wanted, "{route} {room}");
        }
        assert_eq!(code(&mut editor, "join", "news/staff"), 200);
        assert_eq!(code(&mut editor, "join", "small/a"), 429);
        assert_eq!(code(&mut reader, "leave", "small/a"), 200);
        assert_eq!(code(&mut editor, "join", "small/a"), 200);
        assert_eq!(code(&mut reader, "join", "small/a"), 429);
        assert_eq!(code(&mut editor, "say", "news/world"), 200);
        assert_eq!(reader.json()["data"], "said");
        // What is not the client's own doing needs no permission.
        running.gateway().publish("news/world", "outside").unwrap();
        assert_eq!(reader.json()["data"], "outside");
    });
}

#[test]
fn a_full_room_refuses_the_connection() {
    both(|setup| {
        let endpoint = room_endpoint().join("lobby").unwrap().on_connect(|_, admission| {
            let rooms = vec!["other".to_owned()];
            admission.accept(Accept { rooms, ..Accept::default() });
        });
        let running = setup.start(only(endpoint).room_policy("lobby", policy(None, None, Some(2))));
        let [mut first, mut second] = [(); 2].map(|()| open(&running));
        for _ in 0..3 {
            let mut peer = Client::dial(addr(&running));
            peer.send(&crate::client::request(PATH));
            assert_eq!(peer.head().status, 503);
        }
        // The room that it was let into it is out of again.
        stats_until(&running, "4 memberships", |s| s["worker_totals"]["memberships"] == 4);
        assert_eq!(running.stats()["refusals"]["hook"], 3);
        first.close(1000);
        first.expect_close(1000);
        stats_until(&running, "its end", |s| s["worker_totals"]["memberships"] == 2);
        let mut third = open(&running);
        running.gateway().publish("lobby", "both").unwrap();
        for peer in [&mut second, &mut third] {
            assert_eq!(peer.json()["data"], "both");
        }
    });
}

#[test]
fn a_connection_is_in_no_room_that_refused_it() {
    both(|setup| {
        let builder = only(room_endpoint()).room_policy("small", policy(None, None, Some(1)));
        let running = setup.start(builder);
        let (mut first, mut second) = (open(&running), open(&running));
        let rooms = |peer: &mut Client| peer.ask("rooms", 1, json!(null))["body"].clone();
        for _ in 0..3 {
            assert_eq!(first.ask("join", 2, json!("small"))["body"], "done");
            assert_eq!(second.ask("join", 3, json!("small"))["error"]["code"], 429);
            assert_eq!(rooms(&mut second), json!([]));
            assert_eq!(rooms(&mut first), json!(["small"]));
            assert_eq!(first.ask("leave", 4, json!("small"))["body"], "done");
            assert_eq!(second.ask("join", 5, json!("small"))["body"], "done");
            assert_eq!(rooms(&mut second), json!(["small"]));
            assert_eq!(second.ask("leave", 6, json!("small"))["body"], "done");
        }
    });
}

/// Whatever became of joins that crossed each other: nobody stays behind in a room.
#[test]
fn joins_and_refusals_that_cross_leave_nothing() {
    both(|setup| {
        let builder = only(room_endpoint()).room_policy("small", policy(None, None, Some(1)));
        let running = setup.start(builder);
        let mut peers = [(); 6].map(|()| open(&running));
        for id in 0..60 {
            for peer in &mut peers {
                let route = if id % 3 == 1 { "leave" } else { "join" };
                peer.request(route, id, json!("small"));
            }
        }
        for peer in &mut peers {
            let last = (0..60).map(|_| peer.json()).max_by_key(|answer| answer["id"].as_u64());
            let is_in = last.unwrap()["body"] == "done";
            let rooms = if is_in { json!(["small"]) } else { json!([]) };
            assert_eq!(peer.ask("rooms", 99, json!(null))["body"], rooms);
        }
        assert_eq!(running.stats()["worker_totals"]["memberships"], 1);
        for peer in &mut peers {
            peer.close(1000);
            peer.expect_close(1000);
        }
        stats_until(&running, "no room", |s| s["worker_totals"]["rooms"] == 0);
        assert_eq!(running.stats()["late_answers"], 0);
    });
}

#[test]
fn a_policy_for_all_rooms_is_none_for_users() {
    both(|setup| {
        let endpoint = endpoint().on_connect(|_, admission| {
            let identity = Identity::new("ann").ok();
            admission.accept(Accept { identity, ..Accept::default() });
        });
        let all = policy(Some("nobody"), Some("nobody"), Some(1));
        let running = setup.start(only(endpoint).room_policy("*", all));
        let mut peers = [(); 3].map(|()| open(&running));
        running.gateway().push_to_user("ann", "to all of hers").unwrap();
        for peer in &mut peers {
            assert_eq!(peer.json()["data"], "to all of hers");
        }
    });
}

#[test]
fn a_room_is_closed() {
    both(|setup| {
        let running = setup.serve(room_endpoint());
        for from_handler in [true, false] {
            let mut peers: Vec<Client> = (0..12).map(|_| open(&running)).collect();
            let mut outsider = open(&running);
            for peer in &mut peers {
                assert_eq!(peer.ask("join", 1, json!("hall"))["body"], "done");
            }
            running.gateway().publish("hall", "the last").unwrap();
            for peer in &mut peers {
                assert_eq!(peer.json()["data"], "the last");
            }
            if from_handler {
                assert_eq!(outsider.ask("close", 2, json!("hall"))["body"], "done");
            } else {
                running.gateway().close_room("hall", 4001, "closed").unwrap();
            }
            for peer in &mut peers {
                assert_eq!(peer.expect_close_and_end(4001), "closed");
            }
            assert_eq!(outsider.ask("echo", 3, json!(3))["body"], 3);
            stats_until(&running, "no room", |s| s["worker_totals"]["rooms"] == 0);
            running.gateway().close_room("hall", 4001, "nobody is there").unwrap();
        }
        assert_eq!(running.stats()["closes"]["handler"], 24);
    });
}
