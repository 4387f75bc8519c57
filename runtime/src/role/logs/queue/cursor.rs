//! What a queue promised and what has been consumed of it: a small file with two places that are
//! written in turn, so that one of them is whole whenever the daemon dies. It has its whole size from
//! the beginning: it can be written when the disk is full.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use serde::{Deserialize, Serialize};

use super::error::Error;
use super::folder::Folder;
use super::frame::{FORMAT, Key, checksum, u64_at};
use super::gaps::Gaps;

const NAME: &str = "cursor";
const SLOT: usize = 4096;
/// Checksum, format, length.
const HEAD: usize = 16;

/// A place in a queue: the number of a segment, and an offset in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub(super) struct Position {
    pub(super) segment: u64,
    pub(super) offset: u64,
}

/// What is written down.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Cursor {
    /// The number of the next record: those before it were on the disk when this was written. Only
    /// such are ever promised to the checkpoints.
    pub(super) number: u64,
    pub(super) lanes: Vec<LaneCursor>,
}

/// Of one lane. Lines are counted since the queue was made.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct LaneCursor {
    /// Where the first record is that is not settled, or before it.
    pub(super) at: Position,
    /// Lines that are settled.
    pub(super) settled: u64,
    /// Lines that were kept.
    pub(super) kept: u64,
    /// Lines after those that are settled of which it is known that they are not there.
    pub(super) gaps: Gaps,
}

/// What a place holds.
#[derive(Serialize, Deserialize)]
struct Stored {
    key: u64,
    turn: u64,
    cursor: Cursor,
}

/// The open file.
#[derive(Debug)]
pub(super) struct CursorFile {
    file: File,
    key: Key,
    /// How often it was written.
    turn: u64,
    /// What it holds.
    last: Cursor,
}

impl CursorFile {
    /// The file and what it says. None if there is none that can be read.
    pub(super) fn open(folder: &Folder) -> Result<Option<(Self, Key)>, Error> {
        let path = folder.path().join(NAME);
        let file = match folder.file(NAME, false) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("cannot open", &path)(error)),
        };
        let mut newest: Option<Stored> = None;
        for slot in 0..2 {
            let mut bytes = vec![0; SLOT];
            match file.read_exact_at(&mut bytes, slot * SLOT as u64) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => continue,
                Err(error) => return Err(Error::io("cannot read", &path)(error)),
            }
            match decode(&bytes) {
                Ok(stored) if newest.as_ref().is_none_or(|other| other.turn < stored.turn) => {
                    newest = Some(stored);
                }
                Err(Some(found)) => return Err(Error::Format { path, found }),
                Ok(_) | Err(None) => {}
            }
        }
        Ok(newest.map(|Stored { key, turn, cursor }| {
            let key = Key(key);
            let file = Self {
                file,
                key,
                turn,
                last: cursor,
            };
            (file, key)
        }))
    }

    /// Makes the file anew.
    pub(super) fn create(folder: &Folder, key: Key, cursor: Cursor) -> Result<Self, Error> {
        let path = folder.path().join(NAME);
        let make = || {
            folder.remove(NAME)?;
            let file = folder.file(NAME, true)?;
            let mut new = Self {
                file,
                key,
                turn: 0,
                last: Cursor::default(),
            };
            new.file.write_all_at(&[0; 2 * SLOT], 0)?;
            new.write(cursor.clone())?;
            new.write(cursor)?;
            folder.sync()?;
            Ok(new)
        };
        make().map_err(Error::io("cannot make", &path))
    }

    /// What it holds.
    pub(super) fn last(&self) -> &Cursor {
        &self.last
    }

    /// Writes and syncs. After an error the file holds what it held before.
    pub(super) fn write(&mut self, cursor: Cursor) -> io::Result<()> {
        let turn = self.turn + 1;
        let stored = Stored {
            key: self.key.0,
            turn,
            cursor,
        };
        let slot = encode(&stored);
        let at = (turn % 2) * SLOT as u64;
        self.file.write_all_at(&slot, at)?;
        self.file.sync_data()?;
        self.turn = turn;
        self.last = stored.cursor;
        Ok(())
    }
}

fn encode(stored: &Stored) -> Vec<u8> {
    #[expect(
        clippy::expect_used,
        reason = "writing to a growing vector cannot fail, and the types here are plain data of known lengths"
    )]
    let bytes = postcard::to_extend(stored, vec![0; HEAD]).expect("plain data serializes");
    let mut slot = bytes;
    let length = (slot.len() - HEAD) as u32;
    slot[8..12].copy_from_slice(&FORMAT.to_le_bytes());
    slot[12..16].copy_from_slice(&length.to_le_bytes());
    // Always fits: a few numbers a lane, and as many gaps as `Gaps` holds at most.
    slot.resize(SLOT, 0);
    let check = checksum(&slot[8..], Key(0));
    slot[..8].copy_from_slice(&check.to_le_bytes());
    slot
}

/// The error is another format, if it is that.
fn decode(slot: &[u8]) -> Result<Stored, Option<u32>> {
    let number = |at: usize| {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(&slot[at..at + 4]);
        u32::from_le_bytes(bytes)
    };
    if u64_at(slot, 0) != checksum(&slot[8..], Key(0)) {
        return Err(None);
    }
    if number(8) != FORMAT {
        return Err(Some(number(8)));
    }
    let body = slot[HEAD..].get(..number(12) as usize).ok_or(None)?;
    postcard::from_bytes(body).map_err(|_| None)
}
