//! The books of one plugin's lines: what is under way, how far each destination has come in each
//! file, and what became of every line.
//!
//! A destination acknowledges parcels in order within a lane, and a file stays in its lane, so one
//! offset for each (file, destination) says it all. Reading resumes at the lowest of a file's
//! offsets; what lies between that and a destination's own offset is not sent to it again.
//!
//! Lines that were read and not settled when reading begins anew are *taken back*: they count as
//! never read, because they will be read again. Those that cannot be, because their file was deleted
//! or truncated since, are given up.

mod file;
mod pending;
mod tally;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::batch::{Batch, FileId};
use super::output::{DestinationIndex, Output, Parcel};
use super::tail::{Known, Nameless};
use crate::state::{Checkpoint, Commit};
use file::{File, Mark, Uncommitted};
use pending::Pending;
pub(super) use tally::{Amount, Settled, Tally};

#[derive(Debug, Default)]
struct Books {
    destinations: Vec<String>,
    files: HashMap<FileId, File>,
    pending: BTreeMap<u64, Pending>,
    next: u64,
    /// Files that are gone and settled, until a commit has forgotten them.
    forgotten: Vec<(FileId, File)>,
    tally: Tally,
    /// What was settled at the last commit.
    committed: Settled,
}

/// See the module. Shared by the pipeline, its destinations and the checkpointer.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    books: Mutex<Books>,
}

/// What a commit covers.
#[derive(Debug)]
pub(super) struct Collected {
    files: Vec<(FileId, Position)>,
    forgotten: usize,
    settled: Settled,
}

/// A file at the time of a commit.
#[derive(Debug)]
struct Position {
    since: u64,
    generation: u64,
    marks: Vec<Mark>,
    uncommitted: Uncommitted,
}

impl Ledger {
    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What became of the lines so far.
    pub(super) fn tally(&self) -> Tally {
        self.books().tally
    }

    /// Takes over what the store knows. Called once, before anything is read.
    pub(super) fn load(&self, checkpoints: Vec<(FileId, Checkpoint)>) {
        let mut books = self.books();
        let mut names: Vec<String> = Vec::new();
        for (_, checkpoint) in &checkpoints {
            for (name, _) in &checkpoint.marks {
                if !names.contains(name) {
                    names.push(name.clone());
                }
            }
        }
        for (id, checkpoint) in checkpoints {
            let generation = checkpoint.generation;
            let low = checkpoint.marks.iter().map(|(_, offset)| *offset).min();
            let mark = |name: &String| {
                let own = checkpoint.marks.iter().find(|(other, _)| other == name);
                let offset = own.map(|(_, offset)| *offset).or(low).unwrap_or(0);
                Mark { generation, offset }
            };
            let marks: Vec<Mark> = names.iter().map(mark).collect();
            let file = File {
                path: checkpoint.path.as_path().into(),
                generation,
                fingerprint: checkpoint.fingerprint,
                committed: marks.clone(),
                uncommitted: Uncommitted::default(),
                entered: Mark {
                    generation,
                    offset: low.unwrap_or(0),
                },
                marks,
                pending: 0,
                gone: false,
                nameless: None,
                dirty: false,
                since: 0,
            };
            books.files.insert(id, file);
        }
        books.destinations = names;
    }

    /// Begins anew with these destinations, after everything under way has ended: what was not
    /// settled is taken back or given up. A destination that was there before goes on where it was, a
    /// new one begins where the slowest of the others is.
    ///
    /// Returns where reading resumes.
    pub(super) fn begin(&self, destinations: &[String]) -> Vec<Known> {
        let mut books = self.books();
        let books = &mut *books;
        let old = std::mem::replace(&mut books.destinations, destinations.to_vec());
        for file in books.files.values_mut() {
            file.reassign(&old, destinations);
        }
        let mut taken_back = books.end_pending();
        let lost: Vec<FileId> = (books.files.iter())
            .filter(|(_, file)| file.is_lost())
            .map(|(&id, _)| id)
            .collect();
        for file in books.files.values_mut() {
            file.pending = 0;
        }
        for id in lost {
            books.forget_if_done(id);
        }
        let resume = |(&id, file): (&FileId, &mut File)| {
            file.gone = false;
            Known {
                file: id,
                generation: file.generation,
                fingerprint: file.fingerprint,
                offset: file.low_water(),
                taken_back: taken_back.remove(&id).unwrap_or_default(),
                path: file.path.to_path_buf(),
            }
        };
        books.files.iter_mut().map(resume).collect()
    }

    /// Enters a batch and what was decided about it. `dead` are lines that the plugin could not
    /// process and that the dead-letter file has.
    pub(super) fn enter(&self, batch: Batch, output: Output, dead: Vec<u32>) -> Parcel {
        let mut books = self.books();
        let books = &mut *books;
        let sequence = books.next;
        books.next += 1;
        let destinations = books.destinations.len();
        let pending = Pending::new(&batch, &output, destinations, dead);
        let mut delivered = Vec::new();
        for (index, span) in batch.spans.iter().enumerate() {
            let fresh = || File::new(span, destinations, sequence);
            let file = books.files.entry(span.file).or_insert_with(fresh);
            if file.gone {
                // A new file got the inode while parcels of the old one are under way.
                let old = std::mem::replace(file, fresh());
                file.uncommitted.before = old.uncommitted.before;
                file.uncommitted.before += old.uncommitted.now;
            }
            file.enter(span);
            let ahead: Vec<_> = file
                .marks
                .iter()
                .enumerate()
                .filter(|(_, mark)| mark.generation == span.generation && mark.offset > span.start)
                .map(|(destination, mark)| (destination, mark.offset))
                .collect();
            if !ahead.is_empty() {
                delivered.resize(batch.spans.len(), Vec::new());
                delivered[index] = ahead;
            }
        }
        books.tally.joined += pending.joined();
        books.tally.in_flight += pending.lines;
        books.tally.in_flight_bytes += pending.bytes;
        books.pending.insert(sequence, pending);
        Parcel {
            sequence,
            batch,
            output,
            delivered,
        }
    }

    /// A destination has done with a parcel: every line of it that goes there was acknowledged or,
    /// if it is in `dead`, dead-lettered.
    pub(super) fn settle(&self, destination: DestinationIndex, parcel: &Parcel, dead: &[u32]) {
        let mut books = self.books();
        let books = &mut *books;
        let Some(pending) = books.pending.get_mut(&parcel.sequence) else {
            // From before the latest `begin`; its lines are read again.
            return;
        };
        pending.dead.extend_from_slice(dead);
        pending.waiting &= !(1 << destination);
        for part in &pending.parts {
            if let Some(file) = books.files.get_mut(&part.file)
                && file.since <= parcel.sequence
                && let Some(mark) = file.marks.get_mut(destination)
            {
                let reached = Mark {
                    generation: part.generation,
                    offset: part.end,
                };
                if reached > *mark {
                    *mark = reached;
                    file.dirty = true;
                }
            }
        }
        if pending.waiting == 0
            && let Some(pending) = books.pending.remove(&parcel.sequence)
        {
            books.complete(parcel.sequence, pending);
        }
    }

    /// The tail has done with a file for good. `nameless` is kept until all of it is settled.
    pub(super) fn gone(&self, id: FileId, nameless: Option<Nameless>) {
        let mut books = self.books();
        if let Some(file) = books.files.get_mut(&id) {
            file.gone = true;
            file.nameless = nameless.map(|nameless| (nameless, Instant::now()));
        }
        books.forget_if_done(id);
    }

    /// A file that no tail follows will be closed and cannot be read again. Returns the end of what
    /// was entered of this generation of it, if anything was: what comes after that is for the caller
    /// to give up.
    pub(super) fn closing(&self, id: FileId, generation: u64) -> Option<u64> {
        let mut books = self.books();
        let file = books.files.get_mut(&id)?;
        file.gone = true;
        let entered = file.entered;
        books.forget_if_done(id);
        (entered.generation == generation).then_some(entered.offset)
    }

    /// Counts lines as given up that were never read.
    pub(super) fn give_up_deleted(&self, amount: Amount) {
        let mut books = self.books();
        books.tally.deleted += amount;
        books.tally.joined += amount.joined;
    }

    /// The deleted files of which something is not settled, to be read again.
    pub(super) fn take_nameless(&self) -> Vec<Nameless> {
        let mut books = self.books();
        let files = books.files.values_mut();
        files
            .filter_map(|file| file.nameless.take())
            .map(|(nameless, _)| nameless)
            .collect()
    }

    /// Closes deleted files that are kept for longer than `wait`: they take disk space.
    pub(super) fn close_nameless(&self, wait: Duration) {
        let mut books = self.books();
        let books = &mut *books;
        let forgotten = books.forgotten.iter_mut().map(|(_, file)| file);
        for file in books.files.values_mut().chain(forgotten) {
            file.nameless.take_if(|(_, since)| since.elapsed() > wait);
        }
    }

    /// When the oldest line under way was written, in nanoseconds since 1970.
    pub(super) fn oldest_in_flight(&self) -> Option<i64> {
        let books = self.books();
        books
            .pending
            .values()
            .filter_map(|pending| pending.oldest)
            .min()
    }

    /// Adds what has changed to `commit`.
    pub(super) fn collect(&self, commit: &mut Commit) -> Collected {
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
                updated: now,
            };
            commit.checkpoint(id, checkpoint);
            let position = Position {
                since: file.since,
                generation: file.generation,
                marks: file.marks.clone(),
                uncommitted: file.uncommitted,
            };
            files.push((id, position));
        }
        Collected {
            files,
            forgotten: books.forgotten.len(),
            settled: books.tally.settled,
        }
    }

    /// The commit is in the store.
    pub(super) fn committed(&self, collected: Collected) {
        let mut books = self.books();
        for (id, position) in collected.files {
            let file = books.files.get_mut(&id);
            let Some(file) = file.filter(|file| file.since == position.since) else {
                continue;
            };
            file.committed = position.marks;
            let Uncommitted { now, before } = position.uncommitted;
            file.uncommitted.before -= before;
            if file.generation == position.generation {
                file.uncommitted.now -= now;
            } else {
                file.uncommitted.before -= now;
            }
        }
        books.forgotten.drain(..collected.forgotten);
        books.committed = collected.settled;
    }

    /// The commit failed: all of it is to be tried again.
    pub(super) fn put_back(&self, collected: Collected) {
        let mut books = self.books();
        for (id, _) in collected.files {
            if let Some(file) = books.files.get_mut(&id) {
                file.dirty = true;
            }
        }
    }

    /// Falls back to the last commit, while nothing is under way: what was settled since may have
    /// been lost by a disk and is read again, or given up where that cannot be.
    pub(super) fn roll_back(&self) {
        let mut books = self.books();
        let books = &mut *books;
        for (id, mut file) in std::mem::take(&mut books.forgotten) {
            if file.nameless.is_none() || books.files.contains_key(&id) {
                books.tally.deleted += file.uncommitted.now;
                books.tally.truncated += file.uncommitted.before;
                file.nameless = None;
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
            } else {
                books.tally.joined = books.tally.joined.saturating_sub(now.joined);
                file.marks.clone_from(&file.committed);
                file.dirty = true;
            }
        }
        books.tally.settled = books.committed;
    }
}

impl Books {
    /// Counts what became of a parcel that no destination is waited for any more.
    fn complete(&mut self, sequence: u64, pending: Pending) {
        for part in &pending.parts {
            if let Some(file) = self.files.get_mut(&part.file)
                && file.since <= sequence
            {
                file.pending = file.pending.saturating_sub(1);
                if part.generation == file.generation {
                    file.uncommitted.now += part.amount;
                } else {
                    file.uncommitted.before += part.amount;
                }
            }
        }
        self.tally.in_flight -= pending.lines;
        self.tally.in_flight_bytes -= pending.bytes;
        let ids: Vec<FileId> = pending.parts.iter().map(|part| part.file).collect();
        let outcome = pending.outcome();
        let settled = &mut self.tally.settled;
        settled.acknowledged += outcome.acknowledged;
        settled.filtered += outcome.filtered;
        settled.dead_lettered += outcome.dead_lettered;
        settled.bytes += outcome.bytes;
        for id in ids {
            self.forget_if_done(id);
        }
    }

    /// Takes back or gives up what is under way, or counts it as settled if only destinations that
    /// are no more had not done with it. Returns what was taken back of each file.
    fn end_pending(&mut self) -> HashMap<FileId, Amount> {
        let mut taken_back: HashMap<FileId, Amount> = HashMap::new();
        for (sequence, pending) in std::mem::take(&mut self.pending) {
            let passed = |part: &pending::Part| {
                let file = self.files.get(&part.file);
                file.is_some_and(|file| {
                    let reached = Mark {
                        generation: part.generation,
                        offset: part.end,
                    };
                    file.since <= sequence && file.marks.iter().all(|&mark| mark >= reached)
                })
            };
            if pending.parts.iter().all(passed) {
                self.complete(sequence, pending);
                continue;
            }
            self.tally.in_flight -= pending.lines;
            self.tally.in_flight_bytes -= pending.bytes;
            for part in pending.parts {
                match self.files.get(&part.file) {
                    Some(file) if file.since <= sequence && !file.is_lost() => {
                        if part.generation == file.generation {
                            self.tally.joined -= part.amount.joined;
                            *taken_back.entry(part.file).or_default() += part.amount;
                        } else {
                            self.tally.truncated += part.amount;
                        }
                    }
                    _ => self.tally.deleted += part.amount,
                }
            }
        }
        taken_back
    }

    fn forget_if_done(&mut self, id: FileId) {
        let done = |file: &File| file.gone && file.pending == 0;
        if self.files.get(&id).is_some_and(done)
            && let Some(file) = self.files.remove(&id)
        {
            self.forgotten.push((id, file));
        }
    }
}

#[cfg(test)]
mod tests;
