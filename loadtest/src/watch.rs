//! The main thread while the loops run: it samples, shows progress, and notes how things stood at
//! the points between the stages.

use std::time::Duration;

use crate::{
    clock::{Nanos, SECOND, due, nanos},
    progress::{Progress, Stage, View},
    run::Outcome,
    sampler::{
        Sampler,
        host::KernelMemory,
        process::{Processes, resident_bytes},
    },
    shared::{Setup, Shared},
    tally::Tally,
};

/// The longest time between two looks. Shorter than the loops' head start into the work, so that
/// the watcher is ready for it, too.
const WATCH: Duration = Duration::from_millis(50);
/// Work that is given more time than this ends by itself, nobody knows when.
const ENDLESS: Nanos = 86_400 * SECOND;

/// Watches a run.
pub(crate) struct Watch<'a> {
    setup: &'a Setup,
    shared: &'a Shared,
    stages: [&'static str; 2],
    progress: Progress,
    sampler: Sampler,
    marks: Marks,
    /// Ended server processes that were told of.
    told: usize,
}

/// How things stood between the stages; what was not reached is `None`.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Marks {
    /// Resident bytes of this process before the first connection.
    pub(crate) own_before: Option<u64>,
    /// The same after the last.
    pub(crate) own_ramped: Option<u64>,
    /// Resident bytes of the server before the first connection.
    pub(crate) server_before: Option<u64>,
    /// The same after the last.
    pub(crate) server_ramped: Option<u64>,
    /// The same when all was closed.
    pub(crate) server_end: Option<u64>,
    /// Its CPU time before the first connection.
    pub(crate) cpu_before: Nanos,
    /// The same when the work began.
    pub(crate) cpu_work_from: Option<Nanos>,
    /// The same when the work ended.
    pub(crate) cpu_work_until: Option<Nanos>,
    /// The same at the end.
    pub(crate) cpu_end: Nanos,
    /// What the kernel uses more than before, after the last connection.
    pub(crate) kernel_ramped: Option<KernelMemory>,
    /// When the work began.
    pub(crate) work_from: Option<Nanos>,
    /// When the work ended.
    pub(crate) work_until: Option<Nanos>,
}

impl<'a> Watch<'a> {
    /// Takes stock before the first connection.
    pub(crate) fn new(
        setup: &'a Setup,
        shared: &'a Shared,
        stages: [&'static str; 2],
        mut server: Processes,
    ) -> Self {
        let usage = server.usage();
        let marks = Marks {
            own_before: resident_bytes("self"),
            server_before: usage.map(|usage| usage.rss),
            cpu_before: usage.map_or(0, |usage| usage.cpu),
            ..Marks::default()
        };
        let sampler = Sampler::new(nanos(setup.sample_interval), server);
        Self { setup, shared, stages, progress: Progress::new(), sampler, marks, told: 0 }
    }

    /// Does what is due; returns how long until the next look.
    pub(crate) fn look(&mut self) -> Duration {
        self.mark();
        self.sampler.tick(self.shared);
        self.tell_ended();
        let now = self.shared.clock.now();
        let view = View {
            stage: self.stage(now),
            row: self.sampler.last(),
            server: !self.setup.server_pids.is_empty(),
        };
        self.progress.show(self.setup, self.shared, &view);
        let from = self.work_from();
        let until = from.map(|from| from + nanos(self.setup.duration));
        let next = [Some(self.sampler.next()), from, until];
        let next = next.into_iter().flatten().filter(|next| *next > now).min();
        next.map_or(WATCH, |next| Duration::from_nanos(next - now).min(WATCH))
    }

    /// What the run was, after the last thread has ended.
    pub(crate) fn outcome(mut self, tally: Tally) -> Outcome {
        self.mark();
        self.progress.end();
        let total = self.shared.clock.now();
        let usage = self.sampler.server().usage();
        self.marks.server_end = usage.map(|usage| usage.rss);
        self.marks.cpu_end = self.sampler.server().cpu();
        let (rows, server) = self.sampler.finish(self.shared);
        Outcome {
            tally,
            ramp: self.shared.ramped_at().unwrap_or(total),
            total,
            interrupted: self.shared.stopping(),
            marks: self.marks,
            rows,
            server,
        }
    }

    /// When the work begins, once that is known: behind the ramp, or later if the command prepares
    /// something first and is not interrupted meanwhile.
    fn work_from(&self) -> Option<Nanos> {
        let ended = self.shared.worked_until().unwrap_or(Nanos::MAX);
        let began = self.shared.work_began_at().filter(|began| *began <= ended);
        began.or_else(|| self.shared.work_from())
    }

    /// Notes how things stand if a stage has just ended.
    fn mark(&mut self) {
        let now = self.shared.clock.now();
        if self.marks.own_ramped.is_none() && self.shared.ramped_at().is_some() {
            self.marks.own_ramped = resident_bytes("self");
            self.marks.server_ramped = self.sampler.server().usage().map(|usage| usage.rss);
            self.marks.kernel_ramped = self.sampler.kernel_growth();
        }
        let Some(from) = self.work_from().filter(|from| *from <= now) else { return };
        if self.marks.work_from.is_none_or(|marked| marked < from) {
            self.marks.work_from = Some(from);
            self.marks.cpu_work_from = Some(self.sampler.server().cpu());
        }
        let until = from + nanos(self.setup.duration);
        let in_time = (now >= until && !self.shared.overruns()).then_some(until);
        let ended = self.shared.worked_until().or(in_time);
        if self.marks.work_until.is_none()
            && let Some(ended) = ended
        {
            self.marks.work_until = Some(ended.min(now));
            self.marks.cpu_work_until = Some(self.sampler.server().cpu());
        }
    }

    /// The stage, as far as it can be seen from here.
    fn stage(&self, now: Nanos) -> Stage {
        let [work, settle] = self.stages;
        let Some(from) = self.work_from() else {
            let ramp = due(self.setup.connections.into(), self.setup.connect_rate);
            return Stage { name: "ramp", left: ramp.checked_sub(now).filter(|_| ramp > 0) };
        };
        let until = from + nanos(self.setup.duration);
        let counts = self.shared.snapshot();
        match self.marks.work_until {
            None => {
                let left = Some(until.saturating_sub(now)).filter(|left| *left < ENDLESS);
                Stage { name: work, left }
            }
            Some(_) if counts.closed > 0 => Stage { name: "close", left: None },
            Some(_) => Stage { name: settle, left: None },
        }
    }

    fn tell_ended(&mut self) {
        let ended = self.sampler.server().ended().to_vec();
        for pid in &ended[self.told..] {
            self.progress.say(&format!("server process {pid} has ended"));
        }
        self.told = ended.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{lanes::Lanes, plan::Plan};

    fn setup(duration: Duration) -> Setup {
        Setup {
            lanes: Lanes::plain(&crate::cli::Common::to("ws://127.0.0.1:1/")).unwrap(),
            plan: Plan { threads: 1, private_tables: false, sources: Vec::new() },
            connections: 1,
            connect_rate: 0,
            max_connecting: 1,
            timeout: Duration::ZERO,
            duration,
            read_buffer: 0,
            sample_interval: Duration::from_secs(1),
            server_pids: Vec::new(),
        }
    }

    /// A watch that has just marked the begin of the work behind the ramp.
    fn begun<'a>(setup: &'a Setup, shared: &'a Shared) -> Watch<'a> {
        let mut watch = Watch::new(setup, shared, ["work", "settle"], Processes::none());
        shared.ramped();
        while watch.marks.work_from.is_none() {
            std::thread::yield_now();
            watch.mark();
        }
        assert_eq!(watch.marks.work_from, shared.work_from());
        watch
    }

    #[test]
    fn work_goes_from_when_it_began_until_it_was_done() {
        let (setup, shared) = (setup(Duration::ZERO), Shared::new(1, None));
        shared.overrun();
        let mut watch = begun(&setup, &shared);
        assert_eq!(watch.marks.work_until, None);
        let began = shared.clock.now();
        shared.work_began(began);
        watch.mark();
        assert_eq!((watch.marks.work_from, watch.marks.work_until), (Some(began), None));
        let ended = shared.clock.now();
        shared.worked(ended);
        watch.mark();
        assert_eq!((watch.marks.work_from, watch.marks.work_until), (Some(began), Some(ended)));
    }

    #[test]
    fn work_that_never_began_counts_from_the_end_of_the_ramp() {
        let (setup, shared) = (setup(Duration::from_secs(3600)), Shared::new(1, None));
        let mut watch = begun(&setup, &shared);
        let ended = shared.clock.now();
        shared.work_began(ended + SECOND);
        shared.worked(ended);
        watch.mark();
        assert_eq!(watch.marks.work_from, shared.work_from());
        assert_eq!(watch.marks.work_until, Some(ended));
    }
}
