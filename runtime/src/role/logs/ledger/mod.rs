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

mod commit;
mod file;
mod pending;
mod tally;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::batch::{Batch, FileId, Span};
use super::output::{DestinationIndex, Output, Parcel};
use super::tail::{self, Known, Nameless};
use crate::state::Checkpoint;
use file::{File, Mark, Owed, Uncommitted};
use pending::Pending;
pub(super) use tally::{Amount, Settled, Tally};

/// The destinations that have a part of a span already, and up to which offset.
type Delivered = Vec<(DestinationIndex, u64)>;

/// A batch without its lines.
#[derive(Debug)]
pub(super) struct Receipt {
    spans: Vec<Span>,
    pending: Pending,
}

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
    /// Settled since then of files whose inode another file has by now.
    orphaned: Amount,
}

/// See the module. Shared by the pipeline, its destinations and the checkpointer.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    books: Mutex<Books>,
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
                owed: Owed::default(),
                rolled_back: Owed::default(),
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
    /// Returns where reading resumes; [`Self::begun`] says that a tail has taken it.
    pub(super) fn begin(&self, destinations: &[String]) -> Vec<Known> {
        let mut books = self.books();
        let books = &mut *books;
        let old = std::mem::replace(&mut books.destinations, destinations.to_vec());
        for file in books.files.values_mut() {
            file.reassign(&old, destinations);
        }
        books.end_pending();
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
            let Owed { amount, from } = std::mem::take(&mut file.rolled_back);
            if let Some(from) = from {
                file.owed.add(amount, from);
            }
            file.entered = Mark {
                generation: file.generation,
                offset: file.resume(),
            };
            Known {
                file: id,
                generation: file.generation,
                fingerprint: file.fingerprint,
                offset: file.resume(),
                taken_back: file.owed.amount,
                path: file.path.to_path_buf(),
            }
        };
        books.files.iter_mut().map(resume).collect()
    }

    /// A tail has begun with what [`Self::begin`] returned: what was taken back is its to read again
    /// or to give up.
    pub(super) fn begun(&self) {
        for file in self.books().files.values_mut() {
            file.owed = Owed::default();
        }
    }

    /// A tail has stopped before it had read again what was taken back.
    pub(super) fn owe(&self, owed: &tail::Owed) {
        let mut books = self.books();
        let books = &mut *books;
        match books.files.get_mut(&owed.file) {
            Some(file) if file.generation == owed.generation => {
                file.owed.add(owed.amount, owed.from);
            }
            // It was known when the tail began, so another file has the inode by now.
            _ => {
                books.tally.deleted += owed.amount;
                books.tally.joined += owed.amount.joined;
            }
        }
    }

    /// Enters a batch that was read and will not be handed on, so that it is taken back.
    pub(super) fn enter_unsent(&self, batch: &Batch) {
        self.enter_receipt(self.receipt(batch));
    }

    /// As [`Self::enter_unsent`], of a batch that another has by now.
    pub(super) fn enter_receipt(&self, receipt: Receipt) {
        let pending = receipt.pending;
        self.books().enter(&receipt.spans, pending);
    }

    /// What is known of a batch while someone else has it.
    pub(super) fn receipt(&self, batch: &Batch) -> Receipt {
        let destinations = self.books().destinations.len();
        Receipt {
            spans: batch.spans.clone(),
            pending: Pending::undecided(batch, destinations),
        }
    }

    /// Enters a batch and what was decided about it. `dead` are lines that the plugin could not
    /// process and that the dead-letter file has.
    pub(super) fn enter(&self, batch: Batch, output: Output, dead: Vec<u32>) -> Parcel {
        let destinations = self.books().destinations.len();
        let pending = Pending::new(&batch, &output, destinations, dead);
        let (sequence, delivered) = self.books().enter(&batch.spans, pending);
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
        let books = &mut *books;
        let file = books.files.get_mut(&id)?;
        file.gone = true;
        let entered = file.entered;
        // What is owed comes after what was entered, what was rolled back before.
        let owed = std::mem::take(&mut file.owed).amount;
        let mut lost = std::mem::take(&mut file.rolled_back).amount;
        if entered.generation != generation {
            lost += owed;
        }
        books.tally.deleted += lost;
        books.tally.joined += lost.joined;
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

    /// Gives back deleted files that are kept for longer than `wait`, to be closed: they take disk
    /// space. That may take a while.
    #[must_use]
    pub(super) fn close_nameless(&self, wait: Duration) -> Vec<Nameless> {
        let mut books = self.books();
        let books = &mut *books;
        let forgotten = books.forgotten.iter_mut().map(|(_, file)| file);
        let files = books.files.values_mut().chain(forgotten);
        files
            .filter_map(|file| file.nameless.take_if(|(_, since)| since.elapsed() > wait))
            .map(|(nameless, _)| nameless)
            .collect()
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
}

impl Books {
    /// Returns the sequence number and, for each span if for any, what destinations have of it.
    fn enter(&mut self, spans: &[Span], pending: Pending) -> (u64, Vec<Delivered>) {
        let sequence = self.next;
        self.next += 1;
        let destinations = self.destinations.len();
        let mut delivered = Vec::new();
        for (index, span) in spans.iter().enumerate() {
            let fresh = || File::new(span, destinations, sequence);
            let file = self.files.entry(span.file).or_insert_with(fresh);
            if file.gone {
                // A new file got the inode while parcels of the old one are under way.
                let old = std::mem::replace(file, fresh());
                self.orphaned += old.uncommitted.before;
                self.orphaned += old.uncommitted.now;
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
                delivered.resize(spans.len(), Vec::new());
                delivered[index] = ahead;
            }
        }
        self.tally.joined += pending.joined();
        self.tally.in_flight += pending.lines;
        self.tally.in_flight_bytes += pending.bytes;
        self.pending.insert(sequence, pending);
        (sequence, delivered)
    }

    /// Counts what became of a parcel that no destination is waited for any more.
    fn complete(&mut self, sequence: u64, pending: Pending) {
        for part in &pending.parts {
            if let Some(file) = self.files.get_mut(&part.file)
                && file.since <= sequence
            {
                file.pending = file.pending.saturating_sub(1);
                file.dirty = true;
                if part.generation == file.generation {
                    file.uncommitted.now += part.amount;
                } else {
                    file.uncommitted.before += part.amount;
                }
            } else {
                self.orphaned += part.amount;
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
    /// are no more had not done with it.
    fn end_pending(&mut self) {
        for (sequence, pending) in std::mem::take(&mut self.pending) {
            let passed = |part: &pending::Part| {
                let file = self.files.get(&part.file);
                file.is_some_and(|file| {
                    let reached = Mark {
                        generation: part.generation,
                        offset: part.end,
                    };
                    file.since <= sequence
                        && file.marks.iter().all(|&mark| mark >= reached)
                        && !file.reads_again(part.end)
                })
            };
            if pending.decided && pending.parts.iter().all(passed) {
                self.complete(sequence, pending);
                continue;
            }
            self.tally.in_flight -= pending.lines;
            self.tally.in_flight_bytes -= pending.bytes;
            for part in pending.parts {
                match self.files.get_mut(&part.file) {
                    Some(file) if file.since <= sequence && !file.is_lost() => {
                        if part.generation == file.generation {
                            self.tally.joined -= part.amount.joined;
                            file.owed.add(part.amount, part.start());
                        } else {
                            self.tally.truncated += part.amount;
                        }
                    }
                    _ => self.tally.deleted += part.amount,
                }
            }
        }
        for file in self.files.values_mut().filter(|file| file.is_lost()) {
            let mut lost = std::mem::take(&mut file.owed).amount;
            lost += std::mem::take(&mut file.rolled_back).amount;
            self.tally.deleted += lost;
            self.tally.joined += lost.joined;
        }
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
