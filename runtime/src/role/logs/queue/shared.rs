//! What the writer, the lanes and the queue's handle share.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::books::{Books, Waiting};
use super::cursor::Cursor;
use super::disk::Disk;
use super::error::remedy;
use super::frame::SEGMENT_HEADER;
use super::segment::Found;
use super::{Settings, Watch};
use crate::failpoint;

/// Locks: the disk's is held while the disk works, the books' never; the books' is taken last.
pub(super) struct Shared {
    pub(super) settings: Settings,
    pub(super) path: PathBuf,
    pub(super) watch: Arc<dyn Watch>,
    pub(super) disk: Mutex<Disk>,
    books: Mutex<Books>,
    problem: Mutex<Problem>,
    /// The cursor that was written last. Held from looking at the books until the cursor says so: it must
    /// never go back.
    checkpointing: tokio::sync::Mutex<Cursor>,
    /// Parcels that were appended and are not kept.
    pub(super) unkept: AtomicUsize,
    /// Told when something was settled.
    pub(super) room: Notify,
    /// Each told when something was kept for its lane.
    pub(super) lanes: Vec<Notify>,
    pub(super) closing: CancellationToken,
}

/// Why a queue takes nothing.
#[derive(Debug)]
pub(super) enum Problem {
    None,
    Full,
    Write(io::Error),
    Bug(String),
}

/// Whatever a panic elsewhere left behind is whole: no lock is held across a call that could leave
/// half of a change.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(super) fn new(settings: Settings, watch: Arc<dyn Watch>, disk: Disk, books: Books) -> Self {
        Self {
            path: disk.folder.path().to_owned(),
            watch,
            books: Mutex::new(books),
            problem: Mutex::new(Problem::None),
            checkpointing: tokio::sync::Mutex::new(disk.last_cursor().clone()),
            unkept: AtomicUsize::new(0),
            disk: Mutex::new(disk),
            room: Notify::new(),
            lanes: (0..settings.lanes).map(|_| Notify::new()).collect(),
            closing: CancellationToken::new(),
            settings,
        }
    }

    pub(super) fn books(&self) -> MutexGuard<'_, Books> {
        lock(&self.books)
    }

    /// Shows a problem, and says it when it is new.
    pub(super) fn set(&self, problem: Problem) {
        let mut shown = lock(&self.problem);
        let new = std::mem::discriminant(&*shown) != std::mem::discriminant(&problem);
        let queue = self.path.display();
        match &problem {
            Problem::None if new => tracing::info!(%queue, "the queue takes lines again"),
            Problem::Full if new => tracing::warn!(%queue, "the queue is full"),
            Problem::Write(_) | Problem::Bug(_) if new => {
                tracing::error!("{}", self.text(&problem).unwrap_or_default());
            }
            _ => {}
        }
        *shown = problem;
    }

    /// Whether the queue is full, and what else is wrong.
    pub(super) fn problem(&self) -> (bool, Option<String>) {
        let problem = lock(&self.problem);
        (matches!(*problem, Problem::Full), self.text(&problem))
    }

    fn text(&self, problem: &Problem) -> Option<String> {
        let queue = self.path.display();
        match problem {
            Problem::None | Problem::Full => None,
            Problem::Write(error) => Some(format!(
                "cannot write to the queue {queue}: {error}: {}",
                remedy(error)
            )),
            Problem::Bug(error) => Some(format!(
                "writing to the queue {queue} ended by itself: {error}; please report this as a bug"
            )),
        }
    }

    /// Hands over what is on the disk.
    pub(super) fn publish(&self, waiting: Vec<Waiting>) {
        let mut told = vec![false; self.lanes.len()];
        {
            let mut books = self.books();
            for waiting in waiting {
                if let Some(told) = told.get_mut(waiting.found.header.lane as usize) {
                    *told = true;
                }
                books.keep(waiting);
            }
        }
        for (lane, told) in self.lanes.iter().zip(told) {
            if told {
                lane.notify_one();
            }
        }
    }

    /// Ends the segment that is appended to.
    pub(super) fn seal(&self, disk: &mut Disk) {
        let next = disk.seal();
        self.books().seal(next);
    }

    /// Ends it without what was not synced.
    pub(super) fn give_up_segment(&self, disk: &mut Disk) {
        disk.give_up_segment();
        self.seal(disk);
    }

    /// Whether [`Self::free`] would remove something.
    pub(super) fn can_free(&self) -> bool {
        let books = self.books();
        !books.consumed(&books.cursor()).is_empty() || !books.dropped_segments().is_empty()
    }

    /// Removes what all lanes are done with. Returns whether there was anything.
    pub(super) async fn free(self: &Arc<Self>) -> io::Result<bool> {
        let mut last = self.checkpointing.lock().await;
        let (cursor, segments) = {
            let books = self.books();
            let cursor = books.cursor();
            let mut segments = books.consumed(&cursor);
            segments.extend(books.dropped_segments());
            (cursor, segments)
        };
        if segments.is_empty() {
            return Ok(false);
        }
        self.watch.durable().await?;
        let this = self.clone();
        let write = move || {
            let mut disk = lock(&this.disk);
            disk.write_cursor(cursor.clone())?;
            this.remove(&disk, &segments)?;
            io::Result::Ok(cursor)
        };
        *last = tokio::task::spawn_blocking(write).await??;
        Ok(true)
    }

    /// Writes down how far the lanes have come. Segments stay until the time after that: between them
    /// comes a checkpoint, and until then the ends of files are to be found in them.
    pub(super) async fn checkpoint(self: &Arc<Self>) -> io::Result<()> {
        let mut last = self.checkpointing.lock().await;
        // Before the books, which know of what is kept only after this says so.
        let idle = self.unkept.load(Ordering::Acquire) == 0;
        let (mut cursor, segments) = {
            let books = self.books();
            (books.cursor(), books.consumed(&last))
        };
        if idle && segments.is_empty() && cursor == *last {
            return Ok(());
        }
        self.watch.durable().await?;
        let this = self.clone();
        let write = move || {
            // Held by the writer from the moment when it tells that something is kept until the books
            // know, so that they know by now of whatever the marks cover.
            let mut disk = lock(&this.disk);
            this.books().promise(&mut cursor);
            this.remove(&disk, &segments)?;
            disk.write_cursor(cursor.clone())?;
            io::Result::Ok(cursor)
        };
        *last = tokio::task::spawn_blocking(write).await??;
        Ok(())
    }

    fn remove(&self, disk: &Disk, segments: &[u64]) -> io::Result<()> {
        for &number in segments {
            disk.remove(number)?;
            self.books().forget(number);
        }
        Ok(())
    }

    /// Drops the oldest segment of which nothing is at work, and says what was in it. Returns false
    /// if there is none.
    pub(super) fn drop_oldest(&self, active: Option<u64>) -> io::Result<bool> {
        let Some((segment, length)) = self.books().oldest_free(active) else {
            return Ok(false);
        };
        let mut records: Vec<Found> = Vec::new();
        let mut at = SEGMENT_HEADER as u64;
        while let Some(found) = segment.find(at, length)? {
            at = found.end();
            records.push(found);
        }
        let headers: Vec<_> = records.iter().map(|found| found.header).collect();
        let lines = self.books().drop_segment(segment.number, &headers);
        failpoint::hit("queue.dropped");
        if lines > 0 {
            self.watch.dropped(lines);
        }
        Ok(true)
    }
}
