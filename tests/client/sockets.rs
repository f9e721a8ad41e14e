//! One connection after the other, against tungstenite and bare sockets.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Duration;

use tidegate::client::{CallError, Cause, Client, DialError, Options, SendError};
use tidegate::protocol::Violation;
use tidegate::{Body, Dialect, JsonDialect};
use tungstenite::Message;
use tungstenite::handshake::derive_accept_key;
use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;

use crate::servers::{Server, echo};
use crate::{PATIENCE, Seen, next, next_but_dials, watched};

#[test]
fn messages_of_every_size_come_back() {
    let server = Server::one(echo);
    let (options, seen) = watched(Options::default());
    let client = Client::connect(&server.url, options).unwrap();
    assert_eq!(next(&seen), Seen::Established);
    for size in [0, 1, 125, 126, 65535, 65536, 1_000_000] {
        let bytes: Vec<u8> = (0..size).map(|n| n as u8).collect();
        client.send_binary(&bytes).unwrap();
        client.send_text(&"é".repeat(size / 2)).unwrap();
        assert_eq!(next(&seen), Seen::Message(bytes));
        assert_eq!(next(&seen), Seen::Message("é".repeat(size / 2).into_bytes()));
    }
    client.stop();
    assert_eq!(next(&seen), Seen::Closed(Cause::Stopped));
    server.done();
}

#[test]
fn pings_are_answered_and_closes_too() {
    let server = Server::one(|mut socket| {
        socket.send(Message::Ping("abc".into())).unwrap();
        assert_eq!(socket.read().unwrap(), Message::Pong("abc".into()));
        let why = CloseFrame { code: CloseCode::Policy, reason: "enough".into() };
        socket.close(Some(why.clone())).unwrap();
        let Message::Close(Some(answer)) = socket.read().unwrap() else { panic!("no Close") };
        assert_eq!(answer.code, why.code);
    });
    let (mut options, seen) = watched(Options::default());
    options.reconnect = None;
    let client = Client::connect(&server.url, options).unwrap();
    server.done();
    assert_eq!(next(&seen), Seen::Established);
    let cause = Cause::Closed { code: Some(1008), reason: "enough".to_owned() };
    assert_eq!(next(&seen), Seen::Closed(cause));
    // Without reconnects that was all.
    while client.send_text("late") != Err(SendError::Stopped) {
        std::thread::yield_now();
    }
    assert!(seen.try_recv().is_err());
}

#[test]
fn what_is_queued_is_sent_before_the_close() {
    let server = Server::one(|mut socket| {
        for n in 0..100 {
            assert_eq!(socket.read().unwrap().into_text().unwrap().as_str(), n.to_string());
        }
        let Message::Close(Some(close)) = socket.read().unwrap() else { panic!("no Close") };
        assert_eq!(close.code, CloseCode::Normal);
        while socket.read().is_ok() {}
    });
    let client = Client::connect(&server.url, Options::default()).unwrap();
    for n in 0..100 {
        client.send_text(&n.to_string()).unwrap();
    }
    client.stop();
    server.done();
}

#[test]
fn pings_go_out_by_themselves_and_silence_ends_the_connection() {
    let server = Server::of_sockets(vec![
        Box::new(|mut socket| {
            for _ in 0..3 {
                assert!(socket.read().unwrap().is_ping());
                socket.flush().unwrap();
            }
            // From here on it says nothing, and waits for the client to go.
            let _ = socket.get_mut().read_to_end(&mut Vec::new());
        }),
        Box::new(echo),
    ]);
    let (mut options, seen) = watched(Options::default());
    options.ping_interval = Some(Duration::from_millis(20));
    options.pong_timeout = Duration::from_millis(500);
    let client = Client::connect(&server.url, options).unwrap();
    assert_eq!(next(&seen), Seen::Established);
    assert_eq!(next(&seen), Seen::Closed(Cause::Silent));
    assert_eq!(next_but_dials(&seen), Seen::Established);
    client.stop();
    server.done();
}

#[test]
fn what_came_before_a_violation_is_answered() {
    let server = Server::one(|mut socket| {
        socket.get_mut().write_all(b"\x81\x03one\xc1\x00").unwrap();
        assert_eq!(socket.read().unwrap(), Message::text("one"));
        let Message::Close(Some(close)) = socket.read().unwrap() else { panic!("no Close") };
        assert_eq!((close.code, close.reason.as_str()), (CloseCode::Protocol, "reserved bit set"));
    });
    let mut options = Options::default().on_message(|handle, _, payload| {
        handle.send_text(std::str::from_utf8(payload).unwrap()).unwrap();
    });
    options.reconnect = None;
    let _client = Client::connect(&server.url, options).unwrap();
    server.done();
}

#[test]
fn each_frame_has_a_new_mask() {
    const FRAMES: usize = 600;
    let server = Server::one(|mut socket| {
        let mut masks = std::collections::HashSet::new();
        for _ in 0..FRAMES {
            let mut frame = [0; 9];
            socket.get_mut().read_exact(&mut frame).unwrap();
            assert_eq!(frame[..2], [0x82, 0x83]);
            let payload = [0, 1, 2].map(|at| frame[6 + at] ^ frame[2 + at]);
            assert_eq!(&payload, b"abc");
            masks.insert([frame[2], frame[3], frame[4], frame[5]]);
        }
        // Of 600 random ones two are the same once in 20,000 runs, and never four.
        assert!(masks.len() > FRAMES - 3, "{} masks", masks.len());
    });
    let client = Client::connect(&server.url, Options::default()).unwrap();
    for _ in 0..FRAMES {
        client.send_binary(b"abc").unwrap();
    }
    server.done();
    drop(client);
}

#[test]
fn every_violation_of_a_server_ends_the_connection() {
    for (bytes, violation) in [
        (&b"\x81\x81\x01\x02\x03\x04\x60"[..], Violation::Masked),
        (b"\xc1\x01a", Violation::ReservedBits),
        (b"\x81\x01\xff", Violation::InvalidUtf8),
        (b"\x83\x00", Violation::ReservedOpcode),
        (b"\x82\x7f\0\0\0\0\x7f\0\0\0", Violation::FrameTooBig),
    ] {
        let server = Server::raw(bytes);
        let (mut options, seen) = watched(Options::default());
        options.reconnect = None;
        let _client = Client::connect(&server.url, options).unwrap();
        assert_eq!(next(&seen), Seen::Established);
        assert_eq!(next(&seen), Seen::Closed(Cause::Violation(violation)));
        server.done();
    }
}

#[test]
fn frames_that_come_with_the_handshake_are_read() {
    let server = Server::answering(|request| {
        let key = request.split("Sec-WebSocket-Key: ").nth(1).unwrap().split('\r').next().unwrap();
        let accept = derive_accept_key(key.as_bytes());
        format!(
            "HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\n\r\n\x01\x02he"
        )
    });
    let (mut options, seen) = watched(Options::default());
    options.reconnect = None;
    let _client = Client::connect(&server.url, options).unwrap();
    assert_eq!(next(&seen), Seen::Established);
    // The message was only begun.
    assert_eq!(next(&seen), Seen::Closed(Cause::Lost));
    server.done();
}

#[test]
fn refusals_say_what_the_server_said() {
    let refused = |answer: &'static str| {
        let server = Server::answering(|_| answer.to_owned());
        let error = Client::connect(&server.url, Options::default()).unwrap_err();
        server.done();
        error
    };
    let error = refused("HTTP/1.1 302 Found\r\nLocation: /y\r\nContent-Length: 5\r\n\r\nthere...");
    let DialError::Refused { status: 302, body } = error else { panic!("{error:?}") };
    assert_eq!(body, b"there");
    let error = refused("HTTP/1.1 403 Forbidden\r\n\r\nnot you\n");
    assert_eq!(error.to_string(), "refused with status 403: not you");
    let error = refused("HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n");
    assert!(matches!(error, DialError::NotUpgraded(_)), "{error:?}");
    assert!(matches!(refused("220 mail ready\r\n"), DialError::Response(_)));
    assert!(matches!(refused("HTTP/1.1 101 x\r\n"), DialError::Io(_)));
    let error = Client::connect("http://127.0.0.1", Options::default()).unwrap_err();
    assert!(matches!(error, DialError::Url(_)));
}

#[test]
fn nobody_there_is_an_error_and_a_slow_one_times_out() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    let mut options = Options::default();
    options.connect_timeout = Duration::from_millis(50);
    let error = Client::connect(&url, options.clone()).unwrap_err();
    assert!(matches!(error, DialError::TimedOut), "{error:?}");
    drop(listener);
    let error = Client::connect(&url, options).unwrap_err();
    assert!(matches!(error, DialError::Io(_)), "{error:?}");
}

#[test]
fn what_waits_goes_out_on_the_next_connection() {
    let server = Server::of_sockets(vec![
        Box::new(|mut socket| {
            assert_eq!(socket.read().unwrap(), Message::text("one"));
            drop(socket);
        }),
        Box::new(echo),
    ]);
    let (options, seen) = watched(Options::default());
    let client = Client::connect(&server.url, options).unwrap();
    assert_eq!(next(&seen), Seen::Established);
    assert_eq!(client.connections(), 1);
    client.send_text("one").unwrap();
    assert!(matches!(next(&seen), Seen::Closed(Cause::Lost | Cause::Io(_))));
    client.send_text("two").unwrap();
    assert_eq!(next_but_dials(&seen), Seen::Established);
    assert_eq!(client.connections(), 2);
    assert_eq!(next(&seen), Seen::Message(b"two".to_vec()));
    client.stop();
    server.done();
}

#[test]
fn a_client_that_is_started_tries_until_somebody_is_there() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    drop(listener);
    let (options, seen) = watched(Options::default());
    let client = Client::start(&format!("ws://{addr}"), options).unwrap();
    for _ in 0..3 {
        assert!(matches!(next(&seen), Seen::DialFailed(_)));
    }
    client.send_text("early").unwrap();
    let listener = TcpListener::bind(addr).unwrap();
    let (stream, _) = listener.accept().unwrap();
    let mut socket = tungstenite::accept(stream).unwrap();
    assert_eq!(socket.read().unwrap(), Message::text("early"));
    assert_eq!(next_but_dials(&seen), Seen::Established);
    drop(client);
    assert!(socket.read().unwrap().is_close());
}

#[test]
fn what_waits_is_bounded() {
    let mut options = Options::default();
    options.max_queued_messages = 2;
    options.max_queued_bytes = 10;
    // Nobody is there: all waits.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    let client = Client::start(&url, options).unwrap();
    assert_eq!(client.send_binary(&[0; 11]), Err(SendError::Full));
    assert_eq!(client.send_binary(&[0; 9]), Ok(()));
    assert_eq!(client.send_binary(&[0; 2]), Err(SendError::Full));
    assert_eq!(client.send_binary(&[0; 1]), Ok(()));
    assert_eq!(client.send_binary(&[]), Err(SendError::Full));
    assert!(!client.is_open());
    client.stop();
}

#[test]
fn a_server_that_does_not_read_fills_the_queue() {
    let server = Server::of_streams(vec![Box::new(|stream| {
        let mut socket = tungstenite::accept(stream).unwrap();
        assert_eq!(socket.read().unwrap(), Message::text("x"));
        // Not another byte is read until the client goes.
        socket.get_mut().write_all(b"\x81\x02go").unwrap();
        std::thread::park_timeout(Duration::from_millis(300));
    })]);
    let mut options = Options::default();
    options.close_timeout = Duration::from_millis(20);
    options.max_queued_bytes = 1 << 20;
    let client = Client::connect(&server.url, options).unwrap();
    client.send_text("x").unwrap();
    let piece = vec![7; 1 << 18];
    let full = (0..1000).any(|_| client.send_binary(&piece) == Err(SendError::Full));
    assert!(full, "250 MB were taken that nobody reads");
    client.stop();
    server.done();
}

#[test]
fn calls_end_with_their_connection_or_their_time() {
    let server = Server::of_sockets(vec![
        Box::new(|mut socket| drop(socket.read().unwrap())),
        Box::new(|mut socket| while socket.read().is_ok() {}),
    ]);
    let (options, seen) = watched(Options::new(Dialect::Json(JsonDialect::default())));
    let client = Client::connect(&server.url, options).unwrap();
    assert_eq!(next(&seen), Seen::Established);
    assert_eq!(client.request("a", "b", PATIENCE), Err(CallError::Closed));
    assert!(matches!(next(&seen), Seen::Closed(_)));
    let short = Duration::from_millis(50);
    assert_eq!(client.request("a", "b", short), Err(CallError::TimedOut));
    let (tell, told) = std::sync::mpsc::channel();
    let done = move |_: &_, answer| tell.send(answer).unwrap();
    client.request_then("a", Body::Json("1"), short, done).unwrap();
    assert_eq!(told.recv_timeout(PATIENCE).unwrap(), Err(CallError::TimedOut));
    client.stop();
    server.done();
}

#[test]
fn open_calls_are_bounded() {
    let server = Server::one(|mut socket| while socket.read().is_ok() {});
    let mut options = Options::new(Dialect::Json(JsonDialect::default()));
    options.max_open_calls = 2;
    let client = Client::connect(&server.url, options).unwrap();
    let (tell, told) = std::sync::mpsc::channel();
    let ask = |timeout| {
        let tell = tell.clone();
        client.request_then("a", "b", timeout, move |_, answer| tell.send(answer).unwrap())
    };
    ask(PATIENCE).unwrap();
    ask(Duration::from_millis(50)).unwrap();
    assert_eq!(ask(PATIENCE), Err(SendError::TooManyCalls));
    let error = client.request("a", "b", PATIENCE).unwrap_err();
    assert_eq!(error, CallError::Send(SendError::TooManyCalls));
    // What wants no answer is no call.
    client.push("a", "b").unwrap();
    // One that is over makes room for another.
    assert_eq!(told.recv_timeout(PATIENCE).unwrap(), Err(CallError::TimedOut));
    ask(PATIENCE).unwrap();
    client.stop();
    assert_eq!(told.recv_timeout(PATIENCE).unwrap(), Err(CallError::Closed));
    server.done();
}

#[test]
fn a_panic_in_a_callback_ends_nothing() {
    let server = Server::one(echo);
    let (tell, told) = std::sync::mpsc::channel();
    let options = Options::default().on_message(move |handle, _, payload| {
        let waits = handle.request("a", "b", PATIENCE);
        tell.send((payload.to_vec(), waits)).unwrap();
        panic!("as asked");
    });
    let client = Client::connect(&server.url, options).unwrap();
    for word in ["one", "two"] {
        client.send_text(word).unwrap();
        let (payload, waits) = told.recv_timeout(PATIENCE).unwrap();
        assert_eq!((&*payload, waits), (word.as_bytes(), Err(CallError::WouldBlock)));
    }
    client.stop();
    server.done();
}
