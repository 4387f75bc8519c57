//! Destinations that are behind the others: parcels are not handed to them any more, so that they
//! hold up nobody, and each reads what it lacks by itself until it has caught up.
//!
//! Such a destination is *detached*. What was entered and not passed by it stays under way. It is never
//! handed what was not entered for all, so a line is entered once.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};

use super::super::batch::{Batch, FileId};
use super::super::output::{DestinationIndex, Output, Parcel};
use super::super::queue;
use super::super::tail::{Known, Nameless};
use super::file::{File, Mark};
use super::tally::Amount;
use super::{Books, Entry, Ledger, Part, entry, note_delivered};

/// How far a detached destination has been handed what it lacks.
#[derive(Debug)]
pub(in crate::role::logs) struct CatchUp {
    destination: DestinationIndex,
    at: HashMap<FileId, Mark>,
    /// The deleted files that its tail was given.
    given: HashSet<FileId>,
    /// Whether something was handed on in part.
    clipped: bool,
}

/// What [`Ledger::may_enter`] says of a batch.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::role::logs) enum May {
    /// All of it.
    Whole,
    /// Of each span what comes before this offset.
    Clipped(Vec<u64>),
    /// It is not entered for all yet.
    Early,
    /// It does not follow what was handed on: reading has to begin anew.
    Gap,
    /// The destination is not detached any more, and has these lines already or will get them.
    Attached,
}

impl Ledger {
    /// From now on parcels are not handed to this destination; the first that it does not get is
    /// `parcel`, which was entered last, or whatever is entered next.
    pub(in crate::role::logs) fn detach(
        &self,
        destination: DestinationIndex,
        parcel: Option<&Parcel>,
    ) {
        let mut books = self.books();
        books.detached |= 1 << destination;
        let parts = parcel.map_or(&[][..], |parcel| &parcel.entry.parts);
        for file in books.all_files() {
            let part = parts.iter().find(|part| part.instance == file.instance);
            let handed = part.map_or(file.entered, Part::start);
            file.handed.push((destination, handed));
        }
        if let Some(parcel) = parcel {
            books.settled(destination, parcel);
        }
    }

    /// The queue of a detached destination, which was handed nothing yet, has this of the files.
    pub(in crate::role::logs) fn raise(
        &self,
        destination: DestinationIndex,
        ends: &HashMap<FileId, queue::End>,
    ) {
        let mut books = self.books();
        let books = &mut *books;
        if !books.is_detached(destination) {
            return;
        }
        for (id, end) in ends {
            let Some(file) = books.files.get_mut(id) else {
                continue;
            };
            file.raise(destination, end);
            if file.is_done() {
                file.pass_rest(&mut books.tally);
            }
            books.forget_if_done(*id);
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
            given: HashSet::new(),
            clipped: false,
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
                if let Ok(open) = open.try_clone() {
                    catch_up.given.insert(file);
                    nameless.push(open);
                }
            }
            catch_up.at.insert(file, mark);
            known.push(Known {
                file,
                generation: books.generation,
                fingerprint: books.fingerprint,
                offset: books.offset(mark),
                taken_back: Amount::default(),
                footprints: books.footprints(),
                path: books.path.to_path_buf(),
            });
        }
        (catch_up, known, nameless)
    }

    /// Whether a batch may be entered for a detached destination by now.
    pub(in crate::role::logs) fn may_enter(
        &self,
        catch_up: &CatchUp,
        batch: &Batch,
        output: &Output,
    ) -> May {
        let (parts, _) = entry::parts(batch);
        let books = self.books();
        if !books.is_detached(catch_up.destination) {
            return May::Attached;
        }
        if catch_up.clipped && !books.pausing {
            return May::Gap;
        }
        let mut whole = true;
        let mut clip = Vec::with_capacity(parts.len());
        for part in &parts {
            let Some(file) = books.holder(part) else {
                whole = false;
                clip.push(part.start);
                continue;
            };
            let own = file.marks.get(catch_up.destination);
            let at = catch_up.at.get(&part.file).or(own);
            let at = at.copied().unwrap_or_default();
            let follows = if at.generation == part.generation {
                part.start <= at.offset
            } else {
                // One between that and the latest may be another content than the books' of that number.
                part.generation > at.generation && part.generation >= file.generation
            };
            if !follows {
                return May::Gap;
            }
            whole &= file.entered >= part.reach();
            clip.push(match file.entered.generation.cmp(&part.generation) {
                Ordering::Less => part.start,
                Ordering::Equal => file.entered.offset.clamp(part.start, part.end),
                Ordering::Greater => part.end,
            });
        }
        let pausing = books.pausing;
        drop(books);
        let some = |(part, clip): (&Part, &u64)| *clip > part.start;
        let open = |part: &Part| part.reach > part.end;
        if whole {
            May::Whole
        } else if pausing
            && parts.iter().zip(&clip).any(some)
            && !parts.iter().any(open)
            && entry::cuts_clean(batch, output, &clip)
        {
            May::Clipped(clip)
        } else {
            May::Early
        }
    }

    /// Enters a batch for one detached destination, as far as [`Self::may_enter`] has said. `dead` as in
    /// [`Self::enter`]. None if the destination is not detached any more.
    pub(in crate::role::logs) fn enter_alone(
        &self,
        catch_up: &mut CatchUp,
        batch: Batch,
        output: Output,
        clip: Vec<u64>,
        dead: &[u32],
    ) -> Option<Parcel> {
        let destination = catch_up.destination;
        let (mut parts, _) = entry::parts(&batch);
        entry::route(&mut parts, &batch, &output);
        for (index, &end) in clip.iter().enumerate() {
            let part = &mut parts[index];
            part.end = end;
            part.lines = entry::lines_between(&batch, &output, index, part.start, end);
        }
        let mut books = self.books();
        if !books.is_detached(destination) {
            return None;
        }
        catch_up.clipped |= !clip.is_empty();
        let mut delivered = Vec::new();
        for (index, span) in batch.spans.iter().enumerate() {
            let Some(file) = books.holder(&parts[index]) else {
                continue;
            };
            parts[index].instance = file.instance;
            let ahead = file.ahead(span).into_iter();
            let ahead = ahead.filter(|&(other, _)| other == destination).collect();
            note_delivered(&mut delivered, batch.spans.len(), index, ahead);
        }
        for part in &parts {
            catch_up.at.insert(part.file, part.end());
            if let Some((file, _)) = books.file(part) {
                file.hand(destination, part.end());
            }
        }
        let entry = Entry {
            epoch: books.epoch,
            waiting: None,
            parts,
        };
        let parcel = Parcel {
            entry,
            batch,
            output,
            delivered,
            clipped: clip,
        };
        books.buried(&parcel, dead);
        Some(parcel)
    }

    /// Whether another round would get something that this one does not: a file that was deleted since
    /// it began, or what comes after a clip.
    pub(in crate::role::logs) fn is_stale(&self, catch_up: &CatchUp) -> bool {
        let books = self.books();
        let deleted = |(id, file): (&FileId, &File)| {
            let mark = file.marks.get(catch_up.destination);
            file.nameless.is_some()
                && mark.is_some_and(|mark| *mark < file.entered)
                && !catch_up.given.contains(id)
        };
        catch_up.clipped && !books.pausing || books.files.iter().any(deleted)
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

    /// The file that a part is of which is not entered yet.
    fn holder(&self, part: &Part) -> Option<&File> {
        let current = self.files.get(&part.file).into_iter();
        let former = self.former.iter();
        let former = former.filter(|(id, _)| *id == part.file);
        let mut files = current.chain(former.map(|(_, file)| file));
        files.find(|file| file.has(part.generation))
    }

    /// How many bytes a destination lacks of what was entered, if it lacks something: a content that
    /// was entered without a byte counts, too.
    fn behind(&self, destination: DestinationIndex) -> Option<u64> {
        let former = self.former.iter().map(|(_, file)| file);
        let lacking = self.files.values().chain(former).filter_map(|file| {
            let mark = *file.marks.get(destination)?;
            if !file.lacks(mark) {
                return None;
            }
            let has = if mark.generation == file.entered.generation {
                mark.offset
            } else {
                0
            };
            Some(file.entered.offset.saturating_sub(has))
        });
        lacking.reduce(|all, more| all + more)
    }
}
