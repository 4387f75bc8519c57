//! A file, as the books know it.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use super::super::batch::{Fingerprint, Footprint, Span};
use super::super::output::DestinationIndex;
use super::super::queue;
use super::super::tail::Nameless;
use super::entry::Part;
use super::tally::{Amount, Tally};
use super::under_way::UnderWay;

/// A place in a file: how far a destination has come in it, for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Mark {
    pub(super) generation: u64,
    pub(super) offset: u64,
}

#[derive(Debug)]
pub(super) struct File {
    pub(super) path: Arc<Path>,
    pub(super) generation: u64,
    pub(super) fingerprint: Fingerprint,
    /// One for each destination.
    pub(super) marks: Vec<Mark>,
    /// Up to here the tally says what became of the lines. Never beyond a mark; before all of them
    /// only when a destination was removed or what a disk may have lost was taken back.
    pub(super) counted: Mark,
    /// End of what was entered last.
    pub(super) entered: Mark,
    /// How far the lines reach that were entered.
    pub(super) reach: Mark,
    /// What was entered and not counted.
    pub(super) under_way: UnderWay,
    /// What was read and is not handed on.
    pub(super) unsent: UnderWay,
    /// Parcels under way for all that cover it.
    pub(super) pending: usize,
    /// What stands before marks; see [`Self::note`].
    footprints: Vec<(Mark, Footprint)>,
    /// What the store has.
    pub(super) committed: Committed,
    /// Settled since that commit.
    pub(super) uncommitted: Uncommitted,
    /// How far each detached destination was handed it; those that it is not in were handed nothing.
    pub(super) handed: Vec<(DestinationIndex, Mark)>,
    /// Read before reading began anew, beyond `counted`, and to be read again.
    pub(super) owed: Amount,
    /// The tail has done with it for good.
    pub(super) gone: bool,
    /// If it was deleted: what it can be read through again, and since when that is kept.
    pub(super) nameless: Option<(Nameless, Instant)>,
    pub(super) dirty: bool,
    /// Tells apart the files that this inode was given to.
    pub(super) instance: u64,
    /// The first of its generations.
    born: u64,
}

/// What the last commit says of a file.
#[derive(Debug, Clone)]
pub(super) struct Committed {
    pub(super) marks: Vec<Mark>,
    pub(super) counted: Mark,
}

/// Lines that are settled but not committed: a disk that fails may take them back.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Uncommitted {
    /// Of the present content.
    pub(super) now: Amount,
    /// Of contents that are no more.
    pub(super) before: Amount,
}

impl File {
    /// With every destination at its mark, and nothing under way.
    pub(super) fn at(
        path: Arc<Path>,
        fingerprint: Fingerprint,
        marks: Vec<Mark>,
        generation: u64,
        instance: u64,
    ) -> Self {
        let low = marks.iter().copied().min();
        let low = low.unwrap_or(Mark {
            generation,
            offset: 0,
        });
        Self {
            path,
            generation,
            fingerprint,
            counted: low,
            entered: low,
            reach: low,
            under_way: UnderWay::default(),
            unsent: UnderWay::default(),
            pending: 0,
            footprints: Vec::new(),
            committed: Committed {
                marks: marks.clone(),
                counted: low,
            },
            marks,
            uncommitted: Uncommitted::default(),
            handed: Vec::new(),
            owed: Amount::default(),
            gone: false,
            nameless: None,
            dirty: false,
            instance,
            born: generation,
        }
    }

    /// First seen in this span.
    pub(super) fn new(span: &Span, destinations: usize, instance: u64) -> Self {
        let start = Mark {
            generation: span.generation,
            offset: span.start,
        };
        let marks = vec![start; destinations];
        let path = span.source.path.clone();
        let mut file = Self::at(path, span.fingerprint, marks, span.generation, instance);
        file.dirty = true;
        file
    }

    /// What was delivered of it says nothing: see [`Span::again`].
    fn begin_again(&mut self) {
        let start = Mark {
            generation: self.generation,
            offset: 0,
        };
        self.marks.fill(start);
        (self.counted, self.entered, self.reach) = (start, start, start);
        self.committed = Committed {
            marks: self.marks.clone(),
            counted: start,
        };
        self.footprints.clear();
        self.dirty = true;
    }

    /// Takes note of a stretch that follows what is known.
    pub(super) fn enter(&mut self, span: &Span, part: &Part) {
        if span.again && span.start == 0 {
            self.begin_again();
        }
        if span.generation > self.generation {
            let lost = std::mem::take(&mut self.uncommitted.now);
            self.uncommitted.before += lost;
        }
        if span.generation >= self.generation {
            self.generation = span.generation;
            self.fingerprint = span.fingerprint;
            self.path = span.source.path.clone();
        }
        if span.generation == self.entered.generation && span.start > self.entered.offset {
            // What lies between is not to be read, as in a copy.
            let (before, start) = (self.entered, part.start());
            let marks = self.marks.iter_mut().chain([&mut self.counted]);
            marks
                .filter(|mark| **mark == before)
                .for_each(|mark| *mark = start);
        }
        self.entered = part.end();
        self.reach = self.reach.max(part.reach());
    }

    /// A destination's offset in the file's present content.
    pub(super) fn offset(&self, mark: Mark) -> u64 {
        if mark.generation == self.generation {
            mark.offset
        } else {
            0
        }
    }

    /// How far every destination has come.
    pub(super) fn low(&self) -> Mark {
        let low = self.marks.iter().copied().min();
        low.unwrap_or(self.counted)
    }

    /// Whether every destination has all that was entered.
    pub(super) fn is_passed(&self) -> bool {
        self.low() >= self.entered
    }

    /// Whether a destination with this mark lacks something that was entered. It may while a record is
    /// open that lines of another stream came after.
    pub(super) fn lacks(&self, mark: Mark) -> bool {
        mark < self.entered || mark < self.reach
    }

    /// Whether nothing is under way.
    pub(super) fn is_done(&self) -> bool {
        self.pending == 0 && self.is_passed()
    }

    /// Whether a content of this generation is, or was, this file's.
    pub(super) fn has(&self, generation: u64) -> bool {
        (self.born..=self.generation).contains(&generation)
    }

    /// How far a detached destination was handed it, if it was.
    pub(super) fn handed(&self, destination: DestinationIndex) -> Option<Mark> {
        let mut handed = self.handed.iter();
        handed
            .find(|(other, _)| *other == destination)
            .map(|(_, mark)| *mark)
    }

    pub(super) fn hand(&mut self, destination: DestinationIndex, until: Mark) {
        self.handed.retain(|(other, _)| *other != destination);
        self.handed.push((destination, until));
    }

    /// The destinations that have some of a span already, and up to which offset.
    pub(super) fn ahead(&self, span: &Span) -> Vec<(DestinationIndex, u64)> {
        let marks = self.marks.iter().enumerate();
        let ahead = marks
            .filter(|(_, mark)| mark.generation == span.generation && mark.offset > span.start);
        ahead
            .map(|(destination, mark)| (destination, mark.offset))
            .collect()
    }

    /// The tally has everything up to `until`, and with it lines that were settled.
    pub(super) fn count(&mut self, until: Mark, settled: Amount) {
        self.counted = self.counted.max(until);
        self.dirty = true;
        if until.generation == self.generation {
            self.uncommitted.now += settled;
        } else {
            self.uncommitted.before += settled;
        }
    }

    /// Counts the rest of what was entered as settled: every destination has passed it.
    pub(super) fn pass_rest(&mut self, tally: &mut Tally) {
        tally.give_up_truncated(self.under_way.take_before(self.entered.generation));
        let (rest, dead) = self.under_way.pass_all();
        tally.settle(rest, dead);
        self.count(self.entered, rest.amount);
    }

    /// Goes over from the destinations `old` to `new`: those that were there before go on where they
    /// were, others begin where the slowest is.
    pub(super) fn reassign(&mut self, old: &[String], new: &[String]) {
        let over = |marks: &[Mark]| {
            let low = marks.iter().copied().min().unwrap_or_default();
            let mark = |name: &String| {
                let index = old.iter().position(|other| other == name);
                let own = index.and_then(|index| marks.get(index).copied());
                own.unwrap_or(low)
            };
            new.iter().map(mark).collect()
        };
        self.marks = over(&self.marks);
        self.committed.marks = over(&self.committed.marks);
    }

    /// A destination's queue holds everything before `end`, if that is of the present content: earlier
    /// ones are not read any more, and a later one is not known to be the queue's.
    pub(super) fn raise(&mut self, destination: DestinationIndex, end: &queue::End) {
        let footprint = end.footprint;
        let end = Mark {
            generation: end.generation,
            offset: end.offset,
        };
        if let Some(mark) = self.marks.get_mut(destination)
            && end.generation == self.generation
            && end > *mark
        {
            *mark = end;
            self.dirty = true;
            self.note(end, footprint);
        }
    }

    /// Notes what stands before a mark, if it is known; forgets what no mark needs.
    pub(super) fn note(&mut self, mark: Mark, footprint: Option<Footprint>) {
        let Some(footprint) = footprint.filter(|print| print.offset == mark.offset) else {
            return;
        };
        if self.footprints.contains(&(mark, footprint)) {
            return;
        }
        if self.footprints.len() > self.marks.len() {
            let marks = &self.marks;
            self.footprints.retain(|(mark, _)| marks.contains(mark));
        }
        self.footprints.push((mark, footprint));
    }

    /// What stands before the marks in the present content.
    pub(super) fn footprints(&self) -> Vec<Footprint> {
        let present = |mark: &Mark| mark.generation == self.generation && self.marks.contains(mark);
        let known = self.footprints.iter();
        known
            .filter(|(mark, _)| present(mark))
            .map(|(_, footprint)| *footprint)
            .collect()
    }

    /// Where reading resumes. What a destination has beyond that is not sent to it again.
    pub(super) fn resume(&self) -> u64 {
        self.offset(self.counted)
    }

    /// Whether what was read of it and not settled can never be read again.
    pub(super) fn is_lost(&self) -> bool {
        self.gone && self.nameless.is_none()
    }
}
