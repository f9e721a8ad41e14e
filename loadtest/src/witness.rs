//! What the server itself counts while all connections are still open: asked for by SIGUSR1, read
//! from the file that it writes then.
//!
//! Event loops may have descriptor tables of their own and open no files, so a thread of its own asks,
//! and they wait until it has been told.

use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, Ordering::*},
    },
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::Serialize;
use serde_json::Value;

/// Between two looks at what the loops or the server have to say.
const LOOK: Duration = Duration::from_millis(20);
/// The server is asked again after this, if it does not count what it should.
const ASK_AGAIN: Duration = Duration::from_millis(250);

/// Whom to ask, and for what.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    /// The server's process.
    pub(crate) pid: u32,
    /// Where it writes its statistics.
    pub(crate) file: PathBuf,
    /// Connections that should be open.
    pub(crate) open: u64,
    /// How long it may take until the server counts as it should.
    pub(crate) timeout: Duration,
}

/// Asks the server when all loops are ready.
#[derive(Debug)]
pub(crate) struct Witness {
    /// Loops that are not.
    busy: AtomicU32,
    said: OnceLock<Said>,
}

/// What the server counts; `None` where it does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Said {
    /// Open connections.
    pub(crate) open: Option<u64>,
    /// Logins.
    pub(crate) logins: Option<u64>,
    /// Memberships of rooms.
    pub(crate) memberships: Option<u64>,
}

impl Witness {
    /// Of a run with so many event loops; without a question nobody is asked.
    pub(crate) fn new(threads: u32, question: Option<Question>) -> Result<Arc<Self>, String> {
        let witness = Arc::new(Self { busy: AtomicU32::new(threads), said: OnceLock::new() });
        if let Some(question) = question {
            let asking = Arc::clone(&witness);
            thread::Builder::new()
                .name("witness".to_owned())
                .spawn(move || asking.ask(&question))
                .map_err(|error| {
                    format!("cannot start the thread that asks the server: {error}")
                })?;
        } else {
            let _ = witness.said.set(Said::default());
        }
        Ok(witness)
    }

    /// An event loop is ready; each says so once.
    pub(crate) fn ready(&self) {
        self.busy.fetch_sub(1, AcqRel);
    }

    /// Whether all is known that will be.
    pub(crate) fn is_done(&self) -> bool {
        self.busy.load(Acquire) == 0 && self.said.get().is_some()
    }

    /// What the server said.
    pub(crate) fn said(&self) -> Said {
        self.said.get().copied().unwrap_or_default()
    }

    /// The thread that asks. It ends with the process, if the loops never are ready.
    fn ask(&self, question: &Question) {
        while self.busy.load(Acquire) > 0 {
            thread::sleep(LOOK);
        }
        let deadline = Instant::now() + question.timeout;
        let mut said = Said::default();
        while !said.is_right(question.open) && Instant::now() < deadline {
            // What ended a moment ago may still be counted.
            said = question.ask_once(deadline).unwrap_or(said);
            if !said.is_right(question.open) {
                thread::sleep(ASK_AGAIN);
            }
        }
        let _ = self.said.set(said);
    }
}

impl Question {
    /// What the server writes now; `None` if it writes nothing.
    fn ask_once(&self, deadline: Instant) -> Option<Said> {
        let before = fs::metadata(&self.file).and_then(|file| file.modified()).ok();
        let pid = Pid::from_raw(i32::try_from(self.pid).ok()?);
        kill(pid, Signal::SIGUSR1).ok()?;
        while Instant::now() < deadline {
            thread::sleep(LOOK);
            let now = fs::metadata(&self.file).and_then(|file| file.modified()).ok();
            // Half a file is no JSON, and is looked at again.
            if now.is_some()
                && now != before
                && let Ok(text) = fs::read(&self.file)
                && let Ok(stats) = serde_json::from_slice(&text)
            {
                return Some(Said::read(&stats));
            }
        }
        None
    }
}

impl Said {
    /// Out of the statistics of tidegate.
    fn read(stats: &Value) -> Self {
        let count = |path: &str| stats.pointer(path).and_then(Value::as_u64);
        Self {
            open: count("/totals/open"),
            logins: count("/worker_totals/logins"),
            memberships: count("/worker_totals/memberships"),
        }
    }

    /// Whether so many connections are open and, as each has one, so many logins.
    pub(crate) fn is_right(self, open: u64) -> bool {
        self.open == Some(open) && self.logins == Some(open)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn without_a_question_the_loops_wait_for_each_other_alone() {
        let witness = Witness::new(2, None).unwrap();
        witness.ready();
        assert!(!witness.is_done());
        witness.ready();
        assert!(witness.is_done());
        assert_eq!(witness.said(), Said::default());
    }

    #[test]
    fn each_connection_has_a_login() {
        let said = |open, logins| {
            Said::read(&json!({"totals": {"open": open}, "worker_totals": {"logins": logins}}))
        };
        assert!(said(3, 3).is_right(3));
        assert!(!said(3, 3).is_right(4) && !said(4, 3).is_right(4) && !said(3, 4).is_right(3));
        assert_eq!(Said::read(&json!({})), Said::default());
        assert!(!Said::default().is_right(0), "who says nothing does not agree");
    }
}
