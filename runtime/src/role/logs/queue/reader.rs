//! A lane's end of a queue: one parcel after the other, each until it is settled.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::super::output::{DestinationIndex, Parcel};
use super::books::{Next, Search};
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
type Read = Option<(Found, Option<Parcel>)>;

impl Reader {
    pub(super) fn new(shared: Arc<Shared>, lane: usize) -> Self {
        Self { shared, lane }
    }

    /// The oldest parcel of the lane that is not settled; waits for one. The same again until
    /// [`Self::settle`]. None once the queue is closed. May be dropped while it waits.
    pub(in crate::role::logs) async fn next(&mut self) -> Option<Arc<Parcel>> {
        let shared = self.shared.clone();
        while !shared.closing.is_cancelled() {
            let next = shared.books().next(self.lane);
            match next {
                Next::Parcel(parcel) => return Some(parcel),
                Next::Lost(lines) => self.lost(lines),
                Next::Read(search) => {
                    if let Some(parcel) = self.read(search).await {
                        return Some(parcel);
                    }
                }
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

    /// None if there is nothing to hand out: ask the books again.
    async fn read(&self, search: Search) -> Option<Arc<Parcel>> {
        let (lane, destination) = (self.lane as u32, self.shared.settings.destination);
        let task = tokio::task::spawn_blocking(move || {
            let read = find(&search, lane, destination);
            (search, read)
        });
        let failed = match task.await {
            Ok((search, Ok(None))) => {
                self.shared.books().not_found(self.lane, &search);
                return None;
            }
            Ok((search, Ok(Some((found, parcel))))) => {
                let parcel = parcel.map(Arc::new);
                let (lost, parcel) = self.shared.books().found(self.lane, &search, found, parcel);
                self.lost(lost);
                return parcel;
            }
            Ok((_, Err(error))) => error,
            Err(error) => io::Error::other(error),
        };
        tracing::error!(queue = %self.shared.path.display(), lane, "cannot read: {failed}; it is tried again");
        tokio::select! {
            () = self.shared.closing.cancelled() => {}
            () = tokio::time::sleep(WAIT) => {}
        }
        None
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

fn find(search: &Search, lane: u32, destination: DestinationIndex) -> io::Result<Read> {
    let mut at = search.from;
    while let Some(found) = search.segment.find(at, search.until)? {
        if found.header.lane == lane && found.header.lines_before >= search.taken {
            let body = search.segment.body(&found)?;
            let mut parcel = body.and_then(|body| parcel::decode(&body, destination).ok());
            if let Some(parcel) = &mut parcel {
                parcel.batch.lane = lane as usize;
            }
            return Ok(Some((found, parcel)));
        }
        at = found.end();
    }
    Ok(None)
}
