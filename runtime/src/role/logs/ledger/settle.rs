//! Counting what became of lines: each when the last destination passes it.

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
        for index in 0..parcel.entry.parts.len() {
            books.pass(destination, parcel, index);
        }
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

    /// Moves the destination's mark to the end of a part, and counts what it was the last to pass.
    fn pass(&mut self, destination: DestinationIndex, parcel: &Parcel, index: usize) {
        let part = &parcel.entry.parts[index];
        let mut tally = self.tally;
        let Some((file, former)) = self.file(part) else {
            return;
        };
        let Some(mark) = file.marks.get_mut(destination) else {
            return;
        };
        if part.end() > *mark {
            *mark = part.end();
            file.dirty = true;
        }
        let until = file.low().min(part.end());
        if until <= file.counted || until.generation != part.generation {
            return;
        }
        let mut from = file.counted.offset;
        if file.counted.generation < part.generation {
            // No destination reads the contents before this one any more.
            tally.give_up_truncated(file.under_way.take_before(part.generation));
            from = part.start;
        }
        let lines = if from <= part.start && until == part.end() {
            part.lines
        } else {
            entry::lines_between(&parcel.batch, &parcel.output, index, from, until.offset)
        };
        let (passed, dead) = file.under_way.pass(until, &lines);
        tally.settle(passed, lines.routed, dead);
        file.count(until, passed.amount);
        if file.counted >= file.entered {
            // Nothing, unless destinations joined lines in different ways.
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
