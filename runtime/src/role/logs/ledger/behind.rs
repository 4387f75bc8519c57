//! Destinations that are behind the others: parcels are not handed to them any more, so that they
//! hold up nobody, and each reads what it lacks by itself until it has caught up.
//!
//! Such a destination is *detached*. What was entered and not passed by it stays under way. It never
//! reads beyond what was entered for all, so a line is entered once.

use std::collections::HashMap;

use super::super::batch::{Batch, FileId, Span};
use super::super::output::{DestinationIndex, Output, Parcel};
use super::super::tail::{Known, Nameless};
use super::file::{File, Mark};
use super::tally::Amount;
use super::{Books, Entry, Ledger, Part, entry, note_delivered};

/// How far a detached destination has been handed what it lacks.
#[derive(Debug)]
pub(in crate::role::logs) struct CatchUp {
    destination: DestinationIndex,
    at: HashMap<FileId, Mark>,
}

/// What [`Ledger::enter_alone`] makes of a batch.
#[derive(Debug)]
pub(in crate::role::logs) enum Alone {
    /// It is to be handed on, to this destination alone.
    Entered(Parcel),
    /// It is not entered for all yet.
    Early(Batch, Output),
    /// It does not follow what was handed on: reading has to begin anew.
    Gap,
    /// The destination is not detached any more, and has these lines already or will get them.
    Attached,
}

impl Ledger {
    /// From now on parcels are not handed to this destination; the first that it does not get is
    /// `parcel`, which was entered last.
    pub(in crate::role::logs) fn detach(&self, destination: DestinationIndex, parcel: &Parcel) {
        let mut books = self.books();
        books.detached |= 1 << destination;
        let parts = &parcel.entry.parts;
        for file in books.all_files() {
            let part = parts.iter().find(|part| part.instance == file.instance);
            let handed = part.map_or(file.entered, Part::start);
            file.handed.push((destination, handed));
        }
    }

    /// Whether parcels are not handed to this destination.
    pub(in crate::role::logs) fn is_detached(&self, destination: DestinationIndex) -> bool {
        self.books().is_detached(destination)
    }

    /// Says that nothing more is entered for a moment, or that it is again: so that what was read
    /// beyond need not be waited for.
    pub(in crate::role::logs) fn pause(&self, pausing: bool) {
        self.books().pausing = pausing;
    }

    /// Takes a destination back that has everything that was entered. Returns whether it is, or was,
    /// attached.
    pub(in crate::role::logs) fn attach(&self, destination: DestinationIndex) -> bool {
        let mut books = self.books();
        let caught_up = books.behind(destination).is_none();
        if caught_up {
            books.detached &= !(1 << destination);
            for file in books.all_files() {
                file.handed.retain(|(other, _)| *other != destination);
            }
        }
        !books.is_detached(destination)
    }

    /// How many bytes of files a detached destination lacks of what was entered; none if it lacks
    /// nothing or is not detached.
    pub(in crate::role::logs) fn behind(&self, destination: DestinationIndex) -> Option<u64> {
        let books = self.books();
        books
            .is_detached(destination)
            .then(|| books.behind(destination))
            .flatten()
    }

    /// Where a detached destination goes on reading, which has settled all that it was handed: each
    /// known file, and those that were deleted and are still open.
    pub(in crate::role::logs) fn begin_catch_up(
        &self,
        destination: DestinationIndex,
    ) -> (CatchUp, Vec<Known>, Vec<Nameless>) {
        let books = self.books();
        let mut catch_up = CatchUp {
            destination,
            at: HashMap::new(),
        };
        let mut known = Vec::new();
        let mut nameless = Vec::new();
        for (&file, books) in &books.files {
            let Some(&mark) = books.marks.get(destination) else {
                continue;
            };
            if let Some((open, _)) = &books.nameless
                && mark < books.entered
            {
                // Without another descriptor it is tried again in the next round.
                nameless.extend(open.try_clone());
            }
            catch_up.at.insert(file, mark);
            known.push(Known {
                file,
                generation: books.generation,
                fingerprint: books.fingerprint,
                offset: books.offset(mark),
                taken_back: Amount::default(),
                path: books.path.to_path_buf(),
            });
        }
        (catch_up, known, nameless)
    }

    /// Enters a batch for one detached destination. `dead` as in [`Self::enter`].
    pub(in crate::role::logs) fn enter_alone(
        &self,
        catch_up: &mut CatchUp,
        batch: Batch,
        output: Output,
        dead: &[u32],
    ) -> Alone {
        let destination = catch_up.destination;
        let mut books = self.books();
        if !books.is_detached(destination) {
            return Alone::Attached;
        }
        let (mut parts, _) = entry::parts(&batch);
        let mut delivered = Vec::new();
        let clipped = match books.clip(&batch.spans) {
            Some(ends)
                if ends
                    .iter()
                    .zip(&batch.spans)
                    .all(|(end, span)| *end == span.end) =>
            {
                Vec::new()
            }
            Some(ends) if books.pausing => ends,
            _ => return Alone::Early(batch, output),
        };
        for (index, span) in batch.spans.iter().enumerate() {
            let Some(file) = books.holder(span) else {
                continue;
            };
            let own = file.marks.get(destination).copied().unwrap_or_default();
            let at = catch_up.at.get(&span.file).copied().unwrap_or(own);
            if at.generation == span.generation && at.offset < span.start {
                return Alone::Gap;
            }
            parts[index].instance = file.instance;
            let ahead = file.ahead(span).into_iter();
            let ahead = ahead.filter(|&(other, _)| other == destination).collect();
            note_delivered(&mut delivered, batch.spans.len(), index, ahead);
        }
        entry::route(&mut parts, &batch, &output);
        for (index, &end) in clipped.iter().enumerate() {
            let part = &mut parts[index];
            part.end = end;
            part.lines = entry::lines_between(&batch, &output, index, part.start, end);
        }
        for part in &parts {
            catch_up.at.insert(part.file, part.end());
            if let Some((file, _)) = books.file(part) {
                file.hand(destination, part.end());
            }
        }
        let entry = Entry {
            epoch: books.epoch,
            parts,
        };
        let parcel = Parcel {
            entry,
            batch,
            output,
            delivered,
            clipped,
        };
        books.buried(&parcel, dead);
        Alone::Entered(parcel)
    }

    /// Gives up what detached destinations lack of files that are closed, once it alone is under way.
    pub(in crate::role::logs) fn give_up_unreachable(&self) {
        let mut books = self.books();
        let books = &mut *books;
        if books.detached == 0 {
            return;
        }
        let detached = books.detached;
        let unreachable = |file: &File| {
            let settled = |(index, mark): (DestinationIndex, &Mark)| {
                *mark >= file.entered
                    || detached & (1 << index) != 0 && *mark >= file.handed(index).unwrap_or(*mark)
            };
            file.is_lost() && !file.is_done() && file.marks.iter().enumerate().all(settled)
        };
        let current = books.files.iter().filter(|(_, file)| unreachable(file));
        let ids: Vec<FileId> = current.map(|(&id, _)| id).collect();
        for id in ids {
            if let Some(file) = books.files.get_mut(&id) {
                let lost = file.under_way.take();
                tracing::warn!(path = %file.path.display(), lines = lost.amount.lines,
                    "lines of a deleted file were given up: a destination is too far behind");
                books.tally.give_up_deleted(lost);
            }
            books.forget(id);
        }
        for (_, mut file) in books.former.extract_if(.., |(_, file)| unreachable(file)) {
            // Its inode was free, so nothing holds it open.
            books.tally.give_up_deleted(file.under_way.take());
        }
    }
}

impl Books {
    fn all_files(&mut self) -> impl Iterator<Item = &mut File> {
        let former = self.former.iter_mut().map(|(_, file)| file);
        self.files.values_mut().chain(former)
    }

    pub(super) fn is_detached(&self, destination: DestinationIndex) -> bool {
        self.detached & (1 << destination) != 0
    }

    /// The file of which this span is.
    fn holder(&self, span: &Span) -> Option<&File> {
        let current = self.files.get(&span.file).into_iter();
        let former = self.former.iter();
        let former = former.filter(|(id, _)| *id == span.file);
        let mut files = current.chain(former.map(|(_, file)| file));
        files.find(|file| file.has(span.generation))
    }

    /// Where each span ends, of what was entered. None if there is nothing of any.
    fn clip(&self, spans: &[Span]) -> Option<Vec<u64>> {
        let end = |span: &Span| {
            let entered = self.holder(span).map(|file| file.entered);
            match entered.filter(|entered| entered.generation >= span.generation) {
                Some(entered) if entered.generation == span.generation => {
                    entered.offset.clamp(span.start, span.end)
                }
                Some(_) => span.end,
                None => span.start,
            }
        };
        let ends: Vec<u64> = spans.iter().map(end).collect();
        let mut both = ends.iter().zip(spans);
        // A span without a byte records a position alone.
        both.any(|(end, span)| {
            *end > span.start || self.holder(span).is_some() && span.start == span.end
        })
        .then_some(ends)
    }

    /// How many bytes a destination lacks of what was entered, if it lacks something: a content that
    /// was entered without a byte counts, too.
    fn behind(&self, destination: DestinationIndex) -> Option<u64> {
        let former = self.former.iter().map(|(_, file)| file);
        let lacking = self.files.values().chain(former).filter_map(|file| {
            let mark = *file.marks.get(destination)?;
            if mark >= file.entered {
                return None;
            }
            let has = if mark.generation == file.entered.generation {
                mark.offset
            } else {
                0
            };
            Some(file.entered.offset - has)
        });
        lacking.reduce(|all, more| all + more)
    }
}
