//! D: a displaced client's late logout removes the new login's record.

use std::thread;
use std::time::Duration;

use serde_json::json;
use tidegate::routing::IdentitySource;
use tidegate::{Endpoint, Gateway, Identity, Running, SessionPolicy};

use crate::client::{BINARY, Client, close_frame, frame, request};
use crate::speakers::{Heard, Kim, Mef, Speaker, kim};
use crate::{Setup, addr, both, stats_until};

/// How often a logout and a login meet.
const ROUNDS: usize = 60;

/// How clients log in.
#[derive(Clone, Copy, Debug, PartialEq)]
enum How {
    /// Their request says who they are.
    Request,
    /// Their first packet does.
    Packet,
}

/// How the displaced one goes, late.
#[derive(Clone, Copy, Debug)]
enum Late {
    /// It logs out, and then ends its stream.
    LogOut,
    /// By the rest of the closing handshake.
    Close,
    /// By the end of its stream.
    End,
    /// By a reset.
    Reset,
    /// Not at all: the gateway's time for it runs out.
    Never,
}

impl Late {
    const ALL: [Self; 5] = [Self::LogOut, Self::Close, Self::End, Self::Reset, Self::Never];

    /// It goes; what is left of it.
    fn go(self, mut client: Client) -> Option<Client> {
        match self {
            Self::LogOut => {
                client.send(&frame(BINARY, &kim("login.signout", 8, 0, 0, b"")));
                client.finish();
            }
            Self::Close => client.send(&close_frame(4001)),
            Self::End => client.finish(),
            Self::Reset => {
                client.reset();
                return None;
            }
            Self::Never => {}
        }
        Some(client)
    }
}

fn identified(endpoint: Endpoint) -> Endpoint {
    let id = vec!["query.user".parse().unwrap()];
    endpoint.identified_by(IdentitySource { id, ..IdentitySource::default() })
}

/// At `/kim` the newest of an identity stays, by either way to log in, at `/mef` the oldest.
fn serve(setup: Setup) -> Running {
    let chat = |path: &str| {
        Endpoint::new(path, Kim.dialect())
            .session(SessionPolicy::Displace)
            .route("echo", |ctx, message| ctx.reply(message.body))
            .route("login.signin", |ctx, message| {
                let user = std::str::from_utf8(message.body.as_bytes()).unwrap();
                match ctx.login(Identity::new(user).unwrap()) {
                    Ok(()) => ctx.reply("welcome"),
                    Err(error) => ctx.reply_error(error.code, &error.message),
                }
            })
            .route("login.signout", |ctx, _| ctx.logout())
    };
    let builder = Gateway::builder()
        .without_default_endpoints()
        .endpoint(chat("/packet"))
        .endpoint(identified(chat("/kim")))
        .endpoint(identified(Mef.endpoint()).session(SessionPolicy::Reject));
    setup.start(builder, |config| config.close_timeout = Duration::from_millis(500))
}

fn log_in(running: &Running, how: How) -> Client {
    if how == How::Request {
        return Client::open(addr(running), "/kim?user=ann");
    }
    let mut client = Client::open(addr(running), "/packet");
    client.send(&frame(BINARY, &kim("login.signin", 2, 0, 0, b"ann")));
    assert!(client.frame().expect("an answer").payload.ends_with(b"welcome"));
    client
}

/// Reads that it is displaced, in words and by a Close.
fn hears_that_it_is_displaced(client: &mut Client) {
    let notice = client.frame().expect("a notice");
    assert_eq!((notice.opcode, &notice.payload[..4]), (BINARY, &[0xc3, 0x11, 0xa3, 0x65][..]));
    client.expect_close(4001);
}

/// How a login at the endpoint that rejects is answered.
fn rejected(running: &Running) -> u16 {
    let mut client = Client::dial(addr(running));
    client.send(&request("/mef?user=ann"));
    client.head().status
}

/// What is sent to the user reaches this one.
fn is_reached(running: &Running, client: &mut Speaker) {
    running.gateway().push_to_user("ann", "for ann").unwrap();
    let push = Heard::Push { word: "chat.room.push".to_owned(), body: json!("for ann") };
    assert_eq!(client.hear(), push);
}

#[test]
fn the_late_logout_of_a_displaced_client_leaves_the_record_of_the_new_one() {
    both(|setup| {
        for (how, late) in [How::Request, How::Packet]
            .into_iter()
            .flat_map(|how| Late::ALL.map(move |late| (how, late)))
        {
            let running = serve(setup);
            let mut old = log_in(&running, how);
            let mut new = Speaker::over(log_in(&running, how), Kim);
            // It is told, and is in no hurry.
            hears_that_it_is_displaced(&mut old);
            new.request("echo", 4, &json!("here"));
            assert_eq!(
                new.hear(),
                Heard::Answer { id: 4, body: json!("here") },
                "{how:?} {late:?}"
            );
            let _old = late.go(old);
            stats_until(&running, "its end", |s| s["totals"]["connections"] == 1);
            // The record is the new one's: it is found by it, refuses others, and gives way again.
            is_reached(&running, &mut new);
            assert_eq!(rejected(&running), 409, "{how:?} {late:?}");
            let newest = log_in(&running, how);
            drop(new);
            stats_until(&running, "one", |s| s["totals"]["open"] == 1);
            assert_eq!(running.stats()["worker_totals"]["logins"], 1, "{how:?} {late:?}");
            drop(newest);
        }
    });
}

#[test]
fn a_logout_and_a_login_that_meet_leave_the_record_of_the_login() {
    both(|setup| {
        let running = serve(setup);
        for round in 0..ROUNDS {
            let mut old = log_in(&running, How::Packet);
            let new = thread::scope(|scope| {
                let logging_in = scope.spawn(|| log_in(&running, How::Packet));
                // It may be displaced before, and closed.
                let logout = frame(BINARY, &kim("login.signout", 8, 0, 0, b""));
                let _ = std::io::Write::write_all(&mut old.stream, &logout);
                logging_in.join().unwrap()
            });
            is_reached(&running, &mut Speaker::over(new, Kim));
            drop(old);
            stats_until(&running, "none", |s| s["totals"]["connections"] == 0);
            stats_until(&running, &format!("no record, {round}"), |s| {
                s["worker_totals"]["logins"] == 0
            });
        }
    });
}

#[test]
fn an_identity_whose_last_client_has_gone_has_no_record_left() {
    both(|setup| {
        for how in [How::Request, How::Packet] {
            let running = serve(setup);
            let mut old = log_in(&running, how);
            let new = log_in(&running, how);
            hears_that_it_is_displaced(&mut old);
            // The other way round: the new one goes first, and then the displaced one.
            drop(new);
            stats_until(&running, "none is open", |s| s["totals"]["open"] == 0);
            drop(old);
            stats_until(&running, "none", |s| s["totals"]["connections"] == 0);
            stats_until(&running, "no record", |s| s["worker_totals"]["users"] == 0);
            assert_eq!(rejected(&running), 101);
        }
    });
}

#[test]
fn a_login_that_was_refused_takes_nothing_from_the_next() {
    both(|setup| {
        let builder = Gateway::builder().without_default_endpoints().endpoint(
            Endpoint::new("/kim", Kim.dialect())
                .session(SessionPolicy::Reject)
                .route("login.signin", |ctx, message| {
                    let user = std::str::from_utf8(message.body.as_bytes()).unwrap();
                    if let Err(error) = ctx.login(Identity::new(user).unwrap()) {
                        ctx.reply_error(error.code, &error.message);
                    }
                })
                .route("login.signout", |ctx, _| ctx.logout()),
        );
        let running = setup.start(builder, |_| {});
        let sign_in =
            |sn, user: &str| frame(BINARY, &kim("login.signin", sn, 0, 0, user.as_bytes()));
        let sign_out = |sn| frame(BINARY, &kim("login.signout", sn, 0, 0, b""));
        let mut ann = Client::open(addr(&running), "/kim");
        ann.send(&sign_in(2, "ann"));
        ann.frame().unwrap();
        for user in ["bob", "cid", "dan", "eve"] {
            let mut client = Client::open(addr(&running), "/kim");
            // All at once: the refusal comes when it has thought better of it.
            client.send(&[sign_in(2, "ann"), sign_out(4), sign_in(6, user)].concat());
            (0..3).for_each(|_| drop(client.frame().expect("an answer")));
            stats_until(&running, "both", |s| s["worker_totals"]["logins"] == 2);
            drop(client);
            stats_until(&running, "ann alone", |s| s["worker_totals"]["logins"] == 1);
        }
    });
}

#[test]
fn who_is_not_let_in_displaces_nobody() {
    both(|setup| {
        let endpoint = identified(Endpoint::new("/kim", Kim.dialect()))
            .session(SessionPolicy::Displace)
            .route("echo", |ctx, message| ctx.reply(message.body))
            .join("tea")
            .unwrap();
        let policy = tidegate::channels::RoomPolicy {
            max_members: Some(1),
            ..tidegate::channels::RoomPolicy::default()
        };
        let builder = crate::only(endpoint).room_policy("tea", policy);
        let running = setup.start(builder, |_| {});
        let ann = Client::open(addr(&running), "/kim?user=ann");
        let mut again = Client::dial(addr(&running));
        again.send(&request("/kim?user=ann"));
        // Its own place in the room is not free yet.
        assert_eq!(again.head().status, 503);
        let mut ann = Speaker::over(ann, Kim);
        ann.request("echo", 2, &json!("here"));
        assert_eq!(ann.hear(), Heard::Answer { id: 2, body: json!("here") });
    });
}
