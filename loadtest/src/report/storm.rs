//! What `storm` adds: each storm, and what those felt who stayed.

use std::{fmt, sync::Arc};

use serde::Serialize;
use serde_json::{Value, json};

use super::{Expected, Percentiles, Summary, grouped, line, micros, seconds};
use crate::{
    storm::{Settings, Vanish, counts::Blow},
    table::Abort,
    tally::{Pick, Tally},
    witness::{Said, Witness},
};

/// The part of `storm`.
#[derive(Debug, Serialize)]
pub(crate) struct Stormed {
    vanish: String,
    /// How many are dropped by the command itself.
    #[serde(skip)]
    aborts: u64,
    vanishing: u64,
    stayers: u64,
    times: u64,
    pings_per_second: u64,
    backoff_seconds: f64,
    pings: u64,
    unanswered: u64,
    unsent: u64,
    sent_late_us: Percentiles,
    storms: Vec<Storm>,
    /// Of connections that log in.
    #[serde(skip_serializing_if = "Option::is_none")]
    sessions: Option<Sessions>,
}

/// What has become of each identity.
#[derive(Debug, Serialize)]
struct Sessions {
    twins_percent: f64,
    identities: u64,
    one: u64,
    none: u64,
    several: u64,
    /// Connections that the server ended.
    displaced: u64,
    /// What the server itself counts in the end, if it was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<Said>,
    #[serde(skip)]
    witness: Arc<Witness>,
}

/// One storm.
#[derive(Debug, Default, Serialize)]
struct Storm {
    vanished: u64,
    back: u64,
    failed: u64,
    all_back_seconds: f64,
    per_second: f64,
    handshake_us: Percentiles,
    before_us: Percentiles,
    during_us: Percentiles,
    after_us: Percentiles,
}

impl Stormed {
    /// Before the run, of whose end `witness` may say more.
    pub(crate) fn new(settings: &Settings, witness: &Arc<Witness>, asked: bool) -> Self {
        let ways: Vec<_> = settings.vanish.iter().map(|how| way(*how)).collect();
        let sessions = settings.sessions.then(|| Sessions {
            twins_percent: f64::from(settings.twins_ppm) / 10_000.0,
            identities: u64::from(settings.stayers_from) + u64::from(settings.stayers),
            one: 0,
            none: 0,
            several: 0,
            displaced: 0,
            server: asked.then(Said::default),
            witness: Arc::clone(witness),
        });
        Self {
            vanish: ways.join(","),
            aborts: settings.vanishing_by(|how| matches!(how, Vanish::Abort(_))),
            vanishing: settings.vanishing.into(),
            stayers: settings.stayers.into(),
            times: settings.times.into(),
            pings_per_second: settings.rate,
            backoff_seconds: seconds(settings.backoff),
            pings: 0,
            unanswered: 0,
            unsent: 0,
            sent_late_us: Percentiles::default(),
            storms: (0..settings.times).map(|_| Storm::default()).collect(),
            sessions,
        }
    }
}

/// As the argument has it.
fn way(how: Vanish) -> &'static str {
    match how {
        Vanish::Abort(Abort::Reset) => "rst",
        Vanish::Abort(Abort::End) => "fin",
        Vanish::Close => "close",
        Vanish::Half => "half",
        Vanish::Stay => "stay",
    }
}

impl Sessions {
    fn fill(&mut self, tally: &Tally) {
        let counts = tally.storm.sessions;
        (self.one, self.none, self.several) = (counts.one, counts.none, counts.several);
        self.displaced = tally.foreseen.values().sum();
        if let Some(server) = &mut self.server {
            *server = self.witness.said();
        }
    }

    /// Whether each identity has one connection, and the server says so too if it was asked.
    fn is_well(&self) -> bool {
        self.one == self.identities
            && (self.none, self.several) == (0, 0)
            && self.server.is_none_or(|server| server.is_right(self.identities))
    }

    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        line(
            f,
            "identities",
            format_args!(
                "{}: {} with one connection, {} with none, {} with several",
                grouped(self.identities),
                grouped(self.one),
                grouped(self.none),
                grouped(self.several)
            ),
        )?;
        line(f, "displaced", format_args!("{} by the server", grouped(self.displaced)))?;
        let Some(server) = &self.server else { return Ok(()) };
        let shown = |count: Option<u64>| count.map_or_else(|| "unknown".to_owned(), grouped);
        let (open, logins) = (shown(server.open), shown(server.logins));
        line(f, "server", format_args!("{open} connections open, {logins} logins"))
    }
}

impl Storm {
    fn new(blow: &Blow) -> Self {
        let all_back_seconds = seconds(blow.back_after);
        Self {
            vanished: blow.vanished,
            back: blow.back,
            failed: blow.failed,
            all_back_seconds,
            per_second: blow.back as f64 / all_back_seconds.max(1e-9),
            handshake_us: Percentiles::new(&blow.handshake),
            before_us: Percentiles::default(),
            during_us: Percentiles::new(&blow.during),
            after_us: Percentiles::default(),
        }
    }

    fn show(&self, f: &mut fmt::Formatter<'_>, number: usize) -> fmt::Result {
        let what = if self.failed == 0 { "all back" } else { "the last back" };
        line(
            f,
            &format!("storm {number}"),
            format_args!(
                "{} vanished; {what} after {}, {} per second",
                grouped(self.vanished),
                micros(self.all_back_seconds * 1e6),
                grouped(self.per_second.round() as u64)
            ),
        )?;
        if self.failed > 0 {
            writeln!(f, "               {} failed to come back", grouped(self.failed))?;
        }
        line(f, "  handshake", &self.handshake_us)?;
        line(f, "  before", &self.before_us)?;
        line(f, "  during", &self.during_us)?;
        line(f, "  after", &self.after_us)
    }
}

impl Summary for Stormed {
    fn command(&self) -> &'static str {
        "storm"
    }

    fn main_latency(&self) -> Option<Pick> {
        Some(|tally| &tally.storm.stayed)
    }

    fn stages(&self) -> [&'static str; 2] {
        ["storms", "settle"]
    }

    fn fill(&mut self, tally: &Tally, _: f64) {
        let counts = &tally.storm;
        self.pings = counts.pings;
        self.unanswered = tally.unanswered;
        self.unsent = tally.unsent;
        self.sent_late_us = Percentiles::new(&tally.lag);
        if let Some(sessions) = &mut self.sessions {
            sessions.fill(tally);
        }
        self.storms = counts.blows().iter().map(Storm::new).collect();
        for (at, storm) in self.storms.iter_mut().enumerate() {
            let calm = |at| counts.calms().get(at).map(Percentiles::new).unwrap_or_default();
            (storm.before_us, storm.after_us) = (calm(at), calm(at + 1));
        }
    }

    fn expected(&self, tally: &Tally, connections: u64) -> Expected {
        // Of two that come back at once, one may be ended before it is open.
        let unopened = tally.storm.sessions.unopened;
        let twins = tally.attempted.saturating_sub(connections + self.vanishing * self.times);
        let made = connections + self.vanishing * self.times + twins - unopened.min(twins);
        let ended = tally.aborted + tally.foreseen.values().sum::<u64>() - unopened;
        Expected { made, closed: made - ended.min(made) }
    }

    fn seconds(&self, tally: &Tally) -> Option<f64> {
        Some(seconds(tally.storm.worked))
    }

    fn is_well(&self, tally: &Tally, connections: u64) -> bool {
        let all = self.vanishing * self.times;
        let back: u64 = self.storms.iter().map(|storm| storm.back).sum();
        let sessions = self.sessions.as_ref();
        // One of two may be ended when it has just answered.
        let verified = match sessions {
            None => tally.verified == connections + all,
            Some(_) => tally.verified >= connections + all,
        };
        back == all
            && verified
            && tally.aborted == self.aborts
            && self.pings > 0
            && sessions.is_none_or(Sessions::is_well)
    }

    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        line(
            f,
            "stayed",
            format_args!(
                "{}, pinged {} times, {} per second",
                grouped(self.stayers),
                grouped(self.pings),
                grouped(self.pings_per_second)
            ),
        )?;
        for (count, what) in [
            (self.unanswered, "pings never answered"),
            (self.unsent, "pings not sent: their connection was lost"),
        ] {
            if count > 0 {
                writeln!(f, "               {} {what}", grouped(count))?;
            }
        }
        line(f, "sent late by", &self.sent_late_us)?;
        self.storms.iter().zip(1..).try_for_each(|(storm, number)| storm.show(f, number))?;
        self.sessions.as_ref().map_or(Ok(()), |sessions| sessions.show(f))
    }

    fn json(&self) -> Value {
        json!(self)
    }
}
