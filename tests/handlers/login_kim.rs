//! System D's login: the first packet, over WebSocket and over plain TCP.

use std::thread;
use std::time::Duration;

use tidegate::{Dialect, Endpoint, Running, SelfDelivery, SessionPolicy};

use crate::client::{BINARY, Client, close_frame, frame};
use crate::login::{bad_tokens, json_endpoint, login_json, rule, token};
use crate::speakers::{hub, kim};
use crate::tcp_client::TcpClient;
use crate::{PATH, PATIENCE, Setup, addr, all_gone, both, only, stats_until};

const KIM: &str = "/kim";
/// System D's statuses.
const INVALID_PACKET_BODY: u8 = 101;
const INVALID_COMMAND: u8 = 103;
const UNAUTHORIZED: u8 = 105;

/// Protobuf's `{1: text}`, as far as a text has less than 2^14 bytes.
pub(crate) fn field(number: u8, text: &str) -> Vec<u8> {
    let len = text.len();
    let mut out = vec![number << 3 | 2];
    if len < 0x80 {
        out.push(len as u8);
    } else {
        out.extend([len as u8 | 0x80, (len >> 7) as u8]);
    }
    out.extend(text.as_bytes());
    out
}

fn kim_login(token: &str) -> Vec<u8> {
    kim("login.signin", 1, 0, 0, &field(1, token))
}

/// A packet of system D from the gateway: without what proto3 leaves out.
fn kim_packet(command: &str, sequence: u8, flag: u8, status: u8, body: &[u8]) -> Vec<u8> {
    let mut header = field(1, command);
    for (tag, number) in [(0x18, sequence), (0x20, flag), (0x28, status)] {
        if number > 0 {
            header.extend([tag, number]);
        }
    }
    let mut packet = vec![0xc3, 0x11, 0xa3, 0x65];
    for part in [&header[..], body] {
        packet.extend((part.len() as u32).to_be_bytes());
        packet.extend(part);
    }
    packet
}

/// A client of system D, over WebSocket or over plain TCP.
enum KimClient {
    WebSocket(Client),
    Tcp(TcpClient),
}

impl KimClient {
    fn open(running: &Running) -> Self {
        Self::WebSocket(Client::open(addr(running), KIM))
    }

    fn open_tcp(running: &Running) -> Self {
        Self::Tcp(TcpClient::dial(running.tcp_addresses()[0]))
    }

    fn send(&mut self, packet: &[u8]) {
        match self {
            Self::WebSocket(client) => client.binary(packet),
            Self::Tcp(client) => client.frame(BINARY, packet),
        }
    }

    fn next(&mut self) -> (u8, Vec<u8>) {
        match self {
            Self::WebSocket(client) => {
                let frame = client.frame().expect("a frame, not the end");
                (frame.opcode, frame.payload)
            }
            Self::Tcp(client) => client.next().expect("a frame, not the end"),
        }
    }

    fn expect(&mut self, packet: &[u8]) {
        let (opcode, got) = self.next();
        assert_eq!((opcode, &*got), (BINARY, packet), "{}", String::from_utf8_lossy(&got));
    }

    /// Reads a Close with this code and reason, answers it, and reads the end.
    fn expect_close(&mut self, code: u16, reason: &str) {
        let close = [&code.to_be_bytes()[..], reason.as_bytes()].concat();
        assert_eq!(self.next(), (8, close));
        match self {
            Self::WebSocket(client) => {
                client.send(&close_frame(code));
                client.expect_end();
            }
            Self::Tcp(client) => {
                client.close(code);
                assert_eq!(client.next(), None);
            }
        }
    }

    /// Logs in; says by which channel id others know it.
    fn login(&mut self, user: &str) -> String {
        self.send(&kim_login(&token(user)));
        self.welcome(user)
    }

    /// Reads the answer to a login that went well.
    fn welcome(&mut self, user: &str) -> String {
        let (_, got) = self.next();
        let body_at = got.len() - 34 - field(2, user).len();
        let channel = String::from_utf8(got[body_at + 2..body_at + 34].to_vec()).expect("an id");
        let body = [field(1, &channel), field(2, user)].concat();
        assert_eq!(got, kim_packet("login.signin", 1, 1, 0, &body));
        channel
    }
}

fn kim_endpoint(policy: SessionPolicy) -> Endpoint {
    Endpoint::new(KIM, Dialect::Kim)
        .login(rule())
        .session(policy)
        .route("chat.echo", |ctx, m| ctx.reply(m.body))
        .route("chat.join", |ctx, _| ctx.join("hall").unwrap())
        .route("chat.say", |ctx, m| ctx.publish("hall", m.body, SelfDelivery::Exclude).unwrap())
}

fn serve_kim(setup: Setup, policy: SessionPolicy) -> Running {
    let tcp = ([127, 0, 0, 1], 0);
    setup.start(only(kim_endpoint(policy)).tcp_listen(tcp, KIM))
}

/// Over WebSocket and over plain TCP.
const OPENERS: [fn(&Running) -> KimClient; 2] = [KimClient::open, KimClient::open_tcp];

#[test]
fn the_first_packet_of_kim_is_a_login_or_the_last() {
    both(|setup| {
        let running = serve_kim(setup, SessionPolicy::Allow);
        for open in OPENERS {
            let mut eve = open(&running);
            // Heartbeats are no packets in this sense.
            eve.send(&[0xc3, 0x15, 0xa7, 0x65, 0, 1, 0, 0]);
            eve.expect(&[0xc3, 0x15, 0xa7, 0x65, 0, 2, 0, 0]);
            eve.send(&kim("chat.echo", 1, 0, 0, b"hello?"));
            let error = field(1, "log in first");
            eve.expect(&kim_packet("chat.echo", 1, 1, INVALID_COMMAND, &error));
            eve.expect_close(1008, "not logged in");
            let mut eve = open(&running);
            eve.send(&kim("chat.echo", 0, 2, 0, b"a push has no answer"));
            eve.expect_close(1008, "not logged in");
        }
        all_gone(&running);
    });
}

#[test]
fn a_bad_login_of_kim_is_its_last_packet() {
    both(|setup| {
        let running = serve_kim(setup, SessionPolicy::Allow);
        for open in OPENERS {
            for (bad, why) in bad_tokens() {
                let mut eve = open(&running);
                eve.send(&kim_login(&bad));
                let error = field(1, why);
                eve.expect(&kim_packet("login.signin", 1, 1, UNAUTHORIZED, &error));
                eve.expect_close(1008, "not logged in");
            }
            let mut eve = open(&running);
            eve.send(&kim("login.signin", 1, 0, 0, b"\xff"));
            let error = field(1, "`body`: expected LoginReq {1: token}");
            eve.expect(&kim_packet("login.signin", 1, 1, INVALID_PACKET_BODY, &error));
            eve.expect_close(1008, "not logged in");
        }
    });
}

#[test]
fn who_does_not_log_in_in_time_is_closed() {
    both(|setup| {
        let wait = Duration::from_millis(200);
        let slow = |endpoint: Endpoint| endpoint.login(rule().wait(wait));
        let tcp = ([127, 0, 0, 1], 0);
        let builder = only(slow(kim_endpoint(SessionPolicy::Allow))).tcp_listen(tcp, KIM);
        let running = setup.start(builder.endpoint(slow(json_endpoint(SessionPolicy::Allow))));
        let mut ann = KimClient::open(&running);
        ann.login("ann");
        for open in OPENERS {
            let mut eve = open(&running);
            eve.send(&[0xc3, 0x15, 0xa7, 0x65, 0, 1, 0, 0]);
            eve.next();
            eve.expect_close(1008, "no login in time");
        }
        // Nor do requests that are refused help.
        let mut bob = Client::open(addr(&running), PATH);
        assert_eq!(bob.ask("echo", 1, 1)["error"]["code"], 401);
        assert_eq!(bob.expect_close_and_end(1008), "no login in time");
        ann.send(&kim("chat.echo", 2, 0, 0, b"still here"));
        ann.expect(&kim_packet("chat.echo", 2, 1, 0, b"still here"));
        stats_until(&running, "three", |s| {
            s["totals"]["closes"]["login_timeout"] == 3 || s["closes"]["login_timeout"] == 3
        });
    });
}

#[test]
fn kim_rejects_a_channel_that_is_repeated() {
    both(|setup| {
        let running = serve_kim(setup, SessionPolicy::Reject);
        let mut first = KimClient::open(&running);
        first.login("ann");
        for open in OPENERS {
            let mut second = open(&running);
            second.send(&kim_login(&token("ann")));
            let error = field(1, "this identity is connected already");
            second.expect(&kim_packet("login.signin", 1, 1, UNAUTHORIZED, &error));
            second.expect_close(1008, "not logged in");
        }
        first.send(&kim_login(&token("bob")));
        let error = field(1, "this connection is logged in already");
        first.expect(&kim_packet("login.signin", 1, 1, UNAUTHORIZED, &error));
        first.send(&kim("chat.echo", 2, 0, 0, b"still here"));
        first.expect(&kim_packet("chat.echo", 2, 1, 0, b"still here"));
    });
}

#[test]
fn kim_tells_the_old_place_which_channel_is_kicked_out() {
    both(|setup| {
        let running = serve_kim(setup, SessionPolicy::Displace);
        let mut old = KimClient::open_tcp(&running);
        let mut old_channel = old.login("ann");
        for open in [KimClient::open, KimClient::open_tcp, KimClient::open] {
            let mut new = open(&running);
            let channel = new.login("ann");
            assert_ne!(channel, old_channel);
            // `KickoutNotify {1: channelId}`.
            old.expect(&kim_packet("login.signin", 0, 2, 0, &field(1, &old_channel)));
            old.expect_close(4001, "connected elsewhere");
            (old, old_channel) = (new, channel);
        }
        // The late ends of those that were displaced took nothing.
        stats_until(&running, "one", |s| {
            s["worker_totals"]["logins"] == 1 && s["totals"]["open"] == 1
        });
        running.gateway().push_to_user("ann", "for ann").unwrap();
        old.expect(&kim_packet("chat.room.push", 0, 2, 0, b"for ann"));
    });
}

#[test]
fn a_late_logout_of_a_displaced_one_takes_nothing() {
    both(|setup| {
        let running = serve_kim(setup, SessionPolicy::Displace);
        let mut old = KimClient::open(&running);
        old.login("ann");
        let mut new = KimClient::open(&running);
        new.login("ann");
        // It has not read that it is displaced.
        old.send(&kim("login.signout", 2, 0, 0, b""));
        drop(old);
        stats_until(&running, "one is open", |s| s["totals"]["connections"] == 1);
        assert_eq!(running.stats()["worker_totals"]["logins"], 1);
        running.gateway().push_to_user("ann", "for ann").unwrap();
        new.expect(&kim_packet("chat.room.push", 0, 2, 0, b"for ann"));
    });
}

#[test]
fn kim_signs_out_and_goes() {
    both(|setup| {
        let running = serve_kim(setup, SessionPolicy::Reject);
        for open in OPENERS {
            let mut ann = open(&running);
            ann.login("ann");
            ann.send(&kim("login.signout", 2, 0, 0, b""));
            ann.expect(&kim_packet("login.signout", 2, 1, 0, b""));
            ann.expect_close(1000, "logged out");
            stats_until(&running, "nobody", |s| s["worker_totals"]["users"] == 0);
        }
    });
}

#[test]
fn what_a_client_claims_to_be_its_channel_reaches_nobody_else() {
    both(|setup| {
        let running = serve_kim(setup, SessionPolicy::Allow);
        let (mut ann, mut bob) = (KimClient::open(&running), KimClient::open_tcp(&running));
        let channel = ann.login("ann");
        bob.login("bob");
        for (sequence, client) in [(2, &mut bob), (3, &mut ann)] {
            client.send(&kim("chat.join", sequence.into(), 0, 0, b""));
            client.expect(&kim_packet("chat.join", sequence, 1, 0, b""));
        }
        // A push that says it was from another channel.
        let header = [field(1, "chat.say"), field(2, "bob's"), vec![0x20, 2]].concat();
        let parts = [&header[..], b"hello"];
        let counted = parts.map(|part| [&(part.len() as u32).to_be_bytes()[..], part].concat());
        ann.send(&[&[0xc3, 0x11, 0xa3, 0x65][..], &counted.concat()].concat());
        let (_, heard) = bob.next();
        let from = field(2, &channel);
        assert!(heard.windows(from.len()).any(|part| part == from), "{heard:?}");
        assert!(!heard.windows(5).any(|part| part == b"bob's"), "{heard:?}");
    });
}

#[test]
fn of_many_that_log_in_at_once_over_both_framings_one_is_left() {
    both(|setup| {
        for policy in [SessionPolicy::Reject, SessionPolicy::Displace] {
            let tcp = ([127, 0, 0, 1], 0);
            let builder = only(kim_endpoint(policy)).tcp_listen(tcp, KIM);
            // They do not answer the Close that they get.
            let running = setup.start_with(builder, |config| {
                config.close_timeout = Duration::from_millis(100);
            });
            let mut clients: Vec<_> = (0..12).map(|n| OPENERS[n % 2](&running)).collect();
            let login = kim_login(&token("ann"));
            let start = std::sync::Barrier::new(clients.len());
            thread::scope(|scope| {
                for client in &mut clients {
                    scope.spawn(|| {
                        start.wait();
                        client.send(&login);
                    });
                }
            });
            let welcome = clients.iter_mut().map(|client| client.next().1);
            // The status of an answer that has one stands behind its flag.
            let refused = |answer: &Vec<u8>| answer.windows(4).any(|w| w == [0x20, 1, 0x28, 105]);
            let refusals = welcome.filter(refused).count();
            assert_eq!(refusals, if policy == SessionPolicy::Reject { 11 } else { 0 });
            stats_until(&running, "one is left", |s| {
                s["worker_totals"]["logins"] == 1 && s["totals"]["open"] == 1
            });
            let logins = running.gateway().logins_of("ann").unwrap();
            assert_eq!(logins.recv_timeout(PATIENCE).unwrap().len(), 1);
        }
    });
}

#[test]
fn each_dialect_of_a_path_has_its_login() {
    both(|setup| {
        let endpoint = json_endpoint(SessionPolicy::Allow).also(Dialect::Kim).also(Dialect::Hub);
        let endpoint = endpoint.route("9", |ctx, m| ctx.reply(m.body));
        let running = setup.serve(endpoint);
        let open = || Client::open(addr(&running), PATH);
        assert_eq!(login_json(&mut open(), &token("ann"))["body"]["user"], "ann");
        let mut bob = KimClient::WebSocket(open());
        bob.login("bob");
        // The first packet of `kim` that is no login, where nobody knew that it speaks `kim`.
        let mut eve = KimClient::WebSocket(open());
        eve.send(&kim("who", 1, 0, 0, b""));
        eve.expect(&kim_packet("who", 1, 1, INVALID_COMMAND, &field(1, "log in first")));
        eve.expect_close(1008, "not logged in");
        let mut carl = open();
        carl.binary(&hub(9, 2, b"hello?"));
        let mut error = vec![0x08, 0x91, 0x03];
        error.extend(field(2, "log in first"));
        carl.expect(BINARY, &hub(2_147_483_646, 2, &error));
        carl.binary(&hub(7, 4, &field(1, &token("carl"))));
        let welcome = carl.frame().expect("an answer").payload;
        assert_eq!(welcome[..2], [0xfe, 0xef]);
        assert!(welcome.ends_with(&field(2, "carl")), "{welcome:?}");
        carl.binary(&hub(9, 6, b"hello!"));
        carl.expect(BINARY, &hub(9, 6, b"hello!"));
        carl.binary(&hub(8, 8, b""));
        carl.expect(BINARY, &hub(8, 8, b""));
        carl.binary(&hub(9, 10, b"hello?"));
        assert!(carl.frame().expect("an answer").payload.ends_with(b"log in first"));
    });
}

#[test]
fn frames_of_one_write_are_in_order_around_the_login() {
    both(|setup| {
        let running = serve_kim(setup, SessionPolicy::Allow);
        let mut client = Client::open(addr(&running), KIM);
        // Who does not wait for the answer is told so, and not closed: it has begun to log in.
        let login = frame(BINARY, &kim_login(&token("ann")));
        let early = frame(BINARY, &kim("chat.echo", 2, 0, 0, b"early"));
        client.send(&[login, early].concat());
        let mut ann = KimClient::WebSocket(client);
        let (first, second) = (ann.next().1, ann.next().1);
        let early = [first, second].into_iter().find(|p| p.windows(9).any(|w| w == b"chat.echo"));
        let error = field(1, "the login is not answered yet");
        assert_eq!(early.unwrap(), kim_packet("chat.echo", 2, 1, UNAUTHORIZED, &error));
        ann.send(&kim("chat.echo", 3, 0, 0, b"in time"));
        ann.expect(&kim_packet("chat.echo", 3, 1, 0, b"in time"));
    });
}
