//! The client against servers of other people and against the gateway itself.

mod callbacks;
mod deflate;
mod dialects;
mod displaced;
mod others;
mod servers;
mod sockets;
mod tls;

use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use tidegate::client::{Cause, Options, Reconnect};

/// Longer than anything here takes on a machine under load: past it something hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a client went through.
#[derive(Debug, PartialEq)]
enum Seen {
    Established,
    Message(Vec<u8>),
    Closed(Cause),
    DialFailed(String),
    Displaced,
}

/// Options that tell of all that happens, and try again at once.
fn watched(options: Options) -> (Options, Receiver<Seen>) {
    let (tell, seen) = mpsc::channel();
    let to = |tell: &Sender<Seen>| {
        let tell = tell.clone();
        move |what| drop(tell.send(what))
    };
    let (a, b, c, d, e) = (to(&tell), to(&tell), to(&tell), to(&tell), to(&tell));
    let mut options = options
        .on_established(move |_| a(Seen::Established))
        .on_message(move |_, _, payload| b(Seen::Message(payload.to_vec())))
        .on_closed(move |_, cause| c(Seen::Closed(cause.clone())))
        .on_dial_failed(move |_, error| d(Seen::DialFailed(error.to_string())))
        .on_displaced(move |_| e(Seen::Displaced));
    options.reconnect = Some(Reconnect {
        base: Duration::from_millis(1),
        cap: Duration::from_millis(20),
        jitter: true,
        seed: Some(1),
    });
    (options, seen)
}

fn next(seen: &Receiver<Seen>) -> Seen {
    seen.recv_timeout(PATIENCE).expect("something happens")
}

/// The next thing that is not a failure to connect.
fn next_but_dials(seen: &Receiver<Seen>) -> Seen {
    loop {
        match next(seen) {
            Seen::DialFailed(_) => {}
            other => return other,
        }
    }
}
