//! From a key to a handler, and who may use it.

use serde_json::json;
use tidegate::{Accept, Body, Dialect, Endpoint, Gateway, JsonDialect, Route};

use crate::client::{Client, Frame};
use crate::speakers::{Heard, Hub, Speaker, hub};
use crate::{PATH, addr, both, endpoint, late, only, open};

/// Answers with its own name.
fn named(endpoint: Endpoint, key: &'static str) -> Endpoint {
    endpoint.route(key, move |ctx, _| ctx.reply(key))
}

#[test]
fn the_closest_route_is_taken() {
    both(|setup| {
        let keys = ["chat.*", "chat.room.*", "chat.talk", "*", "7"];
        let running = setup.serve(keys.into_iter().fold(endpoint(), named));
        let mut peer = open(&running);
        for (key, found) in [
            ("chat.talk", "chat.talk"),
            ("chat.talks", "chat.*"),
            ("chat.room.join", "chat.room.*"),
            ("chat.room", "chat.*"),
            ("chat", "*"),
            ("7", "7"),
            ("8", "*"),
        ] {
            assert_eq!(peer.ask(key, 1, json!(null))["body"], found, "{key}");
        }
    });
}

#[test]
fn without_a_default_there_is_error_404() {
    both(|setup| {
        let running = setup.serve(named(endpoint(), "chat.*"));
        let mut peer = open(&running);
        assert_eq!(peer.ask("chat", 1, json!(null))["error"]["code"], 404);
        assert_eq!(peer.ask("chat.x", 2, json!(null))["body"], "chat.*");
    });
}

#[test]
fn numbers() {
    both(|setup| {
        let endpoint = Endpoint::new(PATH, Dialect::Hub);
        let running = setup.serve(["2", "10*", "*"].into_iter().fold(endpoint, named));
        let mut peer = Client::open(addr(&running), PATH);
        for (number, found) in [(2, "2"), (20, "*"), (10, "10*"), (1000, "10*"), (u32::MAX, "*")] {
            peer.binary(&hub(number, 2, b""));
            let answer = Frame::new(crate::client::BINARY, hub(number, 2, found.as_bytes()));
            assert_eq!(peer.frame(), Some(answer), "{number}");
        }
    });
}

#[test]
fn what_wants_no_answer_gets_none() {
    both(|setup| {
        let endpoint = Hub.route(Hub.endpoint(), "echo", |ctx, m| {
            assert!(!ctx.wants_answer() || m.correlation.is_some());
            ctx.reply(m.body);
        });
        let running = setup.serve(endpoint);
        let mut peer = Speaker::open(&running, Hub);
        peer.request("echo", 0, &json!("one way"));
        peer.request("echo", 2, &json!("asked"));
        assert_eq!(peer.hear(), Heard::Answer { id: 2, body: json!("asked") });
        assert_eq!(late(&running), 1, "what was given all the same is counted");
    });
}

#[test]
fn a_permission_is_granted_by_the_endpoint_or_by_the_hook() {
    both(|setup| {
        let at = |path: &str| {
            Endpoint::new(path, Dialect::Json(JsonDialect::default())).route_with(
                "admin",
                Route::new(|ctx, _| {
                    ctx.reply_json(&json!([ctx.may("admin"), ctx.may("other")]));
                })
                .permission("admin"),
            )
        };
        let hooked = at("/hooked").on_connect(|request, admission| {
            let permissions = request.query.into_iter().map(str::to_owned).collect();
            admission.accept(Accept { permissions, ..Accept::default() });
        });
        let builder = Gateway::builder()
            .endpoint(at("/none"))
            .endpoint(at("/granted").grant("admin"))
            .endpoint(hooked);
        let running = setup.start(builder);
        for (path, is_let) in [
            ("/none", false),
            ("/granted", true),
            ("/hooked", false),
            ("/hooked?admin", true),
            ("/hooked?adminx", false),
        ] {
            let mut peer = Client::open(addr(&running), path);
            let answer = peer.ask("admin", 1, json!(null));
            if is_let {
                assert_eq!(answer["body"], json!([true, false]), "{path}");
            } else {
                assert_eq!(answer["error"]["code"], 403, "{path}: {answer}");
            }
        }
    });
}

#[test]
fn middleware_does_not_see_what_is_not_permitted() {
    both(|setup| {
        let secret = Route::new(|ctx, _| ctx.reply("secret")).permission("p");
        let endpoint = endpoint().route_with("secret", secret).before(|ctx, m| {
            assert_ne!(m.key, "secret");
            ctx.store().set("seen", 1).unwrap();
            tidegate::Flow::Continue
        });
        let running = setup.start(only(endpoint));
        let mut peer = open(&running);
        assert_eq!(peer.ask("secret", 1, json!(null))["error"]["code"], 403);
        assert_eq!(running.stats()["worker_totals"]["panics"], 0);
        assert_eq!(peer.ask("echo", 2, json!(2))["body"], 2);
    });
}

#[test]
fn a_route_replaces_the_one_of_its_key() {
    both(|setup| {
        let running = setup.serve(endpoint().route("echo", |ctx, _| ctx.reply(Body::Json("[]"))));
        assert_eq!(open(&running).ask("echo", 1, json!("x"))["body"], json!([]));
    });
}
