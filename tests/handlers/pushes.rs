//! What is sent without being asked for: to one, to some, to a user's, to all.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tidegate::{Accept, Body, ConnId, Content, Context, Endpoint, Gateway, Identity, SelfDelivery};

use crate::client::Client;
use crate::speakers::{Action, Event, Heard, Hub, Json, Kim, Mef, Speaker, everywhere};
use crate::{
    PATH, addr, all_gone, both, endpoint, got, late, open, open_apart, open_known, stats_until,
    telling_ids,
};

fn push(data: Value) -> Value {
    json!({"event": "push", "data": data})
}

/// Connections that a handler is to push to.
type Targets = Arc<Mutex<Vec<ConnId>>>;

/// With the route `send`, which does this with the targets.
fn sending(
    endpoint: Endpoint,
    send: impl Fn(&mut Context<'_>, &[ConnId], Body<'_>) + Send + Sync + 'static,
) -> (Endpoint, Targets) {
    let targets = Targets::default();
    let known = Arc::clone(&targets);
    let endpoint = endpoint.route("send", move |ctx, m| {
        let targets = known.lock().unwrap().clone();
        send(ctx, &targets, m.body);
    });
    (endpoint, targets)
}

/// Nothing came before the answer to this.
fn quiet(peer: &mut Client) {
    assert_eq!(peer.ask("echo", 999, json!("quiet"))["body"], "quiet");
}

#[test]
fn to_one_and_to_a_list() {
    both(|setup| {
        let (endpoint, told) = telling_ids(endpoint());
        let (endpoint, targets) = sending(endpoint, |ctx, targets, body| {
            ctx.push(targets[0], body);
            ctx.push_to(targets, Body::Text("to the list"));
        });
        let running = setup.serve(endpoint);
        let (gone, stale) = open_known(&running, &told);
        drop(gone);
        all_gone(&running);
        let [(mut one, one_id), (mut two, two_id)] = open_apart(&running, &told);
        let mut other = open(&running);
        let never = ConnId::new(1000, 1, 7);
        *targets.lock().unwrap() = vec![one_id, stale, two_id, never];
        assert_eq!(other.ask("send", 1, json!({"n": 1}))["body"], json!(null));
        assert_eq!(one.json(), push(json!({"n": 1})));
        assert_eq!(one.json(), push(json!("to the list")));
        assert_eq!(two.json(), push(json!("to the list")));
        let gateway = running.gateway();
        gateway.push(one_id, Body::Json("[1]")).unwrap();
        gateway.push_to(&[stale, never, two_id, two_id], Body::Json("[2]")).unwrap();
        assert_eq!(one.json(), push(json!([1])));
        assert_eq!((two.json(), two.json()), (push(json!([2])), push(json!([2]))));
        [&mut one, &mut two, &mut other].into_iter().for_each(quiet);
        stats_until(&running, "dead ones counted", |s| s["drops"]["stale_connection"] == 2);
        assert_eq!(late(&running), 2, "ids that were never given out");
    });
}

#[test]
fn to_all_connections_of_a_user() {
    both(|setup| {
        let endpoint = endpoint()
            .route("send", |ctx, m| ctx.push_to_user("ann", m.body))
            .on_connect(|request, admission| {
                let identity = request.query.and_then(|user| Identity::new(user).ok());
                admission.accept(Accept { identity, ..Accept::default() });
            });
        let running = setup.serve(endpoint);
        let open = |query| Client::open(addr(&running), &format!("{PATH}{query}"));
        let mut anns = [open("?ann"), open("?ann"), open("?ann")];
        let mut others = [open("?anna"), open("?an"), open(""), open("?ANN")];
        others[0].request("send", 1, json!("from another"));
        assert_eq!(others[0].json(), json!({"id": 1, "body": null}));
        running.gateway().push_to_user("ann", "from outside").unwrap();
        running.gateway().push_to_user("nobody", "to nobody").unwrap();
        for ann in &mut anns {
            assert_eq!(ann.json(), push(json!("from another")));
            assert_eq!(ann.json(), push(json!("from outside")));
        }
        anns.iter_mut().chain(&mut others).for_each(quiet);
        // One that has ended is none of the user's any more.
        let [first, ..] = &mut anns;
        first.close(1000);
        first.expect_close(1000);
        stats_until(&running, "its end", |s| s["worker_totals"]["logins"] == 5);
        running.gateway().push_to_user("ann", "once more").unwrap();
        for ann in &mut anns[1..] {
            assert_eq!(ann.json(), push(json!("once more")));
        }
        assert_eq!(running.stats()["drops"]["stale_connection"], 0);
    });
}

#[test]
fn to_everyone() {
    both(|setup| {
        let endpoint = endpoint()
            .route("all", |ctx, m| ctx.push_to_all(m.body, SelfDelivery::Include))
            .route("others", |ctx, m| ctx.push_to_all(m.body, SelfDelivery::Exclude));
        let running = setup.serve(endpoint);
        let mut peers: Vec<Client> = (0..20).map(|_| open(&running)).collect();
        peers[0].request("all", 1, json!("all"));
        let mut own = [peers[0].json(), peers[0].json()];
        own.sort_by_key(|message| message["id"].as_u64());
        assert_eq!(own, [push(json!("all")), json!({"id": 1, "body": null})]);
        assert_eq!(peers[0].ask("others", 2, json!("others"))["body"], json!(null));
        for peer in &mut peers[1..] {
            let (first, second) = (peer.json(), peer.json());
            assert_eq!((first, second), (push(json!("all")), push(json!("others"))));
        }
        running.gateway().push_to_all("from outside").unwrap();
        for peer in &mut peers {
            assert_eq!(peer.json(), push(json!("from outside")));
            quiet(peer);
        }
    });
}

#[test]
fn what_a_push_is_about() {
    both(|setup| {
        let builder = everywhere(Gateway::builder(), |tongue, endpoint| {
            tongue.route(endpoint, "echo", |ctx, m| ctx.reply(m.body))
        });
        let running = setup.start(builder);
        let mut peers = [Json, Event, Mef, Action, Hub, Kim].map(|t| Speaker::open(&running, t));
        for peer in &mut peers {
            // Open, and known to be so.
            peer.request("echo", 2, &json!("x"));
            peer.hear();
        }
        let send = |content: Content<'_>| running.gateway().push_to_all(content).unwrap();
        send(Content::named("news", Body::Json("{\"a\":1}")));
        let words = ["news", "news", "news", "news", "1", "news"];
        for (peer, word) in peers.iter_mut().zip(words) {
            let body = json!({"a": 1});
            assert_eq!(peer.hear(), Heard::Push { word: word.to_owned(), body });
        }
        send("x".into());
        let words = ["push", "message", "publish", "publish", "1", "chat.room.push"];
        for (peer, word) in peers.iter_mut().zip(words) {
            assert_eq!(peer.hear(), Heard::Push { word: word.to_owned(), body: json!("x") });
        }
    });
}

#[test]
fn a_hub_push_is_about_a_number() {
    both(|setup| {
        let (ids, told) = std::sync::mpsc::channel();
        let endpoint = Hub.route(Hub.endpoint(), "id", crate::tell(&ids));
        let running = setup.serve(endpoint);
        let mut peer = Speaker::open(&running, Hub);
        peer.request("id", 2, &json!(null));
        let id = got(&told);
        peer.hear();
        running.gateway().push(id, Content::named("2147483647", &b"bye"[..])).unwrap();
        let word = "2147483647".to_owned();
        assert_eq!(peer.hear(), Heard::Push { word, body: json!("bye") });
    });
}
