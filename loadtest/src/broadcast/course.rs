//! What all threads of a broadcast share: what is to be done, and how far it is.

use std::sync::atomic::{AtomicU32, Ordering::*};

use crate::{
    clock::Nanos,
    echo::Pace,
    rooms::{Gate, Layout, Log, Sample, Words},
};

/// What is to be done.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    /// Who is where.
    pub(crate) layout: Layout,
    /// When publishes are due.
    pub(crate) pace: Pace,
    /// How long to publish.
    pub(crate) duration: Nanos,
    /// How long to wait for deliveries after the last that came.
    pub(crate) timeout: Nanos,
    /// Whether publishers do not get what they published.
    pub(crate) not_self: bool,
    /// How the server is spoken to.
    pub(crate) words: Words,
    /// Members that stop reading once they have joined; none of them publishes.
    pub(crate) stalled: Option<Sample>,
    /// The receive buffer of their sockets, in bytes.
    pub(crate) receive_buffer: usize,
}

impl Task {
    /// Whether a connection stalls.
    pub(crate) fn stalls(&self, index: u32) -> bool {
        self.stalled.as_ref().is_some_and(|stalled| stalled.contains(index))
    }

    /// How many deliveries a publish makes to members that read, on average over the publishers.
    pub(crate) fn mean_receivers(&self) -> f64 {
        let layout = &self.layout;
        let mut readers = vec![0_u64; layout.rooms as usize];
        for index in 0..layout.members {
            readers[layout.room(index) as usize] += u64::from(!self.stalls(index));
        }
        let receivers = |publisher| readers[layout.room(publisher) as usize];
        let sum: u64 = (0..layout.publishers).map(receivers).sum();
        sum as f64 / f64::from(layout.publishers) - f64::from(u8::from(self.not_self))
    }
}

/// The task, and how far it is.
#[derive(Debug)]
pub(crate) struct Course {
    /// What is to be done.
    pub(crate) task: Task,
    /// Opens when all threads' members have joined.
    pub(crate) joined: Gate,
    /// Opens when all threads have published their last.
    pub(crate) published: Gate,
    logs: Vec<Log>,
    sent: Vec<AtomicU32>,
    members: Vec<AtomicU32>,
    flights: Vec<Flight>,
}

/// What a publisher of a closed loop has in flight.
#[derive(Debug)]
struct Flight {
    /// For each publish in flight, by its serial number modulo their count, the members that have it.
    seen: Vec<AtomicU32>,
    /// Serial numbers below this are through.
    through: AtomicU32,
}

impl Course {
    /// Nothing done yet.
    pub(crate) fn new(task: Task, threads: u32) -> Self {
        let Layout { rooms, publishers, .. } = task.layout;
        let zeros = |count: u32| (0..count).map(|_| AtomicU32::new(0)).collect::<Vec<_>>();
        let flights = match task.pace {
            Pace::Closed(in_flight) => (0..publishers)
                .map(|_| Flight { seen: zeros(in_flight), through: AtomicU32::new(0) })
                .collect(),
            Pace::Open(_) => Vec::new(),
        };
        Self {
            joined: Gate::new(threads),
            published: Gate::new(threads),
            logs: (0..rooms).map(|_| Log::default()).collect(),
            sent: zeros(publishers),
            members: zeros(rooms),
            flights,
            task,
        }
    }

    /// The order of a room's publishes.
    pub(crate) fn log(&self, room: u32) -> &Log {
        &self.logs[room as usize]
    }

    /// Whether a connection stalls.
    pub(crate) fn stalls(&self, index: u32) -> bool {
        self.task.stalls(index)
    }

    /// A member has come into a room.
    pub(crate) fn enter(&self, room: u32) {
        self.members[room as usize].fetch_add(1, Relaxed);
    }

    /// A member of a room is lost.
    pub(crate) fn leave(&self, room: u32) {
        self.members[room as usize].fetch_sub(1, Relaxed);
    }

    /// A publisher has published so much; said by its own thread.
    pub(crate) fn note_sent(&self, publisher: u32, sent: u32) {
        self.sent[publisher as usize].store(sent, Relaxed);
    }

    /// What a publisher has published; final behind the gate `published`.
    pub(crate) fn sent(&self, publisher: u32) -> u64 {
        self.sent[publisher as usize].load(Relaxed).into()
    }

    /// What was published in each room; final behind the gate `published`.
    pub(crate) fn sent_by_room(&self) -> Vec<u64> {
        let layout = &self.task.layout;
        let mut sums = vec![0; layout.rooms as usize];
        for publisher in 0..layout.publishers {
            sums[layout.room(publisher) as usize] += self.sent(publisher);
        }
        sums
    }

    /// A member has a publish, for the first time.
    pub(crate) fn note_seen(&self, publisher: u32, serial: u32) {
        let Some(flight) = self.flights.get(publisher as usize) else { return };
        // What was given up is late for its place, which belongs to another by now.
        if serial >= flight.through.load(Acquire) {
            flight.slot(serial).fetch_add(1, AcqRel);
        }
    }

    /// Whether all members have a publish that is in flight.
    pub(crate) fn all_have(&self, publisher: u32, serial: u32) -> bool {
        let room = self.task.layout.room(publisher);
        let members = self.members[room as usize].load(Relaxed);
        let wanted = members.saturating_sub(self.task.not_self.into());
        self.flights[publisher as usize].slot(serial).load(Acquire) >= wanted
    }

    /// A publish is through, or given up: its place is free.
    pub(crate) fn pass(&self, publisher: u32, serial: u32) {
        let flight = &self.flights[publisher as usize];
        flight.through.store(serial + 1, Release);
        flight.slot(serial).store(0, Release);
    }
}

impl Flight {
    fn slot(&self, serial: u32) -> &AtomicU32 {
        &self.seen[serial as usize % self.seen.len()]
    }
}
