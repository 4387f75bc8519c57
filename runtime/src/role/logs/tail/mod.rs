//! Follows log files and hands on their lines in batches, each with the position up to which it
//! reaches. One thread, no async code; it alone opens and reads files.
//!
//! What holds whatever happens to the files:
//! - A file is its device, inode and first bytes, never its path. It is read once, whatever its names.
//! - Resuming at a span's end loses nothing; what is not handed on for good is counted.
//! - Kernel events are hints to look again, so a missed one costs time and not lines.
//! - When the receiver is behind, reading stops; watching, opening and counting do not.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc;

use super::batch::{Batch, FileId, Fingerprint, Footprint};
use super::destination::file::is_or_was;
use super::ledger::Amount;
use crate::kubernetes::Asked;
use crate::manifest::{LogSource, StartAt};

mod adopt;
mod count;
mod discover;
mod engine;
mod file;
mod lines;
mod meta;
mod multiline;
mod nameless;
mod outlet;
mod pack;
mod pod;
mod read;
mod select;
mod start;
mod stats;
mod suspects;
mod tend;
mod watch;

#[cfg(test)]
mod tests;

pub use nameless::Nameless;
pub use stats::{GivenUp, GivenUpCount, Stats};

/// What to follow and how.
#[derive(Debug, Clone)]
pub struct Config {
    /// What is read.
    pub sources: Vec<LogSource>,
    /// Where to begin in files that are older than `first_seen`.
    pub start_at: StartAt,
    /// When the plugin was first loaded on this node: younger files are read from their start.
    pub first_seen: SystemTime,
    /// Longer lines are cut, in bytes.
    pub max_line: usize,
    /// A batch is handed on when its lines' bytes reach this.
    pub batch_bytes: usize,
    /// A batch is handed on when it has this many lines.
    pub batch_lines: usize,
    /// Number of lanes to which files are spread.
    pub lanes: usize,
    /// How long, in total, the receiver may keep a deleted file from being read on.
    pub deleted_file_wait: Duration,
    /// How long after a wake-up reading waits, so that small writes share a batch.
    pub linger: Duration,
    /// Never to be read: the daemon's own log and outputs.
    pub own: Own,
    /// How long a rotated file must be quiet before it is taken as finished.
    pub grace: Duration,
    /// How long the rest of a partial line is waited for.
    pub partial_wait: Duration,
    /// How often everything is looked at again, in case an event was missed.
    pub rescan: Duration,
    /// How often folders are looked at that cannot be watched.
    pub poll: Duration,
    /// Never use inotify.
    pub polling_only: bool,
    /// The node's pods, if a source wants to know them and there is a cluster.
    pub pods: Option<Arc<Asked>>,
    /// About how many files are held open; idle ones are closed beyond that.
    pub max_open: usize,
}

impl Config {
    /// The defaults for `sources`, for a plugin first loaded at `first_seen`.
    pub fn new(sources: Vec<LogSource>, first_seen: SystemTime) -> Self {
        // Half of what the process may open is left to everyone else.
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let limit = limit.map_or(8192, |limit| usize::try_from(limit).unwrap_or(8192));
        Self {
            sources,
            start_at: StartAt::default(),
            first_seen,
            max_line: 256 << 10,
            batch_bytes: 256 << 10,
            batch_lines: 8192,
            lanes: 4,
            deleted_file_wait: Duration::from_secs(60),
            linger: Duration::from_millis(10),
            own: Own::default(),
            grace: Duration::from_secs(5),
            partial_wait: Duration::from_secs(30),
            rescan: Duration::from_secs(30),
            poll: Duration::from_millis(500),
            polling_only: false,
            pods: None,
            max_open: (limit / 2).clamp(16, 8192),
        }
    }

    fn limits(&self) -> pack::Limits {
        // Offsets in a batch are 32 bits wide; these bounds keep far below.
        const MOST: usize = 64 << 20;
        pack::Limits {
            max_line: self.max_line.clamp(1, MOST),
            batch_bytes: self.batch_bytes.clamp(1, MOST),
            batch_lines: self.batch_lines.clamp(1, 1 << 20),
        }
    }
}

/// What the daemon itself writes: reading it would feed it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Own {
    /// Files.
    pub files: Vec<PathBuf>,
    /// Folders, with all that is below them.
    pub folders: Vec<PathBuf>,
    /// The UID of the daemon's pod, if it runs in one.
    pub pod: Option<String>,
    /// The daemon's container in that pod; all of them if it is not known.
    pub container: Option<String>,
}

impl Own {
    /// Whether `path` is one of these files, rotated or not, in one of these folders, or of this container.
    fn holds(&self, path: &Path) -> bool {
        self.files.iter().any(|file| is_or_was(file, path))
            || self.folders.iter().any(|folder| path.starts_with(folder))
            || self.in_container(path)
    }

    /// Whether `path` is `.../NAMESPACE_POD_UID/CONTAINER/FILE` of the daemon's container.
    fn in_container(&self, path: &Path) -> bool {
        let Some(uid) = &self.pod else { return false };
        let mut names = path.iter().rev().skip(1);
        let (Some(container), Some(pod)) = (names.next(), names.next()) else {
            return false;
        };
        let of_pod = pod
            .to_str()
            .and_then(|pod| pod.strip_suffix(uid))
            .is_some_and(|rest| rest.ends_with('_'));
        of_pod
            && self
                .container
                .as_ref()
                .is_none_or(|own| *container == **own)
    }
}

/// A checkpoint to resume from: what the last settled [`Span`](super::batch::Span) of a file said.
#[derive(Debug, Clone)]
pub struct Known {
    /// The file.
    pub file: FileId,
    /// Its generation, as in [`Span`](super::batch::Span).
    pub generation: u64,
    /// Of its first bytes at that time.
    pub fingerprint: Fingerprint,
    /// Where reading goes on.
    pub offset: u64,
    /// What was read from there on before and not settled: given up if it is not there any more.
    pub(super) taken_back: Amount,
    /// What stood before the offset, and before those to which destinations have more.
    pub footprints: Vec<Footprint>,
    /// The span's source path.
    pub path: PathBuf,
}

/// What the tail hands on, in order.
#[derive(Debug)]
pub enum Item {
    /// Lines, or a position alone (no lines, spans whose start is their end).
    Batch(Batch),
    /// The file is gone for good and everything of it was handed on before: its checkpoint may go
    /// once those batches are settled. Until then it can only be read again through the open file.
    Gone(FileId, Option<Nameless>),
}

/// What a tail leaves behind when it stops.
#[derive(Debug, Default)]
pub struct Left {
    /// What it could not hand on, in order, after what is in the channel.
    pub items: Vec<Item>,
    /// Open files, for the next tail: those that are deleted, and those that may be before it looks.
    pub files: Vec<Nameless>,
    /// What was taken back and not read again yet.
    pub(super) owed: Vec<Owed>,
}

/// A part of a file's content that was told as [`Known::taken_back`].
#[derive(Debug)]
pub(super) struct Owed {
    pub(super) file: FileId,
    pub(super) generation: u64,
    pub(super) amount: Amount,
}

/// A running tail. Dropping it stops it, too.
pub struct Tail {
    bell: Arc<outlet::Bell>,
    thread: Option<JoinHandle<Left>>,
}

impl Tail {
    /// Starts following. Batches go to `out`; when it is full reading stops, and when its receiver
    /// is dropped the tail ends. `nameless` are what the tail before this one left; they are taken.
    ///
    /// # Errors
    /// A source's glob is not valid (`InvalidInput`), or the thread could not be started.
    pub fn start(
        config: Config,
        known: Vec<Known>,
        nameless: &mut Vec<Nameless>,
        out: mpsc::Sender<Item>,
        stats: Arc<Stats>,
    ) -> io::Result<Self> {
        let bell = Arc::new(outlet::Bell::new()?);
        let engine = engine::Engine::new(config, known, out, stats, bell.clone())?;
        // They are handed over once there is a thread to take them.
        let (hand, taken) = std::sync::mpsc::sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("tail".to_owned())
            .spawn(move || engine.run(taken.recv().unwrap_or_default()))?;
        // The receiver is in the thread, and there is room.
        let _ = hand.send(std::mem::take(nameless));
        Ok(Self {
            bell,
            thread: Some(thread),
        })
    }

    /// Stops following, without waiting for the receiver: what was not handed on is read again from
    /// the last settled position. Blocks for the end of the piece being read.
    pub fn stop(mut self) -> Left {
        self.end()
    }

    fn end(&mut self) -> Left {
        self.bell.stop();
        let ended = self.thread.take().map(JoinHandle::join);
        ended.unwrap_or(Ok(Left::default())).unwrap_or_else(|_| {
            tracing::error!("the tail's thread panicked");
            Left::default()
        })
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        self.end();
    }
}
