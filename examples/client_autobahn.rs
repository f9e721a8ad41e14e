//! An echo client for the Autobahn|Testsuite's fuzzing server (`wstest -m fuzzingserver`):
//! `client_autobahn ws://HOST:PORT` runs all its cases and has it write its report.

use std::error::Error;
use std::sync::mpsc;

use tidegate::MessageKind;
use tidegate::client::{Client, Handle, Options};

const MOST_BYTES: usize = 64 << 20;

fn main() -> Result<(), Box<dyn Error>> {
    let base = std::env::args().nth(1).ok_or("usage: client_autobahn ws://HOST:PORT")?;
    let (tell, told) = mpsc::channel();
    let options = options().on_message(move |_, _, payload| drop(tell.send(payload.to_vec())));
    run(&format!("{base}/getCaseCount"), options)?;
    let count: u32 = String::from_utf8(told.recv()?)?.parse()?;
    for case in 1..=count {
        let url = format!("{base}/runCase?case={case}&agent=tidegate-client");
        run(&url, options_of_echo())?;
    }
    run(&format!("{base}/updateReports?agent=tidegate-client"), options_of_echo())
}

fn options() -> Options {
    let mut options = Options::default();
    options.reconnect = None;
    options.ping_interval = None;
    options.max_message_bytes = MOST_BYTES;
    options.max_queued_bytes = MOST_BYTES;
    options.max_queued_messages = 1 << 16;
    options
}

fn options_of_echo() -> Options {
    let echo = |handle: &Handle, kind, payload: &[u8]| {
        let sent = match kind {
            MessageKind::Text => handle.send_text(std::str::from_utf8(payload).unwrap_or_default()),
            MessageKind::Binary => handle.send_binary(payload),
        };
        sent.expect("the queue has room for what the suite sends");
    };
    options().on_message(echo)
}

/// Connects, and waits for the end of the connection.
fn run(url: &str, options: Options) -> Result<(), Box<dyn Error>> {
    let (tell, told) = mpsc::channel();
    let options = options.on_closed(move |_, cause| drop(tell.send(cause.clone())));
    let _client = Client::connect(url, options)?;
    told.recv()?;
    Ok(())
}
