//! What a client is told: of Closes, pings and pongs, and of what became of each message.

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

use tidegate::client::{CallError, Cause, Client, CloseBegun, Handle, Options, SendError, Side};
use tidegate::{Body, Dialect, JsonDialect};
use tungstenite::Message;
use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;

use crate::servers::{Server, echo};
use crate::{PATIENCE, Seen, next, watched};

/// Options that tell of the ends of connections, in order.
fn ends(options: Options) -> (Options, Receiver<Result<CloseBegun, Cause>>) {
    let (tell, told) = mpsc::channel();
    let (begun, closed) = (tell.clone(), tell);
    let options = options
        .on_closing(move |_, close| begun.send(Ok(close.clone())).unwrap())
        .on_closed(move |_, cause| closed.send(Err(cause.clone())).unwrap());
    (options, told)
}

fn checked(close: CloseBegun) -> (Side, Option<u16>, String) {
    (close.by, close.code, close.reason)
}

#[test]
fn a_close_of_the_servers_is_told_before_the_end() {
    let server = Server::of_sockets(vec![
        Box::new(|mut socket| {
            let why = CloseFrame { code: CloseCode::Away, reason: "until later".into() };
            socket.close(Some(why)).unwrap();
            while socket.read().is_ok() {}
        }),
        // Lost, not closed.
        Box::new(drop),
        Box::new(|mut socket| {
            socket.close(None).unwrap();
            while socket.read().is_ok() {}
        }),
    ]);
    let (options, _seen) = watched(Options::default());
    let (options, told) = ends(options);
    let client = Client::connect(&server.url, options).unwrap();
    let next = || told.recv_timeout(PATIENCE).unwrap();
    let said = "until later".to_owned();
    assert_eq!(checked(next().unwrap()), (Side::Server, Some(1001), said.clone()));
    assert_eq!(next(), Err(Cause::Closed { code: Some(1001), reason: said }));
    assert!(matches!(next(), Err(Cause::Lost | Cause::Io(_))));
    assert_eq!(checked(next().unwrap()), (Side::Server, None, String::new()));
    assert_eq!(next(), Err(Cause::Closed { code: None, reason: String::new() }));
    server.done();
    drop(client);
}

#[test]
fn a_close_of_ones_own_says_what_it_is_told_to() {
    for (stop, code, reason) in [
        (Box::new(|client: &Client| client.close()) as Box<dyn Fn(&Client)>, Some(1000), ""),
        (Box::new(|client: &Client| client.close_with(4321, "moving on")), Some(4321), "moving on"),
        // A code that may not be sent (RFC 6455, 7.4.1).
        (Box::new(|client: &Client| client.close_with(1005, "moving on")), None, ""),
    ] {
        let server = Server::one(move |mut socket| {
            let Message::Close(close) = socket.read().unwrap() else { panic!("no Close") };
            assert_eq!(close.as_ref().map(|close| u16::from(close.code)), code);
            assert_eq!(close.map(|close| close.reason.to_string()).unwrap_or_default(), reason);
            while socket.read().is_ok() {}
        });
        let (options, told) = ends(Options::default());
        let client = Client::connect(&server.url, options).unwrap();
        stop(&client);
        client.close_with(4999, "too late");
        let begun = checked(told.recv_timeout(PATIENCE).unwrap().unwrap());
        assert_eq!((begun.0, begun.1), (Side::Client, code));
        assert_eq!(told.recv_timeout(PATIENCE).unwrap(), Err(Cause::Stopped));
        server.done();
    }
    // And over what the server does wrong.
    let server = Server::raw(b"\xc1\x01a");
    let (options, told) = ends(Options::default());
    let _client = Client::connect(&server.url, options).unwrap();
    let begun = checked(told.recv_timeout(PATIENCE).unwrap().unwrap());
    assert_eq!(begun, (Side::Client, Some(1002), "reserved bit set".to_owned()));
    assert!(matches!(told.recv_timeout(PATIENCE).unwrap(), Err(Cause::Violation(_))));
}

#[test]
fn pings_and_pongs_are_told() {
    let server = Server::one(|mut socket| {
        socket.send(Message::Ping("from there".into())).unwrap();
        assert_eq!(socket.read().unwrap(), Message::Pong("from there".into()));
        assert_eq!(socket.read().unwrap(), Message::Ping("from here".into()));
        // Its own answer waits until then, and a pong more would take its place.
        socket.flush().unwrap();
        socket.send(Message::Pong("unasked".into())).unwrap();
        while socket.read().is_ok() {}
    });
    let (tell, told) = mpsc::channel();
    let (ping, pong) = (tell.clone(), tell);
    let mut options = Options::default()
        .on_ping(move |_, payload| ping.send(("ping", payload.to_vec())).unwrap())
        .on_pong(move |_, payload| pong.send(("pong", payload.to_vec())).unwrap());
    options.ping_interval = None;
    let client = Client::connect(&server.url, options).unwrap();
    let next = || told.recv_timeout(PATIENCE).unwrap();
    assert_eq!(next(), ("ping", b"from there".to_vec()));
    assert_eq!(client.ping(&[0; 126]), Err(SendError::Unsupported));
    client.ping(b"from here").unwrap();
    assert_eq!(next(), ("pong", b"from here".to_vec()));
    assert_eq!(next(), ("pong", b"unasked".to_vec()));
    client.stop();
    server.done();
}

#[test]
fn pings_and_pongs_of_the_dialect_are_told() {
    let server = Server::one(|mut socket| {
        let packet = |code: u8| vec![0xc3, 0x15, 0xa7, 0x65, 0, code, 0, 0];
        socket.send(Message::binary(packet(1))).unwrap();
        assert_eq!(socket.read().unwrap(), Message::binary(packet(2)));
        socket.send(Message::binary(packet(2))).unwrap();
        while socket.read().is_ok() {}
    });
    let (tell, told) = mpsc::channel();
    let (ping, pong) = (tell.clone(), tell);
    let options = Options::new(Dialect::Kim)
        .on_ping(move |_, payload| ping.send(("ping", payload.to_vec())).unwrap())
        .on_pong(move |_, payload| pong.send(("pong", payload.to_vec())).unwrap());
    let client = Client::connect(&server.url, options).unwrap();
    assert_eq!(told.recv_timeout(PATIENCE).unwrap(), ("ping", vec![]));
    assert_eq!(told.recv_timeout(PATIENCE).unwrap(), ("pong", vec![]));
    client.stop();
    server.done();
}

type Told = (&'static str, Result<(), SendError>, thread::ThreadId);

/// A callback that tells of a message under a name.
fn named(
    tell: &Sender<Told>,
    name: &'static str,
) -> impl FnOnce(&Handle, Result<(), SendError>) + Send + 'static {
    let tell = tell.clone();
    move |_, what| tell.send((name, what, thread::current().id())).unwrap()
}

fn next_told(told: &Receiver<Told>) -> (&'static str, Result<(), SendError>) {
    let (name, what, _) = told.recv_timeout(PATIENCE).unwrap();
    (name, what)
}

#[test]
fn what_is_written_is_told_in_order() {
    let server = Server::one(echo);
    let client =
        Client::connect(&server.url, Options::new(Dialect::Json(JsonDialect::default()))).unwrap();
    let (tell, told) = mpsc::channel();
    // More than a socket takes at once.
    client.send_binary_then(&vec![7; 8 << 20], named(&tell, "big"));
    client.send_text_then("text", named(&tell, "text"));
    client.push_then("key", Body::Json("1"), named(&tell, "push"));
    for name in ["big", "text", "push"] {
        assert_eq!(next_told(&told), (name, Ok(())));
    }
    // From a callback on.
    let (again, handle) = (tell.clone(), client.handle());
    client.send_text_then("one", move |own, _| {
        own.send_text_then("two", named(&again, "two"));
        handle.send_text_then("three", named(&again, "three"));
    });
    assert_eq!(next_told(&told), ("two", Ok(())));
    assert_eq!(next_told(&told), ("three", Ok(())));
    client.stop();
    server.done();
    drop(tell);
    assert!(told.recv().is_err(), "each is told once");
}

#[test]
fn what_is_not_taken_is_told_at_once() {
    // Nobody is there: all waits.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut options = Options::new(Dialect::Hub);
    options.max_queued_messages = 1;
    let url = format!("ws://{}", listener.local_addr().unwrap());
    let client = Client::start(&url, options).unwrap();
    let (tell, told) = mpsc::channel();
    let here = thread::current().id();
    client.send_text_then("one", named(&tell, "one"));
    client.send_text_then("two", named(&tell, "two"));
    assert_eq!(told.try_recv(), Ok(("two", Err(SendError::Full), here)));
    client.push_then("words", "", named(&tell, "words"));
    assert_eq!(told.try_recv(), Ok(("words", Err(SendError::Unsupported), here)));
    let handle = client.handle();
    client.stop();
    let (name, what, thread) = told.try_recv().unwrap();
    assert_eq!((name, what), ("one", Err(SendError::Stopped)));
    assert_ne!(thread, here);
    handle.send_binary_then(b"three", named(&tell, "three"));
    assert_eq!(told.try_recv(), Ok(("three", Err(SendError::Stopped), here)));
    assert!(told.try_recv().is_err());
}

#[test]
fn what_a_lost_connection_had_and_what_waited_for_it() {
    for keep in [true, false] {
        let (go, gone) = mpsc::channel::<()>();
        let server = Server::of_sockets(vec![
            Box::new(move |mut socket| {
                // Of the big message a part has come, and what is behind it waits, before this ends.
                socket.get_mut().read_exact(&mut [0; 1000]).unwrap();
                gone.recv().unwrap();
            }),
            Box::new(echo),
        ]);
        let (mut options, seen) = watched(Options::new(Dialect::Json(JsonDialect::default())));
        options.keep_queued = keep;
        options.max_queued_bytes = 128 << 20;
        let client = Client::connect(&server.url, options).unwrap();
        let (tell, told) = mpsc::channel();
        client.send_binary_then(&vec![7; 64 << 20], named(&tell, "big"));
        client.send_text_then("behind", named(&tell, "behind"));
        let (answer, answered) = mpsc::channel();
        let done = move |_: &Handle, what| answer.send(what).unwrap();
        client.request_then("a", "b", PATIENCE, done).unwrap();
        go.send(()).unwrap();
        assert_eq!(next_told(&told), ("big", Err(SendError::Closed)));
        let want = if keep { Ok(()) } else { Err(SendError::Dropped) };
        assert_eq!(next_told(&told), ("behind", want));
        // The echo of a request answers it.
        let want = if keep { Ok(()) } else { Err(CallError::Send(SendError::Dropped)) };
        assert_eq!(answered.recv_timeout(PATIENCE).unwrap().map(drop), want);
        // On the next connection only what was kept is sent.
        client.send_text("last").unwrap();
        let messages = std::iter::repeat_with(|| next(&seen)).filter_map(|seen| match seen {
            Seen::Message(bytes) => Some(bytes),
            _ => None,
        });
        let mut messages = messages.filter(|bytes| !bytes.starts_with(b"{"));
        if keep {
            assert_eq!(messages.next().unwrap(), b"behind");
        }
        assert_eq!(messages.next().unwrap(), b"last");
        client.stop();
        server.done();
    }
}

/// Connections that end after any number of bytes, and a client that ends amid all that.
#[test]
fn each_message_is_told_of_once_whatever_happens() {
    const MESSAGES: usize = 3000;
    for keep in [true, false] {
        type Serve = Box<dyn FnOnce(TcpStream) + Send>;
        let cut = |bytes: usize| {
            Box::new(move |stream: TcpStream| {
                // It may stop in the midst of its handshake.
                let Ok(mut socket) = tungstenite::accept(stream) else { return };
                // As many, or as come before the client's end.
                let _ = socket.get_mut().take(bytes as u64).read_to_end(&mut Vec::new());
            }) as Serve
        };
        let sizes = (1..40).map(|n| n * n * 97 % 30_011).chain([usize::MAX]);
        let server = Server::of_streams(sizes.map(cut).collect());
        let (mut options, _seen) = watched(Options::default());
        options.keep_queued = keep;
        options.close_timeout = Duration::from_millis(20);
        let client = Client::connect(&server.url, options).unwrap();
        let told: Arc<[AtomicUsize]> = (0..MESSAGES).map(|_| AtomicUsize::new(0)).collect();
        let mut full = 0;
        for n in 0..MESSAGES {
            let counted = Arc::clone(&told);
            let (tell, refused) = mpsc::channel();
            client.send_text_then(&"x".repeat(n % 1000), move |_, what| {
                counted[n].fetch_add(1, Relaxed);
                let _ = tell.send(what == Err(SendError::Full));
            });
            // Gives way to what is queued.
            if refused.try_recv() == Ok(true) {
                full += 1;
                thread::yield_now();
            }
        }
        client.stop();
        assert!(full < MESSAGES, "nothing was taken");
        for (n, times) in told.iter().enumerate() {
            assert_eq!(times.load(Relaxed), 1, "message {n}");
        }
    }
}
