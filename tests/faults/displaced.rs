//! D: a displaced client's late logout removes the new login's record.

use serde_json::json;
use tidegate::routing::IdentityPart;
use tidegate::{Endpoint, Gateway, Running, SessionPolicy};

use crate::client::{Client, close_frame, request};
use crate::speakers::{Heard, Kim, Mef, Speaker};
use crate::{Setup, addr, both, stats_until};

/// How the displaced one goes, late.
#[derive(Clone, Copy, Debug)]
enum Late {
    /// By the rest of the closing handshake.
    Close,
    /// By the end of its stream.
    End,
    /// By a reset.
    Reset,
    /// Not at all: the gateway's time for it runs out.
    Never,
}

/// At `/kim` the newest of an identity stays, at `/mef` the oldest.
fn serve(setup: Setup) -> Running {
    let identified = |endpoint: Endpoint, policy| {
        let parts: Vec<IdentityPart> = vec!["query.user".parse().unwrap()];
        endpoint.identified_by(parts).session(policy)
    };
    let echo = |endpoint: Endpoint| endpoint.route("echo", |ctx, m| ctx.reply(m.body));
    let builder = Gateway::builder()
        .without_default_endpoints()
        .endpoint(identified(echo(Kim.endpoint()), SessionPolicy::Displace))
        .endpoint(identified(Mef.endpoint(), SessionPolicy::Reject));
    setup.start(builder, |config| config.close_timeout = std::time::Duration::from_millis(500))
}

fn path(endpoint: &str, user: &str) -> String {
    format!("{endpoint}?user={user}")
}

fn log_in(running: &Running) -> Client {
    Client::open(addr(running), &path("/kim", "ann"))
}

/// How a login at the endpoint that rejects is answered.
fn rejected(running: &Running) -> u16 {
    let mut client = Client::dial(addr(running));
    client.send(&request(&path("/mef", "ann")));
    client.head().status
}

fn go(client: Client, late: Late) -> Option<Client> {
    let mut client = client;
    match late {
        Late::Close => client.send(&close_frame(4001)),
        Late::End => client.finish(),
        Late::Reset => {
            client.reset();
            return None;
        }
        Late::Never => {}
    }
    Some(client)
}

#[test]
fn the_late_end_of_a_displaced_client_leaves_the_record_of_the_new_one() {
    both(|setup| {
        for late in [Late::Close, Late::End, Late::Reset, Late::Never] {
            let running = serve(setup);
            let mut old = log_in(&running);
            let new = log_in(&running);
            // It is told, and is in no hurry.
            old.expect_close(4001);
            let mut new = Speaker::over(new, Kim);
            new.request("echo", 2, &json!("here"));
            assert_eq!(new.hear(), Heard::Answer { id: 2, body: json!("here") }, "{late:?}");
            let _old = go(old, late);
            stats_until(&running, "its end", |s| s["totals"]["connections"] == 1);
            // The record is the new one's: it is found by it, refuses others, and gives way again.
            running.gateway().push_to_user("ann", "for ann").unwrap();
            let pushed = Heard::Push { word: "chat.room.push".to_owned(), body: json!("for ann") };
            assert_eq!(new.hear(), pushed, "{late:?}");
            assert_eq!(rejected(&running), 409, "{late:?}");
            let newest = Speaker::over(log_in(&running), Kim);
            drop(new);
            stats_until(&running, "one", |s| s["totals"]["open"] == 1);
            drop(newest);
        }
    });
}

#[test]
fn an_identity_whose_last_client_has_gone_has_no_record_left() {
    both(|setup| {
        let running = serve(setup);
        let mut old = log_in(&running);
        let new = log_in(&running);
        old.expect_close(4001);
        // The other way round: the new one goes first, and then the displaced one.
        drop(new);
        stats_until(&running, "one", |s| s["totals"]["open"] == 0);
        drop(old);
        stats_until(&running, "none", |s| s["totals"]["connections"] == 0);
        stats_until(&running, "no record", |s| s["worker_totals"]["memberships"] == 0);
        let mut client = Client::open(addr(&running), &path(&Mef.path(), "ann"));
        client.close(1000);
        client.expect_close(1000);
    });
}
