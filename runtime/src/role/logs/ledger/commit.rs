//! Checkpoints: what a commit covers, and falling back to the last one when a disk has lost what was
//! acknowledged since.

use std::time::SystemTime;

use super::super::batch::FileId;
use super::super::tail::Nameless;
use super::file::{Committed, Uncommitted};
use super::under_way::Load;
use super::{Amount, Ledger, Settled};
use crate::state::{Checkpoint, Commit};

/// What a commit covers.
#[derive(Debug)]
pub(in crate::role::logs) struct Collected {
    files: Vec<(FileId, Position)>,
    pub(super) forgotten: usize,
    settled: Settled,
    orphaned: Amount,
}

/// A file at the time of a commit.
#[derive(Debug)]
struct Position {
    instance: u64,
    generation: u64,
    committed: Committed,
    uncommitted: Uncommitted,
}

impl Ledger {
    /// Adds what has changed to `commit`.
    pub(in crate::role::logs) fn collect(&self, commit: &mut Commit) -> Collected {
        let mut books = self.books();
        let books = &mut *books;
        // First, because a new file may have the inode of a forgotten one.
        for (id, _) in &books.forgotten {
            commit.forget(*id);
        }
        let now = SystemTime::now();
        let mut files = Vec::new();
        for (&id, file) in &mut books.files {
            if !std::mem::take(&mut file.dirty) {
                continue;
            }
            let offsets = file.marks.iter().map(|&mark| file.offset(mark));
            let checkpoint = Checkpoint {
                generation: file.generation,
                fingerprint: file.fingerprint,
                path: file.path.to_path_buf(),
                marks: books.destinations.iter().cloned().zip(offsets).collect(),
                footprints: file.footprints(),
                updated: now,
            };
            commit.checkpoint(id, checkpoint);
            let position = Position {
                instance: file.instance,
                generation: file.generation,
                committed: Committed {
                    marks: file.marks.clone(),
                    counted: file.counted,
                },
                uncommitted: file.uncommitted,
            };
            files.push((id, position));
        }
        Collected {
            files,
            forgotten: books.forgotten.len(),
            settled: books.tally.settled,
            orphaned: books.orphaned,
        }
    }

    /// The commit is in the store. Returns files that can be closed, which may take a while.
    #[must_use]
    pub(in crate::role::logs) fn committed(&self, collected: Collected) -> Vec<Nameless> {
        let mut books = self.books();
        let books = &mut *books;
        let done = books.forgotten.drain(..collected.forgotten);
        let handles = done
            .filter_map(|(_, file)| Some(file.nameless?.0))
            .collect();
        for (id, position) in collected.files {
            // It may have been forgotten meanwhile.
            let forgotten = books.forgotten.iter_mut();
            let forgotten = forgotten.filter(|(other, _)| *other == id);
            let file = books.files.get_mut(&id).into_iter();
            let mut file = file.chain(forgotten.map(|(_, file)| file));
            let Uncommitted { now, before } = position.uncommitted;
            let Some(file) = file.find(|file| file.instance == position.instance) else {
                // Its inode went to another file.
                books.orphaned -= now;
                books.orphaned -= before;
                continue;
            };
            file.committed = position.committed;
            file.uncommitted.before -= before;
            if file.generation == position.generation {
                file.uncommitted.now -= now;
            } else {
                file.uncommitted.before -= now;
            }
        }
        books.orphaned -= collected.orphaned;
        books.committed = collected.settled;
        handles
    }

    /// The commit failed: all of it is to be tried again.
    pub(in crate::role::logs) fn put_back(&self, collected: Collected) {
        let mut books = self.books();
        for (id, _) in collected.files {
            if let Some(file) = books.files.get_mut(&id) {
                file.dirty = true;
            }
        }
    }

    /// Falls back to the last commit, while nothing is under way: what was settled since may have
    /// been lost by a disk and is read again, or given up where that cannot be. Returns files that can
    /// be closed, which may take a while.
    #[must_use]
    pub(in crate::role::logs) fn roll_back(&self) -> Vec<Nameless> {
        let mut books = self.books();
        let books = &mut *books;
        let mut handles = Vec::new();
        for (id, mut file) in std::mem::take(&mut books.forgotten) {
            if file.nameless.is_none() || books.files.contains_key(&id) {
                let Uncommitted { now, before } = std::mem::take(&mut file.uncommitted);
                books.tally.deleted += now;
                books.tally.truncated += before;
                handles.extend(file.nameless.take().map(|(nameless, _)| nameless));
                books.forgotten.push((id, file));
            } else {
                books.files.insert(id, file);
            }
        }
        for file in books.files.values_mut() {
            let Uncommitted { now, before } = std::mem::take(&mut file.uncommitted);
            books.tally.truncated += before;
            if file.is_lost() {
                books.tally.deleted += now;
                continue;
            }
            file.marks.clone_from(&file.committed.marks);
            file.counted = file.committed.counted;
            file.dirty = true;
            books.tally.in_flight += now.lines;
            // What was decided about each is not known any more.
            let load = Load {
                amount: now,
                routed: now.lines,
                ..Load::default()
            };
            file.under_way.give_back(file.generation, load);
        }
        books.tally.deleted += std::mem::take(&mut books.orphaned);
        books.tally.settled = books.committed;
        handles
    }
}
