//! One event loop: opens its share of connections, lets the command work on them, closes them.
//!
//! Invariants:
//! - A loop opens sockets and nothing else, so its descriptor table may be its own.
//! - It never blocks but in its poll, and there no longer than [`TICK`].
//! - Each stage does a bounded amount of work a turn, so that answers are read in between.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _},
    sync::Arc,
    time::Duration,
};

use mio::{Events, Interest, Poll, Token, event::Event, unix::SourceFd};
use nix::sys::{
    time::TimeSpec,
    timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags},
};

use crate::{
    clock::{MILLI, Nanos, nanos},
    link::{Driver, Settled},
    plan::share,
    shared::{Setup, Shared},
    socket::Readiness,
    table::Table,
    tally::Tally,
    trouble::{Trouble, Waiting},
};

/// The longest sleep, after which the loop looks whether the others are ready.
const TICK: Duration = Duration::from_millis(50);
/// How often deadlines are looked at.
const SWEEP: Nanos = 100 * MILLI;
/// Connects, or closes, in one turn.
const BATCH: usize = 64;
/// Events taken up at once. What is due meanwhile waits for them, and the wait counts as latency.
const EVENTS: usize = 128;
/// The token of the timer.
const TIMER: Token = Token(usize::MAX);

/// One thread's part of a run.
pub(crate) struct EventLoop<D: Driver> {
    poll: Poll,
    timer: TimerFd,
    /// When the timer will ring, or 0.
    armed: Nanos,
    thread: u32,
    setup: Arc<Setup>,
    shared: Arc<Shared>,
    table: Table<D::Client>,
    driver: D,
    stage: Stage,
    /// Whether the others know when the work proper begins.
    told: bool,
    /// Whether no connection is left here, and none will come.
    empty: bool,
    next_sweep: Nanos,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    /// Opening connections; so many of the share were begun.
    Ramp(u32),
    /// Waiting for the other threads.
    Ready,
    /// The command works, until then or as long as it says.
    Work(Nanos),
    /// The command ends its work.
    Settle,
    /// Closing; keys below this were closed.
    Close(usize),
    Done,
}

impl<D: Driver> EventLoop<D> {
    /// A loop on `poll`, in the thread that will run it and behind the parting of tables, as it
    /// opens a timer.
    pub(crate) fn new(
        poll: Poll,
        thread: u32,
        setup: Arc<Setup>,
        shared: Arc<Shared>,
        driver: D,
    ) -> io::Result<Self> {
        let timer = TimerFd::new(
            ClockId::CLOCK_MONOTONIC,
            TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC,
        )?;
        let descriptor = timer.as_fd().as_raw_fd();
        poll.registry().register(&mut SourceFd(&descriptor), TIMER, Interest::READABLE)?;
        let registry = poll.registry().try_clone()?;
        let share = share(setup.connections, setup.plan.threads, thread) as usize;
        let table = Table::new(registry, Arc::clone(&setup), shared.clock, share);
        let stage = Stage::Ramp(0);
        if driver.goes_on() {
            shared.overrun();
        }
        Ok(Self {
            poll,
            timer,
            armed: 0,
            thread,
            setup,
            shared,
            table,
            driver,
            stage,
            told: false,
            empty: false,
            next_sweep: SWEEP,
        })
    }

    /// Runs to the end of all its connections.
    pub(crate) fn run(mut self) -> io::Result<Tally> {
        let mut events = Events::with_capacity(EVENTS);
        while !matches!(self.stage, Stage::Done) {
            let next = self.advance();
            self.wait(&mut events, next)?;
            for event in &events {
                match event.token() {
                    TIMER => self.armed = 0,
                    Token(key) => self.table.pump(key, readiness(event), &mut self.driver),
                }
            }
            let now = self.shared.clock.now();
            if now >= self.next_sweep {
                self.table.sweep(now, &mut self.driver);
                self.next_sweep = now + SWEEP;
            }
            self.shared.publish(self.thread, &self.table.tally);
        }
        Ok(self.table.tally)
    }

    /// Does what is due; returns when to be called again at the latest.
    fn advance(&mut self) -> Option<Nanos> {
        let now = self.shared.clock.now();
        match self.stage {
            Stage::Ramp(begun) => self.ramp(begun, now),
            Stage::Ready => self.ready(now),
            Stage::Work(until) => self.work(until, now),
            Stage::Settle => self.settle(),
            Stage::Close(from) => self.close(from),
            Stage::Done => None,
        }
    }

    fn ramp(&mut self, mut begun: u32, now: Nanos) -> Option<Nanos> {
        let threads = self.setup.plan.threads;
        let share = share(self.setup.connections, threads, self.thread);
        // Some threads end their ramp long before others; what they leave is for those.
        let at_once = self.setup.max_connecting.div_ceil(self.shared.ramping());
        let mut next = None;
        for _ in 0..BATCH {
            if begun == share || self.shared.stopping() || self.table.connecting() >= at_once {
                break;
            }
            let index = self.thread + begun * threads;
            let due = self.setup.connect_due(index);
            if due > now {
                next = Some(due);
                break;
            }
            let since = if self.setup.connect_rate == 0 { self.table.now() } else { due };
            self.table.connect(index, since, &mut self.driver);
            begun += 1;
            next = Some(now);
        }
        self.stage = Stage::Ramp(begun);
        if (begun == share || self.shared.stopping()) && self.table.connecting() == 0 {
            self.table.tally.ramped = self.table.tally.connected;
            self.shared.ramped();
            self.stage = Stage::Ready;
        }
        next
    }

    fn ready(&mut self, now: Nanos) -> Option<Nanos> {
        let from = self.shared.work_from()?;
        if now < from {
            return Some(from);
        }
        let until = from + nanos(self.setup.duration);
        self.driver.begin(&mut self.table, from, until);
        self.stage = Stage::Work(until);
        // One turn in any case, however late this thread woke up.
        self.driver.turn(&mut self.table, now).or(Some(now))
    }

    fn work(&mut self, until: Nanos, now: Nanos) -> Option<Nanos> {
        self.tell_begin();
        let over = now >= until && !self.driver.goes_on();
        if over || self.driver.done() || self.shared.stopping() || self.deserted() {
            self.shared.worked(now);
            self.stage = Stage::Settle;
            return Some(now);
        }
        let next = self.driver.turn(&mut self.table, now);
        // A driver may go on beyond the time.
        let end = Some(until).filter(|until| *until > now);
        next.into_iter().chain(end).min()
    }

    /// Tells the others when the work proper begins, once, if the driver says so at all.
    fn tell_begin(&mut self) {
        if !self.told
            && let Some(from) = self.driver.work_from()
        {
            self.shared.work_began(from);
            self.told = true;
        }
    }

    /// Whether there is nothing left to work on, here and on all other threads. One of them alone
    /// goes on, as others may wait for what it says.
    fn deserted(&mut self) -> bool {
        if !self.empty && self.table.is_empty() && !self.driver.reopens() {
            self.empty = true;
            self.shared.emptied();
        }
        self.empty && self.shared.deserted()
    }

    fn settle(&mut self) -> Option<Nanos> {
        match self.driver.settle(&mut self.table) {
            // What opens later than its turn to be closed would stay open.
            Settled::Yes if self.table.connecting() > 0 => None,
            Settled::Yes => {
                self.stage = Stage::Close(0);
                Some(0)
            }
            Settled::More => Some(0),
            Settled::Waiting => None,
        }
    }

    fn close(&mut self, from: usize) -> Option<Nanos> {
        // Each has its time to be answered in: no more are asked at once than can be connecting.
        // Of a server that has let one's time pass the others need not be waited for in turn.
        let timeout = Trouble::Timeout(Waiting::Close);
        let hurries = self.shared.stopping() || self.table.tally.unclosed.contains_key(&timeout);
        let at_once = match hurries {
            true => u32::MAX,
            false => self.setup.max_connecting.div_ceil(self.setup.plan.threads),
        };
        let mut to = from;
        while to < (from + BATCH).min(self.table.keys_end()) {
            if self.table.tally.closing >= at_once.into() {
                self.stage = Stage::Close(to);
                return None;
            }
            self.table.close(to, &mut self.driver);
            to += 1;
        }
        let closed_all = to == self.table.keys_end();
        let done = closed_all && self.table.is_empty();
        self.stage = if done { Stage::Done } else { Stage::Close(to) };
        (done || !closed_all).then_some(0)
    }

    /// Sleeps until an event, until `next`, or for a tick.
    fn wait(&mut self, events: &mut Events, next: Option<Nanos>) -> io::Result<()> {
        let now = self.shared.clock.now();
        let timeout = match next {
            Some(next) if next <= now => Duration::ZERO,
            Some(next) if next - now < nanos(TICK) => {
                self.arm(now, next)?;
                TICK
            }
            _ => TICK,
        };
        match self.poll.poll(events, Some(timeout)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            result => result,
        }
    }

    /// Sets the timer: the poll's own timeout counts in milliseconds, too coarse for a pace.
    fn arm(&mut self, now: Nanos, next: Nanos) -> io::Result<()> {
        if self.armed != next {
            let sleep = TimeSpec::from_duration(Duration::from_nanos(next - now));
            self.timer.set(Expiration::OneShot(sleep), TimerSetTimeFlags::empty())?;
            self.armed = next;
        }
        Ok(())
    }
}

fn readiness(event: &Event) -> Readiness {
    if event.is_read_closed() || event.is_write_closed() || event.is_error() {
        Readiness::End
    } else if event.is_readable() {
        Readiness::Bytes
    } else {
        Readiness::Nothing
    }
}
