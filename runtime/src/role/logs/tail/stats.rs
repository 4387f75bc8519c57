//! What the tail tells of itself while it runs: counters and gauges, read from any thread.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::super::batch::FileId;
use super::super::ledger::Amount;

/// Why lines were given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GivenUp {
    /// They were unread when their file was truncated in place.
    Truncated,
    /// Their file was deleted and the destinations stayed behind for too long.
    DeletedWait,
}

/// What was given up for one reason.
#[derive(Debug, Default)]
pub struct GivenUpCount {
    /// Lines, as far as they could be counted: a truncated file's unread lines are gone unseen.
    pub lines: AtomicU64,
    /// Bytes of the file.
    pub bytes: AtomicU64,
}

/// Counters and gauges of one tail. Counters only grow; gauges say so.
#[derive(Debug, Default)]
pub struct Stats {
    /// Lines put into batches.
    pub lines_read: AtomicU64,
    /// Bytes of files consumed.
    pub bytes_read: AtomicU64,
    /// Gauge: files known and still watched, rotated ones included.
    pub files_watched: AtomicU64,
    /// Gauge: files open.
    pub files_open: AtomicU64,
    /// Gauge: bytes between the read positions and the files' ends.
    pub unread_bytes: AtomicU64,
    /// Given up because of truncation.
    pub truncated: GivenUpCount,
    /// Given up because of deletion.
    pub deleted: GivenUpCount,
    /// Lines that were joined onto others and given up with them.
    pub joined_given_up: AtomicU64,
    /// Lines cut at the limit.
    pub lines_cut: AtomicU64,
    /// Lines handed on unfinished.
    pub lines_unfinished: AtomicU64,
    /// Lines in a CRI file that are not in CRI format, handed on as they are.
    pub malformed: AtomicU64,
    /// Containers' logs that were read although nothing was known of their pods.
    pub without_metadata: AtomicU64,
    /// Files found rotated (renamed, deleted, or taken out of sight).
    pub rotations: AtomicU64,
    /// Truncations in place found.
    pub truncations: AtomicU64,
    /// Times that the kernel's event queue overflowed and everything was looked at again.
    pub overflows: AtomicU64,
    /// Gauge: folders that are polled, because the kernel would not watch them.
    pub folders_polled: AtomicU64,
    /// Gauge: folders watched by inotify.
    pub folders_watched: AtomicU64,
    /// Gauge: whether the channel is full and reading waits for its receiver.
    pub blocked: AtomicBool,
    /// Gauge: whether every source has been looked at once.
    pub scanned: AtomicBool,
    errors: Mutex<Vec<String>>,
    /// What to do, since a file could last not be opened for want of a descriptor.
    exhausted: Mutex<Option<(Instant, String)>>,
}

/// How many of the last errors are kept.
const ERRORS: usize = 8;
/// How long files that could not be opened are talked about: until everything was looked at again.
const LATELY: Duration = Duration::from_secs(60);

impl Stats {
    /// What was given up for `reason`.
    pub fn given_up(&self, reason: GivenUp) -> &GivenUpCount {
        match reason {
            GivenUp::Truncated => &self.truncated,
            GivenUp::DeletedWait => &self.deleted,
        }
    }

    /// The last errors, oldest first. The same error again is not kept twice.
    pub fn errors(&self) -> Vec<String> {
        self.errors
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// How folders are watched: `inotify`, `polling`, or `inotify and polling`.
    pub fn watch_mode(&self) -> &'static str {
        let watched = self.folders_watched.load(Ordering::Relaxed);
        match (watched, self.folders_polled.load(Ordering::Relaxed)) {
            (_, 0) => "inotify",
            (0, _) => "polling",
            _ => "inotify and polling",
        }
    }

    pub(super) fn give_up(&self, reason: GivenUp, file: FileId, lost: Amount) {
        let count = self.given_up(reason);
        let Amount {
            lines,
            joined,
            bytes,
        } = lost;
        self.joined_given_up.fetch_add(joined, Ordering::Relaxed);
        count.lines.fetch_add(lines, Ordering::Relaxed);
        count.bytes.fetch_add(bytes, Ordering::Relaxed);
        tracing::warn!(?reason, ?file, lines, bytes, "lines were given up");
    }

    /// What keeps files from being read, and what to do.
    pub fn problem(&self) -> Option<String> {
        let exhausted = self
            .exhausted
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let lately = exhausted.as_ref().filter(|(at, _)| at.elapsed() < LATELY);
        lately.map(|(_, message)| message.clone())
    }

    /// Notes that what was to be done with `path` failed.
    pub(super) fn failed(&self, doing: &str, path: &Path, error: &io::Error) {
        let errno = Errno::from_io_error(error);
        if !matches!(errno, Some(Errno::MFILE | Errno::NFILE)) {
            return self.error(format!("could not {doing} {}: {error}", path.display()));
        }
        // One message for all, or each of thousands of files would be named again and again.
        let message = format!(
            "files wait to be opened ({error}): raise the daemon's limit of open files, which is \
             LimitNOFILE= of its unit, or ulimit -n"
        );
        *self
            .exhausted
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), message.clone()));
        self.error(message);
    }

    pub(super) fn error(&self, message: String) {
        let mut errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
        if errors.contains(&message) {
            return;
        }
        tracing::warn!("{message}");
        if errors.len() == ERRORS {
            errors.remove(0);
        }
        errors.push(message);
    }
}

/// Moves a gauge from what this owner last put in (`from`) to `to`.
pub(super) fn shift(gauge: &AtomicU64, from: &mut u64, to: u64) {
    if to >= *from {
        gauge.fetch_add(to - *from, Ordering::Relaxed);
    } else {
        gauge.fetch_sub(*from - to, Ordering::Relaxed);
    }
    *from = to;
}
