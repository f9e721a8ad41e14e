//! A: reconnects have no jitter, so that all who lost their connections come back at once.

use std::net::TcpListener;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use tidegate::Dialect;
use tidegate::client::{Client, Options, Reconnect};

use crate::got;

/// Clients that lose their connections at once.
const CLIENTS: usize = 40;
/// Each comes back within this.
const BOUND: Duration = Duration::from_secs(2);

/// Options of a client that tells when it lost its connection and when it tried the next.
fn telling(tell: mpsc::Sender<Duration>) -> Options {
    let lost = std::sync::Arc::new(std::sync::Mutex::new(None));
    let since = std::sync::Arc::clone(&lost);
    let mut options = Options::new(Dialect::Mef)
        .on_closed(move |_, _| *lost.lock().unwrap() = Some(Instant::now()))
        .on_dial_failed(move |_, _| {
            let since = since.lock().unwrap().take();
            // Only the first try counts, and the test may have ended.
            let _ = since.map(|since: Instant| tell.send(since.elapsed()));
        });
    options.reconnect = Some(Reconnect { base: BOUND, cap: BOUND, ..Reconnect::default() });
    options
}

/// A server that takes so many clients in, and then is gone with all of them.
fn gone_after(clients: usize) -> (String, thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("ws://{}/", listener.local_addr().expect("it listens"));
    let thread = thread::spawn(move || {
        let accept = |_| {
            let (stream, _) = listener.accept().expect("a client comes");
            tungstenite::accept(stream).expect("a handshake")
        };
        let sockets: Vec<_> = (0..clients).map(accept).collect();
        drop(sockets);
    });
    (url, thread)
}

#[test]
fn clients_that_were_lost_at_once_come_back_one_by_one() {
    let (url, server) = gone_after(CLIENTS);
    let (tell, told) = mpsc::channel();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| Client::connect(&url, telling(tell.clone())).expect("it connects"))
        .collect();
    server.join().unwrap();
    let mut waits: Vec<_> = (0..CLIENTS).map(|_| got(&told)).collect();
    drop(clients);
    waits.sort();
    // Waits without jitter are all the same. Of forty that are drawn evenly, all but never do all
    // lie within a half of the time, or none in its first quarter.
    assert!(waits[CLIENTS - 1] - waits[0] > BOUND / 2, "{waits:?}");
    assert!(waits[0] < BOUND / 4, "{waits:?}");
}
