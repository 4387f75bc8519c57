//! What a pass has done, and what went wrong.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use rustix::io::Errno;
use serde::Serialize;

use super::lock;
use super::pressure::Paused;
use super::subscription::PassKind;

/// Counters of one pass, or of all events.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Files that were looked at, and how long they are together.
    pub(super) seen: AtomicU64,
    pub(super) seen_bytes: AtomicU64,
    /// Those that were passed to somebody.
    pub(super) passed: AtomicU64,
    /// Bytes that were read.
    pub(super) read: AtomicU64,
    /// Files that changed while they were read, or were gone by then.
    pub(super) changed: AtomicU64,
    pub(super) vanished: AtomicU64,
    errors: Mutex<BTreeMap<i32, u64>>,
}

impl Counts {
    pub(super) fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }

    pub(super) fn get(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }

    /// Something could not be read.
    pub(super) fn error(&self, error: Errno) {
        *lock(&self.errors).entry(error.raw_os_error()).or_default() += 1;
    }

    /// How often what went wrong, by the error's number.
    pub(super) fn errors(&self) -> BTreeMap<i32, u64> {
        lock(&self.errors).clone()
    }
}

/// How far a pass is, for the status.
#[derive(Debug, Clone, PartialEq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// Who takes part, and why files are passed to them.
    pub participants: Vec<Participant>,
    /// When it began, in seconds since 1970.
    pub started: u64,
    /// Files that were looked at.
    pub files: u64,
    /// How long they are together.
    pub bytes: u64,
    /// Files that were read or passed, since they are new, have changed, or all are.
    pub passed: u64,
    /// Bytes that were read.
    pub read: u64,
    /// How many files and bytes there are, as far as can be told.
    pub expected_files: Option<u64>,
    /// See there.
    pub expected_bytes: Option<u64>,
    /// How much of it is done, from 0 to 1, as far as can be told.
    pub done: Option<f64>,
    /// Seconds until it is over, as far as can be told.
    pub remaining: Option<u64>,
    /// What it waits for.
    pub paused: Option<Paused>,
    /// Files that changed while they were read.
    pub changed_while_read: u64,
    /// Files that were gone before they were read.
    pub vanished: u64,
    /// How often what went wrong, by the error's number.
    pub errors: BTreeMap<i32, u64>,
}

/// One subscriber in a pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Participant {
    /// Its identity.
    pub name: String,
    /// Whether it is a full pass.
    pub full: bool,
    /// Whether it goes on after a restart.
    pub resumed: bool,
}

impl Participant {
    pub(super) fn new(name: &str, kind: PassKind, resumed: bool) -> Self {
        Self {
            name: name.to_owned(),
            full: kind == PassKind::Full,
            resumed,
        }
    }
}

/// How much there is in all, as far as can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Expected {
    pub(super) files: Option<u64>,
    pub(super) bytes: Option<u64>,
}

/// When a pass began.
#[derive(Debug, Clone, Copy)]
pub(super) struct Started {
    pub(super) at: Instant,
    pub(super) wall: SystemTime,
}

impl Started {
    pub(super) fn now() -> Self {
        Self {
            at: Instant::now(),
            wall: SystemTime::now(),
        }
    }
}

impl Progress {
    pub(super) fn of(
        participants: &[Participant],
        counts: &Counts,
        expected: Expected,
        started: Started,
        paused: Option<Paused>,
    ) -> Self {
        let files = Counts::get(&counts.seen);
        let bytes = Counts::get(&counts.seen_bytes);
        let done = done(files, bytes, expected);
        let since = started.wall.duration_since(SystemTime::UNIX_EPOCH);
        Self {
            participants: participants.to_vec(),
            started: since.unwrap_or_default().as_secs(),
            files,
            bytes,
            passed: Counts::get(&counts.passed),
            read: Counts::get(&counts.read),
            expected_files: expected.files,
            expected_bytes: expected.bytes,
            done,
            remaining: done.and_then(|done| remaining(done, started.at.elapsed())),
            paused,
            changed_while_read: Counts::get(&counts.changed),
            vanished: Counts::get(&counts.vanished),
            errors: counts.errors(),
        }
    }
}

/// Half by files, half by bytes, since both take time.
fn done(files: u64, bytes: u64, expected: Expected) -> Option<f64> {
    let shares = [(files, expected.files), (bytes, expected.bytes)];
    let shares = shares.iter().filter_map(|(done, of)| match of {
        Some(of) if *of > 0 => Some((*done as f64 / *of as f64).min(1.0)),
        _ => None,
    });
    let shares: Vec<f64> = shares.collect();
    let done = shares.iter().sum::<f64>() / shares.len() as f64;
    done.is_finite().then_some(done)
}

/// Not before anything can be told from what is done.
fn remaining(done: f64, elapsed: Duration) -> Option<u64> {
    (done >= 0.001).then(|| (elapsed.as_secs_f64() * (1.0 - done) / done).ceil() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_remains_is_told_from_what_is_done() {
        let expected = Expected {
            files: Some(100),
            bytes: Some(1000),
        };
        let ten = Duration::from_secs(10);
        let remaining = |files, bytes, expected, elapsed| {
            done(files, bytes, expected).and_then(|done| remaining(done, elapsed))
        };
        assert_eq!(done(50, 250, expected), Some(0.375));
        assert_eq!(done(0, 0, expected), Some(0.0));
        assert_eq!(done(1, 1, Expected::default()), None);
        assert_eq!(remaining(50, 500, expected, ten), Some(10));
        assert_eq!(remaining(100, 1000, expected, ten), Some(0));
        assert_eq!(remaining(200, 2000, expected, ten), Some(0));
        assert_eq!(remaining(0, 0, expected, ten), None);
        assert_eq!(remaining(10, 300, expected, ten), Some(40));
        assert_eq!(remaining(50, 500, Expected::default(), ten), None);
        let by_bytes = Expected {
            files: None,
            bytes: Some(1000),
        };
        assert_eq!(remaining(50, 250, by_bytes, ten), Some(30));
    }
}
