//! Certificates taken up anew under live connections: at a signal, and when their files change.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::shared::Shared;
use super::snapshot::Snapshot;
use crate::transport::tls::{FileStamps, TlsProblem, TlsSettings};

/// Loads certificates again, and counts how that went.
#[derive(Debug)]
pub(super) struct Reloader {
    shared: Arc<Shared>,
    files: Mutex<Files>,
    done: AtomicU64,
    failed: AtomicU64,
}

/// What is known of the files that are in force.
#[derive(Debug)]
struct Files {
    settings: TlsSettings,
    /// As they were when they were last read, whatever came of it.
    read: FileStamps,
    /// As they were at the last look.
    seen: FileStamps,
}

impl Reloader {
    /// For what a gateway has started with; `stamps` were taken before that was read.
    pub(super) fn new(shared: Arc<Shared>, stamps: FileStamps) -> Self {
        let settings = shared.snapshot().config.tls.clone();
        let files = Mutex::new(Files { settings, read: stamps.clone(), seen: stamps });
        Self { shared, files, done: AtomicU64::new(0), failed: AtomicU64::new(0) }
    }

    /// Whether there is anything to load.
    pub(super) fn has_tls(&self) -> bool {
        self.shared.snapshot().tls.is_some()
    }

    /// Times that something was taken up, and times that it was not.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.done.load(Relaxed), self.failed.load(Relaxed))
    }

    /// Counts what went wrong before there were settings to take up.
    pub(super) fn count_failed(&self) {
        self.failed.fetch_add(1, Relaxed);
    }

    /// Takes up new settings, and the files as they are now.
    ///
    /// # Errors
    /// Which file is no good, and why: what was in force stays so.
    pub(super) fn take_up(&self, settings: &TlsSettings) -> Result<(), TlsProblem> {
        let mut files = self.files();
        // Taken before they are read: what is written meanwhile counts as changed.
        let stamps = FileStamps::of(settings);
        let result = self.load(settings);
        if result.is_ok() || files.settings == *settings {
            *files = Files { settings: settings.clone(), read: stamps.clone(), seen: stamps };
        }
        result
    }

    /// Looks at the files, and takes them up if they are others than when they were last read, and
    /// the same as at the last look: who writes several is not interrupted half way.
    pub(super) fn look(&self) {
        let mut files = self.files();
        let now = FileStamps::of(&files.settings);
        let is_still = now == files.seen;
        files.seen = now.clone();
        if !is_still || now == files.read {
            return;
        }
        // Once for each change: a bad file is not complained of at every look.
        files.read = now;
        match self.load(&files.settings) {
            Ok(()) => {
                log::info!("TLS: files have changed; new connections get what is in them now")
            }
            Err(e) => log::error!("TLS: {e}; what was loaded before stays in force"),
        }
    }

    fn load(&self, settings: &TlsSettings) -> Result<(), TlsProblem> {
        let current = self.shared.snapshot();
        let Some(host) = &current.tls else { return Ok(()) };
        let host = host.reload(settings).inspect_err(|_| self.count_failed())?;
        let mut next = Snapshot::clone(&current);
        (next.tls, next.config.tls) = (Some(host), settings.clone());
        self.shared.replace_snapshot(next);
        self.done.fetch_add(1, Relaxed);
        Ok(())
    }

    fn files(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
