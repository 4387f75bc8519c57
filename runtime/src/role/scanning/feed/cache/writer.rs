//! Writes down what was judged: a thread of its own, many files a commit.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use redb::{Database, ReadableTable};

use super::entry::Known;
use super::file::{self, FOLDERS, PASSES, SUBSCRIBERS};
use super::seen::Seen;
use super::{FileKey, Mark, PassRecord};

/// What was judged is written at the latest after so long, or with so many files.
const LATEST: Duration = Duration::from_secs(2);
const FILES: usize = 1 << 16;
/// Folders forgotten in one commit.
const SWEEP: usize = 1 << 14;

/// What the writer is told.
pub(super) enum Note {
    Judged(Vec<Mark>),
    Keep {
        subscriber: u32,
        folder: FileKey,
        path: u64,
        ids: Vec<u32>,
    },
    Sweep {
        subscriber: u32,
        seen: Arc<Seen>,
    },
    Record {
        subscriber: u32,
        record: PassRecord,
    },
    Flush(Sender<()>),
}

/// What is to be done to one folder's entry.
#[derive(Default)]
struct Change {
    path: u64,
    full: Option<u32>,
    keep: Option<Vec<u32>>,
    marks: Vec<(u32, u64)>,
}

impl Change {
    /// Of the folder at this path: what was to be done to it elsewhere is void.
    fn at(&mut self, path: u64) -> &mut Self {
        if self.path != path {
            *self = Self {
                path,
                ..Self::default()
            };
        }
        self
    }
}

pub(super) struct Writer {
    folder: PathBuf,
    database: Arc<RwLock<Option<Database>>>,
    notes: Receiver<Note>,
    pending: Arc<AtomicU64>,
    changes: HashMap<(u32, FileKey), Change>,
    records: HashMap<u32, PassRecord>,
    /// Files and folders of which something was said since the last time.
    files: usize,
    /// Those of them that were judged.
    judged: u64,
    /// When the oldest of them came.
    since: Option<Instant>,
}

impl Writer {
    pub(super) fn new(
        folder: PathBuf,
        database: Arc<RwLock<Option<Database>>>,
        notes: Receiver<Note>,
        pending: Arc<AtomicU64>,
    ) -> Self {
        Self {
            folder,
            database,
            notes,
            pending,
            changes: HashMap::new(),
            records: HashMap::new(),
            files: 0,
            judged: 0,
            since: None,
        }
    }

    /// Until the last clone of the cache is gone.
    pub(super) fn run(mut self) {
        loop {
            let note = match self.since {
                None => self
                    .notes
                    .recv()
                    .map_err(|_| RecvTimeoutError::Disconnected),
                Some(since) => {
                    let left = LATEST.saturating_sub(since.elapsed());
                    self.notes.recv_timeout(left)
                }
            };
            match note {
                Ok(note) => self.take(note),
                Err(RecvTimeoutError::Timeout) => self.write(),
                Err(RecvTimeoutError::Disconnected) => return self.write(),
            }
            if self.files >= FILES || self.since.is_some_and(|since| since.elapsed() >= LATEST) {
                self.write();
            }
        }
    }

    fn take(&mut self, note: Note) {
        match note {
            Note::Judged(marks) => {
                self.files += marks.len();
                self.judged += marks.len() as u64;
                for mark in marks {
                    let change = self.changes.entry((mark.subscriber, mark.folder));
                    let change = change.or_default().at(mark.path);
                    change.full = mark.full.or(change.full);
                    change.marks.push((mark.id, mark.stamp));
                }
            }
            Note::Keep {
                subscriber,
                folder,
                path,
                ids,
            } => {
                self.files += 1;
                let change = self.changes.entry((subscriber, folder)).or_default();
                let change = change.at(path);
                change.keep = Some(ids);
            }
            Note::Record { subscriber, record } => {
                self.records.insert(subscriber, record);
            }
            Note::Sweep { subscriber, seen } => {
                self.write();
                self.attempt(|database| sweep(database, subscriber, &seen));
            }
            Note::Flush(done) => {
                self.write();
                // Whoever asked may be gone.
                let _ = done.send(());
            }
        }
        self.since = self.since.or_else(|| {
            let any = !self.changes.is_empty() || !self.records.is_empty();
            any.then(Instant::now)
        });
    }

    fn write(&mut self) {
        let mut changes = std::mem::take(&mut self.changes);
        let records = std::mem::take(&mut self.records);
        let judged = std::mem::take(&mut self.judged);
        self.files = 0;
        self.since = None;
        if !changes.is_empty() || !records.is_empty() {
            self.attempt(|database| write(database, &mut changes, &records));
        }
        self.pending.fetch_sub(judged, Ordering::Relaxed);
    }

    /// Does something to the database. After an error it is opened again, since redb refuses to go on;
    /// what was to be done is given up: those files are passed again.
    fn attempt(&mut self, mut act: impl FnMut(&Database) -> Result<(), redb::Error>) {
        let done = {
            let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
            database.as_ref().map(&mut act)
        };
        match done {
            Some(Ok(())) => return,
            Some(Err(error)) => {
                tracing::warn!(%error, "cannot write the scan cache: some files are scanned again");
            }
            None => {}
        }
        let mut database = self
            .database
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        // Closed first: a file is opened once.
        *database = None;
        match file::open(&self.folder) {
            Ok(state) => *database = Some(state.database),
            Err(error) => tracing::warn!(%error, "cannot open the scan cache"),
        }
    }
}

fn write(
    database: &Database,
    changes: &mut HashMap<(u32, FileKey), Change>,
    records: &HashMap<u32, PassRecord>,
) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut known = HashSet::new();
        for subscriber in transaction.open_table(SUBSCRIBERS)?.iter()? {
            known.insert(subscriber?.1.value());
        }
        // Whoever was forgotten meanwhile stays so.
        changes.retain(|(subscriber, _), _| known.contains(subscriber));
        let mut folders = transaction.open_table(FOLDERS)?;
        for ((subscriber, folder), change) in changes {
            let key = (*subscriber, folder.device, folder.inode);
            let known = folders
                .get(key)?
                .and_then(|value| Known::read(value.value()));
            let mut known = known.unwrap_or_default();
            if known.path != change.path {
                known = Known::default();
                known.path = change.path;
            }
            if let Some(full) = change.full
                && known.full != full
            {
                // What was judged before does not count in a full pass.
                known = Known::default();
                known.path = change.path;
                known.full = full;
            }
            // The last one of each holds.
            change.marks.reverse();
            change.marks.sort_by_key(|(id, _)| *id);
            change.marks.dedup_by_key(|(id, _)| *id);
            known.change(change.keep.as_deref(), &change.marks);
            if known.len() == 0 {
                folders.remove(key)?;
            } else {
                folders.insert(key, known.write().as_slice())?;
            }
        }
        let mut passes = transaction.open_table(PASSES)?;
        let records = records.iter().filter(|(it, _)| known.contains(it));
        for (subscriber, record) in records {
            let bytes = postcard::to_allocvec(record).unwrap_or_default();
            passes.insert(*subscriber, bytes.as_slice())?;
        }
    }
    crate::failpoint::hit("scan.before-commit");
    transaction.commit()?;
    crate::failpoint::hit("scan.after-commit");
    Ok(())
}

fn sweep(database: &Database, subscriber: u32, seen: &Seen) -> Result<(), redb::Error> {
    let mut from = (subscriber, 0, 0);
    loop {
        let transaction = database.begin_write()?;
        let more = {
            let mut folders = transaction.open_table(FOLDERS)?;
            let mut gone = Vec::new();
            let mut last = None;
            let range = folders.range(from..=(subscriber, u64::MAX, u64::MAX))?;
            for entry in range.take(SWEEP) {
                let key = entry?.0.value();
                let (_, device, inode) = key;
                if !seen.has(subscriber, FileKey { device, inode }) {
                    gone.push(key);
                }
                last = Some(key);
            }
            for key in gone {
                folders.remove(key)?;
            }
            last
        };
        transaction.commit()?;
        // The last one is looked at twice; there is none after the last inode.
        match more {
            Some(last) if last != from => from = last,
            _ => return Ok(()),
        }
    }
}
