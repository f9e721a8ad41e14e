//! Servers on threads of this process: tungstenite's, and bare sockets for what it would not do.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::{self, JoinHandle};

use tungstenite::WebSocket;

/// A server that takes one connection for each of what `serves` has, in order.
pub(crate) struct Server {
    pub(crate) url: String,
    thread: JoinHandle<()>,
}

impl Server {
    /// Bare streams.
    pub(crate) fn of_streams(serves: Vec<Box<dyn FnOnce(TcpStream) + Send>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("ws://{}/x", listener.local_addr().expect("it listens"));
        let thread = thread::spawn(move || {
            for serve in serves {
                let (stream, _) = listener.accept().expect("a client comes");
                stream.set_read_timeout(Some(crate::PATIENCE)).expect("a timeout");
                serve(stream);
            }
        });
        Self { url, thread }
    }

    /// tungstenite, the handshake done.
    pub(crate) fn of_sockets(serves: Vec<Box<dyn FnOnce(WebSocket<TcpStream>) + Send>>) -> Self {
        let upgraded = |serve: Box<dyn FnOnce(WebSocket<TcpStream>) + Send>| {
            let serve = move |stream| serve(tungstenite::accept(stream).expect("a handshake"));
            Box::new(serve) as Box<dyn FnOnce(TcpStream) + Send>
        };
        Self::of_streams(serves.into_iter().map(upgraded).collect())
    }

    pub(crate) fn one(serve: impl FnOnce(WebSocket<TcpStream>) + Send + 'static) -> Self {
        Self::of_sockets(vec![Box::new(serve)])
    }

    /// Answers a handshake right, sends `bytes` and then waits for the client's end.
    pub(crate) fn raw(bytes: &'static [u8]) -> Self {
        Self::one(move |mut socket| {
            socket.get_mut().write_all(bytes).expect("it is sent");
            let _ = socket.get_mut().read_to_end(&mut Vec::new());
        })
    }

    /// Answers a request with `answer`, whatever it is, and closes.
    pub(crate) fn answering(answer: impl Fn(&str) -> String + Send + 'static) -> Self {
        Self::of_streams(vec![Box::new(move |mut stream| {
            let (mut request, mut piece) = (Vec::new(), [0; 1024]);
            while !request.ends_with(b"\r\n\r\n") {
                let n = stream.read(&mut piece).expect("a request");
                request.extend_from_slice(&piece[..n]);
            }
            let request = String::from_utf8(request).expect("a request is ASCII");
            stream.write_all(answer(&request).as_bytes()).expect("it is sent");
        })])
    }

    /// Waits for its end; what it asserted has to have held.
    pub(crate) fn done(self) {
        self.thread.join().expect("what the server saw was right");
    }
}

/// Echoes until the client closes.
pub(crate) fn echo(mut socket: WebSocket<TcpStream>) {
    while let Ok(message) = socket.read() {
        if message.is_text() || message.is_binary() {
            socket.send(message).expect("it is sent");
        }
    }
}
