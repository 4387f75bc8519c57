//! Counting what became of lines. Those of a parcel that was handed to all count when the last of them
//! has settled it, unless a detached destination lacks them: then they count as that passes them.

use super::super::output::{DestinationIndex, Parcel};
use super::entry::{self, Part};
use super::file::{File, Mark};
use super::{Books, Ledger};

impl Ledger {
    /// A destination has done with a parcel: every line of it that goes there was acknowledged or,
    /// if it is in `dead`, dead-lettered.
    pub(in crate::role::logs) fn settle(
        &self,
        destination: DestinationIndex,
        parcel: &Parcel,
        dead: &[u32],
    ) {
        let mut books = self.books();
        if parcel.entry.epoch != books.epoch {
            // Its lines are read again.
            return;
        }
        books.buried(parcel, dead);
        for part in &parcel.entry.parts {
            books.reach(destination, part);
        }
        if parcel.entry.waiting.is_none() {
            for index in 0..parcel.entry.parts.len() {
                books.pass(parcel, index);
            }
        }
        books.settled(destination, parcel);
    }
}

impl Books {
    /// Notes lines of a parcel that are in the dead letters, until every destination has passed them.
    pub(super) fn buried(&mut self, parcel: &Parcel, dead: &[u32]) {
        for &line in dead {
            let line = line as usize;
            let part = &parcel.entry.parts[parcel.batch.lines[line].source as usize];
            let position = Mark {
                generation: part.generation,
                offset: parcel.batch.last_position(line),
            };
            if let Some((file, _)) = self.file(part)
                && position >= file.counted
            {
                file.under_way.buried(position);
            }
        }
    }

    /// The file of a part, and whether its inode is another's by now.
    pub(super) fn file(&mut self, part: &Part) -> Option<(&mut File, bool)> {
        let current = self.files.get_mut(&part.file);
        let current = current.filter(|file| file.instance == part.instance);
        if let Some(file) = current {
            return Some((file, false));
        }
        let mut former = self.former.iter_mut().map(|(_, file)| file);
        let file = former.find(|file| file.instance == part.instance)?;
        Some((file, true))
    }

    /// A parcel that was handed to all does not wait for this destination any more.
    pub(super) fn settled(&mut self, destination: DestinationIndex, parcel: &Parcel) {
        if parcel.entry.epoch == self.epoch && parcel.entry.settled_by(destination) {
            for part in &parcel.entry.parts {
                self.complete(part);
            }
        }
    }

    /// Moves the destination's mark to the end of a part.
    fn reach(&mut self, destination: DestinationIndex, part: &Part) {
        if let Some((file, _)) = self.file(part)
            && let Some(mark) = file.marks.get_mut(destination)
            && part.end() > *mark
        {
            *mark = part.end();
            file.dirty = true;
            file.note(part.end(), part.footprint);
        }
    }

    /// Counts a part that every attached destination has settled.
    fn complete(&mut self, part: &Part) {
        let (mut tally, detached) = (self.tally, self.detached);
        let Some((file, _)) = self.file(part) else {
            return;
        };
        file.pending -= 1;
        let behind = |(index, mark): (DestinationIndex, &Mark)| {
            detached & (1 << index) != 0 && (*mark < part.end() || *mark < part.reach())
        };
        if !file.marks.iter().enumerate().any(behind) {
            if file.counted.generation < part.generation {
                // No destination reads the contents before this one any more.
                tally.give_up_truncated(file.under_way.take_before(part.generation));
            }
            let (passed, dead) = file.under_way.pass(part.end(), part.reach, &part.lines);
            tally.settle(passed, dead);
            file.count(part.end(), passed.amount);
        }
        self.tally = tally;
        self.counted(part);
    }

    /// Counts what a detached destination was the last to pass, with a part of its own.
    fn pass(&mut self, parcel: &Parcel, index: usize) {
        let part = &parcel.entry.parts[index];
        let mut tally = self.tally;
        let Some((file, _)) = self.file(part) else {
            return;
        };
        let until = file.low().min(part.end());
        if until > file.counted && until.generation == part.generation {
            let mut from = file.counted.offset;
            if file.counted.generation < part.generation {
                tally.give_up_truncated(file.under_way.take_before(part.generation));
                from = part.start;
            }
            if from < part.start {
                // It was not the last where it began. The rest is counted once it has caught up.
                self.tally = tally;
                return;
            }
            let lines = if from <= part.start && until == part.end() {
                part.lines
            } else {
                entry::lines_between(&parcel.batch, &parcel.output, index, from, until.offset)
            };
            let (passed, dead) = file.under_way.pass(until, until.offset, &lines);
            tally.settle(passed, dead);
            file.count(until, passed.amount);
        }
        self.tally = tally;
        self.counted(part);
    }

    /// Something of the part's file was counted.
    fn counted(&mut self, part: &Part) {
        let mut tally = self.tally;
        let Some((file, former)) = self.file(part) else {
            return;
        };
        if file.is_done() && file.under_way.lines() > 0 {
            // Lines that one destination had in another order, or joined in another way.
            file.pass_rest(&mut tally);
        }
        if former {
            let settled = std::mem::take(&mut file.uncommitted);
            self.orphaned += settled.now;
            self.orphaned += settled.before;
            self.former.retain(|(_, file)| !file.is_done());
        } else {
            self.forget_if_done(part.file);
        }
        self.tally = tally;
    }
}
