use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use crossbeam_channel::bounded;

use super::super::{RoomPolicies, RoomPolicy, RoomWork, Then};
use super::*;
use crate::app::Snapshot;
use crate::config::Config;
use crate::dialect::Content;
use crate::id::ConnId;
use crate::limits::TICK_MS;
use crate::public_id::PublicIds;
use crate::telemetry::counters::WorkerCounters;
use crate::telemetry::memory::{LocalMemory, MemoryGauge};
use crate::worker::{Alarm, Lanes, PostItem, lane};

/// A home, and the time that passes for it.
struct Stage {
    home: Home,
    snapshot: Snapshot,
    ids: PublicIds,
    counters: WorkerCounters,
    memory: LocalMemory,
    out: Outgoing,
    now_ms: u64,
}

/// What a loop is told: who comes and goes, and the keys of publishes.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    In(RoomId),
    Out(RoomId),
    Publish(RoomId, String, Option<ConnId>),
}

impl Stage {
    fn new(policy: RoomPolicy) -> Self {
        Self::with(policy, 1, 1 << 40)
    }

    fn with(policy: RoomPolicy, homes: usize, memory_limit: u64) -> Self {
        let mut rooms = RoomPolicies::default();
        rooms.set("*", policy);
        let config = Config { memory_limit_bytes: memory_limit, ..Config::default() };
        let mut snapshot = Snapshot::new(config, Vec::new());
        snapshot.rooms = rooms.into();
        let me = Arc::new(Alarm::for_thread());
        let lanes = Lanes { mailboxes: vec![lane(1, &me).0], rooms: vec![lane(1, &me).0] };
        Self {
            home: Home::new(0, homes),
            snapshot,
            ids: PublicIds::new(0).unwrap(),
            counters: WorkerCounters::default(),
            memory: LocalMemory::new(MemoryGauge::new(memory_limit)),
            out: Outgoing::new(0, me, lanes, bounded(1).1, Some(0)),
            now_ms: 0,
        }
    }

    fn act(&mut self, act: impl FnOnce(&mut Home, &mut Surroundings<'_>, &mut Outgoing)) {
        let mut around = Surroundings {
            snapshot: &self.snapshot,
            ids: &self.ids,
            counters: &self.counters,
            memory: &mut self.memory,
            now_ms: self.now_ms,
            is_draining: false,
        };
        act(&mut self.home, &mut around, &mut self.out);
    }

    fn join(&mut self, room: &str, slot: usize) {
        let (room, conn) = (room.into(), conn(slot));
        let work = RoomWork::Join { room, conn, who: None, attempt: 0, then: Then::Nothing };
        self.act(|home, around, out| home.apply(work, around, out));
    }

    fn leave(&mut self, room: &str, slot: usize) {
        let (room, conn) = (room.into(), conn(slot));
        let work = RoomWork::Leave { room, conn, who: None, then: Then::Nothing };
        self.act(|home, around, out| home.apply(work, around, out));
    }

    fn say(&mut self, room: &str) {
        let content = Content::named("said", "word");
        let publish = Publish::new(Some(room.into()), None, content, self.memory.gauge());
        let (room, then) = (room.into(), Then::Nothing);
        let work = RoomWork::Publish { room, publish, except: None, then };
        self.act(|home, around, out| home.apply(work, around, out));
    }

    fn close(&mut self, room: &str) {
        let (reason, then) = ("".into(), Then::Nothing);
        let work = RoomWork::Close { room: room.into(), code: 1000, reason, then };
        self.act(|home, around, out| home.apply(work, around, out));
    }

    fn sweep(&mut self) {
        self.act(Home::sweep);
    }

    /// Lets time pass, in ticks, with the sweeps that a shard would do.
    fn pass(&mut self, time_ms: u64) {
        for _ in 0..time_ms / TICK_MS {
            self.now_ms += TICK_MS;
            let tick = (self.now_ms / TICK_MS) as Tick + 1;
            if self.home.next_due().is_some_and(|due| due <= tick) {
                self.sweep();
            }
        }
    }

    fn told(&mut self) -> Vec<Told> {
        let Some(mut post) = self.out.take_local() else { return Vec::new() };
        let told = |item| match item {
            PostItem::Subscribe { room, .. } => Told::In(room),
            PostItem::Unsubscribe { room, .. } => Told::Out(room),
            PostItem::Publish { room, publish, except } => {
                let text = format!("{publish:?}");
                let key = text.split("key: Some(\"").nth(1).expect("a key");
                Told::Publish(room, key.split('"').next().unwrap_or_default().to_owned(), except)
            }
            other => panic!("{other:?}"),
        };
        let (items, _) = post.parts();
        items.filter(|item| !matches!(item, PostItem::CloseRoom { .. })).map(told).collect()
    }

    fn strikes(&mut self) -> usize {
        let told = self.told();
        told.iter().filter(|told| matches!(told, Told::Publish(_, key, _) if key == "time")).count()
    }

    /// Rooms with members, empty ones, and those reaped so far.
    fn counts(&self) -> (u64, u64, u64) {
        let WorkerCounters { rooms, rooms_empty, rooms_reaped, .. } = &self.counters;
        assert_eq!(self.home.rooms.len() as u64, rooms.get() + rooms_empty.get());
        (rooms.get(), rooms_empty.get(), rooms_reaped.get())
    }

    fn bytes(&mut self) -> i64 {
        self.memory.settle();
        self.memory.gauge().signed(Component::Rooms)
    }
}

fn conn(slot: usize) -> ConnId {
    ConnId::new(0, 0, slot)
}

fn plain() -> RoomPolicy {
    RoomPolicy::default()
}

fn ticking(interval_ms: u64) -> RoomPolicy {
    RoomPolicy { clock: Some(Clock::time(Duration::from_millis(interval_ms))), ..plain() }
}

fn id(serial: u64) -> RoomId {
    RoomId::new(0, serial)
}

#[test]
fn an_empty_room_is_reaped_when_its_time_has_come() {
    let mut stage = Stage::new(plain());
    stage.join("tea", 1);
    assert_eq!((stage.counts(), stage.home.next_due()), ((1, 0, 0), None));
    stage.leave("tea", 1);
    assert_eq!(stage.counts(), (0, 1, 0));
    stage.pass(9_950);
    assert_eq!(stage.counts(), (0, 1, 0));
    stage.pass(50);
    assert_eq!((stage.counts(), stage.home.next_due()), ((0, 0, 1), None));
    assert_eq!(stage.bytes(), 0);
}

#[test]
fn who_comes_back_in_time_finds_the_room_as_it_was() {
    let mut stage = Stage::new(plain());
    stage.join("tea", 1);
    stage.say("tea");
    stage.leave("tea", 1);
    stage.pass(9_000);
    stage.join("tea", 2);
    // The timer of the first emptiness is no more.
    stage.pass(60_000);
    assert_eq!((stage.counts(), stage.home.rooms["tea"].serial), ((1, 0, 0), 1));
    let told = stage.told();
    assert_eq!(told[2..], [Told::Out(id(1)), Told::In(id(1))]);
    stage.leave("tea", 2);
    stage.pass(10_000);
    stage.join("tea", 3);
    assert_eq!((stage.counts(), stage.home.rooms["tea"].serial), ((1, 0, 1), 0));
    assert_eq!(stage.told(), [Told::Out(id(1)), Told::In(id(2))]);
}

/// In system C the reaper stops at the first busy room.
#[test]
fn a_busy_room_holds_up_no_other() {
    let mut stage = Stage::new(ticking(50));
    for n in 0..40 {
        stage.join(&format!("room {n}"), n);
        stage.join(&format!("room {n}"), n + 1);
    }
    for n in 0..40 {
        stage.leave(&format!("room {n}"), n);
        if n % 4 != 0 {
            stage.leave(&format!("room {n}"), n + 1);
        }
    }
    for _ in 0..200 {
        stage.pass(50);
        stage.say("room 0");
        // It is left and joined all the time.
        stage.leave("room 4", 5);
        stage.join("room 4", 5);
        stage.told();
    }
    assert_eq!(stage.counts(), (10, 0, 30));
}

#[test]
fn no_more_rooms_are_empty_than_may_be() {
    const EACH: u64 = 3;
    let limit = EACH * ROOMS_EMPTY_SHARE * 8 * room_bytes("1000") as u64;
    let mut stage = Stage::with(plain(), EACH as usize, limit);
    for n in 1_000..2_000 {
        stage.join(&n.to_string(), 1);
        stage.leave(&n.to_string(), 1);
    }
    assert_eq!(stage.counts(), (0, 8, 992));
    // The oldest made way, and who comes back makes room.
    assert!((1_992..2_000).all(|n| stage.home.rooms.contains_key(&*n.to_string())));
    stage.join("1999", 1);
    stage.join("1000", 1);
    stage.leave("1000", 1);
    assert_eq!(stage.counts(), (1, 8, 992));
    stage.leave("1999", 1);
    stage.pass(10_000);
    assert_eq!((stage.counts(), stage.bytes()), ((0, 0, 1_001), 0));
}

#[test]
fn at_the_memory_ceiling_empty_rooms_make_way() {
    const LIMIT: usize = 100_000_000;
    let mut stage = Stage::with(plain(), 1, LIMIT as u64);
    for n in 0..5_000 {
        stage.join(&n.to_string(), 1);
        stage.leave(&n.to_string(), 1);
    }
    stage.join("busy", 1);
    stage.join("other", 1);
    let (rooms, empty) = (stage.bytes() as usize, 5_000 * room_bytes("0000"));
    stage.memory.add(Component::Frames, LIMIT - rooms + empty / 2);
    assert_eq!(stage.counts(), (2, 5_000, 0));
    // One that becomes empty now does not linger.
    stage.leave("other", 1);
    assert_eq!(stage.counts(), (1, 5_000, 1));
    let mut sweeps = 0;
    while stage.home.has_empty_rooms() && stage.memory.gauge().over_limit() {
        stage.sweep();
        stage.memory.settle();
        sweeps += 1;
    }
    assert!((2..=4).contains(&sweeps), "there is a budget: {sweeps}");
    let (left, reaped) = (stage.counts().1, stage.counts().2);
    assert!(left > 1_000 && reaped > 2_000, "{left} {reaped}");
    assert!(stage.home.rooms.contains_key("busy"));
}

#[test]
fn a_table_that_was_large_is_given_back() {
    let mut stage = Stage::new(plain());
    for n in 0..20_000 {
        stage.join(&format!("{n}"), 1);
    }
    let large = stage.home.rooms.capacity();
    for n in 0..20_000 {
        stage.leave(&format!("{n}"), 1);
    }
    stage.pass(60_000);
    assert!(stage.home.rooms.capacity() < large / 4);
    assert_eq!((stage.counts(), stage.bytes()), ((0, 0, 20_000), 0));
}

#[test]
fn a_clock_strikes_while_there_are_members_and_does_not_drift() {
    // No multiple of a tick.
    let mut stage = Stage::new(ticking(130));
    stage.pass(1_000);
    stage.join("tea", 1);
    assert_eq!(stage.strikes(), 0);
    stage.pass(100);
    assert_eq!(stage.strikes(), 0);
    stage.pass(50);
    assert_eq!(stage.strikes(), 1);
    stage.pass(13_000 - 150);
    assert_eq!(stage.strikes(), 99);
    // Another member changes nothing.
    stage.join("tea", 2);
    stage.pass(150);
    assert_eq!(stage.strikes(), 1);
    stage.leave("tea", 2);
    stage.leave("tea", 1);
    stage.pass(5_000);
    assert_eq!(stage.strikes(), 0);
    stage.join("tea", 1);
    stage.pass(100);
    assert_eq!(stage.strikes(), 0, "it begins anew");
    stage.pass(50);
    assert_eq!(stage.strikes(), 1);
}

#[test]
fn a_clock_that_was_held_up_strikes_once() {
    let mut stage = Stage::new(ticking(100));
    stage.join("tea", 1);
    stage.now_ms = 1_070;
    stage.sweep();
    assert_eq!(stage.strikes(), 1);
    stage.now_ms = 1_100;
    stage.sweep();
    stage.sweep();
    assert_eq!(stage.strikes(), 1);
}

#[test]
fn clocks_of_many_rooms_take_turns() {
    let mut stage = Stage::new(ticking(1_000));
    for n in 0..1_000 {
        stage.join(&format!("{n}"), n);
    }
    stage.told();
    stage.now_ms = 1_000;
    let tick = 21;
    let mut sweeps = 0;
    while stage.home.next_due().is_some_and(|due| due <= tick) {
        stage.sweep();
        let strikes = stage.strikes();
        assert!((1..=POSTS_PER_SWEEP).contains(&strikes));
        sweeps += strikes;
    }
    assert_eq!(sweeps, 1_000);
}

#[test]
fn a_content_of_ones_own() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let policy = plain().every(Duration::ZERO, move |room| {
        let n = counted.fetch_add(1, Relaxed);
        assert_eq!((room.name, room.members), ("tea", 2));
        match n % 3 {
            0 => Some(Content::named("time", "now").into()),
            1 => None,
            _ => panic!("it may"),
        }
    });
    let mut stage = Stage::new(policy);
    stage.join("tea", 1);
    stage.join("tea", 2);
    stage.pass(300);
    // As short an interval as there is: a tick.
    assert_eq!((asked.load(Relaxed), stage.strikes()), (6, 2));
    assert_eq!(stage.counters.panics.get(), 2);
}

#[test]
fn a_clock_that_is_no_more_stops() {
    let mut stage = Stage::new(ticking(100));
    stage.join("tea", 1);
    stage.snapshot.rooms = Arc::default();
    stage.pass(1_000);
    assert_eq!((stage.strikes(), stage.home.next_due()), (0, None));
    Arc::get_mut(&mut stage.snapshot.rooms).unwrap().set("tea", ticking(200));
    stage.join("tea", 2);
    stage.pass(1_000);
    assert_eq!(stage.strikes(), 5);
}

#[test]
fn others_are_told_of_who_comes_and_goes() {
    let mut stage = Stage::new(RoomPolicy { events: true, ..plain() });
    let told = |key: &str, slot| Told::Publish(id(1), key.to_owned(), Some(conn(slot)));
    stage.join("tea", 1);
    assert_eq!(stage.told(), [Told::In(id(1))]);
    stage.join("tea", 2);
    assert_eq!(stage.told(), [Told::In(id(1)), told("joined", 2)]);
    // Who is there already does not come.
    stage.join("tea", 2);
    stage.leave("tea", 3);
    assert_eq!(stage.told(), []);
    stage.leave("tea", 1);
    assert_eq!(stage.told(), [Told::Out(id(1)), told("left", 1)]);
    assert_eq!(stage.home.rooms["tea"].serial, 2);
    stage.leave("tea", 2);
    assert_eq!(stage.told(), [Told::Out(id(1))]);
}

#[test]
fn those_who_all_go_are_not_told_of_each_other() {
    let mut stage = Stage::new(RoomPolicy { events: true, ..plain() });
    for slot in 1..=3 {
        stage.join("tea", slot);
    }
    stage.close("tea");
    stage.told();
    stage.leave("tea", 1);
    assert_eq!(stage.told(), [Told::Out(id(1))]);
    // Whoever comes then stays, and wants to know.
    stage.join("tea", 4);
    stage.told();
    stage.leave("tea", 2);
    assert_eq!(stage.told().len(), 2);
}
