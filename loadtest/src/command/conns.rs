//! The commands that end connections and begin them again.

use std::{sync::Arc, time::Duration};

use super::{MIN_READ_BUFFER, Times, carry_out, one_lane, prepare};
use crate::{
    churn::{self, Churn},
    cli::{ChurnArgs, Common, SlowHandshakeArgs, StormArgs, VanishArg},
    clock::nanos,
    dialect::Dialect,
    lanes::Lanes,
    plan::share,
    report::{Report, churn::Churned, slow_handshake::Dripped, storm::Stormed},
    slow_handshake::{self, SlowHandshake},
    storm::{self, Storm, Vanish, counts::Course},
    table::Abort,
    witness::{Question, Witness},
};

/// The most connections beside the wanted ones that leave, or probe, at once.
const BESIDE_MAX: u64 = 1024;
/// The fewest.
const BESIDE_MIN: u64 = 16;
/// No storms take longer.
const ENDLESS: Duration = Duration::from_secs(30 * 86_400);

/// `churn`.
pub(super) fn churn(args: &ChurnArgs) -> Result<bool, String> {
    let wanted = args.common.connections;
    let leaving = beside(args.rate);
    let times = Times { connect_rate: args.connect_rate, duration: args.duration };
    let lanes = Lanes::plain(&args.common)?;
    let (mut setup, outputs) =
        prepare(&with_room(&args.common, leaving)?, lanes, &times, MIN_READ_BUFFER)?;
    setup.connections = wanted;
    let threads = setup.plan.threads;
    let settings = churn::Settings {
        seed: args.common.seed,
        rate: args.rate,
        stay: nanos(args.stay),
        resets_ppm: args.abort.0,
        threads,
        connecting_max: args.common.max_connecting.div_ceil(threads),
        leaving_max: leaving.div_ceil(threads) as usize,
    };
    let work = Churned::new(args.rate, args.stay.as_secs_f64(), args.abort.0);
    let report = Report::new(Box::new(work), &setup, args.common.seed);
    carry_out(report, setup, outputs, move |thread| Churn::new(settings, thread))
}

/// `storm`.
pub(super) fn storm(args: &StormArgs) -> Result<bool, String> {
    let crowd = args.common.connections;
    let stayers = args.stay.unwrap_or_else(|| (crowd / 100).max(100));
    let vanishing = args.share.of(crowd);
    if vanishing == 0 {
        return Err(format!("--share of --connections {crowd} is no connection at all"));
    }
    let sessions = args.login.login;
    if !sessions && (args.vanish.contains(&VanishArg::Stay) || args.twins.0 > 0) {
        return Err(
            "--vanish stay and --twins: two of one identity, which takes --login".to_owned()
        );
    }
    let times = Times { connect_rate: args.connect_rate, duration: ENDLESS };
    let lanes = match (args.dialect, sessions) {
        (Dialect::Raw, false) => Lanes::plain(&args.common)?,
        _ => one_lane(&args.common, args.dialect, &args.login)?.with_pings()?,
    };
    let beside = stayers.saturating_add(beside_themselves(args, vanishing));
    let (mut setup, outputs) =
        prepare(&with_room(&args.common, beside)?, lanes, &times, MIN_READ_BUFFER)?;
    setup.connections = with_room(&args.common, stayers)?.connections;
    let threads = setup.plan.threads;
    let settings = storm::Settings {
        seed: args.common.seed,
        vanishing,
        stayers_from: crowd,
        stayers,
        times: args.times,
        pause: nanos(args.pause),
        rate: args.rate,
        vanish: args.vanish.iter().map(|how| vanish(*how)).collect(),
        twins_ppm: args.twins.0,
        sessions,
        patience: nanos(args.common.timeout),
        backoff: nanos(args.backoff),
        threads,
        connecting_max: args.common.max_connecting,
    };
    let question = question(args, setup.connections)?;
    let asked = question.is_some();
    let witness = Witness::new(threads, question)?;
    let work = Stormed::new(&settings, &witness, asked);
    let report = Report::new(Box::new(work), &setup, args.common.seed);
    let course = Arc::new(Course::new(args.times, settings.pause, threads));
    let driver = move |thread| {
        Storm::new(settings.clone(), Arc::clone(&course), Arc::clone(&witness), thread)
    };
    carry_out(report, setup, outputs, driver)
}

fn vanish(how: VanishArg) -> Vanish {
    match how {
        VanishArg::Rst => Vanish::Abort(Abort::Reset),
        VanishArg::Fin => Vanish::Abort(Abort::End),
        VanishArg::Close => Vanish::Close,
        VanishArg::Half => Vanish::Half,
        VanishArg::Stay => Vanish::Stay,
    }
}

/// How many may be there twice, or on their way.
fn beside_themselves(args: &StormArgs, vanishing: u32) -> u32 {
    let lingers = |how: &VanishArg| matches!(how, VanishArg::Half | VanishArg::Stay);
    let lingering = if args.vanish.iter().any(lingers) { vanishing } else { 0 };
    // Twins are drawn, and may be some more than their share.
    let twins = args.twins.of(vanishing).saturating_mul(2).min(vanishing);
    lingering.saturating_add(twins)
}

/// What the server is asked in the end, if that was asked for.
fn question(args: &StormArgs, connections: u32) -> Result<Option<Question>, String> {
    let Some(file) = args.server_stats.clone() else { return Ok(None) };
    let [pid] = args.common.report.server_pid[..] else {
        return Err("--server-stats: takes one --server-pid, which writes it".to_owned());
    };
    let timeout = args.common.timeout;
    Ok(Some(Question { pid, file, open: connections.into(), timeout }))
}

/// `slow-handshake`.
pub(super) fn slow_handshake(args: &SlowHandshakeArgs) -> Result<bool, String> {
    let drippers = args.common.connections;
    let probes = beside(args.probe_rate);
    let times = Times { connect_rate: 0, duration: args.duration };
    let lanes = Lanes::plain(&args.common)?;
    let (mut setup, outputs) =
        prepare(&with_room(&args.common, probes)?, lanes, &times, MIN_READ_BUFFER)?;
    setup.connections = drippers;
    let report = Report::new(
        Box::new(Dripped::new(args.drip.as_secs_f64(), args.chunk, args.probe_rate)),
        &setup,
        args.common.seed,
    );
    // None of them is opened in the ramp: what drips is no connection yet.
    setup.connections = 0;
    let threads = setup.plan.threads;
    let settings = slow_handshake::Settings {
        seed: args.common.seed,
        interval: nanos(args.drip),
        chunk: args.chunk,
        probe_rate: args.probe_rate,
        threads,
        probes_max: probes.div_ceil(threads).into(),
    };
    let driver =
        move |thread| SlowHandshake::new(settings, thread, share(drippers, threads, thread));
    carry_out(report, setup, outputs, driver)
}

/// How many connections may be there beside the wanted ones, for what happens `rate` times a second.
fn beside(rate: u64) -> u32 {
    rate.clamp(BESIDE_MIN, BESIDE_MAX) as u32
}

/// The same arguments, for so many connections more.
fn with_room(common: &Common, more: u32) -> Result<Common, String> {
    let connections = common
        .connections
        .checked_add(more)
        .ok_or_else(|| "--connections: with those beside them there are too many".to_owned())?;
    Ok(Common { connections, ..common.clone() })
}
