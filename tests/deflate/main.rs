//! permessage-deflate (RFC 7692) over sockets: what is agreed, and messages both ways. The clients
//! here compress and inflate with miniz_oxide, which shares no code with the gateway.

mod broadcast;
#[path = "../support/client.rs"]
mod client;
mod echo;
mod handshake;
mod hostile;
mod peer;
#[path = "../support/wait.rs"]
mod wait;

use tidegate::protocol::deflate::DeflateMode;
use tidegate::{Config, Gateway, Running};

/// What Chromium offers.
const OFFER: &str = "permessage-deflate; client_max_window_bits";

/// A gateway with this mode of compression, two loops, and messages routed on `workers`.
fn start(mode: DeflateMode, workers: usize) -> Running {
    start_with(mode, workers, |_| {})
}

fn start_with(mode: DeflateMode, workers: usize, change: impl FnOnce(&mut Config)) -> Running {
    let configure = |config: &mut Config| {
        (config.loops, config.workers, config.deflate.mode) = (2, workers, mode);
        change(config);
    };
    Gateway::builder().listen(([127, 0, 0, 1], 0)).configure(configure).start().expect("it starts")
}

/// The test in both modes of compression, with messages routed on the loops and on workers.
fn all(test: impl Fn(DeflateMode, usize)) {
    for mode in [DeflateMode::Shared, DeflateMode::Dedicated] {
        for workers in [0, 2] {
            test(mode, workers);
        }
    }
}

fn total(running: &Running, name: &str) -> u64 {
    running.stats()["totals"][name].as_u64().expect(name)
}

/// Text that compresses well, as messages of a service do.
fn lines(n: usize) -> String {
    (0..n).map(|i| format!("{{\"symbol\":\"AAPL\",\"price\":{i}.25,\"size\":100}}\n")).collect()
}

/// Bytes that do not compress.
fn noise(n: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    std::iter::repeat_with(next).take(n).collect()
}
