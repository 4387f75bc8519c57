//! The books of one plugin's lines: what is under way, how far each destination has come in each
//! file, and what became of every line.
//!
//! A destination acknowledges parcels in order within a lane, and a file stays in its lane, so one
//! offset for each (file, destination) says it all. Reading resumes at the lowest of a file's
//! offsets; what lies between that and a destination's own offset is not sent to it again.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::batch::{Batch, FileId, Fingerprint};
use super::output::{Content, DestinationIndex, Output, Parcel};
use super::tail::{Known, Nameless};
use crate::state::{Checkpoint, Commit};

/// What became of the lines that were read, since the daemon started.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Handed in; what an interruption will have read again is taken back.
    pub(super) read: AtomicU64,
    /// Lines that were joined onto those that were read, beside them.
    pub(super) joined: AtomicU64,
    /// Every destination that they were routed to acknowledged them.
    pub(super) acknowledged: AtomicU64,
    /// The plugin kept them from all destinations.
    pub(super) filtered: AtomicU64,
    /// Written to the dead-letter file, because a destination will never accept them or the plugin
    /// cannot process them.
    pub(super) dead_lettered: AtomicU64,
    /// Under way.
    pub(super) in_flight: AtomicU64,
    /// Bytes of lines under way.
    pub(super) in_flight_bytes: AtomicU64,
    /// Bytes of lines that are settled.
    pub(super) settled_bytes: AtomicU64,
}

/// How far a destination has come in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Mark {
    generation: u64,
    offset: u64,
}

#[derive(Debug)]
struct File {
    path: Arc<Path>,
    generation: u64,
    fingerprint: Fingerprint,
    /// One for each destination.
    marks: Vec<Mark>,
    /// Parcels under way that cover it.
    pending: usize,
    /// The tail has done with it for good.
    gone: bool,
    /// If it was deleted: what it can be read through again, and since when that is kept.
    nameless: Option<(Nameless, Instant)>,
    dirty: bool,
    /// The first parcel of this file; earlier ones are of another that had its inode before.
    since: u64,
}

impl File {
    /// A destination's offset in the file's present content.
    fn offset(&self, mark: Mark) -> u64 {
        if mark.generation == self.generation {
            mark.offset
        } else {
            0
        }
    }

    fn low_water(&self) -> u64 {
        let offsets = self.marks.iter().map(|&mark| self.offset(mark));
        offsets.min().unwrap_or(0)
    }
}

#[derive(Debug)]
struct Pending {
    /// Destinations that have not settled yet, as bits.
    waiting: u64,
    /// Lines that go somewhere.
    routed: u64,
    lines: u64,
    joined: u64,
    bytes: u64,
    /// Time of the oldest line.
    oldest: Option<i64>,
    /// Indices of lines that were dead-lettered; sorted, unique.
    dead: Vec<u32>,
}

#[derive(Debug, Default)]
struct Books {
    destinations: Vec<String>,
    files: HashMap<FileId, File>,
    pending: BTreeMap<u64, Pending>,
    next: u64,
    forgotten: Vec<FileId>,
}

/// See the module. Shared by the pipeline, its destinations and the checkpointer.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    books: Mutex<Books>,
    pub(super) counts: Counts,
}

/// What a commit covers, to be put back if it fails.
pub(super) struct Uncommitted {
    files: Vec<FileId>,
    forgotten: Vec<FileId>,
}

impl Ledger {
    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
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
            let file = File {
                path: checkpoint.path.as_path().into(),
                generation,
                fingerprint: checkpoint.fingerprint,
                marks: names.iter().map(mark).collect(),
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
    /// settled counts as never read. A destination that was there before goes on where it was, a
    /// new one begins where the slowest of the others is.
    ///
    /// Returns where reading resumes.
    pub(super) fn begin(&self, destinations: &[String]) -> Vec<Known> {
        let mut books = self.books();
        let books = &mut *books;
        for pending in std::mem::take(&mut books.pending).into_values() {
            let counts = &self.counts;
            counts.read.fetch_sub(pending.lines, Ordering::Relaxed);
            counts.joined.fetch_sub(pending.joined, Ordering::Relaxed);
            counts.in_flight.fetch_sub(pending.lines, Ordering::Relaxed);
            counts
                .in_flight_bytes
                .fetch_sub(pending.bytes, Ordering::Relaxed);
        }
        let old = std::mem::replace(&mut books.destinations, destinations.to_vec());
        for file in books.files.values_mut() {
            file.pending = 0;
            file.gone = false;
            let low = Mark {
                generation: file.generation,
                offset: file.low_water(),
            };
            let mark = |name: &String| {
                let index = old.iter().position(|other| other == name);
                index
                    .and_then(|index| file.marks.get(index).copied())
                    .unwrap_or(low)
            };
            file.marks = destinations.iter().map(mark).collect();
        }
        books
            .files
            .iter()
            .map(|(&id, file)| Known {
                file: id,
                generation: file.generation,
                fingerprint: file.fingerprint,
                offset: file.low_water(),
                path: file.path.to_path_buf(),
            })
            .collect()
    }

    /// Enters a batch and what was decided about it. `dead` are lines that the plugin could not
    /// process and that the dead-letter file has.
    pub(super) fn enter(&self, batch: Batch, output: Output, dead: Vec<u32>) -> Parcel {
        let routed = routed(&batch, &output);
        let mut books = self.books();
        let books = &mut *books;
        let sequence = books.next;
        books.next += 1;
        let destinations = books.destinations.len();
        let mut delivered = Vec::new();
        for (index, span) in batch.spans.iter().enumerate() {
            let fresh = || File {
                path: span.source.path.clone(),
                generation: span.generation,
                fingerprint: span.fingerprint,
                marks: vec![
                    Mark {
                        generation: span.generation,
                        offset: span.start,
                    };
                    destinations
                ],
                pending: 0,
                gone: false,
                nameless: None,
                dirty: true,
                since: sequence,
            };
            let file = books.files.entry(span.file).or_insert_with(fresh);
            if file.gone {
                // A new file got the inode while parcels of the old one are under way.
                *file = fresh();
            }
            file.pending += 1;
            if span.generation >= file.generation {
                file.generation = span.generation;
                file.fingerprint = span.fingerprint;
                file.path = span.source.path.clone();
            }
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
        let lines = batch.lines.len() as u64;
        let bytes = batch.bytes.len() as u64;
        let joined = batch.joined.iter().map(|one| u64::from(one.lines)).sum();
        self.counts.read.fetch_add(lines, Ordering::Relaxed);
        self.counts.joined.fetch_add(joined, Ordering::Relaxed);
        self.counts.in_flight.fetch_add(lines, Ordering::Relaxed);
        self.counts
            .in_flight_bytes
            .fetch_add(bytes, Ordering::Relaxed);
        let waiting = match destinations {
            64.. => u64::MAX,
            count => (1 << count) - 1,
        };
        let pending = Pending {
            waiting,
            routed,
            lines,
            joined,
            bytes,
            oldest: batch.lines.iter().map(|line| line.time).min(),
            dead,
        };
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
        let done = pending.waiting == 0;
        for span in &parcel.batch.spans {
            if let Some(file) = books.files.get_mut(&span.file)
                && file.since <= parcel.sequence
                && let Some(mark) = file.marks.get_mut(destination)
            {
                let reached = Mark {
                    generation: span.generation,
                    offset: span.end,
                };
                let further = reached.generation > mark.generation
                    || reached.generation == mark.generation && reached.offset > mark.offset;
                if further {
                    *mark = reached;
                    file.dirty = true;
                }
                if done {
                    file.pending -= 1;
                }
            }
        }
        if !done {
            return;
        }
        if let Some(mut pending) = books.pending.remove(&parcel.sequence) {
            pending.dead.sort_unstable();
            pending.dead.dedup();
            let dead = pending.dead.len() as u64;
            let acknowledged = pending.routed.saturating_sub(dead);
            let counts = &self.counts;
            let add = |counter: &AtomicU64, more| counter.fetch_add(more, Ordering::Relaxed);
            add(&counts.dead_lettered, dead);
            add(&counts.acknowledged, acknowledged);
            add(
                &counts.filtered,
                pending.lines.saturating_sub(acknowledged + dead),
            );
            add(&counts.settled_bytes, pending.bytes);
            counts.in_flight.fetch_sub(pending.lines, Ordering::Relaxed);
            counts
                .in_flight_bytes
                .fetch_sub(pending.bytes, Ordering::Relaxed);
        }
        for span in &parcel.batch.spans {
            books.forget_if_done(span.file);
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
        for file in books.files.values_mut() {
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
    pub(super) fn collect(&self, commit: &mut Commit) -> Uncommitted {
        let mut books = self.books();
        let books = &mut *books;
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
            files.push(id);
        }
        let forgotten = std::mem::take(&mut books.forgotten);
        for &id in &forgotten {
            commit.forget(id);
        }
        Uncommitted { files, forgotten }
    }

    /// The commit failed: all of it is to be tried again.
    pub(super) fn put_back(&self, uncommitted: Uncommitted) {
        let mut books = self.books();
        for id in uncommitted.files {
            if let Some(file) = books.files.get_mut(&id) {
                file.dirty = true;
            }
        }
        books.forgotten.extend(uncommitted.forgotten);
    }
}

impl Books {
    fn forget_if_done(&mut self, id: FileId) {
        let done = self
            .files
            .get(&id)
            .is_some_and(|file| file.gone && file.pending == 0);
        if done {
            self.files.remove(&id);
            self.forgotten.push(id);
        }
    }
}

/// How many lines of the batch go to at least one destination.
fn routed(batch: &Batch, output: &Output) -> u64 {
    let count = match &output.content {
        Content::All(to) if to.0 != 0 => batch.lines.len(),
        Content::Keep(lines, to) if to.0 != 0 => lines.len(),
        Content::All(_) | Content::Keep(..) => 0,
        Content::Lines(lines) => {
            let mut last = None;
            let going = lines.iter().filter(|line| line.to.0 != 0);
            going
                .filter(|line| last.replace(line.line) != Some(line.line))
                .count()
        }
        Content::Payloads(payloads) => {
            let going = payloads.iter().filter(|payload| payload.to.0 != 0);
            let mut lines: Vec<u32> = going
                .flat_map(|payload| payload.lines.iter().copied())
                .collect();
            lines.sort_unstable();
            lines.dedup();
            lines.len()
        }
    };
    count as u64
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::role::logs::batch::{Line, Source, Span};
    use crate::role::logs::output::DestinationSet;

    const FILE: FileId = FileId {
        device: 1,
        inode: 2,
    };

    fn batch(generation: u64, start: u64, lines: u64) -> Batch {
        let mut batch = Batch::default();
        batch.spans.push(Span {
            file: FILE,
            generation,
            fingerprint: Fingerprint::default(),
            source: Arc::new(Source {
                path: Path::new("/x").into(),
                attributes: vec![],
            }),
            start,
            end: start + lines,
        });
        for n in 0..lines {
            batch.lines.push(Line {
                time: n as i64,
                offset: 0,
                length: 0,
                source: 0,
                flags: 0,
            });
            batch.positions.push(start + n);
        }
        batch
    }

    fn all() -> Output {
        Output {
            bytes: vec![],
            content: Content::All(DestinationSet(0b11)),
        }
    }

    fn names() -> Vec<String> {
        vec!["a".into(), "b".into()]
    }

    fn count(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }

    #[test]
    fn the_slowest_destination_holds_the_checkpoint_and_the_others_get_nothing_twice() {
        let ledger = Ledger::default();
        assert!(ledger.begin(&names()).is_empty());
        let parcel = ledger.enter(batch(0, 0, 10), all(), vec![]);
        ledger.settle(0, &parcel, &[]);
        assert_eq!(count(&ledger.counts.acknowledged), 0);
        let known = ledger.begin(&names());
        assert_eq!(known[0].offset, 0);
        assert_eq!(count(&ledger.counts.in_flight), 0);
        let again = ledger.enter(batch(0, 0, 12), all(), vec![]);
        assert_eq!(again.records(0).count(), 2);
        assert_eq!(again.records(1).count(), 12);
        ledger.settle(0, &again, &[]);
        ledger.settle(1, &again, &[3]);
        assert_eq!(count(&ledger.counts.acknowledged), 11);
        assert_eq!(count(&ledger.counts.dead_lettered), 1);
        assert_eq!(ledger.begin(&names())[0].offset, 12);
    }

    #[test]
    fn filtered_lines_are_counted_and_passed() {
        let ledger = Ledger::default();
        ledger.begin(&names());
        let output = Output {
            bytes: vec![],
            content: Content::Keep(vec![1], DestinationSet(1)),
        };
        let parcel = ledger.enter(batch(0, 0, 5), output, vec![]);
        ledger.settle(0, &parcel, &[]);
        ledger.settle(1, &parcel, &[]);
        assert_eq!(count(&ledger.counts.filtered), 4);
        assert_eq!(count(&ledger.counts.acknowledged), 1);
        assert_eq!(count(&ledger.counts.in_flight), 0);
    }

    #[test]
    fn a_new_generation_begins_at_nought() {
        let ledger = Ledger::default();
        ledger.begin(&names());
        let first = ledger.enter(batch(0, 0, 10), all(), vec![]);
        let second = ledger.enter(batch(1, 0, 3), all(), vec![]);
        ledger.settle(0, &first, &[]);
        ledger.settle(1, &first, &[]);
        ledger.settle(0, &second, &[]);
        let known = ledger.begin(&names());
        assert_eq!((known[0].generation, known[0].offset), (1, 0));
        let again = ledger.enter(batch(1, 0, 3), all(), vec![]);
        assert_eq!(again.records(0).count(), 0);
        assert_eq!(again.records(1).count(), 3);
    }

    #[test]
    fn a_file_that_is_gone_is_forgotten_after_its_last_parcel() {
        let ledger = Ledger::default();
        ledger.begin(&names());
        let parcel = ledger.enter(batch(0, 0, 1), all(), vec![]);
        ledger.gone(FILE, None);
        let mut commit = Commit::new("local/x");
        let uncommitted = ledger.collect(&mut commit);
        assert!(uncommitted.forgotten.is_empty());
        ledger.settle(0, &parcel, &[]);
        ledger.settle(1, &parcel, &[]);
        let uncommitted = ledger.collect(&mut commit);
        assert_eq!(uncommitted.forgotten, [FILE]);
        ledger.put_back(uncommitted);
        let uncommitted = ledger.collect(&mut commit);
        assert_eq!(uncommitted.forgotten, [FILE]);
    }

    #[test]
    fn a_new_destination_begins_where_the_slowest_is() {
        let ledger = Ledger::default();
        ledger.begin(&names());
        let parcel = ledger.enter(batch(0, 0, 10), all(), vec![]);
        ledger.settle(0, &parcel, &[]);
        ledger.settle(1, &parcel, &[]);
        let known = ledger.begin(&["b".to_owned(), "c".to_owned()]);
        assert_eq!(known[0].offset, 10);
        let next = ledger.enter(batch(0, 10, 1), all(), vec![]);
        assert!(next.delivered.is_empty());
    }
}
