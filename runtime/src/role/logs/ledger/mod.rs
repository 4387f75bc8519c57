//! The books of one plugin's lines: what is under way, how far each destination has come in each
//! file, and what became of every line.
//!
//! A destination acknowledges parcels in order within a lane, and a file stays in its lane, so one
//! offset for each (file, destination) says it all. Reading resumes at the lowest of a file's
//! offsets; what lies between that and a destination's own offset is not sent to it again. What
//! became of a line is counted when the last destination passes it, from the parcel that this one
//! has: so the books need nothing of parcels, and a destination may be as far behind as it likes.
//!
//! Lines that were read and not settled when reading begins anew are *taken back*: they count as
//! never read, because they will be read again. Those that cannot be, because their file was deleted
//! or truncated since, are given up.

mod behind;
mod commit;
mod entry;
mod file;
mod settle;
mod tally;
mod under_way;

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::batch::{Batch, FileId, Span};
use super::output::{DestinationIndex, Output, Parcel};
use super::queue;
use super::tail::{self, Known, Nameless};
use crate::state::Checkpoint;
pub(super) use behind::{CatchUp, May};
pub(super) use entry::Entry;
use entry::Part;
use file::{File, Mark, Uncommitted};
pub(super) use tally::{Amount, Settled, Tally};
use under_way::Load;

/// The destinations that have a part of a span already, and up to which offset.
type Delivered = Vec<(DestinationIndex, u64)>;

/// A batch without its lines.
#[derive(Debug)]
pub(super) struct Receipt {
    spans: Vec<Span>,
    parts: Vec<Part>,
}

#[derive(Debug, Default)]
struct Books {
    destinations: Vec<String>,
    /// Those that parcels are not handed to, as bits: see [`behind`].
    detached: u64,
    /// Nothing more is entered for a moment, so that they can catch up.
    pausing: bool,
    files: HashMap<FileId, File>,
    /// Files of which something is under way and whose inode another file has by now.
    former: Vec<(FileId, File)>,
    /// How many files there were.
    instances: u64,
    /// How often reading has begun.
    epoch: u64,
    /// Files that are gone and settled, until a commit has forgotten them.
    forgotten: Vec<(FileId, File)>,
    tally: Tally,
    /// What was settled at the last commit.
    committed: Settled,
    /// Settled since then of files whose inode another file has by now.
    orphaned: Amount,
}

/// See the module. Shared by the pipelines, their destinations and the checkpointer.
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
            let marks = names.iter().map(mark).collect();
            let path = checkpoint.path.as_path().into();
            let instance = books.instances;
            books.instances += 1;
            let mut file = File::at(path, checkpoint.fingerprint, marks, generation, instance);
            for footprint in checkpoint.footprints {
                let offset = footprint.offset;
                file.note(Mark { generation, offset }, Some(footprint));
            }
            books.files.insert(id, file);
        }
        books.destinations = names;
    }

    /// Begins anew with these destinations, after everything under way has ended: what was not
    /// settled is taken back or given up. A destination that was there before goes on where it was, a
    /// new one begins where the slowest of the others is, and any where its queue ends, as `ends` says of
    /// each. None is detached.
    ///
    /// Returns where reading resumes; [`Self::begun`] says that a tail has taken it.
    pub(super) fn begin(
        &self,
        destinations: &[String],
        ends: &[HashMap<FileId, queue::End>],
    ) -> Vec<Known> {
        let mut books = self.books();
        let books = &mut *books;
        books.epoch += 1;
        (books.detached, books.pausing) = (0, false);
        let first = books.epoch == 1;
        let old = std::mem::replace(&mut books.destinations, destinations.to_vec());
        for (_, mut file) in std::mem::take(&mut books.former) {
            books.tally.give_up_deleted(file.under_way.take());
            books.tally.give_up_deleted(file.unsent.take());
        }
        let mut lost = Vec::new();
        for (&id, file) in &mut books.files {
            file.reassign(&old, destinations);
            for (destination, ends) in ends.iter().enumerate() {
                if let Some(end) = ends.get(&id) {
                    file.raise(destination, end);
                }
            }
            if first {
                // What the queues have was counted before the daemon ended.
                file.counted = file.counted.max(file.low());
            }
            file.handed.clear();
            if file.is_passed() {
                // The rest was for destinations that are no more.
                file.pass_rest(&mut books.tally);
            }
            let mut rest = Load::default();
            for lines in [&mut file.under_way, &mut file.unsent] {
                let earlier = lines.take_before(file.generation);
                books.tally.give_up_truncated(earlier);
                rest.add(lines.take());
            }
            file.pending = 0;
            if file.is_lost() {
                books.tally.give_up_deleted(rest);
                books.tally.deleted += file.owed;
                books.tally.joined += file.owed.joined;
                file.owed = Amount::default();
                lost.push(id);
            } else {
                books.tally.take_back(rest);
                file.owed += rest.amount;
            }
        }
        for id in lost {
            books.forget(id);
        }
        let resume = |(&id, file): (&FileId, &mut File)| {
            let offset = file.resume();
            file.gone = false;
            file.entered = Mark {
                generation: file.generation,
                offset,
            };
            (file.counted, file.reach) = (file.entered, file.entered);
            Known {
                file: id,
                generation: file.generation,
                fingerprint: file.fingerprint,
                offset,
                taken_back: file.owed,
                footprints: file.footprints(),
                path: file.path.to_path_buf(),
            }
        };
        books.files.iter_mut().map(resume).collect()
    }

    /// A tail has begun with what [`Self::begin`] returned: what was taken back is its to read again
    /// or to give up.
    pub(super) fn begun(&self) {
        for file in self.books().files.values_mut() {
            file.owed = Amount::default();
        }
    }

    /// A tail has stopped before it had read again what was taken back.
    pub(super) fn owe(&self, owed: &tail::Owed) {
        let mut books = self.books();
        let books = &mut *books;
        match books.files.get_mut(&owed.file) {
            Some(file) if file.generation == owed.generation => file.owed += owed.amount,
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
    pub(super) fn enter_receipt(&self, mut receipt: Receipt) {
        let mut books = self.books();
        books.enter(&receipt.spans, &mut receipt.parts);
        for part in &receipt.parts {
            if let Some((file, _)) = books.file(part) {
                file.unsent.add(part.end(), Load::from(&part.lines), None);
            }
        }
    }

    /// What is known of a batch while someone else has it.
    pub(super) fn receipt(&self, batch: &Batch) -> Receipt {
        Receipt {
            spans: batch.spans.clone(),
            parts: entry::parts(batch).0,
        }
    }

    /// Enters a batch and what was decided about it. `dead` are lines that the plugin could not
    /// process and that the dead-letter file has.
    pub(super) fn enter(&self, batch: Batch, output: Output, dead: &[u32]) -> Parcel {
        let (mut parts, oldest) = entry::parts(&batch);
        entry::route(&mut parts, &batch, &output);
        let mut books = self.books();
        let delivered = books.enter(&batch.spans, &mut parts);
        for part in &parts {
            if let Some((file, _)) = books.file(part) {
                file.pending += 1;
                file.under_way
                    .add(part.end(), Load::from(&part.lines), oldest);
            }
        }
        let all = u64::MAX >> (64 - books.destinations.len().clamp(1, 64));
        let entry = Entry {
            epoch: books.epoch,
            waiting: Some((all & !books.detached).into()),
            parts,
        };
        let parcel = Parcel {
            entry,
            batch,
            output,
            delivered,
            clipped: Vec::new(),
        };
        books.buried(&parcel, dead);
        parcel
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
        // It comes after what was entered.
        let owed = std::mem::take(&mut file.owed);
        if entered.generation != generation {
            books.tally.deleted += owed;
            books.tally.joined += owed.joined;
        }
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
        let former = books.former.iter_mut().map(|(_, file)| file);
        let files = books.files.values_mut().chain(former).chain(forgotten);
        files
            .filter_map(|file| file.nameless.take_if(|(_, since)| since.elapsed() > wait))
            .map(|(nameless, _)| nameless)
            .collect()
    }

    /// When the oldest line under way was written, in nanoseconds since 1970.
    pub(super) fn oldest_in_flight(&self) -> Option<i64> {
        let books = self.books();
        let former = books.former.iter().map(|(_, file)| file);
        let files = books.files.values().chain(former);
        files.filter_map(|file| file.under_way.oldest()).min()
    }
}

impl Books {
    /// Returns, for each span if for any, what destinations have of it.
    fn enter(&mut self, spans: &[Span], parts: &mut [Part]) -> Vec<Delivered> {
        let destinations = self.destinations.len();
        let mut delivered = Vec::new();
        for (index, (span, part)) in spans.iter().zip(parts).enumerate() {
            let instances = &mut self.instances;
            let mut fresh = || {
                *instances += 1;
                File::new(span, destinations, *instances)
            };
            let file = self.files.entry(span.file).or_insert_with(&mut fresh);
            if file.gone {
                // A new file got the inode while parcels of the old one are under way.
                let mut old = std::mem::replace(file, fresh());
                let Uncommitted { now, before } = std::mem::take(&mut old.uncommitted);
                self.orphaned += now;
                self.orphaned += before;
                self.former.push((span.file, old));
            }
            part.instance = file.instance;
            file.enter(span, part);
            self.tally.enter(&part.lines);
            note_delivered(&mut delivered, spans.len(), index, file.ahead(span));
        }
        delivered
    }

    /// Moves a file out that no tail follows and no destination waits for.
    fn forget_if_done(&mut self, id: FileId) {
        let done = |file: &File| file.gone && file.is_done();
        if self.files.get(&id).is_some_and(done) {
            self.forget(id);
        }
    }

    fn forget(&mut self, id: FileId) {
        if let Some(file) = self.files.remove(&id) {
            self.forgotten.push((id, file));
        }
    }
}

/// Notes what destinations have of span `index`, if any has something.
fn note_delivered(delivered: &mut Vec<Delivered>, spans: usize, index: usize, ahead: Delivered) {
    if !ahead.is_empty() {
        delivered.resize(spans, Vec::new());
        delivered[index] = ahead;
    }
}

#[cfg(test)]
mod tests;
