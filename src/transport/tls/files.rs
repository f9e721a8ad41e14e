//! Whether files are as they were.

use std::fs::{Metadata, metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::certificates::TlsSettings;

/// How the files that settings name stand on the disk. Links are followed, so that a link that leads
/// elsewhere counts as a change, as does a file that takes the place of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileStamps(Vec<Option<Stamp>>);

/// What is different once a file was written, replaced, or given to somebody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    len: u64,
    /// Seconds and nanoseconds, of what is in it and of what is known of it.
    modified: (i64, i64),
    changed: (i64, i64),
}

impl FileStamps {
    /// As they are now; of what can't be looked at it is kept that it can't.
    #[must_use]
    pub fn of(settings: &TlsSettings) -> Self {
        let pairs = settings.certificates.iter();
        let files = pairs.flat_map(|files| [&files.certificate, &files.key]);
        let files = files.chain(settings.client_auth.iter().map(|auth| &auth.authorities));
        Self(files.map(|file| Stamp::of(file)).collect())
    }
}

impl Stamp {
    fn of(file: &Path) -> Option<Self> {
        let of = |data: Metadata| Self {
            device: data.dev(),
            inode: data.ino(),
            len: data.len(),
            modified: (data.mtime(), data.mtime_nsec()),
            changed: (data.ctime(), data.ctime_nsec()),
        };
        metadata(file).ok().map(of)
    }
}
