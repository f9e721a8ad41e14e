//! Who connects again, under each policy.

use std::thread;

use serde_json::json;
use tidegate::routing::IdentityPart;
use tidegate::{Endpoint, SessionPolicy};

use crate::client::{Client, request};
use crate::{addr, both, endpoint, stats_until};

const ANN: &str = "/t?user=ann&device=1";

fn identified(policy: SessionPolicy) -> Endpoint {
    let parts: Vec<IdentityPart> =
        ["query.user", "query.device"].map(|part| part.parse().unwrap()).into();
    endpoint().identified_by(parts).session(policy).route("who", |ctx, _| {
        let who = ctx.identity().map(str::to_owned);
        ctx.reply_json(&who);
    })
}

fn status(addr: std::net::SocketAddr, path: &str) -> u16 {
    let mut client = Client::dial(addr);
    client.send(&request(path));
    client.head().status
}

#[test]
fn an_identity_is_its_parts_and_all_of_them_have_to_be_there() {
    both(|setup| {
        let running = setup.serve(identified(SessionPolicy::Allow));
        let mut ann = Client::open(addr(&running), "/t?x=1&device=a%20b&user=ann");
        assert_eq!(ann.ask("who", 1, json!(null))["body"], "ann-a b");
        for (path, wanted) in [
            ("/t", 401),
            ("/t?user=ann", 401),
            ("/t?user=&device=1", 401),
            ("/t?user=%0a&device=1", 400),
            (&format!("/t?user={}&device=1", "x".repeat(65)), 400),
        ] {
            assert_eq!(status(addr(&running), path), wanted, "{path}");
        }
    });
}

#[test]
fn the_one_that_is_there_stays_where_others_are_rejected() {
    both(|setup| {
        let running = setup.serve(identified(SessionPolicy::Reject));
        let mut first = Client::open(addr(&running), ANN);
        assert_eq!(status(addr(&running), ANN), 409);
        let mut other = Client::open(addr(&running), "/t?user=ann&device=2");
        assert_eq!(other.ask("echo", 1, 1)["body"], 1, "another identity");
        assert_eq!(first.ask("echo", 1, 1)["body"], 1);
        first.close(1000);
        first.expect_close(1000);
        drop(other);
        stats_until(&running, "all gone", |s| s["worker_totals"]["memberships"] == 0);
        let mut again = Client::open(addr(&running), ANN);
        assert_eq!(again.ask("echo", 1, 1)["body"], 1);
    });
}

#[test]
fn so_many_may_be_there() {
    both(|setup| {
        let running = setup.serve(identified(SessionPolicy::AllowUpTo(2)));
        let _both = [Client::open(addr(&running), ANN), Client::open(addr(&running), ANN)];
        assert_eq!(status(addr(&running), ANN), 409);
    });
}

#[test]
fn the_new_one_takes_the_place_of_the_old_one() {
    both(|setup| {
        let running = setup.serve(identified(SessionPolicy::Displace));
        let mut old = Client::open(addr(&running), ANN);
        let mut new = Client::open(addr(&running), ANN);
        old.expect_close(4001);
        // The late end of the old one takes nothing from the new one.
        stats_until(&running, "one", |s| s["worker_totals"]["memberships"] == 1);
        running.gateway().push_to_user("ann-1", "for ann").unwrap();
        assert_eq!(new.json()["data"], "for ann");
    });
}

#[test]
fn of_two_that_come_at_once_one_is_left() {
    both(|setup| {
        for policy in [SessionPolicy::Reject, SessionPolicy::Displace] {
            let running = setup.serve(identified(policy));
            let clients: Vec<_> = thread::scope(|scope| {
                let came: Vec<_> = (0..8)
                    .map(|_| {
                        scope.spawn(|| {
                            let mut client = Client::dial(addr(&running));
                            client.send(&request(ANN));
                            (client.head().status, client)
                        })
                    })
                    .collect();
                came.into_iter().map(|client| client.join().unwrap()).collect()
            });
            let refusals = clients.iter().filter(|(status, _)| *status == 409).count();
            assert!(policy != SessionPolicy::Reject || refusals == 7, "{refusals} refused");
            // All of them are still there, but for what the gateway did.
            stats_until(&running, "one is left", |s| {
                s["worker_totals"]["memberships"] == 1 && s["totals"]["open"] == 1
            });
            drop(clients);
        }
    });
}
