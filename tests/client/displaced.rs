//! A client whose identity has connected once more.

use std::time::Duration;

use tidegate::client::{Cause, Client, Options, SendError};
use tidegate::{
    Content, Dialect, Endpoint, Gateway, IdentityPart, IdentitySource, JsonDialect, SessionPolicy,
};
use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Message, WebSocket};

use crate::servers::{Server, echo};
use crate::{Seen, next, watched};

/// System E's `P_DISPLACE`, with an empty body.
const DISPLACE: &[u8] = b"\xfe\xef\x08\0\0\0\xff\xff\xff\x7f\0\0\0\0";

fn close<S: std::io::Read + std::io::Write>(socket: &mut WebSocket<S>, code: u16) {
    let why = CloseFrame { code: CloseCode::from(code), reason: "elsewhere".into() };
    socket.close(Some(why)).unwrap();
    while socket.read().is_ok() {}
}

fn displaces(
    options: Options,
    serve: impl Fn(&mut WebSocket<std::net::TcpStream>) + Send + 'static,
) {
    let dialect = options.dialect.clone();
    let server = Server::one(move |mut socket| serve(&mut socket));
    let (options, seen) = watched(options);
    let client = Client::connect(&server.url, options).unwrap();
    assert_eq!(next(&seen), Seen::Established);
    let words = || std::iter::repeat_with(|| next(&seen)).find(|s| !matches!(s, Seen::Message(_)));
    assert_eq!(words(), Some(Seen::Displaced), "{dialect:?}");
    assert_eq!(words(), Some(Seen::Closed(Cause::Displaced)), "{dialect:?}");
    server.done();
    // It has ended, and does not try again.
    while client.send_text("x") != Err(SendError::Stopped) {
        std::thread::yield_now();
    }
    assert!(seen.try_recv().is_err());
}

fn all() -> [Dialect; 7] {
    let json = Dialect::Json(JsonDialect::default());
    let with_routes = [json, Dialect::Mef, Dialect::Action, Dialect::Event, Dialect::Kim];
    let [a, b, c, d, e] = with_routes;
    [Dialect::Raw, a, b, c, d, e, Dialect::Hub]
}

#[test]
fn by_the_code_of_the_close_in_every_dialect() {
    for dialect in all() {
        displaces(Options::new(dialect), |socket| close(socket, 4001));
    }
    let mut options = Options::default();
    options.displaced_code = Some(4444);
    displaces(options, |socket| close(socket, 4444));
}

#[test]
fn by_the_packet_of_system_e() {
    let hub = || Options::new(Dialect::Hub);
    displaces(hub(), |socket| {
        socket.send(Message::binary(DISPLACE)).unwrap();
        close(socket, 1000);
    });
    // Said twice, told once.
    displaces(hub(), |socket| {
        socket.send(Message::binary(DISPLACE)).unwrap();
        socket.send(Message::binary(DISPLACE)).unwrap();
        close(socket, 4001);
    });
}

#[test]
fn a_server_that_does_not_close_is_left() {
    let mut options = Options::new(Dialect::Hub);
    options.close_timeout = Duration::from_millis(50);
    displaces(options, |socket| {
        socket.send(Message::binary(DISPLACE)).unwrap();
        let Message::Close(Some(close)) = socket.read().unwrap() else { panic!("no Close") };
        assert_eq!(close.code, CloseCode::Normal);
    });
}

#[test]
fn another_code_is_no_displacement_and_one_may_come_back() {
    let kicked = |options: Options, cause: Cause, is_displaced: bool| {
        let server = Server::of_sockets(vec![
            Box::new(|mut socket| close(&mut socket, 4001)),
            Box::new(echo),
        ]);
        let (options, seen) = watched(options);
        let client = Client::connect(&server.url, options).unwrap();
        assert_eq!(next(&seen), Seen::Established);
        if is_displaced {
            assert_eq!(next(&seen), Seen::Displaced);
        }
        assert_eq!(next(&seen), Seen::Closed(cause));
        assert_eq!(next(&seen), Seen::Established);
        client.stop();
        server.done();
    };
    let mut options = Options::default();
    options.displaced_code = None;
    let cause = Cause::Closed { code: Some(4001), reason: "elsewhere".to_owned() };
    kicked(options, cause, false);
    let mut options = Options::default();
    options.reconnect_displaced = true;
    kicked(options, Cause::Displaced, true);
}

/// System D's `KickoutNotify` comes as a push of `login.signin`; other servers push by other names.
/// Either way it is routed as well.
#[test]
fn by_a_push() {
    for (key, options) in [
        ("login.signin", Options::new(Dialect::Kim)),
        ("kick", Options::new(Dialect::Kim).displaced_by("kick")),
        ("kick", Options::new(Dialect::Json(JsonDialect::default())).displaced_by("kick")),
    ] {
        let kick = move |ctx: &mut tidegate::Context<'_>, _: &tidegate::Message<'_>| {
            ctx.push(ctx.conn(), Content::named(key, "channel-7"));
            ctx.close(1000, "");
        };
        let endpoint = Endpoint::new("/x", options.dialect.clone()).route("kick", kick);
        let builder = Gateway::builder().without_default_endpoints().endpoint(endpoint);
        let running = builder.listen(([127, 0, 0, 1], 0)).start().unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        let options = options.route(key, move |_, incoming| {
            tell.send(String::from_utf8(incoming.body.as_bytes().to_vec()).unwrap()).unwrap();
        });
        let (options, seen) = watched(options);
        let client =
            Client::connect(&format!("ws://{}/x", running.addresses()[0]), options).unwrap();
        client.push("kick", "").unwrap();
        let words =
            || std::iter::repeat_with(|| next(&seen)).find(|s| !matches!(s, Seen::Message(_)));
        assert_eq!(words(), Some(Seen::Established));
        assert_eq!(words(), Some(Seen::Displaced));
        assert_eq!(words(), Some(Seen::Closed(Cause::Displaced)));
        assert_eq!(told.recv().unwrap().trim_matches('"'), "channel-7");
        while client.push("kick", "") != Err(SendError::Stopped) {
            std::thread::yield_now();
        }
        running.stop(|| false);
    }
}

/// The gateway says so to clients of every dialect, and the one that came stays.
#[test]
fn by_a_gateway() {
    for dialect in all() {
        let id = vec![IdentityPart::Header("user".into())];
        let endpoint = Endpoint::new("/x", dialect.clone())
            .identified_by(IdentitySource { id, ..IdentitySource::default() })
            .session(SessionPolicy::Displace)
            .fallback(|ctx, message| ctx.reply(message.body));
        let builder = Gateway::builder().without_default_endpoints().endpoint(endpoint);
        let running = builder.listen(([127, 0, 0, 1], 0)).start().unwrap();
        let url = format!("ws://{}/x", running.addresses()[0]);
        let options = || Options::new(dialect.clone()).header("user", "ann");
        let (first, first_seen) = watched(options());
        let first = Client::connect(&url, first).unwrap();
        let (second, second_seen) = watched(options());
        let second = Client::connect(&url, second).unwrap();
        let words = || {
            std::iter::repeat_with(|| next(&first_seen)).find(|s| !matches!(s, Seen::Message(_)))
        };
        assert_eq!(words(), Some(Seen::Established), "{dialect:?}");
        assert_eq!(words(), Some(Seen::Displaced), "{dialect:?}");
        assert_eq!(words(), Some(Seen::Closed(Cause::Displaced)), "{dialect:?}");
        while first.send_text("x") != Err(SendError::Stopped) {
            std::thread::yield_now();
        }
        second.stop();
        assert_eq!(next(&second_seen), Seen::Established);
        assert_eq!(next(&second_seen), Seen::Closed(Cause::Stopped), "{dialect:?}");
        running.stop(|| false);
    }
}
