//! A connection and its decoder on a virtual clock and a made-up network, by hundreds of seeds.
//!
//! `TIDEGATE_SIM_SEED=n` runs one seed; the same seed is the same run.

#[path = "support/frames.rs"]
mod frames;
#[path = "simulation/host.rs"]
mod host;
#[path = "simulation/peer.rs"]
mod peer;
#[path = "support/rng.rs"]
mod rng;

use std::collections::HashSet;
use std::num::NonZeroU32;

use host::Host;
use rng::{Rng, seeds};
use tidegate::connection::{OverflowPolicy, Timeouts};
use tidegate::protocol::Framing;

const STEPS: usize = 3000;

/// What a run is made of.
#[derive(Debug)]
pub(crate) struct Setting {
    pub(crate) timeouts: Timeouts,
    pub(crate) policy: OverflowPolicy,
    pub(crate) limit_bytes: usize,
    pub(crate) framing: Framing,
    /// How often, of 100 steps, the gateway publishes or pushes.
    server: usize,
    /// Whether client and gateway may end the connection before the script does.
    ends: bool,
}

impl Setting {
    fn new(rng: &mut Rng) -> Self {
        let some = |rng: &mut Rng, of: &[u32]| match rng.pick(of) {
            0 => None,
            ticks => NonZeroU32::new(ticks),
        };
        let framing = rng.pick(&[
            Framing::WebSocket,
            Framing::WebSocket,
            Framing::Tcp,
            Framing::U32Text,
            Framing::U32Binary,
        ]);
        let timeouts = Timeouts {
            handshake: 200,
            idle: some(rng, &[0, 150, 600]),
            login: None,
            message: some(rng, &[0, 100, 400]),
            ping: some(rng, &[0, 60, 100]).filter(|_| framing.has_control_frames()),
            pong: rng.pick(&[40, 100, 300]),
            write: rng.pick(&[100, 400]),
            close: rng.pick(&[50, 100]),
        };
        let policies =
            [OverflowPolicy::Close, OverflowPolicy::DropOldest, OverflowPolicy::KeepLatest];
        Self {
            timeouts,
            policy: rng.pick(&policies),
            limit_bytes: rng.pick(&[4096, 20_000, 1 << 20]),
            server: rng.pick(&[0, 10, 40]),
            ends: rng.one_in(2),
            framing,
        }
    }
}

/// How busy the client is for a while: how often of 100 steps it sends something, and of 24 its
/// network brings some of that and takes what it is sent.
#[derive(Clone, Copy, Debug, Default)]
struct Mood {
    sends: usize,
    brings: usize,
    /// Whether it brings all at once.
    whole: bool,
    takes: usize,
}

impl Mood {
    fn new(rng: &mut Rng) -> Self {
        Self {
            sends: rng.pick(&[0, 0, 5, 20, 40]),
            brings: rng.pick(&[0, 8, 8]),
            whole: rng.one_in(3),
            takes: rng.pick(&[0, 2, 2, 2]),
        }
    }
}

/// One thing that happens.
fn step(host: &mut Host, rng: &mut Rng, setting: &Setting, mood: Mood) -> Result<(), String> {
    let dice = rng.below(100);
    if dice < mood.sends {
        let sends = setting.ends || host.peer.stop.is_none() && !host.peer.eof;
        if sends {
            host.peer.send_something(rng, setting.ends);
        }
        return Ok(());
    }
    if dice < mood.sends + setting.server / 2 {
        return host.publish(rng);
    }
    match rng.below(24) {
        brought @ 0..8 => {
            if brought < mood.brings {
                host.read(rng, mood.whole)
            } else {
                Ok(())
            }
        }
        8..12 => host.settle(rng),
        12..16 => host.flush(rng),
        taken @ 16..18 => {
            if taken - 16 < mood.takes {
                host.client_takes(rng);
            }
            Ok(())
        }
        18..20 => {
            let ticks = rng.pick(&[1, 1, 1, 3, 10, 30]);
            host.advance(ticks)
        }
        20 => host.toggle_pause(rng),
        21 if setting.server > 0 => host.push(rng),
        22 if setting.ends && rng.one_in(100) => host.end(rng),
        _ => Ok(()),
    }
}

/// Until the connection is dead or the script over, and then to its death.
fn run(seed: u64, seen: &mut Seen) -> Result<(), String> {
    let mut rng = Rng::new(seed);
    let setting = Setting::new(&mut rng);
    let mut host = Host::new(&setting, rng.next());
    let mut outcome = Ok(());
    let mut mood = Mood::default();
    for step_number in 0..STEPS {
        if step_number % 250 == 0 {
            mood = Mood::new(&mut rng);
        }
        outcome = step(&mut host, &mut rng, &setting, mood).and_then(|()| host.check());
        if outcome.is_err() || host.is_dead() {
            break;
        }
    }
    outcome = outcome.and_then(|()| host.run_out(&mut rng));
    seen.extend(host.fired.iter().map(|due| format!("{due:?}")));
    seen.extend(host.conn.cause().map(|cause| format!("{cause:?}")));
    outcome.map_err(|broken| format!("seed {seed}: {broken}\n{setting:?}\n{}", host.summary()))
}

/// Deadlines that fired and causes of ends, by name.
type Seen = HashSet<String>;

fn run_all(seeds: Vec<u64>) {
    let mut seen = Seen::new();
    for seed in &seeds {
        if let Err(broken) = run(*seed, &mut seen) {
            panic!("{broken}");
        }
    }
    if seeds.len() == 1 {
        return;
    }
    // Seeds that come by none of these prove nothing about them.
    for what in [
        "Idle",
        "Message",
        "Ping",
        "Pong",
        "Write",
        "Close",
        "OutboundLimit",
        "PeerClose",
        "PeerEof",
        "ProtocolError",
        "InvalidUtf8",
        "TooBig",
        "MemoryLimit",
        "Handler",
        "Shutdown",
    ] {
        assert!(seen.contains(what), "{what} never happened: {seen:?}");
    }
}

#[test]
fn a_connection_keeps_its_promises() {
    run_all(seeds("TIDEGATE_SIM_SEED", 0..600));
}

#[test]
fn and_so_for_other_seeds() {
    run_all(seeds("TIDEGATE_SIM_SEED", 1 << 32..(1 << 32) + 600));
}
