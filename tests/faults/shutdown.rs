//! D: shutdown returns before connections are closed.

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tidegate::{ConnId, Endpoint, GatewayBuilder, Running, Stopped};

use crate::client::{BINARY, CLOSE, Client};
use crate::speakers::Kim;
use crate::tcp_client::TcpClient;
use crate::{Setup, addr, both, only};

/// Of each kind, over WebSocket and over plain TCP.
const CLIENTS: usize = 20;
/// What each is owed when it begins.
const OWED: usize = 20;
const OWED_BYTES: usize = 16 * 1024;

/// Tells of every connection that has ended.
fn kim() -> (Endpoint, mpsc::Receiver<ConnId>) {
    let (tell, ended) = mpsc::channel();
    let endpoint = Kim.endpoint().on_closed(move |ended| {
        // The test may have ended.
        let _ = tell.send(ended.conn);
    });
    (endpoint, ended)
}

fn start(setup: Setup, endpoint: Endpoint, close_timeout: Duration) -> Running {
    let builder: GatewayBuilder = only(endpoint).tcp_listen(([127, 0, 0, 1], 0), &Kim.path());
    setup.start(builder, |config| config.close_timeout = close_timeout)
}

/// Reads all that it is owed and the Close behind it, and answers that; the socket.
fn web_client(mut client: Client) -> TcpStream {
    for _ in 0..OWED {
        assert_eq!(client.frame().expect("what it is owed").opcode, BINARY);
    }
    client.expect_close(1001);
    client.close(1001);
    client.stream
}

/// The same over plain TCP.
fn tcp_client(mut client: TcpClient) -> TcpStream {
    for _ in 0..OWED {
        assert_eq!(client.next().expect("what it is owed").0, BINARY);
    }
    client.expect_close(1001);
    client.close(1001);
    client.stream
}

/// The stream has ended already: nothing is waited for.
fn assert_ended(stream: &mut TcpStream) {
    stream.set_nonblocking(true).unwrap();
    match stream.read(&mut [0; 64]) {
        Ok(0) => {}
        other => panic!("it has not ended: {other:?}"),
    }
}

#[test]
fn stop_returns_when_all_have_what_they_are_owed_and_are_closed() {
    both(|setup| {
        let (endpoint, ended) = kim();
        let running = start(setup, endpoint, Duration::from_secs(60));
        let addresses = (addr(&running), running.tcp_addresses()[0]);
        let web = (0..CLIENTS).map(|_| Client::open_narrow(addresses.0, &Kim.path()));
        let web: Vec<_> = web.collect();
        let tcp: Vec<_> = (0..CLIENTS).map(|_| TcpClient::dial(addresses.1)).collect();
        crate::stats_until(&running, "all of them", |s| s["totals"]["open"] == 2 * CLIENTS);
        for _ in 0..OWED {
            running.gateway().push_to_all(&*vec![7; OWED_BYTES]).unwrap();
        }
        let web: Vec<_> = web.into_iter().map(|c| thread::spawn(|| web_client(c))).collect();
        let tcp: Vec<_> = tcp.into_iter().map(|c| thread::spawn(|| tcp_client(c))).collect();
        let (stopped, stats) = running.stop(|| false);
        // From here on everything is as it was when it returned.
        let told = ended.try_iter().count();
        let listening = [addresses.0, addresses.1].map(TcpListener::bind);
        assert_eq!((stopped, told), (Stopped::Clean, 2 * CLIENTS), "{stats:#}");
        for mut stream in web.into_iter().chain(tcp).map(|client| client.join().unwrap()) {
            assert_ended(&mut stream);
        }
        for left in ["open", "connections"] {
            assert_eq!(stats["totals"][left], 0);
        }
        assert_eq!(stats["closes"]["shutdown"], 2 * CLIENTS);
        for address in listening {
            address.expect("nobody listens there any more");
        }
    });
}

#[test]
fn stop_waits_for_those_who_do_not_answer_its_close() {
    both(|setup| {
        let (endpoint, ended) = kim();
        let running = start(setup, endpoint, Duration::from_millis(300));
        let mut deaf: Vec<_> =
            (0..CLIENTS).map(|_| Client::open(addr(&running), &Kim.path())).collect();
        let (stopped, stats) = running.stop(|| false);
        assert_eq!((stopped, ended.try_iter().count()), (Stopped::Clean, CLIENTS), "{stats:#}");
        for client in &mut deaf {
            client.stream.set_nonblocking(true).unwrap();
            assert_eq!(client.frame().map(|frame| frame.opcode), Some(CLOSE));
            client.expect_end();
        }
    });
}
