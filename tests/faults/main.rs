//! Each fault of the five systems, shown to be absent: over real sockets, in the dialect of the system
//! that has it, with messages routed on the loops and on workers.
//!
//! Which test is for which fault: `docs/ARCHITECTURE.md`.

mod broadcasts;
#[path = "../support/client.rs"]
mod client;
mod displaced;
mod jitter;
mod limits;
mod order;
mod permissions;
mod shutdown;
mod slow_clients;
// Used by other tests as well, which need more of it.
#[allow(dead_code)]
#[path = "../handlers/speakers.rs"]
mod speakers;
#[path = "../support/tcp_client.rs"]
mod tcp_client;
#[path = "../support/u32_client.rs"]
mod u32_client;
mod writes;

use std::net::SocketAddr;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use serde_json::Value;
use tidegate::{Config, Endpoint, Gateway, GatewayBuilder, Running};

/// Longer than anything here takes on a machine under load: past it the gateway hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where messages are routed.
#[derive(Clone, Copy, Debug)]
struct Setup {
    workers: usize,
}

impl Setup {
    fn start(self, builder: GatewayBuilder, change: impl FnOnce(&mut Config)) -> Running {
        builder
            .listen(([127, 0, 0, 1], 0))
            .configure(|config| {
                (config.loops, config.workers) = (2, self.workers);
                change(config);
            })
            .start()
            .expect("it starts")
    }

    /// A gateway with one endpoint.
    fn serve(self, endpoint: Endpoint) -> Running {
        self.start(only(endpoint), |_| {})
    }
}

/// The test, with messages routed on two loops and on two workers.
fn both(test: impl Fn(Setup)) {
    for workers in [0, 2] {
        test(Setup { workers });
    }
}

fn only(endpoint: Endpoint) -> GatewayBuilder {
    Gateway::builder().without_default_endpoints().endpoint(endpoint)
}

fn addr(running: &Running) -> SocketAddr {
    running.addresses()[0]
}

/// What comes next through a channel.
fn got<T>(channel: &Receiver<T>) -> T {
    channel.recv_timeout(PATIENCE).expect("it comes")
}

/// Polls the statistics until `wanted` holds for them.
fn stats_until(running: &Running, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let stats = running.stats();
        if wanted(&stats) {
            return stats;
        }
        assert!(Instant::now() < deadline, "never saw {what}; last:\n{stats:#}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
