//! The writing end: appends records, makes them durable, and removes what is not needed. Everything
//! here blocks.
//!
//! Rules:
//! 1. What was not synced was never promised: after a failed write or sync the segment is cut back to
//!    its last synced length, and the same records can be appended again, under the same numbers.
//! 2. After a failed sync the segment is left alone: the kernel reports lost pages once and calls
//!    them clean afterwards.
//! 3. A segment is removed only after the cursor says that nothing in it is needed.

use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::cursor::{Cursor, CursorFile};
use super::folder::Folder;
use super::frame::{Key, RECORD_HEADER, RecordHeader, SEGMENT_HEADER, SegmentHeader, checksum};
use super::parcel::Encoded;
use super::segment::{self, Found, Segment};
use crate::failpoint;

#[derive(Debug)]
pub(super) struct Disk {
    pub(super) folder: Folder,
    key: Key,
    lanes: u32,
    cursor: CursorFile,
    pub(super) active: Option<Active>,
    /// The number of the next segment.
    next: u64,
    /// What goes wrong next.
    #[cfg(test)]
    pub(super) faults: Faults,
}

/// The segment that is appended to.
#[derive(Debug)]
pub(super) struct Active {
    pub(super) segment: Arc<Segment>,
    pub(super) written: u64,
    pub(super) synced: u64,
}

/// How many of the next calls fail, and whether failed writes can be taken back.
#[cfg(test)]
#[derive(Debug, Default)]
pub(super) struct Faults {
    pub(super) no_cuts: bool,
    pub(super) writes: u32,
    pub(super) syncs: u32,
    pub(super) cursors: u32,
}

#[cfg(test)]
fn fail(count: &mut u32) -> io::Result<()> {
    match count.checked_sub(1) {
        None => Ok(()),
        Some(left) => {
            *count = left;
            Err(rustix::io::Errno::NOSPC.into())
        }
    }
}

impl Disk {
    /// Appends to a new segment, which will have the number `next`.
    pub(super) fn new(folder: Folder, key: Key, lanes: u32, cursor: CursorFile, next: u64) -> Self {
        Self {
            folder,
            key,
            lanes,
            cursor,
            active: None,
            next,
            #[cfg(test)]
            faults: Faults::default(),
        }
    }

    /// Appends a record, not yet durable.
    pub(super) fn append(
        &mut self,
        lane: u32,
        number: u64,
        lines_before: u64,
        encoded: &Encoded,
    ) -> io::Result<(Arc<Segment>, Found)> {
        let header = RecordHeader {
            lane,
            number,
            lines_before,
            lines: encoded.lines,
            // Fit: see `parcel`.
            summary: encoded.summary.len() as u32,
            body: encoded.body.len() as u32,
            summary_check: checksum(&encoded.summary, self.key),
            body_check: checksum(&encoded.body, self.key),
        };
        if self.active.is_none() {
            self.begin_segment()?;
        }
        let Some(active) = &mut self.active else {
            return Err(io::Error::other("a segment was closed while it was begun"));
        };
        let at = active.written;
        let segment = active.segment.clone();
        let mut head = header.encode(self.key, segment.number).to_vec();
        head.extend_from_slice(&encoded.summary);
        failpoint::hit("queue.before-write");
        segment.file.write_all_at(&head, at)?;
        failpoint::hit("queue.half-written");
        #[cfg(test)]
        fail(&mut self.faults.writes)?;
        let body_at = at + head.len() as u64;
        segment.file.write_all_at(&encoded.body, body_at)?;
        let found = Found { at, header };
        active.written = found.end();
        failpoint::hit("queue.after-write");
        Ok((segment, found))
    }

    fn begin_segment(&mut self) -> io::Result<()> {
        let number = self.next;
        let header = SegmentHeader {
            lanes: self.lanes,
            key: self.key,
            number,
        };
        let segment = match Segment::create(&self.folder, header) {
            Ok(segment) => segment,
            Err(error) => {
                // A half-made one is in the way of the next attempt.
                let _ = self.folder.remove(&segment::name(number));
                return Err(error);
            }
        };
        self.next = number + 1;
        self.active = Some(Active {
            segment: Arc::new(segment),
            written: SEGMENT_HEADER as u64,
            synced: 0,
        });
        failpoint::hit("queue.segment");
        Ok(())
    }

    /// Makes everything durable that was appended.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        let Some(active) = &mut self.active else {
            return Ok(());
        };
        if active.synced == active.written {
            return Ok(());
        }
        #[cfg(test)]
        fail(&mut self.faults.syncs)?;
        active.segment.file.sync_data()?;
        if active.synced == 0 {
            // The name itself must survive a power cut, or what is in the file has none.
            self.folder.sync()?;
        }
        active.synced = active.written;
        failpoint::hit("queue.synced");
        Ok(())
    }

    /// Takes back what was appended and not synced, after [`Self::sync`] has failed.
    pub(super) fn give_up_segment(&mut self) {
        let Some(active) = self.active.take() else {
            return;
        };
        let name = segment::name(active.segment.number);
        let cut = match active.synced {
            #[cfg(test)]
            _ if self.faults.no_cuts => Err(rustix::io::Errno::IO.into()),
            0 => self.folder.remove(&name),
            synced => active.segment.file.set_len(synced),
        };
        if let Err(error) = cut {
            // What stays behind has numbers that come again, and is passed over by those.
            tracing::warn!(folder = %self.folder.path().display(), name, %error,
                "cannot take back a write to a queue");
        }
    }

    /// The record that was half written when [`Self::append`] failed takes room that others need.
    pub(super) fn cut_back(&mut self) {
        if let Some(active) = &self.active {
            // Otherwise the next record is written over it.
            let _ = active.segment.file.set_len(active.written);
        }
    }

    /// Ends the segment at hand, of which everything is synced. Returns the number of the next.
    pub(super) fn seal(&mut self) -> u64 {
        self.active = None;
        self.next
    }

    /// What the cursor on the disk says.
    pub(super) fn last_cursor(&self) -> &Cursor {
        self.cursor.last()
    }

    /// Bytes appended that no one else knows of yet.
    pub(super) fn unsynced(&self) -> u64 {
        let active = self.active.as_ref();
        active.map_or(0, |active| active.written - active.synced)
    }

    /// Bytes of the segment at hand.
    pub(super) fn written(&self) -> u64 {
        self.active.as_ref().map_or(0, |active| active.written)
    }

    pub(super) fn active(&self) -> Option<u64> {
        self.active.as_ref().map(|active| active.segment.number)
    }

    /// Writes the cursor, if it says something new.
    pub(super) fn write_cursor(&mut self, cursor: Cursor) -> io::Result<()> {
        if *self.cursor.last() == cursor {
            return Ok(());
        }
        #[cfg(test)]
        fail(&mut self.faults.cursors)?;
        failpoint::hit("queue.before-cursor");
        self.cursor.write(cursor)?;
        failpoint::hit("queue.after-cursor");
        Ok(())
    }

    /// Removes a segment.
    pub(super) fn remove(&self, number: u64) -> io::Result<()> {
        self.folder.remove(&segment::name(number))?;
        failpoint::hit("queue.removed");
        Ok(())
    }
}

/// Bytes that a record takes.
pub(super) fn length(encoded: &Encoded) -> u64 {
    (RECORD_HEADER + encoded.summary.len() + encoded.body.len()) as u64
}
