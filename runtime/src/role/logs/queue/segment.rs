//! One file of a queue: a header, and records one after the other. Everything here blocks.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::super::batch::FileId;
use super::folder::Folder;
use super::frame::{
    self, Beginning, Key, RECORD_HEADER, RecordHeader, SEGMENT_HEADER, SegmentHeader,
};
use super::parcel::{self, End};

const SUFFIX: &str = ".segment";
/// Read at once while looking for the next record.
const CHUNK: usize = 64 << 10;

/// The name of segment `number`; names sort as numbers do.
pub(super) fn name(number: u64) -> String {
    format!("{number:016x}{SUFFIX}")
}

/// The number of the segment with this name, if it is one's.
pub(super) fn number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SUFFIX)?;
    let number = u64::from_str_radix(digits, 16).ok()?;
    (self::name(number) == name).then_some(number)
}

/// An open segment.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) number: u64,
    pub(super) key: Key,
    pub(super) lanes: u32,
    pub(super) file: File,
}

/// A record in a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) at: u64,
    pub(super) header: RecordHeader,
}

impl Found {
    pub(super) fn end(&self) -> u64 {
        self.at + self.header.length()
    }
}

impl Segment {
    pub(super) fn create(folder: &Folder, header: SegmentHeader) -> io::Result<Self> {
        let SegmentHeader { lanes, key, number } = header;
        let file = folder.file(&name(number), true)?;
        file.write_all_at(&header.encode(), 0)?;
        Ok(Self {
            number,
            key,
            lanes,
            file,
        })
    }

    /// What a file says of itself, and its length.
    pub(super) fn look(file: &File) -> io::Result<(Beginning, u64)> {
        let length = file.metadata()?.len();
        let mut bytes = [0; SEGMENT_HEADER];
        let beginning = match filled(file.read_exact_at(&mut bytes, 0))? {
            Some(()) => SegmentHeader::decode(&bytes),
            None => Beginning::Damaged,
        };
        Ok((beginning, length))
    }

    /// The record that begins at `at` and ends by `until`, if there is one.
    pub(super) fn record(&self, at: u64, until: u64) -> io::Result<Option<Found>> {
        if at.saturating_add(RECORD_HEADER as u64) > until {
            return Ok(None);
        }
        let mut bytes = [0; RECORD_HEADER];
        if filled(self.file.read_exact_at(&mut bytes, at))?.is_none() {
            return Ok(None);
        }
        let header = RecordHeader::decode(&bytes, self.key, self.number, self.lanes);
        Ok(header
            .map(|header| Found { at, header })
            .filter(|found| found.end() <= until))
    }

    /// The first record that begins at `from` or later and ends by `until`, whatever lies before it.
    pub(super) fn find(&self, from: u64, until: u64) -> io::Result<Option<Found>> {
        if let Some(found) = self.record(from, until)? {
            return Ok(Some(found));
        }
        let mut bytes = vec![0; CHUNK];
        let mut at = from.saturating_add(1);
        while at < until {
            let length = usize::try_from(until - at).unwrap_or(CHUNK).min(CHUNK);
            let chunk = &mut bytes[..length];
            if filled(self.file.read_exact_at(chunk, at))?.is_none() {
                return Ok(None);
            }
            match frame::find_magic(chunk) {
                Some(offset) => {
                    at += offset as u64;
                    if let Some(found) = self.record(at, until)? {
                        return Ok(Some(found));
                    }
                    at += 1;
                }
                // A record may begin in the last bytes of a chunk.
                None if length == CHUNK => at += (CHUNK - RECORD_HEADER) as u64,
                None => break,
            }
        }
        Ok(None)
    }

    /// How far a record holds each of its files. None if that is damaged.
    pub(super) fn summary(&self, found: &Found) -> io::Result<Option<Vec<(FileId, End)>>> {
        let header = &found.header;
        let at = found.at + RECORD_HEADER as u64;
        let bytes = self.checked(at, header.summary, header.summary_check)?;
        Ok(bytes.and_then(|bytes| parcel::decode_summary(&bytes).ok()))
    }

    /// The bytes of a record's parcel. None if they are damaged.
    pub(super) fn body(&self, found: &Found) -> io::Result<Option<Vec<u8>>> {
        let header = &found.header;
        let at = found.at + RECORD_HEADER as u64 + u64::from(header.summary);
        self.checked(at, header.body, header.body_check)
    }

    fn checked(&self, at: u64, length: u32, check: u64) -> io::Result<Option<Vec<u8>>> {
        let mut bytes = vec![0; length as usize];
        let read = filled(self.file.read_exact_at(&mut bytes, at))?;
        Ok(read
            .map(|()| bytes)
            .filter(|bytes| frame::checksum(bytes, self.key) == check))
    }
}

/// A file that is shorter than it was is damaged; anything else may be better the next time.
fn filled(read: io::Result<()>) -> io::Result<Option<()>> {
    match read {
        Ok(()) => Ok(Some(())),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}
