//! What a service manager is told: systemd's notifications (`NOTIFY_SOCKET`), its watchdog too.

use std::time::{Duration, Instant};

use sd_notify::NotifyState::{self, Ready, Reloading, Status, Stopping, Watchdog};

use super::running::Running;

/// How often a changed count of connections is told.
const STATUS_INTERVAL: Duration = Duration::from_secs(10);

/// The way to the service manager that started this process. Where there is none, all of it does
/// nothing.
///
/// The watchdog is told that all is well only as long as every event loop sleeps or turns: one that
/// is held up for more than half of the watchdog's time has the service manager start anew.
#[derive(Debug)]
pub struct Service {
    /// Within which the watchdog has to be told.
    watchdog: Option<Duration>,
    watchdog_told: Instant,
    /// Of each loop, its turns and when it was last seen to be well.
    loops: Vec<(u64, Instant)>,
    status_told: (usize, Instant),
}

impl Service {
    /// Of the environment that this process was started in.
    #[must_use]
    pub fn from_env() -> Self {
        Self::new(sd_notify::watchdog_enabled(), Instant::now())
    }

    fn new(watchdog: Option<Duration>, now: Instant) -> Self {
        let watchdog = watchdog.filter(|time| !time.is_zero());
        Self { watchdog, watchdog_told: now, loops: Vec::new(), status_told: (0, now) }
    }

    /// How soon, at the latest, [`look`](Self::look) or [`hold_on`](Self::hold_on) is to be called
    /// again.
    #[must_use]
    pub fn interval(&self) -> Duration {
        self.watchdog.map_or(STATUS_INTERVAL, |time| time / 4)
    }

    /// All listeners listen.
    pub fn ready(&self, running: &Running) {
        tell(&[Ready, Status(&status(running.connections()))]);
    }

    /// The configuration is being read again; [`ready`](Self::ready) is to follow, however it ends.
    pub fn reloading(&self) {
        // Without the time, a service manager that wants to know it would take the reload for failed.
        match NotifyState::monotonic_usec_now() {
            Ok(now) => tell(&[Reloading, now]),
            Err(e) => log::warn!("the service manager is not told of the reload: {e}"),
        }
    }

    /// Connections are being closed, and no more are accepted.
    pub fn stopping(&self, running: &Running) {
        tell(&[Stopping, Status(&format!("closing {}", status(running.connections())))]);
    }

    /// Tells how it goes, if it is time to.
    pub fn look(&mut self, running: &Running) {
        let now = Instant::now();
        if self.watchdog.is_some() && self.are_well(running.loop_states(), now) {
            self.hold_on();
        }
        let connections = running.connections();
        let (told, at) = self.status_told;
        if connections != told && now.duration_since(at) >= STATUS_INTERVAL {
            self.status_told = (connections, now);
            tell(&[Status(&status(connections))]);
        }
    }

    /// Tells the watchdog that it goes on, if it is time to; whether loops are well is not asked.
    pub fn hold_on(&mut self) {
        let now = Instant::now();
        let Some(time) = self.watchdog else { return };
        // Looked at four times in that time: with what is left over, three quarters have passed at most.
        if now.duration_since(self.watchdog_told) >= time / 4 {
            self.watchdog_told = now;
            tell(&[Watchdog]);
        }
    }

    /// Whether every loop, by whether it sleeps and by its turns, was well within half of the time.
    fn are_well(&mut self, loops: impl Iterator<Item = (bool, u64)>, now: Instant) -> bool {
        let patience = self.watchdog.unwrap_or_default() / 2;
        let mut are_well = true;
        for (index, (is_asleep, turns)) in loops.enumerate() {
            if index == self.loops.len() {
                self.loops.push((turns, now));
            }
            let (known_turns, well_at) = &mut self.loops[index];
            if is_asleep || turns != *known_turns {
                (*known_turns, *well_at) = (turns, now);
            }
            are_well &= now.duration_since(*well_at) <= patience;
        }
        are_well
    }
}

fn status(connections: usize) -> String {
    match connections {
        1 => "1 connection".to_owned(),
        n => format!("{n} connections"),
    }
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(e) = sd_notify::notify(state) {
        log::warn!("the service manager is not told how it goes (NOTIFY_SOCKET): {e}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_that_is_held_up_is_noticed() {
        let start = Instant::now();
        let mut service = Service::new(Some(Duration::from_secs(8)), start);
        let at = |s| start + Duration::from_secs(s);
        let mut well = |sleeps: bool, turns: u64, s| {
            service.are_well([(true, 7), (sleeps, turns)].into_iter(), at(s))
        };
        assert!(well(false, 1, 0) && well(false, 2, 4) && well(false, 3, 8));
        assert!(well(false, 3, 12), "for half of the time at most");
        assert!(!well(false, 3, 13));
        assert!(well(false, 4, 14), "it goes on");
        assert!(well(true, 4, 30), "asleep for as long as it likes");
        assert_eq!(service.interval(), Duration::from_secs(2));
    }
}
