//! C: a write error to one member ends a broadcast to the rest; the reaper of empty rooms stops at the
//! first busy one.

use std::sync::{Mutex, mpsc};
use std::time::Duration;

use serde_json::json;
use tidegate::{Endpoint, SelfDelivery};

use crate::client::Client;
use crate::{addr, both, got, only, stats_until};

/// Of each kind, one beside the other.
const MEMBERS: usize = 20;
/// How often members vanish in the very moment of a broadcast.
const ROUNDS: usize = 30;
/// Of each kind, in turn: busy ones, some that are left, and some that are come back to.
const ROOMS: usize = 40;

fn rooms() -> Endpoint {
    Endpoint::room("/room/{name}", "room/{name}").expect("the room is the path's")
}

fn heard(what: &str) -> serde_json::Value {
    json!({"name": "message", "message": what})
}

#[test]
fn a_write_error_to_one_member_ends_no_broadcast() {
    both(|setup| {
        let ((tell, held), (go, gone)) = (mpsc::channel(), mpsc::channel());
        let gone = Mutex::new(gone);
        // On its loop, the handler holds the loop up: that members are gone is first seen when the
        // broadcast is written to them.
        let room = rooms().route("hold", move |ctx, message| {
            tell.send(()).unwrap();
            got(&gone.lock().unwrap());
            ctx.publish("room/sea", message.body, SelfDelivery::Include).unwrap();
        });
        let running = setup.start(only(room), |config| config.loops = 1);
        let open = || Client::open(addr(&running), "/room/sea");
        let (mut staying, vanishing): (Vec<_>, Vec<_>) =
            (0..MEMBERS).map(|_| (open(), open())).unzip();
        staying[0].text(r#"{"name":"hold","message":"now"}"#);
        got(&held);
        vanishing.into_iter().for_each(Client::reset);
        go.send(()).unwrap();
        staying[1].text(r#"{"name":"publish","message":"then"}"#);
        for member in &mut staying {
            assert_eq!(member.json(), heard("now"));
            assert_eq!(member.json(), heard("then"));
        }
        let stats = stats_until(&running, "their ends", |s| s["totals"]["closed"] == MEMBERS);
        // The first to notice is the read or the write, of which the kernel tells one alone.
        let cause = |name: &str| stats["closes"][name].as_u64().expect("a counter");
        assert_eq!(cause("socket_error") + cause("peer_eof"), MEMBERS as u64, "{stats:#}");
    });
}

#[test]
fn members_that_vanish_meanwhile_end_no_broadcast() {
    both(|setup| {
        let running = setup.serve(rooms());
        let open = || Client::open(addr(&running), "/room/sea");
        let mut staying: Vec<_> = (0..3).map(|_| open()).collect();
        for round in 0..ROUNDS {
            let mut vanishing: Vec<_> = (0..6).map(|_| open()).collect();
            let what = format!("{round} {}", "x".repeat(1_000));
            let publish = json!({"name": "publish", "message": what}).to_string();
            // One half ends the stream in order, the other does not.
            vanishing.iter_mut().step_by(2).for_each(Client::finish);
            staying[round % 3].text(&publish);
            vanishing.into_iter().for_each(Client::reset);
            for member in &mut staying {
                assert_eq!(member.json(), heard(&what));
            }
        }
        stats_until(&running, "their ends", |s| s["totals"]["open"] == 3);
    });
}

#[test]
fn the_reaper_does_not_stop_at_busy_rooms() {
    both(|setup| {
        let running = setup.start(only(rooms()), |config| {
            config.tuning.room_linger = Duration::from_millis(300);
        });
        let open = |kind, n| Client::open(addr(&running), &format!("/room/{kind}-{n}"));
        let mut staying = Vec::new();
        let mut leaving = Vec::new();
        for n in 0..ROOMS {
            staying.push(open("busy", n));
            leaving.extend([open("left", n), open("back", n)]);
        }
        drop(leaving);
        // Come back to before they are reaped, or made anew: a busy room in either case.
        staying.extend((0..ROOMS).map(|n| open("back", n)));
        let stats = stats_until(&running, "empty rooms reaped", |s| {
            let totals = &s["worker_totals"];
            totals["rooms_empty"] == 0 && totals["rooms"] == 2 * ROOMS
        });
        assert!(stats["worker_totals"]["rooms_reaped"].as_u64() >= Some(ROOMS as u64));
        assert_eq!(stats["worker_totals"]["memberships"], 2 * ROOMS);
        for (n, member) in staying.iter_mut().enumerate() {
            member.text(&json!({"name": "publish", "message": n.to_string()}).to_string());
            assert_eq!(member.json(), heard(&n.to_string()));
        }
        drop(staying);
        stats_until(&running, "all rooms reaped", |s| {
            s["worker_totals"]["rooms_empty"] == 0 && s["worker_totals"]["rooms"] == 0
        });
    });
}
