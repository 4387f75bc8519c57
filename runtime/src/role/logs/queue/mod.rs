//! A queue on the disk, in front of one destination: what the destination does not take is kept here,
//! so that reading goes on.
//!
//! ```text
//! append -> writer -> segments (records one after the other) -> a reader for each lane -> settle
//!              |          |                                        ^
//!              |          +-- parcels that fit stay in memory -----+
//!              +-- one sync for a group, then `Watch::kept`
//! ```
//!
//! # What is promised
//! - A parcel that [`Watch::kept`] was told of is on the disk. From then on the queue answers for its
//!   lines: they are delivered, dead-lettered, dropped by the policy, or found damaged, and each of
//!   these is counted exactly. Parcels of a lane are kept and handed out in the order in which they were
//!   appended.
//! - Memory is flat: cursors, the length of each segment, the parcel at work in each lane and at most
//!   about 1 MiB a lane that wait.
//! - What waits is handed out in parcels that were made of several, if those are small.
//! - [`Settings::max_size`] bounds the bytes on the disk. One parcel that is larger than that has the
//!   queue for itself. A full disk is a full queue, except that nothing is dropped for it.
//!
//! # With the ledger
//! A line in a queue is not acknowledged. Once it is kept, the destination's mark in the ledger may pass
//! it, so that a checkpoint may be committed and reading goes on, while the line counts as queued. In
//! this order:
//! 1. the marks are collected, 2. [`Queue::sync`] writes the cursor down, 3. the store commits the marks.
//!
//! So whatever a committed mark covers, a cursor on the disk says that it was kept; what is found damaged
//! or missing beyond the cursor's number is cut off and read from its file again (see `recover`). And
//! what was kept after the last commit is not read again either, because [`Recovered::ends`] says how far
//! the queue holds each file: the marks are raised to that at start. A segment that was consumed is
//! removed only after another commit, so its ends are found until then.
//!
//! After a kill, what was settled since the last [`Queue::sync`] is handed out again.

mod books;
mod cursor;
mod disk;
mod error;
mod folder;
mod frame;
mod gaps;
mod home;
mod merge;
mod parcel;
mod reader;
mod recover;
mod segment;
mod shared;
mod writer;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::sync::DropGuard;
use tokio_util::task::TaskTracker;

use super::output::{DestinationIndex, Parcel};
use crate::manifest::WhenFull;
pub(in crate::role::logs) use error::Error;
pub(in crate::role::logs) use home::Abandoned;
pub use home::Home;
pub(in crate::role::logs) use parcel::End;
pub(in crate::role::logs) use reader::Reader;
use recover::Opened;
pub(in crate::role::logs) use recover::Recovered;
use shared::Shared;

/// Parcels that wait for the writer.
const APPENDED: usize = 4;
/// The longest segment, in bytes, unless a single record is longer.
const SEGMENT: u64 = 16 << 20;
/// A queue has at least so many segments: what is consumed or dropped is so in whole segments.
const SEGMENTS: u64 = 16;

/// Syncs are at least this far apart, unless there is a lot to write: a trickle of lines must not keep
/// the node's disk busy.
const PACE: Duration = Duration::from_millis(50);

/// Parcels that wait are merged until they have as many bytes on the disk: about as much as one that is
/// read at once.
const MERGED: u64 = 256 << 10;

/// How a queue behaves.
#[derive(Debug, Clone)]
pub(in crate::role::logs) struct Settings {
    /// The destination's index, to which what is handed out is addressed.
    pub(in crate::role::logs) destination: DestinationIndex,
    /// How many lanes there are.
    pub(in crate::role::logs) lanes: usize,
    /// The most bytes on the disk.
    pub(in crate::role::logs) max_size: u64,
    /// What happens when there are more.
    pub(in crate::role::logs) when_full: WhenFull,
    segment: u64,
    pace: Duration,
    merged: u64,
}

impl Settings {
    pub(in crate::role::logs) fn new(
        destination: DestinationIndex,
        lanes: usize,
        max_size: u64,
        when_full: WhenFull,
    ) -> Self {
        Self {
            destination,
            lanes: lanes.max(1),
            max_size,
            when_full,
            segment: (max_size / SEGMENTS).min(SEGMENT),
            pace: PACE,
            merged: MERGED,
        }
    }
}

/// What a queue tells of parcels, and what it asks for. Must not block.
pub(in crate::role::logs) trait Watch: Send + Sync + 'static {
    /// A parcel is on the disk, with so many of its lines: 0 if none goes to the destination. Called
    /// once for each parcel that was appended, in order, before it is handed out.
    fn kept(&self, parcel: &Arc<Parcel>, lines: u32);

    /// So many lines were dropped to make room.
    fn dropped(&self, lines: u64);

    /// So many lines were lost with damaged records.
    fn damaged(&self, lines: u64);

    /// Makes durable at the destination what was settled by now: the queue is about to forget it.
    fn durable(&self) -> BoxFuture<'_, io::Result<()>>;
}

/// The queue was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the queue is closed")]
pub(in crate::role::logs) struct Closed;

/// How a queue is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::role::logs) struct Stats {
    /// Lines that wait or are at work.
    pub(in crate::role::logs) lines: u64,
    /// Bytes on the disk, with those that are consumed and not removed yet.
    pub(in crate::role::logs) bytes: u64,
    /// Lines kept since it was opened.
    pub(in crate::role::logs) kept: u64,
    /// Lines settled since then.
    pub(in crate::role::logs) settled: u64,
    /// Lines dropped since then.
    pub(in crate::role::logs) dropped: u64,
    /// Lines lost with damaged records since then.
    pub(in crate::role::logs) damaged: u64,
    /// When the oldest line at work was written, in nanoseconds since 1970.
    pub(in crate::role::logs) oldest: Option<i64>,
    /// Whether an append waits for room.
    pub(in crate::role::logs) full: bool,
    /// Why nothing can be appended, and what to do about it.
    pub(in crate::role::logs) problem: Option<String>,
}

/// An open queue. Dropping it closes it.
pub(in crate::role::logs) struct Queue {
    shared: Arc<Shared>,
    appended: mpsc::Sender<Arc<Parcel>>,
    tasks: TaskTracker,
    _close: DropGuard,
}

impl Queue {
    /// Opens the queue of a destination, which the manifest wants below `path`. Blocks. The writer runs
    /// on `runtime`.
    ///
    /// # Errors
    /// If another has it open, another version wrote it, or the disk is not there or fails.
    pub(in crate::role::logs) fn open(
        home: &Home,
        destination: &str,
        path: Option<&Path>,
        settings: Settings,
        watch: Arc<dyn Watch>,
        runtime: &Handle,
    ) -> Result<(Self, Recovered), Error> {
        let Opened {
            disk,
            books,
            recovered,
        } = home.open(destination, path, settings.lanes)?;
        let shared = Arc::new(Shared::new(settings, watch, disk, books));
        if recovered.cut > 0 {
            tracing::warn!(queue = %shared.path.display(), bytes = recovered.cut,
                "the end of the queue was not finished: its lines are read again");
        }
        let (appended, receiver) = mpsc::channel(APPENDED);
        let tasks = TaskTracker::new();
        tasks.spawn_on(writer::run(shared.clone(), receiver), runtime);
        tasks.close();
        let queue = Self {
            appended,
            tasks,
            _close: shared.closing.clone().drop_guard(),
            shared,
        };
        Ok((queue, recovered))
    }

    /// Hands a parcel to the writer; waits while that has enough. Parcels of one lane must be
    /// appended one after the other, in order. A parcel was not taken if this is cancelled.
    pub(in crate::role::logs) async fn append(&self, parcel: Arc<Parcel>) -> Result<(), Closed> {
        let place = self.appended.reserve().await.map_err(|_| Closed)?;
        self.shared.unkept.fetch_add(1, Ordering::Relaxed);
        place.send(parcel);
        Ok(())
    }

    /// Whether the writer takes a parcel at once.
    pub(in crate::role::logs) fn has_room(&self) -> bool {
        self.appended.capacity() > 0
    }

    /// Whether everything that was appended is kept.
    pub(in crate::role::logs) fn is_idle(&self) -> bool {
        self.shared.unkept.load(Ordering::Acquire) == 0
    }

    /// Resolves when nothing is left in it. While it does, nothing may be appended.
    pub(in crate::role::logs) async fn emptied(&self) {
        while !self.shared.books().is_idle() {
            self.shared.room.notified().await;
        }
    }

    /// The reading end of a lane, of which there is to be one.
    pub(in crate::role::logs) fn reader(&self, lane: usize) -> Reader {
        Reader::new(self.shared.clone(), lane % self.shared.settings.lanes)
    }

    /// Makes what was settled durable at the destination, and writes down what was kept and settled, if
    /// anything was. Before each commit of the marks, and after they were collected.
    pub(in crate::role::logs) async fn sync(&self) -> io::Result<()> {
        self.shared.checkpoint().await
    }

    /// Takes no more, keeps what was appended if there is room, lets the readers end, and writes
    /// down what was settled.
    pub(in crate::role::logs) async fn close(&self) -> io::Result<()> {
        self.shared.closing.cancel();
        self.tasks.wait().await;
        self.sync().await
    }

    /// How it is doing.
    pub(in crate::role::logs) fn stats(&self) -> Stats {
        let (full, problem) = self.shared.problem();
        let books = self.shared.books();
        Stats {
            lines: books.lines(),
            bytes: books.bytes(),
            kept: books.kept_lines,
            settled: books.settled_lines,
            dropped: books.dropped,
            damaged: books.damaged,
            oldest: books.oldest(),
            full,
            problem,
        }
    }
}

#[cfg(test)]
mod tests;
