//! The task that writes: takes what was appended, groups it, makes it durable with one sync, and only
//! then shows it to the lanes. Waits where there is no room.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout_at};

use super::super::output::Parcel;
use super::books::Waiting;
use super::disk::{self, Disk};
use super::frame::SEGMENT_HEADER;
use super::parcel::{self, Encoded};
use super::segment::{Found, Segment};
use super::shared::{Problem, Shared, lock};
use crate::failpoint;
use crate::manifest::WhenFull;

/// A lot to write, in bytes of lines.
const GROUP: usize = 1 << 20;
/// How long a failing disk is left alone, at first and at most.
const WAIT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// A queue that is full looks again this often, whatever it is told.
const LOOK: Duration = Duration::from_secs(1);

/// A parcel on its way to the disk.
struct Item {
    parcel: Arc<Parcel>,
    /// Absent if nothing in it goes to this destination.
    encoded: Option<Encoded>,
    /// Where it is written, if it is.
    place: Option<(Arc<Segment>, Found)>,
}

/// How far a group has come.
enum Outcome {
    Done,
    Full,
    Failed(io::Error),
}

/// Works until the channel is closed and empty, or the queue is closed while there is no room.
pub(super) async fn run(shared: Arc<Shared>, mut appended: mpsc::Receiver<Arc<Parcel>>) {
    let mut due = Instant::now();
    loop {
        let first = tokio::select! {
            biased;
            () = shared.closing.cancelled(), if !appended.is_closed() => {
                appended.close();
                continue;
            }
            first = appended.recv() => first,
        };
        let Some(first) = first else { return };
        let mut bytes = size(&first);
        let mut parcels = vec![first];
        while bytes < GROUP {
            let Ok(Some(next)) = timeout_at(due, appended.recv()).await else {
                break;
            };
            bytes += size(&next);
            parcels.push(next);
        }
        if !keep(&shared, parcels).await {
            return;
        }
        due = Instant::now() + shared.settings.pace;
    }
}

fn size(parcel: &Parcel) -> usize {
    parcel.batch.bytes.len() + parcel.output.bytes.len()
}

/// Returns false if it ends before all are kept.
async fn keep(shared: &Arc<Shared>, parcels: Vec<Arc<Parcel>>) -> bool {
    let (mut rest, mut parcels) = (VecDeque::new(), Some(parcels));
    let mut wait = WAIT.0;
    loop {
        let (this, parcels) = (shared.clone(), parcels.take().unwrap_or_default());
        let before = rest.len() + parcels.len();
        let written = tokio::task::spawn_blocking(move || {
            rest.extend(parcels.into_iter().map(|parcel| Item::new(parcel, &this)));
            Group::new(&this, rest).write()
        });
        let outcome = match written.await {
            Ok((left, outcome)) => {
                rest = left;
                outcome
            }
            Err(error) => {
                shared.set(Problem::Bug(error.to_string()));
                return false;
            }
        };
        let outcome = match outcome {
            Outcome::Full if rest.len() < before => continue,
            Outcome::Full => match shared.free().await {
                Ok(true) => continue,
                Ok(false) => Outcome::Full,
                Err(error) => Outcome::Failed(error),
            },
            Outcome::Failed(error) => match shared.free().await {
                Ok(true) => continue,
                _ => Outcome::Failed(error),
            },
            Outcome::Done => Outcome::Done,
        };
        let pause = match outcome {
            Outcome::Done => {
                shared.set(Problem::None);
                return true;
            }
            Outcome::Full => {
                shared.set(Problem::Full);
                LOOK
            }
            Outcome::Failed(error) => {
                shared.set(Problem::Write(error));
                let pause = wait;
                wait = (wait * 2).min(WAIT.1);
                pause
            }
        };
        tokio::select! {
            biased;
            () = shared.closing.cancelled() => return false,
            () = shared.room.notified() => {}
            () = sleep(pause) => {}
        }
    }
}

impl Item {
    fn new(parcel: Arc<Parcel>, shared: &Shared) -> Self {
        Self {
            encoded: parcel::encode(&parcel, shared.settings.destination),
            parcel,
            place: None,
        }
    }
}

/// Parcels that are made durable together.
struct Group<'a> {
    shared: &'a Shared,
    disk: MutexGuard<'a, Disk>,
    /// Not written yet.
    rest: VecDeque<Item>,
    /// Written, or nothing to write, and not synced.
    written: Vec<Item>,
}

impl<'a> Group<'a> {
    fn new(shared: &'a Shared, rest: VecDeque<Item>) -> Self {
        Self {
            shared,
            disk: lock(&shared.disk),
            rest,
            written: Vec::new(),
        }
    }

    /// Keeps as much as there is room for. Returns the rest.
    fn write(mut self) -> (VecDeque<Item>, Outcome) {
        let mut outcome = Outcome::Done;
        while let Some(mut item) = self.rest.pop_front() {
            match self.write_one(&mut item) {
                Ok(true) => {
                    self.written.push(item);
                    continue;
                }
                Ok(false) => outcome = Outcome::Full,
                Err(error) => outcome = Outcome::Failed(error),
            }
            self.rest.push_front(item);
            break;
        }
        if let Err(error) = self.flush() {
            outcome = Outcome::Failed(error);
        }
        let begun = self.disk.written() > SEGMENT_HEADER as u64;
        if matches!(outcome, Outcome::Failed(_)) && begun && self.disk.unsynced() == 0 {
            // On a full disk, what was delivered of this segment is the room for the next.
            self.shared.seal(&mut self.disk);
        }
        (self.rest, outcome)
    }

    /// Returns false if there is no room.
    fn write_one(&mut self, item: &mut Item) -> io::Result<bool> {
        let Some(encoded) = &item.encoded else {
            return Ok(true);
        };
        let length = disk::length(encoded);
        if !self.make_room(length)? {
            return Ok(false);
        }
        let written = self.disk.written();
        if written > SEGMENT_HEADER as u64 && written + length > self.shared.settings.segment {
            self.flush()?;
            self.shared.seal(&mut self.disk);
        }
        let lanes = self.shared.settings.lanes;
        let lane = item.parcel.batch.lane % lanes;
        let mine = |item: &&Item| item.parcel.batch.lane % lanes == lane;
        let lines = |item: &Item| item.encoded.as_ref().map_or(0, |e| u64::from(e.lines));
        let before: u64 = self.written.iter().filter(mine).map(lines).sum();
        let number = self
            .written
            .iter()
            .filter(|item| item.place.is_some())
            .count() as u64;
        let (number, before) = {
            let books = self.shared.books();
            (books.number + number, books.kept(lane) + before)
        };
        match self.disk.append(lane as u32, number, before, encoded) {
            Ok(place) => {
                item.place = Some(place);
                Ok(true)
            }
            Err(error) => {
                self.disk.cut_back();
                Err(error)
            }
        }
    }

    /// Returns false if there is no room for a record, having done what leads to some.
    fn make_room(&mut self, length: u64) -> io::Result<bool> {
        let shared = self.shared;
        let (bytes, idle) = {
            let books = shared.books();
            (books.bytes() + self.disk.unsynced(), books.is_idle())
        };
        // One that is larger than the queue has it for itself.
        if bytes == 0 || bytes + length <= shared.settings.max_size {
            return Ok(true);
        }
        if self.disk.unsynced() > 0 || shared.can_free() {
            return Ok(false);
        }
        let active = self.disk.active();
        if idle {
            shared.seal(&mut self.disk);
        } else if shared.settings.when_full == WhenFull::DropOldest
            && !shared.drop_oldest(active)?
            && active.is_some_and(|active| !shared.books().is_at_work(active))
        {
            shared.seal(&mut self.disk);
            shared.drop_oldest(None)?;
        }
        Ok(false)
    }

    /// Makes durable what is written, and hands it over. After an error it is to be written again.
    fn flush(&mut self) -> io::Result<()> {
        if let Err(error) = self.disk.sync() {
            self.shared.give_up_segment(&mut self.disk);
            while let Some(mut item) = self.written.pop() {
                item.place = None;
                self.rest.push_front(item);
            }
            return Err(error);
        }
        let kept = std::mem::take(&mut self.written);
        for item in &kept {
            let lines = item.encoded.as_ref().map_or(0, |encoded| encoded.lines);
            self.shared.watch.kept(&item.parcel, lines);
        }
        failpoint::hit("queue.kept");
        let count = kept.len();
        let waiting = kept.into_iter().filter_map(|item| {
            let (segment, found) = item.place?;
            Some((segment, found, item.parcel))
        });
        let waiting = waiting.map(|(segment, found, parcel)| Waiting {
            parcel,
            segment,
            found,
        });
        self.shared.publish(waiting.collect());
        self.shared.unkept.fetch_sub(count, Ordering::Release);
        Ok(())
    }
}
