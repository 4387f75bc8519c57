//! Which files have been judged as they are, so that they need not be passed again: a file of its own,
//! `STATE/scan.redb`, with one entry a folder and subscriber.
//!
//! An entry has 12 bytes a file: a part of its inode, and 64 bits of a hash of its device, inode, size,
//! times, and all that decides about it. The hash has a secret seed, so that nobody can make a file that
//! looks like another one. What is lost here costs time, never a finding: the files are passed again.

mod entry;
mod file;
mod seen;
mod writer;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, RwLock};

use redb::{Database, ReadableDatabase, ReadableTable, ReadableTableMetadata};
use xxhash_rust::xxh3::xxh3_64_with_seed;

pub(super) use entry::Known;
pub(super) use seen::Seen;

use super::facts::{Facts, FileKey};
use file::{FOLDERS, NUMBERS, PASSES, SUBSCRIBERS, State};
use writer::{Note, Writer};

/// So many files may have been judged without being written down yet; then further ones are not, and are
/// passed again. Only if the disk stands still.
const PENDING: u64 = 1 << 20;

/// A file that counts as judged once the batch that it is in does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    /// Whose.
    pub(super) subscriber: u32,
    /// The folder in which it was found; itself if it is one.
    pub(super) folder: FileKey,
    /// That folder's [`Cache::path`].
    pub(super) path: u64,
    /// Which file of it.
    pub(super) id: u32,
    pub(super) stamp: u64,
    /// The full pass in which it was found.
    pub(super) full: Option<u32>,
}

/// What is remembered of a subscriber's passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub(super) struct PassRecord {
    /// The number of the last full pass, or of the one that is under way; the first is 1.
    pub(super) full: u32,
    pub(super) full_runs: bool,
    /// When the last full pass ended, or the subscriber was first seen, in seconds since 1970.
    pub(super) full_ended: u64,
    /// How much the last complete pass saw.
    pub(super) files: u64,
    pub(super) bytes: u64,
}

/// The store; clones share it.
#[derive(Debug, Clone)]
pub(super) struct Cache {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    database: Arc<RwLock<Option<Database>>>,
    notes: Sender<Note>,
    /// Files that were judged and are not written down.
    pending: Arc<AtomicU64>,
    seed: u64,
}

impl Cache {
    /// Opens the store in a folder. One that is damaged, or of another layout, is begun anew.
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        let State { database, seed } = file::open(folder)?;
        let database = Arc::new(RwLock::new(Some(database)));
        let pending = Arc::new(AtomicU64::new(0));
        let (notes, receiver) = mpsc::channel();
        let writer = Writer::new(
            folder.to_owned(),
            database.clone(),
            receiver,
            pending.clone(),
        );
        std::thread::Builder::new()
            .name("scan-cache".to_owned())
            .spawn(move || writer.run())?;
        Ok(Self {
            shared: Arc::new(Shared {
                path: folder.join(file::NAME),
                database,
                notes,
                pending,
                seed,
            }),
        })
    }

    /// A subscriber's number and what is remembered of its passes. Blocks.
    pub(super) fn subscriber(&self, name: &str) -> io::Result<(u32, PassRecord)> {
        let number = self.number(name).map_err(io::Error::other)?;
        let record = self.read(|transaction| {
            let table = transaction.open_table(PASSES)?;
            let record = table.get(number)?;
            Ok(record.and_then(|record| postcard::from_bytes(record.value()).ok()))
        });
        Ok((number, record.flatten().unwrap_or_default()))
    }

    fn number(&self, name: &str) -> Result<u32, redb::Error> {
        self.change(|transaction| {
            let mut table = transaction.open_table(SUBSCRIBERS)?;
            let known = table.get(name)?.map(|number| number.value());
            if let Some(number) = known {
                return Ok(number);
            }
            // Never one that was another's before: what is judged late must not count for somebody else.
            let mut numbers = transaction.open_table(NUMBERS)?;
            let next = numbers.get(())?.map_or(0, |next| next.value());
            numbers.insert((), next.wrapping_add(1))?;
            table.insert(name, next)?;
            Ok(next)
        })
    }

    /// Forgets all about a subscriber. What it judges under its number from now on is not remembered
    /// either. Blocks.
    pub(super) fn forget(&self, name: &str) -> io::Result<()> {
        let forgotten = self.change(|transaction| {
            let mut subscribers = transaction.open_table(SUBSCRIBERS)?;
            let number = subscribers.remove(name)?.map(|number| number.value());
            if let Some(number) = number {
                transaction.open_table(PASSES)?.remove(number)?;
                let all = (number, 0, 0)..=(number, u64::MAX, u64::MAX);
                let mut folders = transaction.open_table(FOLDERS)?;
                folders.retain_in(all, |_, _| false)?;
            }
            Ok(())
        });
        forgotten.map_err(io::Error::other)
    }

    /// The same for all subscribers.
    pub(super) fn forget_all(&self) -> io::Result<()> {
        let forgotten = self.change(|transaction| {
            transaction.delete_table(SUBSCRIBERS)?;
            transaction.delete_table(PASSES)?;
            transaction.delete_table(FOLDERS)?;
            // Whoever reads expects them to be there.
            transaction.open_table(SUBSCRIBERS)?;
            transaction.open_table(PASSES)?;
            transaction.open_table(FOLDERS)?;
            Ok(())
        });
        forgotten.map_err(io::Error::other)
    }

    /// Changes the store at once, all or nothing.
    fn change<T>(
        &self,
        change: impl FnOnce(&redb::WriteTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, redb::Error> {
        let database = self.database();
        let Some(database) = database.as_ref() else {
            return Err(redb::Error::PreviousIo);
        };
        let transaction = database.begin_write()?;
        let changed = change(&transaction)?;
        transaction.commit()?;
        Ok(changed)
    }

    /// What of a folder has been judged, at this path.
    pub(super) fn known(&self, subscriber: u32, folder: FileKey, path: u64) -> Known {
        let known = self.read(|transaction| {
            let table = transaction.open_table(FOLDERS)?;
            let value = table.get((subscriber, folder.device, folder.inode))?;
            Ok(value.and_then(|value| Known::read(value.value())))
        });
        let known = known.flatten().filter(|known| known.path == path);
        known.unwrap_or_default()
    }

    /// What tells a file that has been judged from what it may become: for `rules` as they are.
    pub(super) fn stamp(&self, facts: &Facts, rules: u64) -> u64 {
        let mut bytes = [0; 48];
        let parts = [
            facts.key.device,
            facts.key.inode,
            facts.size,
            facts.modified as u64,
            facts.changed as u64,
            rules,
        ];
        for (to, part) in bytes.chunks_exact_mut(8).zip(parts) {
            to.copy_from_slice(&part.to_le_bytes());
        }
        xxh3_64_with_seed(&bytes, self.shared.seed)
    }

    /// All that decides about a file, in 64 bits.
    pub(super) fn rules(&self, bytes: &[u8]) -> u64 {
        xxh3_64_with_seed(bytes, self.shared.seed)
    }

    /// A folder's path, in 64 bits.
    pub(super) fn path(&self, path: &[u8]) -> u64 {
        xxh3_64_with_seed(path, self.shared.seed)
    }

    /// These files have been judged. Does not block.
    pub(super) fn judged(&self, marks: Vec<Mark>) {
        let more = marks.len() as u64;
        if more == 0 || self.shared.pending.load(Ordering::Relaxed) > PENDING {
            return;
        }
        self.shared.pending.fetch_add(more, Ordering::Relaxed);
        self.note(Note::Judged(marks));
    }

    /// Of what is known of a folder, only these files are there as they were.
    pub(super) fn keep(&self, subscriber: u32, folder: FileKey, path: u64, ids: Vec<u32>) {
        self.note(Note::Keep {
            subscriber,
            folder,
            path,
            ids,
        });
    }

    /// Forgets the folders of a subscriber that were not seen.
    pub(super) fn sweep(&self, subscriber: u32, seen: Arc<Seen>) {
        self.note(Note::Sweep { subscriber, seen });
    }

    /// Remembers how a subscriber's passes stand.
    pub(super) fn record(&self, subscriber: u32, record: PassRecord) {
        self.note(Note::Record { subscriber, record });
    }

    /// Waits until all of the above is written, or has failed.
    pub(super) fn flush(&self) {
        let (done, wait) = mpsc::channel();
        self.note(Note::Flush(done));
        // An error: the writer is gone, and so is what it could have written.
        let _ = wait.recv();
    }

    /// Folders that something is known of, for all subscribers together, and bytes on the disk.
    pub(super) fn size(&self) -> (u64, u64) {
        let folders = self.read(|transaction| Ok(transaction.open_table(FOLDERS)?.len()?));
        let file = std::fs::metadata(&self.shared.path);
        (folders.unwrap_or(0), file.map_or(0, |file| file.len()))
    }

    fn note(&self, note: Note) {
        // It fails only if the writer is gone: then nothing is remembered.
        let _ = self.shared.notes.send(note);
    }

    fn database(&self) -> std::sync::RwLockReadGuard<'_, Option<Database>> {
        let database = self.shared.database.read();
        database.unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// None if it cannot be read: nothing is known then.
    fn read<T>(
        &self,
        read: impl FnOnce(&redb::ReadTransaction) -> Result<T, redb::Error>,
    ) -> Option<T> {
        let database = self.database();
        let transaction = database.as_ref()?.begin_read().ok()?;
        read(&transaction).ok()
    }
}

/// Which file of a folder: enough to tell them apart. If two look alike, one of them is passed again.
pub(super) fn id(key: FileKey) -> u32 {
    (key.inode ^ (key.inode >> 32)) as u32
}
