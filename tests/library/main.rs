//! The library as its users see it: gateways started in this process, clients on loopback.

mod admission;
#[path = "../support/client.rs"]
mod client;
mod dialects;
mod handlers;
mod typed;

use std::time::{Duration, Instant};

use serde_json::Value;
use tidegate::{Config, GatewayBuilder, Running};

/// Longer than anything here takes on a machine under load: past it the gateway hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Starts a gateway on a free port with two loops and so many workers.
fn start(builder: GatewayBuilder, workers: usize) -> Running {
    start_with(builder, workers, |_| {})
}

fn start_with(
    builder: GatewayBuilder,
    workers: usize,
    change: impl FnOnce(&mut Config),
) -> Running {
    builder
        .listen(([127, 0, 0, 1], 0))
        .configure(|config| {
            config.loops = 2;
            config.workers = workers;
            change(config);
        })
        .start()
        .expect("it starts")
}

/// Every lane as short as can be.
fn squeeze(config: &mut Config) {
    config.tuning.mailbox_capacity = 1;
    config.tuning.room_lane_capacity = 1;
    config.tuning.message_lane_capacity = 1;
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
