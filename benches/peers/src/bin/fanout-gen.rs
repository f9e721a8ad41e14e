//! Members of one room and one publisher: measures what a delivery costs the server.
//!
//! So many publishes are in flight: the next one goes out when all members have got the oldest. Each
//! thread holds its share of the members; with several each has a descriptor table of its own. The
//! first publish travels alone and teaches the frame; all members must get the same one, and from then
//! on deliveries are counted by its length, once in `SAMPLE` of them all frames of a read are compared,
//! and at the end every member must have got every publish, no more and no less. Nothing is in flight
//! when the measured window begins and when it ends, so that its deliveries and its CPU belong together.

use std::{
    net::SocketAddr,
    sync::{Arc, Barrier},
    thread,
    time::Instant,
};

use clap::Parser;
use mio::{Poll, Waker};
use peers::{
    Fatal,
    fanout::{Members, Protocol, Publisher, Room, WAKER},
    fdtable,
    meter::Process,
};
use serde_json::json;

/// Members of one thread: within the limit of a descriptor table.
const PER_THREAD: usize = 15_000;

/// Publishes to a room and counts deliveries.
#[derive(Debug, Parser)]
struct Args {
    /// The server.
    #[arg(long)]
    target: SocketAddr,

    /// What it speaks.
    #[arg(long, value_enum, default_value = "tidegate")]
    protocol: Protocol,

    /// Members of the room.
    #[arg(long, default_value_t = 5000, value_parser = clap::value_parser!(u32).range(1..))]
    members: u32,

    /// Publishes in flight.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    in_flight: u32,

    /// Characters of what is published.
    #[arg(long, default_value_t = 64)]
    size: usize,

    /// Seconds before the measured ones.
    #[arg(long, default_value_t = 1.0)]
    warmup: f64,

    /// Measured seconds.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,

    /// The server's process, whose CPU is read.
    #[arg(long)]
    server_pid: Option<u32>,
}

fn main() -> Result<(), Fatal> {
    let args = Args::parse();
    fdtable::raise_limit()?;
    let members = args.members as usize;
    let threads = members.div_ceil(PER_THREAD);
    // Everything that threads share is made before they part, and so has low numbers.
    let mut polls = (0..threads).map(|_| Poll::new()).collect::<Result<Vec<_>, _>>()?;
    let waker = Waker::new(polls[0].registry(), WAKER)?;
    let first_own = fdtable::first_free()?;
    let room = Arc::new(Room::new(
        args.target,
        args.protocol,
        members,
        args.in_flight as usize,
        threads,
        waker,
    ));
    let joined = Arc::new(Barrier::new(threads));
    let mut others = Vec::new();
    for (index, poll) in polls.drain(1..).enumerate() {
        let (room, joined) = (Arc::clone(&room), Arc::clone(&joined));
        others.push(thread::spawn(move || -> Result<(), Fatal> {
            fdtable::unshare_above(first_own)?;
            attend(poll, index + 1, &room, &joined).inspect_err(|_| room.stop())
        }));
    }
    let result = lead(&args, polls.remove(0), &room, &joined);
    room.stop();
    let others: Vec<_> = others.into_iter().map(thread::JoinHandle::join).collect();
    let line = result?;
    for other in others {
        other.map_err(|_| "a thread panicked")??;
    }
    peers::print_line(&line)?;
    Ok(())
}

/// A thread of members only.
fn attend(poll: Poll, thread: usize, room: &Arc<Room>, joined: &Barrier) -> Result<(), Fatal> {
    let members = Members::open(poll, thread, Arc::clone(room));
    // Also after a failure, or the others would wait for ever.
    joined.wait();
    let mut members = members?;
    while !room.stopped() {
        members.turn()?;
    }
    members.check()
}

/// The thread that publishes and measures, with its own share of the members.
fn lead(
    args: &Args,
    poll: Poll,
    room: &Arc<Room>,
    joined: &Barrier,
) -> Result<serde_json::Value, Fatal> {
    let members = Members::open(poll, 0, Arc::clone(room));
    joined.wait();
    let mut members = members?;
    let mut publisher = Publisher::open(Arc::clone(room), &mut members, args.size)?;
    publisher.alone(&mut members)?;
    let server = args.server_pid.map(Process::new);
    publisher.run_for(&mut members, args.warmup)?;
    publisher.finish(&mut members)?;
    let (before, cpu_before) = (room.deliveries(), server.map(Process::cpu).transpose()?);
    let began = Instant::now();
    publisher.run_for(&mut members, args.seconds)?;
    publisher.finish(&mut members)?;
    let seconds = began.elapsed().as_secs_f64();
    let (after, cpu_after) = (room.deliveries(), server.map(Process::cpu).transpose()?);
    members.check()?;
    let compared = room.compared();
    if compared == 0 {
        return Err("no delivery was compared".into());
    }
    let cpu = cpu_after.zip(cpu_before).map(|(after, before)| (after - before).as_secs_f64());
    Ok(json!({
        "members": args.members, "in_flight": args.in_flight, "frame_bytes": room.frame_bytes(),
        "publishes": publisher.sent(), "deliveries": after - before, "compared": compared,
        "seconds": seconds, "server_cpu_seconds": cpu,
    }))
}
