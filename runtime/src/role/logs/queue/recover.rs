//! What a queue holds when it is opened. Everything here blocks.
//!
//! Records are numbered without a gap, and the cursor says which number was next when it was written:
//! only records before that were ever promised to a checkpoint. So a promised record that is damaged
//! is passed over, and its lines are found missing when its lane comes to it. But from the first
//! unpromised record on that is damaged or missing, the rest is cut off: the checkpoints do not cover
//! it, and it is read from the files again.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io;
use std::sync::Arc;

use super::super::batch::FileId;
use super::books::{Books, Held};
use super::cursor::{Cursor, CursorFile, LaneCursor, Position};
use super::disk::Disk;
use super::error::Error;
use super::folder::Folder;
use super::frame::{Beginning, Key, SEGMENT_HEADER};
use super::parcel::{self, End};
use super::segment::{self, Found, Segment};
use crate::failpoint;

/// What was found in a queue.
#[derive(Debug, Default)]
pub(in crate::role::logs) struct Recovered {
    /// Lines that wait to be delivered.
    pub(in crate::role::logs) lines: u64,
    /// How far the queue holds each file, or held it: what comes before need not be read again for
    /// its destination.
    pub(in crate::role::logs) ends: HashMap<FileId, End>,
    /// Bytes of unfinished or damaged records that were cut off at the end. They were never promised:
    /// their lines are read again.
    pub(in crate::role::logs) cut: u64,
}

/// A queue that was opened, and that nobody writes to yet.
pub(super) struct Opened {
    pub(super) disk: Disk,
    pub(super) books: Books,
    pub(super) recovered: Recovered,
}

/// Opens what lies in a folder, or begins anew.
pub(super) fn open(folder: Folder, lanes: usize) -> Result<Opened, Error> {
    let lanes = u32::try_from(lanes).unwrap_or(u32::MAX);
    let (cursor_file, mut key) = CursorFile::open(&folder)?.unzip();
    let cursor = cursor_file.as_ref().map(|file| file.last().clone());
    check_lanes(cursor.as_ref(), lanes, &folder)?;
    let mut files = BTreeMap::new();
    for number in numbers(&folder)? {
        let file = look(&folder, number, lanes, &mut key)?;
        files.insert(number, file);
    }
    let key = key.unwrap_or_else(|| Key(fastrand::u64(1..)));
    let hold = |(number, (file, length))| {
        let segment = Segment {
            number,
            key,
            lanes,
            file,
        };
        let held = Held {
            segment: Arc::new(segment),
            length,
            dropped: false,
        };
        (number, held)
    };
    let mut segments: BTreeMap<u64, Held> = files.into_iter().map(hold).collect();
    let highest = segments.keys().next_back().copied();

    let failed = |doing| Error::io(doing, folder.path());
    let mut scan = Scan::new(cursor, lanes as usize);
    scan.run(&segments).map_err(failed("cannot read"))?;
    let cut = scan.cut(&folder, &mut segments);
    cut.map_err(failed("cannot cut off damaged records in"))?;
    let (cursor, mut recovered) = scan.end();

    let mut cursor_file = match cursor_file {
        Some(file) => file,
        None => CursorFile::create(&folder, key, cursor.clone())?,
    };
    if *cursor_file.last() != cursor {
        let written = cursor_file.write(cursor.clone());
        written.map_err(failed("cannot write the cursor in"))?;
    }
    let books = Books::new(&cursor, segments);
    recovered.lines = books.lines();
    let at = cursor.lanes.iter().map(|lane| lane.at.segment);
    let next = highest.into_iter().chain(at).max();
    let disk = Disk::new(
        folder,
        key,
        lanes,
        cursor_file,
        next.map_or(0, |last| last + 1),
    );
    Ok(Opened {
        disk,
        books,
        recovered,
    })
}

/// The segments in a folder, ascending.
fn numbers(folder: &Folder) -> Result<Vec<u64>, Error> {
    let names = folder
        .names()
        .map_err(Error::io("cannot read", folder.path()))?;
    let mut numbers: Vec<u64> = names
        .iter()
        .filter_map(|name| segment::number(name))
        .collect();
    numbers.sort_unstable();
    Ok(numbers)
}

fn check_lanes(cursor: Option<&Cursor>, lanes: u32, folder: &Folder) -> Result<(), Error> {
    match cursor.map(|cursor| cursor.lanes.len() as u32) {
        Some(found) if found != lanes => Err(Error::Lanes {
            path: folder.path().to_owned(),
            found,
            known: lanes,
        }),
        _ => Ok(()),
    }
}

/// A segment's file and its length. One whose header is damaged can be read by the key of others.
fn look(
    folder: &Folder,
    number: u64,
    lanes: u32,
    key: &mut Option<Key>,
) -> Result<(File, u64), Error> {
    let name = segment::name(number);
    let path = folder.path().join(&name);
    let file = folder
        .file(&name, false)
        .map_err(Error::io("cannot open", &path))?;
    let (beginning, length) = Segment::look(&file).map_err(Error::io("cannot read", &path))?;
    match beginning {
        Beginning::Segment(header) if header.lanes != lanes => {
            let found = header.lanes;
            let known = lanes;
            return Err(Error::Lanes { path, found, known });
        }
        Beginning::Segment(header) => *key = key.or(Some(header.key)),
        Beginning::Format(found) => return Err(Error::Format { path, found }),
        Beginning::Damaged => {}
    }
    Ok((file, length))
}

/// How far a record holds each file: of what is delivered, nothing is to be read again. None if it
/// is damaged.
fn ends(segment: &Segment, found: &Found) -> io::Result<Option<Vec<(FileId, End)>>> {
    let ends = segment.summary(found)?;
    if ends.is_some() {
        return Ok(ends);
    }
    let parcel = segment
        .body(found)?
        .and_then(|body| parcel::decode(&body, 0).ok());
    Ok(parcel.map(|parcel| {
        let spans = parcel.batch.spans.iter();
        let ends = spans.map(|span| (span.file, End::from(span)));
        ends.collect()
    }))
}

/// A scan of all segments, in order.
struct Scan {
    cursor: Option<Cursor>,
    /// Records from this number on were not promised.
    promised: u64,
    /// The number that the next record has.
    expected: Option<u64>,
    /// The end of the last record.
    end: Option<Position>,
    /// For each lane, lines before its first record and up to its last.
    lanes: Vec<Option<(u64, u64)>>,
    /// Segments that hold what was not promised.
    unpromised: Vec<u64>,
    recovered: Recovered,
}

impl Scan {
    fn new(cursor: Option<Cursor>, lanes: usize) -> Self {
        Self {
            promised: cursor.as_ref().map_or(u64::MAX, |cursor| cursor.number),
            cursor,
            expected: None,
            end: None,
            lanes: vec![None; lanes],
            unpromised: Vec::new(),
            recovered: Recovered::default(),
        }
    }

    fn run(&mut self, segments: &BTreeMap<u64, Held>) -> io::Result<()> {
        let last = segments.keys().next_back();
        for (number, held) in segments {
            if self.cursor.is_none() && Some(number) == last {
                // Nobody knows: what could have been written last is looked at closely.
                self.promised = self.expected.unwrap_or(0);
            }
            self.segment(&held.segment, held.length)?;
        }
        Ok(())
    }

    /// Takes the records of a segment, up to what does not belong there.
    fn segment(&mut self, segment: &Segment, length: u64) -> io::Result<()> {
        let mut at = SEGMENT_HEADER as u64;
        loop {
            let promised = self.expected.is_none_or(|next| next < self.promised);
            let found = match segment.record(at, length)? {
                None if promised => segment.find(at, length)?,
                found => found,
            };
            let Some(found) = found else { return Ok(()) };
            at = found.end();
            let number = found.header.number;
            let known = match self.expected {
                None => self.cursor.is_none() || number <= self.promised,
                // A second copy, of a write that was taken back and made again.
                Some(expected) if number < expected => continue,
                Some(expected) => number == expected || number <= self.promised,
            };
            if !known {
                return Ok(());
            }
            let ends = ends(segment, &found)?;
            if number >= self.promised {
                if ends.is_none() || segment.body(&found)?.is_none() {
                    return Ok(());
                }
                self.unpromised.push(segment.number);
                self.unpromised.dedup();
            }
            self.take(segment.number, &found, ends.unwrap_or_default());
        }
    }

    fn take(&mut self, segment: u64, found: &Found, ends: Vec<(FileId, End)>) {
        let header = &found.header;
        self.expected = Some(header.number + 1);
        self.end = Some(Position {
            segment,
            offset: found.end(),
        });
        if let Some(lane) = self.lanes.get_mut(header.lane as usize) {
            let (_, after) = lane.get_or_insert((header.lines_before, 0));
            *after = header.lines_after();
        }
        for (file, end) in ends {
            let known = self.recovered.ends.entry(file).or_insert(end);
            if (known.generation, known.offset) < (end.generation, end.offset) {
                *known = end;
            }
        }
    }

    /// Cuts off what comes after the last record, and makes the rest as durable as it is about to be
    /// promised to be.
    fn cut(&mut self, folder: &Folder, segments: &mut BTreeMap<u64, Held>) -> io::Result<()> {
        let end = self.end.unwrap_or_default();
        for (number, held) in segments.range_mut(end.segment..) {
            let keep = if self.end.is_some() && *number == end.segment {
                end.offset
            } else {
                0
            };
            if keep == held.length {
                continue;
            }
            failpoint::hit("queue.cut");
            let records = (SEGMENT_HEADER as u64).max(keep);
            self.recovered.cut += held.length.saturating_sub(records);
            if keep == 0 {
                folder.remove(&segment::name(*number))?;
            } else {
                held.segment.file.set_len(keep)?;
                held.segment.file.sync_data()?;
            }
            held.length = keep;
        }
        segments.retain(|_, held| held.length > 0);
        let unpromised = self.unpromised.iter();
        for held in unpromised.filter_map(|number| segments.get(number)) {
            held.segment.file.sync_data()?;
        }
        folder.sync()
    }

    /// Where the lanes go on.
    fn end(self) -> (Cursor, Recovered) {
        let mut cursor = match self.cursor {
            Some(cursor) => cursor,
            None => Cursor {
                number: 0,
                lanes: (self.lanes.iter())
                    .map(|lane| LaneCursor {
                        settled: lane.map_or(0, |(before, _)| before),
                        ..LaneCursor::default()
                    })
                    .collect(),
            },
        };
        cursor.number = cursor.number.max(self.expected.unwrap_or(0));
        for (cursor, found) in cursor.lanes.iter_mut().zip(&self.lanes) {
            cursor.kept = cursor.kept.max(found.map_or(0, |(_, after)| after));
        }
        (cursor, self.recovered)
    }
}
