//! A server that echoes, answers pings and closes as it should: tungstenite's, one blocking thread
//! a connection.

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use tungstenite::{Message, WebSocket};

/// Starts the server, which waits for `delay` before each answer and lives as long as the test
/// process.
pub(crate) fn serve(delay: Duration) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            stream.set_nodelay(true).unwrap();
            // What a client does to its stream at the end is not this server's matter.
            thread::spawn(move || {
                if let Ok(socket) = tungstenite::accept(stream) {
                    let _ = echo(socket, delay);
                }
            });
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
