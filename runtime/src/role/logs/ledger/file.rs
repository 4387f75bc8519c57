//! A file, as the books know it.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use super::super::batch::{Fingerprint, Span};
use super::super::tail::Nameless;
use super::tally::Amount;

/// How far a destination has come in a file.
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
    /// The marks that the store has.
    pub(super) committed: Vec<Mark>,
    /// Settled since that commit.
    pub(super) uncommitted: Uncommitted,
    /// Read by a tail that has stopped, beyond `entered` or up to it, and to be read again.
    pub(super) owed: Owed,
    /// Settled before `entered`, and taken back because a disk may have lost it.
    pub(super) rolled_back: Owed,
    /// End of what was entered last.
    pub(super) entered: Mark,
    /// Parcels under way that cover it.
    pub(super) pending: usize,
    /// The tail has done with it for good.
    pub(super) gone: bool,
    /// If it was deleted: what it can be read through again, and since when that is kept.
    pub(super) nameless: Option<(Nameless, Instant)>,
    pub(super) dirty: bool,
    /// The first parcel of this file; earlier ones are of another that had its inode before.
    pub(super) since: u64,
}

/// Lines that are settled but not committed: a disk that fails may take them back.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Uncommitted {
    /// Of the present content.
    pub(super) now: Amount,
    /// Of contents that are no more.
    pub(super) before: Amount,
}

/// What has to be read again, and from where.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Owed {
    pub(super) amount: Amount,
    pub(super) from: Option<u64>,
}

impl Owed {
    pub(super) fn add(&mut self, amount: Amount, from: u64) {
        self.amount += amount;
        self.from = Some(self.from.map_or(from, |before| before.min(from)));
    }
}

impl File {
    /// First seen in parcel `sequence`.
    pub(super) fn new(span: &Span, destinations: usize, sequence: u64) -> Self {
        let start = Mark {
            generation: span.generation,
            offset: span.start,
        };
        Self {
            path: span.source.path.clone(),
            generation: span.generation,
            fingerprint: span.fingerprint,
            marks: vec![start; destinations],
            committed: vec![start; destinations],
            uncommitted: Uncommitted::default(),
            owed: Owed::default(),
            rolled_back: Owed::default(),
            entered: start,
            pending: 0,
            gone: false,
            nameless: None,
            dirty: true,
            since: sequence,
        }
    }

    /// Takes note of a stretch that follows what is known.
    pub(super) fn enter(&mut self, span: &Span) {
        self.pending += 1;
        if span.generation > self.generation {
            let lost = std::mem::take(&mut self.uncommitted.now);
            self.uncommitted.before += lost;
        }
        if span.generation >= self.generation {
            self.generation = span.generation;
            self.fingerprint = span.fingerprint;
            self.path = span.source.path.clone();
        }
        self.entered = Mark {
            generation: span.generation,
            offset: span.end,
        };
    }

    /// A destination's offset in the file's present content.
    pub(super) fn offset(&self, mark: Mark) -> u64 {
        if mark.generation == self.generation {
            mark.offset
        } else {
            0
        }
    }

    pub(super) fn low_water(&self) -> u64 {
        let offsets = self.marks.iter().map(|&mark| self.offset(mark));
        offsets.min().unwrap_or(0)
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
        (self.marks, self.committed) = (over(&self.marks), over(&self.committed));
    }

    /// Where reading resumes. What a destination has of it already is not sent to it again.
    pub(super) fn resume(&self) -> u64 {
        let again = [self.owed.from, self.rolled_back.from];
        let again = again.into_iter().flatten();
        again.fold(self.low_water(), u64::min)
    }

    /// Whether a part that ends there is read again, whatever the marks say.
    pub(super) fn reads_again(&self, end: u64) -> bool {
        let again = [self.owed.from, self.rolled_back.from];
        again.into_iter().flatten().any(|from| from < end)
    }

    /// Whether what was read of it and not settled can never be read again.
    pub(super) fn is_lost(&self) -> bool {
        self.gone && self.nameless.is_none()
    }
}
