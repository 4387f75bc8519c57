//! A lane's end of a queue: one parcel after the other, each until it is settled.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::super::output::{DestinationIndex, Parcel};
use super::Settings;
use super::books::{Next, Search};
use super::merge::merge;
use super::parcel;
use super::segment::Found;
use super::shared::Shared;
use crate::failpoint;

/// How long a disk that cannot be read is left alone.
const WAIT: Duration = Duration::from_secs(1);

/// A lane's end of a queue.
pub(in crate::role::logs) struct Reader {
    shared: Arc<Shared>,
    lane: usize,
}

/// A record of the lane that was found, without its parcel if that is damaged.
type Read = (Found, Option<Parcel>);

impl Reader {
    pub(super) fn new(shared: Arc<Shared>, lane: usize) -> Self {
        Self { shared, lane }
    }

    /// The oldest parcel of the lane that is not settled; waits for one. The same again until
    /// [`Self::settle`]. None once the queue is closed. May be dropped while it waits.
    pub(in crate::role::logs) async fn next(&mut self) -> Option<Arc<Parcel>> {
        let shared = self.shared.clone();
        let Settings {
            destination,
            merged,
            ..
        } = shared.settings;
        while !shared.closing.is_cancelled() {
            let next = shared.books().next(self.lane, merged);
            match next {
                Next::Parcel(parcel) => return Some(parcel),
                Next::Merge(parcels) => {
                    let parcel = Arc::new(merge(&parcels, destination));
                    shared.books().merged(self.lane, parcel);
                }
                Next::Lost(lines) => self.lost(lines),
                Next::Read(search) => self.read(search).await,
                Next::Wait => {
                    tokio::select! {
                        () = shared.closing.cancelled() => {}
                        () = shared.lanes[self.lane].notified() => {}
                    }
                }
            }
        }
        None
    }

    /// What [`Self::next`] returned is settled: acknowledged or dead-lettered.
    pub(in crate::role::logs) fn settle(&mut self) {
        self.shared.books().settle(self.lane);
        self.shared.room.notify_one();
        failpoint::hit("queue.settled");
    }

    /// Then the books know more.
    async fn read(&self, search: Search) {
        let (lane, destination) = (self.lane as u32, self.shared.settings.destination);
        let task = tokio::task::spawn_blocking(move || {
            let read = find(&search, lane, destination);
            (search, read)
        });
        let failed = match task.await {
            Ok((search, Ok(records))) => {
                let mut books = self.shared.books();
                if records.is_empty() {
                    books.not_found(self.lane, &search);
                }
                let mut lost = 0;
                for (found, parcel) in records {
                    lost += books.found(self.lane, &search, found, parcel.map(Arc::new));
                }
                drop(books);
                return self.lost(lost);
            }
            Ok((_, Err(error))) => error,
            Err(error) => io::Error::other(error),
        };
        tracing::error!(queue = %self.shared.path.display(), lane, "cannot read: {failed}; it is tried again");
        if self.shared.books().no_more(self.lane) {
            return;
        }
        tokio::select! {
            () = self.shared.closing.cancelled() => {}
            () = tokio::time::sleep(WAIT) => {}
        }
    }

    fn lost(&self, lines: u64) {
        if lines > 0 {
            tracing::error!(queue = %self.shared.path.display(), lane = self.lane, lines,
                "damaged records are given up: check the disk");
            self.shared.watch.damaged(lines);
            self.shared.room.notify_one();
        }
    }
}

/// The records of the lane from where the search begins; at most what was asked for.
fn find(search: &Search, lane: u32, destination: DestinationIndex) -> io::Result<Vec<Read>> {
    let (mut at, mut bytes) = (search.from, 0);
    let mut records = Vec::new();
    while let Some(found) = search.segment.find(at, search.until)? {
        at = found.end();
        if found.header.lane != lane || found.header.lines_before < search.taken {
            continue;
        }
        let body = search.segment.body(&found)?;
        let mut parcel = body.and_then(|body| parcel::decode(&body, destination).ok());
        if let Some(parcel) = &mut parcel {
            parcel.batch.lane = lane as usize;
        }
        let damaged = parcel.is_none();
        bytes += found.header.length();
        records.push((found, parcel));
        if damaged || bytes >= search.bytes {
            break;
        }
    }
    Ok(records)
}
