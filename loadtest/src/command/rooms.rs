//! From arguments to a run, for the commands that use rooms.

use std::sync::Arc;

use super::{ENVELOPE, MAX_READ_BUFFER, MIN_READ_BUFFER, Times, carry_out, prepare};
use crate::{
    broadcast::{Broadcast, Course, Task},
    cli::{
        Common, ConnectArgs,
        rooms::{BroadcastArgs, RoomArgs, ScaleArgs, StallArgs, WordsArgs},
    },
    clock::nanos,
    connect::Places,
    echo::Pace,
    lanes::Lanes,
    report::{Report, Summary, broadcast::Broadcasted, scale::Scaled, stall::Stalled},
    rooms::{Gate, Given, Layout, MARK_LEN, Marks, Portion, Sample, Words},
    scale::{self, Scale},
};

/// What members may keep of the publishers of their rooms.
const MAX_SERIALS_BYTES: u64 = 1 << 30;
/// Publishes in flight of all publishers.
const MAX_IN_FLIGHT: u64 = 1 << 26;

pub(super) fn broadcast(args: &BroadcastArgs) -> Result<bool, String> {
    let pace = args.rate.map_or(Pace::Closed(args.in_flight), Pace::Open);
    let task = task(&args.common, &args.rooms, pace)?;
    let work = Broadcasted::new(&task, args.rooms.size);
    follow(&args.common, &args.rooms, task, Box::new(work))
}

pub(super) fn stall(args: &StallArgs) -> Result<bool, String> {
    let mut task = task(&args.common, &args.rooms, Pace::Open(args.rate))?;
    let Layout { members, publishers, .. } = task.layout;
    let wanted = args.stalled.of(members);
    if wanted > members - publishers {
        return Err(format!(
            "--stalled: {wanted} of {members} connections cannot stall, as {publishers} publish"
        ));
    }
    task.stalled = Some(Sample::new(args.common.seed, wanted, publishers, members));
    task.receive_buffer = args.receive_buffer;
    let work = Stalled::new(&task, args.rooms.size);
    follow(&args.common, &args.rooms, task, Box::new(work))
}

/// Checks that the rooms can be as the arguments say.
fn task(common: &Common, args: &RoomArgs, pace: Pace) -> Result<Task, String> {
    let members = common.connections;
    let (rooms, publishers) = (args.rooms, args.publishers.unwrap_or(args.rooms));
    check_size(args.size)?;
    if rooms > members {
        return Err(format!("--rooms {rooms}: there are only {members} connections"));
    }
    if publishers > members {
        return Err(format!("--publishers {publishers}: there are only {members} connections"));
    }
    let serials = 4 * u64::from(members) * u64::from(publishers.div_ceil(rooms));
    if serials > MAX_SERIALS_BYTES {
        return Err(format!(
            "--publishers {publishers}: every member keeps a number for each publisher of its room, \
             {} MiB in all; fewer publishers or more rooms need less",
            serials >> 20
        ));
    }
    if let Pace::Closed(in_flight) = pace
        && u64::from(in_flight) * u64::from(publishers) > MAX_IN_FLIGHT
    {
        return Err(format!("--in-flight {in_flight}: too many for {publishers} publishers"));
    }
    Ok(Task {
        layout: Layout { members, rooms, publishers },
        pace,
        duration: nanos(args.duration),
        timeout: nanos(common.timeout),
        not_self: args.words.no_self,
        words: Words::new(&args.words.given(common.seed), rooms)?,
        stalled: None,
        receive_buffer: 0,
    })
}

fn follow(
    common: &Common,
    args: &RoomArgs,
    task: Task,
    work: Box<dyn Summary>,
) -> Result<bool, String> {
    let times = Times { connect_rate: args.connect_rate, duration: args.duration };
    let lanes = lanes(common, &args.words, args.rooms)?;
    let (setup, outputs) = prepare(common, lanes, &times, read_buffer(args.size))?;
    let threads = setup.plan.threads;
    let report = Report::new(work, &setup, common.seed);
    let course = Arc::new(Course::new(task, threads));
    let marks = Marks::new(common.seed, args.size);
    let driver = move |thread| Broadcast::new(Arc::clone(&course), marks.clone(), thread, threads);
    carry_out(report, setup, outputs, driver)
}

pub(super) fn scale(args: &ScaleArgs) -> Result<bool, String> {
    let Common { connections, seed, timeout, .. } = args.common;
    check_size(args.size)?;
    let given = Given { echo: args.echo.clone(), ..args.words.given(seed) };
    let words = Words::new(&given, 1)?;
    let sample = |flag: &str, portion: Portion, seed| {
        let wanted = portion.of(connections);
        match wanted > connections {
            true => Err(format!("{flag} {wanted}: there are only {connections} connections")),
            false => Ok(Sample::new(seed, wanted, 0, connections)),
        }
    };
    // Two samples that have nothing to do with each other.
    let echoing = sample("--echo-sample", args.echo_sample, seed)?;
    let members = sample("--room-members", args.room_members, !seed)?;
    let times = Times { connect_rate: args.rate, duration: args.hold };
    let lanes = lanes(&args.common, &args.words, 1)?.with_pings()?;
    let (setup, outputs) = prepare(&args.common, lanes, &times, read_buffer(args.size))?;
    let work = Scaled::new(&echoing, args.echoes, &members, args.words.no_self);
    let report = Report::new(Box::new(work), &setup, seed);
    let course = Arc::new(scale::Course {
        words,
        echoing,
        echoes: args.echoes,
        members,
        not_self: args.words.no_self,
        window: args.max_pinging,
        timeout: nanos(timeout),
        gates: std::array::from_fn(|_| Gate::new(setup.plan.threads)),
    });
    let marks = Marks::new(seed, args.size);
    let driver = move |_| Scale::new(Arc::clone(&course), marks.clone());
    carry_out(report, setup, outputs, driver)
}

/// What connections join before `connect` holds them, if anything.
pub(super) fn to_join(args: &ConnectArgs) -> Result<Option<(Words, Places)>, String> {
    let Some(rooms) = args.rooms else { return Ok(None) };
    let (seed, per_connection) = (args.common.seed, args.rooms_per_connection);
    if per_connection > rooms {
        return Err(format!(
            "--rooms-per-connection {per_connection}: there are only {rooms} rooms"
        ));
    }
    let prefix = format!("load-{seed}-");
    let given = Given { dialects: vec![args.dialect], prefix, ..Given::default() };
    Ok(Some((Words::new(&given, rooms)?, Places { rooms, per_connection, seed })))
}

/// The ways that the members of so many rooms take in turn.
fn lanes(common: &Common, words: &WordsArgs, rooms: u32) -> Result<Lanes, String> {
    Lanes::new(common, &words.dialect, rooms, words.login.resolve(&words.dialect)?)
}

fn check_size(size: usize) -> Result<(), String> {
    match size < MARK_LEN {
        true => Err(format!("--size {size}: a publish is told by its first {MARK_LEN} characters")),
        false => Ok(()),
    }
}

fn read_buffer(size: usize) -> usize {
    (size + ENVELOPE).clamp(MIN_READ_BUFFER, MAX_READ_BUFFER)
}
