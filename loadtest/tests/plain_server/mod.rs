//! A server that echoes, answers pings and closes as it should: tungstenite's, one blocking thread
//! a connection. And the program against it.

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Command, Output},
    thread,
    time::Duration,
};

use tungstenite::{Message, WebSocket};

/// Starts the server; it lives as long as the test process.
pub fn serve() -> SocketAddr {
    serve_after(Duration::ZERO)
}

/// Starts the server; it waits so long before each answer.
pub fn serve_after(delay: Duration) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            stream.set_nodelay(true).unwrap();
            // What a client does to its stream at the end is not this server's matter.
            thread::spawn(move || tungstenite::accept(stream).map(|socket| echo(socket, delay)));
        }
    });
    address
}

fn echo(mut socket: WebSocket<TcpStream>, delay: Duration) -> tungstenite::Result<()> {
    loop {
        let message = socket.read()?;
        if matches!(message, Message::Text(_) | Message::Binary(_)) {
            thread::sleep(delay);
            socket.send(message)?;
        }
    }
}

/// Runs the program with these words, the second of which is where `--url` stands for the server.
pub fn loadtest(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_loadtest")).args(arguments).output().unwrap();
    let Output { status, stdout, stderr } = output;
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    (status.code(), text(&stdout), text(&stderr))
}
